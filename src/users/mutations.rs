//! What changes users: invitations, roles, and the end of somebody's access.

use async_graphql::{Context, InputObject};

use super::{User, UserRole, UserStatus};
use crate::{
    db::{
        TenantTx,
        write::{Insert, Update, Writable, Written},
    },
    error::Result,
    graphql::{
        context::ContextExt as _,
        mutation::{Write as _, payload, targets},
        object::Object,
        relations::RootMutations,
    },
    ids::UserId,
    user_error::{Checks, Rule, UserErrorCode},
};

/// Most characters of an address (RFC 5321, 4.5.3.1.3, without the angle brackets).
const EMAIL: usize = 254;
/// Most characters of a name.
const NAME: usize = 120;
const EMAIL_FORM: &str = "is not an e-mail address";

impl Writable for User {
    const RULES: &'static [Rule] = &[
        Rule::new(
            "users_email_key",
            UserErrorCode::AlreadyExists,
            "email",
            "is the address of a user already",
        ),
        Rule::new(
            "users_email_folded",
            UserErrorCode::Invalid,
            "email",
            EMAIL_FORM,
        ),
        Rule::new(
            "users_display_name_length",
            UserErrorCode::Invalid,
            "displayName",
            "has 1 to 120 characters",
        ),
        Rule::new(
            "users_last_owner",
            UserErrorCode::InvalidState,
            "id",
            "is the last active owner of the tenant",
        ),
    ];
}

/// Who is invited.
#[derive(Debug, InputObject)]
pub struct InviteUserInput {
    /// The address; unique in the tenant. Upper and lower case are the same.
    pub email: String,
    /// The name for people; 1 to 120 characters.
    pub display_name: Option<String>,
    /// What the user will be allowed; `MEMBER` if not given.
    pub role: Option<UserRole>,
}

/// What a user shall be allowed.
#[derive(Debug, InputObject)]
pub struct ChangeUserRoleInput {
    /// The user's id.
    pub id: UserId,
    /// Only if the user still has this version; otherwise CONFLICT.
    pub if_version: Option<i32>,
    /// The new role.
    pub role: UserRole,
}

targets! {
    /// The user who shall no longer sign in.
    DeactivateUserInput(UserId)
}

payload! {
    /// What came of `inviteUser`.
    InviteUserPayload { user: User }
    /// What came of `changeUserRole`.
    ChangeUserRolePayload { user: User }
    /// What came of `deactivateUser`.
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
    /// Invites somebody into the tenant. For owners and admins; only owners invite owners.
    async fn invite_user(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whom.")] input: InviteUserInput,
    ) -> Result<Object<InviteUserPayload>> {
        ctx.write(invite(ctx.tx(), input)).await
    }

    /// Changes what a user may do. For owners and admins; only owners make or unmake owners, and the
    /// last active owner stays one.
    async fn change_user_role(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whose role, and which.")] input: ChangeUserRoleInput,
    ) -> Result<Object<ChangeUserRolePayload>> {
        let change =
            Update::<User>::new(input.id, input.if_version).set("role", input.role.as_str());
        ctx.write(change.run(ctx.tx())).await
    }

    /// Ends a user's access; what the user made stays. For owners and admins; only owners deactivate
    /// owners, and nobody the last active one.
    async fn deactivate_user(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whom.")] input: DeactivateUserInput,
    ) -> Result<Object<DeactivateUserPayload>> {
        let deactivate = Update::<User>::new(input.id, input.if_version)
            .set("status", UserStatus::Deactivated.as_str())
            .unless("status", "DEACTIVATED", "is deactivated already");
        ctx.write(deactivate.run(ctx.tx())).await
    }
}

async fn invite(tx: &TenantTx, input: InviteUserInput) -> Written<User> {
    let email = input.email.to_lowercase();
    let mut checks = Checks::new();
    checks.text("email", &email, EMAIL);
    checks.require(
        is_address(&email),
        UserErrorCode::Invalid,
        "email",
        EMAIL_FORM,
    );
    if let Some(name) = &input.display_name {
        checks.text("displayName", name, NAME);
    }
    checks.done()?;
    Insert::<User>::new(UserId::generate())
        .set("email", email)
        .set("display_name", input.display_name)
        .set("role", input.role.unwrap_or(UserRole::Member).as_str())
        .run(tx)
        .await
}

/// Whether a text looks like an address: whether it is one, only a letter to it can tell.
fn is_address(text: &str) -> bool {
    let has_gap = text.chars().any(|c| c.is_whitespace() || c.is_control());
    match text.rsplit_once('@') {
        Some((local, domain)) => !has_gap && !local.is_empty() && !domain.is_empty(),
        None => false,
    }
}
