//! Killed processes, and what they leave on disk.

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
    EndIfFailed, Service, cluster_of, options, postmaster, scratch, start, the_server_is_gone,
};
use crate::harness::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_service_takes_its_server_along() {
    let dir = scratch("killed").await;
    let root = dir.join("data");
    let mut service = Service::start(&root);
    let greeting = service.greeting().await;
    assert!(greeting.contains(" started, "), "{greeting}");
    let _guard = EndIfFailed(postmaster(&cluster_of(&root, "").unwrap()));
    service.kill().await;
    the_server_is_gone(&root).await;
    let log = fs::read_to_string(root.join("postgres.log")).unwrap();
    assert!(
        log.contains("database system is shut down"),
        "an orderly shutdown:\n{log}"
    );
    start(&root).await.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_of_both_leaves_is_cleared_away() {
    let dir = scratch("crash").await;
    let root = dir.join("data");
    let mut service = Service::start(&root);
    service.greeting().await;
    let cluster = cluster_of(&root, "").unwrap();
    kill_process(postmaster(&cluster), Signal::KILL).unwrap();
    service.kill().await;
    let stale = [
        cluster.join("postmaster.pid"),
        root.join("s/.s.PGSQL.5432.lock"),
    ];
    assert!(stale.iter().all(|file| file.exists()));
    let server = start(&root).await;
    assert!(!server.attached());
    server.stop().await.unwrap();

    // The same with the number of a process that lives, of the same account.
    let owner = root.metadata().unwrap();
    let mut stranger = Command::new("sleep");
    stranger.arg("60");
    if geteuid().is_root() {
        stranger.uid(owner.uid()).gid(owner.gid());
    }
    let mut stranger = stranger.spawn().unwrap();
    for file in &stale {
        fs::write(file, format!("{}\n{}\n", stranger.id(), cluster.display())).unwrap();
        chown(file, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    let server = Embedded::start(&options(&root)).await;
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    server.unwrap().stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_made_cluster_is_started_over() {
    let dir = scratch("half").await;
    let root = dir.join("data");
    let service = Service::start(&root);
    eventually("initdb's first files", async || {
        cluster_of(&root, ".new0").is_some_and(|half| half.join("PG_VERSION").exists())
    })
    .await;
    service.kill().await;
    assert_eq!(cluster_of(&root, ""), None, "initdb was not done");
    let server = start(&root).await;
    assert!(!server.attached());
    let entries = fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut left: Vec<_> = entries.collect();
    left.sort();
    let cluster = server.data_dir().to_owned();
    assert_eq!(
        left,
        [
            root.join("lock"),
            cluster,
            root.join("postgres.log"),
            root.join("s")
        ]
    );
    server.stop().await.unwrap();
}
