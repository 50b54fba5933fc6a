//! The budgets of the tenants: how many requests a tenant may send, and how many rows it may use, over time.
//!
//! The invariant: **a request is charged before it uses anything, and pays what it used however it ends.** A request
//! is charged the price of its body before its document is parsed, and the price of its estimate before it runs: the
//! rows that it could fetch and write. So the requests of a tenant that run at the same time cannot use more than the
//! budget, as far as the estimates are right. When a request ends, the service settles the difference to what it used,
//! even if it was rejected, cancelled or abandoned. A budget fills up steadily. Each process has its own budgets: with
//! several processes, a tenant can use the sum.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use foldhash::HashMap;
use parking_lot::Mutex;

use crate::{
    ids::TenantId,
    metrics,
    usage::{Estimate, Usage},
};

/// The number of tracked budgets above which the full ones are forgotten.
const MAX_TRACKED_BUDGETS: usize = 10_000;
/// The time after which a request is rejected if the tenant sends too many requests. Without this delay, a client that
/// ignores rejections could send requests without a limit.
const REJECTION_DELAY: Duration = Duration::from_secs(1);
/// The largest debt of a tenant, in budgets of a minute. An operation that uses all of its limits costs three minutes of the
/// default budget, and a deletion of a row with 25,000 rows below it costs ten. A larger deletion is legitimate too, and
/// must not lock the tenant out for longer.
const MAX_DEBT_MINUTES: f64 = 10.0;

/// The budgets of all tenants.
#[derive(Clone, Debug)]
pub struct TenantBudgets {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// The number of rows per minute, which is also the maximum level of a budget; `None` for no limit.
    rows: Option<f64>,
    /// The number of requests per second, which is also the maximum level; `None` for no limit.
    requests: Option<f64>,
    levels: Mutex<HashMap<TenantId, Level>>,
}

/// What a tenant had left at a point in time.
#[derive(Clone, Copy, Debug)]
struct Level {
    /// Negative if requests used more than they were charged, at most [`MAX_DEBT_MINUTES`].
    rows: f64,
    /// Negative if requests wait for their turn.
    requests: f64,
    at: Instant,
}

