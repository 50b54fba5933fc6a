//! How the service serves the explorer, and what `/dev` returns to each client. `explorer/tests` tests the
//! explorer in a browser.

use std::{io::Read as _, sync::LazyLock};

use flate2::read::GzDecoder;
use macro_rules_attribute::apply;
use palisade::{
    auth::role::UserRole,
    db::{PoolSettings, TenantDb},
    http::{self as service, Features, Service},
    ids::EntityId as _,
};
use reqwest::{Client, Method, Response, redirect::Policy};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::harness::{
    Caller, ServiceOptions, TestApp, attempt, enter, palisade_test, session_context, settings,
    signing, tokens,
};

/// A client that does not follow redirects.
static CLIENT: LazyLock<Client> =
    LazyLock::new(|| Client::builder().redirect(Policy::none()).build().unwrap());

/// The `accept` header that a browser sends when it opens a URL.
const BROWSER: (&str, &str) = (
    "accept",
    "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
);

async fn send(method: Method, url: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = CLIENT.request(method, url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

async fn get(url: &str, headers: &[(&str, &str)]) -> Response {
    send(Method::GET, url, headers).await
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    let value = response.headers().get(name);
    value.map_or("", |value| value.to_str().unwrap())
}

/// The origin of the shared service.
async fn origin() -> String {
    let url = &TestApp::shared().await.url;
    url.strip_suffix("/graphql").unwrap().to_owned()
}

/// A service with exactly these features, on the database of the tests.
async fn serve(features: Features) -> String {
    let app = TestApp::shared().await;
    let url = app.database_url("palisade_app");
    let db = TenantDb::connect(&url, PoolSettings::default(), &signing())
        .await
        .unwrap();
    let settings = settings(ServiceOptions::default());
    let listener = service::listen(settings.listen).await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let served = Service::new(db, None, tokens(), &settings, features).unwrap();
    tokio::spawn(async move {
        service::serve(listener, served, &settings, std::future::pending())
            .await
            .unwrap();
    });
    origin
}

/// The page and the URLs of its files. A build without npm has no files.
async fn page_and_files(origin: &str) -> (String, Vec<String>) {
    let page = get(&format!("{origin}/graphiql"), &[]).await;
    let page = page.text().await.unwrap();
    let files = ["src=\"", "href=\""]
        .iter()
        .flat_map(|attribute| page.split(attribute).skip(1))
        .map(|rest| rest.split('"').next().unwrap().to_owned())
        .filter(|address| address.starts_with("/graphiql/assets/"))
        .collect();
    (page, files)
}

#[apply(palisade_test)]
async fn the_page_is_revalidated_and_sent_once() {
    let origin = origin().await;
    for (path, kind) in [
        ("/graphiql", "text/html; charset=utf-8"),
        ("/graphiql/schema.graphql", "text/plain; charset=utf-8"),
    ] {
        let url = format!("{origin}{path}");
        let first = get(&url, &[]).await;
        assert_eq!(
            (first.status().as_u16(), header(&first, "content-type")),
            (200, kind)
        );
        assert_eq!(header(&first, "cache-control"), "no-cache");
        let tag = header(&first, "etag").to_owned();
        assert!(tag.len() > 10, "{tag}");
        let body = first.text().await.unwrap();

        for known in [tag.clone(), format!("\"other\", W/{tag}"), "*".to_owned()] {
            let again = get(&url, &[("if-none-match", &known)]).await;
            assert_eq!(again.status().as_u16(), 304, "{known}");
            assert_eq!(header(&again, "etag"), tag);
            assert_eq!(again.text().await.unwrap(), "");
        }
        let other = get(&url, &[("if-none-match", "\"other\"")]).await;
        assert_eq!(other.status().as_u16(), 200);

        let head = send(Method::HEAD, &url, &[]).await;
        assert_eq!(
            (head.status().as_u16(), header(&head, "content-length")),
            (200, body.len().to_string().as_str())
        );
        let post = send(Method::POST, &url, &[]).await;
        assert_eq!(post.status().as_u16(), 405);
    }
    let schema = get(&format!("{origin}/graphiql/schema.graphql"), &[]).await;
    assert_eq!(schema.text().await.unwrap(), palisade::api::sdl());
}

#[apply(palisade_test)]
async fn the_files_of_the_page_are_cached_for_a_year_and_compressed_if_the_client_accepts_it() {
    let origin = origin().await;
    let (page, files) = page_and_files(&origin).await;
    if page.contains("built without the explorer") {
        assert!(files.is_empty(), "{files:?}");
        return;
    }
    assert!(files.len() >= 3, "{files:?}");
    for path in files {
        let url = format!("{origin}{path}");
        let plain = get(&url, &[]).await;
        assert_eq!(plain.status().as_u16(), 200, "{path}");
        assert_eq!(header(&plain, "content-encoding"), "", "{path}");
        let tag = header(&plain, "etag").to_owned();
        let plain = plain.bytes().await.unwrap();

        let packed = get(&url, &[("accept-encoding", "br, gzip")]).await;
        assert_eq!(header(&packed, "content-encoding"), "gzip", "{path}");
        assert_eq!(header(&packed, "vary"), "accept-encoding", "{path}");
        assert_eq!(
            header(&packed, "cache-control"),
            "public, max-age=31536000, immutable",
            "{path}"
        );
        let kind = header(&packed, "content-type");
        let expected = match path.rsplit('.').next().unwrap() {
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            _ => "image/svg+xml",
        };
        assert_eq!(kind, expected, "{path}");
        let packed = packed.bytes().await.unwrap();
        let mut unpacked = Vec::new();
        GzDecoder::new(packed.as_ref())
            .read_to_end(&mut unpacked)
            .unwrap();
        assert_eq!(unpacked, plain, "{path}");
        assert!(!plain.is_empty(), "{path}");

        let rejected = get(&url, &[("accept-encoding", "gzip;q=0, identity")]).await;
        assert_eq!(header(&rejected, "content-encoding"), "", "{path}");
        let again = get(&url, &[("if-none-match", &tag)]).await;
        assert_eq!(again.status().as_u16(), 304, "{path}");
        let head = send(Method::HEAD, &url, &[]).await;
        assert_eq!(header(&head, "content-length"), plain.len().to_string());
    }
}

#[apply(palisade_test)]
async fn an_unknown_path_is_404_and_is_not_cached() {
    let origin = origin().await;
    for path in [
        "/graphiql/assets/",
        "/graphiql/assets/nothing.js",
        "/graphiql/assets/..%2Findex.html",
        "/graphiql/assets/..%2f..%2fCargo.toml",
        "/graphiql/assets/index.html",
        "/graphiql/index.html",
        "/graphiql/explorer.js",
        "/graphiql/schema.json",
        "/dev",
        "/dev/",
        "/dev/tokens",
    ] {
        let response = get(&format!("{origin}{path}"), &[]).await;
        assert_eq!(response.status().as_u16(), 404, "{path}");
        assert_eq!(header(&response, "cache-control"), "no-store", "{path}");
    }
}

#[apply(palisade_test)]
async fn the_explorer_loads_nothing_from_another_host() {
    let origin = origin().await;
    let (page, mut files) = page_and_files(&origin).await;
    for foreign in [
        "src=\"http",
        "href=\"http",
        "src=\"//",
        "href=\"//",
        "<style",
        "<script>",
    ] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    files.push("/graphiql".to_owned());
    for path in files {
        let file = get(&format!("{origin}{path}"), &[]).await;
        for (name, expected) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("access-control-allow-origin", ""),
        ] {
            assert_eq!(header(&file, name), expected, "{path}: {name}");
        }
        let policy = header(&file, "content-security-policy");
        let directives: Vec<Vec<&str>> = policy
            .split(';')
            .map(|directive| directive.split_whitespace().collect())
            .collect();
        let sources = |name: &str| {
            let found = directives.iter().find(|directive| directive[0] == name);
            found.unwrap_or_else(|| panic!("{path}: no {name}"))[1..].join(" ")
        };
        for (name, expected) in [
            ("default-src", "'none'"),
            ("script-src", "'self'"),
            ("worker-src", "'self'"),
            ("connect-src", "'self'"),
            ("style-src", "'self'"),
            ("base-uri", "'none'"),
            ("form-action", "'none'"),
            ("frame-ancestors", "'none'"),
        ] {
            assert_eq!(sources(name), expected, "{path}: {name}");
        }
        // Inline styles are the only exception. The policy allows no other host.
        assert_eq!(policy.matches("'unsafe").count(), 1, "{path}: {policy}");
        assert_eq!(sources("style-src-attr"), "'unsafe-inline'", "{path}");
        assert!(
            !policy.contains('*') && !policy.contains("http"),
            "{policy}"
        );
    }
}

#[apply(palisade_test)]
async fn browsers_are_redirected_to_the_explorer_and_programs_are_not() {
    let origin = origin().await;
    for (path, headers) in [
        ("/", vec![]),
        ("/graphiql/", vec![]),
        ("/graphql", vec![BROWSER]),
        ("/graphql?tab=1", vec![BROWSER]),
    ] {
        let response = get(&format!("{origin}{path}"), &headers).await;
        assert_eq!(response.status().as_u16(), 307, "{path}");
        assert_eq!(header(&response, "location"), "/graphiql", "{path}");
    }
    for (path, headers) in [
        ("/graphql", vec![]),
        ("/graphql", vec![("accept", "application/json")]),
        ("/graphql?query=%7B__typename%7D", vec![BROWSER]),
        ("/graphql?documentId=sha256%3Aabc", vec![BROWSER]),
        ("/graphql?variables=%7B%7D&extensions=%7B%7D", vec![BROWSER]),
    ] {
        let response = get(&format!("{origin}{path}"), &headers).await;
        assert_ne!(response.status().as_u16(), 307, "{path}");
        assert_eq!(header(&response, "location"), "", "{path}");
    }

    let plain = serve(Features::default()).await;
    let response = get(&format!("{plain}/graphql"), &[BROWSER]).await;
    assert_eq!(
        header(&response, "location"),
        "",
        "the service has no explorer"
    );
}

#[apply(palisade_test)]
async fn without_dev_there_is_no_list_of_users_and_no_token() {
    let features = Features {
        introspection: true,
        explorer: true,
        ..Features::default()
    };
    let origin = serve(features).await;
    let page = get(&format!("{origin}/graphiql"), &[]).await;
    let page = page.text().await.unwrap();
    let built = !page.contains("built without the explorer");
    assert_eq!(page.contains(r#"name="palisade-offers" content="""#), built);
    for (method, path) in [(Method::GET, "/dev/people"), (Method::POST, "/dev/token")] {
        let response = send(method, &format!("{origin}{path}"), &[]).await;
        assert_eq!(response.status().as_u16(), 404, "{path}");
    }
    let off = serve(Features::default()).await;
    for path in [
        "/",
        "/graphiql",
        "/graphiql/schema.graphql",
        "/graphiql/assets/x.js",
    ] {
        let response = get(&format!("{off}{path}"), &[]).await;
        assert_eq!(response.status().as_u16(), 404, "{path}");
    }
}

/// A service with its own database, because `/dev/people` lists only the first hundred tenants.
async fn dev() -> (&'static TestApp, String) {
    let app = TestApp::shared().await.in_own_database(&[]).await;
    (app, app.url.strip_suffix("/graphql").unwrap().to_owned())
}

async fn ask_for_token(origin: &str, body: Value, headers: &[(&str, &str)]) -> (u16, Value) {
    let mut request = CLIENT.post(format!("{origin}/dev/token")).json(&body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    assert_eq!(header(&response, "cache-control"), "no-store");
    let status = response.status().as_u16();
    (status, response.json().await.unwrap())
}

#[apply(palisade_test)]
async fn dev_lists_the_users_and_issues_tokens_for_active_ones() {
    let (app, origin) = dev().await;
    let (acme, globex) = (app.tenant().await, app.tenant().await);
    let changes = [
        (
            &acme,
            "update users set status = 'DEACTIVATED' where role = 'VIEWER'",
        ),
        (&globex, "update tenants set status = 'SUSPENDED'"),
    ];
    let mut superuser = app.connect("postgres").await;
    for (tenant, change) in changes {
        // Row level security does not apply to this role, so the statement needs a condition on the tenant.
        let key = if change.contains("tenants") {
            "id"
        } else {
            "tenant_id"
        };
        let glue = if change.contains("where") {
            "and"
        } else {
            "where"
        };
        let id = tenant.id.uuid();
        enter(&mut superuser, &session_context(tenant.id, None, None)).await;
        let change = format!("{change} {glue} {key} = '{id}'");
        attempt(&mut superuser, change).await.unwrap();
    }

    let people = get(&format!("{origin}/dev/people"), &[]).await;
    assert_eq!(header(&people, "cache-control"), "no-store");
    let people: Value = people.json().await.unwrap();
    let tenants = people["tenants"].as_array().unwrap();
    assert_eq!(tenants.len(), 1, "a suspended tenant is left out: {people}");
    assert_eq!(tenants[0]["slug"], acme.slug.as_str());
    let known = tenants[0]["people"].as_array().unwrap();
    let viewer = known.iter().find(|person| person["role"] == "VIEWER");
    assert_eq!(viewer.unwrap()["status"], "DEACTIVATED");
    let owner = known
        .iter()
        .find(|person| person["role"] == "OWNER")
        .unwrap();
    assert_eq!(owner["status"], "ACTIVE");

    let wanted = json!({ "tenant": acme.slug, "user": owner["email"] });
    let (status, issued) = ask_for_token(&origin, wanted, &[]).await;
    assert_eq!(status, 200, "{issued}");
    let token = issued["token"].as_str().unwrap();
    let caller = Caller {
        token: token.to_owned(),
        ..acme.caller(UserRole::Owner).clone()
    };
    let viewer = caller
        .query("{ viewer { tenant { slug } user { email } } }")
        .await;
    assert_eq!(
        viewer.data()["viewer"],
        json!({ "tenant": { "slug": acme.slug }, "user": { "email": owner["email"] } })
    );
    let ends = chrono::DateTime::parse_from_rfc3339(issued["expiresAt"].as_str().unwrap());
    let identity = tokens().verify(token).unwrap();
    assert_eq!(ends.unwrap(), identity.expires_at);
    let life = identity.expires_at.timestamp() - issued_at(token);
    assert_eq!(life, 12 * 3_600);

    // The service issues no token to a user who may not sign in.
    for (tenant, user) in [
        (&acme.slug, format!("viewer@{}.example", acme.slug)),
        (&globex.slug, format!("owner@{}.example", globex.slug)),
        (&globex.slug, format!("owner@{}.example", acme.slug)),
        (&acme.slug, "nobody@nowhere.example".to_owned()),
    ] {
        let wanted = json!({ "tenant": tenant, "user": user });
        let (status, rejected) = ask_for_token(&origin, wanted, &[]).await;
        assert_eq!(status, 404, "{user}: {rejected}");
        assert!(rejected.get("token").is_none());
    }
}

/// The time at which a token was issued, from its claims.
fn issued_at(token: &str) -> i64 {
    use base64::Engine as _;

    let claims = token.split('.').nth(1).unwrap();
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(claims)
        .unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    claims["iat"].as_i64().unwrap()
}

#[apply(palisade_test)]
async fn dev_accepts_only_its_own_page_and_programs_on_this_machine() {
    let (app, origin) = dev().await;
    let tenant = app.tenant().await;
    let wanted = json!({ "tenant": tenant.slug, "user": format!("owner@{}.example", tenant.slug) });
    let port = origin.rsplit(':').next().unwrap().to_owned();
    let own = format!("http://localhost:{port}");
    let named = format!("localhost:{port}");
    for headers in [
        vec![
            ("origin", origin.as_str()),
            ("sec-fetch-site", "same-origin"),
        ],
        vec![("host", named.as_str()), ("origin", own.as_str())],
        vec![("host", "[::1]")],
        vec![("sec-fetch-site", "none")],
    ] {
        let people = get(&format!("{origin}/dev/people"), &headers).await;
        assert_eq!(people.status().as_u16(), 200, "{headers:?}");
        let (status, _) = ask_for_token(&origin, wanted.clone(), &headers).await;
        assert_eq!(status, 200, "{headers:?}");
    }
    for headers in [
        vec![("origin", "http://evil.example")],
        vec![("origin", "null")],
        vec![("origin", own.as_str())],
        vec![("origin", "http://127.0.0.1:1")],
        vec![("sec-fetch-site", "cross-site")],
        vec![("sec-fetch-site", "same-site")],
        // An attacker can make a host name resolve to this machine.
        vec![("host", "evil.example")],
        vec![
            ("host", "127.0.0.1.evil.example"),
            ("origin", "http://127.0.0.1.evil.example"),
        ],
        vec![("host", "localhost.evil.example")],
        vec![("host", "192.168.1.2:8080")],
        vec![("host", "[::2]")],
        vec![("host", "[::1].evil.example")],
        vec![("host", "evil@localhost")],
    ] {
        let people = get(&format!("{origin}/dev/people"), &headers).await;
        assert_eq!(people.status().as_u16(), 403, "{headers:?}");
        assert!(!people.text().await.unwrap().contains(&tenant.slug));
        let (status, rejected) = ask_for_token(&origin, wanted.clone(), &headers).await;
        assert_eq!(status, 403, "{headers:?}: {rejected}");
    }
}

#[apply(palisade_test)]
async fn the_target_of_a_request_for_a_token_must_name_the_same_host() {
    let (app, origin) = dev().await;
    let tenant = app.tenant().await;
    let user = format!("owner@{}.example", tenant.slug);
    let body = json!({ "tenant": tenant.slug, "user": user }).to_string();
    let address = origin.strip_prefix("http://").unwrap();
    for (target, host, expected) in [
        ("/dev/token".to_owned(), "localhost", 200),
        ("http://localhost/dev/token".to_owned(), "localhost", 200),
        (format!("http://{address}/dev/token"), address, 200),
        ("http://evil.example/dev/token".to_owned(), "localhost", 403),
        (
            "http://evil.example/dev/token".to_owned(),
            "evil.example",
            403,
        ),
        ("http://localhost/dev/token".to_owned(), "evil.example", 403),
        ("http://localhost:1/dev/token".to_owned(), "localhost", 403),
        (
            "http://localhost@evil.example/dev/token".to_owned(),
            "localhost",
            403,
        ),
        ("https://localhost/dev/token".to_owned(), "localhost", 403),
        (
            "http://[::1].evil.example/dev/token".to_owned(),
            "[::1]",
            403,
        ),
        ("/dev/token".to_owned(), "[::1].evil.example", 403),
    ] {
        let request = format!(
            "POST {target} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        let status = format!("HTTP/1.1 {expected} ");
        assert!(
            response.starts_with(&status),
            "{target} of {host}: {response}"
        );
        assert_eq!(
            response.contains("\"token\""),
            expected == 200,
            "{target} of {host}"
        );
    }
}

#[apply(palisade_test)]
async fn dev_token_requires_a_tenant_and_a_user_as_json() {
    let origin = origin().await;
    let long = json!({ "tenant": "x".repeat(5_000), "user": "y" }).to_string();
    for (kind, body, expected) in [
        ("text/plain", r#"{"tenant":"a","user":"b"}"#, 415),
        ("application/x-www-form-urlencoded", "tenant=a&user=b", 415),
        ("application/json", "{", 400),
        ("application/json", r#"{"tenant":"a"}"#, 400),
        ("application/json", r#"{"tenant":1,"user":"b"}"#, 400),
        ("application/json", long.as_str(), 413),
        (
            "application/json; charset=utf-8",
            r#"{"tenant":"a","user":"b"}"#,
            404,
        ),
    ] {
        let request = CLIENT.post(format!("{origin}/dev/token"));
        let request = request.header("content-type", kind).body(body.to_owned());
        let status = request.send().await.unwrap().status().as_u16();
        assert_eq!(status, expected, "{kind}: {}", &body[..body.len().min(40)]);
    }
    let read = get(&format!("{origin}/dev/token"), &[]).await;
    assert_eq!(read.status().as_u16(), 405);
}
