//! The command as people and supervisors run it: the built binary, its output, its exit codes.

mod demo;
mod dev;
mod log;
mod migrate;
mod schema;
mod serve;
mod settings;
mod token;
mod versions;

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use palisade::embedded::{self, Embedded};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader},
    process::{Child, Command},
    sync::OnceCell,
    task::JoinHandle,
};
use uuid::Uuid;

use crate::harness::{self, SECRET, create_database};

/// No command takes longer, even on a busy machine.
const LIMIT: Duration = Duration::from_mins(1);

/// The binary, with nothing of the environment that could configure it.
pub fn palisade(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_palisade"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("PALISADE_") || name.starts_with("PG") || name == "DATABASE_URL" {
            command.env_remove(&*name);
        }
    }
    command.kill_on_drop(true);
    command
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Exactly one line on standard error, which is the command's own.
    pub fn line(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        self.stderr
            .trim_end_matches('\n')
            .strip_prefix("palisade: ")
            .unwrap_or_else(|| panic!("{self:?}"))
    }

    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

pub async fn end_of(mut command: Command) -> Ended {
    let output = command.spawn().unwrap().wait_with_output();
    tokio::time::timeout(LIMIT, output)
        .await
        .expect("the command never ended")
        .unwrap()
        .into()
}

async fn run_command(arguments: &[&str]) -> Ended {
    end_of(palisade(arguments)).await
}

/// A running `dev` or `serve`.
struct Running {
    child: Child,
    stdout: JoinHandle<String>,
    stderr: JoinHandle<String>,
    /// The lines of standard output up to the one that was waited for.
    greeting: String,
}

/// Reads on, so that the process never waits for its reader.
fn collect(mut from: impl AsyncRead + Unpin + Send + 'static) -> JoinHandle<String> {
    tokio::spawn(async move {
        let mut text = String::new();
        from.read_to_string(&mut text).await.unwrap();
        text
    })
}

impl Running {
    /// `dev` in a directory, once it has said where its API is.
    async fn dev(dir: &Path, change: impl FnOnce(&mut Command)) -> Self {
        let dir = dir.to_str().unwrap();
        let mut command = palisade(&["dev", "--data-dir", dir, "--listen", "127.0.0.1:0"]);
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let stderr = collect(child.stderr.take().unwrap());
        let mut greeting = String::new();
        let greeted = tokio::time::timeout(LIMIT, async {
            while !greeting.lines().any(|line| line.starts_with("API ")) {
                if lines.read_line(&mut greeting).await.unwrap() == 0 {
                    return false;
                }
            }
            true
        });
        let ready = greeted.await.expect("dev never got ready");
        assert!(ready, "dev ended: {greeting}");
        Self {
            child,
            stdout: collect(lines),
            stderr,
            greeting,
        }
    }

    /// `serve`, once it says that it listens; with the address of its API.
    async fn serve(mut command: Command) -> (Self, String) {
        let mut child = command.spawn().unwrap();
        let stdout = collect(child.stdout.take().unwrap());
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut greeting = String::new();
        let listens = tokio::time::timeout(LIMIT, async {
            while !greeting.contains("listening on ") {
                assert_ne!(
                    lines.read_line(&mut greeting).await.unwrap(),
                    0,
                    "{greeting}"
                );
            }
        });
        listens.await.expect("serve never got ready");
        let url = greeting
            .split("listening on ")
            .nth(1)
            .unwrap()
            .trim()
            .to_owned();
        let stderr = collect(lines);
        (
            Self {
                child,
                stdout,
                stderr,
                greeting,
            },
            url,
        )
    }

    /// What follows a word at the start of a line of the greeting.
    fn said(&self, word: &str) -> Vec<&str> {
        let lines = self.greeting.lines();
        lines
            .filter_map(|line| line.strip_prefix(word))
            .map(str::trim)
            .collect()
    }

