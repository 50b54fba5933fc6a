//! A tenant always has an owner, and cannot choose the identity of its users.

use std::fmt::Display;

use macro_rules_attribute::apply;
use palisade::{auth::role::UserRole, ids::EntityId as _};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{ROLES, outcome};
use crate::harness::{
    Caller, Response, Tenant, TestApp, attempt, eventually, palisade_test, user_errors,
};

/// The statements that remove an owner: by a change of the role or the status, or by deletion.
const ENDS: [fn(&dyn Display) -> String; 3] = [
    |user| format!("update users set role = 'MEMBER' where id = '{user}'"),
    |user| format!("update users set status = 'DEACTIVATED' where id = '{user}'"),
    |user| format!("delete from users where id = '{user}'"),
];

async fn new_owner(sql: &mut PgConnection, status: &str) -> Uuid {
    let id = Uuid::now_v7();
    let insert = format!(
        "insert into users (id, email, role, status) values ('{id}', '{id}@example.com', 'OWNER', '{status}')"
    );
    assert_eq!(attempt(sql, insert).await, Ok(1));
    id
}

async fn demote(caller: &Caller, whom: impl Display) -> Response {
    let document = "mutation ($id: ID!) { changeUserRole(input: { id: $id, role: MEMBER }) {
        user { role } userErrors { code field } } }";
    let response = caller.graphql(document, json!({ "id": whom.to_string() }));
    response.await
}

fn rejected() -> Result<u64, String> {
    Err("23514".to_owned())
}

#[apply(palisade_test)]
async fn the_last_active_owner_is_neither_demoted_nor_deactivated_nor_deleted(acme: Tenant) {
    let owner = acme.owner();
    let mut sql = acme.begin().await.0;
    let mut admin = acme.connect_as("palisade_admin", UserRole::Owner).await.0;
    // Neither an invited nor a deactivated owner can sign in.
    new_owner(&mut sql, "INVITED").await;
    new_owner(&mut sql, "DEACTIVATED").await;
    let before = acme.everything().await;
    for end in ENDS {
        let end = end(&owner.user.uuid());
        for connection in [&mut sql, &mut admin] {
            assert_eq!(attempt(connection, end.clone()).await, rejected(), "{end}");
        }
    }
    let expected = [("INVALID_STATE", "input.id".to_owned())];
    let id = owner.user.to_string();
    let demotion = json!({ "id": id, "role": "ADMIN" });
    let payload = owner.mutate("changeUserRole", demotion, "").await;
    assert_eq!(user_errors(&payload), expected);
    let payload = owner
        .mutate("deactivateUser", json!({ "id": id }), "")
        .await;
    assert_eq!(user_errors(&payload), expected);
    assert_eq!(acme.everything().await, before);

    // One of two owners can be removed, but one statement cannot remove both.
    let second = new_owner(&mut sql, "ACTIVE").await;
    for end in [
        "update users set role = 'MEMBER'",
        "update users set status = 'INVITED'",
    ] {
        let both = format!("{end} where role = 'OWNER'");
        assert_eq!(attempt(&mut sql, both.clone()).await, rejected(), "{both}");
    }
    assert_eq!(
        attempt(
            &mut sql,
            "delete from users where role = 'OWNER'".to_owned()
        )
        .await,
        rejected()
    );
    assert_eq!(attempt(&mut sql, ENDS[0](&second)).await, Ok(1));
    assert_eq!(
        attempt(&mut sql, ENDS[0](&owner.user.uuid())).await,
        rejected()
    );

    // A tenant that is being deleted may lose its last owner.
    let deleting = format!(
        "update tenants set status = 'DELETING' where id = '{}'",
        acme.id.uuid()
    );
    assert_eq!(attempt(&mut admin, deleting).await, Ok(1));
    assert_eq!(attempt(&mut sql, ENDS[2](&owner.user.uuid())).await, Ok(1));
}

