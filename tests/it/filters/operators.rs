//! Every operator of every filter, and their combinations.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDate, Utc};
use futures_util::future::join_all;
use macro_rules_attribute::apply;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Subject;
use crate::{
    harness::{Tenant, id, palisade_test},
    lists::{Field, Shape, column, fill, nobody, row_of, table},
};

/// A value of a column, as it compares.
#[derive(Clone, Debug, PartialEq, PartialOrd, Eq, Ord)]
enum Cell {
    Null,
    Text(String),
    Id(Uuid),
    Time(DateTime<Utc>),
    Date(NaiveDate),
}

/// How a filter's operand is written and read.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Id(&'static str),
    Text,
    Time,
    Date,
    Choice,
}

impl Kind {
    fn cell(self, value: &Value) -> Cell {
        let Some(text) = value.as_str() else {
            assert!(
                value.is_null(),
                "a column that no filter can be on: {value}"
            );
            return Cell::Null;
        };
        match self {
            Self::Id(_) => Cell::Id(text.parse().unwrap()),
            Self::Text | Self::Choice => Cell::Text(text.to_owned()),
            Self::Time => Cell::Time(text.parse().unwrap()),
            Self::Date => Cell::Date(text.parse().unwrap()),
        }
    }

    /// The cell as a client writes it.
    fn operand(self, cell: &Cell) -> Value {
        match (self, cell) {
            (Self::Id(prefix), Cell::Id(uuid)) => json!(id(prefix, *uuid)),
            // The only enum whose names differ from what is stored: it names types by their tables.
            (Self::Choice, Cell::Text(stored)) if stored.ends_with('s') => {
                json!(stored.trim_end_matches('s').to_uppercase())
            }
            (_, Cell::Text(text)) => json!(text),
            (_, Cell::Time(time)) => json!(time.to_rfc3339()),
            (_, Cell::Date(date)) => json!(date.to_string()),
            other => panic!("no operand: {other:?}"),
        }
    }

    /// Values that no row holds, or only some do.
    fn strangers(self) -> Vec<Cell> {
        match self {
            Self::Id(_) => vec![Cell::Id(nobody())],
            Self::Text => ["", "%", "_", "\\", "100%", "same", "é", "'; select 1; --"]
                .map(|text| Cell::Text(text.to_owned()))
                .into(),
            Self::Time => ["1970-01-01T00:00:00Z", "2200-01-01T00:00:00.123456Z"]
                .map(|time| Cell::Time(time.parse().unwrap()))
                .into(),
            Self::Date => ["1970-01-01", "2026-03-10", "2200-01-01"]
                .map(|date| Cell::Date(date.parse().unwrap()))
                .into(),
            Self::Choice => Vec::new(),
        }
    }
}

/// The kind of the prefix in a filter on ids: `projectId` of anything is the id of a project.
fn prefix(row: &str, field: &str) -> &'static str {
    match field {
        "id" => table(row).1,
        "ownerId" | "authorId" | "actorId" => "usr",
        "organizationId" => "org",
        "projectId" => "prj",
        "invoiceId" => "inv",
        "productId" => "prd",
        other => panic!("name the prefix of {row}.{other} here"),
    }
}

fn holds(operator: &str, cell: &Cell, operand: &Cell) -> bool {
    if operator == "ne" {
        return cell != operand;
    }
    if *cell == Cell::Null {
        return false;
    }
    match (operator, cell, operand) {
        ("eq", _, _) => cell == operand,
        ("lt", _, _) => cell < operand,
        ("lte", _, _) => cell <= operand,
        ("gt", _, _) => cell > operand,
        ("gte", _, _) => cell >= operand,
        ("startsWith", Cell::Text(text), Cell::Text(start)) => text.starts_with(start.as_str()),
        ("contains", Cell::Text(text), Cell::Text(part)) => text
            .to_ascii_lowercase()
            .contains(&part.to_ascii_lowercase()),
        other => panic!("teach the oracle {other:?}"),
    }
}

