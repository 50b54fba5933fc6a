//! Writes the response to a request: its status, its body and the headers of the budget.
//!
//! The invariant: **the response to a rejected token is the same, byte for byte, for every cause.**

use std::{borrow::Cow, time::Duration};

use async_graphql::{Pos, Response as GraphqlResponse, Value as GraphqlValue};
use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use uuid::Uuid;

use super::{budgets::BudgetStatus, negotiate::ResponseFormat, persisted::PersistedError};
use crate::{
    api::{OperationReply, guard, transaction::Ending},
    error::{Code, Error},
    graphql::json::write_response,
};

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
    retry_after: Option<Duration>,
    /// The line for the log if the service or its database caused the rejection.
    failure: Option<String>,
    /// Whether the request is well-formed and only its document is rejected. Older clients expect the
    /// status 200 then.
    is_document_error: bool,
}

impl Rejection {
    pub fn new(status: StatusCode, code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            locations: Vec::new(),
            retry_after: None,
            failure: None,
            is_document_error: false,
        }
    }

    /// Creates the rejection of a malformed request.
    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::BadUserInput, message)
    }

    /// Creates the rejection of an operation that got no slot in time.
    pub fn busy() -> Self {
        let error = Error::Unavailable(None);
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            error.code(),
            error.to_string(),
        )
        .retry_after(BUSY_RETRY_AFTER)
    }

    /// Sets the time after which the client may try again.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
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
            failure: error.is_service_failure().then(|| error.detail()),
            ..Self::new(status, error.code(), error.to_string())
        };
        if status == StatusCode::SERVICE_UNAVAILABLE {
            rejection.retry_after(BUSY_RETRY_AFTER)
        } else {
            rejection
        }
    }
}

impl From<guard::GuardError> for Rejection {
    fn from(refusal: guard::GuardError) -> Self {
        let locations = match &refusal.reason {
            guard::Reason::Parse { positions, .. } => positions.clone(),
            _ => Vec::new(),
        };
        let (code, message) = (refusal.reason.code(), refusal.to_string());
        Self {
            locations,
            ..Self::new(StatusCode::BAD_REQUEST, code, message).document_error()
        }
    }
}

impl From<PersistedError> for Rejection {
    fn from(error: PersistedError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.code(), error.to_string()).document_error()
    }
}

/// The result of one operation.
pub type OperationResult = Result<OperationReply, Rejection>;

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
    let bodies: Vec<_> = operations
        .iter()
        .map(|reply| body(reply, request_id))
        .collect();
    let body = [b"[", &bodies.join(&b","[..])[..], b"]"].concat();
    let mut response = with_body(StatusCode::OK, body, format);
    for executed in operations.into_iter().flatten() {
        report_ending(response.headers_mut(), executed.ending);
    }
    response
}

fn single_response(reply: OperationResult, request_id: Uuid, format: ResponseFormat) -> Response {
    let body = body(&reply, request_id);
    let mut response = with_body(status(&reply, format), body, format);
    let headers = response.headers_mut();
    match reply {
        Ok(executed) => {
            if let Some(wait) = wait_for_keys(&executed.response) {
                set_retry_after(headers, wait);
            }
            report_ending(headers, executed.ending);
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
pub fn is_not_executed(response: &GraphqlResponse) -> bool {
    response.data == GraphqlValue::Null && has_code(response, Code::GraphqlValidationFailed)
}

fn status(reply: &OperationResult, format: ResponseFormat) -> StatusCode {
    match reply {
        Ok(executed) if has_code(&executed.response, Code::Unavailable) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Ok(executed) if has_code(&executed.response, Code::RateLimited) => {
            StatusCode::TOO_MANY_REQUESTS
        }
        Ok(executed)
            if format == ResponseFormat::GraphQl && is_not_executed(&executed.response) =>
        {
            StatusCode::BAD_REQUEST
        }
        Ok(_) => StatusCode::OK,
        Err(rejection) if rejection.is_document_error && format == ResponseFormat::Json => {
            StatusCode::OK
        }
        Err(rejection) => rejection.status,
    }
}

fn body(reply: &OperationResult, request_id: Uuid) -> Vec<u8> {
    let body = match reply {
        Ok(executed) if is_not_executed(&executed.response) => {
            serde_json::to_vec(&json!({ "errors": executed.response.errors }))
        }
        Ok(executed) => Ok(write_response(&executed.response)),
        Err(rejection) => serde_json::to_vec(&rejection_body(rejection, request_id)),
    };
    body.unwrap_or_else(|error| {
        tracing::error!("cannot serialize the response as JSON: {error}");
        let extensions = json!({ "code": Code::Internal.as_str() });
        let error = json!({ "message": "internal error", "extensions": extensions });
        json!({ "errors": [error] }).to_string().into_bytes()
    })
}

fn rejection_body(rejection: &Rejection, request_id: Uuid) -> serde_json::Value {
    let mut extensions = json!({ "code": rejection.code.as_str() });
    // The responses to rejected tokens must have equal bodies, so their request id is only in the header.
    if rejection.status != StatusCode::UNAUTHORIZED {
        extensions["requestId"] = json!(request_id.to_string());
    }
    let mut error = json!({ "message": rejection.message, "extensions": extensions });
    if !rejection.locations.is_empty() {
        error["locations"] = rejection
            .locations
            .iter()
            .map(|position| json!({ "line": position.line, "column": position.column }))
            .collect();
    }
    json!({ "errors": [error] })
}

fn with_body(status: StatusCode, body: Vec<u8>, format: ResponseFormat) -> Response {
    let content_type = [(header::CONTENT_TYPE, format.content_type())];
    (status, content_type, body).into_response()
}
