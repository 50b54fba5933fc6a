//! Users.

use UserRole::{Admin, Member, Owner};
use palisade::{
    auth::role::UserRole,
    db::{entity::Entity as _, write::Writable as _},
    users::User,
};
use serde_json::json;

use super::{Rejected, Sample, Slice, World, rejected, without_project};

pub const SLICE: Slice = Slice {
    rows: ROWS,
    permission: "MANAGE_USERS",
    mutations,
    rejected: rejected_inputs,
    rules: &[(User::TABLE, User::RULES, &[])],
    inviolable: &[
        ("users_identity_fkey", "no mutation sets it"),
        ("users_role_known", "an enum"),
        ("users_status_known", "an enum"),
        ("users_tenant_fkey", "the tenant is the caller's"),
    ],
    values: &[
        (
            "users",
            "email",
            "'user-' || n || '@' || canary || '.example'",
        ),
        ("users", "role", "'MEMBER'"),
        (
            "users",
            "status",
            "(array['INVITED', 'DEACTIVATED'])[1 + n % 2]",
        ),
    ],
    ..Slice::EMPTY
};

const ROWS: &str = "
    insert into users (id, email, role, status) values
        ('{user}', 'user-{slug}@example.com', 'MEMBER', 'ACTIVE'),
        ('{owner_user}', 'owner-{slug}@example.com', 'OWNER', 'ACTIVE');
";

fn mutations() -> Vec<Sample> {
    vec![
        Sample::new(
            "inviteUser",
            |rows| json!({ "email": format!("{}@example.com", rows.new_slug()), "displayName": "New", "role": "BILLING" }),
            |_| without_project("user.created"),
        ),
        Sample::new(
            "changeUserRole",
            |rows| json!({ "id": rows.id("user"), "role": "BILLING" }),
            |_| without_project("user.updated"),
        ),
        Sample::new(
            "deactivateUser",
            |rows| json!({ "id": rows.id("user") }),
            |_| without_project("user.updated"),
        ),
        Sample::new(
            "inviteUser",
            |rows| json!({ "email": format!("{}@example.com", rows.new_slug()), "role": "OWNER" }),
            |_| without_project("user.created"),
        )
        .case("as an owner"),
        Sample::new(
            "changeUserRole",
            |rows| json!({ "id": rows.id("user"), "role": "OWNER" }),
            |_| without_project("user.updated"),
        )
        .case("to owner"),
        Sample::new(
            "changeUserRole",
            |rows| json!({ "id": rows.id("owner_user"), "role": "ADMIN" }),
            |_| without_project("user.updated"),
        )
        .case("of an owner"),
        Sample::new(
            "deactivateUser",
            |rows| json!({ "id": rows.id("owner_user") }),
            |_| without_project("user.updated"),
        )
        .case("who is an owner"),
    ]
}

fn rejected_inputs(world: &World) -> Vec<Rejected> {
    let taken = format!("OWNER@{}.example", world.tenant.slug);
    let invite = |email: &str| json!({ "email": email });
    let long = format!("{}@example.org", "a".repeat(250));
    vec![
        rejected(
            Owner,
            "inviteUser",
            invite(&taken),
            &[("ALREADY_EXISTS", "email")],
        ),
        rejected(
            Owner,
            "inviteUser",
            invite(""),
            &[("REQUIRED", "email"), ("INVALID", "email")],
        ),
        rejected(
            Owner,
            "inviteUser",
            invite("nobody"),
            &[("INVALID", "email")],
        ),
        rejected(
            Owner,
            "inviteUser",
            invite("a b@c"),
            &[("INVALID", "email")],
        ),
        rejected(Owner, "inviteUser", invite(&long), &[("TOO_LONG", "email")]),
        rejected(
            Owner,
            "inviteUser",
            json!({ "email": "a@b.example", "displayName": "" }),
            &[("REQUIRED", "displayName")],
        ),
        rejected(
            Admin,
            "inviteUser",
            json!({ "email": "a@b.example", "role": "OWNER" }),
            &[("FORBIDDEN", "")],
        ),
        rejected(
            Member,
            "inviteUser",
            invite("a@b.example"),
            &[("FORBIDDEN", "")],
        ),
        rejected(
            Admin,
            "changeUserRole",
            json!({ "id": world.caller_id(Owner), "role": "ADMIN" }),
            &[("FORBIDDEN", "")],
        ),
        rejected(
            UserRole::Viewer,
            "changeUserRole",
            json!({ "id": world.caller_id(UserRole::Viewer), "role": "OWNER" }),
            &[("FORBIDDEN", "")],
        ),
        rejected(
            Member,
            "deactivateUser",
            json!({ "id": world.caller_id(UserRole::Viewer) }),
            &[("FORBIDDEN", "")],
        ),
    ]
}
