//! Every mutation, by a sample of each: what it records, who may do it, and that neither another
//! tenant nor a dry run leaves a trace.
//!
//! What there is to try is computed from the schema: a mutation without a sample fails the tests.

use palisade::auth::role::UserRole;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    cross_tenant::{Schema, array, named},
    harness::{Answer, Caller, Reply, Tenant, TestApp},
};

mod dry_runs;
mod grid;
mod lifecycle;
mod owners;
mod records;
pub mod samples;
mod statements;
mod tenants;

pub const ROLES: [UserRole; 5] = [
    UserRole::Owner,
    UserRole::Admin,
    UserRole::Member,
    UserRole::Billing,
    UserRole::Viewer,
];

/// A new tenant, and the schema that its owner sees.
async fn tenant_and_schema() -> (Tenant, Schema) {
    let tenant = TestApp::shared().await.tenant().await;
    let schema = Schema::of(tenant.owner()).await;
    (tenant, schema)
}

/// A mutation of one root field, named after it, with all that its payload can show.
fn document(schema: &Schema, field: &str) -> String {
    let of = of_mutation(schema, field);
    let input = named(&array(&of["args"])[0]["type"]);
    let selection = schema.selection(named(&of["type"]), 2);
    format!(
        "mutation {}($input: {input}!) {{ {field}(input: $input) {{ {selection} }} }}",
        operation_name(field)
    )
}

fn operation_name(field: &str) -> String {
    format!("Try_{field}")
}

/// A mutation as the schema tells it. Its only argument is its input.
fn of_mutation<'s>(schema: &'s Schema, field: &str) -> &'s Value {
    let mut fields = schema.fields("Mutation").iter();
    let of = fields.find(|of| of["name"] == field).unwrap();
    let arguments: Vec<&Value> = array(&of["args"]).iter().map(|of| &of["name"]).collect();
    assert_eq!(arguments, ["input"], "{field}");
    of
}

/// Sends one mutation.
async fn send(caller: &Caller, document: &str, input: &Value, request: Uuid) -> Reply {
    let request = request.to_string();
    let headers = [("x-request-id", request.as_str())];
    caller
        .send(document, &json!({ "input": input }), &headers)
        .await
}

/// The payload of one root field, in an answer without errors.
fn payload<'a>(answer: &'a Answer, field: &str) -> &'a Value {
    &answer.data()[field]
}

/// `ok`, or the code of the first error.
fn outcome(answer: &Answer, field: &str) -> String {
    let payload = payload(answer, field);
    match array(&payload["userErrors"]).first() {
        None => "ok".to_owned(),
        Some(error) => error["code"].as_str().unwrap().to_owned(),
    }
}

/// Asserts that a mutation was done: its object is there, or each of its results, and no error is.
fn assert_done(answer: &Answer, field: &str) {
    let payload = payload(answer, field).as_object().unwrap();
    assert_eq!(outcome(answer, field), "ok", "{field}: {}", answer.body);
    let mut shown = payload
        .iter()
        .filter(|(key, _)| !matches!(key.as_str(), "__typename" | "userErrors"));
    let (key, value) = shown.next().expect("a payload shows what was written");
    assert!(shown.next().is_none(), "{field}: {payload:?}");
    if key == "results" {
        assert!(!array(value).is_empty(), "{field}: {value}");
        for (index, result) in array(value).iter().enumerate() {
            assert_eq!(result["index"], index, "{field}: {value}");
            assert_eq!(result["userErrors"], json!([]), "{field}: {value}");
            let is_full = |of: &serde_json::Map<String, Value>| of.values().all(|of| !of.is_null());
            assert!(result.as_object().is_some_and(is_full), "{field}: {value}");
        }
    } else {
        assert!(value.is_object(), "{field}: {value}");
    }
}