/// What a tenant was charged for a request. When it is dropped, it is settled.
#[derive(Debug)]
pub struct Charge {
    budgets: TenantBudgets,
    tenant: TenantId,
    usage: Arc<Usage>,
    charged: Mutex<u64>,
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
    /// Creates the budgets, all full: `rows` per minute and `requests` per second for each tenant; 0 for no limit.
    #[must_use]
    pub fn new(rows: u64, requests: u32) -> Self {
        let inner = Inner {
            rows: (rows > 0).then(|| to_float(rows)),
            requests: (requests > 0).then(|| f64::from(requests)),
            levels: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Counts a request. If the tenant has sent too many requests, waits until the rate allows this one. If a second's
    /// requests wait already, returns false after [`REJECTION_DELAY`].
    pub async fn admit(&self, tenant: TenantId) -> bool {
        let Some(limit) = self.inner.requests else {
            return true;
        };
        let wait = self.update(tenant, |level| {
            if level.requests <= -limit {
                return None;
            }
            level.requests -= 1.0;
            Some(Duration::from_secs_f64((-level.requests).max(0.0) / limit))
        });
        match wait {
            Some(Duration::ZERO) => true,
            Some(wait) => {
                tokio::time::sleep(wait).await;
                true
            }
            None => {
                metrics::TENANT_REQUESTS_EXCEEDED.increment();
                tokio::time::sleep(REJECTION_DELAY).await;
                false
            }
        }
    }

    /// Charges the tenant the price of what a request has used so far. Errors: too few rows are left; the error is the
    /// time until enough rows are left.
    pub fn try_charge(&self, tenant: TenantId, usage: Arc<Usage>) -> Result<Charge, Duration> {
        let charge = Charge {
            budgets: self.clone(),
            tenant,
            usage,
            charged: Mutex::new(0),
        };
        charge.reserve(Estimate::default()).inspect_err(|_| {
            // The request is rejected before it uses anything, so there is nothing to settle.
            *charge.charged.lock() = charge.usage.price();
        })?;
        Ok(charge)
    }

    /// The state of a tenant's budget; `None` if there is no limit.
    pub fn status(&self, tenant: TenantId) -> Option<BudgetStatus> {
        let limit = self.inner.rows?;
        Some(self.update(tenant, |level| BudgetStatus {
            limit: to_rows(limit),
            remaining: to_rows(level.rows),
            full_in: Duration::from_secs_f64((limit - level.rows) / limit * 60.0),
        }))
    }

    /// Calls `change` with the tenant's current level.
    fn update<T>(&self, tenant: TenantId, change: impl FnOnce(&mut Level) -> T) -> T {
        let Inner {
            rows,
            requests,
            levels,
        } = &*self.inner;
        let full = Level {
            rows: rows.unwrap_or_default(),
            requests: requests.unwrap_or_default(),
            at: Instant::now(),
        };
        let present = |level: &Level| {
            let seconds = full.at.duration_since(level.at).as_secs_f64();
            Level {
                rows: (level.rows + seconds / 60.0 * full.rows).min(full.rows),
                requests: (level.requests + seconds * full.requests).min(full.requests),
                at: full.at,
            }
        };
        let mut levels = levels.lock();
        if levels.len() > MAX_TRACKED_BUDGETS {
            levels.retain(|_, level| {
                let level = present(level);
                level.rows < full.rows || level.requests < full.requests
            });
        }
        let level = levels.entry(tenant).or_insert(full);
        *level = present(level);
        change(level)
    }
}

impl Charge {
    /// Charges what the request could use, in addition to what it has used so far. Errors: too few rows are left; the
    /// error is the time until enough rows are left. An estimate above the limit needs a full budget.
    pub fn reserve(&self, estimate: Estimate) -> Result<(), Duration> {
        let Some(limit) = self.budgets.inner.rows else {
            return Ok(());
        };
        let mut charged = self.charged.lock();
        let wanted = to_float(self.usage.price_with(estimate)).min(limit);
        let needed = (wanted - to_float(*charged)).max(0.0);
        self.budgets.update(self.tenant, |level| {
            if level.rows < needed {
                metrics::TENANT_BUDGET_EXCEEDED.increment();
                return Err(Duration::from_secs_f64(
                    (needed - level.rows) / limit * 60.0,
                ));
            }
            level.rows -= needed;
            *charged += to_rows(needed);
            Ok(())
        })
    }

    /// The charged rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        *self.charged.lock()
    }

    /// Replaces the charge by the price of what the request has used: returns the unused rows to the budget, or charges
    /// the rows above the charge.
    pub fn settle(&self) {
        let Some(limit) = self.budgets.inner.rows else {
            return;
        };
        let mut charged = self.charged.lock();
        let price = self.usage.price();
        if *charged == price {
            return;
        }
        self.budgets.update(self.tenant, |level| {
            let left = level.rows + to_float(*charged) - to_float(price);
            level.rows = left.clamp(-limit * MAX_DEBT_MINUTES, limit);
        });
        *charged = price;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.settle();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: u64) -> Estimate {
        Estimate {
            rows,
            ..Estimate::default()
        }
    }

    #[test]
    fn a_request_pays_what_it_used_however_it_ends() {
        let budgets = TenantBudgets::new(10_000, 0);
        let tenant = TenantId::generate();
        let remaining = || budgets.status(tenant).unwrap().remaining;
        let usage = Arc::new(Usage::default());
        let charge = budgets.try_charge(tenant, Arc::clone(&usage)).unwrap();
        assert_eq!(charge.rows(), 1);
        charge.reserve(rows(500)).unwrap();
        assert_eq!((charge.rows(), remaining()), (500, 9_500));
        usage.add_rows(800);
        // Neither settled nor rejected: the request was abandoned.
        drop(charge);
        assert!((9_200..=9_210).contains(&remaining()), "{}", remaining());
    }

    #[test]
    fn a_request_is_rejected_before_it_uses_more_than_is_left() {
        let budgets = TenantBudgets::new(1_000, 0);
        let tenant = TenantId::generate();
        let long = Arc::new(Usage::default());
        long.add_request_bytes(900 * 1024);
        let _long = budgets.try_charge(tenant, long).unwrap();
        let charge = budgets.try_charge(tenant, Arc::default()).unwrap();
        assert!(charge.reserve(rows(200)).is_err());
        assert_eq!(charge.rows(), 1);
        let another = Arc::new(Usage::default());
        another.add_request_bytes(200 * 1024);
        let wait = budgets.try_charge(tenant, another).unwrap_err();
        assert!((5..=6).contains(&wait.as_secs()), "{wait:?}");
    }

    #[test]
    fn mutations_that_run_at_the_same_time_fit_into_the_budget() {
        let budgets = TenantBudgets::new(1_000_000, 0);
        let tenant = TenantId::generate();
        let import = Estimate {
            rows: 1_000,
            written_rows: 1_000,
            ..Estimate::default()
        };
        let charges = (0..5).map(|_| budgets.try_charge(tenant, Arc::default()).unwrap());
        let charges: Vec<Charge> = charges.collect();
        let reserved = charges.iter().map(|charge| charge.reserve(import).is_ok());
        // 401,000 rows each.
        assert_eq!(
            reserved.collect::<Vec<_>>(),
            [true, true, false, false, false]
        );
    }

    #[test]
    fn a_rejected_operation_does_not_pay_its_estimate() {
        let budgets = TenantBudgets::new(1_000_000, 0);
        let tenant = TenantId::generate();
        let spent = Arc::new(Usage::default());
        spent.add_rows(999_900);
        drop(budgets.try_charge(tenant, spent));
        let left = budgets.status(tenant).unwrap().remaining;
        let charge = budgets.try_charge(tenant, Arc::default()).unwrap();
        let import = Estimate {
            written_rows: 1_000,
            written_bytes: 500 * 1024,
            ..Estimate::default()
        };
        assert!(charge.reserve(import).is_err());
        drop(charge);
        assert!(budgets.status(tenant).unwrap().remaining + 1 >= left);
    }

    #[test]
    fn a_debt_is_paid_back_but_locks_a_tenant_out_for_minutes_at_most() {
        let budgets = TenantBudgets::new(1_000_000, 0);
        for (used, wait) in [(3_000_000, 2 * 60), (400_000_000, 10 * 60)] {
            let tenant = TenantId::generate();
            let usage = Arc::new(Usage::default());
            let charge = budgets.try_charge(tenant, Arc::clone(&usage)).unwrap();
            usage.add_rows(used);
            drop(charge);
            let until = budgets.try_charge(tenant, Arc::default()).unwrap_err();
            assert!((wait - 1..=wait).contains(&until.as_secs()), "{until:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_over_the_limit_have_their_turn_one_after_the_other() {
        let budgets = TenantBudgets::new(0, 100);
        let tenant = TenantId::generate();
        let mut admitted = 0;
        let mut requests = tokio::task::JoinSet::new();
        for _ in 0..300 {
            let budgets = budgets.clone();
            requests.spawn(async move { budgets.admit(tenant).await });
        }
        while let Some(request) = requests.join_next().await {
            admitted += u32::from(request.unwrap());
        }
        // A second's requests at once, and those of the next second in turn. The rest is rejected.
        assert!((200..=205).contains(&admitted), "{admitted}");
        assert!(budgets.admit(TenantId::generate()).await);
    }
}
