//! What a tenant is charged for: rows that it writes and deletes, bytes of rows and errors.

use std::time::{Duration, Instant};

use macro_rules_attribute::apply;
use palisade::{
    auth::role::UserRole,
    config::{MemorySettings, ServiceSettings, TrafficSettings},
    ids::EntityId as _,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{
    bounds::{bodies_of, comments, create_invoices, rows_left, serve},
    post, query,
};
use crate::harness::{
    Caller, ServiceOptions, TRACE, Tenant, TestApp, attempt, eventually, mutation, palisade_test,
    settings,
};
use crate::storm::{backends, patient};

const BUDGET: u64 = 1_000_000;

async fn with_budget(budget: u64) -> String {
    serve(|settings| settings.traffic.tenant_budget = budget).await
}

#[apply(palisade_test)]
async fn mutations_that_run_at_the_same_time_write_no_more_than_the_budget(tenant: Tenant) {
    let owner = tenant.owner();
    // An invoice with 500 lines costs about 274,000 rows.
    let url = with_budget(300_000).await;
    let (document, variables) = create_invoices(owner, 1, 500).await;
    let body = json!({ "query": document, "variables": variables }).to_string();
    let mut requests = JoinSet::new();
    for _ in 0..8 {
        let (url, token, body) = (url.clone(), owner.token.clone(), body.clone());
        requests.spawn(async move { post(&url, &token, &body).await.status });
    }
    let mut statuses = requests.join_all().await;
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 429, 429, 429, 429, 429, 429, 429]);
    let reply = owner.query("{ invoices(first: 1) { totalCount } }").await;
    assert_eq!(reply.data()["invoices"]["totalCount"], 1);
    let used = 300_000 - rows_left(&url, owner).await;
    assert!(used < 280_000, "the rejected requests pay little: {used}");
}

/// Deletes a project at a service with this budget. Returns the response and what it cost.
async fn delete_project(caller: &Caller, project: &str, budget: u64) -> (Value, u64) {
    let document = mutation("deleteProject", "project { id }");
    let variables = json!({ "input": { "id": project } });
    let reply = caller.send(&document, &variables, &[(TRACE, "1")]).await;
    let used = budget - rows_left(&caller.url, caller).await;
    (reply.response().body, used)
}

#[apply(palisade_test)]
async fn a_deletion_deletes_a_bounded_number_of_rows_in_one_statement(tenant: Tenant) {
    let project = comments(&tenant, 2_001, "'text'").await;
    let caller = tenant.owner().at(&with_budget(BUDGET).await);
    let (body, used) = delete_project(&caller, &project, BUDGET).await;
    assert_eq!(
        body["data"]["deleteProject"]["project"]["id"],
        json!(project)
    );
    let statements = body["extensions"]["palisade"]["statements"].as_array();
    let rows: Vec<u64> = statements
        .unwrap()
        .iter()
        .filter(|one| {
            one["sql"]
                .as_str()
                .unwrap()
                .starts_with("DELETE FROM \"comments\"")
        })
        .map(|one| one["rows"].as_u64().unwrap())
        .collect();
    assert_eq!(rows, [500, 500, 500, 500, 2, 0]);
    assert!(used > 2_003 * 400 - 50_000, "{used}");
}

#[apply(palisade_test)]
async fn a_deletion_that_fails_is_charged_for_the_rows_that_it_deleted(tenant: Tenant) {
    let project = comments(&tenant, 1_200, "'text'").await;
    let caller = tenant.owner().at(&with_budget(BUDGET).await);
    let mut holder = tenant.begin().await.0;
    // The statement that reaches this row waits until its time limit.
    let lock = "begin; select from comments order by id desc limit 1 for update";
    attempt(&mut holder, lock.to_owned()).await.unwrap();
    let (body, used) = delete_project(&caller, &project, BUDGET).await;
    assert_eq!(body["errors"][0]["extensions"]["code"], "TIMEOUT", "{body}");
    // 500 rows at least, for 400 each. The wait of 2 s costs 39,000.
    assert!(used > 500 * 400 - 40_000, "{used}");
}

