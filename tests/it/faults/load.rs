//! A load of reads and keyed mutations, whose log is compared with the database.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use palisade::ids::EntityId as _;
use parking_lot::Mutex;
use sqlx::{Connection as _, PgConnection, Row as _};
use tokio::task::JoinHandle;

use super::{Lab, LabTenant, Outcome, new_client, random::Random, send};
use crate::harness::eventually;

/// The codes of an error that tells the client to repeat the request later.
const RETRYABLE: [&str; 2] = ["UNAVAILABLE", "TIMEOUT"];

/// A write that a client sent.
#[derive(Clone, Debug)]
struct Write {
    tenant: usize,
    name: String,
    /// The id that the service returned, once it has acknowledged the write.
    id: Option<String>,
}

#[derive(Debug, Default)]
struct Log {
    writes: Vec<Write>,
    /// How often each outcome occurred.
    outcomes: BTreeMap<String, u64>,
    slowest: Duration,
    failed_reads: u64,
}

/// Clients that send requests until the load ends.
pub struct Load {
    log: Arc<Mutex<Log>>,
    good: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
    /// The longest time that a transaction of the service was idle.
    idle: JoinHandle<f64>,
}

/// What the clients of a load got.
#[derive(Debug)]
pub struct LoadReport {
    pub acknowledged: usize,
    pub outcomes: BTreeMap<String, u64>,
    pub slowest: Duration,
    pub failed_reads: u64,
}

impl LoadReport {
    pub fn count(&self, outcome: &str) -> u64 {
        self.outcomes.get(outcome).copied().unwrap_or_default()
    }
}

struct Client {
    number: usize,
    ports: Vec<u16>,
    tenants: Vec<LabTenant>,
    http: reqwest::Client,
    random: Random,
    log: Arc<Mutex<Log>>,
    good: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Load {
    pub fn start(lab: &Lab, clients: usize, seed: u64) -> Self {
        Self::start_at(lab, &[lab.port], clients, seed)
    }

    /// Starts clients that use several services in turn: after a failure, a client uses the next one.
    pub fn start_at(lab: &Lab, ports: &[u16], clients: usize, seed: u64) -> Self {
        let log = Arc::new(Mutex::new(Log::default()));
        let good = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..clients)
            .map(|number| {
                let client = Client {
                    number,
                    ports: ports.to_vec(),
                    tenants: lab.tenants.clone(),
                    http: new_client(),
                    random: Random::new(seed.wrapping_add(number as u64)),
                    log: log.clone(),
                    good: good.clone(),
                    stop: stop.clone(),
                };
                tokio::spawn(client.run())
            })
            .collect();
        Self {
            log,
            good: good.clone(),
            stop: stop.clone(),
            clients,
            idle: tokio::spawn(watch_idle_transactions(lab.url("postgres"), stop)),
        }
    }

    /// The number of good responses so far.
    pub fn good(&self) -> u64 {
        self.good.load(Ordering::Relaxed)
    }

    /// Waits for this many further good responses.
    pub async fn wait_for_good(&self, number: u64) {
        let target = self.good() + number;
        eventually("the load gets good responses", async || {
            self.check_clients();
            self.good() >= target
        })
        .await;
    }

    /// The number of failed requests so far.
    pub fn failures(&self) -> u64 {
        let log = self.log.lock();
        let all: u64 = log.outcomes.values().sum();
        all - log.outcomes.get("good").copied().unwrap_or_default()
    }

    /// Waits until more requests have failed than before.
    pub async fn wait_for_failure(&self, before: u64) {
        eventually("a request fails", async || {
            self.check_clients();
            self.failures() > before
        })
        .await;
    }

    fn check_clients(&self) {
        assert!(
            self.clients.iter().all(|client| !client.is_finished()),
            "a client has failed"
        );
    }

    /// Ends the load: each client repeats its last write until the service acknowledges it. Then compares the log of the
    /// clients with the database.
    pub async fn finish(self, lab: &Lab) -> LoadReport {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.unwrap();
        }
        let idle = self.idle.await.unwrap();
        assert!(idle < 5.0, "a transaction was idle for {idle} s");
        let log = std::mem::take(&mut *self.log.lock());
        check_writes(lab, &log.writes).await;
        LoadReport {
            acknowledged: log.writes.len(),
            outcomes: log.outcomes,
            slowest: log.slowest,
            failed_reads: log.failed_reads,
        }
    }
}

