//! Decides which pages may call the API from a browser.
//!
//! The invariant: **a page of another origin runs no operation unless its origin is allowed**, even if the
//! browser sends the request without a preflight.

use axum::http::{HeaderMap, HeaderValue, header};

use super::loopback::is_loopback;

/// The allowed origins, besides the service's own.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    /// Origins as browsers send them: scheme, host, and the port unless it is the scheme's default.
    pub allowed: Vec<String>,
    /// Allows every page that this machine serves over HTTP.
    pub loopback: bool,
}

impl Origins {
    /// Whether pages of this origin may call the API.
    pub fn allows(&self, origin: &str) -> bool {
        let is_local = || origin.strip_prefix("http://").is_some_and(is_loopback);
        self.allowed.iter().any(|allowed| allowed == origin) || (self.loopback && is_local())
    }

    /// Whether a request comes from a page that may not call the API: it has an origin that is neither the
    /// service's own nor allowed. Browsers send `Origin` with every request that can change something;
    /// other clients do not send it.
    pub fn rejects(&self, headers: &HeaderMap) -> bool {
        let value = |name| headers.get(name).map(|value: &HeaderValue| value.to_str());
        match (value(header::ORIGIN), value(header::HOST)) {
            (None, _) => false,
            (Some(Ok(origin)), Some(Ok(host))) => {
                let is_own = origin.split_once("://").is_some_and(|(_, own)| own == host);
                !is_own && !self.allows(origin)
            }
            (Some(Ok(origin)), _) => !self.allows(origin),
            (Some(Err(_)), _) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_another_origin_is_rejected_unless_it_is_allowed() {
        let rejects = |origins: &Origins, origin: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("api.example:8080"));
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
            origins.rejects(&headers)
        };
        let strict = Origins::default();
        assert!(!strict.rejects(&HeaderMap::new()));
        assert!(!rejects(&strict, "http://api.example:8080"));
        for origin in [
            "http://api.example",
            "https://evil.example",
            "null",
            "http://localhost:5173",
        ] {
            assert!(rejects(&strict, origin), "{origin}");
        }
        let open = Origins {
            allowed: vec!["https://app.example".to_owned()],
            loopback: true,
        };
        for origin in [
            "https://app.example",
            "http://localhost:5173",
            "http://127.0.0.1",
            "http://127.0.0.2:3000",
            "http://[::1]:80",
        ] {
            assert!(!rejects(&open, origin), "{origin}");
        }
        for origin in [
            "http://app.example",
            "https://app.example.evil.example",
            "http://localhost.evil.example",
            "http://127.0.0.1.evil.example",
            "https://localhost:5173",
            "http://",
            "null",
        ] {
            assert!(rejects(&open, origin), "{origin}");
        }
    }
}
