//! Backends of PostgreSQL that are terminated (F2) or killed (F3), also those of the background work (F15), and
//! transactions that PostgreSQL aborts because of a conflict (F13).

use std::time::{Duration, Instant};

use macro_rules_attribute::apply;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::json;

use super::{Lab, load::Load, random::seed};
use crate::{
    cli::run_palisade,
    harness::{eventually, palisade_test},
};

/// Checks that every row is sealed in the end, and that the seals of every tenant fit the rows.
async fn check_seals(lab: &Lab) {
    eventually("every row is sealed", async || {
        lab.number("select count(*) from audit_unsealed").await == 0
    })
    .await;
    for tenant in &lab.tenants {
        let url = lab.url("palisade_admin");
        let result = run_palisade(&[
            "audit",
            "verify",
            "--tenant",
            &tenant.slug,
            "--admin-database-url",
            &url,
        ])
        .await;
        assert_eq!(result.code, Some(0), "{result:?}");
    }
}

#[apply(palisade_test)]
async fn terminated_backends_fail_only_their_own_requests() {
    let seed = seed("terminated backends");
    let lab = Lab::start(3, &[]).await;
    let memory = lab.service_memory();
    let load = Load::start(&lab, 8, seed);
    load.wait_for_good(50).await;
    let mut terminated = 0;
    eventually("20 busy backends were terminated", async || {
        // Of every kind: the main pool, the side pool, and the connections that seal the audit log.
        terminated += lab
            .number(
                "select count(pg_terminate_backend(pid)) from (
                     select pid from pg_stat_activity where usename = 'palisade_app' and xact_start is not null
                     order by random() limit 1) busy",
            )
            .await;
        terminated >= 20
    })
    .await;
    load.wait_for_good(100).await;
    let report = load.finish(&lab).await;
    println!("{terminated} terminated backends: {report:?}");
    let failed: u64 = report.outcomes.values().sum::<u64>() - report.count("good");
    // One terminated backend fails at most one request, and no query: it runs again.
    assert!(failed <= u64::try_from(terminated).unwrap(), "{report:?}");
    assert_eq!(report.failed_reads, 0, "{report:?}");
    assert_eq!(report.count("disconnected"), 0, "{report:?}");
    check_seals(&lab).await;
    lab.assert_at_rest(8, memory, 64).await;
    lab.finish().await;
}

#[apply(palisade_test)]
async fn a_killed_backend_restarts_the_database_and_the_service_recovers() {
    let seed = seed("killed backend");
    let lab = Lab::start(3, &[]).await;
    let memory = lab.service_memory();
    let load = Load::start(&lab, 8, seed);
    for _ in 0..2 {
        load.wait_for_good(50).await;
        let backend = lab
            .number(
                "select pid::bigint from pg_stat_activity where usename = 'palisade_app' limit 1",
            )
            .await;
        let backend = Pid::from_raw(i32::try_from(backend).unwrap()).unwrap();
        kill_process(backend, Signal::KILL).unwrap();
        // Possibly no request fails: a query whose connection is lost runs again, and a request waits for a connection
        // while PostgreSQL restarts. PostgreSQL begins the restart when it has noticed the end of the process.
        eventually("the backend has ended", async || {
            test_kill_process(backend).is_err()
        })
        .await;
        let url = lab.url("postgres");
        eventually("PostgreSQL has recovered", async || {
            use sqlx::Connection as _;
            sqlx::PgConnection::connect(&url).await.is_ok()
        })
        .await;
        let recovered = Instant::now();
        load.wait_for_good(1).await;
        eventually("the service is ready", async || lab.is_ready().await).await;
        assert!(
            recovered.elapsed() < Duration::from_secs(5),
            "{:?}",
            recovered.elapsed()
        );
    }
    let report = load.finish(&lab).await;
    println!("killed backends: {report:?}");
    assert_eq!(report.count("disconnected"), 0, "{report:?}");
    check_seals(&lab).await;
    lab.assert_at_rest(8, memory, 64).await;
    lab.finish().await;
}

#[apply(palisade_test)]
#[ignore = "slow: a thousand mutations that block each other"]
async fn a_thousand_crossing_mutations_are_applied_exactly_once_each() {
    const ROUNDS: usize = 500;

    // One user has at most half of the slots.
    let lab = Lab::start(1, &["--tenant-slots", "8"]).await;
    lab.execute("alter role palisade_app set deadlock_timeout = '1ms'")
        .await;
    let mut ids = Vec::new();
    for name in ["one", "two"] {
        let document = format!(
            "mutation {{ createOrganization(input: {{ name: \"{name}\" }}) {{ organization {{ id }} }} }}"
        );
        let data = lab.query(&document).await.data();
        let id = data["createOrganization"]["organization"]["id"].clone();
        ids.push(id.as_str().unwrap().to_owned());
    }
    let crossing = async |first: &str, second: &str, way: &str| {
        for round in 0..ROUNDS {
            let update = |alias: &str, id: &str| {
                format!(
                    "{alias}: updateOrganization(input: {{ id: \"{id}\", name: \"{way} {round}\" }}) {{
                        organization {{ name }} userErrors {{ code }} }}"
                )
            };
            let document = format!(
                "mutation {{ {} {} }}",
                update("a", first),
                update("b", second)
            );
            let data = lab.query(&document).await.data();
            let done =
                json!({ "organization": { "name": format!("{way} {round}") }, "userErrors": [] });
            assert_eq!(data, json!({ "a": done, "b": done }));
        }
    };
    tokio::join!(
        crossing(&ids[0], &ids[1], "there"),
        crossing(&ids[1], &ids[0], "back")
    );
    let versions = lab
        .number(
            "select sum(version)::bigint from organizations where tenant_id <> app.canary_id(0)",
        )
        .await;
    // Each organization was created once and updated by each of the 1,000 mutations.
    assert_eq!(versions, i64::try_from(2 * (1 + 2 * ROUNDS)).unwrap());
    // PostgreSQL updates its statistics with a delay.
    eventually("there were deadlocks", async || {
        let deadlocks = "select deadlocks from pg_stat_database where datname = 'postgres'";
        lab.number(deadlocks).await > 0
    })
    .await;
    lab.finish().await;
}
