//! Seals the audit log, a second behind its writers, none of whom waits for it.
//!
//! What a seal is, and which rows it takes, stands in the database (`app.seal_audit_log`); here is who
//! asks for it, and when.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};
use uuid::Uuid;

use crate::{
    db::{
        Operation, Purpose, TenantContext, TenantDb, TenantTx,
        audit_seal::{FULL_SEAL, seal_audit_log},
    },
    error::{Code, Result},
    ids::TenantId,
};

/// Between two rounds: what is written meanwhile goes into one seal.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a tenant waits after a failure, and all of them while the database is away.
const RETRY: Duration = Duration::from_secs(10);
/// How long the last round may take.
const LAST: Duration = Duration::from_secs(1);
/// Most tenants that are kept in mind. The rows of one more are sealed after its next write.
const MOST: usize = 100_000;

/// What [`seal`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SealOutcome {
    /// The rows that were sealed.
    pub rows: u64,
    /// Whether another sealer is at this tenant, which may have begun too early to see every row.
    pub is_contended: bool,
}

/// Seals what a tenant has written and is not sealed yet, as many seals as it takes, each in a
/// transaction of its own.
pub async fn seal(db: &TenantDb, tenant: TenantId) -> Result<SealOutcome> {
    let context = TenantContext {
        tenant,
        user: None,
        role: None,
    };
    let mut sealed = SealOutcome::default();
    loop {
        let operation = Operation::new(Uuid::now_v7());
        let tx = TenantTx::new(db.clone(), context, Purpose::Write, operation);
        match seal_audit_log(&tx).await {
            Ok(Some(rows)) => {
                tx.commit().await?;
                sealed.rows += u64::from(rows.unsigned_abs());
                if rows < FULL_SEAL {
                    return Ok(sealed);
                }
            }
            Ok(None) => {
                tx.rollback().await;
                sealed.is_contended = true;
                return Ok(sealed);
            }
            Err(error) => {
                tx.rollback().await;
                return Err(error);
            }
        }
    }
}

/// Notes who has written, and seals it in the background. Cheap to clone.
#[derive(Clone)]
pub struct Sealer(Arc<Handle>);

struct Handle {
    noted: Arc<PendingTenants>,
    /// Dropped with the last clone, which ends the task like [`Sealer::finish`] does.
    stop: watch::Sender<()>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Sealer {
    /// Starts the one task that seals.
    #[must_use]
    pub fn start(db: TenantDb) -> Self {
        let noted = Arc::new(PendingTenants::default());
        let (stop, stopped) = watch::channel(());
        let task = tokio::spawn(work(db, Arc::clone(&noted), stopped));
        Self(Arc::new(Handle {
            noted,
            stop,
            task: Mutex::new(Some(task)),
        }))
    }

    /// Notes that a tenant's rows have changed. Never waits for the database.
    pub fn wrote(&self, tenant: TenantId) {
        self.0.noted.add(tenant);
    }

    /// Seals what was noted and ends, within a second. What is left is sealed after the tenant's next
    /// write, or by `palisade audit seal`.
    pub async fn finish(&self) {
        self.0.stop.send_replace(());
        let task = self.0.task.lock().take();
        if let Some(task) = task
            && tokio::time::timeout(LAST, task).await.is_err()
        {
            tracing::warn!("the last rows of the audit log are not sealed yet");
        }
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

/// Tenants whose rows wait for a seal.
#[derive(Default)]
struct PendingTenants {
    tenants: Mutex<HashSet<TenantId>>,
    any: Notify,
}

impl PendingTenants {
    fn add(&self, tenant: TenantId) {
        let mut tenants = self.tenants.lock();
        if tenants.len() < MOST {
            tenants.insert(tenant);
        }
        self.any.notify_one();
    }

    fn take(&self) -> HashSet<TenantId> {
        std::mem::take(&mut *self.tenants.lock())
    }

    async fn any(&self) {
        while self.tenants.lock().is_empty() {
            self.any.notified().await;
        }
    }
}

async fn work(db: TenantDb, noted: Arc<PendingTenants>, mut stop: watch::Receiver<()>) {
    let mut failing = HashMap::new();
    loop {
        tokio::select! {
            () = noted.any() => {}
            _ = stop.changed() => break,
        }
        let pause = round(&db, &noted, &mut failing).await;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop.changed() => break,
        }
    }
    failing.clear();
    round(&db, &noted, &mut failing).await;
}

/// Seals for every tenant that was noted, and notes those again that must wait. Answers how long to wait
/// for the next round. Each tenant that fails waits by itself, and the first failure of its series is
/// logged; `failing` holds when the next attempt is due.
async fn round(
    db: &TenantDb,
    noted: &PendingTenants,
    failing: &mut HashMap<TenantId, Instant>,
) -> Duration {
    let mut tenants = noted.take().into_iter();
    while let Some(tenant) = tenants.next() {
        if failing
            .get(&tenant)
            .is_some_and(|due| *due > Instant::now())
        {
            noted.add(tenant);
            continue;
        }
        match seal(db, tenant).await {
            Ok(sealed) => {
                failing.remove(&tenant);
                if sealed.is_contended {
                    noted.add(tenant);
                }
            }
            Err(error) => {
                let had_failed = failing.insert(tenant, Instant::now() + RETRY).is_some();
                if !had_failed {
                    tracing::warn!(
                        tenant.id = %tenant,
                        "cannot seal the audit log of {tenant}, trying again later: {}",
                        error.detail(),
                    );
                }
                noted.add(tenant);
                // Nobody else's rows could be sealed either.
                if error.code() == Code::Unavailable {
                    tenants.by_ref().for_each(|tenant| noted.add(tenant));
                    return RETRY;
                }
            }
        }
    }
    PAUSE
}
