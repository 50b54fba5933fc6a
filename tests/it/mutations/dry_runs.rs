//! Dry runs: `Prefer: tx=rollback` returns the result of a mutation without storing its changes.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use macro_rules_attribute::apply;
use palisade::auth::role::UserRole;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{assert_done, document, send};
use crate::{
    harness::{Tenant, palisade_test},
    samples::{Rows, samples},
};

/// Replaces the values that differ between two runs of the same mutation: the ids of new rows, their cursors, and
/// timestamps.
struct Redaction<'a> {
    input: &'a str,
    started: DateTime<Utc>,
    new_ids: HashMap<Uuid, usize>,
}

impl Redaction<'_> {
    fn redact(&mut self, value: &mut Value) {
        match value {
            Value::Array(values) => values.iter_mut().for_each(|value| self.redact(value)),
            Value::Object(fields) => {
                fields.remove("cursor");
                fields.values_mut().for_each(|value| self.redact(value));
            }
            Value::String(text) => {
                let uuid = text.split_once('_').map_or(text.as_str(), |(_, uuid)| uuid);
                let is_now = |time: DateTime<Utc>| time >= self.started;
                if let Ok(uuid) = uuid.parse::<Uuid>() {
                    if !self.input.contains(&uuid.simple().to_string()) {
                        let next = self.new_ids.len();
                        let known = *self.new_ids.entry(uuid).or_insert(next);
                        *text = format!("[id {known}]");
                    }
                } else if text.parse().is_ok_and(is_now) {
                    "[now]".clone_into(text);
                }
            }
            _ => {}
        }
    }
}

#[apply(palisade_test)]
async fn a_dry_run_of_any_mutation_returns_what_the_real_one_returns_and_changes_nothing(
    tenant: Tenant,
) {
    let owner = tenant.owner();
    let mut sql = tenant.begin().await;
    for sample in samples() {
        let name = sample.name();
        let rows = Rows::insert(&tenant, &mut sql, UserRole::Owner).await;
        let document = document(sample.field);
        let (input, request) = ((sample.input)(&rows), Uuid::now_v7());
        let (text, started) = (input.to_string(), std::time::SystemTime::now().into());
        let redacted = |mut body: Value| {
            let new_ids = HashMap::new();
            let input = &text;
            Redaction {
                input,
                started,
                new_ids,
            }
            .redact(&mut body);
            body
        };

        let before = tenant.everything().await;
        let variables = json!({ "input": input });
        let headers = [
            ("x-request-id", &*request.to_string()),
            ("prefer", "tx=rollback"),
        ];
        let dry = owner.send(&document, &variables, &headers).await;
        assert_done(&dry.response(), sample.field);
        let applied = dry.header("preference-applied");
        assert_eq!(applied, Some("tx=rollback"), "{name}");
        assert_eq!(tenant.everything().await, before, "{name}");

        let real = send(owner, &document, &input, request).await;
        assert_done(&real.response(), sample.field);
        for header in ["preference-applied", "idempotency-replayed"] {
            assert_eq!(real.header(header), None, "{name}: {header}");
        }
        assert_ne!(tenant.everything().await, before, "{name}");
        assert_eq!(
            redacted(dry.response().body),
            redacted(real.response().body),
            "{name}"
        );
    }
}
