//! What the service does with requests that no well-meaning client sends, and when its database is
//! gone: a clean answer with a stable code, never a hang, and never a word of the database's.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use macro_rules_attribute::apply;
use palisade::{
    auth::role::UserRole,
    db::{
        PoolSettings, TenantDb,
        admin_tx::{AdminDb, NewMember, NewTenant},
        migrate::{self, RolePasswords},
    },
    http::{self as service, Features, Service},
    ids::{ProjectId, TenantId, UserId},
};
use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};
use sqlx::PgConnection;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use uuid::Uuid;

use crate::harness::{
    ServiceOptions, Tenant, TestApp, create_database, eventually, palisade_test, settings, tokens,
};

/// An answer as it came.
#[derive(Debug)]
struct Reply {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The code of the first error.
    fn code(&self) -> String {
        self.json()["errors"][0]["extensions"]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

/// Sends a body with exactly these headers beside the token.
async fn send(url: &str, token: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Reply {
    let mut request = TestApp::shared()
        .await
        .client
        .post(url)
        .bearer_auth(token)
        .body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    reply(request).await
}

async fn reply(request: reqwest::RequestBuilder) -> Reply {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Reply {
        status,
        headers,
        text: response.text().await.unwrap(),
    }
}

const JSON: (&str, &str) = ("content-type", "application/json");
const GRAPHQL: (&str, &str) = ("accept", "application/graphql-response+json");

/// Sends a body of JSON text.
async fn post(url: &str, token: &str, body: &str) -> Reply {
    send(url, token, &[JSON], body.as_bytes().to_vec()).await
}

/// Sends a document.
async fn query(url: &str, token: &str, document: &str) -> Reply {
    post(url, token, &json!({ "query": document }).to_string()).await
}

/// An owner's token and the address of the shared service.
async fn caller() -> (String, String) {
    let app = TestApp::shared().await;
    let tenant = app.tenant().await;
    (app.url.clone(), tenant.owner().token.clone())
}

/// A service over a migrated database of its own, which a test may break.
struct Broken {
    database: String,
    url: String,
    token: String,
}

impl Broken {
    async fn new() -> Self {
        let app = TestApp::shared().await;
        let database = format!("palisade_test_{}", Uuid::now_v7().simple());
        create_database(&mut superuser(app).await, &database).await;
        let address = |role| app.server.url(role, &database);
        migrate::run(&address("postgres"), &RolePasswords::default())
            .await
            .unwrap();
        let tenant = NewTenant {
            id: TenantId::generate(),
            name: "Acme".to_owned(),
            slug: "acme".to_owned(),
            plan: "FREE".to_owned(),
        };
        let owner = NewMember {
            user: UserId::generate(),
            identity: Uuid::now_v7(),
            email: "owner@acme.example".to_owned(),
            display_name: "Owner".to_owned(),
            role: UserRole::Owner,
        };
        let mut admin = AdminDb::connect(&address("palisade_admin")).await.unwrap();
        assert!(
            admin
                .create_tenant(&tenant, std::slice::from_ref(&owner))
                .await
                .unwrap()
        );
        let token = tokens()
            .issue(tenant.id, owner.user, chrono::TimeDelta::hours(1))
            .unwrap();
        let pool = PoolSettings {
            size: 2,
            acquire_timeout_ms: 500,
        };
        let db = TenantDb::connect(&address("palisade_app"), pool)
            .await
            .unwrap();
        let url = serve(db, ServiceOptions::default(), Features::default()).await;
        Self {
            database,
            url,
            token,
        }
    }

    async fn query(&self, document: &str) -> Reply {
        query(&self.url, &self.token, document).await
    }

    /// Health by its path.
    async fn health(&self, which: &str) -> Reply {
        let url = self.url.replace("/graphql", which);
        reply(TestApp::shared().await.client.get(url)).await
    }
}

async fn superuser(app: &TestApp) -> PgConnection {
    use sqlx::Connection as _;

    PgConnection::connect(&app.server.url("postgres", "postgres"))
        .await
        .unwrap()
}

async fn execute(connection: &mut PgConnection, sql: String) {
    sqlx::query(sqlx::AssertSqlSafe(sql))
        .execute(connection)
        .await
        .unwrap();
}

async fn serve(db: TenantDb, options: ServiceOptions, features: Features) -> String {
    let settings = settings(options);
    let listener = service::listen(settings.listen).await.unwrap();
    let url = format!("http://{}/graphql", listener.local_addr().unwrap());
    let served = Service::new(db, None, tokens(), &settings, features).unwrap();
    tokio::spawn(async move {
        service::serve(listener, served, &settings, std::future::pending())
            .await
            .unwrap();
    });
    url
}

// What a body may be

#[apply(palisade_test)]
async fn only_a_json_body_is_read() {
    let (url, token) = caller().await;
    let body = json!({ "query": "{ __typename }" })
        .to_string()
        .into_bytes();
    for kind in [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        "application/json; charset=\"utf-8\"",
    ] {
        let reply = send(&url, &token, &[("content-type", kind)], body.clone()).await;
        assert_eq!(reply.status, 200, "{kind}");
        assert_eq!(
            reply.json()["data"],
            json!({ "__typename": "Query" }),
            "{kind}"
        );
    }
    for kind in [
        "text/plain",
        "text/plain; charset=utf-8",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "multipart/mixed; boundary=x",
        "application/graphql",
        "application/octet-stream",
        "application/jsonx",
        "application/json+graphql",
        "application/json, text/plain",
        "text/plain; application/json",
        "application/json; charset=utf-16",
        "application/json; charset=latin1",
        "application/json; boundary=x",
        "",
    ] {
        let reply = send(&url, &token, &[("content-type", kind)], body.clone()).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (415, "BAD_USER_INPUT"),
            "{kind:?}"
        );
    }
    assert_eq!(send(&url, &token, &[], body.clone()).await.status, 415);
    assert_eq!(
        send(&url, &token, &[JSON, JSON], body.clone()).await.status,
        415
    );
    let two = [JSON, ("content-type", "text/plain")];
    assert_eq!(send(&url, &token, &two, body).await.status, 415);
}

#[apply(palisade_test)]
async fn operations_come_by_no_other_method() {
    let (url, token) = caller().await;
    let client = &TestApp::shared().await.client;
    for method in [Method::PUT, Method::DELETE, Method::PATCH, Method::TRACE] {
        let url = format!("{url}?query=%7B__typename%7D");
        let answer = reply(client.request(method.clone(), url).bearer_auth(&token)).await;
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, "GET, POST"),
            "{method}"
        );
        // A page of another origin gets no permission to send.
        assert_eq!(answer.header("access-control-allow-origin"), "", "{method}");
    }
    for path in [
        "/",
        "/graphql/",
        "/graphql/x",
        "/health",
        "/admin",
        "/graphiql/../../etc/passwd",
    ] {
        let url = url.replace("/graphql", path);
        let expected = if path == "/" { 307 } else { 404 };
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        assert_eq!(reply(client.get(&url)).await.status, expected, "{path}");
    }
}

