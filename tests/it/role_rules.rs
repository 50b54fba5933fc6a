//! What each role of a tenant may write. The tests use SQL, because the policies decide this and not the service.

use std::fmt::Write as _;

use macro_rules_attribute::apply;
use palisade::{auth::role::UserRole, ids::EntityId as _};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection, Row as _};
use uuid::Uuid;

use crate::harness::{
    Table, Tenant, TenantTable, TestApp, attempt, enter, insert_copy, palisade_test,
    session_context, tenant_tables,
};

const ROLES: [UserRole; 5] = [
    UserRole::Owner,
    UserRole::Admin,
    UserRole::Member,
    UserRole::Billing,
    UserRole::Viewer,
];

fn rejected<T>() -> Result<T, String> {
    Err("42501".to_owned())
}

/// Runs a statement and rolls it back. Returns the result of the statement.
async fn try_out(connection: &mut PgConnection, sql: String) -> Result<u64, String> {
    attempt(connection, "begin".to_owned()).await.unwrap();
    let done = attempt(connection, sql).await;
    attempt(connection, "rollback".to_owned()).await.unwrap();
    done
}

async fn one<T>(connection: &mut PgConnection, sql: &'static str) -> T
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

#[apply(palisade_test)]
async fn each_role_writes_the_tables_that_its_policies_name(tenant: Tenant) {
    tenant.fill(12).await;
    let mut owner = tenant.begin().await.0;
    let mut grid = format!("{:<20}{:<8}", "", "");
    for role in ROLES {
        write!(grid, "{:<8}", role.as_str()).unwrap();
    }
    for table in tenant_tables(&mut owner).await {
        let name = table.name.as_str();
        let read = Table::read(&mut owner, name).await;
        // If the owner may insert into the table, insert a row to which no other row refers.
        let id = Uuid::now_v7();
        let insert = read.insert_like_first(tenant.owner().user.uuid(), &json!({ "id": id }));
        let target = match attempt(&mut owner, insert).await {
            Ok(1) => id,
            done => {
                assert_eq!(done, rejected(), "{name}");
                sqlx::query_scalar(sqlx::AssertSqlSafe(read.first()))
                    .fetch_one(&mut owner)
                    .await
                    .unwrap()
            }
        };
        for verb in ["insert", "update", "delete"] {
            write!(grid, "\n{name:<20}{verb:<8}").unwrap();
            for role in ROLES {
                let mut sql = tenant.begin_as(role).await.0;
                let column = &table.tenant_column;
                let done = try_out(
                    &mut sql,
                    match verb {
                        "insert" => {
                            let author = tenant.caller(role).user.uuid();
                            read.insert_like_first(author, &json!({}))
                        }
                        "update" => {
                            format!("update {name} set {column} = {column} where id = '{target}'")
                        }
                        _ => format!("delete from {name} where id = '{target}'"),
                    },
                )
                .await;
                let done = done.map_or_else(|code| code, |rows| rows.to_string());
                write!(grid, "{done:<8}").unwrap();
                sql.close().await.unwrap();
            }
        }
    }
    let grid: Vec<&str> = grid.lines().map(str::trim_end).collect();
    insta::assert_snapshot!(grid.join("\n"));
}

#[apply(palisade_test)]
async fn only_its_author_changes_a_comment_and_no_user_writes_as_another(app: &'static TestApp) {
    let (acme, globex) = (app.tenant().await, app.tenant().await);
    acme.seed(1, 1).await;
    globex.seed(1, 1).await;
    let author = acme.owner().user.uuid();
    let mut own = acme.begin().await.0;
    let comments: i64 = one(&mut own, "select count(*) from comments").await;
    assert_eq!(comments, 1);

    // 1. Another user of the tenant cannot change the comment.
    for role in [
        UserRole::Admin,
        UserRole::Member,
        UserRole::Billing,
        UserRole::Viewer,
    ] {
        let mut other = acme.begin_as(role).await.0;
        let edited = try_out(&mut other, "update comments set body = 'forged'".to_owned()).await;
        assert_eq!(edited, Ok(0), "{}", role.as_str());
        // 2. Of the other users, only an owner or an admin may delete the comment.
        let deleted = try_out(&mut other, "delete from comments".to_owned()).await;
        let may_moderate = role == UserRole::Admin;
        assert_eq!(deleted, Ok(u64::from(may_moderate)), "{}", role.as_str());
        // 3. A user cannot insert a comment with another author.
        let with = json!({ "id": Uuid::now_v7(), "author_id": author });
        let forged = try_out(&mut other, insert_copy("comments", &with)).await;
        assert_eq!(forged, rejected(), "{}", role.as_str());
    }

    // 4. A user of another tenant who has the same id is not the author.
    let mut twin = globex.begin().await.0;
    let with = json!({ "id": author, "email": "twin@example.com", "identity_id": null });
    let insert = Table::read(&mut twin, "users").await;
    let insert = insert.insert_like_first(globex.owner().user.uuid(), &with);
    assert_eq!(attempt(&mut twin, insert).await, Ok(1));
    let context = session_context(globex.id, Some(author.into()), Some(UserRole::Owner));
    enter(&mut twin, &context).await;
    let edited = try_out(&mut twin, "update comments set body = 'forged'".to_owned()).await;
    assert_eq!(edited, Ok(0), "the tenant has one comment, by another user");

    // 5. The author can change neither the author nor the tenant of the comment.
    let member = acme.caller(UserRole::Member).user.uuid();
    for moved in [
        format!("update comments set author_id = '{member}'"),
        format!("update comments set tenant_id = '{}'", globex.id.uuid()),
    ] {
        assert_eq!(
            try_out(&mut own, moved.clone()).await,
            rejected(),
            "{moved}"
        );
    }
    let edited = try_out(&mut own, "update comments set body = 'better'".to_owned()).await;
    assert_eq!(edited, Ok(1), "the author can");
    assert_eq!(
        try_out(&mut own, "delete from comments".to_owned()).await,
        Ok(1)
    );
}

#[apply(palisade_test)]
async fn no_role_below_admin_changes_the_role_status_or_email_of_a_user(tenant: Tenant) {
    // A second owner, so that the rule about the last one does not apply.
    let second = "insert into users (id, email, role, status)
                  values (app.uuid_v7(), 'second@example.com', 'OWNER', 'ACTIVE')";
    let inserted = attempt(&mut tenant.begin().await.0, second.to_owned()).await;
    assert_eq!(inserted, Ok(1));
    for role in ROLES {
        let me = tenant.caller(role).user.uuid();
        let mut sql = tenant.begin_as(role).await.0;
        let manages = matches!(role, UserRole::Owner | UserRole::Admin);
        for change in [
            "role = 'ADMIN', status = 'INVITED'",
            "status = 'DEACTIVATED'",
            "email = 'new@example.com'",
        ] {
            let done = try_out(
                &mut sql,
                format!("update users set {change} where id = '{me}'"),
            )
            .await;
            let expected = if manages { Ok(1) } else { rejected() };
            assert_eq!(done, expected, "{}: {change}", role.as_str());
        }
        let without_identity = format!("update users set identity_id = null where id = '{me}'");
        assert_eq!(
            try_out(&mut sql, without_identity).await,
            rejected(),
            "{}: a tenant cannot change an identity",
            role.as_str()
        );
        let renamed = format!("update users set display_name = 'Me' where id = '{me}'");
        assert_eq!(try_out(&mut sql, renamed).await, Ok(1), "{}", role.as_str());
        let others = format!("update users set display_name = 'You' where id <> '{me}'");
        let expected = if manages { 5 } else { 0 };
        assert_eq!(
            try_out(&mut sql, others).await,
            Ok(expected),
            "{}",
            role.as_str()
        );
    }
}

#[apply(palisade_test)]
async fn only_owners_and_admins_read_the_audit_log(tenant: Tenant) {
    tenant.seed(1, 1).await;
    for role in ROLES {
        let mut sql = tenant.begin_as(role).await.0;
        let entries: i64 = one(&mut sql, "select count(*) from audit_logs").await;
        let reads = matches!(role, UserRole::Owner | UserRole::Admin);
        assert_eq!(entries > 0, reads, "{}: {entries} entries", role.as_str());
    }
}

#[apply(palisade_test)]
async fn the_lines_of_an_invoice_change_only_while_it_is_a_draft(tenant: Tenant) {
    tenant.seed(1, 1).await;
    let mut sql = tenant.begin_as(UserRole::Billing).await.0;
    let author = tenant.caller(UserRole::Billing).user.uuid();
    let lines = Table::read(&mut sql, "invoice_line_items").await;
    let insert = || lines.insert_like_first(author, &json!({}));
    let update = || "update invoice_line_items set description = 'other'".to_owned();
    let delete = || "delete from invoice_line_items".to_owned();
    assert_eq!(try_out(&mut sql, insert()).await, Ok(1));
    assert_eq!(try_out(&mut sql, update()).await, Ok(2));
    assert_eq!(try_out(&mut sql, delete()).await, Ok(2));
    let issue = "update invoices set status = 'OPEN'";
    assert_eq!(attempt(&mut sql, issue.to_owned()).await, Ok(1));
    assert_eq!(try_out(&mut sql, insert()).await, rejected());
    assert_eq!(try_out(&mut sql, update()).await, Ok(0));
    assert_eq!(try_out(&mut sql, delete()).await, Ok(0));
}

#[apply(palisade_test)]
async fn a_commented_row_is_deleted_only_with_comments_that_its_deleter_may_delete(tenant: Tenant) {
    for role in ROLES {
        let subjects = [
            ("projects", "project_id", true),
            ("products", "product_id", true),
            ("invoices", "invoice_id", !matches!(role, UserRole::Member)),
        ];
        for (table, column, may_delete) in subjects {
            let mut owner = tenant.begin().await.0;
            let (subject, comment) = (Uuid::now_v7(), Uuid::now_v7());
            for insert in [
                new_subject(table, subject),
                format!(
                    "insert into comments (id, author_id, {column}, body)
                 values ('{comment}', app.user_id(), '{subject}', 'of the owner')"
                ),
            ] {
                assert_eq!(attempt(&mut owner, insert).await, Ok(1), "{table}");
            }
            let mut sql = tenant.begin_as(role).await.0;
            let delete = format!("delete from {table} where id = '{subject}'");
            let may_moderate = matches!(role, UserRole::Owner | UserRole::Admin);
            let context = format!("{} deletes from {table}", role.as_str());

            // 1. The foreign key of the comments prevents the deletion of the row: there is no cascade.
            let may_delete = may_delete && role != UserRole::Viewer;
            let alone = if may_delete {
                Err("23503".to_owned())
            } else {
                Ok(0)
            };
            assert_eq!(try_out(&mut sql, delete.clone()).await, alone, "{context}");
            // 2. First delete the comments that the role may delete, then the row.
            let comments = format!("delete from comments where {column} = '{subject}'");
            attempt(&mut sql, "begin".to_owned()).await.unwrap();
            let gone = attempt(&mut sql, comments).await;
            assert_eq!(gone, Ok(u64::from(may_moderate)), "{context}");
            let expected = if may_moderate { Ok(1) } else { alone };
            assert_eq!(attempt(&mut sql, delete).await, expected, "{context}");
            attempt(&mut sql, "rollback".to_owned()).await.unwrap();
        }
    }
}

/// A statement that inserts a row to which comments can refer. No other row refers to it.
fn new_subject(table: &str, id: Uuid) -> String {
    let organization = Uuid::now_v7();
    let name = id.simple().to_string();
    let with_organization = |insert: &str| {
        format!(
            "with organization as (
                 insert into organizations (id, name, slug) values ('{organization}', 'One', '{name}')
                 returning id)
             {insert} from organization"
        )
    };
    match table {
        "projects" => with_organization(&format!(
            "insert into projects (id, organization_id, owner_id, name)
             select '{id}', id, app.user_id(), 'One'"
        )),
        "invoices" => with_organization(&format!(
            "insert into invoices (id, organization_id, currency) select '{id}', id, 'EUR'"
        )),
        _ => format!(
            "insert into products (id, asin) values ('{id}', '{}')",
            name[22..].to_uppercase()
        ),
    }
}

