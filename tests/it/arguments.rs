//! The arguments of nested lists: one copy for all parents, and a limit on their bytes.

use macro_rules_attribute::apply;
use palisade::auth::role::UserRole;
use serde_json::{Value, json};

use crate::harness::{Tenant, palisade_test};

/// A filter with `or` of this number of lists of 100 strings with 1,000 characters each.
fn filter(lists: usize) -> Value {
    let texts: Vec<String> = (0..100).map(|n| format!("{n:01000}")).collect();
    let lists: Vec<Value> = (0..lists)
        .map(|_| json!({ "number": { "in": texts } }))
        .collect();
    json!({ "or": lists })
}

/// A hundred parents with this number of aliases of a list.
fn document(aliases: usize) -> String {
    let lists: Vec<String> = (0..aliases)
        .map(|n| format!("a{n}: invoices(first: 0, filter: $f) {{ pageInfo {{ hasNextPage }} }}"))
        .collect();
    format!(
        "query ($f: InvoiceFilter) {{ projects(first: 100) {{ nodes {{ {} }} }} }}",
        lists.join(" ")
    )
}

#[apply(palisade_test)]
async fn a_long_variable_that_many_lists_use_is_rejected(acme: Tenant) {
    acme.seed(3, 1).await;
    let viewer = acme.caller(UserRole::Viewer);
    let message = "the request has more than 4194304 bytes of arguments, where a variable counts each time it is used";
    // The second request finds the document in the cache.
    for lists in [9, 0, 9] {
        let response = viewer
            .graphql(&document(30), json!({ "f": filter(lists) }))
            .await;
        if lists == 0 {
            response.data();
            continue;
        }
        assert_eq!(response.code(), "QUERY_TOO_COMPLEX", "{}", response.body);
        assert_eq!(response.body["errors"][0]["message"], message);
        assert!(response.body["extensions"].get("palisade").is_none());
    }
    // The longest filter that a body can have may be used four times.
    let response = viewer
        .graphql(&document(4), json!({ "f": filter(9) }))
        .await;
    response.data();
    let response = viewer
        .graphql(&document(5), json!({ "f": filter(9) }))
        .await;
    assert_eq!(response.code(), "QUERY_TOO_COMPLEX");
}

#[apply(palisade_test)]
async fn equal_lists_of_all_parents_are_one_statement(acme: Tenant) {
    acme.seed(100, 1).await;
    let viewer = acme.caller(UserRole::Viewer);
    let with_all = json!({ "f": { "not": filter(1) } });
    let response = viewer.graphql(&document(30), with_all.clone()).await;
    let projects = response.data()["projects"]["nodes"].as_array().unwrap();
    assert_eq!(projects.len(), 100);
    for project in projects {
        let lists = project.as_object().unwrap();
        assert_eq!(lists.len(), 30);
        for list in lists.values() {
            assert_eq!(list["pageInfo"]["hasNextPage"], true);
        }
    }
    assert_eq!(
        response.statements().len(),
        2,
        "{:?}",
        response.statements()
    );

    // Two levels, a fragment, and a list with other arguments.
    let nested = "query ($f: InvoiceFilter) { organizations(first: 5) { nodes { projects(first: 50) { nodes {
            ...Invoices same: invoices(filter: $f) { nodes { id } } other: invoices(first: 0) { totalCount } } } } } }
        fragment Invoices on Project { invoices(filter: $f) { nodes { id } } }";
    let response = viewer.graphql(nested, with_all).await;
    let statements = response.statements();
    let of_invoices = statements.iter().filter(|sql| sql.contains("\"invoices\""));
    // One for each of the two different lists, and one for the counts.
    assert_eq!(of_invoices.count(), 3, "{statements:?}");
    assert_eq!(statements.len(), 5, "{statements:?}");
    let organizations = response.data()["organizations"]["nodes"]
        .as_array()
        .unwrap();
    let projects = organizations
        .iter()
        .flat_map(|organization| organization["projects"]["nodes"].as_array().unwrap());
    let mut found = 0;
    for project in projects {
        found += 1;
        assert_eq!(project["invoices"], project["same"]);
        assert_eq!(project["invoices"]["nodes"].as_array().unwrap().len(), 1);
        assert_eq!(project["other"]["totalCount"], 1);
    }
    assert_eq!(found, 50);
}

#[apply(palisade_test)]
async fn an_invalid_argument_is_an_error_of_each_parent(acme: Tenant) {
    acme.seed(3, 1).await;
    let document = "query ($first: Int) { projects { nodes { id
        invoices(first: $first) { nodes { id } } } } }";
    let response = acme
        .owner()
        .graphql(document, json!({ "first": 101 }))
        .await;
    let errors = response.body["errors"].as_array().unwrap();
    let mut paths = Vec::new();
    for error in errors {
        assert_eq!(error["extensions"]["code"], "BAD_USER_INPUT");
        assert_eq!(error["message"], "first: must be between 0 and 100");
        assert_eq!(error["locations"], json!([{ "line": 2, "column": 9 }]));
        paths.push(error["path"].clone());
    }
    let expected: Vec<Value> = (0..errors.len())
        .map(|n| json!(["projects", "nodes", n, "invoices"]))
        .collect();
    assert_eq!(paths, expected);
}

#[apply(palisade_test)]
async fn the_payload_of_a_mutation_has_lists_with_arguments(acme: Tenant) {
    acme.seed(2, 2).await;
    let projects = acme.owner().query("{ projects { nodes { id } } }").await;
    let project = &projects.data()["projects"]["nodes"][0]["id"];
    let document = "mutation ($id: ID!, $first: Int) {
        a: updateProject(input: { id: $id, name: \"a\" }) { project { name ...F } userErrors { code } }
        b: updateProject(input: { id: $id, name: \"b\" }) { project { name ...F } userErrors { code } } }
        fragment F on Project { invoices(first: $first) { nodes { id } pageInfo { hasNextPage } }
            auditLogs(first: 1) { nodes { changes { after } } } }";
    let variables = json!({ "id": project, "first": 1 });
    let response = acme.owner().graphql(document, variables).await;
    let data = response.data();
    for name in ["a", "b"] {
        let of = &data[name]["project"];
        assert_eq!(of["name"], name);
        assert_eq!(of["invoices"]["nodes"].as_array().unwrap().len(), 1);
        assert_eq!(of["invoices"]["pageInfo"]["hasNextPage"], true);
        // The lists of the second field are loaded again.
        let changes = &of["auditLogs"]["nodes"][0]["changes"];
        assert!(
            changes.to_string().contains(&format!("\"{name}\"")),
            "{changes}"
        );
    }
}
