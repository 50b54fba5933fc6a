//! Reads a request to `/graphql`: its body or its query string, and the headers that set how it runs.

use async_graphql::Variables;
use axum::{
    body::{Body, Bytes, HttpBody as _},
    http::{HeaderMap, HeaderName, Request, StatusCode, Uri, header},
};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Deserialize;
use serde_json::json;

use super::{Service, response::Rejection};
use crate::{
    api::{RequestOptions, guard::Limits},
    auth::Principal,
    error::Code,
    graphql::idempotency::{MAX_KEY_LENGTH, is_valid_key},
    metrics,
    usage::tenant_bytes::HeldBytes,
};

/// The maximum length of a body. A document has at most 64 KiB; the rest is for variables.
pub const MAX_BODY_BYTES: u64 = 1024 * 1024;

/// The header with the client's preferences (RFC 7240).
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// The header with the key that makes it safe to send a mutation again.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The only media type of a body.
const JSON: &str = "application/json";

/// The members of a request (GraphQL over HTTP, 5.3 and its appendix on persisted documents). Other members
/// are ignored, as the specification demands.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GraphqlRequest {
    pub query: Option<String>,
    pub document_id: Option<String>,
    pub operation_name: Option<String>,
    pub variables: Option<Variables>,
    pub extensions: Option<Extensions>,
}

/// The extensions that the service knows: Apollo's persisted queries.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Extensions {
    pub persisted_query: Option<PersistedQuery>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PersistedQuery {
    pub sha256_hash: Option<String>,
}

/// The body of a request: one operation or a list of them.
pub enum RequestBody {
    One(Box<GraphqlRequest>),
    Batch(Vec<GraphqlRequest>),
}

const EXPECTED_MEMBERS: &str = "the body must be one object, in which `query`, `documentId` and `operationName` \
                                are strings, and `variables` and `extensions` are objects";

/// Reads the headers that set how the operation runs.
pub fn read_options(service: &Service, headers: &HeaderMap) -> Result<RequestOptions, Rejection> {
    Ok(RequestOptions {
        traced: service.features.development && headers.contains_key("palisade-trace"),
        dry_run: prefers_rollback(headers)?,
        idempotency_key: idempotency_key(headers)?,
    })
}

/// Whether the client asks for a dry run: `Prefer: tx=rollback` (RFC 7240). Unknown preferences are ignored, as the RFC
/// demands. An unknown value of `tx` is rejected, because a typing error would otherwise write.
pub fn prefers_rollback(headers: &HeaderMap) -> Result<bool, Rejection> {
    let mut rollback = None;
    for header in headers.get_all(PREFER) {
        let text = header.to_str().map_err(|_| {
            Rejection::bad_request("Prefer must have only printable ASCII characters")
        })?;
        for preference in preferences(text) {
            // The part after a semicolon has the parameters of the preference.
            let preference = preference.split(';').next().unwrap_or_default();
            let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
            if !name.trim().eq_ignore_ascii_case("tx") {
                continue;
            }
            let value = value.trim().trim_matches('"');
            let is_rollback = match value {
                _ if value.eq_ignore_ascii_case("rollback") => true,
                _ if value.eq_ignore_ascii_case("commit") => false,
                _ => {
                    return Err(Rejection::bad_request(
                        "Prefer: tx must be rollback or commit",
                    ));
                }
            };
            // If a preference is repeated, the first one counts (RFC 7240, 2).
            rollback.get_or_insert(is_rollback);
        }
    }
    Ok(rollback.unwrap_or(false))
}

/// Splits a header into its preferences, at the commas outside quoted strings.
fn preferences(header: &str) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    header.split(move |character| {
        let is_plain = !std::mem::take(&mut is_escaped);
        match character {
            '"' if is_plain => is_quoted = !is_quoted,
            '\\' if is_plain && is_quoted => is_escaped = true,
            ',' => return !is_quoted,
            _ => {}
        }
        false
    })
}

pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Rejection> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = given.next() else {
        return Ok(None);
    };
    match key.to_str() {
        Ok(key) if is_valid_key(key) && given.next().is_none() => Ok(Some(key.to_owned())),
        _ => Err(Rejection::bad_request(format!(
            "Idempotency-Key must be sent once, with 1 to {MAX_KEY_LENGTH} printable ASCII characters"
        ))),
    }
}

/// Checks that the body is declared as JSON. Browsers send this media type to another origin only after a
/// preflight, so a form of another site cannot run an operation.
pub fn require_json(headers: &HeaderMap) -> Result<(), Rejection> {
    let unsupported = || {
        Rejection::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::BadUserInput,
            "the body must be JSON, with the header Content-Type: application/json",
        )
    };
    let mut given = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(given), None) = (given.next(), given.next()) else {
        return Err(unsupported());
    };
    let given = given.to_str().map_err(|_| unsupported())?;
    let (media_type, parameters) = given.split_once(';').unwrap_or((given, ""));
    let charset = parameters.trim();
    let is_utf8 = charset.is_empty()
        || charset.split_once('=').is_some_and(|(name, value)| {
            name.trim().eq_ignore_ascii_case("charset")
                && value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        });
    if media_type.trim().eq_ignore_ascii_case(JSON) && is_utf8 {
        Ok(())
    } else {
        Err(unsupported())
    }
}

/// A request as it was received: a body, or the query string of a GET.
pub enum ReceivedRequest {
    QueryString(String),
    Body {
        bytes: Bytes,
        /// The memory that is held for the body.
        held: HeldBytes,
    },
}

impl ReceivedRequest {
    /// The query string of a GET. The limit on the length of the headers also limits its length.
    pub fn query_string(uri: &Uri) -> Self {
        Self::QueryString(uri.query().unwrap_or_default().to_owned())
    }

    /// Receives a body of at most [`MAX_BODY_BYTES`] within the time limit. First holds memory for the declared length,
    /// or for the longest body if no length is declared.
    pub async fn body(
        service: &Service,
        principal: Principal,
        request: Request<Body>,
    ) -> Result<Self, Rejection> {
        let body = request.into_body();
        let too_long = || {
            Rejection::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                Code::BadUserInput,
                format!("the body is longer than {MAX_BODY_BYTES} bytes"),
            )
        };
        let declared = body.size_hint().exact();
        if declared.is_some_and(|length| length > MAX_BODY_BYTES) {
            return Err(too_long());
        }
        let length = declared.unwrap_or(MAX_BODY_BYTES);
        let held = service
            .request_bytes
            .try_hold(principal.tenant, principal.user, length);
        let held = held.ok_or_else(|| {
            metrics::REQUEST_BYTES_EXCEEDED.increment();
            Rejection::busy()
        })?;
        let limit = usize::try_from(MAX_BODY_BYTES).unwrap_or(usize::MAX);
        let received = Limited::new(body, limit).collect();
        match tokio::time::timeout(service.receive_timeout, received).await {
            Ok(Ok(body)) => Ok(Self::Body {
                bytes: body.to_bytes(),
                held,
            }),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_long()),
            Ok(Err(_)) => Err(Rejection::bad_request("the body is incomplete")),
            Err(_) => Err(Rejection::new(
                StatusCode::REQUEST_TIMEOUT,
                Code::Timeout,
                "the body took too long to arrive",
            )),
        }
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::QueryString(query) => query.len(),
            Self::Body { bytes, .. } => bytes.len(),
        }
    }

    /// Parses the request, and releases its memory.
    pub fn parse(self, max_batch: u32) -> Result<RequestBody, Rejection> {
        match self {
            Self::QueryString(query) => {
                parse_query_string(&query).map(|request| RequestBody::One(Box::new(request)))
            }
            Self::Body { bytes, held } => {
                let parsed = parse_body(&bytes, max_batch);
                drop(held);
                parsed
            }
        }
    }
}