#[apply(palisade_test)]
async fn an_idempotency_key_is_visible_only_to_its_user(tenant: Tenant) {
    tenant.fill(12).await;
    for role in ROLES {
        let mut sql = tenant.begin_as(role).await.0;
        let seen: i64 = one(&mut sql, "select count(*) from idempotency_keys").await;
        assert_eq!(seen, 1, "{}", role.as_str());
        for other in ROLES.into_iter().filter(|other| *other != role) {
            let user = tenant.caller(other).user.uuid();
            for write in [
                format!(
                    "insert into idempotency_keys (id, user_id, request)
                     values (app.uuid_v7(), '{user}', sha256('one'))"
                ),
                format!("update idempotency_keys set user_id = '{user}'"),
            ] {
                let done = try_out(&mut sql, write.clone()).await;
                assert_eq!(done, rejected(), "{}: {write}", role.as_str());
            }
            let delete = format!("delete from idempotency_keys where user_id = '{user}'");
            assert_eq!(try_out(&mut sql, delete).await, Ok(0), "{}", role.as_str());
        }
    }
}

#[apply(palisade_test)]
async fn a_reference_to_another_tenants_row_fails_like_one_to_a_missing_row(app: &'static TestApp) {
    let (acme, globex) = (app.tenant().await, app.tenant().await);
    acme.fill(12).await;
    globex.fill(12).await;
    let (mut a, mut b) = (acme.begin().await.0, globex.begin().await.0);
    // Test every foreign key that starts with the tenant's id, in tables into which `palisade_app` may insert.
    let keys = sqlx::query(
        "select c.conrelid::regclass::text, a.attname::text, c.confrelid::regclass::text
         from pg_constraint c
         join pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[2]
         where c.contype = 'f' and has_table_privilege(c.conrelid, 'insert') order by 1, 2",
    )
    .fetch_all(&mut b)
    .await
    .unwrap();
    assert!(keys.len() > 5, "only {} keys", keys.len());
    for key in keys {
        let (table, column, target): (String, String, String) =
            (key.get(0), key.get(1), key.get(2));
        let first = Table::read(&mut b, &target).await.first();
        let first = || sqlx::AssertSqlSafe(format!("select {first}"));
        let theirs: Uuid = sqlx::query_scalar(first()).fetch_one(&mut a).await.unwrap();
        let own: Uuid = sqlx::query_scalar(first()).fetch_one(&mut b).await.unwrap();
        let read = Table::read(&mut b, &table).await;
        let owner = globex.owner().user.uuid();
        let mut point_to = async |row: Uuid| {
            let with = json!({ (&*column): row });
            try_out(&mut b, read.insert_like_first(owner, &with)).await
        };
        let (foreign, nowhere) = (point_to(theirs).await, point_to(Uuid::now_v7()).await);
        assert_eq!(
            foreign, nowhere,
            "{table}.{column}: reveals that the row exists"
        );
        // If a policy uses the column, the policy rejects the row before PostgreSQL checks the foreign key.
        let mut columns = read.columns.iter();
        let of_key = columns.find(|one| one.name == column).unwrap();
        let code = if of_key.is_in_insert_policy {
            "42501"
        } else {
            "23503"
        };
        assert_eq!(foreign, Err(code.to_owned()), "{table}.{column}");
        let own = if of_key.holds_caller { owner } else { own };
        assert_eq!(
            point_to(own).await,
            Ok(1),
            "{table}.{column}: the tenant is not the reason for the rejection"
        );
    }
}

