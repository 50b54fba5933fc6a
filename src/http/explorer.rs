//! The explorer: GraphiQL, built by `build.rs` and embedded compressed. It loads nothing from anywhere
//! else, and may not by its policy.

use std::io::Read as _;

use axum::{
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use flate2::read::GzDecoder;
use sha2::{Digest as _, Sha256};

use super::{Features, Service, hardened, not_found};

/// One file of the build.
struct File {
    /// Its path below `/graphiql/`.
    name: &'static str,
    kind: &'static str,
    gzip: &'static [u8],
}

/// Every file of the build; none if npm was not there.
static FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/explorer.rs"));
const INDEX: &str = "index.html";
/// The page of a build without npm.
const WITHOUT_NPM: &str = include_str!("../../explorer/without-npm.html");
/// Where the page says what is offered besides the API.
const OFFERS: &str = r#"<meta name="palisade-offers" content=""#;

/// Scripts, workers and connections are the service's own and nobody else's. Two things are wider, for
/// Monaco, the editor in GraphiQL: the hash is that of nothing, which admits `<style>` elements only as
/// long as they are empty (their rules come from constructed sheets, see
/// `explorer/src/style-elements.ts`); and style attributes, which it writes into the markup of each line
/// to place it. An attribute styles one element and cannot load or select anything. Its stylesheet
/// carries fonts and images as `data:`.
const POLICY: &str = "default-src 'none'; script-src 'self'; worker-src 'self'; connect-src 'self'; \
     style-src 'self'; style-src-attr 'unsafe-inline'; \
     style-src-elem 'self' 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='; \
     font-src 'self' data:; img-src 'self' data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Names that hold a hash of their content never change what they mean.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// What may change with the binary is asked for again, which costs no body if it did not.
const ASK_AGAIN: &str = "no-cache";

/// What is the same for every visitor, made once.
pub struct Explorer {
    page: Text,
    schema: Text,
}

impl Explorer {
    /// The explorer of a service with these features.
    pub fn new(features: Features) -> Self {
        Self::of(FILES, features)
    }

    fn of(files: &[File], features: Features) -> Self {
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
            None => WITHOUT_NPM.to_owned(),
        };
        Self {
            page: Text::new("text/html; charset=utf-8", page),
            schema: Text::new("text/plain; charset=utf-8", crate::api::sdl()),
        }
    }
}

/// `/graphiql`
pub async fn page(State(service): State<Service>, headers: HeaderMap) -> Response {
    with_explorer(&service, |explorer| explorer.page.answer(&headers))
}

/// `/graphiql/schema.graphql`. Whoever sees the explorer may see the schema, before there is a token.
pub async fn schema(State(service): State<Service>, headers: HeaderMap) -> Response {
    with_explorer(&service, |explorer| explorer.schema.answer(&headers))
}

/// `/graphiql/assets/…`
pub async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let name = format!("assets/{name}");
    let Some(file) = FILES.iter().find(|file| file.name == name) else {
        return not_found().await;
    };
    let tag = format!("W/\"{name}\"");
    let mut response = if is_known(&headers, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else if accepts_gzip(&headers) {
        ([(header::CONTENT_ENCODING, "gzip")], file.gzip).into_response()
    } else {
        inflate(file).into_response()
    };
    let vary = HeaderValue::from_static("accept-encoding");
    response.headers_mut().insert(header::VARY, vary);
    finish(response, file.kind, &tag, FOR_EVER)
}

/// `/`, and `/graphiql/`
pub async fn redirect() -> Response {
    hardened(Redirect::temporary("/graphiql"))
}

/// A person who opens the address of the API in a browser wants to see something: leads them to the
/// explorer, if there is one and they do not bring an operation.
pub fn for_browsers<B>(service: &Service, request: &Request<B>) -> Option<Response> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if !service.0.features.explorer || !reads {
        return None;
    }
    let query = request.uri().query().unwrap_or_default();
    let brings_operation = form_urlencoded::parse(query.as_bytes())
        .any(|(name, _)| matches!(&*name, "query" | "documentId" | "extensions"));
    let is_browser = request
        .headers()
        .get_all(header::ACCEPT)
        .iter()
        .any(|accept| accept.to_str().is_ok_and(|kind| kind.contains("text/html")));
    let leads = is_browser && !brings_operation;
    leads.then(|| hardened(Redirect::temporary("/graphiql")))
}

fn with_explorer(service: &Service, answer: impl FnOnce(&Explorer) -> Response) -> Response {
    match &service.0.explorer {
        Some(explorer) => answer(explorer),
        None => hardened(StatusCode::NOT_FOUND),
    }
}

/// A text with its tag.
struct Text {
    kind: &'static str,
    body: String,
    tag: String,
}

impl Text {
    fn new(kind: &'static str, body: String) -> Self {
        let hash = Sha256::digest(&body);
        let hash = URL_SAFE_NO_PAD.encode(&hash[..12]);
        Self {
            kind,
            body,
            tag: format!("\"{hash}\""),
        }
    }

    fn answer(&self, headers: &HeaderMap) -> Response {
        let response = if is_known(headers, &self.tag) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            self.body.clone().into_response()
        };
        finish(response, self.kind, &self.tag, ASK_AGAIN)
    }
}

fn finish(mut response: Response, kind: &'static str, tag: &str, keep: &'static str) -> Response {
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(tag) {
        headers.insert(header::ETAG, tag);
    }
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, keep),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    hardened(response)
}

/// Whether the client has it already (RFC 9110, 13.1.2: compared weakly).
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let strong = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|known| known.to_str().ok())
        .flat_map(|known| known.split(','))
        .any(|known| known.trim() == "*" || strong(known) == strong(tag))
}

/// Whether `Accept-Encoding` names gzip, and does not name it to refuse it.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|accept| accept.to_str().ok())
        .flat_map(|accept| accept.split(','))
        .any(|coding| {
            let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
            let refused = weight
                .trim()
                .strip_prefix("q=")
                .is_some_and(|weight| weight.parse().is_ok_and(|weight: f32| weight <= 0.0));
            name.trim().eq_ignore_ascii_case("gzip") && !refused
        })
}

fn inflate(file: &File) -> Vec<u8> {
    let mut plain = Vec::new();
    if let Err(error) = GzDecoder::new(file.gzip).read_to_end(&mut plain) {
        // Only a broken build gets here.
        tracing::error!("the explorer's {} cannot be unpacked: {error}", file.name);
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
    fn a_build_without_npm_says_how_to_get_the_explorer() {
        let page = Explorer::of(&[], ALL).page.body;
        for said in [
            "install <strong>Node.js 20.19 or newer</strong>",
            "/graphiql/schema.graphql",
            "curl -s",
        ] {
            assert!(page.contains(said), "{said}");
        }
        for active in ["<script", "<style", "style=", "http://", "https://"] {
            assert!(!page.contains(active), "{active}");
        }
    }

    #[test]
    fn the_page_knows_what_the_service_offers() {
        if FILES.is_empty() {
            return;
        }
        let offers = |features| {
            let page = Explorer::new(features).page;
            let rest = page.body.split_once(OFFERS).expect("the place").1;
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
    fn gzip_is_for_those_who_take_it() {
        for (accept, taken) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5, br", true),
            ("gzip;q=0", false),
            ("br, identity", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accept));
            assert_eq!(accepts_gzip(&headers), taken, "{accept}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
