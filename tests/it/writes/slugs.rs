//! The slug of an organization that a client creates without a slug: the service derives a unique one from the name.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use macro_rules_attribute::apply;
use serde_json::{Value, json};

use crate::harness::{Caller, Tenant, palisade_test, user_errors};

/// Creates an organization with this name. Returns its slug.
async fn slug(caller: &Caller, name: &str) -> String {
    let input = json!({ "name": name });
    let payload = caller
        .mutate_ok("createOrganization", input, "organization { name slug }")
        .await;
    assert_eq!(payload["organization"]["name"], name);
    payload["organization"]["slug"].as_str().unwrap().to_owned()
}

#[apply(palisade_test)]
async fn names_in_any_script_get_a_slug(acme: Tenant) {
    let owner = acme.owner();
    for (name, expected) in [
        ("Müller GmbH", "muller-gmbh"),
        ("Łódź & Æther", "lodz-aether"),
        ("Сбербанк", "sberbank"),
        ("日本", "ri-ben"),
        ("!!!", "organization"),
    ] {
        assert_eq!(slug(owner, name).await, expected);
    }
}

#[apply(palisade_test)]
async fn a_second_organization_with_the_same_name_gets_a_number(acme: Tenant, globex: Tenant) {
    let owner = acme.owner();
    assert_eq!(slug(owner, "Müller GmbH").await, "muller-gmbh");
    assert_eq!(slug(owner, "Müller GmbH").await, "muller-gmbh-2");
    assert_eq!(slug(owner, "Muller, GmbH").await, "muller-gmbh-3");
    assert_eq!(slug(owner, "Muller GmbH 2").await, "muller-gmbh-2-2");
    assert_eq!(slug(owner, "???").await, "organization");
    assert_eq!(slug(owner, "***").await, "organization-2");
    let long = "x".repeat(120);
    assert_eq!(slug(owner, &long).await, "x".repeat(63));
    assert_eq!(slug(owner, &long).await, format!("{}-2", "x".repeat(61)));
    // The number depends only on the slugs of the same tenant.
    assert_eq!(slug(globex.owner(), "Müller GmbH").await, "muller-gmbh");
}

#[apply(palisade_test)]
async fn a_given_slug_gets_no_number(acme: Tenant) {
    let owner = acme.owner();
    assert_eq!(slug(owner, "Acme").await, "acme");
    let input = json!({ "name": "Acme", "slug": "acme" });
    let payload = owner
        .mutate("createOrganization", input, "organization { id }")
        .await;
    assert_eq!(payload["organization"], Value::Null);
    assert_eq!(
        user_errors(&payload),
        [("ALREADY_EXISTS", "input.slug".to_owned())]
    );
}

#[apply(palisade_test)]
async fn organizations_with_one_name_at_the_same_time_get_different_slugs(acme: Tenant) {
    let created = (0..20).map(|_| slug(acme.owner(), "Müller GmbH"));
    let slugs = join_all(created).await;
    for slug in &slugs {
        assert!(slug.starts_with("muller-gmbh"), "{slug}");
        assert!(slug.len() <= 63, "{slug}");
    }
    let different: BTreeSet<&String> = slugs.iter().collect();
    assert_eq!(different.len(), slugs.len(), "{slugs:?}");
}

#[apply(palisade_test)]
async fn a_taken_number_costs_two_more_statements(acme: Tenant) {
    let owner = acme.owner();
    let create = "mutation { createOrganization(input: { name: \"Acme\" }) {
        organization { slug } userErrors { code } } }";
    let first = owner.query(create).await;
    let second = owner.query(create).await;
    assert_eq!(
        second.data()["createOrganization"]["organization"]["slug"],
        "acme-2"
    );
    assert_eq!(second.statements().len(), first.statements().len() + 2);
}
