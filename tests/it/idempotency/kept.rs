//! What the service keeps of a request with a key: how much, for whom, and where it must not appear.

use macro_rules_attribute::apply;
use palisade::auth::role::UserRole;
use serde_json::{Value, json};

use super::{count, is_replayed, with_key};
use crate::{
    create,
    harness::{Caller, Reply, Tenant, attempt, eventually, palisade_test, scratch, user_errors},
};

/// Creates a project with ten comments of 10,000 characters.
async fn project_with_long_comments(owner: &Caller) -> String {
    let organization = create::organization(owner).await;
    let project = create::project(owner, &organization).await;
    for _ in 0..10 {
        let input = json!({ "subjectId": project, "body": "長".repeat(10_000) });
        owner.mutate_ok("createComment", input, "").await;
    }
    project
}

/// Sends `updateProject` with a key, and selects this number of aliases of the body of each comment.
async fn update(caller: &Caller, input: &Value, key: &str, aliases: usize) -> Reply {
    let bodies: Vec<String> = (0..aliases).map(|n| format!("b{n}: body")).collect();
    let document = format!(
        "mutation ($input: UpdateProjectInput!) {{ updateProject(input: $input) {{
            project {{ version comments(first: 100) {{ nodes {{ id {} }} }} }} userErrors {{ code field message }} }} }}",
        bodies.join(" ")
    );
    let variables = json!({ "input": input });
    caller
        .send(&document, &variables, &[("idempotency-key", key)])
        .await
}

/// The result of a query about the idempotency keys of the tenant, as a superuser.
async fn about_keys(tenant: &Tenant, expression: &str) -> i64 {
    let sql = format!("select {expression} from idempotency_keys where tenant_id = $1");
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
        .bind(tenant.id)
        .fetch_one(&mut tenant.app.connect("postgres").await)
        .await
        .unwrap()
}

/// Inserts keys of a user that were used one second after the other, the last of them `age` ago. Each response counts
/// `kept_bytes`.
async fn insert_keys(tenant: &Tenant, role: UserRole, keys: i32, kept_bytes: i32, age: &str) {
    sqlx::query(
        "insert into idempotency_keys
            (tenant_id, id, user_id, request, is_executed, response, kept_bytes, created_at)
         select $1, gen_random_uuid(), $2, sha256('x'), true, 'x', $4, now() - $5::interval - make_interval(secs => n)
         from generate_series(1, $3) as n",
    )
    .bind(tenant.id)
    .bind(tenant.caller(role).user)
    .bind(keys)
    .bind(kept_bytes)
    .bind(age)
    .execute(&mut tenant.app.connect("postgres").await)
    .await
    .unwrap();
}

