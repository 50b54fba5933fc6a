//! Writes values as JSON, without a tree of values in between.
//!
//! The engine's responses are trees of [`Value`]. A part that is already JSON is a [`Value::Binary`] in the
//! tree: no field of the schema has binary values, and [`JsonWriter::value`] writes its bytes as they are.

use async_graphql::{Response, Value};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    enums::StoredEnum,
    object::ListResolver,
    scalars::{CurrencyCode, Date, Decimal},
};
use crate::{
    entities::entities,
    error::{Error, Result},
    ids::{self, EntityId},
};

/// JSON that is being written.
#[derive(Debug, Default)]
pub struct JsonWriter {
    bytes: Vec<u8>,
}

impl JsonWriter {
    /// A writer with space for this number of bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
        }
    }

    /// Writes text that is JSON already.
    pub fn raw(&mut self, json: &[u8]) {
        self.bytes.extend_from_slice(json);
    }

    /// Writes a string.
    pub fn string(&mut self, text: &str) {
        self.serialize(text);
    }

    /// Writes a string of letters, digits and punctuation that JSON does not escape.
    pub fn plain_string(&mut self, text: &str) {
        self.bytes.reserve(text.len() + 2);
        self.bytes.push(b'"');
        self.raw(text.as_bytes());
        self.bytes.push(b'"');
    }

    /// Writes the key of a field, with the brace or the comma before it and the colon after it. A name of GraphQL
    /// needs no escapes.
    pub fn key(&mut self, is_first: bool, name: &str) {
        self.raw(if is_first { b"{\"" } else { b",\"" });
        self.raw(name.as_bytes());
        self.raw(b"\":");
    }

    /// Writes a value with its implementation of `Serialize`.
    ///
    /// # Panics
    ///
    /// If the value cannot be JSON, such as a map whose keys are not strings.
    pub fn serialize<T: serde::Serialize + ?Sized>(&mut self, value: &T) {
        serde_json::to_writer(&mut self.bytes, value)
            .expect("BUG: a value of the API cannot be written as JSON");
    }

    /// Writes a tree of values.
    pub fn value(&mut self, value: &Value) {
        match value {
            Value::Binary(json) => self.raw(json),
            Value::List(items) => {
                self.bytes.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        self.bytes.push(b',');
                    }
                    self.value(item);
                }
                self.bytes.push(b']');
            }
            Value::Object(fields) => {
                self.bytes.push(b'{');
                for (index, (name, value)) in fields.iter().enumerate() {
                    if index > 0 {
                        self.bytes.push(b',');
                    }
                    self.serialize(name.as_str());
                    self.bytes.push(b':');
                    self.value(value);
                }
                self.bytes.push(b'}');
            }
            leaf => self.serialize(leaf),
        }
    }

    /// The number of bytes that were written.
    #[must_use]
    #[expect(
        clippy::len_without_is_empty,
        reason = "positions in the text are compared, never emptiness"
    )]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Removes what was written after the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    /// The written bytes.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// The bytes of a value as JSON: exact for strings, and an estimate for the rest.
#[must_use]
pub fn estimated_bytes(value: &Value) -> usize {
    const SHORT_VALUE_BYTES: usize = 8;
    match value {
        Value::String(text) => {
            let escaped = text.bytes().map(|byte| match byte {
                b'"' | b'\\' | b'\n' | b'\r' | b'\t' | b'\x08' | b'\x0c' => 2,
                0..b' ' => r"\u0001".len(),
                _ => 1,
            });
            2 + escaped.sum::<usize>()
        }
        Value::List(items) => items.iter().map(estimated_bytes).sum(),
        Value::Object(fields) => {
            let fields = fields.iter();
            fields
                .map(|(name, value)| name.len() + estimated_bytes(value))
                .sum()
        }
        Value::Binary(json) => json.len(),
        _ => SHORT_VALUE_BYTES,
    }
}

/// A response as JSON.
#[must_use]
pub fn write_response(response: &Response) -> Vec<u8> {
    let mut json = JsonWriter::with_capacity(size_hint(&response.data));
    json.raw(b"{\"data\":");
    json.value(&response.data);
    if !response.extensions.is_empty() {
        json.raw(b",\"extensions\":");
        for (index, (name, value)) in response.extensions.iter().enumerate() {
            json.key(index == 0, name);
            json.value(value);
        }
        json.raw(b"}");
    }
    if !response.errors.is_empty() {
        json.raw(b",\"errors\":");
        json.serialize(&response.errors);
    }
    json.raw(b"}");
    json.into_bytes()
}

