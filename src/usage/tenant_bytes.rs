//! The memory that requests hold: bounded for each tenant and for the process.
//!
//! The invariant: **the sum of what a tenant holds never exceeds its share, and the sum of all tenants never exceeds
//! the total.** A share is larger than what one ordinary request needs, and smaller than the total, so one tenant
//! cannot take the memory of the others.

use std::{sync::Arc, time::Duration};

use foldhash::HashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::ids::TenantId;

/// A bounded amount of memory, shared by all tenants. Its clones share one state.
#[derive(Clone, Debug)]
pub struct TenantBytes {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    share: u64,
    total: u64,
    held: Mutex<Held>,
    released: Notify,
}

#[derive(Debug, Default)]
struct Held {
    total: u64,
    by_tenant: HashMap<TenantId, u64>,
}

/// Bytes that a request holds. Dropping the value releases them.
#[derive(Debug)]
pub struct HeldBytes {
    of: TenantBytes,
    tenant: TenantId,
    bytes: u64,
}

impl TenantBytes {
    /// Creates the memory: at most `share` bytes for one tenant and `total` bytes for all tenants together.
    #[must_use]
    pub fn new(share: u64, total: u64) -> Self {
        Self {
            inner: Arc::new(Inner {
                share,
                total,
                held: Mutex::default(),
                released: Notify::new(),
            }),
        }
    }

    /// Holds `bytes` for a tenant; `None` if they do not fit now.
    #[must_use]
    pub fn try_hold(&self, tenant: TenantId, bytes: u64) -> Option<HeldBytes> {
        let mut held = self.hold_none(tenant);
        held.try_grow(bytes).then_some(held)
    }

    /// Holds nothing yet. The request takes what it needs with [`HeldBytes::try_grow`].
    #[must_use]
    pub fn hold_none(&self, tenant: TenantId) -> HeldBytes {
        HeldBytes {
            of: self.clone(),
            tenant,
            bytes: 0,
        }
    }

    /// Holds `bytes` for a tenant. Waits at most for `timeout` until they fit; then returns `None`.
    pub async fn hold(&self, tenant: TenantId, bytes: u64, timeout: Duration) -> Option<HeldBytes> {
        let wait = async {
            loop {
                let mut released = std::pin::pin!(self.inner.released.notified());
                // Registered before the attempt, so that a release between the attempt and the wait is not missed.
                released.as_mut().enable();
                if let Some(held) = self.try_hold(tenant, bytes) {
                    return held;
                }
                released.await;
            }
        };
        tokio::time::timeout(timeout, wait).await.ok()
    }

    /// The bytes that all tenants hold now.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.inner.held.lock().total
    }
}

impl HeldBytes {
    /// Holds `more` bytes in addition. Returns false, and holds as many as before, if they do not fit now.
    #[must_use]
    pub fn try_grow(&mut self, more: u64) -> bool {
        let inner = &self.of.inner;
        let mut held = inner.held.lock();
        let of_tenant = held.by_tenant.get(&self.tenant).copied();
        let of_tenant = of_tenant.unwrap_or_default().saturating_add(more);
        let total = held.total.saturating_add(more);
        if of_tenant > inner.share || total > inner.total {
            return false;
        }
        if of_tenant > 0 {
            held.by_tenant.insert(self.tenant, of_tenant);
        }
        held.total = total;
        self.bytes += more;
        true
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let inner = &self.of.inner;
        let mut held = inner.held.lock();
        held.total -= self.bytes;
        if let Some(of_tenant) = held.by_tenant.get_mut(&self.tenant) {
            *of_tenant -= self.bytes;
            if *of_tenant == 0 {
                held.by_tenant.remove(&self.tenant);
            }
        }
        drop(held);
        inner.released.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_holds_at_most_its_share_and_all_tenants_at_most_the_total() {
        let memory = TenantBytes::new(60, 100);
        let (acme, globex) = (TenantId::generate(), TenantId::generate());
        let first = memory.try_hold(acme, 60).unwrap();
        assert!(memory.try_hold(acme, 1).is_none(), "the share is used up");
        let mut second = memory.try_hold(globex, 30).unwrap();
        assert!(!second.try_grow(11), "the total is used up");
        assert!(second.try_grow(10));
        assert_eq!(memory.held(), 100);
        drop(first);
        assert!(memory.try_hold(acme, 60).is_some());
        drop(second);
        assert_eq!(memory.held(), 0);
        assert!(memory.inner.held.lock().by_tenant.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_gets_bytes_that_are_released_and_gives_up_after_its_timeout() {
        let memory = TenantBytes::new(60, 100);
        let acme = TenantId::generate();
        let first = memory.try_hold(acme, 60).unwrap();
        let timeout = Duration::from_secs(2);
        assert!(memory.hold(acme, 1, timeout).await.is_none());
        let (waited, ()) = tokio::join!(memory.hold(acme, 60, timeout), async {
            tokio::task::yield_now().await;
            drop(first);
        });
        assert!(waited.is_some());
    }
}
