//! `palisade audit verify` finds each change to the audit log and to its seals.

use macro_rules_attribute::apply;
use palisade::{auth::role::UserRole, ids::EntityId as _};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{findings, head, one, seal, verify, write};
use crate::{
    cli::{palisade, run_to_exit},
    harness::{Tenant, TestApp, attempt, enter, id, insert_copy, palisade_test},
};

/// A tenant with two seals, a row that waits for the third seal, and a superuser connection.
struct Tampered {
    tenant: Tenant,
    superuser: PgConnection,
    /// The first row of the first seal, and the number of rows in this seal.
    sealed: Uuid,
    rows: i64,
    unsealed: Uuid,
}

impl Tampered {
    async fn new() -> Self {
        Self::of(TestApp::shared().await.tenant().await).await
    }

    async fn of(tenant: Tenant) -> Self {
        tenant.seed(1, 1).await;
        let mut sql = tenant.begin().await.0;
        assert!(seal(&mut sql).await > Some(0));
        write(&mut sql).await;
        let own = tenant.id.uuid();
        let mut superuser = tenant.app.connect("postgres").await;
        enter(&mut superuser, &tenant.context(UserRole::Owner)).await;
        let id = |table: &str| {
            format!("select id from {table} where tenant_id = '{own}' order by id limit 1")
        };
        let sealed = one(&mut superuser, &id("audit_seal_entries")).await;
        let unsealed = one(&mut superuser, &id("audit_unsealed")).await;
        let rows = format!(
            "select count(*) from audit_seal_entries where tenant_id = '{own}' and seal_number = 1"
        );
        let rows = one(&mut superuser, &rows).await;
        assert_eq!(findings(&tenant, &[]).await, [""; 0]);
        Self {
            tenant,
            superuser,
            sealed,
            rows,
            unsealed,
        }
    }

    /// Runs statements with triggers and foreign keys turned off. Replaces `$own` by the tenant's id, and `$sealed` and
    /// `$unsealed` by the ids of rows.
    async fn tamper(&mut self, sql: &str) {
        let sql = sql
            .replace("$own", &format!("'{}'", self.tenant.id.uuid()))
            .replace("$sealed", &format!("'{}'", self.sealed))
            .replace("$unsealed", &format!("'{}'", self.unsealed));
        attempt(
            &mut self.superuser,
            format!("begin; set local session_replication_role = replica; {sql}; commit"),
        )
        .await
        .unwrap();
    }

    /// Adds an inserted row to the list of rows to seal, as the trigger does.
    async fn announce(&mut self, row: Uuid) {
        self.tamper(&format!(
            "insert into audit_unsealed (tenant_id, id) values ($own, '{row}')"
        ))
        .await;
    }

    /// Inserts a row of the given age with the correct hash. Returns its id.
    async fn insert(&mut self, age: &str) -> Uuid {
        let id = Uuid::now_v7();
        let copy = insert_copy("audit_logs", &json!({ "id": id })).replace(
            "order by row.id",
            &format!(
                "where row.tenant_id = '{}' order by row.id",
                self.tenant.id.uuid()
            ),
        );
        self.tamper(&format!(
            "{copy}; update audit_logs set occurred_at = now() - interval '{age}' where id = '{id}';
             update audit_logs a set hash = app.audit_row_hash(a) where id = '{id}'"
        ))
        .await;
        id
    }

    /// Computes the hash of a seal again.
    async fn rehash_seal(&mut self, number: i32) {
        self.tamper(&format!(
            "update audit_seals s set hash = app.audit_seal_hash(s,
                 (select string_agg(uuid_send(e.id) || e.hash, '' order by e.id) from audit_seal_entries e
                  where e.tenant_id = $own and e.seal_number = {number}))
             where s.tenant_id = $own and s.number = {number}"
        ))
        .await;
    }

    /// The current findings, with names such as `$sealed` instead of the ids of the rows.
    async fn found(&self) -> Vec<String> {
        let lines = findings(&self.tenant, &[]).await;
        let name = |line: String| {
            let over = format!("records {} rows, but contains {}", self.rows, self.rows - 1);
            line.replace(&over, "records ROWS rows, but contains FEWER")
                .replace(&id("aud", self.sealed), "SEALED")
                .replace(&id("aud", self.unsealed), "UNSEALED")
        };
        lines.into_iter().map(name).collect()
    }
}

