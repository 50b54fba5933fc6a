//! Every statement of an operation has a condition on the tenant, in addition to the policies of the tables.

use std::{collections::BTreeSet, fs, path::Path};

use macro_rules_attribute::apply;
use palisade::auth::role::UserRole;
use serde_json::json;
use uuid::Uuid;

use super::document;
use crate::{
    harness::{TRACE, Tenant, TenantTable, TestApp, palisade_test, tenant_tables},
    samples::{Rows, samples},
};

/// The statements that use no table of a tenant: a part of the statement, and the reason.
const WITHOUT_TENANT: [(&str, &str); 1] = [("from currencies", "all tenants share the currencies")];

/// Splits a statement into words, in lower case and without quotes. Every parenthesis and comma is a word.
fn words(statement: &str) -> Vec<String> {
    let mut spaced = String::new();
    for c in statement.to_lowercase().chars() {
        match c {
            '"' => {}
            '(' | ')' | ',' => spaced.extend([' ', c, ' ']),
            _ => spaced.push(c),
        }
    }
    spaced.split_whitespace().map(str::to_owned).collect()
}

/// Counts how often a statement reads or writes a table of a tenant.
fn uses_of_tables(words: &[String], tables: &[TenantTable]) -> usize {
    let is_use = |pair: &&[String]| {
        matches!(&*pair[0], "from" | "join" | "into" | "update")
            && tables.iter().any(|table| table.name == pair[1])
    };
    words.windows(2).filter(is_use).count()
}

/// Counts how often a statement names the tenant: in a predicate, or as a column of an insertion. A predicate compares
/// with a parameter, or with the id itself in the message that also commits.
fn names_of_tenant(words: &[String]) -> usize {
    let is_predicate = |three: &&[String]| {
        let column = three[0].rsplit('.').next().unwrap();
        column == "tenant_id" && three[1] == "=" && three[2].starts_with(['$', '\''])
    };
    let predicates = words.windows(3).filter(is_predicate).count();
    let is_column = |pair: &&[String]| pair[0] == "tenant_id" && matches!(&*pair[1], "," | ")");
    let inserted = words.iter().position(|word| word == "into").map(|into| {
        let columns = words[into..].split(|word| word == ")").next().unwrap();
        let end = into + columns.len() + 1;
        words[into..end].windows(2).filter(is_column).count()
    });
    // In the table of the tenants, the column is `id`.
    let is_own_id =
        |three: &[String]| three[0] == "id" && three[1] == "=" && three[2].starts_with('$');
    let own = words.iter().any(|word| word == "tenants") && words.windows(3).any(is_own_id);
    predicates + inserted.unwrap_or_default() + usize::from(own)
}

/// Panics if a statement uses tables of tenants without naming the tenant. Also panics if a statement uses no such
/// table and is not in [`WITHOUT_TENANT`].
fn check(statement: &str, tables: &[TenantTable], origin: &str) {
    let words = words(statement);
    let uses = uses_of_tables(&words, tables);
    if uses == 0 {
        let is_listed = |(part, _): &(&str, &str)| words.join(" ").contains(part);
        assert!(
            WITHOUT_TENANT.iter().any(is_listed),
            "{origin}: uses no table of a tenant: {statement}"
        );
        return;
    }
    assert_eq!(
        names_of_tenant(&words),
        uses,
        "{origin}: does not name the tenant for each table: {statement}"
    );
}

async fn tables() -> Vec<TenantTable> {
    let mut connection = TestApp::shared().await.connect("postgres").await;
    tenant_tables(&mut connection).await
}

#[apply(palisade_test)]
async fn every_statement_of_every_mutation_names_its_tenant(tenant: Tenant) {
    let tables = tables().await;
    let mut sql = tenant.begin().await;
    let mut seen = BTreeSet::new();
    for sample in samples() {
        let name = sample.name();
        let rows = Rows::insert(&tenant, &mut sql, UserRole::Owner).await;
        let document = document(sample.field);
        let variables = json!({ "input": (sample.input)(&rows) });
        // The second request repeats the change, so most mutations are rejected. Then the service also runs the
        // statements that find the reason.
        for _ in 0..2 {
            let key = Uuid::new_v4().to_string();
            let headers = [(TRACE, "1"), ("idempotency-key", key.as_str())];
            let reply = tenant.owner().send(&document, &variables, &headers).await;
            let statements = reply.response().statements();
            assert!(statements.len() > 1, "{name}: {statements:?}");
            for statement in statements {
                check(&statement, &tables, &name);
                seen.insert(statement);
            }
        }
    }
    assert!(seen.len() > 60, "only {} statements", seen.len());
}

#[apply(palisade_test)]
async fn every_statement_of_every_golden_document_names_its_tenant() {
    let tables = tables().await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/documents");
    let mut checked = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "snap") {
            continue;
        }
        // Another test compares these snapshots with the statements that the service sends.
        let snapshot = fs::read_to_string(&path).unwrap();
        let statements = snapshot.lines().filter(|line| line.starts_with("SELECT "));
        for statement in statements {
            check(statement, &tables, &path.display().to_string());
            checked += 1;
        }
    }
    assert!(checked > 60, "only {checked} statements");
}

#[apply(palisade_test)]
async fn a_statement_without_its_tenant_is_found() {
    let tables = tables().await;
    for statement in [
        r#"SELECT "id" FROM "projects" WHERE "id" = $1"#,
        r#"SELECT "id" FROM "projects" WHERE "tenant_id" = "id""#,
        r#"SELECT "id" FROM "tenants""#,
        r#"INSERT INTO "projects" ("id", "name") VALUES ($1, $2)"#,
        r#"DELETE FROM "comments" WHERE "project_id" = ANY($1)"#,
        r#"UPDATE "projects" SET "name" = $1 WHERE "id" = $2"#,
        r#"SELECT "id" FROM "invoices" WHERE "tenant_id" = $1 AND "id" IN (SELECT "invoice_id" FROM "invoice_line_items" WHERE "id" = $2)"#,
        "select 1",
    ] {
        let found = std::panic::catch_unwind(|| check(statement, &tables, "test"));
        assert!(found.is_err(), "{statement}");
    }
}
