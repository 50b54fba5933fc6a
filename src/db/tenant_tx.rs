//! The tenant transaction: the only way in which a request reaches the database.
//!
//! One operation, one transaction, one tenant. It opens at the first statement, in one round trip,
//! and ends exactly once. A connection goes back to the pool only with its transaction ended:
//! whatever is dropped, cut or broken in between closes the connection instead.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{
    AssertSqlSafe, PgConnection, Postgres, SqlSafeStr,
    pool::PoolConnection,
    postgres::{PgArguments, PgQueryResult, PgRow, PgTransactionManager},
};
// sqlx exposes this trait only here. `pool.begin()` will not do: a future dropped in the middle of
// it gives the connection back with the transaction open.
use sqlx_core::transaction::TransactionManager as _;
use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

use super::TenantDb;
use crate::{
    auth::role::UserRole,
    error::{Error, Result},
    ids::{EntityId, TenantId, UserId},
};

/// Who a transaction acts for. Every part is of a parsed type, because it is written into SQL text.
#[derive(Clone, Copy, Debug)]
pub struct TenantContext {
    /// The tenant whose rows are visible.
    pub tenant: TenantId,
    /// The acting user; `None` for the service itself.
    pub user: Option<UserId>,
    /// The user's role in the tenant, which the restrictive policies read; `None` may write nothing.
    pub role: Option<UserRole>,
}

/// What a transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A query: one snapshot, and not even a defect can write.
    Read,
    /// A change: read committed; the request id goes into the audit log.
    Write,
}

/// One operation as the database sees it: the mark by which its statement can be found and cancelled.
#[derive(Debug)]
pub struct Operation {
    request_id: Uuid,
    /// Tells operations apart to which clients gave the same request id.
    nonce: u32,
    cancelled: AtomicBool,
    alone: AtomicBool,
}

/// The name of an operation, for the audit log. It is written into SQL text, so it is nothing but
/// letters, digits and underscores, as the names of GraphQL are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationName(String);

impl OperationName {
    /// Most characters that are kept of a name.
    const MAX: usize = 100;

    /// The name, cut to its first 100 characters; `None` if it is not one of GraphQL (specification,
    /// 2.1.9).
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let is_empty = name.is_empty();
        (!is_empty && name.chars().all(is_name))
            .then(|| Self(name.chars().take(Self::MAX).collect()))
    }
}

impl fmt::Display for OperationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Operation {
    /// An operation of the request with this id.
    #[must_use]
    pub fn new(request_id: Uuid) -> Arc<Self> {
        Arc::new(Self {
            request_id,
            nonce: fastrand::u32(..),
            cancelled: AtomicBool::new(false),
            alone: AtomicBool::new(false),
        })
    }

    /// The id of the request.
    #[must_use]
    pub fn request_id(&self) -> Uuid {
        self.request_id
    }

    /// The `application_name` that marks the operation's backend while its transaction is open.
    fn mark(&self) -> String {
        format!("palisade {} {:08x}", self.request_id, self.nonce)
    }

