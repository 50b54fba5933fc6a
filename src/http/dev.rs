//! `/dev`: who there is, and tokens for them. Only in `palisade dev`.
//!
//! Whoever reaches this needs no password, so it answers the explorer's own page and programs on this
//! machine alone: no page of another site, and no name that somebody made point here (DNS rebinding).

use std::net::IpAddr;

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{SecondsFormat, TimeDelta};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Service, hardened};
use crate::{db::sign_in::SignInDb, error::Error};

/// How long a token of the picker lives.
const TOKEN_LIFE: TimeDelta = TimeDelta::hours(12);
/// The longest body, in bytes: two names.
pub const MAX_BODY: usize = 4 * 1024;

struct Refused(StatusCode, &'static str);

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        tracing::error!("the directory cannot be read: {}", error.detail());
        Self(
            StatusCode::SERVICE_UNAVAILABLE,
            "the directory cannot be read; the log says why",
        )
    }
}

/// `GET /dev/people`: every active tenant with its people.
pub async fn people(State(service): State<Service>, headers: HeaderMap) -> Response {
    respond(list(&service, &headers).await)
}

/// `POST /dev/token`: a token for an active member of an active tenant.
pub async fn token(State(service): State<Service>, headers: HeaderMap, body: Bytes) -> Response {
    respond(issue(&service, &headers, &body).await)
}

async fn list(service: &Service, headers: &HeaderMap) -> Result<Value, Refused> {
    let directory = enter(service, headers)?;
    let mut tenants: Vec<Listed> = Vec::new();
    for member in directory.people().await? {
        let person = json!({
            "email": member.email,
            "role": member.role.as_str(),
            "status": member.status.as_str(),
        });
        match tenants.last_mut() {
            Some(last) if last.slug == member.tenant_slug => last.people.push(person),
            _ => tenants.push(Listed {
                name: member.tenant_name,
                slug: member.tenant_slug,
                people: vec![person],
            }),
        }
    }
    Ok(json!({ "tenants": tenants }))
}

/// A tenant with its people.
#[derive(Serialize)]
struct Listed {
    name: String,
    slug: String,
    people: Vec<Value>,
}

/// Whose token.
#[derive(Deserialize)]
struct Wanted {
    /// The tenant's slug.
    tenant: String,
    /// The user's address.
    user: String,
}

async fn issue(service: &Service, headers: &HeaderMap, body: &[u8]) -> Result<Value, Refused> {
    let directory = enter(service, headers)?;
    let is_json = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .and_then(|kind| kind.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
    if !is_json {
        let what = "the body must be JSON, with the header Content-Type: application/json";
        return Err(Refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, what));
    }
    let wanted: Wanted = serde_json::from_slice(body).map_err(|_| {
        let what =
            "the body must be an object with the texts `tenant`, a slug, and `user`, an address";
        Refused(StatusCode::BAD_REQUEST, what)
    })?;
    let entry = directory.find(&wanted.tenant, &wanted.user).await?;
    let entry = entry.ok_or(Refused(
        StatusCode::NOT_FOUND,
        "no active user with this address in an active tenant of this name",
    ))?;
    let tokens = &service.0.tokens;
    let token = tokens.issue(entry.tenant, entry.user, TOKEN_LIFE)?;
    let expires_at = tokens.verify(&token)?.expires_at;
    Ok(json!({
        "token": token,
        "expiresAt": expires_at.to_rfc3339_opts(SecondsFormat::Secs, true),
    }))
}

fn enter<'a>(service: &'a Service, headers: &HeaderMap) -> Result<&'a SignInDb, Refused> {
    if !is_from_here(headers) {
        return Err(Refused(
            StatusCode::FORBIDDEN,
            "only for the explorer of this service, opened under localhost or a loopback address",
        ));
    }
    service.0.directory.as_ref().ok_or(Refused(
        StatusCode::NOT_FOUND,
        "the service has no directory",
    ))
}

/// Whether the request came to a name of this machine, and from no other site's page.
fn is_from_here(headers: &HeaderMap) -> bool {
    let text = |name| -> Option<Option<&str>> {
        let mut given = headers.get_all(name).iter();
        match (given.next(), given.next()) {
            (None, _) => Some(None),
            (Some(value), None) => value.to_str().ok().map(Some),
            _ => None,
        }
    };
    let (Some(Some(host)), Some(origin), Some(site)) = (
        text(header::HOST),
        text(header::ORIGIN),
        text(header::HeaderName::from_static("sec-fetch-site")),
    ) else {
        return false;
    };
    is_loopback(host)
        && origin.is_none_or(|origin| origin == format!("http://{host}"))
        && site.is_none_or(|site| matches!(site, "same-origin" | "none"))
}

/// `localhost` or a loopback address, with or without a port.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn respond(answered: Result<Value, Refused>) -> Response {
    let (status, body) = match answered {
        Ok(body) => (StatusCode::OK, body),
        Err(Refused(status, what)) => (status, json!({ "error": what })),
    };
    let kind = [(header::CONTENT_TYPE, "application/json")];
    hardened((status, kind, body.to_string()).into_response())
}
