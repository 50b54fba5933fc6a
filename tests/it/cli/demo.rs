//! `palisade demo`: the amount and the content of the demo data.

use macro_rules_attribute::apply;
use sqlx::{Connection as _, PgConnection};

use super::{Database, demo_command, end_of, run_command};
use crate::harness::palisade_test;

/// What a database holds, table by table, without what the clock or chance decides.
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
    let mut content = Vec::new();
    for table in tables {
        // Audit entries hold their own id and request, and copies of the times of the row.
        let row = match table.as_str() {
            "audit_logs" => {
                "concat_ws('|', tenant_id, actor_id, action, subject_id, project_id)".to_owned()
            }
            "audit_unsealed" | "audit_seal_entries" => "tenant_id::text".to_owned(),
            "audit_seals" => "concat_ws('|', tenant_id, number, rows)".to_owned(),
            // These are made now; the rest carries the times of its story.
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
async fn demo_data_is_the_same_for_the_same_numbers() {
    let (one, two) = (Database::migrated().await, Database::migrated().await);
    for database in [&one, &two] {
        let said = end_of(demo_command(database, "2", "3", "4", "30"))
            .await
            .ok();
        assert_eq!(said, "2 tenants made, 0 were there already\n");
    }
    let made = content(&one).await;
    assert!(
        made.iter()
            .any(|(table, count, _)| table == "projects" && *count == 6),
        "{made:?}"
    );
    assert!(
        made.iter()
            .any(|(table, count, _)| table == "invoices" && *count == 24),
        "{made:?}"
    );
    assert_eq!(made, content(&two).await);

    let said = end_of(demo_command(&one, "2", "3", "4", "30")).await.ok();
    assert_eq!(said, "0 tenants made, 2 were there already\n");
    assert_eq!(made, content(&one).await);
    one.drop().await;
    two.drop().await;
}

#[apply(palisade_test)]
async fn demo_data_is_sealed() {
    let database = Database::migrated().await;
    end_of(demo_command(&database, "2", "3", "4", "30"))
        .await
        .ok();
    let (app, admin) = (database.url("palisade_app"), database.url("palisade_admin"));
    let verify = [
        "audit",
        "verify",
        "--tenant",
        "acme",
        "--admin-database-url",
        &admin,
    ];
    let said = run_command(&verify).await.ok();
    assert!(
        said.contains(", not yet sealed 0, seals 1, head "),
        "{said}"
    );
    let seal = [
        "audit",
        "seal",
        "--app-database-url",
        &app,
        "--admin-database-url",
        &admin,
    ];
    let said = run_command(&seal).await.ok();
    assert_eq!(said, "0 rows sealed, of 2 tenants\n");
    database.drop().await;
}

#[apply(palisade_test)]
async fn demo_makes_as_much_as_was_asked_for() {
    // Enough audit entries that edits fill up what making the content left; then too few.
    for (audit_logs, exactly) in [(30, true), (3, false)] {
        let database = Database::migrated().await;
        end_of(demo_command(
            &database,
            "2",
            "5",
            "3",
            &audit_logs.to_string(),
        ))
        .await
        .ok();
        let mut postgres = PgConnection::connect(&database.url("postgres"))
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
