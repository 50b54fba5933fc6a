//! The limits on open connections: for all clients, for each client address and for each tenant; and the listener of
//! the health checks, which has its own connections.

use std::{io::ErrorKind, net::SocketAddr, time::Duration};

use macro_rules_attribute::apply;
use palisade::{
    auth::role::UserRole,
    config::{ConnectionSettings, ServiceSettings},
    db::TenantDb,
    http::{self as service, Features, Listeners, Service},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::harness::{
    Caller, ServiceOptions, Tenant, TestApp, eventually, palisade_test, settings, signing, tokens,
};

/// An upper bound for a response. It is shorter than every time limit of these services.
const LIMIT: Duration = Duration::from_mins(1);
/// A time limit that no test reaches, so that only the limits on the number of connections close one.
const NEVER: Duration = Duration::from_hours(1);

/// A service with both listeners, which closes no connection because of a time limit.
struct Limited {
    api: SocketAddr,
    health_checks: SocketAddr,
}

impl Limited {
    async fn start(app: &TestApp, max_connections: u32, connections: ConnectionSettings) -> Self {
        let settings = ServiceSettings {
            max_connections,
            connections: ConnectionSettings {
                first_byte_timeout: NEVER,
                ..connections
            },
            receive_timeout: NEVER,
            ..settings(ServiceOptions::default())
        };
        let db = TenantDb::connect(&app.database_url("palisade_app"), settings.pool, &signing())
            .await
            .unwrap();
        let served = Service::new(db, None, tokens(), &settings, Features::default()).unwrap();
        let listen = settings.listen;
        let listeners = Listeners {
            api: service::listen(listen).await.unwrap(),
            health_checks: Some(service::listen_for_health_checks(listen).await.unwrap()),
        };
        let health_checks = listeners.health_checks.as_ref().unwrap();
        let limited = Self {
            api: listeners.api.local_addr().unwrap(),
            health_checks: health_checks.local_addr().unwrap(),
        };
        tokio::spawn(async move {
            service::serve(listeners, served, &settings, std::future::pending())
                .await
                .unwrap();
        });
        limited
    }

    /// Connects from a loopback address.
    async fn connect_from(&self, source: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
        socket.connect(self.api).await.unwrap()
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.api).await.unwrap()
    }
}

/// Sends a request and reads the head and the body of its response.
async fn exchange(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    response(stream).await
}

async fn response(stream: &mut TcpStream) -> String {
    let read = async {
        let mut response = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&response).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n")
                && body.len() == content_length(head)
            {
                return text;
            }
            let mut part = [0; 4_096];
            let read = stream.read(&mut part).await.unwrap();
            assert_ne!(read, 0, "the service closed the connection: {text}");
            response.extend_from_slice(&part[..read]);
        }
    };
    tokio::time::timeout(LIMIT, read)
        .await
        .expect("no response")
}

fn content_length(head: &str) -> usize {
    let mut headers = head.lines().filter_map(|line| line.split_once(": "));
    let length = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    length.map_or(0, |(_, value)| value.parse().unwrap())
}

const LIVE: &str = "GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n";

const BODY: &str = r#"{"query":"{ viewer { role } }"}"#;

/// A request with the caller's token.
fn graphql(caller: &Caller) -> String {
    format!("{}\r\n{BODY}", head(caller))
}

fn head(caller: &Caller) -> String {
    format!(
        "POST /graphql HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n",
        caller.token,
        BODY.len(),
    )
}

/// Sends the headers of a request, and waits until the service asks for the body. The connection is busy until the test
/// sends the body.
async fn start_request(stream: &mut TcpStream, caller: &Caller) {
    let head = format!("{}expect: 100-continue\r\n\r\n", head(caller));
    let response = exchange(stream, &head).await;
    assert!(response.starts_with("HTTP/1.1 100 "), "{response}");
}

/// Whether the service has closed a connection on which no response is due.
fn is_closed(stream: &TcpStream) -> bool {
    match stream.try_read(&mut [0]) {
        Ok(0) => true,
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
        unexpected => panic!("{unexpected:?}"),
    }
}

fn closed(streams: &[TcpStream]) -> Vec<usize> {
    let numbered = streams.iter().enumerate();
    numbered
        .filter(|(_, stream)| is_closed(stream))
        .map(|(number, _)| number)
        .collect()
}

#[apply(palisade_test)]
async fn a_thousand_silent_connections_keep_neither_a_client_nor_a_health_check_out(
    app: &'static TestApp,
) {
    let limited = Limited::start(app, 1_000, ConnectionSettings::default()).await;
    let mut silent = Vec::new();
    for _ in 0..1_005 {
        silent.push(limited.connect().await);
    }
    let mut health = TcpStream::connect(limited.health_checks).await.unwrap();
    let live = exchange(&mut health, LIVE).await;
    assert!(
        live.starts_with("HTTP/1.1 200 ") && live.ends_with("live\n"),
        "{live}"
    );
    let mut client = limited.connect().await;
    let response = exchange(&mut client, LIVE).await;
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    eventually("the six oldest connections are closed", async || {
        closed(&silent) == [0, 1, 2, 3, 4, 5]
    })
    .await;
    // The listener of the health checks serves nothing else.
    for path in ["/graphql", "/graphiql", "/"] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        let response = exchange(&mut health, &request).await;
        assert!(response.starts_with("HTTP/1.1 404 "), "{path}: {response}");
    }
    let ready = exchange(&mut health, &LIVE.replace("live", "ready")).await;
    assert!(ready.starts_with("HTTP/1.1 200 "), "{ready}");
}