#[apply(palisade_test)]
async fn a_body_that_is_no_request_is_refused() {
    let (url, token) = caller().await;
    let deep = format!(
        "{{\"query\":\"{{__typename}}\",\"variables\":{{\"a\":{}{}}}}}",
        "[".repeat(5_000),
        "]".repeat(5_000)
    );
    for body in [
        "",
        " ",
        "not JSON",
        "{",
        "null",
        "1",
        "\"{ __typename }\"",
        "{}",
        // A batch.
        r#"[{"query":"{ __typename }"}]"#,
        "[]",
        r#"{"query":null}"#,
        r#"{"query":1}"#,
        r#"{"query":["{ __typename }"]}"#,
        r#"{"query":"{ __typename }","variables":1}"#,
        r#"{"query":"{ __typename }","variables":[]}"#,
        r#"{"query":"{ __typename }","variables":"{}"}"#,
        r#"{"query":"{ __typename }","operationName":1}"#,
        r#"{"query":"{ __typename }","query":"{ viewer { role } }"}"#,
        r#"{"query":"{ __typename }"} trailing"#,
        r#"{"query":"{ \ud800 }"}"#,
        r#"{"query":"{ __typename }","operationName":"\ud800"}"#,
        r#"{"query":"{ __typename }","variables":{"a":"\udfff"}}"#,
        &deep,
    ] {
        let reply = post(&url, &token, body).await;
        let shown = &body[..body.len().min(80)];
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (400, "BAD_USER_INPUT"),
            "{shown}: {}",
            reply.text
        );
        assert_eq!(
            reply.json()["errors"].as_array().map(Vec::len),
            Some(1),
            "{shown}"
        );
    }
    let reply = send(&url, &token, &[JSON], b"{\"query\":\"\xff\xfe\"}".to_vec()).await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (400, "BAD_USER_INPUT")
    );
    // Unknown members are ignored (GraphQL over HTTP, 5.3), null ones are as if absent.
    for body in [
        r#"{"query":"{ __typename }","extensions":{"persistedQuery":{"version":1}},"id":7}"#,
        r#"{"query":"{ __typename }","operationName":null,"variables":null}"#,
    ] {
        assert_eq!(
            post(&url, &token, body).await.json()["data"],
            json!({ "__typename": "Query" })
        );
    }
}

