//! The errors of a request: the part that the client may read, and the part that only the log may contain.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use sqlx::postgres::PgDatabaseError;

/// The result of a function that a resolver calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// The value of `extensions.code` in an entry of `errors`. Clients make decisions by this code, so the meaning
        /// of a released code never changes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {
            $($(#[$doc])* $variant,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The code as a string, as clients read it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

codes! {
    /// There is no token, or it is not valid.
    Unauthenticated = "UNAUTHENTICATED",
    /// An argument, a variable or the request itself is invalid.
    BadUserInput = "BAD_USER_INPUT",
    /// The document is not GraphQL.
    GraphqlParseFailed = "GRAPHQL_PARSE_FAILED",
    /// The document does not fit the schema.
    GraphqlValidationFailed = "GRAPHQL_VALIDATION_FAILED",
    /// The operation exceeds a limit on its complexity.
    QueryTooComplex = "QUERY_TOO_COMPLEX",
    /// The service does not know a document with this hash.
    PersistedQueryNotFound = "PERSISTED_QUERY_NOT_FOUND",
    /// The document is not in the file of trusted documents.
    DocumentNotTrusted = "DOCUMENT_NOT_TRUSTED",
    /// The tenant's budget is used up, the tenant sends too many requests per second, or the user has used too many
    /// idempotency keys.
    RateLimited = "RATE_LIMITED",
    /// Pages of this origin may not call the API.
    CsrfBlocked = "CSRF_BLOCKED",
    /// The caller's role does not allow the operation.
    Forbidden = "FORBIDDEN",
    /// The idempotency key was used for another request or with another role.
    IdempotencyMismatch = "IDEMPOTENCY_MISMATCH",
    /// The request was executed before with this idempotency key, and its response is not kept.
    ResponseNotKept = "RESPONSE_NOT_KEPT",
    /// The operation or one of its statements exceeded a time limit.
    Timeout = "TIMEOUT",
    /// The database is busy or unreachable, or the tenant uses its share of slots, memory or connections.
    Unavailable = "UNAVAILABLE",
    /// A defect of the service.
    Internal = "INTERNAL",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error of a request.
///
/// The invariant: **`Display` contains only what the client may read.** Details for operators are in the source, or in
/// a field that `Display` omits, and go to the log. Resolvers return this error and never `async_graphql::Error`,
/// because every error type converts into `async_graphql::Error` together with its message.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no token, or it is not valid. The message is the same for every cause, so that it
    /// does not reveal the cause.
    #[error("Invalid or expired token")]
    Unauthenticated,
    /// The caller's role does not allow the operation.
    #[error("your role does not allow this")]
    Forbidden,
    /// The row does not exist, or it belongs to another tenant.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// A value that the client sent is invalid. `argument` is its GraphQL name.
    #[error("{argument}: {reason}")]
    Invalid {
        /// The argument or input field, spelled as in the schema.
        argument: &'static str,
        /// What is wrong with the value, in words for the client.
        reason: Cow<'static, str>,
    },
    /// The operation exceeds a limit on its complexity.
    #[error("{0}")]
    TooComplex(String),
    /// The operation or one of its statements exceeded its time limit, or was cancelled because the client
    /// closed the connection.
    #[error("the operation took too long")]
    Timeout,
    /// The database cannot be reached, every connection is in use, or the tenant's slots or memory are used up. The
    /// client may try again.
    #[error("the service is busy, try again")]
    Unavailable(#[source] Option<sqlx::Error>),
    /// The database aborted the transaction because of a conflict with another one (SQLSTATE 40001 or 40P01). The
    /// transaction wrote nothing. The client gets this error only after the last run: see `Api::execute`.
    #[error("the service is busy, try again")]
    Contended(#[source] sqlx::Error),
    /// The idempotency key was used for another request, or when the user had another role.
    #[error(
        "the idempotency key was used for another request or with another role: choose a new key"
    )]
    IdempotencyMismatch,
    /// The request was executed before with this idempotency key, and its response is not kept.
    #[error(
        "the request with this idempotency key was executed and its changes were saved, but its response was not kept: query the changed objects"
    )]
    ResponseNotKept,
    /// The user has used too many idempotency keys. The oldest one expires after this time.
    #[error("the user has used too many idempotency keys in the last 24 hours: try again later")]
    TooManyKeys(Duration),
    /// A database error that only a defect of the service can cause.
    #[error("internal error")]
    Database(#[source] sqlx::Error),
    /// A statement was sent to a transaction that has ended.
    #[error("internal error")]
    TransactionClosed,
    /// A failure that only a defect of the service can cause. The string describes the failure, for the log only.
    #[error("internal error")]
    Internal(Cow<'static, str>),
    /// An error that several waiters share, such as all fields that waited for the same batch of a data loader.
    #[error(transparent)]
    Shared(#[from] Arc<Error>),
}

impl Error {
    /// Creates the error of an invalid value.
    pub fn invalid(argument: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid {
            argument,
            reason: reason.into(),
        }
    }

    /// The value of `extensions.code`.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Unauthenticated => Code::Unauthenticated,
            Self::Forbidden => Code::Forbidden,
            // Mutations report a missing row as a user error, and queries return null. If a field returns this error
            // nevertheless, the ID in its arguments is wrong.
            Self::NotFound(_) | Self::Invalid { .. } => Code::BadUserInput,
            Self::TooComplex(_) => Code::QueryTooComplex,
            Self::Timeout => Code::Timeout,
            Self::Unavailable(_) | Self::Contended(_) => Code::Unavailable,
            Self::IdempotencyMismatch => Code::IdempotencyMismatch,
            Self::ResponseNotKept => Code::ResponseNotKept,
            Self::TooManyKeys(_) => Code::RateLimited,
            Self::Database(_) | Self::TransactionClosed | Self::Internal(_) => Code::Internal,
            Self::Shared(error) => error.code(),
        }
    }

    /// Whether the operation wrote nothing and may succeed if it runs again.
    #[must_use]
    pub fn is_contended(&self) -> bool {
        match self {
            Self::Contended(_) => true,
            Self::Shared(error) => error.is_contended(),
            _ => false,
        }
    }

    /// Whether a query may succeed if it runs again at once: it conflicted with another transaction, or lost its
    /// connection.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Contended(_) | Self::Unavailable(Some(sqlx::Error::Io(_))) => true,
            Self::Unavailable(Some(sqlx::Error::Database(error))) => {
                error.code().is_some_and(|code| code.starts_with("57P"))
            }
            Self::Shared(error) => error.is_transient(),
            _ => false,
        }
    }

    /// Whether the service or its database caused the error, and not the client. Such an error is logged.
    #[must_use]
    pub fn is_service_failure(&self) -> bool {
        matches!(
            self.code(),
            Code::Internal | Code::Unavailable | Code::Timeout
        )
    }

    /// The error and the chain of its sources in one line. For the log only.
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
    /// The SQLSTATE codes are in appendix A of the PostgreSQL documentation.
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
                Some("0A000") if is_outdated_plan(&error) => Self::Contended(error),
                // BEGIN READ WRITE on a standby. The service sets no other setting with a boolean value.
                Some("0A000") if routine(&error) == Some("call_bool_check_hook") => {
                    Self::Unavailable(Some(error))
                }
                // Connection exceptions, shutdowns, a lack of resources such as space on the disk, errors of the system,
                // and a server that is read-only because it is a standby.
                Some(code)
                    if ["08", "57P", "53", "58"]
                        .iter()
                        .any(|class| code.starts_with(class))
                        || code == "25006" =>
                {
                    Self::Unavailable(Some(error))
                }
                _ => Self::Database(error),
            },
            _ => Self::Database(error),
        }
    }
}

/// Whether a prepared statement no longer fits its table, because a column has another type. The statement fails again as
/// long as the connection is open.
#[must_use]
pub fn is_outdated_plan(error: &sqlx::Error) -> bool {
    routine(error) == Some("RevalidateCachedQuery")
}

/// The function of PostgreSQL that reported the error. Unlike the message, it does not depend on the language.
fn routine(error: &sqlx::Error) -> Option<&str> {
    let sqlx::Error::Database(error) = error else {
        return None;
    };
    error.try_downcast_ref::<PgDatabaseError>()?.routine()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_every_code_once_and_no_other() {
        let page = include_str!("../docs/api.md");
        let (_, section) = page
            .split_once("\n## Errors\n")
            .expect("the section on errors");
        let (section, _) = section.split_once("\n## ").expect("the next section");
        let mut documented: Vec<&str> = section
            .lines()
            .filter(|line| line.starts_with("| `"))
            .filter_map(|row| row.split('|').nth(1))
            .flat_map(|cell| cell.split('`').skip(1).step_by(2))
            .collect();
        let mut codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        documented.sort_unstable();
        codes.sort_unstable();
        assert_eq!(documented, codes);
    }
}
