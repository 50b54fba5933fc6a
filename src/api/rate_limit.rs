//! The tenant's budget as the API returns it.

use std::time::Duration;

use async_graphql::{Context, SimpleObject};

use crate::graphql::object::Object;

/// The tenant's budget in rows. Every response has it in its `RateLimit` headers too.
#[derive(Clone, Copy, Debug, SimpleObject)]
pub struct RateLimit {
    /// The rows per minute, which are also the most rows that the tenant can save up.
    pub limit: i32,
    /// The remaining rows. The estimated rows of this operation are already deducted; the rows that it does
    /// not fetch are credited when it ends.
    pub remaining: i32,
    /// The estimated number of rows of this operation, deducted when it starts. When the operation ends,
    /// the budget is corrected to the actual number.
    pub cost: i32,
    /// The seconds until `remaining` equals `limit` again, if the tenant sends no other operation.
    pub resets_in_seconds: i32,
}

impl RateLimit {
    /// Creates it from numbers of rows and the time until the budget is full. Numbers saturate at
    /// 2^31 - 1.
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
    /// The tenant's budget; null if the service does not limit it.
    async fn rate_limit(&self, ctx: &Context<'_>) -> Option<Object<RateLimit>> {
        ctx.data_opt::<RateLimit>().map(|limit| (*limit).into())
    }
}
