//! Enums whose values the database stores as strings.

use async_graphql::resolver_utils::EnumType;

/// An enum whose values the database stores under their GraphQL names: `ON_HOLD` for `OnHold`.
pub trait StoredEnum: EnumType {
    /// The value for stored strings that match no other value, if the enum has such a value.
    const UNKNOWN: Option<Self> = None;

    /// The string that the database stores.
    fn as_str(self) -> &'static str {
        Self::items()
            .iter()
            .find(|item| item.value == self)
            .map(|item| item.name)
            .expect("BUG: an enum value has no name")
    }

    /// The value that the database stores as this string; `None` if no known value matches.
    #[must_use]
    fn from_stored(stored: &str) -> Option<Self> {
        Self::known().find(|value| value.as_str() == stored)
    }

    /// Every value except [`StoredEnum::UNKNOWN`].
    #[must_use]
    fn known() -> impl Iterator<Item = Self> {
        let values = Self::items().iter().map(|item| item.value);
        values.filter(|value| Some(*value) != Self::UNKNOWN)
    }
}
