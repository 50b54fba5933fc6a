//! Opens gaps in the service itself, one at a time: a proxy between `prove` and the service makes the mistake. Each must
//! be found.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use macro_rules_attribute::apply;
use palisade::prove::{self, Settings, report::Problem};
use serde_json::Value;
use tokio::net::TcpListener;

use super::{assert_isolated, has, settings, tenants};
use crate::harness::{Caller, TestApp, palisade_test};

/// A mistake of the service.
#[derive(Clone, Copy, Debug)]
enum Mistake {
    None,
    /// The message for an object of another tenant differs from that for an object that does not exist.
    OtherMessage,
    /// So does the status.
    OtherStatus,
    /// A header contains the id of the object.
    Header,
    /// So does the time.
    OtherTime,
    /// The count of a list includes the rows of other tenants.
    Count,
    /// Only the first id of a list is checked.
    SecondId,
    /// The cursors of other tenants are accepted.
    Cursor,
    /// The slugs of all tenants are unique together, so the slug for a name gets a number.
    Slug,
    /// A cache ignores who sends a request.
    Cache,
}

/// A service that makes a mistake.
struct Proxy {
    target: String,
    client: reqwest::Client,
    mistake: Mistake,
    a: Caller,
    b: Caller,
    /// Ids of objects of A.
    ids: Vec<String>,
    /// Names of organizations of A.
    names: Vec<String>,
    /// Cursors of A.
    cursors: Mutex<HashSet<String>>,
    cache: Mutex<HashMap<String, String>>,
}

