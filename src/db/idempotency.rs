//! Idempotency keys: a repeated request returns the first response and makes its changes once.
//!
//! The invariant: **a key is claimed in the transaction of its changes.** A second request with the key
//! waits for the first to end. The response to a whole request is stored in the message that commits, so
//! the claim is its only extra round trip.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{TenantTx, statement::Statement};
use crate::{
    error::{Error, Result},
    ids::{EntityId as _, UserId},
};

/// How long a response is kept, in hours.
pub const KEY_RETENTION_HOURS: u32 = 24;

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
}

impl Claim {
    /// The key of a user for a whole request or, with a field, for one of its root fields. `parts` are
    /// the contents of the request: the same key with other contents is rejected.
    #[must_use]
    pub fn new(user: UserId, field: Option<&str>, key: &str, parts: &[&[u8]]) -> Self {
        // The length precedes each part, so that different lists of parts give different bytes.
        let mut name = Vec::new();
        for part in [field.unwrap_or_default(), key] {
            name.extend((part.len() as u64).to_be_bytes());
            name.extend(part.as_bytes());
        }
        let mut request = Sha256::new();
        for part in parts {
            request.update((part.len() as u64).to_be_bytes());
            request.update(part);
        }
        Self {
            id: Uuid::new_v5(&user.uuid(), &name),
            request: request.finalize().into(),
        }
    }

    /// Claims the key. Waits while another open transaction has claimed it.
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
                    answer = case
                        when excluded.created_at - known.created_at > make_interval(hours => $4)
                        then null else known.answer end,
                    created_at = case
                        when excluded.created_at - known.created_at > make_interval(hours => $4)
                        then excluded.created_at else known.created_at end
                returning request = $3 as "is_same_request!", answer as response
                "#,
                tx.tenant_uuid(),
                self.id,
                &self.request[..],
                hours,
            )
        };
        let claim = tx.fetch_optional_checked(claim).await?;
        let claim = claim.ok_or_else(|| Error::Internal("a claim returned no row".into()))?;
        if !claim.is_same_request {
            return Err(Error::IdempotencyMismatch);
        }
        Ok(match claim.response {
            Some(response) => ClaimOutcome::Repeated(response),
            None => ClaimOutcome::New,
        })
    }

    /// Stores the response in a separate statement. Used for a key of one root field.
    pub async fn store_response(&self, tx: &TenantTx, response: &[u8]) -> Result<()> {
        let store = sqlx::query!(
            "update idempotency_keys set answer = $3 where tenant_id = $1 and id = $2",
            tx.tenant_uuid(),
            self.id,
            response,
        );
        match tx.execute(Statement::checked(store)?).await? {
            1 => Ok(()),
            rows => Err(Error::Internal(
                format!("{rows} claims for one response").into(),
            )),
        }
    }

    /// Commits the changes of the whole request together with its response.
    ///
    /// `claimed_generation` is the [`TenantTx::generation`] in which the key was claimed. If a root field
    /// was rejected since, the transaction of the claim may have ended. In that case the key is claimed again.
    /// If another request has used the key meanwhile, nothing is committed, and the response of that request
    /// is returned.
    pub(crate) async fn commit(
        &self,
        tx: &TenantTx,
        claimed_generation: u32,
        response: &[u8],
    ) -> Result<Option<Vec<u8>>> {
        if tx.generation().await != claimed_generation
            && let ClaimOutcome::Repeated(first) = self.claim(tx).await?
        {
            tx.rollback().await;
            return Ok(Some(first));
        }
        // Safe to format: the values consist only of hexadecimal digits and hyphens.
        let store = format!(
            "UPDATE idempotency_keys SET answer = '\\x{}' WHERE tenant_id = '{}' AND id = '{}'",
            base16ct::lower::encode_string(response),
            tx.tenant_uuid(),
            self.id
        );
        tx.commit_with(Some(store)).await?;
        Ok(None)
    }
}
