//! What a query selects: only the columns that its fields need are fetched, and the response has the same data, byte
//! by byte, whether it is written directly or through a tree of values.

use std::fmt::Write as _;

use async_graphql::parser::{parse_query, types::DocumentOperations};
use fastrand::Rng;
use macro_rules_attribute::apply;
use palisade::entities::ENTITIES;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Caller, Field, FieldExt as _, Tenant, camel_case, model, palisade_test};

/// The number of rows of each type.
const ROWS: usize = 12;

/// A field with the smallest possible selection, such as `owner { __typename }`.
fn smallest(field: &Field) -> String {
    let name = &field.name;
    if field.is_connection() {
        format!("{name}(first: 1) {{ nodes {{ __typename }} }}")
    } else if model().is_composite(&field.type_name) {
        format!("{name} {{ __typename {} }}", leaves(&field.type_name))
    } else {
        name.clone()
    }
}

/// The selection of all scalar fields of a type that is not an entity, such as `Money`.
fn leaves(type_name: &str) -> String {
    let is_entity = ENTITIES.iter().any(|entity| entity.type_name == type_name);
    let fields = model().fields(type_name).iter();
    let leaves = fields.filter(|field| !is_entity && !model().is_composite(&field.type_name));
    let names: Vec<&str> = leaves.map(|field| field.name.as_str()).collect();
    names.join(" ")
}

/// The rows of a list with this selection.
async fn rows(caller: &Caller, list: &Field, selection: &str) -> Vec<Value> {
    let document = format!(
        "{{ list: {}(first: {ROWS}) {{ nodes {{ {selection} }} }} }}",
        list.name
    );
    let response = caller.query(&document).await;
    assert_eq!(response.body.get("errors"), None, "{document}");
    let rows = response.body["data"]["list"]["nodes"].as_array().unwrap();
    assert!(!rows.is_empty(), "{document} has no rows");
    rows.clone()
}

#[apply(palisade_test)]
async fn each_field_alone_and_each_pair_of_fields_fetches_the_columns_that_it_needs(acme: Tenant) {
    acme.fill(ROWS).await;
    let owner = acme.owner();
    let mut selections = 0;
    for list in model().root_lists() {
        let fields = model().fields(list.row());
        let every: String = fields.iter().map(|field| smallest(field) + " ").collect();
        let expected = rows(owner, list, &every).await;
        let check = async |pair: &[&Field]| {
            let selection: String = pair.iter().map(|field| smallest(field) + " ").collect();
            let found = rows(owner, list, &selection).await;
            for (found, expected) in found.iter().zip(&expected) {
                for field in pair {
                    assert_eq!(found[&field.name], expected[&field.name], "{selection}");
                }
            }
        };
        for (index, one) in fields.iter().enumerate() {
            check(&[one]).await;
            for other in &fields[index + 1..] {
                check(&[one, other]).await;
                selections += 1;
            }
        }
    }
    assert!(selections > 500, "only {selections} pairs");
}

#[apply(palisade_test)]
async fn each_row_by_its_id_has_the_values_that_its_list_has(acme: Tenant) {
    acme.fill(ROWS).await;
    let owner = acme.owner();
    for list in model().root_lists() {
        let fields = model().fields(list.row());
        for field in fields {
            let selection = smallest(field);
            let row = &rows(owner, list, &format!("id {selection}")).await[0];
            let document = format!(
                "{{ node(id: {}) {{ id ... on {} {{ {selection} }} }} one: {}(id: {}) {{ {selection} }} }}",
                row["id"],
                list.row(),
                camel_case(list.row()),
                row["id"]
            );
            let response = owner.query(&document).await;
            let data = response.data();
            assert_eq!(data["node"][&field.name], row[&field.name], "{document}");
            assert_eq!(data["one"][&field.name], row[&field.name], "{document}");
        }
    }
}