#[apply(palisade_test)]
async fn hostile_values_are_errors_of_their_field() {
    let (url, token) = caller().await;
    let long = "x".repeat(100_000);
    let by_name = "query($v: String) { projects(filter: { name: { eq: $v } }) { nodes { id } } }";
    let by_id = "query($v: ID!) { project(id: $v) { id } }";
    let by_first = "query($v: Int) { projects(first: $v) { nodes { id } } }";
    let after = "query($v: String) { projects(after: $v) { nodes { id } } }";
    let contains =
        "query($v: String) { projects(filter: { name: { contains: $v } }) { totalCount } }";
    let nul_id = format!("prj_{}\0", Uuid::now_v7().simple());
    let mut refused = vec![
        (by_name, json!("a\0b")),
        (by_name, json!(long)),
        (by_name, json!(1)),
        (by_name, json!(["a"])),
        (by_name, json!({ "eq": "a" })),
        (contains, json!("\0")),
        (by_id, json!(nul_id)),
        (by_id, json!("")),
        (by_id, json!(long)),
        (by_id, json!("prj_'; drop table projects; --")),
        (by_id, json!(null)),
        (by_id, json!([1])),
        (after, json!("\0")),
        (after, json!(long)),
        (after, json!("AAAA")),
    ];
    for first in [
        json!(-1),
        json!(101),
        json!(2_147_483_648_i64),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1.5),
        json!(1e300),
        json!("10"),
        json!(true),
        json!([]),
        json!({}),
    ] {
        refused.push((by_first, first));
    }
    for (document, value) in refused {
        let body = json!({ "query": document, "variables": { "v": value } });
        let reply = post(&url, &token, &body.to_string()).await;
        let shown: String = value.to_string().chars().take(60).collect();
        assert_eq!(reply.status, 200, "{document} {shown}: {}", reply.text);
        assert!(
            matches!(
                reply.code().as_str(),
                "BAD_USER_INPUT" | "GRAPHQL_VALIDATION_FAILED"
            ),
            "{document} {shown}: {}",
            reply.text
        );
        assert!(
            reply.text.len() < 4_000,
            "{document} {shown}: an answer of {} bytes",
            reply.text.len()
        );
    }
    for literal in [
        "2147483648",
        "-2147483649",
        "1.0",
        "1e2",
        "\"1\"",
        "99999999999999999999999999",
        "RED",
    ] {
        let document = format!("{{ projects(first: {literal}) {{ nodes {{ id }} }} }}");
        let reply = query(&url, &token, &document).await;
        assert_eq!(reply.status, 200);
        assert!(
            matches!(
                reply.code().as_str(),
                "BAD_USER_INPUT" | "GRAPHQL_VALIDATION_FAILED" | "GRAPHQL_PARSE_FAILED"
            ),
            "{literal}: {}",
            reply.text
        );
    }
    // What is only strange finds nothing.
    for (document, value) in [
        (by_name, json!("x".repeat(1_000))),
        (by_name, json!("")),
        (by_name, json!("' or '1'='1")),
        (by_name, json!("\u{202e}\u{feff}\u{10ffff}")),
        (contains, json!("%_\\")),
    ] {
        let body = json!({ "query": document, "variables": { "v": value } });
        let reply = post(&url, &token, &body.to_string()).await;
        assert!(reply.json().get("errors").is_none(), "{}", reply.text);
    }
    let body = json!({ "query": "query A { __typename }", "operationName": "A\0" });
    assert_eq!(
        post(&url, &token, &body.to_string()).await.code(),
        "GRAPHQL_VALIDATION_FAILED"
    );
}

#[apply(palisade_test)]
async fn an_unknown_id_is_no_error_and_tells_nothing() {
    let (url, token) = caller().await;
    let document = format!("{{ project(id: \"{}\") {{ id }} }}", ProjectId::generate());
    assert_eq!(
        query(&url, &token, &document).await.text,
        r#"{"data":{"project":null},"extensions":{"cost":{"requested":1,"actual":0}}}"#
    );
}

// Errors

