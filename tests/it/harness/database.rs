//! The private PostgreSQL of the tests, its databases, and SQL on them.

use std::{
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::LazyLock,
};

use palisade::embedded::{self, Embedded};
use serde_json::Value;
use sqlx::{Connection as _, PgConnection, Row as _};
use uuid::Uuid;

use super::{app::TestApp, context::migrate};

/// A directory below `target/` for a test's files, or below the system's temporary directory if the account
/// that runs PostgreSQL for root cannot enter `target/`.
pub async fn scratch(name: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    match embedded::check_reachable(target, None).await {
        Ok(()) => target.join(name),
        Err(_) => AWAY.join(name),
    }
}

/// A directory below the system's temporary directory. It is removed when this process ends.
static AWAY: LazyLock<PathBuf> = LazyLock::new(|| {
    let dir = std::env::temp_dir().join(format!("palisade-tests-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    // The account that runs PostgreSQL must be able to enter it.
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    // The script's input ends with this process. PostgreSQL is still stopping then, so the script tries several times.
    let script = r#"read -r _; i=0
        while [ -e "$0" ] && [ "$i" -lt 100 ]; do rm -rf "$0" 2>/dev/null; i=$((i+1)); sleep 0.1; done"#;
    let cleaner = Command::new("/bin/sh")
        .args(["-c", script])
        .arg(&dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    // Keep the script's input open until this process ends.
    std::mem::forget(cleaner);
    dir
});

/// Starts the tests' cluster and creates a migrated database in it.
pub(super) async fn database() -> (Embedded, String) {
    let server = Embedded::start(&embedded::Options {
        data_dir: scratch("postgres").await,
        durable: false,
        bin_dir: None,
        user: None,
        cache_dir: None,
        archive_url: None,
    })
    .await
    .unwrap();
    let postgres = server.url("postgres", "postgres");
    let mut connection = PgConnection::connect(&postgres).await.unwrap();
    drop_old_databases(&mut connection).await;
    let database = format!("palisade_test_{}", Uuid::now_v7().simple());
    create_database(&mut connection, &database).await;
    migrate(&server.url("postgres", &database)).await;
    (server, database)
}

pub async fn create_database(connection: &mut PgConnection, name: &str) {
    let sql = format!("create database {name}");
    sqlx::query(sqlx::AssertSqlSafe(sql))
        .execute(connection)
        .await
        .unwrap();
}

/// Drops the databases of earlier runs. Keeps those with connections: they belong to runs in progress.
async fn drop_old_databases(connection: &mut PgConnection) {
    let old: Vec<String> = sqlx::query_scalar(
        "select datname::text from pg_database d where datname like 'palisade\\_test\\_%'
         and not exists (select from pg_stat_activity a where a.datid = d.oid)",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    for name in old {
        let sql = format!("drop database if exists {name}");
        sqlx::query(sqlx::AssertSqlSafe(sql))
            .execute(&mut *connection)
            .await
            .ok();
    }
}

/// A connection in the context of a tenant.
pub struct TenantSql(pub PgConnection);

/// Runs a statement. Returns the number of affected rows, or the SQLSTATE of the error.
pub async fn attempt(connection: &mut PgConnection, sql: String) -> Result<u64, String> {
    match sqlx::raw_sql(sqlx::AssertSqlSafe(sql.clone()))
        .execute(connection)
        .await
    {
        Ok(done) => Ok(done.rows_affected()),
        Err(sqlx::Error::Database(error)) => Err(error.code().unwrap().into_owned()),
        Err(error) => panic!("{sql}: {error}"),
    }
}

/// Locks a table until the connection rolls back or is dropped.
pub async fn lock_table(app: &TestApp, table: &str) -> PgConnection {
    let mut holder = app.connect("postgres").await;
    let lock = format!("begin; lock table {table} in access exclusive mode");
    attempt(&mut holder, lock).await.unwrap();
    holder
}

/// A statement that inserts a copy of the first row that the caller sees, with other values in some columns.
pub fn insert_copy(table: &str, with: &Value) -> String {
    let with = with.to_string().replace('\'', "''");
    format!(
        "insert into {table}
         select (jsonb_populate_record(null::{table}, to_jsonb(row) || '{with}')).*
         from {table} row order by row.id limit 1"
    )
}

/// A table whose rows belong to tenants.
#[derive(Clone, Debug)]
pub struct TenantTable {
    pub name: String,
    /// The column with the tenant's id: `id` in the table `tenants`, `tenant_id` in all others.
    pub tenant_column: String,
}

/// Reads from the database's catalogue which tables have rows that belong to tenants.
pub async fn tenant_tables(connection: &mut PgConnection) -> Vec<TenantTable> {
    let rows = sqlx::query(
        "select c.oid::regclass::text, coalesce(a.attname, 'id')::text
         from pg_class c
         join pg_namespace n on n.oid = c.relnamespace
         left join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
         where c.relkind in ('r', 'p') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
           and (a.attname is not null or c.oid = 'public.tenants'::regclass)
         order by 1",
    )
    .fetch_all(connection)
    .await
    .unwrap();
    rows.iter()
        .map(|row| TenantTable {
            name: row.get(0),
            tenant_column: row.get(1),
        })
        .collect()
}

/// Deletes the rows of the canary, for a test of every row of a database. A superuser runs it.
pub const REMOVE_CANARY: &str = "do $$
    declare
        rows_of text;
    begin
        set local session_replication_role = replica;
        for rows_of in
            select attrelid::regclass || ' where tenant_id' from pg_attribute
             where attname = 'tenant_id' and attrelid in (select oid from pg_class where relkind = 'r')
             union all select 'tenants where id'
        loop
            execute format('delete from %s = app.canary_id(0)', rows_of);
        end loop;
    end $$";

/// Removes the effect of the tenant predicate on a table: replaces the table by a view whose column `tenant_id` is
/// always the tenant of the caller. The table gets the name `…_rows`. Its policies apply to the caller as before.
pub async fn without_predicate(app: &TestApp, table: &str) {
    let steps = format!(
        "alter table {table} rename to {table}_rows;
         do $$ begin execute (
             select format('create view {table} with (security_invoker = true) as select %s from {table}_rows',
                           string_agg(case attname when 'tenant_id' then 'app.tenant_id() as tenant_id'
                                      else quote_ident(attname) end, ', ' order by attnum))
               from pg_attribute where attrelid = '{table}_rows'::regclass and attnum > 0 and not attisdropped);
         end $$;
         alter view {table} owner to palisade_owner;
         grant select, insert, update, delete on {table} to palisade_app, palisade_admin"
    );
    let mut superuser = app.connect("postgres").await;
    attempt(&mut superuser, steps).await.unwrap();
}
