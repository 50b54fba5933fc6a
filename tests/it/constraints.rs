//! Every constraint that a mutation can violate says to the client what is wrong.

use std::collections::BTreeSet;

use macro_rules_attribute::apply;
use palisade::{
    comments::Comment,
    db::{
        entity::Entity as _,
        write::{ConstraintRule, Writable as _},
    },
    invoices::{Invoice, InvoiceLineItem},
    organizations::Organization,
    products::Product,
    projects::Project,
    users::User,
};
use sqlx::PgConnection;

use crate::harness::{TestApp, palisade_test};

/// Constraints that no mutation can violate, each with the reason.
const HELD: [(&str, &str); 24] = [
    ("comments_author_fkey", "the author is the caller"),
    ("comments_one_subject", "the subject is one id"),
    (
        "invoice_line_items_amount_adds_up",
        "the database works it out",
    ),
    (
        "invoice_line_items_currency_fkey",
        "it is that of the invoice",
    ),
    (
        "invoice_line_items_invoice_fkey",
        "the invoice was locked before",
    ),
    (
        "invoice_line_items_position_key",
        "counted under the invoice's lock",
    ),
    ("invoice_line_items_position_positive", "counted from 1"),
    (
        "invoices_issued_has_number",
        "the database gives the number",
    ),
    ("invoices_number_key", "the database gives the number"),
    ("invoices_number_length", "the database gives the number"),
    ("invoices_status_known", "an enum"),
    ("invoices_total_adds_up", "the database works it out"),
    ("organizations_status_known", "an enum"),
    ("organizations_tenant_fkey", "the tenant is the caller's"),
    ("products_price_has_currency", "one input holds both"),
    ("products_status_known", "an enum"),
    ("products_tenant_fkey", "the tenant is the caller's"),
    ("projects_archived_from_archived", "set with the status"),
    ("projects_archived_from_known", "set with the status"),
    ("projects_status_known", "an enum"),
    ("users_identity_fkey", "no mutation sets it"),
    ("users_role_known", "an enum"),
    ("users_status_known", "an enum"),
    ("users_tenant_fkey", "the tenant is the caller's"),
];

/// The checks, uniques and foreign keys of a table.
async fn of_table(postgres: &mut PgConnection, table: &str) -> BTreeSet<String> {
    let found = sqlx::query_scalar(
        "select conname::text from pg_constraint
         where conrelid = $1::text::regclass and contype in ('c', 'u', 'f', 'x')",
    );
    let found: Vec<String> = found.bind(table).fetch_all(postgres).await.unwrap();
    found.into_iter().collect()
}

/// The foreign keys of other rows that stop a deletion from a table.
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

/// Rules that are raised by a function under a name of their own, not by a constraint.
const RAISED: [&str; 4] = [
    "invoices_transition",
    "invoices_frozen",
    "invoices_has_lines",
    "users_last_owner",
];

#[apply(palisade_test)]
async fn every_constraint_that_a_mutation_can_violate_has_its_words() {
    let mut postgres = TestApp::shared().await.connect("postgres").await;
    let mut held: BTreeSet<String> = HELD.iter().map(|(name, _)| (*name).to_owned()).collect();
    let mut silent = Vec::new();
    for (table, rules) in [
        (User::TABLE, User::RULES),
        (Organization::TABLE, Organization::RULES),
        (Project::TABLE, Project::RULES),
        (Product::TABLE, Product::RULES),
        (Invoice::TABLE, Invoice::RULES),
        (InvoiceLineItem::TABLE, InvoiceLineItem::RULES),
        (Comment::TABLE, Comment::RULES),
    ] {
        let there = of_table(&mut postgres, table).await;
        let spoken = named(rules);
        for constraint in &there {
            match (spoken.contains(constraint), held.remove(constraint)) {
                (true, false) | (false, true) => {}
                (false, false) => silent.push(constraint.clone()),
                (true, true) => panic!("{constraint} is both held and spoken of"),
            }
        }
        let made_up: Vec<_> = spoken
            .difference(&there)
            .filter(|name| !RAISED.contains(&name.as_str()))
            .collect();
        assert!(made_up.is_empty(), "{table} has no {made_up:?}");
    }
    assert!(silent.is_empty(), "without words: {silent:?}");
    assert!(held.is_empty(), "not there any more: {held:?}");
}

#[apply(palisade_test)]
async fn every_reference_that_stops_a_deletion_has_its_words() {
    let mut postgres = TestApp::shared().await.connect("postgres").await;
    for (table, rules) in [
        (Organization::TABLE, Organization::REFERRERS),
        (Project::TABLE, Project::REFERRERS),
        (Product::TABLE, Product::REFERRERS),
        (Comment::TABLE, Comment::REFERRERS),
        (InvoiceLineItem::TABLE, InvoiceLineItem::REFERRERS),
    ] {
        let there = of_referrers(&mut postgres, table).await;
        assert_eq!(named(rules), there, "{table}");
    }
}