    /// From now on no further statement of it starts, and nothing that it wrote is committed.
    pub fn give_up(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    /// From its next transaction on, a mutation runs while no other of its tenant does.
    pub(crate) fn run_alone(&self) {
        self.alone.store(true, Ordering::Release);
    }

    /// Whether it was ended early: nobody waits for its answer any more.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }
}

impl TenantDb {
    /// Ends an operation early: it is given up, and a running statement is cancelled on the server. Dropping its future instead would leave the backend at work and the pool waiting.
    pub async fn cancel(&self, operation: &Operation) -> Result<()> {
        operation.give_up();
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
            // The service is at its end, and the server ends what ran on its connections.
            Ok(_) | Err(sqlx::Error::PoolClosed) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A transaction that sees one tenant's rows.
///
/// It exposes verbs and never its connection: the lock is taken and released inside each verb, so
/// that no caller can hold it while it waits for a loader that needs it too.
#[derive(Clone)]
pub struct TenantTx(Arc<Shared>);

struct Shared {
    db: TenantDb,
    context: TenantContext,
    purpose: Purpose,
    operation: Arc<Operation>,
    /// For the audit log.
    name: Option<OperationName>,
    session: Mutex<Session>,
    round_trips: AtomicU32,
    rows: AtomicU64,
    statements: parking_lot::Mutex<Vec<Traced>>,
}

/// The connection, and how to undo what the present root field of a mutation wrote.
struct Session {
    lane: Lane,
    undo: Undo,
    /// Root fields of a mutation that have begun.
    fields: u32,
    /// How often the transaction was opened: a root field that is undone may end it.
    openings: u32,
}

/// How to undo what the present root field wrote, and no more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Undo {
    /// Nothing was written before it: the transaction ends, and another opens if need be.
    All,
    /// Something was, and the field has sent no statement yet: the next one sets a savepoint. `true`
    /// if that of an earlier field is still there.
    Savepoint(bool),
    /// To the savepoint.
    ToSavepoint,
}

/// The one connection of the transaction.
enum Lane {
    Unopened,
    Open(Lease),
    /// A statement failed. Postgres answers COMMIT with ROLLBACK from here on, and sqlx calls that
    /// a success: so it is remembered.
    Failed(Lease),
    /// No connection could be had; the operation does not queue for one again.
    Refused,
    Ended,
}

/// A pooled connection inside a transaction.
///
/// Dropping it closes the socket, upon which the server rolls back. Only its two endings give
/// the connection back.
struct Lease(Option<PoolConnection<Postgres>>);

impl Lease {
    fn connection(&mut self) -> &mut PgConnection {
        self.0
            .as_mut()
            .expect("BUG: a lease is used after its release")
    }

    /// Gives the connection back, rolled back: sqlx sends the ROLLBACK together with the message by
    /// which it tests a returned connection, and pools it only after both were answered.
    fn release_rolled_back(mut self) {
        PgTransactionManager::start_rollback(self.connection());
        drop(self.0.take());
    }

    async fn commit(mut self) -> sqlx::Result<()> {
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

/// What a transaction has cost so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Waits for the database: the opening, each statement, the commit.
    pub round_trips: u32,
    /// Rows that were returned or changed.
    pub rows: u64,
    /// Every statement, in order; empty unless the database was told to record them.
    pub statements: Vec<Traced>,
}

/// A statement that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// Its text, which holds no values.
    pub sql: String,
    /// From sending it to its whole answer.
    pub duration: Duration,
    /// The rows that it returned or changed.
    pub rows: u64,
}

impl TenantTx {
    /// A transaction for one operation. Nothing is sent before its first statement.
    #[must_use]
    pub fn new(
        db: TenantDb,
        context: TenantContext,
        purpose: Purpose,
        operation: Arc<Operation>,
    ) -> Self {
        Self(Arc::new(Shared {
            db,
            context,
            purpose,
            operation,
            name: None,
            session: Mutex::new(Session {
                lane: Lane::Unopened,
                undo: Undo::All,
                fields: 0,
                openings: 0,
            }),
            round_trips: AtomicU32::new(0),
            rows: AtomicU64::new(0),
            statements: parking_lot::Mutex::default(),
        }))
    }

    /// The same for an operation that has a name.
    #[must_use]
    pub fn named(mut self, name: Option<OperationName>) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.0) {
            shared.name = name;
        }
        self
    }

    /// The tenant for the predicate that [`super`] adds to every statement.
    pub(super) fn tenant_uuid(&self) -> Uuid {
        self.0.context.tenant.uuid()
    }

    /// All rows of a statement.
    pub async fn fetch_all(&self, statement: Statement) -> Result<Vec<PgRow>> {
        let mut turn = self.turn(&statement).await?;
        let rows = statement.query().fetch_all(turn.connection()).await;
        turn.end(rows, |rows| rows.len() as u64)
    }

    /// The row of a statement, if there is one.
    pub async fn fetch_optional(&self, statement: Statement) -> Result<Option<PgRow>> {
        let mut turn = self.turn(&statement).await?;
        let row = statement.query().fetch_optional(turn.connection()).await;
        turn.end(row, |row| u64::from(row.is_some()))
    }

