//! The private PostgreSQL: started, attached to, killed and denied.
//!
//! A server must not outlive its owner nor meet another one in its cluster, so most tests end by
//! looking at the lock, which is free only when no process of a server is left.
//!
//! Each test has a runtime of its own, because a server must not depend on the runtime of another test.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod crash;
mod directories;
mod sharing;
mod start_and_stop;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use palisade::embedded::{Embedded, Error, Options, Origin};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use sqlx::{Connection as _, PgConnection};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child, ChildStdout},
};

use crate::harness::{self, eventually};

const PALISADE: &str = env!("CARGO_BIN_EXE_palisade");

/// The directory of one test, which goes when the test has passed.
struct Scratch(PathBuf);

impl std::ops::Deref for Scratch {
    type Target = PathBuf;

    fn deref(&self) -> &PathBuf {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// An empty directory, which the server's account may enter.
async fn scratch(name: &str) -> Scratch {
    let dir = harness::scratch("embedded").await.join(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    Scratch(dir.canonicalize().unwrap())
}

fn options(data_dir: &Path) -> Options {
    Options {
        data_dir: data_dir.to_owned(),
        durable: false,
        bin_dir: None,
        user: None,
        cache_dir: None,
        archive_url: None,
    }
}

async fn start(data_dir: &Path) -> Embedded {
    Embedded::start(&options(data_dir)).await.unwrap()
}

async fn refused(data_dir: &Path) -> Error {
    Embedded::start(&options(data_dir)).await.unwrap_err()
}

/// The user and group that run the server for root; `None` for other callers.
fn account() -> Option<(u32, u32)> {
    let id = |which: &str, name: &str| {
        let output = Command::new("id").args([which, name]).output().unwrap();
        String::from_utf8(output.stdout)
            .unwrap()
            .trim()
            .parse()
            .ok()
    };
    let found = |name| Some((id("-u", name)?, id("-g", name)?));
    let is_root = geteuid().is_root();
    is_root.then(|| found("postgres").or_else(|| found("nobody")).unwrap())
}

fn bin_dir(server: &Embedded) -> PathBuf {
    match server.origin() {
        Origin::Installed(dir) | Origin::Fetched(dir) => dir.clone(),
        Origin::Attached => panic!("attached"),
    }
}

/// One value, asked for as the superuser.
async fn ask(server: &Embedded, sql: &str) -> String {
    let url = server.url("postgres", "postgres");
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let answer = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
        .fetch_one(&mut connection)
        .await;
    connection.close().await.unwrap();
    answer.unwrap()
}

/// The same through `psql`, which reads URLs differently: the server's own, or the one on PATH where
/// a package of the server brings none.
fn psql(server: &Embedded, sql: &str) -> String {
    let beside = bin_dir(server).join("psql");
    let program = if beside.exists() {
        beside
    } else {
        "psql".into()
    };
    let output = Command::new(program)
        .args(["-X", "-At", "-c", sql, &server.url("postgres", "postgres")])
        .env("PGPORT", "1")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The directory `pg<major>` with an ending in a data directory, once it is there.
fn cluster_of(root: &Path, ending: &str) -> Option<PathBuf> {
    fs::read_dir(root)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            let major = name
                .strip_prefix("pg")
                .and_then(|name| name.strip_suffix(ending));
            major.is_some_and(|major| major.parse::<u32>().is_ok())
        })
}

fn postmaster(cluster: &Path) -> Pid {
    let text = fs::read_to_string(cluster.join("postmaster.pid")).unwrap();
    Pid::from_raw(text.lines().next().unwrap().parse().unwrap()).unwrap()
}

/// Ends a server that nobody else would, if the test fails.
struct EndIfFailed(Pid);

impl Drop for EndIfFailed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = kill_process(self.0, Signal::INT);
        }
    }
}

fn lock_is_free(root: &Path) -> bool {
    File::open(root.join("lock")).unwrap().try_lock().is_ok()
}

async fn the_server_is_gone(root: &Path) {
    eventually("the server's end", async || lock_is_free(root)).await;
}

/// A service in a process of its own, `palisade dev`.
struct Service {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Service {
    fn command(program: &Path, root: &Path) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PALISADE_") {
                command.env_remove(name);
            }
        }
        command
            .args(["dev", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(root);
        command
    }

    fn spawn(command: Command) -> Self {
        let mut command = tokio::process::Command::from(command);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    fn start(root: &Path) -> Self {
        Self::spawn(Self::command(Path::new(PALISADE), root))
    }

    /// The first line it prints, when it is ready.
    async fn greeting(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).await.unwrap();
        line
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().unwrap().try_into().unwrap()).unwrap()
    }

    async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// An orderly end.
    async fn stop(mut self) {
        kill_process(self.pid(), Signal::TERM).unwrap();
        self.output
            .read_to_string(&mut String::new())
            .await
            .unwrap();
        assert!(self.child.wait().await.unwrap().success());
    }
}
