//! Every mutation of one object checks its `version` and its ids.

use std::collections::BTreeSet;

use macro_rules_attribute::apply;
use palisade::{auth::role::UserRole, ids::UserId};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    create::{self, asin, fingerprint, unique},
    harness::{FieldExt as _, Tenant, model, palisade_test, user_errors},
    samples::{Rows, Sample, payload_object},
};

/// The mutations whose input has this field.
fn with_input_field(field: &str) -> BTreeSet<&'static str> {
    let mutations = model().mutations().iter();
    let with_field = mutations.filter(|mutation| {
        let mut inputs = model().fields(mutation.input()).iter();
        inputs.any(|input| input.name == field)
    });
    with_field.map(|mutation| mutation.name.as_str()).collect()
}

#[apply(palisade_test)]
async fn every_mutation_of_one_row_checks_its_version_and_its_id(acme: Tenant) {
    let owner = acme.owner();
    let names = with_input_field("ifVersion");
    assert_eq!(names, with_input_field("id"));
    assert!(names.len() >= 23, "{names:?}");
    let mut sql = acme.begin().await;
    for name in names {
        let rows = Rows::insert(&acme, &mut sql, UserRole::Owner).await;
        let object = payload_object(model().mutation(name)).name.as_str();
        let selection = format!("{object} {{ id version }}");
        let mut input = (Sample::of(name).input)(&rows);
        let id = input["id"].as_str().unwrap().to_owned();
        let before = fingerprint(&acme).await;

        // Use an id of the same type that no row has.
        let (prefix, _) = id.split_once('_').unwrap();
        input["id"] = json!(format!("{prefix}_{}", Uuid::now_v7().simple()));
        for version in [Value::Null, json!(1)] {
            input["ifVersion"] = version;
            let payload = owner.mutate(name, input.clone(), &selection).await;
            assert!(payload[object].is_null(), "{name}: {payload}");
            let expected = [("NOT_FOUND", "input.id".to_owned())];
            assert_eq!(user_errors(&payload), expected, "{name}");
        }

        input["id"] = json!(id);
        input["ifVersion"] = json!(99);
        let payload = owner.mutate(name, input.clone(), &selection).await;
        let expected = [("CONFLICT", "input.ifVersion".to_owned())];
        assert_eq!(user_errors(&payload), expected, "{name}");
        assert_eq!(payload[object]["id"], id, "{name}: {payload}");
        let present = payload[object]["version"].clone();
        assert!(
            fingerprint(&acme).await == before,
            "{name} wrote although it was rejected"
        );

        input["ifVersion"] = present.clone();
        let payload = owner.mutate_ok(name, input, &selection).await;
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
async fn ids_of_another_type_are_rejected_before_anything_runs(acme: Tenant) {
    let owner = acme.owner();
    let project = create::project(owner, &create::organization(owner).await).await;
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
            .response();
        assert_eq!(reply.code(), "BAD_USER_INPUT", "{}", reply.body);
        assert!(reply.body["data"].is_null());
    }
    let (name, asin) = (unique("name"), asin());
    // Strings that cannot be stored are rejected as well, in every field.
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
        let found = user_errors(&payload);
        assert!(
            found.contains(&("INVALID", format!("input.{field}"))),
            "{mutation}: {found:?}"
        );
    }
    assert!(fingerprint(&acme).await == before);
}
