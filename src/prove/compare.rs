//! Compares two responses that must not differ.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use super::{client::Reply, data::split_id};

/// What two requests may differ in: their values, and what a mutation creates anew.
pub struct Comparison<'c> {
    /// The UUIDs that the attacking tenant can read.
    pub known: &'c HashSet<Uuid>,
    /// The start of the run. Later timestamps are of the rows that a dry run created.
    pub started: DateTime<Utc>,
    /// Whether strings need only the same form: letters and digits at the same places.
    pub only_forms: bool,
}

impl Comparison<'_> {
    /// The first difference between two responses, apart from the values that were sent.
    #[must_use]
    pub fn difference(&self, real: (&Reply, &[&str]), random: (&Reply, &[&str])) -> Option<String> {
        let (one, other) = (real.0, random.0);
        if one.status != other.status {
            return Some(format!("status {} and {}", one.status, other.status));
        }
        if one.code() != other.code() {
            return Some(format!("code {:?} and {:?}", one.code(), other.code()));
        }
        let [left, right] = [real, random].map(|(reply, sent)| self.redact(reply, sent));
        if left == right {
            return None;
        }
        Some(format!(
            "body {} and {}",
            excerpt(&left, &right),
            excerpt(&right, &left)
        ))
    }

    /// The body without the values that were sent, the request id, and what is new in each run.
    fn redact(&self, reply: &Reply, sent: &[&str]) -> String {
        let mut body = reply.body.clone();
        if body.is_null() {
            return reply.text.clone();
        }
        let mut forms: Vec<String> = Vec::new();
        for value in sent {
            forms.push((*value).to_owned());
            if let Some((_, uuid)) = split_id(value) {
                forms.extend([uuid.simple().to_string(), uuid.to_string()]);
            }
        }
        let mut new_ids = HashMap::new();
        self.redact_value(&mut body, &forms, &mut new_ids);
        body.to_string()
    }

    fn redact_value(&self, value: &mut Value, sent: &[String], new_ids: &mut HashMap<Uuid, usize>) {
        match value {
            Value::Array(items) => {
                for item in items {
                    self.redact_value(item, sent, new_ids);
                }
            }
            Value::Object(fields) => {
                for name in ["cursor", "startCursor", "endCursor", "requestId"] {
                    if let Some(value) = fields.get_mut(name)
                        && value.is_string()
                    {
                        *value = "[omitted]".into();
                    }
                }
                for value in fields.values_mut() {
                    self.redact_value(value, sent, new_ids);
                }
            }
            Value::String(text) => {
                if sent.iter().any(|sent| text.contains(sent.as_str())) {
                    for value in sent {
                        *text = text.replace(value.as_str(), "[sent]");
                    }
                } else if let Some((prefix, uuid)) = split_id(text) {
                    if !self.known.contains(&uuid) {
                        let next = new_ids.len();
                        let number = *new_ids.entry(uuid).or_insert(next);
                        *text = format!("{prefix}[new {number}]");
                    }
                } else if text
                    .parse()
                    .is_ok_and(|time: DateTime<Utc>| time >= self.started)
                {
                    "[now]".clone_into(text);
                } else if self.only_forms {
                    *text = form(text);
                }
            }
            _ => {}
        }
    }
}

/// The string with one letter for all letters, and one digit for all digits. A string and its twin have the same form.
fn form(text: &str) -> String {
    let of = |c: char| match c {
        '0'..='9' => '0',
        'a'..='z' | 'A'..='Z' => 'a',
        other => other,
    };
    text.chars().map(of).collect()
}

/// The part of a text at which it differs from another.
fn excerpt(text: &str, other: &str) -> String {
    let pairs = text.chars().zip(other.chars());
    let same = pairs.take_while(|(one, other)| one == other).count();
    let start = same.saturating_sub(30);
    text.chars().skip(start).take(90).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn reply(status: u16, body: &Value) -> Reply {
        Reply {
            status,
            text: body.to_string(),
            body: body.clone(),
            headers: String::new(),
            is_dry_run: false,
            elapsed: Duration::ZERO,
        }
    }

    #[test]
    fn only_what_was_sent_and_what_is_new_may_differ() {
        let known = HashSet::new();
        let comparison = Comparison {
            known: &known,
            started: "2026-01-01T00:00:00Z".parse().unwrap(),
            only_forms: false,
        };
        let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
        let ids = [one, other].map(|id| format!("prj_{}", id.simple()));
        let difference = |left: &Reply, right: &Reply| {
            comparison.difference((left, &[&ids[0]]), (right, &[&ids[1]]))
        };
        let body = |id: &Uuid, time: &str, name: &str| {
            let new = Uuid::now_v7();
            json!({ "data": { "message": format!("no {id}"), "new": new, "again": new, "at": time, "name": name } })
        };
        let left = reply(200, &body(&one, "2026-02-01T00:00:00Z", "x"));
        let right = reply(200, &body(&other, "2026-02-02T00:00:00Z", "x"));
        assert_eq!(difference(&left, &right), None);
        for other in [
            reply(200, &body(&other, "2026-02-02T00:00:00Z", "y")),
            reply(200, &body(&other, "2025-02-02T00:00:00Z", "x")),
            reply(500, &body(&other, "2026-02-02T00:00:00Z", "x")),
            reply(
                200,
                &json!({ "errors": [{ "extensions": { "code": "NOT_FOUND" } }] }),
            ),
        ] {
            assert!(difference(&left, &other).is_some(), "{}", other.text);
        }
    }

    #[test]
    fn strings_that_the_service_derives_need_only_the_same_form() {
        let known = HashSet::new();
        let difference = |only_forms, left: &str, right: &str| {
            let comparison = Comparison {
                known: &known,
                started: DateTime::UNIX_EPOCH,
                only_forms,
            };
            let [left, right] = [left, right].map(|slug| reply(200, &json!({ "slug": slug })));
            comparison.difference((&left, &["Roof 12"]), (&right, &["Kqzw 83"]))
        };
        assert_eq!(difference(true, "roof-12", "kqzw-83"), None);
        assert!(difference(false, "roof-12", "kqzw-83").is_some());
        assert!(difference(true, "roof-12-2", "kqzw-83").is_some());
    }
}
