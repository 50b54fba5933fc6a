//! Everything that can go wrong in a request, and what a client may read of it.

use std::{borrow::Cow, sync::Arc};

/// The result of anything that a resolver calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong in a request.
///
/// `Display` is what the client reads; what only operators may read is in the source and goes to
/// the log. Resolvers return this and never `async_graphql::Error`, into which any error converts
/// together with its text.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No token, or one that proves nothing: one message for every cause, so that it tells nothing.
    #[error("Invalid or expired token")]
    Unauthenticated,
    /// The caller's role does not allow it.
    #[error("your role does not allow this")]
    Forbidden,
    /// Also when the row exists but belongs to another tenant.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// A value that the client sent cannot be used. `argument` is its GraphQL name.
    #[error("{argument}: {reason}")]
    Invalid {
        /// The argument or input field, as it is spelled in the schema.
        argument: &'static str,
        /// What is wrong with it, for people.
        reason: Cow<'static, str>,
    },
    /// The document asks for more than an operation may.
    #[error("{0}")]
    TooComplex(String),
    /// A statement or the operation took too long, or was cancelled because nobody waits for it.
    #[error("the operation took too long")]
    Timeout,
    /// The database cannot be reached, or every connection is busy. Worth a retry.
    #[error("the service is busy, try again")]
    Unavailable(#[source] Option<sqlx::Error>),
    /// The database gave this transaction up in favour of another (SQLSTATE 40001, 40P01). Nothing was
    /// written, and the service has tried again for as long as it does.
    #[error("the service is busy, try again")]
    Contended(#[source] sqlx::Error),
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for another request")]
    IdempotencyMismatch,
    /// A database error that is a defect of the service.
    #[error("internal error")]
    Database(#[source] sqlx::Error),
    /// A statement was sent to a transaction that has ended.
    #[error("internal error")]
    TransactionClosed,
    /// An invariant of the service does not hold; the text says which, for operators.
    #[error("internal error")]
    Internal(Cow<'static, str>),
    /// One failed batch, reported to every field that waited for it.
    #[error(transparent)]
    Shared(#[from] Arc<Error>),
}

impl Error {
    /// A value that the client sent cannot be used.
    pub fn invalid(argument: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid {
            argument,
            reason: reason.into(),
        }
    }

    /// The stable `extensions.code`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Forbidden => "FORBIDDEN",
            Self::NotFound(_) => "NOT_FOUND",
            Self::Invalid { .. } => "BAD_USER_INPUT",
            Self::TooComplex(_) => "QUERY_TOO_COMPLEX",
            Self::Timeout => "TIMEOUT",
            Self::Unavailable(_) | Self::Contended(_) => "UNAVAILABLE",
            Self::IdempotencyMismatch => "IDEMPOTENCY_MISMATCH",
            Self::Database(_) | Self::TransactionClosed | Self::Internal(_) => "INTERNAL",
            Self::Shared(error) => error.code(),
        }
    }

    /// Whether the same operation may succeed if it is run again, and has written nothing.
    #[must_use]
    pub fn is_contended(&self) -> bool {
        match self {
            Self::Contended(_) => true,
            Self::Shared(error) => error.is_contended(),
            _ => false,
        }
    }

    /// Whether the log must hold it: everything that is not the client's own doing.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        matches!(self.code(), "INTERNAL" | "UNAVAILABLE" | "TIMEOUT")
    }

    /// The chain of causes in one line, for the log only.
    #[must_use]
    pub fn detail(&self) -> String {
        let mut detail = match self {
            Self::Internal(what) => format!("internal error: {what}"),
            other => other.to_string(),
        };
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            detail.push_str(": ");
            detail.push_str(&cause.to_string());
            source = cause.source();
        }
        detail
    }
}

impl From<sqlx::Error> for Error {
    /// SQLSTATE classes from the PostgreSQL documentation, appendix A.
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Io(_) => {
                Self::Unavailable(Some(error))
            }
            sqlx::Error::Database(database) => match database.code().as_deref() {
                // query_canceled (also by statement_timeout), lock_not_available
                Some("57014" | "55P03") => Self::Timeout,
                Some("42501") => Self::Forbidden,
                // serialization_failure, deadlock_detected
                Some("40001" | "40P01") => Self::Contended(error),
                // Connection exceptions, shutdowns, too many connections.
                Some(code)
                    if code.starts_with("08") || code.starts_with("57P") || code == "53300" =>
                {
                    Self::Unavailable(Some(error))
                }
                _ => Self::Database(error),
            },
            _ => Self::Database(error),
        }
    }
}
