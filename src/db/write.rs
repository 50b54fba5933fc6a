//! Writes: insert, update, delete and lock one row, and consume what came of it.
//!
//! No write can pass over a row that was not there: each verb answers the row that it wrote, or says
//! why it wrote none. Row level security skips the rows that a role may not touch without a word, so a
//! verb that wrote nothing looks once more to tell the reasons apart.

use std::collections::HashSet;

use async_graphql::MaybeUndefined;
pub use sea_query::Value;
use sea_query::{DynIden, Expr, ExprTrait as _, IntoIden as _, LockType, OnConflict, Query};
use uuid::Uuid;

use super::{TenantTx, entity::Entity, page};
use crate::{
    error::{Error, Result},
    ids::EntityId as _,
    user_error::{Refusal, Rule, UserErrorCode},
};

/// A row type that mutations write.
pub trait Writable: Entity {
    /// What the violations of its table's constraints mean to a client who writes a row.
    const RULES: &'static [Rule];
    /// The foreign keys by which other rows refer to it: what a client reads who deletes a row that is
    /// referred to.
    const REFERRERS: &'static [Rule] = &[];
}

/// What a write answers.
pub type Written<E> = Result<E, Refusal<E>>;

/// The columns that a write sets.
#[derive(Default)]
struct Values {
    columns: Vec<DynIden>,
    values: Vec<Expr>,
}

impl Values {
    fn set(&mut self, column: &'static str, value: impl Into<Value>) {
        self.columns.push(column.into_iden());
        self.values.push(Expr::val(value));
    }

    fn compute(&mut self, column: &'static str, sql: &'static str, values: Vec<Value>) {
        self.columns.push(column.into_iden());
        self.values.push(Expr::cust_with_values(sql, values));
    }
}

/// A new row.
pub struct Insert<E: Writable> {
    id: E::Id,
    values: Values,
}

impl<E: Writable> Insert<E> {
    /// A row with an id of its own.
    #[must_use]
    pub fn new(id: E::Id) -> Self {
        Self {
            id,
            values: Values::default(),
        }
    }

    /// With a value in a column; the others have their defaults.
    #[must_use]
    pub fn set(mut self, column: &'static str, value: impl Into<Value>) -> Self {
        self.values.set(column, value);
        self
    }

    /// With what the database works out from an expression of the crate's own text, in which `$1` and
    /// so on stand for the values.
    #[must_use]
    pub fn compute(mut self, column: &'static str, sql: &'static str, values: Vec<Value>) -> Self {
        self.values.compute(column, sql, values);
        self
    }

    /// Writes it.
    pub async fn run(self, tx: &TenantTx) -> Written<E> {
        let row = self.insert(tx, None).await?;
        let no_row = || Error::Internal(format!("{}: no row was inserted", E::TABLE).into());
        Ok(row.ok_or_else(no_row)?)
    }

    /// Writes it, unless another row of the tenant has the same value in `unique`, a column that is unique within
    /// the tenant. Returns `None` if one has: the transaction goes on as if nothing had happened.
    pub async fn run_unless_taken(
        self,
        tx: &TenantTx,
        unique: &'static str,
    ) -> Result<Option<E>, Refusal<E>> {
        let conflict = OnConflict::columns([E::TENANT_COLUMN, unique])
            .do_nothing()
            .to_owned();
        self.insert(tx, Some(conflict)).await
    }

    async fn insert(
        mut self,
        tx: &TenantTx,
        conflict: Option<OnConflict>,
    ) -> Result<Option<E>, Refusal<E>> {
        self.values.set("id", self.id.uuid());
        self.values.set(E::TENANT_COLUMN, tx.tenant_uuid());
        let mut query = Query::insert();
        query
            .into_table(E::TABLE)
            .columns(self.values.columns)
            .values(self.values.values)
            .map_err(|error| Error::Internal(error.to_string().into()))?
            .returning(Query::returning().columns(E::COLUMNS.iter().copied()));
        if let Some(conflict) = conflict {
            query.on_conflict(conflict);
        }
        let row = tx.fetch_optional(page::statement(&query)).await;
        let row = row.map_err(|error| refusal(error, E::RULES))?;
        Ok(row.map(|row| E::read(&row)).transpose()?)
    }
}

/// A change of one row.
pub struct Update<E: Writable> {
    id: E::Id,
    if_version: Option<i32>,
    values: Values,
    states: Vec<State>,
}

/// A condition on the row's state.
struct State {
    holds: Expr,
    message: &'static str,
}

impl<E: Writable> Update<E> {
    /// A change of the row with this id, if it still has the version that the client knows.
    #[must_use]
    pub fn new(id: E::Id, if_version: Option<i32>) -> Self {
        Self {
            id,
            if_version,
            values: Values::default(),
            states: Vec::new(),
        }
    }

