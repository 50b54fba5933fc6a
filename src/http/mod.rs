//! The service over HTTP: router, accept loop, limits, shutdown.

mod dev;
mod explorer;
mod graphql;
mod health;
pub mod negotiate;
pub mod persisted;
mod request;
mod response;
mod traffic;

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_io_timeout::TimeoutStream;
use tower_http::{
    compression::{CompressionLayer, predicate::SizeAbove},
    cors::{AllowOrigin, CorsLayer},
};

use self::{
    explorer::Explorer,
    negotiate::Origins,
    persisted::{Documents, ManifestError},
    response::{PREFERENCE_APPLIED, REPLAYED},
    traffic::{Budgets, Places},
};

use crate::{
    api::{Api, guard::Limits},
    audit::sealing::Sealer,
    auth::{jwt::Tokens, membership::Memberships},
    config::ServiceSettings,
    db::{TenantDb, sign_in::SignInDb},
};

/// How long running operations may take to end after the signal to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// How long the connections to the database may take to close after that.
const CLOSING: Duration = Duration::from_secs(1);
/// The header by which a request, its log lines and its audit rows belong together.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What is offered beside the API.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Features {
    /// Whether clients may ask about the schema.
    pub introspection: bool,
    /// Whether `/graphiql` is there, and `/` leads to it.
    pub explorer: bool,
    /// What helps those who develop against it: an answer tells its statements if the request has the
    /// header `palisade-trace`, and pages that this machine serves to itself may call.
    pub development: bool,
    /// Whether `/dev` tells who there is and hands out tokens for them: `palisade dev` alone.
    pub people: bool,
}

/// Everything that a request needs.
#[derive(Clone)]
pub struct Service(Arc<Parts>);

struct Parts {
    api: Api,
    db: TenantDb,
    directory: Option<SignInDb>,
    explorer: Option<Explorer>,
    sealer: Sealer,
    tokens: Tokens,
    memberships: Memberships,
    origins: Origins,
    documents: Documents,
    budgets: Budgets,
    places: Places,
    place_timeout: Duration,
    max_batch: u32,
    operation_timeout: Duration,
    receive_timeout: Duration,
    features: Features,
}

impl Service {
    /// The service over its databases. It starts a task of its own, so it takes a runtime.
    pub fn new(
        db: TenantDb,
        directory: Option<SignInDb>,
        tokens: Tokens,
        settings: &ServiceSettings,
        features: Features,
    ) -> Result<Self, ManifestError> {
        let documents = Documents::new(settings.traffic.apq_bytes);
        let documents = match &settings.traffic.trusted_documents {
            Some(path) => documents.trust(path, settings.traffic.only_trusted)?,
            None => documents,
        };
        let limits = Limits {
            cost: settings.max_cost,
            ..Limits::default()
        };
        let sealer = Sealer::start(db.clone());
        let introspection = features.introspection;
        Ok(Self(Arc::new(Parts {
            api: Api::new(
                db.clone(),
                directory.clone(),
                sealer.clone(),
                limits,
                introspection,
            ),
            directory,
            explorer: features.explorer.then(|| Explorer::new(features)),
            sealer,
            memberships: Memberships::new(db.clone()),
            origins: Origins {
                allowed: settings.traffic.cors_origins.clone(),
                loopback: features.development,
            },
            documents,
            budgets: Budgets::new(settings.traffic.tenant_budget),
            // Twice the connections, so that one operation reads from the database while another writes
            // its answer.
            places: Places::new(
                settings.pool.size.saturating_mul(2),
                settings
                    .traffic
                    .tenant_places
                    .unwrap_or(share(settings.pool.size)),
            ),
            place_timeout: Duration::from_millis(settings.pool.acquire_timeout_ms),
            max_batch: settings.traffic.max_batch,
            db,
            tokens,
            operation_timeout: settings.operation_timeout(),
            receive_timeout: settings.receive_timeout(),
            features,
        })))
    }

