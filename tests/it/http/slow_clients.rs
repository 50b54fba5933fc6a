//! Clients that are slow, stop in the middle of a request, or send malformed HTTP.

use std::time::{Duration, Instant};

use macro_rules_attribute::apply;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::harness::{ServiceOptions, TestApp, eventually, palisade_test};

/// Reads until the service closes the connection. Returns what it sent, and the time until then.
async fn rest_of(mut stream: TcpStream, limit: Duration) -> (String, Duration) {
    let started = Instant::now();
    let mut received = Vec::new();
    tokio::time::timeout(limit, stream.read_to_end(&mut received))
        .await
        .expect("the service never closed the connection")
        .ok();
    (
        String::from_utf8_lossy(&received).into_owned(),
        started.elapsed(),
    )
}

async fn slow_service() -> (String, String, String) {
    let app = TestApp::shared().await;
    let tenant = app.tenant().await;
    let options = ServiceOptions {
        receive_timeout: Duration::from_millis(500),
        ..ServiceOptions::default()
    };
    let url = app.serve(options).await;
    let address = url
        .trim_start_matches("http://")
        .trim_end_matches("/graphql")
        .to_owned();
    (url, address, tenant.owner().token.clone())
}

#[apply(palisade_test)]
async fn a_request_whose_body_never_ends_times_out() {
    let (_, address, token) = slow_service().await;
    for head in ["content-length: 100", "transfer-encoding: chunked"] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let chunk = if head.contains("chunked") {
            "5\r\n{\"que\r\n"
        } else {
            "{\"que"
        };
        let request = format!(
            "POST /graphql HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\n{head}\r\n\r\n{chunk}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let (response, took) = rest_of(stream, Duration::from_secs(20)).await;
        assert!(response.starts_with("HTTP/1.1 408 "), "{response}");
        assert!(response.contains("\"TIMEOUT\""), "{response}");
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
}

#[apply(palisade_test)]
async fn a_connection_whose_headers_never_end_is_closed() {
    let (_, address, _) = slow_service().await;
    for sent in [
        "",
        "POST /graph",
        "POST /graphql HTTP/1.1\r\nhost: x\r\nauthoriz",
    ] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let (response, took) = rest_of(stream, Duration::from_secs(20)).await;
        assert!(!response.contains(" 200 "), "{response}");
        assert!(took < Duration::from_secs(10), "{sent:?}: {took:?}");
    }
}

#[apply(palisade_test)]
async fn the_connection_of_a_client_that_reads_no_response_is_closed() {
    let (_, address, _) = slow_service().await;
    let stream = TcpStream::connect(&address).await.unwrap();
    let many = "GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1_000);
    // Writes until the buffers of both sides are full, and then until the service closes the connection.
    eventually("the connection is closed", async || {
        loop {
            match stream.try_write(many.as_bytes()) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
                Err(_) => return true,
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[apply(palisade_test)]
async fn malformed_http_is_rejected() {
    let (_, address, token) = slow_service().await;
    let body = r#"{"query":"{ tenant { slug } }"}"#;
    let length = body.len();
    for (name, head) in [
        (
            "two lengths",
            format!("content-length: {length}\r\ncontent-length: 5"),
        ),
        ("no number", "content-length: x".to_owned()),
        (
            "bad chunking",
            "transfer-encoding: chunked, identity".to_owned(),
        ),
        (
            "space before the colon",
            format!("content-length : {length}"),
        ),
        ("folded", format!("content-length:\r\n {length}")),
    ] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let request = format!(
            "POST /graphql HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\n{head}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let (response, _) = rest_of(stream, Duration::from_secs(20)).await;
        assert!(!response.contains("HTTP/1.1 200"), "{name}: {response}");
    }
}

#[apply(palisade_test)]
async fn half_open_connections_do_not_delay_others(app: &'static TestApp) {
    let tenant = app.tenant().await;
    let url = app.serve(ServiceOptions::default()).await;
    let address = url
        .trim_start_matches("http://")
        .trim_end_matches("/graphql");
    let mut held = Vec::new();
    for n in 0..100 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        if n % 2 == 0 {
            stream
                .write_all(b"POST /graphql HTTP/1.1\r\nhost: x\r\n")
                .await
                .unwrap();
        }
        held.push(stream);
    }
    let caller = tenant.owner().at(&url);
    let started = Instant::now();
    for _ in 0..10 {
        assert_eq!(
            caller.query("{ tenant { slug } }").await.data()["tenant"]["slug"],
            tenant.slug
        );
    }
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(held.len(), 100);
}
