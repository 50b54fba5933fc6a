//! The bounds of what one tenant, or one user, can take from the others: requests, slots, memory and rows.

use std::time::{Duration, Instant};

use macro_rules_attribute::apply;
use palisade::{
    auth::role::UserRole,
    config::{MemorySettings, ServiceSettings, TrafficSettings},
    metrics,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};

use super::{post, query, reply};

use crate::create;
use crate::harness::{
    Caller, ServiceOptions, Tenant, TestApp, attempt, eventually, id, lock_table, palisade_test,
    settings,
};

/// Starts a service on the shared database with changed settings. Returns its URL.
pub(super) async fn serve(change: impl FnOnce(&mut ServiceSettings)) -> String {
    let app = TestApp::shared().await;
    let mut settings = settings(ServiceOptions::default());
    change(&mut settings);
    app.serve_with(&app.database, settings).await
}

/// Writes comments on a project of the tenant, with this SQL expression as their bodies. Returns the ID of the project.
pub(super) async fn comments(tenant: &Tenant, amount: i32, body: &str) -> String {
    let seed = tenant.seed(1, 0).await;
    let sql = format!(
        "insert into comments (id, author_id, project_id, body)
         select app.uuid_v7(), app.user_id(), $1, {body} from generate_series(1, $2)"
    );
    sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(seed.projects[0])
        .bind(amount)
        .execute(&mut tenant.begin().await.0)
        .await
        .unwrap();
    id("prj", seed.projects[0])
}

pub(super) fn bodies_of(project: &str, fields: &str) -> String {
    format!(
        "{{ project(id: \"{project}\") {{ comments(first: 100) {{ nodes {{ {fields} }} }} }} }}"
    )
}

