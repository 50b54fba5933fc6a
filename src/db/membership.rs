//! Decides whether a user has access to a tenant. Reads only rows of this tenant.

use super::TenantTx;
use crate::{
    auth::role::UserRole,
    error::Result,
    ids::{EntityId as _, UserId},
};

/// Returns the role of an active user of an active tenant; `None` if the user has no access.
pub async fn active_role(tx: &TenantTx, user: UserId) -> Result<Option<UserRole>> {
    let member = || {
        sqlx::query!(
            r#"
            select u.role as "role: UserRole"
            from users u
            join tenants t on t.id = u.tenant_id
            where u.tenant_id = $1 and u.id = $2 and u.status = 'ACTIVE' and t.status = 'ACTIVE'
            "#,
            tx.tenant_uuid(),
            user.uuid(),
        )
    };
    let member = tx.fetch_optional_checked(member).await?;
    Ok(member.map(|member| member.role))
}
