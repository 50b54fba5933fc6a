//! The limit on requests that run at the same time.
//!
//! The invariant: **waiting tenants get free slots in turn, a tenant never has more than its share, and a user never has
//! more than half of that, rounded up.** So a tenant that sends many requests delays its own requests and not those of
//! other tenants, and a user does not lock out the other users of the tenant. Each process has its own limit: with several
//! processes, a tenant can use the sum.
//!
//! The queues are bounded too: a request that finds a full queue is rejected at once.

use std::{collections::VecDeque, hash::Hash, sync::Arc, time::Duration};

use foldhash::HashMap;
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
    /// The number of running requests of each tenant and of each user, without zeros.
    running: HashMap<TenantId, u32>,
    running_by_user: HashMap<(TenantId, UserId), u32>,
    waiting: HashMap<TenantId, VecDeque<Waiter>>,
    /// The tenants that wait; the first one gets the next slot.
    turns: VecDeque<TenantId>,
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
            running: HashMap::default(),
            running_by_user: HashMap::default(),
            waiting: HashMap::default(),
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
            if !queue.waiting.contains_key(&tenant) && queue.may_run(tenant, user, &self.inner) {
                queue.start(tenant, user);
                return Some(self.slot(tenant, user));
            }
            let of_tenant = queue.waiting.entry(tenant).or_default();
            of_tenant.retain(|waiter| !waiter.sender.is_closed());
            let of_user = of_tenant.iter().filter(|one| one.user == user);
            if of_tenant.len() >= self.inner.max_waiting_per_tenant
                || of_user.count() >= self.inner.max_waiting_per_user
            {
                metrics::SLOT_QUEUE_FULL.increment();
                return None;
            }
            let (sender, slot) = oneshot::channel();
            of_tenant.push_back(Waiter { user, sender });
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

    fn slot(&self, tenant: TenantId, user: UserId) -> Slot {
        Slot {
            tenant,
            user,
            limiter: Some(self.clone()),
        }
    }

    /// Hands free slots to the waiting tenants, one to each in turn.
    fn hand_out(&self, queue: &mut Queue) {
        let mut skipped = 0;
        while queue.free > 0 && skipped < queue.turns.len() {
            let Some(tenant) = queue.turns.pop_front() else {
                return;
            };
            let next = queue.next_waiter(tenant, &self.inner);
            if queue.waiting.contains_key(&tenant) {
                queue.turns.push_back(tenant);
            }
            let Some(Waiter { user, sender }) = next else {
                skipped += 1;
                continue;
            };
            skipped = 0;
            queue.start(tenant, user);
            if let Err(mut slot) = sender.send(self.slot(tenant, user)) {
                // The waiter timed out just now. The queue is locked here, and dropping the slot would lock it
                // again.
                slot.limiter = None;
                queue.take_back(tenant, user);
            }
        }
    }
}

impl Queue {
    /// Whether a slot is free, and the tenant and the user have not used up their shares.
    fn may_run(&self, tenant: TenantId, user: UserId, limits: &Inner) -> bool {
        let of_tenant = self.running.get(&tenant).copied().unwrap_or_default();
        let of_user = self.running_by_user.get(&(tenant, user)).copied();
        self.free > 0
            && of_tenant < limits.slots_per_tenant
            && of_user.unwrap_or_default() < limits.slots_per_user
    }

    /// Removes the tenant's first waiter that may run now and has not timed out.
    fn next_waiter(&mut self, tenant: TenantId, limits: &Inner) -> Option<Waiter> {
        let mut waiting = self.waiting.remove(&tenant)?;
        waiting.retain(|waiter| !waiter.sender.is_closed());
        let may_run = |waiter: &Waiter| self.may_run(tenant, waiter.user, limits);
        let next = waiting.iter().position(may_run);
        let next = next.and_then(|next| waiting.remove(next));
        if !waiting.is_empty() {
            self.waiting.insert(tenant, waiting);
        }
        next
    }

    fn start(&mut self, tenant: TenantId, user: UserId) {
        self.free -= 1;
        *self.running.entry(tenant).or_default() += 1;
        *self.running_by_user.entry((tenant, user)).or_default() += 1;
    }

    fn take_back(&mut self, tenant: TenantId, user: UserId) {
        self.free += 1;
        release(&mut self.running, &tenant);
        release(&mut self.running_by_user, &(tenant, user));
    }

    #[cfg(test)]
    fn is_unused(&self) -> bool {
        self.running.is_empty() && self.running_by_user.is_empty() && self.waiting.is_empty()
    }
}

/// Subtracts one, and removes a zero.
fn release<K: Eq + Hash>(running: &mut HashMap<K, u32>, key: &K) {
    if let Some(count) = running.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            running.remove(key);
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
        assert!(limiter.inner.queue.lock().is_unused());
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
        assert!(limiter.inner.queue.lock().is_unused());
    }
}
