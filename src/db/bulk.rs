//! Bulk statements: many rows in one statement whose text is the same for any number of them, because
//! each column is one array that the statement takes apart.

use sqlx::{
    Arguments as _,
    postgres::{PgArguments, PgRow},
};

use super::{Statement, TenantTx};
use crate::error::{Error, Result};

/// The arguments of a bulk statement, in the order of `$1` and so on.
#[derive(Default)]
pub struct Columns(PgArguments);

impl Columns {
    /// Adds a column: one value of each row.
    pub fn of<R, T>(&mut self, rows: &[R], value: impl Fn(&R) -> T) -> Result<()>
    where
        Vec<T>: for<'q> sqlx::Encode<'q, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        self.shared(rows.iter().map(value).collect::<Vec<_>>())
    }

    /// Adds one value that all rows share.
    pub fn shared<T>(&mut self, value: T) -> Result<()>
    where
        T: for<'q> sqlx::Encode<'q, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        let added = self.0.add(value);
        added.map_err(|error| Error::Internal(format!("cannot encode a column: {error}").into()))
    }

    /// Sends a statement of the crate's own text; answers how many rows it changed.
    pub async fn execute(self, tx: &TenantTx, text: &'static str) -> Result<u64> {
        tx.execute(Statement::fixed(text, self.0)).await
    }

    /// Sends a statement of the crate's own text; answers the rows that it returns.
    pub async fn fetch_all(self, tx: &TenantTx, text: &'static str) -> Result<Vec<PgRow>> {
        tx.fetch_all(Statement::fixed(text, self.0)).await
    }
}
