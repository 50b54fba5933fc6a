//! Limits on bodies, documents, introspection and responses.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use macro_rules_attribute::apply;
use palisade::{
    db::{PoolSettings, TenantDb},
    http::Features,
};
use serde_json::json;

use super::{JSON, caller, post, query, reply, send, serve};
use crate::harness::{ServiceOptions, Tenant, TestApp, palisade_test, signing};

#[apply(palisade_test)]
async fn a_body_over_a_mebibyte_is_rejected() {
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
        // Without the guard, validating the smaller document would take seconds, and the larger one minutes.
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
async fn the_documents_of_frontends_are_accepted() {
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
async fn without_introspection_the_service_does_not_reveal_the_schema(app: &'static TestApp) {
    let tenant = app.tenant().await;
    let token = &tenant.owner().token;
    let db = TenantDb::connect(
        &app.database_url("palisade_app"),
        PoolSettings::default(),
        &signing(),
    )
    .await
    .unwrap();
    let url = serve(db, ServiceOptions::default(), Features::default()).await;
    let documents = [
        INTROSPECTION,
        "{ __schema { types { name } } }",
        "{ __type(name: \"Project\") { fields { name } } }",
    ];
    // The second time, the service finds the document in its cache of admitted documents.
    for document in documents.repeat(2) {
        let response = query(&url, token, document).await;
        let data = &response.json()["data"];
        assert!(
            data["__schema"].is_null() && data["__type"].is_null(),
            "{}",
            response.text
        );
        assert!(
            !response.text.contains("ProjectConnection"),
            "{}",
            response.text
        );
    }
    let response = query(&url, token, "{ __typename viewer { role } }").await;
    assert_eq!(
        response.json()["data"],
        json!({ "__typename": "Query", "viewer": { "role": "OWNER" } })
    );
    assert!(response.json()["extensions"].get("palisade").is_none());
    // By default, the service has no explorer and no redirect at `/`, and a response does not list its SQL
    // statements.
    for path in ["/graphiql", "/graphiql/schema.graphql", "/dev/people", "/"] {
        assert_eq!(
            reply(app.client.get(url.replace("/graphql", path)))
                .await
                .status,
            404,
            "{path}"
        );
    }
    let response = send(
        &url,
        token,
        &[JSON, ("palisade-trace", "1")],
        br#"{"query":"{ viewer { role } }"}"#.to_vec(),
    )
    .await;
    let body = response.json();
    assert_eq!(body["data"], json!({ "viewer": { "role": "OWNER" } }));
    assert!(body["extensions"].get("palisade").is_none());
}

#[apply(palisade_test)]
async fn a_response_that_grows_too_long_is_rejected_while_it_is_built(tenant: Tenant) {
    let seed = tenant.seed(1, 0).await;
    let sql = "insert into comments (id, author_id, project_id, body)
        select app.uuid_v7(), app.user_id(), $1, repeat('x', 10000) from generate_series(1, 100)";
    sqlx::query(sql)
        .bind(seed.projects[0])
        .execute(&mut tenant.begin().await.0)
        .await
        .unwrap();
    // The operation fetches a hundred rows, but its response would contain ten thousand objects: 100 MB.
    let again = |body: &str| {
        let project = crate::harness::id("prj", seed.projects[0]);
        format!(
            r#"{{ project(id: "{project}") {{ comments(first: 100) {{ nodes {{ subject {{ ... on Project {{
                comments(first: 100) {{ nodes {{ id {body} }} }} }} }} }} }} }} }}"#
        )
    };
    let reply = tenant.owner().send(&again("body"), &json!({}), &[]).await;
    let response = reply.response();
    assert_eq!(response.code(), "QUERY_TOO_COMPLEX");
    let message = response.body["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains("8388608 bytes"), "{message}");
    assert!(reply.text.len() < 8 * 1024 * 1024, "{}", reply.text.len());
    tenant.owner().query(&again("")).await.data();
}

#[apply(palisade_test)]
async fn the_length_limit_of_a_response_counts_the_bytes_of_its_json(tenant: Tenant) {
    let seed = tenant.seed(1, 0).await;
    // JSON writes this character as six bytes.
    let sql = "insert into comments (id, author_id, project_id, body)
        select app.uuid_v7(), app.user_id(), $1, repeat(chr(1), 10000) from generate_series(1, 100)";
    sqlx::query(sql)
        .bind(seed.projects[0])
        .execute(&mut tenant.begin().await.0)
        .await
        .unwrap();
    let project = crate::harness::id("prj", seed.projects[0]);
    let document = |fields: &str| {
        format!(
            "{{ project(id: \"{project}\") {{ comments(first: 100) {{ nodes {{ {fields} }} }} }} }}"
        )
    };
    // 29 MB of characters, 174 MB of JSON.
    let bodies: Vec<String> = (0..29).map(|n| format!("b{n}: body")).collect();
    let response = tenant.owner().query(&document(&bodies.join(" "))).await;
    assert_eq!(response.code(), "QUERY_TOO_COMPLEX");
    // 2 MB of characters, 12 MB of JSON.
    let response = tenant.owner().query(&document("b0: body b1: body")).await;
    assert_eq!(response.code(), "QUERY_TOO_COMPLEX");
    // 1 MB of characters, 6 MB of JSON.
    tenant.owner().query(&document("body")).await.data();
}
