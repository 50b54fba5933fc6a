//! The tenant that the caller is in.

use async_graphql::{Context, Enum, SimpleObject};
use chrono::{DateTime, Utc};

use crate::{
    audit::AuditLog,
    db::{
        entity::entity,
        page::{Keyed, Value},
    },
    error::Result,
    graphql::{
        context::ContextExt as _,
        directives::semantic_non_null,
        enums::StoredEnum,
        object::Object,
        relations::{NoMutations, RootMutations, RootQueries, relations},
    },
    ids::TenantId,
    users::User,
};

/// Where a tenant is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TenantStatus {
    /// Being set up.
    Provisioning,
    /// In use.
    Active,
    /// Closed for a while; nobody can enter.
    Suspended,
    /// Being removed for good.
    Deleting,
}

impl StoredEnum for TenantStatus {}

/// A company that uses this service. Callers see their own and no other.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(complex)]
pub struct Tenant {
    /// The id.
    pub id: TenantId,
    /// The name in addresses: lower-case letters, digits and hyphens.
    pub slug: String,
    /// The name for people.
    pub name: String,
    /// Where the tenant is in its life.
    pub status: TenantStatus,
    /// What the tenant pays for.
    pub plan: String,
    /// Counts the changes of this row, from 1.
    pub version: i32,
    /// When the row was made.
    pub created_at: DateTime<Utc>,
    /// When the row last changed.
    pub updated_at: DateTime<Utc>,
}

entity!(Tenant, tenant in "id" {
    id: TenantId, slug, name, status, plan, version, created_at, updated_at,
});

impl Keyed for Tenant {
    /// Tenants are never listed: a caller sees one.
    fn key(&self, column: &'static str) -> Option<Value> {
        unreachable!("BUG: tenants are ordered by {column}")
    }
}

relations! {
    Tenant {
        many {
            /// The users of the tenant, newest first unless ordered otherwise.
            users: User = tenant_id,
            /// What happened to the tenant's own row, newest first unless ordered otherwise. Empty for all but owners and admins.
            audit_logs: AuditLog = subject_id,
        }
    }
}

/// The root queries of this entity.
#[derive(Debug, Default)]
pub struct TenantQueries;

impl RootQueries for Tenant {
    type Queries = TenantQueries;
}

impl RootMutations for Tenant {
    type Mutations = NoMutations;
}

#[async_graphql::Object]
impl TenantQueries {
    /// The tenant that the caller is in.
    #[graphql(directive = semantic_non_null::apply(None))]
    async fn tenant(&self, ctx: &Context<'_>) -> Result<Option<Object<Tenant>>> {
        ctx.load(ctx.principal().tenant).await
    }
}
