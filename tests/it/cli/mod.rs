//! The commands of the built binary: output and exit codes.

mod context;
mod demo;
mod dev;
mod doctor;
mod log;
mod migrate;
mod prove;
mod removals;
mod schema;
mod serve;
mod settings;
mod token;
mod versions;

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use palisade::embedded::{self, Embedded};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    sync::OnceCell,
    task::JoinHandle,
};
use uuid::Uuid;

use crate::harness::{self, CONTEXT_KEY, SECRET, create_database};

/// The time limit for a command, long enough for a busy machine.
const LIMIT: Duration = Duration::from_mins(1);

/// The binary, with a context key and without other environment variables that could configure it.
pub fn palisade(arguments: &[&str]) -> Command {
    let mut command = command(env!("CARGO_BIN_EXE_palisade"));
    command.args(arguments);
    command
}

/// A program, with a context key and without other environment variables that could configure the binary.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("PALISADE_") || name.starts_with("PG") || name == "DATABASE_URL" {
            command.env_remove(&*name);
        }
    }
    command.env("PALISADE_CONTEXT_KEY", CONTEXT_KEY);
    command.kill_on_drop(true);
    command
}

/// The exit code and the output of a command.
#[derive(Debug)]
pub struct CommandResult {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl CommandResult {
    /// The error message, after checking the exit code and that standard error has exactly one line.
    pub fn error_line(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        self.stderr
            .trim_end_matches('\n')
            .strip_prefix("palisade: ")
            .unwrap_or_else(|| panic!("{self:?}"))
    }

    /// Standard output, after checking that the exit code is 0.
    pub fn success(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }
}

impl From<Output> for CommandResult {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Runs a command until it exits.
pub async fn run_to_exit(command: Command) -> CommandResult {
    run_to_exit_within(LIMIT, command).await
}

/// Like [`run_to_exit`], for a command that takes long.
async fn run_to_exit_within(limit: Duration, mut command: Command) -> CommandResult {
    let output = command.spawn().unwrap().wait_with_output();
    tokio::time::timeout(limit, output)
        .await
        .expect("the command did not exit")
        .unwrap()
        .into()
}

pub async fn run_palisade(arguments: &[&str]) -> CommandResult {
    run_to_exit(palisade(arguments)).await
}

/// A running `dev` or `serve`.
pub struct Service {
    child: Child,
    stdout: Printed,
    stderr: Printed,
    /// The output of the service until it is ready.
    startup: String,
}

/// An output that a task reads. Otherwise the process would block when the pipe is full.
struct Printed {
    text: Arc<Mutex<String>>,
    end: JoinHandle<()>,
}

impl Printed {
    fn read(from: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let text = Arc::<Mutex<String>>::default();
        let read = Arc::clone(&text);
        let end = tokio::spawn(async move {
            let mut lines = BufReader::new(from);
            let mut line = String::new();
            while lines.read_line(&mut line).await.unwrap() > 0 {
                read.lock().unwrap().push_str(&line);
                line.clear();
            }
        });
        Self { text, end }
    }

    /// The text so far.
    fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    /// The whole text, after the process has closed the output.
    async fn complete(self) -> String {
        self.end.await.unwrap();
        let text = self.text.lock().unwrap();
        text.clone()
    }
}

impl Service {
    /// Starts `dev` with a data directory, and waits until it has printed the URL of its API.
    async fn dev(dir: &Path) -> Self {
        Self::dev_with(dir, |_| {}).await
    }

    /// Starts `dev` after `change` has modified its command.
    async fn dev_with(dir: &Path, change: impl FnOnce(&mut Command)) -> Self {
        let dir = dir.to_str().unwrap();
        let mut command = palisade(&["dev", "--data-dir", dir, "--listen", "127.0.0.1:0"]);
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let stderr = Printed::read(child.stderr.take().unwrap());
        let mut startup = String::new();
        let api_printed = tokio::time::timeout(LIMIT, async {
            while !startup.lines().any(|line| line.starts_with("API ")) {
                if lines.read_line(&mut startup).await.unwrap() == 0 {
                    return false;
                }
            }
            true
        });
        let ready = api_printed.await.expect("dev did not become ready");
        assert!(ready, "dev exited: {startup}");
        Self {
            child,
            stdout: Printed::read(lines),
            stderr,
            startup,
        }
    }

