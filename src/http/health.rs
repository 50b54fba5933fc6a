//! Whether the process is alive, and whether it can serve requests.

use axum::{extract::State, http::StatusCode, response::Response};

use super::{Service, hardened};
use crate::db::ConnectError;

/// The process is alive.
pub async fn live() -> Response {
    hardened("live\n")
}

/// The database responds and its schema fits this binary.
pub async fn ready(State(service): State<Service>) -> Response {
    match service.0.db.check_schema().await {
        Ok(version) => hardened(format!("ready, schema version {version}\n")),
        // Without the reason, which names the host.
        Err(ConnectError::Unreachable { .. }) => unavailable("the database does not respond"),
        Err(error) => unavailable(error),
    }
}

fn unavailable(reason: impl std::fmt::Display) -> Response {
    hardened((StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")))
}
