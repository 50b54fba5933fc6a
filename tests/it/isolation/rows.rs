//! Attacks on every table of the catalogue from another tenant, with the database role that the service uses.

use macro_rules_attribute::apply;
use palisade::{auth::role::UserRole, ids::EntityId as _};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::harness::{
    Table, Tenant, TenantTable, TestApp, attempt, insert_copy, palisade_test, tenant_tables,
};

/// Asserts that row level security applies to the connection's role. Otherwise the tests would prove nothing.
async fn assert_is_bound(connection: &mut PgConnection) {
    let bound: bool = sqlx::query_scalar(
        "select session_user = 'palisade_app' and current_user = session_user
             and not rolsuper and not rolbypassrls
             and not exists (select from pg_auth_members where member = r.oid)
             and not exists (select from pg_class where relowner = r.oid)
             and current_setting('row_security') = 'on'
         from pg_roles r where rolname = current_user",
    )
    .fetch_one(connection)
    .await
    .unwrap();
    assert!(bound, "row level security does not bind this connection");
}

async fn count(connection: &mut PgConnection, table: &str, condition: &str) -> i64 {
    let sql = format!("select count(*) from {table} where {condition}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
        .fetch_one(connection)
        .await
        .unwrap()
}

/// Whether a statement changed nothing: the role lacks the privilege, or the statement found no row.
fn touched_nothing(done: &Result<u64, String>) -> bool {
    match done {
        Ok(rows) => *rows == 0,
        Err(code) => code == "42501",
    }
}

#[apply(palisade_test)]
async fn another_tenants_rows_can_be_neither_read_nor_written_in_any_table(app: &'static TestApp) {
    let (acme, globex) = (app.tenant().await, app.tenant().await);
    acme.fill(12).await;
    globex.fill(12).await;
    let mut a = acme.begin().await.0;
    let mut b = globex.begin().await.0;
    assert_is_bound(&mut a).await;
    assert_is_bound(&mut b).await;
    let (theirs, own) = (acme.id.uuid(), globex.id.uuid());
    let owner = globex.owner().user.uuid();
    let tables = tenant_tables(&mut b).await;
    assert!(tables.len() > 1, "the catalogue names no table");
    let before = acme.everything().await;

    for TenantTable {
        name,
        tenant_column: tenant,
    } in &tables
    {
        let target: Option<Uuid> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "select min(id::text)::uuid from {name}"
        )))
        .fetch_one(&mut a)
        .await
        .unwrap();
        let target = target.unwrap_or_else(|| panic!("{name}: there is no row to attack"));
        let mine = count(&mut b, name, "true").await;
        assert!(mine > 0, "{name}: the attacker has no row of its own");

        assert_eq!(
            count(&mut b, name, &format!("{tenant} = '{theirs}'")).await,
            0,
            "{name}: seen"
        );
        assert_eq!(
            count(&mut b, name, &format!("id = '{target}'")).await,
            0,
            "{name}: seen by id"
        );
        assert_eq!(
            count(&mut b, name, &format!("{tenant} <> '{own}'")).await,
            0,
            "{name}: seen"
        );

        // Each statement commits, so that the comparison at the end of the test detects every change.
        for write in [
            format!("update {name} set {tenant} = {tenant} where id = '{target}'"),
            format!("update {name} set {tenant} = {tenant} where {tenant} = '{theirs}'"),
            format!("update {name} set {tenant} = '{own}' where {tenant} = '{theirs}'"),
            format!("delete from {name} where id = '{target}'"),
            format!("delete from {name} where {tenant} = '{theirs}'"),
        ] {
            let done = attempt(&mut b, write.clone()).await;
            assert!(touched_nothing(&done), "{write}: {done:?}");
        }

        // Without a WHERE, these statements change only the attacker's own rows.
        for write in [
            format!("update {name} set {tenant} = {tenant}"),
            format!("delete from {name}"),
        ] {
            assert_eq!(attempt(&mut b, "begin".into()).await, Ok(0));
            let done = attempt(&mut b, write.clone()).await;
            let harmless = match &done {
                Ok(rows) => i64::try_from(*rows).unwrap() <= mine,
                // The role lacks the privilege, other own rows refer to the row, or a trigger rejects the change.
                Err(code) => matches!(code.as_str(), "42501" | "23503" | "23514"),
            };
            assert!(harmless, "{write}: {done:?} of {mine}");
            assert_eq!(attempt(&mut b, "rollback".into()).await, Ok(0));
        }

        // Move an own row to the other tenant, then insert a copy there. The first row does not belong to an issued
        // invoice, so only the tenant can be the reason for the rejection.
        let read = Table::read(&mut b, name).await;
        let first = read.first();
        let moved = format!("update {name} set {tenant} = '{theirs}' where id = {first}");
        let moved = attempt(&mut b, moved).await;
        assert_eq!(moved, Err("42501".to_owned()), "{name}: a row was moved");
        let mut with = json!({ "id": Uuid::now_v7() });
        with[tenant] = json!(theirs);
        let planted = attempt(&mut b, read.insert_like_first(owner, &with)).await;
        assert_eq!(planted, Err("42501".to_owned()), "{name}: inserted");
        // The same row can be inserted into the attacker's own tenant.
        let may_insert: bool = sqlx::query_scalar("select has_table_privilege($1, 'insert')")
            .bind(name)
            .fetch_one(&mut b)
            .await
            .unwrap();
        if may_insert {
            assert_eq!(attempt(&mut b, "begin".into()).await, Ok(0));
            let insert = read.insert_like_first(owner, &json!({ "id": Uuid::now_v7() }));
            let own = attempt(&mut b, insert).await;
            assert_eq!(own, Ok(1), "{name}: it is not the tenant that is rejected");
            assert_eq!(attempt(&mut b, "rollback".into()).await, Ok(0));
        }
    }
    assert_eq!(acme.everything().await, before);
}

