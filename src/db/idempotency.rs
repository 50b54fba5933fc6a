//! Idempotency keys: a repeated request returns the first response and makes its changes once.
//!
//! The invariants: **a key is claimed in the transaction of its changes**, and **what a user and a tenant keep is
//! bounded.** A second request with the key waits until the first one has ended. A long response is not kept. If a user
//! or a tenant keeps too much, the oldest responses are removed. Their keys stay, so no request is executed twice.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::TenantTx;
use crate::{
    auth::role::UserRole,
    error::{Error, Result},
    ids::{EntityId as _, UserId},
    metrics,
};

/// How long a response is kept, in hours.
pub const KEY_RETENTION_HOURS: u32 = 24;
/// The maximum number of bytes of a response that is kept.
pub const MAX_KEPT_BYTES: usize = 64 * 1024;
/// The number of bytes that a shorter response counts as, because each row takes space.
const MIN_COUNTED_BYTES: usize = 1024;
/// The limits of users and tenants are enforced once per this number of kept bytes, on average.
const LIMIT_INTERVAL_BYTES: i32 = 1024 * 1024;
/// The maximum number of keys that a user may use within [`KEY_RETENTION_HOURS`].
const MAX_USER_KEYS: i64 = 10_000;

/// A client's key for one request.
#[derive(Clone, Debug)]
pub struct Claim {
    id: Uuid,
    request: [u8; 32],
}

/// The result of a claim.
#[derive(Debug)]
pub enum ClaimOutcome {
    /// The key is new: the request must be executed.
    New,
    /// The request was executed before; this is its response.
    Repeated(Vec<u8>),
    /// The request was executed before, and its response is not kept.
    NotKept,
}

impl Claim {
    /// The key of a user for a whole request or, with a field, for one of its root fields. `parts` are
    /// the contents of the request: the same key with other contents is rejected. The key is also rejected if the role
    /// of the user has changed since, because the stored response may contain what the new role may not read.
    #[must_use]
    pub fn new(
        user: UserId,
        role: UserRole,
        field: Option<&str>,
        key: &str,
        parts: &[&[u8]],
    ) -> Self {
        // The length precedes each part, so that different lists of parts give different bytes.
        let mut name = Vec::new();
        for part in [field.unwrap_or_default(), key] {
            name.extend((part.len() as u64).to_be_bytes());
            name.extend(part.as_bytes());
        }
        let mut request = Sha256::new();
        for part in [role.as_str().as_bytes()].iter().chain(parts) {
            request.update((part.len() as u64).to_be_bytes());
            request.update(part);
        }
        Self {
            id: Uuid::new_v5(&user.uuid(), &name),
            request: request.finalize().into(),
        }
    }

    /// Claims the key. Waits while another open transaction has claimed it. Errors: the user has used too many keys.
    ///
    /// Also deletes up to ten of the user's expired keys.
    pub async fn claim(&self, tx: &TenantTx) -> Result<ClaimOutcome> {
        let hours = i32::try_from(KEY_RETENTION_HOURS).unwrap_or(i32::MAX);
        // `expired` is materialized, because a subquery that locks rows may run again for each row, and its
        // limit would have no effect. The age of a key is a difference of timestamps, because Citus accepts
        // only immutable functions in DO UPDATE, and now() is not immutable.
        let claim = || {
            sqlx::query!(
                r#"
                with expired as materialized (
                    select id from idempotency_keys
                    where tenant_id = $1 and user_id = app.user_id() and id <> $2
                      and created_at < now() - make_interval(hours => $4)
                    order by created_at limit 10
                    for update skip locked),
                deleted as (
                    delete from idempotency_keys
                    where tenant_id = $1 and id in (select id from expired))
                insert into idempotency_keys as known (tenant_id, id, request)
                values ($1, $2, $3)
                on conflict (tenant_id, id) do update set
                    request = case
                        when excluded.created_at - known.created_at > make_interval(hours => $4)
                        then excluded.request else known.request end,
                    is_executed = known.is_executed
                        and excluded.created_at - known.created_at <= make_interval(hours => $4),
                    response = case
                        when excluded.created_at - known.created_at > make_interval(hours => $4)
                        then null else known.response end,
                    kept_bytes = case
                        when excluded.created_at - known.created_at > make_interval(hours => $4)
                        then 0 else known.kept_bytes end,
                    created_at = case
                        when excluded.created_at - known.created_at > make_interval(hours => $4)
                        then excluded.created_at else known.created_at end
                returning request = $3 as "is_same_request!", is_executed, response,
                    (select extract(epoch from min(created_at) + make_interval(hours => $4) - now())::double precision
                     from idempotency_keys
                     where tenant_id = $1 and user_id = app.user_id()
                       and created_at >= now() - make_interval(hours => $4)
                     having count(*) >= $5) as seconds_to_wait
                "#,
                tx.tenant_uuid(),
                self.id,
                &self.request[..],
                hours,
                MAX_USER_KEYS,
            )
        };
        let claim = tx.fetch_optional_checked(claim).await?;
        let claim = claim.ok_or_else(|| Error::Internal("a claim returned no row".into()))?;
        if !claim.is_same_request {
            return Err(Error::IdempotencyMismatch);
        }
        match (claim.is_executed, claim.response, claim.seconds_to_wait) {
            (true, Some(response), _) => Ok(ClaimOutcome::Repeated(response)),
            (true, None, _) => Ok(ClaimOutcome::NotKept),
            (false, _, Some(seconds)) => {
                metrics::IDEMPOTENCY_KEYS_EXCEEDED.increment();
                let wait = Duration::try_from_secs_f64(seconds);
                Err(Error::TooManyKeys(wait.unwrap_or_default()))
            }
            (false, _, None) => Ok(ClaimOutcome::New),
        }
    }

    /// Stores the response, unless it is longer than [`MAX_KEPT_BYTES`]. From now on, the request is not executed
    /// again.
    pub async fn store_response(&self, tx: &TenantTx, response: &[u8]) -> Result<()> {
        let response = Some(response).filter(|response| response.len() <= MAX_KEPT_BYTES);
        if response.is_none() {
            metrics::RESPONSES_NOT_KEPT.increment();
        }
        let counted_bytes = response.map_or(0, |response| response.len().max(MIN_COUNTED_BYTES));
        let counted_bytes = i32::try_from(counted_bytes).unwrap_or(i32::MAX);
        let usage = tx.operation().usage();
        usage.add_stored_bytes(u64::try_from(counted_bytes).unwrap_or_default());
        let enforces_limits = fastrand::i32(0..LIMIT_INTERVAL_BYTES) < counted_bytes;
        let store = || {
            sqlx::query!(
                r#"
                update idempotency_keys set is_executed = true, response = $3, kept_bytes = $4
                where tenant_id = $1 and id = $2
                returning case when $5 then app.limit_kept_responses() else 0 end as "removed!"
                "#,
                tx.tenant_uuid(),
                self.id,
                response,
                counted_bytes,
                enforces_limits,
            )
        };
        match tx.fetch_optional_checked(store).await? {
            Some(_) => Ok(()),
            None => Err(Error::Internal("a response without a claim".into())),
        }
    }

    /// Claims the key again if its transaction has ended, because a root field was rejected. Another request may have
    /// used the key meanwhile. `claimed_generation` is the [`TenantTx::generation`] in which the key was claimed.
    pub(crate) async fn renew(
        &self,
        tx: &TenantTx,
        claimed_generation: u32,
    ) -> Result<ClaimOutcome> {
        if tx.generation().await == claimed_generation {
            return Ok(ClaimOutcome::New);
        }
        self.claim(tx).await
    }
}
