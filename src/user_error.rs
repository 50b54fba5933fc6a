//! User errors: the expected failures of a mutation, which a client reads in `userErrors`.

use async_graphql::{Enum, SimpleObject};
use serde::{Deserialize, Serialize};

/// The code of an error of a mutation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, Serialize, Deserialize)]
pub enum UserErrorCode {
    /// A required value is missing, empty or blank.
    Required,
    /// A value is malformed.
    Invalid,
    /// A string is too long.
    TooLong,
    /// A number is too small.
    TooSmall,
    /// A number is too large.
    TooLarge,
    /// The object does not exist in the caller's tenant.
    NotFound,
    /// Another object of the tenant already has this value.
    AlreadyExists,
    /// The object has changed since the version in `ifVersion`. The payload has the current object.
    Conflict,
    /// The caller's role does not allow the change.
    Forbidden,
    /// The object is in a state that does not allow the mutation.
    InvalidState,
    /// The input has more rows than one mutation may process.
    LimitReached,
    /// The idempotency key was used with another input.
    IdempotencyMismatch,
}

/// An expected error of a mutation, such as an invalid value. If `userErrors` of the payload is not empty, the mutation
/// has written nothing.
#[derive(Clone, Debug, PartialEq, Eq, SimpleObject, Serialize, Deserialize)]
pub struct UserError {
    /// The code of the error, for programs.
    pub code: UserErrorCode,
    /// The path of the input field in the arguments, such as `["input", "name"]`. Null if the error is not about a
    /// single field.
    pub field: Option<Vec<String>>,
    /// A message for people. It may change: programs should compare `code`.
    pub message: String,
}

impl UserError {
    /// Creates the error of an input field. `field` is the path of the field below `input`, such as `price.amount`; it
    /// is empty if the error is not about a single field.
    #[must_use]
    pub fn new(code: UserErrorCode, field: &str, message: impl Into<String>) -> Self {
        let path = || ["input"].into_iter().chain(field.split('.'));
        Self {
            code,
            field: (!field.is_empty()).then(|| path().map(str::to_owned).collect()),
            message: message.into(),
        }
    }

    /// Returns the same error for one row of a bulk mutation: the path then starts with `input`, the list and the index
    /// of the row.
    #[must_use]
    pub fn in_row(mut self, list: &str, index: usize) -> Self {
        let mut path = vec!["input".to_owned(), list.to_owned(), index.to_string()];
        path.extend(self.field.into_iter().flatten().skip(1));
        self.field = Some(path);
        self
    }
}