/// The rows that are left in the tenant's budget. The request has no effect on the budget.
pub(super) async fn rows_left(url: &str, caller: &Caller) -> u64 {
    let request = caller.app.client.post(url).bearer_auth(&caller.token);
    let reply = reply(request.header("content-type", "text/plain")).await;
    assert_eq!(reply.status, 415, "{}", reply.text);
    let state = reply.header("ratelimit");
    let left = state.strip_prefix(r#""rows";r="#).unwrap();
    left.split(';').next().unwrap().parse().unwrap()
}

#[apply(palisade_test)]
async fn a_rejected_document_is_charged_by_its_length(tenant: Tenant) {
    let caller = tenant.owner();
    let url = serve(|settings| settings.traffic.tenant_budget = 100_000).await;
    let before = rows_left(&url, caller).await;
    assert_eq!(before, 100_000);
    // 9,990 names: just below the limit of tokens. The schema has none of them.
    let names: Vec<String> = (0..9_990).map(|number| format!("a{number}")).collect();
    let document = format!("{{{}}}", names.join(" "));
    let rejected = query(&url, &caller.token, &document).await;
    assert_eq!(rejected.code(), "QUERY_TOO_COMPLEX");
    let after = rows_left(&url, caller).await;
    // A row for each KiB of the body, and 16 for each KiB that was parsed.
    let kib = document.len() as u64 / 1024;
    assert!(before - after > 16 * kib, "{}", before - after);

    // A document that the parser rejects is charged too, and so is an operation that fetches nothing.
    let broken = format!("{{{}", names.join(" "));
    assert_eq!(
        query(&url, &caller.token, &broken).await.code(),
        "GRAPHQL_PARSE_FAILED"
    );
    let last = rows_left(&url, caller).await;
    assert!(after - last > 10 * kib, "{}", after - last);
    query(&url, &caller.token, "{ __typename }").await;
    assert!(rows_left(&url, caller).await <= last + 100);
}

#[apply(palisade_test)]
async fn a_tenant_without_budget_is_rejected_before_its_document_is_parsed(tenant: Tenant) {
    let caller = tenant.owner();
    let url = serve(|settings| settings.traffic.tenant_budget = 20).await;
    let body = json!({ "query": "{", "padding": "x".repeat(40 * 1024) }).to_string();
    // The estimate is above the limit, which needs a full budget.
    assert_eq!(
        post(&url, &caller.token, &body).await.code(),
        "GRAPHQL_PARSE_FAILED"
    );
    let rejected = post(&url, &caller.token, &body).await;
    assert_eq!(
        (rejected.status, rejected.code().as_str()),
        (429, "RATE_LIMITED")
    );
}

#[apply(palisade_test)]
async fn a_request_waits_for_a_slot_before_its_document_is_parsed() {
    let app = TestApp::shared().await.in_own_database(&[]).await;
    let slots = ServiceSettings {
        traffic: TrafficSettings {
            tenant_slots: Some(1),
            ..TrafficSettings::default()
        },
        ..settings(ServiceOptions {
            acquire_timeout: Duration::from_millis(300),
            ..ServiceOptions::default()
        })
    };
    let tenant = app.tenant().await;
    let url = app.serve_with(&app.database, slots).await;
    let caller = tenant.owner().at(&url);
    // Known to the service before the table is locked.
    caller.query("{ viewer { role } }").await.data();
    let mut holder = lock_table(app, "projects").await;
    let running = caller.clone();
    let running = tokio::spawn(async move { running.query("{ projects { nodes { id } } }").await });
    wait_for_lock(app).await;
    let broken = query(&url, &caller.token, "{").await;
    assert_eq!(
        (broken.status, broken.code().as_str()),
        (503, "UNAVAILABLE")
    );
    assert_eq!(broken.header("retry-after"), "1");
    attempt(&mut holder, "rollback".to_owned()).await.unwrap();
    running.await.unwrap().data();
    assert_eq!(
        query(&url, &caller.token, "{").await.code(),
        "GRAPHQL_PARSE_FAILED"
    );
}

/// Waits until a statement of the service waits for a lock in this database.
async fn wait_for_lock(app: &TestApp) {
    // A connection of its own: within a transaction, PostgreSQL reports the same activity again.
    let mut connection = app.connect("postgres").await;
    let waiting = "select count(*) > 0 from pg_stat_activity
                   where usename = 'palisade_app' and wait_event_type = 'Lock'
                     and datname = current_database()";
    eventually("a statement waits for the lock", async || {
        let waits = sqlx::query_scalar(waiting).fetch_one(&mut connection);
        waits.await.unwrap()
    })
    .await;
}

#[apply(palisade_test)]
async fn one_user_cannot_take_the_slots_of_the_tenant() {
    let app = TestApp::shared().await.in_own_database(&[]).await;
    let tenant = app.tenant().await;
    let mut shared = settings(ServiceOptions::default());
    shared.traffic = TrafficSettings::default();
    let url = app.serve_with(&app.database, shared).await;
    let owner = tenant.owner().at(&url);
    let viewer = tenant.caller(UserRole::Viewer).at(&url);
    let mut holder = lock_table(app, "projects").await;
    let mut blocked = JoinSet::new();
    for _ in 0..10 {
        let viewer = viewer.clone();
        blocked.spawn(async move { viewer.query("{ projects { nodes { id } } }").await });
    }
    wait_for_lock(app).await;
    // All requests of the viewer run or wait. Those of the owner do not wait after them.
    for _ in 0..5 {
        owner
            .query("{ organizations { nodes { id } } }")
            .await
            .data();
    }
    let running = "select count(*) from pg_stat_activity
                   where usename = 'palisade_app' and wait_event_type = 'Lock'
                     and datname = current_database()";
    let running: i64 = sqlx::query_scalar(running)
        .fetch_one(&mut app.connect("postgres").await)
        .await
        .unwrap();
    assert_eq!(running, 1, "the viewer has half of the two slots");
    attempt(&mut holder, "rollback".to_owned()).await.unwrap();
    while let Some(response) = blocked.join_next().await {
        response.unwrap().data();
    }
}

#[apply(palisade_test)]
async fn a_tenant_has_a_number_of_requests_per_second(app: &'static TestApp) {
    const LIMIT: u32 = 20;
    let (greedy, modest) = (app.tenant().await, app.tenant().await);
    let url = serve(|settings| settings.traffic.tenant_requests = LIMIT).await;
    let began = Instant::now();
    let mut requests = JoinSet::new();
    for _ in 0..100 {
        let (url, token) = (url.clone(), greedy.owner().token.clone());
        requests.spawn(async move { query(&url, &token, "{").await });
    }
    for _ in 0..5 {
        modest
            .owner()
            .at(&url)
            .query("{ viewer { role } }")
            .await
            .data();
    }
    let (mut admitted, mut rejected) = (0, 0);
    while let Some(reply) = requests.join_next().await {
        let reply = reply.unwrap();
        match (reply.status, reply.code().as_str()) {
            // The queue for the slots is short.
            (200, "GRAPHQL_PARSE_FAILED") | (503, "UNAVAILABLE") => admitted += 1,
            (429, "RATE_LIMITED") => {
                assert_eq!(reply.header("retry-after"), "1");
                rejected += 1;
            }
            _ => panic!("{}", reply.text),
        }
    }
    // A second's requests at once, as many that wait, and those that become free meanwhile.
    let most = 2 * LIMIT + u32::try_from(began.elapsed().as_secs() + 1).unwrap() * LIMIT;
    assert!((2 * LIMIT..=most).contains(&admitted), "{admitted}");
    assert_eq!(admitted + rejected, 100);
}

#[apply(palisade_test)]
async fn time_of_the_database_is_charged() {
    let app = TestApp::shared().await.in_own_database(&[]).await;
    let tenant = app.tenant().await;
    let mut limited = settings(ServiceOptions::default());
    limited.traffic.tenant_budget = 60_000;
    let url = app.serve_with(&app.database, limited).await;
    let caller = tenant.owner().at(&url);
    let mut holder = lock_table(app, "projects").await;
    let waiting = caller.clone();
    let waiting = tokio::spawn(async move { waiting.query("{ projects { nodes { id } } }").await });
    wait_for_lock(app).await;
    let waited = Instant::now();
    eventually("the statement has waited for 300 ms", async || {
        waited.elapsed() > Duration::from_millis(300)
    })
    .await;
    attempt(&mut holder, "rollback".to_owned()).await.unwrap();
    waiting.await.unwrap().data();
    // 20 rows for each millisecond after the first 50. The budget regains a row in a millisecond.
    let charged = 60_000 - rows_left(&url, &caller).await;
    assert!(charged > 1_000, "{charged}");
}

#[apply(palisade_test)]
async fn an_operation_fetches_a_bounded_number_of_bytes(tenant: Tenant) {
    let project = comments(&tenant, 100, "repeat('🦀', 10000)").await;
    let url = serve(|settings| {
        settings.memory = MemorySettings {
            max_fetched_bytes: 1024 * 1024,
            ..MemorySettings::default()
        };
    })
    .await;
    let caller = tenant.owner().at(&url);
    let exceeded = metrics::FETCHED_BYTES_EXCEEDED.value();
    // 4 MB of bodies.
    let response = caller.query(&bodies_of(&project, "body")).await;
    assert_eq!(response.code(), "QUERY_TOO_COMPLEX", "{}", response.body);
    let errors = response.body["errors"].as_array().unwrap();
    let codes = errors.iter().map(|error| &error["extensions"]["code"]);
    assert!(
        codes.clone().all(|code| code == "QUERY_TOO_COMPLEX"),
        "{errors:?}"
    );
    assert!(metrics::FETCHED_BYTES_EXCEEDED.value() > exceeded);
    // What is not selected is not fetched, and the other operations are not affected.
    let response = caller.query(&bodies_of(&project, "id")).await;
    let nodes = &response.data()["project"]["comments"]["nodes"];
    assert_eq!(nodes.as_array().unwrap().len(), 100);
    // 20 bodies fit.
    let few = bodies_of(&project, "body").replace("first: 100", "first: 20");
    caller.query(&few).await.data();
}

#[apply(palisade_test)]
async fn the_names_in_a_response_count_as_its_bytes(tenant: Tenant) {
    let project = comments(&tenant, 100, "'short'").await;
    // 50 KB in each of the 100 rows, twice.
    let alias = "a".repeat(50_000);
    let response = tenant
        .owner()
        .query(&bodies_of(&project, &format!("{alias}: id")))
        .await;
    response.data();
    let document = format!(
        "{{ project(id: \"{project}\") {{ a: comments(first: 100) {{ nodes {{ ...Named }} }}
            b: comments(first: 99) {{ nodes {{ ...Named }} }} }} }}
         fragment Named on Comment {{ {alias}: id }}"
    );
    let response = tenant.owner().query(&document).await;
    assert_eq!(response.code(), "QUERY_TOO_COMPLEX");
}