#[apply(palisade_test)]
async fn unique_values_of_another_tenant_are_free_to_use(app: &'static TestApp) {
    let (acme, globex) = (app.tenant().await, app.tenant().await);
    acme.fill(12).await;
    globex.fill(12).await;
    let (mut a, mut b) = (acme.begin().await.0, globex.begin().await.0);
    let (mut tables, mut columns) = (0, 0);
    for TenantTable { name: table, .. } in tenant_tables(&mut a).await {
        let read = Table::read(&mut a, &table).await;
        let id = Uuid::now_v7();
        let owners = [&acme, &globex].map(|tenant| tenant.owner().user.uuid());
        let insert = read.insert_like_first(owners[0], &json!({ "id": id }));
        if attempt(&mut a, insert).await == rejected() {
            continue;
        }
        tables += 1;
        for column in read.unique_strings() {
            columns += 1;
            let query = format!("select {column} from {table} where id = '{id}'");
            let value: String = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
                .fetch_one(&mut a)
                .await
                .unwrap();
            let with = json!({ (column): value });
            let theirs = try_out(&mut b, read.insert_like_first(owners[1], &with)).await;
            assert_eq!(theirs, Ok(1), "{table}.{column}: reports that it is taken");
            let own = try_out(&mut a, read.insert_like_first(owners[0], &with)).await;
            assert_eq!(
                own,
                Err("23505".to_owned()),
                "{table}.{column}: is not unique in its tenant"
            );
        }
        // The same applies to the primary key: a tenant can use an id that another tenant uses.
        let same_id = read.insert_like_first(owners[1], &json!({ "id": id }));
        assert_eq!(try_out(&mut b, same_id).await, Ok(1), "{table}.id");
    }
    assert!(tables >= 8, "only {tables} tables");
    assert!(columns >= 3, "only {columns} columns");
}

