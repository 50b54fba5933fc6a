//! Authentication: every invalid token is rejected, and all rejections look alike.

use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, crypto::sign};
use macro_rules_attribute::apply;
use palisade::{
    auth::role::UserRole,
    ids::{EntityId as _, TenantId, UserId},
};
use reqwest::header::{AUTHORIZATION, HeaderMap};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{SECRET, Tenant, TestApp, enter, eventually, palisade_test, session_context};

/// The maximum time for which the service uses a cached role, plus some time to read the role again.
const CACHE_LIMIT: Duration = Duration::from_secs(10);
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

fn now() -> i64 {
    chrono::Utc::now().timestamp()
}

/// The claims of a valid token.
fn claims(tenant: TenantId, user: UserId) -> Value {
    json!({
        "sub": user.uuid(), "tenant_id": tenant.uuid(), "iss": "palisade", "aud": "palisade",
        "exp": now() + 3_600, "iat": now(),
    })
}

fn part(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// A token with any header and claims, signed with HS256 even if the header names another algorithm.
fn forge(header: &str, claims: &str, secret: &str) -> String {
    forge_with(header, claims, secret, Algorithm::HS256)
}

fn forge_with(header: &str, claims: &str, secret: &str, algorithm: Algorithm) -> String {
    let message = format!("{}.{}", part(header), part(claims));
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = sign(message.as_bytes(), &key, algorithm).unwrap();
    format!("{message}.{signature}")
}

/// The claims with some changes; null removes a claim.
fn with(claims: &Value, changes: Value) -> String {
    let (Value::Object(mut claims), Value::Object(changes)) = (claims.clone(), changes) else {
        panic!("claims are an object");
    };
    for (name, value) in changes {
        match value {
            Value::Null => claims.remove(&name),
            value => claims.insert(name, value),
        };
    }
    Value::Object(claims).to_string()
}

/// Sends a request with these authorization headers. Returns the status, the headers and the body, without the headers
/// that differ between any two responses.
async fn ask(
    app: &TestApp,
    authorizations: &[String],
    document: &str,
) -> (u16, Vec<(String, String)>, String) {
    let mut request = app
        .client
        .post(&app.url)
        .json(&json!({ "query": document }));
    for authorization in authorizations {
        request = request.header(AUTHORIZATION, authorization);
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let headers = comparable(response.headers());
    (status, headers, response.text().await.unwrap())
}

fn comparable(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = headers
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "date" | "x-request-id"))
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    headers.sort();
    headers
}

async fn status(app: &TestApp, token: &str) -> u16 {
    ask(app, &[format!("Bearer {token}")], "{ viewer { role } }")
        .await
        .0
}

/// Changes the status of the tenant, which only the admin role may do.
async fn set_tenant_status(tenant: &Tenant, status: &str) {
    let mut admin = tenant.app.connect("palisade_admin").await;
    enter(&mut admin, &session_context(tenant.id, None, None)).await;
    let changed = sqlx::query("update tenants set status = $1 where id = $2")
        .bind(status)
        .bind(tenant.id)
        .execute(&mut admin)
        .await
        .unwrap();
    assert_eq!(changed.rows_affected(), 1);
}

async fn change_user(tenant: &Tenant, user: UserId, change: &'static str) {
    let mut sql = tenant.begin().await;
    let changed = sqlx::query(change)
        .bind(user)
        .execute(&mut sql.0)
        .await
        .unwrap();
    assert_eq!(changed.rows_affected(), 1, "{change}");
}

