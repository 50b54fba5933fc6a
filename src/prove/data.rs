//! What a tenant can read: its rows, its ids, and values that serve as inputs.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{
    ProveError,
    client::{Client, Side},
    schema::{Field, Schema, response_key},
};

/// The rows of a page.
const PAGE: usize = 100;

/// An id of the API: the part before the UUID, such as `prj_`, and the UUID.
#[must_use]
pub fn split_id(id: &str) -> Option<(&str, Uuid)> {
    let start = id.rfind('_').map_or(0, |at| at + 1);
    let uuid = id[start..].parse().ok()?;
    Some((&id[..start], uuid))
}

/// The form in which a field takes an id.
#[must_use]
pub fn id_for(field: &Field, id: &str) -> String {
    match (field.type_name.as_str(), split_id(id)) {
        ("UUID", Some((_, uuid))) => uuid.to_string(),
        _ => id.to_owned(),
    }
}

/// A random id of the same type.
#[must_use]
pub fn random_like(id: &str) -> String {
    match split_id(id) {
        Some(("", _)) => Uuid::now_v7().to_string(),
        Some((prefix, _)) => format!("{prefix}{}", Uuid::now_v7().simple()),
        None => twin(id),
    }
}

/// A random string of the same form: each digit becomes a digit, and each letter a letter.
#[must_use]
pub fn twin(text: &str) -> String {
    let other = |c: char| match c {
        '0'..='9' => fastrand::digit(10),
        'a'..='z' => fastrand::lowercase(),
        'A'..='Z' => fastrand::uppercase(),
        other => other,
    };
    loop {
        let twin: String = text.chars().map(other).collect();
        if twin != text || !text.contains(|c: char| c.is_ascii_alphanumeric()) {
            return twin;
        }
    }
}

/// The data of a tenant, as the user with its token reads it.
#[derive(Debug, Default)]
pub struct TenantData {
    /// The JSON of each row, by the root field and, in a list, the id.
    pub rows: BTreeMap<String, String>,
    /// The ids of the rows by their type, in the order of the lists.
    pub ids: BTreeMap<String, Vec<String>>,
    /// Every UUID in the data, in ids or alone.
    pub uuids: HashSet<Uuid>,
    /// The strings that clients or users have chosen.
    pub strings: BTreeSet<String>,
    /// The number of rows of each list that was read completely, by its root field.
    pub row_counts: BTreeMap<String, usize>,
    /// The lists that have more rows than were read.
    pub unread: Vec<String>,
    /// The strings of each field, by the name of the field and its type.
    pub(super) strings_by_field: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    /// The values of each field, by the scalar type and the name of the field.
    pub(super) values: BTreeMap<(String, String), Vec<Value>>,
    /// The values of each scalar type.
    pub(super) scalars: BTreeMap<String, Vec<Value>>,
}

/// The number of values of a field that are kept.
const MAX_VALUES: usize = 20;

impl TenantData {
    /// Reads every list of the schema completely, up to `max_rows` rows of each, and every root field without
    /// arguments.
    pub async fn read(
        client: &Client,
        schema: &Schema,
        side: Side,
        max_rows: usize,
    ) -> Result<Self, ProveError> {
        let mut data = Self::default();
        for field in schema.queries() {
            if field.is_connection() {
                data.read_list(client, schema, side, field, max_rows)
                    .await?;
            } else if field.needs_no_argument() {
                let selection = schema.selection_set(&field.type_name, 2, None);
                let document = format!("{{ {} {selection} }}", field.name);
                let found = read(client, side, field, &document, &json!({})).await?;
                data.add(schema, &field.type_name, ("", &field.name), &found);
                data.rows.insert(field.name.clone(), sorted(&found));
            }
        }
        Ok(data)
    }

