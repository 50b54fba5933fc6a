//! The server: its listeners, its accept loop and its shutdown.
//!
//! The invariant: **a client cannot keep a connection open without making progress.** The first byte, the headers and
//! the body of a request each have a time limit. The client must receive a response at a minimum rate. The number of
//! connections is bounded. `axum::serve` sets no time limits, so this module has its own accept loop.

use std::{
    convert::Infallible,
    io::{self, Write as _},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Body};
use hyper::{Request, body::Incoming, server::conn::http1, service::Service as _};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::oneshot,
};

use super::{
    Service,
    client_stream::{ClientStream, StreamTimeouts},
    connections::{ConnectionHandle, ConnectionLimits, Connections, OpenConnection, ResponseBody},
};
use crate::config::ServiceSettings;

/// The time that running operations have to end after the signal to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// The time that the database connections then have to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The pause after a failure to accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The largest buffer for the headers of a request, in bytes.
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// The part of a response that waits in the kernel, in bytes. Linux doubles it for its own data. Without this bound,
/// each connection with an unread response can take some MiB of kernel memory.
const SEND_BUFFER_BYTES: u32 = 256 * 1024;
/// The maximum number of connections that the kernel has established and the service has not accepted yet.
const BACKLOG: u32 = 1_024;
/// The files of the process that are not connections of clients: its log, its database connections, its timers.
const OTHER_FILES: u64 = 256;
/// The response to a connection beyond the limits.
const ALL_BUSY_RESPONSE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n\
    connection: close\r\ncontent-length: 0\r\n\r\n";

/// The service cannot listen on its address. The message is one line.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {reason}")]
pub struct ListenError {
    address: SocketAddr,
    reason: String,
}

/// Binds the address of the API.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    bind(address).map_err(|error| ListenError {
        address,
        reason: match error.kind() {
            io::ErrorKind::AddrInUse => {
                "the port is in use; choose another with --listen or PALISADE_LISTEN".to_owned()
            }
            _ => error.to_string(),
        },
    })
}

/// Binds the address of the health checks.
pub async fn listen_for_health_checks(address: SocketAddr) -> Result<TcpListener, ListenError> {
    bind(address).map_err(|error| ListenError {
        address,
        reason: match error.kind() {
            io::ErrorKind::AddrInUse => "the port of the health checks is in use; choose another \
                 with --health-listen or PALISADE_HEALTH_LISTEN"
                .to_owned(),
            _ => error.to_string(),
        },
    })
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit the size.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The listeners of the service.
#[derive(Debug)]
pub struct Listeners {
    /// Serves every path.
    pub api: TcpListener,
    /// Serves only the health checks. Clients of the API cannot use up its connections.
    pub health_checks: Option<TcpListener>,
}

impl From<TcpListener> for Listeners {
    fn from(api: TcpListener) -> Self {
        Self {
            api,
            health_checks: None,
        }
    }
}

/// Completes when the process receives SIGTERM or SIGINT. The handlers are installed by the call and not
/// by the first poll, because a signal without a handler ends the process.
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

/// Serves requests until `stop` completes. Running operations then have 10 s to end; a second signal
/// aborts them.
pub async fn serve(
    listeners: impl Into<Listeners>,
    service: Service,
    settings: &ServiceSettings,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    raise_file_limit(settings.max_connections);
    let listeners = listeners.into();
    let graceful = GracefulShutdown::new();
    let timeouts = StreamTimeouts {
        first_byte: settings.connections.first_byte_timeout,
        receive: settings.receive_timeout,
    };
    let api = Server::new(
        service.router(),
        ConnectionLimits::of_api(settings),
        timeouts,
        &graceful,
    );
    let health_checks = Server::new(
        service.health_router(),
        ConnectionLimits::of_health_checks(),
        timeouts,
        &graceful,
    );
    tokio::select! {
        never = api.accept(&listeners.api) => match never {},
        never = health_checks.accept_if_any(listeners.health_checks.as_ref()) => match never {},
        never = watch_isolation(&service, settings.isolation_check_interval) => match never {},
        () = stop => {}
    }
    drop(listeners);
    shut_down(&service, graceful).await;
    Ok(())
}

/// Checks the isolation of the tenants while the service runs. Without an interval, it only waits: a test of one layer of
/// the isolation switches the other one off.
async fn watch_isolation(service: &Service, interval: Option<Duration>) -> Infallible {
    match interval {
        Some(interval) => {
            let directory = service.directory.as_ref();
            service.db.watch_isolation(directory, interval).await
        }
        None => std::future::pending().await,
    }
}

/// Lets the process open as many files as the system allows: the usual limit of 1,024 is too low for 1,000 connections
/// and everything else.
fn raise_file_limit(max_connections: u32) {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let raised = setrlimit(Resource::Nofile, limit);
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let needed = u64::from(max_connections) + OTHER_FILES;
    if files < needed {
        tracing::warn!(
            "the process may open {files} files, but --max-connections {max_connections} needs {needed}: \
             raise the limit (`ulimit -n`) or lower --max-connections"
        );
    } else if let Err(error) = raised {
        tracing::debug!("cannot raise the limit of open files: {error}");
    }
}

/// Accepts and serves the connections of a listener.
struct Server<'g> {
    http: http1::Builder,
    router: TowerToHyperService<Router>,
    connections: Arc<Connections>,
    timeouts: StreamTimeouts,
    graceful: &'g GracefulShutdown,
}

