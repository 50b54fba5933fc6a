//! Writes of one row: insert, update, delete and lock.
//!
//! The invariant: **each function returns the row that it wrote, or the reason why it wrote none.** Row
//! level security filters rows silently, so a function that wrote nothing reads the row again to
//! determine the reason.

use std::{collections::HashSet, marker::PhantomData};

pub use sea_query::Value;
use sea_query::{
    DynIden, Expr, ExprTrait as _, Func, IntoIden as _, LockType, OnConflict, Query, Values,
};
use sea_query_sqlx::SqlxValues;
use sqlx::IntoArguments as _;
use uuid::Uuid;

pub use super::write_error::{ConstraintRule, WriteError};
use super::{
    TenantTx,
    entity::{Entity, read_whole},
    filter,
    shape::Shape,
    statement::Statement,
};
use crate::{
    error::{Error, Result},
    ids::EntityId as _,
    user_error::UserErrorCode,
};

/// The maximum number of rows that one statement of [`delete_where`] deletes. With their entries in the audit log, they take
/// about 80 ms.
const DELETED_ROWS_PER_STATEMENT: u64 = 500;

/// A row type that mutations write.
pub trait Writable: Entity {
    /// The rules for the constraints of its table, for a client that writes a row.
    const RULES: &'static [ConstraintRule];
    /// The rules for the foreign keys of other tables, for a client that deletes a row to which other
    /// rows refer. Without a rule, the message is made from the name of the other table.
    const REFERRERS: &'static [ConstraintRule] = &[];
}

/// The result of a write.
pub type WriteResult<E> = Result<E, WriteError<E>>;

/// The columns that a change sets.
#[derive(Default)]
struct Changes {
    columns: Vec<DynIden>,
    values: Vec<Expr>,
}

impl Changes {
    fn set(&mut self, column: &'static str, value: impl Into<Expr>) {
        self.columns.push(column.into_iden());
        self.values.push(value.into());
    }
}

/// An insertion of one row.
pub struct Insert<E: Writable> {
    columns: Vec<&'static str>,
    values: Vec<Value>,
    row: PhantomData<fn() -> E>,
}

impl<E: Writable> Insert<E> {
    /// An insertion of a row with this id.
    #[must_use]
    pub fn new(id: E::Id) -> Self {
        let insert = Self {
            columns: Vec::new(),
            values: Vec::new(),
            row: PhantomData,
        };
        insert.set("id", id.uuid())
    }

    /// Sets a column. A column that is not set gets its default.
    #[must_use]
    pub fn set(mut self, column: &'static str, value: impl Into<Value>) -> Self {
        self.columns.push(column);
        self.values.push(value.into());
        self
    }

    /// Inserts the row.
    pub async fn run(self, tx: &TenantTx) -> WriteResult<E> {
        let row = self.insert(tx, None).await?;
        let no_row = || Error::Internal(format!("{}: no row was inserted", E::TABLE).into());
        Ok(row.ok_or_else(no_row)?)
    }

    /// Inserts the row, unless another row of the tenant has the same value in `unique`, a column that is unique
    /// within the tenant. In that case, returns `None`, and the transaction can continue.
    pub async fn run_unless_taken(
        self,
        tx: &TenantTx,
        unique: &'static str,
    ) -> Result<Option<E>, WriteError<E>> {
        self.insert(tx, Some(unique)).await
    }

    async fn insert(
        self,
        tx: &TenantTx,
        unique: Option<&'static str>,
    ) -> Result<Option<E>, WriteError<E>> {
        let Self {
            columns, values, ..
        } = self.set(E::TENANT_COLUMN, tx.tenant_uuid());
        let query = || {
            let mut query = Query::insert();
            query
                .into_table(E::TABLE)
                .columns(columns.iter().copied())
                .values_panic(columns.iter().map(|_| Expr::val(0)))
                .returning(Query::returning().columns(E::COLUMNS.iter().copied()));
            if let Some(unique) = unique {
                let mut conflict = OnConflict::columns([E::TENANT_COLUMN, unique]);
                query.on_conflict(conflict.do_nothing().to_owned());
            }
            query
        };
        let shape = Shape::Insert {
            table: E::TABLE,
            columns: columns.clone(),
            unique,
        };
        let arguments = SqlxValues(Values(values)).into_arguments();
        let statement = shape.statement(arguments, query);
        tx.operation().reserve_writes(1)?;
        let row = tx.fetch_optional(statement).await;
        let row = row.map_err(|error| WriteError::from_statement(error, E::RULES))?;
        Ok(row.map(|row| read_whole(tx, &row)).transpose()?)
    }
}

