//! Whether a user may enter a tenant, as the tenant's own rows say.

use sqlx::{Arguments as _, Row as _, postgres::PgArguments};

use super::{Statement, TenantTx};
use crate::{
    auth::role::UserRole,
    error::{Error, Result},
    ids::{EntityId as _, UserId},
};

/// The role of an active user of an active tenant; `None` if the user may not enter.
pub async fn active_role(tx: &TenantTx, user: UserId) -> Result<Option<UserRole>> {
    let text = "
        select u.role
        from users u
        join tenants t on t.id = u.tenant_id
        where u.tenant_id = $1 and u.id = $2 and u.status = 'ACTIVE' and t.status = 'ACTIVE'";
    let mut arguments = PgArguments::default();
    arguments
        .add(tx.tenant_uuid())
        .and_then(|()| arguments.add(user.uuid()))
        .map_err(|error| Error::Internal(format!("cannot encode a user id: {error}").into()))?;
    let row = tx.fetch_optional(Statement::fixed(text, arguments)).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}
