//! The limit on requests that run at the same time.
//!
//! The invariant: **waiting tenants get free slots in turn, a tenant never has more than its share, and a user never has
//! more than half of that, rounded up.** So a tenant that sends many requests delays its own requests and not those of
//! other tenants, and a user does not lock out the other users of the tenant. Each process has its own limit: with several
//! processes, a tenant can use the sum.
//!
//! The queues are bounded too: a request that finds a full queue is rejected at once.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::{
    ids::{TenantId, UserId},
    metrics,
};

/// The slots of all tenants.
#[derive(Clone, Debug)]
pub struct ConcurrencyLimiter {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    slots_per_tenant: u32,
    slots_per_user: u32,
    max_waiting_per_tenant: usize,
    max_waiting_per_user: usize,
    queue: Mutex<Queue>,
}

#[derive(Debug)]
struct Queue {
    free: u32,
    tenants: HashMap<TenantId, TenantQueue>,
    /// The tenants that wait; the first one gets the next slot.
    turns: VecDeque<TenantId>,
}

/// The requests of one tenant.
#[derive(Debug, Default)]
struct TenantQueue {
    running: u32,
    /// The number of running requests of each user, without zeros.
    running_by_user: HashMap<UserId, u32>,
    waiting: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    user: UserId,
    sender: oneshot::Sender<Slot>,
}

/// The right to run one request. Dropping a slot frees it for the next waiter.
#[derive(Debug)]
pub struct Slot {
    tenant: TenantId,
    user: UserId,
    /// The limiter to which the slot returns; `None` if the slot has already returned.
    limiter: Option<ConcurrencyLimiter>,
}

