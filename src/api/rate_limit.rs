//! What the tenant may still fetch, as the API tells it.

use std::time::Duration;

use async_graphql::{Context, SimpleObject};

use crate::graphql::object::Object;

/// What the tenant may fetch, in rows. The `RateLimit` headers of each answer say the same.
#[derive(Clone, Copy, Debug, SimpleObject)]
pub struct RateLimit {
    /// Rows in a minute, and most rows at once.
    pub limit: i32,
    /// Rows that are left. This operation has paid its cost by now, and gets back what it does not fetch.
    pub remaining: i32,
    /// Rows that this operation was reckoned to fetch, and has paid. What it fetches beyond it pays at its end.
    pub cost: i32,
    /// Seconds until all of the limit is left again, if nobody in the tenant asks for more.
    pub resets_in_seconds: i32,
}

impl RateLimit {
    /// From rows, and the time until the limit is whole. More than 2^31 - 1 rows are told as so many.
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

/// The root query about the tenant's budget.
#[derive(Debug, Default)]
pub struct RateLimitQueries;

#[async_graphql::Object]
impl RateLimitQueries {
    /// What the tenant may still fetch; null if the service sets no limit.
    async fn rate_limit(&self, ctx: &Context<'_>) -> Option<Object<RateLimit>> {
        ctx.data_opt::<RateLimit>().map(|limit| (*limit).into())
    }
}
