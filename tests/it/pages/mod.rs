//! Keyset pages: every list, in every order and direction, without gaps or repeats.

mod rejected;
mod walks;

use serde_json::{Value, json};

use crate::{
    harness::{Caller, Field, Tenant, snake_case},
    lists::{ids, ids_by_sql, list, order_by},
};

/// The direction of a walk over a list.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Forwards,
    Backwards,
}

/// Checks the page info. `rest` is the number of rows that the walk has not seen yet.
fn check_page(connection: &Value, way: Way, is_first: bool, rest: usize) {
    let edges = connection["edges"].as_array().unwrap();
    let info = &connection["pageInfo"];
    let (more, came_from) = match way {
        Way::Forwards => ("hasNextPage", "hasPreviousPage"),
        Way::Backwards => ("hasPreviousPage", "hasNextPage"),
    };
    assert_eq!(info[more], rest > 0, "{way:?}, {rest} left: {info}");
    assert_eq!(info[came_from], !is_first, "{way:?}: {info}");
    assert_eq!(
        info["startCursor"],
        edges
            .first()
            .map_or(Value::Null, |edge| edge["cursor"].clone())
    );
    assert_eq!(
        info["endCursor"],
        edges
            .last()
            .map_or(Value::Null, |edge| edge["cursor"].clone())
    );
    let nodes: Vec<&Value> = edges.iter().map(|edge| &edge["node"]).collect();
    assert_eq!(
        connection["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .collect::<Vec<_>>(),
        nodes
    );
}

/// Reads a root list page by page, and compares each page with the expected ids.
async fn walk(
    caller: &Caller,
    field: &Field,
    terms: &[String],
    size: usize,
    way: Way,
    all: &[String],
) {
    let what = format!("{} by {terms:?} {way:?} in pages of {size}", field.name);
    let order = if terms.is_empty() {
        Value::Null
    } else {
        order_by(terms)
    };
    let mut seen = 0;
    let mut cursor = Value::Null;
    loop {
        let (page, variables) = match way {
            Way::Forwards => (format!("first: {size}"), json!({ "o": order, "a": cursor })),
            Way::Backwards => (format!("last: {size}"), json!({ "o": order, "b": cursor })),
        };
        let response = list(caller, field, &page, variables).await;
        let connection = &response.data()["list"];
        let here = ids(connection);
        let expected = match way {
            Way::Forwards => &all[seen..(seen + size).min(all.len())],
            Way::Backwards => {
                let end = all.len() - seen;
                &all[end.saturating_sub(size)..end]
            }
        };
        assert!(
            here == expected,
            "{what}, after {seen} rows: {here:?} instead of {expected:?}"
        );
        let is_first = seen == 0;
        seen += here.len();
        check_page(connection, way, is_first, all.len() - seen);
        let end = match way {
            Way::Forwards => "endCursor",
            Way::Backwards => "startCursor",
        };
        cursor = connection["pageInfo"][end].clone();
        if seen == all.len() {
            break;
        }
    }
}

/// The ids of all rows, as PostgreSQL sorts them in one query. Rows with equal keys are sorted by id, in the direction
/// of the last term.
async fn sorted(tenant: &Tenant, row: &str, terms: &[String]) -> Vec<String> {
    let mut by: Vec<String> = terms
        .iter()
        .map(|term| {
            let (field, direction) = term.split_once(' ').unwrap();
            let nulls = if direction == "ASC" { "last" } else { "first" };
            format!("{} {direction} nulls {nulls}", snake_case(field))
        })
        .collect();
    let (_, last) = terms.last().unwrap().split_once(' ').unwrap();
    by.push(format!("id {last}"));
    ids_by_sql(tenant, row, &format!("order by {}", by.join(", "))).await
}