/// Every kind of invalid token that the service rejects without a query to the database, with a name for each kind.
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn forgeries(good: &Value, foreign_user: UserId) -> Vec<(&'static str, Vec<String>)> {
    let good_token = forge(HEADER, &good.to_string(), SECRET);
    let mut cases: Vec<(&'static str, Vec<String>)> = vec![
        ("no header", vec![]),
        (
            "two headers",
            vec![
                format!("Bearer {good_token}"),
                format!("Bearer {good_token}"),
            ],
        ),
        ("another scheme", vec![format!("Basic {good_token}")]),
        ("no scheme", vec![good_token.clone()]),
        ("scheme only", vec!["Bearer".to_owned()]),
        ("empty token", vec!["Bearer ".to_owned()]),
        ("two spaces", vec![format!("Bearer  {good_token}")]),
        (
            "two tokens",
            vec![format!("Bearer {good_token} {good_token}")],
        ),
        (
            "list of tokens",
            vec![format!("Bearer {good_token}, Bearer {good_token}")],
        ),
        ("garbage", vec!["Bearer garbage".to_owned()]),
        ("three dots", vec!["Bearer ...".to_owned()]),
        ("a long one", vec![format!("Bearer {}", "a".repeat(8_000))]),
        (
            "no signature",
            vec![format!(
                "Bearer {}.",
                good_token.rsplit_once('.').unwrap().0
            )],
        ),
        (
            "cut signature",
            vec![format!("Bearer {}", &good_token[..good_token.len() - 2])],
        ),
    ];
    let mut token = |name, token: String| cases.push((name, vec![format!("Bearer {token}")]));
    let text = good.to_string();

    token(
        "wrong secret",
        forge(HEADER, &text, "another secret, also long enough to be one"),
    );
    let none = format!("{}.{}", part(r#"{"alg":"none","typ":"JWT"}"#), part(&text));
    token("alg none", format!("{none}."));
    token(
        "alg none, signed",
        forge(r#"{"alg":"none","typ":"JWT"}"#, &text, SECRET),
    );
    token(
        "alg HS512",
        forge_with(
            r#"{"alg":"HS512","typ":"JWT"}"#,
            &text,
            SECRET,
            Algorithm::HS512,
        ),
    );
    token(
        "alg HS384",
        forge_with(
            r#"{"alg":"HS384","typ":"JWT"}"#,
            &text,
            SECRET,
            Algorithm::HS384,
        ),
    );
    token(
        "alg RS256 over an HMAC",
        forge(r#"{"alg":"RS256","typ":"JWT"}"#, &text, SECRET),
    );
    token(
        "HS256 in the header, HS512 signature",
        forge_with(HEADER, &text, SECRET, Algorithm::HS512),
    );
    token("no alg", forge(r#"{"typ":"JWT"}"#, &text, SECRET));
    token("typ missing", forge(r#"{"alg":"HS256"}"#, &text, SECRET));
    token(
        "typ of another kind",
        forge(r#"{"alg":"HS256","typ":"at+jwt"}"#, &text, SECRET),
    );
    token(
        "critical extensions",
        forge(
            r#"{"alg":"HS256","typ":"JWT","crit":["x"],"x":1}"#,
            &text,
            SECRET,
        ),
    );
    token(
        "key id of no secret",
        forge(
            r#"{"alg":"HS256","typ":"JWT","kid":"0123456789abcdef"}"#,
            &text,
            SECRET,
        ),
    );
    token("claims are not an object", forge(HEADER, "[]", SECRET));
    token("claims are not JSON", forge(HEADER, "{", SECRET));

    let changes = [
        (
            "expired beyond the leeway",
            json!({ "exp": now() - 30, "iat": now() - 60 }),
        ),
        ("not valid yet", json!({ "nbf": now() + 60 })),
        ("issued in the future", json!({ "iat": now() + 60 })),
        ("without sub", json!({ "sub": null })),
        ("without tenant_id", json!({ "tenant_id": null })),
        ("without iss", json!({ "iss": null })),
        ("without aud", json!({ "aud": null })),
        ("without exp", json!({ "exp": null })),
        ("without iat", json!({ "iat": null })),
        ("wrong iss", json!({ "iss": "palisade.example" })),
        ("iss as array", json!({ "iss": ["palisade"] })),
        ("wrong aud", json!({ "aud": "palisade.example" })),
        ("aud as number", json!({ "aud": 1 })),
        ("aud as object", json!({ "aud": { "palisade": true } })),
        ("aud as array", json!({ "aud": ["palisade"] })),
        (
            "exp as string",
            json!({ "exp": (now() + 3_600).to_string() }),
        ),
        ("exp as fraction", json!({ "exp": 1e300 })),
        ("exp below zero", json!({ "exp": i64::MIN })),
        (
            "exp in the year 9999",
            json!({ "exp": 253_402_300_799_i64 }),
        ),
        ("exp beyond the calendar", json!({ "exp": i64::MAX })),
        ("a life of 32 days", json!({ "exp": now() + 32 * 86_400 })),
        ("nbf as string", json!({ "nbf": "0" })),
        ("nil tenant", json!({ "tenant_id": Uuid::nil() })),
        ("tenant is not a UUID", json!({ "tenant_id": "acme" })),
        ("tenant as number", json!({ "tenant_id": 1 })),
        (
            "tenant with SQL",
            json!({ "tenant_id": format!("{}' or '1'='1", Uuid::now_v7()) }),
        ),
        ("sub is not a UUID", json!({ "sub": "owner" })),
        ("nil user", json!({ "sub": Uuid::nil() })),
        (
            "user of another tenant",
            json!({ "sub": foreign_user.uuid() }),
        ),
        ("unknown user", json!({ "sub": Uuid::now_v7() })),
        ("unknown tenant", json!({ "tenant_id": Uuid::now_v7() })),
    ];
    for (name, change) in changes {
        token(name, forge(HEADER, &with(good, change), SECRET));
    }
    for name in ["sub", "tenant_id", "iss", "aud", "exp", "iat"] {
        let twice = format!("{},{:?}:{}}}", text.trim_end_matches('}'), name, good[name]);
        token("duplicate claim", forge(HEADER, &twice, SECRET));
    }
    cases
}

#[apply(palisade_test)]
async fn every_invalid_token_is_rejected_with_the_same_bytes(app: &'static TestApp) {
    let (acme, globex) = (app.tenant().await, app.tenant().await);
    let good = claims(acme.id, acme.owner().user);
    assert_eq!(
        status(app, &forge(HEADER, &good.to_string(), SECRET)).await,
        200
    );

    let mut cases = forgeries(&good, globex.owner().user);
    let mut of = |name, tenant: &Tenant, user| {
        let token = forge(HEADER, &claims(tenant.id, user).to_string(), SECRET);
        cases.push((name, vec![format!("Bearer {token}")]));
    };
    let (gone, left) = (acme.caller(UserRole::Viewer), acme.caller(UserRole::Member));
    change_user(
        &acme,
        left.user,
        "update users set status = 'DEACTIVATED' where id = $1",
    )
    .await;
    change_user(&acme, gone.user, "delete from users where id = $1").await;
    of("deactivated user", &acme, left.user);
    of("removed user", &acme, gone.user);
    change_user(
        &globex,
        globex.caller(UserRole::Billing).user,
        "update users set status = 'INVITED' where id = $1",
    )
    .await;
    of(
        "user who has not accepted",
        &globex,
        globex.caller(UserRole::Billing).user,
    );
    for tenant_status in ["SUSPENDED", "DELETING", "PROVISIONING"] {
        let tenant = app.tenant().await;
        set_tenant_status(&tenant, tenant_status).await;
        of("tenant that is not active", &tenant, tenant.owner().user);
    }

    let (expected_status, expected_headers, expected_body) =
        ask(app, &[], "{ viewer { role } }").await;
    assert_eq!(expected_status, 401);
    assert!(expected_headers.contains(&("www-authenticate".to_owned(), "Bearer".to_owned())));
    let body: Value = serde_json::from_str(&expected_body).unwrap();
    assert_eq!(
        body,
        json!({ "errors": [{
            "message": "Invalid or expired token",
            "extensions": { "code": "UNAUTHENTICATED" },
        }] })
    );
    for (name, authorizations) in cases {
        let response = ask(app, &authorizations, "{ viewer { role } }").await;
        assert_eq!(response.0, 401, "{name}: {authorizations:?}");
        assert_eq!(response.1, expected_headers, "{name}");
        assert_eq!(response.2, expected_body, "{name}");
    }
}

#[apply(palisade_test)]
async fn a_valid_token_is_accepted_within_the_clock_leeway(app: &'static TestApp) {
    let acme = app.tenant().await;
    let good = claims(acme.id, acme.owner().user);
    for (name, change) in [
        ("as issued", json!({})),
        (
            "just expired",
            json!({ "exp": now() - 2, "iat": now() - 60 }),
        ),
        ("issued by a clock ahead", json!({ "iat": now() + 3 })),
        ("valid by a clock ahead", json!({ "nbf": now() + 3 })),
        ("a life of 31 days", json!({ "exp": now() + 31 * 86_400 })),
        (
            "further claims",
            json!({ "role": "OWNER", "name": "Olivia" }),
        ),
    ] {
        let token = forge(HEADER, &with(&good, change), SECRET);
        assert_eq!(status(app, &token).await, 200, "{name}");
    }
    // The name of the scheme is case-insensitive (RFC 9110, 11.1).
    let token = forge(HEADER, &good.to_string(), SECRET);
    for scheme in ["bearer", "BEARER"] {
        let (status, ..) = ask(app, &[format!("{scheme} {token}")], "{ __typename }").await;
        assert_eq!(status, 200, "{scheme}");
    }
}

#[apply(palisade_test)]
async fn the_role_comes_from_the_database_whatever_the_token_says(app: &'static TestApp) {
    let acme = app.tenant().await;
    let viewer = acme.caller(UserRole::Viewer);
    let claims = with(&claims(acme.id, viewer.user), json!({ "role": "OWNER" }));
    let token = forge(HEADER, &claims, SECRET);
    let (_, _, body) = ask(app, &[format!("Bearer {token}")], "{ viewer { role } }").await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["data"], json!({ "viewer": { "role": "VIEWER" } }));
}

#[apply(palisade_test)]
async fn no_header_query_or_cookie_moves_a_caller_to_another_tenant(app: &'static TestApp) {
    let (acme, globex) = (app.tenant().await, app.tenant().await);
    let foreign = globex.id.uuid().to_string();
    let response = app
        .client
        .post(format!("{}?tenant_id={foreign}&tenant={foreign}", app.url))
        .bearer_auth(&acme.owner().token)
        .header("x-tenant-id", &foreign)
        .header("x-tenant", &foreign)
        .header("tenant", &globex.slug)
        .header("cookie", format!("tenant_id={foreign}; token={}", globex.owner().token))
        .json(&json!({
            "query": "{ tenant { slug } }", "tenantId": foreign, "extensions": { "tenant": foreign },
        }))
        .send()
        .await
        .unwrap();
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["data"], json!({ "tenant": { "slug": acme.slug } }));

    // A cookie or a query parameter alone does not authenticate either.
    let token = &acme.owner().token;
    let response = app
        .client
        .post(format!("{}?access_token={token}&token={token}", app.url))
        .header(
            "cookie",
            format!("token={token}; authorization=Bearer {token}"),
        )
        .json(&json!({ "query": "{ tenant { slug } }" }))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status().as_u16(), 401);
}

#[apply(palisade_test)]
async fn a_deactivated_user_is_rejected_within_seconds(app: &'static TestApp) {
    let acme = app.tenant().await;
    let member = acme.caller(UserRole::Member);
    assert_eq!(status(app, &member.token).await, 200);
    change_user(
        &acme,
        member.user,
        "update users set status = 'DEACTIVATED' where id = $1",
    )
    .await;
    let changed = Instant::now();
    eventually("the user is out", async || {
        status(app, &member.token).await == 401
    })
    .await;
    assert!(changed.elapsed() <= CACHE_LIMIT, "{:?}", changed.elapsed());
    assert_eq!(status(app, &acme.owner().token).await, 200);
}

#[apply(palisade_test)]
async fn a_suspended_tenant_is_rejected_within_seconds_and_accepted_afterwards(
    app: &'static TestApp,
) {
    let acme = app.tenant().await;
    assert_eq!(status(app, &acme.owner().token).await, 200);
    for (tenant_status, expected) in [("SUSPENDED", 401), ("ACTIVE", 200)] {
        set_tenant_status(&acme, tenant_status).await;
        let changed = Instant::now();
        eventually(tenant_status, async || {
            status(app, &acme.owner().token).await == expected
        })
        .await;
        assert!(
            changed.elapsed() <= CACHE_LIMIT,
            "{tenant_status}: {:?}",
            changed.elapsed()
        );
    }
}

#[apply(palisade_test)]
async fn a_changed_role_takes_effect_within_seconds(app: &'static TestApp) {
    let acme = app.tenant().await;
    acme.seed(1, 0).await;
    let admin = acme.caller(UserRole::Admin);
    let log = "{ viewer { role } auditLogs(first: 1) { nodes { id } } }";
    let before = admin.query(log).await;
    assert_eq!(before.data()["viewer"]["role"], "ADMIN");
    assert_eq!(
        before.data()["auditLogs"]["nodes"].as_array().map(Vec::len),
        Some(1)
    );
    change_user(
        &acme,
        admin.user,
        "update users set role = 'VIEWER' where id = $1",
    )
    .await;
    let changed = Instant::now();
    eventually("the admin is a viewer", async || {
        admin.query(log).await.body["data"]["viewer"]["role"] == "VIEWER"
    })
    .await;
    assert!(changed.elapsed() <= CACHE_LIMIT, "{:?}", changed.elapsed());
    let after = admin.query(log).await;
    assert_eq!(after.code(), "FORBIDDEN", "{}", after.body);
    assert_eq!(after.body["data"]["auditLogs"], Value::Null);
}

#[apply(palisade_test)]
async fn an_unauthenticated_request_is_rejected_before_its_body_is_read(app: &'static TestApp) {
    let expected = ask(app, &[], "{ __typename }").await;
    let bomb = (0..31)
        .map(|n| format!("fragment f{n} on Query {{ ...f{} ...f{} }} ", n + 1, n + 1))
        .collect::<Vec<_>>()
        .concat();
    let bomb = format!("{{ ...f0 }} {bomb} fragment f31 on Query {{ __typename }}");
    for document in [bomb.as_str(), "}{", "query($a: Nothing) { a }"] {
        assert_eq!(ask(app, &[], document).await, expected);
    }
    // Neither the media type nor the form of the body changes the response.
    for (kind, body) in [("text/plain", "x"), ("application/json", "not JSON")] {
        let request = app
            .client
            .post(&app.url)
            .header("content-type", kind)
            .body(body);
        let response = request.send().await.unwrap();
        assert_eq!(response.status().as_u16(), 401, "{kind}");
        assert_eq!(response.text().await.unwrap(), expected.2);
    }
}
