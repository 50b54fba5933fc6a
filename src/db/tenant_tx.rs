//! The tenant transaction: the only way from a request to the database.
//!
//! The invariant: **one operation, one transaction, one tenant.** The transaction opens with its first
//! statement, in one round trip, and ends exactly once. If a future is dropped or a connection breaks
//! in between, the lease closes the connection, and the server rolls back.

mod guard;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Instant,
};

use futures_util::TryStreamExt as _;
use sqlx::{
    AssertSqlSafe, Execute as _, Postgres, SqlSafeStr,
    postgres::{PgArguments, PgQueryResult, PgRow},
    query::Map,
};
use tokio::{sync::Mutex, task::yield_now};
use uuid::Uuid;

pub(super) use self::guard::byte_length;
use self::guard::{StatementGuard, is_cancelled, is_closed};
use super::{
    Operation, OperationName, TenantDb,
    lease::Lease,
    statement::{Statement, TracedStatement},
};
use crate::{
    auth::role::UserRole,
    canary::Canary,
    error::{Error, Result},
    ids::{EntityId, TenantId, UserId},
};

/// The tenant, user and role that a transaction acts for. The fields become part of an SQL statement, so
/// none of them is an arbitrary string.
#[derive(Clone, Copy, Debug)]
pub struct TenantContext {
    /// The tenant whose rows are visible.
    pub tenant: TenantId,
    /// The acting user; `None` for the service itself.
    pub user: Option<UserId>,
    /// The user's role in the tenant, which the restrictive policies check. With `None`, they permit no write.
    pub role: Option<UserRole>,
}

/// The purpose of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A query: one snapshot, read-only, so that a defect in a resolver cannot write.
    Read,
    /// A mutation: read committed. The request id goes into the audit log.
    Write,
}

/// A transaction that sees the rows of one tenant.
///
/// Its methods run statements, and no method returns the connection. Each method acquires and releases the
/// lock of the connection, so no caller can hold the lock while it waits for a loader that needs the lock too.
#[derive(Clone)]
pub struct TenantTx(Arc<Inner>);

struct Inner {
    db: TenantDb,
    context: TenantContext,
    purpose: Purpose,
    operation: Arc<Operation>,
    /// The name that the audit log records.
    operation_name: Option<OperationName>,
    session: Mutex<Session>,
    round_trips: AtomicU32,
    rows: AtomicU64,
    statements: parking_lot::Mutex<Vec<TracedStatement>>,
}

/// The connection, and how to undo the current root field of a mutation.
struct Session {
    connection: Connection,
    savepoint: Savepoint,
    /// The number of root fields of the mutation that have begun.
    fields: u32,
    /// The number of these fields that were undone.
    undone_fields: u32,
    /// The number of transactions that were opened. If the first root field is undone, its transaction ends,
    /// and the next statement opens a new transaction.
    generation: u32,
}

/// The savepoint of the current root field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Savepoint {
    /// No earlier field has sent a statement in this transaction: to undo the field, the transaction ends.
    NotNeeded,
    /// The field has sent no statement. Its first statement sets the savepoint. If a savepoint of an earlier
    /// field exists, the statement also releases that savepoint.
    Pending { earlier_exists: bool },
    /// The savepoint exists.
    Set,
}

/// The one connection of the transaction.
enum Connection {
    /// No statement was sent.
    Unopened,
    Open(Lease),
    /// A statement failed. From now on, PostgreSQL replies to COMMIT with ROLLBACK, which sqlx reports as
    /// success. So this variant records the failure.
    Failed(Lease),
    /// The database was unavailable. The operation does not wait for another connection.
    Unavailable,
    /// The operation fetched too many bytes, so its transaction has ended.
    Stopped(Arc<Error>),
    Ended,
}

/// The cost of a transaction so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// The number of waits for the database: the opening, each statement, the commit.
    pub round_trips: u32,
    /// The number of rows that the statements returned or changed.
    pub rows: u64,
    /// Every statement, in order; empty unless the database records statements.
    pub statements: Vec<TracedStatement>,
}

impl TenantTx {
    /// Creates a transaction for one operation. It sends nothing before its first statement.
    #[must_use]
    pub fn new(
        db: TenantDb,
        context: TenantContext,
        purpose: Purpose,
        operation: Arc<Operation>,
    ) -> Self {
        Self::with_operation_name(db, context, purpose, operation, None)
    }