#[apply(palisade_test)]
async fn the_health_checks_close_their_own_longest_idle_connection(app: &'static TestApp) {
    let limited = Limited::start(app, 10, ConnectionSettings::default()).await;
    let mut silent = Vec::new();
    for _ in 0..70 {
        let stream = TcpStream::connect(limited.health_checks).await;
        silent.push(stream.unwrap());
    }
    let mut check = TcpStream::connect(limited.health_checks).await.unwrap();
    let live = exchange(&mut check, LIVE).await;
    assert!(live.starts_with("HTTP/1.1 200 "), "{live}");
    eventually("seven connections are closed", async || {
        closed(&silent) == [0, 1, 2, 3, 4, 5, 6]
    })
    .await;
}

#[apply(palisade_test)]
async fn a_new_connection_is_rejected_at_once_if_all_others_are_busy(tenant: Tenant) {
    let unlimited = ConnectionSettings {
        max_connections_per_tenant: Some(0),
        ..ConnectionSettings::default()
    };
    let limited = Limited::start(tenant.app, 2, unlimited).await;
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut stream = limited.connect().await;
        start_request(&mut stream, tenant.owner()).await;
        busy.push(stream);
    }
    let mut rejected = limited.connect().await;
    let mut response = Vec::new();
    tokio::time::timeout(LIMIT, rejected.read_to_end(&mut response))
        .await
        .expect("the connection stays open")
        .unwrap();
    let response = String::from_utf8(response).unwrap();
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    assert!(response.contains("retry-after: 1\r\n"), "{response}");
    for stream in &mut busy {
        let response = exchange(stream, BODY).await;
        assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    }
    // A connection becomes idle shortly after its client has received the response.
    eventually("a new client is served", async || {
        let mut client = limited.connect().await;
        client.write_all(LIVE.as_bytes()).await.ok();
        let mut status = [0; 12];
        client.read_exact(&mut status).await.is_ok() && status == *b"HTTP/1.1 200"
    })
    .await;
    eventually("the new client displaced another one", async || {
        !closed(&busy).is_empty()
    })
    .await;
}

#[apply(palisade_test)]
async fn an_address_beyond_its_share_loses_only_its_own_connections(app: &'static TestApp) {
    let share = ConnectionSettings {
        max_connections_per_address: Some(3),
        ..ConnectionSettings::default()
    };
    let limited = Limited::start(app, 100, share).await;
    let mut other = limited.connect_from("127.0.0.2").await;
    exchange(&mut other, LIVE).await;
    let mut greedy = Vec::new();
    for _ in 0..5 {
        greedy.push(limited.connect_from("127.0.0.3").await);
    }
    eventually("two connections are closed", async || {
        closed(&greedy) == [0, 1]
    })
    .await;
    let response = exchange(&mut other, LIVE).await;
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
}

#[apply(palisade_test)]
async fn a_tenant_beyond_its_share_loses_only_its_own_connections(greedy: Tenant, other: Tenant) {
    let share = ConnectionSettings {
        max_connections_per_tenant: Some(2),
        ..ConnectionSettings::default()
    };
    let limited = Limited::start(greedy.app, 100, share).await;
    let viewer = greedy.caller(UserRole::Viewer);
    let mut of_other = limited.connect().await;
    exchange(&mut of_other, &graphql(other.owner())).await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut stream = limited.connect().await;
        let response = exchange(&mut stream, &graphql(viewer)).await;
        assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
        streams.push(stream);
    }
    // A connection becomes idle shortly after its client has received the response.
    eventually("the tenant uses another connection", async || {
        let mut stream = limited.connect().await;
        let response = exchange(&mut stream, &graphql(viewer)).await;
        let is_served = response.starts_with("HTTP/1.1 200 ");
        if is_served {
            streams.push(stream);
        }
        is_served
    })
    .await;
    eventually(
        "the tenant has lost one of its first two connections",
        async || closed(&streams[..2]).len() == 1,
    )
    .await;

    let mut streams: Vec<_> = streams
        .into_iter()
        .filter(|stream| !is_closed(stream))
        .collect();
    assert_eq!(streams.len(), 2);
    for stream in &mut streams {
        start_request(stream, viewer).await;
    }
    let mut third = limited.connect().await;
    let response = exchange(&mut third, &graphql(greedy.owner())).await;
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    let head = response.to_ascii_lowercase();
    assert!(response.contains(r#""code":"UNAVAILABLE""#), "{response}");
    assert!(head.contains("retry-after: 1\r\n"), "{response}");
    assert!(head.contains("connection: close\r\n"), "{response}");
    let response = exchange(&mut of_other, &graphql(other.owner())).await;
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
}

#[apply(palisade_test)]
async fn a_connection_that_sends_nothing_is_closed_long_before_one_that_sends_slowly(
    app: &'static TestApp,
) {
    let options = ServiceOptions {
        receive_timeout: NEVER,
        ..ServiceOptions::default()
    };
    let settings = ServiceSettings {
        connections: ConnectionSettings {
            first_byte_timeout: Duration::from_millis(100),
            ..ConnectionSettings::default()
        },
        ..settings(options)
    };
    let url = app.serve_with(&app.database, settings).await;
    let address = url
        .trim_start_matches("http://")
        .trim_end_matches("/graphql");
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(&LIVE.as_bytes()[..5]).await.unwrap();
    let silent = [TcpStream::connect(address).await.unwrap()];
    eventually("the silent connection is closed", async || {
        closed(&silent) == [0]
    })
    .await;
    assert!(!is_closed(&slow));
    let response = exchange(&mut slow, &LIVE[5..]).await;
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    // The limit is for the first byte of the connection, and not for that of the next request.
    let silent = [TcpStream::connect(address).await.unwrap()];
    eventually("another silent connection is closed", async || {
        closed(&silent) == [0]
    })
    .await;
    let response = exchange(&mut slow, LIVE).await;
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
}
