//! Filters: every field with every operator. A predicate in Rust over the unfiltered rows gives the expected result.

mod operators;
mod rejected;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    harness::{Caller, Field, FieldExt as _, Response, Tenant, id_of},
    lists::rows_by_sql,
};

/// The list under test, with all its rows from the database.
struct Subject<'t> {
    caller: &'t Caller,
    list: &'t Field,
    rows: Vec<Value>,
}

impl<'t> Subject<'t> {
    async fn new(tenant: &'t Tenant, list: &'t Field) -> Self {
        Self {
            caller: tenant.owner(),
            list,
            rows: rows_by_sql(tenant, list.row()).await,
        }
    }

    async fn ask(&self, filter: Value) -> Response {
        let (name, input) = (&self.list.name, self.list.filter());
        let document = format!(
            "query ($f: {input}) {{ list: {name}(first: 100, filter: $f) {{ totalCount nodes {{ id }} }} }}"
        );
        self.caller.graphql(&document, json!({ "f": filter })).await
    }

    /// Asserts that the filter finds exactly the rows for which `holds` is true. Returns their number.
    async fn check(&self, filter: Value, holds: impl Fn(&Value) -> bool) -> usize {
        let expected: BTreeSet<String> = self
            .rows
            .iter()
            .filter(|row| holds(row))
            .map(|row| {
                id_of(
                    self.list.row(),
                    row["id"].as_str().unwrap().parse().unwrap(),
                )
            })
            .collect();
        let response = self.ask(filter.clone()).await;
        let list = &response.data()["list"];
        let seen: BTreeSet<String> = list["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|node| node["id"].as_str().unwrap().to_owned())
            .collect();
        let what = format!("{} where {filter}", self.list.name);
        assert_eq!(list["totalCount"], expected.len(), "{what}");
        assert!(
            seen.is_subset(&expected),
            "{what}: {:?}",
            seen.difference(&expected)
        );
        assert_eq!(seen.len(), expected.len().min(100), "{what}");
        expected.len()
    }
}