impl<'g> Server<'g> {
    fn new(
        router: Router,
        limits: ConnectionLimits,
        timeouts: StreamTimeouts,
        graceful: &'g GracefulShutdown,
    ) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(timeouts.receive)
            .max_buf_size(MAX_HEADER_BYTES)
            .keep_alive(true);
        Self {
            http,
            router: TowerToHyperService::new(router),
            connections: Connections::new(limits),
            timeouts,
            graceful,
        }
    }

    async fn accept_if_any(&self, listener: Option<&TcpListener>) -> Infallible {
        match listener {
            Some(listener) => self.accept(listener).await,
            None => std::future::pending().await,
        }
    }

    async fn accept(&self, listener: &TcpListener) -> Infallible {
        loop {
            match listener.accept().await {
                Ok((stream, address)) => self.admit(stream, address.ip()),
                Err(error) => {
                    // The process has no file descriptors left, or the client closed the connection. The pause
                    // keeps the loop from spinning.
                    tracing::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Serves a connection in a task of its own. Rejects it if a share is used up and all its connections are busy.
    fn admit(&self, stream: TcpStream, address: IpAddr) {
        match self.connections.open(address) {
            Ok((connection, closed)) => self.serve(stream, connection, closed),
            Err(_) => reject(stream),
        }
    }

    fn serve(&self, stream: TcpStream, connection: OpenConnection, closed: oneshot::Receiver<()>) {
        stream.set_nodelay(true).ok();
        let (router, handle) = (self.router.clone(), connection.handle().clone());
        let service = hyper::service::service_fn(move |request| respond(&router, &handle, request));
        let stream = ClientStream::new(stream, connection, self.timeouts);
        let connection = self.http.serve_connection(TokioIo::new(stream), service);
        let connection = self.graceful.watch(connection);
        tokio::spawn(async move {
            tokio::select! {
                biased;
                // The connection was displaced by a new one.
                _ = closed => {}
                result = connection => {
                    // The client or its network caused the error.
                    if let Err(error) = result {
                        tracing::debug!("a connection failed: {error}");
                    }
                }
            }
        });
    }
}

/// Passes a request to the router. The connection is busy until the response is complete.
fn respond(
    router: &TowerToHyperService<Router>,
    connection: &ConnectionHandle,
    mut request: Request<Incoming>,
) -> impl Future<Output = Result<hyper::Response<ResponseBody>, Infallible>> + use<> {
    let in_progress = connection.start_request();
    request.extensions_mut().insert(connection.clone());
    let response = router.call(request);
    async move {
        let response = response.await?;
        Ok(response.map(|body: Body| ResponseBody::new(body, in_progress)))
    }
}

/// Closes a new connection. The response is sent only if the kernel accepts it at once.
fn reject(stream: TcpStream) {
    if let Ok(mut stream) = stream.into_std() {
        stream.write_all(ALL_BUSY_RESPONSE).ok();
    }
}

/// Waits for the running operations, seals the audit log and closes the database connections.
async fn shut_down(service: &Service, graceful: GracefulShutdown) {
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(DRAIN_TIMEOUT) => {
            tracing::warn!("some operations were aborted: they did not end within 10 s");
        }
        () = shutdown_signal() => {
            tracing::warn!("stopping immediately");
            return;
        }
    }
    service.sealer.finish().await;
    // A connection in use closes when its operation ends. An aborted operation may take longer.
    let closed = tokio::time::timeout(CLOSE_TIMEOUT, service.db.close()).await;
    if closed.is_err() {
        tracing::warn!("some database connections were aborted");
    }
}
