//! `POST /graphql`: one request, one operation.
//!
//! In this order: who asks, what kind of body, how long it is, what it asks for. A stranger costs one
//! signature check and nothing else.

use std::{sync::Arc, time::Duration};

use async_graphql::{Response as Answer, Variables};
use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::{REQUEST_ID, Service, explorer, harden};
use crate::{
    auth::Principal,
    db::Operation,
    error::Error,
    graphql::{
        Admitted, Incoming, Manner, errors, guard,
        mutation::{MAX_KEY, is_key},
    },
};

/// The longest body, in bytes (SECURITY: a document is at most 64 KiB, the rest is for variables).
const MAX_BODY: usize = 1024 * 1024;
/// What a client waits before it tries again, in seconds.
const RETRY_AFTER: &str = "1";
/// How long a cancelled statement gets to end before it is looked for again.
const BETWEEN_CANCELLATIONS: Duration = Duration::from_millis(100);
/// What the client would like (RFC 7240).
const PREFER: &str = "prefer";
/// The key by which a mutation may be sent again.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const JSON: &str = "application/json";
const GRAPHQL_JSON: &str = "application/graphql-response+json";

/// A request that was refused before an operation ran.
struct Refused {
    status: StatusCode,
    code: &'static str,
    message: String,
    locations: Vec<async_graphql::Pos>,
}

impl Refused {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            locations: Vec::new(),
        }
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BAD_USER_INPUT", message)
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let status = match error.code() {
            "UNAUTHENTICATED" => StatusCode::UNAUTHORIZED,
            "UNAVAILABLE" | "TIMEOUT" => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if error.is_ours() {
            tracing::error!("a request failed before its operation: {}", error.detail());
        }
        Self::new(status, error.code(), error.to_string())
    }
}

/// Everything but POST.
pub async fn only_post(
    State(service): State<Service>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    if let Some(led) = explorer::for_browsers(&service, &method, &uri, &headers) {
        return led;
    }
    let message = format!("{method} is not supported here: send the operation by POST\n");
    let mut response = (StatusCode::METHOD_NOT_ALLOWED, message).into_response();
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static("POST"));
    harden(&mut response);
    response
}

/// Answers one operation.
pub async fn answer(State(service): State<Service>, request: Request<Body>) -> Response {
    let request_id = request_id(request.headers());
    let speaks_graphql = accepts_graphql_json(request.headers());
    let answered = operate(&service, request, request_id).await;

    let mut response = match answered {
        Ok(answer) => respond(&answer, speaks_graphql),
        Err(refused) => refuse(&refused, request_id, speaks_graphql),
    };
    harden(&mut response);
    if let Ok(id) = HeaderValue::from_str(&request_id.to_string()) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// The client's own request id if it is a UUID, so that it can be followed through; else a new one.
fn request_id(headers: &HeaderMap) -> Uuid {
    headers
        .get(REQUEST_ID)
        .and_then(|id| id.to_str().ok())
        .and_then(|id| Uuid::try_parse(id).ok())
        .unwrap_or_else(Uuid::now_v7)
}

async fn operate(
    service: &Service,
    request: Request<Body>,
    request_id: Uuid,
) -> Result<Answer, Refused> {
    let principal = authenticate(service, request.headers()).await?;
    require_json(request.headers())?;
    let manner = manner(service, request.headers())?;
    let body = receive(service, request.into_body()).await?;
    let incoming = parse(&body)?;

    let operation = Operation::new(request_id);
    let admitted = service
        .0
        .api
        .admit(incoming, principal, Arc::clone(&operation), manner)
        .map_err(|refusal| refuse_document(&refusal))?;
    Ok(run(service, admitted, operation).await)
}

/// How the client wants its operation run.
fn manner(service: &Service, headers: &HeaderMap) -> Result<Manner, Refused> {
    Ok(Manner {
        traced: service.0.features.tracing && headers.contains_key("palisade-trace"),
        dry_run: prefers_rollback(headers)?,
        idempotency_key: idempotency_key(headers)?,
    })
}

/// Whether a mutation is to be undone: `Prefer: tx=rollback` (RFC 7240). Preferences that are not known
/// are ignored, as it demands, but not another word for `tx`: a slip there would write.
fn prefers_rollback(headers: &HeaderMap) -> Result<bool, Refused> {
    let mut rollback = None;
    for header in headers.get_all(PREFER) {
        let text = header.to_str().unwrap_or_default();
        for preference in text.split([',', ';']) {
            let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
            if !name.trim().eq_ignore_ascii_case("tx") {
                continue;
            }
            let value = value.trim().trim_matches('"');
            let wanted = match value {
                _ if value.eq_ignore_ascii_case("rollback") => true,
                _ if value.eq_ignore_ascii_case("commit") => false,
                _ => return Err(Refused::bad("Prefer: tx is either rollback or commit")),
            };
            // The first counts (RFC 7240, 2).
            rollback.get_or_insert(wanted);
        }
    }
    Ok(rollback.unwrap_or(false))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Refused> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = given.next() else {
        return Ok(None);
    };
    match key.to_str() {
        Ok(key) if is_key(key) && given.next().is_none() => Ok(Some(key.to_owned())),
        _ => Err(Refused::bad(format!(
            "Idempotency-Key is given once, and is 1 to {MAX_KEY} printable ASCII characters"
        ))),
    }
}

/// One bearer token in one header. Every cause of failure looks the same.
async fn authenticate(service: &Service, headers: &HeaderMap) -> Result<Principal, Error> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(header), None) = (given.next(), given.next()) else {
        return Err(Error::Unauthenticated);
    };
    let token = header
        .to_str()
        .ok()
        .and_then(|header| header.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token)
        .ok_or(Error::Unauthenticated)?;
    let identity = service.0.tokens.verify(token)?;
    service.0.memberships.enter(identity).await
}