#[apply(palisade_test)]
async fn an_intact_log_is_reported_as_intact(tenant: Tenant) {
    let none = verify(&tenant, &[]).await.success();
    assert_eq!(
        none,
        "rows 6, sealed 0, not yet sealed 6, seals 0, head none\n"
    );

    tenant.seed(1, 1).await;
    let mut sql = tenant.begin().await.0;
    assert!(seal(&mut sql).await > Some(0));
    let rows: i64 = one(&mut sql, "select count(*) from audit_logs").await;
    let first = verify(&tenant, &[]).await.success();
    let expected = format!("rows {rows}, sealed {rows}, not yet sealed 0, seals 2, head ");
    assert!(first.starts_with(&expected), "{first}");

    write(&mut sql).await;
    let waiting = verify(&tenant, &[]).await.success();
    let all = rows + 1;
    let expected = format!("rows {all}, sealed {rows}, not yet sealed 1, seals 2, head ");
    assert!(waiting.starts_with(&expected), "{waiting}");
    assert_eq!(head(&waiting), head(&first));
    assert_eq!(seal(&mut sql).await, Some(1));
    assert_eq!(seal(&mut sql).await, Some(0));
    let second = verify(&tenant, &[]).await.success();
    assert_ne!(head(&second), head(&first));
    for noted in [head(&first), head(&second)] {
        let again = verify(&tenant, &["--expect-head", noted]).await.success();
        assert_eq!(again, second);
    }
}

#[apply(palisade_test)]
async fn each_tampering_is_detected_and_named() {
    let changed = "changed SEALED: its content does not match its hash";
    let cases: [(&str, &[&str]); 12] = [
        (
            "update audit_logs set changes = '[]' where id = $sealed",
            &[changed],
        ),
        (
            "update audit_logs set actor_id = app.uuid_v7() where id = $sealed",
            &[changed],
        ),
        (
            "update audit_logs set occurred_at = occurred_at - interval '1 us' where id = $sealed",
            &[changed],
        ),
        (
            "update audit_logs set occurred_at = '-infinity' where id = $sealed",
            &[changed],
        ),
        (
            "update audit_logs set hash = sha256('') where id = $sealed",
            &[changed],
        ),
        (
            "update audit_logs set action = 'user.deleted' where id = $sealed;
             update audit_logs a set hash = app.audit_row_hash(a) where id = $sealed",
            &["changed SEALED: its hash is not the hash in seal 1"],
        ),
        (
            "delete from audit_logs where id = $sealed",
            &["removed SEALED: seal 1 contains the row"],
        ),
        (
            "delete from audit_logs where id = $unsealed",
            &["removed UNSEALED: audit_unsealed lists the row as not yet sealed"],
        ),
        (
            "update audit_logs set actor_id = app.uuid_v7() where id = $unsealed",
            &[
                "inserted UNSEALED: not sealed, and its content does not match its hash: inserted, or changed after it was written",
            ],
        ),
        (
            "update audit_seal_entries set hash = sha256('') where id = $sealed",
            &[
                "broken seal 1: its hash does not match its rows",
                "changed SEALED: its hash is not the hash in seal 1",
            ],
        ),
        (
            "delete from audit_seal_entries where id = $sealed",
            &[
                "broken seal 1: the seal records ROWS rows, but contains FEWER",
                "inserted SEALED: not sealed, and not in audit_unsealed, in which the trigger lists the rows to seal",
            ],
        ),
        (
            "update audit_seals set hash = sha256('') where tenant_id = $own and number = 1",
            &[
                "broken seal 1: its hash does not match its rows",
                "broken seal 2: its previous_hash is not the hash of the previous seal",
            ],
        ),
    ];
    for (sql, expected) in cases {
        let mut log = Tampered::new().await;
        log.tamper(sql).await;
        assert_eq!(log.found().await, expected, "{sql}");
        // A later seal does not hide the finding.
        let mut service = log.tenant.begin().await.0;
        write(&mut service).await;
        assert!(seal(&mut service).await > Some(0), "{sql}");
        assert_eq!(log.found().await, expected, "{sql}, after another seal");
    }
}

