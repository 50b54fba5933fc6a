//! Projects.

use UserRole::{Owner, Viewer};
use palisade::{
    auth::role::UserRole,
    db::{entity::Entity as _, write::Writable as _},
    projects::Project,
};
use serde_json::json;

use super::{EntryProject, Rejected, Sample, Slice, World, change, missing, moved, rejected};

pub const SLICE: Slice = Slice {
    rows: ROWS,
    permission: "EDIT_RECORDS",
    mutations,
    rejected: rejected_inputs,
    rules: &[(Project::TABLE, Project::RULES, Project::REFERRERS)],
    inviolable: &[
        ("projects_archived_from_archived", "set with the status"),
        ("projects_archived_from_known", "set with the status"),
        ("projects_status_known", "an enum"),
    ],
    values: &[("projects", "archived_from", "null")],
    ..Slice::EMPTY
};

const ROWS: &str = "
    insert into projects (id, organization_id, owner_id, name, status, archived_from) values
        ('{project}', '{organization}', '{owner}', 'Project', 'ACTIVE', null),
        ('{discussed_project}', '{organization}', '{owner}', 'Discussed', 'ACTIVE', null),
        ('{spare_project}', '{organization}', '{owner}', 'Spare', 'PLANNED', null),
        ('{archived_project}', '{organization}', '{owner}', 'Archived', 'ARCHIVED', 'ON_HOLD');
";

fn mutations() -> Vec<Sample> {
    vec![
        Sample::new(
            "createProject",
            |rows| {
                json!({ "name": "New", "organizationId": rows.id("organization"),
                        "ownerId": rows.id("user"), "dueOn": "2030-01-31" })
            },
            |_| vec![("project.created", EntryProject::Itself)],
        ),
        Sample::new(
            "updateProject",
            |rows| {
                json!({ "id": rows.id("project"), "name": "Renamed",
                        "organizationId": rows.id("spare_organization"),
                        "ownerId": rows.id("owner_user") })
            },
            |_| vec![("project.updated", EntryProject::Itself)],
        )
        .changing(|rows| {
            json!([
                change("name", "Project", "Renamed"),
                moved(
                    rows,
                    "organization_id",
                    "organization",
                    "spare_organization"
                ),
                moved(rows, "owner_id", "owner", "owner_user"),
            ])
        }),
        Sample::new(
            "archiveProject",
            |rows| json!({ "id": rows.id("project") }),
            |_| vec![("project.updated", EntryProject::Itself)],
        ),
        Sample::new(
            "unarchiveProject",
            |rows| json!({ "id": rows.id("archived_project") }),
            |_| vec![("project.updated", EntryProject::Itself)],
        ),
        Sample::new(
            "deleteProject",
            |rows| json!({ "id": rows.id("discussed_project") }),
            |rows| {
                vec![
                    (
                        "comment.deleted",
                        EntryProject::Project(rows.uuid("discussed_project")),
                    ),
                    ("project.deleted", EntryProject::Itself),
                ]
            },
        ),
        Sample::new(
            "deleteProjects",
            |rows| {
                json!({ "ids": [rows.id("discussed_project"), rows.id("spare_project")],
                        "idempotencyKey": "delete these" })
            },
            |rows| {
                vec![
                    (
                        "comment.deleted",
                        EntryProject::Project(rows.uuid("discussed_project")),
                    ),
                    ("project.deleted", EntryProject::Itself),
                    ("project.deleted", EntryProject::Itself),
                ]
            },
        ),
    ]
}

fn rejected_inputs(world: &World) -> Vec<Rejected> {
    let (no_organization, no_user) = (missing("Organization"), missing("User"));
    let (organization, id) = (&world.id("organization"), &world.id("project"));
    vec![
        rejected(
            Owner,
            "createProject",
            json!({ "name": "", "organizationId": organization, "description": "d".repeat(10_001),
                        "status": "ARCHIVED" }),
            &[
                ("REQUIRED", "name"),
                ("TOO_LONG", "description"),
                ("INVALID", "status"),
            ],
        ),
        rejected(
            Owner,
            "createProject",
            // The name is a space, a tab and a no-break space.
            json!({ "name": " \t\u{a0}", "organizationId": organization }),
            &[("REQUIRED", "name")],
        ),
        rejected(
            Owner,
            "createProject",
            json!({ "name": "n", "organizationId": no_organization }),
            &[("NOT_FOUND", "organizationId")],
        ),
        rejected(
            Owner,
            "createProject",
            json!({ "name": "n", "organizationId": organization, "ownerId": no_user }),
            &[("NOT_FOUND", "ownerId")],
        ),
        rejected(
            Viewer,
            "createProject",
            json!({ "name": "n", "organizationId": organization }),
            &[("FORBIDDEN", "")],
        ),
        rejected(
            Owner,
            "updateProject",
            json!({ "id": id, "status": "ARCHIVED" }),
            &[("INVALID", "status")],
        ),
        rejected(
            Owner,
            "updateProject",
            json!({ "id": world.id("archived_project"), "status": "ACTIVE" }),
            &[("INVALID_STATE", "id")],
        ),
        rejected(
            Owner,
            "updateProject",
            json!({ "id": id, "organizationId": no_organization }),
            &[("NOT_FOUND", "organizationId")],
        ),
        rejected(
            Owner,
            "deleteProject",
            json!({ "id": id }),
            &[("INVALID_STATE", "id")],
        ),
        rejected(
            Viewer,
            "deleteProject",
            json!({ "id": id }),
            &[("FORBIDDEN", "")],
        ),
        rejected(
            Viewer,
            "deleteProjects",
            json!({ "ids": [world.id("archived_project")] }),
            &[("FORBIDDEN", "ids.0")],
        ),
        rejected(
            Owner,
            "deleteProjects",
            json!({ "ids": [world.id("archived_project")], "idempotencyKey": "\n" }),
            &[("INVALID", "idempotencyKey")],
        ),
    ]
}
