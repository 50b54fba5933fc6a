//! Rows of the tables that all tenants share.
//!
//! The invariant: **these tables have no tenant.** Only the statements on these tables are built without a
//! tenant predicate.

use sea_query::Query;
use sqlx::{FromRow, postgres::PgRow};

use super::{TenantTx, statement::Statement};
use crate::error::Result;

/// A row of a table that every tenant reads and no tenant writes.
pub trait SharedRow: for<'r> FromRow<'r, PgRow> {
    /// The table.
    const TABLE: &'static str;
    /// The columns. The rows are sorted by the first one.
    const COLUMNS: &'static [&'static str];
}

/// The maximum number of rows that [`all`] returns. A shared table is small, so it has no pages.
const MAX_ROWS: u64 = 1_000;

/// Returns every row of a shared table.
pub async fn all<R: SharedRow>(tx: &TenantTx) -> Result<Vec<R>> {
    let mut query = Query::select();
    query
        .columns(R::COLUMNS.iter().copied())
        .from(R::TABLE)
        .limit(MAX_ROWS);
    if let Some(key) = R::COLUMNS.first() {
        query.order_by(*key, sea_query::Order::Asc);
    }
    let rows = tx.fetch_all(Statement::build(&query)).await?;
    Ok(rows.iter().map(R::from_row).collect::<sqlx::Result<_>>()?)
}