#[apply(palisade_test)]
async fn a_removed_seal_is_detected_by_the_next_seal_and_by_its_rows() {
    let mut log = Tampered::new().await;
    log.tamper(
        "delete from audit_seal_entries where tenant_id = $own and seal_number = 1;
         delete from audit_seals where tenant_id = $own and number = 1",
    )
    .await;
    let found = log.found().await;
    assert_eq!(found[0], "broken seal 2: seals 1 to 1 are missing");
    assert_eq!(i64::try_from(found.len()), Ok(1 + log.rows), "{found:?}");
    assert!(
        found[1..].iter().all(|line| line.starts_with("inserted ")),
        "{found:?}"
    );

    // If the last seal is removed, no number is missing. Its rows, which have no seal now, reveal the removal.
    let mut log = Tampered::new().await;
    log.tamper(
        "delete from audit_seal_entries where tenant_id = $own and seal_number = 2;
         delete from audit_seals where tenant_id = $own and number = 2",
    )
    .await;
    let found = log.found().await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("inserted "), "{found:?}");
}

#[apply(palisade_test)]
async fn an_inserted_row_is_detected_unless_it_claims_to_be_new_and_was_announced() {
    let mut log = Tampered::new().await;
    let row = log.insert("0 s").await;
    let unannounced = format!(
        "inserted {}: not sealed, and not in audit_unsealed, in which the trigger lists the rows to seal",
        id("aud", row)
    );
    assert_eq!(log.found().await, [unannounced.as_str()]);
    let mut service = log.tenant.begin().await.0;
    assert_eq!(seal(&mut service).await, Some(1), "the row of the service");
    assert_eq!(log.found().await, [unannounced.as_str()]);

    let mut log = Tampered::new().await;
    let row = log.insert("3 days").await;
    log.announce(row).await;
    let late = format!(
        "inserted {}: not sealed, and more than a day older than the newest sealed row",
        id("aud", row)
    );
    assert_eq!(log.found().await, [late.as_str()]);
    let mut service = log.tenant.begin().await.0;
    assert_eq!(seal(&mut service).await, Some(1), "the row of the service");
    assert_eq!(log.found().await, [late.as_str()]);

    // An attacker changes the timestamps of the seals, so that the database seals the row nevertheless.
    log.tamper("update audit_seals set latest = latest - interval '9 days' where tenant_id = $own")
        .await;
    assert_eq!(seal(&mut service).await, Some(1));
    log.tamper(
        "update audit_seals set latest = latest + interval '9 days'
         where tenant_id = $own and number <= 3",
    )
    .await;
    let sealed_late = format!(
        "inserted {}: seal 4 contains the row, but the row is more than a day older than the newest row sealed before",
        id("aud", row)
    );
    assert_eq!(log.found().await, [sealed_late]);

    // `verify` cannot distinguish this row from a row of the trigger, because a manual change writes the same rows.
    let mut log = Tampered::new().await;
    let row = log.insert("0 s").await;
    log.announce(row).await;
    assert_eq!(log.found().await, [""; 0]);
}

#[apply(palisade_test)]
async fn a_clock_that_was_ahead_for_days_does_not_prevent_later_seals() {
    let mut log = Tampered::new().await;
    // The clock of the database was nine days ahead when it wrote the second seal.
    log.tamper(
        "update audit_seals set sealed_at = sealed_at + interval '9 days', latest = latest + interval '9 days'
         where tenant_id = $own and number = 2",
    )
    .await;
    log.rehash_seal(2).await;
    let mut service = log.tenant.begin().await.0;
    assert_eq!(seal(&mut service).await, Some(1));
    write(&mut service).await;
    assert_eq!(seal(&mut service).await, Some(1));
    write(&mut service).await;
    assert_eq!(log.found().await, [""; 0]);

    // Rows with an old timestamp are still detected.
    let row = log.insert("3 days").await;
    log.announce(row).await;
    assert_eq!(seal(&mut service).await, Some(1), "the row of the service");
    let late = format!(
        "inserted {}: not sealed, and more than a day older than the newest sealed row",
        id("aud", row)
    );
    assert_eq!(log.found().await, [late]);
}

#[apply(palisade_test)]
async fn a_deleted_log_is_detected_by_its_missing_creation() {
    let missing =
        "missing tenant.created: the first row of every log records the creation of its tenant";
    let mut log = Tampered::new().await;
    log.tamper(
        "delete from audit_seal_entries where tenant_id = $own;
         delete from audit_seals where tenant_id = $own;
         delete from audit_unsealed where tenant_id = $own;
         delete from audit_logs where tenant_id = $own",
    )
    .await;
    assert_eq!(log.found().await, [missing]);
    // Later rows do not replace the row of the creation.
    let mut service = log.tenant.begin().await.0;
    write(&mut service).await;
    assert_eq!(seal(&mut service).await, Some(1));
    assert_eq!(log.found().await, [missing]);
}

