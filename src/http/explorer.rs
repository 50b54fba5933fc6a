//! The explorer: GraphiQL, built by `build.rs` and embedded in the binary as gzip.
//!
//! The invariant: **the page loads nothing from another host**; its content security policy forbids it.

use std::io::Read as _;

use axum::{
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use flate2::read::GzDecoder;
use sha2::{Digest as _, Sha256};

use super::{Features, Service, not_found};

/// A file that the build of the explorer wrote.
struct File {
    /// The path below `/graphiql/`.
    name: &'static str,
    content_type: &'static str,
    gzip: &'static [u8],
}

/// Every file that the build wrote; empty if the binary was built without the explorer.
static FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/explorer.rs"));
const INDEX: &str = "index.html";
/// The page of a binary that was built without the explorer.
const PAGE_WITHOUT_NPM: &str = include_str!("../../explorer/without-npm.html");
/// The start of the element that lists what the service offers to the explorer besides the API.
const OFFERS: &str = r#"<meta name="palisade-offers" content=""#;

/// Scripts, workers and connections are limited to the service. Monaco, the editor in GraphiQL, needs three
/// exceptions. It creates `<style>` elements: the hash is that of the empty string, so they must be empty
/// (their rules come from constructed style sheets, see `explorer/src/style-elements.ts`). It sets style
/// attributes to position each line: an attribute styles one element and cannot load or select anything.
/// Its style sheet has fonts and images as `data:`.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; worker-src 'self'; connect-src 'self'; \
     style-src 'self'; style-src-attr 'unsafe-inline'; \
     style-src-elem 'self' 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='; \
     font-src 'self' data:; img-src 'self' data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The `Cache-Control` of files whose name contains a hash of the content.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// The `Cache-Control` of files that can differ in another binary: the browser asks again, and gets a body only if the
/// file has changed.
const REVALIDATE: &str = "no-cache";

/// The generated files of the explorer. They are created once, at start.
pub struct Explorer {
    page: TextFile,
    schema: TextFile,
}

impl Explorer {
    /// Creates the explorer of a service with these features.
    pub fn new(features: Features) -> Self {
        Self::from_files(FILES, features)
    }

    fn from_files(files: &[File], features: Features) -> Self {
        let index = files.iter().find(|file| file.name == INDEX).map(inflate);
        let page = match index {
            Some(index) => {
                let mut offers = Vec::new();
                if features.people {
                    offers.push("people");
                }
                if features.development {
                    offers.push("trace");
                }
                let offers = format!("{OFFERS}{}", offers.join(" "));
                String::from_utf8_lossy(&index).replacen(OFFERS, &offers, 1)
            }
            None => PAGE_WITHOUT_NPM.to_owned(),
        };
        Self {
            page: TextFile::new("text/html; charset=utf-8", page),
            schema: TextFile::new("text/plain; charset=utf-8", crate::api::sdl()),
        }
    }
}

/// Serves the page of the explorer at `/graphiql`.
pub async fn page(State(service): State<Service>, headers: HeaderMap) -> Response {
    with_explorer(&service, |explorer| explorer.page.respond(&headers))
}

/// `/graphiql/schema.graphql`. Needs no token: the explorer shows the schema before the user signs in.
pub async fn schema(State(service): State<Service>, headers: HeaderMap) -> Response {
    with_explorer(&service, |explorer| explorer.schema.respond(&headers))
}

/// Serves the files of the build at `/graphiql/assets/…`.
pub async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let name = format!("assets/{name}");
    let Some(file) = FILES.iter().find(|file| file.name == name) else {
        return not_found().await;
    };
    let tag = format!("W/\"{name}\"");
    let mut response = if is_cached(&headers, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else if accepts_gzip(&headers) {
        ([(header::CONTENT_ENCODING, "gzip")], file.gzip).into_response()
    } else {
        inflate(file).into_response()
    };
    let vary = HeaderValue::from_static("accept-encoding");
    response.headers_mut().insert(header::VARY, vary);
    finish(response, file.content_type, &tag, IMMUTABLE)
}

/// Redirects `/` and `/graphiql/` to the explorer.
pub async fn redirect() -> Response {
    Redirect::temporary("/graphiql").into_response()
}

/// Redirects a user who opens the URL of the API in a browser to the explorer. Returns `None` if the request
/// is from another client or has an operation, or if the explorer is turned off.
pub fn redirect_browser<B>(service: &Service, request: &Request<B>) -> Option<Response> {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    if !service.features.explorer || !is_read {
        return None;
    }
    let query = request.uri().query().unwrap_or_default();
    let has_operation = form_urlencoded::parse(query.as_bytes())
        .any(|(name, _)| matches!(&*name, "query" | "documentId" | "extensions"));
    let is_browser = request
        .headers()
        .get_all(header::ACCEPT)
        .iter()
        .any(|accept| {
            accept
                .to_str()
                .is_ok_and(|types| types.contains("text/html"))
        });
    (is_browser && !has_operation).then(|| Redirect::temporary("/graphiql").into_response())
}

fn with_explorer(service: &Service, respond: impl FnOnce(&Explorer) -> Response) -> Response {
    match &service.explorer {
        Some(explorer) => respond(explorer),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A file that is created at start, with its entity tag.
struct TextFile {
    content_type: &'static str,
    body: String,
    tag: String,
}

impl TextFile {
    fn new(content_type: &'static str, body: String) -> Self {
        let hash = Sha256::digest(&body);
        let hash = URL_SAFE_NO_PAD.encode(&hash[..12]);
        Self {
            content_type,
            body,
            tag: format!("\"{hash}\""),
        }
    }

    fn respond(&self, headers: &HeaderMap) -> Response {
        let response = if is_cached(headers, &self.tag) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            self.body.clone().into_response()
        };
        finish(response, self.content_type, &self.tag, REVALIDATE)
    }
}

/// Adds the headers of a file of the explorer.
fn finish(
    mut response: Response,
    content_type: &'static str,
    tag: &str,
    cache_control: &'static str,
) -> Response {
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(tag) {
        headers.insert(header::ETAG, tag);
    }
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, cache_control),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whether the client has the file already: `If-None-Match` compares entity tags weakly (RFC 9110, 13.1.2).
fn is_cached(headers: &HeaderMap, tag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|known| known.to_str().ok())
        .flat_map(|known| known.split(','))
        .any(|known| known.trim() == "*" || opaque(known) == opaque(tag))
}

/// Whether `Accept-Encoding` allows gzip: the header names gzip without a weight of 0.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|accept| accept.to_str().ok())
        .flat_map(|accept| accept.split(','))
        .any(|coding| {
            let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
            let is_excluded = weight
                .trim()
                .strip_prefix("q=")
                .is_some_and(|weight| weight.parse().is_ok_and(|weight: f32| weight <= 0.0));
            name.trim().eq_ignore_ascii_case("gzip") && !is_excluded
        })
}