    /// The number of rows that a statement changed.
    pub async fn execute(&self, statement: Statement) -> Result<u64> {
        let mut turn = self.turn(&statement).await?;
        let done = statement.query().execute(turn.connection()).await;
        turn.end(done, PgQueryResult::rows_affected)
            .map(|done| done.rows_affected())
    }

    /// Begins a root field of a mutation, which can be undone alone from here on. Fails if a statement
    /// failed before and nobody said so.
    pub(crate) async fn begin_field(&self) -> Result<()> {
        let mut session = self.0.session.lock().await;
        session.fields += 1;
        session.undo = match (&session.lane, session.undo) {
            (Lane::Failed(_), _) => return Err(passed_over()),
            (Lane::Open(_), undo) if session.fields > 1 => {
                Undo::Savepoint(undo == Undo::ToSavepoint || undo == Undo::Savepoint(true))
            }
            _ => Undo::All,
        };
        Ok(())
    }

    /// Undoes what the root field wrote. Statements can be sent again, also if one has failed.
    pub(crate) async fn undo_field(&self) -> Result<()> {
        let mut session = self.0.session.lock().await;
        let undo = session.undo;
        session.lane = match (std::mem::replace(&mut session.lane, Lane::Ended), undo) {
            (Lane::Open(lease) | Lane::Failed(lease), Undo::All) => {
                lease.release_rolled_back();
                Lane::Unopened
            }
            (Lane::Open(lease) | Lane::Failed(lease), Undo::ToSavepoint) => {
                let back = "ROLLBACK TO SAVEPOINT field";
                let lease = self.plain(lease, back.into_sql_str()).await;
                Lane::Open(lease.inspect_err(|_| session.lane = Lane::Refused)?)
            }
            (lane, _) => lane,
        };
        Ok(())
    }

    /// Fails if a statement has failed since the root field began: whoever sent it passed over that.
    pub(crate) async fn check_field(&self) -> Result<()> {
        match self.0.session.lock().await.lane {
            Lane::Failed(_) => Err(passed_over()),
            _ => Ok(()),
        }
    }

    /// How often the transaction was opened. What was written in an earlier one is gone.
    pub(crate) async fn openings(&self) -> u32 {
        let session = self.0.session.lock().await;
        match session.lane {
            Lane::Unopened => 0,
            _ => session.openings,
        }
    }

    /// Makes the changes durable. Fails, and changes nothing, if any statement has failed or the operation
    /// was given up.
    ///
    /// A connection lost in the middle leaves open whether the server committed: `Unavailable`.
    pub async fn commit(&self) -> Result<()> {
        self.commit_after(None).await
    }

    /// The same in one message with a last statement, which therefore takes no round trip.
    pub(super) async fn commit_after(&self, last: Option<String>) -> Result<()> {
        let mut session = self.0.session.lock().await;
        match std::mem::replace(&mut session.lane, Lane::Ended) {
            Lane::Unopened => Ok(()),
            // Its client was told that it took too long.
            Lane::Open(lease) if self.0.operation.is_cancelled() => {
                lease.release_rolled_back();
                Err(Error::Timeout)
            }
            Lane::Open(lease) => match last {
                None => {
                    self.0.round_trips.fetch_add(1, Ordering::Relaxed);
                    Ok(lease.commit().await?)
                }
                // The chained transaction is empty, and ends like one that only read.
                Some(last) => {
                    let begun = Instant::now();
                    let message = AssertSqlSafe(format!("{last}; COMMIT AND CHAIN"));
                    let lease = self.plain(lease, message.into_sql_str()).await?;
                    self.record(&last, begun, 1);
                    lease.release_rolled_back();
                    Ok(())
                }
            },
            Lane::Failed(lease) => {
                lease.release_rolled_back();
                Err(passed_over())
            }
            Lane::Refused => Err(Error::Unavailable(None)),
            Lane::Ended => Err(Error::TransactionClosed),
        }
    }