/// Parses a body: one request, or a list of at most `max_batch` requests.
pub fn parse_body(body: &[u8], max_batch: u32) -> Result<RequestBody, Rejection> {
    check_values(body, max_batch.max(1))?;
    let is_list = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let invalid = |error: serde_json::Error| match error.classify() {
        serde_json::error::Category::Data => Rejection::bad_request(EXPECTED_MEMBERS),
        _ => Rejection::bad_request(format!(
            "the body is not valid JSON: line {}, column {}",
            error.line(),
            error.column()
        )),
    };
    if !is_list {
        return serde_json::from_slice(body)
            .map(|request| RequestBody::One(Box::new(request)))
            .map_err(invalid);
    }
    if max_batch == 0 {
        // Report malformed JSON before the size of the batch.
        serde_json::from_slice::<serde::de::IgnoredAny>(body).map_err(invalid)?;
        return Err(Rejection::bad_request(EXPECTED_MEMBERS));
    }
    let requests: Vec<GraphqlRequest> = serde_json::from_slice(body).map_err(invalid)?;
    match requests.len() {
        0 => Err(Rejection::bad_request("the batch is empty")),
        many if many > max_batch as usize => Err(Rejection::bad_request(format!(
            "the batch has more than {max_batch} operations"
        ))),
        _ => Ok(RequestBody::Batch(requests)),
    }
}

/// The maximum number of values in a body without its variables.
const MAX_OTHER_VALUES: u64 = 1_000;

/// Rejects a body with too many values before it is parsed: a value takes up to a hundred times the memory of its text.
/// Each value follows a comma or an opening bracket, so these are counted, outside strings. An empty list or object
/// counts twice.
fn check_values(body: &[u8], max_operations: u32) -> Result<(), Rejection> {
    let most = Limits::default().variable_values + MAX_OTHER_VALUES;
    // A value and the comma after it have at least two bytes.
    if body.len() as u64 / 2 < most {
        return Ok(());
    }
    let (mut values, mut is_string, mut is_escaped) = (0_u64, false, false);
    for byte in body {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_string => is_escaped = true,
            b'"' => is_string = !is_string,
            b',' | b'[' | b'{' if !is_string => values += 1,
            _ => {}
        }
    }
    if values > most.saturating_mul(u64::from(max_operations)) {
        return Err(Rejection::too_many_values(most));
    }
    Ok(())
}

/// Parses the query string of a GET: each member at most once, `variables` and `extensions` as JSON.
pub fn parse_query_string(query: &str) -> Result<GraphqlRequest, Rejection> {
    let mut members = serde_json::Map::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let value = match &*name {
            "query" | "documentId" | "operationName" => json!(value),
            "variables" | "extensions" => serde_json::from_str(&value).map_err(|_| {
                Rejection::bad_request(format!("the parameter {name} is not valid JSON"))
            })?,
            _ => continue,
        };
        if members.insert(name.to_string(), value).is_some() {
            return Err(Rejection::bad_request(format!(
                "the parameter {name} must be given only once"
            )));
        }
    }
    serde_json::from_value(members.into()).map_err(|_| {
        Rejection::bad_request(
            "`query`, `documentId` and `operationName` must be strings; \
             `variables` and `extensions` must be objects",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_rejected(values: &str) -> bool {
        check_values(format!(r#"{{"variables":{{"a":{values}}}}}"#).as_bytes(), 1).is_err()
    }

    #[test]
    fn a_body_with_too_many_values_is_rejected_before_it_is_parsed() {
        let list = |item: &str, amount: usize| format!("[{}]", vec![item; amount].join(","));
        assert!(!is_rejected(&list("0", 10_990)));
        for (item, amount) in [("0", 11_000), ("[]", 11_000), (r#"{"":0}"#, 5_600)] {
            assert!(is_rejected(&list(item, amount)), "{item}");
        }
        // Brackets and commas within strings are not values, also after an escaped quote.
        assert!(!is_rejected(&list(r#"",[{\"[[[[""#, 5_000)));
    }
}
