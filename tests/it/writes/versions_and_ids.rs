//! Every mutation of one object checks its `version` and its ids.

use std::collections::BTreeSet;

use macro_rules_attribute::apply;
use palisade::ids::UserId;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    harness::{Caller, Tenant, palisade_test, refusals},
    made::{self, asin, fingerprint, unique},
};

/// The mutations of the schema whose input has a field.
async fn with_input_field(caller: &Caller, field: &str) -> BTreeSet<String> {
    let document = "{ __schema { mutationType { fields { name
        args { type { ofType { inputFields { name } } } } } } } }";
    let answer = caller.query(document).await;
    let fields = answer.data()["__schema"]["mutationType"]["fields"].as_array();
    let has = |mutation: &&Value| {
        let inputs = mutation["args"][0]["type"]["ofType"]["inputFields"].as_array();
        inputs.unwrap().iter().any(|input| input["name"] == field)
    };
    let names = fields.unwrap().iter().filter(has);
    names
        .map(|mutation| mutation["name"].as_str().unwrap().to_owned())
        .collect()
}

/// A new object on which a mutation can be done, as its payload calls it, with what it takes besides
/// the id.
async fn target(owner: &Caller, organization: &str, name: &str) -> (&'static str, String, Value) {
    let archived = async |kind: &str, object: &str, id: String| {
        let selection = format!("{object} {{ id }}");
        owner
            .does(&format!("archive{kind}"), json!({ "id": id }), &selection)
            .await;
        id
    };
    let nothing = json!({});
    match name {
        "updateOrganization" => (
            "organization",
            made::organization(owner).await,
            json!({ "name": "Renamed" }),
        ),
        "archiveOrganization" | "deleteOrganization" => {
            ("organization", made::organization(owner).await, nothing)
        }
        "unarchiveOrganization" => {
            let id = made::organization(owner).await;
            let id = archived("Organization", "organization", id).await;
            ("organization", id, nothing)
        }
        "updateProject" => {
            let id = made::project(owner, organization).await;
            ("project", id, json!({ "dueOn": "2026-01-01" }))
        }
        "archiveProject" | "deleteProject" => {
            ("project", made::project(owner, organization).await, nothing)
        }
        "unarchiveProject" => {
            let id = made::project(owner, organization).await;
            ("project", archived("Project", "project", id).await, nothing)
        }
        "updateProduct" => (
            "product",
            made::product(owner).await,
            json!({ "title": "Renamed" }),
        ),
        "archiveProduct" | "deleteProduct" => ("product", made::product(owner).await, nothing),
        "unarchiveProduct" => {
            let id = made::product(owner).await;
            ("product", archived("Product", "product", id).await, nothing)
        }
        "updateInvoice" => {
            let id = made::draft(owner, organization, &[]).await;
            ("invoice", id, json!({ "dueOn": "2030-01-01" }))
        }
        "issueInvoice" => {
            let id = made::invoice(owner, organization, "DRAFT").await;
            ("invoice", id, nothing)
        }
        "payInvoice" | "voidInvoice" | "markInvoiceUncollectible" => {
            let id = made::invoice(owner, organization, "OPEN").await;
            ("invoice", id, nothing)
        }
        "updateInvoiceLineItem" | "removeInvoiceLineItem" => {
            let invoice = made::draft(owner, organization, &["1.00"]).await;
            let line = made::line(owner, &invoice).await;
            let change = match name {
                "updateInvoiceLineItem" => json!({ "unitPrice": "2.00" }),
                _ => nothing,
            };
            ("lineItem", line, change)
        }
        "updateComment" | "deleteComment" => {
            let project = made::project(owner, organization).await;
            let change = match name {
                "updateComment" => json!({ "body": "Changed" }),
                _ => nothing,
            };
            ("comment", made::comment(owner, &project).await, change)
        }
        "changeUserRole" => ("user", made::user(owner).await, json!({ "role": "VIEWER" })),
        "deactivateUser" => ("user", made::user(owner).await, nothing),
        other => panic!("no test makes an object for {other}"),
    }
}

