//! What a request uses, and what its tenant pays for it.
//!
//! A budget is a number of rows, because rows are what most operations use. The price of a row includes the usual work
//! for a row. Other work is converted into rows, so that one number bounds everything that a tenant can use: a document
//! that is parsed for the first time, a long body, long columns, a long response, a stored response, and much time of
//! the service or of the database. `docs/operations.md` lists the prices.

pub mod tenant_bytes;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

const KIB: u64 = 1024;
/// Rows for each KiB of a document that is parsed. Parsing and validating it takes up to 0.36 ms on a core of the
/// machine on which `docs/performance.md` was measured; at [`MICROS_PER_ROW`], that is 18 rows.
const ROWS_PER_KIB_PARSED: u64 = 16;
/// Rows for each started KiB that is stored with an idempotency key. With the default budget, a tenant can store 5 MB a
/// minute, and PostgreSQL writes as much again into its write-ahead log.
const ROWS_PER_KIB_STORED: u64 = 200;
/// Rows for each row that is written, and for each KiB of the arguments of a mutation. A line of an invoice has about
/// 0.3 KiB of arguments, and takes 2.2 KB in the tables, the indexes and the audit log. With the default budget, a
/// tenant can write about 4 MB of such lines a minute, and twice as much in the first minute.
const ROWS_PER_WRITTEN_ROW: u64 = 400;
const ROWS_PER_KIB_WRITTEN: u64 = 500;
/// The values that a response could have for one row.
const VALUES_PER_ROW: u64 = 200;
/// The bytes of long columns that cost one row.
const FETCHED_BYTES_PER_ROW: u64 = 4 * KIB;
/// The bytes of the response that cost one row. Most of the work begins after the response is written: it is copied to
/// the connection.
const RESPONSE_BYTES_PER_ROW: u64 = 2 * KIB;
/// The microseconds of the service that each request has for free, and those for each of its rows: about five times as
/// many as usual requests need.
const FREE_MICROS: u64 = 20_000;
const FREE_MICROS_PER_ROW: u64 = 20;
/// The microseconds of the service that cost one row, after the free ones.
const MICROS_PER_ROW: u64 = 20;
/// The same for the time in which the database works for the request. The time includes waiting for locks.
const FREE_DATABASE_MICROS: u64 = 50_000;
const FREE_DATABASE_MICROS_PER_ROW: u64 = 20;
const DATABASE_MICROS_PER_ROW: u64 = 50;

/// What an operation could use, as far as it is known before the operation runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// The rows that it could fetch.
    pub rows: u64,
    /// The values that its response could have.
    pub values: u64,
    /// The rows that it could write.
    pub written_rows: u64,
    /// The bytes of the arguments of a mutation, which stores most of them.
    pub written_bytes: u64,
}

/// The bytes of long columns up to which a response is written in less than about a millisecond.
const MAX_LIGHT_FETCHED_BYTES: u64 = 128 * 1024;

/// Counts what one request uses. All code that works for the request adds to it, even if the request is rejected,
/// cancelled or abandoned.
#[derive(Debug, Default)]
pub struct Usage {
    rows: AtomicU64,
    request_bytes: AtomicU64,
    parsed_bytes: AtomicU64,
    fetched_bytes: AtomicU64,
    response_bytes: AtomicU64,
    stored_bytes: AtomicU64,
    written_rows: AtomicU64,
    written_bytes: AtomicU64,
    values: AtomicU64,
    micros: AtomicU64,
    database_micros: AtomicU64,
}

impl Usage {
    /// Adds rows that the database returned or changed.
    pub fn add_rows(&self, rows: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }

