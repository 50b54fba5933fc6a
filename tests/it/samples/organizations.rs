//! Organizations.

use UserRole::{Owner, Viewer};
use palisade::{
    auth::role::UserRole,
    db::{entity::Entity as _, write::Writable as _},
    organizations::Organization,
};
use serde_json::json;

use super::{Rejected, Sample, Slice, World, change, rejected, without_project};

pub const SLICE: Slice = Slice {
    rows: ROWS,
    permission: "EDIT_RECORDS",
    mutations,
    rejected: rejected_inputs,
    rules: &[(
        Organization::TABLE,
        Organization::RULES,
        Organization::REFERRERS,
    )],
    inviolable: &[
        ("organizations_status_known", "an enum"),
        ("organizations_tenant_fkey", "the tenant is the caller's"),
    ],
    ..Slice::EMPTY
};

const ROWS: &str = "
    insert into organizations (id, name, slug, status) values
        ('{organization}', 'Organization', 'used-{slug}', 'ACTIVE'),
        ('{spare_organization}', 'Spare', 'spare-{slug}', 'ACTIVE'),
        ('{archived_organization}', 'Archived', 'archived-{slug}', 'ARCHIVED');
";

fn mutations() -> Vec<Sample> {
    vec![
        Sample::new(
            "createOrganization",
            |rows| json!({ "name": "New", "slug": rows.new_slug() }),
            |_| without_project("organization.created"),
        ),
        Sample::new(
            "updateOrganization",
            |rows| json!({ "id": rows.id("organization"), "name": "Renamed" }),
            |_| without_project("organization.updated"),
        )
        .changing(|_| json!([change("name", "Organization", "Renamed")])),
        Sample::new(
            "archiveOrganization",
            |rows| json!({ "id": rows.id("organization") }),
            |_| without_project("organization.updated"),
        ),
        Sample::new(
            "unarchiveOrganization",
            |rows| json!({ "id": rows.id("archived_organization") }),
            |_| without_project("organization.updated"),
        ),
        Sample::new(
            "deleteOrganization",
            |rows| json!({ "id": rows.id("spare_organization") }),
            |_| without_project("organization.deleted"),
        ),
    ]
}

fn rejected_inputs(world: &World) -> Vec<Rejected> {
    let id = &world.id("organization");
    vec![
        rejected(
            Owner,
            "createOrganization",
            json!({ "name": "" }),
            &[("REQUIRED", "name")],
        ),
        rejected(
            Owner,
            "createOrganization",
            json!({ "name": "", "slug": "" }),
            &[("REQUIRED", "name"), ("REQUIRED", "slug")],
        ),
        rejected(
            Owner,
            "createOrganization",
            json!({ "name": "n".repeat(121), "slug": "s" }),
            &[("TOO_LONG", "name")],
        ),
        rejected(
            Owner,
            "createOrganization",
            json!({ "name": "n", "slug": "日本" }),
            &[("INVALID", "slug")],
        ),
        rejected(
            Owner,
            "createOrganization",
            json!({ "name": "n", "slug": "-a" }),
            &[("INVALID", "slug")],
        ),
        rejected(
            Owner,
            "createOrganization",
            json!({ "name": "n", "slug": "s".repeat(64) }),
            &[("TOO_LONG", "slug")],
        ),
        rejected(
            Owner,
            "createOrganization",
            json!({ "name": "n", "slug": format!("used-{}", world.rows.unique.to_lowercase()) }),
            &[("ALREADY_EXISTS", "slug")],
        ),
        rejected(
            Viewer,
            "createOrganization",
            json!({ "name": "n" }),
            &[("FORBIDDEN", "")],
        ),
        rejected(
            Owner,
            "updateOrganization",
            json!({ "id": id, "slug": "Upper" }),
            &[("INVALID", "slug")],
        ),
        rejected(
            Viewer,
            "updateOrganization",
            json!({ "id": id, "name": "n" }),
            &[("FORBIDDEN", "")],
        ),
        rejected(
            Owner,
            "deleteOrganization",
            json!({ "id": id }),
            &[("INVALID_STATE", "id")],
        ),
        rejected(
            Viewer,
            "deleteOrganization",
            json!({ "id": id }),
            &[("FORBIDDEN", "")],
        ),
    ]
}