    /// Every path of the service.
    pub fn router(&self) -> Router {
        let api = get(graphql::answer)
            .post(graphql::answer)
            .fallback(graphql::other_method);
        let mut router = Router::new()
            .route("/graphql", api)
            .route_layer(compression())
            .route_layer(cors(self.0.origins.clone()))
            .route("/health/live", get(health::live))
            .route("/health/ready", get(health::ready));
        if self.0.features.explorer {
            router = router
                .route("/", get(explorer::redirect))
                .route("/graphiql", get(explorer::page))
                .route("/graphiql/", get(explorer::redirect))
                .route("/graphiql/schema.graphql", get(explorer::schema))
                .route("/graphiql/assets/{name}", get(explorer::asset));
        }
        if self.0.features.people {
            let limit = DefaultBodyLimit::max(dev::MAX_BODY);
            router = router
                .route("/dev/people", get(dev::people))
                .route("/dev/token", post(dev::token).layer(limit));
        }
        router.fallback(not_found).with_state(self.clone())
    }
}

/// The places of one tenant, by the size of the pool: a quarter, about as many as the database has cores if the
/// pool is sized by them. One tenant then fetches as much as with all of them, and the others wait for
/// less (measured, `docs/operations.md`).
fn share(pool: u32) -> u32 {
    (pool / 4).max(2)
}

/// What pages of allowed origins may send, and read of the answer.
fn cors(origins: Origins) -> CorsLayer {
    let origin = AllowOrigin::predicate(move |origin, _| {
        origin.to_str().is_ok_and(|origin| origins.allow(origin))
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

/// Answers that are worth it are compressed as the client likes.
fn compression() -> CompressionLayer<SizeAbove> {
    CompressionLayer::new().compress_when(SizeAbove::new(1_024))
}

async fn not_found() -> Response {
    hardened((
        StatusCode::NOT_FOUND,
        "there is nothing here; the API is at /graphql\n",
    ))
}

/// The port cannot be had. One line.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {reason}")]
pub struct ListenError {
    address: SocketAddr,
    reason: String,
}

/// Takes the address.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address)
        .await
        .map_err(|error| ListenError {
            address,
            reason: match error.kind() {
                io::ErrorKind::AddrInUse => {
                    "the port is taken; choose another with --listen or PALISADE_LISTEN".to_owned()
                }
                _ => error.to_string(),
            },
        })
}

/// Ends when the process is told to stop (SIGTERM or SIGINT). Listens from the call on, and not only
/// once somebody waits: a signal in between would end the process at once.
pub fn shutdown_signal() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};

    let signals = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    );
    async {
        match signals {
            (Ok(mut terminate), Ok(mut interrupt)) => {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            }
            _ => std::future::pending().await,
        }
    }
}

/// Serves until `stop`, then lets running operations end: at most 10 s, or until a second signal.
///
/// An accept loop of our own, because axum's installs no timer, and without one a client that never
/// finishes its headers is kept for ever.
pub async fn serve(
    listener: TcpListener,
    service: Service,
    settings: &ServiceSettings,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(service.0.receive_timeout)
        .max_buf_size(64 * 1024)
        .keep_alive(true);
    let router = TowerToHyperService::new(service.router());
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(settings.max_connections as usize));
    let mut stop = pin!(stop);

    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = &mut stop => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, or a client that was gone at once: wait, do not spin.
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        stream.set_nodelay(true).ok();
        // A client that takes nothing of its answer for so long would keep its place for ever.
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(service.0.receive_timeout));
        let connection = http.serve_connection(TokioIo::new(Box::pin(stream)), router.clone());
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // Whatever goes wrong here is between the client and its network.
            if let Err(error) = connection.await {
                tracing::debug!("a connection ended: {error}");
            }
            drop(place);
        });
    }

    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(DRAIN) => tracing::warn!("some operations were cut off"),
        () = shutdown_signal() => {
            tracing::warn!("stopping at once");
            return Ok(());
        }
    }
    service.0.sealer.finish().await;
    // A connection that is at work closes when its operation ends; what was cut off is not waited for.
    if tokio::time::timeout(CLOSING, service.0.db.close())
        .await
        .is_err()
    {
        tracing::warn!("some connections were cut off");
    }
    Ok(())
}

fn hardened(answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    harden(&mut response);
    response
}

/// What no answer may lack: it is not to be guessed at, framed or kept by anybody.
fn harden(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
}