impl ConcurrencyLimiter {
    /// Creates a limiter with `slots` slots, at most `slots_per_tenant` of them for one tenant. At most `max_waiting`
    /// requests of a tenant wait; 0 for no limit.
    #[must_use]
    pub fn new(slots: u32, slots_per_tenant: u32, max_waiting: u32) -> Self {
        let queue = Queue {
            free: slots.max(1),
            tenants: HashMap::new(),
            turns: VecDeque::new(),
        };
        let slots_per_tenant = slots_per_tenant.max(1);
        let max_waiting = match max_waiting {
            0 => usize::MAX,
            limit => limit as usize,
        };
        let inner = Inner {
            slots_per_tenant,
            slots_per_user: slots_per_tenant.div_ceil(2),
            max_waiting_per_tenant: max_waiting,
            max_waiting_per_user: max_waiting.div_ceil(2),
            queue: Mutex::new(queue),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Waits for a slot, at most for `timeout`. Returns `None` if no slot became free in time, or at once if too many
    /// requests of the tenant or the user wait already.
    pub async fn try_acquire(
        &self,
        tenant: TenantId,
        user: UserId,
        timeout: Duration,
    ) -> Option<Slot> {
        let slot = {
            let mut queue = self.inner.queue.lock();
            let (sender, slot) = oneshot::channel();
            let of_tenant = queue.tenants.entry(tenant).or_default();
            of_tenant
                .waiting
                .retain(|waiter| !waiter.sender.is_closed());
            let of_user = of_tenant.waiting.iter().filter(|one| one.user == user);
            if of_tenant.waiting.len() >= self.inner.max_waiting_per_tenant
                || of_user.count() >= self.inner.max_waiting_per_user
            {
                metrics::SLOT_QUEUE_FULL.increment();
                return None;
            }
            of_tenant.waiting.push_back(Waiter { user, sender });
            if !queue.turns.contains(&tenant) {
                queue.turns.push_back(tenant);
            }
            self.hand_out(&mut queue);
            slot
        };
        // A slot that arrives after the timeout is dropped with the channel, which passes the slot on.
        let slot = tokio::time::timeout(timeout, slot).await;
        if slot.is_err() {
            metrics::SLOT_TIMEOUT.increment();
        }
        slot.ok()?.ok()
    }

    /// Hands free slots to the waiting tenants, one to each in turn.
    fn hand_out(&self, queue: &mut Queue) {
        let mut skipped = 0;
        while queue.free > 0 && skipped < queue.turns.len() {
            let Some(tenant) = queue.turns.pop_front() else {
                return;
            };
            let Some(of_tenant) = queue.tenants.get_mut(&tenant) else {
                continue;
            };
            let next = of_tenant.next_waiter(&self.inner);
            if of_tenant.waiting.is_empty() {
                if next.is_none() && of_tenant.running == 0 {
                    queue.tenants.remove(&tenant);
                }
            } else {
                queue.turns.push_back(tenant);
            }
            let Some(Waiter { user, sender }) = next else {
                skipped += 1;
                continue;
            };
            skipped = 0;
            queue.free -= 1;
            queue.tenants.entry(tenant).or_default().start(user);
            let slot = Slot {
                tenant,
                user,
                limiter: Some(self.clone()),
            };
            if let Err(mut slot) = sender.send(slot) {
                // The waiter timed out just now. The queue is locked here, and dropping the slot would lock it
                // again.
                slot.limiter = None;
                queue.take_back(tenant, user);
            }
        }
    }
}

impl TenantQueue {
    /// Removes the first waiter that may run now: it has not timed out, and its user has a slot left.
    fn next_waiter(&mut self, limits: &Inner) -> Option<Waiter> {
        self.waiting.retain(|waiter| !waiter.sender.is_closed());
        if self.running >= limits.slots_per_tenant {
            return None;
        }
        let may_run = |user: &UserId| {
            let running = self.running_by_user.get(user).copied();
            running.unwrap_or_default() < limits.slots_per_user
        };
        let next = self.waiting.iter().position(|one| may_run(&one.user))?;
        self.waiting.remove(next)
    }

    fn start(&mut self, user: UserId) {
        self.running += 1;
        *self.running_by_user.entry(user).or_default() += 1;
    }
}

impl Queue {
    fn take_back(&mut self, tenant: TenantId, user: UserId) {
        self.free += 1;
        let Some(of_tenant) = self.tenants.get_mut(&tenant) else {
            return;
        };
        of_tenant.running -= 1;
        if let Some(running) = of_tenant.running_by_user.get_mut(&user) {
            *running -= 1;
            if *running == 0 {
                of_tenant.running_by_user.remove(&user);
            }
        }
        if of_tenant.running == 0 && of_tenant.waiting.is_empty() {
            self.tenants.remove(&tenant);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(limiter) = self.limiter.take() else {
            return;
        };
        let mut queue = limiter.inner.queue.lock();
        queue.take_back(self.tenant, self.user);
        limiter.hand_out(&mut queue);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[tokio::test(start_paused = true)]
    async fn a_user_has_at_most_half_of_the_slots_of_the_tenant() {
        let limiter = ConcurrencyLimiter::new(16, 4, 0);
        let tenant = TenantId::generate();
        let (viewer, owner) = (UserId::generate(), UserId::generate());
        let first = limiter.try_acquire(tenant, viewer, NOW).await.unwrap();
        let _second = limiter.try_acquire(tenant, viewer, NOW).await.unwrap();
        assert!(limiter.try_acquire(tenant, viewer, NOW).await.is_none());
        let _third = limiter.try_acquire(tenant, owner, NOW).await.unwrap();
        let _fourth = limiter.try_acquire(tenant, owner, NOW).await.unwrap();
        drop(first);
        assert!(limiter.try_acquire(tenant, owner, NOW).await.is_none());
        assert!(limiter.try_acquire(tenant, viewer, NOW).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_only_slot_of_a_tenant_serves_every_user() {
        let limiter = ConcurrencyLimiter::new(16, 1, 0);
        let tenant = TenantId::generate();
        for _ in 0..3 {
            let user = UserId::generate();
            assert!(limiter.try_acquire(tenant, user, NOW).await.is_some());
        }
        assert!(limiter.inner.queue.lock().tenants.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_finds_a_full_queue_is_rejected_at_once() {
        let limiter = ConcurrencyLimiter::new(16, 2, 32);
        let tenant = TenantId::generate();
        let (viewer, owner) = (UserId::generate(), UserId::generate());
        let running = limiter.try_acquire(tenant, viewer, NOW).await.unwrap();
        let hour = Duration::from_hours(1);
        let mut waiting = Vec::new();
        for _ in 0..16 {
            let limiter = limiter.clone();
            waiting.push(tokio::spawn(async move {
                limiter.try_acquire(tenant, viewer, hour).await
            }));
        }
        tokio::task::yield_now().await;
        let before = tokio::time::Instant::now();
        assert!(limiter.try_acquire(tenant, viewer, hour).await.is_none());
        assert_eq!(before.elapsed(), Duration::ZERO);
        // The other user does not wait after them.
        assert!(limiter.try_acquire(tenant, owner, NOW).await.is_some());
        drop(running);
        for one in waiting {
            assert!(one.await.unwrap().is_some());
        }
        assert!(limiter.inner.queue.lock().tenants.is_empty());
    }
}
