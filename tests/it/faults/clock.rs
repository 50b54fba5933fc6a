//! The clock of the service is wrong (F14).

use std::path::Path;

use chrono::TimeDelta;
use macro_rules_attribute::apply;

use super::Lab;
use palisade::ids::EntityId as _;

use crate::harness::{palisade_test, tokens};

/// The library of the Debian package `faketime`, which shifts the clock of a process.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

const READ: &str = "{ tenant { slug } }";

/// Starts a service whose clock is shifted, with a database whose clock is right. Returns whether it accepts a token that
/// the right clock issues, whose lifetime is half an hour.
async fn accepts_a_new_token(shift: &str) -> bool {
    let mut lab = Lab::without_service(1, &[]).await;
    let mut command = lab.service_command();
    command
        .env("LD_PRELOAD", FAKETIME)
        .env("FAKETIME", shift)
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    lab.start_service_with(command).await;
    let mut tenant = lab.tenants[0].clone();
    // The lifetime of this token includes both clocks.
    let long = lab.query(READ).await;
    let user: uuid::Uuid = sqlx::query_scalar("select id from users where tenant_id = $1")
        .bind(tenant.id.uuid())
        .fetch_one(&mut lab.superuser().await)
        .await
        .unwrap();
    tenant.token = tokens()
        .issue(tenant.id, user.into(), TimeDelta::minutes(30))
        .unwrap();
    let outcome = lab.send(&tenant, READ, None).await;
    if shift.starts_with('+') {
        // The token of five hours is still valid, and a mutation with all its timers works.
        assert_eq!(long.data()["tenant"]["slug"], tenant.slug);
        let create = "mutation { createOrganization(input: { name: \"n\" }) { organization { name } userErrors { code } } }";
        let data = lab
            .send(&lab.tenants[0], create, Some("clock-test-key"))
            .await
            .data();
        assert_eq!(data["createOrganization"]["organization"]["name"], "n");
    } else {
        // Issued in the future of the service.
        assert_eq!(long.code(), "UNAUTHENTICATED", "{long:?}");
    }
    let accepted = outcome.code() != "UNAUTHENTICATED";
    lab.finish().await;
    accepted
}

#[apply(palisade_test)]
async fn the_service_judges_tokens_by_its_own_clock_and_works_with_a_wrong_one() {
    if !Path::new(FAKETIME).exists() {
        println!("the package faketime is not installed: the clock of the service is not shifted");
        return;
    }
    // An hour later, a token of half an hour has expired. An hour earlier, it is from the future.
    assert!(!accepts_a_new_token("+1h").await);
    assert!(!accepts_a_new_token("-1h").await);
    // Within the leeway of 5 s.
    assert!(accepts_a_new_token("+2s").await);
}
