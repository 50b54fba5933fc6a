//! The service over HTTP: its routes, and the layers that every response passes through.

mod budgets;
mod client_stream;
mod concurrency;
mod connections;
mod dev;
mod explorer;
mod graphql;
mod health;
mod heavy;
mod loopback;
pub(crate) mod negotiate;
mod origins;
mod persisted;
pub(crate) mod request;
mod response;
mod server;
mod state;

use std::{ops::RangeInclusive, time::Duration};

use axum::{
    Router,
    body::HttpBody,
    extract::DefaultBodyLimit,
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::map_response,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tower_http::{
    CompressionLevel,
    compression::{CompressionLayer, predicate::Predicate},
    cors::{AllowOrigin, CorsLayer},
};

pub use self::{
    loopback::is_loopback_address,
    persisted::ManifestError,
    server::{ListenError, Listeners, listen, listen_for_health_checks, serve, shutdown_signal},
    state::{Features, Service},
};

use self::{
    origins::Origins,
    response::{PREFERENCE_APPLIED, REPLAYED},
};

/// The header with the id of a request. The request's log lines and audit entries have the same id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The lengths of the bodies that are compressed, in bytes. Compressing a longer body would cost more than producing it,
/// and it would happen after the request has returned its slot.
const COMPRESSED_BYTES: RangeInclusive<u64> = 1_024..=1_048_576;

impl Service {
    /// The router with every path of the service.
    pub fn router(&self) -> Router {
        let graphql = get(graphql::handle)
            .post(graphql::handle)
            .fallback(graphql::method_not_allowed);
        let mut router = Router::new()
            .route("/graphql", graphql)
            .route_layer(compression())
            .route_layer(cors(self.origins.clone()))
            .route("/health/live", get(health::live))
            .route("/health/ready", get(health::ready));
        if self.features.explorer {
            router = router
                .route("/", get(explorer::redirect))
                .route("/graphiql", get(explorer::page))
                .route("/graphiql/", get(explorer::redirect))
                .route("/graphiql/schema.graphql", get(explorer::schema))
                .route("/graphiql/assets/{name}", get(explorer::asset));
        }
        if self.features.people {
            let limit = DefaultBodyLimit::max(dev::MAX_BODY_BYTES);
            router = router
                .route("/dev/people", get(dev::people))
                .route("/dev/token", post(dev::token).layer(limit));
        }
        router
            .fallback(not_found)
            .layer(map_response(harden))
            .with_state(self.clone())
    }

    /// The router of the listener for health checks.
    pub fn health_router(&self) -> Router {
        Router::new()
            .route("/health/live", get(health::live))
            .route("/health/ready", get(health::ready))
            .fallback(no_health_check)
            .layer(map_response(harden))
            .with_state(self.clone())
    }
}

/// Adds the headers that every response needs: browsers must not guess the type of a response, store the response, or
/// send its URL to other sites. A handler may set only `Cache-Control`, for the files of the explorer.
///
/// One layer adds all headers, because each layer of the router costs every request a boxed service and a boxed future.
async fn harden(mut response: Response) -> Response {
    let value = HeaderValue::from_static;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, value("nosniff"));
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(value("no-store"));
    headers.insert(header::REFERRER_POLICY, value("no-referrer"));
    response
}

/// Allows pages of the allowed origins to send requests and to read the headers of the response.
fn cors(origins: Origins) -> CorsLayer {
    let origin = AllowOrigin::predicate(move |origin, _| {
        origin.to_str().is_ok_and(|origin| origins.allows(origin))
    });
    CorsLayer::new()
        .allow_origin(origin)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            REQUEST_ID,
            HeaderName::from_static("idempotency-key"),
            HeaderName::from_static("prefer"),
            HeaderName::from_static("palisade-trace"),
        ])
        .expose_headers([
            REQUEST_ID,
            header::RETRY_AFTER,
            HeaderName::from_static("ratelimit"),
            HeaderName::from_static("ratelimit-policy"),
            REPLAYED,
            PREFERENCE_APPLIED,
        ])
        .max_age(Duration::from_hours(1))
}

/// Compresses responses of a medium length, with the method that the client prefers and at the fastest level.
fn compression() -> CompressionLayer<HasMediumLength> {
    CompressionLayer::new()
        .quality(CompressionLevel::Fastest)
        .compress_when(HasMediumLength)
}

/// Whether the body of a response has a length for which compression is worth its cost.
#[derive(Clone, Copy, Debug)]
struct HasMediumLength;

impl Predicate for HasMediumLength {
    fn should_compress<B: HttpBody>(&self, response: &Response<B>) -> bool {
        let length = response.body().size_hint().exact();
        length.is_some_and(|length| COMPRESSED_BYTES.contains(&length))
    }
}

async fn not_found() -> Response {
    let message = "not found: the API is at /graphql\n";
    (StatusCode::NOT_FOUND, message).into_response()
}

async fn no_health_check() -> Response {
    let message = "not found: the health checks are /health/live and /health/ready\n";
    (StatusCode::NOT_FOUND, message).into_response()
}
