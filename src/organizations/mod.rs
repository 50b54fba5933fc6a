//! Organizations: the clients, departments or subsidiaries inside a tenant.

mod mutations;

use async_graphql::{Enum, SimpleObject};
use chrono::{DateTime, Utc};

use crate::{
    audit::AuditLog,
    db::entity::entity,
    graphql::{
        enums::StoredEnum,
        filter::{DateTimeFilter, EnumFilter, IdFilter, StringFilter, listed},
        relations::{relations, roots},
    },
    ids::OrganizationId,
    invoices::Invoice,
    projects::Project,
};

/// Whether an organization is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OrganizationStatus {
    /// In use.
    Active,
    /// Kept for its history.
    Archived,
}

impl StoredEnum for OrganizationStatus {}

/// A unit inside the tenant for which projects run and invoices are written.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(complex)]
pub struct Organization {
    /// The id.
    pub id: OrganizationId,
    /// The name for people; 1 to 120 characters.
    pub name: String,
    /// The name in addresses, unique in the tenant: lower-case letters, digits and hyphens.
    pub slug: String,
    /// Whether it is in use.
    pub status: OrganizationStatus,
    /// Counts the changes of this row, from 1.
    pub version: i32,
    /// When the row was made.
    pub created_at: DateTime<Utc>,
    /// When the row last changed.
    pub updated_at: DateTime<Utc>,
}

entity!(Organization {
    id: OrganizationId,
    name,
    slug,
    status,
    version,
    created_at,
    updated_at,
});

listed! {
    Organization {
        filter OrganizationFilter {
            /// By id.
            id: IdFilter<OrganizationId>,
            /// By name.
            name: StringFilter,
            /// By the name in addresses.
            slug: StringFilter,
            /// By status.
            status: EnumFilter<OrganizationStatus>,
            /// By the time of creation.
            created_at: DateTimeFilter,
            /// By the time of the last change.
            updated_at: DateTimeFilter,
        }
        order OrganizationOrderField {
            /// By the time of creation.
            CreatedAt => created_at: DateTime<Utc>,
            /// By the time of the last change.
            UpdatedAt => updated_at: DateTime<Utc>,
            /// By name.
            Name => name: String,
        }
        default CreatedAt Desc
    }
}

relations! {
    Organization {
        many {
            /// Projects for the organization, newest first unless ordered otherwise.
            projects: Project = organization_id,
            /// Invoices to the organization, newest first unless ordered otherwise.
            invoices: Invoice = organization_id,
            /// What happened to the organization's own row, newest first unless ordered otherwise. Empty for all but owners and admins.
            audit_logs: AuditLog = subject_id,
        }
    }
}

roots! {
    OrganizationQueries: Organization {
        /// One organization; null if there is none with this id.
        organization(OrganizationId)
        /// The organizations of the tenant, newest first unless ordered otherwise.
        organizations
    }
}