impl Proxy {
    /// Starts the proxy. Returns the URL of its API.
    async fn start(a: &Caller, b: &Caller, mistake: Mistake) -> String {
        let strings = async |list: &str, field: &str| -> Vec<String> {
            let document = format!("{{ {list}(first: 100) {{ nodes {{ {field} }} }} }}");
            let response = a.query(&document).await;
            let nodes = response.data()[list]["nodes"].as_array().unwrap();
            let values = nodes.iter().map(|node| node[field].as_str().unwrap());
            values.map(str::to_owned).collect()
        };
        let proxy = Arc::new(Self {
            target: a.url.clone(),
            client: reqwest::Client::new(),
            mistake,
            ids: strings("projects", "id").await,
            names: strings("organizations", "name").await,
            a: a.clone(),
            b: b.clone(),
            cursors: Mutex::default(),
            cache: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/graphql", listener.local_addr().unwrap());
        let respond = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let proxy = Arc::clone(&proxy);
            async move { proxy.respond(&method, &uri, headers, body).await }
        };
        tokio::spawn(async move {
            let router = Router::new().fallback(respond);
            axum::serve(listener, router).await.unwrap();
        });
        url
    }

    /// Passes a request to the service, and its response back. Makes the mistake if B attacks A.
    async fn respond(
        &self,
        method: &Method,
        uri: &Uri,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Response {
        let is_b = headers[header::AUTHORIZATION] == format!("Bearer {}", self.b.token);
        let query = uri.query().map(|query| format!("?{query}"));
        let query = query.unwrap_or_default();
        if let (Mistake::Cache, &Method::GET) = (self.mistake, method)
            && let Some(cached) = self.cache.lock().unwrap().get(&query)
        {
            return cached.clone().into_response();
        }
        let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
        let variables = &sent["variables"];
        let names_a = |value: &Value| {
            let value = value.as_str().unwrap_or_default();
            self.ids.iter().any(|id| id == value)
        };
        let attacks_id = is_b && names_a(&variables["id"]);
        let attacks_list =
            is_b && (names_a(&variables["ids"][1]) || names_a(&variables["input"]["ids"][1]));
        let cursor = variables["after"].as_str().unwrap_or_default();
        let attacks_cursor = is_b && self.cursors.lock().unwrap().contains(cursor);
        let name = variables["input"]["name"].as_str().unwrap_or_default();
        let attacks_name = is_b && self.names.iter().any(|known| known == name);

        match self.mistake {
            Mistake::SecondId if attacks_list => self.become_a(&mut headers),
            Mistake::Cursor if attacks_cursor => self.become_a(&mut headers),
            Mistake::OtherTime if attacks_id => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            _ => {}
        }
        for name in [
            header::HOST,
            header::CONTENT_LENGTH,
            header::ACCEPT_ENCODING,
        ] {
            headers.remove(name);
        }
        let request = self
            .client
            .request(method.clone(), format!("{}{query}", self.target))
            .headers(headers)
            .body(body);
        let response = request.send().await.unwrap();
        let (mut status, mut headers) = (response.status(), response.headers().clone());
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::TRANSFER_ENCODING);
        let mut text = response.text().await.unwrap();
        if !is_b {
            let cursors = text.split(r#""endCursor":""#).skip(1);
            let cursors = cursors.filter_map(|rest| rest.split('"').next());
            let mut known = self.cursors.lock().unwrap();
            known.extend(cursors.map(str::to_owned));
        }
        match self.mistake {
            Mistake::OtherMessage if attacks_id => {
                text = text.replace(r#""found":null"#, r#""found":null,"reason":"hidden""#);
            }
            Mistake::OtherStatus if attacks_id => status = StatusCode::FORBIDDEN,
            Mistake::Header if attacks_id => {
                let id = variables["id"].as_str().unwrap().parse().unwrap();
                headers.insert("x-object", id);
            }
            Mistake::Count if is_b => text = more_rows(&text),
            Mistake::Slug if attacks_name => text = numbered_slugs(&text),
            Mistake::Cache if *method == Method::GET => {
                self.cache.lock().unwrap().insert(query, text.clone());
            }
            _ => {}
        }
        (status, headers, text).into_response()
    }

    /// Lets the service see the request of B as a request of A.
    fn become_a(&self, headers: &mut HeaderMap) {
        let token = format!("Bearer {}", self.a.token);
        headers.insert(header::AUTHORIZATION, token.parse().unwrap());
    }
}

/// A response with one more row in each count.
fn more_rows(text: &str) -> String {
    let mut parts = text.split(r#""totalCount":"#);
    let mut changed = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap();
        let count: u64 = part[..end].parse().unwrap();
        write!(changed, r#""totalCount":{}{}"#, count + 1, &part[end..]).unwrap();
    }
    changed
}

/// A response with a number after each slug.
fn numbered_slugs(text: &str) -> String {
    let mut parts = text.split(r#""slug":""#);
    let mut changed = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (slug, rest) = part.split_once('"').unwrap();
        write!(changed, r#""slug":"{slug}-2"{rest}"#).unwrap();
    }
    changed
}

#[apply(palisade_test)]
async fn each_mistake_of_a_service_is_found(app: &'static TestApp) {
    let mistakes = [
        (Mistake::OtherMessage, "Query.project", Problem::Difference),
        (Mistake::OtherStatus, "Query.project", Problem::Difference),
        (Mistake::Header, "Query.project", Problem::Leak),
        (Mistake::OtherTime, "Query.project", Problem::Timing),
        (Mistake::Count, "Query.projects", Problem::Leak),
        (Mistake::SecondId, "Query.nodes", Problem::Leak),
        (
            Mistake::SecondId,
            "Mutation.deleteProjects",
            Problem::Difference,
        ),
        (Mistake::Cursor, "Query.projects", Problem::Leak),
        (
            Mistake::Slug,
            "Mutation.createOrganization",
            Problem::Difference,
        ),
        (Mistake::Cache, "Query.projects", Problem::Leak),
    ];
    let (a, b) = tenants(app).await;
    let attack = async |mistake, fields: &[&str], samples| {
        let settings = Settings {
            url: Proxy::start(a.owner(), b.owner(), mistake).await,
            samples,
            checks_times: samples > 0,
            ..settings(a.owner(), b.owner(), fields)
        };
        prove::run(settings).await.unwrap()
    };
    let attacked = mistakes.map(|(_, field, _)| field);
    assert_isolated(&attack(Mistake::None, &attacked, 0).await);
    for (mistake, field, problem) in mistakes {
        let samples = if problem == Problem::Timing { 60 } else { 0 };
        let report = attack(mistake, &[field], samples).await;
        assert!(has(&report, field, problem), "{mistake:?}: {report:#?}");
    }
}
