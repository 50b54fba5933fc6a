//! The health checks: whether the process is alive, and whether it can serve requests.

use std::{fmt::Display, time::Duration};

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::Service;
use crate::db::ConnectError;

/// The longest wait for the database. An orchestrator usually waits for one or two seconds.
const READY_TIMEOUT: Duration = Duration::from_millis(1_500);

/// `/health/live`: the process is alive.
pub async fn live() -> &'static str {
    "live\n"
}

/// `/health/ready`: the database responds, isolates the tenants, and its schema fits this binary.
pub async fn ready(State(service): State<Service>) -> Response {
    if let Some(error) = service.db.isolation_error() {
        // The log has the complete error.
        return unavailable(error.public_reason());
    }
    match tokio::time::timeout(READY_TIMEOUT, service.db.check_schema()).await {
        Ok(Ok(version)) => format!("ready, schema version {version}\n").into_response(),
        // The response omits the reason, because the reason names the host.
        Err(_) | Ok(Err(ConnectError::Unreachable { .. })) => {
            unavailable("the database does not respond")
        }
        Ok(Err(error)) => unavailable(error),
    }
}

fn unavailable(reason: impl Display) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response()
}
