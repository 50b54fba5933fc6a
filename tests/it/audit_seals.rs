//! The seals of the audit log: who makes them, and that `palisade audit verify` finds what was done
//! behind the service's back.

use std::path::Path;

use futures_util::future::join_all;
use macro_rules_attribute::apply;
use palisade::{
    audit::sealing::{self, SealOutcome, Sealer},
    auth::role::UserRole,
    db::{PoolSettings, TenantDb},
    ids::EntityId as _,
};
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _, PgConnection};
use uuid::Uuid;

use crate::{
    cli::{Ended, end_of, palisade},
    harness::{
        Tenant, TestApp, attempt, create_database, eventually, id, insert_copy, palisade_test,
        tenant_tables,
    },
};

const SEALS: [&str; 3] = ["audit_unsealed", "audit_seals", "audit_seal_entries"];

async fn one<T>(connection: &mut PgConnection, sql: &str) -> T
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned()))
        .fetch_one(connection)
        .await
        .unwrap()
}

async fn seal(connection: &mut PgConnection) -> Option<i32> {
    one(connection, "select app.seal_audit_log()").await
}

/// One more audited change.
async fn write(connection: &mut PgConnection) {
    let sql = "update products set title = 'Product ' || gen_random_uuid()";
    assert!(attempt(connection, sql.to_owned()).await.unwrap() > 0);
}

async fn verify(tenant: &Tenant, options: &[&str]) -> Ended {
    let url = tenant.app.database_url("palisade_admin");
    let mut command = palisade(&["audit", "verify", "--tenant", &tenant.slug]);
    command.args(options).args(["--admin-database-url", &url]);
    end_of(command).await
}

/// The head that `verify` printed.
fn head(stdout: &str) -> &str {
    let head = stdout.trim_end().rsplit(' ').next().unwrap();
    assert_eq!(head.len(), 64, "{stdout}");
    head
}

/// What verifying finds, without the closing line.
async fn findings(tenant: &Tenant, options: &[&str]) -> Vec<String> {
    let ended = verify(tenant, options).await;
    let mut lines: Vec<String> = ended.stdout.lines().map(str::to_owned).collect();
    let closing = lines.pop().unwrap();
    assert!(closing.starts_with("rows "), "{ended:?}");
    if lines.is_empty() {
        assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
    } else {
        let expected = format!(
            "the audit log of {} was tampered with, findings: {}",
            tenant.slug,
            lines.len()
        );
        assert_eq!(ended.line(1), expected);
    }
    lines
}

/// A tenant with two seals, a row that waits for the third, and a superuser who may do anything.
struct Tampered {
    tenant: Tenant,
    superuser: PgConnection,
    /// The first row of the first seal, and how many there are in it.
    sealed: Uuid,
    rows: i64,
    unsealed: Uuid,
}

