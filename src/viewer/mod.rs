//! The caller as the API sees them.

use async_graphql::{ComplexObject, Context, Enum, SimpleObject};
use chrono::{DateTime, Utc};

use crate::{
    auth::role::UserRole,
    db::sign_in::SignInDb,
    error::Result,
    graphql::{
        context::ContextExt as _,
        directives::semantic_non_null,
        object::{Object, Objects},
    },
    ids::TenantId,
    tenants::Tenant,
    users::User,
};

/// Who asks, in which tenant, and what they may do there.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(complex)]
pub struct Viewer {
    /// What the caller may do, as their role in this tenant.
    pub role: UserRole,
    /// When the token ends.
    pub token_expires_at: DateTime<Utc>,
}

/// Something that not every role may do. The database decides; this tells an interface what to offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum Permission {
    /// Write organizations, projects and products.
    EditRecords,
    /// Write comments of one's own.
    Comment,
    /// Write invoices and their lines.
    Bill,
    /// Read the audit log.
    ReadAuditLog,
    /// Invite users, change their roles, end their access.
    ManageUsers,
    /// Change the tenant.
    ManageTenant,
}

impl Permission {
    /// What a role may do: the same as its policies say.
    fn of(role: UserRole) -> &'static [Self] {
        match role {
            UserRole::Owner | UserRole::Admin => &[
                Self::EditRecords,
                Self::Comment,
                Self::Bill,
                Self::ReadAuditLog,
                Self::ManageUsers,
                Self::ManageTenant,
            ],
            UserRole::Billing => &[Self::EditRecords, Self::Comment, Self::Bill],
            UserRole::Member => &[Self::EditRecords, Self::Comment],
            UserRole::Viewer => &[],
        }
    }
}

/// A tenant that the caller may enter, with a token for it.
#[derive(Clone, Debug, SimpleObject)]
pub struct Membership {
    /// The id of the tenant.
    pub tenant_id: TenantId,
    /// Its name for people.
    pub tenant_name: String,
    /// Its name in addresses.
    pub tenant_slug: String,
    /// The caller's role there.
    pub role: UserRole,
}

#[ComplexObject]
impl Viewer {
    /// The user that the caller is.
    #[graphql(directive = semantic_non_null::apply(None))]
    async fn user(&self, ctx: &Context<'_>) -> Result<Option<Object<User>>> {
        ctx.load(ctx.principal().user).await
    }

    /// The tenant that the caller is in.
    #[graphql(directive = semantic_non_null::apply(None))]
    async fn tenant(&self, ctx: &Context<'_>) -> Result<Option<Object<Tenant>>> {
        ctx.load(ctx.principal().tenant).await
    }

    /// What the caller may do.
    async fn permissions(&self) -> Vec<Permission> {
        Permission::of(self.role).to_vec()
    }

    /// Every tenant that the same person may enter, by name; at most 100. Of other tenants nothing but
    /// these entries is ever visible here.
    async fn memberships(&self, ctx: &Context<'_>) -> Result<Objects<Membership>> {
        let principal = ctx.principal();
        if let Some(directory) = ctx.data_unchecked::<Option<SignInDb>>() {
            let entries = directory
                .memberships(principal.tenant, principal.user)
                .await?;
            return Ok(entries
                .into_iter()
                .map(|entry| {
                    Object::from(Membership {
                        tenant_id: entry.tenant,
                        tenant_name: entry.tenant_name,
                        tenant_slug: entry.tenant_slug,
                        role: entry.role,
                    })
                })
                .collect());
        }
        // Without the directory the present tenant is all that is known.
        let tenant = ctx.load::<Tenant>(principal.tenant).await?;
        Ok(tenant
            .map(|tenant| {
                Object::from(Membership {
                    tenant_id: tenant.id,
                    tenant_name: tenant.name.clone(),
                    tenant_slug: tenant.slug.clone(),
                    role: self.role,
                })
            })
            .into_iter()
            .collect())
    }
}

/// The root queries about the caller.
#[derive(Debug, Default)]
pub struct ViewerQueries;

#[async_graphql::Object]
impl ViewerQueries {
    /// Who asks, in which tenant, and what they may do there.
    async fn viewer(&self, ctx: &Context<'_>) -> Object<Viewer> {
        let principal = ctx.principal();
        Viewer {
            role: principal.role,
            token_expires_at: principal.expires_at,
        }
        .into()
    }
}
