//! The directory of people and tenants, as `palisade_auth` sees it: nothing of what a tenant owns.

use sqlx::PgPool;

use super::{ConnectError, PoolSettings, connect_options, pool, unreachable};
use crate::{
    auth::role::{UserRole, UserStatus},
    error::Result,
    ids::{TenantId, UserId},
};

/// The database as `palisade_auth` sees it.
#[derive(Clone, Debug)]
pub struct SignInDb(PgPool);

/// A tenant that somebody may enter, and as whom.
#[derive(Clone, Debug)]
pub struct DirectoryEntry {
    /// The tenant.
    pub tenant: TenantId,
    /// Its name in addresses.
    pub tenant_slug: String,
    /// Its name for people.
    pub tenant_name: String,
    /// Who the person is in this tenant.
    pub user: UserId,
    /// The role in this tenant.
    pub role: UserRole,
}

/// Somebody of a tenant, whether or not they may enter it.
#[derive(Clone, Debug)]
pub struct Member {
    /// The tenant's name in addresses.
    pub tenant_slug: String,
    /// The tenant's name for people.
    pub tenant_name: String,
    /// The address.
    pub email: String,
    /// The role in this tenant.
    pub role: UserRole,
    /// Whether they may enter.
    pub status: UserStatus,
}

impl SignInDb {
    /// Connects, and asks once to see that the directory is readable.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        let options = connect_options(url)?;
        let settings = PoolSettings {
            size: 2,
            ..PoolSettings::default()
        };
        let pool = pool(options.clone(), settings.size, settings.acquire_timeout);
        sqlx::query_scalar!(r#"select exists (select from memberships) as "any!""#)
            .fetch_one(&pool)
            .await
            .map_err(|error| unreachable(&options, &error))?;
        Ok(Self(pool))
    }

    /// The active member of an active tenant with this address, if there is one.
    pub async fn find(&self, tenant_slug: &str, email: &str) -> Result<Option<DirectoryEntry>> {
        let entry = sqlx::query!(
            r#"
            select t.id, t.slug, t.name, m.id as user_id, m.role as "role: UserRole"
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
        Ok(entry.map(|entry| DirectoryEntry {
            tenant: entry.id.into(),
            tenant_slug: entry.slug,
            tenant_name: entry.name,
            user: entry.user_id.into(),
            role: entry.role,
        }))
    }

    /// Every active tenant that the person behind a user may enter, by name.
    pub async fn memberships(&self, tenant: TenantId, user: UserId) -> Result<Vec<DirectoryEntry>> {
        use crate::ids::EntityId as _;

        let entries = sqlx::query!(
            r#"
            select t.id, t.slug, t.name, m.id as user_id, m.role as "role: UserRole"
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
        let entries = entries.into_iter().map(|entry| DirectoryEntry {
            tenant: entry.id.into(),
            tenant_slug: entry.slug,
            tenant_name: entry.name,
            user: entry.user_id.into(),
            role: entry.role,
        });
        Ok(entries.collect())
    }

    /// The people of the active tenants, by tenant and address: of at most 100 tenants at most 100 each.
    pub async fn people(&self) -> Result<Vec<Member>> {
        let members = sqlx::query!(
            r#"
            select t.slug, t.name, m.email, m.role as "role: UserRole", m.status as "status: UserStatus"
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
        let members = members.into_iter().map(|member| Member {
            tenant_slug: member.slug,
            tenant_name: member.name,
            email: member.email,
            role: member.role,
            status: member.status,
        });
        Ok(members.collect())
    }
}
