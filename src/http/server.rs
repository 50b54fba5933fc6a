//! The server: its listener, its accept loop and its shutdown.
//!
//! The invariant: **a client cannot hold a connection without making progress.** Receiving the headers, receiving the
//! body and writing the response each have a time limit, and the number of connections is bounded. `axum::serve` sets
//! no time limits, so this module has its own accept loop.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_io_timeout::TimeoutStream;

use super::Service;
use crate::config::ServiceSettings;

/// The time that running operations have to end after the signal to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// The time that the database connections then have to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The pause after a failure to accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The largest buffer for the headers of a request, in bytes.
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// The service cannot listen on its address. The message is one line.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {reason}")]
pub struct ListenError {
    address: SocketAddr,
    reason: String,
}

/// Binds the address.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address)
        .await
        .map_err(|error| ListenError {
            address,
            reason: match error.kind() {
                io::ErrorKind::AddrInUse => {
                    "the port is in use; choose another with --listen or PALISADE_LISTEN".to_owned()
                }
                _ => error.to_string(),
            },
        })
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
    listener: TcpListener,
    service: Service,
    settings: &ServiceSettings,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let graceful = GracefulShutdown::new();
    tokio::select! {
        never = accept(&listener, &service, settings.max_connections, &graceful) => match never {},
        () = stop => {}
    }
    drop(listener);
    shut_down(&service, graceful).await;
    Ok(())
}

/// Accepts connections, at most `max_connections` at a time.
async fn accept(
    listener: &TcpListener,
    service: &Service,
    max_connections: u32,
    graceful: &GracefulShutdown,
) -> Infallible {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(service.receive_timeout)
        .max_buf_size(MAX_HEADER_BYTES)
        .keep_alive(true);
    let router = TowerToHyperService::new(service.router());
    let permits = Arc::new(Semaphore::new(max_connections as usize));
    loop {
        let permit = Arc::clone(&permits).acquire_owned().await;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // The process has no file descriptors left, or the client closed the connection. The pause
                // keeps the loop from spinning.
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let stream = with_write_timeout(stream, service.receive_timeout);
        let connection = http.serve_connection(TokioIo::new(Box::pin(stream)), router.clone());
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // The client or its network caused the error.
            if let Err(error) = connection.await {
                tracing::debug!("a connection failed: {error}");
            }
            drop(permit);
        });
    }
}

/// Sets a time limit for writing, so that a connection closes if its client does not read the response.
fn with_write_timeout(stream: TcpStream, timeout: Duration) -> TimeoutStream<TcpStream> {
    stream.set_nodelay(true).ok();
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(timeout));
    stream
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
