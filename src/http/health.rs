//! Whether the process lives, and whether it can answer.

use axum::{extract::State, http::StatusCode};

use super::Service;

/// The process runs.
pub async fn live() -> &'static str {
    "live\n"
}

/// The database answers.
pub async fn ready(State(service): State<Service>) -> (StatusCode, &'static str) {
    if service.0.db.is_ready().await {
        (StatusCode::OK, "ready\n")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "the database does not answer\n",
        )
    }
}
