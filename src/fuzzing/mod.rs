//! The targets of fuzzing: each passes bytes to a parser of client input, and checks what must hold for every input.
//!
//! This module exists only in tests and with the feature `fuzzing`. The targets in `fuzz/` call it; the unit tests run
//! each target with its corpus and with random changes of the corpus.

#![expect(
    clippy::missing_panics_doc,
    reason = "every target panics if the input breaks an invariant"
)]

use std::sync::{Arc, LazyLock};

use async_graphql::{InputType, Value as GraphqlValue, Variables};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use uuid::Uuid;

use crate::{
    api::{
        admission::{Admission, AdmissionError, AdmittedRequest, DocumentKey},
        guard::{Guard, Limits},
        schema::shape,
    },
    auth::jwt::{TokenSettings, Tokens},
    db::{filter::Kind, page::Term},
    error::Code,
    graphql::{
        connection,
        filter::FilterInput as _,
        scalars::{CurrencyCode, Date, Decimal, Money, Timestamp},
    },
    http::{negotiate::ResponseFormat, request},
    ids::{EntityId as _, InvoiceId, ProjectId, TenantId, UserId},
    projects::ProjectFilter,
};

/// A function that panics if the input breaks an invariant.
pub type Target = fn(&[u8]);

/// All targets, by the names of their directories in `fuzz/corpus`.
pub const TARGETS: [(&str, Target); 10] = [
    ("accept", accept),
    ("cursor", cursor),
    ("document", document),
    ("filter", filter),
    ("global_id", global_id),
    ("headers", headers),
    ("money", money),
    ("request_body", request_body),
    ("token", token),
    ("variables", variables),
];

static ADMISSION: LazyLock<Arc<Admission>> = LazyLock::new(|| {
    let guard = Guard {
        limits: Limits::default(),
        shape: shape(),
    };
    Arc::new(Admission::new(guard, 1024 * 1024))
});

fn admit(text: &str, variables: &Variables) -> Result<AdmittedRequest, AdmissionError> {
    let key = DocumentKey {
        text: text.to_owned(),
        operation_name: None,
    };
    ADMISSION.admit(TenantId::from(Uuid::nil()), key, variables)
}

/// A rejection has a code for documents and variables, and from 1 to 25 errors.
fn check_rejection(error: &AdmissionError) {
    let codes = [
        Code::BadUserInput,
        Code::GraphqlParseFailed,
        Code::GraphqlValidationFailed,
        Code::QueryTooComplex,
    ];
    assert!(codes.contains(&error.code), "{error:?}");
    assert!((1..=25).contains(&error.errors.len()), "{error:?}");
    for error in &error.errors {
        let length = error.message.chars().count();
        // The path of a value can contain many names.
        assert!((1..=64 * 1024).contains(&length), "{error:?}");
    }
}

/// A document: the lexer, the parser, the guard and the validation. The guard's work is linear, and a cached document
/// gets the same response as a new one.
pub fn document(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let limits = Limits::default();
    if let Err(error) = Guard::default().check(text, None, &Variables::default()) {
        assert!(error.work <= 16 * text.len() as u64, "{error:?}");
    }
    match admit(text, &Variables::default()) {
        Ok(new) => {
            let checked = new.checked();
            assert!(checked.work <= 16 * text.len() as u64, "{}", checked.work);
            assert!(new.cost() <= limits.cost && new.values() <= limits.values);
            new.store();
            let cached = admit(text, &Variables::default());
            let cached = cached.unwrap_or_else(|error| panic!("a cached document: {error:?}"));
            assert_eq!((new.cost(), new.values()), (cached.cost(), cached.values()));
            drop(new.executable());
        }
        Err(error) => check_rejection(&error),
    }
}

/// The documents of the target [`variables`].
pub const DOCUMENTS_WITH_VARIABLES: [&str; 4] = [
    "query($v: ProjectFilter) { projects(filter: $v) { totalCount } }",
    "mutation($v: CreateInvoiceInput!) { createInvoice(input: $v) { userErrors { code } } }",
    "query($v: [ID!]!, $n: Int = 3) { nodes(ids: $v) { id } projects(first: $n) { totalCount } }",
    "query($v: [ProjectOrder!], $a: Boolean = true) { projects(orderBy: $v) { totalCount @skip(if: $a) } }",
];

/// The values of variables in JSON. If a value is accepted, every value in it has its type: the inputs can be read.
pub fn variables(data: &[u8]) {
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(data) else {
        return;
    };
    let given = Variables::from_json(json);
    for (index, document) in DOCUMENTS_WITH_VARIABLES.into_iter().enumerate() {
        match admit(document, &given) {
            Ok(admitted) => {
                admitted.store();
                drop(admitted.executable());
                if let (3, Some(value)) = (index, given.get("v")) {
                    type Orders = Option<
                        Vec<crate::graphql::connection::Order<crate::projects::ProjectOrderField>>,
                    >;
                    let orders = Orders::parse(Some(value.clone()));
                    assert!(orders.is_ok(), "{value}");
                }
            }
            Err(error) => check_rejection(&error),
        }
    }
}

/// A filter in JSON: reading it and converting it into a condition.
pub fn filter(data: &[u8]) {
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(data) else {
        return;
    };
    let value = GraphqlValue::from_json(json).unwrap_or_default();
    if let Ok(filter) = ProjectFilter::parse(Some(value))
        && let Err(error) = filter.filter()
    {
        assert_eq!(error.code(), Code::BadUserInput, "{error}");
    }
}

