//! Variables: they must have the types of the arguments, and a required variable must have a value. If a variable is
//! omitted, each argument and input field that uses the variable is omitted, too.

use std::collections::BTreeSet;

use macro_rules_attribute::apply;
use palisade::ids::{EntityId as _, ProjectId};
use serde_json::{Value, json};

use crate::{
    harness::{FieldExt as _, Tenant, id, model, palisade_test},
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

/// The code and the messages of a rejected request.
fn rejection(body: &Value) -> (&str, Vec<&str>) {
    assert!(body.get("data").is_none(), "{body}");
    let errors = body["errors"].as_array().unwrap();
    let code = errors[0]["extensions"]["code"].as_str().unwrap();
    for error in errors {
        assert_eq!(error["extensions"]["code"], code, "{body}");
        assert!(error["extensions"]["requestId"].is_string(), "{body}");
        assert!(error["locations"][0]["line"].is_u64(), "{body}");
    }
    let messages = errors
        .iter()
        .map(|error| error["message"].as_str().unwrap());
    (code, messages.collect())
}

#[apply(palisade_test)]
async fn a_document_is_validated_before_its_variables(tenant: Tenant) {
    let owner = tenant.owner();
    let project = id("prj", ProjectId::generate().uuid());
    for (document, variables, expected_message) in [
        (
            "query ($f: Nope) { projects(first: $f) { totalCount } }",
            json!({}),
            "the type Nope does not exist",
        ),
        (
            "query ($f: Nope) { projects(first: $f) { totalCount } }",
            json!({ "f": 1 }),
            "the type Nope does not exist",
        ),
        (
            "query ($f: Boolean) { projects(first: $f) { totalCount } }",
            json!({}),
            "the variable $f of the type Boolean cannot be used where the type Int is expected",
        ),
        (
            "query ($f: ProductFilter) { projects(filter: $f) { totalCount } }",
            json!({ "f": { "status": { "eq": "ACTIVE" } } }),
            "the variable $f of the type ProductFilter cannot be used where the type ProjectFilter is expected",
        ),
        (
            "query ($f: String) { project(id: $f) { id } }",
            json!({ "f": project }),
            "the variable $f of the type String cannot be used where the type ID! is expected",
        ),
        (
            "query ($f: ID!, $unused: Int) { project(id: $f) { id } }",
            json!({}),
            "the variable $unused is never used",
        ),
    ] {
        let accept = [("accept", "application/graphql-response+json")];
        let reply = owner.send(document, &variables, &accept).await;
        let response = reply.response();
        let (code, messages) = rejection(&response.body);
        assert_eq!((reply.status, code), (400, "GRAPHQL_VALIDATION_FAILED"));
        assert!(
            messages.contains(&expected_message),
            "{document}: {messages:?}"
        );
    }
    // A list without null items is a list that allows null items.
    let ids = "query ($ids: [ID!]!) { projects(filter: { id: { in: $ids } }) { totalCount } }";
    let response = owner.graphql(ids, json!({ "ids": [project] })).await;
    assert_eq!(response.data()["projects"]["totalCount"], 0);
}

#[apply(palisade_test)]
async fn an_invalid_value_is_rejected_with_its_path(tenant: Tenant) {
    let owner = tenant.owner();
    let create = "mutation ($input: CreateInvoiceInput!) { createInvoice(input: $input) { userErrors { code } } }";
    let invoice = |line: Value| {
        let good = json!({ "description": "a", "quantity": "1", "unitPrice": "1" });
        let organization = id("org", ProjectId::generate().uuid());
        json!({ "input": {
            "currencyCode": "EUR", "organizationId": organization, "lineItems": [good, line],
        } })
    };
    let first = "query ($f: Int!) { projects(first: $f) { totalCount } }";
    let status =
        "query ($s: ProjectStatus) { projects(filter: { status: { eq: $s } }) { totalCount } }";
    for (document, variables, expected) in [
        (
            create,
            invoice(json!({ "description": "b", "quantity": "1", "unitPrice": "abc" })),
            &[
                "$input.lineItems[1].unitPrice: \"abc\" is not a valid Decimal: it must consist of digits and a decimal \
               point, such as \"9.95\"",
            ][..],
        ),
        (
            create,
            invoice(json!({ "quantity": 1, "unitPrice": null, "dueOn": "x" })),
            &[
                "$input.lineItems[1].quantity: 1 is not a valid Decimal: it must be a string, so that no client rounds \
                 it: \"1\"",
                "$input.lineItems[1].unitPrice must not be null",
                "$input.lineItems[1].dueOn is not a field of InvoiceLineItemInput",
                "$input.lineItems[1].description is required",
            ],
        ),
        (
            first,
            json!({ "f": "ten" }),
            &["$f: \"ten\" is not a valid Int"],
        ),
        (
            first,
            json!({ "f": 2_147_483_648_i64 }),
            &["$f: 2147483648 is not a valid Int"],
        ),
        (
            status,
            json!({ "s": "NONE" }),
            &["$s: \"NONE\" is not a valid ProjectStatus"],
        ),
    ] {
        let accept = [("accept", "application/graphql-response+json")];
        let reply = owner.send(document, &variables, &accept).await;
        let response = reply.response();
        let rejection = rejection(&response.body);
        assert_eq!(
            (reply.status, rejection),
            (400, ("BAD_USER_INPUT", expected.to_vec()))
        );
    }
}

#[apply(palisade_test)]
async fn an_id_of_another_type_is_rejected_with_its_path(tenant: Tenant) {
    let owner = tenant.owner();
    let user = id("usr", ProjectId::generate().uuid());
    let other = "is not an ID of the type";
    let create = "mutation ($input: CreateProjectInput!) { createProject(input: $input) { project { id } } }";
    let one_field = "mutation ($id: ID!) { createProject(input: { name: \"a\", organizationId: $id }) { project { id } } }";
    let literal = format!("{{ viewer {{ role }} project(id: \"{user}\") {{ id }} }}");
    let filter =
        "query ($f: ProjectFilter) { projects(filter: { and: [{ not: $f }] }) { totalCount } }";
    for (document, variables, expected) in [
        (
            create,
            json!({ "input": { "name": "a", "organizationId": user } }),
            format!("$input.organizationId {other} Organization: it is an ID of the type User"),
        ),
        (
            one_field,
            json!({ "id": user }),
            format!("$id {other} Organization: it is an ID of the type User"),
        ),
        (
            &literal,
            json!({}),
            format!("id {other} Project: it is an ID of the type User"),
        ),
        (
            filter,
            json!({ "f": { "or": [{ "name": { "eq": "a" } }, { "id": { "in": [user] } }] } }),
            format!("$f.or[1].id.in[0] {other} Project: it is an ID of the type User"),
        ),
        (
            "query ($id: ID!) { project(id: $id) { id } }",
            json!({ "id": "prj_\"" }),
            "$id is not an ID of the type Project: expected prj_ and 32 hexadecimal digits"
                .to_owned(),
        ),
    ] {
        let response = owner.graphql(document, variables).await;
        let error = &response.body["errors"][0];
        assert_eq!(error["message"], expected, "{document}");
        assert_eq!(error["extensions"]["code"], "BAD_USER_INPUT", "{document}");
    }
}
