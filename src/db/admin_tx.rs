//! The admin plane: the role that bypasses row level security and sees every tenant.
//!
//! The invariants: **no code that serves requests uses [`AdminDb`].** Only the commands of an operator
//! create it. And **no name resolves to an object that the owner of the schema has created**, unless the statement
//! names the schema: the `search_path` of the connection is `pg_catalog`.

use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection};
use uuid::Uuid;

use super::{
    ConnectError, Purpose, TenantContext, audit_snapshot::AuditSnapshot, connect_options,
    context::ContextSigner, unreachable,
};
use crate::{
    auth::role::UserRole,
    error::Result,
    ids::{EntityId, TenantId},
};

/// One connection as `palisade_admin`.
pub struct AdminDb(PgConnection);

/// A new tenant.
#[derive(Clone, Debug)]
pub struct NewTenant {
    /// The id of the tenant.
    pub id: TenantId,
    /// The URL slug: 3 to 63 lower-case letters, digits and hyphens.
    pub slug: String,
    /// The display name.
    pub name: String,
    /// The subscription plan.
    pub plan: String,
}

/// A new user who can sign in to the tenant.
#[derive(Clone, Debug)]
pub struct NewMember {
    /// The id of the user in the tenant.
    pub user: crate::ids::UserId,
    /// The identity of the person, who can be a user of several tenants.
    pub identity: Uuid,
    /// The email address, in lower case.
    pub email: String,
    /// The display name.
    pub display_name: String,
    /// The role in the tenant.
    pub role: UserRole,
}

impl AdminDb {
    /// Connects as the role that bypasses row level security.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        let options = connect_options(url)?;
        let connect = async {
            let mut connection = options.connect().await?;
            // A statement and not a startup parameter, which poolers such as PgBouncer reject. PostgreSQL never
            // searches pg_temp for functions and operators.
            connection
                .execute("set search_path = pg_catalog, pg_temp")
                .await?;
            Ok(Self(connection))
        };
        connect.await.map_err(|error| unreachable(&options, &error))
    }

    /// Returns the tenant with this slug, if it exists.
    pub async fn tenant(&mut self, slug: &str) -> Result<Option<TenantId>> {
        let id = sqlx::query_scalar!(
            r#"select id as "id: TenantId" from public.tenants where slug = $1"#,
            slug,
        );
        Ok(id.fetch_optional(&mut self.0).await?)
    }

    /// Returns every tenant except the canary, by slug.
    pub async fn tenants(&mut self) -> Result<Vec<TenantId>> {
        let ids = sqlx::query_scalar!(
            r#"select id as "id: TenantId" from public.tenants where id <> app.canary_id(0) order by slug"#
        );
        Ok(ids.fetch_all(&mut self.0).await?)
    }

    /// Begins a snapshot of a tenant's audit log. Later writes do not change it.
    pub async fn audit_snapshot(&mut self, tenant: TenantId) -> Result<AuditSnapshot<'_>> {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        let tx = self.0.begin_with(begin).await?;
        AuditSnapshot::begin(tx, tenant).await
    }

    /// Creates a tenant with its first members, in a context of `signer`. Returns `false`, and changes nothing, if the slug is
    /// already used.
    pub async fn create_tenant(
        &mut self,
        tenant: &NewTenant,
        members: &[NewMember],
        signer: &ContextSigner,
    ) -> Result<bool> {
        let mut tx = self.0.begin().await?;
        // The audit triggers record these changes too, and need the tenant's context.
        let now =
            sqlx::query_scalar!(r#"select (date_part('epoch', now()) * 1000)::bigint as "now!""#)
                .fetch_one(&mut *tx)
                .await?;
        let context = TenantContext {
            tenant: tenant.id,
            user: None,
            role: None,
        };
        let context = signer.write(&context, Purpose::Write, Uuid::nil(), now);
        sqlx::query!(
            r#"select set_config('app.context', $1, true) as "set!""#,
            context,
        )
        .fetch_one(&mut *tx)
        .await?;
        let inserted = sqlx::query!(
            r#"
            insert into public.tenants (id, slug, name, plan) values ($1, $2, $3, $4)
            on conflict (slug) do nothing
            "#,
            tenant.id.uuid(),
            tenant.slug,
            tenant.name,
            tenant.plan,
        )
        .execute(&mut *tx)
        .await?;
        if inserted.rows_affected() == 0 {
            tx.rollback().await?;
            return Ok(false);
        }
        for member in members {
            let identity = sqlx::query_scalar!(
                r#"
                insert into public.identities (id, email) values ($1, $2)
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
                insert into public.users (id, tenant_id, identity_id, email, display_name, role, status)
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