impl Tampered {
    async fn new() -> Self {
        let tenant = TestApp::shared().await.tenant().await;
        tenant.seed(1, 1).await;
        let mut sql = tenant.begin().await.0;
        assert!(seal(&mut sql).await > Some(0));
        write(&mut sql).await;
        let own = tenant.id.uuid();
        let mut superuser = tenant.app.connect("postgres").await;
        attempt(
            &mut superuser,
            format!("set app.tenant_id = '{own}'; set app.role = 'OWNER'"),
        )
        .await
        .unwrap();
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

    /// Runs statements without triggers and foreign keys. `$own` is the tenant, `$sealed` and
    /// `$unsealed` are rows.
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

    /// Makes an inserted row look as if the trigger had written it.
    async fn announce(&mut self, row: Uuid) {
        self.tamper(&format!(
            "insert into audit_unsealed (tenant_id, id) values ($own, '{row}')"
        ))
        .await;
    }

    /// Inserts a row with a right hash, so old; answers its id.
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

    /// What is found now, with ids replaced by the names of the rows.
    async fn found(&self) -> Vec<String> {
        let lines = findings(&self.tenant, &[]).await;
        let name = |line: String| {
            let over = format!("over {} rows and holds {}", self.rows, self.rows - 1);
            line.replace(&over, "over ROWS rows and holds FEWER")
                .replace(&id("aud", self.sealed), "SEALED")
                .replace(&id("aud", self.unsealed), "UNSEALED")
        };
        lines.into_iter().map(name).collect()
    }
}

#[apply(palisade_test)]
async fn an_intact_log_is_said_to_be_intact(tenant: Tenant) {
    let none = verify(&tenant, &[]).await.ok();
    assert_eq!(
        none,
        "rows 6, sealed 0, not yet sealed 6, seals 0, head none\n"
    );

    tenant.seed(1, 1).await;
    let mut sql = tenant.begin().await.0;
    assert!(seal(&mut sql).await > Some(0));
    let rows: i64 = one(&mut sql, "select count(*) from audit_logs").await;
    let first = verify(&tenant, &[]).await.ok();
    let expected = format!("rows {rows}, sealed {rows}, not yet sealed 0, seals 2, head ");
    assert!(first.starts_with(&expected), "{first}");

    write(&mut sql).await;
    let waiting = verify(&tenant, &[]).await.ok();
    let all = rows + 1;
    let expected = format!("rows {all}, sealed {rows}, not yet sealed 1, seals 2, head ");
    assert!(waiting.starts_with(&expected), "{waiting}");
    assert_eq!(head(&waiting), head(&first));
    assert_eq!(seal(&mut sql).await, Some(1));
    assert_eq!(seal(&mut sql).await, Some(0));
    let second = verify(&tenant, &[]).await.ok();
    assert_ne!(head(&second), head(&first));
    for noted in [head(&first), head(&second)] {
        let again = verify(&tenant, &["--expect-head", noted]).await.ok();
        assert_eq!(again, second);
    }
}

#[apply(palisade_test)]
async fn each_tampering_is_found_and_named() {
    let changed = "changed SEALED: its content is not that of its hash";
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
            &["changed SEALED: its hash is not the one in seal 1"],
        ),
        (
            "delete from audit_logs where id = $sealed",
            &["removed SEALED: seal 1 holds it"],
        ),
        (
            "delete from audit_logs where id = $unsealed",
            &["removed UNSEALED: it was announced for the next seal"],
        ),
        (
            "update audit_logs set actor_id = app.uuid_v7() where id = $unsealed",
            &[
                "inserted UNSEALED: not sealed, and its content is not that of its hash: inserted, or changed at once",
            ],
        ),
        (
            "update audit_seal_entries set hash = sha256('') where id = $sealed",
            &[
                "seal broken 1: its hash is not that of what it holds",
                "changed SEALED: its hash is not the one in seal 1",
            ],
        ),
        (
            "delete from audit_seal_entries where id = $sealed",
            &[
                "seal broken 1: it is over ROWS rows and holds FEWER",
                "inserted SEALED: not sealed, and no trigger announced it for the next seal",
            ],
        ),
        (
            "update audit_seals set hash = sha256('') where tenant_id = $own and number = 1",
            &[
                "seal broken 1: its hash is not that of what it holds",
                "seal broken 2: it does not continue the seal before it",
            ],
        ),
    ];
    for (sql, expected) in cases {
        let mut log = Tampered::new().await;
        log.tamper(sql).await;
        assert_eq!(log.found().await, expected, "{sql}");
        // Sealing on hides nothing.
        let mut service = log.tenant.begin().await.0;
        write(&mut service).await;
        assert!(seal(&mut service).await > Some(0), "{sql}");
        assert_eq!(log.found().await, expected, "{sql}, sealed on");
    }
}

