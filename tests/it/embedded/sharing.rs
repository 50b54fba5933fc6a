//! Several processes that use one server.

use std::{
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    process::{Command, Stdio},
};

use futures_util::future::join_all;
use palisade::embedded::{Error, Origin};
use rustix::process::geteuid;

use super::{
    DevProcess, StopIfFailed, bin_dir, lock_is_free, query, server_pid, start, start_error,
    test_dir,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_attaches_and_does_not_stop_the_server() {
    let dir = test_dir("attach").await;
    let root = dir.join("data");
    let server = start(&root).await;
    let mut second = DevProcess::start(&root);
    let first_line = second.first_line().await;
    let attached = format!(
        "{} attached to the server of another process",
        server.version()
    );
    assert!(first_line.contains(&attached), "{first_line}");
    second.stop().await;

    let third = start(&root).await;
    assert!(third.is_attached());
    assert_eq!(third.origin(), &Origin::Attached);
    assert_eq!(third.cluster_dir(), server.cluster_dir());
    assert_eq!(third.version(), server.version());
    third.stop().await.unwrap();
    assert_eq!(query(&server, "select 'here'").await, "here");
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_five_concurrent_starts_one_starts_the_server_and_four_attach() {
    let dir = test_dir("five").await;
    let root = dir.join("data");
    let servers = join_all((0..5).map(|_| start(&root))).await;
    assert_eq!(
        servers
            .iter()
            .filter(|server| !server.is_attached())
            .count(),
        1
    );
    for server in servers {
        server.stop().await.unwrap();
    }
    assert!(lock_is_free(&root));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_started_by_hand_is_reported_and_not_stopped() {
    let dir = test_dir("by-hand").await;
    let root = dir.join("data");
    let server = start(&root).await;
    let (bin_dir, cluster) = (bin_dir(&server), server.cluster_dir().to_owned());
    server.stop().await.unwrap();
    let owner = root.metadata().unwrap();
    let pg_ctl = |verb: &str| {
        let mut command = Command::new(bin_dir.join("pg_ctl"));
        command.args([verb, "-w", "-m", "fast", "-D"]).arg(&cluster);
        let options = format!("-c listen_addresses= -k '{}'", root.display());
        command
            .args(["-l", "/dev/null", "-o", &options])
            .current_dir("/");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if geteuid().is_root() {
            command.uid(owner.uid()).gid(owner.gid());
        }
        assert!(command.status().unwrap().success(), "pg_ctl {verb}");
    };
    pg_ctl("start");
    let by_hand = server_pid(&cluster);
    let _guard = StopIfFailed(by_hand);
    let error = start_error(&root).await;
    assert_eq!(server_pid(&cluster), by_hand);
    pg_ctl("stop");
    assert!(
        matches!(error, Error::ForeignServer { pid, .. } if pid == by_hand.as_raw_pid()),
        "{error:?}"
    );
    start(&root).await.stop().await.unwrap();
}
