//! Starts and stops one server.

use std::{fs, future::Future, os::unix::fs::MetadataExt as _};

use palisade::embedded::{Embedded, Error, Options};
use rustix::process::test_kill_process;
use tokio::runtime::Runtime;

use super::{
    lock_is_free, options, psql, query, server_pid, start, start_error, test_dir,
    wait_until_server_exits,
};

/// Runs a future on a new runtime.
fn run<T>(future: impl Future<Output = T>) -> T {
    Runtime::new().unwrap().block_on(future)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_server_accepts_connections_and_stops_completely() {
    let dir = test_dir("cold").await;
    let root = dir.join("data");
    let server = start(&root).await;
    assert!(!server.is_attached());
    let pid = server_pid(server.cluster_dir());
    let sql = "select concat_ws(' ', current_user, current_setting('fsync'),
                   current_setting('TimeZone'), current_setting('listen_addresses'),
                   pg_size_bytes(current_setting('wal_segment_size')))";
    assert_eq!(query(&server, sql).await, "postgres off UTC  1048576");
    let version = query(&server, "show server_version").await;
    assert_eq!(version.split(' ').next(), Some(server.version()));
    for dir in [&root, server.socket_dir(), server.cluster_dir()] {
        assert_eq!(
            dir.metadata().unwrap().mode() & 0o777,
            0o700,
            "{}",
            dir.display()
        );
    }
    assert!(!lock_is_free(&root));
    server.stop().await.unwrap();
    assert!(test_kill_process(pid).is_err(), "not reaped");
    assert!(lock_is_free(&root));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_server_keeps_its_data() {
    let dir = test_dir("warm").await;
    let root = dir.join("data");
    let durable = Options {
        durable: true,
        ..options(&root)
    };
    let server = Embedded::start(&durable).await.unwrap();
    psql(&server, "create table kept as select 42 as value");
    server.stop().await.unwrap();

    let server = Embedded::start(&durable).await.unwrap();
    assert_eq!(query(&server, "select value::text from kept").await, "42");
    let durability = "select concat_ws(' ', current_setting('fsync'),
                    current_setting('full_page_writes'), current_setting('synchronous_commit'))";
    assert_eq!(query(&server, durability).await, "on on on");
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_handle_stops_the_server() {
    let dir = test_dir("dropped").await;
    let root = dir.join("data");
    drop(start(&root).await);
    wait_until_server_exits(&root).await;
}

#[test]
fn a_server_outlives_the_runtime_that_started_it() {
    let dir = run(test_dir("runtime"));
    let root = dir.join("data");
    let server = run(start(&root));
    assert_eq!(run(query(&server, "select 'here'")), "here");
    run(server.stop()).unwrap();
    assert!(lock_is_free(&root));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_error_of_a_server_that_cannot_start_has_the_end_of_its_log() {
    let dir = test_dir("broken").await;
    let root = dir.join("data");
    let server = start(&root).await;
    let cluster = server.cluster_dir().to_owned();
    server.stop().await.unwrap();
    fs::write(cluster.join("postgresql.conf"), "nonsense = on\n").unwrap();
    let error = start_error(&root).await;
    assert!(matches!(error, Error::Exited { .. }), "{error:?}");
    assert!(error.to_string().contains("nonsense"), "{error}");
    assert!(lock_is_free(&root));
}