/// A change of one row.
pub struct Update<E: Writable> {
    id: E::Id,
    if_version: Option<i32>,
    values: Changes,
    conditions: Vec<Condition>,
}

/// A condition on the row's state, and the message if the condition is false.
struct Condition {
    holds: Expr,
    message: &'static str,
}

impl<E: Writable> Update<E> {
    /// A change of the row with this id. If `if_version` is given, the row must still have this version.
    #[must_use]
    pub fn new(id: E::Id, if_version: Option<i32>) -> Self {
        Self {
            id,
            if_version,
            values: Changes::default(),
            conditions: Vec::new(),
        }
    }

    /// Sets a column.
    #[must_use]
    pub fn set(mut self, column: &'static str, value: impl Into<Value>) -> Self {
        self.values.set(column, Expr::val(value));
        self
    }

    /// Sets a column to the value that another column had before.
    #[must_use]
    pub fn copy(mut self, column: &'static str, from: &'static str) -> Self {
        self.values.set(column, Expr::col(from));
        self
    }

    /// Sets a column to the value that another column had before, or to a default if that value was null.
    #[must_use]
    pub fn copy_or(
        mut self,
        column: &'static str,
        from: &'static str,
        default: &'static str,
    ) -> Self {
        let value = Func::coalesce([Expr::col(from), Expr::val(default)]);
        self.values.set(column, value);
        self
    }

    /// Sets a column that cannot be null, if the client gives a value. The value is that of a nullable
    /// input field: `None` if it was omitted, `Some(None)` if it was null.
    #[must_use]
    pub fn set_if_present<V: Into<Value>>(
        self,
        column: &'static str,
        value: impl Into<Option<Option<V>>>,
    ) -> Self {
        match value.into() {
            Some(Some(value)) => self.set(column, value),
            // An earlier check rejects null, and so does the database.
            Some(None) | None => self,
        }
    }