#[apply(palisade_test)]
async fn a_rejected_mutation_of_a_viewer_keeps_nothing(acme: Tenant) {
    let project = project_with_long_comments(acme.owner()).await;
    for (input, code) in [
        (
            json!({ "id": project, "ifVersion": 999_999, "name": "x" }),
            "CONFLICT",
        ),
        (json!({ "id": project, "name": "" }), "REQUIRED"),
    ] {
        for role in [UserRole::Viewer, UserRole::Owner] {
            for _ in 0..2 {
                let reply = update(acme.caller(role), &input, "key", 10).await;
                assert!(!is_replayed(&reply));
                let response = reply.response();
                let payload = &response.data()["updateProject"];
                let errors = user_errors(payload);
                assert!(errors.iter().any(|(found, _)| *found == code), "{errors:?}");
                assert_eq!(count(&acme, "idempotency_keys").await, 0, "{role:?}");
            }
        }
    }
    // Also if several root fields were rejected, after the first of which the transaction begins again.
    let document = "mutation { a: createOrganization(input: { name: \"\" }) { userErrors { code } }
        b: deleteProject(input: { id: \"prj_00000000000000000000000000000000\" }) { userErrors { code } } }";
    let headers = [("idempotency-key", "several")];
    let reply = acme.owner().send(document, &json!({}), &headers).await;
    reply.response().data();
    assert_eq!(count(&acme, "idempotency_keys").await, 0);
}

#[apply(palisade_test)]
async fn a_mutation_that_writes_no_row_keeps_nothing(acme: Tenant) {
    let project = project_with_long_comments(acme.owner()).await;
    let input = json!({ "id": project });
    for role in [UserRole::Viewer, UserRole::Owner] {
        let caller = acme.caller(role);
        let first = update(caller, &input, "key", 10).await;
        assert_eq!(user_errors(&first.response().data()["updateProject"]), []);
        assert_eq!(count(&acme, "idempotency_keys").await, 0, "{role:?}");
        let again = update(caller, &input, "key", 10).await;
        assert!(!is_replayed(&again));
        assert_eq!(again.data_text(), first.data_text());
    }
}

#[apply(palisade_test)]
async fn a_long_response_is_not_kept_and_its_request_runs_once(acme: Tenant) {
    let owner = acme.owner();
    let project = project_with_long_comments(owner).await;
    let input = json!({ "id": project, "name": "Renamed" });
    let first = update(owner, &input, "key", 1).await;
    assert!(first.text.len() > 300_000, "{}", first.text.len());
    assert_eq!(
        first.response().data()["updateProject"]["project"]["version"],
        2
    );
    assert_eq!(count(&acme, "idempotency_keys").await, 1);
    assert_eq!(
        about_keys(
            &acme,
            "sum(coalesce(length(response), 0) + kept_bytes)::bigint"
        )
        .await,
        0
    );
    for _ in 0..2 {
        let again = update(owner, &input, "key", 1).await;
        assert!(!is_replayed(&again));
        let response = again.response();
        assert_eq!(response.code(), "RESPONSE_NOT_KEPT", "{}", response.body);
        assert_eq!(response.body["data"], Value::Null);
    }
    let version = create::read(owner, "project", &project, "version").await;
    assert_eq!(version["version"], 2, "the request ran once");
    // The key still belongs to this request.
    let other = json!({ "id": project, "name": "Other" });
    let reply = update(owner, &other, "key", 1).await;
    assert_eq!(reply.response().code(), "IDEMPOTENCY_MISMATCH");
    // A shorter response is kept.
    let input = json!({ "id": project, "name": "Again" });
    let first = update(owner, &input, "short", 0).await;
    let again = update(owner, &input, "short", 0).await;
    assert!(is_replayed(&again));
    assert_eq!(again.data_text(), first.data_text());
}

#[apply(palisade_test)]
async fn a_key_is_rejected_after_a_change_of_the_role(acme: Tenant) {
    let (owner, admin) = (acme.owner(), acme.caller(UserRole::Admin));
    let organization = create::organization(admin).await;
    let document =
        "mutation ($id: ID!) { updateOrganization(input: { id: $id, name: \"Renamed\" }) {
        organization { auditLogs { nodes { action } } } userErrors { code } } }";
    let variables = json!({ "id": organization });
    let headers = [("idempotency-key", "key")];
    let first = admin.send(document, &variables, &headers).await;
    assert!(
        first.text.contains("organization.updated"),
        "{}",
        first.text
    );
    let again = admin.send(document, &variables, &headers).await;
    assert!(is_replayed(&again));

    let input = json!({ "id": admin.user.to_string(), "role": "VIEWER" });
    owner.mutate_ok("changeUserRole", input, "").await;
    eventually("the service knows the new role", async || {
        let response = admin.query("{ viewer { role } }").await;
        response.data()["viewer"]["role"] == "VIEWER"
    })
    .await;
    let reply = admin.send(document, &variables, &headers).await;
    let response = reply.response();
    assert!(!is_replayed(&reply));
    assert_eq!(response.code(), "IDEMPOTENCY_MISMATCH", "{}", response.body);
    assert!(!reply.text.contains("organization.updated"));
}

