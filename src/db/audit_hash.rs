//! The hashes of the audit log, computed from plain columns.
//!
//! The invariant: **the service computes every hash itself.** The functions `app.audit_row_hash` and
//! `app.audit_seal_hash` define the hashes, but a person who owns the schema can replace them. So the strings that
//! they hash are built here, byte for byte as PostgreSQL builds them.

use serde::Serialize as _;
use sha2::{Digest as _, Sha256};
use sqlx::{
    Decode, Postgres, Type,
    error::BoxDynError,
    postgres::{PgTypeInfo, PgValueFormat, PgValueRef},
};
use uuid::Uuid;

/// A `timestamptz`: the microseconds since 2000-01-01. The smallest and the largest value are `-infinity` and
/// `infinity`, which `DateTime` cannot represent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Timestamp(pub(super) i64);

impl Timestamp {
    const MICROS_PER_DAY: i64 = 86_400_000_000;
    /// The microseconds from 1970-01-01 to 2000-01-01.
    const EPOCH: i128 = 946_684_800_000_000;

    /// The same time one day earlier. An infinite time does not change.
    pub(super) fn a_day_before(self) -> Self {
        match self.0 {
            i64::MIN | i64::MAX => self,
            micros => Self(micros.saturating_sub(Self::MICROS_PER_DAY)),
        }
    }

    /// `extract(epoch from …)::text`: the seconds since 1970 with six decimals. PostgreSQL rounds the result after the
    /// year 294246, which no clock reaches.
    fn epoch(self) -> String {
        match self.0 {
            i64::MIN => return "-Infinity".to_owned(),
            i64::MAX => return "Infinity".to_owned(),
            _ => {}
        }
        let micros = i128::from(self.0) + Self::EPOCH;
        let sign = if micros < 0 { "-" } else { "" };
        let micros = micros.unsigned_abs();
        format!("{sign}{}.{:06}", micros / 1_000_000, micros % 1_000_000)
    }
}

impl Type<Postgres> for Timestamp {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("timestamptz")
    }
}

impl<'r> Decode<'r, Postgres> for Timestamp {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        require_binary(&value)?;
        Ok(Self(i64::from_be_bytes(value.as_bytes()?.try_into()?)))
    }
}

/// A `jsonb` value as the string that PostgreSQL writes for it.
#[derive(Clone, Debug)]
pub(super) struct JsonbString(pub(super) String);

impl Type<Postgres> for JsonbString {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("jsonb")
    }
}

impl<'r> Decode<'r, Postgres> for JsonbString {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        require_binary(&value)?;
        // The version of the format, which is 1, then the string.
        match value.as_bytes()? {
            [1, json @ ..] => Ok(Self(std::str::from_utf8(json)?.to_owned())),
            _ => Err("this version of the jsonb format is unknown".into()),
        }
    }
}

fn require_binary(value: &PgValueRef<'_>) -> Result<(), BoxDynError> {
    match value.format() {
        PgValueFormat::Binary => Ok(()),
        PgValueFormat::Text => Err("the value is not in the binary format".into()),
    }
}

/// The values of a JSON array, as `jsonb_build_array(…)::text` writes them.
#[derive(Debug, Default)]
struct JsonArray(Vec<u8>);

impl JsonArray {
    fn raw(mut self, value: Option<&str>) -> Self {
        let separator: &[u8] = if self.0.is_empty() { b"[" } else { b", " };
        self.0.extend_from_slice(separator);
        self.0.extend_from_slice(value.unwrap_or("null").as_bytes());
        self
    }

    /// Both PostgreSQL and `serde_json` escape only quotes, backslashes and the characters below U+0020, and in
    /// the same way.
    fn string(self, value: Option<&str>) -> Self {
        let Some(value) = value else {
            return self.raw(None);
        };
        let mut array = self.raw(Some(""));
        value
            .serialize(&mut serde_json::Serializer::new(&mut array.0))
            .expect("a string is always valid JSON");
        array
    }

    fn uuid(self, value: Option<Uuid>) -> Self {
        let mut buffer = Uuid::encode_buffer();
        self.string(value.map(|value| &*value.hyphenated().encode_lower(&mut buffer)))
    }

    fn timestamp(self, value: Option<Timestamp>) -> Self {
        self.string(value.map(Timestamp::epoch).as_deref())
    }