#[apply(palisade_test)]
async fn the_audit_log_holds_exactly_the_fields_that_changed(tenant: Tenant) {
    let seed = tenant.seed(1, 0).await;
    let mut sql = tenant.begin_as(UserRole::Admin).await.0;
    let entries =
        "select coalesce(jsonb_agg(jsonb_build_array(action, actor_id, project_id, changes)
                       order by occurred_at, id), '[]')
                   from audit_logs where subject_id = ";
    let (project, actor) = (seed.projects[0], tenant.caller(UserRole::Admin).user.uuid());
    let log = async |sql: &mut PgConnection| -> Vec<Value> {
        let query = sqlx::AssertSqlSafe(format!("{entries}'{project}'"));
        let all: Value = sqlx::query_scalar(query).fetch_one(sql).await.unwrap();
        all.as_array().unwrap().clone()
    };
    let made = log(&mut sql).await;
    assert_eq!(made.len(), 1);
    assert_eq!(made[0][0], "project.created");
    assert_eq!(made[0][1], json!(tenant.owner().user.uuid()));
    let fields: Vec<&str> = made[0][3]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| change["field"].as_str().unwrap())
        .collect();
    assert_eq!(fields, ["name", "organization_id", "owner_id", "status"]);

    attempt(&mut sql, "update projects set name = name".to_owned())
        .await
        .unwrap();
    assert_eq!(log(&mut sql).await.len(), 1, "nothing changed");
    attempt(
        &mut sql,
        "update projects set status = 'ACTIVE', due_on = '2030-01-31'".to_owned(),
    )
    .await
    .unwrap();
    let changes = json!([
        { "field": "due_on", "before": null, "after": "2030-01-31" },
        { "field": "status", "before": "PLANNED", "after": "ACTIVE" },
    ]);
    assert_eq!(
        log(&mut sql).await[1],
        json!(["project.updated", actor, project, changes])
    );

    let undone = try_out(&mut sql, "update projects set name = 'undone'".to_owned()).await;
    assert_eq!(
        (undone, log(&mut sql).await.len()),
        (Ok(1), 2),
        "taken back with its change"
    );
    attempt(
        &mut sql,
        "delete from comments; delete from projects".to_owned(),
    )
    .await
    .unwrap();
    let deleted = &log(&mut sql).await[2];
    assert_eq!(deleted[0], "project.deleted");
    assert_eq!(deleted[3].as_array().unwrap().len(), 5);
}

