//! Processes that are killed, and the stale files that they leave.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, chown},
        process::CommandExt as _,
    },
    process::Command,
};

use palisade::embedded::Embedded;
use rustix::process::{Signal, geteuid, kill_process};

use super::{
    DevProcess, StopIfFailed, find_cluster, options, server_pid, start, test_dir,
    wait_until_server_exits,
};
use crate::harness::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn the_server_stops_if_its_starter_is_killed() {
    let dir = test_dir("killed").await;
    let root = dir.join("data");
    let mut process = DevProcess::start(&root);
    let first_line = process.first_line().await;
    assert!(first_line.contains(" started, "), "{first_line}");
    let _guard = StopIfFailed(server_pid(&find_cluster(&root, "").unwrap()));
    process.kill().await;
    wait_until_server_exits(&root).await;
    let log = fs::read_to_string(root.join("postgres.log")).unwrap();
    assert!(
        log.contains("database system is shut down"),
        "an orderly shutdown:\n{log}"
    );
    start(&root).await.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_removes_the_stale_files_of_a_killed_server() {
    let dir = test_dir("crash").await;
    let root = dir.join("data");
    let mut process = DevProcess::start(&root);
    process.first_line().await;
    let cluster = find_cluster(&root, "").unwrap();
    kill_process(server_pid(&cluster), Signal::KILL).unwrap();
    process.kill().await;
    let stale = [
        cluster.join("postmaster.pid"),
        root.join("s/.s.PGSQL.5432.lock"),
    ];
    assert!(stale.iter().all(|file| file.exists()));
    let server = start(&root).await;
    assert!(!server.is_attached());
    server.stop().await.unwrap();

    // A start also removes stale files that contain the process id of another running process of the same account.
    let owner = root.metadata().unwrap();
    let mut other = Command::new("sleep");
    other.arg("60");
    if geteuid().is_root() {
        other.uid(owner.uid()).gid(owner.gid());
    }
    let mut other = other.spawn().unwrap();
    for file in &stale {
        fs::write(file, format!("{}\n{}\n", other.id(), cluster.display())).unwrap();
        chown(file, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    let server = Embedded::start(&options(&root)).await;
    other.kill().unwrap();
    other.wait().unwrap();
    server.unwrap().stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incomplete_cluster_is_created_again() {
    let dir = test_dir("half").await;
    let root = dir.join("data");
    let process = DevProcess::start(&root);
    eventually("initdb's first files", async || {
        find_cluster(&root, ".new0").is_some_and(|cluster| cluster.join("PG_VERSION").exists())
    })
    .await;
    process.kill().await;
    assert_eq!(find_cluster(&root, ""), None, "initdb had finished");
    let server = start(&root).await;
    assert!(!server.is_attached());
    let entries = fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.collect();
    files.sort();
    let cluster = server.cluster_dir().to_owned();
    assert_eq!(
        files,
        [
            root.join("lock"),
            cluster,
            root.join("postgres.log"),
            root.join("s")
        ]
    );
    server.stop().await.unwrap();
}
