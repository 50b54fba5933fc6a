//! Rows of the tables that all tenants share.
//!
//! The invariant: **these tables have no tenant.** Their statements are the only ones that this module
//! builds without one.

use sea_query::Query;
use sqlx::{FromRow, postgres::PgRow};

use super::{TenantTx, statement::Statement};
use crate::error::Result;

/// A row of a table that all tenants read and none writes.
pub trait SharedRow: for<'r> FromRow<'r, PgRow> {
    /// The table.
    const TABLE: &'static str;
    /// The columns. The rows are sorted by the first one.
    const COLUMNS: &'static [&'static str];
}

/// The number of rows that [`all`] returns at most: a shared table is small, so it has no pages.
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
