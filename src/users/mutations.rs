//! The mutations of users: invite, change the role, deactivate.

use async_graphql::{Context, InputObject};

use super::{User, UserRole, UserStatus};
use crate::{
    db::{
        TenantTx,
        write::{ConstraintRule, Insert, Update, Writable, WriteResult},
    },
    error::Result,
    graphql::{
        checks::Checks,
        context::ContextExt as _,
        mutation::{Write as _, payload, targets},
        object::Object,
        relations::RootMutations,
    },
    ids::UserId,
    user_error::UserErrorCode,
};

/// The maximum length of an email address in characters (RFC 5321, 4.5.3.1.3, without the angle brackets).
const MAX_EMAIL_LENGTH: usize = 254;
/// The maximum length of a display name in characters.
const MAX_NAME_LENGTH: usize = 120;
const INVALID_EMAIL: &str = "must be an email address";

impl Writable for User {
    const RULES: &'static [ConstraintRule] = &[
        ConstraintRule::new(
            "users_email_key",
            UserErrorCode::AlreadyExists,
            "email",
            "is already the address of another user",
        ),
        ConstraintRule::new(
            "users_email_folded",
            UserErrorCode::Invalid,
            "email",
            INVALID_EMAIL,
        ),
        ConstraintRule::new(
            "users_display_name_length",
            UserErrorCode::Invalid,
            "displayName",
            "must have 1 to 120 characters",
        ),
        ConstraintRule::new(
            "users_last_owner",
            UserErrorCode::InvalidState,
            "id",
            "is the last active owner of the tenant",
        ),
    ];
}

/// The input of the `inviteUser` mutation.
#[derive(Debug, InputObject)]
pub struct InviteUserInput {
    /// The email address, unique within the tenant; at most 254 characters. Stored in lower case.
    pub email: String,
    /// The display name; 1 to 120 characters.
    pub display_name: Option<String>,
    /// The role of the new user; `MEMBER` by default.
    pub role: Option<UserRole>,
}

/// The input of the `changeUserRole` mutation.
#[derive(Debug, InputObject)]
pub struct ChangeUserRoleInput {
    /// The ID of the user.
    pub id: UserId,
    /// The version that the client last read. If the user has changed since, nothing is written and the error
    /// CONFLICT is returned.
    pub if_version: Option<i32>,
    /// The new role of the user.
    pub role: UserRole,
}

targets! {
    /// The input of the `deactivateUser` mutation.
    DeactivateUserInput(UserId)
}

payload! {
    /// The payload of the `inviteUser` mutation.
    InviteUserPayload { user: User }
    /// The payload of the `changeUserRole` mutation.
    ChangeUserRolePayload { user: User }
    /// The payload of the `deactivateUser` mutation.
    DeactivateUserPayload { user: User }
}

/// The mutations of this slice.
#[derive(Debug, Default)]
pub struct UserMutations;

impl RootMutations for User {
    type Mutations = UserMutations;
}

#[async_graphql::Object]
impl UserMutations {
    /// Creates a user with the status `INVITED`. Owners and admins may do so; only owners may invite owners. The
    /// service sends no message. The user cannot sign in, because no mutation activates a user.
    async fn invite_user(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The user to invite.")] input: InviteUserInput,
    ) -> Result<Object<InviteUserPayload>> {
        ctx.write(invite(ctx.tx(), input)).await
    }

    /// Changes the role of a user. Owners and admins may do so; only owners may change the role of an owner or make a
    /// user an owner. The role of the last active owner cannot be changed. The change takes effect after at most 5
    /// seconds.
    async fn change_user_role(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The user and the new role.")] input: ChangeUserRoleInput,
    ) -> Result<Object<ChangeUserRolePayload>> {
        let change =
            Update::<User>::new(input.id, input.if_version).set("role", input.role.as_str());
        ctx.write(change.run(ctx.tx())).await
    }

    /// Deactivates a user. Owners and admins may do so; only owners may deactivate owners. The last active owner cannot
    /// be deactivated. The service rejects the user's tokens after at most 5 seconds. The user's projects and comments
    /// remain. No mutation reactivates a user.
    async fn deactivate_user(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The user to deactivate.")] input: DeactivateUserInput,
    ) -> Result<Object<DeactivateUserPayload>> {
        let deactivate = Update::<User>::new(input.id, input.if_version)
            .set("status", UserStatus::Deactivated.as_str())
            .unless("status", "DEACTIVATED", "is already deactivated");
        ctx.write(deactivate.run(ctx.tx())).await
    }
}

async fn invite(tx: &TenantTx, input: InviteUserInput) -> WriteResult<User> {
    let email = input.email.to_lowercase();
    let mut checks = Checks::new();
    checks.text("email", &email, MAX_EMAIL_LENGTH);
    checks.require(
        is_address(&email),
        UserErrorCode::Invalid,
        "email",
        INVALID_EMAIL,
    );
    if let Some(name) = &input.display_name {
        checks.text("displayName", name, MAX_NAME_LENGTH);
    }
    checks.finish()?;
    Insert::<User>::new(UserId::generate())
        .set("email", email)
        .set("display_name", input.display_name)
        .set("role", input.role.unwrap_or(UserRole::Member).as_str())
        .run(tx)
        .await
}

/// Checks the syntax only. Only a message to the address can show that it exists.
fn is_address(text: &str) -> bool {
    let has_gap = text.chars().any(|c| c.is_whitespace() || c.is_control());
    match text.rsplit_once('@') {
        Some((local, domain)) => !has_gap && !local.is_empty() && !domain.is_empty(),
        None => false,
    }
}
