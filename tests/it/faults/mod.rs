//! Faults of the database, the service, the clients, the disk and the clock. Each test starts its own PostgreSQL and its
//! own `palisade serve`, injects the fault, and checks the invariants:
//!
//! 1. No response and no row has data of another tenant.
//! 2. An acknowledged mutation is durable.
//! 3. A mutation without a response is applied completely or not at all, and can be repeated with its idempotency key.
//! 4. No transaction is idle for longer than 5 s.
//! 5. The connections and the memory return to what they were.
//! 6. Every request gets a response in time, and an error has a code that tells the client what to do.
//!
//! The slow tests are ignored by default: `cargo test --test it faults -- --include-ignored` runs them, as does `.ci/run`.
//! `PALISADE_SEED` repeats a run with the seed that it printed.

mod backends;
mod clients;
mod clock;
mod database;
mod disk;
mod kills;
mod load;
mod random;
mod schema_change;
mod storm;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use palisade::{
    auth::role::UserRole,
    db::{
        admin_tx::{AdminDb, NewMember, NewTenant},
        context::ContextSigner,
    },
    embedded::{self, Embedded},
    ids::{EntityId as _, TenantId, UserId},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tokio::process::{Child, Command};
use uuid::Uuid;

use crate::{
    cli::palisade,
    harness::{SECRET, attempt, eventually, migrate, scratch, signing, tokens},
};

/// The longest time until a request has its response: the operation timeout, the wait for a slot, and some time for a busy
/// machine.
const RESPONSE_LIMIT: Duration = Duration::from_secs(20);

/// A tenant, and the token of its owner.
#[derive(Clone, Debug)]
pub struct LabTenant {
    pub id: TenantId,
    pub slug: String,
    pub token: String,
}

/// What a client got for its request.
#[derive(Debug)]
pub enum Outcome {
    /// The data of a response without errors.
    Data(Value),
    /// An HTTP status and an error code.
    Failed { status: u16, code: String },
    /// The connection was refused or broke.
    Disconnected,
}

impl Outcome {
    pub fn data(self) -> Value {
        match self {
            Self::Data(data) => data,
            failed => panic!("{failed:?}"),
        }
    }

    pub fn code(&self) -> &str {
        match self {
            Self::Failed { code, .. } => code,
            _ => "",
        }
    }
}

/// A PostgreSQL, a running service and some tenants.
pub struct Lab {
    pub dir: PathBuf,
    pub server: Option<Embedded>,
    pub port: u16,
    pub tenants: Vec<LabTenant>,
    pub client: reqwest::Client,
    options: Vec<String>,
    service: Option<Child>,
}

impl Lab {
    /// Starts the database and the service with these options.
    pub async fn start(tenants: usize, options: &[&str]) -> Self {
        let mut lab = Self::without_service(tenants, options).await;
        lab.start_service().await;
        lab
    }

    /// Starts the database only.
    pub async fn without_service(tenants: usize, options: &[&str]) -> Self {
        let dir = scratch(&format!("faults-{}", Uuid::now_v7().simple())).await;
        let server = start_database(&dir).await;
        migrate(&server.url("postgres", "postgres")).await;
        let mut lab = Self {
            dir,
            server: Some(server),
            port: free_port(),
            tenants: Vec::new(),
            client: new_client(),
            options: options.iter().map(|&option| option.to_owned()).collect(),
            service: None,
        };
        for _ in 0..tenants {
            lab.create_tenant().await;
        }
        lab
    }

    async fn create_tenant(&mut self) {
        let id = TenantId::generate();
        let slug = format!("t-{}", id.uuid().simple());
        let owner = NewMember {
            user: UserId::generate(),
            identity: Uuid::now_v7(),
            email: format!("owner@{slug}.example"),
            display_name: "Owner".to_owned(),
            role: UserRole::Owner,
        };
        let tenant = NewTenant {
            id,
            name: slug.clone(),
            slug: slug.clone(),
            plan: "FREE".to_owned(),
        };
        let mut admin = AdminDb::connect(&self.url("palisade_admin")).await.unwrap();
        let members = std::slice::from_ref(&owner);
        let signer = ContextSigner::new(&signing());
        let created = admin.create_tenant(&tenant, members, &signer).await;
        assert!(created.unwrap());
        let life = chrono::TimeDelta::hours(5);
        let token = tokens().issue(id, owner.user, life).unwrap();
        self.tenants.push(LabTenant { id, slug, token });
    }