#[apply(palisade_test)]
async fn a_removed_seal_is_found_by_the_next_and_by_its_rows() {
    let mut log = Tampered::new().await;
    log.tamper(
        "delete from audit_seal_entries where tenant_id = $own and seal_number = 1;
         delete from audit_seals where tenant_id = $own and number = 1",
    )
    .await;
    let found = log.found().await;
    assert_eq!(
        found[0],
        "seal broken 2: seals 1 to 1 before it are missing"
    );
    assert_eq!(i64::try_from(found.len()), Ok(1 + log.rows), "{found:?}");
    assert!(
        found[1..].iter().all(|line| line.starts_with("inserted ")),
        "{found:?}"
    );

    // The last one leaves no gap behind it; its rows tell.
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
async fn an_inserted_row_is_found_unless_it_claims_to_be_new_and_was_announced() {
    let mut log = Tampered::new().await;
    let row = log.insert("0 s").await;
    let unannounced = format!(
        "inserted {}: not sealed, and no trigger announced it for the next seal",
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
        "inserted {}: not sealed, and it claims a time more than a day before the last seal",
        id("aud", row)
    );
    assert_eq!(log.found().await, [late.as_str()]);
    let mut service = log.tenant.begin().await.0;
    assert_eq!(seal(&mut service).await, Some(1), "the row of the service");
    assert_eq!(log.found().await, [late.as_str()]);

    // Whoever makes the database seal it nevertheless.
    log.tamper("update audit_seals set latest = latest - interval '9 days' where tenant_id = $own")
        .await;
    assert_eq!(seal(&mut service).await, Some(1));
    log.tamper(
        "update audit_seals set latest = latest + interval '9 days'
         where tenant_id = $own and number <= 3",
    )
    .await;
    let sealed_late = format!(
        "inserted {}: it claims a time more than a day before seal 4, which holds it",
        id("aud", row)
    );
    assert_eq!(log.found().await, [sealed_late]);

    // What nothing can tell from a change that was made by hand as well.
    let mut log = Tampered::new().await;
    let row = log.insert("0 s").await;
    log.announce(row).await;
    assert_eq!(log.found().await, [""; 0]);
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
async fn what_was_removed_together_with_its_announcement_is_not_found() {
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
async fn a_history_that_was_made_anew_is_found_by_a_head_that_was_noted() {
    let mut log = Tampered::new().await;
    let noted = head(&verify(&log.tenant, &[]).await.ok()).to_owned();
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
             where s.tenant_id = $own and s.number = {number};
             update audit_seals s set hash = app.audit_seal_hash(s,
                 (select string_agg(uuid_send(e.id) || e.hash, '' order by e.id) from audit_seal_entries e
                  where e.tenant_id = $own and e.seal_number = {number}))
             where s.tenant_id = $own and s.number = {number}"
        ))
        .await;
    }
    assert_eq!(log.found().await, [""; 0], "it is sound in itself");
    let found = findings(&log.tenant, &["--expect-head", &noted]).await;
    let expected =
        format!("head missing {noted}: no seal has this hash, the history was made anew");
    assert_eq!(found, [expected]);
}

#[apply(palisade_test)]
async fn verify_says_what_it_cannot_use(tenant: Tenant) {
    let unusable = verify(&tenant, &["--expect-head", "cafe"]).await;
    assert_eq!(unusable.code, Some(2), "{unusable:?}");
    let without = end_of(palisade(&["audit", "verify"])).await;
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
    assert_eq!(end_of(unknown).await.line(1), "there is no tenant nobody");
}

#[apply(palisade_test)]
async fn the_seal_command_seals_what_waits(tenant: Tenant) {
    let command = || {
        palisade(&[
            "audit",
            "seal",
            "--tenant",
            &tenant.slug,
            "--app-database-url",
            &tenant.app.database_url("palisade_app"),
            "--admin-database-url",
            &tenant.app.database_url("palisade_admin"),
        ])
    };
    for expected in [
        "6 rows sealed, of 1 tenants\n",
        "0 rows sealed, of 1 tenants\n",
    ] {
        assert_eq!(end_of(command()).await.ok(), expected);
    }
}

// Who makes them

#[apply(palisade_test)]
async fn nobody_but_the_database_writes_seals(app: &'static TestApp) {
    let tenant = app.tenant().await;
    tenant.seed(1, 1).await;
    let own = tenant.id.uuid();
    let mut service = tenant.begin().await.0;
    let mut admin = app.connect("palisade_admin").await;
    for connection in [&mut service, &mut admin] {
        for table in SEALS {
            for write in [
                insert_copy(table, &json!({ "id": Uuid::now_v7() })),
                format!("update {table} set id = id where tenant_id = '{own}'"),
                format!("delete from {table} where tenant_id = '{own}'"),
                format!("truncate {table} cascade"),
            ] {
                let done = attempt(connection, write.clone()).await;
                assert_eq!(done, Err("42501".to_owned()), "{write}");
            }
        }
    }
    for role in ["palisade_admin", "palisade_auth"] {
        let mut connection = app.connect(role).await;
        let done = attempt(&mut connection, "select app.seal_audit_log()".to_owned()).await;
        assert_eq!(done, Err("42501".to_owned()), "{role}");
    }
    for function in [
        "app.audit_row_hash(null)",
        "app.audit_seal_hash(null, null)",
    ] {
        let done = attempt(&mut service, format!("select {function}")).await;
        assert_eq!(done, Err("42501".to_owned()), "{function}");
    }
}

