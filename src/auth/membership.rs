//! Whether a user may enter a tenant now, and as what.

use std::{sync::Arc, time::Duration};

use moka::future::Cache;
use uuid::Uuid;

use super::{Principal, jwt::Identity, role::UserRole};
use crate::{
    db::{Operation, Purpose, TenantContext, TenantDb, TenantTx, membership::active_role},
    error::{Error, Result},
    ids::{TenantId, UserId},
};

/// How long an answer is believed: the longest that somebody who was removed can still enter.
const BELIEVED: Duration = Duration::from_secs(5);
/// Most answers that are kept.
const KEPT: u64 = 100_000;

/// Asks the tenant's own rows who may enter, and remembers for seconds.
#[derive(Clone, Debug)]
pub struct Memberships {
    db: TenantDb,
    /// `None`: may not enter. Callers who ask for the same member at once share one question.
    known: Cache<(TenantId, UserId), Option<UserRole>>,
}

impl Memberships {
    /// Memberships as the database knows them.
    #[must_use]
    pub fn new(db: TenantDb) -> Self {
        Self {
            db,
            known: Cache::builder()
                .max_capacity(KEPT)
                .time_to_live(BELIEVED)
                .build(),
        }
    }

    /// The principal of an identity. `Unauthenticated` unless the user is an active member of an
    /// active tenant.
    pub async fn enter(&self, identity: Identity) -> Result<Principal> {
        let Identity {
            tenant,
            user,
            expires_at,
        } = identity;
        let role = self
            .known
            .try_get_with((tenant, user), ask(self.db.clone(), tenant, user))
            .await
            .map_err(|error: Arc<Arc<Error>>| Error::Shared(Arc::clone(&error)))?;
        let role = role.ok_or(Error::Unauthenticated)?;
        Ok(Principal {
            tenant,
            user,
            role,
            expires_at,
        })
    }
}

/// Runs in a task of its own: the caller may be gone before the answer, which others wait for too.
async fn ask(db: TenantDb, tenant: TenantId, user: UserId) -> Result<Option<UserRole>, Arc<Error>> {
    let asking = tokio::spawn(async move {
        let context = TenantContext {
            tenant,
            user: Some(user),
            role: None,
        };
        let operation = Operation::new(Uuid::now_v7());
        let tx = TenantTx::new(db, context, Purpose::Read, operation);
        let found = active_role(&tx, user).await;
        tx.rollback().await;
        found
    });
    match asking.await {
        Ok(found) => found.map_err(Arc::new),
        Err(panicked) => Err(Arc::new(Error::Internal(panicked.to_string().into()))),
    }
}
