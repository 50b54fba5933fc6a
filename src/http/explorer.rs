//! The explorer's page. It loads nothing from anywhere else, and may not by its policy.

use axum::{
    http::{HeaderValue, header},
    response::{Redirect, Response},
};

use super::hardened;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `/graphiql`
pub async fn page() -> Response {
    file(
        "text/html; charset=utf-8",
        include_str!("../../explorer/index.html"),
    )
}

/// `/graphiql/explorer.js`
pub async fn script() -> Response {
    file(
        "text/javascript; charset=utf-8",
        include_str!("../../explorer/explorer.js"),
    )
}

/// `/graphiql/explorer.css`
pub async fn style() -> Response {
    file(
        "text/css; charset=utf-8",
        include_str!("../../explorer/explorer.css"),
    )
}

/// `/`
pub async fn redirect() -> Response {
    hardened(Redirect::temporary("/graphiql"))
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let mut response = hardened(([(header::CONTENT_TYPE, kind)], text));
    let policy = HeaderValue::from_static(POLICY);
    response
        .headers_mut()
        .insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}
