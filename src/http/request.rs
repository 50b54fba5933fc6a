//! What a request holds: its body or its address, and the headers that say how it is to be run.

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, StatusCode, header},
};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Deserialize;
use serde_json::json;

use super::{Service, response::Refused};
use crate::{
    api::RequestOptions,
    graphql::idempotency::{MAX_KEY_LENGTH, is_valid_key},
};

/// The longest body, in bytes (a document is at most 64 KiB, the rest is for variables).
const MAX_BODY: usize = 1024 * 1024;

/// What the client would like (RFC 7240).
const PREFER: &str = "prefer";

/// The key by which a mutation may be sent again.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The only kind of body.
const JSON: &str = "application/json";

/// The members of a request (GraphQL over HTTP, 5.3 and its appendix on persisted documents). Others
/// are ignored, as it demands.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestBody {
    pub query: Option<String>,
    pub document_id: Option<String>,
    pub operation_name: Option<String>,
    pub variables: Option<serde_json::Map<String, serde_json::Value>>,
    pub extensions: Option<Extensions>,
}

/// Further members, of which those of Apollo's persisted queries are known.
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

/// One request, or a list of them.
pub enum Received {
    One(RequestBody),
    Batch(Vec<RequestBody>),
}

const MEMBERS: &str = "the body must be one object: it may have a text `query`, `documentId` and \
                       `operationName`, and an object `variables` and `extensions`";

/// How the client wants its operation run.
pub fn manner(service: &Service, headers: &HeaderMap) -> Result<RequestOptions, Refused> {
    Ok(RequestOptions {
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
        let text = header
            .to_str()
            .map_err(|_| Refused::bad("Prefer is written in printable ASCII characters"))?;
        for preference in preferences(text) {
            // What follows a semicolon are parameters of the preference.
            let preference = preference.split(';').next().unwrap_or_default();
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

/// The preferences of a header: what lies between commas that stand in no quoted text.
fn preferences(text: &str) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |character| {
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

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Refused> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = given.next() else {
        return Ok(None);
    };
    match key.to_str() {
        Ok(key) if is_valid_key(key) && given.next().is_none() => Ok(Some(key.to_owned())),
        _ => Err(Refused::bad(format!(
            "Idempotency-Key is given once, and is 1 to {MAX_KEY_LENGTH} printable ASCII characters"
        ))),
    }
}

/// Exactly JSON: a browser sends no other type across sites without asking first.
pub fn require_json(headers: &HeaderMap) -> Result<(), Refused> {
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

/// Receives a body: all of it, of at most [`MAX_BODY`] bytes, in time.
pub async fn receive(service: &Service, body: Body) -> Result<Bytes, Refused> {
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

/// Reads a body: one request or, if as many may be sent at a time, a list of them.
pub fn parse(body: &[u8], max_batch: u32) -> Result<Received, Refused> {
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
pub fn from_address(text: &str) -> Result<RequestBody, Refused> {
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
