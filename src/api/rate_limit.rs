//! The query `rateLimit`: the tenant's budget, in rows.

use std::time::Duration;

use async_graphql::{Context, SimpleObject};

use crate::graphql::{json::plain_fields, object::Object};

/// The tenant's budget, in rows. Besides the rows that an operation fetches, other work has a price in rows, such as a
/// long response. The fields have the values from the start of the operation. The `RateLimit` headers of the response have
/// the values from its end.
#[derive(Clone, Copy, Debug, SimpleObject)]
pub struct RateLimit {
    /// The number of rows per minute, and the maximum number of rows in the budget.
    pub limit: i32,
    /// The number of rows that are left. The `cost` of this operation is already deducted.
    pub remaining: i32,
    /// The number of rows that the tenant was charged for the request so far: mostly an estimate of what the operation
    /// fetches. When the request ends, the service settles the difference to what the request used.
    pub cost: i32,
    /// The number of seconds until the budget is full again, if the tenant sends no request until then.
    pub resets_in_seconds: i32,
}

plain_fields!(RateLimit {
    limit,
    remaining,
    cost,
    resets_in_seconds
});

impl RateLimit {
    /// Creates the object from numbers of rows and the time until the budget is full. The numbers saturate at 2^31 - 1.
    #[must_use]
    pub fn new(limit: u64, remaining: u64, cost: u64, full_in: Duration) -> Self {
        let int = |number: u64| i32::try_from(number).unwrap_or(i32::MAX);
        Self {
            limit: int(limit),
            remaining: int(remaining),
            cost: int(cost),
            resets_in_seconds: int(full_in.as_secs()),
        }
    }
}

/// The root query for the tenant's budget.
#[derive(Debug, Default)]
pub struct RateLimitQueries;

#[async_graphql::Object]
impl RateLimitQueries {
    /// The tenant's budget of rows. Null if the service sets no budget.
    async fn rate_limit(&self, ctx: &Context<'_>) -> Option<Object<RateLimit>> {
        ctx.data_opt::<RateLimit>().map(|limit| (*limit).into())
    }
}
