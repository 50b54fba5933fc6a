//! Whether the process lives, and whether it can answer.

use axum::{extract::State, http::StatusCode, response::Response};

use super::{Service, hardened};

/// The process runs.
pub async fn live() -> Response {
    hardened("live\n")
}

/// The database answers.
pub async fn ready(State(service): State<Service>) -> Response {
    if service.0.db.is_ready().await {
        hardened("ready\n")
    } else {
        hardened((
            StatusCode::SERVICE_UNAVAILABLE,
            "the database does not answer\n",
        ))
    }
}
