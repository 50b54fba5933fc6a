//! Whether a user is an active member of a tenant now, and with which role.
//!
//! The invariant: **a user who is deactivated loses access within five seconds**.

use std::{sync::Arc, time::Duration};

use moka::future::Cache;
use uuid::Uuid;

use super::{Principal, jwt::Identity, role::UserRole};
use crate::{
    db::{Operation, Purpose, TenantContext, TenantDb, TenantTx, membership::active_role},
    error::{Error, Result},
    ids::{TenantId, UserId},
};

/// How long a role is cached: the longest time for which a deactivated user still has access.
const CACHE_LIFETIME: Duration = Duration::from_secs(5);
/// The maximum number of cached roles.
const MAX_CACHED_ROLES: u64 = 100_000;

/// Loads the roles of users from the database and caches them.
#[derive(Clone, Debug)]
pub struct Memberships {
    db: TenantDb,
    /// The role of each user; `None` if the user is not an active member. Concurrent requests of one user share one
    /// query.
    roles: Cache<(TenantId, UserId), Option<UserRole>>,
}

impl Memberships {
    /// Creates an empty cache over the database.
    #[must_use]
    pub fn new(db: TenantDb) -> Self {
        Self {
            db,
            roles: Cache::builder()
                .max_capacity(MAX_CACHED_ROLES)
                .time_to_live(CACHE_LIFETIME)
                .build(),
        }
    }

    /// Returns the principal of an identity. The error is `Unauthenticated` unless the user is an active
    /// member of an active tenant.
    pub async fn principal(&self, identity: Identity) -> Result<Principal> {
        let Identity {
            tenant,
            user,
            expires_at,
        } = identity;
        let role = self
            .roles
            .try_get_with((tenant, user), find_role(self.db.clone(), tenant, user))
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

/// Runs the query in its own task, because the caller may be cancelled while other callers wait for the result.
async fn find_role(
    db: TenantDb,
    tenant: TenantId,
    user: UserId,
) -> Result<Option<UserRole>, Arc<Error>> {
    let task = tokio::spawn(async move {
        let context = TenantContext {
            tenant,
            user: Some(user),
            role: None,
        };
        let operation = Operation::new(Uuid::now_v7());
        let tx = TenantTx::new(db, context, Purpose::Read, operation);
        let role = active_role(&tx, user).await;
        tx.rollback().await;
        role
    });
    match task.await {
        Ok(role) => role.map_err(Arc::new),
        Err(panic) => Err(Arc::new(Error::Internal(panic.to_string().into()))),
    }
}
