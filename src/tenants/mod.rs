//! Tenants: the companies that use the service. A caller reads only their own.

use async_graphql::{Context, Enum, SimpleObject};
use chrono::{DateTime, Utc};

use crate::{
    audit::AuditLog,
    db::{entity::Column, filter::Value, page::Sortable},
    error::Result,
    graphql::{
        context::ContextExt as _,
        directives::semantic_non_null,
        entity::entity,
        enums::StoredEnum,
        object::Object,
        relations::{NoMutations, RootMutations, RootQueries, relations},
    },
    ids::TenantId,
    users::User,
};

/// The status of a tenant. Callers see only `ACTIVE`: no token gives access to a tenant with another status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TenantStatus {
    /// The tenant is being set up. Its users cannot sign in yet.
    Provisioning,
    /// The tenant is in use.
    Active,
    /// The tenant is temporarily suspended. Its users cannot sign in.
    Suspended,
    /// The tenant is being deleted. Its users can no longer sign in.
    Deleting,
}

impl StoredEnum for TenantStatus {}

/// A tenant: a company that uses this service. Its data is isolated from the data of all other tenants. A caller can
/// read only the tenant that the caller's token names.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(complex)]
pub struct Tenant {
    /// The ID of the tenant.
    pub id: TenantId,
    /// The slug: a short name that is unique among all tenants. 3 to 63 lower-case letters, digits and
    /// hyphens.
    pub slug: Column<String>,
    /// The display name; 1 to 120 characters.
    pub name: Column<String>,
    /// The status. Always `ACTIVE` for a caller.
    pub status: Column<TenantStatus>,
    /// The name of the plan, such as `FREE`. No limit of the service depends on the plan.
    pub plan: Column<String>,
    /// The version of the tenant: starts at 1 and increases with each change.
    pub version: Column<i32>,
    /// The time at which the tenant was created.
    pub created_at: Column<DateTime<Utc>>,
    /// The time at which the tenant was last changed.
    pub updated_at: Column<DateTime<Utc>>,
}

entity!(Tenant, tenant in "id" {
    id: TenantId,
    shown { slug, name, status, plan, version, created_at, updated_at }
});

impl Sortable for Tenant {
    /// Never called: the API has no list of tenants, because a caller sees only their own tenant.
    fn sort_value(&self, column: &'static str) -> Result<Option<Value>> {
        unreachable!("BUG: tenants are ordered by {column}")
    }
}

relations! {
    Tenant {
        many {
            /// The users of the tenant, newest first by default.
            users: User = tenant_id,
            /// The changes of the tenant itself, newest first by default. Only owners and admins may read them;
            /// for other roles the field is null with the error FORBIDDEN.
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
    /// The tenant that the caller's token names.
    #[graphql(directive = semantic_non_null::apply(None))]
    async fn tenant(&self, ctx: &Context<'_>) -> Result<Option<Object<Tenant>>> {
        ctx.load(ctx.principal().tenant).await
    }
}