#[apply(palisade_test)]
async fn every_mutation_of_one_object_obeys_its_version_and_finds_it(acme: Tenant) {
    let owner = acme.owner();
    let organization = made::organization(owner).await;
    let names = with_input_field(owner, "ifVersion").await;
    assert_eq!(names, with_input_field(owner, "id").await);
    assert!(names.len() >= 23, "{names:?}");
    for name in names {
        let (object, id, more) = target(owner, &organization, &name).await;
        let selection = format!("{object} {{ id version }}");
        let mut input = more.clone();
        let before = fingerprint(&acme).await;

        // The same kind of id, of a row that is not there.
        let (prefix, _) = id.split_once('_').unwrap();
        input["id"] = json!(format!("{prefix}_{}", Uuid::now_v7().simple()));
        for version in [Value::Null, json!(1)] {
            input["ifVersion"] = version;
            let payload = owner.mutate(&name, input.clone(), &selection).await;
            assert!(payload[object].is_null(), "{name}: {payload}");
            let expected = [("NOT_FOUND", "input.id".to_owned())];
            assert_eq!(refusals(&payload), expected, "{name}");
        }

        input["id"] = json!(id);
        input["ifVersion"] = json!(99);
        let payload = owner.mutate(&name, input.clone(), &selection).await;
        let expected = [("CONFLICT", "input.ifVersion".to_owned())];
        assert_eq!(refusals(&payload), expected, "{name}");
        assert_eq!(payload[object]["id"], id, "{name}: {payload}");
        let present = payload[object]["version"].clone();
        assert!(
            fingerprint(&acme).await == before,
            "{name} wrote what it refused"
        );

        input["ifVersion"] = present.clone();
        let payload = owner.does(&name, input, &selection).await;
        let deletes = name.starts_with("delete") || name.starts_with("remove");
        let version = present.as_i64().unwrap() + i64::from(!deletes);
        assert_eq!(
            payload[object],
            json!({ "id": id, "version": version }),
            "{name}"
        );
        assert!(fingerprint(&acme).await != before, "{name} wrote nothing");
    }
}

#[apply(palisade_test)]
async fn ids_of_another_type_are_refused_before_anything_is_done(acme: Tenant) {
    let owner = acme.owner();
    let project = made::project(owner, &made::organization(owner).await).await;
    let before = fingerprint(&acme).await;
    for (name, input) in [
        ("deleteOrganization", json!({ "id": project })),
        (
            "createProject",
            json!({ "name": "p", "organizationId": project }),
        ),
        (
            "deleteProjects",
            json!({ "ids": [project, UserId::generate().to_string()] }),
        ),
    ] {
        let document = crate::harness::mutation(name, "");
        let reply = owner
            .send(&document, &json!({ "input": input }), &[])
            .await
            .answer();
        assert_eq!(reply.code(), "BAD_USER_INPUT", "{}", reply.body);
        assert!(reply.body["data"].is_null());
    }
    let (name, asin) = (unique("name"), asin());
    // Text that cannot be stored is refused as well, wherever it stands.
    for (mutation, input, field) in [
        (
            "createOrganization",
            json!({ "name": format!("{name}\0") }),
            "name",
        ),
        (
            "createProduct",
            json!({ "asin": asin, "title": "\0" }),
            "title",
        ),
        (
            "createComment",
            json!({ "subjectId": project, "body": "a\0b" }),
            "body",
        ),
        ("inviteUser", json!({ "email": "a\0@b.example" }), "email"),
    ] {
        let payload = owner.mutate(mutation, input, "").await;
        let told = refusals(&payload);
        assert!(
            told.contains(&("INVALID", format!("input.{field}"))),
            "{mutation}: {told:?}"
        );
    }
    assert!(fingerprint(&acme).await == before);
}