/// Exactly JSON: a browser sends no other type across sites without asking first.
fn require_json(headers: &HeaderMap) -> Result<(), Refused> {
    let unsupported = || {
        Refused::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "BAD_USER_INPUT",
            "the body must be JSON, with the header Content-Type: application/json",
        )
    };
    let mut given = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(given), None) = (given.next(), given.next()) else {
        return Err(unsupported());
    };
    let given = given.to_str().map_err(|_| unsupported())?;
    let (kind, parameters) = given.split_once(';').unwrap_or((given, ""));
    let charset = parameters.trim();
    let is_utf8 = charset.is_empty()
        || charset.split_once('=').is_some_and(|(name, value)| {
            name.trim().eq_ignore_ascii_case("charset")
                && value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        });
    if kind.trim().eq_ignore_ascii_case(JSON) && is_utf8 {
        Ok(())
    } else {
        Err(unsupported())
    }
}

/// Whether the client reads `application/graphql-response+json`, which has its own status codes.
fn accepts_graphql_json(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|accept| accept.to_str().ok())
        .flat_map(|accept| accept.split(','))
        .any(|range| {
            range
                .split(';')
                .next()
                .is_some_and(|kind| kind.trim().eq_ignore_ascii_case(GRAPHQL_JSON))
        })
}

async fn receive(service: &Service, body: Body) -> Result<Bytes, Refused> {
    let received = Limited::new(body, MAX_BODY).collect();
    match tokio::time::timeout(service.0.receive_timeout, received).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refused::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "BAD_USER_INPUT",
            format!("the body is longer than {MAX_BODY} bytes"),
        )),
        Ok(Err(_)) => Err(Refused::bad("the body ended early")),
        Err(_) => Err(Refused::new(
            StatusCode::REQUEST_TIMEOUT,
            "TIMEOUT",
            "the body took too long to arrive",
        )),
    }
}

/// The members of a request (GraphQL over HTTP, 5.3). Others are ignored, as it demands.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestBody {
    query: String,
    operation_name: Option<String>,
    variables: Option<serde_json::Map<String, serde_json::Value>>,
}

fn parse(body: &[u8]) -> Result<Incoming, Refused> {
    let body: RequestBody = serde_json::from_slice(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => {
            Refused::bad("the body must be one object with a text `query`, and may have a text `operationName` and an object `variables`")
        }
        _ => Refused::bad(format!("the body is not JSON: line {}, column {}", error.line(), error.column())),
    })?;
    let variables = body
        .variables
        .map(serde_json::Value::Object)
        .unwrap_or_default();
    Ok(Incoming {
        query: body.query,
        operation_name: body.operation_name,
        variables: Variables::from_json(variables),
    })
}

fn refuse_document(refusal: &guard::Refusal) -> Refused {
    let locations = match &refusal.reason {
        guard::Reason::Parse { positions, .. } => positions.clone(),
        _ => Vec::new(),
    };
    let (code, message) = (refusal.reason.code(), refusal.to_string());
    Refused {
        status: StatusCode::BAD_REQUEST,
        code,
        message,
        locations,
    }
}