#[apply(palisade_test)]
async fn sealing_reaches_the_own_tenant_alone(app: &'static TestApp) {
    let (acme, globex) = (app.tenant().await, app.tenant().await);
    acme.seed(1, 1).await;
    globex.seed(1, 1).await;
    let mut theirs = globex.begin().await.0;
    let all = "select concat_ws(' ', (select count(*) from audit_unsealed),
                   (select count(*) from audit_seals), (select count(*) from audit_seal_entries))";
    let before: String = one(&mut theirs, all).await;

    let mut own = acme.begin().await.0;
    assert!(seal(&mut own).await > Some(0));
    let sealed: String = one(&mut own, all).await;
    assert!(sealed.starts_with("0 2 "), "{sealed}");
    assert!(!before.starts_with("0 "), "{before}");
    assert_eq!(one::<String>(&mut theirs, all).await, before);
    let forged = format!("select app.seal_audit_log('{}')", globex.id.uuid());
    assert_eq!(attempt(&mut own, forged).await, Err("42883".to_owned()));

    // Without a context there is nothing to seal, and who may not read the log reads no seal.
    let mut nobody = app.connect("palisade_app").await;
    assert_eq!(seal(&mut nobody).await, Some(0));
    assert_eq!(one::<String>(&mut nobody, all).await, "0 0 0");
    for role in [UserRole::Member, UserRole::Billing, UserRole::Viewer] {
        let mut member = acme.begin_as(role).await.0;
        assert_eq!(one::<String>(&mut member, all).await, "0 0 0", "{role:?}");
    }
    let tables: Vec<String> = tenant_tables(&mut own)
        .await
        .into_iter()
        .map(|table| table.name)
        .collect();
    assert!(
        SEALS
            .iter()
            .all(|seal| tables.iter().any(|table| table == seal))
    );
}

#[apply(palisade_test)]
async fn two_sealers_at_once_leave_neither_duplicates_nor_gaps(tenant: Tenant) {
    tenant.seed(1, 1).await;
    let (mut first, mut second) = (tenant.begin().await.0, tenant.begin().await.0);
    attempt(&mut first, "begin".to_owned()).await.unwrap();
    assert_eq!(seal(&mut first).await, Some(1));
    assert_eq!(
        seal(&mut second).await,
        None,
        "it neither waits nor seals twice"
    );
    attempt(&mut first, "commit".to_owned()).await.unwrap();
    assert_eq!(seal(&mut second).await, Some(0));

    // A seal that is taken back leaves its rows and its number to the next.
    write(&mut first).await;
    attempt(&mut first, "begin".to_owned()).await.unwrap();
    assert_eq!(seal(&mut first).await, Some(1));
    attempt(&mut first, "rollback".to_owned()).await.unwrap();
    assert_eq!(seal(&mut second).await, Some(1));

    join_all((0..6).map(async |_| {
        let mut sql = tenant.begin().await.0;
        for _ in 0..10 {
            write(&mut sql).await;
            seal(&mut sql).await;
        }
    }))
    .await;
    seal(&mut first).await;
    let counts: Value = one(
        &mut first,
        "select jsonb_build_array((select count(*) from audit_unsealed),
             (select count(*) from audit_logs) - (select count(*) from audit_seal_entries),
             (select max(number) - count(*) from audit_seals), (select min(number) from audit_seals))",
    )
    .await;
    assert_eq!(counts, json!([0, 0, 0, 1]));
    assert_eq!(findings(&tenant, &[]).await, [""; 0]);
}

#[apply(palisade_test)]
async fn what_commits_late_is_sealed_by_the_next_seal(tenant: Tenant) {
    tenant.seed(1, 1).await;
    let mut sql = tenant.begin().await.0;
    seal(&mut sql).await;

    let mut late = tenant.begin().await.0;
    attempt(&mut late, "begin".to_owned()).await.unwrap();
    let title = "update organizations set name = 'Late'".to_owned();
    assert_eq!(attempt(&mut late, title).await, Ok(1));
    write(&mut sql).await;
    assert_eq!(seal(&mut sql).await, Some(1));
    write(&mut sql).await;
    assert_eq!(seal(&mut sql).await, Some(1));
    attempt(&mut late, "commit".to_owned()).await.unwrap();
    assert_eq!(seal(&mut sql).await, Some(1));
    let of: i32 = one(
        &mut sql,
        "select e.seal_number from audit_seal_entries e join audit_logs a on a.id = e.id
         where a.action = 'organization.updated'",
    )
    .await;
    assert_eq!(of, 5);
    assert_eq!(findings(&tenant, &[]).await, [""; 0]);
}

