//! Bulk mutations: they write many rows, return a result for each row, and can have an idempotency key
//! of their own.

use std::borrow::Cow;

use async_graphql::{
    Context, InputObject, InputType, SimpleObject, TypeName, Value, resolver_utils::ContainerType,
};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use uuid::Uuid;

use super::{
    context::ContextExt as _,
    idempotency::{self, MAX_KEY_LENGTH},
    json::PlainFields,
    mutation::MutationResult,
    object::Objects,
};
use crate::{
    auth::Principal,
    db::{
        idempotency::{Claim, KEY_RETENTION_HOURS},
        write_error::WriteError,
    },
    error::Error,
    user_error::{UserError, UserErrorCode},
};

/// The options of a bulk mutation. Its input flattens them.
#[derive(Clone, Debug, InputObject)]
pub struct BulkOptions {
    /// If true, the mutation processes either all rows or none. If false, the mutation processes every row that has no
    /// error.
    #[graphql(default = true)]
    pub atomic: bool,
    /// A key that the client chooses; 1 to 255 printable ASCII characters. Repeating the same input with the same
    /// key within 24 hours returns the first result without running the mutation again.
    pub idempotency_key: Option<String>,
}

/// The results of all rows, in the order of the input.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct BulkResult(pub Vec<BulkRow>);

/// The result of one row.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct BulkRow {
    /// The ID of the written row; `None` if the row was not written.
    pub id: Option<Uuid>,
    /// The reasons why the row was not written.
    pub user_errors: Vec<UserError>,
}

impl BulkRow {
    /// A row that was written.
    #[must_use]
    pub fn written(id: Uuid) -> Self {
        Self {
            id: Some(id),
            user_errors: Vec::new(),
        }
    }

    /// A row that was rejected for these reasons.
    #[must_use]
    pub fn rejected(user_errors: Vec<UserError>) -> Self {
        Self {
            id: None,
            user_errors,
        }
    }

    /// A row that was rejected for one reason; `field` is the path below the row.
    #[must_use]
    pub fn error(code: UserErrorCode, field: &str, message: impl Into<String>) -> Self {
        Self::rejected(vec![UserError::new(code, field, message)])
    }
}

/// The GraphQL type of the result of one row. Its name is that of the mutation with the suffix `Result`.
pub trait BulkRowResult: ContainerType + PlainFields + 'static {
    /// The name of the mutation.
    const MUTATION: &'static str;
    /// The field of the input that lists the rows.
    const LIST: &'static str;
    /// The maximum number of rows.
    const MAX_ROWS: usize;

    /// Creates the result of the row with this index.
    fn new(index: i32, row: BulkRow) -> Self;
}

/// The payload of a bulk mutation.
#[derive(Debug, SimpleObject)]
#[graphql(name_type)]
pub struct BulkPayload<R: BulkRowResult> {
    /// The result of each row, in the order of the input.
    pub results: Objects<R>,
    /// The errors that rejected the whole mutation. With `atomic: false`, the errors of a row do not reject the
    /// mutation and are only in `results`.
    pub user_errors: Objects<UserError>,
}

impl<R: BulkRowResult> PlainFields for BulkPayload<R> {}

impl<R: BulkRowResult> TypeName for BulkPayload<R> {
    /// `ImportProductsPayload` for `ImportProductsResult`.
    fn type_name() -> Cow<'static, str> {
        let result = R::type_name();
        let mutation = result.strip_suffix("Result").unwrap_or(&result);
        format!("{mutation}Payload").into()
    }
}

impl<R: BulkRowResult> From<MutationResult<BulkResult>> for BulkPayload<R> {
    fn from(result: MutationResult<BulkResult>) -> Self {
        let rows = result.value.unwrap_or_default().0;
        let results = (0..).zip(rows).map(|(index, row)| R::new(index, row));
        Self {
            results: results.collect(),
            user_errors: result.user_errors.into_iter().collect(),
        }
    }
}

