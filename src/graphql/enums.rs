//! Enums whose values the database stores as strings.

use async_graphql::resolver_utils::EnumType;

/// An enum whose values the database stores under their GraphQL names: `ON_HOLD` for `OnHold`.
pub trait StoredEnum: EnumType {
    /// The string that the database stores.
    fn as_str(self) -> &'static str {
        Self::items()
            .iter()
            .find(|item| item.value == self)
            .map(|item| item.name)
            .expect("BUG: an enum value has no name")
    }
}