#[apply(palisade_test)]
async fn verify_computes_the_hash_of_every_value_as_the_database_does(tenant: Tenant) {
    let mut superuser = tenant.app.connect("postgres").await;
    let own = tenant.id.uuid();
    for (column, value) in [
        ("operation_name", r#"E'\x01\b\t\n\x0b\f\r\x1f\x7f"\\/'"#),
        ("operation_name", "U&'\\0080\\2028\\FEFF\\+01F980é'"),
        ("operation_name", "''"),
        ("operation_name", "'null'"),
        ("operation_name", "null"),
        ("actor_id", "null"),
        ("project_id", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"),
        (
            "changes",
            r#"'{"b": [1.10, -0.0, 1e400, 1E-7], "a": {"ä\u0007": null}, "": [[], {}, true]}'"#,
        ),
        ("changes", "'\"a\\u2028\"'"),
        ("changes", "'null'"),
        ("occurred_at", "'1970-01-01 00:00:00Z'"),
        ("occurred_at", "'1969-12-31 23:59:59.999999Z'"),
        (
            "occurred_at",
            "'1883-11-18 12:03:58.000001 America/New_York'",
        ),
        ("occurred_at", "'4713-01-01 00:00:00Z BC'"),
        ("occurred_at", "'294246-01-01 00:00:00.000001Z'"),
        ("occurred_at", "'-infinity'"),
        ("occurred_at", "'infinity'"),
    ] {
        let tamper = format!(
            "update audit_logs set {column} = {value} where tenant_id = '{own}';
             update audit_logs a set hash = app.audit_row_hash(a) where tenant_id = '{own}'"
        );
        attempt(&mut superuser, tamper).await.unwrap();
        assert_eq!(findings(&tenant, &[]).await, [""; 0], "{column} = {value}");
    }
}

#[apply(palisade_test)]
async fn a_row_without_a_hash_cannot_be_inserted() {
    let mut log = Tampered::new().await;
    let with = json!({ "id": Uuid::now_v7(), "hash": null });
    let insert = insert_copy("audit_logs", &with);
    assert_eq!(
        attempt(&mut log.superuser, insert).await,
        Err("23502".to_owned())
    );
}

#[apply(palisade_test)]
async fn an_entry_that_was_removed_with_its_announcement_is_not_detected() {
    let mut log = Tampered::new().await;
    log.tamper(
        "delete from audit_logs where id = $unsealed;
         delete from audit_unsealed where id = $unsealed",
    )
    .await;
    assert_eq!(
        log.found().await,
        [""; 0],
        "docs/operations.md says that this can be found now"
    );
}

#[apply(palisade_test)]
async fn a_rewritten_history_is_detected_with_a_recorded_head() {
    let mut log = Tampered::new().await;
    let noted = head(&verify(&log.tenant, &[]).await.success()).to_owned();
    log.tamper(
        "update audit_logs set actor_id = app.uuid_v7() where id = $sealed;
         update audit_logs a set hash = app.audit_row_hash(a) where tenant_id = $own;
         update audit_seal_entries e set hash = a.hash from audit_logs a
         where e.tenant_id = $own and a.tenant_id = e.tenant_id and a.id = e.id",
    )
    .await;
    for number in 1..=2 {
        log.tamper(&format!(
            "update audit_seals s set previous_hash =
                 (select hash from audit_seals p where p.tenant_id = $own and p.number = {number} - 1)
             where s.tenant_id = $own and s.number = {number}"
        ))
        .await;
        log.rehash_seal(number).await;
    }
    assert_eq!(log.found().await, [""; 0], "it is sound in itself");
    let found = findings(&log.tenant, &["--expect-head", &noted]).await;
    let expected =
        format!("missing head {noted}: no seal has this hash, so the history was rewritten");
    assert_eq!(found, [expected]);
}

#[apply(palisade_test)]
async fn verify_reports_an_unusable_option_and_an_unknown_tenant(tenant: Tenant) {
    let unusable = verify(&tenant, &["--expect-head", "cafe"]).await;
    assert_eq!(unusable.code, Some(2), "{unusable:?}");
    let without = run_to_exit(palisade(&["audit", "verify"])).await;
    assert_eq!(without.code, Some(2), "{without:?}");

    let url = tenant.app.database_url("palisade_admin");
    let unknown = palisade(&[
        "audit",
        "verify",
        "--tenant",
        "nobody",
        "--admin-database-url",
        &url,
    ]);
    assert_eq!(
        run_to_exit(unknown).await.error_line(1),
        "there is no tenant with the slug nobody"
    );
}
