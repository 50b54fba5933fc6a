//! Seals the audit log of the transaction's tenant.

use super::TenantTx;
use crate::error::Result;

/// The number of rows in a full seal. If a seal has fewer, no unsealed row is left.
pub const FULL_SEAL: i32 = 5_000;

/// A seal that was written.
#[derive(Clone, Debug)]
pub struct NewSeal {
    /// The number of rows.
    pub rows: i32,
    /// The number of the seal in the tenant's chain, from 1.
    pub number: i32,
    /// The hash of the seal.
    pub hash: Vec<u8>,
}

/// The result of [`seal_audit_log`].
#[derive(Clone, Debug)]
pub enum SealAttempt {
    /// One seal was written.
    Sealed(NewSeal),
    /// There was nothing to seal.
    NothingToSeal,
    /// Another transaction is sealing this tenant's log.
    Contended,
}

/// Writes one seal.
///
/// The function takes no argument: it seals the log of the tenant of the transaction's context.
pub async fn seal_audit_log(tx: &TenantTx) -> Result<SealAttempt> {
    let seal =
        || sqlx::query!("select sealed_rows, seal_number, seal_hash from app.seal_audit_log()");
    let Some(seal) = tx.fetch_optional_checked(seal).await? else {
        return Ok(SealAttempt::Contended);
    };
    Ok(match (seal.sealed_rows, seal.seal_number, seal.seal_hash) {
        (Some(rows), Some(number), Some(hash)) => {
            SealAttempt::Sealed(NewSeal { rows, number, hash })
        }
        (Some(_), ..) => SealAttempt::NothingToSeal,
        (None, ..) => SealAttempt::Contended,
    })
}
