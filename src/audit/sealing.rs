//! Seals the audit log about a second after its rows were written. No writer waits for it.
//!
//! The database function `app.seal_audit_log` defines what a seal is and which rows it contains. This module decides
//! when to call the function, and for which tenants.

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

/// The pause between two rounds. All rows that are written during the pause go into one seal.
const ROUND_INTERVAL: Duration = Duration::from_secs(1);
/// The pause after a failure: of one tenant, or of all of them while the database is unavailable.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);
/// The longest time that the last round may take.
const LAST_ROUND_TIMEOUT: Duration = Duration::from_secs(1);
/// The maximum number of pending tenants. The rows of a further tenant are sealed after that tenant's next write.
const MAX_PENDING_TENANTS: usize = 100_000;

/// The result of [`seal`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SealOutcome {
    /// The number of sealed rows.
    pub rows: u64,
    /// Whether another sealer works on this tenant. The other sealer may have started too early to see all rows.
    pub is_contended: bool,
}

/// Seals all unsealed rows of a tenant. Writes as many seals as necessary, each in its own transaction.
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

/// Records which tenants have written, and seals their rows in the background. Cheap to clone.
#[derive(Clone)]
pub struct Sealer(Arc<Handle>);

struct Handle {
    pending: Arc<PendingTenants>,
    /// Dropped with the last clone of the sealer. Like [`Sealer::finish`], the drop ends the task.
    stop: watch::Sender<()>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Sealer {
    /// Starts the task that seals.
    #[must_use]
    pub fn start(db: TenantDb) -> Self {
        let pending = Arc::new(PendingTenants::default());
        let (stop, stopped) = watch::channel(());
        let task = tokio::spawn(work(db, Arc::clone(&pending), stopped));
        Self(Arc::new(Handle {
            pending,
            stop,
            task: Mutex::new(Some(task)),
        }))
    }

    /// Records that a tenant has written. Never waits for the database.
    pub fn wrote(&self, tenant: TenantId) {
        self.0.pending.add(tenant);
    }

    /// Seals the rows of the pending tenants and ends the task, within a second. The rows that remain are sealed after
    /// their tenant's next write, or by `palisade audit seal`.
    pub async fn finish(&self) {
        self.0.stop.send_replace(());
        let task = self.0.task.lock().take();
        if let Some(task) = task
            && tokio::time::timeout(LAST_ROUND_TIMEOUT, task)
                .await
                .is_err()
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

/// The tenants whose rows wait for a seal.
#[derive(Default)]
struct PendingTenants {
    tenants: Mutex<HashSet<TenantId>>,
    any: Notify,
}

impl PendingTenants {
    fn add(&self, tenant: TenantId) {
        let mut tenants = self.tenants.lock();
        if tenants.len() < MAX_PENDING_TENANTS {
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

async fn work(db: TenantDb, pending: Arc<PendingTenants>, mut stop: watch::Receiver<()>) {
    let mut failing = HashMap::new();
    loop {
        tokio::select! {
            () = pending.any() => {}
            _ = stop.changed() => break,
        }
        let pause = round(&db, &pending, &mut failing).await;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop.changed() => break,
        }
    }
    failing.clear();
    round(&db, &pending, &mut failing).await;
}

/// Seals the rows of every pending tenant. A tenant whose rows could not be sealed stays pending. Of several
/// consecutive failures, only the first is logged. `failing` holds the time of the next attempt for each of these
/// tenants. Returns the pause before the next round.
async fn round(
    db: &TenantDb,
    pending: &PendingTenants,
    failing: &mut HashMap<TenantId, Instant>,
) -> Duration {
    let mut tenants = pending.take().into_iter();
    while let Some(tenant) = tenants.next() {
        if failing
            .get(&tenant)
            .is_some_and(|due| *due > Instant::now())
        {
            pending.add(tenant);
            continue;
        }
        match seal(db, tenant).await {
            Ok(sealed) => {
                failing.remove(&tenant);
                if sealed.is_contended {
                    pending.add(tenant);
                }
            }
            Err(error) => {
                let had_failed = failing
                    .insert(tenant, Instant::now() + RETRY_INTERVAL)
                    .is_some();
                if !had_failed {
                    tracing::warn!(
                        tenant.id = %tenant,
                        "cannot seal the audit log of {tenant}, trying again later: {}",
                        error.detail(),
                    );
                }
                pending.add(tenant);
                // The database is unavailable for all other tenants too.
                if error.code() == Code::Unavailable {
                    tenants.by_ref().for_each(|tenant| pending.add(tenant));
                    return RETRY_INTERVAL;
                }
            }
        }
    }
    ROUND_INTERVAL
}