impl Client {
    async fn run(mut self) {
        let mut sequence = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let index = self.random.index(self.tenants.len());
            if self.random.chance(40) {
                sequence += 1;
                let name = format!("{} {}-{sequence}", self.tenants[index].slug, self.number);
                self.write(index, name).await;
            } else {
                self.read(index).await;
            }
        }
    }

    async fn read(&mut self, index: usize) {
        let tenant = self.tenants[index].clone();
        let document = "{ tenant { slug } organizations(first: 10) { nodes { name slug } } }";
        if let Some(data) = self.send(&tenant, document, None).await {
            assert_eq!(data["tenant"]["slug"], tenant.slug, "{data}");
            for node in data["organizations"]["nodes"].as_array().unwrap() {
                let name = node["name"].as_str().unwrap();
                assert!(name.starts_with(&tenant.slug), "{name} for {}", tenant.slug);
            }
        }
    }

    /// Sends a write with a key until the service acknowledges it.
    async fn write(&mut self, index: usize, name: String) {
        let tenant = self.tenants[index].clone();
        let document = format!(
            "mutation {{ createOrganization(input: {{ name: \"{name}\" }}) {{
                organization {{ id name }} userErrors {{ code }} }} }}"
        );
        let key = name.replace(' ', "-");
        let entry = {
            let mut log = self.log.lock();
            log.writes.push(Write {
                tenant: index,
                name: name.clone(),
                id: None,
            });
            log.writes.len() - 1
        };
        loop {
            let Some(data) = self.send(&tenant, &document, Some(&key)).await else {
                continue;
            };
            let payload = &data["createOrganization"];
            assert_eq!(payload["organization"]["name"], name, "{data}");
            let id = payload["organization"]["id"].as_str().unwrap();
            self.log.lock().writes[entry].id = Some(id.to_owned());
            return;
        }
    }

    fn record(&self, outcome: &Outcome, took: Duration, is_read: bool) {
        let mut log = self.log.lock();
        log.slowest = log.slowest.max(took);
        let name = match outcome {
            Outcome::Data(_) => "good".to_owned(),
            Outcome::Failed { status, code } => format!("{status} {code}"),
            Outcome::Disconnected => "disconnected".to_owned(),
        };
        if is_read && name != "good" {
            log.failed_reads += 1;
        }
        *log.outcomes.entry(name).or_default() += 1;
    }

    /// Sends a request, and counts its outcome. After a failure, pauses briefly and uses the next service.
    async fn send(
        &mut self,
        tenant: &LabTenant,
        document: &str,
        key: Option<&str>,
    ) -> Option<serde_json::Value> {
        let started = Instant::now();
        let outcome = send(&self.http, self.ports[0], tenant, document, key).await;
        self.record(&outcome, started.elapsed(), key.is_none());
        if let Outcome::Data(data) = outcome {
            self.good.fetch_add(1, Ordering::Relaxed);
            return Some(data);
        }
        if let Outcome::Failed { status, code } = &outcome {
            assert!(
                RETRYABLE.contains(&code.as_str()),
                "{status} {code}: {document}"
            );
        }
        self.ports.rotate_left(1);
        // The time of `Retry-After` is one second. A shorter one finds more races.
        tokio::time::sleep(Duration::from_millis(10)).await;
        None
    }
}

/// Returns the longest time in seconds that a transaction of the service was idle, until the load ends. Ignores the time
/// in which the database is away.
async fn watch_idle_transactions(url: String, stop: Arc<AtomicBool>) -> f64 {
    let mut longest: f64 = 0.0;
    let mut connection = None;
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if connection.is_none() {
            connection = PgConnection::connect(&url).await.ok();
        }
        let Some(open) = &mut connection else {
            continue;
        };
        let idle = sqlx::query_scalar::<_, f64>(
            "select coalesce(max(extract(epoch from clock_timestamp() - state_change)), 0)::float8 from pg_stat_activity
             where usename = 'palisade_app' and state like 'idle in transaction%'",
        )
        .fetch_one(open);
        match tokio::time::timeout(Duration::from_secs(1), idle).await {
            Ok(Ok(idle)) => longest = longest.max(idle),
            // After a pause of the whole server, the age includes the pause.
            _ => connection = None,
        }
    }
    longest
}

/// Compares the writes with the database: each is stored once, as the row of its tenant with the returned id, with one
/// entry in the audit log.
async fn check_writes(lab: &Lab, writes: &[Write]) {
    let mut superuser = lab.superuser().await;
    let rows = sqlx::query(
        "select o.name, o.tenant_id, replace(o.id::text, '-', ''),
                (select count(*) from audit_logs a
                  where a.tenant_id = o.tenant_id and a.subject_id = o.id and a.action = 'organization.created')
         from organizations o",
    )
    .fetch_all(&mut superuser)
    .await
    .unwrap();
    let mut stored: BTreeMap<String, Vec<(uuid::Uuid, String, i64)>> = BTreeMap::new();
    for row in rows {
        let value = (row.get(1), row.get(2), row.get(3));
        stored.entry(row.get(0)).or_default().push(value);
    }
    for write in writes {
        let tenant = &lab.tenants[write.tenant];
        let found = stored.remove(&write.name).unwrap_or_default();
        let id = write
            .id
            .as_ref()
            .expect("each write is repeated until it is acknowledged");
        let [(owner, row, entries)] = &found[..] else {
            panic!("{write:?} is stored {} times", found.len())
        };
        assert_eq!(*owner, tenant.id.uuid(), "{write:?}");
        assert!(id.ends_with(row.as_str()), "{write:?}: {row}");
        assert_eq!(*entries, 1, "{write:?}");
    }
    // What remains was not written by the load.
    assert!(
        stored
            .keys()
            .all(|name| !name.contains("t-") || name.contains("held")),
        "{:?}",
        stored.keys()
    );
    let orphans = lab
        .number(
            "select count(*) from audit_logs a where a.action = 'organization.created'
             and not exists (select from organizations o where o.tenant_id = a.tenant_id and o.id = a.subject_id)",
        )
        .await;
    assert_eq!(orphans, 0, "audit entries without their row");
}
