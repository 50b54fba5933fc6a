//! The caller: their user, tenant, role and permissions.

use async_graphql::{ComplexObject, Context, Enum, SimpleObject};
use chrono::{DateTime, Utc};

use crate::{
    auth::role::UserRole,
    db::{load::find_whole, sign_in::SignInDb},
    error::Result,
    graphql::{
        context::ContextExt as _,
        directives::semantic_non_null,
        json::plain_fields,
        object::{Object, Objects},
    },
    ids::TenantId,
    tenants::Tenant,
    users::User,
};

/// The caller: the user and the tenant that the token names.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(complex)]
pub struct Viewer {
    /// The caller's role in this tenant.
    pub role: UserRole,
    /// The time at which the caller's token expires.
    pub token_expires_at: DateTime<Utc>,
}

/// A group of actions that only some roles may take. Clients use permissions to decide which controls to show. The
/// database enforces the same rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum Permission {
    /// Create, change, archive and delete organizations, projects and products, and import products.
    EditRecords,
    /// Create comments. Change and delete the caller's own comments.
    Comment,
    /// Create, change, issue, pay and void invoices, mark them as uncollectible, and edit their lines.
    Bill,
    /// Read the audit log: `auditLog` and every field `auditLogs`.
    ReadAuditLog,
    /// Invite users, change their roles and deactivate them. Only owners may invite, change or deactivate owners.
    ManageUsers,
}

impl Permission {
    /// The permissions of a role. The policies of the database enforce them; a test compares this function with
    /// the policies.
    #[must_use]
    pub fn of(role: UserRole) -> &'static [Self] {
        match role {
            UserRole::Owner | UserRole::Admin => &[
                Self::EditRecords,
                Self::Comment,
                Self::Bill,
                Self::ReadAuditLog,
                Self::ManageUsers,
            ],
            UserRole::Billing => &[Self::EditRecords, Self::Comment, Self::Bill],
            UserRole::Member => &[Self::EditRecords, Self::Comment],
            UserRole::Viewer => &[],
        }
    }
}

/// A tenant in which the caller has an active user. Each tenant needs its own token.
#[derive(Clone, Debug, SimpleObject)]
pub struct Membership {
    /// The ID of the tenant.
    pub tenant_id: TenantId,
    /// The display name of the tenant.
    pub tenant_name: String,
    /// The slug of the tenant.
    pub tenant_slug: String,
    /// The caller's role in the tenant.
    pub role: UserRole,
}

plain_fields!(Viewer {
    role,
    token_expires_at
});
plain_fields!(Membership {
    tenant_id,
    tenant_name,
    tenant_slug,
    role
});

#[ComplexObject]
impl Viewer {
    /// The caller's user in this tenant.
    #[graphql(directive = semantic_non_null::apply(None))]
    async fn user(&self, ctx: &Context<'_>) -> Result<Option<Object<User>>> {
        ctx.load(ctx.principal().user).await
    }

    /// The tenant that the caller's token names.
    #[graphql(directive = semantic_non_null::apply(None))]
    async fn tenant(&self, ctx: &Context<'_>) -> Result<Option<Object<Tenant>>> {
        ctx.load(ctx.principal().tenant).await
    }

    /// The caller's permissions in this tenant.
    async fn permissions(&self) -> Vec<Permission> {
        Permission::of(self.role).to_vec()
    }

    /// The tenants in which the caller has an active user, sorted by name; at most 100. If the service has no sign-in
    /// database, the list contains only the current tenant. The caller's token gives access only to the current tenant.
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
        // Without a sign-in database, the service knows only the current tenant.
        let tenant = find_whole::<Tenant>(ctx.tx(), principal.tenant).await?;
        let membership = |tenant: Tenant| {
            Ok(Membership {
                tenant_id: tenant.id,
                tenant_name: tenant.name.get()?.clone(),
                tenant_slug: tenant.slug.get()?.clone(),
                role: self.role,
            })
        };
        tenant.into_iter().map(membership).collect()
    }
}

/// The root queries about the caller.
#[derive(Debug, Default)]
pub struct ViewerQueries;

#[async_graphql::Object]
impl ViewerQueries {
    /// The caller: the user and the tenant that the token names.
    async fn viewer(&self, ctx: &Context<'_>) -> Object<Viewer> {
        let principal = ctx.principal();
        Viewer {
            role: principal.role,
            token_expires_at: principal.expires_at,
        }
        .into()
    }
}
