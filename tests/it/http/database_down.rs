//! The behavior of the service while its database is down, and when the database is available again.

use std::time::{Duration, Instant};

use macro_rules_attribute::apply;
use serde_json::json;

use super::{Broken, execute, query, superuser};
use crate::harness::{TestApp, eventually, palisade_test};

#[apply(palisade_test)]
async fn the_service_is_unavailable_while_the_database_is_down_and_recovers_without_a_restart() {
    let broken = Broken::new().await;
    let app = TestApp::shared().await;
    let document = "{ projects { totalCount } }";
    assert_eq!(broken.query(document).await.status, 200);
    assert_eq!(broken.health("/health/ready").await.status, 200);

    let mut postgres = superuser(app).await;
    let database = &broken.database;
    execute(
        &mut postgres,
        format!("alter database {database} with allow_connections false"),
    )
    .await;
    let terminate = format!(
        "select pg_terminate_backend(pid) from pg_stat_activity
         where datname = '{database}' and pid <> pg_backend_pid()"
    );
    execute(&mut postgres, terminate).await;
    // Every request fails now: the first get a closed connection from the pool, the others cannot connect.
    for _ in 0..6 {
        let started = Instant::now();
        let reply = broken.query(document).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (503, "UNAVAILABLE"),
            "{}",
            reply.text
        );
        assert_eq!(reply.header("retry-after"), "1");
        assert_eq!(
            reply.json()["errors"][0]["message"],
            "the service is busy, try again"
        );
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "{:?}",
            started.elapsed()
        );
    }
    assert_eq!(broken.health("/health/live").await.status, 200);
    assert_eq!(broken.health("/health/ready").await.status, 503);
    // The service still rejects an invalid token, because this check needs no database.
    assert_eq!(query(&broken.url, "garbage", document).await.status, 401);

    execute(
        &mut postgres,
        format!("alter database {database} with allow_connections true"),
    )
    .await;
    eventually("the service is ready", async || {
        broken.health("/health/ready").await.status == 200
    })
    .await;
    eventually("the service responds", async || {
        broken.query(document).await.status == 200
    })
    .await;
    for _ in 0..6 {
        assert_eq!(
            broken.query(document).await.json()["data"],
            json!({ "projects": { "totalCount": 0 } })
        );
    }
}

#[apply(palisade_test)]
async fn a_request_succeeds_although_the_database_closed_the_pooled_connections() {
    let broken = Broken::new().await;
    let mut postgres = superuser(TestApp::shared().await).await;
    let document = "{ projects { totalCount } }";
    let (one, two) = tokio::join!(broken.query(document), broken.query(document));
    assert_eq!((one.status, two.status), (200, 200));
    let terminate = format!(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = '{}'",
        broken.database
    );
    execute(&mut postgres, terminate).await;
    let reply = broken.query(document).await;
    assert_eq!(
        reply.json()["data"],
        json!({ "projects": { "totalCount": 0 } })
    );
}