#[apply(palisade_test)]
async fn skip_and_include_use_the_default_of_a_variable_without_a_value(acme: Tenant) {
    let document = "query ($yes: Boolean = true) {
        kept: viewer @include(if: $yes) { role tenant @skip(if: $yes) { id } }
        left: viewer @skip(if: $yes) { role }
        twice: viewer { role } twice: viewer @include(if: $yes) { permissions @skip(if: $yes) tokenExpiresAt }
    }";
    let keys = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    let response = acme.owner().query(document).await;
    let data = response.data();
    assert_eq!(keys(data), ["kept", "twice"]);
    assert_eq!(keys(&data["kept"]), ["role"]);
    assert_eq!(data["twice"].as_object().unwrap().len(), 2);
    let response = acme
        .owner()
        .graphql(document, json!({ "yes": false }))
        .await;
    let data = response.data();
    assert_eq!(keys(data), ["left", "twice"]);
    assert_eq!(keys(&data["twice"]), ["role"]);
}

#[apply(palisade_test)]
async fn only_the_columns_of_the_selected_fields_and_of_the_cursors_are_fetched(acme: Tenant) {
    acme.fill(ROWS).await;
    let columns = async |document: &str| {
        let response = acme.owner().query(document).await;
        response.data();
        let mut fetched: Vec<String> = response
            .statements()
            .iter()
            .map(|statement| {
                let (columns, _) = statement.split_once(" FROM ").unwrap();
                columns
                    .trim_start_matches("SELECT ")
                    .replace(['"', ' '], "")
            })
            .collect();
        fetched.sort();
        fetched
    };
    for (document, fetched) in [
        ("{ projects { nodes { name } } }", &["id,name"][..]),
        ("{ projects { nodes { __typename } } }", &["id"]),
        // Fields with an alias or in a fragment are fetched, unless `@skip` or `@include` excludes them.
        (
            "query ($no: Boolean = false) { projects { nodes { n: name ...F ... on Node { id }
                version @skip(if: true) updatedAt @include(if: $no) } } }
             fragment F on Project { ... @include(if: true) { status } }",
            &["id,name,status"],
        ),
        // The default of a variable counts too.
        (
            "query ($yes: Boolean = true) { projects { nodes { name @include(if: $yes)
                status @skip(if: $yes) } } }",
            &["id,name"],
        ),
        // A relation needs the column that refers to the related row, and the id of that row.
        (
            "{ projects { nodes { organization { name } } } }",
            &["id,name", "id,organization_id"],
        ),
        // A computed field fetches the columns from which it is computed.
        (
            "{ invoices { nodes { total { amount } } } }",
            &["id,currency,total_minor"],
        ),
        // A cursor needs the columns of the sort order; the rest of `pageInfo` does not.
        (
            "{ projects { pageInfo { hasNextPage } nodes { name } } }",
            &["id,name"],
        ),
        (
            "{ projects(orderBy: [{ field: DUE_ON }]) { edges { cursor } } }",
            &["id,due_on"],
        ),
        (
            "{ projects { ...P } } fragment P on ProjectConnection { pageInfo { ...Q } }
             fragment Q on PageInfo { endCursor }",
            &["id,created_at"],
        ),
        // All selections of a type fetch the same columns, so that they can share the rows.
        (
            "{ a: projects { nodes { name } } b: projects { nodes { status } } }",
            &["id,name,status"],
        ),
        // A row that a list has fetched is not fetched again by its id.
        (
            "{ users { nodes { email projects(first: 1) { nodes { owner { email } } } } } }",
            &["id,email", "row.id,row.owner_id,parent.parent"],
        ),
    ] {
        assert_eq!(columns(document).await, fetched, "{document}");
    }
}