const MIB: i64 = 1024 * 1024;

#[apply(palisade_test)]
async fn the_oldest_responses_of_a_user_and_of_a_tenant_are_removed(acme: Tenant) {
    let limit = async || {
        let mut sql = acme.begin_as(UserRole::Viewer).await.0;
        let removed: i32 = sqlx::query_scalar("select app.limit_kept_responses()")
            .fetch_one(&mut sql)
            .await
            .unwrap();
        removed
    };
    // Exactly the limit of one user: 256 responses of 64 KiB.
    insert_keys(&acme, UserRole::Owner, 256, 65_536, "2 hours").await;
    assert_eq!(limit().await, 0);
    insert_keys(&acme, UserRole::Owner, 10, 65_536, "1 hour").await;
    assert_eq!(limit().await, 10);
    assert_eq!(about_keys(&acme, "sum(kept_bytes)").await, 16 * MIB);
    let newest =
        "count(*) filter (where created_at > now() - interval '90 minutes' and kept_bytes > 0)";
    assert_eq!(about_keys(&acme, newest).await, 10);
    assert_eq!(limit().await, 0);
    // Four users with 16 MiB each are the limit of the tenant. The newest responses are those of the fifth.
    for role in [UserRole::Admin, UserRole::Member, UserRole::Billing] {
        insert_keys(&acme, role, 256, 65_536, "1 hour").await;
    }
    assert_eq!(limit().await, 0);
    insert_keys(&acme, UserRole::Viewer, 20, 65_536, "1 minute").await;
    assert_eq!(limit().await, 20);
    assert_eq!(about_keys(&acme, "sum(kept_bytes)").await, 64 * MIB);
    // The keys stay.
    assert_eq!(count(&acme, "idempotency_keys").await, 266 + 3 * 256 + 20);
    // Expired keys of all users are deleted.
    insert_keys(&acme, UserRole::Member, 30, 1_024, "25 hours").await;
    limit().await;
    assert_eq!(count(&acme, "idempotency_keys").await, 266 + 3 * 256 + 20);
}

#[apply(palisade_test)]
async fn requests_with_keys_enforce_the_limit_of_their_user(acme: Tenant) {
    let owner = acme.owner();
    let organization = create::organization(owner).await;
    let project = create::project(owner, &organization).await;
    for _ in 0..3 {
        let input = json!({ "subjectId": project, "body": "b".repeat(10_000) });
        owner.mutate_ok("createComment", input, "").await;
    }
    // The first key will be the oldest.
    let first = json!({ "id": project, "name": "first" });
    update(owner, &first, "first", 1).await.response().data();
    insert_keys(&acme, UserRole::Owner, 400, 65_536, "0 s").await;
    let make_oldest = "update idempotency_keys set created_at = created_at - interval '1 hour' where tenant_id = $1 and kept_bytes < 65536";
    sqlx::query(make_oldest)
        .bind(acme.id)
        .execute(&mut acme.app.connect("postgres").await)
        .await
        .unwrap();
    // A response of 60 KB enforces the limits in one case of 17.
    let mut sent = 0;
    while about_keys(&acme, "sum(kept_bytes)").await > 16 * MIB {
        sent += 1;
        assert!(sent < 1_000, "the limit is never enforced");
        let input = json!({ "id": project, "name": format!("n{sent}") });
        let reply = update(owner, &input, &format!("key {sent}"), 2).await;
        reply.response().data();
    }
    assert_eq!(count(&acme, "idempotency_keys").await, 401 + sent);
    // The oldest key lost its response, and its request still runs once.
    let reply = update(owner, &first, "first", 1).await;
    assert_eq!(reply.response().code(), "RESPONSE_NOT_KEPT");
    let project = create::read(owner, "project", &project, "name").await;
    assert_eq!(project["name"], format!("n{sent}"));
}

