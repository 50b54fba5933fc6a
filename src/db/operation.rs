//! An operation as the database sees it: its mark, its name and its cancellation.
//!
//! The invariant: **a cancelled operation commits nothing.** Each statement and the commit first check
//! the flag `cancelled`. It is set before the running statement on the server is cancelled.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use uuid::Uuid;

use super::TenantDb;
use crate::error::Result;

/// One GraphQL operation. Its mark identifies its backend on the server, so that a running statement
/// can be cancelled.
#[derive(Debug)]
pub struct Operation {
    request_id: Uuid,
    /// Distinguishes operations to which clients gave the same request id.
    nonce: u32,
    cancelled: AtomicBool,
    exclusive: AtomicBool,
}

impl Operation {
    /// Creates an operation of the request with this id.
    #[must_use]
    pub fn new(request_id: Uuid) -> Arc<Self> {
        Arc::new(Self {
            request_id,
            nonce: fastrand::u32(..),
            cancelled: AtomicBool::new(false),
            exclusive: AtomicBool::new(false),
        })
    }

    /// The id of the request.
    #[must_use]
    pub fn request_id(&self) -> Uuid {
        self.request_id
    }

    /// The `application_name` of the operation's backend while its transaction is open.
    pub(super) fn mark(&self) -> String {
        format!("palisade {} {:08x}", self.request_id, self.nonce)
    }

    /// Cancels the operation: it starts no further statement and commits nothing. A statement that is
    /// already running continues; use [`TenantDb::cancel`] to end that statement too.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    /// Whether the operation was cancelled: no client waits for its response.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// Makes the operation exclusive: from its next transaction on, no other mutation of its tenant
    /// runs at the same time.
    pub(crate) fn make_exclusive(&self) {
        self.exclusive.store(true, Ordering::Release);
    }

    pub(super) fn is_exclusive(&self) -> bool {
        self.exclusive.load(Ordering::Acquire)
    }
}

impl TenantDb {
    /// Cancels the operation and its running statement on the server. If the service dropped the
    /// future instead, the backend would continue to work and the pool would wait for it.
    pub async fn cancel(&self, operation: &Operation) -> Result<()> {
        operation.cancel();
        let cancelled = sqlx::query!(
            r#"
            select pg_cancel_backend(pid) as "cancelled!"
            from pg_stat_activity
            where application_name = $1 and usename = current_user and state = 'active'
            "#,
            operation.mark(),
        )
        .fetch_all(&self.side)
        .await;
        match cancelled {
            // The service is shutting down. The server ends the statements of closed connections.
            Ok(_) | Err(sqlx::Error::PoolClosed) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The name of an operation, for the audit log. The name becomes part of an SQL statement, so it contains
/// only ASCII letters, digits and underscores, like every name in GraphQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationName(String);

impl OperationName {
    /// The maximum length of a name. A longer name is cut.
    const MAX_LENGTH: usize = 100;

    /// The name, cut to its first 100 characters; `None` if it is not a GraphQL name (specification,
    /// 2.1.9).
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let is_name = !name.is_empty() && name.chars().all(is_allowed);
        is_name.then(|| Self(name.chars().take(Self::MAX_LENGTH).collect()))
    }
}

impl fmt::Display for OperationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
