//! Expected failures of a mutation: what a client reads in `userErrors`, and why a write was refused.

use async_graphql::{Enum, MaybeUndefined, SimpleObject};
use serde::{Deserialize, Serialize};

use crate::error::Error;

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
    /// The caller's role does not allow it.
    Forbidden,
    /// The object is in a state that does not allow the mutation.
    InvalidState,
    /// The input has more rows than one mutation may process.
    LimitReached,
    /// The idempotency key was used with another input.
    IdempotencyMismatch,
}

/// An expected error of a mutation, such as an invalid value. A mutation that returns one in its payload has
/// written nothing.
#[derive(Clone, Debug, PartialEq, Eq, SimpleObject, Serialize, Deserialize)]
pub struct UserError {
    /// The code of the error, for programs.
    pub code: UserErrorCode,
    /// The path of the input field in the arguments, such as `["input", "name"]`. Null if the error concerns no
    /// single field.
    pub field: Option<Vec<String>>,
    /// A message for people. It may change: programs should compare `code`.
    pub message: String,
}

impl UserError {
    /// A failure of an input field; `field` is its path below `input`, parts separated by dots, or
    /// empty if it is about none.
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

/// Why a write was not done.
#[derive(Debug)]
pub enum Refusal<T> {
    /// It was refused for reasons that the client can do something about, and which may come with a
    /// value: the row that is in the way.
    Refused(Vec<UserError>, Option<T>),
    /// It failed.
    Failed(Error),
}

impl<T> Refusal<T> {
    /// One reason.
    #[must_use]
    pub fn because(code: UserErrorCode, field: &str, message: impl Into<String>) -> Self {
        Self::Refused(vec![UserError::new(code, field, message)], None)
    }

    /// The row has changed since the version that the client knows: this is the present one.
    #[must_use]
    pub fn conflict(present: T) -> Self {
        let message = "has another version by now";
        let error = UserError::new(UserErrorCode::Conflict, "ifVersion", message);
        Self::Refused(vec![error], Some(present))
    }

    /// The same refusal of a write that answers something else.
    #[must_use]
    pub fn of<U>(self) -> Refusal<U> {
        match self {
            Self::Refused(errors, _) => Refusal::Refused(errors, None),
            Self::Failed(error) => Refusal::Failed(error),
        }
    }
}

impl<T> From<Error> for Refusal<T> {
    fn from(error: Error) -> Self {
        match error {
            Error::Forbidden => {
                Self::because(UserErrorCode::Forbidden, "", Error::Forbidden.to_string())
            }
            Error::NotFound(what) => Self::because(
                UserErrorCode::NotFound,
                "id",
                Error::NotFound(what).to_string(),
            ),
            error => Self::Failed(error),
        }
    }
}

impl<T> From<sqlx::Error> for Refusal<T> {
    fn from(error: sqlx::Error) -> Self {
        Error::from(error).into()
    }
}

/// A constraint of the database and what a client reads when it is violated.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The name of the constraint.
    pub constraint: &'static str,
    /// The kind of failure.
    pub code: UserErrorCode,
    /// The input field, as in [`UserError::new`].
    pub field: &'static str,
    /// What is wrong, for people.
    pub message: &'static str,
}

impl Rule {
    /// A rule; the order is that of a sentence.
    #[must_use]
    pub const fn new(
        constraint: &'static str,
        code: UserErrorCode,
        field: &'static str,
        message: &'static str,
    ) -> Self {
        Self {
            constraint,
            code,
            field,
            message,
        }
    }
}

/// Checks an input, and reports all of its failures at once.
///
/// The constraints of the database hold the same bounds of length. They name only the first failure and cannot
/// say on which side of a bound it lies, so what can be said earlier is said here.
#[derive(Debug, Default)]
pub struct Checks(Vec<UserError>);

impl Checks {
    /// No failure so far.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reports a failure unless it holds.
    pub fn require(
        &mut self,
        holds: bool,
        code: UserErrorCode,
        field: &str,
        message: impl Into<String>,
    ) {
        if !holds {
            self.0.push(UserError::new(code, field, message));
        }
    }

    /// A text of 1 to `max` characters, not all of them white space (Unicode's `White_Space`), and none
    /// U+0000, which Postgres does not store.
    pub fn text(&mut self, field: &str, text: &str, max: usize) {
        let says_something = !text.trim().is_empty();
        self.require(says_something, UserErrorCode::Required, field, "is blank");
        self.storable(field, text, max);
    }

    /// A text of at most `max` characters, none of them U+0000, if there is one; null clears it.
    pub fn optional_text(&mut self, field: &str, text: Option<&String>, max: usize) {
        if let Some(text) = text {
            self.storable(field, text, max);
        }
    }

    fn storable(&mut self, field: &str, text: &str, max: usize) {
        let is_short = text.chars().count() <= max;
        let message = format!("is longer than {max} characters");
        self.require(is_short, UserErrorCode::TooLong, field, message);
        let can_be_stored = !text.contains('\0');
        let message = "holds the character U+0000";
        self.require(can_be_stored, UserErrorCode::Invalid, field, message);
    }

    /// The new value of a field that cannot be cleared; `None` if it stays as it is.
    pub fn change<'v, T>(&mut self, field: &str, value: &'v MaybeUndefined<T>) -> Option<&'v T> {
        self.require(
            !value.is_null(),
            UserErrorCode::Required,
            field,
            "cannot be cleared: leave it out to keep it",
        );
        value.value()
    }

    /// A changed text, as [`Checks::text`].
    pub fn changed_text(&mut self, field: &str, text: &MaybeUndefined<String>, max: usize) {
        if let Some(text) = self.change(field, text) {
            self.text(field, text, max);
        }
    }

    /// Adds failures that were found elsewhere.
    pub fn extend(&mut self, failures: impl IntoIterator<Item = UserError>) {
        self.0.extend(failures);
    }

    /// The failures.
    #[must_use]
    pub fn into_failures(self) -> Vec<UserError> {
        self.0
    }

    /// All failures, if there are any.
    pub fn done<T>(self) -> Result<(), Refusal<T>> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Refusal::Refused(self.0, None))
        }
    }
}
