//! The service logs the heads of the audit logs.

use macro_rules_attribute::apply;
use palisade::auth::role::UserRole;
use serde_json::{Value, json};

use super::{head, verify};
use crate::{
    cli::serve_in_json,
    harness::{Tenant, TestApp, eventually, palisade_test},
};

/// The number of the tenant's seals.
async fn seals(tenant: &Tenant) -> i64 {
    super::one(
        &mut tenant.begin().await.0,
        "select count(*) from audit_seals",
    )
    .await
}

#[apply(palisade_test)]
async fn the_service_logs_the_first_head_of_a_tenant_and_at_its_end_the_last_one() {
    let app = TestApp::shared().await;
    let (acme, quiet) = (app.tenant().await, app.tenant().await);
    let (service, url) = serve_in_json(&app.database_url("palisade_app")).await;
    let mut noted = Vec::new();
    for round in 1..=3 {
        let caller = app.caller(&url, acme.id, acme.owner().user, UserRole::Owner);
        let input = json!({ "asin": format!("B00000000{round}") });
        caller
            .mutate_ok("createProduct", input, "product { id }")
            .await;
        eventually("the rows are sealed", async || seals(&acme).await == round).await;
        noted.push(head(&verify(&acme, &[]).await.success()).to_owned());
    }
    let output = service.terminate().await;
    let logged: Vec<Value> = output
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .map(|event| event["fields"].clone())
        .filter(|fields| fields["seal.hash"].is_string())
        .collect();
    let fields = |number: usize| {
        let (tenant, hash) = (acme.id.to_string(), &noted[number - 1]);
        json!({
            "message": format!("the head of the audit log of {tenant} is {hash}, seal {number}"),
            "tenant.id": tenant,
            "seal.number": number,
            "seal.hash": hash,
        })
    };
    assert_eq!(logged, [fields(1), fields(3)], "{output}");
    assert!(!output.contains(&quiet.id.to_string()), "{output}");
    for head in &noted {
        verify(&acme, &["--expect-head", head]).await.success();
    }
}