    /// Forgets the changes. It waits for nothing: the server is told while the connection goes back.
    pub async fn rollback(&self) {
        let mut session = self.0.session.lock().await;
        match std::mem::replace(&mut session.lane, Lane::Ended) {
            Lane::Open(lease) | Lane::Failed(lease) => lease.release_rolled_back(),
            Lane::Unopened | Lane::Refused | Lane::Ended => {}
        }
    }

    /// Sends a message of one or more commands that answer nothing. A lease that fails is dropped, and
    /// the server rolls back.
    async fn plain(&self, mut lease: Lease, message: sqlx::SqlStr) -> sqlx::Result<Lease> {
        self.0.round_trips.fetch_add(1, Ordering::Relaxed);
        sqlx::raw_sql(message).execute(lease.connection()).await?;
        Ok(lease)
    }

    fn record(&self, statement: &str, begun: Instant, rows: u64) {
        if self.0.db.records_statements {
            self.0.statements.lock().push(Traced {
                sql: statement.to_owned(),
                duration: begun.elapsed(),
                rows,
            });
        }
    }

    /// What the transaction has cost so far.
    #[must_use]
    pub fn cost(&self) -> Cost {
        Cost {
            round_trips: self.0.round_trips.load(Ordering::Relaxed),
            rows: self.0.rows.load(Ordering::Relaxed),
            statements: self.0.statements.lock().clone(),
        }
    }

    /// Waits for the connection, opening the transaction if this is its first statement.
    ///
    /// While a turn lasts the lane is `Ended`, so a turn that is dropped in the middle of its
    /// statement leaves nothing behind that could be used again.
    async fn turn(&self, statement: &Statement) -> Result<Turn<'_>> {
        let mut session = self.0.session.lock().await;
        if self.0.operation.is_cancelled() {
            return Err(Error::Timeout);
        }
        let lease = match std::mem::replace(&mut session.lane, Lane::Ended) {
            Lane::Unopened => {
                session.openings += 1;
                let opened = self.open().await;
                opened.inspect_err(|_| session.lane = Lane::Refused)?
            }
            Lane::Open(lease) => match session.undo {
                Undo::Savepoint(released) => {
                    let set = if released {
                        "RELEASE SAVEPOINT field; SAVEPOINT field"
                    } else {
                        "SAVEPOINT field"
                    };
                    let lease = self.plain(lease, set.into_sql_str()).await;
                    session.undo = Undo::ToSavepoint;
                    lease.inspect_err(|_| session.lane = Lane::Refused)?
                }
                _ => lease,
            },
            Lane::Failed(lease) => {
                session.lane = Lane::Failed(lease);
                return Err(Error::Internal("statement after a failed one".into()));
            }
            Lane::Refused => {
                session.lane = Lane::Refused;
                return Err(Error::Unavailable(None));
            }
            Lane::Ended => return Err(Error::TransactionClosed),
        };
        self.0.round_trips.fetch_add(1, Ordering::Relaxed);
        Ok(Turn {
            tx: self,
            // Kept only where it is recorded: it would be a copy for nothing.
            text: self
                .0
                .db
                .records_statements
                .then(|| statement.text().to_owned()),
            begun: Instant::now(),
            session,
            lease: Some(lease),
        })
    }

    /// The pool does not test a connection before it lends it: one that the server closed meanwhile
    /// shows here, before anything was done. After a restart of the server all of them are such.
    async fn open(&self) -> Result<Lease> {
        for _ in 0..self.0.db.pool.options().get_max_connections() {
            let lease = self.acquire().await?;
            match self.begin(lease).await {
                Err(error) if is_closed(&error) => {}
                begun => return Ok(begun?),
            }
        }
        Ok(self.begin(self.acquire().await?).await?)
    }

    /// Whatever keeps the service from having a connection passes: a restart, a failover, a password
    /// that is being changed.
    async fn acquire(&self) -> Result<Lease> {
        match self.0.db.pool.acquire().await {
            Ok(connection) => Ok(Lease(Some(connection))),
            Err(error) => Err(Error::Unavailable(Some(error))),
        }
    }

    async fn begin(&self, mut lease: Lease) -> sqlx::Result<Lease> {
        self.0.round_trips.fetch_add(1, Ordering::Relaxed);
        let begin = AssertSqlSafe(self.begin_sql()).into_sql_str();
        PgTransactionManager::begin(lease.connection(), Some(begin)).await?;
        Ok(lease)
    }

    /// BEGIN and the context in one message. Nothing else ever goes into this string, and nothing
    /// but UUIDs, the words of an enum and an [`OperationName`] is formatted into it.
    fn begin_sql(&self) -> String {
        use fmt::Write as _;

        let Shared {
            context,
            purpose,
            operation,
            name,
            ..
        } = &*self.0;
        let mut sql = match purpose {
            Purpose::Read => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY".to_owned(),
            Purpose::Write => "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE".to_owned(),
        };
        let mut set = |name: &str, value: &dyn fmt::Display| {
            write!(sql, "; SET LOCAL {name} = '{value}'").expect("BUG: writing to a String fails");
        };
        set("application_name", &operation.mark());
        set("app.tenant_id", &context.tenant.uuid());
        if let Some(user) = context.user {
            set("app.user_id", &user.uuid());
        }
        if let Some(role) = context.role {
            set("app.role", &role.as_str());
        }
        if *purpose == Purpose::Write {
            set("app.request_id", &operation.request_id);
            if let Some(name) = name {
                set("app.operation_name", name);
            }
            // All mutations of a tenant share this lock, but for one that runs alone. It is the first
            // that a transaction takes, so nobody waits for it who holds another.
            let shared = if operation.alone.load(Ordering::Acquire) {
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

fn passed_over() -> Error {
    Error::Internal("a failed statement was passed over".into())
}

/// Whether the connection was closed, with or without a farewell (57P01 to 57P05).
fn is_closed(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(farewell) => {
            farewell.code().is_some_and(|code| code.starts_with("57P"))
        }
        _ => false,
    }
}

impl fmt::Debug for TenantTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantTx")
            .field("context", &self.0.context)
            .field("purpose", &self.0.purpose)
            .finish_non_exhaustive()
    }
}

