//! Reads of the tables that all tenants share.

use sqlx::FromRow as _;

use super::{Statement, TenantTx};
use crate::{currencies::Currency, error::Result};

/// Every currency, by code: some fifty rows, so it has no pages.
pub async fn currencies(tx: &TenantTx) -> Result<Vec<Currency>> {
    let all = "select code, name, minor_digits from currencies order by code limit 1000";
    let rows = tx
        .fetch_all(Statement::fixed(
            all,
            sqlx::postgres::PgArguments::default(),
        ))
        .await?;
    Ok(rows
        .iter()
        .map(Currency::from_row)
        .collect::<sqlx::Result<_>>()?)
}
