//! The service is killed (F1), stopped (F17), and has few files (F20).

use std::time::{Duration, Instant};

use macro_rules_attribute::apply;
use rustix::process::{Signal, kill_process};
use tokio::net::TcpStream;

use super::{
    Lab, free_port,
    load::Load,
    new_client,
    random::{Random, parameter, seed},
    send,
};
use crate::{
    cli::palisade,
    harness::{attempt, eventually, palisade_test},
};

/// Kills the service again and again while clients write.
async fn kill_the_service(kills: u64) {
    let seed = seed("kills of the service");
    let mut random = Random::new(seed);
    let mut lab = Lab::start(3, &[]).await;
    let load = Load::start(&lab, 8, seed);
    let mut slowest = Duration::ZERO;
    for _ in 0..kills {
        load.wait_for_good(1 + random.below(30)).await;
        assert_eq!(lab.end_service(Signal::KILL).await, None);
        let command = lab.service_command();
        slowest = slowest.max(lab.start_service_with(command).await);
    }
    load.wait_for_good(10).await;
    let report = load.finish(&lab).await;
    println!("{kills} kills, slowest start {slowest:?}: {report:?}");
    assert!(report.acknowledged > 0);
    // Two seconds on an idle machine. The tests share theirs.
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
    let memory = lab.service_memory();
    lab.assert_at_rest(8, memory, 0).await;
    lab.finish().await;
}

#[apply(palisade_test)]
async fn a_killed_service_loses_no_acknowledged_write_and_applies_none_twice() {
    kill_the_service(parameter("PALISADE_KILLS", 3)).await;
}

#[apply(palisade_test)]
#[ignore = "slow: kills the service 50 times, or PALISADE_KILLS times"]
async fn a_service_that_is_killed_many_times_loses_no_acknowledged_write() {
    kill_the_service(parameter("PALISADE_KILLS", 50)).await;
}

#[apply(palisade_test)]
async fn a_rolling_restart_under_load_drains_and_loses_nothing() {
    let seed = seed("rolling restart");
    let mut one = Lab::start(3, &[]).await;
    let port = free_port();
    let mut child = second_service(&one, port).spawn().unwrap();
    eventually("the second service is ready", async || {
        let url = format!("http://127.0.0.1:{port}/health/ready");
        reqwest::get(url)
            .await
            .is_ok_and(|response| response.status() == 200)
    })
    .await;
    let load = Load::start_at(&one, &[one.port, port], 8, seed);
    let name = format!("{} held", one.tenants[0].slug);
    let organization = {
        let document = format!(
            "mutation {{ createOrganization(input: {{ name: \"{name}\" }}) {{ organization {{ id }} userErrors {{ code }} }} }}"
        );
        let data = one.query(&document).await.data();
        let id = &data["createOrganization"]["organization"]["id"];
        id.as_str().unwrap().to_owned()
    };
    for round in 0..2 {
        load.wait_for_good(50).await;
        // One mutation is in progress when the signal arrives: it waits for a row.
        let mut holder = one.superuser().await;
        let lock_row = "begin; select from organizations where name like '%held%' for update";
        attempt(&mut holder, lock_row.to_owned()).await.unwrap();
        let document = format!(
            "mutation {{ updateOrganization(input: {{ id: \"{organization}\", name: \"{name} {round}\" }}) {{
                organization {{ name }} userErrors {{ code }} }} }}"
        );
        let (client, port, tenant) = (new_client(), one.port, one.tenants[0].clone());
        let in_progress =
            tokio::spawn(async move { send(&client, port, &tenant, &document, None).await });
        let waits = "select count(*) from pg_stat_activity where usename = 'palisade_app' and wait_event_type = 'Lock'";
        eventually("the mutation waits", async || one.number(waits).await > 0).await;
        let started = Instant::now();
        kill_process(one.service_pid(), Signal::TERM).unwrap();
        eventually("the service accepts no connection", async || {
            TcpStream::connect(("127.0.0.1", one.port)).await.is_err()
        })
        .await;
        attempt(&mut holder, "rollback".to_owned()).await.unwrap();
        let data = in_progress.await.unwrap().data();
        assert_eq!(
            data["updateOrganization"]["organization"]["name"],
            format!("{name} {round}")
        );
        assert_eq!(one.wait_for_exit().await, Some(0), "{}", one.log());
        let drained = started.elapsed();
        assert!(drained < Duration::from_secs(12), "{drained:?}");
        load.wait_for_good(20).await;
        one.start_service().await;
    }
    load.wait_for_good(20).await;
    let report = load.finish(&one).await;
    println!("rolling restart: {report:?}");
    // Connections that the service closes while a client sends are reset. No request that has begun fails otherwise.
    assert_eq!(report.count("200 INTERNAL"), 0, "{report:?}");
    assert_eq!(report.count("503 UNAVAILABLE"), 0, "{report:?}");
    child.kill().await.unwrap();
    one.finish().await;
}

/// A service on another port with the same database.
fn second_service(lab: &Lab, port: u16) -> tokio::process::Command {
    let mut command = palisade(&[
        "serve",
        "--listen",
        &format!("127.0.0.1:{port}"),
        "--health-listen",
        "127.0.0.1:0",
        "--database-url",
        &lab.url("palisade_app"),
        "--tenant-budget",
        "0",
        "--tenant-requests",
        "0",
    ]);
    command.env("PALISADE_JWT_SECRET", crate::harness::SECRET);
    command.stdout(std::process::Stdio::null());
    command.stderr(std::process::Stdio::null());
    command
}

#[apply(palisade_test)]
async fn a_service_with_64_files_survives_more_connections_than_it_can_accept() {
    let mut lab = Lab::without_service(1, &["--pool-size", "4"]).await;
    let command = lab.service_command();
    let serve = command.as_std();
    let mut limited = tokio::process::Command::new("sh");
    limited
        .args(["-c", "ulimit -n 64; exec \"$@\"", "sh"])
        .arg(serve.get_program())
        .args(serve.get_args())
        .kill_on_drop(true);
    for (name, value) in serve.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    lab.start_service_with(limited).await;
    let memory = lab.service_memory();
    let mut sockets = Vec::new();
    for _ in 0..200 {
        sockets.push(TcpStream::connect(("127.0.0.1", lab.port)).await.unwrap());
    }
    eventually("the service has no file left", async || {
        lab.log().contains("cannot accept a connection")
    })
    .await;
    drop(sockets);
    eventually("the service is ready again", async || lab.is_ready().await).await;
    let data = lab.query("{ tenant { slug } }").await.data();
    assert_eq!(data["tenant"]["slug"], lab.tenants[0].slug);
    lab.assert_at_rest(4, memory, 64).await;
    lab.finish().await;
}