/// The time between taking the connection and having the answer.
struct Turn<'t> {
    tx: &'t TenantTx,
    text: Option<String>,
    begun: Instant,
    session: MutexGuard<'t, Session>,
    lease: Option<Lease>,
}

impl Turn<'_> {
    fn connection(&mut self) -> &mut PgConnection {
        self.lease
            .as_mut()
            .expect("BUG: a turn is used after its end")
            .connection()
    }

    /// Gives the connection back to the transaction, remembering a failure.
    fn end<T>(mut self, answer: sqlx::Result<T>, rows: impl Fn(&T) -> u64) -> Result<T> {
        let rows = answer.as_ref().map_or(0, rows);
        self.tx.0.rows.fetch_add(rows, Ordering::Relaxed);
        if let Some(text) = &self.text {
            self.tx.record(text, self.begun, rows);
        }
        let lease = self.lease.take().expect("BUG: a turn ends twice");
        self.session.lane = if answer.is_ok() {
            Lane::Open(lease)
        } else {
            Lane::Failed(lease)
        };
        Ok(answer?)
    }
}

/// A statement with its arguments, built by `db/` alone.
pub struct Statement {
    text: sqlx::SqlStr,
    arguments: PgArguments,
}

impl Statement {
    /// A statement of the crate's own text.
    pub(crate) fn fixed(text: &'static str, arguments: PgArguments) -> Self {
        Self {
            text: text.into_sql_str(),
            arguments,
        }
    }

    /// A statement that sea-query built: its text holds names and placeholders, no values.
    pub(super) fn built(text: String, arguments: PgArguments) -> Self {
        Self {
            text: AssertSqlSafe(text).into_sql_str(),
            arguments,
        }
    }

    fn text(&self) -> &str {
        self.text.as_str()
    }

    fn query(self) -> sqlx::query::Query<'static, Postgres, PgArguments> {
        sqlx::query_with(self.text, self.arguments)
    }
}
