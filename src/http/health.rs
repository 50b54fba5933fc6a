//! The health checks of the process and of its database.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::Service;

/// `/health/live`: the process runs.
pub async fn live() -> &'static str {
    "live\n"
}

/// `/health/ready`: the database responds.
pub async fn ready(State(service): State<Service>) -> Response {
    if service.db.is_ready().await {
        "ready\n".into_response()
    } else {
        let message = "the database does not respond\n";
        (StatusCode::SERVICE_UNAVAILABLE, message).into_response()
    }
}
