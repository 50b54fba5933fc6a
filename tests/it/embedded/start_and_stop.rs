//! Starting and stopping one server.

use std::{fs, future::Future, os::unix::fs::MetadataExt as _};

use palisade::embedded::{Embedded, Error, Options};
use rustix::process::test_kill_process;
use tokio::runtime::Runtime;

use super::{
    ask, lock_is_free, options, postmaster, psql, refused, scratch, start, the_server_is_gone,
};

/// Runs a future on a new runtime.
fn run<T>(future: impl Future<Output = T>) -> T {
    Runtime::new().unwrap().block_on(future)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_start_serves_and_a_stop_leaves_nothing_running() {
    let dir = scratch("cold").await;
    let root = dir.join("data");
    let server = start(&root).await;
    assert!(!server.attached());
    let pid = postmaster(server.data_dir());
    let sql = "select concat_ws(' ', current_user, current_setting('fsync'),
                   current_setting('TimeZone'), current_setting('listen_addresses'),
                   pg_size_bytes(current_setting('wal_segment_size')))";
    assert_eq!(ask(&server, sql).await, "postgres off UTC  1048576");
    let version = ask(&server, "show server_version").await;
    assert_eq!(version.split(' ').next(), Some(server.version()));
    for dir in [&root, server.socket_dir(), server.data_dir()] {
        assert_eq!(
            dir.metadata().unwrap().mode() & 0o777,
            0o700,
            "{}",
            dir.display()
        );
    }
    assert!(!lock_is_free(&root));
    server.stop().await.unwrap();
    assert!(test_kill_process(pid).is_err(), "reaped");
    assert!(lock_is_free(&root));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_start_keeps_what_was_written() {
    let dir = scratch("warm").await;
    let root = dir.join("data");
    let durable = Options {
        durable: true,
        ..options(&root)
    };
    let server = Embedded::start(&durable).await.unwrap();
    psql(&server, "create table kept as select 42 as answer");
    server.stop().await.unwrap();

    let server = Embedded::start(&durable).await.unwrap();
    assert_eq!(ask(&server, "select answer::text from kept").await, "42");
    let safe = "select concat_ws(' ', current_setting('fsync'),
                    current_setting('full_page_writes'), current_setting('synchronous_commit'))";
    assert_eq!(ask(&server, safe).await, "on on on");
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_it_ends_the_server() {
    let dir = scratch("dropped").await;
    let root = dir.join("data");
    drop(start(&root).await);
    the_server_is_gone(&root).await;
}

#[test]
fn it_outlives_the_runtime_that_started_it() {
    let dir = run(scratch("runtime"));
    let root = dir.join("data");
    let server = run(start(&root));
    assert_eq!(run(ask(&server, "select 'here'")), "here");
    run(server.stop()).unwrap();
    assert!(lock_is_free(&root));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_start_shows_its_log() {
    let dir = scratch("broken").await;
    let root = dir.join("data");
    let server = start(&root).await;
    let cluster = server.data_dir().to_owned();
    server.stop().await.unwrap();
    fs::write(cluster.join("postgresql.conf"), "nonsense = on\n").unwrap();
    let error = refused(&root).await;
    assert!(matches!(error, Error::Ended { .. }), "{error:?}");
    assert!(error.to_string().contains("nonsense"), "{error}");
    assert!(lock_is_free(&root));
}
