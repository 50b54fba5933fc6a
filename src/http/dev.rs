//! `/dev` lists the users and issues tokens for them. Only `palisade dev` serves these paths.
//!
//! The invariant: **only this machine gets a token without a password**: the explorer's own page and local programs.
//! The service rejects pages of other sites. It also rejects every host that is not loopback, because an attacker can
//! make another name resolve to this machine (DNS rebinding).

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use chrono::{SecondsFormat, TimeDelta};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Service, loopback::is_loopback};
use crate::{db::sign_in::SignInDb, error::Error};

/// The lifetime of a token.
const TOKEN_LIFETIME: TimeDelta = TimeDelta::hours(12);
/// The maximum length of the body of `/dev/token`, which contains a slug and an email address.
pub const MAX_BODY_BYTES: usize = 4 * 1024;

/// The status and the message of a rejected request.
struct DevError(StatusCode, &'static str);

impl From<Error> for DevError {
    fn from(error: Error) -> Self {
        tracing::error!("cannot read the users: {}", error.detail());
        Self(
            StatusCode::SERVICE_UNAVAILABLE,
            "cannot read the users: see the log",
        )
    }
}

/// `GET /dev/people`: the active tenants with their users, at most 100 tenants and 100 users of each.
pub async fn people(State(service): State<Service>, target: Uri, headers: HeaderMap) -> Response {
    respond(list(&service, &target, &headers).await)
}

/// `POST /dev/token`: a token for an active user of an active tenant.
pub async fn token(
    State(service): State<Service>,
    target: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    respond(issue(&service, &target, &headers, &body).await)
}

async fn list(service: &Service, target: &Uri, headers: &HeaderMap) -> Result<Value, DevError> {
    let directory = authorize(service, target, headers)?;
    let mut tenants: Vec<TenantEntry> = Vec::new();
    for member in directory.people().await? {
        let person = json!({
            "email": member.email,
            "role": member.role.as_str(),
            "status": member.status.as_str(),
        });
        match tenants.last_mut() {
            Some(last) if last.slug == member.tenant_slug => last.people.push(person),
            _ => tenants.push(TenantEntry {
                name: member.tenant_name,
                slug: member.tenant_slug,
                people: vec![person],
            }),
        }
    }
    Ok(json!({ "tenants": tenants }))
}

/// A tenant with its users.
#[derive(Serialize)]
struct TenantEntry {
    name: String,
    slug: String,
    people: Vec<Value>,
}

/// The body of `/dev/token`.
#[derive(Deserialize)]
struct TokenRequest {
    /// The tenant's slug.
    tenant: String,
    /// The user's email address.
    user: String,
}

async fn issue(
    service: &Service,
    target: &Uri,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Value, DevError> {
    let directory = authorize(service, target, headers)?;
    let is_json = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case("application/json"));
    if !is_json {
        let message = "the body must be JSON, with the header Content-Type: application/json";
        return Err(DevError(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let request: TokenRequest = serde_json::from_slice(body).map_err(|_| {
        let message =
            "the body must be an object with `tenant` (a slug) and `user` (an email address)";
        DevError(StatusCode::BAD_REQUEST, message)
    })?;
    let entry = directory.find(&request.tenant, &request.user).await?;
    let entry = entry.ok_or(DevError(
        StatusCode::NOT_FOUND,
        "no active user with this email address in an active tenant with this slug",
    ))?;
    let tokens = &service.tokens;
    let token = tokens.issue(entry.tenant, entry.user, TOKEN_LIFETIME)?;
    let expires_at = tokens.verify(&token)?.expires_at;
    Ok(json!({
        "token": token,
        "expiresAt": expires_at.to_rfc3339_opts(SecondsFormat::Secs, true),
    }))
}

fn authorize<'a>(
    service: &'a Service,
    target: &Uri,
    headers: &HeaderMap,
) -> Result<&'a SignInDb, DevError> {
    if !is_from_this_machine(target, headers) {
        return Err(DevError(
            StatusCode::FORBIDDEN,
            "only for the explorer of this service, opened at localhost or a loopback address",
        ));
    }
    service.directory.as_ref().ok_or(DevError(
        StatusCode::NOT_FOUND,
        "the list of users is not available: start the service with `palisade dev`",
    ))
}

/// Whether the request was sent to a loopback host, and no page of another site sent it.
fn is_from_this_machine(target: &Uri, headers: &HeaderMap) -> bool {
    let single = |name| -> Option<Option<&str>> {
        let mut given = headers.get_all(name).iter();
        match (given.next(), given.next()) {
            (None, _) => Some(None),
            (Some(value), None) => value.to_str().ok().map(Some),
            _ => None,
        }
    };
    let (Some(Some(host)), Some(origin), Some(site)) = (
        single(header::HOST),
        single(header::ORIGIN),
        single(header::HeaderName::from_static("sec-fetch-site")),
    ) else {
        return false;
    };
    // A target with a host, as clients send it to a proxy, takes precedence over `Host` (RFC 9112, 3.2.2).
    let is_target_of_host = match target.authority() {
        Some(authority) => target.scheme_str() == Some("http") && authority.as_str() == host,
        None => true,
    };
    is_loopback(host)
        && is_target_of_host
        && origin.is_none_or(|origin| origin == format!("http://{host}"))
        && site.is_none_or(|site| matches!(site, "same-origin" | "none"))
}

fn respond(result: Result<Value, DevError>) -> Response {
    let (status, body) = match result {
        Ok(body) => (StatusCode::OK, body),
        Err(DevError(status, message)) => (status, json!({ "error": message })),
    };
    let content_type = [(header::CONTENT_TYPE, "application/json")];
    (status, content_type, body.to_string()).into_response()
}
