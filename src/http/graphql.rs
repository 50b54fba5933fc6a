//! `/graphql`: one request, one operation, or a few if batches are allowed.
//!
//! In this order: where it comes from, who asks, what kind of body, how long it is, what it asks for,
//! whether the tenant may ask for so much now. A stranger costs one signature check and nothing else.

use std::{borrow::Cow, sync::Arc, time::Duration};

use async_graphql::{Response as Answer, Value as GraphqlValue, Variables};
use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header},
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::{
    REQUEST_ID, Service, explorer, harden,
    negotiate::Format,
    persisted::{self, Named},
    traffic::{Place, Standing},
};
use crate::{
    auth::Principal,
    db::Operation,
    error::Error,
    graphql::{
        Admitted, Incoming, Manner, errors, guard,
        mutation::{MAX_KEY, is_key},
    },
    tenants::RateLimit,
};

/// The longest body, in bytes (SECURITY: a document is at most 64 KiB, the rest is for variables).
const MAX_BODY: usize = 1024 * 1024;
/// What a client waits before it tries again when the database is busy.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long a cancelled statement gets to end before it is looked for again.
const BETWEEN_CANCELLATIONS: Duration = Duration::from_millis(100);
/// What the client would like (RFC 7240).
const PREFER: &str = "prefer";
/// The key by which a mutation may be sent again.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const JSON: &str = "application/json";
/// What may be sent here.
const METHODS: &str = "GET, POST";

/// A request that was refused before an operation ran.
struct Refused {
    status: StatusCode,
    code: &'static str,
    message: Cow<'static, str>,
    locations: Vec<async_graphql::Pos>,
    retry_after: Option<Duration>,
    /// Whether the document is what is wrong: a well-formed request, to which older clients expect 200.
    is_document: bool,
}

impl Refused {
    fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            locations: Vec::new(),
            retry_after: None,
            is_document: false,
        }
    }

    fn bad(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BAD_USER_INPUT", message)
    }

    fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    fn of_document(mut self) -> Self {
        self.is_document = true;
        self
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
        let refused = Self::new(status, error.code(), error.to_string());
        if status == StatusCode::SERVICE_UNAVAILABLE {
            refused.after(RETRY_AFTER)
        } else {
            refused
        }
    }
}

impl From<guard::Refusal> for Refused {
    fn from(refusal: guard::Refusal) -> Self {
        let locations = match &refusal.reason {
            guard::Reason::Parse { positions, .. } => positions.clone(),
            _ => Vec::new(),
        };
        let (code, message) = (refusal.reason.code(), refusal.to_string());
        Self {
            locations,
            ..Self::new(StatusCode::BAD_REQUEST, code, message).of_document()
        }
    }
}

impl From<persisted::Refusal> for Refused {
    fn from(refusal: persisted::Refusal) -> Self {
        Self::new(StatusCode::BAD_REQUEST, refusal.code(), refusal.to_string()).of_document()
    }
}

/// Everything but GET and POST.
pub async fn other_method(method: Method) -> Response {
    let message =
        format!("{method} is not supported here: send operations by POST, queries also by GET\n");
    let mut response = (StatusCode::METHOD_NOT_ALLOWED, message).into_response();
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static(METHODS));
    harden(&mut response);
    response
}

/// What became of one operation.
type Answered = Result<Answer, Refused>;

/// What became of a request.
struct Replied {
    answers: Vec<Answered>,
    is_batch: bool,
    standing: Option<Standing>,
}

