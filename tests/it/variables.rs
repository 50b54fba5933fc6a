//! Variables: one that must have a value has one, and what was left out is left out wherever it is used.

use std::collections::BTreeSet;

use async_graphql::parser::{
    parse_schema,
    types::{TypeKind, TypeSystemDefinition},
};
use macro_rules_attribute::apply;
use palisade::ids::{EntityId as _, ProjectId};
use serde_json::{Value, json};

use crate::{
    harness::{Tenant, id, palisade_test},
    made,
};

/// The fields of each `Update…Input` with their types, as the SDL has them.
fn updates() -> Vec<(String, Vec<(String, String)>)> {
    let document = parse_schema(palisade::api::sdl()).unwrap();
    let mut found = Vec::new();
    for definition in document.definitions {
        let TypeSystemDefinition::Type(definition) = definition else {
            continue;
        };
        let name = definition.node.name.node.to_string();
        if let TypeKind::InputObject(input) = definition.node.kind
            && name.starts_with("Update")
        {
            let fields = input.fields.iter().map(|field| {
                let field = &field.node;
                (field.name.node.to_string(), field.ty.node.to_string())
            });
            found.push((name, fields.collect()));
        }
    }
    found
}

#[apply(palisade_test)]
async fn a_variable_that_was_left_out_leaves_its_field_as_it_is(tenant: Tenant) {
    let owner = tenant.owner();
    let organization = made::organization(owner).await;
    let project = made::project(owner, &organization).await;
    let invoice = made::draft(owner, &organization, &["1.00"]).await;
    let line = made::line(owner, &invoice).await;
    let comment = made::comment(owner, &project).await;
    let product = made::product(owner).await;
    let mut seen = BTreeSet::new();
    for (input, fields) in updates() {
        let kind = input.strip_prefix("Update").unwrap();
        let kind = kind.strip_suffix("Input").unwrap();
        let row = match kind {
            "Organization" => &organization,
            "Project" => &project,
            "Product" => &product,
            "Invoice" => &invoice,
            "InvoiceLine" | "InvoiceLineItem" => &line,
            "Comment" => &comment,
            other => panic!("make one of {other} here"),
        };
        let root = kind[..1].to_lowercase() + &kind[1..];
        let shown = "node(id: $id) { __typename ... on Organization { name slug } ... on Project { name description dueOn }
            ... on Product { title price { amount } } ... on Comment { body }
            ... on Invoice { dueOn project { id } organization { id } }
            ... on InvoiceLineItem { description quantity taxRate product { id } } }";
        let read = format!("query ($id: ID!) {{ {shown} }}");
        let before = owner.graphql(&read, json!({ "id": row })).await.data()["node"].clone();
        // All of its fields are variables, and none but the id has a value.
        let (mut declared, mut given) = (vec!["$id: ID!".to_owned()], vec!["id: $id".to_owned()]);
        for (field, kind) in fields.iter().filter(|(field, _)| field != "id") {
            declared.push(format!("${field}: {kind}"));
            given.push(format!("{field}: ${field}"));
        }
        // One that must have a value cannot be left out.
        if declared[1..].iter().any(|one| one.ends_with('!')) {
            continue;
        }
        let (declared, given) = (declared.join(", "), given.join(", "));
        let document = format!(
            "mutation Saves({declared}) {{ update{kind}(input: {{ {given} }}) {{ userErrors {{ code field message }} }} }}
             query Reads($id: ID!) {{ ...Row }} fragment Row on Query {{ {shown} }}"
        );
        let body =
            json!({ "query": document, "operationName": "Saves", "variables": { "id": row } });
        let response = owner.app.client.post(&owner.url).bearer_auth(&owner.token);
        let answer: Value = response
            .json(&body)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        let payload = &answer["data"][format!("update{kind}")];
        assert_eq!(payload["userErrors"], json!([]), "{root}: {answer}");
        let after = owner.graphql(&read, json!({ "id": row })).await.data()["node"].clone();
        assert_eq!(after, before, "{input}");
        seen.insert(input);
    }
    assert!(seen.len() >= 5, "{seen:?}");
}

#[apply(palisade_test)]
async fn an_argument_that_was_left_out_takes_its_default_and_one_that_is_null_is_null(
    tenant: Tenant,
) {
    tenant.seed(3, 0).await;
    let owner = tenant.owner();
    // `atomic` is true unless it is given, and cannot be null.
    let document = "mutation ($ids: [ID!]!, $atomic: Boolean) {
        deleteProjects(input: { ids: $ids, atomic: $atomic }) { results { index } userErrors { code } } }";
    let missing = id("prj", ProjectId::generate().uuid());
    let answer = owner.graphql(document, json!({ "ids": [missing] })).await;
    let payload = &answer.data()["deleteProjects"];
    assert_eq!(payload["userErrors"][0]["code"], "NOT_FOUND", "{payload}");
    // A direction that was left out in a list of orders, beside one that was given.
    let ordered = "query ($up: OrderDirection, $down: OrderDirection) {
        one: projects(orderBy: [{ field: NAME, direction: $up }]) { nodes { name } }
        other: projects(orderBy: [{ field: NAME, direction: $down }]) { nodes { name } } }";
    let answer = owner.graphql(ordered, json!({ "down": "DESC" })).await;
    let names = |list: &str| -> Vec<String> {
        let nodes = answer.data()[list]["nodes"].as_array().unwrap();
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
        let answer = owner.graphql(cleared, variables.clone()).await;
        let payload = &answer.data()["updateProject"];
        assert_eq!(
            payload["project"]["description"], expected,
            "{variables}: {payload}"
        );
    }
}

#[apply(palisade_test)]
async fn a_variable_that_must_have_a_value_is_asked_for_before_anything_runs(tenant: Tenant) {
    tenant.seed(2, 0).await;
    let owner = tenant.owner();
    for (document, variables, says) in [
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
        let answer = reply.answer();
        assert_eq!(
            (reply.status, answer.code()),
            (400, "BAD_USER_INPUT"),
            "{document}"
        );
        assert_eq!(answer.body["errors"][0]["message"], says);
        assert!(answer.body.get("data").is_none());
    }
    let with_default = "query ($first: Int! = 1) { projects(first: $first) { nodes { id } } }";
    let answer = owner.query(with_default).await;
    let nodes = &answer.data()["projects"]["nodes"];
    assert_eq!(nodes.as_array().map(Vec::len), Some(1));
}