#[apply(palisade_test)]
async fn a_hash_depends_on_no_setting(tenant: Tenant) {
    tenant.seed(1, 1).await;
    let mut superuser = tenant.app.connect("postgres").await;
    let wrong = format!(
        "select count(*) from audit_logs a
         where tenant_id = '{}' and hash <> app.audit_row_hash(a)",
        tenant.id.uuid()
    );
    for setting in [
        "timezone = 'Asia/Kathmandu'",
        "datestyle = 'German, DMY'",
        "extra_float_digits = -15",
        "intervalstyle = 'sql_standard'",
        "bytea_output = 'escape'",
        "lc_numeric = 'C'",
        "search_path = ''",
    ] {
        let sql = format!("set {setting}");
        attempt(&mut superuser, sql).await.unwrap();
        let wrong = wrong.replace("audit_logs", "public.audit_logs");
        assert_eq!(one::<i64>(&mut superuser, &wrong).await, 0, "{setting}");
    }

    // Null is no text, and what moves from one column to the next is not the same.
    let hash = async |superuser: &mut PgConnection, with: Value| -> String {
        let sql = format!(
            "select encode(app.audit_row_hash(jsonb_populate_record(null::public.audit_logs, '{with}')), 'hex')"
        );
        one(superuser, &sql).await
    };
    let mut hashes = Vec::new();
    for with in [
        json!({ "action": "a", "subject_type": "bc" }),
        json!({ "action": "ab", "subject_type": "c" }),
        json!({ "action": "a", "operation_name": "null" }),
        json!({ "action": "a", "operation_name": null }),
        json!({ "action": "a", "operation_name": "" }),
        json!({ "action": "a\", \"bc" }),
        json!({ "action": "a", "changes": "[]" }),
        json!({ "action": "a", "changes": [] }),
    ] {
        hashes.push(hash(&mut superuser, with).await);
    }
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), 8);
}

#[apply(palisade_test)]
async fn the_sealer_seals_after_a_write_and_at_its_end(app: &'static TestApp) {
    let (acme, globex) = (app.tenant().await, app.tenant().await);
    let url = app.database_url("palisade_app");
    let db = TenantDb::connect(&url, PoolSettings::default())
        .await
        .unwrap();
    let sealer = Sealer::start(db.clone());
    let mut watching = acme.begin().await.0;
    let waiting = "select count(*) from audit_unsealed";
    assert_eq!(one::<i64>(&mut watching, waiting).await, 6);
    for _ in 0..1_000 {
        sealer.wrote(acme.id);
    }
    let is_sealed = async || one::<i64>(&mut watching, waiting).await == 0;
    eventually("the rows are sealed", is_sealed).await;
    assert_eq!(
        one::<i64>(&mut watching, "select count(*) from audit_seals").await,
        1
    );

    // It is in its pause now, which the end cuts short.
    sealer.wrote(globex.id);
    sealer.finish().await;
    let mut theirs = globex.begin().await.0;
    assert_eq!(one::<i64>(&mut theirs, waiting).await, 0);
    sealer.wrote(acme.id);
    sealer.finish().await;

    let nothing_left = SealOutcome::default();
    assert_eq!(sealing::seal(&db, acme.id).await.unwrap(), nothing_left);
    db.close().await;
}