#[apply(palisade_test)]
async fn a_user_has_a_limited_number_of_keys(acme: Tenant) {
    let owner = acme.owner();
    let input = json!({ "name": "First" });
    let first = with_key(owner, "createOrganization", &input, "first").await;
    first.response().data();
    insert_keys(&acme, UserRole::Owner, 10_000, 1_024, "10 minutes").await;
    let second = json!({ "name": "n" });
    let rejected = with_key(owner, "createOrganization", &second, "second").await;
    assert_eq!(rejected.status, 429, "{}", rejected.text);
    assert_eq!(rejected.response().code(), "RATE_LIMITED");
    assert_eq!(rejected.response().body["data"], Value::Null);
    // The oldest key was used 10,000 seconds and 10 minutes ago.
    let wait: i32 = rejected.header("retry-after").unwrap().parse().unwrap();
    let expected = 24 * 3_600 - 10_000 - 600;
    assert!((expected - 120..=expected).contains(&wait), "{wait}");
    assert_eq!(count(&acme, "organizations").await, 1);
    // A replay and another user need no new key of this user.
    let again = with_key(owner, "createOrganization", &input, "first").await;
    assert!(is_replayed(&again));
    let member = acme.caller(UserRole::Member);
    let reply = with_key(member, "createOrganization", &input, "first").await;
    reply.response().data();
}

#[apply(palisade_test)]
async fn a_response_never_appears_in_the_log_or_the_activity_of_the_database(
    app: &'static crate::harness::TestApp,
) {
    // The commit waits, so that it can be observed and cancelled.
    let app = app
        .in_own_database(&[
            "create function public.wait_at_commit() returns trigger language plpgsql as $$ begin
                if new.name like 'Canary%' then perform pg_sleep(60); end if;
                return null;
             end $$",
            "create constraint trigger wait_at_commit after insert on organizations
             deferrable initially deferred for each row execute function public.wait_at_commit()",
        ])
        .await;
    let acme = app.tenant().await;
    let owner = acme.owner();
    let canary = format!("Canary{}", uuid::Uuid::new_v4().simple());
    let hex = base16ct::lower::encode_string(canary.as_bytes());
    let input = json!({ "name": canary });
    let sending = with_key(owner, "createOrganization", &input, "key");
    let mut superuser = app.connect("postgres").await;
    let observing = async {
        let mut seen: Vec<String> = Vec::new();
        let active = "select pid, query from pg_stat_activity where datname = current_database()
            and usename = 'palisade_app' and wait_event = 'PgSleep'";
        eventually("the commit waits", async || {
            let found: Vec<(i32, String)> = sqlx::query_as(active)
                .fetch_all(&mut superuser)
                .await
                .unwrap();
            seen.extend(found.iter().map(|(_, query)| query.clone()));
            !found.is_empty()
        })
        .await;
        let cancel = "select pg_cancel_backend(pid) from pg_stat_activity
            where datname = current_database() and wait_event = 'PgSleep'";
        attempt(&mut superuser, cancel.to_owned()).await.unwrap();
        seen
    };
    let (reply, seen) = tokio::join!(sending, observing);
    assert_eq!(reply.response().code(), "TIMEOUT", "{}", reply.text);
    for query in seen {
        let lower = query.to_lowercase();
        assert!(!query.contains(&canary) && !lower.contains(&hex), "{query}");
        assert!(
            lower.contains("commit") && !lower.contains("idempotency"),
            "{query}"
        );
    }
    let log_file = scratch("postgres").await.join("postgres.log");
    let log = std::fs::read(log_file).unwrap();
    let log = String::from_utf8_lossy(&log).to_lowercase();
    assert!(log.contains("canceling statement due to user request"));
    assert!(
        !log.contains(&hex),
        "the response is in the log as hexadecimal digits"
    );
    assert!(
        !log.contains(&canary.to_lowercase()),
        "the response is in the log"
    );
    app.drop_database().await;
}
