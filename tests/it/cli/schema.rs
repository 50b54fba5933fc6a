//! `palisade schema`: the printed schema and its descriptions.

use std::path::Path;

use macro_rules_attribute::apply;
use serde_json::Value;

use super::run_palisade;
use crate::harness::{Tenant, palisade_test};

#[apply(palisade_test)]
async fn the_committed_schema_is_up_to_date() {
    let printed = run_palisade(&["schema"]).await.success();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema.graphql");
    let committed = std::fs::read_to_string(path).unwrap();
    assert!(
        printed == committed,
        "schema.graphql is out of date: run `cargo run -- schema > schema.graphql` and commit it"
    );
}

#[apply(palisade_test)]
async fn every_element_of_the_schema_has_a_description(tenant: Tenant) {
    let response = tenant
        .owner()
        .query(
            "{ __schema { types { name description
               fields(includeDeprecated: true) { name description args { name description } }
               inputFields { name description }
               enumValues(includeDeprecated: true) { name description } } } }",
        )
        .await;
    let mut undescribed = Vec::new();
    let mut check = |element: &Value, path: String| {
        if element["description"]
            .as_str()
            .is_none_or(|description| description.trim().is_empty())
        {
            undescribed.push(path);
        }
    };
    let types = response.data()["__schema"]["types"].as_array().unwrap();
    for kind in types {
        let name = kind["name"].as_str().unwrap();
        // Skip the types of the specification.
        if name.starts_with("__") || ["Boolean", "Float", "ID", "Int", "String"].contains(&name) {
            continue;
        }
        check(kind, name.to_owned());
        for member in ["fields", "inputFields", "enumValues"] {
            for field in kind[member].as_array().into_iter().flatten() {
                let path = format!("{name}.{}", field["name"].as_str().unwrap());
                check(field, path.clone());
                for argument in field["args"].as_array().into_iter().flatten() {
                    check(
                        argument,
                        format!("{path}({})", argument["name"].as_str().unwrap()),
                    );
                }
            }
        }
    }
    assert!(types.len() > 50, "{}", types.len());
    assert_eq!(undescribed, Vec::<String>::new());
}
