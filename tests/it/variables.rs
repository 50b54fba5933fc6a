//! Variables: a required variable must have a value. If a variable is omitted, each argument and input field that uses
//! the variable is omitted, too.

use std::collections::BTreeSet;

use macro_rules_attribute::apply;
use palisade::ids::{EntityId as _, ProjectId};
use serde_json::{Value, json};

use crate::{
    harness::{Tenant, id, model, palisade_test},
    samples::{Sample, World, payload_object},
};

/// Removes the versions of related rows. They may increase: a change of a line also updates its invoice.
fn remove_versions(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.remove("version");
        fields.remove("updatedAt");
    }
}

#[apply(palisade_test)]
async fn an_omitted_variable_leaves_its_field_unchanged(world: World) {
    let owner = world.tenant.owner();
    let mut seen = BTreeSet::new();
    let updates = model().mutations().iter();
    for mutation in updates.filter(|mutation| mutation.name.starts_with("update")) {
        let name = &mutation.name;
        let row = (Sample::of(name).input)(&world.rows)["id"].clone();
        let of = &payload_object(mutation).type_name;
        let shown = format!(
            "node(id: $id) {{ ... on {of} {{ {} }} }}",
            model().selection(of, 1)
        );
        let read = format!("query ($id: ID!) {{ {shown} }}");
        let node = async || {
            let response = owner.graphql(&read, json!({ "id": row })).await;
            let mut node = response.data()["node"].clone();
            let related = node.as_object_mut().unwrap().values_mut();
            related.for_each(remove_versions);
            node
        };
        let before = node().await;
        // Each field of the input is set from a variable, but only the variable of the id has a value.
        let (mut declared, mut given) = (vec!["$id: ID!".to_owned()], vec!["id: $id".to_owned()]);
        let fields = model().fields(mutation.input()).iter();
        for field in fields.filter(|field| field.name != "id") {
            declared.push(format!("${}: {}", field.name, field.type_text));
            given.push(format!("{0}: ${0}", field.name));
        }
        // A required variable cannot be omitted.
        if declared[1..].iter().any(|one| one.ends_with('!')) {
            continue;
        }
        let (declared, given) = (declared.join(", "), given.join(", "));
        let document = format!(
            "mutation Saves({declared}) {{ {name}(input: {{ {given} }}) {{ userErrors {{ code field message }} }} }}
             query Reads($id: ID!) {{ ...Row }} fragment Row on Query {{ {shown} }}"
        );
        let body =
            json!({ "query": document, "operationName": "Saves", "variables": { "id": row } });
        let request = owner.app.client.post(&owner.url).bearer_auth(&owner.token);
        let response: Value = request
            .json(&body)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        let payload = &response["data"][name.as_str()];
        assert_eq!(payload["userErrors"], json!([]), "{name}: {response}");
        assert_eq!(node().await, before, "{name}");
        seen.insert(name);
    }
    assert!(seen.len() >= 5, "{seen:?}");
}

#[apply(palisade_test)]
async fn an_omitted_argument_takes_its_default_and_a_null_argument_is_null(tenant: Tenant) {
    tenant.seed(3, 0).await;
    let owner = tenant.owner();
    // `atomic` is true by default and cannot be null.
    let document = "mutation ($ids: [ID!]!, $atomic: Boolean) {
        deleteProjects(input: { ids: $ids, atomic: $atomic }) { results { index } userErrors { code } } }";
    let missing = id("prj", ProjectId::generate().uuid());
    let response = owner.graphql(document, json!({ "ids": [missing] })).await;
    let payload = &response.data()["deleteProjects"];
    assert_eq!(payload["userErrors"][0]["code"], "NOT_FOUND", "{payload}");
    // Two sort orders: one whose direction is omitted, and one with a direction.
    let ordered = "query ($up: OrderDirection, $down: OrderDirection) {
        one: projects(orderBy: [{ field: NAME, direction: $up }]) { nodes { name } }
        other: projects(orderBy: [{ field: NAME, direction: $down }]) { nodes { name } } }";
    let response = owner.graphql(ordered, json!({ "down": "DESC" })).await;
    let names = |list: &str| -> Vec<String> {
        let nodes = response.data()[list]["nodes"].as_array().unwrap();
        nodes.iter().map(|node| node["name"].to_string()).collect()
    };
    let mut turned = names("other");
    turned.reverse();
    assert_eq!(names("one"), turned);

    let cleared = "mutation ($id: ID!, $text: String) {
        updateProject(input: { id: $id, description: $text }) { project { description } userErrors { code } } }";
    let project = owner.query("{ projects(first: 1) { nodes { id } } }").await;
    let project = &project.data()["projects"]["nodes"][0]["id"];
    for (variables, expected) in [
        (json!({ "id": project, "text": "Some" }), json!("Some")),
        (json!({ "id": project }), json!("Some")),
        (json!({ "id": project, "text": null }), Value::Null),
    ] {
        let response = owner.graphql(cleared, variables.clone()).await;
        let payload = &response.data()["updateProject"];
        assert_eq!(
            payload["project"]["description"], expected,
            "{variables}: {payload}"
        );
    }
}

#[apply(palisade_test)]
async fn a_missing_required_variable_is_rejected_before_anything_runs(tenant: Tenant) {
    tenant.seed(2, 0).await;
    let owner = tenant.owner();
    for (document, variables, expected_message) in [
        (
            "query ($id: ID!) { viewer { role } project(id: $id) { name } }",
            json!({}),
            "the variable $id of type ID! has no value",
        ),
        (
            "query ($status: ProjectStatus!) { projects(filter: { status: { eq: $status } }) { totalCount } }",
            json!({ "status": null }),
            "the variable $status of type ProjectStatus! has no value",
        ),
        (
            "query ($yes: Boolean!) { viewer { role @include(if: $yes) } }",
            json!({}),
            "the variable $yes of type Boolean! has no value",
        ),
        (
            "query ($first: Int! = 1) { projects(first: $first) { totalCount } }",
            json!({ "first": null }),
            "the variable $first of type Int! has no value",
        ),
    ] {
        let accept = [("accept", "application/graphql-response+json")];
        let reply = owner.send(document, &variables, &accept).await;
        let response = reply.response();
        assert_eq!(
            (reply.status, response.code()),
            (400, "BAD_USER_INPUT"),
            "{document}"
        );
        assert_eq!(response.body["errors"][0]["message"], expected_message);
        assert!(response.body.get("data").is_none());
    }
    let with_default = "query ($first: Int! = 1) { projects(first: $first) { nodes { id } } }";
    let response = owner.query(with_default).await;
    let nodes = &response.data()["projects"]["nodes"];
    assert_eq!(nodes.as_array().map(Vec::len), Some(1));
}