#[apply(palisade_test)]
async fn a_document_that_is_none_says_where() {
    let (url, token) = caller().await;
    for document in [
        "{ projects { ",
        "",
        "}",
        "query {",
        "{ a(b: \"\\ud800\") }",
        "subscription",
    ] {
        let reply = query(&url, &token, document).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (200, "GRAPHQL_PARSE_FAILED"),
            "{document:?}: {}",
            reply.text
        );
        assert!(
            reply.json()["errors"][0]["locations"][0]["line"].as_u64() >= Some(1),
            "{}",
            reply.text
        );
        assert!(reply.json().get("data").is_none(), "{}", reply.text);
    }
    for document in [
        "{ nothing }",
        "{ projects { nodes { nothing } } }",
        "{ projects }",
        "{ viewer { role { x } } }",
        "{ projects(nothing: 1) { totalCount } }",
        "{ ...nothing }",
        "query($v: Nothing) { viewer { role } }",
        "mutation { nothing }",
        "subscription { nothing }",
        "query A { __typename } query B { __typename }",
        "{ ...a } fragment a on Query { ...a }",
    ] {
        let reply = query(&url, &token, document).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (200, "GRAPHQL_VALIDATION_FAILED"),
            "{document}: {}",
            reply.text
        );
        // Nothing was executed, so there is no data at all (GraphQL, 7.1).
        assert!(reply.json().get("data").is_none(), "{}", reply.text);
        assert!(!reply.text.contains("Did you mean"), "{}", reply.text);
    }
}

#[apply(palisade_test)]
async fn an_answer_has_at_most_25_errors() {
    let (url, token) = caller().await;
    let fields = (0..500).fold(String::new(), |mut text, n| {
        write!(text, "nothing{n} ").unwrap();
        text
    });
    let reply = query(&url, &token, &format!("{{ viewer {{ {fields} }} }}")).await;
    assert_eq!(reply.json()["errors"].as_array().map(Vec::len), Some(25));
}

#[apply(palisade_test)]
async fn statuses_depend_on_what_the_client_reads() {
    let (url, token) = caller().await;
    let document = |text: &str| json!({ "query": text }).to_string();
    let long = document(&format!("{{ __typename }} #{}", "x".repeat(64 * 1024)));
    // The body, the status for application/json, the status for the newer type.
    for (body, old, new) in [
        (document("{ viewer { role } }"), 200, 200),
        (document("{ viewer { "), 200, 400),
        (document("{ nothing }"), 200, 400),
        (document("{ project(id: \"x\") { id } }"), 200, 200),
        (long, 200, 400),
        ("{".to_owned(), 400, 400),
        ("{}".to_owned(), 400, 400),
    ] {
        let shown = &body[..body.len().min(60)];
        let reply = post(&url, &token, &body).await;
        assert_eq!(reply.status, old, "{shown}: {}", reply.text);
        assert_eq!(
            reply.header("content-type"),
            "application/json; charset=utf-8"
        );
        let reply = send(&url, &token, &[JSON, GRAPHQL], body.clone().into_bytes()).await;
        assert_eq!(reply.status, new, "{shown}: {}", reply.text);
        assert_eq!(
            reply.header("content-type"),
            "application/graphql-response+json; charset=utf-8"
        );
        let both = (
            "accept",
            "application/graphql-response+json; q=0.9, application/json",
        );
        let reply = send(&url, &token, &[JSON, both], body.clone().into_bytes()).await;
        assert_eq!(reply.status, old, "{shown}: {}", reply.text);
    }
}

#[apply(palisade_test)]
async fn every_answer_carries_its_request_id() {
    let (url, token) = caller().await;
    let own = Uuid::new_v4().to_string();
    for body in [
        r#"{"query":"{ __typename }"}"#,
        r#"{"query":"{ nothing }"}"#,
        r#"{"query":"{"}"#,
        "{",
        r#"{"query":"{ project(id: \"x\") { id } }"}"#,
    ] {
        let reply = send(&url, &token, &[JSON, ("x-request-id", &own)], body.into()).await;
        assert_eq!(reply.header("x-request-id"), own);
        for error in reply.json()["errors"].as_array().into_iter().flatten() {
            assert_eq!(error["extensions"]["requestId"], *own, "{body}");
        }
        for other in ["", "1", "not a UUID", "'; drop table projects; --"] {
            let reply = send(&url, &token, &[JSON, ("x-request-id", other)], body.into()).await;
            let id = reply.header("x-request-id");
            assert!(
                Uuid::try_parse(id).is_ok_and(|uuid| uuid.to_string() == id),
                "{id}"
            );
            for error in reply.json()["errors"].as_array().into_iter().flatten() {
                assert_eq!(error["extensions"]["requestId"], *id, "{body}");
            }
        }
    }
    let reply = send(
        &url,
        "garbage",
        &[JSON, ("x-request-id", &own)],
        b"{}".to_vec(),
    )
    .await;
    assert_eq!(
        (reply.status, reply.header("x-request-id")),
        (401, own.as_str())
    );
}

