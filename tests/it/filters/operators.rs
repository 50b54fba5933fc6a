//! Every operator of every filter, and their combinations.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDate, Utc};
use futures_util::future::join_all;
use macro_rules_attribute::apply;
use serde_json::{Value, json};
use uuid::Uuid;

use palisade::entities::ENTITIES;

use super::Subject;
use crate::harness::{
    Field, FieldExt as _, Kind, Response, Tenant, id_of, model, palisade_test, snake_case,
};

/// A value of a column. Values are ordered as in the database.
#[derive(Clone, Debug, PartialEq, PartialOrd, Eq, Ord)]
enum Cell {
    Null,
    Text(String),
    Id(Uuid),
    Time(DateTime<Utc>),
    Date(NaiveDate),
    Int(i64),
    Boolean(bool),
}

/// The type of a filter's operand.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Operand {
    /// The id of an entity of this type.
    Id(&'static str),
    Text,
    Time,
    Date,
    Int,
    Boolean,
    Choice,
}

impl Operand {
    fn cell(self, value: &Value) -> Cell {
        if value.is_null() {
            return Cell::Null;
        }
        let text = || {
            let text = value.as_str();
            text.unwrap_or_else(|| panic!("{self:?} cannot be read from {value}"))
        };
        match self {
            Self::Id(_) => Cell::Id(text().parse().unwrap()),
            Self::Text | Self::Choice => Cell::Text(text().to_owned()),
            Self::Time => Cell::Time(text().parse().unwrap()),
            Self::Date => Cell::Date(text().parse().unwrap()),
            Self::Int => Cell::Int(value.as_i64().unwrap()),
            Self::Boolean => Cell::Boolean(value.as_bool().unwrap()),
        }
    }

    /// The cell as a client writes it in a filter.
    fn operand(self, cell: &Cell) -> Value {
        match (self, cell) {
            (Self::Id(type_name), Cell::Id(uuid)) => json!(id_of(type_name, *uuid)),
            (Self::Choice, Cell::Text(stored)) => {
                // For the type of an audit log entry, the database stores a table name and the API has an enum value.
                let mut entities = ENTITIES.iter();
                let entity = entities.find(|entity| entity.table == *stored);
                let type_name = entity.map(|entity| snake_case(entity.type_name).to_uppercase());
                json!(type_name.unwrap_or_else(|| stored.clone()))
            }
            (_, Cell::Text(text)) => json!(text),
            (_, Cell::Time(time)) => json!(time.to_rfc3339()),
            (_, Cell::Date(date)) => json!(date.to_string()),
            (_, Cell::Int(number)) => json!(number),
            (_, Cell::Boolean(value)) => json!(value),
            other => panic!("no operand: {other:?}"),
        }
    }

    /// Further values for filters. Some rows or no rows have them.
    fn others(self) -> Vec<Cell> {
        match self {
            Self::Id(_) => vec![Cell::Id(Uuid::now_v7())],
            Self::Text => [
                "",
                "%",
                "_",
                "\\",
                "100%",
                "same",
                "é",
                "NÄM",
                "'; select 1; --",
            ]
            .map(|text| Cell::Text(text.to_owned()))
            .into(),
            Self::Time => ["1970-01-01T00:00:00Z", "2200-01-01T00:00:00.123456Z"]
                .map(|time| Cell::Time(time.parse().unwrap()))
                .into(),
            Self::Date => ["1970-01-01", "2026-03-10", "2200-01-01"]
                .map(|date| Cell::Date(date.parse().unwrap()))
                .into(),
            Self::Int => [i32::MIN, 0, 7, i32::MAX]
                .map(|number| Cell::Int(number.into()))
                .into(),
            Self::Boolean => vec![Cell::Boolean(true), Cell::Boolean(false)],
            Self::Choice => Vec::new(),
        }
    }
}

