//! The health checks: whether the process is alive, and whether it can serve requests.

use std::fmt::Display;

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::Service;
use crate::db::ConnectError;

/// `/health/live`: the process is alive.
pub async fn live() -> &'static str {
    "live\n"
}

/// `/health/ready`: the database responds, isolates the tenants, and its schema fits this binary.
pub async fn ready(State(service): State<Service>) -> Response {
    if let Some(finding) = service.db.isolation_error() {
        // The response omits the finding, because it names objects of the database. The log has it.
        let (code, slug) = (finding.rule.code, finding.rule.slug);
        return unavailable(format!(
            "the database does not isolate the tenants: {code} {slug}"
        ));
    }
    match service.db.check_schema().await {
        Ok(version) => format!("ready, schema version {version}\n").into_response(),
        // The response omits the reason, because the reason names the host.
        Err(ConnectError::Unreachable { .. }) => unavailable("the database does not respond"),
        Err(error) => unavailable(error),
    }
}

fn unavailable(reason: impl Display) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response()
}
