//! Writes the response to a request: its status, its body and the headers of the budget.
//!
//! The invariant: **the response to a rejected token is the same, byte for byte, for every cause.**

use std::{
    borrow::Cow,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use async_graphql::{Pos, Response as GraphqlResponse, Value as GraphqlValue};
use axum::{
    body::{Body, Bytes, HttpBody},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use hyper::body::{Frame, SizeHint};
use serde_json::json;
use tokio::time::{Sleep, sleep};
use uuid::Uuid;

use super::{budgets::BudgetStatus, negotiate::ResponseFormat, persisted::PersistedError};
use crate::{
    api::{AdmissionError, DocumentError, OperationReply, transaction::Ending},
    canary::Canary,
    error::{Code, Error},
    graphql::{errors, json::write_response, object::too_long},
    metrics,
    usage::tenant_bytes::HeldBytes,
};

/// The longest response for which no memory of the tenant is held, in bytes.
pub const MAX_SHORT_RESPONSE_BYTES: usize = 16 * 1024;
/// The header of a response that was stored with its idempotency key.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// The header with the preference that the service applied (RFC 7240, 3).
pub const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// The time after which a client may try again if the database is busy.
const BUSY_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a request or an operation was not executed.
pub struct Rejection {
    status: StatusCode,
    code: Code,
    message: Cow<'static, str>,
    locations: Vec<Pos>,
    /// The errors after the first one.
    further: Vec<DocumentError>,
    retry_after: Option<Duration>,
    /// Whether the service closes the connection after the response.
    closes_connection: bool,
    /// The line for the log if the service or its database caused the rejection.
    failure: Option<Box<str>>,
    /// The body, if it is already written.
    body: Option<Box<WrittenBody>>,
    /// Whether the request is well-formed and only its document is rejected. Older clients expect the
    /// status 200 then.
    is_document_error: bool,
}

/// The body of a rejection, and the memory that is held for it.
struct WrittenBody {
    bytes: Vec<u8>,
    held: Option<HeldBytes>,
}

impl Rejection {
    pub fn new(status: StatusCode, code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            locations: Vec::new(),
            further: Vec::new(),
            retry_after: None,
            closes_connection: false,
            failure: None,
            body: None,
            is_document_error: false,
        }
    }

    /// Creates the rejection of a malformed request.
    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::BadUserInput, message)
    }

    /// Creates the rejection of a request that got no slot, or for whose body there is no memory.
    pub fn busy() -> Self {
        let error = Error::Unavailable(None);
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            error.code(),
            error.to_string(),
        )
        .retry_after(BUSY_RETRY_AFTER)
    }

    /// Creates the rejection of a body with more than `most` values for an operation.
    pub fn too_many_values(most: u64) -> Self {
        let message = format!("the request has more than {most} values");
        Self::new(StatusCode::BAD_REQUEST, Code::QueryTooComplex, message).document_error()
    }

    /// Creates the rejection that replaces a response for which there is no memory. The operation was executed.
    pub fn responses_not_received() -> Self {
        let message = "the operation was executed, but its response was dropped: the clients of the tenant must receive earlier responses first";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, message)
            .retry_after(BUSY_RETRY_AFTER)
    }

    /// Creates the rejection of a request on a connection beyond the share of its tenant.
    pub fn too_many_connections() -> Self {
        let message = "the tenant has too many open connections: close some or try again later";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self {
            closes_connection: true,
            ..Self::new(status, Code::Unavailable, message).retry_after(BUSY_RETRY_AFTER)
        }
    }

    /// Sets the time after which the client may try again.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Writes the body. Returns its length: the errors of a document can quote much of it, several times.
    pub fn write_body(&mut self, request_id: Uuid) -> usize {
        let bytes = rejection_body(self, request_id);
        let length = bytes.len();
        self.body = Some(Box::new(WrittenBody { bytes, held: None }));
        length
    }

    /// Sets the memory that is held for the written body until the client has received it.
    pub fn hold(&mut self, held: Option<HeldBytes>) {
        if let Some(body) = &mut self.body {
            body.held = held;
        }
    }

    /// The body and the memory that is held for it.
    fn take_body(&mut self, request_id: Uuid) -> (Vec<u8>, Option<HeldBytes>) {
        match self.body.take() {
            Some(written) => (written.bytes, written.held),
            None => (rejection_body(self, request_id), None),
        }
    }

    fn document_error(mut self) -> Self {
        self.is_document_error = true;
        self
    }
}