/// The entity type whose ids a filter accepts. Tries the ids of all types; the service must accept exactly one.
async fn type_of_ids(subject: &Subject<'_>, field: &str) -> &'static str {
    let mut accepted = Vec::new();
    for entity in ENTITIES {
        let id = id_of(entity.type_name, Uuid::now_v7());
        let response: Response = subject.ask(json!({ field: { "eq": id } })).await;
        if response.body.get("errors").is_none() {
            accepted.push(entity.type_name);
        }
    }
    let [accepted] = accepted[..] else {
        panic!(
            "{}: {field} takes the ids of {accepted:?}",
            subject.list.name
        );
    };
    if field == "id" {
        assert_eq!(accepted, subject.list.row());
    }
    accepted
}

/// The case-folded string.
fn fold(text: &str) -> String {
    text.to_lowercase().replace('ς', "σ")
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
        ("equalsIgnoreCase", Cell::Text(text), Cell::Text(other)) => fold(text) == fold(other),
        ("startsWithIgnoreCase", Cell::Text(text), Cell::Text(start)) => {
            fold(text).starts_with(&fold(start))
        }
        ("contains", Cell::Text(text), Cell::Text(part)) => fold(text).contains(&fold(part)),
        other => panic!("the oracle does not know {other:?}"),
    }
}

/// The type of operand of a field's filter. `None` for `and`, `or` and `not`.
async fn operand(subject: &Subject<'_>, field: &Field) -> Option<Operand> {
    if field.type_name == subject.list.filter() {
        assert!(
            matches!(field.name.as_str(), "and" | "or" | "not"),
            "{}",
            field.name
        );
        return None;
    }
    Some(match field.type_name.as_str() {
        "IdFilter" => Operand::Id(type_of_ids(subject, &field.name).await),
        "StringFilter" | "TextFilter" => Operand::Text,
        "DateTimeFilter" => Operand::Time,
        "DateFilter" => Operand::Date,
        "IntFilter" => Operand::Int,
        "BooleanFilter" => Operand::Boolean,
        other => {
            let mut operators = model().fields(other).iter();
            let eq = operators.find(|operator| operator.name == "eq").unwrap();
            assert_eq!(
                model().kind(&eq.type_name),
                Kind::Enum,
                "the oracle does not know {other}"
            );
            Operand::Choice
        }
    })
}

/// Up to three values of a column: the least, one from the middle and the greatest.
fn held(rows: &[Value], column: &str, kind: Operand) -> Vec<Cell> {
    let cells: BTreeSet<Cell> = rows
        .iter()
        .map(|row| kind.cell(&row[column]))
        .filter(|cell| *cell != Cell::Null)
        .collect();
    let cells: Vec<Cell> = cells.into_iter().collect();
    let picked: BTreeSet<usize> = [0, cells.len() / 2, cells.len().saturating_sub(1)].into();
    picked
        .into_iter()
        .filter_map(|index| cells.get(index).cloned())
        .collect()
}

#[apply(palisade_test)]
async fn every_operator_of_every_filter_finds_exactly_its_rows(tenant: Tenant) {
    tenant.fill(24).await;
    let checks = model().root_lists().map(|list| check_list(&tenant, list));
    let visited: BTreeSet<String> = join_all(checks).await.into_iter().flatten().collect();

    assert!(visited.len() >= 263, "only {} operators", visited.len());
    // Find the operators of the schema that the test did not use.
    let mut left = Vec::new();
    let mut known = BTreeSet::new();
    for list in model().root_lists() {
        let filter = list.filter();
        known.insert(filter);
        for field in model().fields(filter) {
            known.insert(&field.type_name);
            if field.type_name == filter {
                continue;
            }
            for operator in model().fields(&field.type_name) {
                let key = format!("{filter}.{}.{}", field.name, operator.name);
                if !visited.contains(&key) {
                    left.push(key);
                }
            }
        }
    }
    assert!(left.is_empty(), "not used: {left:?}");
    // Each filter type of the schema must belong to a list or to a field of one.
    let filters = model().types().filter(|of| of.kind == Kind::Input);
    let unknown: Vec<&str> = filters
        .map(|of| of.name.as_str())
        .filter(|name| name.ends_with("Filter") && !known.contains(name))
        .collect();
    assert!(unknown.is_empty(), "filters of no list: {unknown:?}");
}

