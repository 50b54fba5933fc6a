//! The cancellation of operations while the database does not carry it out, and what it must not delay.

use std::time::Duration;

use macro_rules_attribute::apply;
use palisade::{config::ServiceSettings, metrics};
use sqlx::PgConnection;
use tokio::{sync::Semaphore, task::JoinHandle};

use crate::harness::{
    Caller, ServiceOptions, TestApp, attempt, eventually, lock_table, palisade_test, settings,
};
use crate::storm::{WAITING, backends, patient};

const PROJECTS: &str = "{ projects { nodes { id } } }";

/// The tests change the function that cancels, and count what fails.
static ONE_AT_A_TIME: Semaphore = Semaphore::const_new(1);

fn send(caller: &Caller) -> JoinHandle<()> {
    let caller = caller.clone();
    tokio::spawn(async move { drop(caller.query(PROJECTS).await) })
}

async fn health(app: &TestApp, url: &str) -> (u16, String) {
    let url = url.replace("/graphql", "/health/ready");
    let response = app.client.get(url).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// Takes away a part of the isolation, or gives it back.
async fn set_forced(superuser: &mut PgConnection, is_forced: bool) {
    let no = if is_forced { "" } else { "no" };
    let force = format!("alter table comments {no} force row level security");
    attempt(superuser, force).await.unwrap();
}

#[apply(palisade_test)]
async fn a_cancellation_is_repeated_until_its_operation_has_ended() {
    let _permit = ONE_AT_A_TIME.acquire().await.unwrap();
    let app = patient().await;
    let tenant = app.tenant().await;
    let mut superuser = app.connect("postgres").await;
    let rename = "alter function app.cancel(text) rename to cancel_renamed";
    attempt(&mut superuser, rename.to_owned()).await.unwrap();
    let mut holder = lock_table(app, "projects").await;
    let client = send(tenant.owner());
    eventually("the statement waits", async || {
        backends(&mut superuser, WAITING).await == 1
    })
    .await;
    let failed = metrics::CANCELLATIONS_FAILED.value();
    client.abort();
    eventually("the cancellation has failed twice", async || {
        metrics::CANCELLATIONS_FAILED.value() >= failed + 2
    })
    .await;
    assert_eq!(backends(&mut superuser, WAITING).await, 1);
    let rename = "alter function app.cancel_renamed(text) rename to cancel";
    attempt(&mut superuser, rename.to_owned()).await.unwrap();
    eventually("the statement was cancelled", async || {
        backends(&mut superuser, WAITING).await == 0
    })
    .await;
    // The lock is still held.
    attempt(&mut holder, "rollback".to_owned()).await.unwrap();
}

#[apply(palisade_test)]
async fn cancellations_that_take_long_delay_neither_readiness_nor_the_isolation_check() {
    let _permit = ONE_AT_A_TIME.acquire().await.unwrap();
    let app = patient().await;
    let tenant = app.tenant().await;
    let checked = ServiceSettings {
        isolation_check_interval: Some(Duration::from_millis(100)),
        ..settings(ServiceOptions::default())
    };
    let url = app.serve_with(&app.database, checked).await;
    let caller = tenant.owner().at(&url);
    // Known to the service before the table is locked.
    caller.query("{ viewer { role } }").await.data();
    let mut superuser = app.connect("postgres").await;
    let slow = "create or replace function app.cancel(mark text) returns boolean
                language sql volatile security definer set search_path = pg_catalog, pg_temp
                as $$ select pg_sleep(3600) is null $$";
    attempt(&mut superuser, slow.to_owned()).await.unwrap();
    // The service has found a gap and its end, so it has run every rule. Some rules need locks on tables.
    set_forced(&mut superuser, false).await;
    eventually("the service has found the gap", async || {
        health(app, &url).await.0 == 503
    })
    .await;
    set_forced(&mut superuser, true).await;
    eventually("the service has found its end", async || {
        health(app, &url).await.0 == 200
    })
    .await;
    let mut holder = lock_table(app, "projects").await;
    let clients: Vec<_> = (0..4).map(|_| send(&caller)).collect();
    eventually("the statements wait", async || {
        backends(&mut superuser, WAITING).await == 4
    })
    .await;
    for client in clients {
        client.abort();
    }
    let cancelling = "query like 'select app.cancel%' and state = 'active'";
    eventually("the service cancels them", async || {
        backends(&mut superuser, cancelling).await > 0
    })
    .await;
    assert_eq!(health(app, &url).await.0, 200);
    set_forced(&mut superuser, false).await;
    eventually("the service has found the second gap", async || {
        let (status, reason) = health(app, &url).await;
        assert!(!reason.contains("could not be checked"), "{reason}");
        assert!(!reason.contains("does not respond"), "{reason}");
        status == 503
    })
    .await;
    assert_eq!(backends(&mut superuser, cancelling).await, 1);
    attempt(&mut holder, "rollback".to_owned()).await.unwrap();
    app.drop_database().await;
}
