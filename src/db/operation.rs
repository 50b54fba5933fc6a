//! An operation as the database sees it: its mark, its name and its cancellation.
//!
//! The invariant: **a cancelled operation commits nothing.** Each statement and the commit first check
//! the flag `cancelled`. It is set before the running statement on the server is cancelled.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use parking_lot::Mutex;
use uuid::Uuid;

use super::TenantDb;
use crate::{
    error::{Error, Result},
    metrics,
    usage::{Usage, tenant_bytes::HeldBytes},
};

/// One GraphQL operation. Its mark identifies its backend on the server, so that a running statement
/// can be cancelled.
#[derive(Debug)]
pub struct Operation {
    request_id: Uuid,
    /// Distinguishes operations to which clients gave the same request id.
    nonce: u32,
    cancelled: AtomicBool,
    exclusive: AtomicBool,
    written_rows: AtomicU64,
    usage: Arc<Usage>,
    fetched: Option<FetchedBytes>,
}

/// The bytes of long columns that an operation has fetched. They stay in memory until the operation ends.
#[derive(Debug)]
struct FetchedBytes {
    limit: u64,
    state: Mutex<FetchedState>,
}

#[derive(Debug)]
struct FetchedState {
    bytes: u64,
    /// Covers at least `bytes`.
    held: HeldBytes,
    held_bytes: u64,
}

/// The number of rows that an operation of a client may write: the largest bulk mutation, twice. With their entries in the
/// audit log, that many lines of invoices take 4.4 MB.
pub(crate) const MAX_WRITTEN_ROWS: u64 = 2_000;
/// The number of bytes by which an operation increases the memory that it holds for fetched bytes.
const HELD_STEP_BYTES: u64 = 256 * 1024;

impl Operation {
    /// Creates an operation of the request with this id. The bytes that it fetches are not bounded.
    #[must_use]
    pub fn new(request_id: Uuid) -> Arc<Self> {
        Arc::new(Self::with_usage(request_id, Arc::default()))
    }

    /// Creates an operation of a client. It adds what it uses to `usage`, and fetches at most `max_fetched_bytes` of
    /// long columns, which it holds in the memory of `held`.
    #[must_use]
    pub fn bounded(
        request_id: Uuid,
        usage: Arc<Usage>,
        max_fetched_bytes: u64,
        held: HeldBytes,
    ) -> Arc<Self> {
        let state = FetchedState {
            bytes: 0,
            held,
            held_bytes: 0,
        };
        Arc::new(Self {
            fetched: Some(FetchedBytes {
                limit: max_fetched_bytes,
                state: Mutex::new(state),
            }),
            ..Self::with_usage(request_id, usage)
        })
    }

    fn with_usage(request_id: Uuid, usage: Arc<Usage>) -> Self {
        Self {
            request_id,
            nonce: fastrand::u32(..),
            cancelled: AtomicBool::new(false),
            exclusive: AtomicBool::new(false),
            written_rows: AtomicU64::new(0),
            usage,
            fetched: None,
        }
    }

    /// What the request has used so far.
    #[must_use]
    pub fn usage(&self) -> &Arc<Usage> {
        &self.usage
    }

    /// Counts bytes of long columns that were fetched. Errors: `TooComplex` if the operation has fetched too many
    /// bytes; `Unavailable` if all operations of the tenant, or of all tenants, hold too many.
    pub(super) fn add_fetched_bytes(&self, bytes: u64) -> Result<()> {
        self.usage.add_fetched_bytes(bytes);
        let Some(fetched) = &self.fetched else {
            return Ok(());
        };
        let mut state = fetched.state.lock();
        state.bytes += bytes;
        if state.bytes > fetched.limit {
            metrics::FETCHED_BYTES_EXCEEDED.increment();
            return Err(Error::TooComplex(format!(
                "the operation fetches more than {} bytes in long strings: request smaller pages",
                fetched.limit
            )));
        }
        if state.bytes > state.held_bytes {
            let missing = state.bytes - state.held_bytes;
            let more = missing.max(HELD_STEP_BYTES.min(fetched.limit - state.held_bytes));
            if !state.held.try_grow(more) {
                metrics::FETCHED_BYTES_BUSY.increment();
                return Err(Error::Unavailable(None));
            }
            state.held_bytes += more;
        }
        Ok(())
    }