    /// Starts `serve`, and waits until it listens. Also returns the URL of its API.
    async fn serve(mut command: Command) -> (Self, String) {
        let mut child = command.spawn().unwrap();
        let stdout = Printed::read(child.stdout.take().unwrap());
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut startup = String::new();
        let listens = tokio::time::timeout(LIMIT, async {
            while !startup.contains("listening on ") {
                assert_ne!(lines.read_line(&mut startup).await.unwrap(), 0, "{startup}");
            }
        });
        listens.await.expect("serve did not become ready");
        let url = startup
            .split("listening on ")
            .nth(1)
            .unwrap()
            .trim()
            .to_owned();
        let stderr = Printed::read(lines);
        (
            Self {
                child,
                stdout,
                stderr,
                startup,
            },
            url,
        )
    }

    /// The rest of each startup line that begins with a label.
    fn labelled(&self, label: &str) -> Vec<&str> {
        let lines = self.startup.lines();
        lines
            .filter_map(|line| line.strip_prefix(label))
            .map(str::trim)
            .collect()
    }

    /// The URL of the API.
    fn api(&self) -> String {
        self.labelled("API ")[0].to_owned()
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().expect("the service has exited").to_string();
        let sent = std::process::Command::new("kill")
            .args([name, &pid])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Waits for the exit. Returns the exit code and the whole output.
    async fn wait(mut self) -> (Option<i32>, String) {
        let status = tokio::time::timeout(LIMIT, self.child.wait()).await;
        let status = status.expect("the service did not exit").unwrap();
        let printed = [
            self.startup,
            self.stdout.complete().await,
            self.stderr.complete().await,
        ];
        (status.code(), printed.concat())
    }

    /// Stops the service with SIGTERM, and returns the whole output.
    pub async fn terminate(self) -> String {
        self.signal("-TERM");
        let (code, printed) = self.wait().await;
        assert_eq!(code, Some(0), "{printed}");
        assert!(!printed.contains("panicked"), "{printed}");
        printed
    }
}

/// Creates the directory of one test. The test removes it if it passes.
async fn create_test_dir() -> PathBuf {
    harness::scratch(&format!("cli-{}", Uuid::now_v7().simple())).await
}

fn remove_dir(dir: &Path) {
    std::fs::remove_dir_all(dir).unwrap();
}

/// The environment variables that a shell has after it runs `dev.env`.
async fn dev_env(dir: &Path) -> BTreeMap<String, String> {
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
    let variables = CommandResult::from(output).success();
    let lines = variables
        .split('\0')
        .filter_map(|line| line.split_once('='));
    lines
        .filter(|(name, _)| name.starts_with("PALISADE_"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Sends a document to the API, and returns the response.
async fn graphql(url: &str, token: &str, document: &str) -> Value {
    let request = reqwest::Client::new().post(url).bearer_auth(token);
    let response = request
        .json(&json!({ "query": document }))
        .send()
        .await
        .unwrap();
    response.json().await.unwrap()
}

/// The cluster that the tests of commands share. Changes of its roles do not affect the other test modules.
static CLUSTER: OnceCell<Embedded> = OnceCell::const_new();

/// Starts a private PostgreSQL.
async fn start_server(dir: PathBuf) -> Embedded {
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
        .get_or_init(async || start_server(harness::scratch("postgres-of-commands").await).await)
        .await
}

/// A new database in the cluster.
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
        database.migrate("postgres").await.success();
        database
    }

    fn url(&self, role: &str) -> String {
        self.cluster.url(role, &self.name)
    }

    async fn migrate(&self, role: &str) -> CommandResult {
        run_palisade(&["migrate", "--database-url", &self.url(role)]).await
    }

    async fn execute(&self, sql: &str) {
        use sqlx::Executor as _;

        let mut postgres = PgConnection::connect(&self.url("postgres")).await.unwrap();
        postgres
            .execute(sqlx::AssertSqlSafe(sql.to_owned()))
            .await
            .unwrap();
    }

    async fn serve(&self, role: &str) -> CommandResult {
        run_to_exit(serve_command(&self.url(role))).await
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

/// Starts `serve` with a log in JSON, and waits until it listens. Also returns the URL of its API.
pub async fn serve_in_json(database_url: &str) -> (Service, String) {
    let mut command = serve_command(database_url);
    command.env("PALISADE_LOG_FORMAT", "json");
    let (service, url) = Service::serve(command).await;
    let url = url.split('"').next().unwrap().to_owned();
    (service, url)
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
