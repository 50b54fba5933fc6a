//! Every constraint that a mutation can violate has a message for the client.

use std::collections::BTreeSet;

use macro_rules_attribute::apply;
use palisade::{db::write::ConstraintRule, entities::ENTITIES};
use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::{
    create,
    harness::{TestApp, attempt, palisade_test},
    samples::SLICES,
};

/// The names of a table's check, unique, foreign key and exclusion constraints.
async fn of_table(postgres: &mut PgConnection, table: &str) -> BTreeSet<String> {
    let found = sqlx::query_scalar(
        "select conname::text from pg_constraint
         where conrelid = $1::text::regclass and contype in ('c', 'u', 'f', 'x')",
    );
    let found: Vec<String> = found.bind(table).fetch_all(postgres).await.unwrap();
    found.into_iter().collect()
}

/// The foreign keys that refer to a table and reject the deletion of a row to which another row refers.
async fn of_referrers(postgres: &mut PgConnection, table: &str) -> BTreeSet<String> {
    let found = sqlx::query_scalar(
        "select conname::text from pg_constraint
         where confrelid = $1::text::regclass and contype = 'f' and confdeltype in ('a', 'r')",
    );
    let found: Vec<String> = found.bind(table).fetch_all(postgres).await.unwrap();
    found.into_iter().collect()
}

fn named(rules: &[ConstraintRule]) -> BTreeSet<String> {
    rules
        .iter()
        .map(|rule| rule.constraint.to_owned())
        .collect()
}

/// The names of the rules that trigger functions enforce. They raise these names like names of constraints.
const RAISED: [&str; 4] = [
    "invoices_transition",
    "invoices_frozen",
    "invoices_has_lines",
    "users_last_owner",
];

#[apply(palisade_test)]
async fn every_constraint_that_a_mutation_can_violate_has_a_message(app: &'static TestApp) {
    let mut postgres = app.connect("postgres").await;
    let inviolable = SLICES.iter().flat_map(|slice| slice.inviolable);
    let mut inviolable: BTreeSet<String> = inviolable.map(|(name, _)| (*name).to_owned()).collect();
    let mut silent = Vec::new();
    for (table, rules, _) in SLICES.iter().flat_map(|slice| slice.rules) {
        let in_database = of_table(&mut postgres, table).await;
        let with_message = named(rules);
        for constraint in &in_database {
            match (
                with_message.contains(constraint),
                inviolable.remove(constraint),
            ) {
                (true, false) | (false, true) => {}
                (false, false) => silent.push(constraint.clone()),
                (true, true) => panic!("{constraint} has a message and cannot be violated"),
            }
        }
        let unknown: Vec<_> = with_message
            .difference(&in_database)
            .filter(|name| !RAISED.contains(&name.as_str()))
            .collect();
        assert!(unknown.is_empty(), "{table} has no {unknown:?}");
    }
    assert!(silent.is_empty(), "without a message: {silent:?}");
    assert!(inviolable.is_empty(), "not in the database: {inviolable:?}");
}

#[apply(palisade_test)]
async fn every_table_that_mutations_write_has_its_rules_in_the_samples(app: &'static TestApp) {
    let mut postgres = app.connect("postgres").await;
    let mut written = BTreeSet::new();
    for entity in ENTITIES {
        let may_insert = "select has_table_privilege('palisade_app', $1, 'insert')";
        let may_insert: bool = sqlx::query_scalar(may_insert)
            .bind(entity.table)
            .fetch_one(&mut postgres)
            .await
            .unwrap();
        if may_insert {
            written.insert(entity.table);
        }
    }
    let rules = SLICES.iter().flat_map(|slice| slice.rules);
    let tables: BTreeSet<&str> = rules.map(|(table, ..)| *table).collect();
    assert_eq!(tables, written);
}

#[apply(palisade_test)]
async fn every_rule_of_a_reference_names_a_key_that_prevents_a_deletion(app: &'static TestApp) {
    let mut postgres = app.connect("postgres").await;
    for (table, _, referrers) in SLICES.iter().flat_map(|slice| slice.rules) {
        let in_database = of_referrers(&mut postgres, table).await;
        let named = named(referrers);
        assert!(named.is_subset(&in_database), "{table}: {named:?}");
    }
}

#[apply(palisade_test)]
async fn a_reference_without_a_rule_rejects_the_deletion_by_the_name_of_its_table(
    app: &'static TestApp,
) {
    let app = app
        .in_own_database(&[
            "set role palisade_owner",
            "create table spare_parts (tenant_id uuid not null, product_id uuid not null,
                 constraint spare_parts_product_fkey foreign key (tenant_id, product_id)
                     references products (tenant_id, id))",
            "reset role",
        ])
        .await;
    let acme = app.tenant().await;
    let owner = acme.owner();
    let product = create::product(owner).await;
    let mut postgres = app.connect("postgres").await;
    let refer = "insert into spare_parts select tenant_id, id from products";
    attempt(&mut postgres, refer.to_owned()).await.unwrap();

    let delete = || owner.mutate("deleteProduct", json!({ "id": product }), "product { id }");
    let payload = delete().await;
    let message = "is still used by spare parts: delete the spare parts first";
    assert_eq!(payload["product"], Value::Null);
    assert_eq!(
        payload["userErrors"],
        json!([{ "code": "INVALID_STATE", "field": ["input", "id"], "message": message }])
    );

    attempt(&mut postgres, "delete from spare_parts".to_owned())
        .await
        .unwrap();
    assert_eq!(delete().await["product"], json!({ "id": product }));
    app.drop_database().await;
}