/// What a filter of a field may say; `None` for `and`, `or` and `not`.
fn kind(shape: &Shape, list: &Field, field: &Field) -> Option<Kind> {
    if Some(field.named.as_str()) == list.arg("filter") {
        assert!(
            matches!(field.name.as_str(), "and" | "or" | "not"),
            "{}",
            field.name
        );
        return None;
    }
    Some(match field.named.as_str() {
        "IdFilter" => Kind::Id(prefix(row_of(list), &field.name)),
        "StringFilter" => Kind::Text,
        "DateTimeFilter" => Kind::Time,
        "DateFilter" => Kind::Date,
        other => {
            let eq = shape
                .named(other)
                .inputs
                .iter()
                .find(|input| input.name == "eq")
                .unwrap();
            assert_eq!(
                shape.named(&eq.named).kind,
                "ENUM",
                "teach the oracle {other}"
            );
            Kind::Choice
        }
    })
}

/// Up to three values that rows hold, one of them of the least and one of the greatest row.
fn held(rows: &[Value], column: &str, kind: Kind) -> Vec<Cell> {
    let cells: BTreeSet<Cell> = rows
        .iter()
        .map(|row| kind.cell(&row[column]))
        .filter(|cell| *cell != Cell::Null)
        .collect();
    let cells: Vec<Cell> = cells.into_iter().collect();
    let picked: BTreeSet<usize> = [0, cells.len() / 2, cells.len().saturating_sub(1)].into();
    picked
        .into_iter()
        .filter_map(|place| cells.get(place).cloned())
        .collect()
}

#[apply(palisade_test)]
async fn every_operator_of_every_filter_chooses_what_it_says(tenant: Tenant) {
    fill(&tenant, 24).await;
    let shape = Shape::of(tenant.owner()).await;
    let roots = shape.roots();
    let checks = roots.iter().map(|list| check_list(&tenant, &shape, list));
    let visited: BTreeSet<String> = join_all(checks).await.into_iter().flatten().collect();

    // Computed from the schema: what of a filter that a list takes was not asked.
    let mut left = Vec::new();
    for (name, one) in shape.types() {
        let is_listed = roots.iter().any(|list| list.arg("filter") == Some(name));
        for field in one.inputs.iter().filter(|_| is_listed) {
            if field.named == *name {
                continue;
            }
            for operator in &shape.named(&field.named).inputs {
                let key = format!("{name}.{}.{}", field.name, operator.name);
                if !visited.contains(&key) {
                    left.push(key);
                }
            }
        }
    }
    assert!(left.is_empty(), "never asked: {left:?}");
    // Every filter of the schema belongs to a list of rows or to a column of one.
    let known = |name: &String| {
        roots.iter().any(|list| {
            let filter = list.arg("filter").unwrap();
            filter == name
                || shape
                    .named(filter)
                    .inputs
                    .iter()
                    .any(|field| field.named == *name)
        })
    };
    let unknown: Vec<&String> = shape
        .types()
        .filter(|(name, one)| {
            one.kind == "INPUT_OBJECT" && name.ends_with("Filter") && !known(name)
        })
        .map(|(name, _)| name)
        .collect();
    assert!(unknown.is_empty(), "filters of no list: {unknown:?}");
}

