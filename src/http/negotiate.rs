//! The media type of a response: the one of two types that the client prefers.

use axum::http::{HeaderMap, HeaderValue, header};

const GRAPHQL_RESPONSE: &str = "application/graphql-response+json";
const JSON: &str = "application/json";

/// The media type of a response (GraphQL over HTTP, 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFormat {
    /// `application/graphql-response+json`: the status shows whether the operation was executed.
    GraphQl,
    /// `application/json`: older clients expect 200 for every well-formed request.
    Json,
}

impl ResponseFormat {
    /// The value of `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::GraphQl => "application/graphql-response+json; charset=utf-8",
            Self::Json => "application/json; charset=utf-8",
        })
    }

    /// The type that `Accept` prefers (RFC 9110, 12.5.1); `None` if it accepts neither. Without a preference, returns
    /// the older type, `application/json`.
    #[must_use]
    pub fn accepted_by(headers: &HeaderMap) -> Option<Self> {
        if !headers.contains_key(header::ACCEPT) {
            return Some(Self::Json);
        }
        let ranges: Vec<(String, u16)> = headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|accept| accept.to_str().ok())
            .flat_map(|accept| accept.split(','))
            .map(media_range)
            .collect();
        // The quality of a type is that of the most specific range that matches it.
        let quality = |media_type: &str| {
            let of_range = |name: &str| {
                let found = ranges.iter().find(|(range, _)| range == name);
                found.map(|(_, quality)| *quality)
            };
            of_range(media_type)
                .or_else(|| of_range("application/*"))
                .or_else(|| of_range("*/*"))
                .unwrap_or(0)
        };
        let (graphql, json) = (quality(GRAPHQL_RESPONSE), quality(JSON));
        let names_graphql = ranges.iter().any(|(range, _)| range == GRAPHQL_RESPONSE);
        if graphql > json || (names_graphql && graphql == json && graphql > 0) {
            Some(Self::GraphQl)
        } else if json > 0 {
            Some(Self::Json)
        } else {
            None
        }
    }
}

/// Reads a media range: its name in lower case and its quality in thousandths, the precision of RFC 9110,
/// 12.4.2. A quality that is malformed counts as 1.
fn media_range(text: &str) -> (String, u16) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(accept: &str) -> Option<ResponseFormat> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
        ResponseFormat::accepted_by(&headers)
    }

    #[test]
    fn the_client_gets_the_media_type_that_it_prefers() {
        use ResponseFormat::{GraphQl, Json};
        assert_eq!(ResponseFormat::accepted_by(&HeaderMap::new()), Some(Json));
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
}
