//! Keys in the input of a bulk mutation.

use futures_util::future::join_all;
use macro_rules_attribute::apply;
use serde_json::json;

use super::{count, is_replayed, with_key};
use crate::{
    create::{self, asin, fingerprint, read},
    harness::{Tenant, palisade_test, user_errors},
};

const IMPORTED: &str = "results { index product { id asin } userErrors { code } }";

#[apply(palisade_test)]
async fn a_batch_with_its_own_key_runs_once_for_the_same_input(acme: Tenant) {
    let owner = acme.owner();
    let rows = vec![json!({ "asin": asin() }), json!({ "asin": asin() })];
    let input = json!({ "rows": rows, "idempotencyKey": "key" });
    let imports = (0..10).map(|_| owner.mutate_ok("importProducts", input.clone(), IMPORTED));
    let payloads = join_all(imports).await;
    assert!(payloads.iter().all(|payload| *payload == payloads[0]));
    assert!(payloads[0]["results"][1]["product"]["id"].is_string());
    assert_eq!(count(&acme, "products").await, 2);
    // The same input twice in one request also runs once.
    let document = "mutation ($input: ImportProductsInput!) {
        a: importProducts(input: $input) { results { product { asin } } userErrors { code } }
        b: importProducts(input: $input) { results { product { asin } } userErrors { code } } }";
    let input = json!({ "rows": [{ "asin": asin() }], "idempotencyKey": "twice" });
    let reply = owner.send(document, &json!({ "input": input }), &[]).await;
    let response = reply.response();
    assert_eq!(response.data()["a"], response.data()["b"]);
    assert_eq!(response.data()["a"]["userErrors"], json!([]));
    assert_eq!(count(&acme, "products").await, 3);

    let before = fingerprint(&acme).await;
    let other_rows = json!({ "rows": [rows[1], rows[0]], "idempotencyKey": "key" });
    let other_terms = json!({ "rows": rows, "atomic": false, "idempotencyKey": "key" });
    for input in [other_rows, other_terms] {
        let payload = owner.mutate("importProducts", input, IMPORTED).await;
        let expected = [("IDEMPOTENCY_MISMATCH", "input.idempotencyKey".to_owned())];
        assert_eq!(user_errors(&payload), expected);
        assert_eq!(payload["results"], json!([]));
    }
    for key in ["", &"k".repeat(256), "schlüssel"] {
        let input = json!({ "rows": [{ "asin": asin() }], "idempotencyKey": key });
        let payload = owner.mutate("importProducts", input, IMPORTED).await;
        let expected = [("INVALID", "input.idempotencyKey".to_owned())];
        assert_eq!(user_errors(&payload), expected);
    }
    assert!(fingerprint(&acme).await == before);
}

#[apply(palisade_test)]
async fn a_rejected_batch_runs_again_and_a_partly_done_batch_does_not(acme: Tenant) {
    let owner = acme.owner();
    let taken = asin();
    let payload = owner
        .mutate_ok("createProduct", json!({ "asin": taken }), "product { id }")
        .await;
    let in_the_way = payload["product"]["id"].clone();
    let rows = json!([{ "asin": taken }, { "asin": asin() }]);
    let whole = json!({ "rows": rows, "idempotencyKey": "whole" });
    let part = json!({ "rows": rows, "atomic": false, "idempotencyKey": "part" });
    let payload = owner
        .mutate("importProducts", whole.clone(), IMPORTED)
        .await;
    assert_eq!(
        user_errors(&payload),
        [("ALREADY_EXISTS", "input.rows.0.asin".to_owned())]
    );
    assert_eq!(count(&acme, "products").await, 1);
    let in_part = owner
        .mutate_ok("importProducts", part.clone(), IMPORTED)
        .await;
    assert_eq!(count(&acme, "products").await, 2);
    let second = in_part["results"][1]["product"]["id"].clone();
    assert!(second.is_string() && in_part["results"][0]["product"].is_null());

    owner
        .mutate_ok("deleteProduct", json!({ "id": in_the_way }), "")
        .await;
    let again = owner
        .mutate_ok("importProducts", part.clone(), IMPORTED)
        .await;
    assert_eq!(again, in_part);
    assert_eq!(count(&acme, "products").await, 1);
    // In the repeated response, a row that was deleted in the meantime is null.
    owner
        .mutate_ok("deleteProduct", json!({ "id": second }), "")
        .await;
    let again = owner.mutate_ok("importProducts", part, IMPORTED).await;
    assert!(again["results"][1]["product"].is_null());
    let payload = owner.mutate_ok("importProducts", whole, IMPORTED).await;
    assert!(payload["results"][0]["product"]["id"].is_string());
    assert_eq!(count(&acme, "products").await, 2);
}

#[apply(palisade_test)]
async fn a_bulk_deletion_with_its_own_key_returns_the_same_result_again(acme: Tenant) {
    let owner = acme.owner();
    let organization = create::organization(owner).await;
    let one = create::project(owner, &organization).await;
    let two = create::project(owner, &organization).await;
    let deleted = "results { index deletedId userErrors { code } }";
    // The key of an import does not conflict with the same key of a deletion.
    let import = json!({ "rows": [{ "asin": asin() }], "idempotencyKey": "key" });
    owner.mutate_ok("importProducts", import, "").await;
    let input = json!({ "ids": [one], "idempotencyKey": "key" });
    let first = owner
        .mutate_ok("deleteProjects", input.clone(), deleted)
        .await;
    assert_eq!(first["results"][0]["deletedId"], one);
    let again = owner.mutate_ok("deleteProjects", input, deleted).await;
    assert_eq!(again, first);
    let other = json!({ "ids": [two], "idempotencyKey": "key" });
    let payload = owner.mutate("deleteProjects", other, deleted).await;
    let expected = [("IDEMPOTENCY_MISMATCH", "input.idempotencyKey".to_owned())];
    assert_eq!(user_errors(&payload), expected);
    assert!(!read(owner, "project", &two, "id").await.is_null());
    // The same key in the header `Idempotency-Key` does not conflict either.
    let reply = with_key(owner, "createOrganization", &json!({ "name": "n" }), "key").await;
    assert!(!is_replayed(&reply));
    reply.response().data();
}
