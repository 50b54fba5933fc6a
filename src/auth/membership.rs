//! Whether a user is an active member of a tenant now, and with which role.
//!
//! The invariants: **a user who is deactivated loses access within five seconds**, and **a tenant with many users
//! displaces only its own users from the cache**.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use uuid::Uuid;

use super::{Principal, jwt::Identity, role::UserRole};
use crate::{
    db::{Operation, Purpose, TenantContext, TenantDb, TenantTx, membership::active_role},
    error::{Error, Result},
    ids::{TenantId, UserId},
    metrics,
    tenant_cache::TenantCache,
};

/// How long a role is cached: the longest time for which a deactivated user still has access.
const CACHE_LIFETIME: Duration = Duration::from_secs(5);
/// The maximum number of cached roles, about 150 bytes each. The share of a tenant is 12,500.
const MAX_CACHED_ROLES: u64 = 100_000;

/// Loads the roles of users from the database and caches them.
#[derive(Clone, Debug)]
pub struct Memberships {
    db: TenantDb,
    roles: RoleCache,
}

/// The role of each user.
type RoleCache = Arc<TenantCache<UserId, CachedRole>>;

/// The role of a user; `None` if the user is not an active member.
type Role = Option<UserRole>;

/// A role that is loaded now. The requests that wait for it share one query.
type PendingRole = Shared<BoxFuture<'static, Result<Role, Arc<Error>>>>;

#[derive(Clone, Debug)]
enum CachedRole {
    Pending(PendingRole),
    Known {
        role: Role,
        /// When the query began. The role may have changed since.
        since: Instant,
    },
}

impl CachedRole {
    fn is_current(&self, now: Instant) -> bool {
        match self {
            Self::Pending(_) => true,
            Self::Known { since, .. } => now.saturating_duration_since(*since) < CACHE_LIFETIME,
        }
    }
}

impl Memberships {
    /// Creates an empty cache over the database.
    #[must_use]
    pub fn new(db: TenantDb) -> Self {
        Self {
            db,
            roles: new_cache(),
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
        let now = Instant::now();
        let load = || CachedRole::Pending(self.load(tenant, user, now));
        let is_current = |cached: &CachedRole| cached.is_current(now);
        let (cached, displaced) = self
            .roles
            .get_or_insert_with(tenant, user, 1, is_current, load);
        count_displaced(&displaced, now);
        let role = match cached {
            CachedRole::Known { role, .. } => role,
            CachedRole::Pending(role) => role.await.map_err(Error::Shared)?,
        };
        let role = role.ok_or(Error::Unauthenticated)?;
        Ok(Principal {
            tenant,
            user,
            role,
            expires_at,
        })
    }

    /// Loads a role in a task of its own, because the caller may be cancelled while other callers wait for the role. The
    /// task stores the role. An error is not stored.
    fn load(&self, tenant: TenantId, user: UserId, since: Instant) -> PendingRole {
        let (db, roles) = (self.db.clone(), Arc::clone(&self.roles));
        let task = tokio::spawn(async move {
            let role = find_role(db, tenant, user).await;
            match role {
                Ok(role) => {
                    let known = CachedRole::Known { role, since };
                    count_displaced(&roles.insert(tenant, user, known, 1), since);
                }
                Err(_) => drop(roles.remove(tenant, &user)),
            }
            role
        });
        let roles = Arc::clone(&self.roles);
        let result = async move {
            match task.await {
                Ok(role) => role.map_err(Arc::new),
                Err(panic) => {
                    roles.remove(tenant, &user);
                    Err(Arc::new(Error::Internal(panic.to_string().into())))
                }
            }
        };
        result.boxed().shared()
    }
}

fn new_cache() -> RoleCache {
    Arc::new(TenantCache::new(MAX_CACHED_ROLES))
}

fn count_displaced(displaced: &[(UserId, CachedRole)], now: Instant) {
    let current = displaced.iter().filter(|(_, role)| role.is_current(now));
    metrics::ROLES_DISPLACED.add(current.count());
}

async fn find_role(db: TenantDb, tenant: TenantId, user: UserId) -> Result<Role> {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_with_many_users_displaces_only_its_own() {
        let roles = new_cache();
        let (greedy, modest) = (TenantId::generate(), TenantId::generate());
        let user = UserId::generate();
        let since = Instant::now();
        let known = CachedRole::Known {
            role: Some(UserRole::Viewer),
            since,
        };
        roles.insert(modest, user, known.clone(), 1);
        let before = metrics::ROLES_DISPLACED.value();
        for _ in 0..2 * MAX_CACHED_ROLES {
            let displaced = roles.insert(greedy, UserId::generate(), known.clone(), 1);
            count_displaced(&displaced, since);
        }
        assert!(roles.get(modest, &user).is_some());
        let share = MAX_CACHED_ROLES / 8;
        assert_eq!(roles.count(greedy) as u64, share);
        let displaced = metrics::ROLES_DISPLACED.value() - before;
        assert_eq!(displaced, 2 * MAX_CACHED_ROLES - share);
    }

    #[test]
    fn a_cached_role_expires() {
        let since = Instant::now();
        let known = CachedRole::Known { role: None, since };
        assert!(known.is_current(since));
        let last = since + CACHE_LIFETIME;
        assert!(known.is_current(last.checked_sub(Duration::from_millis(1)).unwrap()));
        assert!(!known.is_current(last));
    }
}
