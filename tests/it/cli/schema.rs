//! `palisade schema`: the printed schema and its descriptions.

use std::path::Path;

use macro_rules_attribute::apply;
use serde_json::Value;

use super::run_command;
use crate::harness::{Tenant, palisade_test};

#[apply(palisade_test)]
async fn the_committed_schema_is_the_one_that_is_printed() {
    let printed = run_command(&["schema"]).await.ok();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema.graphql");
    let committed = std::fs::read_to_string(path).unwrap();
    assert!(
        printed == committed,
        "schema.graphql is out of date: run `cargo run -- schema > schema.graphql` and commit it"
    );
}

#[apply(palisade_test)]
async fn everything_in_the_schema_is_described(tenant: Tenant) {
    let answer = tenant
        .owner()
        .query(
            "{ __schema { types { name description
               fields(includeDeprecated: true) { name description args { name description } }
               inputFields { name description }
               enumValues(includeDeprecated: true) { name description } } } }",
        )
        .await;
    let mut bare = Vec::new();
    let mut look = |thing: &Value, path: String| {
        if thing["description"]
            .as_str()
            .is_none_or(|text| text.trim().is_empty())
        {
            bare.push(path);
        }
    };
    let types = answer.data()["__schema"]["types"].as_array().unwrap();
    for kind in types {
        let name = kind["name"].as_str().unwrap();
        // Those of the specification.
        if name.starts_with("__") || ["Boolean", "Float", "ID", "Int", "String"].contains(&name) {
            continue;
        }
        look(kind, name.to_owned());
        for member in ["fields", "inputFields", "enumValues"] {
            for field in kind[member].as_array().into_iter().flatten() {
                let path = format!("{name}.{}", field["name"].as_str().unwrap());
                look(field, path.clone());
                for argument in field["args"].as_array().into_iter().flatten() {
                    look(
                        argument,
                        format!("{path}({})", argument["name"].as_str().unwrap()),
                    );
                }
            }
        }
    }
    assert!(types.len() > 50, "{}", types.len());
    assert_eq!(bare, Vec::<String>::new());
}