#[apply(palisade_test)]
async fn a_small_deletion_takes_one_statement(tenant: Tenant) {
    let project = comments(&tenant, 3, "'text'").await;
    // A small budget regains little until it is read.
    let caller = tenant.owner().at(&with_budget(10_000).await);
    let (body, used) = delete_project(&caller, &project, 10_000).await;
    let statements = body["extensions"]["palisade"]["statements"].as_array();
    assert_eq!(statements.unwrap().len(), 2, "{body}");
    // Four comments and the project.
    assert!((1_950..2_200).contains(&used), "{used}");
}

/// A document whose errors are much longer than itself: each of its 20 operations uses an undefined variable with a long
/// name.
fn document_with_long_errors() -> String {
    let variable = "v".repeat(5_000);
    let operations = (0..20).map(|number| format!("query q{number} {{ ...F }} "));
    format!(
        "{} fragment F on Query {{ project(id: ${variable}) {{ id }} }}",
        operations.collect::<String>()
    )
}

#[apply(palisade_test)]
async fn the_errors_of_a_rejected_document_are_charged(tenant: Tenant) {
    const SMALL: u64 = 1_000;
    let url = with_budget(SMALL).await;
    let body = json!({ "query": document_with_long_errors(), "operationName": "q0" }).to_string();
    let reply = post(&url, &tenant.owner().token, &body).await;
    assert_eq!(reply.code(), "GRAPHQL_VALIDATION_FAILED", "{}", reply.text);
    assert!(reply.text.len() > 100_000, "{}", reply.text.len());
    let used = SMALL - rows_left(&url, tenant.owner()).await;
    let kib = body.len() as u64 / 1024;
    let response = reply.text.len() as u64 / 2048;
    // A row for each KiB of the body, 16 for each KiB that was parsed, and one for 2 KiB of the response.
    let expected = kib + 16 * kib + response;
    assert!(
        (expected - 5..expected + 50).contains(&used),
        "{used}, {expected}"
    );
}

#[apply(palisade_test)]
async fn the_errors_of_rejected_documents_take_a_bounded_amount_of_memory(tenant: Tenant) {
    let url = serve(|settings| {
        settings.pool.acquire_timeout = Duration::from_millis(200);
        settings.memory.max_response_bytes = 64 * 1024;
    })
    .await;
    let token = &tenant.owner().token;
    let body = json!({ "query": document_with_long_errors(), "operationName": "q0" }).to_string();
    let reply = post(&url, token, &body).await;
    assert_eq!((reply.status, reply.code().as_str()), (503, "UNAVAILABLE"));
    assert_eq!(
        query(&url, token, "{ nothing }").await.code(),
        "GRAPHQL_VALIDATION_FAILED"
    );
}

#[apply(palisade_test)]
async fn the_bytes_of_rows_that_a_mutation_returns_are_counted(tenant: Tenant) {
    let project = comments(&tenant, 1, "repeat('🦀', 10000)").await;
    let page = tenant.owner().query(&bodies_of(&project, "id")).await;
    let comment = page.data()["project"]["comments"]["nodes"][0]["id"].clone();
    let url = serve(|settings| {
        settings.memory = MemorySettings {
            max_fetched_bytes: 16 * 1024,
            ..MemorySettings::default()
        };
    })
    .await;
    let delete = json!({ "input": { "id": comment } });
    let document = mutation("deleteComment", "comment { id }");
    let caller = tenant.owner().at(&url);
    let reply = caller.send(&document, &delete, &[]).await;
    assert_eq!(
        reply.response().code(),
        "QUERY_TOO_COMPLEX",
        "{}",
        reply.text
    );
    // Nothing was deleted.
    let page = tenant.owner().query(&bodies_of(&project, "id")).await;
    let nodes = page.data()["project"]["comments"]["nodes"].as_array();
    assert_eq!(nodes.unwrap().len(), 2);
}

