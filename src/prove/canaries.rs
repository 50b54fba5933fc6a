//! Searches the responses to tenant B for bytes of tenant A.

use std::collections::{HashMap, HashSet};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use serde_json::Value;
use uuid::Uuid;

use super::{client::Reply, data::TenantData};

/// The length of the shortest string that is searched for, in bytes.
const MIN_STRING: usize = 8;
/// How often a string that looks like base64 is decoded again.
const MAX_DECODINGS: usize = 2;

/// The values of A that no response to B may contain: ids, and strings that only A has.
pub struct Canaries {
    uuids: HashSet<Uuid>,
    /// The strings by their first bytes.
    strings: HashMap<[u8; MIN_STRING], Vec<String>>,
}

/// Whether a string is probably unique: `Invoice 12 of Acme` and not `project.updated`.
fn is_distinctive(text: &str) -> bool {
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    let is_mark = |c: char| c.is_ascii_digit() || c.is_whitespace() || c == '@';
    text.len() >= MIN_STRING && letters >= 3 && text.contains(is_mark)
}

impl Canaries {
    /// The values of `a`, without the strings that `b` has too. Ids of `b` are not exempt: if B can read an id of A,
    /// this is a leak, and then the strings that B read with it are not exempt either.
    #[must_use]
    pub fn new(a: &TenantData, b: &TenantData) -> Self {
        let mut strings = HashMap::<_, Vec<String>>::new();
        for text in a.strings.iter().filter(|text| is_distinctive(text)) {
            if let Some(start) = text.as_bytes().first_chunk() {
                strings.entry(*start).or_default().push(text.clone());
            }
        }
        let mut canaries = Self {
            uuids: a.uuids.clone(),
            strings,
        };
        let mut known = HashSet::new();
        for row in b.rows.values() {
            if !uuids(row).any(|uuid| a.uuids.contains(&uuid)) {
                let row = serde_json::from_str(row).unwrap_or_default();
                canaries.collect_strings(&row, &mut known);
            }
        }
        for strings in canaries.strings.values_mut() {
            strings.retain(|text| !known.contains(text));
        }
        canaries
    }

    /// Collects the strings that occur in the strings of a JSON value.
    fn collect_strings(&self, value: &Value, found: &mut HashSet<String>) {
        match value {
            Value::String(text) => {
                let places = 0..text.len();
                let here = places.flat_map(|at| self.strings_at(&text.as_bytes()[at..]));
                found.extend(here.cloned());
            }
            Value::Array(items) => {
                for item in items {
                    self.collect_strings(item, found);
                }
            }
            Value::Object(fields) => {
                for value in fields.values() {
                    self.collect_strings(value, found);
                }
            }
            _ => {}
        }
    }

    /// The strings with which some bytes begin.
    fn strings_at<'c>(&'c self, bytes: &'c [u8]) -> impl Iterator<Item = &'c String> {
        let candidates = bytes
            .first_chunk()
            .and_then(|start| self.strings.get(start));
        let candidates = candidates.into_iter().flatten();
        candidates.filter(|text| bytes.starts_with(text.as_bytes()))
    }

    /// The ids without the strings.
    #[must_use]
    pub fn only_ids(&self) -> Self {
        Self {
            uuids: self.uuids.clone(),
            strings: HashMap::new(),
        }
    }

    /// The number of values.
    #[must_use]
    pub fn count(&self) -> usize {
        self.uuids.len() + self.strings.values().map(Vec::len).sum::<usize>()
    }

    /// A value of A that a response contains, with the exception of the strings that B has sent.
    #[must_use]
    pub fn find(&self, reply: &Reply, sent: &[&str]) -> Option<String> {
        let found = self.find_in(reply.text.as_bytes(), sent, 0);
        let found = found.or_else(|| self.find_in(reply.headers.as_bytes(), sent, 0));
        found.or_else(|| self.find_in_value(&reply.body, sent))
    }

    /// Like [`Canaries::find`], for the strings of a JSON value, without escapes.
    fn find_in_value(&self, value: &Value, sent: &[&str]) -> Option<String> {
        match value {
            Value::String(text) => self.find_in(text.as_bytes(), sent, 0),
            Value::Array(items) => items.iter().find_map(|item| self.find_in_value(item, sent)),
            Value::Object(fields) => {
                let mut fields = fields.values();
                fields.find_map(|value| self.find_in_value(value, sent))
            }
            _ => None,
        }
    }

