//! Idempotency keys, for a whole request (`Idempotency-Key`) and for one bulk mutation
//! (`idempotencyKey`). Both use the same keys, claims and storage format. `docs/api.md` describes how
//! they differ.

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    db::{
        TenantTx,
        idempotency::{Claim, ClaimOutcome},
    },
    error::{Error, Result},
};

/// The maximum length of an idempotency key, in characters.
pub const MAX_KEY_LENGTH: usize = 255;

/// Whether a string is a valid idempotency key: 1 to 255 printable ASCII characters.
#[must_use]
pub fn is_valid_key(key: &str) -> bool {
    let has_valid_length = (1..=MAX_KEY_LENGTH).contains(&key.len());
    has_valid_length && key.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// Claims a key in the transaction. Returns the stored result if the work has already been done with
/// this key, and `None` if the caller must do it. Errors: the work has been done, and its result is not kept.
pub async fn claim<T: DeserializeOwned>(claim: &Claim, tx: &TenantTx) -> Result<Option<T>> {
    read_outcome(claim.claim(tx).await?)
}

/// Returns the stored result of a claim; `None` if the key was new. Errors: as for [`claim`].
pub fn read_outcome<T: DeserializeOwned>(outcome: ClaimOutcome) -> Result<Option<T>> {
    match outcome {
        ClaimOutcome::New => Ok(None),
        ClaimOutcome::Repeated(stored) => decode(&stored).map(Some),
        ClaimOutcome::NotKept => Err(Error::ResponseNotKept),
    }
}

/// Serializes a result to store it with its key.
pub fn encode<T: Serialize>(result: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(result)
        .map_err(|error| Error::Internal(format!("cannot serialize a result: {error}").into()))
}

/// Reads a stored result.
fn decode<T: DeserializeOwned>(stored: &[u8]) -> Result<T> {
    serde_json::from_slice(stored)
        .map_err(|error| Error::Internal(format!("cannot read a stored result: {error}").into()))
}
