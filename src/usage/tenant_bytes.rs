//! Memory that requests hold: bounded for each user, for each tenant and for the process.
//!
//! The invariants: **the sum of what a user or a tenant holds never exceeds its share, and the sum of all tenants never
//! exceeds the total**, and **a few tenants cannot take the memory of the others**: from the second half of the total, a
//! tenant gets only a small part.

use std::{hash::Hash, sync::Arc, time::Duration};

use foldhash::HashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::ids::{TenantId, UserId};

/// The divisor for what a tenant may hold of the second half of the total.
const SMALL_PART: u64 = 32;

/// The amounts of memory.
#[derive(Clone, Copy, Debug)]
pub struct Shares {
    /// The maximum number of bytes of one user.
    pub user: u64,
    /// The maximum number of bytes of one tenant.
    pub tenant: u64,
    /// The maximum number of bytes of all tenants.
    pub total: u64,
}

/// A bounded amount of memory, shared by all tenants. Its clones share one state.
#[derive(Clone, Debug)]
pub struct TenantBytes {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shares: Shares,
    held: Mutex<Held>,
    released: Notify,
}

#[derive(Debug, Default)]
struct Held {
    total: u64,
    by_tenant: HashMap<TenantId, u64>,
    by_user: HashMap<(TenantId, UserId), u64>,
}

/// Bytes that a request holds. Dropping the value releases them.
#[derive(Debug)]
pub struct HeldBytes {
    of: TenantBytes,
    tenant: TenantId,
    user: UserId,
    bytes: u64,
}

impl TenantBytes {
    /// Creates the memory.
    #[must_use]
    pub fn new(shares: Shares) -> Self {
        Self {
            inner: Arc::new(Inner {
                shares,
                held: Mutex::default(),
                released: Notify::new(),
            }),
        }
    }

    /// Holds `bytes` for a user; `None` if they do not fit now.
    #[must_use]
    pub fn try_hold(&self, tenant: TenantId, user: UserId, bytes: u64) -> Option<HeldBytes> {
        let mut held = HeldBytes::empty(self, tenant, user);
        held.try_grow(bytes).then_some(held)
    }

    /// Holds `bytes` for a user. Waits at most for `timeout` until they fit; then returns `None`.
    pub async fn hold(
        &self,
        tenant: TenantId,
        user: UserId,
        bytes: u64,
        timeout: Duration,
    ) -> Option<HeldBytes> {
        let wait = async {
            loop {
                let mut released = std::pin::pin!(self.inner.released.notified());
                // Registered before the attempt, so that a release between the attempt and the wait is not missed.
                released.as_mut().enable();
                if let Some(held) = self.try_hold(tenant, user, bytes) {
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
    /// Holds nothing yet. The request takes what it needs with [`HeldBytes::try_grow`].
    #[must_use]
    pub fn empty(of: &TenantBytes, tenant: TenantId, user: UserId) -> Self {
        Self {
            of: of.clone(),
            tenant,
            user,
            bytes: 0,
        }
    }

    /// Holds `more` bytes in addition. Returns false, and holds as many as before, if they do not fit now.
    #[must_use]
    pub fn try_grow(&mut self, more: u64) -> bool {
        if more == 0 {
            return true;
        }
        let Inner { shares, held, .. } = &*self.of.inner;
        let mut held = held.lock();
        let user = (self.tenant, self.user);
        let of_user = held.by_user.get(&user).copied().unwrap_or_default() + more;
        let of_tenant = held.by_tenant.get(&self.tenant).copied();
        let of_tenant = of_tenant.unwrap_or_default() + more;
        let total = held.total + more;
        let is_small = of_tenant <= shares.total / SMALL_PART;
        let fits = of_user <= shares.user
            && of_tenant <= shares.tenant
            && total <= shares.total
            && (is_small || total <= shares.total / 2);
        if fits {
            held.by_user.insert(user, of_user);
            held.by_tenant.insert(self.tenant, of_tenant);
            held.total = total;
            self.bytes += more;
        }
        fits
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
        release(&mut held.by_tenant, &self.tenant, self.bytes);
        release(&mut held.by_user, &(self.tenant, self.user), self.bytes);
        drop(held);
        inner.released.notify_waiters();
    }
}

/// Subtracts bytes, and removes a zero.
fn release<K: Eq + Hash>(held: &mut HashMap<K, u64>, key: &K, bytes: u64) {
    if let Some(of_key) = held.get_mut(key) {
        *of_key -= bytes;
        if *of_key == 0 {
            held.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(user: u64, tenant: u64, total: u64) -> TenantBytes {
        TenantBytes::new(Shares {
            user,
            tenant,
            total,
        })
    }

    #[test]
    fn users_and_tenants_hold_at_most_their_shares_and_all_tenants_at_most_the_total() {
        let memory = memory(30, 60, 200);
        let (acme, globex) = (TenantId::generate(), TenantId::generate());
        let (viewer, owner) = (UserId::generate(), UserId::generate());
        let of_viewer = memory.try_hold(acme, viewer, 30).unwrap();
        assert!(
            memory.try_hold(acme, viewer, 1).is_none(),
            "share of the user"
        );
        let of_owner = memory.try_hold(acme, owner, 30).unwrap();
        let another = UserId::generate();
        assert!(
            memory.try_hold(acme, another, 1).is_none(),
            "share of the tenant"
        );
        let mut held = memory.try_hold(globex, viewer, 10).unwrap();
        assert!(!held.try_grow(21));
        assert!(held.try_grow(20));
        assert_eq!(memory.held(), 90);
        drop((of_viewer, of_owner));
        assert!(memory.try_hold(acme, viewer, 30).is_some());
        drop(held);
        let state = memory.inner.held.lock();
        assert_eq!(state.total, 0);
        assert!(state.by_tenant.is_empty() && state.by_user.is_empty());
    }

    #[test]
    fn tenants_that_use_their_shares_leave_memory_to_the_others() {
        let memory = memory(160, 160, 640);
        let hold = |bytes| memory.try_hold(TenantId::generate(), UserId::generate(), bytes);
        let greedy = [hold(160), hold(160)];
        assert!(greedy.iter().all(Option::is_some));
        assert!(hold(21).is_none(), "the first half is used up");
        let others: Vec<_> = (0..16).map(|_| hold(20)).collect();
        assert!(others.iter().all(Option::is_some));
        assert!(hold(1).is_none(), "the total is used up");
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_gets_bytes_that_are_released_and_gives_up_after_its_timeout() {
        let memory = memory(60, 60, 120);
        let (tenant, user) = (TenantId::generate(), UserId::generate());
        let first = memory.try_hold(tenant, user, 60).unwrap();
        let timeout = Duration::from_secs(2);
        assert!(memory.hold(tenant, user, 1, timeout).await.is_none());
        let (waited, ()) = tokio::join!(memory.hold(tenant, user, 60, timeout), async {
            tokio::task::yield_now().await;
            drop(first);
        });
        assert!(waited.is_some());
    }
}
