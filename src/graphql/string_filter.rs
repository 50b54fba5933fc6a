//! Filters of strings: `StringFilter` for short strings, which have indexes, and `TextFilter` for long strings.

use std::{borrow::Cow, marker::PhantomData};

use async_graphql::{
    InputObject, InputType, InputValueError, InputValueResult, registry::Registry,
};

use super::filter::{ColumnFilter, Comparisons, bounded};
use crate::{
    db::filter::{Comparison, Filter, Letters, Value},
    error::{Error, Result},
};

/// The maximum number of characters of a string in a filter.
const MAX_STRING_LENGTH: usize = 1_000;
/// The maximum number of characters of a string to find in a long string. No index serves such a search, so PostgreSQL
/// may compare this number of characters at each position of each row.
const MAX_SEARCH_LENGTH: usize = 100;
/// The number of comparisons that a search in a long string counts as.
pub(super) const SEARCH_WEIGHT: usize = 20;

fn check_string(text: &str, max_length: usize) -> Result<()> {
    if text.contains('\0') {
        return Err(Error::invalid(
            "filter",
            "a string must not contain the character U+0000",
        ));
    }
    if text.chars().count() > max_length {
        return Err(Error::invalid(
            "filter",
            format!("a string must have at most {max_length} characters for this operator"),
        ));
    }
    Ok(())
}

/// Compares a string. `contains` and the operators with `IgnoreCase` in their names ignore case. The other operators are
/// case-sensitive. All given operators must match.
#[derive(Clone, Debug, InputObject)]
#[graphql(name = "StringFilter")]
struct StringFilterInput {
    /// Equals this string.
    eq: Option<String>,
    /// Does not equal this string, or is null.
    ne: Option<String>,
    /// Equals one of these strings; at most 100.
    #[graphql(name = "in")]
    any: Option<Vec<String>>,
    /// Equals this string. Ignores case.
    equals_ignore_case: Option<String>,
    /// Starts with this string.
    starts_with: Option<String>,
    /// Starts with this string. Ignores case.
    starts_with_ignore_case: Option<String>,
    /// Contains this string. Ignores case. Uses no index: the database reads all rows of the tenant.
    contains: Option<String>,
    /// If true, the value must be null. If false, the value must not be null.
    is_null: Option<bool>,
}

/// The type parameter of [`StringFilter`]: which letters the strings of the column can have.
pub trait LettersOf: Clone + std::fmt::Debug + Send + Sync + 'static {
    /// The letters.
    const LETTERS: Letters;
}

macro_rules! letters {
    ($($(#[$doc:meta])* $name:ident = $letters:ident),+ $(,)?) => {
        $($(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl LettersOf for $name {
            const LETTERS: Letters = Letters::$letters;
        })+
    };
}
letters! {
    /// Any letters: a name or a title. The table has a generated column `<column>_folded` with an index.
    MixedCase = Mixed,
    /// No uppercase letters: a slug. The column has the collation `C` and an index.
    LowerCase = Lower,
    /// Only uppercase ASCII letters: a code. The column has the collation `C` and an index.
    UpperCase = Upper,
}

/// Compares a string. For clients, there is one input type for every `L`.
#[derive(Clone, Debug)]
pub struct StringFilter<L = MixedCase> {
    input: StringFilterInput,
    letters: PhantomData<L>,
}

impl<L: LettersOf> InputType for StringFilter<L> {
    type RawValueType = Self;

    fn type_name() -> Cow<'static, str> {
        StringFilterInput::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        StringFilterInput::create_type_info(registry)
    }

    fn parse(value: Option<async_graphql::Value>) -> InputValueResult<Self> {
        let input = StringFilterInput::parse(value).map_err(InputValueError::propagate)?;
        Ok(Self {
            input,
            letters: PhantomData,
        })
    }

    fn to_value(&self) -> async_graphql::Value {
        self.input.to_value()
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }
}

/// Checks a string to compare with. Errors: the string is too long or contains U+0000.
fn string(given: Option<String>) -> Result<Option<Value>> {
    given
        .map(|given| check_string(&given, MAX_STRING_LENGTH).map(|()| Value::Text(given)))
        .transpose()
}

impl<L: LettersOf> ColumnFilter for StringFilter<L> {
    fn on(self, column: &'static str) -> Result<Vec<Filter>> {
        let input = self.input;
        let any = input.any.map(bounded).transpose()?;
        for one in any.iter().flatten() {
            check_string(one, MAX_STRING_LENGTH)?;
        }
        let letters = L::LETTERS;
        Ok(Comparisons::on(column)
            .is(Comparison::Eq, string(input.eq)?)
            .is(Comparison::Ne, string(input.ne)?)
            .any(any.map(Value::Texts))
            .is(
                Comparison::EqIgnoreCase(letters),
                string(input.equals_ignore_case)?,
            )
            .is(Comparison::StartsWith(letters), string(input.starts_with)?)
            .is(
                Comparison::StartsWithIgnoreCase(letters),
                string(input.starts_with_ignore_case)?,
            )
            .is(Comparison::Contains(letters), string(input.contains)?)
            .null(input.is_null)
            .parts)
    }
}

/// Searches a long string. The search uses no index. A search counts as 20 of the 100 comparisons of a filter.
#[derive(Clone, Debug, Default, InputObject)]
pub struct TextFilter {
    /// Contains this string of at most 100 characters. Ignores case. Uses no index: the database reads all rows of the
    /// tenant.
    pub contains: Option<String>,
}

impl ColumnFilter for TextFilter {
    const WEIGHT: usize = SEARCH_WEIGHT;

    fn on(self, column: &'static str) -> Result<Vec<Filter>> {
        let contains = Comparison::Contains(Letters::Unindexed);
        if let Some(search) = &self.contains {
            check_string(search, MAX_SEARCH_LENGTH)?;
        }
        Ok(Comparisons::on(column)
            .is(contains, self.contains.map(Value::Text))
            .parts)
    }
}
