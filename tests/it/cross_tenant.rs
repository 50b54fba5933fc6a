//! Requests of two tenants at the same time. `prove` attacks every field from another tenant.

use macro_rules_attribute::apply;
use serde_json::json;
use uuid::Uuid;

use crate::harness::{TestApp, id, palisade_test};

/// The request id of every request, so that responses can be compared byte by byte.
const REQUEST: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);

#[apply(palisade_test)]
async fn alternating_requests_of_two_tenants_for_one_id_never_mix(app: &'static TestApp) {
    let (victim, attacker) = (app.tenant().await, app.tenant().await);
    let seed = victim.seed(1, 0).await;
    let document =
        "query($id: ID!) { project(id: $id) { name owner { email } organization { slug } } }";
    let variables = json!({ "id": id("prj", seed.projects[0]) });
    for _ in 0..200 {
        let (theirs, own) = tokio::join!(
            victim.owner().bytes(document, &variables, REQUEST),
            attacker.owner().bytes(document, &variables, REQUEST),
        );
        let nothing =
            r#"{"data":{"project":null},"extensions":{"cost":{"requested":3,"actual":0}}}"#;
        assert_eq!(own.1, nothing);
        assert_eq!(theirs.1.matches(&victim.slug).count(), 3, "{}", theirs.1);
    }
}
