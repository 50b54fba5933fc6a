//! Seals the audit log of the transaction's tenant.

use super::TenantTx;
use crate::error::Result;

/// The number of rows in a full seal. If a seal has fewer, no unsealed row is left.
pub const FULL_SEAL: i32 = 5_000;

/// Writes one seal. Returns its number of rows, 0 if there was nothing to seal; `None` if another
/// transaction is sealing this tenant's log.
///
/// The function takes no argument: it seals the log of the tenant of the transaction's context.
pub async fn seal_audit_log(tx: &TenantTx) -> Result<Option<i32>> {
    let seal = || sqlx::query!("select app.seal_audit_log() as rows");
    let seal = tx.fetch_optional_checked(seal).await?;
    Ok(seal.and_then(|seal| seal.rows))
}