    /// Counts rows that the next statement could write. Errors: `TooComplex` if a client's operation writes too many.
    pub(super) fn reserve_writes(&self, rows: usize) -> Result<()> {
        let rows = rows as u64;
        self.usage.add_written_rows(rows);
        let written = self.written_rows.fetch_add(rows, Ordering::Relaxed) + rows;
        if self.fetched.is_some() && written > MAX_WRITTEN_ROWS {
            metrics::WRITTEN_ROWS_EXCEEDED.increment();
            return Err(Error::TooComplex(format!(
                "the operation writes more than {MAX_WRITTEN_ROWS} rows: send it in parts"
            )));
        }
        Ok(())
    }

    /// Counts the written rows from zero again, because they were rolled back and the operation runs again. The tenant
    /// still pays for them.
    pub(crate) fn forget_writes(&self) {
        self.written_rows.store(0, Ordering::Relaxed);
    }

    /// Whether a statement could have written rows.
    pub(super) fn has_written(&self) -> bool {
        self.written_rows.load(Ordering::Relaxed) > 0
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
    /// Cancels the operation, and its statements on the server until nothing holds the operation any more. If the service
    /// dropped the future instead, the backend would continue to work and the pool would wait for it.
    pub fn cancel(&self, operation: &Arc<Operation>) {
        operation.cancel();
        self.cancel_statement(operation);
    }

    /// Cancels the statement of the operation that runs on the server. The operation must not send another one.
    pub(super) fn cancel_statement(&self, operation: &Arc<Operation>) {
        self.cancellations.add(operation);
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

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::{TenantId, UserId},
        usage::tenant_bytes::{Shares, TenantBytes},
    };

    const MIB: u64 = 1024 * 1024;

    fn memory() -> TenantBytes {
        TenantBytes::new(Shares {
            user: 4 * MIB,
            tenant: 4 * MIB,
            total: 16 * MIB,
        })
    }

    fn operation(memory: &TenantBytes, tenant: TenantId) -> Arc<Operation> {
        let held = HeldBytes::empty(memory, tenant, UserId::generate());
        Operation::bounded(Uuid::now_v7(), Arc::default(), 4 * MIB, held)
    }

    #[test]
    fn an_operation_fetches_at_most_its_limit_and_releases_it_at_its_end() {
        let memory = memory();
        let tenant = TenantId::generate();
        let first = operation(&memory, tenant);
        assert!(first.add_fetched_bytes(4 * MIB).is_ok());
        assert!(matches!(
            first.add_fetched_bytes(1),
            Err(Error::TooComplex(_))
        ));
        // The tenant has as much memory as one operation may use. Another tenant has its own.
        let second = operation(&memory, tenant);
        assert!(matches!(
            second.add_fetched_bytes(1),
            Err(Error::Unavailable(None))
        ));
        let other = operation(&memory, TenantId::generate());
        assert!(other.add_fetched_bytes(4 * MIB).is_ok());
        drop(first);
        assert!(second.add_fetched_bytes(MIB).is_ok());
        drop((second, other));
        assert_eq!(memory.held(), 0);
    }

    #[test]
    fn small_values_take_memory_in_steps() {
        let memory = memory();
        let operation = operation(&memory, TenantId::generate());
        for _ in 0..1_000 {
            operation.add_fetched_bytes(100).unwrap();
        }
        assert_eq!(memory.held(), HELD_STEP_BYTES);
        operation.add_fetched_bytes(HELD_STEP_BYTES).unwrap();
        assert_eq!(memory.held(), 2 * HELD_STEP_BYTES);
    }
}