#[apply(palisade_test)]
async fn every_answer_is_hardened() {
    let (url, token) = caller().await;
    let client = &TestApp::shared().await.client;
    let mut replies = vec![
        query(&url, &token, "{ __typename }").await,
        query(&url, "garbage", "{ __typename }").await,
        post(&url, &token, "{").await,
        reply(client.get(&url)).await,
    ];
    for path in [
        "/dev/people",
        "/graphiql/assets/nothing.js",
        "/nothing",
        "/health/live",
        "/health/ready",
    ] {
        replies.push(reply(client.get(url.replace("/graphql", path))).await);
    }
    for reply in replies {
        assert_eq!(
            reply.header("x-content-type-options"),
            "nosniff",
            "{reply:?}"
        );
        assert_eq!(reply.header("cache-control"), "no-store", "{reply:?}");
        assert_eq!(reply.header("referrer-policy"), "no-referrer", "{reply:?}");
        assert_eq!(reply.header("access-control-allow-origin"), "", "{reply:?}");
        assert_eq!(reply.header("server"), "", "{reply:?}");
    }
}

#[apply(palisade_test)]
async fn no_word_of_the_database_leaves_with_an_internal_error() {
    let broken = Broken::new().await;
    let app = TestApp::shared().await;
    let mut postgres = {
        use sqlx::Connection as _;
        PgConnection::connect(&app.server.url("postgres", &broken.database))
            .await
            .unwrap()
    };
    for (break_it, document) in [
        (
            "alter table projects rename to secret_projects",
            "{ projects { nodes { id name } } }",
        ),
        (
            "alter table products drop column title cascade",
            "{ products { nodes { id title } } }",
        ),
        (
            "create or replace function app.role() returns text language plpgsql stable as
          $$ begin raise exception 'a secret_policy of secret_table'; end $$",
            "{ auditLogs { nodes { id } } }",
        ),
    ] {
        execute(&mut postgres, break_it.to_owned()).await;
        let reply = broken.query(document).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (200, "INTERNAL"),
            "{}",
            reply.text
        );
        let error = &reply.json()["errors"][0];
        assert_eq!(error["message"], "internal error");
        let members: Vec<&String> = error["extensions"].as_object().unwrap().keys().collect();
        assert_eq!(members, ["code", "requestId"]);
        // The place in the document is the client's own.
        let text = reply.text.to_lowercase().replace("\"column\":", "");
        for word in [
            "relation",
            "column",
            "sqlstate",
            "policy",
            "secret",
            "does not exist",
            "42p01",
            "42703",
            "p0001",
            "error returned from",
            "select",
            "postgres",
            "palisade_app",
        ] {
            assert!(!text.contains(word), "{word}: {text}");
        }
    }
}

// Limits

#[apply(palisade_test)]
async fn a_body_over_a_mebibyte_is_refused() {
    let (url, token) = caller().await;
    let request = |length: usize| {
        let body = json!({ "query": "{ __typename }", "padding": "" }).to_string();
        body.replace(
            "\"padding\":\"\"",
            &format!("\"padding\":\"{}\"", "x".repeat(length - body.len())),
        )
    };
    let fits = request(1 << 20);
    assert_eq!(fits.len(), 1 << 20);
    assert_eq!(post(&url, &token, &fits).await.status, 200);
    let reply = post(&url, &token, &request((1 << 20) + 1)).await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (413, "BAD_USER_INPUT"),
        "{}",
        reply.text
    );
}

