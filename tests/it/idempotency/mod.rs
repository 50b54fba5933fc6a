//! A repeated request returns the first response, byte for byte, and runs once.

mod bulk;
mod dry_runs;
mod kept;
mod keys;

use serde_json::{Value, json};

use crate::harness::{Caller, Reply, Tenant, mutation};

const REPLAYED: &str = "idempotency-replayed";

async fn with_key(caller: &Caller, name: &str, input: &Value, key: &str) -> Reply {
    let selection = match name {
        "createOrganization" => "organization { id name slug version createdAt }",
        "createComment" => "comment { id body createdAt }",
        _ => "",
    };
    let variables = json!({ "input": input });
    let headers = [("idempotency-key", key)];
    caller
        .send(&mutation(name, selection), &variables, &headers)
        .await
}

fn is_replayed(reply: &Reply) -> bool {
    match reply.header(REPLAYED) {
        None => false,
        Some(value) => {
            assert_eq!(value, "true");
            true
        }
    }
}

async fn count(tenant: &Tenant, table: &str) -> i64 {
    let sql = format!("select count(*) from {table} where tenant_id = $1");
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
        .bind(tenant.id)
        .fetch_one(&mut tenant.app.connect("postgres").await)
        .await
        .unwrap()
}