    /// To a value in a column.
    #[must_use]
    pub fn set(mut self, column: &'static str, value: impl Into<Value>) -> Self {
        self.values.set(column, value);
        self
    }

    /// To what the database works out from an expression of the crate's own text, in which `$1` and so
    /// on stand for the values, and columns for what they held before.
    #[must_use]
    pub fn compute(mut self, column: &'static str, sql: &'static str, values: Vec<Value>) -> Self {
        self.values.compute(column, sql, values);
        self
    }

    /// To a value in a column that cannot be null, if one is given.
    #[must_use]
    pub fn change<V: Into<Value>>(self, column: &'static str, value: MaybeUndefined<V>) -> Self {
        match value {
            MaybeUndefined::Value(value) => self.set(column, value),
            // That it may not be null was checked before, and the database holds it.
            MaybeUndefined::Null | MaybeUndefined::Undefined => self,
        }
    }

    /// To a value in a column or to null, if one of them is given.
    #[must_use]
    pub fn change_or_clear<V>(self, column: &'static str, value: MaybeUndefined<V>) -> Self
    where
        Option<V>: Into<Value>,
    {
        match value {
            MaybeUndefined::Value(value) => self.set(column, Some(value)),
            MaybeUndefined::Null => self.set(column, None::<V>),
            MaybeUndefined::Undefined => self,
        }
    }

    /// Only if a column holds this value: otherwise the row is not in a state for it, with this message.
    #[must_use]
    pub fn only_if(
        mut self,
        column: &'static str,
        is: &'static str,
        message: &'static str,
    ) -> Self {
        let holds = Expr::col(column).eq(is);
        self.states.push(State { holds, message });
        self
    }

    /// Only if a column does not hold this value.
    #[must_use]
    pub fn unless(mut self, column: &'static str, is: &'static str, message: &'static str) -> Self {
        let holds = Expr::col(column).ne(is);
        self.states.push(State { holds, message });
        self
    }

    /// Writes it. A change of nothing answers the row as it is.
    pub async fn run(self, tx: &TenantTx) -> Written<E> {
        let Self {
            id,
            if_version,
            values,
            states,
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
            for state in &states {
                query.and_where(state.holds.clone());
            }
            let row = tx.fetch_optional(page::statement(&query)).await;
            if let Some(row) = row.map_err(|error| refusal(error, E::RULES))? {
                return Ok(E::read(&row)?);
            }
            look::<E>(tx, id, if_version, &states).await?;
            return Err(Error::Forbidden.into());
        }
        look::<E>(tx, id, if_version, &states).await
    }
}

/// Deletes the row with this id, if it still has the version that the client knows. Answers it as it was.
pub async fn delete_one<E: Writable>(
    tx: &TenantTx,
    id: E::Id,
    if_version: Option<i32>,
) -> Written<E> {
    let mut query = Query::delete();
    query
        .from_table(E::TABLE)
        .and_where(Expr::col(E::TENANT_COLUMN).eq(tx.tenant_uuid()))
        .and_where(Expr::col("id").eq(id.uuid()))
        .returning(Query::returning().columns(E::COLUMNS.iter().copied()));
    if let Some(version) = if_version {
        query.and_where(Expr::col("version").eq(version));
    }
    let row = tx.fetch_optional(page::statement(&query)).await;
    if let Some(row) = row.map_err(|error| refusal(error, E::REFERRERS))? {
        return Ok(E::read(&row)?);
    }
    look::<E>(tx, id, if_version, &[]).await?;
    Err(Error::Forbidden.into())
}

/// Deletes the rows whose `column` names a parent, as far as the caller may. Answers how many those were.
pub async fn delete_where<E: Writable>(
    tx: &TenantTx,
    column: &'static str,
    parents: Vec<Uuid>,
) -> Result<u64> {
    let mut query = Query::delete();
    query
        .from_table(E::TABLE)
        .and_where(Expr::col(E::TENANT_COLUMN).eq(tx.tenant_uuid()))
        .and_where(page::any(column, page::Value::Uuids(parents)));
    tx.execute(page::statement(&query)).await
}

/// Deletes the rows with these ids, as far as they are there and the caller may. Answers them as they were.
pub async fn delete_many<E: Writable>(tx: &TenantTx, ids: &[E::Id]) -> Result<Vec<E>, Refusal<()>> {
    let ids = ids.iter().map(|id| id.uuid()).collect();
    let mut query = Query::delete();
    query
        .from_table(E::TABLE)
        .and_where(Expr::col(E::TENANT_COLUMN).eq(tx.tenant_uuid()))
        .and_where(page::any("id", page::Value::Uuids(ids)))
        .returning(Query::returning().columns(E::COLUMNS.iter().copied()));
    let rows = tx.fetch_all(page::statement(&query)).await;
    let rows = rows.map_err(|error| refusal(error, E::REFERRERS))?;
    Ok(rows.iter().map(E::read).collect::<sqlx::Result<_>>()?)
}

/// Which of these parents the rows of a type refer to in `column`, of those rows that pass a filter.
pub async fn referred_to<E: Entity>(
    tx: &TenantTx,
    column: &'static str,
    parents: Vec<Uuid>,
    filter: &page::Filter,
) -> Result<HashSet<Uuid>> {
    let mut query = Query::select();
    query
        .distinct()
        .column(column)
        .from(E::TABLE)
        .and_where(Expr::col(E::TENANT_COLUMN).eq(tx.tenant_uuid()))
        .and_where(page::any(column, page::Value::Uuids(parents)))
        .cond_where(filter.condition());
    let rows = tx.fetch_all(page::statement(&query)).await?;
    let parents = rows.iter().map(|row| sqlx::Row::try_get(row, 0));
    Ok(parents.collect::<sqlx::Result<_>>()?)
}

/// Which of these values the rows of a type have in a column.
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
        .and_where(page::any(column, page::Value::Texts(values)));
    let rows = tx.fetch_all(page::statement(&query)).await?;
    let values = rows.iter().map(|row| sqlx::Row::try_get(row, 0));
    Ok(values.collect::<sqlx::Result<_>>()?)
}

