//! What is answered: refusals, bodies, status codes, and the headers of budgets.

use std::{borrow::Cow, time::Duration};

use async_graphql::{Response as Answer, Value as GraphqlValue};
use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use uuid::Uuid;

use super::{negotiate::Format, persisted, traffic::Standing};
use crate::{
    api::{OperationReply, guard, transaction::Ending},
    error::Error,
};

/// The header of a response that was stored with its idempotency key.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// The header with the preference that the service applied (RFC 7240, 3).
pub const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// What a client waits before it tries again when the database is busy.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A request that was refused before an operation ran.
pub struct Refused {
    status: StatusCode,
    code: &'static str,
    message: Cow<'static, str>,
    locations: Vec<async_graphql::Pos>,
    retry_after: Option<Duration>,
    /// What the log is told, if it is a failure of the service's own.
    failure: Option<String>,
    /// Whether the document is what is wrong: a well-formed request, to which older clients expect 200.
    is_document: bool,
}

impl Refused {
    pub fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            locations: Vec::new(),
            retry_after: None,
            failure: None,
            is_document: false,
        }
    }

    pub fn bad(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BAD_USER_INPUT", message)
    }

    /// Too much of the same tenant runs already.
    pub fn busy() -> Self {
        let error = Error::Unavailable(None);
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            error.code(),
            error.to_string(),
        )
        .after(RETRY_AFTER)
    }

    pub fn after(mut self, wait: Duration) -> Self {
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
        let refused = Self {
            failure: error.is_ours().then(|| error.detail()),
            ..Self::new(status, error.code(), error.to_string())
        };
        if status == StatusCode::SERVICE_UNAVAILABLE {
            refused.after(RETRY_AFTER)
        } else {
            refused
        }
    }
}

impl From<guard::GuardError> for Refused {
    fn from(refusal: guard::GuardError) -> Self {
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

/// What became of one operation.
pub type Answered = Result<OperationReply, Refused>;

/// What became of a request.
pub struct Replied {
    pub answers: Vec<Answered>,
    pub is_batch: bool,
    pub standing: Option<Standing>,
}

/// Writes an answer, with the status that the client's format gives it.
pub fn respond(replied: Replied, request_id: Uuid, format: Format) -> Response {
    let Replied {
        answers,
        is_batch,
        standing,
    } = replied;
    let failures = answers
        .iter()
        .filter_map(|answered| answered.as_ref().err());
    for failure in failures.filter_map(|refused| refused.failure.as_deref()) {
        tracing::error!(
            request.id = %request_id,
            "request {request_id} failed before its operation: {failure}",
        );
    }
    let mut response = if is_batch {
        let bodies: Vec<_> = answers
            .iter()
            .map(|answered| body(answered, request_id))
            .collect();
        let body = [b"[", &bodies.join(&b","[..])[..], b"]"].concat();
        let mut response = with_body(StatusCode::OK, body, format);
        for answer in answers.into_iter().flatten() {
            report_ending(response.headers_mut(), answer.ending);
        }
        response
    } else {
        let mut answers = answers;
        let answered = answers.remove(0);
        let body = body(&answered, request_id);
        let mut response = with_body(status(&answered, format), body, format);
        let headers = response.headers_mut();
        match answered {
            Ok(answer) => report_ending(headers, answer.ending),
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
pub fn is_not_executed(answer: &Answer) -> bool {
    answer.data == GraphqlValue::Null && code_is(answer, "GRAPHQL_VALIDATION_FAILED")
}

fn status(answered: &Answered, format: Format) -> StatusCode {
    match answered {
        Ok(reply) if code_is(&reply.response, "UNAVAILABLE") => StatusCode::SERVICE_UNAVAILABLE,
        Ok(reply) if format == Format::GraphQl && is_not_executed(&reply.response) => {
            StatusCode::BAD_REQUEST
        }
        Ok(_) => StatusCode::OK,
        Err(refused) if refused.is_document && format == Format::Json => StatusCode::OK,
        Err(refused) => refused.status,
    }
}

fn body(answered: &Answered, request_id: Uuid) -> Vec<u8> {
    let written = match answered {
        Ok(reply) if is_not_executed(&reply.response) => {
            serde_json::to_vec(&json!({ "errors": reply.response.errors }))
        }
        Ok(reply) => serde_json::to_vec(&reply.response),
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