/// Runs the operation in a task of its own, so that a client that goes away cannot cut a statement
/// in two. If it does, or takes too long, the operation is ended where it works: in the database.
async fn run(service: &Service, admitted: Admitted, operation: Arc<Operation>) -> Answer {
    let request_id = operation.request_id();
    let api = service.0.api.clone();
    let mut running = tokio::spawn(async move { api.execute(admitted).await });
    let abandoned = CancelOnDrop {
        service: service.clone(),
        operation,
        running: running.abort_handle(),
    };

    let limit = service.0.operation_timeout;
    let mut answer = match tokio::time::timeout(limit, &mut running).await {
        Ok(Ok(answer)) => return answer,
        Ok(Err(panicked)) => errors::refused(Error::Internal(
            format!("an operation panicked: {panicked}").into(),
        )),
        Err(_) => errors::refused(Error::Timeout),
    };
    drop(abandoned);
    errors::finish(&mut answer, request_id, true);
    answer
}

/// Ends an operation that nobody waits for any more.
struct CancelOnDrop {
    service: Service,
    operation: Arc<Operation>,
    running: tokio::task::AbortHandle,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if self.running.is_finished() {
            return;
        }
        let (service, operation) = (self.service.clone(), Arc::clone(&self.operation));
        let running = self.running.clone();
        tokio::spawn(async move {
            // Again until it has ended: a statement may have been on its way to the server when the
            // first cancellation looked for it.
            while !running.is_finished() {
                if let Err(error) = service.0.db.cancel(&operation).await {
                    // It ends by the statement timeout of its role instead.
                    tracing::warn!("cannot cancel an operation: {}", error.detail());
                    return;
                }
                tokio::time::sleep(BETWEEN_CANCELLATIONS).await;
            }
        });
    }
}

fn respond(answer: &Answer, speaks_graphql: bool) -> Response {
    let code_is = |wanted: &str| {
        answer.errors.iter().any(|error| {
            let code = error
                .extensions
                .as_ref()
                .and_then(|extensions| extensions.get("code"));
            matches!(code, Some(async_graphql::Value::String(code)) if code == wanted)
        })
    };
    // Nothing was executed if there is no data at all, not even null, in the sense of the standard.
    let not_executed =
        answer.data == async_graphql::Value::Null && code_is("GRAPHQL_VALIDATION_FAILED");
    let status = if code_is("UNAVAILABLE") {
        StatusCode::SERVICE_UNAVAILABLE
    } else if speaks_graphql && not_executed {
        StatusCode::BAD_REQUEST
    } else {
        StatusCode::OK
    };
    let body = if not_executed {
        serde_json::to_vec(&json!({ "errors": answer.errors }))
    } else {
        serde_json::to_vec(answer)
    };
    match body {
        Ok(body) => {
            let mut response = with_body(status, body, speaks_graphql);
            response.headers_mut().extend(answer.http_headers.clone());
            response
        }
        Err(error) => {
            tracing::error!("an answer cannot be written as JSON: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn refuse(refused: &Refused, request_id: Uuid, speaks_graphql: bool) -> Response {
    let mut extensions = json!({ "code": refused.code });
    // All refusals of a token are the same byte for byte; their id is in the header alone.
    if refused.status != StatusCode::UNAUTHORIZED {
        extensions["requestId"] = json!(request_id.to_string());
    }
    let mut error = json!({ "message": refused.message, "extensions": extensions });
    if !refused.locations.is_empty() {
        let places = refused.locations.iter();
        error["locations"] = places
            .map(|at| json!({ "line": at.line, "column": at.column }))
            .collect();
    }
    // A document that is refused is a well-formed request: to older clients that is 200.
    let is_document = refused.status == StatusCode::BAD_REQUEST && refused.code != "BAD_USER_INPUT";
    let status = if is_document && !speaks_graphql {
        StatusCode::OK
    } else {
        refused.status
    };
    let body = json!({ "errors": [error] }).to_string().into_bytes();
    let mut response = with_body(status, body, speaks_graphql);
    if refused.status == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Bearer");
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

fn with_body(status: StatusCode, body: Vec<u8>, speaks_graphql: bool) -> Response {
    let kind = if speaks_graphql {
        "application/graphql-response+json; charset=utf-8"
    } else {
        "application/json; charset=utf-8"
    };
    let mut response = (status, [(header::CONTENT_TYPE, kind)], body).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
    }
    response
}
