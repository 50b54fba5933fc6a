//! Mutations of many rows: a result for each, all or none unless told otherwise, and a key of their own
//! by which they may be sent again.

use async_graphql::Context;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    context::ContextExt as _,
    mutation::{MAX_KEY, Outcome, is_key},
    object::Objects,
};
use crate::{
    db::idempotency::{Claim, Claimed, KEPT_HOURS},
    error::Error,
    user_error::{Refusal, UserError, UserErrorCode},
};

/// What came of each row, in the order of the input.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Batch(pub Vec<Row>);

/// What came of one row.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Row {
    /// The row that was written; `None` if none was.
    pub id: Option<Uuid>,
    /// Why none was.
    pub user_errors: Vec<UserError>,
}

impl Row {
    /// A row that was written.
    #[must_use]
    pub fn written(id: Uuid) -> Self {
        Self {
            id: Some(id),
            user_errors: Vec::new(),
        }
    }

    /// A row that was not written, for these reasons.
    #[must_use]
    pub fn refused(user_errors: Vec<UserError>) -> Self {
        Self {
            id: None,
            user_errors,
        }
    }

    /// The same for one reason; `field` is its path below the row.
    #[must_use]
    pub fn because(code: UserErrorCode, field: &str, message: impl Into<String>) -> Self {
        Self::refused(vec![UserError::new(code, field, message)])
    }
}

/// What the payload of a batch holds: a result for each row, and why the whole was refused.
#[must_use]
pub fn results<R>(
    outcome: Outcome<Batch>,
    result: impl Fn(i32, Row) -> R,
) -> (Objects<R>, Objects<UserError>) {
    let rows = outcome.value.unwrap_or_default().0;
    let results = (0..).zip(rows).map(|(index, row)| result(index, row));
    (results.collect(), outcome.user_errors.into_iter().collect())
}

/// What the client asked of the whole batch.
pub struct Terms {
    /// The field of the input that lists the rows.
    pub list: &'static str,
    /// All or none.
    pub atomic: bool,
    /// The key by which the batch may be sent again: the name of the mutation, the key, and the input
    /// that it stands for.
    pub key: Option<(&'static str, String, Vec<u8>)>,
}

/// Refuses a batch of no rows or of more than `max`.
pub fn check_size(list: &str, rows: usize, max: usize) -> Result<(), Refusal<Batch>> {
    let refuse = |code, message: String| Err(Refusal::because(code, list, message));
    match rows {
        0 => refuse(UserErrorCode::Required, "is empty".to_owned()),
        _ if rows > max => refuse(
            UserErrorCode::LimitReached,
            format!("has more than {max} rows"),
        ),
        _ => Ok(()),
    }
}

/// Does the work, unless it was done before under the same key. If it is all or none and a row was
/// refused, the whole is: then the work must be undone.
pub async fn run(
    ctx: &Context<'_>,
    terms: Terms,
    work: impl Future<Output = Result<Batch, Refusal<Batch>>> + Send,
) -> Result<Batch, Refusal<Batch>> {
    let tx = ctx.tx();
    let claim = match &terms.key {
        None => None,
        Some((_, key, _)) if !is_key(key) => {
            let message = format!("is not 1 to {MAX_KEY} printable ASCII characters");
            return Err(Refusal::because(
                UserErrorCode::Invalid,
                "idempotencyKey",
                message,
            ));
        }
        Some((field, key, input)) => {
            let claim = Claim::new(ctx.principal().user, Some(field), key, &[input]);
            match claim.claim(tx).await {
                Ok(Claimed::Now) => Some(claim),
                Ok(Claimed::Answered(answer)) => return read(&answer),
                Err(Error::IdempotencyMismatch) => return Err(mismatch()),
                Err(error) => return Err(error.into()),
            }
        }
    };
    let mut batch = work.await?;
    let failures = batch.0.iter().enumerate();
    let failures: Vec<UserError> = failures
        .flat_map(|(index, row)| {
            let errors = row.user_errors.iter().cloned();
            errors.map(move |error| error.in_row(terms.list, index))
        })
        .collect();
    if terms.atomic && !failures.is_empty() {
        for row in &mut batch.0 {
            row.id = None;
        }
        return Err(Refusal::Refused(failures, Some(batch)));
    }
    if let Some(claim) = claim {
        let answer = serde_json::to_vec(&batch)
            .map_err(|error| Error::Internal(format!("a result is no JSON: {error}").into()))?;
        claim.keep(tx, &answer).await?;
    }
    Ok(batch)
}

fn read(answer: &[u8]) -> Result<Batch, Refusal<Batch>> {
    serde_json::from_slice(answer).map_err(|error| {
        Error::Internal(format!("a stored result cannot be read: {error}").into()).into()
    })
}

fn mismatch() -> Refusal<Batch> {
    let message = format!("was used for another input in the last {KEPT_HOURS} hours");
    Refusal::because(
        UserErrorCode::IdempotencyMismatch,
        "idempotencyKey",
        message,
    )
}
