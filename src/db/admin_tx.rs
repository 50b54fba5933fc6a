//! The bypassing role: sees every tenant, and is reached from the admin plane alone.
//!
//! Nothing that serves requests can name [`AdminDb`]: the commands that an operator runs make it.

use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use uuid::Uuid;

use super::{ConnectError, audit_snapshot::AuditSnapshot, connect_options, unreachable};
use crate::{
    auth::role::UserRole,
    error::Result,
    ids::{EntityId, TenantId},
};

/// One connection as `palisade_admin`.
pub struct AdminDb(PgConnection);

/// A tenant to be made, with the person who owns it.
#[derive(Clone, Debug)]
pub struct NewTenant {
    /// The tenant.
    pub id: TenantId,
    /// Its name in addresses: 3 to 63 lower-case letters, digits and hyphens.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// What it pays for.
    pub plan: String,
}

/// Somebody who can sign in to a tenant.
#[derive(Clone, Debug)]
pub struct NewMember {
    /// The user in the tenant.
    pub user: crate::ids::UserId,
    /// The person; the same one may be a member of many tenants.
    pub identity: Uuid,
    /// The address, in lower case.
    pub email: String,
    /// The name for people.
    pub display_name: String,
    /// What the member may do.
    pub role: UserRole,
}

impl AdminDb {
    /// Connects as the bypassing role.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        let options = connect_options(url)?;
        options
            .connect()
            .await
            .map(Self)
            .map_err(|error| unreachable(&options, &error))
    }

    /// The tenant with a slug, if there is one.
    pub async fn tenant(&mut self, slug: &str) -> Result<Option<TenantId>> {
        let id = sqlx::query_scalar!(
            r#"select id as "id: TenantId" from tenants where slug = $1"#,
            slug,
        );
        Ok(id.fetch_optional(&mut self.0).await?)
    }

    /// Every tenant, by slug.
    pub async fn tenants(&mut self) -> Result<Vec<TenantId>> {
        let ids = sqlx::query_scalar!(r#"select id as "id: TenantId" from tenants order by slug"#);
        Ok(ids.fetch_all(&mut self.0).await?)
    }

    /// The audit log of a tenant as it is now, whatever is written while it is read.
    pub async fn audit_snapshot(&mut self, tenant: TenantId) -> Result<AuditSnapshot<'_>> {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        let tx = self.0.begin_with(begin).await?;
        Ok(AuditSnapshot { tx, tenant })
    }

    /// Makes a tenant with its first members. Answers `false`, and changes nothing, if the slug is
    /// taken.
    pub async fn create_tenant(
        &mut self,
        tenant: &NewTenant,
        members: &[NewMember],
    ) -> Result<bool> {
        let mut tx = self.0.begin().await?;
        // Also here changes are recorded for the tenant, which takes its context.
        sqlx::query!(
            r#"select set_config('app.tenant_id', $1, true) as "set!""#,
            tenant.id.uuid().to_string(),
        )
        .fetch_one(&mut *tx)
        .await?;
        let made = sqlx::query!(
            r#"
            insert into tenants (id, slug, name, plan) values ($1, $2, $3, $4)
            on conflict (slug) do nothing
            "#,
            tenant.id.uuid(),
            tenant.slug,
            tenant.name,
            tenant.plan,
        )
        .execute(&mut *tx)
        .await?;
        if made.rows_affected() == 0 {
            tx.rollback().await?;
            return Ok(false);
        }
        for member in members {
            let identity = sqlx::query_scalar!(
                r#"
                insert into identities (id, email) values ($1, $2)
                on conflict (email) do update set email = excluded.email
                returning id
                "#,
                member.identity,
                member.email,
            )
            .fetch_one(&mut *tx)
            .await?;
            sqlx::query!(
                r#"
                insert into users (id, tenant_id, identity_id, email, display_name, role, status)
                values ($1, $2, $3, $4, $5, $6, 'ACTIVE')
                "#,
                member.user.uuid(),
                tenant.id.uuid(),
                identity,
                member.email,
                member.display_name,
                member.role.as_str(),
            )
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(true)
    }
}
