//! The counters of the process: how often each bound was reached.
//!
//! A counter is a static, so that the code that enforces a bound counts where it rejects. `docs/operations.md` lists
//! the bounds with their counters.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows while the process runs.
#[derive(Debug)]
pub struct Counter {
    /// The name, as monitoring systems show it.
    pub name: &'static str,
    /// What is counted.
    pub help: &'static str,
    value: AtomicU64,
}

impl Counter {
    const fn new(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            help,
            value: AtomicU64::new(0),
        }
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds a number.
    pub fn add(&self, number: usize) {
        self.value.fetch_add(number as u64, Ordering::Relaxed);
    }

    /// The number since the start of the process.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[doc = $help:literal])+ $counter:ident = $name:literal;)+) => {
        $(
            $(#[doc = $help])+
            pub static $counter: Counter = Counter::new($name, concat!($($help),+));
        )+

        /// Every counter.
        pub static COUNTERS: &[&Counter] = &[$(&$counter),+];
    };
}

counters! {
    /// Requests that were rejected because their tenant sent too many per second.
    TENANT_REQUESTS_EXCEEDED = "palisade_tenant_requests_exceeded_total";
    /// Requests that were rejected because the budget of their tenant was used up.
    TENANT_BUDGET_EXCEEDED = "palisade_tenant_budget_exceeded_total";
    /// Requests that were rejected because too many requests of their user or tenant waited for a slot.
    SLOT_QUEUE_FULL = "palisade_slot_queue_full_total";
    /// Requests that got no slot in time.
    SLOT_TIMEOUT = "palisade_slot_timeout_total";
    /// Requests whose body did not fit into the memory for bodies.
    REQUEST_BYTES_EXCEEDED = "palisade_request_bytes_exceeded_total";
    /// Operations that were aborted because they fetched too many bytes from the database.
    FETCHED_BYTES_EXCEEDED = "palisade_fetched_bytes_exceeded_total";
    /// Operations that were aborted because the running operations of the tenant or of all tenants fetched too many
    /// bytes.
    FETCHED_BYTES_BUSY = "palisade_fetched_bytes_busy_total";
    /// Operations that were aborted because they wrote too many rows.
    WRITTEN_ROWS_EXCEEDED = "palisade_written_rows_exceeded_total";
    /// Operations whose response was too long.
    RESPONSE_BYTES_EXCEEDED = "palisade_response_bytes_exceeded_total";
    /// Responses that were replaced by an error because clients had not yet received earlier responses.
    RESPONSE_BYTES_BUSY = "palisade_response_bytes_busy_total";
    /// Connections that the service closed because a new one displaced them.
    CONNECTIONS_DISPLACED = "palisade_connections_displaced_total";
    /// Connections that the service rejected because all connections of a share were busy.
    CONNECTIONS_REJECTED = "palisade_connections_rejected_total";
    /// Requests that the service rejected because all connections of the tenant were busy.
    TENANT_CONNECTIONS_EXCEEDED = "palisade_tenant_connections_exceeded_total";
    /// Connections that the service closed because the client sent nothing in time.
    CONNECTIONS_SILENT = "palisade_connections_silent_total";
    /// Connections that the service closed because the client received its response too slowly.
    CONNECTIONS_SLOW = "palisade_connections_slow_total";
    /// Responses to requests with an idempotency key that were too long to be kept.
    RESPONSES_NOT_KEPT = "palisade_responses_not_kept_total";
    /// Requests that were rejected because their user had used too many idempotency keys.
    IDEMPOTENCY_KEYS_EXCEEDED = "palisade_idempotency_keys_exceeded_total";
    /// How often the service found a row of the canary, among the rows that it loaded or in a response: the isolation of
    /// the tenants has failed.
    CANARY_FOUND = "palisade_canary_found_total";
    /// Attempts to cancel an operation in the database that failed, and were repeated.
    CANCELLATIONS_FAILED = "palisade_cancellations_failed_total";
    /// Operations that were not cancelled in the database, because too many were being cancelled.
    CANCELLATIONS_REJECTED = "palisade_cancellations_rejected_total";
    /// Connections to the database that the service closed: an operation fetched too many bytes, and its statement could
    /// not be cancelled.
    DATABASE_CONNECTIONS_CLOSED = "palisade_database_connections_closed_total";
    /// Documents that were displaced from the cache of parsed documents.
    DOCUMENTS_DISPLACED = "palisade_documents_displaced_total";
    /// Automatic persisted queries that were displaced.
    PERSISTED_QUERIES_DISPLACED = "palisade_persisted_queries_displaced_total";
    /// Verified tokens that were displaced from their cache before they expired there.
    TOKENS_DISPLACED = "palisade_tokens_displaced_total";
    /// Roles of users that were displaced from their cache before they expired there.
    ROLES_DISPLACED = "palisade_roles_displaced_total";
    /// Operations that exceeded their time limit.
    OPERATION_TIMEOUT = "palisade_operation_timeout_total";
}