#[apply(palisade_test)]
async fn an_operation_that_fetches_too_much_keeps_its_connection(app: &'static TestApp) {
    // A separate database, so that the test can list its connections.
    let app = app.in_own_database(&[]).await;
    let tenant = app.tenant().await;
    let project = comments(&tenant, 100, "repeat('🦀', 10000)").await;
    let limited = ServiceSettings {
        memory: MemorySettings {
            max_fetched_bytes: 128 * 1024,
            ..MemorySettings::default()
        },
        ..settings(ServiceOptions::default())
    };
    let url = app.serve_with(&app.database, limited).await;
    let caller = tenant.owner().at(&url);
    let mut superuser = app.connect("postgres").await;
    let mut connections = async || -> Vec<i32> {
        let list = "select pid from pg_stat_activity
                    where datname = current_database() and usename = 'palisade_app' order by pid";
        sqlx::query_scalar(list)
            .fetch_all(&mut superuser)
            .await
            .unwrap()
    };
    let count =
        format!("{{ project(id: \"{project}\") {{ comments(first: 1) {{ totalCount }} }} }}");
    caller.query(&count).await.data();
    let before = connections().await;
    for _ in 0..5 {
        let response = caller.query(&bodies_of(&project, "body")).await;
        assert_eq!(response.code(), "QUERY_TOO_COMPLEX", "{}", response.body);
        let response = caller.query(&count).await;
        assert_eq!(response.data()["project"]["comments"]["totalCount"], 101);
    }
    // A connection for cancellations may have been added.
    let after = connections().await;
    assert!(before.iter().all(|pid| after.contains(pid)), "{after:?}");
    app.drop_database().await;
}

#[apply(palisade_test)]
async fn mutations_that_wait_for_an_exclusive_one_take_a_bounded_number_of_connections() {
    let app = patient().await;
    let (busy, other) = (app.tenant().await, app.tenant().await);
    let limited = ServiceSettings {
        traffic: TrafficSettings {
            tenant_slots: Some(2),
            tenant_budget: BUDGET,
            ..TrafficSettings::default()
        },
        ..settings(ServiceOptions::default())
    };
    let url = app.serve_with(&app.database, limited).await;
    let mut holder = app.connect("postgres").await;
    // The lock of an exclusive mutation.
    let lock = format!(
        "select pg_advisory_lock(hashtextextended('palisade writes {}', 0))",
        busy.id.uuid()
    );
    attempt(&mut holder, lock).await.unwrap();
    let document = mutation("createOrganization", "organization { id }");
    let mut requests = JoinSet::new();
    for number in 0..6 {
        let role = [UserRole::Owner, UserRole::Admin, UserRole::Member][number % 3];
        let (caller, document) = (busy.caller(role).at(&url), document.clone());
        let input = json!({ "input": { "name": "Waits", "slug": format!("waits-{number}") } });
        requests.spawn(async move { caller.send(&document, &input, &[]).await.response() });
    }
    let mut superuser = app.connect("postgres").await;
    let waiting = "wait_event = 'advisory'";
    let began = Instant::now();
    eventually("both slots of the tenant wait for 500 ms", async || {
        let count = backends(&mut superuser, waiting).await;
        assert!(count <= 2, "{count} wait");
        count == 2 && began.elapsed() > Duration::from_millis(500)
    })
    .await;
    let input = json!({ "input": { "name": "Runs", "slug": "runs" } });
    let modest = other.owner().at(&url);
    modest.send(&document, &input, &[]).await.response().data();
    attempt(&mut holder, "select pg_advisory_unlock_all()".to_owned())
        .await
        .unwrap();
    while let Some(response) = requests.join_next().await {
        let response = response.unwrap();
        assert_eq!(
            response.data()["createOrganization"]["userErrors"],
            json!([])
        );
    }
    // Six rows and their arguments. Waiting for the other mutation is not the work of these.
    let used = BUDGET - rows_left(&url, &busy.owner().at(&url)).await;
    assert!(used < 8_000, "{used}");
}
