//! Seals the audit log about a second after its rows were written. No writer waits for it. Logs the head of each
//! tenant's chain, so that a copy of it is where no database administrator can change it.
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
    time::interval_at,
};
use uuid::Uuid;

use super::verifying::SealHash;
use crate::{
    db::{
        Operation, Purpose, TenantContext, TenantDb, TenantTx,
        audit_seal::{FULL_SEAL, SealAttempt, seal_audit_log},
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

/// The period in which the first and the last head of each tenant are logged.
const HEAD_PERIOD: Duration = Duration::from_hours(24);
/// The maximum number of tenants whose heads are kept until the end of the period. A further tenant ends the period.
const MAX_HEADS: usize = 100_000;

/// The last seal of a tenant's chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The number of the seal.
    pub number: i32,
    /// The hash of the seal.
    pub hash: SealHash,
}

/// The result of [`seal`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SealOutcome {
    /// The number of sealed rows.
    pub rows: u64,
    /// The last seal that was written; `None` if there was nothing to seal.
    pub head: Option<Head>,
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
            Ok(SealAttempt::Sealed(seal)) => {
                tx.commit().await?;
                sealed.rows += u64::from(seal.rows.unsigned_abs());
                sealed.head = Some(Head {
                    number: seal.number,
                    hash: SealHash::new(seal.hash),
                });
                if seal.rows < FULL_SEAL {
                    return Ok(sealed);
                }
            }
            Ok(SealAttempt::NothingToSeal) => {
                tx.commit().await?;
                return Ok(sealed);
            }
            Ok(SealAttempt::Contended) => {
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

/// Decides which heads are logged: for each tenant the first one of a period, and the last one of the period.
///
/// The last one is logged at the end of the period, or when the service stops. So every seal is covered by a logged
/// head within a period, and a tenant has at most two lines per period, whatever it writes.
#[derive(Debug, Default)]
struct HeadLog {
    /// The tenants with a logged head, and the head that followed it.
    heads: HashMap<TenantId, Option<Head>>,
}

impl HeadLog {
    /// Logs the first head of a tenant and keeps the later ones.
    async fn sealed(&mut self, tenant: TenantId, head: Head) {
        if let Some(later) = self.heads.get_mut(&tenant) {
            *later = Some(head);
            return;
        }
        if self.heads.len() >= MAX_HEADS {
            self.end_period().await;
        }
        log_head(tenant, &head);
        self.heads.insert(tenant, None);
    }

    /// Logs the heads that were kept.
    async fn end_period(&mut self) {
        for (at, (tenant, head)) in self.heads.drain().enumerate() {
            if let Some(head) = head {
                log_head(tenant, &head);
            }
            // Many lines take long; other tasks use the same thread.
            if at % 64 == 63 {
                tokio::task::yield_now().await;
            }
        }
    }
}

fn log_head(tenant: TenantId, head: &Head) {
    let Head { number, hash } = head;
    tracing::info!(
        tenant.id = %tenant,
        seal.number = number,
        seal.hash = %hash,
        "the head of the audit log of {tenant} is {hash}, seal {number}",
    );
}

async fn work(db: TenantDb, pending: Arc<PendingTenants>, mut stop: watch::Receiver<()>) {
    let mut failing = HashMap::new();
    let mut heads = HeadLog::default();
    let mut period = interval_at(tokio::time::Instant::now() + HEAD_PERIOD, HEAD_PERIOD);
    loop {
        tokio::select! {
            () = pending.any() => {}
            _ = period.tick() => {
                heads.end_period().await;
                continue;
            }
            _ = stop.changed() => break,
        }
        let pause = round(&db, &pending, &mut failing, &mut heads).await;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop.changed() => break,
        }
    }
    failing.clear();
    round(&db, &pending, &mut failing, &mut heads).await;
    heads.end_period().await;
}

/// Seals the rows of every pending tenant. A tenant whose rows could not be sealed stays pending. Of several
/// consecutive failures, only the first is logged. `failing` holds the time of the next attempt for each of these
/// tenants. Returns the pause before the next round.
async fn round(
    db: &TenantDb,
    pending: &PendingTenants,
    failing: &mut HashMap<TenantId, Instant>,
    heads: &mut HeadLog,
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
                if let Some(head) = sealed.head {
                    heads.sealed(tenant, head).await;
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn head(number: i32) -> Head {
        Head {
            number,
            hash: SealHash::new(vec![u8::try_from(number).unwrap(); 32]),
        }
    }

    /// The later heads that the log keeps, by tenant.
    fn kept(heads: &HeadLog) -> Vec<Option<i32>> {
        let mut kept: Vec<_> = heads
            .heads
            .values()
            .map(|head| head.as_ref().map(|head| head.number))
            .collect();
        kept.sort_unstable();
        kept
    }

    #[tokio::test]
    async fn a_period_keeps_the_last_head_of_each_tenant_until_its_end() {
        let (acme, globex) = (TenantId::generate(), TenantId::generate());
        let mut heads = HeadLog::default();
        heads.sealed(acme, head(1)).await;
        assert_eq!(
            kept(&heads),
            [None],
            "the first head is logged and not kept"
        );
        heads.sealed(acme, head(2)).await;
        heads.sealed(acme, head(3)).await;
        heads.sealed(globex, head(1)).await;
        assert_eq!(kept(&heads), [None, Some(3)]);
        heads.end_period().await;
        assert_eq!(kept(&heads), []);
        heads.sealed(acme, head(4)).await;
        assert_eq!(kept(&heads), [None]);
    }
}