    pub fn url(&self, role: &str) -> String {
        self.server.as_ref().unwrap().url(role, "postgres")
    }

    pub async fn superuser(&self) -> PgConnection {
        PgConnection::connect(&self.url("postgres")).await.unwrap()
    }

    pub async fn execute(&self, sql: &str) {
        attempt(&mut self.superuser().await, sql.to_owned())
            .await
            .unwrap();
    }

    pub async fn number(&self, sql: &str) -> i64 {
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned()))
            .fetch_one(&mut self.superuser().await)
            .await
            .unwrap()
    }

    /// The process id of PostgreSQL.
    pub fn postmaster(&self) -> Pid {
        let file = self
            .server
            .as_ref()
            .unwrap()
            .cluster_dir()
            .join("postmaster.pid");
        let file = fs::read_to_string(file).unwrap();
        Pid::from_raw(file.lines().next().unwrap().parse().unwrap()).unwrap()
    }

    /// Ends PostgreSQL with a signal, and waits until the process has ended.
    pub async fn stop_database(&mut self, signal: Signal) {
        let pid = self.postmaster();
        kill_process(pid, signal).unwrap();
        let proc = PathBuf::from(format!("/proc/{}", pid.as_raw_pid()));
        eventually("PostgreSQL has ended", async || !proc.exists()).await;
        drop(self.server.take());
    }

    pub async fn start_database(&mut self) {
        self.server = Some(start_database(&self.dir).await);
    }

    /// The command of the service.
    pub fn service_command(&self) -> Command {
        let mut command = palisade(&[
            "serve",
            "--listen",
            &format!("127.0.0.1:{}", self.port),
            "--health-listen",
            "127.0.0.1:0",
            "--database-url",
            &self.url("palisade_app"),
            "--tenant-budget",
            "0",
            "--tenant-requests",
            "0",
        ]);
        command.args(&self.options);
        command.env("PALISADE_JWT_SECRET", SECRET);
        command.env("PALISADE_AUTH_DATABASE_URL", self.url("palisade_auth"));
        command
    }

    pub async fn start_service(&mut self) {
        let command = self.service_command();
        self.start_service_with(command).await;
    }

    /// Starts the service and waits until it is ready. Returns the time that this took.
    pub async fn start_service_with(&mut self, mut command: Command) -> Duration {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join("service.log"))
            .unwrap();
        command.stdout(Stdio::null()).stderr(log);
        let started = Instant::now();
        self.service = Some(command.spawn().unwrap());
        eventually("the service is ready", async || self.is_ready().await).await;
        started.elapsed()
    }

    pub fn service_pid(&self) -> Pid {
        let id = self.service.as_ref().unwrap().id().expect("it runs");
        Pid::from_raw(id.try_into().unwrap()).unwrap()
    }

    /// Sends the service a signal and waits for its exit. Returns the exit code.
    pub async fn end_service(&mut self, signal: Signal) -> Option<i32> {
        kill_process(self.service_pid(), signal).unwrap();
        self.wait_for_exit().await
    }

    /// Waits until the service has exited. Returns the exit code.
    pub async fn wait_for_exit(&mut self) -> Option<i32> {
        let mut service = self.service.take().unwrap();
        let status = tokio::time::timeout(Duration::from_secs(30), service.wait()).await;
        status.expect("the service did not exit").unwrap().code()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("service.log")).unwrap()
    }

    /// The memory of the service that is in RAM, in MiB.
    pub fn service_memory(&self) -> u64 {
        let status = format!("/proc/{}/status", self.service_pid().as_raw_pid());
        let status = fs::read_to_string(status).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.unwrap().split_whitespace().nth(1).unwrap();
        kib.parse::<u64>().unwrap() / 1024
    }

    /// The status of a health check; 0 if there is no response within 3 s.
    pub async fn health(&self, which: &str) -> u16 {
        let url = format!("http://127.0.0.1:{}/health/{which}", self.port);
        let request = self.client.get(url).timeout(Duration::from_secs(3));
        request
            .send()
            .await
            .map_or(0, |response| response.status().as_u16())
    }

    pub async fn is_ready(&self) -> bool {
        self.health("ready").await == 200
    }

    /// Sends an operation of the first tenant.
    pub async fn query(&self, document: &str) -> Outcome {
        self.send(&self.tenants[0], document, None).await
    }

    pub async fn send(&self, tenant: &LabTenant, document: &str, key: Option<&str>) -> Outcome {
        send(&self.client, self.port, tenant, document, key).await
    }

    /// Checks that no connection of the service is in a transaction, that the pool has at most `pool_size` connections and
    /// that the service needs at most `more` MiB more than before.
    pub async fn assert_at_rest(&self, pool_size: i64, memory_before: u64, more: u64) {
        let mut superuser = self.superuser().await;
        eventually("no transaction of the service is open", async || {
            let open: i64 = sqlx::query_scalar(
                "select count(*) from pg_stat_activity
                 where usename in ('palisade_app', 'palisade_auth') and (xact_start is not null or state <> 'idle')",
            )
            .fetch_one(&mut superuser)
            .await
            .unwrap();
            open == 0
        })
        .await;
        let connections = self
            .number("select count(*) from pg_stat_activity where usename = 'palisade_app'")
            .await;
        // Three more connections cancel statements, check the isolation, and check the schema and the clock.
        assert!(connections <= pool_size + 3, "{connections} connections");
        let memory = self.service_memory();
        assert!(
            memory <= memory_before + more,
            "{memory_before} MiB before, {memory} MiB now"
        );
    }

    /// Stops everything. Keeps the directory if the test fails before.
    pub async fn finish(mut self) {
        if self.service.is_some() {
            assert_eq!(
                self.end_service(Signal::TERM).await,
                Some(0),
                "{}",
                self.log()
            );
        }
        let log = self.log();
        assert!(!log.contains("panicked"), "{log}");
        if let Some(server) = self.server.take() {
            server.stop().await.unwrap();
        }
        fs::remove_dir_all(&self.dir).unwrap();
    }
}

