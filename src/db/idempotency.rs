//! Idempotency keys: a repeated request gets the first answer, and its changes are made once.
//!
//! The key is claimed in the transaction of the changes, so a second request with it waits for the
//! first to end. The answer is stored in the message that commits: the claim is the one extra round
//! trip of a request with a key.

use sha2::{Digest as _, Sha256};
use sqlx::{Arguments as _, Row as _, postgres::PgArguments};
use uuid::Uuid;

use super::{Statement, TenantTx};
use crate::{
    error::{Error, Result},
    ids::{EntityId as _, UserId},
};

/// How long an answer is kept, in hours.
pub const KEPT_HOURS: u32 = 24;

/// A client's key, for one request.
#[derive(Clone, Debug)]
pub struct Claim {
    id: Uuid,
    request: [u8; 32],
}

/// What became of a claim.
#[derive(Debug)]
pub enum Claimed {
    /// The key is new: the request is to be done.
    Now,
    /// The request was done before, and this was its answer.
    Answered(Vec<u8>),
}

impl Claim {
    /// The key of a user for a whole request or, with a field, for one of its root fields. `parts` are
    /// what makes the request: the same key with other parts is refused.
    #[must_use]
    pub fn new(user: UserId, field: Option<&str>, key: &str, parts: &[&[u8]]) -> Self {
        // A name with its length before each part, so that no two lists of parts read the same.
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

    /// Claims the key. Waits for another request that has claimed it and not yet ended.
    ///
    /// Removes some of the user's keys that have had their day on the way.
    pub async fn claim(&self, tx: &TenantTx) -> Result<Claimed> {
        let claim = "
            with old as materialized (
                -- By itself: a sub-select that locks may be run anew for each row, and then its limit
                -- is none.
                select id from idempotency_keys
                where tenant_id = $1 and user_id = app.user_id() and id <> $2
                  and created_at < now() - make_interval(hours => $4)
                order by created_at limit 10
                for update skip locked),
            removed as (
                delete from idempotency_keys
                where tenant_id = $1 and id in (select id from old))
            insert into idempotency_keys as known (tenant_id, id, request)
            values ($1, $2, $3)
            on conflict (tenant_id, id) do update set
                request = case when known.created_at < now() - make_interval(hours => $4)
                    then excluded.request else known.request end,
                answer = case when known.created_at < now() - make_interval(hours => $4)
                    then null else known.answer end,
                created_at = case when known.created_at < now() - make_interval(hours => $4)
                    then now() else known.created_at end
            returning request = $3, answer";
        let mut arguments = PgArguments::default();
        let hours = i32::try_from(KEPT_HOURS).unwrap_or(i32::MAX);
        arguments
            .add(tx.tenant_uuid())
            .and_then(|()| arguments.add(self.id))
            .and_then(|()| arguments.add(self.request))
            .and_then(|()| arguments.add(hours))
            .map_err(|error| Error::Internal(format!("cannot encode a claim: {error}").into()))?;
        let row = tx
            .fetch_optional(Statement::fixed(claim, arguments))
            .await?;
        let row = row.ok_or_else(|| Error::Internal("a claim answered no row".into()))?;
        if !row.try_get::<bool, _>(0)? {
            return Err(Error::IdempotencyMismatch);
        }
        Ok(match row.try_get::<Option<Vec<u8>>, _>(1)? {
            Some(answer) => Claimed::Answered(answer),
            None => Claimed::Now,
        })
    }

    /// Stores the answer, in a statement of its own: for a key of one field.
    pub async fn keep(&self, tx: &TenantTx, answer: &[u8]) -> Result<()> {
        let keep = "update idempotency_keys set answer = $3 where tenant_id = $1 and id = $2";
        let mut arguments = PgArguments::default();
        arguments
            .add(tx.tenant_uuid())
            .and_then(|()| arguments.add(self.id))
            .and_then(|()| arguments.add(answer))
            .map_err(|error| Error::Internal(format!("cannot encode an answer: {error}").into()))?;
        match tx.execute(Statement::fixed(keep, arguments)).await? {
            1 => Ok(()),
            rows => Err(Error::Internal(
                format!("{rows} claims for an answer").into(),
            )),
        }
    }

    /// Commits the changes of the whole request together with its answer.
    ///
    /// `opening` is what [`TenantTx::openings`] said when the key was claimed. A request that was
    /// refused ended the transaction of its claim, so the key is claimed again: if another request has
    /// taken it meanwhile, nothing is committed and that one's answer is returned.
    pub(crate) async fn commit(
        &self,
        tx: &TenantTx,
        opening: u32,
        answer: &[u8],
    ) -> Result<Option<Vec<u8>>> {
        if tx.openings().await != opening
            && let Claimed::Answered(first) = self.claim(tx).await?
        {
            tx.rollback().await;
            return Ok(Some(first));
        }
        // UUIDs and hexadecimal digits: nothing in this text is the client's.
        let keep = format!(
            "UPDATE idempotency_keys SET answer = '\\x{}' WHERE tenant_id = '{}' AND id = '{}'",
            base16ct::lower::encode_string(answer),
            tx.tenant_uuid(),
            self.id
        );
        tx.commit_after(Some(keep)).await?;
        Ok(None)
    }
}