#[apply(palisade_test)]
async fn a_membership_changes_and_disappears_with_its_user(tenant: Tenant) {
    let mut sql = tenant.begin().await.0;
    let member = tenant.caller(UserRole::Member).user.uuid();
    let membership = async |sql: &mut PgConnection| -> Option<(String, String)> {
        let row = sqlx::query("select role, status from memberships where id = $1")
            .bind(member)
            .fetch_optional(sql)
            .await
            .unwrap();
        row.map(|row| (row.get(0), row.get(1)))
    };
    let is = |role: &str, status: &str| Some((role.to_owned(), status.to_owned()));
    // Only palisade_admin may remove an identity.
    let mut admin = tenant.connect_as("palisade_admin", UserRole::Owner).await.0;
    assert_eq!(membership(&mut sql).await, is("MEMBER", "ACTIVE"));
    for (change, expected) in [
        ("role = 'BILLING'", is("BILLING", "ACTIVE")),
        ("status = 'DEACTIVATED'", is("BILLING", "DEACTIVATED")),
        ("display_name = 'Somebody'", is("BILLING", "DEACTIVATED")),
        ("identity_id = null", None),
    ] {
        let update = format!("update users set {change} where id = '{member}'");
        let writer = if change.starts_with("identity_id") {
            &mut admin
        } else {
            &mut sql
        };
        assert_eq!(attempt(writer, update).await, Ok(1));
        assert_eq!(membership(&mut sql).await, expected, "{change}");
    }
    let others: i64 = one(&mut sql, "select count(*) from memberships").await;
    assert_eq!(others, 4);
    let viewer = tenant.caller(UserRole::Viewer).user.uuid();
    assert_eq!(
        attempt(&mut sql, format!("delete from users where id = '{viewer}'")).await,
        Ok(1)
    );
    let others: i64 = one(&mut sql, "select count(*) from memberships").await;
    assert_eq!(others, 3, "gone with its user");
}

#[apply(palisade_test)]
async fn only_owners_appoint_and_demote_owners(acme: Tenant) {
    let attempts = [
        "update users set role = 'OWNER' where role = 'ADMIN'",
        "update users set role = 'OWNER' where role = 'MEMBER'",
        "update users set role = 'VIEWER' where role = 'OWNER'",
        "update users set status = 'DEACTIVATED' where role = 'OWNER'",
        "insert into users (id, email, role) values (app.uuid_v7(), 'new@example.com', 'OWNER')",
    ];
    let mut admin = acme.begin_as(UserRole::Admin).await;
    for sql in attempts {
        let error = sqlx::query(sql).execute(&mut admin.0).await.unwrap_err();
        let code = error
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code);
        assert_eq!(code.as_deref(), Some("42501"), "an admin could {sql}");
    }
    let gone = sqlx::query("delete from users where role = 'OWNER'")
        .execute(&mut admin.0)
        .await;
    assert_eq!(gone.unwrap().rows_affected(), 0);

    let mut owner = acme.begin().await;
    for sql in [attempts[1], attempts[4]] {
        assert_eq!(
            sqlx::query(sql)
                .execute(&mut owner.0)
                .await
                .unwrap()
                .rows_affected(),
            1
        );
    }
}
