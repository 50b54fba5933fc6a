//! Sends operations to the service under attack.

use std::time::{Duration, Instant};

use reqwest::{StatusCode, header, redirect::Policy};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use uuid::Uuid;

use super::ProveError;

/// How often a request is sent again that the service rejects for a while.
const MAX_RETRIES: u32 = 60;
/// The longest pause before the next try.
const MAX_PAUSE: Duration = Duration::from_mins(1);

/// The side that sends a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The tenant that is attacked.
    A,
    /// The tenant that attacks.
    B,
}

/// A response.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body as it was received.
    pub text: String,
    /// The body as JSON; null if it is not JSON.
    pub body: Value,
    /// The headers, one line each.
    pub headers: String,
    /// Whether the service has rolled the changes back.
    pub is_dry_run: bool,
    /// The time from sending the request to the last byte of the response.
    pub elapsed: Duration,
}

impl Reply {
    /// The code of the first error; empty if there is none.
    #[must_use]
    pub fn code(&self) -> &str {
        self.body["errors"][0]["extensions"]["code"]
            .as_str()
            .unwrap_or_default()
    }

    /// Whether the response has errors or is not JSON.
    #[must_use]
    pub fn is_error(&self) -> bool {
        !self.body.is_object() || self.body.get("errors").is_some()
    }
}

/// How an operation is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Post,
    Get,
    /// A POST request whose changes the service rolls back.
    DryRun,
}

/// A client with the tokens of both tenants. All requests have the same request id, so that responses can be compared
/// byte by byte, and so that the operator finds them in the log.
pub struct Client {
    http: reqwest::Client,
    url: String,
    tokens: [SecretString; 2],
    pub(super) request_id: Uuid,
}

impl Client {
    /// A client for the API at this URL.
    pub fn new(
        url: &str,
        token_a: SecretString,
        token_b: SecretString,
    ) -> Result<Self, ProveError> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("palisade-prove/", env!("CARGO_PKG_VERSION")))
            .timeout(Duration::from_mins(1))
            // The service closes idle connections after 10 s.
            .pool_idle_timeout(Duration::from_secs(5))
            // A redirect could send the tokens to another host.
            .redirect(Policy::none())
            .build();
        Ok(Self {
            http: http.map_err(|error| ProveError::unreachable(url, &error))?,
            url: url.to_owned(),
            tokens: [token_a, token_b],
            request_id: Uuid::now_v7(),
        })
    }

    /// Sends a query.
    pub async fn query(
        &self,
        side: Side,
        document: &str,
        variables: &Value,
    ) -> Result<Reply, ProveError> {
        self.send(side, document, variables, Form::Post).await
    }

    /// Sends a query as a GET request, whose response a cache between the client and the service could keep.
    pub async fn get(
        &self,
        side: Side,
        document: &str,
        variables: &Value,
    ) -> Result<Reply, ProveError> {
        self.send(side, document, variables, Form::Get).await
    }

    /// Sends a mutation whose changes the service rolls back.
    pub async fn dry_run(
        &self,
        side: Side,
        document: &str,
        variables: &Value,
    ) -> Result<Reply, ProveError> {
        self.send(side, document, variables, Form::DryRun).await
    }

    /// Sends an operation. Waits and sends it again while the service is busy or the tenant's budget is used up.
    async fn send(
        &self,
        side: Side,
        document: &str,
        variables: &Value,
        form: Form,
    ) -> Result<Reply, ProveError> {
        let body = json!({ "query": document, "variables": variables }).to_string();
        let parameters = form_urlencoded::Serializer::new(String::new())
            .append_pair("query", document)
            .append_pair("variables", &variables.to_string())
            .finish();
        let token = &self.tokens[usize::from(side == Side::B)];
        let mut tries = 0;
        loop {
            let mut request = if form == Form::Get {
                self.http.get(format!("{}?{parameters}", self.url))
            } else {
                let post = self.http.post(&self.url).body(body.clone());
                post.header(header::CONTENT_TYPE, "application/json")
            };
            request = request
                .bearer_auth(token.expose_secret())
                .header(header::ACCEPT, "application/json")
                .header("x-request-id", self.request_id.to_string());
            if form == Form::DryRun {
                request = request.header("prefer", "tx=rollback");
            }
            let started = Instant::now();
            let unreachable = |error| ProveError::unreachable(&self.url, &error);
            let response = request.send().await.map_err(unreachable)?;
            let (status, headers) = (response.status(), response.headers().clone());
            let text = response.text().await.map_err(unreachable)?;
            let elapsed = started.elapsed();
            if status == StatusCode::UNAUTHORIZED {
                return Err(ProveError::Token(side));
            }
            let is_busy = matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
            );
            if is_busy && tries < MAX_RETRIES {
                tries += 1;
                let wait = headers.get(header::RETRY_AFTER);
                let wait = wait.and_then(|wait| wait.to_str().ok()?.parse().ok());
                let wait = Duration::from_secs(wait.unwrap_or(1));
                tokio::time::sleep(wait.min(MAX_PAUSE)).await;
                continue;
            }
            if is_busy {
                return Err(ProveError::Busy);
            }
            let applied = headers.get("preference-applied");
            let lines = headers.iter().map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes());
                format!("{name}: {value}\n")
            });
            return Ok(Reply {
                status: status.as_u16(),
                body: serde_json::from_str(&text).unwrap_or_default(),
                text,
                headers: lines.collect(),
                is_dry_run: applied.is_some_and(|value| value == "tx=rollback"),
                elapsed,
            });
        }
    }
}
