//! Sign-in: the directory of people and tenants that `palisade_auth` reads.
//!
//! The invariant: **sign-in reads no row that a tenant owns.** The directory contains tenants, identities
//! and memberships only.

use sqlx::PgPool;

use super::{
    ConnectError, PoolSettings, connect_options, inspect::check_role, pool::new_pool, unreachable,
};
use crate::{
    auth::role::{UserRole, UserStatus},
    error::Result,
    ids::{TenantId, UserId},
};

/// The database as `palisade_auth` sees it.
#[derive(Clone, Debug)]
pub struct SignInDb(pub(super) PgPool);

/// A tenant that a person has access to, with the person's user in it.
#[derive(Clone, Debug)]
pub struct DirectoryEntry {
    /// The id of the tenant.
    pub tenant: TenantId,
    /// The tenant's URL slug.
    pub tenant_slug: String,
    /// The tenant's display name.
    pub tenant_name: String,
    /// The id of the person's user in this tenant.
    pub user: UserId,
    /// The role in this tenant.
    pub role: UserRole,
}

/// A user of a tenant, active or not.
#[derive(Clone, Debug)]
pub struct Member {
    /// The tenant's URL slug.
    pub tenant_slug: String,
    /// The tenant's display name.
    pub tenant_name: String,
    /// The email address.
    pub email: String,
    /// The role in this tenant.
    pub role: UserRole,
    /// The status; only active users have access.
    pub status: UserStatus,
}

impl SignInDb {
    /// Connects, and checks the role and that the directory is readable.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        let options = connect_options(url)?;
        let settings = PoolSettings {
            size: 2,
            ..PoolSettings::default()
        };
        let pool = new_pool(options.clone(), settings.size, settings.acquire_timeout);
        sqlx::query_scalar!(r#"select exists (select 1 from memberships) as "any!""#)
            .fetch_one(&pool)
            .await
            .map_err(|error| unreachable(&options, &error))?;
        check_role(&pool).await?;
        Ok(Self(pool))
    }

    /// Returns the active user of an active tenant with this email address, if there is one.
    pub async fn find(&self, tenant_slug: &str, email: &str) -> Result<Option<DirectoryEntry>> {
        let entry = sqlx::query_as!(
            DirectoryEntry,
            r#"
            select t.id as "tenant: TenantId", t.slug as tenant_slug, t.name as tenant_name,
                   m.id as "user: UserId", m.role as "role: UserRole"
            from tenants t
            join memberships m on m.tenant_id = t.id
            join identities i on i.id = m.identity_id
            where t.slug = $1 and i.email = lower($2)
              and t.status = 'ACTIVE' and m.status = 'ACTIVE'
            "#,
            tenant_slug,
            email,
        )
        .fetch_optional(&self.0)
        .await?;
        Ok(entry)
    }

    /// Returns the id of the tenant with this slug, if it exists.
    pub async fn tenant(&self, slug: &str) -> Result<Option<TenantId>> {
        let id = sqlx::query_scalar!(
            r#"select id as "id: TenantId" from tenants where slug = $1"#,
            slug
        );
        Ok(id.fetch_optional(&self.0).await?)
    }

    /// The present time of the database, in milliseconds since 1970.
    pub async fn now(&self) -> Result<i64> {
        let now = sqlx::query_scalar!(
            r#"select (date_part('epoch', clock_timestamp()) * 1000)::bigint as "now!""#
        );
        Ok(now.fetch_one(&self.0).await?)
    }

    /// Returns every active tenant to which the identity of this user has access, sorted by name.
    pub async fn memberships(&self, tenant: TenantId, user: UserId) -> Result<Vec<DirectoryEntry>> {
        use crate::ids::EntityId as _;

        let entries = sqlx::query_as!(
            DirectoryEntry,
            r#"
            select t.id as "tenant: TenantId", t.slug as tenant_slug, t.name as tenant_name,
                   m.id as "user: UserId", m.role as "role: UserRole"
            from memberships mine
            join memberships m on m.identity_id = mine.identity_id
            join tenants t on t.id = m.tenant_id
            where mine.tenant_id = $1 and mine.id = $2
              and t.status = 'ACTIVE' and m.status = 'ACTIVE'
            order by t.name, t.id
            limit 100
            "#,
            tenant.uuid(),
            user.uuid(),
        )
        .fetch_all(&self.0)
        .await?;
        Ok(entries)
    }

    /// Returns the users of the active tenants, by tenant and email address: at most 100 users of each of
    /// at most 100 tenants.
    pub async fn people(&self) -> Result<Vec<Member>> {
        let members = sqlx::query_as!(
            Member,
            r#"
            select t.slug as tenant_slug, t.name as tenant_name, m.email, m.role as "role: UserRole", m.status as "status: UserStatus"
            from (
                select id, slug, name from tenants where status = 'ACTIVE' order by name, id limit 100
            ) t
            cross join lateral (
                select i.email, m.role, m.status
                from memberships m
                join identities i on i.id = m.identity_id
                where m.tenant_id = t.id
                order by i.email
                limit 100
            ) m
            order by t.name, t.id, m.email
            "#,
        )
        .fetch_all(&self.0)
        .await?;
        Ok(members)
    }
}
