//! Tests every mutation with samples: its audit entries, the roles that may run it, and that neither another
//! tenant nor a dry run changes a row.

use std::collections::BTreeSet;

use palisade::auth::role::UserRole;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Caller, FieldExt as _, Reply, Response, model};

mod dry_runs;
mod grid;
mod lifecycle;
mod owners;
mod permissions;
mod records;
mod statements;
mod tenants;

pub const ROLES: [UserRole; 5] = [
    UserRole::Owner,
    UserRole::Admin,
    UserRole::Member,
    UserRole::Billing,
    UserRole::Viewer,
];

/// A document with one mutation that selects everything in its payload.
fn document(field: &str) -> String {
    document_without(field, &BTreeSet::new())
}

/// Like [`document`], without the lists of the types in `hidden`.
fn document_without(field: &str, hidden: &BTreeSet<&str>) -> String {
    let mutation = model().mutation(field);
    let selection = model().selection_without(&mutation.type_name, 2, hidden);
    format!(
        "mutation {}($input: {}!) {{ {field}(input: $input) {{ {selection} }} }}",
        operation_name(field),
        mutation.input(),
    )
}

fn operation_name(field: &str) -> String {
    format!("Try_{field}")
}

/// Sends one mutation.
async fn send(caller: &Caller, document: &str, input: &Value, request: Uuid) -> Reply {
    let request = request.to_string();
    let headers = [("x-request-id", request.as_str())];
    caller
        .send(document, &json!({ "input": input }), &headers)
        .await
}

/// The payload of one root field, in a response without errors.
fn payload<'a>(response: &'a Response, field: &str) -> &'a Value {
    &response.data()[field]
}

/// `ok`, or the code of the first error.
fn outcome(response: &Response, field: &str) -> String {
    let payload = payload(response, field);
    match payload["userErrors"].as_array().unwrap().first() {
        None => "ok".to_owned(),
        Some(error) => error["code"].as_str().unwrap().to_owned(),
    }
}

/// Asserts that a mutation succeeded: its payload has the object or all results, and no user errors.
fn assert_done(response: &Response, field: &str) {
    let payload = payload(response, field).as_object().unwrap();
    assert_eq!(outcome(response, field), "ok", "{field}: {}", response.body);
    let mut shown = payload
        .iter()
        .filter(|(key, _)| !matches!(key.as_str(), "__typename" | "userErrors"));
    let (key, value) = shown.next().expect("a payload shows what was written");
    assert!(shown.next().is_none(), "{field}: {payload:?}");
    if key == "results" {
        let results = value.as_array().unwrap();
        assert!(!results.is_empty(), "{field}: {value}");
        for (index, result) in results.iter().enumerate() {
            assert_eq!(result["index"], index, "{field}: {value}");
            assert_eq!(result["userErrors"], json!([]), "{field}: {value}");
            let is_full = |of: &serde_json::Map<String, Value>| of.values().all(|of| !of.is_null());
            assert!(result.as_object().is_some_and(is_full), "{field}: {value}");
        }
    } else {
        assert!(value.is_object(), "{field}: {value}");
    }
}
