//! The SQL functions with which migrations protect a table, applied to tables of these tests.

use std::{fs, path::Path};

use macro_rules_attribute::apply;
use palisade::{auth::role::UserRole, ids::EntityId as _};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::harness::{Tenant, TestApp, attempt, palisade_test};

/// Creates and protects two tables: shifts, which belong to a project and to a user, and notes about shifts.
const TABLES: [&str; 5] = [
    "set role palisade_owner",
    "create table shifts (
         tenant_id  uuid        not null default app.tenant_id(),
         id         uuid        not null default app.uuid_v7(),
         project_id uuid,
         user_id    uuid        not null default app.user_id(),
         minutes    integer     not null,
         rate       integer,
         version    integer     not null default 1,
         created_at timestamptz not null default now(),
         updated_at timestamptz not null default now(),
         primary key (tenant_id, id));
     create table shift_notes (
         tenant_id     uuid not null default app.tenant_id(),
         id            uuid not null default app.uuid_v7(),
         shift_id uuid,
         primary key (tenant_id, id))",
    "select app.protect('shifts', subject => 'shift', project => 'project_id', unrecorded => '{rate}')",
    "select app.protect('shift_notes', subject => 'shift_note', project_through => 'shifts', through_column => 'shift_id')",
    "select app.own_rows('shifts', 'user_id', writers => '{OWNER,ADMIN,MEMBER}',
                         update_all => '{OWNER}', delete_all => '{OWNER,ADMIN}')",
];

/// Creates a tenant in a separate database with [`TABLES`].
async fn tenant() -> Tenant {
    let app = TestApp::shared().await.in_own_database(&[]).await;
    let mut owner = app.connect("postgres").await;
    for step in TABLES {
        attempt(&mut owner, step.to_owned()).await.unwrap();
    }
    app.tenant().await
}

/// The audit log entries about a row, oldest first: action, table, project and changes.
async fn entries(sql: &mut PgConnection, subject: Uuid) -> Vec<Value> {
    let query = "select jsonb_build_array(action, subject_type, project_id, changes)
                 from audit_logs where subject_id = $1 order by id";
    let entries = sqlx::query_scalar(query).bind(subject).fetch_all(sql).await;
    entries.unwrap()
}

async fn insert(sql: &mut PgConnection, statement: String) -> Uuid {
    let row = format!("{statement} returning id");
    let id = sqlx::query_scalar(sqlx::AssertSqlSafe(row)).fetch_one(sql);
    id.await.unwrap()
}

#[apply(palisade_test)]
async fn an_entry_names_the_subject_and_the_project_that_protect_was_given() {
    let tenant = tenant().await;
    let mut sql = tenant.begin().await.0;
    let project = Uuid::now_v7();
    let row = insert(
        &mut sql,
        format!("insert into shifts (project_id, minutes, rate) values ('{project}', 5, 90)"),
    )
    .await;
    for change in [
        "set minutes = 6, rate = 91",
        "set rate = 92",
        "set minutes = minutes",
    ] {
        let update = format!("update shifts {change} where id = '{row}'");
        assert_eq!(attempt(&mut sql, update).await, Ok(1), "{change}");
    }
    let user = tenant.owner().user.uuid();
    let created = json!([
        { "field": "minutes", "before": null, "after": 5 },
        { "field": "project_id", "before": null, "after": project },
        { "field": "user_id", "before": null, "after": user },
    ]);
    let updated = json!([{ "field": "minutes", "before": 5, "after": 6 }]);
    assert_eq!(
        entries(&mut sql, row).await,
        [
            json!(["shift.created", "shifts", project, created]),
            json!(["shift.updated", "shifts", project, updated]),
            // Only the unrecorded column changed.
            json!(["shift.updated", "shifts", project, []]),
        ]
    );

    let statement = format!("insert into shift_notes (shift_id) values ('{row}')");
    let note = insert(&mut sql, statement).await;
    let detach = format!("update shift_notes set shift_id = null where id = '{note}'");
    assert_eq!(attempt(&mut sql, detach).await, Ok(1));
    let projects: Vec<Value> = entries(&mut sql, note)
        .await
        .into_iter()
        .map(|entry| json!([entry[0], entry[1], entry[2]]))
        .collect();
    assert_eq!(
        projects,
        [
            json!(["shift_note.created", "shift_notes", project]),
            json!(["shift_note.updated", "shift_notes", null]),
        ]
    );
    tenant.app.drop_database().await;
}