#[apply(palisade_test)]
async fn the_sealer_tries_again_after_a_failure() {
    let grant = "execute on function app.seal_audit_log()";
    let revoke = format!("revoke {grant} from palisade_app");
    let app = TestApp::shared().await.in_own_database(&[&revoke]).await;
    let tenant = app.tenant().await;
    let url = app.database_url("palisade_app");
    let connect = async || {
        TenantDb::connect(&url, PoolSettings::default())
            .await
            .unwrap()
    };
    let db = connect().await;
    assert!(sealing::seal(&db, tenant.id).await.is_err());
    // With its connections, so that what is seen below is the sealer's doing.
    db.close().await;
    let sealer = Sealer::start(connect().await);
    sealer.wrote(tenant.id);
    let mut watching = tenant.begin().await.0;
    let tried = "select exists (select from pg_stat_activity where datname = current_database()
                 and usename = 'palisade_app' and query ilike 'rollback%')";
    eventually("it has tried in vain", async || {
        one::<bool>(&mut watching, tried).await
    })
    .await;
    let mut superuser = app.connect("postgres").await;
    attempt(&mut superuser, format!("grant {grant} to palisade_app"))
        .await
        .unwrap();
    eventually("the rows are sealed", async || {
        one::<i64>(&mut watching, "select count(*) from audit_unsealed").await == 0
    })
    .await;
    drop(sealer);
}

/// The migrations before this number.
fn migrations(before: &str) -> Vec<String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    let is_before = |path: &Path| path.file_name().unwrap().to_str().unwrap() < before;
    names
        .iter()
        .filter(|path| is_before(path))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect()
}

#[apply(palisade_test)]
async fn rows_from_before_the_migration_are_hashed_and_wait_for_their_seal(app: &'static TestApp) {
    let database = format!("palisade_test_{}", Uuid::now_v7().simple());
    let mut postgres = app.connect("postgres").await;
    create_database(&mut postgres, &database).await;
    let mut owner = PgConnection::connect(&app.server.url("postgres", &database))
        .await
        .unwrap();
    let rights = format!(
        "grant create on database {database} to palisade_owner;
         grant usage, create on schema public to palisade_owner;
         grant usage on schema public to palisade_app, palisade_auth, palisade_admin;
         set role palisade_owner"
    );
    attempt(&mut owner, rights).await.unwrap();
    for migration in migrations("0009") {
        attempt(&mut owner, migration).await.unwrap();
    }
    let tenants = [Uuid::now_v7(), Uuid::now_v7()];
    let mut admin = PgConnection::connect(&app.server.url("palisade_admin", &database))
        .await
        .unwrap();
    for tenant in tenants {
        let sql = format!(
            "set app.tenant_id = '{tenant}';
             insert into tenants (id, slug, name) values ('{tenant}', 'tenant-{}', 'Tenant');
             update tenants set name = 'Renamed' where id = '{tenant}'",
            tenant.simple()
        );
        attempt(&mut admin, sql).await.unwrap();
    }
    let migration = migrations("0010").pop().unwrap();
    let both = format!("begin; {migration}; commit");
    owner.execute(sqlx::AssertSqlSafe(both)).await.unwrap();

    let mut superuser = PgConnection::connect(&app.server.url("postgres", &database))
        .await
        .unwrap();
    let counts: Value = one(
        &mut superuser,
        "select jsonb_build_array(count(*), count(u.id), count(*) filter (where a.hash = app.audit_row_hash(a)),
             (select count(*) from pg_policy where polname = 'seal'))
         from audit_logs a left join audit_unsealed u on u.tenant_id = a.tenant_id and u.id = a.id",
    )
    .await;
    assert_eq!(counts, json!([4, 4, 4, 0]));
    let mut service = PgConnection::connect(&app.server.url("palisade_app", &database))
        .await
        .unwrap();
    for tenant in tenants {
        attempt(&mut service, format!("set app.tenant_id = '{tenant}'"))
            .await
            .unwrap();
        assert_eq!(seal(&mut service).await, Some(2));
    }
}

#[apply(palisade_test)]
async fn what_a_mutation_wrote_is_sealed_soon_after(tenant: Tenant) {
    let make = r#"mutation { createOrganization(input: { name: "SealOutcome" }) { userErrors { code } } }"#;
    assert_eq!(
        tenant.owner().query(make).await.data()["createOrganization"]["userErrors"],
        json!([])
    );
    let mut postgres = tenant.app.connect("postgres").await;
    eventually("nothing waits for a seal", async || {
        let waiting: i64 =
            sqlx::query_scalar("select count(*) from audit_unsealed where tenant_id = $1")
                .bind(tenant.id)
                .fetch_one(&mut postgres)
                .await
                .unwrap();
        waiting == 0
    })
    .await;
    let log = verify(&tenant, &[]).await.ok();
    assert!(log.contains("not yet sealed 0, seals 1"), "{log}");
}