/// The estimated number of bytes of a response without its data.
const RESPONSE_FRAME_BYTES: usize = 256;

/// The number of bytes to reserve for a response: those of the parts that are JSON already, and of the rest.
fn size_hint(data: &Value) -> usize {
    let Value::Object(fields) = data else {
        return RESPONSE_FRAME_BYTES;
    };
    let parts = fields.values().map(|value| match value {
        Value::Binary(json) => json.len(),
        _ => 0,
    });
    RESPONSE_FRAME_BYTES + parts.sum::<usize>()
}

/// Turns a value that is JSON already into a tree of values.
///
/// # Panics
///
/// If its bytes are not JSON.
pub fn expand(value: &mut Value) {
    if let Value::Binary(json) = value {
        *value = serde_json::from_slice(json).expect("BUG: a part of a response is not JSON");
    }
}

/// A type whose values are written as JSON exactly as the engine would write them.
pub trait WriteJson {
    /// Writes the value. Errors: the value cannot be read, for example because its column was not fetched.
    fn write_json(&self, writer: &mut JsonWriter) -> Result<()>;
}

impl<T: WriteJson> WriteJson for Option<T> {
    fn write_json(&self, writer: &mut JsonWriter) -> Result<()> {
        if let Some(value) = self {
            return value.write_json(writer);
        }
        writer.raw(b"null");
        Ok(())
    }
}

/// Implements [`WriteJson`] for types whose values can always be written.
macro_rules! write_json {
    ($($type:ty: $value:ident, $writer:ident => $write:expr;)+) => {
        $(impl WriteJson for $type {
            fn write_json(&self, $writer: &mut JsonWriter) -> Result<()> {
                let $value = self;
                $write;
                Ok(())
            }
        })+
    };
}

write_json! {
    String: value, writer => writer.string(value);
    i32: value, writer => writer.serialize(value);
    bool: value, writer => writer.serialize(value);
    Uuid: value, writer => writer.plain_string(value.hyphenated().encode_lower(&mut Uuid::encode_buffer()));
    DateTime<Utc>: value, writer => writer.plain_string(&value.to_rfc3339());
    Date: value, writer => writer.plain_string(&value.0.to_string());
    Decimal: value, writer => writer.plain_string(&value.0.to_string());
    CurrencyCode: value, writer => writer.string(value.as_str());
}

impl<E: StoredEnum> WriteJson for E {
    fn write_json(&self, writer: &mut JsonWriter) -> Result<()> {
        let items = Self::items().iter();
        let mut names = items
            .filter(|item| item.value == *self)
            .map(|item| item.name);
        let unnamed = || Error::Internal("an enum value has no name".into());
        writer.plain_string(names.next().ok_or_else(unnamed)?);
        Ok(())
    }
}

/// The bytes of an ID as JSON: a prefix of three letters, an underscore, 32 digits and two quotes.
const ID_BYTES: usize = 38;

/// Writes an ID: `prj_` and 32 hexadecimal digits.
fn write_id<I: EntityId>(id: I, writer: &mut JsonWriter) {
    let mut json = [b'"'; ID_BYTES];
    json[1..4].copy_from_slice(I::PREFIX.as_bytes());
    json[4] = b'_';
    id.uuid().simple().encode_lower(&mut json[5..]);
    writer.raw(&json);
}