/// Sends a document in two forms. Compares the data of the responses byte by byte, and the errors in any order. In the
/// second form, a root field is selected twice, so the service builds the response from a tree of values. Returns
/// whether the operation was executed.
pub async fn assert_same_response(caller: &Caller, document: &str, variables: &Value) -> bool {
    let parsed = parse_query(document).unwrap_or_else(|error| panic!("{error}: {document}"));
    let DocumentOperations::Single(operation) = &parsed.operations else {
        panic!("the document has several operations: {document}");
    };
    let position = operation.node.selection_set.pos;
    let line = document.split_inclusive('\n').take(position.line - 1);
    let at = line.map(str::len).sum::<usize>() + position.column;
    let with = |first: &str| {
        let (start, rest) = document.split_at(at);
        format!("{start} {first} {rest}")
    };
    // The padding keeps the length, so that errors have the same positions in both forms.
    let request = Uuid::new_v4();
    let direct = caller
        .bytes(&with("__typename           "), variables, request)
        .await;
    let tree = caller
        .bytes(&with("__typename __typename"), variables, request)
        .await;
    // Sort the errors: their order is the order in which they occurred, which differs between runs.
    let parts = |(status, body): &(u16, String)| {
        let (data, errors) = body.split_once(",\"errors\":").unwrap_or((body, "[]}"));
        let errors = errors.strip_suffix('}').unwrap_or(errors);
        let mut errors: Vec<Value> = serde_json::from_str(errors).unwrap_or_default();
        errors.sort_by_key(Value::to_string);
        (*status, data.to_owned(), errors)
    };
    assert_eq!(parts(&direct), parts(&tree), "{document}");
    direct.1.starts_with("{\"data\":{")
}

/// A random selection of a type: fields, aliases, fragments, and fields that are selected twice.
fn random_selection(rng: &mut Rng, of: &str, depth: usize) -> String {
    let mut selection = String::from("__typename ");
    let members = &model().named(of).members;
    for member in members {
        let fields = random_fields(rng, member, depth);
        write!(selection, "... on {member} {{ __typename {fields} }} ").unwrap();
    }
    if members.is_empty() {
        selection += &random_fields(rng, of, depth);
    }
    selection
}

fn random_fields(rng: &mut Rng, of: &str, depth: usize) -> String {
    let mut selection = String::new();
    let fields = model().fields(of).iter().filter(|field| {
        let needs_arguments = field.args.iter().any(|arg| !arg.is_nullable());
        !needs_arguments && (depth > 0 || !model().is_composite(&field.type_name))
    });
    for field in fields {
        let chosen = match rng.u8(..8) {
            0..4 => continue,
            4 => format!("x{}: ", rng.u8(..)),
            _ => String::new(),
        };
        // No root field is selected twice, because the engine would merge the two in the order in which they complete.
        let is_twice = of != "Query" && rng.u8(..6) == 0;
        let times = if is_twice { 2 } else { 1 };
        for _ in 0..times {
            let below = if field.is_connection() {
                let rows = random_selection(rng, field.row(), depth - 1);
                let cursor = ["", "cursor"][rng.usize(..2)];
                format!(
                    "(first: 2) {{ totalCount pageInfo {{ hasNextPage endCursor }} nodes {{ {rows} }}
                     edges {{ {cursor} node {{ id }} }} }}"
                )
            } else if model().is_composite(&field.type_name) {
                format!(
                    "{{ {} }}",
                    random_selection(rng, &field.type_name, depth - 1)
                )
            } else {
                String::new()
            };
            let text = format!("{chosen}{} {below} ", field.name);
            if rng.u8(..5) == 0 {
                write!(selection, "... on {of} {{ {text} }} ").unwrap();
            } else {
                selection += &text;
            }
        }
    }
    selection
}

#[apply(palisade_test)]
async fn generated_documents_have_the_same_data_and_errors_in_both_forms(acme: Tenant) {
    acme.fill(ROWS).await;
    let mut rng = Rng::with_seed(20_261_121);
    let viewer = acme.caller(palisade::auth::role::UserRole::Viewer);
    let mut executed = 0;
    for _ in 0..150 {
        let document = format!("{{ {} }}", random_fields(&mut rng, "Query", 2));
        if document.trim_matches(['{', '}', ' ']).is_empty() {
            continue;
        }
        // The viewer may not read the audit log, so parts of the response are null.
        for caller in [acme.owner(), viewer] {
            executed += u32::from(assert_same_response(caller, &document, &json!({})).await);
        }
    }
    assert!(
        executed > 100,
        "the guard rejected all but {executed} documents"
    );
}