    /// Sets a column to the client's value or to null, unless the client omitted the field.
    #[must_use]
    pub fn set_or_clear<V>(self, column: &'static str, value: impl Into<Option<Option<V>>>) -> Self
    where
        Option<V>: Into<Value>,
    {
        match value.into() {
            Some(value) => self.set(column, value),
            None => self,
        }
    }

    /// Requires that a column has this value. Otherwise the change is rejected with `message`.
    #[must_use]
    pub fn only_if(
        mut self,
        column: &'static str,
        value: &'static str,
        message: &'static str,
    ) -> Self {
        let holds = Expr::col(column).eq(value);
        self.conditions.push(Condition { holds, message });
        self
    }

    /// Requires that a column does not have this value. Otherwise the change is rejected with `message`.
    #[must_use]
    pub fn unless(
        mut self,
        column: &'static str,
        value: &'static str,
        message: &'static str,
    ) -> Self {
        let holds = Expr::col(column).ne(value);
        self.conditions.push(Condition { holds, message });
        self
    }

    /// Changes the row. If no column is set, returns the row as it is.
    pub async fn run(self, tx: &TenantTx) -> WriteResult<E> {
        let Self {
            id,
            if_version,
            values,
            conditions,
        } = self;
        if !values.columns.is_empty() {
            let mut query = Query::update();
            query
                .table(E::TABLE)
                .values(values.columns.into_iter().zip(values.values))
                .and_where(Expr::col(E::TENANT_COLUMN).eq(tx.tenant_uuid()))
                .and_where(Expr::col("id").eq(id.uuid()))
                .returning(Query::returning().columns(E::COLUMNS.iter().copied()));
            if let Some(version) = if_version {
                query.and_where(Expr::col("version").eq(version));
            }
            for condition in &conditions {
                query.and_where(condition.holds.clone());
            }
            tx.operation().reserve_writes(1)?;
            let row = tx.fetch_optional(Statement::build(&query)).await;
            let row = row.map_err(|error| WriteError::from_statement(error, E::RULES))?;
            if let Some(row) = row {
                return Ok(read_whole(tx, &row)?);
            }
            find_reason::<E>(tx, id, if_version, &conditions).await?;
            return Err(Error::Forbidden.into());
        }
        find_reason::<E>(tx, id, if_version, &conditions).await
    }
}

/// Deletes the row with this id. If `if_version` is given, the row must still have this version. Returns the
/// deleted row.
pub async fn delete_one<E: Writable>(
    tx: &TenantTx,
    id: E::Id,
    if_version: Option<i32>,
) -> WriteResult<E> {
    let mut query = Query::delete();
    query
        .from_table(E::TABLE)
        .and_where(Expr::col(E::TENANT_COLUMN).eq(tx.tenant_uuid()))
        .and_where(Expr::col("id").eq(id.uuid()))
        .returning(Query::returning().columns(E::COLUMNS.iter().copied()));
    if let Some(version) = if_version {
        query.and_where(Expr::col("version").eq(version));
    }
    tx.operation().reserve_writes(1)?;
    let row = tx.fetch_optional(Statement::build(&query)).await;
    let row = row.map_err(|error| WriteError::from_deletion(error, E::REFERRERS))?;
    if let Some(row) = row {
        return Ok(read_whole(tx, &row)?);
    }
    find_reason::<E>(tx, id, if_version, &[]).await?;
    Err(Error::Forbidden.into())
}

/// Deletes the rows whose `column` refers to one of the parents, if the caller may delete them. Returns
/// how many it deleted. The tenant pays for them, but their number is not limited: otherwise the parent of many rows could
/// not be deleted.
///
/// One statement deletes at most 500 rows, so none of them takes long, and the tenant pays for almost all of the work even
/// if a later statement fails.
pub async fn delete_where<E: Writable>(
    tx: &TenantTx,
    column: &'static str,
    parents: Vec<Uuid>,
) -> Result<u64> {
    let usage = tx.operation().usage();
    let mut deleted = 0;
    loop {
        let mut found = Query::select();
        found
            .column("id")
            .from(E::TABLE)
            .and_where(Expr::col(E::TENANT_COLUMN).eq(tx.tenant_uuid()))
            .and_where(filter::any(column, filter::Value::Uuids(parents.clone())))
            .limit(DELETED_ROWS_PER_STATEMENT);
        let mut query = Query::delete();
        query
            .from_table(E::TABLE)
            .and_where(Expr::col(E::TENANT_COLUMN).eq(tx.tenant_uuid()))
            .and_where(Expr::col("id").in_subquery(found));
        let rows = tx.execute(Statement::build(&query)).await;
        // It is unknown how many rows a failed statement has deleted.
        usage.add_written_rows(*rows.as_ref().unwrap_or(&DELETED_ROWS_PER_STATEMENT));
        let rows = rows?;
        let is_first = deleted == 0;
        deleted += rows;
        // Later statements continue until nothing is left, because another transaction may have deleted some of the rows
        // that a statement found.
        if rows == 0 || (is_first && rows < DELETED_ROWS_PER_STATEMENT) {
            return Ok(deleted);
        }
    }
}

/// Deletes the rows with these ids that exist and that the caller may delete. Returns the deleted rows.
pub async fn delete_many<E: Writable>(
    tx: &TenantTx,
    ids: &[E::Id],
) -> Result<Vec<E>, WriteError<()>> {
    let count = ids.len();
    let ids = ids.iter().map(|id| id.uuid()).collect();
    let mut query = Query::delete();
    query
        .from_table(E::TABLE)
        .and_where(Expr::col(E::TENANT_COLUMN).eq(tx.tenant_uuid()))
        .and_where(filter::any("id", filter::Value::Uuids(ids)))
        .returning(Query::returning().columns(E::COLUMNS.iter().copied()));
    tx.operation().reserve_writes(count)?;
    let rows = tx.fetch_all(Statement::build(&query)).await;
    let rows = rows.map_err(|error| WriteError::from_deletion(error, E::REFERRERS))?;
    let rows = rows.iter().map(|row| read_whole(tx, row));
    Ok(rows.collect::<Result<_>>()?)
}

/// Returns the parents to which at least one row refers in `column`. Only rows that satisfy `matching`
/// count.
pub async fn referred_to<E: Entity>(
    tx: &TenantTx,
    column: &'static str,
    parents: Vec<Uuid>,
    matching: &filter::Filter,
) -> Result<HashSet<Uuid>> {
    let mut query = Query::select();
    query
        .distinct()
        .column(column)
        .from(E::TABLE)
        .and_where(Expr::col(E::TENANT_COLUMN).eq(tx.tenant_uuid()))
        .and_where(filter::any(column, filter::Value::Uuids(parents)))
        .cond_where(matching.condition());
    let rows = tx.fetch_all(Statement::build(&query)).await?;
    let parents = rows.iter().map(|row| sqlx::Row::try_get(row, 0));
    Ok(parents.collect::<sqlx::Result<_>>()?)
}

/// Returns those of the values that are already in use: a row has the value in `column`.
pub async fn taken<E: Entity>(
    tx: &TenantTx,
    column: &'static str,
    values: Vec<String>,
) -> Result<HashSet<String>> {
    let mut query = Query::select();
    query
        .column(column)
        .from(E::TABLE)
        .and_where(Expr::col(E::TENANT_COLUMN).eq(tx.tenant_uuid()))
        .and_where(filter::any(column, filter::Value::Texts(values)));
    let rows = tx.fetch_all(Statement::build(&query)).await?;
    let values = rows.iter().map(|row| sqlx::Row::try_get(row, 0));
    Ok(values.collect::<sqlx::Result<_>>()?)
}

/// Returns the row with this id.
pub async fn find<E: Writable>(tx: &TenantTx, id: E::Id) -> Result<E> {
    let query = select_by_id::<E>(tx, id);
    let row = tx.fetch_optional(Statement::build(&query)).await?;
    let row = row.ok_or(Error::NotFound(E::Id::TYPE))?;
    read_whole(tx, &row)
}

/// Locks the row with this id until the end of the transaction, so that no other transaction changes it.
pub async fn lock_one<E: Writable>(tx: &TenantTx, id: E::Id) -> Result<E> {
    let mut query = select_by_id::<E>(tx, id);
    query.lock(LockType::Update);
    if let Some(row) = tx.fetch_optional(Statement::build(&query)).await? {
        return read_whole(tx, &row);
    }
    // A lock requires that the policies for UPDATE permit the row. A read requires only those for SELECT.
    find::<E>(tx, id).await?;
    Err(Error::Forbidden)
}

/// Locks the parent of a row: the row to which the child with this id refers in `column`.
pub async fn lock_parent<P: Writable, C: Writable>(
    tx: &TenantTx,
    column: &'static str,
    child: C::Id,
) -> Result<P> {
    let mut parent = Query::select();
    parent
        .column(column)
        .from(C::TABLE)
        .and_where(Expr::col(C::TENANT_COLUMN).eq(tx.tenant_uuid()))
        .and_where(Expr::col("id").eq(child.uuid()));
    let mut query = Query::select();
    query
        .columns(P::COLUMNS.iter().copied())
        .from(P::TABLE)
        .and_where(Expr::col(P::TENANT_COLUMN).eq(tx.tenant_uuid()))
        .and_where(Expr::col("id").in_subquery(parent))
        .lock(LockType::Update);
    if let Some(row) = tx.fetch_optional(Statement::build(&query)).await? {
        return read_whole(tx, &row);
    }
    find::<C>(tx, child).await?;
    Err(Error::Forbidden)
}

/// Returns the position after the last child of a parent, from 1. The parent must be locked: otherwise
/// two transactions could get the same position.
pub async fn next_position<E: Writable>(
    tx: &TenantTx,
    column: &'static str,
    parent: Uuid,
) -> Result<i32> {
    let mut query = Query::select();
    query
        .expr(Func::max(Expr::col("position")))
        .from(E::TABLE)
        .and_where(Expr::col(E::TENANT_COLUMN).eq(tx.tenant_uuid()))
        .and_where(Expr::col(column).eq(parent));
    let row = tx.fetch_optional(Statement::build(&query)).await?;
    let last: Option<Option<i32>> = row.map(|row| sqlx::Row::try_get(&row, 0)).transpose()?;
    let next = last.flatten().unwrap_or_default().checked_add(1);
    next.ok_or_else(|| {
        Error::Internal(format!("{}: cannot add a row after the largest position", E::TABLE).into())
    })
}

fn select_by_id<E: Writable>(tx: &TenantTx, id: E::Id) -> sea_query::SelectStatement {
    let mut query = Query::select();
    query
        .columns(E::COLUMNS.iter().copied())
        .from(E::TABLE)
        .and_where(Expr::col(E::TENANT_COLUMN).eq(tx.tenant_uuid()))
        .and_where(Expr::col("id").eq(id.uuid()));
    query
}

/// Finds out why no row was written. Returns the row if only the caller's role forbade the write.
async fn find_reason<E: Writable>(
    tx: &TenantTx,
    id: E::Id,
    if_version: Option<i32>,
    conditions: &[Condition],
) -> WriteResult<E> {
    let mut query = select_by_id::<E>(tx, id);
    // After the row's own columns: its version, and whether each condition holds.
    query.expr(Expr::col("version"));
    for condition in conditions {
        query.expr(condition.holds.clone());
    }
    let Some(row) = tx.fetch_optional(Statement::build(&query)).await? else {
        return Err(Error::NotFound(E::Id::TYPE).into());
    };
    let entity: E = read_whole(tx, &row)?;
    let extra = E::COLUMNS.len();
    let version: i32 = sqlx::Row::try_get(&row, extra)?;
    if if_version.is_some_and(|expected| expected != version) {
        return Err(WriteError::conflict(entity));
    }
    for (index, condition) in conditions.iter().enumerate() {
        if !sqlx::Row::try_get::<bool, _>(&row, extra + 1 + index)? {
            let code = UserErrorCode::InvalidState;
            return Err(WriteError::rejected(code, "id", condition.message));
        }
    }
    Ok(entity)
}