/// Answers one request.
pub async fn answer(State(service): State<Service>, request: Request<Body>) -> Response {
    if let Some(led) = explorer::for_browsers(&service, &request) {
        return led;
    }
    let request_id = request_id(request.headers());
    let format = Format::accepted(request.headers());
    let replied = match format {
        Some(_) => operate(&service, request, request_id).await,
        None => Err(Refused::new(
            StatusCode::NOT_ACCEPTABLE,
            "BAD_USER_INPUT",
            "answers are application/graphql-response+json or application/json: accept one of them",
        )),
    };
    let replied = replied.unwrap_or_else(|refused| Replied {
        answers: vec![Err(refused)],
        is_batch: false,
        standing: None,
    });
    let mut response = respond(replied, request_id, format.unwrap_or(Format::Json));
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
) -> Result<Replied, Refused> {
    if service.0.origins.refuse(request.headers()) {
        let message = "pages of this origin may not call this API";
        return Err(Refused::new(StatusCode::FORBIDDEN, "CSRF_BLOCKED", message));
    }
    let principal = authenticate(service, request.headers()).await?;
    let manner = manner(service, request.headers())?;
    let by_get = request.method() != Method::POST;
    let received = if by_get {
        Received::One(from_address(request.uri().query().unwrap_or_default())?)
    } else {
        require_json(request.headers())?;
        let body = receive(service, request.into_body()).await?;
        parse(&body, service.0.max_batch)?
    };
    let (bodies, is_batch) = match received {
        Received::One(body) => (vec![body], false),
        Received::Batch(_) if manner.idempotency_key.is_some() => {
            return Err(Refused::bad(
                "Idempotency-Key is for one operation, not for a batch",
            ));
        }
        Received::Batch(bodies) => (bodies, true),
    };
    let asked = Asked {
        service,
        principal,
        manner,
        request_id,
        by_get,
    };
    let mut answers = Vec::with_capacity(bodies.len());
    // One after the other: a batch has no more of the database than a single operation.
    for body in bodies {
        answers.push(asked.answer(body).await);
    }
    let standing = service.0.budgets.standing(principal.tenant);
    Ok(Replied {
        answers,
        is_batch,
        standing,
    })
}

/// Who asks, and how.
struct Asked<'r> {
    service: &'r Service,
    principal: Principal,
    manner: Manner,
    request_id: Uuid,
    by_get: bool,
}

impl Asked<'_> {
    async fn answer(&self, body: RequestBody) -> Answered {
        let (service, tenant) = (self.service, self.principal.tenant);
        let named = Named {
            query: body.query,
            id: body.document_id,
            hash: body
                .extensions
                .and_then(|extensions| extensions.persisted_query)
                .and_then(|persisted| persisted.sha256_hash),
        };
        let query = service.0.documents.resolve(tenant, named)?;
        let query =
            query.ok_or_else(|| Refused::bad("there is no `query`, and nothing that names one"))?;
        let incoming = Incoming {
            query,
            operation_name: body.operation_name,
            variables: Variables::from_json(body.variables.unwrap_or_default().into()),
        };
        let operation = Operation::new(self.request_id);
        let admitted = service.0.api.admit(
            incoming,
            self.principal,
            Arc::clone(&operation),
            self.manner.clone(),
        )?;
        if self.by_get && !admitted.is_query() {
            let message = "by GET only queries are answered: send mutations by POST";
            return Err(Refused::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "BAD_USER_INPUT",
                message,
            ));
        }

        let cost = admitted.cost();
        let taken = service.0.budgets.take(tenant, cost).map_err(|wait| {
            let message = "the tenant has asked for too much: try again later";
            Refused::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", message).after(wait)
        })?;
        let place = service.0.places.take(tenant, service.0.place_timeout).await;
        let Some(place) = place else {
            service.0.budgets.give_back(tenant, taken);
            return Err(Error::Unavailable(None).into());
        };
        let standing = service.0.budgets.standing(tenant);
        let admitted = admitted.under(standing.map(|standing| {
            let Standing {
                limit,
                remaining,
                full_in,
            } = standing;
            RateLimit::new(limit, remaining, taken, full_in)
        }));
        let answer = run(service, admitted, operation, place).await;
        if let Some(actual) = actual_cost(&answer) {
            service
                .0
                .budgets
                .give_back(tenant, taken.saturating_sub(actual));
        }
        Ok(answer)
    }
}