#[apply(palisade_test)]
async fn a_document_over_a_limit_is_too_complex() {
    let (url, token) = caller().await;
    let bomb = |levels: usize| {
        let mut text = "{ ...f0 }".to_owned();
        for n in 0..levels {
            write!(text, " fragment f{n} on Query {{ ...f{0} ...f{0} }}", n + 1).unwrap();
        }
        text + &format!(" fragment f{levels} on Query {{ __typename }}")
    };
    let repeat = |part: &str, times: usize| part.repeat(times);
    let aliases = (0..50_000).fold(String::new(), |mut text, n| {
        write!(text, "a{n}:__typename ").unwrap();
        text
    });
    let documents = [
        ("25 levels of fragments", bomb(25)),
        ("31 levels of fragments", bomb(31)),
        ("50,000 aliases", format!("{{ {aliases} }}")),
        ("31 aliases", format!("{{ viewer {{ {} }} }}", (0..31).map(|n| format!("a{n}: role ")).collect::<Vec<_>>().concat())),
        ("text", format!("{{ __typename }} #{}", repeat("x", 64 * 1024))),
        ("tokens", format!("{{ viewer {{ {} }} }}", repeat("role ", 10_001))),
        ("nesting", format!("{}{}", repeat("{ a ", 65), repeat("}", 65))),
        ("lists", format!("{{ a(b: {}{}) }}", repeat("[", 20_000), repeat("]", 20_000))),
        ("root fields", format!("{{ {} }}", (0..21).map(|n| format!("a{n}: __typename ")).collect::<Vec<_>>().concat())),
        ("directives", format!("{{ __typename {} }}", repeat("@include(if: true) ", 51))),
        ("rows", "{ projects(first: 100) { nodes { invoices(first: 100) { nodes { lineItems(first: 100) { nodes { id } } } } } } }".to_owned()),
    ];
    for (name, document) in documents {
        let started = Instant::now();
        let reply = query(&url, &token, &document).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (200, "QUERY_TOO_COMPLEX"),
            "{name}: {}",
            reply.text
        );
        assert!(reply.json().get("data").is_none(), "{name}");
        // Unguarded, the smaller bomb takes seconds and the larger one minutes.
        assert!(
            started.elapsed() < Duration::from_secs(2),
            "{name}: {:?}",
            started.elapsed()
        );
    }
    let deep = (0..33).fold(json!(1), |value, _| json!([value]));
    for variables in [json!({ "a": deep }), json!({ "a": vec![1; 10_001] })] {
        let body = json!({ "query": "{ __typename }", "variables": variables }).to_string();
        assert_eq!(post(&url, &token, &body).await.code(), "QUERY_TOO_COMPLEX");
    }
}

/// `getIntrospectionQuery()` of graphql-js 16, which GraphiQL sends.
const INTROSPECTION: &str = "query IntrospectionQuery { __schema { queryType { name } mutationType { name } \
    subscriptionType { name } types { ...FullType } directives { name description locations \
    args { ...InputValue } } } } \
    fragment FullType on __Type { kind name description \
    fields(includeDeprecated: true) { name description args { ...InputValue } type { ...TypeRef } \
    isDeprecated deprecationReason } inputFields { ...InputValue } interfaces { ...TypeRef } \
    enumValues(includeDeprecated: true) { name description isDeprecated deprecationReason } \
    possibleTypes { ...TypeRef } } \
    fragment InputValue on __InputValue { name description type { ...TypeRef } defaultValue } \
    fragment TypeRef on __Type { kind name ofType { kind name ofType { kind name ofType { kind name \
    ofType { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name \
    ofType { kind name } } } } } } } } } }";

#[apply(palisade_test)]
async fn what_frontends_send_is_admitted() {
    let (url, token) = caller().await;
    let headline = "{ projects(first: 20) { nodes { id name organization { id name } \
        invoices(first: 5) { nodes { id lineItems(first: 5) { nodes { id } } } } \
        auditLogs(first: 10) { nodes { id actor { ... on User { id email } } } } } } }";
    for document in [headline, INTROSPECTION] {
        let reply = query(&url, &token, document).await;
        assert!(
            reply.json().get("errors").is_none(),
            "{}",
            &reply.text[..reply.text.len().min(500)]
        );
    }
    let reply = query(&url, &token, INTROSPECTION).await;
    let types = reply.json()["data"]["__schema"]["types"]
        .as_array()
        .unwrap()
        .len();
    assert!(types > 50, "{types}");
}

