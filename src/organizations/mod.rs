//! Organizations: the clients, departments or subsidiaries inside a tenant.

mod mutations;

use async_graphql::{Enum, SimpleObject};
use chrono::{DateTime, Utc};

use crate::{
    audit::AuditLog,
    db::entity::Column,
    graphql::{
        entity::entity,
        enums::StoredEnum,
        filter::{DateTimeFilter, EnumFilter, IdFilter, LowerCase, StringFilter, listed},
        relations::{relations, roots},
    },
    ids::OrganizationId,
    invoices::Invoice,
    projects::Project,
};

/// The status of an organization. An archived organization can still be used, changed and deleted; clients filter lists
/// by status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OrganizationStatus {
    /// The organization is in use.
    Active,
    /// The organization is archived: kept for reference.
    Archived,
}

impl StoredEnum for OrganizationStatus {}

/// A customer, department or subsidiary. Each project and each invoice belongs to an organization.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(complex)]
pub struct Organization {
    /// The ID of the organization.
    pub id: OrganizationId,
    /// The display name; 1 to 120 characters.
    pub name: Column<String>,
    /// The slug: a short name that is unique within the tenant. 1 to 63 lower-case letters, digits and
    /// hyphens.
    pub slug: Column<String>,
    /// The status: active or archived.
    pub status: Column<OrganizationStatus>,
    /// The version of the organization: starts at 1 and increases with each change.
    pub version: Column<i32>,
    /// The time at which the organization was created.
    pub created_at: Column<DateTime<Utc>>,
    /// The time at which the organization was last changed.
    pub updated_at: Column<DateTime<Utc>>,
}

entity!(Organization {
    id: OrganizationId,
    shown { name, slug, status, version, created_at, updated_at }
});

listed! {
    Organization {
        filter OrganizationFilter {
            /// Filters by ID.
            id: IdFilter<OrganizationId>,
            /// Filters by display name.
            name: StringFilter,
            /// Filters by slug.
            slug: StringFilter<LowerCase>,
            /// Filters by status.
            status: EnumFilter<OrganizationStatus>,
            /// Filters by the time of creation.
            created_at: DateTimeFilter,
            /// Filters by the time of the last change.
            updated_at: DateTimeFilter,
        }
        order OrganizationOrderField {
            /// Sort by the time of creation.
            CreatedAt => created_at: DateTime<Utc>,
            /// Sort by the time of the last change.
            UpdatedAt => updated_at: DateTime<Utc>,
            /// Sort by display name.
            Name => name: String,
        }
        default CreatedAt Desc
    }
}

relations! {
    Organization {
        many {
            /// The projects of the organization, newest first by default.
            projects: Project = organization_id,
            /// The invoices to the organization, newest first by default.
            invoices: Invoice = organization_id,
            /// The changes of the organization itself, newest first by default. Only owners and admins may read
            /// them; for other roles the field is null with the error FORBIDDEN.
            audit_logs: AuditLog = subject_id,
        }
    }
}

roots! {
    OrganizationQueries: Organization {
        /// The organization with this ID; null if the tenant has no such organization.
        organization(OrganizationId)
        /// The organizations of the tenant, newest first by default.
        organizations
    }
}
