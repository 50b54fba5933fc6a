//! Authentication: from a bearer token to a principal.

pub mod jwt;
pub mod membership;
pub mod role;

use chrono::{DateTime, Utc};

use self::role::UserRole;
use crate::{
    db::TenantContext,
    ids::{TenantId, UserId},
};

/// The caller of an operation: one user in one tenant, with the role from the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The tenant.
    pub tenant: TenantId,
    /// The user.
    pub user: UserId,
    /// The user's role in the tenant.
    pub role: UserRole,
    /// The time at which the token expires.
    pub expires_at: DateTime<Utc>,
}

impl Principal {
    /// The context of the transactions of this principal.
    #[must_use]
    pub fn context(&self) -> TenantContext {
        TenantContext {
            tenant: self.tenant,
            user: Some(self.user),
            role: Some(self.role),
        }
    }
}
