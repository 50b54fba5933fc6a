//! Projects: the work for an organization.

mod mutations;

use async_graphql::{Enum, SimpleObject};
use chrono::{DateTime, Utc};

use crate::{
    audit::AuditLog,
    comments::Comment,
    db::entity::Column,
    graphql::{
        directives::semantic_non_null,
        entity::entity,
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

/// The status of a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ProjectStatus {
    /// The work is planned and not started.
    Planned,
    /// The work is in progress.
    Active,
    /// The work is paused.
    OnHold,
    /// The work is completed.
    Completed,
    /// The project is archived: kept for reference.
    Archived,
}

impl StoredEnum for ProjectStatus {}

/// A project: work for an organization.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(complex)]
pub struct Project {
    /// The ID of the project.
    pub id: ProjectId,
    #[graphql(skip)]
    organization_id: Column<OrganizationId>,
    #[graphql(skip)]
    owner_id: Column<UserId>,
    /// The display name; 1 to 120 characters.
    pub name: Column<String>,
    /// A description of the work, as plain text; at most 10,000 characters.
    pub description: Column<Option<String>>,
    /// The status of the project.
    pub status: Column<ProjectStatus>,
    /// The due date of the project.
    pub due_on: Column<Option<Date>>,
    /// The version of the project: starts at 1 and increases with each change.
    pub version: Column<i32>,
    /// The time at which the project was created.
    pub created_at: Column<DateTime<Utc>>,
    /// The time at which the project was last changed.
    pub updated_at: Column<DateTime<Utc>>,
}

entity!(Project {
    id: ProjectId,
    shown { name, description, status, due_on, version, created_at, updated_at }
    hidden { organization_id, owner_id }
    long { description }
});

listed! {
    Project {
        filter ProjectFilter {
            /// Filters by ID.
            id: IdFilter<ProjectId>,
            /// Filters by the organization of the project.
            organization_id: IdFilter<OrganizationId>,
            /// Filters by the owner of the project.
            owner_id: IdFilter<UserId>,
            /// Filters by display name.
            name: StringFilter,
            /// Filters by status.
            status: EnumFilter<ProjectStatus>,
            /// Filters by due date.
            due_on: DateFilter,
            /// Filters by the time of creation.
            created_at: DateTimeFilter,
            /// Filters by the time of the last change.
            updated_at: DateTimeFilter,
        }
        order ProjectOrderField {
            /// Sort by the time of creation.
            CreatedAt => created_at: DateTime<Utc>,
            /// Sort by the time of the last change.
            UpdatedAt => updated_at: DateTime<Utc>,
            /// Sort by display name.
            Name => name: String,
            /// Sort by due date. In ascending order, projects without a due date come last.
            DueOn => due_on: Option<Date>,
        }
        default CreatedAt Desc
    }
}

relations! {
    Project {
        one {
            /// The organization for which the work is done.
            #[graphql(directive = semantic_non_null::apply(None))]
            organization: Organization = organization_id,
            /// The owner: the user responsible for the project. Ownership gives no extra permissions.
            #[graphql(directive = semantic_non_null::apply(None))]
            owner: User = owner_id,
        }
        many {
            /// The invoices for the project, newest first by default.
            invoices: Invoice = project_id,
            /// The comments on the project, newest first by default.
            comments: Comment = project_id,
            /// The changes of the project, of its invoices and their lines, and of the comments on the project and its
            /// invoices, newest first by default. Only owners and admins may read them; for other roles the field is
            /// null with the error FORBIDDEN.
            audit_logs: AuditLog = project_id,
        }
    }
}

roots! {
    ProjectQueries: Project {
        /// The project with this ID; null if the tenant has no such project.
        project(ProjectId)
        /// The projects of the tenant, newest first by default.
        projects
    }
}
