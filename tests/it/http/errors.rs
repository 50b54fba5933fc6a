//! Errors: statuses, locations, headers and messages.

use std::fmt::Write as _;

use macro_rules_attribute::apply;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Broken, GRAPHQL, JSON, caller, execute, post, query, reply, send};
use crate::harness::{TestApp, palisade_test};

#[apply(palisade_test)]
async fn an_invalid_document_is_rejected_with_its_location() {
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
        // Nothing was executed, so the response has no member `data` (GraphQL, 7.1).
        assert!(reply.json().get("data").is_none(), "{}", reply.text);
        assert!(!reply.text.contains("Did you mean"), "{}", reply.text);
    }
}

#[apply(palisade_test)]
async fn a_response_has_at_most_25_errors() {
    let (url, token) = caller().await;
    let fields = (0..500).fold(String::new(), |mut text, n| {
        write!(text, "nothing{n} ").unwrap();
        text
    });
    let reply = query(&url, &token, &format!("{{ viewer {{ {fields} }} }}")).await;
    assert_eq!(reply.json()["errors"].as_array().map(Vec::len), Some(25));
}

#[apply(palisade_test)]
async fn the_status_depends_on_the_media_type_that_the_client_accepts() {
    let (url, token) = caller().await;
    let document = |text: &str| json!({ "query": text }).to_string();
    let long = document(&format!("{{ __typename }} #{}", "x".repeat(64 * 1024)));
    // The body, the status for `application/json`, and the status for `application/graphql-response+json`.
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
async fn every_response_has_its_request_id() {
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
async fn every_response_has_the_security_headers() {
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
    // Errors that the router returns, such as 405.
    let wrong_method = client.post(url.replace("/graphql", "/health/live"));
    replies.push(reply(wrong_method).await);
    replies.push(reply(client.put(&url)).await);
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
async fn an_internal_error_contains_no_message_of_the_database() {
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
        // `column` is also a member of an error's location, where it is allowed.
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
