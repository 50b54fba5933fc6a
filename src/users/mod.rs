//! Users: the people of a tenant.

mod mutations;

use async_graphql::SimpleObject;
use chrono::{DateTime, Utc};

use crate::{
    audit::AuditLog,
    auth::role::{UserRole, UserStatus},
    comments::Comment,
    db::entity::Column,
    graphql::{
        entity::entity,
        enums::StoredEnum,
        filter::{DateTimeFilter, EnumFilter, IdFilter, LowerCase, StringFilter, listed},
        relations::{relations, roots},
    },
    ids::UserId,
    projects::Project,
};

impl StoredEnum for UserRole {}

impl StoredEnum for UserStatus {}

/// A person in the tenant. A person who belongs to several tenants has one user in each tenant.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(complex)]
pub struct User {
    /// The ID of the user.
    pub id: UserId,
    /// The email address in lower case, unique within the tenant; at most 254 characters.
    pub email: Column<String>,
    /// The display name; 1 to 120 characters.
    pub display_name: Column<Option<String>>,
    /// The role: what the user may do in the tenant.
    pub role: Column<UserRole>,
    /// The status: whether the user can sign in.
    pub status: Column<UserStatus>,
    /// The version of the user: starts at 1 and increases with each change.
    pub version: Column<i32>,
    /// The time at which the user was created.
    pub created_at: Column<DateTime<Utc>>,
    /// The time at which the user was last changed.
    pub updated_at: Column<DateTime<Utc>>,
}

entity!(User {
    id: UserId,
    shown { email, display_name, role, status, version, created_at, updated_at }
});

listed! {
    User {
        filter UserFilter {
            /// Filters by ID.
            id: IdFilter<UserId>,
            /// Filters by email address. Addresses are stored in lower case.
            email: StringFilter<LowerCase>,
            /// Filters by display name.
            display_name: StringFilter,
            /// Filters by role.
            role: EnumFilter<UserRole>,
            /// Filters by status.
            status: EnumFilter<UserStatus>,
            /// Filters by the time of creation.
            created_at: DateTimeFilter,
            /// Filters by the time of the last change.
            updated_at: DateTimeFilter,
        }
        order UserOrderField {
            /// Sort by the time of creation.
            CreatedAt => created_at: DateTime<Utc>,
            /// Sort by the time of the last change.
            UpdatedAt => updated_at: DateTime<Utc>,
            /// Sort by email address.
            Email => email: String,
            /// Sort by display name. In ascending order, users without a display name come last.
            DisplayName => display_name: Option<String>,
        }
        default CreatedAt Desc
    }
}

relations! {
    User {
        many {
            /// The projects that the user owns, newest first by default.
            projects: Project = owner_id,
            /// The comments that the user wrote, newest first by default.
            comments: Comment = author_id,
            /// The changes that the user made, newest first by default. Only owners and admins may read them; for
            /// other roles the field is null with the error FORBIDDEN.
            audit_logs: AuditLog = actor_id,
        }
    }
}

roots! {
    UserQueries: User {
        /// The user with this ID; null if the tenant has no such user.
        user(UserId)
        /// The users of the tenant, newest first by default.
        users
    }
}