/// A global ID has exactly one spelling, and one type.
pub fn global_id(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let id = text.parse::<ProjectId>();
    if let Ok(id) = &id {
        assert_eq!(id.to_string(), text);
        assert_eq!(ProjectId::from(id.uuid()), *id);
    }
    assert!(id.is_err() || text.parse::<InvoiceId>().is_err());
}

/// The sort order of the target [`cursor`]: a column of each type.
#[must_use]
pub fn cursor_order() -> Vec<Term> {
    let term = |column, kind, nullable| Term {
        column,
        kind,
        nullable,
        descending: false,
    };
    vec![
        term("number", Kind::Text, true),
        term("created_at", Kind::Time, false),
        term("due_on", Kind::Date, true),
        term("position", Kind::Int, true),
        term("is_open", Kind::Bool, true),
        term("id", Kind::Uuid, false),
    ]
}

/// A cursor, and the JSON in a cursor. A position that was read from a cursor survives writing and reading. A cursor belongs
/// to one list at most.
pub fn cursor(data: &[u8]) {
    let order = cursor_order();
    let stamp = Uuid::from_u128(0x0123_4567_89ab_cdef);
    let encoded = BASE64_URL_SAFE_NO_PAD.encode(data);
    let text = String::from_utf8_lossy(data);
    for cursor in [&*text, &encoded] {
        let of_another_list = connection::decode(cursor, Uuid::nil(), &order);
        if let Some(position) = connection::decode(cursor, stamp, &order) {
            assert_eq!(of_another_list, None);
            let again = connection::encode(stamp, &position);
            assert_eq!(connection::decode(&again, stamp, &order), Some(position));
        }
    }
}

static TOKENS: LazyLock<Tokens> = LazyLock::new(|| {
    let settings = TokenSettings {
        jwt_secret: Some("kR8vQ2mZ7wX4nL9pT3bY6cF1hJ5dG0sA".into()),
        jwt_previous_secret: None,
        jwt_issuer: "palisade".to_owned(),
        jwt_audience: "palisade".to_owned(),
    };
    Tokens::new(&settings).unwrap_or_else(|error| panic!("BUG: {error}"))
});

/// A bearer token: no change of a token of another key is accepted, and neither is a changed token of this service.
pub fn token(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    assert!(TOKENS.verify(text).is_err(), "{text}");
    let (tenant, user) = (TenantId::generate(), UserId::generate());
    let lifetime = chrono::TimeDelta::minutes(1);
    let issued = TOKENS.issue(tenant, user, lifetime);
    let issued = issued.unwrap_or_else(|error| panic!("BUG: {error}"));
    let changed = format!("{issued}{text}");
    assert_eq!(TOKENS.verify(&changed).is_ok(), text.is_empty());
    let (body, _) = issued.rsplit_once('.').unwrap_or_default();
    assert!(TOKENS.verify(&format!("{body}.{text}")).is_err(), "{text}");
}

/// The header `Accept`.
pub fn accept(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(header::ACCEPT, value);
        }
    }
    let accepted = ResponseFormat::accepted_by(&headers);
    let names_any =
        data.contains(&b'*') || data.to_ascii_lowercase().windows(4).any(|w| w == b"json");
    assert!(accepted.is_none() || headers.is_empty() || names_any);
}

/// The other headers that the service reads.
pub fn headers(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next());
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name),
            HeaderValue::from_bytes(value.unwrap_or_default()),
        ) {
            headers.append(name, value);
        }
    }
    let dry_run = request::prefers_rollback(&headers);
    if dry_run.is_ok_and(|dry_run| dry_run) {
        assert!(headers.contains_key("prefer"));
    }
    if let Ok(Some(key)) = request::idempotency_key(&headers) {
        assert!((1..=255).contains(&key.len()) && key.is_ascii(), "{key}");
    }
    let _ = request::require_json(&headers);
}

/// The body of a request, and its query string.
pub fn request_body(data: &[u8]) {
    let one = request::parse_body(data, 0);
    if let Ok(body) = &one {
        assert!(matches!(body, request::RequestBody::One(_)));
    }
    match request::parse_body(data, 3) {
        Ok(request::RequestBody::Batch(requests)) => {
            assert!((1..=3).contains(&requests.len()));
            assert!(one.is_err());
        }
        Ok(request::RequestBody::One(_)) => assert!(one.is_ok()),
        Err(_) => assert!(one.is_err()),
    }
    if let Ok(text) = str::from_utf8(data) {
        let _ = request::parse_query_string(text);
    }
}

/// An amount and its currency, separated by a space; dates and timestamps. An accepted amount is stored exactly.
pub fn money(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let (amount, code) = text.split_once(' ').unwrap_or((text, "EUR"));
    let string = |text: &str| Some(GraphqlValue::String(text.to_owned()));
    if let Ok(date) = <Date as InputType>::parse(string(text)) {
        assert_eq!(date.0.to_string(), text);
    }
    if let Ok(time) = <Timestamp as InputType>::parse(string(text)) {
        assert!(time.time().timestamp_micros() < 253_402_300_800_000_000);
    }
    let amount = <Decimal as InputType>::parse(string(amount));
    let currency = <CurrencyCode as InputType>::parse(string(code));
    if let (Ok(amount), Ok(currency)) = (amount, currency)
        && let Ok(minor) = amount.to_minor_units(&currency)
    {
        let stored = Money::from_minor(minor, &currency);
        assert_eq!(stored.amount.0, amount.0, "{text}");
        assert_eq!(stored.amount.to_minor_units(&currency), Ok(minor));
    }
}

#[cfg(test)]
mod tests;
