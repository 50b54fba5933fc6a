//! The lease of a pooled connection.
//!
//! The invariant: **a connection returns to the pool only after its transaction has ended.** Dropping
//! a lease closes the socket, and the server rolls back. Only [`Lease::commit`] and
//! [`Lease::release_rolled_back`] return the connection.

use sqlx::{PgConnection, Postgres, pool::PoolConnection, postgres::PgTransactionManager};
// The crate `sqlx` does not export this trait. `pool.begin()` is not an alternative: if its future is
// dropped during BEGIN, the connection returns to the pool with the transaction open.
use sqlx_core::transaction::TransactionManager as _;

/// A pooled connection for one transaction.
pub(super) struct Lease(Option<PoolConnection<Postgres>>);

impl Lease {
    pub(super) fn new(connection: PoolConnection<Postgres>) -> Self {
        Self(Some(connection))
    }

    pub(super) fn connection(&mut self) -> &mut PgConnection {
        self.0
            .as_mut()
            .expect("BUG: a lease is used after its release")
    }

    /// Opens the transaction. If this fails, the lease is dropped.
    pub(super) async fn begin(mut self, sql: sqlx::SqlStr) -> sqlx::Result<Self> {
        PgTransactionManager::begin(self.connection(), Some(sql)).await?;
        Ok(self)
    }

    /// Rolls back and returns the connection. sqlx sends the ROLLBACK together with the message that
    /// tests a returned connection, and pools the connection only after the replies to both.
    pub(super) fn release_rolled_back(mut self) {
        PgTransactionManager::start_rollback(self.connection());
        drop(self.0.take());
    }

    /// Commits and returns the connection.
    pub(super) async fn commit(mut self) -> sqlx::Result<()> {
        PgTransactionManager::commit(self.connection()).await?;
        drop(self.0.take());
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}
