//! GraphQL over HTTP for well-behaved clients: methods, media types, origins, batches, persisted documents, budgets and
//! slots.

use std::{
    fmt::Write as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use macro_rules_attribute::apply;
use palisade::config::TrafficSettings;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sqlx::Connection as _;
use tokio::task::JoinSet;

use crate::harness::{
    Caller, ServiceOptions, TestApp, attempt, eventually, lock_table, palisade_test, settings,
};

const GRAPHQL: &str = "application/graphql-response+json";
const VIEWER: &str = "{ viewer { role } }";

/// Starts a service with these traffic settings. Returns a caller of this service.
async fn caller(traffic: TrafficSettings) -> Caller {
    let app = TestApp::shared().await;
    let tenant = app.tenant().await;
    let settings = palisade::config::ServiceSettings {
        traffic,
        ..settings(ServiceOptions::default())
    };
    let url = app.serve_with(&app.database, settings).await;
    tenant.owner().at(&url)
}

fn get(caller: &Caller, parameters: &[(&str, &str)]) -> RequestBuilder {
    let client = &caller.app.client;
    let query = parameters.iter().copied();
    let url = reqwest::Url::parse_with_params(&caller.url, query).unwrap();
    client.get(url).bearer_auth(&caller.token)
}

fn post(caller: &Caller, body: &Value) -> RequestBuilder {
    let client = &caller.app.client;
    client
        .post(&caller.url)
        .bearer_auth(&caller.token)
        .json(body)
}

fn header(response: &Response, name: &str) -> String {
    let value = response.headers().get(name);
    value.map_or(String::new(), |value| value.to_str().unwrap().to_owned())
}

/// The remaining rows of the budget, as a response reports them.
fn left(response: &Response) -> u64 {
    header(response, "ratelimit")
        .strip_prefix(r#""rows";r="#)
        .and_then(|rest| rest.split_once(';'))
        .and_then(|(left, _)| left.parse().ok())
        .unwrap()
}

async fn sent(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

fn code(body: &Value) -> &str {
    body["errors"][0]["extensions"]["code"]
        .as_str()
        .unwrap_or_default()
}

fn hash(document: &str) -> String {
    let digest = Sha256::digest(document);
    digest.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[apply(palisade_test)]
async fn get_runs_a_query_and_rejects_a_mutation() {
    let caller = caller(TrafficSettings::default()).await;
    let (status, body) = sent(get(&caller, &[("query", VIEWER)])).await;
    assert_eq!(
        (status, &body["data"]),
        (200, &json!({ "viewer": { "role": "OWNER" } }))
    );

    let document =
        "query A($n: Int!) { projects(first: $n) { totalCount } } query B { __typename }";
    let parameters = [
        ("query", document),
        ("operationName", "A"),
        ("variables", r#"{"n":1}"#),
        ("extensions", "{}"),
        ("other", "is ignored"),
    ];
    let (_, body) = sent(get(&caller, &parameters)).await;
    assert_eq!(body["data"], json!({ "projects": { "totalCount": 0 } }));

    let rename = r#"mutation { inviteUser(input: { email: "by@get.example" }) { user { id } } }"#;
    let response = get(&caller, &[("query", rename)]).send().await.unwrap();
    assert_eq!(response.status(), 405);
    assert_eq!(header(&response, "allow"), "POST");
    let users = caller.query("{ users { totalCount } }").await;
    assert_eq!(
        users.data()["users"]["totalCount"],
        5,
        "no user was invited"
    );

    for wrong in [
        &[][..],
        &[("query", VIEWER), ("query", VIEWER)],
        &[("query", VIEWER), ("variables", "{")],
        &[("query", VIEWER), ("variables", "[]")],
        &[("query", VIEWER), ("extensions", "1")],
    ] {
        let (status, body) = sent(get(&caller, wrong)).await;
        assert_eq!((status, code(&body)), (400, "BAD_USER_INPUT"), "{wrong:?}");
    }
    // Without a token, a GET is rejected as well.
    let url = format!("{}?query=%7B__typename%7D", caller.url);
    let unauthenticated = caller.app.client.get(url).send().await.unwrap();
    assert_eq!(unauthenticated.status(), 401);
}

#[apply(palisade_test)]
async fn the_client_chooses_the_media_type() {
    let caller = caller(TrafficSettings::default()).await;
    for (accept, status, kind) in [
        (GRAPHQL, 200, GRAPHQL),
        ("application/json", 200, "application/json"),
        ("*/*", 200, "application/json"),
        (
            "application/json;q=0.1, application/graphql-response+json;q=0.2",
            200,
            GRAPHQL,
        ),
        ("text/html", 406, "application/json"),
        ("application/xml, text/*", 406, "application/json"),
    ] {
        let request = post(&caller, &json!({ "query": VIEWER })).header("accept", accept);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{accept}");
        let given = header(&response, "content-type");
        assert_eq!(given, format!("{kind}; charset=utf-8"), "{accept}");
    }
}

#[apply(palisade_test)]
async fn only_pages_of_allowed_origins_may_call_the_api() {
    let caller = caller(TrafficSettings {
        cors_origins: vec!["https://app.example".to_owned()],
        ..TrafficSettings::default()
    })
    .await;
    let body = json!({ "query": VIEWER });
    let from = |origin: &str| post(&caller, &body).header("origin", origin);

    let own = reqwest::Url::parse(&caller.url).unwrap();
    let own = own.origin().ascii_serialization();
    for origin in ["https://app.example", &own] {
        assert_eq!(sent(from(origin)).await.0, 200, "{origin}");
    }
    let response = from("https://app.example").send().await.unwrap();
    assert_eq!(
        header(&response, "access-control-allow-origin"),
        "https://app.example"
    );
    for origin in [
        "https://evil.example",
        "null",
        "https://app.example.evil.example",
    ] {
        let response = from(origin).send().await.unwrap();
        assert_eq!(
            header(&response, "access-control-allow-origin"),
            "",
            "{origin}"
        );
        assert_eq!(response.status(), 403, "{origin}");
        let body: Value = response.json().await.unwrap();
        assert_eq!(code(&body), "CSRF_BLOCKED", "{origin}");
        let (status, _) = sent(get(&caller, &[("query", VIEWER)]).header("origin", origin)).await;
        assert_eq!(status, 403, "{origin}");
    }

    // A browser sends a preflight before a request that an HTML form could not send.
    let preflight = |origin: &str| {
        let client = &caller.app.client;
        client
            .request(Method::OPTIONS, &caller.url)
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header(
                "access-control-request-headers",
                "authorization,idempotency-key,prefer",
            )
    };
    let allowed = preflight("https://app.example").send().await.unwrap();
    assert_eq!(allowed.status(), 200);
    assert_eq!(
        header(&allowed, "access-control-allow-origin"),
        "https://app.example"
    );
    for name in ["authorization", "content-type", "idempotency-key", "prefer"] {
        let names = header(&allowed, "access-control-allow-headers");
        assert!(
            names.split(',').any(|one| one == name),
            "{name} is not in {names}"
        );
    }
    let denied = preflight("https://evil.example").send().await.unwrap();
    assert_eq!(header(&denied, "access-control-allow-origin"), "");
}

#[apply(palisade_test)]
async fn a_long_response_is_compressed_if_the_client_accepts_it() {
    let caller = caller(TrafficSettings::default()).await;
    let long = json!({ "query": "{ currencies { code name minorDigits } }" });
    let plain = post(&caller, &long).send().await.unwrap();
    assert_eq!(header(&plain, "content-encoding"), "");
    let plain = plain.bytes().await.unwrap().len();
    for encoding in ["gzip", "br"] {
        let request = post(&caller, &long).header("accept-encoding", encoding);
        let response = request.send().await.unwrap();
        assert_eq!(header(&response, "content-encoding"), encoding);
        let size = response.bytes().await.unwrap().len();
        assert!(size * 2 < plain, "{encoding}: {size} of {plain} bytes");
    }
    let short = post(&caller, &json!({ "query": VIEWER })).header("accept-encoding", "gzip");
    let short = short.send().await.unwrap();
    assert_eq!(header(&short, "content-encoding"), "");
}

#[apply(palisade_test)]
async fn a_batch_is_rejected_unless_it_is_allowed_and_short() {
    let closed = caller(TrafficSettings::default()).await;
    let batch = |count: usize| Value::Array(vec![json!({ "query": VIEWER }); count]);
    let (status, body) = sent(post(&closed, &batch(1))).await;
    assert_eq!((status, code(&body)), (400, "BAD_USER_INPUT"));

    let open = caller(TrafficSettings {
        max_batch: 3,
        ..TrafficSettings::default()
    })
    .await;
    let (status, body) = sent(post(&open, &batch(3))).await;
    assert_eq!(status, 200);
    let responses = body.as_array().unwrap();
    assert_eq!(responses.len(), 3);
    assert!(
        responses
            .iter()
            .all(|one| one["data"]["viewer"]["role"] == "OWNER")
    );
    for wrong in [batch(0), batch(4), json!([1])] {
        let (status, body) = sent(post(&open, &wrong)).await;
        assert_eq!((status, code(&body)), (400, "BAD_USER_INPUT"), "{wrong}");
    }
    let (status, _) = sent(post(&open, &batch(2)).header("idempotency-key", "k")).await;
    assert_eq!(status, 400);

    // The operations are independent: the rejection of one does not affect the others.
    let mixed = json!([
        { "query": "{" },
        { "query": r#"mutation { createOrganization(input: { name: "Batched" }) { organization { name } } }"# },
        { "query": "{ organizations { nodes { name } } }" },
    ]);
    let (_, body) = sent(post(&open, &mixed)).await;
    assert_eq!(code(&body[0]), "GRAPHQL_PARSE_FAILED");
    assert_eq!(
        body[2]["data"]["organizations"]["nodes"],
        json!([{ "name": "Batched" }])
    );
}

#[apply(palisade_test)]
async fn a_document_is_stored_by_its_hash_for_its_tenant_only(app: &'static TestApp) {
    let (acme, globex) = (app.tenant().await, app.tenant().await);
    let storing = palisade::config::ServiceSettings {
        traffic: TrafficSettings {
            apq_bytes: 1_000_000,
            ..TrafficSettings::default()
        },
        ..settings(ServiceOptions::default())
    };
    let url = app.serve_with(&app.database, storing).await;
    let (acme, globex) = (acme.owner().at(&url), globex.owner().at(&url));

    let document = "query Role { viewer { role } }";
    let named = json!({ "extensions": { "persistedQuery": { "version": 1, "sha256Hash": hash(document) } } });
    let mut with_document = named.clone();
    with_document["query"] = json!(document);
    let (_, body) = sent(post(&acme, &named)).await;
    assert_eq!(code(&body), "PERSISTED_QUERY_NOT_FOUND");
    assert_eq!(body["errors"][0]["message"], "PersistedQueryNotFound");
    assert_eq!(
        sent(post(&acme, &with_document)).await.1["data"]["viewer"]["role"],
        "OWNER"
    );
    assert_eq!(
        sent(post(&acme, &named)).await.1["data"]["viewer"]["role"],
        "OWNER"
    );
    let extensions = named["extensions"].to_string();
    let (status, body) = sent(get(&acme, &[("extensions", &extensions)])).await;
    assert_eq!(
        (status, &body["data"]["viewer"]["role"]),
        (200, &json!("OWNER"))
    );
    // A client cannot find out which documents another tenant's clients send.
    assert_eq!(
        code(&sent(post(&globex, &named)).await.1),
        "PERSISTED_QUERY_NOT_FOUND"
    );

    // A document that the guard rejects is not stored.
    let wide = format!("{{ {} }}", "a ".repeat(6_000));
    for rejected in ["{ viewer {", wide.as_str()] {
        let named = json!({ "extensions": { "persistedQuery": { "version": 1, "sha256Hash": hash(rejected) } } });
        let mut with_document = named.clone();
        with_document["query"] = json!(rejected);
        let (_, body) = sent(post(&acme, &with_document)).await;
        assert!(
            ["GRAPHQL_PARSE_FAILED", "QUERY_TOO_COMPLEX"].contains(&code(&body)),
            "{body}"
        );
        let (_, body) = sent(post(&acme, &named)).await;
        assert_eq!(code(&body), "PERSISTED_QUERY_NOT_FOUND", "{body}");
    }

    let mut lie = named.clone();
    lie["query"] = json!("{ tenant { name } }");
    assert_eq!(code(&sent(post(&globex, &lie)).await.1), "BAD_USER_INPUT");
    assert_eq!(
        code(&sent(post(&globex, &named)).await.1),
        "PERSISTED_QUERY_NOT_FOUND"
    );
}

fn manifest(documents: &Value) -> PathBuf {
    let name = format!("palisade-trusted-{}.json", uuid::Uuid::now_v7());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, documents.to_string()).unwrap();
    path
}

#[apply(palisade_test)]
async fn only_trusted_documents_run_if_the_setting_requires_it() {
    let path = manifest(&json!({ "role": VIEWER }));
    let strict = caller(TrafficSettings {
        trusted_documents: Some(path.clone()),
        only_trusted: true,
        apq_bytes: 1_000_000,
        ..TrafficSettings::default()
    })
    .await;
    let open = caller(TrafficSettings {
        trusted_documents: Some(path.clone()),
        ..TrafficSettings::default()
    })
    .await;
    std::fs::remove_file(&path).unwrap();
    let role = json!({ "viewer": { "role": "OWNER" } });
    for body in [
        json!({ "documentId": "role" }),
        json!({ "documentId": format!("sha256:{}", hash(VIEWER)) }),
        json!({ "query": VIEWER }),
    ] {
        for caller in [&strict, &open] {
            let (status, response) = sent(post(caller, &body)).await;
            assert_eq!((status, &response["data"]), (200, &role), "{body}");
        }
    }
    let (_, by_get) = sent(get(&strict, &[("documentId", "role")])).await;
    assert_eq!(by_get["data"], role);

    let other = json!({ "query": "{ tenant { name } }" });
    assert_eq!(
        code(&sent(post(&strict, &other)).await.1),
        "DOCUMENT_NOT_TRUSTED"
    );
    let request = post(&strict, &other).header("accept", GRAPHQL);
    assert_eq!(sent(request).await.0, 400);
    assert!(sent(post(&open, &other)).await.1["data"]["tenant"].is_object());
    for caller in [&strict, &open] {
        let (_, response) = sent(post(caller, &json!({ "documentId": "other" }))).await;
        assert_eq!(code(&response), "DOCUMENT_NOT_TRUSTED");
    }
}

#[apply(palisade_test)]
async fn every_response_reports_its_cost_and_the_remaining_budget() {
    let caller = caller(TrafficSettings {
        tenant_budget: 1_000,
        ..TrafficSettings::default()
    })
    .await;
    let response = post(
        &caller,
        &json!({ "query": "{ users(first: 50) { nodes { email } } }" }),
    );
    let response = response.send().await.unwrap();
    assert_eq!(
        header(&response, "ratelimit-policy"),
        r#""rows";q=1000;w=60"#
    );
    let left = left(&response);
    let body: Value = response.json().await.unwrap();
    // The service charges a page of 50 rows and the row after the page. The tenant has five users.
    assert_eq!(
        body["extensions"]["cost"],
        json!({ "requested": 51, "actual": 5 })
    );
    // The charge for rows that were not fetched returns to the budget.
    assert!((990..=999).contains(&left), "{left}");
    let wrong = json!({ "query": "{ users(first: 100) { nodes { nothing } } }" });
    let response = post(&caller, &wrong).send().await.unwrap();
    let after = self::left(&response);
    assert!(after >= left - 1, "nothing was fetched: {after} of {left}");

    // The field reports the budget after the operation was charged its estimated rows.
    let asked = "{ rateLimit { limit remaining cost resetsInSeconds } users(first: 50) { nodes { email } } }";
    let response = caller.query(asked).await;
    let reported = &response.data()["rateLimit"];
    assert_eq!(
        (&reported["limit"], &reported["cost"]),
        (&json!(1_000), &json!(52))
    );
    let remaining = reported["remaining"].as_u64().unwrap();
    assert!((938..=948).contains(&remaining), "{remaining}");
    // The budget gains a thousand rows in a minute. The missing 60 or so take 3 to 4 seconds.
    let resets = reported["resetsInSeconds"].as_u64().unwrap();
    assert!((3..=4).contains(&resets), "{resets}");
}

#[apply(palisade_test)]
async fn rows_that_are_fetched_beyond_the_estimate_are_charged() {
    let caller = caller(TrafficSettings {
        tenant_budget: 1_000,
        ..TrafficSettings::default()
    })
    .await;
    let response = post(&caller, &json!({ "query": "{ currencies { code } }" }));
    let response = response.send().await.unwrap();
    let left = left(&response);
    let body: Value = response.json().await.unwrap();
    assert_eq!(
        body["extensions"]["cost"],
        json!({ "requested": 1, "actual": 48 })
    );
    assert!((952..=957).contains(&left), "{left}");
}

#[apply(palisade_test)]
async fn rows_that_were_not_fetched_return_to_the_budget_if_the_client_disconnects() {
    const BUDGET: u64 = 25_000;
    let app = TestApp::shared().await.in_own_database(&[]).await;
    let tenant = app.tenant().await;
    let bounded = palisade::config::ServiceSettings {
        traffic: TrafficSettings {
            tenant_budget: BUDGET,
            ..TrafficSettings::default()
        },
        ..settings(ServiceOptions::default())
    };
    let url = app.serve_with(&app.database, bounded).await;
    let caller = tenant.owner().at(&url);
    let mut holder = lock_table(app, "projects").await;

    let now = async || {
        // The service rejects this media type before the request is charged.
        let response = post(&caller, &json!({})).header("content-type", "text/plain");
        left(&response.send().await.unwrap())
    };
    let began = Instant::now();
    // The estimate is 16,161 rows.
    let costly = json!({ "query": "{ projects(first: 80) { nodes { invoices(first: 100) { nodes { project { id } } } } } }" });
    let waits = tokio::spawn(post(&caller, &costly).send());
    eventually("one operation waits for the lock", async || {
        now().await < 10_000
    })
    .await;
    waits.abort();
    // The tenant pays for the time that the statement waited: 20 rows for each millisecond.
    let waited = u64::try_from(began.elapsed().as_millis()).unwrap() + 200;
    let expected = BUDGET.saturating_sub(20 * waited);
    eventually("the rows are back in the budget", async || {
        now().await >= expected
    })
    .await;
    attempt(&mut holder, "rollback".to_owned()).await.unwrap();
}

#[apply(palisade_test)]
async fn rate_limit_is_null_if_the_service_sets_no_budget() {
    let caller = caller(TrafficSettings::default()).await;
    let response = caller.query("{ rateLimit { limit } }").await;
    assert_eq!(response.data()["rateLimit"], Value::Null);
}

#[apply(palisade_test)]
async fn a_tenant_over_its_budget_waits_and_the_others_do_not(app: &'static TestApp) {
    let (greedy, modest) = (app.tenant().await, app.tenant().await);
    let bounded = palisade::config::ServiceSettings {
        traffic: TrafficSettings {
            tenant_budget: 6_000,
            ..TrafficSettings::default()
        },
        ..settings(ServiceOptions::default())
    };
    let url = app.serve_with(&app.database, bounded).await;
    let (greedy, modest) = (greedy.owner().at(&url), modest.owner().at(&url));
    // An estimate above the limit is accepted while the budget is full. The operation fetches five rows.
    let all = json!({ "query": "{ users(first: 100) { nodes { projects(first: 100) { nodes { id } } } } }" });
    assert_eq!(sent(post(&greedy, &all)).await.0, 200);
    let response = post(&greedy, &all).send().await.unwrap();
    assert_eq!(response.status(), 429);
    let wait: u64 = header(&response, "retry-after").parse().unwrap();
    assert!((1..=2).contains(&wait), "a hundred rows a second: {wait}");
    let body: Value = response.json().await.unwrap();
    assert_eq!(code(&body), "RATE_LIMITED");
    assert_eq!(
        sent(post(&modest, &all)).await.0,
        200,
        "the other tenant does not wait"
    );
    eventually("the budget has filled up again", async || {
        sent(post(&greedy, &all)).await.0 == 200
    })
    .await;
}

#[apply(palisade_test)]
async fn one_tenant_cannot_take_every_slot(app: &'static TestApp) {
    let (greedy, modest) = (app.tenant().await, app.tenant().await);
    let seed = greedy.seed(1, 0).await;
    let shared = palisade::config::ServiceSettings {
        traffic: TrafficSettings {
            // One user has half of them.
            tenant_slots: Some(4),
            ..TrafficSettings::default()
        },
        ..settings(ServiceOptions {
            pool_size: 3,
            ..ServiceOptions::default()
        })
    };
    let url = app.serve_with(&app.database, shared).await;
    let (greedy_caller, modest) = (greedy.owner().at(&url), modest.owner().at(&url));

    // A transaction locks a row, so every update of the row waits.
    let mut holder = app.connect("postgres").await;
    let mut held = holder.begin().await.unwrap();
    let lock = format!(
        "select from projects where id = '{}' for update",
        seed.projects[0]
    );
    attempt(&mut held, lock).await.unwrap();
    let rename = json!({ "query": format!(
        r#"mutation {{ updateProject(input: {{ id: "{}", name: "Held" }}) {{ project {{ name }} userErrors {{ code }} }} }}"#,
        crate::harness::id("prj", seed.projects[0]),
    ) });
    let mut waiting = JoinSet::new();
    for _ in 0..10 {
        let request = post(&greedy_caller, &rename);
        waiting.spawn(async move { sent(request).await });
    }
    let active = "select count(*) from pg_stat_activity
                  where application_name like 'palisade %' and wait_event_type = 'Lock'
                    and datname = current_database() and query like 'UPDATE \"projects\"%'";
    let mut watcher = app.connect("postgres").await;
    eventually("both slots of the tenant wait for the row", async || {
        let count: i64 = sqlx::query_scalar(active)
            .fetch_one(&mut watcher)
            .await
            .unwrap();
        assert!(count <= 2, "{count} run at once");
        count == 2
    })
    .await;
    // The third connection serves the other tenant.
    let response = tokio::time::timeout(Duration::from_secs(1), modest.query(VIEWER)).await;
    assert_eq!(
        response.expect("the other tenant waits").data()["viewer"]["role"],
        "OWNER"
    );
    held.rollback().await.unwrap();
    while let Some(result) = waiting.join_next().await {
        let (status, body) = result.unwrap();
        let done = json!({ "updateProject": { "project": { "name": "Held" }, "userErrors": [] } });
        assert_eq!((status, &body["data"]), (200, &done), "{body}");
    }
}