#[apply(palisade_test)]
async fn without_introspection_the_schema_stays_unknown(app: &'static TestApp) {
    let tenant = app.tenant().await;
    let token = &tenant.owner().token;
    let db = TenantDb::connect(&app.database_url("palisade_app"), PoolSettings::default())
        .await
        .unwrap();
    let url = serve(db, ServiceOptions::default(), Features::default()).await;
    for document in [
        INTROSPECTION,
        "{ __schema { types { name } } }",
        "{ __type(name: \"Project\") { fields { name } } }",
    ] {
        let answer = query(&url, token, document).await;
        let data = &answer.json()["data"];
        assert!(
            data["__schema"].is_null() && data["__type"].is_null(),
            "{}",
            answer.text
        );
        assert!(
            !answer.text.contains("ProjectConnection"),
            "{}",
            answer.text
        );
    }
    let answer = query(&url, token, "{ __typename viewer { role } }").await;
    assert_eq!(
        answer.json()["data"],
        json!({ "__typename": "Query", "viewer": { "role": "OWNER" } })
    );
    assert!(answer.json()["extensions"].get("palisade").is_none());
    // Nor is there an explorer, a home, or the statements of an answer.
    for path in ["/graphiql", "/graphiql/schema.graphql", "/dev/people", "/"] {
        assert_eq!(
            reply(app.client.get(url.replace("/graphql", path)))
                .await
                .status,
            404,
            "{path}"
        );
    }
    let answer = send(
        &url,
        token,
        &[JSON, ("palisade-trace", "1")],
        br#"{"query":"{ viewer { role } }"}"#.to_vec(),
    )
    .await;
    let body = answer.json();
    assert_eq!(body["data"], json!({ "viewer": { "role": "OWNER" } }));
    assert!(body["extensions"].get("palisade").is_none());
}

// Slow clients

/// What the service says until it closes the connection, and how long that took.
async fn rest_of(mut stream: TcpStream, limit: Duration) -> (String, Duration) {
    let started = Instant::now();
    let mut received = Vec::new();
    tokio::time::timeout(limit, stream.read_to_end(&mut received))
        .await
        .expect("it was never closed")
        .ok();
    (
        String::from_utf8_lossy(&received).into_owned(),
        started.elapsed(),
    )
}

async fn slow_service() -> (String, String, String) {
    let app = TestApp::shared().await;
    let tenant = app.tenant().await;
    let options = ServiceOptions {
        receive_timeout_ms: 500,
        ..ServiceOptions::default()
    };
    let url = app.serve(options).await;
    let address = url
        .trim_start_matches("http://")
        .trim_end_matches("/graphql")
        .to_owned();
    (url, address, tenant.owner().token.clone())
}

#[apply(palisade_test)]
async fn a_body_that_never_ends_is_given_up() {
    let (_, address, token) = slow_service().await;
    for head in ["content-length: 100", "transfer-encoding: chunked"] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let chunk = if head.contains("chunked") {
            "5\r\n{\"que\r\n"
        } else {
            "{\"que"
        };
        let request = format!(
            "POST /graphql HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\n{head}\r\n\r\n{chunk}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let (answer, took) = rest_of(stream, Duration::from_secs(20)).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("\"TIMEOUT\""), "{answer}");
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
}

#[apply(palisade_test)]
async fn headers_that_never_end_are_closed() {
    let (_, address, _) = slow_service().await;
    for sent in [
        "",
        "POST /graph",
        "POST /graphql HTTP/1.1\r\nhost: x\r\nauthoriz",
    ] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let (answer, took) = rest_of(stream, Duration::from_secs(20)).await;
        assert!(!answer.contains(" 200 "), "{answer}");
        assert!(took < Duration::from_secs(10), "{sent:?}: {took:?}");
    }
}

#[apply(palisade_test)]
async fn an_answer_that_would_be_too_long_is_refused_on_the_way(tenant: Tenant) {
    let seed = tenant.seed(1, 0).await;
    let sql = "insert into comments (id, author_id, project_id, body)
        select app.uuid_v7(), app.user_id(), $1, repeat('x', 10000) from generate_series(1, 100)";
    sqlx::query(sql)
        .bind(seed.projects[0])
        .execute(&mut tenant.begin().await.0)
        .await
        .unwrap();
    // A hundred rows are fetched, and ten thousand are in the answer: 100 MB.
    let again = |body: &str| {
        let project = crate::harness::id("prj", seed.projects[0]);
        format!(
            r#"{{ project(id: "{project}") {{ comments(first: 100) {{ nodes {{ subject {{ ... on Project {{
                comments(first: 100) {{ nodes {{ id {body} }} }} }} }} }} }} }} }}"#
        )
    };
    let reply = tenant.owner().send(&again("body"), &json!({}), &[]).await;
    let answer = reply.answer();
    assert_eq!(answer.code(), "QUERY_TOO_COMPLEX");
    let message = answer.body["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains("bytes of text"), "{message}");
    assert!(reply.text.len() < 40 * 1024 * 1024, "{}", reply.text.len());
    tenant.owner().query(&again("")).await.data();
}