    fn integer(self, value: i32) -> Self {
        self.raw(Some(&value.to_string()))
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.push(b']');
        self.0
    }
}

/// The columns of `audit_logs` that the hash of a row covers. Null in a column that must not be null is hashed
/// like any other value, so that it is found as a change.
#[derive(Clone, Debug)]
pub(super) struct RowContent {
    pub(super) tenant_id: Uuid,
    pub(super) id: Uuid,
    pub(super) occurred_at: Option<Timestamp>,
    pub(super) action: Option<String>,
    pub(super) actor_id: Option<Uuid>,
    pub(super) subject_type: Option<String>,
    pub(super) subject_id: Option<Uuid>,
    pub(super) project_id: Option<Uuid>,
    pub(super) changes: Option<JsonbString>,
    pub(super) operation_name: Option<String>,
    pub(super) request_id: Option<Uuid>,
}

impl RowContent {
    /// `app.audit_row_hash`.
    pub(super) fn hash(&self) -> Vec<u8> {
        let columns = JsonArray::default()
            .uuid(Some(self.tenant_id))
            .uuid(Some(self.id))
            .timestamp(self.occurred_at)
            .string(self.action.as_deref())
            .uuid(self.actor_id)
            .string(self.subject_type.as_deref())
            .uuid(self.subject_id)
            .uuid(self.project_id)
            .raw(self.changes.as_ref().map(|changes| &*changes.0))
            .string(self.operation_name.as_deref())
            .uuid(self.request_id)
            .finish();
        Sha256::digest(columns).to_vec()
    }
}

/// The columns of `audit_seals` that the hash of a seal covers.
#[derive(Clone, Debug)]
pub(super) struct SealContent<'a> {
    pub(super) tenant_id: Uuid,
    pub(super) id: Uuid,
    pub(super) number: i32,
    pub(super) sealed_at: Timestamp,
    pub(super) latest: Timestamp,
    pub(super) rows: i32,
    pub(super) previous_hash: Option<&'a [u8]>,
}

impl SealContent<'_> {
    /// `app.audit_seal_hash` of the seal and its entries, which are in the order of their ids.
    pub(super) fn hash(&self, ids: &[Uuid], hashes: &[Option<Vec<u8>>]) -> Vec<u8> {
        let previous_hash = self.previous_hash.map(base16ct::lower::encode_string);
        let columns = JsonArray::default()
            .uuid(Some(self.tenant_id))
            .uuid(Some(self.id))
            .integer(self.number)
            .timestamp(Some(self.sealed_at))
            .timestamp(Some(self.latest))
            .integer(self.rows)
            .string(previous_hash.as_deref())
            .finish();
        let mut digest = Sha256::new_with_prefix(columns);
        for (id, hash) in ids.iter().zip(hashes) {
            digest.update(id.as_bytes());
            digest.update(hash.as_deref().unwrap_or_default());
        }
        digest.finalize().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_written_as_by_extract() {
        for (micros, expected) in [
            (i64::MIN, "-Infinity"),
            (i64::MAX, "Infinity"),
            (0, "946684800.000000"),
            (-946_684_800_000_000, "0.000000"),
            (-946_684_800_000_001, "-0.000001"),
            (-946_684_801_500_000, "-1.500000"),
        ] {
            assert_eq!(Timestamp(micros).epoch(), expected);
        }
    }

    #[test]
    fn an_infinite_time_has_no_day_before() {
        assert_eq!(Timestamp(i64::MAX).a_day_before(), Timestamp(i64::MAX));
        assert_eq!(Timestamp(i64::MIN).a_day_before(), Timestamp(i64::MIN));
        assert_eq!(Timestamp(0).a_day_before(), Timestamp(-86_400_000_000));
    }

    #[test]
    fn an_array_is_written_as_by_jsonb_build_array() {
        let array = JsonArray::default()
            .string(Some("a\"\\/\u{8}\u{c}\n\r\t\u{1}\u{1f}\u{7f}é"))
            .string(None)
            .integer(-7)
            .raw(Some(r#"[{"a": 1}]"#))
            .uuid(Some(Uuid::max()))
            .finish();
        assert_eq!(
            String::from_utf8(array).unwrap(),
            "[\"a\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\u{7f}é\", null, -7, [{\"a\": 1}], \
             \"ffffffff-ffff-ffff-ffff-ffffffffffff\"]"
        );
    }
}
