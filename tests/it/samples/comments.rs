//! Comments.

use UserRole::{Admin, Member, Owner, Viewer};
use palisade::{
    auth::role::UserRole,
    comments::Comment,
    db::{entity::Entity as _, write::Writable as _},
};
use serde_json::json;

use super::{
    Rejected, Sample, Slice, World, change, missing, rejected, the_project, without_project,
};

pub const SLICE: Slice = Slice {
    rows: ROWS,
    permission: "COMMENT",
    mutations,
    rejected: rejected_inputs,
    rules: &[(Comment::TABLE, Comment::RULES, Comment::REFERRERS)],
    inviolable: &[
        ("comments_author_fkey", "the author is the caller"),
        ("comments_one_subject", "the subject is one id"),
    ],
    ..Slice::EMPTY
};

/// The rows are inserted with the role MEMBER: a viewer may not comment, but may have done so as a member earlier.
const ROWS: &str = "
    {as the author}
    insert into comments (id, author_id, project_id, product_id, body) values
        ('{comment}', '{author}', '{project}', null, 'Comment'),
        (app.uuid_v7(), '{author}', '{discussed_project}', null, 'Comment'),
        (app.uuid_v7(), '{author}', null, '{discussed_product}', 'Comment');
";

fn mutations() -> Vec<Sample> {
    vec![
        Sample::new(
            "createComment",
            |rows| json!({ "subjectId": rows.id("project"), "body": "New" }),
            |rows| vec![("comment.created", the_project(rows))],
        ),
        Sample::new(
            "createComment",
            |rows| json!({ "subjectId": rows.id("open_invoice"), "body": "New" }),
            |rows| vec![("comment.created", the_project(rows))],
        )
        .case("on an invoice"),
        Sample::new(
            "createComment",
            |rows| json!({ "subjectId": rows.id("product"), "body": "New" }),
            |_| without_project("comment.created"),
        )
        .case("on a product"),
        Sample::new(
            "updateComment",
            |rows| json!({ "id": rows.id("comment"), "body": "Better" }),
            |rows| vec![("comment.updated", the_project(rows))],
        )
        .changing(|_| json!([change("body", "Comment", "Better")])),
        Sample::new(
            "deleteComment",
            |rows| json!({ "id": rows.id("comment") }),
            |rows| vec![("comment.deleted", the_project(rows))],
        ),
    ]
}

fn rejected_inputs(world: &World) -> Vec<Rejected> {
    vec![
        rejected(
            Owner,
            "createComment",
            json!({ "subjectId": missing("Project"), "body": "b" }),
            &[("NOT_FOUND", "subjectId")],
        ),
        rejected(
            Owner,
            "createComment",
            json!({ "subjectId": missing("Invoice"), "body": "b" }),
            &[("NOT_FOUND", "subjectId")],
        ),
        rejected(
            Owner,
            "createComment",
            json!({ "subjectId": missing("Product"), "body": "b" }),
            &[("NOT_FOUND", "subjectId")],
        ),
        rejected(
            Owner,
            "createComment",
            json!({ "subjectId": world.id("organization"), "body": "" }),
            &[("REQUIRED", "body"), ("INVALID", "subjectId")],
        ),
        rejected(
            Owner,
            "createComment",
            json!({ "subjectId": world.id("project"), "body": "b".repeat(10_001) }),
            &[("TOO_LONG", "body")],
        ),
        rejected(
            Viewer,
            "createComment",
            json!({ "subjectId": world.id("project"), "body": "b" }),
            &[("FORBIDDEN", "")],
        ),
        rejected(
            Admin,
            "updateComment",
            json!({ "id": world.id("comment"), "body": "b" }),
            &[("FORBIDDEN", "")],
        ),
        rejected(
            Member,
            "deleteComment",
            json!({ "id": world.id("comment") }),
            &[("FORBIDDEN", "")],
        ),
        rejected(
            Owner,
            "updateComment",
            json!({ "id": world.id("comment"), "body": "b", "ifVersion": 7 }),
            &[("CONFLICT", "ifVersion")],
        ),
    ]
}