    fn find_in(&self, bytes: &[u8], sent: &[&str], decodings: usize) -> Option<String> {
        let is_sent = |uuid: &Uuid| {
            sent.iter()
                .any(|sent| uuids(sent).any(|sent| sent == *uuid))
        };
        let mut ids = uuids_in(bytes).filter(|uuid| self.uuids.contains(uuid));
        if let Some(uuid) = ids.find(|uuid| !is_sent(uuid)) {
            return Some(format!("the id {uuid}"));
        }
        let is_new = |text: &&String| !sent.iter().any(|sent| sent.contains(text.as_str()));
        let mut strings = (0..bytes.len()).flat_map(|at| self.strings_at(&bytes[at..]));
        if let Some(text) = strings.find(is_new) {
            let short: String = text.chars().take(40).collect();
            return Some(format!("the string {short:?}"));
        }
        if decodings == MAX_DECODINGS {
            return None;
        }
        // Cursors are base64, and their content may have an id as text or as 16 bytes.
        let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte);
        let words = bytes.split(|byte| !is_base64(byte));
        for word in words.filter(|word| word.len() >= 16) {
            let engines = [&URL_SAFE_NO_PAD, &STANDARD_NO_PAD];
            for decoded in engines.iter().filter_map(|engine| engine.decode(word).ok()) {
                let mut raw = decoded
                    .windows(16)
                    .filter_map(|raw| Uuid::from_slice(raw).ok());
                if let Some(uuid) = raw.find(|uuid| self.uuids.contains(uuid)) {
                    return Some(format!("the id {uuid} in base64"));
                }
                if let Some(found) = self.find_in(&decoded, sent, decodings + 1) {
                    return Some(format!("{found} in base64"));
                }
            }
        }
        None
    }
}

/// The UUIDs in a text, with or without hyphens.
pub fn uuids(text: &str) -> impl Iterator<Item = Uuid> {
    uuids_in(text.as_bytes())
}

fn uuids_in(bytes: &[u8]) -> impl Iterator<Item = Uuid> {
    const SIMPLE: usize = 32;
    const HYPHENATED: usize = 36;
    let parse = |bytes: &[u8]| Uuid::try_parse_ascii(bytes).ok();
    (0..bytes.len()).filter_map(move |at| {
        let rest = &bytes[at..];
        if !rest[0].is_ascii_hexdigit() {
            return None;
        }
        match rest.get(8) {
            Some(b'-') => parse(rest.get(..HYPHENATED)?),
            Some(byte) if byte.is_ascii_hexdigit() => parse(rest.get(..SIMPLE)?),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ID: &str = "0192f0c1-2a3b-7c4d-8e5f-60718293a4b5";

    fn canaries() -> Canaries {
        let uuid = ID.parse().unwrap();
        let strings = ["Budget 2027 \"draft\"", "project.updated"].map(str::to_owned);
        let a = TenantData {
            uuids: HashSet::from([uuid]),
            strings: strings.into(),
            ..TenantData::default()
        };
        Canaries::new(&a, &TenantData::default())
    }

    fn reply(body: &Value) -> Reply {
        Reply {
            status: 200,
            text: body.to_string(),
            body: body.clone(),
            headers: String::new(),
            is_dry_run: false,
            elapsed: Duration::ZERO,
        }
    }

    #[test]
    fn an_id_is_found_in_every_notation() {
        let uuid: Uuid = ID.parse().unwrap();
        let simple = uuid.simple().to_string();
        let cursor = serde_json::json!([1, ID]).to_string();
        for leak in [
            ID.to_owned(),
            ID.to_uppercase(),
            format!("prj_{simple}"),
            format!("abc{simple}"),
            URL_SAFE_NO_PAD.encode(cursor),
            URL_SAFE_NO_PAD.encode(uuid.as_bytes()),
            STANDARD_NO_PAD.encode([b"ab", &uuid.as_bytes()[..]].concat()),
        ] {
            let found = canaries().find(&reply(&serde_json::json!({ "x": [leak] })), &[]);
            assert!(found.is_some_and(|found| found.contains(ID)), "{leak}");
        }
        let in_a_header = Reply {
            headers: format!("etag: \"{simple}\"\n"),
            ..reply(&serde_json::json!({}))
        };
        assert!(canaries().find(&in_a_header, &[]).is_some());
        let other = Uuid::now_v7();
        let body = serde_json::json!({ "x": [other, other.simple().to_string()] });
        assert_eq!(canaries().find(&reply(&body), &[]), None);
    }

    #[test]
    fn a_distinctive_string_is_found_unless_b_sent_it() {
        let body = serde_json::json!({ "x": "the Budget 2027 \"draft\" of A" });
        assert!(canaries().find(&reply(&body), &[]).is_some());
        assert_eq!(
            canaries().find(&reply(&body), &["Budget 2027 \"draft\""]),
            None
        );
        let body = serde_json::json!({ "x": "project.updated" });
        assert_eq!(canaries().find(&reply(&body), &[]), None);
    }

    #[test]
    fn a_string_that_both_tenants_have_is_exempt_unless_it_came_with_an_id_of_a() {
        let strings = ["Same title 1"].map(str::to_owned);
        let a = TenantData {
            uuids: HashSet::from([ID.parse().unwrap()]),
            strings: strings.into(),
            ..TenantData::default()
        };
        let body = reply(&serde_json::json!({ "x": "Same title 1" }));
        let mut b = TenantData::default();
        b.rows
            .insert("own".to_owned(), r#"{"title":"Same title 1"}"#.to_owned());
        assert_eq!(Canaries::new(&a, &b).find(&body, &[]), None);
        b.uuids = a.uuids.clone();
        b.rows.insert(
            "own".to_owned(),
            format!(r#"{{"id":"{ID}","title":"Same title 1"}}"#),
        );
        assert!(Canaries::new(&a, &b).find(&body, &[]).is_some());
    }
}
