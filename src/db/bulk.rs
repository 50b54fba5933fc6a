//! Bulk writes: many rows in one statement.
//!
//! The invariant: **the SQL is the same for any number of rows.** Each column is one array argument, which
//! the statement unnests, so the prepared statement is reused.

use std::{collections::HashSet, marker::PhantomData};

use sea_query::{
    DynIden, Expr, ExprTrait as _, Func, IntoIden as _, OnConflict, Query, SelectStatement,
    TableRef,
};
use sqlx::{
    Arguments as _, Encode, Postgres, Row as _, Type, TypeInfo as _, postgres::PgArguments,
};
use uuid::Uuid;

use super::{
    TenantTx,
    entity::Entity,
    statement::Statement,
    write::{Writable, WriteResult},
    write_error::WriteError,
};
use crate::error::{Error, Result};

/// Columns with their values. Each value is an argument of the statement.
#[derive(Default)]
struct Columns {
    names: Vec<DynIden>,
    values: Vec<Expr>,
    arguments: PgArguments,
    error: Option<sqlx::error::BoxDynError>,
}

impl Columns {
    /// Adds an argument. Returns its placeholder with its type.
    fn argument<T>(&mut self, value: T) -> Expr
    where
        T: for<'q> Encode<'q, Postgres> + Type<Postgres>,
    {
        let type_name = T::type_info().name().to_ascii_lowercase();
        if let Err(error) = self.arguments.add(value) {
            self.error.get_or_insert(error);
        }
        Expr::cust(format!("${}::{type_name}", self.arguments.len()))
    }

    fn add_shared<T>(&mut self, column: &'static str, value: T)
    where
        T: for<'q> Encode<'q, Postgres> + Type<Postgres>,
    {
        let value = self.argument(value);
        self.names.push(column.into_iden());
        self.values.push(value);
    }

    fn add_array<T>(&mut self, column: &'static str, values: Vec<T>)
    where
        Vec<T>: for<'q> Encode<'q, Postgres> + Type<Postgres>,
    {
        let array = self.argument(values);
        self.names.push(column.into_iden());
        self.values.push(Func::cust("unnest").arg(array).into());
    }

    /// The arguments, unless one could not be encoded.
    fn into_arguments(self) -> Result<PgArguments> {
        match self.error {
            None => Ok(self.arguments),
            Some(error) => Err(Error::Internal(
                format!("cannot encode a column: {error}").into(),
            )),
        }
    }
}

/// An insertion of many rows.
pub struct InsertMany<'r, E, R> {
    rows: &'r [R],
    columns: Columns,
    existing: Option<&'static str>,
    entity: PhantomData<fn() -> E>,
}

impl<'r, E: Writable, R> InsertMany<'r, E, R> {
    /// An insertion of one row for each of these values.
    #[must_use]
    pub fn new(rows: &'r [R]) -> Self {
        Self {
            rows,
            columns: Columns::default(),
            existing: None,
            entity: PhantomData,
        }
    }

    /// Sets a column to a value of each row.
    #[must_use]
    pub fn column<T>(mut self, column: &'static str, value: impl Fn(&R) -> T) -> Self
    where
        Vec<T>: for<'q> Encode<'q, Postgres> + Type<Postgres>,
    {
        let values = self.rows.iter().map(value).collect();
        self.columns.add_array(column, values);
        self
    }

    /// Sets a column to the same value in all rows.
    #[must_use]
    pub fn shared<T>(mut self, column: &'static str, value: T) -> Self
    where
        T: for<'q> Encode<'q, Postgres> + Type<Postgres>,
    {
        self.columns.add_shared(column, value);
        self
    }

    /// Skips the rows that violate this unique constraint.
    #[must_use]
    pub fn skip_existing(mut self, constraint: &'static str) -> Self {
        self.existing = Some(constraint);
        self
    }

    /// Inserts the rows. Returns the ids of those that it inserted.
    pub async fn run(mut self, tx: &TenantTx) -> WriteResult<HashSet<Uuid>> {
        if self.rows.is_empty() {
            return Ok(HashSet::new());
        }
        self.columns.add_shared(E::TENANT_COLUMN, tx.tenant_uuid());
        let mut query = Query::insert();
        query
            .into_table(E::TABLE)
            .columns(self.columns.names.iter().cloned())
            .select_from(
                Query::select()
                    .exprs(self.columns.values.iter().cloned())
                    .take(),
            )
            .map_err(|error| Error::Internal(error.to_string().into()))?
            .returning(Query::returning().column("id"));
        if let Some(constraint) = self.existing {
            query.on_conflict(OnConflict::constraint(constraint).do_nothing().to_owned());
        }
        let text = query.to_string(sea_query::PostgresQueryBuilder);
        let statement = Statement::with_arguments(text, self.columns.into_arguments()?);
        tx.operation().reserve_writes(self.rows.len())?;
        let inserted = tx.fetch_all(statement).await;
        let inserted = inserted.map_err(|error| WriteError::from_statement(error, E::RULES))?;
        let ids = inserted.iter().map(|row| row.try_get(0));
        Ok(ids.collect::<sqlx::Result<_>>()?)
    }
}

/// A change of many rows, which are found by their ids.
pub struct UpdateMany<'r, E, R> {
    rows: &'r [R],
    columns: Columns,
    entity: PhantomData<fn() -> E>,
}

impl<'r, E: Entity, R> UpdateMany<'r, E, R> {
    /// A change of one row for each of these values.
    #[must_use]
    pub fn new(rows: &'r [R], id: impl Fn(&R) -> Uuid) -> Self {
        let update = Self {
            rows,
            columns: Columns::default(),
            entity: PhantomData,
        };
        update.column("id", id)
    }

    /// Sets a column to a value of each row.
    #[must_use]
    pub fn column<T>(mut self, column: &'static str, value: impl Fn(&R) -> T) -> Self
    where
        Vec<T>: for<'q> Encode<'q, Postgres> + Type<Postgres>,
    {
        let values = self.rows.iter().map(value).collect();
        self.columns.add_array(column, values);
        self
    }

    /// Changes the rows. Returns how many it changed.
    pub async fn run(mut self, tx: &TenantTx) -> Result<u64> {
        const ROW: &str = "row";

        let mut rows = SelectStatement::new();
        for (name, value) in self.columns.names.iter().zip(&self.columns.values) {
            rows.expr_as(value.clone(), name.clone());
        }
        let tenant = self.columns.argument(tx.tenant_uuid());
        let columns = self.columns.names.iter().skip(1);
        let query = Query::update()
            .table(E::TABLE)
            .values(columns.map(|column| (column.clone(), Expr::col((ROW, column.clone())))))
            .from(TableRef::SubQuery(Box::new(rows), ROW.into_iden()))
            .and_where(Expr::col((E::TABLE, E::TENANT_COLUMN)).eq(tenant))
            .and_where(Expr::col((E::TABLE, "id")).equals((ROW, "id")))
            .to_owned();
        let text = query.to_string(sea_query::PostgresQueryBuilder);
        let statement = Statement::with_arguments(text, self.columns.into_arguments()?);
        tx.operation().reserve_writes(self.rows.len())?;
        tx.execute(statement).await
    }
}
