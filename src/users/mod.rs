//! Users: the people of a tenant.

mod mutations;

use async_graphql::SimpleObject;
use chrono::{DateTime, Utc};

use crate::{
    audit::AuditLog,
    auth::role::{UserRole, UserStatus},
    comments::Comment,
    db::entity::entity,
    graphql::{
        enums::StoredEnum,
        filter::{DateTimeFilter, EnumFilter, IdFilter, StringFilter, listed},
        relations::{relations, roots},
    },
    ids::UserId,
    projects::Project,
};

impl StoredEnum for UserRole {}

impl StoredEnum for UserStatus {}

/// A person in this tenant. The same person in another tenant is another user.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(complex)]
pub struct User {
    /// The id.
    pub id: UserId,
    /// The address, in lower case; unique in the tenant.
    pub email: String,
    /// The name for people.
    pub display_name: Option<String>,
    /// What the user may do.
    pub role: UserRole,
    /// Whether the user can sign in.
    pub status: UserStatus,
    /// Counts the changes of this row, from 1.
    pub version: i32,
    /// When the row was made.
    pub created_at: DateTime<Utc>,
    /// When the row last changed.
    pub updated_at: DateTime<Utc>,
}

entity!(User {
    id: UserId,
    email,
    display_name,
    role,
    status,
    version,
    created_at,
    updated_at,
});

listed! {
    User {
        filter UserFilter {
            /// By id.
            id: IdFilter<UserId>,
            /// By address.
            email: StringFilter,
            /// By name.
            display_name: StringFilter,
            /// By role.
            role: EnumFilter<UserRole>,
            /// By status.
            status: EnumFilter<UserStatus>,
            /// By the time of creation.
            created_at: DateTimeFilter,
            /// By the time of the last change.
            updated_at: DateTimeFilter,
        }
        order UserOrderField {
            /// By the time of creation.
            CreatedAt => created_at: DateTime<Utc>,
            /// By the time of the last change.
            UpdatedAt => updated_at: DateTime<Utc>,
            /// By address.
            Email => email: String,
            /// By name; the nameless count as greatest.
            DisplayName => display_name: Option<String>,
        }
        default CreatedAt Desc
    }
}

relations! {
    User {
        many {
            /// Projects that the user owns, newest first unless ordered otherwise.
            projects: Project = owner_id,
            /// Comments that the user wrote, newest first unless ordered otherwise.
            comments: Comment = author_id,
            /// What the user did, newest first unless ordered otherwise. Empty for all but owners and admins.
            audit_logs: AuditLog = actor_id,
        }
    }
}

roots! {
    UserQueries: User {
        /// One user; null if there is none with this id.
        user(UserId)
        /// The users of the tenant, newest first unless ordered otherwise.
        users
    }
}