/// The row with this id.
pub async fn find<E: Writable>(tx: &TenantTx, id: E::Id) -> Result<E> {
    let row = tx
        .fetch_optional(page::statement(&select::<E>(tx, id)))
        .await?;
    let row = row.ok_or(Error::NotFound(E::Id::TYPE))?;
    Ok(E::read(&row)?)
}

/// Takes the row with this id for the rest of the transaction, so that nobody else changes it meanwhile.
pub async fn lock_one<E: Writable>(tx: &TenantTx, id: E::Id) -> Result<E> {
    let mut query = select::<E>(tx, id);
    query.lock(LockType::Update);
    if let Some(row) = tx.fetch_optional(page::statement(&query)).await? {
        return Ok(E::read(&row)?);
    }
    // The policies of UPDATE hold for locking as well, and those of SELECT for looking.
    match tx
        .fetch_optional(page::statement(&select::<E>(tx, id)))
        .await?
    {
        Some(_) => Err(Error::Forbidden),
        None => Err(Error::NotFound(E::Id::TYPE)),
    }
}

fn select<E: Writable>(tx: &TenantTx, id: E::Id) -> sea_query::SelectStatement {
    let mut query = Query::select();
    query
        .columns(E::COLUMNS.iter().copied())
        .from(E::TABLE)
        .and_where(Expr::col(E::TENANT_COLUMN).eq(tx.tenant_uuid()))
        .and_where(Expr::col("id").eq(id.uuid()));
    query
}

/// Says why a row was not written; answers the row if nothing but the caller's role stood in the way.
async fn look<E: Writable>(
    tx: &TenantTx,
    id: E::Id,
    if_version: Option<i32>,
    states: &[State],
) -> Written<E> {
    let mut query = select::<E>(tx, id);
    // Behind the row's own columns: its version, and whether each condition holds.
    query.expr(Expr::col("version"));
    for state in states {
        query.expr(state.holds.clone());
    }
    let Some(row) = tx.fetch_optional(page::statement(&query)).await? else {
        return Err(Error::NotFound(E::Id::TYPE).into());
    };
    let entity = E::read(&row)?;
    let extra = E::COLUMNS.len();
    let version: i32 = sqlx::Row::try_get(&row, extra)?;
    if if_version.is_some_and(|known| known != version) {
        return Err(Refusal::conflict(entity));
    }
    for (at, state) in states.iter().enumerate() {
        if !sqlx::Row::try_get::<bool, _>(&row, extra + 1 + at)? {
            let refusal = Refusal::because(UserErrorCode::InvalidState, "id", state.message);
            return Err(refusal);
        }
    }
    Ok(entity)
}

/// What a failed statement means to a client: a violated constraint that has a rule, a number that no
/// column holds; everything else stays a failure.
#[must_use]
pub fn refusal<T>(error: Error, rules: &[Rule]) -> Refusal<T> {
    let Error::Database(sqlx::Error::Database(database)) = &error else {
        return error.into();
    };
    if let Some(constraint) = database.constraint()
        && let Some(rule) = rules.iter().find(|rule| rule.constraint == constraint)
    {
        return Refusal::because(rule.code, rule.field, rule.message);
    }
    // numeric_value_out_of_range
    if database.code().as_deref() == Some("22003") {
        return Refusal::because(UserErrorCode::TooLarge, "", "an amount is too large");
    }
    error.into()
}
