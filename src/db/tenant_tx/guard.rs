//! The use of the transaction's connection for one statement.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use sqlx::{PgConnection, Row as _, postgres::PgRow};
use tokio::sync::MutexGuard;

use super::{Connection, Session, TenantTx};
use crate::{
    db::lease::Lease,
    error::{Error, Result, is_outdated_plan},
    metrics,
};

/// The exclusive use of the connection for one statement.
pub(super) struct StatementGuard<'t> {
    pub(super) tx: &'t TenantTx,
    pub(super) text: Option<String>,
    pub(super) begun: Instant,
    pub(super) session: MutexGuard<'t, Session>,
    pub(super) lease: Option<Lease>,
}

impl StatementGuard<'_> {
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        self.lease
            .as_mut()
            .expect("BUG: a statement guard is used after it finished")
            .connection()
    }

    /// Returns the connection to the transaction and records whether the statement failed.
    pub(super) fn finish<T>(self, reply: sqlx::Result<T>, rows: impl Fn(&T) -> u64) -> Result<T> {
        let rows = reply.as_ref().map_or(0, rows);
        self.finish_after(reply, rows)
    }

    /// Like [`StatementGuard::finish`], for a statement that returned `rows`, even if it failed after them.
    pub(super) fn finish_after<T>(mut self, reply: sqlx::Result<T>, rows: u64) -> Result<T> {
        self.count(rows);
        let lease = self
            .lease
            .take()
            .expect("BUG: a statement guard finishes twice");
        if let Err(sqlx::Error::Database(error)) = &reply
            && error.code().as_deref() == Some("28000")
        {
            // The clock of one of the machines may have changed.
            let db = &self.tx.0.db;
            db.clock.measure_soon(&db.side);
        }
        self.session.connection = match &reply {
            Ok(_) => Connection::Open(lease),
            // The next transaction on this connection would fail, too. Dropping the lease closes it.
            Err(error) if is_outdated_plan(error) => Connection::Unavailable,
            Err(_) => Connection::Failed(lease),
        };
        Ok(reply?)
    }

    /// Ends the transaction with this error, which all later statements of the operation return.
    pub(super) fn stop(mut self, rows: u64, is_usable: bool, error: Arc<Error>) {
        self.count(rows);
        match self.lease.take() {
            Some(lease) if is_usable => lease.release_rolled_back(),
            lease => {
                drop(lease);
                metrics::DATABASE_CONNECTIONS_CLOSED.increment();
            }
        }
        self.session.connection = Connection::Stopped(error);
    }

    fn count(&self, rows: u64) {
        self.tx.0.rows.fetch_add(rows, Ordering::Relaxed);
        let usage = self.tx.0.operation.usage();
        usage.add_rows(rows);
        usage.add_database_time(self.begun.elapsed());
        if let Some(text) = &self.text {
            self.tx.record(text, self.begun, rows);
        }
    }
}

/// The bytes of the values at these positions.
pub(in crate::db) fn byte_length(row: &PgRow, positions: &[usize]) -> u64 {
    let lengths = positions.iter().map(|position| {
        let value = row.try_get_raw(*position).ok();
        let bytes = value.and_then(|value| value.as_bytes().ok().map(<[u8]>::len));
        bytes.unwrap_or_default() as u64
    });
    lengths.sum()
}

/// Whether the server cancelled the statement (57014).
pub(super) fn is_cancelled(error: &sqlx::Error) -> bool {
    let last = error.as_database_error();
    last.is_some_and(|last| last.code().as_deref() == Some("57014"))
}

/// Whether the server closed the connection, with or without a final message (57P01 to 57P05).
pub(super) fn is_closed(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(last) => last.code().is_some_and(|code| code.starts_with("57P")),
        _ => false,
    }
}
