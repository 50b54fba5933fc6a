//! The creation of seals: by which code, when, and for which rows.

use futures_util::future::join_all;
use macro_rules_attribute::apply;
use palisade::{
    audit::sealing::{self, SealOutcome, Sealer},
    auth::role::UserRole,
    db::{PoolSettings, TenantDb},
    ids::EntityId as _,
};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{SEALS, findings, one, seal, verify, write};
use crate::{
    cli::{palisade, run_to_exit},
    harness::{
        Tenant, TestApp, attempt, eventually, insert_copy, palisade_test, signing, tenant_tables,
    },
};

#[apply(palisade_test)]
async fn the_seal_command_seals_the_unsealed_entries(tenant: Tenant) {
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
        "rows sealed: 6, tenants: 1\n",
        "rows sealed: 0, tenants: 1\n",
    ] {
        assert_eq!(run_to_exit(command()).await.success(), expected);
    }
}

#[apply(palisade_test)]
async fn only_the_database_writes_seals(app: &'static TestApp) {
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
async fn sealing_changes_only_the_own_tenant(app: &'static TestApp) {
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

    // Without a tenant context, nothing is sealed. A role that may not read the audit log sees no seals.
    let mut without_context = app.connect("palisade_app").await;
    assert_eq!(seal(&mut without_context).await, Some(0));
    assert_eq!(one::<String>(&mut without_context, all).await, "0 0 0");
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

    // If a seal is rolled back, the next seal contains the same rows and gets the same number.
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
async fn an_entry_that_commits_late_is_sealed_by_the_next_seal(tenant: Tenant) {
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
async fn a_hash_does_not_depend_on_settings(tenant: Tenant) {
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

    // The hash of null differs from that of the empty string. Moving a character to the next column changes the hash.
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
async fn the_sealer_seals_after_a_write_and_when_it_stops(app: &'static TestApp) {
    let (acme, globex) = (app.tenant().await, app.tenant().await);
    let url = app.database_url("palisade_app");
    let db = TenantDb::connect(&url, PoolSettings::default(), &signing())
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

    // The sealer is pausing between two seals now. `finish` does not wait for the end of the pause.
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
        TenantDb::connect(&url, PoolSettings::default(), &signing())
            .await
            .unwrap()
    };
    let db = connect().await;
    assert!(sealing::seal(&db, tenant.id).await.is_err());
    // Without these connections, only the sealer can send the statement that the test waits for.
    db.close().await;
    let sealer = Sealer::start(connect().await);
    sealer.wrote(tenant.id);
    let mut watching = tenant.begin().await.0;
    let mut superuser = app.connect("postgres").await;
    let tried = "select exists (select from pg_stat_activity where datname = current_database()
                 and usename = 'palisade_app' and query ilike 'rollback%')";
    eventually("the sealer has failed once", async || {
        one::<bool>(&mut superuser, tried).await
    })
    .await;
    attempt(&mut superuser, format!("grant {grant} to palisade_app"))
        .await
        .unwrap();
    eventually("the rows are sealed", async || {
        one::<i64>(&mut watching, "select count(*) from audit_unsealed").await == 0
    })
    .await;
    drop(sealer);
}

#[apply(palisade_test)]
async fn the_entries_of_a_mutation_are_sealed_soon_afterwards(tenant: Tenant) {
    let make =
        r#"mutation { createOrganization(input: { name: "Sealed" }) { userErrors { code } } }"#;
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
    let log = verify(&tenant, &[]).await.success();
    assert!(log.contains("not yet sealed 0, seals 1"), "{log}");
}
