//! What the client reads, and where it calls from.

use axum::http::{HeaderMap, HeaderValue, header};

/// A media type of answers (GraphQL over HTTP, 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `application/graphql-response+json`, which has its own status codes.
    GraphQl,
    /// `application/json`: older clients expect 200 for whatever is JSON.
    Json,
}

impl Format {
    /// The value of `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::GraphQl => "application/graphql-response+json; charset=utf-8",
            Self::Json => "application/json; charset=utf-8",
        })
    }

    /// The type that the client likes best (RFC 9110, 12.5.1); `None` if it takes neither. Whoever does
    /// not say, or takes anything, gets the older one.
    #[must_use]
    pub fn accepted(headers: &HeaderMap) -> Option<Self> {
        if !headers.contains_key(header::ACCEPT) {
            return Some(Self::Json);
        }
        let ranges: Vec<(String, u16)> = headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|accept| accept.to_str().ok())
            .flat_map(|accept| accept.split(','))
            .map(range)
            .collect();
        // The most specific range that holds a type says how much it is liked.
        let liked = |name: &str| {
            let quality = |wanted: &str| {
                let found = ranges.iter().find(|(range, _)| range == wanted);
                found.map(|(_, quality)| *quality)
            };
            quality(name)
                .or_else(|| quality("application/*"))
                .or_else(|| quality("*/*"))
                .unwrap_or(0)
        };
        let (graphql, json) = (
            liked("application/graphql-response+json"),
            liked("application/json"),
        );
        let names_graphql = ranges
            .iter()
            .any(|(range, _)| range == "application/graphql-response+json");
        if graphql > json || (names_graphql && graphql == json && graphql > 0) {
            Some(Self::GraphQl)
        } else if json > 0 {
            Some(Self::Json)
        } else {
            None
        }
    }
}

/// A media range in lower case and its quality in thousandths, which are all that it has (RFC 9110,
/// 12.4.2). One whose quality cannot be read counts in full.
fn range(text: &str) -> (String, u16) {
    let mut parts = text.split(';');
    let name = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    let quality = parts
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
        .and_then(|(_, value)| thousandths(value.trim()))
        .unwrap_or(1_000);
    (name, quality)
}

fn thousandths(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{fraction:0<3}");
    let number: u16 = digits.get(..4)?.parse().ok()?;
    (fraction.len() <= 3 && number <= 1_000).then_some(number)
}

/// The pages of other places that may call the API from a browser.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    /// As a browser writes them: scheme, host, and port unless it is the scheme's own.
    pub allowed: Vec<String>,
    /// Any page that this machine serves to itself.
    pub loopback: bool,
}

impl Origins {
    /// Whether a page of this origin may call.
    #[must_use]
    pub fn allow(&self, origin: &str) -> bool {
        self.allowed.iter().any(|allowed| allowed == origin)
            || (self.loopback && is_loopback(origin))
    }

    /// Whether a request comes from a page that may not call: it has an origin, and neither is that
    /// this service nor is it allowed. Browsers name the origin of everything that can change
    /// something; other clients have none.
    #[must_use]
    pub fn refuse(&self, headers: &HeaderMap) -> bool {
        let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str());
        match (text(header::ORIGIN), text(header::HOST)) {
            (None, _) => false,
            (Some(Ok(origin)), Some(Ok(host))) => {
                let own = origin.split_once("://").is_some_and(|(_, own)| own == host);
                !own && !self.allow(origin)
            }
            (Some(Ok(origin)), _) => !self.allow(origin),
            (Some(Err(_)), _) => true,
        }
    }
}

fn is_loopback(origin: &str) -> bool {
    let Some(place) = origin.strip_prefix("http://") else {
        return false;
    };
    let host = match place.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => place,
    };
    matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(accept: &str) -> Option<Format> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
        Format::accepted(&headers)
    }

    #[test]
    fn the_client_gets_what_it_likes_best() {
        use Format::{GraphQl, Json};
        assert_eq!(Format::accepted(&HeaderMap::new()), Some(Json));
        for (accept, format) in [
            ("*/*", Some(Json)),
            ("application/*", Some(Json)),
            ("application/json", Some(Json)),
            ("application/json; charset=utf-8", Some(Json)),
            ("application/graphql-response+json", Some(GraphQl)),
            ("Application/GraphQL-Response+JSON", Some(GraphQl)),
            (
                "application/graphql-response+json, application/json;q=0.9",
                Some(GraphQl),
            ),
            (
                "application/json, application/graphql-response+json",
                Some(GraphQl),
            ),
            (
                "application/json, application/graphql-response+json;q=0.5",
                Some(Json),
            ),
            ("application/graphql-response+json;q=0, */*", Some(Json)),
            ("application/json;q=0, */*", Some(GraphQl)),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Some(Json)),
            ("text/html", None),
            ("application/json;q=0", None),
            ("", None),
        ] {
            assert_eq!(accepted(accept), format, "{accept}");
        }
    }

    #[test]
    fn a_page_of_another_place_is_refused_unless_it_is_allowed() {
        let refused = |origins: &Origins, origin: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("api.example:8080"));
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
            origins.refuse(&headers)
        };
        let strict = Origins::default();
        assert!(!strict.refuse(&HeaderMap::new()));
        assert!(!refused(&strict, "http://api.example:8080"));
        for origin in [
            "http://api.example",
            "https://evil.example",
            "null",
            "http://localhost:5173",
        ] {
            assert!(refused(&strict, origin), "{origin}");
        }
        let open = Origins {
            allowed: vec!["https://app.example".to_owned()],
            loopback: true,
        };
        for origin in [
            "https://app.example",
            "http://localhost:5173",
            "http://127.0.0.1",
            "http://[::1]:80",
        ] {
            assert!(!refused(&open, origin), "{origin}");
        }
        for origin in [
            "http://app.example",
            "https://app.example.evil.example",
            "http://localhost.evil.example",
        ] {
            assert!(refused(&open, origin), "{origin}");
        }
    }
}
