//! Typed IDs: a UUID in the database, `prj_…` in the API. The type system keeps IDs of different entities apart.

use std::{fmt, str::FromStr};

use uuid::Uuid;

use crate::entities::entities;

/// The ID of a row of one entity.
pub trait EntityId:
    Copy + Eq + Ord + std::hash::Hash + fmt::Debug + fmt::Display + Send + Sync + From<Uuid> + 'static
{
    /// The prefix before the underscore: three letters, unique among all entities.
    const PREFIX: &'static str;
    /// The GraphQL type of the row, for messages.
    const TYPE: &'static str;
    /// The table of the row.
    const TABLE: &'static str;

    /// The UUID as the database stores it.
    fn uuid(self) -> Uuid;
}

/// The error for a string that is not an ID of the expected entity. Its message is for clients.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{quoted} is not an ID of the type {expected}: {}", self.hint())]
pub struct InvalidId {
    quoted: String,
    expected: &'static str,
    prefix: &'static str,
    /// The type of the ID, if it is an ID of another type.
    found: Option<&'static str>,
}

impl InvalidId {
    fn hint(&self) -> String {
        match self.found {
            Some(found) => format!("it is an ID of the type {found}"),
            None => format!("expected {}_ and 32 hexadecimal digits", self.prefix),
        }
    }
}

/// The maximum number of characters of an invalid ID in a message.
const MAX_QUOTED_CHARS: usize = 60;

/// An invalid ID as the messages quote it. Long ones are cut.
#[must_use]
pub fn quote_id(text: &str) -> String {
    let mut rest = text.chars();
    let shown: String = rest.by_ref().take(MAX_QUOTED_CHARS).collect();
    let ellipsis = if rest.next().is_some() { "…" } else { "" };
    format!("\"{}{ellipsis}\"", shown.escape_debug())
}

/// Parses `<prefix>_<32 lower-case hex digits>`. An ID has only one spelling, so that clients can compare IDs as
/// strings.
fn parse<I: EntityId>(text: &str) -> Result<I, InvalidId> {
    uuid_after(I::PREFIX, text)
        .map(I::from)
        .ok_or_else(|| InvalidId {
            quoted: quote_id(text),
            expected: I::TYPE,
            prefix: I::PREFIX,
            found: type_of(text),
        })
}

/// The UUID of an ID with this prefix.
fn uuid_after(prefix: &str, text: &str) -> Option<Uuid> {
    let digits = text.strip_prefix(prefix)?.strip_prefix('_')?;
    let is_exact = digits.len() == 32 && !digits.bytes().any(|b| b.is_ascii_uppercase());
    Uuid::try_parse(digits).ok().filter(|_| is_exact)
}

/// Maps an ID type to the GraphQL scalar `ID`, in inputs and in outputs.
macro_rules! id_scalar {
    ($id:ident) => {
        impl async_graphql::InputType for $id {
            type RawValueType = Self;

            fn type_name() -> std::borrow::Cow<'static, str> {
                <async_graphql::ID as async_graphql::InputType>::type_name()
            }

            fn create_type_info(registry: &mut async_graphql::registry::Registry) -> String {
                <async_graphql::ID as async_graphql::InputType>::create_type_info(registry)
            }

            fn parse(value: Option<async_graphql::Value>) -> async_graphql::InputValueResult<Self> {
                match value {
                    Some(async_graphql::Value::String(text)) => text
                        .parse()
                        .map_err(|error: InvalidId| async_graphql::InputValueError::custom(error)),
                    other => Err(async_graphql::InputValueError::expected_type(
                        other.unwrap_or_default(),
                    )),
                }
            }

            fn to_value(&self) -> async_graphql::Value {
                async_graphql::Value::String(self.to_string())
            }

            fn as_raw_value(&self) -> Option<&Self> {
                Some(self)
            }
        }

        impl async_graphql::OutputType for $id {
            fn type_name() -> std::borrow::Cow<'static, str> {
                <async_graphql::ID as async_graphql::OutputType>::type_name()
            }

            fn create_type_info(registry: &mut async_graphql::registry::Registry) -> String {
                <async_graphql::ID as async_graphql::OutputType>::create_type_info(registry)
            }

            async fn resolve(
                &self,
                _: &async_graphql::ContextSelectionSet<'_>,
                _: &async_graphql::Positioned<async_graphql::parser::types::Field>,
            ) -> async_graphql::ServerResult<async_graphql::Value> {
                Ok(async_graphql::Value::String(self.to_string()))
            }
        }
    };
}

