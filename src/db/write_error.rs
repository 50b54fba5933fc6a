//! The reasons for which a write was rejected, and their translation from the database's errors.
//!
//! The invariant: **a client never sees a message of the database.** The violation of a constraint with a
//! rule becomes a user error, and so does a deletion that a reference prevents. Every other database error
//! stays an error of the operation.

use crate::{
    error::Error,
    user_error::{UserError, UserErrorCode},
};

/// The reason why a write did not happen.
#[derive(Debug)]
pub enum WriteError<T> {
    /// The write was rejected for reasons that the client can correct. The value is the current row,
    /// if the client expected another version of it.
    Rejected(Vec<UserError>, Option<T>),
    /// The write failed.
    Failed(Error),
}

impl<T> WriteError<T> {
    /// A rejection for one reason; `field` as in [`UserError::new`].
    #[must_use]
    pub fn rejected(code: UserErrorCode, field: &str, message: impl Into<String>) -> Self {
        Self::Rejected(vec![UserError::new(code, field, message)], None)
    }

    /// The row has changed since the version that the client last read. `current` is the row now.
    #[must_use]
    pub fn conflict(current: T) -> Self {
        let message = "is not the current version: read the object again";
        let error = UserError::new(UserErrorCode::Conflict, "ifVersion", message);
        Self::Rejected(vec![error], Some(current))
    }

    /// The same error for a write that returns another type. The current row is dropped.
    #[must_use]
    pub fn without_value<U>(self) -> WriteError<U> {
        match self {
            Self::Rejected(errors, _) => WriteError::Rejected(errors, None),
            Self::Failed(error) => WriteError::Failed(error),
        }
    }

    /// Translates the error of a statement: the violation of a constraint that has a rule, or a number
    /// that does not fit its column, is a rejection. Every other error is a failure.
    #[must_use]
    pub fn from_statement(error: Error, rules: &[ConstraintRule]) -> Self {
        let Error::Database(sqlx::Error::Database(database)) = &error else {
            return error.into();
        };
        if let Some(constraint) = database.constraint()
            && let Some(rule) = rules.iter().find(|rule| rule.constraint == constraint)
        {
            return Self::rejected(rule.code, rule.field, rule.message);
        }
        // numeric_value_out_of_range
        if database.code().as_deref() == Some("22003") {
            return Self::rejected(UserErrorCode::TooLarge, "", AMOUNT_TOO_LARGE);
        }
        error.into()
    }
}

impl<T> WriteError<T> {
    /// Translates the error of a statement that deletes rows. If a row of another table refers to one of
    /// them, the deletion is rejected, even if the foreign key has no rule.
    #[must_use]
    pub fn from_deletion(error: Error, rules: &[ConstraintRule]) -> Self {
        let referrer = match &error {
            Error::Database(sqlx::Error::Database(database)) if is_foreign_key(&**database) => {
                database.table().map(|table| table.replace('_', " "))
            }
            _ => None,
        };
        match (Self::from_statement(error, rules), referrer) {
            (Self::Failed(_), Some(referrer)) => {
                let message = format!("is still used by {referrer}: delete the {referrer} first");
                Self::rejected(UserErrorCode::InvalidState, "id", message)
            }
            (translated, _) => translated,
        }
    }
}

/// The SQLSTATE `foreign_key_violation`.
fn is_foreign_key(error: &dyn sqlx::error::DatabaseError) -> bool {
    error.code().as_deref() == Some("23503")
}

/// The message for a computed amount that does not fit its column.
pub const AMOUNT_TOO_LARGE: &str = "an amount is too large";

impl<T> From<Error> for WriteError<T> {
    fn from(error: Error) -> Self {
        match error {
            Error::Forbidden => {
                Self::rejected(UserErrorCode::Forbidden, "", Error::Forbidden.to_string())
            }
            Error::NotFound(_) => Self::rejected(UserErrorCode::NotFound, "id", error.to_string()),
            error => Self::Failed(error),
        }
    }
}

impl<T> From<sqlx::Error> for WriteError<T> {
    fn from(error: sqlx::Error) -> Self {
        Error::from(error).into()
    }
}

/// A constraint of the database, and the user error that its violation becomes.
#[derive(Clone, Copy, Debug)]
pub struct ConstraintRule {
    /// The name of the constraint.
    pub constraint: &'static str,
    /// The code of the user error.
    pub code: UserErrorCode,
    /// The input field, as in [`UserError::new`].
    pub field: &'static str,
    /// The message, for people.
    pub message: &'static str,
}

impl ConstraintRule {
    /// A rule: the violation of `constraint` becomes an error with `code` at `field` with `message`.
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