    /// Creates a transaction whose operation name goes into the audit log.
    #[must_use]
    pub fn with_operation_name(
        db: TenantDb,
        context: TenantContext,
        purpose: Purpose,
        operation: Arc<Operation>,
        operation_name: Option<OperationName>,
    ) -> Self {
        Self(Arc::new(Inner {
            db,
            context,
            purpose,
            operation,
            operation_name,
            session: Mutex::new(Session {
                connection: Connection::Unopened,
                savepoint: Savepoint::NotNeeded,
                fields: 0,
                undone_fields: 0,
                generation: 0,
            }),
            round_trips: AtomicU32::new(0),
            rows: AtomicU64::new(0),
            statements: parking_lot::Mutex::default(),
        }))
    }

    /// The operation to which the transaction belongs.
    pub(super) fn operation(&self) -> &Operation {
        &self.0.operation
    }

    /// The canary, whose rows no statement may return.
    pub(super) fn canary(&self) -> &Canary {
        self.0.db.canary()
    }

    /// The tenant, for the predicate that [`super`] adds to every statement.
    pub(super) fn tenant_uuid(&self) -> Uuid {
        self.0.context.tenant.uuid()
    }

    /// Returns all rows of a statement.
    pub(super) async fn fetch_all(&self, statement: Statement) -> Result<Vec<PgRow>> {
        let mut guard = self.acquire_for(&statement).await?;
        let rows = statement.into_query().fetch_all(guard.connection()).await;
        guard.finish(rows, |rows| rows.len() as u64)
    }

