//! The private PostgreSQL: starting, attaching, killed processes, and directories that cannot be used.
//!
//! A server must stop when the process that started it ends, and two servers must never use one cluster. Therefore,
//! most tests check the lock at their end: it is free only if no process of a server is running.
//!
//! Each test has its own runtime, because a server must not depend on the runtime of another test.
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

/// The directory of one test, which is removed if the test passes.
struct TestDir(PathBuf);

impl std::ops::Deref for TestDir {
    type Target = PathBuf;

    fn deref(&self) -> &PathBuf {
        &self.0
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// Creates an empty directory that the server's account may enter.
async fn test_dir(name: &str) -> TestDir {
    let dir = harness::scratch("embedded").await.join(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    TestDir(dir.canonicalize().unwrap())
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

async fn start_error(data_dir: &Path) -> Error {
    Embedded::start(&options(data_dir)).await.unwrap_err()
}

/// The user and the group that run the server if root starts it. `None` if another user starts it.
fn account() -> Option<(u32, u32)> {
    let id = |flag: &str, name: &str| {
        let output = Command::new("id").args([flag, name]).output().unwrap();
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
        Origin::Installed(dir) | Origin::Downloaded(dir) => dir.clone(),
        Origin::Attached => panic!("attached"),
    }
}

/// Queries one value as the superuser.
async fn query(server: &Embedded, sql: &str) -> String {
    let url = server.url("postgres", "postgres");
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let value = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
        .fetch_one(&mut connection)
        .await;
    connection.close().await.unwrap();
    value.unwrap()
}

/// Queries one value with `psql`, because `psql` parses URLs differently from sqlx. Uses the server's own `psql`, or
/// the one on PATH if the server's package has none.
fn psql(server: &Embedded, sql: &str) -> String {
    let own = bin_dir(server).join("psql");
    let program = if own.exists() { own } else { "psql".into() };
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

/// The directory `pg<major>` with this suffix in a data directory, if it exists.
fn find_cluster(root: &Path, suffix: &str) -> Option<PathBuf> {
    fs::read_dir(root)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            let major = name
                .strip_prefix("pg")
                .and_then(|name| name.strip_suffix(suffix));
            major.is_some_and(|major| major.parse::<u32>().is_ok())
        })
}

/// The process id of the server that uses a cluster.
fn server_pid(cluster: &Path) -> Pid {
    let pid_file = fs::read_to_string(cluster.join("postmaster.pid")).unwrap();
    Pid::from_raw(pid_file.lines().next().unwrap().parse().unwrap()).unwrap()
}

/// Stops a server if the test fails. No other process would stop this server.
struct StopIfFailed(Pid);

impl Drop for StopIfFailed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = kill_process(self.0, Signal::INT);
        }
    }
}

fn lock_is_free(root: &Path) -> bool {
    File::open(root.join("lock")).unwrap().try_lock().is_ok()
}

async fn wait_until_server_exits(root: &Path) {
    eventually("the server has exited", async || lock_is_free(root)).await;
}

/// A process that runs `palisade dev`.
struct DevProcess {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl DevProcess {
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
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    fn start(root: &Path) -> Self {
        Self::spawn(Self::command(Path::new(PALISADE), root))
    }

    /// The first line of the output, which the process prints when its database is ready.
    async fn first_line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).await.unwrap();
        line
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().unwrap().try_into().unwrap()).unwrap()
    }

    async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Stops the process with SIGTERM.
    async fn stop(mut self) {
        kill_process(self.pid(), Signal::TERM).unwrap();
        self.stdout
            .read_to_string(&mut String::new())
            .await
            .unwrap();
        assert!(self.child.wait().await.unwrap().success());
    }
}
