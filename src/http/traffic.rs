//! What a tenant may ask for at a time and over time, so that one does not take what all share.
//!
//! A budget counts the rows that operations fetch; it fills up steadily. Places bound what runs at once:
//! they are handed from tenant to tenant in turn, and nobody has more than a share of them. Both are
//! this process's own: with several, a tenant has the sum.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::ids::TenantId;

/// Budgets of tenants that are remembered before the full ones are forgotten.
const REMEMBERED: usize = 10_000;

/// The budgets of all tenants.
#[derive(Clone, Debug)]
pub struct Budgets(Arc<Levels>);

#[derive(Debug)]
struct Levels {
    /// Rows in a minute, and most rows at once; `None` for no bound.
    rows: Option<f64>,
    left: Mutex<HashMap<TenantId, Level>>,
}

/// What is left of a budget. Below zero if an operation fetched more than it took.
#[derive(Clone, Copy, Debug)]
struct Level {
    rows: f64,
    at: Instant,
}

/// What an operation took from its tenant's budget. All of it goes back if it is dropped before it is
/// settled: then nothing has run.
#[derive(Debug)]
pub struct Taken {
    budgets: Budgets,
    tenant: TenantId,
    rows: u64,
}

/// How a tenant stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Rows in a minute.
    pub limit: u64,
    /// Rows that can be asked for now.
    pub remaining: u64,
    /// Until the budget is full again.
    pub full_in: Duration,
}

impl Budgets {
    /// So many rows in a minute for each tenant; 0 for no bound.
    #[must_use]
    pub fn new(rows: u64) -> Self {
        Self(Arc::new(Levels {
            rows: (rows > 0).then(|| lossy(rows)),
            left: Mutex::default(),
        }))
    }

    /// Takes the rows that an operation may fetch, or says how long to wait until they are there. An
    /// operation that may fetch more than the whole budget takes a full one.
    pub fn take(&self, tenant: TenantId, rows: u64) -> Result<Taken, Duration> {
        let taken = self.change(tenant, |limit, level| {
            let needed = lossy(rows).min(limit);
            if *level < needed {
                return Err(Duration::from_secs_f64((needed - *level) / limit * 60.0));
            }
            *level -= needed;
            Ok(whole(needed))
        });
        Ok(Taken {
            budgets: self.clone(),
            tenant,
            rows: taken.unwrap_or(Ok(0))?,
        })
    }

    /// How the tenant stands; `None` if there is no bound.
    pub fn standing(&self, tenant: TenantId) -> Option<Standing> {
        self.change(tenant, |limit, level| Standing {
            limit: whole(limit),
            remaining: whole(*level),
            full_in: Duration::from_secs_f64((limit - *level) / limit * 60.0),
        })
    }

    fn change<T>(&self, tenant: TenantId, change: impl FnOnce(f64, &mut f64) -> T) -> Option<T> {
        let limit = self.0.rows?;
        let now = Instant::now();
        let filled = |level: &Level| {
            let gained = now.duration_since(level.at).as_secs_f64() / 60.0 * limit;
            (level.rows + gained).min(limit)
        };
        let mut left = lock(&self.0.left);
        if left.len() > REMEMBERED {
            left.retain(|_, level| filled(level) < limit);
        }
        let level = left.entry(tenant).or_insert(Level {
            rows: limit,
            at: now,
        });
        *level = Level {
            rows: filled(level),
            at: now,
        };
        Some(change(limit, &mut level.rows))
    }
}

impl Taken {
    /// How many rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Pays what was fetched: the rest goes back, and what is beyond is taken as well, of rows to come.
    pub fn settle(mut self, fetched: u64) {
        self.change(lossy(self.rows) - lossy(fetched));
        self.rows = 0;
    }

    fn change(&self, rows: f64) {
        self.budgets.change(self.tenant, |limit, level| {
            // One that fetched far more than it took costs its tenant a minute at most, before the next.
            *level = (*level + rows).clamp(-limit, limit);
        });
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.change(lossy(self.rows));
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a budget need not be exact beyond 2^52 rows"
)]
fn lossy(rows: u64) -> f64 {
    rows as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a level is at most its limit, and one below zero counts as none left"
)]
fn whole(rows: f64) -> u64 {
    rows as u64
}

/// The places of operations that run at once.
#[derive(Clone, Debug)]
pub struct Places(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    of_one: u32,
    queue: Mutex<Queue>,
}

#[derive(Debug)]
struct Queue {
    free: u32,
    running: HashMap<TenantId, u32>,
    waiting: HashMap<TenantId, VecDeque<oneshot::Sender<Place>>>,
    /// The tenants that wait, the next first.
    turns: VecDeque<TenantId>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub struct Place {
    tenant: TenantId,
    /// Where it goes back to, unless it is there already.
    places: Option<Places>,
}

impl Places {
    /// So many for all, and at most so many for one tenant.
    #[must_use]
    pub fn new(all: u32, of_one: u32) -> Self {
        let queue = Queue {
            free: all.max(1),
            running: HashMap::new(),
            waiting: HashMap::new(),
            turns: VecDeque::new(),
        };
        Self(Arc::new(Shared {
            of_one: of_one.max(1),
            queue: Mutex::new(queue),
        }))
    }

    /// Waits for a place. `None` after the longest wait.
    pub async fn take(&self, tenant: TenantId, longest: Duration) -> Option<Place> {
        let place = {
            let mut queue = lock(&self.0.queue);
            let (sender, place) = oneshot::channel();
            let waiting = queue.waiting.entry(tenant).or_default();
            waiting.push_back(sender);
            if waiting.len() == 1 {
                queue.turns.push_back(tenant);
            }
            self.hand_out(&mut queue);
            place
        };
        // A place that is handed out after the wait has ended comes back when it is dropped unread.
        tokio::time::timeout(longest, place).await.ok()?.ok()
    }

    /// Hands free places out, one to each waiting tenant in turn.
    fn hand_out(&self, queue: &mut Queue) {
        let mut passed_over = 0;
        while queue.free > 0 && passed_over < queue.turns.len() {
            let Some(tenant) = queue.turns.pop_front() else {
                return;
            };
            if queue.running.get(&tenant).copied().unwrap_or_default() >= self.0.of_one {
                queue.turns.push_back(tenant);
                passed_over += 1;
                continue;
            }
            let Some(waiting) = queue.waiting.get_mut(&tenant) else {
                continue;
            };
            // Whoever has stopped waiting is left out.
            let next = loop {
                match waiting.pop_front() {
                    Some(sender) if sender.is_closed() => {}
                    next => break next,
                }
            };
            if waiting.is_empty() {
                queue.waiting.remove(&tenant);
            } else {
                queue.turns.push_back(tenant);
            }
            let Some(sender) = next else { continue };
            queue.free -= 1;
            *queue.running.entry(tenant).or_default() += 1;
            passed_over = 0;
            let place = Place {
                tenant,
                places: Some(self.clone()),
            };
            if let Err(mut place) = sender.send(place) {
                // It stopped waiting just now. The queue is locked here, and dropping would lock it again.
                place.places = None;
                queue.give_back(tenant);
            }
        }
    }
}

impl Queue {
    fn give_back(&mut self, tenant: TenantId) {
        self.free += 1;
        if let Some(running) = self.running.get_mut(&tenant) {
            *running -= 1;
            if *running == 0 {
                self.running.remove(&tenant);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(places) = self.places.take() else {
            return;
        };
        let mut queue = lock(&places.0.queue);
        queue.give_back(self.tenant);
        places.hand_out(&mut queue);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