/// Tests every operator of a list. Returns the tested operators, such as `ProjectFilter.name.eq`.
async fn check_list(tenant: &Tenant, list: &Field) -> Vec<String> {
    let subject = Subject::new(tenant, list).await;
    let input = list.filter();
    let mut visited = Vec::new();
    for field in model().fields(input) {
        let Some(kind) = operand(&subject, field).await else {
            continue;
        };
        let column = snake_case(&field.name);
        let cell = |row: &Value| kind.cell(&row[&column]);
        let held = held(&subject.rows, &column, kind);
        assert!(!held.is_empty(), "no {} has a {column}", list.name);
        let operands: Vec<Cell> = held.iter().cloned().chain(kind.others()).collect();
        for operator in model().fields(&field.type_name) {
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
                    let mut operands = operands.clone();
                    if operator.ends_with("IgnoreCase") {
                        let texts = operands.clone().into_iter();
                        operands.extend(texts.flat_map(|operand| match operand {
                            Cell::Text(text) => {
                                [text.to_uppercase(), text.to_lowercase()].map(Cell::Text)
                            }
                            other => panic!("{operator} of {other:?}"),
                        }));
                    }
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
async fn and_or_and_not_combine_in_two_valued_logic(tenant: Tenant) {
    tenant.fill(24).await;
    for list in model().root_lists() {
        let subject = Subject::new(&tenant, list).await;
        // On every list, check which rows an empty combination finds: all rows or none.
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

    let subject = Subject::new(&tenant, model().root_list("projects")).await;
    let due = |row: &Value| row["due_on"].as_str().map(str::to_owned);
    let is = |row: &Value, column: &str, value: &str| row[column] == value;
    let same = &*format!("Same {}", tenant.slug);
    let day = "2026-03-10";
    let without = subject
        .check(json!({ "dueOn": { "isNull": true } }), |row| {
            due(row).is_none()
        })
        .await;
    assert!(without > 0);
    // `dueOn > day` is false for a row whose `dueOn` is null, so the negation is true.
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
            json!({ "not": { "dueOn": { "gt": day }, "name": { "eq": same } } }),
            |row| !(due(row).is_some_and(|due| *due > *day) && is(row, "name", same)),
        )
        .await;
    // All members of one filter object must hold: its fields, `and`, `or` and `not`.
    subject
        .check(
            json!({
                "status": { "eq": "ACTIVE" },
                "or": [{ "name": { "eq": same } }, { "dueOn": { "isNull": true } }],
                "and": [{ "not": { "dueOn": { "eq": day } } }, { "status": { "in": ["ACTIVE", "PLANNED"] } }],
                "not": { "dueOn": { "gte": "2026-03-20" } },
            }),
            |row| {
                is(row, "status", "ACTIVE")
                    && (is(row, "name", same) || due(row).is_none())
                    && due(row).as_deref() != Some(day)
                    && due(row).is_none_or(|due| *due < *"2026-03-20")
            },
        )
        .await;
    // Several operators of one column must all hold.
    subject
        .check(
            json!({ "dueOn": { "gt": day, "lt": "2026-03-20", "isNull": false } }),
            |row| due(row).is_some_and(|due| *due > *day && *due < *"2026-03-20"),
        )
        .await;
    // An operator that is null is ignored.
    subject
        .check(json!({ "name": { "eq": null, "in": null } }), |_| true)
        .await;
}

#[apply(palisade_test)]
async fn pattern_characters_in_a_filter_are_literal(tenant: Tenant) {
    let seed = tenant.seed(0, 0).await;
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
    let subject = Subject::new(&tenant, model().root_list("projects")).await;
    for part in [
        "%", "_", "\\", "100%", "a_b", "k\\s", "\\\\", "%%", "Äp", "äP", "", "A_B", "BACK",
    ] {
        let name = |row: &Value| row["name"].as_str().unwrap().to_owned();
        let contains = json!({ "name": { "contains": part } });
        subject
            .check(contains, |row| fold(&name(row)).contains(&fold(part)))
            .await;
        let starts = json!({ "name": { "startsWith": part } });
        subject
            .check(starts, |row| name(row).starts_with(part))
            .await;
        let starts = json!({ "name": { "startsWithIgnoreCase": part } });
        subject
            .check(starts, |row| fold(&name(row)).starts_with(&fold(part)))
            .await;
    }
    let chosen = subject.check(json!({ "name": { "contains": "%" } }), |row| {
        row["name"].as_str().unwrap().contains('%')
    });
    assert_eq!(chosen.await, 2);
}

#[apply(palisade_test)]
async fn a_filter_below_a_row_applies_to_every_list_of_the_level(tenant: Tenant) {
    tenant.fill(40).await;
    let response = tenant
        .owner()
        .query(
            "{ organizations(first: 40) { nodes { id
                open: invoices(first: 30, filter: { status: { eq: OPEN } }) { totalCount nodes { status organization { id } } }
                all: invoices(first: 30) { totalCount nodes { status } } } } }",
        )
        .await;
    let mut open = 0;
    for organization in response.data()["organizations"]["nodes"]
        .as_array()
        .unwrap()
    {
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