async fn assert_sees_and_writes_nothing(
    connection: &mut PgConnection,
    tenant: &Tenant,
    state: &str,
) {
    for TenantTable {
        name,
        tenant_column,
    } in tenant_tables(connection).await
    {
        assert_eq!(count(connection, &name, "true").await, 0, "{name}, {state}");
        for write in [
            format!("update {name} set {tenant_column} = {tenant_column}"),
            format!("delete from {name}"),
        ] {
            let done = attempt(connection, write.clone()).await;
            assert!(touched_nothing(&done), "{write}, {state}: {done:?}");
        }
        for insert in [
            format!("insert into {name} default values"),
            format!(
                "insert into {name} ({tenant_column}) values ('{}')",
                tenant.id.uuid()
            ),
        ] {
            let done = attempt(connection, insert.clone()).await;
            assert_eq!(done, Err("42501".to_owned()), "{insert}, {state}");
        }
    }
}

#[apply(palisade_test)]
async fn without_the_tenant_setting_there_are_no_rows_and_with_it_only_the_tenants(
    app: &'static TestApp,
) {
    let tenant = app.tenant().await;
    tenant.fill(12).await;
    // The test uses one connection without a tenant, with one, and without one again.
    let mut connection = app.connect("palisade_app").await;
    assert_is_bound(&mut connection).await;
    let setting = "select current_setting('app.context', true)";

    let value: Option<String> = sqlx::query_scalar(setting)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(value, None);
    assert_sees_and_writes_nothing(&mut connection, &tenant, "never set").await;

    attempt(&mut connection, "begin".to_owned()).await.unwrap();
    let set = format!(
        "set local app.context = '{}'",
        tenant.context(UserRole::Owner)
    );
    attempt(&mut connection, set).await.unwrap();
    for TenantTable {
        name,
        tenant_column,
    } in tenant_tables(&mut connection).await
    {
        let all = count(&mut connection, &name, "true").await;
        let own = format!("{tenant_column} = '{}'", tenant.id.uuid());
        assert!(all > 0, "{name}: the tenant does not see its own rows");
        assert_eq!(all, count(&mut connection, &name, &own).await, "{name}");
    }
    attempt(&mut connection, "commit".to_owned()).await.unwrap();

    let value: Option<String> = sqlx::query_scalar(setting)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(
        value.as_deref(),
        Some(""),
        "the value that PostgreSQL keeps after SET LOCAL"
    );
    assert_sees_and_writes_nothing(&mut connection, &tenant, "set before").await;
}

