//! The limit on operations that run at once.
//!
//! The invariant: **waiting tenants get free slots in turn, and a tenant never has more than its share.** A tenant that
//! sends many operations therefore delays its own operations and not those of others. Each process has its own limit:
//! with several processes, a tenant can use the sum.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::ids::TenantId;

/// The slots of all tenants.
#[derive(Clone, Debug)]
pub struct ConcurrencyLimiter {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    slots_per_tenant: u32,
    queue: Mutex<Queue>,
}

#[derive(Debug)]
struct Queue {
    free: u32,
    running: HashMap<TenantId, u32>,
    waiting: HashMap<TenantId, VecDeque<oneshot::Sender<Slot>>>,
    /// The waiting tenants; the first one gets the next slot.
    turns: VecDeque<TenantId>,
}

/// The right to run one operation. Dropping a slot frees it for the next waiter.
#[derive(Debug)]
pub struct Slot {
    tenant: TenantId,
    /// The limiter to which the slot returns; `None` if the slot has already returned.
    limiter: Option<ConcurrencyLimiter>,
}

impl ConcurrencyLimiter {
    /// Creates a limiter with `slots` slots, at most `slots_per_tenant` of them for one tenant.
    #[must_use]
    pub fn new(slots: u32, slots_per_tenant: u32) -> Self {
        let queue = Queue {
            free: slots.max(1),
            running: HashMap::new(),
            waiting: HashMap::new(),
            turns: VecDeque::new(),
        };
        let inner = Inner {
            slots_per_tenant: slots_per_tenant.max(1),
            queue: Mutex::new(queue),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Waits for a slot, at most for `timeout`. Returns `None` if no slot became free in time.
    pub async fn try_acquire(&self, tenant: TenantId, timeout: Duration) -> Option<Slot> {
        let slot = {
            let mut queue = self.inner.queue.lock();
            let (sender, slot) = oneshot::channel();
            let waiting = queue.waiting.entry(tenant).or_default();
            waiting.push_back(sender);
            if waiting.len() == 1 {
                queue.turns.push_back(tenant);
            }
            self.hand_out(&mut queue);
            slot
        };
        // A slot that arrives after the timeout is dropped with the channel, which passes the slot on.
        tokio::time::timeout(timeout, slot).await.ok()?.ok()
    }

    /// Hands free slots to the waiting tenants, one to each in turn.
    fn hand_out(&self, queue: &mut Queue) {
        let mut skipped = 0;
        while queue.free > 0 && skipped < queue.turns.len() {
            let Some(tenant) = queue.turns.pop_front() else {
                return;
            };
            if queue.running.get(&tenant).copied().unwrap_or_default()
                >= self.inner.slots_per_tenant
            {
                queue.turns.push_back(tenant);
                skipped += 1;
                continue;
            }
            let Some(sender) = queue.next_waiter(tenant) else {
                continue;
            };
            queue.free -= 1;
            *queue.running.entry(tenant).or_default() += 1;
            skipped = 0;
            let slot = Slot {
                tenant,
                limiter: Some(self.clone()),
            };
            if let Err(mut slot) = sender.send(slot) {
                // The waiter timed out just now. The queue is locked here, and dropping the slot would lock it
                // again.
                slot.limiter = None;
                queue.take_back(tenant);
            }
        }
    }
}

impl Queue {
    /// Removes the tenant's first waiter that has not timed out. If other operations of the tenant wait, the tenant
    /// gets another turn.
    fn next_waiter(&mut self, tenant: TenantId) -> Option<oneshot::Sender<Slot>> {
        let waiting = self.waiting.get_mut(&tenant)?;
        let next = loop {
            match waiting.pop_front() {
                Some(sender) if sender.is_closed() => {}
                next => break next,
            }
        };
        if waiting.is_empty() {
            self.waiting.remove(&tenant);
        } else {
            self.turns.push_back(tenant);
        }
        next
    }

    fn take_back(&mut self, tenant: TenantId) {
        self.free += 1;
        if let Some(running) = self.running.get_mut(&tenant) {
            *running -= 1;
            if *running == 0 {
                self.running.remove(&tenant);
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(limiter) = self.limiter.take() else {
            return;
        };
        let mut queue = limiter.inner.queue.lock();
        queue.take_back(self.tenant);
        limiter.hand_out(&mut queue);
    }
}
