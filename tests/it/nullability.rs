//! `@semanticNonNull`: a nullable field has this directive exactly if the field is null only after an error.

use std::collections::BTreeSet;

use macro_rules_attribute::apply;
use palisade::auth::role::UserRole;
use serde_json::Value;
use sqlx::Row as _;

use crate::harness::{Field, FieldExt, Kind, Tenant, entity, model, palisade_test, snake_case};

/// The fields that return the caller's user or tenant. No column refers to these rows.
const OF_THE_CALLER: [&str; 3] = ["Query.tenant", "Viewer.tenant", "Viewer.user"];
/// The fields that read one of several columns. A check constraint requires that exactly one column has a value.
const ONE_OF_SEVERAL: [&str; 1] = ["Comment.subject"];

/// The fields of each object type.
fn fields() -> impl Iterator<Item = (&'static str, &'static Field)> {
    let objects = model().types().filter(|of| of.kind == Kind::Object);
    objects.flat_map(|of| of.fields.iter().map(|field| (of.name.as_str(), field)))
}

/// Every field with the directive, as `Type.field`.
fn with_directive() -> BTreeSet<String> {
    let fields = fields().filter(|(_, field)| field.is_semantic_non_null());
    fields
        .map(|(of, field)| format!("{of}.{}", field.name))
        .collect()
}

#[apply(palisade_test)]
async fn a_field_for_a_reference_that_is_never_null_has_the_directive(tenant: Tenant) {
    let rows: BTreeSet<&str> = model().root_lists().map(FieldExt::row).collect();
    let mut sql = tenant.begin().await;
    let mut wanted: BTreeSet<String> = OF_THE_CALLER
        .iter()
        .chain(&ONE_OF_SEVERAL)
        .map(|&field| field.to_owned())
        .collect();
    for (of, field) in fields() {
        let name = &field.name;
        if !rows.contains(of) || !field.is_nullable() || !field.args.is_empty() {
            continue;
        }
        let never_null = "select exists (
            select from pg_constraint c
            join pg_attribute a on a.attrelid = c.conrelid and a.attnum = any(c.conkey)
            where c.contype = 'f' and c.conrelid = $1::text::regclass and a.attname = $2 and a.attnotnull)";
        let found = sqlx::query(never_null)
            .bind(entity(of).table)
            .bind(format!("{}_id", snake_case(name)))
            .fetch_one(&mut sql.0)
            .await
            .unwrap();
        if found.get(0) {
            wanted.insert(format!("{of}.{name}"));
        }
    }
    assert!(wanted.len() > 6, "{wanted:?}");
    assert_eq!(with_directive(), wanted);
}

#[apply(palisade_test)]
async fn a_field_with_the_directive_is_not_null_for_any_role(tenant: Tenant) {
    tenant.fill(12).await;
    let mut seen = BTreeSet::new();
    for role in [
        UserRole::Owner,
        UserRole::Admin,
        UserRole::Member,
        UserRole::Billing,
        UserRole::Viewer,
    ] {
        let caller = tenant.caller(role);
        let response = caller
            .query("{ tenant { __typename } viewer { tenant { __typename } user { __typename } } }")
            .await;
        let data = response.data();
        for (of, object, field) in [
            ("Query", data, "tenant"),
            ("Viewer", &data["viewer"], "tenant"),
            ("Viewer", &data["viewer"], "user"),
        ] {
            assert_ne!(object[field], Value::Null, "{role:?}: {of}.{field}");
            seen.insert(format!("{of}.{field}"));
        }
        for root in model().root_lists() {
            for field in of_row(root) {
                let document = format!(
                    "{{ {}(first: 100) {{ nodes {{ {field} {{ __typename }} }} }} }}",
                    root.name
                );
                let response = caller.query(&document).await;
                let nodes = response.data()[root.name.as_str()]["nodes"]
                    .as_array()
                    .unwrap();
                assert!(nodes.len() >= 8, "{}: {} rows", root.name, nodes.len());
                for node in nodes {
                    let of = root.row();
                    assert_ne!(node[&field], Value::Null, "{role:?}: {of}.{field}");
                    seen.insert(format!("{of}.{field}"));
                }
            }
        }
    }
    assert_eq!(seen, with_directive());
}

/// The fields with the directive in the type of a list's rows.
fn of_row(root: &Field) -> Vec<String> {
    let fields = model().fields(root.row()).iter();
    let fields = fields.filter(|field| field.is_semantic_non_null());
    fields.map(|field| field.name.clone()).collect()
}