macro_rules! ids {
    (audited { $($audited:tt)+ } unaudited { $($unaudited:tt)+ }) => {
        ids! { @each $($audited)+ $($unaudited)+ }
        ids! { @types $($audited)+ $($unaudited)+ }
    };
    (@types $($(#[$doc:meta])* $row:ident: $name:ident = $prefix:literal in $table:literal of $slice:ident;)+) => {
        /// The type of an ID.
        fn type_of(text: &str) -> Option<&'static str> {
            let types = [$(($prefix, stringify!($row))),+];
            let mut types = types.into_iter();
            types.find_map(|(prefix, name)| uuid_after(prefix, text).map(|_| name))
        }
    };
    (@each $($(#[$doc:meta])* $row:ident: $name:ident = $prefix:literal in $table:literal of $slice:ident;)+) => {
        $(
            #[doc = concat!("The ID of a row of `", $table, "`: `", $prefix, "_…` in the API.")]
            #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
            #[sqlx(transparent)]
            pub struct $name(Uuid);

            impl $name {
                /// A new ID with the current time in milliseconds (UUID version 7), so that IDs sort by creation.
                #[must_use]
                pub fn generate() -> Self {
                    Self(Uuid::now_v7())
                }
            }

            impl EntityId for $name {
                const PREFIX: &'static str = $prefix;
                const TYPE: &'static str = stringify!($row);
                const TABLE: &'static str = $table;

                fn uuid(self) -> Uuid {
                    self.0
                }
            }

            impl From<Uuid> for $name {
                fn from(uuid: Uuid) -> Self {
                    Self(uuid)
                }
            }

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    write!(f, concat!($prefix, "_{}"), self.0.simple())
                }
            }

            impl FromStr for $name {
                type Err = InvalidId;

                fn from_str(text: &str) -> Result<Self, InvalidId> {
                    parse(text)
                }
            }

            id_scalar!($name);
        )+
    };
}

entities!(ids);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_parses_from_its_string() {
        let id = ProjectId::generate();
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn an_invalid_id_is_quoted_and_its_type_is_named() {
        let message = |text: &str| text.parse::<ProjectId>().map_err(|error| error.to_string());
        let user = UserId::from(Uuid::nil()).to_string();
        let long = "\u{0}".repeat(100);
        for (text, expected) in [
            (
                &*user,
                format!("\"{user}\" is not an ID of the type Project: it is an ID of the type User"),
            ),
            (
                "usr_1",
                "\"usr_1\" is not an ID of the type Project: expected prj_ and 32 hexadecimal digits"
                    .to_owned(),
            ),
            (
                &*long,
                format!(
                    "\"{}…\" is not an ID of the type Project: expected prj_ and 32 hexadecimal digits",
                    "\\0".repeat(60)
                ),
            ),
        ] {
            assert_eq!(message(text), Err(expected));
        }
    }

    #[test]
    fn every_other_spelling_is_rejected() {
        let id = ProjectId::generate();
        let digits = id.uuid().simple().to_string();
        for wrong in [
            String::new(),
            "prj_".to_owned(),
            digits.clone(),
            id.uuid().to_string(),
            format!("usr_{digits}"),
            format!(
                "prj_{}",
                digits.to_uppercase().replace(char::is_numeric, "A")
            ),
            format!("prj_{}", id.uuid()),
            format!("prj_{digits}0"),
            format!(" prj_{digits}"),
            "prj_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz".to_owned(),
        ] {
            assert!(
                wrong.parse::<ProjectId>().is_err(),
                "{wrong:?} was parsed as an ID"
            );
        }
    }
}
