//! PostgreSQL is stopped (F4), frozen (F5) and read-only until it is promoted (F12).

use std::{
    fs,
    time::{Duration, Instant},
};

use macro_rules_attribute::apply;
use rustix::process::{Pid, Signal, kill_process};

use super::{Lab, Outcome, load::Load, random::seed};
use crate::harness::{eventually, palisade_test};

#[apply(palisade_test)]
async fn the_service_survives_a_fast_and_an_immediate_restart_of_the_database() {
    let seed = seed("restart of the database");
    let mut lab = Lab::start(3, &[]).await;
    let memory = lab.service_memory();
    let load = Load::start(&lab, 8, seed);
    for signal in [Signal::INT, Signal::QUIT] {
        load.wait_for_good(50).await;
        let failures = load.failures();
        lab.stop_database(signal).await;
        load.wait_for_failure(failures).await;
        assert_eq!(lab.health("live").await, 200);
        eventually("the service is not ready", async || {
            lab.health("ready").await == 503
        })
        .await;
        lab.start_database().await;
        let started = Instant::now();
        load.wait_for_good(1).await;
        eventually("the service is ready", async || lab.is_ready().await).await;
        // Two seconds on an idle machine. The tests share theirs.
        let recovered = started.elapsed();
        assert!(recovered < Duration::from_secs(5), "{recovered:?}");
    }
    load.wait_for_good(50).await;
    let report = load.finish(&lab).await;
    println!("restarts: {report:?}");
    assert_eq!(report.count("disconnected"), 0, "{report:?}");
    lab.assert_at_rest(8, memory, 64).await;
    lab.finish().await;
}

/// The processes of a PostgreSQL: the postmaster and its children.
fn processes(postmaster: Pid) -> Vec<Pid> {
    let mut found = vec![postmaster];
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
            .and_then(Pid::from_raw)
        else {
            continue;
        };
        // The fourth field is the parent. The second one, in parentheses, may contain spaces.
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        if parent == Some(postmaster.as_raw_pid()) {
            found.push(pid);
        }
    }
    found
}

#[apply(palisade_test)]
#[ignore = "slow: the database is frozen until the service gives up on it"]
async fn a_frozen_database_never_hangs_a_client_and_the_service_recovers() {
    let seed = seed("frozen database");
    let lab = Lab::start(3, &[]).await;
    let memory = lab.service_memory();
    let load = Load::start(&lab, 8, seed);
    load.wait_for_good(100).await;
    let frozen = processes(lab.postmaster());
    assert!(frozen.len() > 5, "{frozen:?}");
    for pid in &frozen {
        // A backend may have ended since.
        kill_process(*pid, Signal::STOP).ok();
    }
    eventually("the service is not ready", async || {
        lab.health("ready").await == 503
    })
    .await;
    assert_eq!(lab.health("live").await, 200);
    // Each client gets a response to the request that waits for a frozen backend.
    for _ in 0..8 {
        load.wait_for_failure(load.failures()).await;
    }
    // Once the isolation was not checked for 10 s, a request fails at once.
    let mut refused = Duration::MAX;
    eventually("requests fail at once", async || {
        let started = Instant::now();
        let outcome = lab.query("{ tenant { slug } }").await;
        refused = started.elapsed();
        outcome.code() == "UNAVAILABLE" && refused < Duration::from_secs(1)
    })
    .await;
    assert_eq!(lab.health("live").await, 200);
    for pid in frozen.iter().rev() {
        kill_process(*pid, Signal::CONT).ok();
    }
    let resumed = Instant::now();
    load.wait_for_good(1).await;
    eventually("the service is ready", async || lab.is_ready().await).await;
    let recovered = resumed.elapsed();
    assert!(recovered < Duration::from_secs(5), "{recovered:?}");
    load.wait_for_good(50).await;
    let report = load.finish(&lab).await;
    println!("frozen: recovered after {recovered:?}: {report:?}");
    assert!(report.slowest < Duration::from_secs(15), "{report:?}");
    lab.assert_at_rest(8, memory, 64).await;
    lab.finish().await;
}

const CREATE: &str = "mutation { createOrganization(input: { name: \"standby\" }) {
    organization { name } userErrors { code } } }";

#[apply(palisade_test)]
async fn a_standby_serves_reads_and_rejects_writes_until_it_is_promoted() {
    let mut lab = Lab::start(1, &[]).await;
    lab.query("{ tenant { slug } }").await.data();
    // The same cluster as a standby without a primary: PostgreSQL rejects writes with its own errors.
    let signal = lab
        .server
        .as_ref()
        .unwrap()
        .cluster_dir()
        .join("standby.signal");
    lab.stop_database(Signal::INT).await;
    fs::write(&signal, "").unwrap();
    lab.start_database().await;
    assert_eq!(
        lab.number("select pg_is_in_recovery()::integer::bigint")
            .await,
        1
    );
    eventually("the service reads", async || {
        matches!(lab.query("{ tenant { slug } }").await, Outcome::Data(_))
    })
    .await;
    for _ in 0..6 {
        let outcome = lab.query(CREATE).await;
        assert_eq!(outcome.code(), "UNAVAILABLE", "{outcome:?} {}", lab.log());
    }
    lab.execute("select pg_promote()").await;
    let data = lab.query(CREATE).await.data();
    assert_eq!(
        data["createOrganization"]["organization"]["name"],
        "standby"
    );
    let named = "select count(*) from organizations where name = 'standby'";
    assert_eq!(lab.number(named).await, 1);
    // The same connections read what they wrote.
    let read = lab.query("{ organizations { totalCount } }").await.data();
    assert_eq!(read["organizations"]["totalCount"], 1);
    lab.finish().await;
}
