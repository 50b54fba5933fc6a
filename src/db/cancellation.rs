//! The cancellation of operations whose clients wait no longer.
//!
//! The invariants: **a cancellation is repeated until its operation has ended**, even if the database does not respond for
//! some time, and **cancellations use one connection, however many operations are cancelled**. An operation is in the
//! queue at most once, and leaves it when it ends. The slots bound the number of operations, and so the queue.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use sqlx::PgPool;

use super::Operation;
use crate::{error::Error, metrics};

/// The pause before the first attempt to cancel a statement, and between two attempts. Most operations end during the
/// first pause. That is cheaper than a cancellation. A cancellation is repeated, because it has no effect if it reaches
/// the server before the statement.
const INTERVAL: Duration = Duration::from_millis(50);
/// The time limit for an attempt. The limits of PostgreSQL do not apply to a server that does not respond.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum number of operations in the queue: more than the slots of the largest pool.
const MAX_QUEUED: usize = 4_096;

/// The operations that are being cancelled. Its clones share one queue.
#[derive(Clone, Debug)]
pub(super) struct Cancellations {
    pool: PgPool,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    /// An operation has ended if nothing holds it any more.
    operations: Vec<Weak<Operation>>,
    is_running: bool,
}

impl Cancellations {
    /// Creates an empty queue. The pool has one connection, which nothing else uses.
    pub(super) fn new(pool: PgPool) -> Self {
        Self {
            pool,
            queue: Arc::default(),
        }
    }

    /// Cancels the statements of an operation until the operation has ended.
    pub(super) fn add(&self, operation: &Arc<Operation>) {
        let mut queue = self.queue.lock();
        queue.remove_ended();
        let added = Arc::downgrade(operation);
        if queue.operations.iter().any(|one| one.ptr_eq(&added)) {
            return;
        }
        if queue.operations.len() >= MAX_QUEUED {
            // The statement timeout of the database role ends the operation.
            metrics::CANCELLATIONS_REJECTED.increment();
            return;
        }
        queue.operations.push(added);
        if !queue.is_running {
            queue.is_running = true;
            tokio::spawn(self.clone().run());
        }
    }

    /// Closes the connection. Operations that have not ended are not cancelled any more.
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    /// Cancels the operations of the queue, one after the other, until the queue is empty.
    async fn run(self) {
        let mut is_failing = false;
        loop {
            tokio::time::sleep(INTERVAL).await;
            let Some(operations) = self.next_round() else {
                return;
            };
            for operation in operations {
                // Only the mark is kept: an operation ends when nothing holds it.
                let Some(mark) = operation.upgrade().map(|operation| operation.mark()) else {
                    continue;
                };
                match self.cancel(mark).await {
                    Ok(()) => is_failing = false,
                    Err(error) => {
                        metrics::CANCELLATIONS_FAILED.increment();
                        if !is_failing {
                            tracing::warn!("cannot cancel an operation yet: {}", error.detail());
                        }
                        is_failing = true;
                        break;
                    }
                }
            }
            if self.pool.is_closed() {
                // The service is shutting down. The server ends the statements of closed connections.
                self.queue.lock().operations.clear();
            }
        }
    }

    /// The operations that have not ended; `None` if there are none, which ends the task.
    fn next_round(&self) -> Option<Vec<Weak<Operation>>> {
        let mut queue = self.queue.lock();
        queue.remove_ended();
        queue.is_running = !queue.operations.is_empty();
        queue.is_running.then(|| queue.operations.clone())
    }

    /// Cancels the statement that runs with this mark, if there is one.
    async fn cancel(&self, mark: String) -> Result<(), Error> {
        let mut connection = match self.pool.acquire().await {
            Ok(connection) => connection,
            Err(sqlx::Error::PoolClosed) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let cancel = sqlx::query_scalar!(r#"select app.cancel($1) as "is_cancelled!""#, mark);
        let cancel = cancel.fetch_one(&mut *connection);
        if let Ok(cancelled) = tokio::time::timeout(TIMEOUT, cancel).await {
            return Ok(cancelled.map(drop)?);
        }
        // A server that does not respond would keep the connection.
        drop(connection.detach());
        Err(Error::Timeout)
    }
}

impl Queue {
    fn remove_ended(&mut self) {
        self.operations.retain(|one| one.strong_count() > 0);
    }
}
