//! The budgets of the tenants: how many rows a tenant may fetch over time.
//!
//! The invariant: **an operation is charged its estimated rows before it runs**. When the operation ends, the service
//! settles the difference to the rows that the operation fetched. A budget fills up steadily. Each process has its own
//! budgets: with several processes, a tenant can use the sum.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::ids::TenantId;

/// The number of tracked budgets above which the full ones are forgotten.
const MAX_TRACKED_BUDGETS: usize = 10_000;

/// The budgets of all tenants.
#[derive(Clone, Debug)]
pub struct TenantBudgets {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// The number of rows per minute, which is also the maximum level of a budget; `None` for no limit.
    limit: Option<f64>,
    levels: Mutex<HashMap<TenantId, Level>>,
}

/// The rows that a tenant had left at a point in time. Negative if an operation fetched more than it was
/// charged.
#[derive(Clone, Copy, Debug)]
struct Level {
    rows: f64,
    at: Instant,
}

/// The rows that an operation was charged. If a charge is dropped without being settled, for example because the
/// operation got no slot, the tenant gets all rows back.
#[derive(Debug)]
pub struct Charge {
    budgets: TenantBudgets,
    tenant: TenantId,
    rows: u64,
}

/// The state of a tenant's budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetStatus {
    /// Rows per minute.
    pub limit: u64,
    /// The rows that are left.
    pub remaining: u64,
    /// The time until the budget is full again.
    pub full_in: Duration,
}

impl TenantBudgets {
    /// Creates the budgets, all full. `limit` is the number of rows per minute for each tenant; 0 for no
    /// limit.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        let inner = Inner {
            limit: (limit > 0).then(|| to_float(limit)),
            levels: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Charges an operation its estimated rows. If too few rows are left, returns the time until enough rows are left.
    /// An operation with an estimate above the limit needs a full budget.
    pub fn try_charge(&self, tenant: TenantId, rows: u64) -> Result<Charge, Duration> {
        let charged = self.update(tenant, |limit, level| {
            let needed = to_float(rows).min(limit);
            if *level < needed {
                return Err(Duration::from_secs_f64((needed - *level) / limit * 60.0));
            }
            *level -= needed;
            Ok(to_rows(needed))
        });
        Ok(Charge {
            budgets: self.clone(),
            tenant,
            rows: charged.unwrap_or(Ok(0))?,
        })
    }

    /// The state of a tenant's budget; `None` if there is no limit.
    pub fn status(&self, tenant: TenantId) -> Option<BudgetStatus> {
        self.update(tenant, |limit, level| BudgetStatus {
            limit: to_rows(limit),
            remaining: to_rows(*level),
            full_in: Duration::from_secs_f64((limit - *level) / limit * 60.0),
        })
    }

    /// Calls `change` with the limit and the tenant's current level. Returns `None` if there is no limit.
    fn update<T>(&self, tenant: TenantId, change: impl FnOnce(f64, &mut f64) -> T) -> Option<T> {
        let limit = self.inner.limit?;
        let now = Instant::now();
        let present = |level: &Level| {
            let gained = now.duration_since(level.at).as_secs_f64() / 60.0 * limit;
            (level.rows + gained).min(limit)
        };
        let mut levels = self.inner.levels.lock();
        if levels.len() > MAX_TRACKED_BUDGETS {
            levels.retain(|_, level| present(level) < limit);
        }
        let level = levels.entry(tenant).or_insert(Level {
            rows: limit,
            at: now,
        });
        *level = Level {
            rows: present(level),
            at: now,
        };
        Some(change(limit, &mut level.rows))
    }
}

impl Charge {
    /// The charged rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Replaces the estimate by the rows that were fetched: returns the unused rows to the budget, or charges the rows
    /// above the estimate.
    pub fn settle(mut self, fetched: u64) {
        self.add(to_float(self.rows) - to_float(fetched));
        self.rows = 0;
    }

    fn add(&self, rows: f64) {
        self.budgets.update(self.tenant, |limit, level| {
            // Even if an operation exceeded its estimate by far, the level of the tenant is positive again after at
            // most one minute.
            *level = (*level + rows).clamp(-limit, limit);
        });
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.add(to_float(self.rows));
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a budget need not be exact beyond 2^52 rows"
)]
fn to_float(rows: u64) -> f64 {
    rows as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a level is at most its limit, and a negative one counts as 0"
)]
fn to_rows(rows: f64) -> u64 {
    rows as u64
}
