//! The seals of the audit log: how they are created, and that `palisade audit verify` detects changes that were made
//! outside the service.

mod blinding;
mod heads;
mod sealing;
mod verify;

use sqlx::PgConnection;

use crate::{
    cli::{CommandResult, palisade, run_to_exit},
    harness::{Tenant, attempt},
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
    one(connection, "select sealed_rows from app.seal_audit_log()").await
}

/// Makes another change that the audit log records.
async fn write(connection: &mut PgConnection) {
    let sql = "update products set title = 'Product ' || gen_random_uuid()";
    assert!(attempt(connection, sql.to_owned()).await.unwrap() > 0);
}

async fn verify(tenant: &Tenant, options: &[&str]) -> CommandResult {
    let url = tenant.app.database_url("palisade_admin");
    let mut command = palisade(&["audit", "verify", "--tenant", &tenant.slug]);
    command.args(options).args(["--admin-database-url", &url]);
    run_to_exit(command).await
}

/// The head that `verify` printed: the hash at the end of its output.
fn head(stdout: &str) -> &str {
    let head = stdout.trim_end().rsplit(' ').next().unwrap();
    assert_eq!(head.len(), 64, "{stdout}");
    head
}

/// Runs `verify`. Returns its findings: all lines of its output except the summary in the last line.
async fn findings(tenant: &Tenant, options: &[&str]) -> Vec<String> {
    let result = verify(tenant, options).await;
    let mut lines: Vec<String> = result.stdout.lines().map(str::to_owned).collect();
    let closing = lines.pop().unwrap();
    assert!(closing.starts_with("rows "), "{result:?}");
    if lines.is_empty() {
        assert_eq!((result.code, &*result.stderr), (Some(0), ""), "{result:?}");
    } else {
        let expected = format!(
            "the audit log of {} was tampered with, findings: {}",
            tenant.slug,
            lines.len()
        );
        assert_eq!(result.error_line(1), expected);
    }
    lines
}
