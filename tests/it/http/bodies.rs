//! Request bodies: which bodies the service accepts and rejects, and hostile values in them.

use macro_rules_attribute::apply;
use palisade::ids::ProjectId;
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use super::{JSON, caller, post, query, reply, send};
use crate::harness::{TestApp, palisade_test};

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
async fn methods_other_than_get_and_post_are_rejected() {
    let (url, token) = caller().await;
    let client = &TestApp::shared().await.client;
    for method in [Method::PUT, Method::DELETE, Method::PATCH, Method::TRACE] {
        let url = format!("{url}?query=%7B__typename%7D");
        let response = reply(client.request(method.clone(), url).bearer_auth(&token)).await;
        assert_eq!(
            (response.status, response.header("allow")),
            (405, "GET, POST"),
            "{method}"
        );
        // The response does not allow a page of another origin to read it.
        assert_eq!(
            response.header("access-control-allow-origin"),
            "",
            "{method}"
        );
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
async fn a_body_that_is_not_a_request_is_rejected() {
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
        // Batches, which the service does not accept by default.
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
    // Unknown members are ignored (GraphQL over HTTP, 5.3), and null members are treated as absent.
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
    let mut rejected = vec![
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
        rejected.push((by_first, first));
    }
    for (document, value) in rejected {
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
            "{document} {shown}: a response of {} bytes",
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
    // Unusual values that are valid cause no error.
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
async fn an_unknown_id_is_not_an_error_and_reveals_nothing() {
    let (url, token) = caller().await;
    let document = format!("{{ project(id: \"{}\") {{ id }} }}", ProjectId::generate());
    assert_eq!(
        query(&url, &token, &document).await.text,
        r#"{"data":{"project":null},"extensions":{"cost":{"requested":1,"actual":0}}}"#
    );
}