    async fn read_list(
        &mut self,
        client: &Client,
        schema: &Schema,
        side: Side,
        field: &Field,
        max_rows: usize,
    ) -> Result<(), ProveError> {
        let (name, row) = (&field.name, schema.row(field));
        let document = format!(
            "query($first: Int, $after: String) {{ {name}(first: $first, after: $after) {{
                nodes {{ {} }} pageInfo {{ hasNextPage endCursor }} }} }}",
            schema.selection(row, 1, None)
        );
        let (mut after, mut count) = (Value::Null, 0);
        loop {
            let variables = json!({ "first": PAGE, "after": after });
            let page = read(client, side, field, &document, &variables).await?;
            for node in page["nodes"].as_array().into_iter().flatten() {
                let id = node["id"].as_str().unwrap_or_default();
                self.add(schema, row, ("", ""), node);
                self.rows.insert(format!("{name} {id}"), sorted(node));
                count += 1;
            }
            if page["pageInfo"]["hasNextPage"] != json!(true) {
                self.row_counts.insert(name.clone(), count);
                return Ok(());
            }
            if count >= max_rows {
                self.unread.push(name.clone());
                return Ok(());
            }
            after = page["pageInfo"]["endCursor"].clone();
        }
    }

    /// Adds the values of a part of a response. `of` is its type, `field` the field that returned it, and `owner` the type
    /// with this field.
    fn add(&mut self, schema: &Schema, of: &str, (owner, field): (&str, &str), value: &Value) {
        match value {
            Value::Array(items) => {
                for item in items {
                    self.add(schema, of, (owner, field), item);
                }
            }
            Value::Object(fields) if schema.is_composite(of) => {
                let of = fields
                    .get("__typename")
                    .and_then(Value::as_str)
                    .unwrap_or(of);
                for (key, value) in fields {
                    let mut known = schema.fields(of).iter();
                    let known = known
                        .find(|field| *key == field.name || *key == response_key(&field.name, of));
                    let Some(known) = known else { continue };
                    if let ("id", Some(id)) = (key.as_str(), value.as_str()) {
                        let ids = self.ids.entry(of.to_owned()).or_default();
                        if !ids.iter().any(|known| known == id) {
                            ids.push(id.to_owned());
                        }
                    }
                    self.add(schema, &known.type_name, (of, &known.name), value);
                }
            }
            Value::Null => {}
            leaf => {
                let key = (of.to_owned(), field.to_owned());
                let of_field = self.values.entry(key).or_default();
                for values in [of_field, self.scalars.entry(of.to_owned()).or_default()] {
                    if values.len() < MAX_VALUES && !values.contains(leaf) {
                        values.push(leaf.clone());
                    }
                }
                if matches!(of, "String" | "ID" | "UUID" | "JSON") {
                    self.add_strings(leaf);
                }
                if let ("String", Some(text)) = (of, leaf.as_str())
                    && split_id(text).is_none()
                {
                    let of_field = self.strings_by_field.entry(field.to_owned()).or_default();
                    let strings = of_field.entry(owner.to_owned()).or_default();
                    if strings.len() < MAX_VALUES && !strings.iter().any(|known| known == text) {
                        strings.push(text.to_owned());
                    }
                }
            }
        }
    }

    fn add_strings(&mut self, value: &Value) {
        match value {
            Value::String(text) => match split_id(text) {
                Some((_, uuid)) => {
                    self.uuids.insert(uuid);
                }
                None => {
                    self.strings.insert(text.clone());
                }
            },
            Value::Array(items) => items.iter().for_each(|item| self.add_strings(item)),
            Value::Object(fields) => fields.values().for_each(|value| self.add_strings(value)),
            _ => {}
        }
    }

    /// A value of the field with this name and scalar type, or else a value of the scalar type.
    #[must_use]
    pub fn value(&self, field: &str, scalar: &str) -> Option<&Value> {
        let of_field = self.values.get(&(scalar.to_owned(), field.to_owned()));
        let values = of_field.or_else(|| self.scalars.get(scalar))?;
        values.get(fastrand::usize(..values.len()))
    }

    /// The types whose rows have strings in the field with this name.
    pub fn types_with_strings(&self, field: &str) -> impl Iterator<Item = &str> {
        let types = self.strings_by_field.get(field).into_iter();
        types.flat_map(|types| types.keys().map(String::as_str))
    }

    /// The strings that the rows of a type have in a field.
    pub fn strings_in(&self, of: &str, field: &str) -> impl Iterator<Item = &str> {
        let strings = self.strings_by_field.get(field);
        let strings = strings.and_then(|types| types.get(of)).into_iter();
        strings.flatten().map(String::as_str)
    }

    /// One id of each type, and its type.
    pub fn first_ids(&self) -> impl Iterator<Item = (&str, &str)> {
        let firsts = self.ids.iter();
        firsts.filter_map(|(of, ids)| Some((of.as_str(), ids.first()?.as_str())))
    }

    /// A checksum of the rows of every list.
    #[must_use]
    pub fn checksum(&self) -> String {
        let mut hash = Sha256::new();
        let rows = self.rows.iter();
        for (key, row) in rows.filter(|(key, _)| Self::is_of_list(key)) {
            hash.update(key);
            hash.update([0]);
            hash.update(row);
            hash.update([0]);
        }
        base16ct::lower::encode_string(&hash.finalize())
    }

    /// The rows that differ between two readings.
    #[must_use]
    pub fn changed_rows<'d>(&'d self, later: &'d Self) -> Vec<&'d str> {
        let keys: BTreeSet<&str> = [self, later]
            .into_iter()
            .flat_map(|data| data.rows.keys().map(String::as_str))
            .collect();
        let differs = |key: &&str| self.rows.get(*key) != later.rows.get(*key);
        keys.into_iter().filter(differs).collect()
    }

    /// Whether a row is an item of a list, and not the value of a root field.
    #[must_use]
    pub fn is_of_list(key: &str) -> bool {
        key.contains(' ')
    }
}

/// The JSON of a value. The order of the fields does not depend on that of the schema.
fn sorted(value: &Value) -> String {
    let mut value = value.clone();
    value.sort_all_objects();
    value.to_string()
}

/// Sends a query that must succeed. Returns the value of its root field.
async fn read(
    client: &Client,
    side: Side,
    field: &Field,
    document: &str,
    variables: &Value,
) -> Result<Value, ProveError> {
    let reply = client.query(side, document, variables).await?;
    if reply.code() == "INTERNAL" {
        return Err(ProveError::Failed {
            side,
            field: field.name.clone(),
            request_id: client.request_id,
        });
    }
    if reply.is_error() {
        return Err(ProveError::Unreadable {
            side,
            field: field.name.clone(),
            reason: format!("{} {}", reply.status, reply.code()),
        });
    }
    Ok(reply.body["data"][&field.name].clone())
}