impl From<Error> for Rejection {
    fn from(error: Error) -> Self {
        let status = match error.code() {
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::Unavailable | Code::Timeout => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let rejection = Self {
            failure: error.is_service_failure().then(|| error.detail().into()),
            ..Self::new(status, error.code(), error.to_string())
        };
        if status == StatusCode::SERVICE_UNAVAILABLE {
            rejection.retry_after(BUSY_RETRY_AFTER)
        } else {
            rejection
        }
    }
}

impl From<AdmissionError> for Rejection {
    fn from(error: AdmissionError) -> Self {
        let code = error.code;
        let mut errors = error.errors.into_iter();
        let first = errors.next();
        let (message, locations) =
            first.map_or_else(Default::default, |first| (first.message, first.locations));
        Self {
            locations,
            further: errors.collect(),
            ..Self::new(StatusCode::BAD_REQUEST, code, message).document_error()
        }
    }
}

impl From<PersistedError> for Rejection {
    fn from(error: PersistedError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.code(), error.to_string()).document_error()
    }
}

/// An operation that was executed, with its response as it is sent.
pub struct ExecutedOperation {
    pub body: Vec<u8>,
    ending: Ending,
    /// Whether the database was not available for a part of the operation.
    is_unavailable: bool,
    /// Whether the user has used too many idempotency keys.
    is_rate_limited: bool,
    /// The time after which the client may try again.
    retry_after: Option<Duration>,
    /// Whether the engine rejected the document.
    is_not_executed: bool,
    /// The memory that is held for a long body.
    pub held: Option<HeldBytes>,
}

impl ExecutedOperation {
    /// Writes the response. If it has more than `max_bytes`, or if it contains a row of the canary, it becomes an error.
    pub fn new(
        reply: &OperationReply,
        request_id: Uuid,
        max_bytes: Option<u64>,
        canary: &Canary,
    ) -> Self {
        let OperationReply { response, ending } = reply;
        let is_not_executed = is_not_executed(response);
        let mut body = if is_not_executed {
            let json = serde_json::to_vec(&json!({ "errors": response.errors }));
            json.unwrap_or_else(|error| cannot_write(&error))
        } else {
            write_response(response)
        };
        if let Some(limit) = max_bytes
            && body.len() as u64 > limit
        {
            metrics::RESPONSE_BYTES_EXCEEDED.increment();
            let mut error = errors::error_response(too_long(limit));
            errors::finish(&mut error, request_id, true);
            body = write_response(&error);
        }
        if canary.is_in(&body) {
            let found = "the response contained a row of the canary: the isolation of the tenants has failed";
            let mut error = errors::error_response(Error::Internal(found.into()));
            errors::finish(&mut error, request_id, true);
            body = write_response(&error);
        }
        Self {
            body,
            ending: *ending,
            is_unavailable: has_code(response, Code::Unavailable),
            is_rate_limited: has_code(response, Code::RateLimited),
            retry_after: wait_for_keys(response),
            is_not_executed,
            held: None,
        }
    }
}

/// The result of one operation.
pub type OperationResult = Result<ExecutedOperation, Rejection>;

/// The result of a request.
pub struct HttpReply {
    /// One result per operation. A request that is not a batch has exactly one.
    pub operations: Vec<OperationResult>,
    pub is_batch: bool,
    /// The tenant's budget after the operations; `None` if there is no limit, or if the whole request was rejected.
    pub budget: Option<BudgetStatus>,
}

impl From<Rejection> for HttpReply {
    fn from(rejection: Rejection) -> Self {
        Self {
            operations: vec![Err(rejection)],
            is_batch: false,
            budget: None,
        }
    }
}

/// Writes the response, with the status that its media type prescribes.
pub fn respond(reply: HttpReply, request_id: Uuid, format: ResponseFormat) -> Response {
    let HttpReply {
        mut operations,
        is_batch,
        budget,
    } = reply;
    log_failures(&operations, request_id);
    let mut response = if is_batch {
        batch_response(operations, request_id, format)
    } else {
        single_response(operations.remove(0), request_id, format)
    };
    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
        set_retry_after(response.headers_mut(), BUSY_RETRY_AFTER);
    }
    if let Some(status) = budget {
        set_rate_limit(response.headers_mut(), status);
    }
    response
}