/// Sends a request and reads nothing of the response.
async fn send_and_read_nothing(url: &str, token: &str, document: &str) -> TcpStream {
    let address = url.strip_prefix("http://").unwrap();
    let address = address.strip_suffix("/graphql").unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    // Otherwise the kernel would take the response for the client.
    socket.set_recv_buffer_size(4 * 1024).unwrap();
    let mut stream = socket.connect(address.parse().unwrap()).await.unwrap();
    let body = json!({ "query": document }).to_string();
    let request = format!(
        "POST /graphql HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

#[apply(palisade_test)]
async fn the_responses_that_clients_do_not_read_take_a_bounded_amount_of_memory(tenant: Tenant) {
    // 6 MB as JSON.
    let project = comments(&tenant, 100, "repeat(chr(1), 10000)").await;
    let document = bodies_of(&project, "body");
    let other = TestApp::shared().await.tenant().await;
    let url = serve(|settings| settings.pool.acquire_timeout = Duration::from_secs(1)).await;
    let token = &tenant.owner().token;
    let unread = send_and_read_nothing(&url, token, &document).await;
    // The first bytes: the response is in memory.
    unread.readable().await.unwrap();
    let dropped = metrics::RESPONSE_BYTES_BUSY.value();
    let second = query(&url, token, &document).await;
    assert_eq!(
        (second.status, second.code().as_str()),
        (503, "UNAVAILABLE")
    );
    assert!(
        second.text.contains("its response was dropped"),
        "{}",
        second.text
    );
    assert!(metrics::RESPONSE_BYTES_BUSY.value() > dropped);
    // The long responses of another user have memory of their own.
    let member = &tenant.caller(UserRole::Member).token;
    assert_eq!(query(&url, member, &document).await.status, 200);
    // Short responses of the tenant and the responses of other tenants are not affected.
    tenant
        .owner()
        .at(&url)
        .query("{ viewer { role } }")
        .await
        .data();
    other
        .owner()
        .at(&url)
        .query("{ users { nodes { id } } }")
        .await
        .data();
    drop(unread);
    eventually("the memory is free again", async || {
        query(&url, token, &document).await.status == 200
    })
    .await;
}

#[apply(palisade_test)]
async fn a_long_response_is_sent_whole_and_is_not_compressed(tenant: Tenant) {
    let project = comments(&tenant, 100, "repeat('x', 10000)").await;
    let long = bodies_of(&project, "a: body b: body");
    let short = bodies_of(&project, "body").replace("first: 100", "first: 5");
    for (document, is_compressed) in [(long, false), (short, true)] {
        let caller = tenant.owner();
        let request = caller
            .app
            .client
            .post(&caller.url)
            .bearer_auth(&caller.token);
        let request = request
            .header("accept-encoding", "br")
            .json(&json!({ "query": document }));
        let reply = request.send().await.unwrap();
        let encoding = reply.headers().get("content-encoding").cloned();
        assert_eq!(encoding.is_some(), is_compressed, "{document}");
        if !is_compressed {
            let body: serde_json::Value = reply.json().await.unwrap();
            let nodes = body["data"]["project"]["comments"]["nodes"]
                .as_array()
                .unwrap();
            assert_eq!(nodes.len(), 100);
            assert!(nodes.iter().all(|node| node["b"] == "x".repeat(10_000)));
        }
    }
}

#[apply(palisade_test)]
async fn the_unfinished_bodies_of_a_tenant_take_a_bounded_amount_of_memory(app: &'static TestApp) {
    let (greedy, modest) = (app.tenant().await, app.tenant().await);
    let url = serve(|_| {}).await;
    let address = url.strip_prefix("http://").unwrap();
    let address = address.strip_suffix("/graphql").unwrap();
    let head = format!(
        "POST /graphql HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        greedy.owner().token,
        1024 * 1024,
    );
    let mut unfinished = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        unfinished.push(stream);
    }
    // The service may read the heads in any order, so the ninth is one of them.
    let rejected = metrics::REQUEST_BYTES_EXCEEDED.value();
    eventually("a body does not fit", async || {
        query(&url, &greedy.owner().token, "{").await.status == 503
    })
    .await;
    assert!(metrics::REQUEST_BYTES_EXCEEDED.value() > rejected);
    modest
        .owner()
        .at(&url)
        .query("{ viewer { role } }")
        .await
        .data();
    // A body of which no byte arrived is released with its connection.
    drop(unfinished.pop());
    eventually("the memory is free again", async || {
        query(&url, &greedy.owner().token, "{").await.status == 200
    })
    .await;
    // A declared length above the limit is rejected before a byte of it is read.
    let mut stream = TcpStream::connect(address).await.unwrap();
    let long = head.replace("1048576", "1048577");
    stream.write_all(long.as_bytes()).await.unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 413");
}

#[apply(palisade_test)]
async fn the_largest_legitimate_requests_still_work(tenant: Tenant) {
    let organization = tenant.seed(100, 0).await.organization;
    let invoices = "insert into invoices (id, organization_id, project_id, currency)
        select app.uuid_v7(), $1, p.id, 'EUR' from projects p, generate_series(1, 100)";
    sqlx::query(invoices)
        .bind(organization)
        .execute(&mut tenant.begin().await.0)
        .await
        .unwrap();
    let document =
        "{ projects(first: 100) { nodes { id invoices(first: 100) { nodes { id number } } } } }";
    let response = tenant.owner().query(document).await;
    let projects = response.data()["projects"]["nodes"].as_array().unwrap();
    let invoices = projects
        .iter()
        .map(|one| one["invoices"]["nodes"].as_array().unwrap().len());
    assert_eq!(invoices.sum::<usize>(), 10_000);

    let body = "é".repeat(10_000);
    let input = json!({ "subjectId": projects[0]["id"], "body": body });
    let payload = tenant
        .owner()
        .mutate_ok("createComment", input, "comment { body }")
        .await;
    assert_eq!(payload["comment"]["body"], json!(body));
}

/// A mutation that creates invoices, each with this number of lines, and its variables.
pub(super) async fn create_invoices(
    owner: &Caller,
    invoices: usize,
    lines: usize,
) -> (String, Value) {
    let organization = create::organization(owner).await;
    let fields = (0..invoices).map(|number| {
        format!("i{number}: createInvoice(input: $input) {{ userErrors {{ code }} }} ")
    });
    let document = format!(
        "mutation ($input: CreateInvoiceInput!) {{ {} }}",
        fields.collect::<String>()
    );
    let line = json!({ "description": "Line", "quantity": "1", "unitPrice": "10.00" });
    let input = json!({
        "organizationId": organization,
        "currencyCode": "EUR",
        "lineItems": vec![line; lines],
    });
    (document, json!({ "input": input }))
}

#[apply(palisade_test)]
async fn an_operation_writes_a_bounded_number_of_rows(tenant: Tenant) {
    let owner = tenant.owner();
    let invoices = async || {
        let reply = owner.query("{ invoices(first: 1) { totalCount } }").await;
        reply.data()["invoices"]["totalCount"].as_u64().unwrap()
    };
    let before = metrics::WRITTEN_ROWS_EXCEEDED.value();
    // Each invoice and its lines, and the invoice again for its total.
    let (document, variables) = create_invoices(owner, 4, 500).await;
    let reply = owner.send(&document, &variables, &[]).await;
    let response = reply.response();
    assert_eq!(response.code(), "QUERY_TOO_COMPLEX");
    assert_eq!(
        response.body["errors"][0]["message"],
        "the operation writes more than 2000 rows: send it in parts"
    );
    assert!(metrics::WRITTEN_ROWS_EXCEEDED.value() > before);
    assert_eq!(invoices().await, 0, "nothing is written");
    let (document, variables) = create_invoices(owner, 3, 500).await;
    owner
        .send(&document, &variables, &[])
        .await
        .response()
        .data();
    assert_eq!(invoices().await, 3);
}

#[apply(palisade_test)]
async fn a_project_with_any_number_of_comments_can_be_deleted(tenant: Tenant) {
    let project = comments(&tenant, 2_001, "'text'").await;
    let input = json!({ "id": project });
    let payload = tenant
        .owner()
        .mutate_ok("deleteProject", input, "project { id }")
        .await;
    assert_eq!(payload["project"]["id"], json!(project));
}

#[apply(palisade_test)]
async fn written_rows_and_the_arguments_of_a_mutation_are_charged(tenant: Tenant) {
    const BUDGET: u64 = 1_000_000;
    let url = serve(|settings| settings.traffic.tenant_budget = BUDGET).await;
    let owner = tenant.owner();
    let (document, variables) = create_invoices(owner, 1, 100).await;
    let body = json!({ "query": document, "variables": variables }).to_string();
    let reply = post(&url, &owner.token, &body).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let used = BUDGET - rows_left(&url, owner).await;
    // 400 for each line, and 500 for each KiB of the arguments: 300 bytes for each line.
    assert!((54_000..57_000).contains(&used), "{used}");
}

#[apply(palisade_test)]
async fn searches_in_long_strings_are_bounded(tenant: Tenant) {
    let search = async |amount: usize, length: usize| {
        let one = json!({ "body": { "contains": "x".repeat(length) } });
        let filter = json!({ "or": vec![one; amount] });
        let document =
            "query($filter: CommentFilter) { comments(filter: $filter) { nodes { id } } }";
        let response = tenant
            .owner()
            .graphql(document, json!({ "filter": filter }));
        response.await
    };
    // Each search counts as 20 comparisons of the 100. The empty filter around them counts as one.
    search(4, 100).await.data();
    for (amount, length) in [(5, 100), (1, 101)] {
        let response = search(amount, length).await;
        assert_eq!(response.code(), "BAD_USER_INPUT", "{}", response.body);
    }
}