    /// Adds bytes of the body or the query string of the request.
    pub fn add_request_bytes(&self, bytes: u64) {
        self.request_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Adds bytes of documents that were parsed.
    pub fn add_parsed_bytes(&self, bytes: u64) {
        self.parsed_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Adds bytes of long columns that were fetched.
    pub fn add_fetched_bytes(&self, bytes: u64) {
        self.fetched_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Adds bytes of the response.
    pub fn add_response_bytes(&self, bytes: u64) {
        self.response_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Adds values that the response could have.
    pub fn add_values(&self, values: u64) {
        self.values.fetch_add(values, Ordering::Relaxed);
    }

    /// Adds bytes that are stored with an idempotency key.
    pub fn add_stored_bytes(&self, bytes: u64) {
        self.stored_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Does work, and adds its time as time in which the service worked.
    pub fn timed<T>(&self, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = work();
        self.add_time(begun.elapsed());
        result
    }

    /// Does heavy work, and adds the time that its thread used of the processor. Such a thread has a low priority, so it
    /// can wait for the processor for long, and the tenant does not pay for that.
    pub fn timed_heavy<T>(&self, work: impl FnOnce() -> T) -> T {
        let begun = thread_time();
        let result = work();
        self.add_time(thread_time().saturating_sub(begun));
        result
    }

    /// Adds time in which the service worked.
    pub fn add_time(&self, time: Duration) {
        self.micros.fetch_add(micros(time), Ordering::Relaxed);
    }

    /// Adds rows that statements of the request could write.
    pub fn add_written_rows(&self, rows: u64) {
        self.written_rows.fetch_add(rows, Ordering::Relaxed);
    }

    /// Adds bytes of the arguments of a mutation, which stores most of them.
    pub fn add_written_bytes(&self, bytes: u64) {
        self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Adds time in which the database worked.
    pub fn add_database_time(&self, time: Duration) {
        self.database_micros
            .fetch_add(micros(time), Ordering::Relaxed);
    }

    /// The rows that the database returned or changed.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Whether writing the response takes more than about a millisecond, because of the bytes of long columns that the
    /// request has fetched.
    #[must_use]
    pub fn has_fetched_much(&self) -> bool {
        self.fetched_bytes() > MAX_LIGHT_FETCHED_BYTES
    }

    /// The bytes of long columns that were fetched.
    #[must_use]
    pub fn fetched_bytes(&self) -> u64 {
        self.fetched_bytes.load(Ordering::Relaxed)
    }

    /// The price of the request so far, in rows; at least 1, also if the request was rejected.
    #[must_use]
    pub fn price(&self) -> u64 {
        self.price_with(Estimate::default())
    }

    /// The price of the request if it uses this in addition.
    #[must_use]
    pub fn price_with(&self, more: Estimate) -> u64 {
        let of = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let rows = self.rows().saturating_add(more.rows);
        let values = of(&self.values).saturating_add(more.values);
        let written_rows = of(&self.written_rows).saturating_add(more.written_rows);
        let written_bytes = of(&self.written_bytes).saturating_add(more.written_bytes);
        let beyond = |micros: u64, free: u64, per_row: u64| {
            micros.saturating_sub(free.saturating_add(rows.saturating_mul(per_row)))
        };
        let parts = [
            rows,
            of(&self.request_bytes) / KIB,
            (of(&self.parsed_bytes) / KIB).saturating_mul(ROWS_PER_KIB_PARSED),
            of(&self.fetched_bytes) / FETCHED_BYTES_PER_ROW,
            of(&self.response_bytes) / RESPONSE_BYTES_PER_ROW,
            values / VALUES_PER_ROW,
            (of(&self.stored_bytes).div_ceil(KIB)).saturating_mul(ROWS_PER_KIB_STORED),
            written_rows.saturating_mul(ROWS_PER_WRITTEN_ROW),
            written_bytes.saturating_mul(ROWS_PER_KIB_WRITTEN) / KIB,
            beyond(of(&self.micros), FREE_MICROS, FREE_MICROS_PER_ROW) / MICROS_PER_ROW,
            beyond(
                of(&self.database_micros),
                FREE_DATABASE_MICROS,
                FREE_DATABASE_MICROS_PER_ROW,
            ) / DATABASE_MICROS_PER_ROW,
        ];
        parts.into_iter().fold(0, u64::saturating_add).max(1)
    }
}

/// The time of the processor that this thread has used.
pub(crate) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_operation_pays_its_rows() {
        let usage = Usage::default();
        assert_eq!(usage.price(), 1, "a request that fetches nothing");
        usage.add_rows(356);
        usage.add_request_bytes(700);
        usage.add_time(Duration::from_millis(5));
        usage.add_database_time(Duration::from_millis(20));
        assert_eq!(usage.price(), 356);
    }

    #[test]
    fn work_out_of_proportion_to_the_rows_is_converted_into_rows() {
        let priced = |add: &dyn Fn(&Usage)| {
            let usage = Usage::default();
            add(&usage);
            usage.price()
        };
        let mib = KIB * KIB;
        assert_eq!(priced(&|usage| usage.add_request_bytes(mib)), 1024);
        assert_eq!(priced(&|usage| usage.add_parsed_bytes(48 * KIB)), 768);
        assert_eq!(priced(&|usage| usage.add_fetched_bytes(64 * mib)), 16_384);
        assert_eq!(priced(&|usage| usage.add_response_bytes(8 * mib)), 4_096);
        assert_eq!(priced(&|usage| usage.add_stored_bytes(1)), 200);
        assert_eq!(priced(&|usage| usage.add_stored_bytes(64 * KIB)), 12_800);
        assert_eq!(priced(&|usage| usage.add_written_rows(500)), 200_000);
        assert_eq!(priced(&|usage| usage.add_written_bytes(300)), 146);
        assert_eq!(priced(&|usage| usage.add_values(240_000)), 1_200);
        let second = Duration::from_secs(1);
        assert_eq!(priced(&|usage| usage.add_time(second)), 49_000);
        assert_eq!(priced(&|usage| usage.add_database_time(second)), 19_000);
        assert_eq!(priced(&|usage| usage.add_database_time(Duration::MAX)), {
            (u64::MAX - FREE_DATABASE_MICROS) / DATABASE_MICROS_PER_ROW
        });
    }
}