fn inflate(file: &File) -> Vec<u8> {
    let mut plain = Vec::new();
    if let Err(error) = GzDecoder::new(file.gzip).read_to_end(&mut plain) {
        // The build wrote the file, so this happens only if the build is broken.
        tracing::error!("cannot decompress {} of the explorer: {error}", file.name);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Features = Features {
        introspection: true,
        explorer: true,
        development: true,
        people: true,
    };

    #[test]
    fn the_page_of_a_build_without_npm_says_how_to_get_the_explorer() {
        let page = Explorer::from_files(&[], ALL).page.body;
        for expected in [
            "install <strong>Node.js 20.19 or newer</strong>",
            "/graphiql/schema.graphql",
            "curl -s",
        ] {
            assert!(page.contains(expected), "{expected}");
        }
        for active in ["<script", "<style", "style=", "http://", "https://"] {
            assert!(!page.contains(active), "{active}");
        }
    }

    #[test]
    fn the_page_lists_what_the_service_offers() {
        if FILES.is_empty() {
            return;
        }
        let offers = |features| {
            let page = Explorer::new(features).page;
            let rest = page.body.split_once(OFFERS).expect("the element").1;
            (
                rest.split('"').next().expect("its end").to_owned(),
                page.tag,
            )
        };
        let (nothing, tag) = offers(Features::default());
        let (everything, other) = offers(ALL);
        assert_eq!(
            (nothing.as_str(), everything.as_str()),
            ("", "people trace")
        );
        assert_ne!(tag, other);
    }

    #[test]
    fn gzip_is_sent_only_if_the_client_accepts_it() {
        for (accept, expected) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5, br", true),
            ("gzip;q=0", false),
            ("br, identity", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accept));
            assert_eq!(accepts_gzip(&headers), expected, "{accept}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
