//! `palisade demo`: the amount and the content of the demo data.

use macro_rules_attribute::apply;
use sqlx::{Connection as _, PgConnection};

use super::{Database, demo_command, run_palisade, run_to_exit};
use crate::harness::{REMOVE_CANARY, attempt, palisade_test};

/// The number of rows and a hash of each table. The hash leaves out values that are random or depend on the clock.
async fn content(database: &Database) -> Vec<(String, i64, String)> {
    let mut postgres = PgConnection::connect(&database.url("postgres"))
        .await
        .unwrap();
    let tables: Vec<String> = sqlx::query_scalar(
        "select relname::text from pg_class where relnamespace = 'public'::regnamespace
         and relkind = 'r' and relname <> '_sqlx_migrations' order by 1",
    )
    .fetch_all(&mut postgres)
    .await
    .unwrap();
    // Its marker is different in each database.
    attempt(&mut postgres, REMOVE_CANARY.to_owned())
        .await
        .unwrap();
    let mut content = Vec::new();
    for table in tables {
        // Audit entries have a random id and request id, and copies of the row's timestamps.
        let row = match table.as_str() {
            "audit_logs" => {
                "concat_ws('|', tenant_id, actor_id, action, subject_id, project_id)".to_owned()
            }
            "audit_unsealed" | "audit_seal_entries" => "tenant_id::text".to_owned(),
            "audit_seals" => "concat_ws('|', tenant_id, number, rows)".to_owned(),
            // `created_at` is the current time in these tables, and a computed time in all others.
            "tenants" | "users" | "identities" | "memberships" | "currencies"
            | "invoice_counters" => {
                "(to_jsonb(t) - '{created_at,updated_at}'::text[])::text".to_owned()
            }
            _ => "(to_jsonb(t) - 'updated_at')::text".to_owned(),
        };
        let sql = format!(
            "select count(*), coalesce(md5(string_agg(r, '' order by r)), '')
             from (select {row} as r from {table} t) s"
        );
        let (count, sum): (i64, String) = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .fetch_one(&mut postgres)
            .await
            .unwrap();
        content.push((table, count, sum));
    }
    content
}

#[apply(palisade_test)]
async fn the_same_amounts_always_give_the_same_demo_data() {
    let (one, two) = (Database::migrated().await, Database::migrated().await);
    for database in [&one, &two] {
        let stdout = run_to_exit(demo_command(database, "2", "3", "4", "30"))
            .await
            .success();
        assert_eq!(stdout, "tenants created: 2, already present: 0\n");
    }
    let created = content(&one).await;
    assert!(
        created
            .iter()
            .any(|(table, count, _)| table == "projects" && *count == 6),
        "{created:?}"
    );
    assert!(
        created
            .iter()
            .any(|(table, count, _)| table == "invoices" && *count == 24),
        "{created:?}"
    );
    assert_eq!(created, content(&two).await);

    let stdout = run_to_exit(demo_command(&one, "2", "3", "4", "30"))
        .await
        .success();
    assert_eq!(stdout, "tenants created: 0, already present: 2\n");
    assert_eq!(created, content(&one).await);
    one.drop().await;
    two.drop().await;
}

#[apply(palisade_test)]
async fn demo_data_is_sealed() {
    let database = Database::migrated().await;
    run_to_exit(demo_command(&database, "2", "3", "4", "30"))
        .await
        .success();
    let (app, admin) = (database.url("palisade_app"), database.url("palisade_admin"));
    let verify = [
        "audit",
        "verify",
        "--tenant",
        "acme",
        "--admin-database-url",
        &admin,
    ];
    let stdout = run_palisade(&verify).await.success();
    assert!(
        stdout.contains(", not yet sealed 0, seals 1, head "),
        "{stdout}"
    );
    let seal = [
        "audit",
        "seal",
        "--app-database-url",
        &app,
        "--admin-database-url",
        &admin,
    ];
    let stdout = run_palisade(&seal).await.success();
    assert_eq!(stdout, "rows sealed: 0, tenants: 2\n");
    database.drop().await;
}

#[apply(palisade_test)]
async fn demo_creates_the_requested_amounts() {
    // 30 is more than the number of entries that the other rows cause, so edits add the rest. 3 is fewer.
    for (audit_logs, exactly) in [(30, true), (3, false)] {
        let database = Database::migrated().await;
        run_to_exit(demo_command(
            &database,
            "2",
            "5",
            "3",
            &audit_logs.to_string(),
        ))
        .await
        .success();
        let mut postgres = PgConnection::connect(&database.url("postgres"))
            .await
            .unwrap();
        attempt(&mut postgres, REMOVE_CANARY.to_owned())
            .await
            .unwrap();
        let counts: Vec<(i64, i64, i64)> = sqlx::query_as(
            "select (select count(*) from projects p where p.tenant_id = t.id),
                    (select min(n) from (select count(i.id) as n from projects p
                      left join invoices i on i.tenant_id = p.tenant_id and i.project_id = p.id
                      where p.tenant_id = t.id group by p.id) s),
                    (select max(n) from (select count(i.id) as n from projects p
                      left join invoices i on i.tenant_id = p.tenant_id and i.project_id = p.id
                      where p.tenant_id = t.id group by p.id) s)
             from tenants t",
        )
        .fetch_all(&mut postgres)
        .await
        .unwrap();
        assert_eq!(counts, [(5, 3, 3); 2]);
        let logs: Vec<i64> = sqlx::query_scalar(
            "select (select count(*) from audit_logs a where a.tenant_id = p.tenant_id and a.project_id = p.id)
             from projects p order by 1",
        )
        .fetch_all(&mut postgres)
        .await
        .unwrap();
        assert!(logs.iter().all(|n| *n >= audit_logs), "{logs:?}");
        if exactly {
            assert_eq!(logs, [audit_logs; 10]);
        }
        drop(postgres);
        database.drop().await;
    }
}
