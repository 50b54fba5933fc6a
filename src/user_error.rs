//! User errors: the expected failures of a mutation, which a client reads in `userErrors`.

use async_graphql::{Enum, SimpleObject};
use serde::{Deserialize, Serialize};

/// The kind of a user error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, Serialize, Deserialize)]
pub enum UserErrorCode {
    /// A value is missing, or is empty or blank where it must not be.
    Required,
    /// A value is malformed.
    Invalid,
    /// A string is too long.
    TooLong,
    /// A number is too small.
    TooSmall,
    /// A number is too large.
    TooLarge,
    /// The object does not exist, or the caller may not see it.
    NotFound,
    /// Another object of the tenant already has this value.
    AlreadyExists,
    /// The object has changed since the version in `ifVersion`. The payload contains the current version.
    Conflict,
    /// The caller's role does not allow the change.
    Forbidden,
    /// The state of the object does not allow the change.
    InvalidState,
    /// The request exceeds a limit on its size.
    LimitReached,
    /// The idempotency key was used for another request.
    IdempotencyMismatch,
}

/// An expected failure of a mutation. A root field that reports one has changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, SimpleObject, Serialize, Deserialize)]
pub struct UserError {
    /// The kind of the failure, for programs.
    pub code: UserErrorCode,
    /// The path of the input field in the arguments, such as `["input", "name"]`; null if the failure
    /// concerns no single field.
    pub field: Option<Vec<String>>,
    /// A description of the failure, for people. It may change: do not compare it.
    pub message: String,
}

impl UserError {
    /// A failure of an input field. `field` is its path below `input` with its parts separated by dots;
    /// empty if the failure concerns no single field.
    #[must_use]
    pub fn new(code: UserErrorCode, field: &str, message: impl Into<String>) -> Self {
        let path = || ["input"].into_iter().chain(field.split('.'));
        Self {
            code,
            field: (!field.is_empty()).then(|| path().map(str::to_owned).collect()),
            message: message.into(),
        }
    }

    /// The same failure in a row of a list of inputs.
    #[must_use]
    pub fn in_row(mut self, list: &str, index: usize) -> Self {
        let mut path = vec!["input".to_owned(), list.to_owned(), index.to_string()];
        path.extend(self.field.into_iter().flatten().skip(1));
        self.field = Some(path);
        self
    }
}
