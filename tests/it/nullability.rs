//! What the schema says of nulls: a nullable field that is null only beside an error says so with
//! `@semanticNonNull`, and no other does.

use std::collections::BTreeSet;

use async_graphql::parser::{
    parse_schema,
    types::{FieldDefinition, TypeKind, TypeSystemDefinition},
};
use macro_rules_attribute::apply;
use palisade::auth::role::UserRole;
use serde_json::Value;
use sqlx::Row as _;

use crate::{
    harness::{TestApp, palisade_test},
    lists::{Field, Shape, column, fill, row_of, table},
};

/// The fields that cross to rows which the caller is in: no column of a row leads there.
const OF_THE_CALLER: [&str; 3] = ["Query.tenant", "Viewer.tenant", "Viewer.user"];
/// A comment has one of several references; the database holds that it is exactly one.
const ONE_OF_SEVERAL: [&str; 1] = ["Comment.subject"];

/// The fields of each object type in the SDL.
fn fields() -> Vec<(String, FieldDefinition)> {
    let document = parse_schema(palisade::api::sdl()).unwrap();
    let mut found = Vec::new();
    for definition in document.definitions {
        let TypeSystemDefinition::Type(definition) = definition else {
            continue;
        };
        let name = definition.node.name.node.to_string();
        if let TypeKind::Object(object) = definition.node.kind {
            let fields = object.fields.into_iter();
            found.extend(fields.map(|field| (name.clone(), field.node)));
        }
    }
    found
}

fn is_semantic(field: &FieldDefinition) -> bool {
    let mut directives = field.directives.iter();
    directives.any(|directive| directive.node.name.node == "semanticNonNull")
}

/// `Type.field` of all that say it.
fn said() -> BTreeSet<String> {
    let semantic = fields()
        .into_iter()
        .filter(|(_, field)| is_semantic(field))
        .map(|(of, field)| format!("{of}.{}", field.name.node));
    semantic.collect()
}

#[apply(palisade_test)]
async fn a_field_along_a_reference_that_is_never_null_says_so(app: &'static TestApp) {
    let tenant = app.tenant().await;
    let shape = Shape::of(tenant.owner()).await;
    let rows: BTreeSet<String> = shape
        .roots()
        .iter()
        .map(|list| row_of(list).to_owned())
        .collect();
    let mut sql = tenant.begin().await;
    let mut wanted: BTreeSet<String> = OF_THE_CALLER
        .iter()
        .chain(&ONE_OF_SEVERAL)
        .map(|&field| field.to_owned())
        .collect();
    for (of, field) in fields() {
        let (name, type_) = (&field.name.node, &field.ty.node);
        if !rows.contains(&of) || !type_.nullable || !field.arguments.is_empty() {
            continue;
        }
        let never_null = "select exists (
            select from pg_constraint c
            join pg_attribute a on a.attrelid = c.conrelid and a.attnum = any(c.conkey)
            where c.contype = 'f' and c.conrelid = $1::text::regclass and a.attname = $2 and a.attnotnull)";
        let found = sqlx::query(never_null)
            .bind(table(&of).0)
            .bind(format!("{}_id", column(name)))
            .fetch_one(&mut sql.0)
            .await
            .unwrap();
        if found.get(0) {
            wanted.insert(format!("{of}.{name}"));
        }
    }
    assert!(wanted.len() > 6, "{wanted:?}");
    assert_eq!(said(), wanted);
}

#[apply(palisade_test)]
async fn what_is_never_null_but_beside_an_error_is_there_for_every_role(app: &'static TestApp) {
    let tenant = app.tenant().await;
    fill(&tenant, 12).await;
    let shape = Shape::of(tenant.owner()).await;
    let mut seen = BTreeSet::new();
    for role in [
        UserRole::Owner,
        UserRole::Admin,
        UserRole::Member,
        UserRole::Billing,
        UserRole::Viewer,
    ] {
        let caller = tenant.caller(role);
        let answer = caller
            .query("{ tenant { __typename } viewer { tenant { __typename } user { __typename } } }")
            .await;
        let data = answer.data();
        for (of, object, field) in [
            ("Query", data, "tenant"),
            ("Viewer", &data["viewer"], "tenant"),
            ("Viewer", &data["viewer"], "user"),
        ] {
            assert_ne!(object[field], Value::Null, "{role:?}: {of}.{field}");
            seen.insert(format!("{of}.{field}"));
        }
        for root in shape.roots() {
            for field in of_row(&root) {
                let document = format!(
                    "{{ {}(first: 100) {{ nodes {{ {field} {{ __typename }} }} }} }}",
                    root.name
                );
                let answer = caller.query(&document).await;
                let nodes = answer.data()[&root.name]["nodes"].as_array().unwrap();
                assert!(nodes.len() >= 8, "{}: {} rows", root.name, nodes.len());
                for node in nodes {
                    let of = row_of(&root);
                    assert_ne!(node[&field], Value::Null, "{role:?}: {of}.{field}");
                    seen.insert(format!("{of}.{field}"));
                }
            }
        }
    }
    assert_eq!(seen, said());
}

/// The fields of a list's rows that say it.
fn of_row(root: &Field) -> Vec<String> {
    let semantic = fields()
        .into_iter()
        .filter(|(of, field)| of == row_of(root) && is_semantic(field))
        .map(|(_, field)| field.name.node.to_string());
    semantic.collect()
}
