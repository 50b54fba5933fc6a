//! Many tenants over few connections, with clients that disconnect at any time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use macro_rules_attribute::apply;
use serde_json::Value;

use super::{
    Lab, LabTenant, Outcome, new_client,
    random::{Random, parameter, seed},
    send,
};
use crate::harness::palisade_test;

const TENANTS: usize = 50;
const POOL: i64 = 8;
const CLIENTS: u64 = 32;

/// Checks that every string of the response that names a tenant names this one. Returns the number of such strings.
fn check_strings(value: &Value, slug: &str) -> u64 {
    match value {
        Value::String(text) => match text.find("t-") {
            Some(start) => {
                assert!(text[start..].starts_with(slug), "{text} for {slug}");
                1
            }
            None => 0,
        },
        Value::Array(values) => values.iter().map(|value| check_strings(value, slug)).sum(),
        Value::Object(fields) => fields
            .values()
            .map(|value| check_strings(value, slug))
            .sum(),
        _ => 0,
    }
}

const PAGE: &str = "{ tenant { slug } viewer { user { email } } organizations(first: 5) { totalCount nodes { name } }
    users(first: 5) { nodes { email } } }";

/// Sends this many requests of 50 tenants over a pool of 8 connections. A tenth of the clients disconnect early.
async fn storm(requests: u64) {
    let seed = seed("storm");
    let pool = POOL.to_string();
    let options = ["--pool-size", &pool, "--tenant-queue", "0"];
    let lab = Lab::start(TENANTS, &options).await;
    for tenant in &lab.tenants {
        let document = format!(
            "mutation {{ createOrganization(input: {{ name: \"{}\" }}) {{ organization {{ id }} }} }}",
            tenant.slug
        );
        lab.send(tenant, &document, None).await.data();
    }
    let memory = lab.service_memory();
    let left = Arc::new(AtomicU64::new(requests));
    let (complete, cut, failed) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicU64::new(0)),
    );
    let started = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (left, complete, cut, failed) =
                (left.clone(), complete.clone(), cut.clone(), failed.clone());
            let tenants: Vec<LabTenant> = lab.tenants.clone();
            let port = lab.port;
            tokio::spawn(async move {
                let mut random = Random::new(seed.wrapping_add(number));
                let client = new_client();
                let take = |left: u64| left.checked_sub(1);
                while left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
                    .is_ok()
                {
                    let tenant = &tenants[random.index(tenants.len())];
                    let request = send(&client, port, tenant, PAGE, None);
                    if random.chance(10) {
                        // Dropping the request closes its connection.
                        let after = Duration::from_micros(random.below(8_000));
                        if tokio::time::timeout(after, request).await.is_err() {
                            cut.fetch_add(1, Ordering::Relaxed);
                        }
                        continue;
                    }
                    match request.await {
                        Outcome::Data(data) => {
                            assert!(check_strings(&data, &tenant.slug) >= 4, "{data}");
                            complete.fetch_add(1, Ordering::Relaxed);
                        }
                        failure => {
                            assert!(
                                ["UNAVAILABLE", "TIMEOUT"].contains(&failure.code()),
                                "{failure:?}"
                            );
                            failed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            })
        })
        .collect();
    // The oldest transaction of the service, until the clients end.
    let mut oldest: f64 = 0.0;
    let mut superuser = lab.superuser().await;
    while !clients.iter().all(tokio::task::JoinHandle::is_finished) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let age: f64 = sqlx::query_scalar(
            "select coalesce(max(extract(epoch from clock_timestamp() - xact_start)), 0)::float8
             from pg_stat_activity where usename = 'palisade_app'",
        )
        .fetch_one(&mut superuser)
        .await
        .unwrap();
        oldest = oldest.max(age);
    }
    for client in clients {
        client.await.unwrap();
    }
    let counts = [complete, cut, failed].map(|count| count.load(Ordering::Relaxed));
    println!(
        "{requests} requests of {TENANTS} tenants in {:.0?}: {} complete, {} cut, {} failed; oldest transaction {oldest:.2} s",
        started.elapsed(),
        counts[0],
        counts[1],
        counts[2]
    );
    assert!(counts[0] > requests / 2);
    assert!(counts[1] > 0, "no client disconnected");
    assert!(oldest < 5.0, "{oldest} s");
    lab.assert_at_rest(POOL, memory, 96).await;
    lab.finish().await;
}

#[apply(palisade_test)]
async fn a_storm_of_fifty_tenants_with_disconnects_mixes_no_rows() {
    storm(parameter("PALISADE_STORM_REQUESTS", 2_000)).await;
}

#[apply(palisade_test)]
#[ignore = "slow: 20,000 requests, or PALISADE_STORM_REQUESTS"]
async fn a_long_storm_of_fifty_tenants_with_disconnects_mixes_no_rows() {
    storm(parameter("PALISADE_STORM_REQUESTS", 20_000)).await;
}