    /// Passes each row of a statement to `read` when it arrives. Counts the bytes of the columns at the positions
    /// `long`. If the operation fetches too many bytes, its statement is cancelled, and the rows that still arrive are
    /// dropped. To close the connection would be simpler, but then another tenant would wait for a new one.
    pub(super) async fn fetch_each(
        &self,
        statement: Statement,
        long: &[usize],
        mut read: impl FnMut(&PgRow) -> sqlx::Result<()> + Send,
    ) -> Result<()> {
        let mut guard = self.acquire_for(&statement).await?;
        let operation = &self.0.operation;
        let usage = operation.usage();
        let mut count = 0;
        let mut exceeded = None;
        let mut rows = statement.into_query().fetch(guard.connection());
        let result = loop {
            match rows.try_next().await {
                Ok(Some(row)) => {
                    count += 1;
                    if !long.is_empty() {
                        let was_light = !usage.has_fetched_much();
                        let added = operation.add_fetched_bytes(byte_length(&row, long));
                        if let Err(error) = added {
                            exceeded = Some(error);
                            break Ok(());
                        }
                        if was_light && usage.has_fetched_much() {
                            // The execution moves to a thread for heavy work when it waits.
                            yield_now().await;
                        }
                    }
                    if let Err(error) = read(&row) {
                        break Err(error);
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let Some(error) = exceeded else {
            drop(rows);
            return guard.finish_after(result, count);
        };
        self.0.db.cancel_statement(operation);
        let is_usable = loop {
            match rows.try_next().await {
                Ok(Some(row)) => usage.add_fetched_bytes(byte_length(&row, long)),
                Ok(None) => break true,
                Err(error) => break is_cancelled(&error),
            }
        };
        drop(rows);
        let error = Arc::new(error);
        guard.stop(count, is_usable, Arc::clone(&error));
        Err(Error::Shared(error))
    }

    /// Runs SQL that a caller has formatted, so it may contain what an attacker has injected. Only the tests of this
    /// attack call it.
    #[doc(hidden)]
    pub async fn fetch_injected(&self, sql: String) -> Result<Vec<PgRow>> {
        self.fetch_all(Statement::with_arguments(sql, PgArguments::default()))
            .await
    }

    /// Returns the row of a statement, if it finds one.
    pub(super) async fn fetch_optional(&self, statement: Statement) -> Result<Option<PgRow>> {
        let mut guard = self.acquire_for(&statement).await?;
        let query = statement.into_query();
        let row = query.fetch_optional(guard.connection()).await;
        guard.finish(row, |row| u64::from(row.is_some()))
    }

    /// Returns the row of a statement that `sqlx::query!` checked at compile time. If statements are recorded,
    /// the closure is called twice, because a query of the macro gives either its SQL or its rows.
    pub(super) async fn fetch_optional_checked<T, F>(
        &self,
        query: impl Fn() -> Map<'static, Postgres, F, PgArguments> + Send + Sync,
    ) -> Result<Option<T>>
    where
        F: FnMut(PgRow) -> sqlx::Result<T> + Send,
        T: Send + Unpin,
    {
        let mut guard = self.acquire(|| query().sql().as_str().to_owned()).await?;
        let query = query();
        let row = query.fetch_optional(guard.connection()).await;
        guard.finish(row, |row| u64::from(row.is_some()))
    }

    /// Returns the number of rows that a statement changed.
    pub(super) async fn execute(&self, statement: Statement) -> Result<u64> {
        let mut guard = self.acquire_for(&statement).await?;
        let result = statement.into_query().execute(guard.connection()).await;
        guard
            .finish(result, PgQueryResult::rows_affected)
            .map(|result| result.rows_affected())
    }

    /// Begins a root field of a mutation. Afterwards, [`TenantTx::undo_field`] undoes only this field. Fails if
    /// a statement of an earlier field failed and the resolver ignored the failure.
    pub(crate) async fn begin_field(&self) -> Result<()> {
        let mut session = self.0.session.lock().await;
        session.fields += 1;
        session.savepoint = match (&session.connection, session.savepoint) {
            (Connection::Failed(_), _) => return Err(ignored_failure()),
            (Connection::Open(_), savepoint) if session.fields > 1 => Savepoint::Pending {
                earlier_exists: matches!(
                    savepoint,
                    Savepoint::Set
                        | Savepoint::Pending {
                            earlier_exists: true
                        }
                ),
            },
            _ => Savepoint::NotNeeded,
        };
        Ok(())
    }

    /// Undoes the writes of the root field. Afterwards the transaction accepts statements again, even if a
    /// statement failed.
    pub(crate) async fn undo_field(&self) -> Result<()> {
        let mut session = self.0.session.lock().await;
        session.undone_fields += 1;
        let savepoint = session.savepoint;
        let connection = std::mem::replace(&mut session.connection, Connection::Ended);
        session.connection = match (connection, savepoint) {
            (Connection::Open(lease) | Connection::Failed(lease), Savepoint::NotNeeded) => {
                lease.release_rolled_back();
                Connection::Unopened
            }
            (Connection::Open(lease) | Connection::Failed(lease), Savepoint::Set) => {
                let rollback = "ROLLBACK TO SAVEPOINT field";
                let lease = self.send_simple(lease, rollback).await;
                let lease = lease.inspect_err(|_| session.connection = Connection::Unavailable)?;
                Connection::Open(lease)
            }
            (connection, _) => connection,
        };
        Ok(())
    }

    /// Fails if a statement of the root field failed and the resolver ignored the failure.
    pub(crate) async fn check_field(&self) -> Result<()> {
        match self.0.session.lock().await.connection {
            Connection::Failed(_) => Err(ignored_failure()),
            _ => Ok(()),
        }
    }

    /// Whether the mutation has written nothing: no statement wrote a row, or every root field was undone.
    pub(crate) async fn wrote_nothing(&self) -> bool {
        if !self.0.operation.has_written() {
            return true;
        }
        let session = self.0.session.lock().await;
        session.fields > 0 && session.undone_fields == session.fields
    }

    /// The number of the open transaction, from 1; 0 if no transaction is open. The writes of all earlier
    /// transactions were undone.
    pub(crate) async fn generation(&self) -> u32 {
        let session = self.0.session.lock().await;
        match session.connection {
            Connection::Unopened => 0,
            _ => session.generation,
        }
    }

    /// Commits. Fails, and changes nothing, if a statement failed or the operation was cancelled.
    ///
    /// If the connection breaks during the commit, it is unknown whether the server committed: the error
    /// is then `Unavailable`.
    pub async fn commit(&self) -> Result<()> {
        let mut session = self.0.session.lock().await;
        match std::mem::replace(&mut session.connection, Connection::Ended) {
            Connection::Unopened => Ok(()),
            // No client waits for the response of a cancelled operation.
            Connection::Open(lease) if self.0.operation.is_cancelled() => {
                lease.release_rolled_back();
                Err(Error::Timeout)
            }
            Connection::Open(lease) => {
                self.0.round_trips.fetch_add(1, Ordering::Relaxed);
                Ok(lease.commit().await?)
            }
            Connection::Failed(lease) => {
                lease.release_rolled_back();
                Err(ignored_failure())
            }
            Connection::Unavailable => Err(Error::Unavailable(None)),
            Connection::Stopped(error) => Err(Error::Shared(error)),
            Connection::Ended => Err(Error::TransactionClosed),
        }
    }

    /// Rolls back without waiting: the ROLLBACK is sent while the connection returns to the pool.
    pub async fn rollback(&self) {
        let mut session = self.0.session.lock().await;
        match std::mem::replace(&mut session.connection, Connection::Ended) {
            Connection::Open(lease) | Connection::Failed(lease) => lease.release_rolled_back(),
            Connection::Unopened
            | Connection::Unavailable
            | Connection::Stopped(_)
            | Connection::Ended => {}
        }
    }

    /// Sends a message of one or more commands that return no rows. If it fails, the lease is dropped, and
    /// the server rolls back. A message may contain any command, so each is a constant.
    async fn send_simple(&self, mut lease: Lease, message: &'static str) -> sqlx::Result<Lease> {
        self.0.round_trips.fetch_add(1, Ordering::Relaxed);
        sqlx::raw_sql(message).execute(lease.connection()).await?;
        Ok(lease)
    }

    fn record(&self, statement: &str, begun: Instant, rows: u64) {
        if self.0.db.records_statements {
            self.0.statements.lock().push(TracedStatement {
                sql: statement.to_owned(),
                duration: begun.elapsed(),
                rows,
            });
        }
    }

    /// The cost of the transaction so far.
    #[must_use]
    pub fn cost(&self) -> Cost {
        Cost {
            round_trips: self.0.round_trips.load(Ordering::Relaxed),
            rows: self.0.rows.load(Ordering::Relaxed),
            statements: self.0.statements.lock().clone(),
        }
    }

    /// Waits for the connection. Fails if the statement is not a query.
    async fn acquire_for(&self, statement: &Statement) -> Result<StatementGuard<'_>> {
        statement.check_command()?;
        self.acquire(|| statement.text().to_owned()).await
    }

    /// Waits for the connection. Opens the transaction before its first statement.
    ///
    /// While the guard exists, the connection is `Ended`. If the guard is dropped during its statement,
    /// no later statement can use the connection.
    async fn acquire(&self, text: impl FnOnce() -> String + Send) -> Result<StatementGuard<'_>> {
        let mut session = self.0.session.lock().await;
        if self.0.operation.is_cancelled() {
            return Err(Error::Timeout);
        }
        let lease = match std::mem::replace(&mut session.connection, Connection::Ended) {
            Connection::Unopened => {
                session.generation += 1;
                // Boxed: otherwise, the future of each statement would contain this one, which runs only once.
                let opened = Box::pin(self.open()).await;
                opened.inspect_err(|_| session.connection = Connection::Unavailable)?
            }
            Connection::Open(lease) => match session.savepoint {
                Savepoint::Pending { earlier_exists } => {
                    let set = if earlier_exists {
                        "RELEASE SAVEPOINT field; SAVEPOINT field"
                    } else {
                        "SAVEPOINT field"
                    };
                    let lease = self.send_simple(lease, set).await;
                    session.savepoint = Savepoint::Set;
                    lease.inspect_err(|_| session.connection = Connection::Unavailable)?
                }
                Savepoint::NotNeeded | Savepoint::Set => lease,
            },
            Connection::Failed(lease) => {
                session.connection = Connection::Failed(lease);
                return Err(Error::Internal("statement after a failed one".into()));
            }
            Connection::Unavailable => {
                session.connection = Connection::Unavailable;
                return Err(Error::Unavailable(None));
            }
            Connection::Stopped(error) => {
                session.connection = Connection::Stopped(Arc::clone(&error));
                return Err(Error::Shared(error));
            }
            Connection::Ended => return Err(Error::TransactionClosed),
        };
        self.0.round_trips.fetch_add(1, Ordering::Relaxed);
        Ok(StatementGuard {
            tx: self,
            // The SQL is copied only if statements are recorded.
            text: self.0.db.records_statements.then(text),
            begun: Instant::now(),
            session,
            lease: Some(lease),
        })
    }

    /// Opens the transaction.
    ///
    /// The pool does not test its connections. If the server has closed the connection, BEGIN fails, and it is
    /// safe to try another connection. After a restart of the server, every pooled connection is closed, so
    /// this tries as many connections as the pool can have.
    async fn open(&self) -> Result<Lease> {
        let mut others = self.0.db.pool.options().get_max_connections();
        // A cancellation is a time limit that injected SQL has set for the session, unless the client has left.
        let is_unusable = |error: &sqlx::Error| {
            is_closed(error) || (is_cancelled(error) && !self.0.operation.is_cancelled())
        };
        loop {
            let lease = self.lease().await?;
            match self.begin(lease).await {
                Err(error) if others > 0 && is_unusable(&error) => others -= 1,
                begun => return Ok(begun?),
            }
        }
    }

    /// Leases a connection. Every failure is `Unavailable`, because each cause is temporary: a restart, a
    /// failover, a password change.
    async fn lease(&self) -> Result<Lease> {
        let pool = &self.0.db.pool;
        // Usually a connection is idle. The pool tests none, so this skips nothing.
        if let Some(connection) = pool.try_acquire() {
            return Ok(Lease::new(connection));
        }
        // Boxed, because the future is large: it may connect.
        match Box::pin(pool.acquire()).await {
            Ok(connection) => Ok(Lease::new(connection)),
            Err(error) => Err(Error::Unavailable(Some(error))),
        }
    }

    async fn begin(&self, lease: Lease) -> sqlx::Result<Lease> {
        self.0.round_trips.fetch_add(1, Ordering::Relaxed);
        let begin = AssertSqlSafe(self.begin_sql()).into_sql_str();
        lease.begin(begin).await
    }

    /// BEGIN and the context in one message. Only UUIDs, a signed context and an [`OperationName`] are
    /// formatted into it.
    ///
    /// RESET ALL comes first: an SQL statement that an attacker injected into an earlier transaction of this connection
    /// may have changed settings of the session. The transaction has begun by then with the former defaults, so BEGIN
    /// names each property of the transaction.
    fn begin_sql(&self) -> String {
        use fmt::Write as _;

        let Inner {
            db,
            context,
            purpose,
            operation,
            operation_name,
            ..
        } = &*self.0;
        let mut sql = String::with_capacity(512);
        sql.push_str(match purpose {
            Purpose::Read => {
                "RESET ALL; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY NOT DEFERRABLE"
            }
            Purpose::Write => {
                "RESET ALL; BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE NOT DEFERRABLE"
            }
        });
        // Without `write!`, which takes several times as long.
        let mut set = |name: &str, value: &str| {
            sql.extend(["; SET LOCAL ", name, " = '", value, "'"]);
        };
        set("application_name", &operation.mark());
        // The time is read here, after the wait for a connection.
        let request = operation.request_id();
        let signed = db.signer.write(context, *purpose, request, db.clock.now());
        set("app.context", &signed);
        if *purpose == Purpose::Write {
            if let Some(name) = operation_name {
                set("app.operation_name", name.as_str());
            }
            // All mutations of a tenant share this lock, except an exclusive one. It is the first lock of
            // a transaction, so a transaction that waits for it holds no other lock.
            let shared = if operation.is_exclusive() {
                ""
            } else {
                "_shared"
            };
            let tenant = context.tenant.uuid();
            write!(
                sql,
                "; SELECT pg_advisory_xact_lock{shared}(hashtextextended('palisade writes {tenant}', 0))"
            )
            .expect("BUG: writing to a String fails");
        }
        sql
    }
}

fn ignored_failure() -> Error {
    Error::Internal("a resolver ignored a failed statement".into())
}

impl fmt::Debug for TenantTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantTx")
            .field("context", &self.0.context)
            .field("purpose", &self.0.purpose)
            .finish_non_exhaustive()
    }
}