fn log_failures(operations: &[OperationResult], request_id: Uuid) {
    let rejections = operations.iter().filter_map(|reply| reply.as_ref().err());
    for failure in rejections.filter_map(|rejection| rejection.failure.as_deref()) {
        tracing::error!(
            request.id = %request_id,
            "request {request_id} failed before its operation started: {failure}",
        );
    }
}

fn batch_response(
    operations: Vec<OperationResult>,
    request_id: Uuid,
    format: ResponseFormat,
) -> Response {
    let (mut bodies, mut held, mut endings) = (Vec::new(), Vec::new(), Vec::new());
    for operation in operations {
        match operation {
            Ok(executed) => {
                bodies.push(executed.body);
                held.extend(executed.held);
                endings.push(executed.ending);
            }
            Err(mut rejection) => {
                let (body, held_for_body) = rejection.take_body(request_id);
                bodies.push(body);
                held.extend(held_for_body);
            }
        }
    }
    let body = [b"[", &bodies.join(&b","[..])[..], b"]"].concat();
    let mut response = with_body(StatusCode::OK, body, held, format);
    for ending in endings {
        report_ending(response.headers_mut(), ending);
    }
    response
}

fn single_response(reply: OperationResult, request_id: Uuid, format: ResponseFormat) -> Response {
    let status = status(&reply, format);
    let (body, held, reply) = match reply {
        Ok(executed) => {
            let ending = (executed.ending, executed.retry_after);
            (executed.body, executed.held, Ok(ending))
        }
        Err(mut rejection) => {
            let (body, held) = rejection.take_body(request_id);
            (body, held, Err(rejection))
        }
    };
    let held = held.into_iter().collect();
    let mut response = with_body(status, body, held, format);
    let headers = response.headers_mut();
    match reply {
        Ok((ending, retry_after)) => {
            if let Some(wait) = retry_after {
                set_retry_after(headers, wait);
            }
            report_ending(headers, ending);
        }
        Err(rejection) => {
            if rejection.status == StatusCode::UNAUTHORIZED {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            if rejection.status == StatusCode::METHOD_NOT_ALLOWED {
                headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
            }
            if let Some(wait) = rejection.retry_after {
                set_retry_after(headers, wait);
            }
            if rejection.closes_connection {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
        }
    }
    response
}

/// Adds the header that reports a special ending of an operation.
fn report_ending(headers: &mut HeaderMap, ending: Ending) {
    match ending {
        Ending::Executed => {}
        Ending::RolledBack => {
            headers.insert(PREFERENCE_APPLIED, HeaderValue::from_static("tx=rollback"));
        }
        Ending::Replayed => {
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
        }
    }
}

/// Sets `Retry-After` in whole seconds, rounded up, so that a client does not come back too early.
fn set_retry_after(headers: &mut HeaderMap, wait: Duration) {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
}

/// Sets the headers of draft-ietf-httpapi-ratelimit-headers: rows per minute, rows left, and seconds until
/// the budget is full.
fn set_rate_limit(headers: &mut HeaderMap, status: BudgetStatus) {
    let BudgetStatus {
        limit,
        remaining,
        full_in,
    } = status;
    let policy = format!("\"rows\";q={limit};w=60");
    let state = format!("\"rows\";r={remaining};t={}", full_in.as_secs());
    for (name, value) in [("ratelimit-policy", policy), ("ratelimit", state)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
}

/// The time after which the user has an unused idempotency key again; `None` unless this is why the operation failed.
fn wait_for_keys(response: &GraphqlResponse) -> Option<Duration> {
    let mut errors = response.errors.iter();
    errors.find_map(|error| match error.source::<Error>() {
        Some(Error::TooManyKeys(wait)) => Some(*wait),
        _ => None,
    })
}

fn has_code(response: &GraphqlResponse, wanted: Code) -> bool {
    response.errors.iter().any(|error| {
        let code = error
            .extensions
            .as_ref()
            .and_then(|extensions| extensions.get("code"));
        matches!(code, Some(GraphqlValue::String(code)) if code == wanted.as_str())
    })
}

/// Whether the operation was not executed: the response then has no entry `data`, not even null (specification, 7.1).
fn is_not_executed(response: &GraphqlResponse) -> bool {
    response.data == GraphqlValue::Null && has_code(response, Code::GraphqlValidationFailed)
}

fn status(reply: &OperationResult, format: ResponseFormat) -> StatusCode {
    match reply {
        Ok(executed) if executed.is_unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Ok(executed) if executed.is_rate_limited => StatusCode::TOO_MANY_REQUESTS,
        Ok(executed) if executed.is_not_executed && format == ResponseFormat::GraphQl => {
            StatusCode::BAD_REQUEST
        }
        Ok(_) => StatusCode::OK,
        Err(rejection) if rejection.is_document_error && format == ResponseFormat::Json => {
            StatusCode::OK
        }
        Err(rejection) => rejection.status,
    }
}

/// The body of a response that cannot be written as JSON, which is a defect.
fn cannot_write(error: &serde_json::Error) -> Vec<u8> {
    tracing::error!("cannot serialize the response as JSON: {error}");
    let extensions = json!({ "code": Code::Internal.as_str() });
    let error = json!({ "message": "internal error", "extensions": extensions });
    json!({ "errors": [error] }).to_string().into_bytes()
}

fn rejection_body(rejection: &Rejection, request_id: Uuid) -> Vec<u8> {
    let mut extensions = json!({ "code": rejection.code.as_str() });
    // The responses to rejected tokens must have equal bodies, so their request id is only in the header.
    if rejection.status != StatusCode::UNAUTHORIZED {
        extensions["requestId"] = json!(request_id.to_string());
    }
    let entry = |message: &str, locations: &[Pos]| {
        let mut error = json!({ "message": message, "extensions": extensions });
        if !locations.is_empty() {
            let locations = locations.iter();
            error["locations"] = locations
                .map(|position| json!({ "line": position.line, "column": position.column }))
                .collect();
        }
        error
    };
    let mut errors = vec![entry(&rejection.message, &rejection.locations)];
    let further = rejection.further.iter();
    errors.extend(further.map(|error| entry(&error.message, &error.locations)));
    let body = serde_json::to_vec(&json!({ "errors": errors }));
    body.unwrap_or_else(|error| cannot_write(&error))
}

/// A response with this body. The memory of the body is held until the client has received it.
fn with_body(
    status: StatusCode,
    body: Vec<u8>,
    held: Vec<HeldBytes>,
    format: ResponseFormat,
) -> Response {
    let content_type = [(header::CONTENT_TYPE, format.content_type())];
    let body = if held.is_empty() {
        Body::from(body)
    } else {
        Body::new(LongBody {
            rest: body.into(),
            pause: None,
            _held: held,
        })
    };
    (status, content_type, body).into_response()
}

/// A long body. It is sent in parts with pauses, so that the server buffers only a part of it, and the connections of
/// other clients have their turn. Otherwise a fast client would receive megabytes before another client receives a byte.
struct LongBody {
    rest: Bytes,
    pause: Option<Pin<Box<Sleep>>>,
    _held: Vec<HeldBytes>,
}

/// The bytes of a part of a long body.
const PART_BYTES: usize = 128 * 1024;
/// The pause after each part. With it, a client receives at most 128 MB/s over one connection.
const PART_PAUSE: Duration = Duration::from_millis(1);

impl HttpBody for LongBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let bytes = self.rest.len().min(PART_BYTES);
        let part = self.rest.split_to(bytes);
        if !self.rest.is_empty() {
            self.pause = Some(Box::pin(sleep(PART_PAUSE)));
        }
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_long_body_is_sent_in_parts_with_pauses() {
        let bytes = [b"abc".repeat(PART_BYTES / 2), vec![b'd'; PART_BYTES]].concat();
        let mut body = LongBody {
            rest: bytes.clone().into(),
            pause: None,
            _held: Vec::new(),
        };
        let started = tokio::time::Instant::now();
        let mut received = Vec::new();
        let mut parts = Vec::new();
        while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            let part = frame.unwrap().into_data().unwrap();
            parts.push((part.len(), started.elapsed()));
            received.extend_from_slice(&part);
        }
        assert!(received == bytes);
        assert_eq!(
            parts,
            [
                (PART_BYTES, Duration::ZERO),
                (PART_BYTES, PART_PAUSE),
                (PART_BYTES / 2, 2 * PART_PAUSE),
            ]
        );
    }
}
