//! Archiving: a row stays readable, but is not offered for new work.
//!
//! The invariant: **only these functions set the status to or from `ARCHIVED`.** So a row that is
//! restored always has the status that it had before.

use super::{
    TenantTx,
    write::{Update, Writable, WriteResult},
};

const STATUS: &str = "status";
const ARCHIVED: &str = "ARCHIVED";
const ACTIVE: &str = "ACTIVE";

/// A row type with a column `status` that can be `ARCHIVED`.
pub trait Archivable: Writable {
    /// The column that keeps the status from before the row was archived. `None` if the only other status
    /// is `ACTIVE`.
    const FORMER_STATUS: Option<&'static str> = None;
}

/// Archives the row with this id.
pub async fn archive<E: Archivable>(
    tx: &TenantTx,
    id: E::Id,
    if_version: Option<i32>,
) -> WriteResult<E> {
    let mut archive = Update::new(id, if_version).set(STATUS, ARCHIVED).unless(
        STATUS,
        ARCHIVED,
        "is already archived",
    );
    if let Some(former) = E::FORMER_STATUS {
        archive = archive.copy(former, STATUS);
    }
    archive.run(tx).await
}

/// Restores the row with this id: sets the status that the row had before it was archived.
pub async fn unarchive<E: Archivable>(
    tx: &TenantTx,
    id: E::Id,
    if_version: Option<i32>,
) -> WriteResult<E> {
    let unarchive = Update::new(id, if_version).only_if(STATUS, ARCHIVED, "is not archived");
    let unarchive = match E::FORMER_STATUS {
        // Without a former status, which only `archive` stores, the row becomes ACTIVE.
        Some(former) => unarchive
            .copy_or(STATUS, former, ACTIVE)
            .set(former, None::<String>),
        None => unarchive.set(STATUS, ACTIVE),
    };
    unarchive.run(tx).await
}

impl<E: Archivable> Update<E> {
    /// Rejects the change if the row is archived.
    #[must_use]
    pub fn unless_archived(self) -> Self {
        self.unless(STATUS, ARCHIVED, "is archived: unarchive it first")
    }
}