/// Runs the work of a bulk mutation, or returns the stored result if the same input has already run
/// with the same key. If a row is rejected and `atomic` is true, the whole work is rejected, and the
/// caller must roll it back.
///
/// The future is boxed because the work is large.
pub fn run<'a, R: BulkRowResult>(
    ctx: &'a Context<'_>,
    options: &'a BulkOptions,
    rows: &'a [impl InputType],
    work: impl Future<Output = Result<BulkResult, WriteError<BulkResult>>> + Send + 'a,
) -> BoxFuture<'a, Result<BulkResult, WriteError<BulkResult>>> {
    Box::pin(async move {
        check_size::<R>(rows.len())?;
        let tx = ctx.tx();
        let claim = match &options.idempotency_key {
            None => None,
            Some(key) => {
                check_key(key)?;
                let input = fingerprint(options.atomic, rows);
                let Principal { user, role, .. } = *ctx.principal();
                let claim = Claim::new(user, role, Some(R::MUTATION), key, &[&input]);
                match idempotency::claim(&claim, tx).await {
                    Ok(None) => Some(claim),
                    Ok(Some(stored)) => return Ok(stored),
                    Err(Error::IdempotencyMismatch) => return Err(key_mismatch()),
                    Err(error) => return Err(error.into()),
                }
            }
        };
        let mut result = work.await?;
        let errors: Vec<UserError> = (result.0.iter().enumerate())
            .flat_map(|(index, row)| {
                let errors = row.user_errors.iter().cloned();
                errors.map(move |error| error.in_row(R::LIST, index))
            })
            .collect();
        if options.atomic && !errors.is_empty() {
            for row in &mut result.0 {
                row.id = None;
            }
            return Err(WriteError::Rejected(errors, Some(result)));
        }
        if let Some(claim) = claim {
            claim
                .store_response(tx, &idempotency::encode(&result)?)
                .await?;
        }
        Ok(result)
    })
}

fn check_size<R: BulkRowResult>(rows: usize) -> Result<(), WriteError<BulkResult>> {
    let rejected = |code, message: String| Err(WriteError::rejected(code, R::LIST, message));
    match rows {
        0 => rejected(UserErrorCode::Required, "must not be empty".to_owned()),
        _ if rows > R::MAX_ROWS => rejected(
            UserErrorCode::LimitReached,
            format!("must have at most {} rows", R::MAX_ROWS),
        ),
        _ => Ok(()),
    }
}

fn check_key(key: &str) -> Result<(), WriteError<BulkResult>> {
    if idempotency::is_valid_key(key) {
        return Ok(());
    }
    let message = format!("must have 1 to {MAX_KEY_LENGTH} printable ASCII characters");
    Err(WriteError::rejected(
        UserErrorCode::Invalid,
        "idempotencyKey",
        message,
    ))
}

fn key_mismatch() -> WriteError<BulkResult> {
    let message = format!(
        "was used with another input or with another role in the last {KEY_RETENTION_HOURS} hours: use a new key"
    );
    WriteError::rejected(
        UserErrorCode::IdempotencyMismatch,
        "idempotencyKey",
        message,
    )
}

/// The input as canonical JSON, to compare it with the input of a repeated request. Another release of the service may
/// compare them, so fields have the names of the schema and are sorted, and nulls are omitted.
fn fingerprint(atomic: bool, rows: &[impl InputType]) -> Vec<u8> {
    let rows = Value::List(rows.iter().map(InputType::to_value).collect());
    let rows = canonical(rows.into_json().unwrap_or_default());
    serde_json::json!({ "atomic": atomic, "rows": rows })
        .to_string()
        .into_bytes()
}

fn canonical(value: Json) -> Json {
    match value {
        Json::Array(items) => items.into_iter().map(canonical).collect(),
        Json::Object(fields) => {
            let mut given: Vec<(String, Json)> = fields
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| (name, canonical(value)))
                .collect();
            given.sort_by(|(one, _), (other, _)| one.cmp(other));
            given.into_iter().collect()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(InputObject)]
    struct Sent {
        title: Option<String>,
        asin: String,
        price: Option<i32>,
    }

    #[test]
    fn the_fingerprint_of_an_input_depends_only_on_its_values() {
        let sent = |json: Json| {
            let value = Value::from_json(json).unwrap();
            let rows = Vec::<Sent>::parse(Some(value));
            fingerprint(true, &rows.map_err(|_| "not a list of rows").unwrap())
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