/// Answers what it has visited, as `ProjectFilter.name.eq`.
async fn check_list(tenant: &Tenant, shape: &Shape, list: &Field) -> Vec<String> {
    let subject = Subject::new(tenant, list).await;
    let input = list.arg("filter").unwrap();
    let mut visited = Vec::new();
    for field in &shape.named(input).inputs {
        let Some(kind) = kind(shape, list, field) else {
            continue;
        };
        let column = column(&field.name);
        let cell = |row: &Value| kind.cell(&row[&column]);
        let held = held(&subject.rows, &column, kind);
        assert!(!held.is_empty(), "no {} has a {column}", list.name);
        let operands: Vec<Cell> = held.iter().cloned().chain(kind.strangers()).collect();
        for operator in &shape.named(&field.named).inputs {
            let operator = operator.name.as_str();
            visited.push(format!("{input}.{}.{operator}", field.name));
            let filter = |operand: Value| json!({ (&*field.name): { (operator): operand } });
            match operator {
                "isNull" => {
                    for is_null in [true, false] {
                        let chosen = |row: &Value| (cell(row) == Cell::Null) == is_null;
                        subject.check(filter(json!(is_null)), chosen).await;
                    }
                }
                "in" => {
                    subject.check(filter(json!([])), |_| false).await;
                    for some in [&operands[..1], &operands[..], &held[..]] {
                        let values: Vec<Value> =
                            some.iter().map(|cell| kind.operand(cell)).collect();
                        subject
                            .check(filter(json!(values)), |row| some.contains(&cell(row)))
                            .await;
                    }
                }
                _ => {
                    let mut most = 0;
                    for operand in &operands {
                        let chosen = |row: &Value| holds(operator, &cell(row), operand);
                        most = most.max(subject.check(filter(kind.operand(operand)), chosen).await);
                    }
                    let none_is_less = matches!(operator, "lt" | "gt");
                    assert!(
                        most > 0 || none_is_less,
                        "{input}.{}.{operator} chose nothing",
                        field.name
                    );
                }
            }
        }
    }
    visited
}

#[apply(palisade_test)]
async fn and_or_and_not_combine_in_two_values(tenant: Tenant) {
    fill(&tenant, 24).await;
    let shape = Shape::of(tenant.owner()).await;
    for list in shape.roots() {
        let subject = Subject::new(&tenant, &list).await;
        // On every list: what the empty combinations mean.
        for (filter, everything) in [
            (json!({}), true),
            (Value::Null, true),
            (json!({ "and": [] }), true),
            (json!({ "or": [] }), false),
            (json!({ "not": {} }), false),
            (json!({ "not": { "or": [] } }), true),
            (json!({ "not": { "not": {} } }), true),
            (json!({ "and": [{}, { "or": [{}] }] }), true),
            (json!({ "or": [{ "or": [] }, { "and": [] }] }), true),
            (json!({ "and": [{ "or": [] }, {}] }), false),
            (json!({ "and": null, "or": null, "not": null }), true),
        ] {
            subject.check(filter, |_| everything).await;
        }
    }

    let projects = shape
        .roots()
        .into_iter()
        .find(|list| list.name == "projects")
        .unwrap();
    let subject = Subject::new(&tenant, &projects).await;
    let due = |row: &Value| row["due_on"].as_str().map(str::to_owned);
    let is = |row: &Value, column: &str, value: &str| row[column] == value;
    let day = "2026-02-28";
    let without = subject
        .check(json!({ "dueOn": { "isNull": true } }), |row| {
            due(row).is_none()
        })
        .await;
    assert!(without > 0);
    // A comparison with null does not hold, so its negation does.
    let not_late = json!({ "not": { "dueOn": { "gt": day } } });
    let chosen = subject
        .check(not_late, |row| due(row).is_none_or(|due| *due <= *day))
        .await;
    assert!(chosen > without, "the negation chose only nulls");
    subject
        .check(
            json!({ "not": { "not": { "dueOn": { "gt": day } } } }),
            |row| due(row).is_some_and(|due| *due > *day),
        )
        .await;
    subject
        .check(
            json!({ "not": { "dueOn": { "gt": day }, "name": { "eq": "Same" } } }),
            |row| !(due(row).is_some_and(|due| *due > *day) && is(row, "name", "Same")),
        )
        .await;
    // Everything that stands side by side must hold, in and around the lists.
    subject
        .check(
            json!({
                "status": { "eq": "ACTIVE" },
                "or": [{ "name": { "eq": "Same" } }, { "dueOn": { "isNull": true } }],
                "and": [{ "not": { "dueOn": { "eq": day } } }, { "status": { "in": ["ACTIVE", "PLANNED"] } }],
                "not": { "dueOn": { "gte": "2026-03-20" } },
            }),
            |row| {
                is(row, "status", "ACTIVE")
                    && (is(row, "name", "Same") || due(row).is_none())
                    && due(row).as_deref() != Some(day)
                    && due(row).is_none_or(|due| *due < *"2026-03-20")
            },
        )
        .await;
    // Several operators of one column must all hold.
    subject
        .check(
            json!({ "dueOn": { "gt": day, "lt": "2026-03-12", "isNull": false } }),
            |row| due(row).is_some_and(|due| *due > *day && *due < *"2026-03-12"),
        )
        .await;
    // An operator that is null is not given.
    subject
        .check(json!({ "name": { "eq": null, "in": null } }), |_| true)
        .await;
}

