//! Mutations of many rows: a result for each, all or none unless told otherwise, and a key of their own
//! by which they may be sent again.

use async_graphql::{Context, InputType};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use uuid::Uuid;

use super::{
    context::ContextExt as _,
    mutation::{MAX_KEY, Outcome, is_key},
    object::Objects,
};
use crate::{
    db::{
        idempotency::{Claim, ClaimOutcome, KEY_RETENTION_HOURS},
        write_error::WriteError,
    },
    error::Error,
    user_error::{UserError, UserErrorCode},
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
    /// The key by which the batch may be sent again.
    pub key: Option<Key>,
}

/// A key by which a batch may be sent again.
pub struct Key {
    /// The name of the mutation.
    pub mutation: &'static str,
    /// What the client chose.
    pub key: String,
    /// The input that it stands for, as [`content`] writes it.
    pub content: Vec<u8>,
}

/// The rows of an input as they were sent, for comparison with those that are sent again, maybe to another
/// release: fields by name and in the order of names, without those that are null or were left out.
pub fn content(atomic: bool, rows: &impl InputType) -> Vec<u8> {
    let rows = without_nulls(rows.to_value().into_json().unwrap_or_default());
    serde_json::json!({ "atomic": atomic, "rows": rows })
        .to_string()
        .into_bytes()
}

fn without_nulls(value: Json) -> Json {
    match value {
        Json::Array(items) => items.into_iter().map(without_nulls).collect(),
        Json::Object(fields) => {
            let mut given: Vec<(String, Json)> = fields
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| (name, without_nulls(value)))
                .collect();
            given.sort_by(|(one, _), (other, _)| one.cmp(other));
            given.into_iter().collect()
        }
        other => other,
    }
}

/// Refuses a batch of no rows or of more than `max`.
pub fn check_size(list: &str, rows: usize, max: usize) -> Result<(), WriteError<Batch>> {
    let refuse = |code, message: String| Err(WriteError::rejected(code, list, message));
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
    work: impl Future<Output = Result<Batch, WriteError<Batch>>> + Send,
) -> Result<Batch, WriteError<Batch>> {
    let tx = ctx.tx();
    let claim = match &terms.key {
        None => None,
        Some(Key { key, .. }) if !is_key(key) => {
            let message = format!("is not 1 to {MAX_KEY} printable ASCII characters");
            return Err(WriteError::rejected(
                UserErrorCode::Invalid,
                "idempotencyKey",
                message,
            ));
        }
        Some(Key {
            mutation,
            key,
            content,
        }) => {
            let claim = Claim::new(ctx.principal().user, Some(mutation), key, &[content]);
            match claim.claim(tx).await {
                Ok(ClaimOutcome::New) => Some(claim),
                Ok(ClaimOutcome::Repeated(answer)) => return read(&answer),
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
        return Err(WriteError::Rejected(failures, Some(batch)));
    }
    if let Some(claim) = claim {
        let answer = serde_json::to_vec(&batch)
            .map_err(|error| Error::Internal(format!("a result is no JSON: {error}").into()))?;
        claim.store_response(tx, &answer).await?;
    }
    Ok(batch)
}

fn read(answer: &[u8]) -> Result<Batch, WriteError<Batch>> {
    serde_json::from_slice(answer).map_err(|error| {
        Error::Internal(format!("a stored result cannot be read: {error}").into()).into()
    })
}

fn mismatch() -> WriteError<Batch> {
    let message = format!("was used for another input in the last {KEY_RETENTION_HOURS} hours");
    WriteError::rejected(
        UserErrorCode::IdempotencyMismatch,
        "idempotencyKey",
        message,
    )
}

#[cfg(test)]
mod tests {
    use async_graphql::{InputObject, Value};

    use super::*;

    #[derive(InputObject)]
    struct Sent {
        title: Option<String>,
        asin: String,
        price: Option<i32>,
    }

    #[test]
    fn the_content_of_a_batch_is_what_was_sent_and_not_how() {
        let sent = |json: Json| {
            let value = Value::from_json(json).unwrap();
            content(
                true,
                &Vec::<Sent>::parse(Some(value))
                    .map_err(|_| "no rows")
                    .unwrap(),
            )
        };
        let one = sent(serde_json::json!([{ "asin": "B0", "title": "One" }]));
        let text = r#"{"atomic":true,"rows":[{"asin":"B0","title":"One"}]}"#;
        assert_eq!(String::from_utf8_lossy(&one), text);
        let nulled = serde_json::json!([{ "title": "One", "price": null, "asin": "B0" }]);
        assert_eq!(sent(nulled), one);
        let other = serde_json::json!([{ "title": "One", "price": 0, "asin": "B0" }]);
        assert_ne!(sent(other), one);
    }
}