#[apply(palisade_test)]
async fn a_table_with_a_new_column_rejects_changes_until_its_trigger_knows_the_column() {
    let tenant = tenant().await;
    let mut owner = tenant.app.connect("palisade_owner").await;
    let add = "alter table shifts add note text,
                   add note_folded text generated always as (app.fold(note)) stored";
    attempt(&mut owner, add.to_owned()).await.unwrap();
    let mut sql = tenant.begin().await.0;
    let statement = "insert into shifts (minutes, rate, note) values (5, 90, 'Late')".to_owned();
    let change = attempt(&mut sql, statement.clone()).await;
    assert_eq!(change, Err("P0001".to_owned()));

    let again = "select app.record_changes('shifts', subject => 'shift', project => 'project_id',
                                           unrecorded => '{rate}')";
    attempt(&mut owner, again.to_owned()).await.unwrap();
    let mut sql = tenant.begin().await.0;
    let row = insert(&mut sql, statement).await;
    let created = json!([
        { "field": "minutes", "before": null, "after": 5 },
        { "field": "note", "before": null, "after": "Late" },
        { "field": "user_id", "before": null, "after": tenant.owner().user.uuid() },
    ]);
    // The entry has neither the unrecorded nor the generated column.
    assert_eq!(
        entries(&mut sql, row).await,
        [json!(["shift.created", "shifts", null, created])]
    );
    tenant.app.drop_database().await;
}

#[apply(palisade_test)]
async fn a_column_that_is_not_recorded_is_not_recorded_by_mistake_later() {
    let tenant = tenant().await;
    let mut owner = tenant.app.connect("palisade_owner").await;
    for again in [
        "select app.record_changes('shifts', subject => 'shift', project => 'project_id')",
        "select app.record_changes('shifts', subject => 'shift', unrecorded => '{minutes}')",
        "select app.record_changes('users', subject => 'user')",
    ] {
        let done = attempt(&mut owner, again.to_owned()).await;
        assert_eq!(done, Err("P0001".to_owned()), "{again}");
    }
    let mut sql = tenant.begin().await.0;
    let statement = "insert into shifts (minutes, rate) values (5, 90)".to_owned();
    let row = insert(&mut sql, statement).await;
    let entries = entries(&mut sql, row).await;
    assert!(!entries[0].to_string().contains("rate"), "{entries:?}");

    // A call with the same or more columns succeeds, and so does one for a column that no longer exists.
    for again in [
        "select app.record_changes('shifts', subject => 'shift', unrecorded => '{rate,minutes}')",
        "alter table shifts drop column rate;
         select app.record_changes('shifts', subject => 'shift', unrecorded => '{minutes}')",
        "select app.record_changes('users', subject => 'user', unrecorded => '{identity_id}')",
        "drop trigger record_change on shifts; select app.record_changes('shifts', subject => 'shift')",
    ] {
        attempt(&mut owner, again.to_owned()).await.unwrap();
    }
    tenant.app.drop_database().await;
}

#[apply(palisade_test)]
async fn own_rows_lets_a_role_write_its_own_rows_and_those_of_others_only_if_named() {
    let tenant = tenant().await;
    let project = Uuid::now_v7();
    let insert_own = format!("insert into shifts (project_id, minutes) values ('{project}', 1)");
    for (role, inserts, updates, deletes) in [
        (UserRole::Owner, true, true, true),
        (UserRole::Admin, true, false, true),
        (UserRole::Member, true, false, false),
        (UserRole::Billing, false, false, false),
        (UserRole::Viewer, false, false, false),
    ] {
        let name = role.as_str();
        let theirs = insert(&mut tenant.begin().await.0, insert_own.clone()).await;
        if role == UserRole::Owner {
            let give = format!(
                "update shifts set user_id = '{}' where id = '{theirs}'",
                tenant.caller(UserRole::Member).user.uuid()
            );
            assert_eq!(attempt(&mut tenant.begin().await.0, give).await, Ok(1));
        }
        let mut sql = tenant.begin_as(role).await.0;
        let touched = |may: bool| Ok(u64::from(may));

        let inserted = attempt(&mut sql, insert_own.clone()).await;
        let expected = if inserts {
            Ok(1)
        } else {
            Err("42501".to_owned())
        };
        assert_eq!(inserted, expected, "{name}: insert");
        let as_another = format!(
            "insert into shifts (project_id, minutes, user_id) values ('{project}', 1, '{}')",
            Uuid::now_v7()
        );
        assert_eq!(
            attempt(&mut sql, as_another).await,
            Err("42501".to_owned()),
            "{name}"
        );
        let own = format!(
            "where user_id = '{}' and project_id = '{project}'",
            tenant.caller(role).user.uuid()
        );
        let update = format!("update shifts set minutes = 2 {own}");
        assert_eq!(
            attempt(&mut sql, update).await,
            touched(inserts),
            "{name}: own"
        );
        if inserts && !updates {
            let give = format!("update shifts set user_id = '{}' {own}", Uuid::now_v7());
            assert_eq!(
                attempt(&mut sql, give).await,
                Err("42501".to_owned()),
                "{name}"
            );
        }
        let update = format!("update shifts set minutes = 3 where id = '{theirs}'");
        assert_eq!(
            attempt(&mut sql, update).await,
            touched(updates),
            "{name}: update"
        );
        let delete = format!("delete from shifts where id = '{theirs}'");
        assert_eq!(
            attempt(&mut sql, delete).await,
            touched(deletes),
            "{name}: delete"
        );
        let delete = format!("delete from shifts {own}");
        assert_eq!(
            attempt(&mut sql, delete).await,
            touched(inserts),
            "{name}: delete own"
        );
        attempt(&mut tenant.begin().await.0, "delete from shifts".to_owned())
            .await
            .unwrap();
    }
    tenant.app.drop_database().await;
}