#[apply(palisade_test)]
async fn pattern_characters_in_a_filter_stand_for_themselves(tenant: Tenant) {
    let seed = tenant.seed(1, 0).await;
    let mut sql = tenant.begin().await;
    let names = [
        "100% sure",
        "100 sure",
        "a_b",
        "axb",
        "back\\slash",
        "backslash",
        "%",
        "_",
        "\\",
        "Äpfel",
    ];
    for name in names {
        sqlx::query(
            "insert into projects (id, organization_id, owner_id, name) values (app.uuid_v7(), $1, $2, $3)",
        )
        .bind(seed.organization)
        .bind(tenant.owner().user)
        .bind(name)
        .execute(&mut sql.0)
        .await
        .unwrap();
    }
    let shape = Shape::of(tenant.owner()).await;
    let projects = shape
        .roots()
        .into_iter()
        .find(|list| list.name == "projects")
        .unwrap();
    let subject = Subject::new(&tenant, &projects).await;
    for part in [
        "%", "_", "\\", "100%", "a_b", "k\\s", "\\\\", "%%", "Äp", "", "A_B", "BACK",
    ] {
        let name = |row: &Value| row["name"].as_str().unwrap().to_owned();
        let contains = json!({ "name": { "contains": part } });
        subject
            .check(contains, |row| {
                name(row)
                    .to_ascii_lowercase()
                    .contains(&part.to_ascii_lowercase())
            })
            .await;
        let starts = json!({ "name": { "startsWith": part } });
        subject
            .check(starts, |row| name(row).starts_with(part))
            .await;
    }
    let chosen = subject.check(json!({ "name": { "contains": "%" } }), |row| {
        row["name"].as_str().unwrap().contains('%')
    });
    assert_eq!(chosen.await, 2);
}

#[apply(palisade_test)]
async fn a_filter_below_a_row_holds_in_every_list_of_the_level(tenant: Tenant) {
    fill(&tenant, 40).await;
    let answer = tenant
        .owner()
        .query(
            "{ organizations(first: 3, orderBy: [{ field: NAME }]) { nodes { id
                open: invoices(first: 100, filter: { status: { eq: OPEN } }) { totalCount nodes { status organization { id } } }
                all: invoices(first: 100) { totalCount nodes { status } } } } }",
        )
        .await;
    let mut open = 0;
    for organization in answer.data()["organizations"]["nodes"].as_array().unwrap() {
        let nodes = organization["open"]["nodes"].as_array().unwrap();
        for invoice in nodes {
            assert_eq!(invoice["status"], "OPEN");
            assert_eq!(invoice["organization"]["id"], organization["id"]);
        }
        let all = organization["all"]["nodes"].as_array().unwrap();
        let expected = all
            .iter()
            .filter(|invoice| invoice["status"] == "OPEN")
            .count();
        assert_eq!(nodes.len(), expected);
        assert_eq!(organization["open"]["totalCount"], expected);
        assert_eq!(organization["all"]["totalCount"], all.len());
        open += expected;
    }
    assert!(open > 0, "no open invoice in sight");
}
