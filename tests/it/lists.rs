//! Functions for the tests of lists. They read rows with SQL and pages through the API.

use serde_json::{Value, json};
use sqlx::Row as _;

use crate::harness::{Caller, Field, FieldExt as _, Response, Tenant, entity, id};

/// The API's ids of rows, in the order in which PostgreSQL returns them. `rest` is the end of the query.
pub async fn ids_by_sql(tenant: &Tenant, row: &str, rest: &str) -> Vec<String> {
    let entity = entity(row);
    let mut sql = tenant.begin().await;
    let text = format!("select id from {} {rest}", entity.table);
    let rows = sqlx::query(sqlx::AssertSqlSafe(text))
        .fetch_all(&mut sql.0)
        .await
        .unwrap();
    rows.iter()
        .map(|row| id(entity.id_prefix, row.get(0)))
        .collect()
}

/// Every row of a table as JSON, by column.
pub async fn rows_by_sql(tenant: &Tenant, row: &str) -> Vec<Value> {
    let mut sql = tenant.begin().await;
    let text = format!("select to_jsonb(t)::text from {} t", entity(row).table);
    let rows: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(text))
        .fetch_all(&mut sql.0)
        .await
        .unwrap();
    rows.iter()
        .map(|row| serde_json::from_str(row).unwrap())
        .collect()
}

/// Asserts that the service rejected the input of an operation before it ran any SQL.
pub fn assert_rejected(response: &Response, message: &str) {
    assert_eq!(response.code(), "BAD_USER_INPUT", "{}", response.body);
    let found = response.body["errors"][0]["message"].as_str().unwrap();
    assert!(
        found.contains(message),
        "{found:?} does not contain {message:?}"
    );
    // A request that was not executed has no entry `data`, and no cost.
    if response.body.get("data").is_some() {
        assert_eq!(response.round_trips(), 0);
    }
}

/// Requests a list. The variables are `$f` (filter), `$o` (order), `$a` (after) and `$b` (before).
pub async fn list(caller: &Caller, list: &Field, page: &str, variables: Value) -> Response {
    let (name, filter, order) = (&list.name, list.filter(), list.order());
    let document = format!(
        "query ($f: {filter}, $o: [{order}!], $a: String, $b: String) {{
            list: {name}({page}, filter: $f, orderBy: $o, after: $a, before: $b) {{
                edges {{ cursor node {{ id }} }}
                nodes {{ id }}
                pageInfo {{ hasNextPage hasPreviousPage startCursor endCursor }}
            }}
        }}"
    );
    caller.graphql(&document, variables).await
}

/// The ids of a page.
pub fn ids(connection: &Value) -> Vec<String> {
    connection["edges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|edge| edge["node"]["id"].as_str().unwrap().to_owned())
        .collect()
}

/// Converts terms such as `"NAME ASC"` to the argument `orderBy`.
pub fn order_by(terms: &[String]) -> Value {
    terms
        .iter()
        .map(|term| {
            let (field, direction) = term.split_once(' ').unwrap();
            json!({ "field": field, "direction": direction })
        })
        .collect()
}