#[apply(palisade_test)]
async fn protect_rejects_arguments_that_do_not_fit_the_table() {
    let tenant = tenant().await;
    let mut owner = tenant.app.connect("palisade_owner").await;
    let table = "create table bare (tenant_id uuid, id uuid)";
    attempt(&mut owner, table.to_owned()).await.unwrap();
    for arguments in [
        "",
        ", subject => 'bare', audited => false",
        ", subject => 'bare', project => 'project_id'",
        ", subject => 'bare', unrecorded => '{id,secret}'",
        ", subject => 'bare', project_through => 'shifts'",
        ", subject => 'bare', project_through => 'shifts', through_column => 'shift_id'",
    ] {
        let protect = format!("select app.protect('bare'{arguments})");
        let done = attempt(&mut owner, protect.clone()).await;
        assert_eq!(done, Err("P0001".to_owned()), "{protect}");
    }
    let protect = "select app.protect('bare', audited => false)";
    attempt(&mut owner, protect.to_owned()).await.unwrap();
    tenant.app.drop_database().await;
}

#[apply(palisade_test)]
async fn the_changes_of_a_user_never_show_the_identity() {
    let tenant = TestApp::shared().await.tenant().await;
    let user = tenant.caller(UserRole::Member).user;
    let mut admin = tenant.connect_as("palisade_admin", UserRole::Owner).await.0;
    let unlink = format!(
        "update users set identity_id = null where id = '{}'",
        user.uuid()
    );
    let identity: Uuid = sqlx::query_scalar("select identity_id from users where id = $1")
        .bind(user)
        .fetch_one(&mut admin)
        .await
        .unwrap();
    assert_eq!(attempt(&mut admin, unlink).await, Ok(1));
    let with_identity: i64 = sqlx::query_scalar(
        "select count(*) from audit_logs where tenant_id = $1 and to_jsonb(audit_logs)::text like '%' || $2 || '%'",
    )
    .bind(tenant.id.uuid())
    .bind(identity.to_string())
    .fetch_one(&mut admin)
    .await
    .unwrap();
    assert_eq!(
        with_identity, 0,
        "a column of an entry contains the identity"
    );
    let document = r"{ auditLogs(first: 100, filter: { subjectType: { eq: USER } }) {
        nodes { action changes { field } } } }";
    let response = tenant.owner().query(document).await;
    let logs = response.data()["auditLogs"]["nodes"].clone();
    let logs = logs.as_array().unwrap();
    let fields: Vec<&str> = logs
        .iter()
        .flat_map(|log| log["changes"].as_array().unwrap())
        .map(|change| change["field"].as_str().unwrap())
        .collect();
    assert!(fields.contains(&"email"), "{fields:?}");
    assert!(!fields.contains(&"identity_id"), "{fields:?}");
    // The audit log still records that the row changed.
    assert!(
        logs.contains(&json!({ "action": "user.updated", "changes": [] })),
        "{logs:?}"
    );
}

#[test]
fn no_migration_writes_the_context_into_a_policy_by_hand() {
    // PostgreSQL needs a sub-select here, which Citus rejects. Only `app.policy_term` writes the right form for both.
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut policies = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension() != Some("sql".as_ref())
            || path.ends_with("20261121000100_tenant_context.sql")
        {
            continue;
        }
        let sql = fs::read_to_string(&path).unwrap();
        for policy in sql.split("create policy").skip(1) {
            let policy = policy.split(';').next().unwrap();
            assert!(!policy.contains("app."), "{}: {policy}", path.display());
            policies += 1;
        }
    }
    assert!(policies > 0, "policies are created in another way");
}
