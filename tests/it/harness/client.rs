//! The callers of the API, and the responses that they get.

use std::collections::HashMap;

use palisade::{auth::role::UserRole, ids::UserId};
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::{Value, json, value::RawValue};
use uuid::Uuid;

use super::app::TestApp;

/// The id of a row in the API.
pub fn id(prefix: &str, uuid: Uuid) -> String {
    format!("{prefix}_{}", uuid.simple())
}

/// A user with a token, who calls the API.
#[derive(Clone)]
pub struct Caller {
    pub app: &'static TestApp,
    pub url: String,
    pub user: UserId,
    pub role: UserRole,
    pub token: String,
}

impl Caller {
    /// The same caller at another service.
    pub fn at(&self, url: &str) -> Self {
        Self {
            url: url.to_owned(),
            ..self.clone()
        }
    }

    /// Sends an operation without variables.
    pub async fn query(&self, document: &str) -> Response {
        self.graphql(document, json!({})).await
    }

    /// Sends an operation with a given request id. Returns the status and the unparsed body.
    pub async fn bytes(&self, document: &str, variables: &Value, request: Uuid) -> (u16, String) {
        let response = self
            .app
            .client
            .post(&self.url)
            .bearer_auth(&self.token)
            .header("x-request-id", request.to_string())
            .json(&json!({ "query": document, "variables": variables }))
            .send()
            .await
            .unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// Sends an operation with additional headers. Asserts that the response contains no words of the database's
    /// messages, except in the statements of a trace.
    pub async fn send(&self, document: &str, variables: &Value, headers: &[(&str, &str)]) -> Reply {
        let mut request = self.app.client.post(&self.url).bearer_auth(&self.token);
        for (name, value) in headers {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            request = request.header(*name, value);
        }
        let body = json!({ "query": document, "variables": variables });
        let response = request.json(&body).send().await.unwrap();
        let reply = Reply {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await.unwrap(),
        };
        if headers.iter().all(|(name, _)| *name != TRACE) {
            let lower = reply.text.to_lowercase();
            for word in DATABASE_WORDS {
                assert!(!lower.contains(word), "{word}: {}", reply.text);
            }
        }
        reply
    }

    /// Sends the mutation with this name. Returns its payload. The document selects `selection` and the user errors.
    pub async fn mutate(&self, name: &str, input: Value, selection: &str) -> Value {
        let variables = json!({ "input": input });
        let reply = self.send(&mutation(name, selection), &variables, &[]).await;
        reply.response().data()[name].clone()
    }

    /// Sends a mutation that must succeed. Returns its payload.
    pub async fn mutate_ok(&self, name: &str, input: Value, selection: &str) -> Value {
        let payload = self.mutate(name, input.clone(), selection).await;
        assert_eq!(payload["userErrors"], json!([]), "{name} {input}");
        payload
    }

    /// Sends an operation with variables.
    pub async fn graphql(&self, document: &str, variables: Value) -> Response {
        let response = self
            .app
            .client
            .post(&self.url)
            .bearer_auth(&self.token)
            .header(TRACE, "1")
            .json(&json!({ "query": document, "variables": variables }))
            .send()
            .await
            .unwrap();
        let status = response.status().as_u16();
        let body: Value = response.json().await.unwrap();
        Response { status, body }
    }
}

/// The header that requests the statements and round trips of an operation.
pub const TRACE: &str = "palisade-trace";

/// Words of the database's messages, which no response may contain.
const DATABASE_WORDS: [&str; 12] = [
    "constraint",
    "violates",
    "relation",
    "duplicate key",
    "sqlstate",
    "postgres",
    "_fkey",
    "_pkey",
    "audit_logs",
    "idempotency_keys",
    "invoice_counters",
    "invoice_line_items",
];

/// The document of one mutation, with its input as the variable `input`.
pub fn mutation(name: &str, selection: &str) -> String {
    let (first, rest) = name.split_at(1);
    let input = format!("{}{rest}Input", first.to_uppercase());
    format!(
        "mutation ($input: {input}!) {{ {name}(input: $input) {{
            {selection} userErrors {{ code field message }} }} }}"
    )
}

/// The code and the field of each error of a payload.
pub fn user_errors(payload: &Value) -> Vec<(&str, String)> {
    let errors = payload["userErrors"].as_array().unwrap().iter();
    let found = errors.map(|error| {
        assert!(!error["message"].as_str().unwrap().is_empty(), "{error}");
        let path = error["field"].as_array().into_iter().flatten();
        let path: Vec<&str> = path.map(|part| part.as_str().unwrap()).collect();
        (error["code"].as_str().unwrap(), path.join("."))
    });
    found.collect()
}

/// An HTTP response of the API.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    pub fn response(&self) -> Response {
        Response {
            status: self.status,
            body: serde_json::from_str(&self.text).unwrap(),
        }
    }

    /// The member `data` as unparsed JSON.
    pub fn data_text(&self) -> String {
        let members: HashMap<String, Box<RawValue>> = serde_json::from_str(&self.text).unwrap();
        members["data"].get().to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// A GraphQL response.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub body: Value,
}

impl Response {
    /// The data of a response without errors.
    pub fn data(&self) -> &Value {
        assert_eq!(self.status, 200, "{}", self.body);
        assert!(
            self.body.get("errors").is_none(),
            "unexpected errors: {}",
            self.body
        );
        &self.body["data"]
    }

    /// The code of the first error.
    pub fn code(&self) -> &str {
        self.body["errors"][0]["extensions"]["code"]
            .as_str()
            .unwrap_or_default()
    }

    /// The number of round trips to the database that the transaction counted.
    pub fn round_trips(&self) -> u64 {
        self.body["extensions"]["palisade"]["roundTrips"]
            .as_u64()
            .unwrap()
    }

    /// The SQL statements of the operation, in the order in which they were sent.
    pub fn statements(&self) -> Vec<String> {
        let statements = self.body["extensions"]["palisade"]["statements"].as_array();
        let statements = statements.unwrap().iter();
        statements
            .map(|statement| statement["sql"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The response without the request id and the cost, which differ between any two responses.
    pub fn comparable(&self) -> Value {
        let mut body = self.body.clone();
        if let Some(body) = body.as_object_mut() {
            body.remove("extensions");
        }
        for error in body["errors"].as_array_mut().into_iter().flatten() {
            error["extensions"]
                .as_object_mut()
                .unwrap()
                .remove("requestId");
        }
        body
    }
}