macro_rules! write_ids {
    (audited { $($audited:tt)+ } unaudited { $($unaudited:tt)+ }) => {
        write_ids! { @each $($audited)+ $($unaudited)+ }
    };
    (@each $($(#[$doc:meta])* $row:ident: $id:ident = $prefix:literal in $table:literal of $slice:ident;)+) => {
        write_json! { $(ids::$id: id, writer => write_id(*id, writer);)+ }
    };
}
entities!(write_ids);

/// Writes a field of an object as JSON. Errors: its column was not fetched.
pub type FieldWriter<T> = fn(&T, &mut JsonWriter) -> Result<()>;

/// An object type. A plain field returns a value of the struct unchanged and can be written without the engine. The
/// other fields have resolvers.
pub trait PlainFields: Sized {
    /// The function that writes a field; `None` if the field is not a plain field.
    #[must_use]
    fn writer(field: &str) -> Option<FieldWriter<Self>> {
        let _ = field;
        None
    }

    /// The function that resolves a list; `None` if the type does not have a list with this name.
    #[must_use]
    fn list_resolver(field: &str) -> Option<ListResolver<Self>> {
        let _ = field;
        None
    }
}

/// Declares the plain fields of an object type: `plain_fields!(Money { amount, currency_code })`.
/// With `lists in Trait`, the lists of the type are those that this trait declares.
macro_rules! plain_fields {
    ($type:ident { $($column:ident $(as $field:literal)?),* $(,)? } $(lists in $lists:path)?) => {
        impl $crate::graphql::json::PlainFields for $type {
            fn writer(field: &str) -> Option<$crate::graphql::json::FieldWriter<Self>> {
                $(
                    if $crate::graphql::json::is_plain_field!(field, $column $(as $field)?) {
                        return Some(|object, writer| {
                            $crate::graphql::json::WriteJson::write_json(&object.$column, writer)
                        });
                    }
                )*
                None
            }

            $(
                fn list_resolver(field: &str) -> Option<$crate::graphql::object::ListResolver<Self>> {
                    <Self as $lists>::list_resolver(field)
                }
            )?
        }
    };
}
pub(crate) use plain_fields;

/// Whether a field of the API returns this field of the struct.
macro_rules! is_plain_field {
    ($name:ident, $column:ident) => {
        $crate::graphql::entity::is_field(stringify!($column), $name)
    };
    ($name:ident, $column:ident as $field:literal) => {
        $name == $field
    };
}
pub(crate) use is_plain_field;

#[cfg(test)]
mod tests {
    use async_graphql::{InputType, ScalarType, resolver_utils::enum_value};
    use chrono::TimeZone as _;

    use super::*;
    fn written(value: &impl WriteJson) -> String {
        let mut writer = JsonWriter::default();
        value.write_json(&mut writer).unwrap();
        String::from_utf8(writer.into_bytes()).unwrap()
    }

    fn serialized(value: &Value) -> String {
        serde_json::to_string(value).unwrap()
    }

    fn assert_same(value: &(impl WriteJson + InputType)) {
        assert_eq!(written(value), serialized(&value.to_value()));
    }

    #[test]
    fn each_type_is_written_as_the_engine_writes_it() {
        for text in [
            "",
            "plain",
            "\"quoted\" \\ / \u{8}\n\t\u{1}\u{7f}",
            "über ✓ 🦀 \u{2028}",
        ] {
            assert_same(&text.to_owned());
            assert_same(&Some(text.to_owned()));
        }
        assert_same(&None::<String>);
        for number in [0, -1, i32::MAX, i32::MIN] {
            assert_same(&number);
        }
        assert_same(&true);
        assert_same(&Uuid::now_v7());
        assert_same(&ids::ProjectId::generate());
        for micros in [0, 1, 120_000, 999_999, 1_000_000, -1] {
            let seconds = 1_790_000_000 + micros;
            assert_same(&Utc.timestamp_micros(seconds * 1_000_001).unwrap());
            assert_same(&Utc.timestamp_micros(micros).unwrap());
        }
        for date in ["2026-02-28", "0001-01-01", "9999-12-31"] {
            let date = Date::read(date).unwrap();
            assert_eq!(written(&date), serialized(&InputType::to_value(&date)));
        }
        for amount in ["0", "-1.50", "79228162514264337593543950335", "0.0001"] {
            let amount = Decimal(amount.parse().unwrap());
            assert_eq!(written(&amount), serialized(&ScalarType::to_value(&amount)));
        }
        let euro = CurrencyCode::from("EUR");
        assert_eq!(written(&euro), serialized(&ScalarType::to_value(&euro)));
    }

    #[test]
    fn the_bytes_of_a_string_are_those_of_its_json() {
        let all: String = (0..=127).map(char::from).collect();
        for text in [String::new(), all, "\u{1}".repeat(43), "ü\"".repeat(100)] {
            let value = Value::String(text);
            assert_eq!(estimated_bytes(&value), serialized(&value).len());
        }
    }

    #[test]
    fn each_enum_is_written_under_its_name_in_the_schema() {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, async_graphql::Enum)]
        enum Shade {
            LightGrey,
            #[graphql(name = "INK")]
            Black,
        }
        impl StoredEnum for Shade {}

        for (shade, name) in [(Shade::LightGrey, "LIGHT_GREY"), (Shade::Black, "INK")] {
            assert_eq!(written(&shade), format!("\"{name}\""));
            assert_eq!(written(&shade), serialized(&enum_value(shade)));
        }
    }
}