    fn api(&self) -> String {
        self.said("API ")[0].to_owned()
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it ended already").to_string();
        let sent = std::process::Command::new("kill")
            .args([name, &pid])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Waits for the end; answers the exit code and everything that was printed.
    async fn end(mut self) -> (Option<i32>, String) {
        let status = tokio::time::timeout(LIMIT, self.child.wait()).await;
        let status = status.expect("it never ended").unwrap();
        let printed = [
            self.greeting,
            self.stdout.await.unwrap(),
            self.stderr.await.unwrap(),
        ];
        (status.code(), printed.concat())
    }

    async fn terminate(self) -> String {
        self.signal("-TERM");
        let (code, printed) = self.end().await;
        assert_eq!(code, Some(0), "{printed}");
        assert!(!printed.contains("panicked"), "{printed}");
        printed
    }
}

/// A new directory for one test; removed when the test has passed.
async fn new_dir() -> PathBuf {
    harness::scratch(&format!("cli-{}", Uuid::now_v7().simple())).await
}

fn remove(dir: &Path) {
    std::fs::remove_dir_all(dir).unwrap();
}

/// The variables of `dev.env`, as a shell reads them.
async fn sourced(dir: &Path) -> Vec<(String, String)> {
    let script = "set -a; . \"$1\"; env -0";
    let file = dir.join("dev.env");
    let output = Command::new("sh")
        .args([
            OsStr::new("-euc"),
            OsStr::new(script),
            OsStr::new("sh"),
            file.as_os_str(),
        ])
        .env_clear()
        .output()
        .await
        .unwrap();
    let ended = Ended::from(output).ok();
    let lines = ended.split('\0').filter_map(|line| line.split_once('='));
    let mut variables: Vec<(String, String)> = lines
        .filter(|(name, _)| name.starts_with("PALISADE_"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    variables.sort();
    variables
}

async fn ask(url: &str, token: &str, document: &str) -> Value {
    let request = reqwest::Client::new().post(url).bearer_auth(token);
    let response = request
        .json(&json!({ "query": document }))
        .send()
        .await
        .unwrap();
    response.json().await.unwrap()
}

/// One cluster for the tests of commands. Its roles may be narrowed and widened without harm to the
/// service of the other modules.
static CLUSTER: OnceCell<Embedded> = OnceCell::const_new();

async fn start(dir: PathBuf) -> Embedded {
    Embedded::start(&embedded::Options {
        data_dir: dir,
        durable: false,
        bin_dir: None,
        user: None,
        cache_dir: None,
        archive_url: None,
    })
    .await
    .unwrap()
}

async fn cluster() -> &'static Embedded {
    CLUSTER
        .get_or_init(async || start(harness::scratch("postgres-of-commands").await).await)
        .await
}

/// A new, empty database, and how to reach it.
struct Database {
    name: String,
    cluster: &'static Embedded,
}

impl Database {
    async fn empty() -> Self {
        let cluster = cluster().await;
        let name = format!("palisade_test_{}", Uuid::now_v7().simple());
        let url = cluster.url("postgres", "postgres");
        let mut postgres = PgConnection::connect(&url).await.unwrap();
        create_database(&mut postgres, &name).await;
        Self { name, cluster }
    }

    async fn migrated() -> Self {
        let database = Self::empty().await;
        database.migrate("postgres").await.ok();
        database
    }

    fn url(&self, role: &str) -> String {
        self.cluster.url(role, &self.name)
    }

    async fn migrate(&self, role: &str) -> Ended {
        run_command(&["migrate", "--database-url", &self.url(role)]).await
    }

    async fn execute(&self, sql: &str) {
        use sqlx::Executor as _;

        let mut postgres = PgConnection::connect(&self.url("postgres")).await.unwrap();
        postgres
            .execute(sqlx::AssertSqlSafe(sql.to_owned()))
            .await
            .unwrap();
    }

    async fn serve(&self, role: &str) -> Ended {
        end_of(serve_command(&self.url(role))).await
    }

    async fn drop(self) {
        let url = self.cluster.url("postgres", "postgres");
        let mut postgres = PgConnection::connect(&url).await.unwrap();
        let sql = format!("drop database {} with (force)", self.name);
        sqlx::query(sqlx::AssertSqlSafe(sql))
            .execute(&mut postgres)
            .await
            .unwrap();
    }
}

fn serve_command(url: &str) -> Command {
    let mut command = palisade(&["serve", "--listen", "127.0.0.1:0", "--database-url", url]);
    command.env("PALISADE_JWT_SECRET", SECRET);
    command
}

fn demo_command(
    database: &Database,
    tenants: &str,
    projects: &str,
    invoices: &str,
    audit_logs: &str,
) -> Command {
    let (app, admin) = (database.url("palisade_app"), database.url("palisade_admin"));
    palisade(&[
        "demo",
        "--tenants",
        tenants,
        "--projects",
        projects,
        "--invoices",
        invoices,
        "--audit-logs",
        audit_logs,
        "--app-database-url",
        &app,
        "--admin-database-url",
        &admin,
    ])
}