#[apply(palisade_test)]
async fn two_owners_who_remove_each_other_concurrently_leave_one(app: &'static TestApp) {
    let mut watcher = app.connect("postgres").await;
    for one_end in ENDS {
        for other_end in ENDS {
            let acme = app.tenant().await;
            let (mut one, mut other) = (acme.begin().await.0, acme.begin().await.0);
            let second = new_owner(&mut one, "ACTIVE").await;
            let other_pid: i32 = sqlx::query_scalar("select pg_backend_pid()")
                .fetch_one(&mut other)
                .await
                .unwrap();
            for connection in [&mut one, &mut other] {
                attempt(connection, "begin".to_owned()).await.unwrap();
            }
            let first = acme.owner().user.uuid();
            assert_eq!(attempt(&mut one, one_end(&second)).await, Ok(1));
            let commit = async {
                // Commit the first transaction only when the second one waits for it.
                eventually("the second owner waits for the first", async || {
                    let waits =
                        "select exists (select from pg_locks where pid = $1 and not granted)";
                    sqlx::query_scalar(waits)
                        .bind(other_pid)
                        .fetch_one(&mut watcher)
                        .await
                        .unwrap()
                })
                .await;
                attempt(&mut one, "commit".to_owned()).await
            };
            let (ended, committed) = tokio::join!(attempt(&mut other, other_end(&first)), commit);
            assert_eq!((ended, committed), (rejected(), Ok(0)));
            attempt(&mut other, "rollback".to_owned()).await.unwrap();
            let left: Vec<Uuid> = sqlx::query_scalar(
                "select id from users where role = 'OWNER' and status = 'ACTIVE'",
            )
            .fetch_all(&mut other)
            .await
            .unwrap();
            assert_eq!(left, [first]);
        }
    }
}

#[apply(palisade_test)]
async fn two_owners_who_demote_each_other_through_the_api_leave_one(app: &'static TestApp) {
    let globex = app.tenant().await;
    for _ in 0..8 {
        let acme = app.tenant().await;
        let (one, other) = (
            acme.owner(),
            acme.share_member_with(&globex, UserRole::Owner).await,
        );
        let (first, second) = tokio::join!(demote(one, other.user), demote(&other, one.user));
        let outcomes = [&first, &second].map(|response| outcome(response, "changeUserRole"));
        let done = outcomes.iter().filter(|outcome| *outcome == "ok").count();
        assert_eq!(done, 1, "{} {}", first.body, second.body);
        // When the second mutation runs, its caller may no longer be an owner.
        let is_refusal = |of: &String| matches!(of.as_str(), "INVALID_STATE" | "FORBIDDEN" | "ok");
        assert!(outcomes.iter().all(is_refusal), "{outcomes:?}");
        let mut sql = acme.begin().await.0;
        let left: i64 = sqlx::query_scalar("select count(*) from users where role = 'OWNER'")
            .fetch_one(&mut sql)
            .await
            .unwrap();
        assert_eq!(left, 1);
    }
}

#[apply(palisade_test)]
async fn no_role_of_a_tenant_chooses_the_identity_of_its_users(app: &'static TestApp) {
    let (acme, globex) = (app.tenant().await, app.tenant().await);
    let mut admin = globex.connect_as("palisade_admin", UserRole::Owner).await.0;
    let other_identity: Uuid =
        sqlx::query_scalar("select identity_id from users where tenant_id = $1 and role = 'OWNER'")
            .bind(globex.id.uuid())
            .fetch_one(&mut admin)
            .await
            .unwrap();
    let before = acme.everything().await;
    for role in ROLES {
        let me = acme.caller(role).user.uuid();
        let mut sql = acme.begin_as(role).await.0;
        for choice in [
            format!(
                "insert into users (id, email, identity_id)
                 values (app.uuid_v7(), 'new@example.com', '{other_identity}')"
            ),
            format!("update users set identity_id = '{other_identity}' where id = '{me}'"),
            format!("update users set identity_id = null where id = '{me}'"),
            // The inserted row has no identity, but the conflict clause sets one.
            format!(
                "insert into users (id, email) values ('{me}', 'other@example.com')
                 on conflict (tenant_id, id) do update set identity_id = '{other_identity}'"
            ),
        ] {
            let done = attempt(&mut sql, choice.clone()).await;
            assert_eq!(done, Err("42501".to_owned()), "{}: {choice}", role.as_str());
        }
    }
    assert_eq!(acme.everything().await, before);
}
