//! Dry runs: the header `Prefer: tx=rollback`.

use macro_rules_attribute::apply;
use serde_json::json;

use super::{count, is_replayed};
use crate::{
    create::{self, fingerprint, unique},
    harness::{Tenant, mutation, palisade_test},
};

#[apply(palisade_test)]
async fn a_dry_run_returns_what_would_change_and_changes_nothing(acme: Tenant) {
    let owner = acme.owner();
    let organization = create::organization(owner).await;
    let draft = create::draft(owner, &organization, &["1.00"]).await;
    let before = fingerprint(&acme).await;
    let document = format!(
        "mutation {{
            a: createOrganization(input: {{ name: \"Dry\", slug: \"dry\" }}) {{ organization {{ slug }} userErrors {{ code }} }}
            b: createOrganization(input: {{ name: \"Dry\", slug: \"dry\" }}) {{ organization {{ slug }} userErrors {{ code }} }}
            c: issueInvoice(input: {{ id: \"{draft}\" }}) {{ invoice {{ number }} userErrors {{ code }} }} }}"
    );
    let expected = json!({
        "a": { "organization": { "slug": "dry" }, "userErrors": [] },
        "b": { "organization": null, "userErrors": [{ "code": "ALREADY_EXISTS" }] },
        "c": { "invoice": { "number": "INV-000001" }, "userErrors": [] },
    });
    let dry = [("prefer", "tx=rollback"), ("idempotency-key", "key")];
    for _ in 0..2 {
        let reply = owner.send(&document, &json!({}), &dry).await;
        assert_eq!(reply.response().data(), &expected);
        assert!(!is_replayed(&reply));
        assert_eq!(reply.header("preference-applied"), Some("tx=rollback"));
        assert!(fingerprint(&acme).await == before);
        assert_eq!(count(&acme, "idempotency_keys").await, 0);
    }
    let wet = [("idempotency-key", "key")];
    let reply = owner.send(&document, &json!({}), &wet).await;
    assert_eq!(reply.response().data(), &expected);
    assert!(!is_replayed(&reply));
    assert_eq!(reply.header("preference-applied"), None);
    assert!(fingerprint(&acme).await != before);
    // An earlier request used the key, but a dry run ignores keys.
    let reply = owner.send(&document, &json!({}), &dry).await;
    assert!(!is_replayed(&reply));
    let dry_run = reply.response();
    assert_eq!(
        dry_run.data()["a"]["userErrors"][0]["code"],
        "ALREADY_EXISTS"
    );
    assert_eq!(
        dry_run.data()["c"]["userErrors"][0]["code"],
        "INVALID_STATE"
    );
}

#[apply(palisade_test)]
async fn the_first_tx_preference_decides_and_an_unknown_value_is_rejected(acme: Tenant) {
    let owner = acme.owner();
    for (prefer, writes) in [
        (&["tx=rollback"][..], Some(false)),
        (&["tx=commit"], Some(true)),
        (&["TX=Rollback"], Some(false)),
        (&["tx=\"rollback\""], Some(false)),
        (&["tx = rollback"], Some(false)),
        (&["respond-async, tx=rollback"], Some(false)),
        (&["respond-async; wait=10"], Some(true)),
        (&["return=minimal"], Some(true)),
        (&["context=rollback"], Some(true)),
        (&["tx=rollback, tx=commit"], Some(false)),
        (&["tx=commit, tx=rollback"], Some(true)),
        (&["tx=rollback", "tx=commit"], Some(false)),
        (&["tx=commit", "tx=rollback"], Some(true)),
        (&["return=minimal", "tx=rollback"], Some(false)),
        (&[""], Some(true)),
        (&["tx=maybe"], None),
        (&["tx="], None),
        (&["tx"], None),
        (&["tx=rollback2"], None),
        (&["tx=rollback; note=\"ü\""], None),
        (&["note=\"a,tx=commit\", tx=rollback"], Some(false)),
        (&["note=\"a\\\",tx=commit\", tx=rollback"], Some(false)),
        (&["note=\"a,tx=rollback\""], Some(true)),
        (&["respond-async;tx=rollback"], Some(true)),
        (&["tx=rollback;tx=commit"], Some(false)),
    ] {
        let headers: Vec<(&str, &str)> = prefer.iter().map(|text| ("prefer", *text)).collect();
        let before = count(&acme, "organizations").await;
        let variables = json!({ "input": { "name": unique("n") } });
        let document = mutation("createOrganization", "organization { id }");
        let reply = owner.send(&document, &variables, &headers).await;
        let written = count(&acme, "organizations").await - before;
        match writes {
            None => {
                assert_eq!(reply.status, 400, "{prefer:?}");
                assert_eq!(reply.response().code(), "BAD_USER_INPUT");
                assert_eq!(written, 0, "{prefer:?}");
            }
            Some(writes) => {
                reply.response().data();
                assert_eq!(written, i64::from(writes), "{prefer:?}");
                let applied = reply.header("preference-applied");
                assert_eq!(applied, (!writes).then_some("tx=rollback"), "{prefer:?}");
            }
        }
    }
    let reply = owner
        .send("{ __typename }", &json!({}), &[("prefer", "tx=rollback")])
        .await;
    reply.response().data();
}