#[apply(palisade_test)]
async fn a_client_that_takes_none_of_its_answers_is_closed() {
    let (_, address, _) = slow_service().await;
    let stream = TcpStream::connect(&address).await.unwrap();
    let many = "GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1_000);
    // Until neither side has room for more, and then until the service gives up.
    eventually("it is closed", async || {
        loop {
            match stream.try_write(many.as_bytes()) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
                Err(_) => return true,
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[apply(palisade_test)]
async fn malformed_http_is_no_way_in() {
    let (_, address, token) = slow_service().await;
    let body = r#"{"query":"{ tenant { slug } }"}"#;
    let length = body.len();
    for (name, head) in [
        (
            "two lengths",
            format!("content-length: {length}\r\ncontent-length: 5"),
        ),
        ("no number", "content-length: x".to_owned()),
        (
            "bad chunking",
            "transfer-encoding: chunked, identity".to_owned(),
        ),
        (
            "space before the colon",
            format!("content-length : {length}"),
        ),
        ("folded", format!("content-length:\r\n {length}")),
    ] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let request = format!(
            "POST /graphql HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\n{head}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let (answer, _) = rest_of(stream, Duration::from_secs(20)).await;
        assert!(!answer.contains("HTTP/1.1 200"), "{name}: {answer}");
    }
}

#[apply(palisade_test)]
async fn half_open_connections_do_not_delay_others(app: &'static TestApp) {
    let tenant = app.tenant().await;
    let url = app.serve(ServiceOptions::default()).await;
    let address = url
        .trim_start_matches("http://")
        .trim_end_matches("/graphql");
    let mut held = Vec::new();
    for n in 0..100 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        if n % 2 == 0 {
            stream
                .write_all(b"POST /graphql HTTP/1.1\r\nhost: x\r\n")
                .await
                .unwrap();
        }
        held.push(stream);
    }
    let caller = tenant.owner().at(&url);
    let started = Instant::now();
    for _ in 0..10 {
        assert_eq!(
            caller.query("{ tenant { slug } }").await.data()["tenant"]["slug"],
            tenant.slug
        );
    }
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(held.len(), 100);
}

// Without a database

#[apply(palisade_test)]
async fn the_service_says_so_while_the_database_is_gone_and_recovers_by_itself() {
    let broken = Broken::new().await;
    let app = TestApp::shared().await;
    let document = "{ projects { totalCount } }";
    assert_eq!(broken.query(document).await.status, 200);
    assert_eq!(broken.health("/health/ready").await.status, 200);

    let mut postgres = superuser(app).await;
    let database = &broken.database;
    execute(
        &mut postgres,
        format!("alter database {database} with allow_connections false"),
    )
    .await;
    let terminate = format!(
        "select pg_terminate_backend(pid) from pg_stat_activity
         where datname = '{database}' and pid <> pg_backend_pid()"
    );
    execute(&mut postgres, terminate).await;
    // From now on, for every request: those that find a dead connection and those that find none.
    for _ in 0..6 {
        let started = Instant::now();
        let reply = broken.query(document).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (503, "UNAVAILABLE"),
            "{}",
            reply.text
        );
        assert_eq!(reply.header("retry-after"), "1");
        assert_eq!(
            reply.json()["errors"][0]["message"],
            "the service is busy, try again"
        );
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "{:?}",
            started.elapsed()
        );
    }
    assert_eq!(broken.health("/health/live").await.status, 200);
    assert_eq!(broken.health("/health/ready").await.status, 503);
    // What needs no database is answered.
    assert_eq!(query(&broken.url, "garbage", document).await.status, 401);

    execute(
        &mut postgres,
        format!("alter database {database} with allow_connections true"),
    )
    .await;
    eventually("it is ready", async || {
        broken.health("/health/ready").await.status == 200
    })
    .await;
    eventually("it answers", async || {
        broken.query(document).await.status == 200
    })
    .await;
    for _ in 0..6 {
        assert_eq!(
            broken.query(document).await.json()["data"],
            json!({ "projects": { "totalCount": 0 } })
        );
    }
}

#[apply(palisade_test)]
async fn connections_that_the_database_closed_cost_no_request() {
    let broken = Broken::new().await;
    let mut postgres = superuser(TestApp::shared().await).await;
    let document = "{ projects { totalCount } }";
    let (one, two) = tokio::join!(broken.query(document), broken.query(document));
    assert_eq!((one.status, two.status), (200, 200));
    let terminate = format!(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = '{}'",
        broken.database
    );
    execute(&mut postgres, terminate).await;
    let reply = broken.query(document).await;
    assert_eq!(
        reply.json()["data"],
        json!({ "projects": { "totalCount": 0 } })
    );
}
