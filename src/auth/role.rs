//! The role and the status of a user in a tenant. The policies in the database enforce the permissions of the role.

use async_graphql::Enum;

/// The role of a user in a tenant. The database enforces what each role may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum UserRole {
    /// Full access. Only owners may invite, change or deactivate owners.
    Owner,
    /// Full access, except that an admin cannot invite, change or deactivate owners.
    Admin,
    /// Can create, change and delete organizations, projects and products, and the user's own comments.
    Member,
    /// Has the rights of `MEMBER`. Can also create and change invoices.
    Billing,
    /// Read-only access to everything except the audit log.
    Viewer,
}

impl UserRole {
    /// The string that the database stores and the policies compare.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "OWNER",
            Self::Admin => "ADMIN",
            Self::Member => "MEMBER",
            Self::Billing => "BILLING",
            Self::Viewer => "VIEWER",
        }
    }
}

/// The status of a user in a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum UserStatus {
    /// Created by `inviteUser`. Cannot sign in.
    Invited,
    /// Can sign in.
    Active,
    /// Can no longer sign in.
    Deactivated,
}

impl UserStatus {
    /// The string that the database stores.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invited => "INVITED",
            Self::Active => "ACTIVE",
            Self::Deactivated => "DEACTIVATED",
        }
    }
}