async fn start_database(dir: &Path) -> Embedded {
    Embedded::start(&embedded::Options {
        data_dir: dir.to_owned(),
        // An acknowledged write must survive a crash.
        durable: true,
        bin_dir: None,
        user: None,
        cache_dir: None,
        archive_url: None,
    })
    .await
    .unwrap()
}

/// A port that no process uses. Each start of a service uses the same port.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

pub fn new_client() -> reqwest::Client {
    reqwest::Client::builder()
        .pool_idle_timeout(Duration::from_secs(1))
        .build()
        .unwrap()
}

/// Sends an operation. Panics if there is no response in time, or if an error has an unexpected code.
pub async fn send(
    client: &reqwest::Client,
    port: u16,
    tenant: &LabTenant,
    document: &str,
    key: Option<&str>,
) -> Outcome {
    let mut request = client
        .post(format!("http://127.0.0.1:{port}/graphql"))
        .bearer_auth(&tenant.token)
        .json(&json!({ "query": document }));
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    let exchange = async {
        let response = request.send().await.ok()?;
        let retry_after = response.headers().contains_key("retry-after");
        let status = response.status().as_u16();
        Some((status, retry_after, response.text().await.ok()?))
    };
    let Some((status, retry_after, text)) = tokio::time::timeout(RESPONSE_LIMIT, exchange)
        .await
        .unwrap_or_else(|_| panic!("no response within {RESPONSE_LIMIT:?}: {document}"))
    else {
        return Outcome::Disconnected;
    };
    let Ok(body) = serde_json::from_str::<Value>(&text) else {
        panic!("{status}: {text}")
    };
    let Some(error) = body["errors"].get(0) else {
        assert_eq!(status, 200, "{body}");
        return Outcome::Data(body["data"].clone());
    };
    let code = error["extensions"]["code"].as_str().unwrap_or_default();
    if status == 503 {
        assert!(retry_after, "{body}");
    }
    Outcome::Failed {
        status,
        code: code.to_owned(),
    }
}