/// The rows that an operation fetched; `None` if it was cut short and nobody knows.
fn actual_cost(answer: &Answer) -> Option<u64> {
    match answer.extensions.get("cost")? {
        GraphqlValue::Object(cost) => match cost.get("actual")? {
            GraphqlValue::Number(actual) => actual.as_u64(),
            _ => None,
        },
        _ => None,
    }
}

/// How the client wants its operation run.
fn manner(service: &Service, headers: &HeaderMap) -> Result<Manner, Refused> {
    Ok(Manner {
        traced: service.0.features.development && headers.contains_key("palisade-trace"),
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

/// The members of a request (GraphQL over HTTP, 5.3 and its appendix on persisted documents). Others
/// are ignored, as it demands.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestBody {
    query: Option<String>,
    document_id: Option<String>,
    operation_name: Option<String>,
    variables: Option<serde_json::Map<String, serde_json::Value>>,
    extensions: Option<Extensions>,
}

/// Further members, of which those of Apollo's persisted queries are known.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Extensions {
    persisted_query: Option<PersistedQuery>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PersistedQuery {
    sha256_hash: Option<String>,
}

enum Received {
    One(RequestBody),
    Batch(Vec<RequestBody>),
}

const MEMBERS: &str = "the body must be one object: it may have a text `query`, `documentId` and \
                       `operationName`, and an object `variables` and `extensions`";

/// Reads a body: one request or, if as many may be sent at a time, a list of them.
fn parse(body: &[u8], max_batch: u32) -> Result<Received, Refused> {
    let is_list = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let wrong = |error: serde_json::Error| match error.classify() {
        serde_json::error::Category::Data => Refused::bad(MEMBERS),
        _ => Refused::bad(format!(
            "the body is not JSON: line {}, column {}",
            error.line(),
            error.column()
        )),
    };
    if !is_list {
        return serde_json::from_slice(body)
            .map(Received::One)
            .map_err(wrong);
    }
    if max_batch == 0 {
        // A list that is no JSON is told that it is none.
        serde_json::from_slice::<serde::de::IgnoredAny>(body).map_err(wrong)?;
        return Err(Refused::bad(MEMBERS));
    }
    let bodies: Vec<RequestBody> = serde_json::from_slice(body).map_err(wrong)?;
    match bodies.len() {
        0 => Err(Refused::bad("the batch is empty")),
        many if many > max_batch as usize => Err(Refused::bad(format!(
            "the batch has more than {max_batch} operations"
        ))),
        _ => Ok(Received::Batch(bodies)),
    }
}

/// Reads a request from the address of a GET: each member once, `variables` and `extensions` as JSON.
fn from_address(text: &str) -> Result<RequestBody, Refused> {
    let mut members = serde_json::Map::new();
    for (name, value) in form_urlencoded::parse(text.as_bytes()) {
        let value = match &*name {
            "query" | "documentId" | "operationName" => json!(value),
            "variables" | "extensions" => serde_json::from_str(&value)
                .map_err(|_| Refused::bad(format!("the parameter {name} is not JSON")))?,
            _ => continue,
        };
        if members.insert(name.to_string(), value).is_some() {
            return Err(Refused::bad(format!("the parameter {name} is given twice")));
        }
    }
    serde_json::from_value(members.into()).map_err(|_| {
        Refused::bad("`query`, `documentId` and `operationName` are texts, `variables` and `extensions` objects")
    })
}

/// Runs the operation in a task of its own, so that a client that goes away cannot cut a statement
/// in two. If it does, or takes too long, the operation is ended where it works: in the database.
async fn run(
    service: &Service,
    admitted: Admitted,
    operation: Arc<Operation>,
    place: Place,
) -> Answer {
    let request_id = operation.request_id();
    let api = service.0.api.clone();
    let mut running = tokio::spawn(async move {
        let answer = api.execute(admitted).await;
        // The task's own, so that an operation that nobody waits for keeps its place until it ends.
        drop(place);
        answer
    });
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

fn respond(replied: Replied, request_id: Uuid, format: Format) -> Response {
    let Replied {
        answers,
        is_batch,
        standing,
    } = replied;
    let mut response = if is_batch {
        let bodies: Vec<_> = answers
            .iter()
            .map(|answered| body(answered, request_id))
            .collect();
        let body = [b"[", &bodies.join(&b","[..])[..], b"]"].concat();
        with_body(StatusCode::OK, body, format)
    } else {
        let mut answers = answers;
        let answered = answers.remove(0);
        let body = body(&answered, request_id);
        let mut response = with_body(status(&answered, format), body, format);
        let headers = response.headers_mut();
        match answered {
            Ok(answer) => headers.extend(answer.http_headers),
            Err(refused) => {
                if refused.status == StatusCode::UNAUTHORIZED {
                    headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                }
                if refused.status == StatusCode::METHOD_NOT_ALLOWED {
                    headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
                }
                if let Some(wait) = refused.retry_after {
                    retry_after(headers, wait);
                }
            }
        }
        response
    };
    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
        retry_after(response.headers_mut(), RETRY_AFTER);
    }
    if let Some(standing) = standing {
        rate_limit(response.headers_mut(), standing);
    }
    response
}

/// Whole seconds, rounded up: whoever comes back after them is not too early.
fn retry_after(headers: &mut HeaderMap, wait: Duration) {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
}

/// How the tenant's budget stands (draft-ietf-httpapi-ratelimit-headers): rows in a minute, rows left,
/// seconds until it is full.
fn rate_limit(headers: &mut HeaderMap, standing: Standing) {
    let Standing {
        limit,
        remaining,
        full_in,
    } = standing;
    let policy = format!("\"rows\";q={limit};w=60");
    let now = format!("\"rows\";r={remaining};t={}", full_in.as_secs());
    for (name, value) in [("ratelimit-policy", policy), ("ratelimit", now)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
}

fn code_is(answer: &Answer, wanted: &str) -> bool {
    answer.errors.iter().any(|error| {
        let code = error
            .extensions
            .as_ref()
            .and_then(|extensions| extensions.get("code"));
        matches!(code, Some(GraphqlValue::String(code)) if code == wanted)
    })
}

/// Whether there is no data at all, not even null, in the sense of the standard.
fn is_not_executed(answer: &Answer) -> bool {
    answer.data == GraphqlValue::Null && code_is(answer, "GRAPHQL_VALIDATION_FAILED")
}

fn status(answered: &Answered, format: Format) -> StatusCode {
    match answered {
        Ok(answer) if code_is(answer, "UNAVAILABLE") => StatusCode::SERVICE_UNAVAILABLE,
        Ok(answer) if format == Format::GraphQl && is_not_executed(answer) => {
            StatusCode::BAD_REQUEST
        }
        Ok(_) => StatusCode::OK,
        Err(refused) if refused.is_document && format == Format::Json => StatusCode::OK,
        Err(refused) => refused.status,
    }
}

fn body(answered: &Answered, request_id: Uuid) -> Vec<u8> {
    let written = match answered {
        Ok(answer) if is_not_executed(answer) => {
            serde_json::to_vec(&json!({ "errors": answer.errors }))
        }
        Ok(answer) => serde_json::to_vec(answer),
        Err(refused) => {
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
            serde_json::to_vec(&json!({ "errors": [error] }))
        }
    };
    written.unwrap_or_else(|error| {
        tracing::error!("an answer cannot be written as JSON: {error}");
        br#"{"errors":[{"message":"internal error","extensions":{"code":"INTERNAL"}}]}"#.to_vec()
    })
}

fn with_body(status: StatusCode, body: Vec<u8>, format: Format) -> Response {
    (
        status,
        [(header::CONTENT_TYPE, format.content_type())],
        body,
    )
        .into_response()
}