#[apply(palisade_test)]
async fn only_the_trigger_writes_the_audit_log(app: &'static TestApp) {
    let tenant = app.tenant().await;
    tenant.seed(1, 1).await;
    let mut service = tenant.begin().await.0;
    let mut admin = app.connect("palisade_admin").await;
    let own = tenant.id.uuid();
    for connection in [&mut service, &mut admin] {
        assert!(count(connection, "audit_logs", &format!("tenant_id = '{own}'")).await > 0);
        for write in [
            insert_copy("audit_logs", &json!({ "id": Uuid::now_v7() })),
            format!("update audit_logs set action = 'forged' where tenant_id = '{own}'"),
            format!("delete from audit_logs where tenant_id = '{own}'"),
            "truncate audit_logs".to_owned(),
        ] {
            assert_eq!(
                attempt(connection, write.clone()).await,
                Err("42501".to_owned()),
                "{write}"
            );
        }
    }
}

#[apply(palisade_test)]
async fn no_row_changes_its_id_its_tenant_or_its_creation_time(app: &'static TestApp) {
    let tenant = app.tenant().await;
    tenant.fill(12).await;
    // The service's role has no right to update the table `tenants`.
    let mut service = tenant.begin().await.0;
    let mut admin = tenant.connect_as("palisade_admin", UserRole::Owner).await.0;
    let audited: Vec<String> = sqlx::query_scalar(
        "select c.relname::text from pg_trigger t join pg_class c on c.oid = t.tgrelid
         where t.tgname = 'record_change' and c.relnamespace = 'public'::regnamespace order by 1",
    )
    .fetch_all(&mut admin)
    .await
    .unwrap();
    assert!(audited.len() > 7, "{audited:?}");
    for table in tenant_tables(&mut admin).await {
        let TenantTable {
            name,
            tenant_column,
        } = &table;
        if !audited.contains(name) {
            continue;
        }
        // The first row does not belong to an issued invoice.
        let first = Table::read(&mut service, name).await.first();
        let target: Uuid = sqlx::query_scalar(sqlx::AssertSqlSafe(first))
            .fetch_one(&mut service)
            .await
            .unwrap();
        for role in ["palisade_app", "palisade_admin"] {
            let sql = match role {
                "palisade_app" if name == "tenants" => continue,
                "palisade_app" => &mut service,
                _ => &mut admin,
            };
            let target = format!(
                "{tenant_column} = '{}' and id = '{target}'",
                tenant.id.uuid()
            );
            let created = format!("{target} and created_at > '2001-01-02'");
            assert_eq!(count(sql, name, &created).await, 1, "{name}");
            // The first update also computes the totals of an invoice, which leaves an entry.
            let touch = format!("update {name} set created_at = created_at where {target}");
            assert_eq!(attempt(sql, touch).await, Ok(1), "{role}: {name}");
            let own = format!("tenant_id = '{}'", tenant.id.uuid());
            let entries = count(sql, "audit_logs", &own).await;
            for column in ["id", tenant_column] {
                let set = format!("update {name} set {column} = gen_random_uuid() where {target}");
                let done = attempt(sql, set.clone()).await;
                assert_eq!(done, Err("42501".to_owned()), "{role}: {set}");
            }
            let set = format!("update {name} set created_at = '2001-01-01' where {target}");
            assert_eq!(attempt(sql, set).await, Ok(1), "{role}: {name}");
            assert_eq!(count(sql, name, &created).await, 1, "{role}: {name}");
            let after = count(sql, "audit_logs", &own).await;
            assert_eq!(after, entries, "{role}: {name}");
        }
    }
}
