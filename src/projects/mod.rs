//! Projects: the work for an organization.

mod mutations;

use async_graphql::{Enum, SimpleObject};
use chrono::{DateTime, Utc};

use crate::{
    audit::AuditLog,
    comments::Comment,
    db::entity::entity,
    graphql::{
        directives::semantic_non_null,
        enums::StoredEnum,
        filter::{DateFilter, DateTimeFilter, EnumFilter, IdFilter, StringFilter, listed},
        relations::{relations, roots},
        scalars::Date,
    },
    ids::{OrganizationId, ProjectId, UserId},
    invoices::Invoice,
    organizations::Organization,
    users::User,
};

/// How far a project is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ProjectStatus {
    /// Not yet begun.
    Planned,
    /// Under way.
    Active,
    /// Begun, and resting.
    OnHold,
    /// Done.
    Completed,
    /// Kept for its history.
    Archived,
}

impl StoredEnum for ProjectStatus {}

/// Work for an organization.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(complex)]
pub struct Project {
    /// The id.
    pub id: ProjectId,
    #[graphql(skip)]
    organization_id: OrganizationId,
    #[graphql(skip)]
    owner_id: UserId,
    /// The name for people; 1 to 120 characters.
    pub name: String,
    /// What the work is; at most 10,000 characters.
    pub description: Option<String>,
    /// How far it is.
    pub status: ProjectStatus,
    /// When it is due.
    pub due_on: Option<Date>,
    /// Counts the changes of this row, from 1.
    pub version: i32,
    /// When the row was made.
    pub created_at: DateTime<Utc>,
    /// When the row last changed.
    pub updated_at: DateTime<Utc>,
}

entity!(Project {
    id: ProjectId,
    organization_id,
    owner_id,
    name,
    description,
    status,
    due_on,
    version,
    created_at,
    updated_at,
});

listed! {
    Project {
        filter ProjectFilter {
            /// By id.
            id: IdFilter<ProjectId>,
            /// By the organization that it is for.
            organization_id: IdFilter<OrganizationId>,
            /// By the user who owns it.
            owner_id: IdFilter<UserId>,
            /// By name.
            name: StringFilter,
            /// By status.
            status: EnumFilter<ProjectStatus>,
            /// By the day on which it is due.
            due_on: DateFilter,
            /// By the time of creation.
            created_at: DateTimeFilter,
            /// By the time of the last change.
            updated_at: DateTimeFilter,
        }
        order ProjectOrderField {
            /// By the time of creation.
            CreatedAt => created_at: DateTime<Utc>,
            /// By the time of the last change.
            UpdatedAt => updated_at: DateTime<Utc>,
            /// By name.
            Name => name: String,
            /// By the day on which it is due; those without one count as last.
            DueOn => due_on: Option<Date>,
        }
        default CreatedAt Desc
    }
}

relations! {
    Project {
        one {
            /// The organization that the project is for.
            #[graphql(directive = semantic_non_null::apply(None))]
            organization: Organization = organization_id,
            /// The user who answers for the project.
            #[graphql(directive = semantic_non_null::apply(None))]
            owner: User = owner_id,
        }
        many {
            /// Invoices that bill the project, newest first unless ordered otherwise.
            invoices: Invoice = project_id,
            /// Comments on the project, newest first unless ordered otherwise.
            comments: Comment = project_id,
            /// What happened to the project and to what belongs to it, newest first unless ordered otherwise. Empty for all but owners and admins.
            audit_logs: AuditLog = project_id,
        }
    }
}

roots! {
    ProjectQueries: Project {
        /// One project; null if there is none with this id.
        project(ProjectId)
        /// The projects of the tenant, newest first unless ordered otherwise.
        projects
    }
}
