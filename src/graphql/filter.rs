//! Filters: typed operators for each kind of column, and the macro with which a slice declares its filter.

use std::{borrow::Cow, str::FromStr};

use async_graphql::{
    ID, InputObject, InputType, InputValueError, InputValueResult, registry::Registry,
};

use super::string_filter::SEARCH_WEIGHT;
pub use super::string_filter::{LowerCase, MixedCase, StringFilter, TextFilter, UpperCase};
use super::{
    enums::StoredEnum,
    generic_input::{self, Fields, field},
    scalars::{Date, Timestamp},
};
use crate::{
    db::filter::{Column, Comparison, Filter, Value},
    error::{Error, Result},
    ids::{EntityId, InvalidId},
};

/// The maximum number of values in an `in`.
pub const MAX_VALUES: usize = 100;
/// The maximum number of comparisons in one filter, including nested filters.
pub const MAX_COMPARISONS: usize = 100;
/// The filter of a list, as the client sends it.
pub trait FilterInput: InputType + std::fmt::Debug {
    /// Converts the filter into a condition for the database. Errors: too many values or comparisons, an invalid
    /// string.
    fn filter(self) -> Result<Filter> {
        let mut left = MAX_COMPARISONS;
        self.parts(&mut left)
    }

    /// Like [`FilterInput::filter`], with at most `left` comparisons. Subtracts the number of used comparisons from
    /// `left`.
    fn parts(self, left: &mut usize) -> Result<Filter>;
}

/// The comparisons of one column, combined with AND.
pub trait ColumnFilter {
    /// The number of comparisons that each of its comparisons counts as.
    const WEIGHT: usize = 1;

    /// Converts the comparisons into conditions on a column.
    fn on(self, column: &'static str) -> Result<Vec<Filter>>;
}

/// Subtracts `comparisons` from the number that a filter may still use. Errors: the number is exceeded.
pub fn take(left: &mut usize, comparisons: usize) -> Result<()> {
    *left = left.checked_sub(comparisons).ok_or_else(|| {
        Error::invalid(
            "filter",
            format!(
                "must have at most {MAX_COMPARISONS} comparisons; a search in a long string counts as \
                 {SEARCH_WEIGHT}"
            ),
        )
    })?;
    Ok(())
}

pub(super) fn bounded<T>(values: Vec<T>) -> Result<Vec<T>> {
    if values.len() > MAX_VALUES {
        return Err(Error::invalid(
            "filter",
            format!("`in` must have at most {MAX_VALUES} values"),
        ));
    }
    Ok(values)
}

/// Collects the comparisons that the client gave.
pub(super) struct Comparisons {
    column: &'static str,
    pub(super) parts: Vec<Filter>,
}

impl Comparisons {
    pub(super) fn on(column: &'static str) -> Self {
        Self {
            column,
            parts: Vec::new(),
        }
    }

    pub(super) fn is(mut self, comparison: Comparison, value: Option<Value>) -> Self {
        self.parts
            .extend(value.map(|value| Filter::Compare(self.column, comparison, value)));
        self
    }

    pub(super) fn any(mut self, values: Option<Value>) -> Self {
        self.parts
            .extend(values.map(|values| Filter::In(self.column, values)));
        self
    }

    pub(super) fn null(mut self, is_null: Option<bool>) -> Self {
        self.parts
            .extend(is_null.map(|is_null| Filter::Null(self.column, is_null)));
        self
    }
}

/// Compares an ID. All given operators must match.
#[derive(Clone, Debug, InputObject)]
#[graphql(name = "IdFilter")]
struct IdFilterInput {
    /// Equals this ID.
    eq: Option<ID>,
    /// Does not equal this ID, or is null.
    ne: Option<ID>,
    /// Equals one of these IDs; at most 100.
    #[graphql(name = "in")]
    any: Option<Vec<ID>>,
    /// If true, the value must be null. If false, the value must not be null.
    is_null: Option<bool>,
}

/// Compares an ID of one type. For clients, there is one input type for all IDs, because every ID is an `ID`. An ID of
/// another type is rejected; the message names the expected type.
#[derive(Clone, Debug)]
pub struct IdFilter<I> {
    eq: Option<I>,
    ne: Option<I>,
    any: Option<Vec<I>>,
    is_null: Option<bool>,
}

impl<I: EntityId + FromStr<Err = InvalidId>> InputType for IdFilter<I> {
    type RawValueType = Self;

    fn type_name() -> Cow<'static, str> {
        IdFilterInput::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        IdFilterInput::create_type_info(registry)
    }

    fn parse(value: Option<async_graphql::Value>) -> InputValueResult<Self> {
        let input = IdFilterInput::parse(value).map_err(InputValueError::propagate)?;
        let id = |id: ID| id.parse::<I>().map_err(InputValueError::custom);
        Ok(Self {
            eq: input.eq.map(id).transpose()?,
            ne: input.ne.map(id).transpose()?,
            any: input
                .any
                .map(|ids| ids.into_iter().map(id).collect())
                .transpose()?,
            is_null: input.is_null,
        })
    }

    fn to_value(&self) -> async_graphql::Value {
        let id = |id: &I| ID::from(id.to_string());
        IdFilterInput {
            eq: self.eq.as_ref().map(id),
            ne: self.ne.as_ref().map(id),
            any: self.any.as_ref().map(|ids| ids.iter().map(id).collect()),
            is_null: self.is_null,
        }
        .to_value()
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }
}

impl<I: EntityId> ColumnFilter for IdFilter<I> {
    fn on(self, column: &'static str) -> Result<Vec<Filter>> {
        let uuid = |id: I| Value::Uuid(id.uuid());
        let any = self.any.map(bounded).transpose()?;
        Ok(Comparisons::on(column)
            .is(Comparison::Eq, self.eq.map(uuid))
            .is(Comparison::Ne, self.ne.map(uuid))
            .any(any.map(|ids| Value::Uuids(ids.into_iter().map(EntityId::uuid).collect())))
            .null(self.is_null)
            .parts)
    }
}

/// Compares a date and time. All given operators must match.
#[derive(Clone, Debug, Default, InputObject)]
pub struct DateTimeFilter {
    /// Equals this time, to the microsecond.
    pub eq: Option<Timestamp>,
    /// Is before this time.
    pub lt: Option<Timestamp>,
    /// Is at or before this time.
    pub lte: Option<Timestamp>,
    /// Is after this time.
    pub gt: Option<Timestamp>,
    /// Is at or after this time.
    pub gte: Option<Timestamp>,
}

impl ColumnFilter for DateTimeFilter {
    fn on(self, column: &'static str) -> Result<Vec<Filter>> {
        let time = |timestamp: Timestamp| timestamp.time().value();
        Ok(Comparisons::on(column)
            .is(Comparison::Eq, self.eq.and_then(time))
            .is(Comparison::Lt, self.lt.and_then(time))
            .is(Comparison::Lte, self.lte.and_then(time))
            .is(Comparison::Gt, self.gt.and_then(time))
            .is(Comparison::Gte, self.gte.and_then(time))
            .parts)
    }
}

/// Compares a date. All given operators must match.
#[derive(Clone, Debug, Default, InputObject)]
pub struct DateFilter {
    /// Equals this date.
    pub eq: Option<Date>,
    /// Is before this date.
    pub lt: Option<Date>,
    /// Is on or before this date.
    pub lte: Option<Date>,
    /// Is after this date.
    pub gt: Option<Date>,
    /// Is on or after this date.
    pub gte: Option<Date>,
    /// If true, the value must be null. If false, the value must not be null.
    pub is_null: Option<bool>,
}

impl ColumnFilter for DateFilter {
    fn on(self, column: &'static str) -> Result<Vec<Filter>> {
        let date = |date: Date| Value::Date(date.0);
        Ok(Comparisons::on(column)
            .is(Comparison::Eq, self.eq.map(date))
            .is(Comparison::Lt, self.lt.map(date))
            .is(Comparison::Lte, self.lte.map(date))
            .is(Comparison::Gt, self.gt.map(date))
            .is(Comparison::Gte, self.gte.map(date))
            .null(self.is_null)
            .parts)
    }
}

/// Compares an integer. All given operators must match.
#[derive(Clone, Debug, Default, InputObject)]
pub struct IntFilter {
    /// Equals this value.
    pub eq: Option<i32>,
    /// Does not equal this value, or is null.
    pub ne: Option<i32>,
    /// Equals one of these values; at most 100.
    #[graphql(name = "in")]
    pub any: Option<Vec<i32>>,
    /// Is less than this value.
    pub lt: Option<i32>,
    /// Is less than or equal to this value.
    pub lte: Option<i32>,
    /// Is greater than this value.
    pub gt: Option<i32>,
    /// Is greater than or equal to this value.
    pub gte: Option<i32>,
    /// If true, the value must be null. If false, the value must not be null.
    pub is_null: Option<bool>,
}

impl ColumnFilter for IntFilter {
    fn on(self, column: &'static str) -> Result<Vec<Filter>> {
        let any = self.any.map(bounded).transpose()?;
        Ok(Comparisons::on(column)
            .is(Comparison::Eq, self.eq.map(Value::Int))
            .is(Comparison::Ne, self.ne.map(Value::Int))
            .any(any.map(Value::Ints))
            .is(Comparison::Lt, self.lt.map(Value::Int))
            .is(Comparison::Lte, self.lte.map(Value::Int))
            .is(Comparison::Gt, self.gt.map(Value::Int))
            .is(Comparison::Gte, self.gte.map(Value::Int))
            .null(self.is_null)
            .parts)
    }
}

/// Compares a boolean. All given operators must match.
#[derive(Clone, Debug, Default, InputObject)]
pub struct BooleanFilter {
    /// Equals this value.
    pub eq: Option<bool>,
    /// Does not equal this value, or is null.
    pub ne: Option<bool>,
    /// If true, the value must be null. If false, the value must not be null.
    pub is_null: Option<bool>,
}

impl ColumnFilter for BooleanFilter {
    fn on(self, column: &'static str) -> Result<Vec<Filter>> {
        Ok(Comparisons::on(column)
            .is(Comparison::Eq, self.eq.map(Value::Bool))
            .is(Comparison::Ne, self.ne.map(Value::Bool))
            .null(self.is_null)
            .parts)
    }
}

/// Compares an enum value. All given operators must match.
#[derive(Clone, Debug)]
pub struct EnumFilter<T> {
    eq: Option<T>,
    ne: Option<T>,
    any: Option<Vec<T>>,
}

impl<T: StoredEnum + InputType> InputType for EnumFilter<T> {
    type RawValueType = Self;

    /// `ProjectStatusFilter` for `ProjectStatus`.
    fn type_name() -> Cow<'static, str> {
        format!("{}Filter", T::type_name()).into()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        let description = "Compares an enum value. All given operators must match.";
        generic_input::register::<Self>(registry, description, |registry| {
            vec![
                field::<Option<T>>(registry, "eq", "Equals this value."),
                field::<Option<T>>(registry, "ne", "Does not equal this value."),
                field::<Option<Vec<T>>>(registry, "in", "Equals one of these values; at most 100."),
            ]
        })
    }

    fn parse(value: Option<async_graphql::Value>) -> InputValueResult<Self> {
        let mut fields = Fields::<Self>::parse(value)?;
        Ok(Self {
            eq: fields.take("eq")?,
            ne: fields.take("ne")?,
            any: fields.take("in")?,
        })
    }

    fn to_value(&self) -> async_graphql::Value {
        async_graphql::value!({
            "eq": self.eq.to_value(), "ne": self.ne.to_value(), "in": self.any.to_value(),
        })
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }
}

fn equals<T: StoredEnum>(column: &'static str, value: T) -> Filter {
    match T::UNKNOWN {
        Some(unknown) if value == unknown => Filter::Not(Box::new(is_known::<T>(column))),
        _ => Filter::Compare(
            column,
            Comparison::Eq,
            Value::Text(value.as_str().to_owned()),
        ),
    }
}

fn one_of<T: StoredEnum>(column: &'static str, values: impl IntoIterator<Item = T>) -> Filter {
    let stored = values.into_iter().map(|value| value.as_str().to_owned());
    Filter::In(column, Value::Texts(stored.collect()))
}

fn is_known<T: StoredEnum>(column: &'static str) -> Filter {
    one_of(column, T::known())
}

impl<T: StoredEnum + InputType> ColumnFilter for EnumFilter<T> {
    fn on(self, column: &'static str) -> Result<Vec<Filter>> {
        let any = self.any.map(bounded).transpose()?;
        let eq = self.eq.map(|value| equals(column, value));
        let ne = self.ne.map(|value| match T::UNKNOWN {
            Some(unknown) if value == unknown => is_known::<T>(column),
            _ => Filter::Compare(
                column,
                Comparison::Ne,
                Value::Text(value.as_str().to_owned()),
            ),
        });
        let any = any.map(|values| match T::UNKNOWN {
            Some(unknown) if values.contains(&unknown) => Filter::Any(
                values
                    .into_iter()
                    .map(|value| equals(column, value))
                    .collect(),
            ),
            _ => one_of(column, values),
        });
        Ok(eq.into_iter().chain(ne).chain(any).collect())
    }
}

/// Declares how an entity can be listed: its filter, its sort fields and its default order.
///
/// ```text
/// listed! {
///     Project {
///         filter ProjectFilter {
///             /// Filters by name.
///             name: StringFilter,
///         }
///         order ProjectOrderField {
///             /// Sort by name.
///             Name => name: String,
///         }
///         default Name Asc
///     }
/// }
/// ```
///
/// `readable by [Owner, Admin]` before `filter` names the roles that may read the rows, if not every role may. For
/// other roles a list or a row is null with the error FORBIDDEN.
macro_rules! listed {
    ($row:ident {
        $(readable by [$($role:ident),+])?
        filter $filter:ident { $($(#[$column_doc:meta])* $column:ident: $by:ty),+ $(,)? }
        order $field:ident { $($(#[$key_doc:meta])* $key:ident => $key_column:ident: $key_type:ty),+ $(,)? }
        default $default:ident $direction:ident
    }) => {
        #[doc = concat!("Filters a list of `", stringify!($row), "` objects. All given conditions must match.")]
        #[derive(Clone, Debug, async_graphql::InputObject)]
        pub struct $filter {
            $($(#[$column_doc])* pub $column: Option<$by>,)+
            /// All of these filters must match.
            pub and: Option<Vec<$filter>>,
            /// At least one of these filters must match. An empty list matches no row.
            pub or: Option<Vec<$filter>>,
            /// This filter must not match.
            pub not: Option<Box<$filter>>,
        }

        impl $crate::graphql::filter::FilterInput for $filter {
            fn parts(self, left: &mut usize) -> $crate::error::Result<$crate::db::filter::Filter> {
                use $crate::{db::filter::Filter, graphql::filter::{ColumnFilter, take}};

                let mut parts = Vec::new();
                let mut comparisons = 0;
                $(
                    if let Some(by) = self.$column {
                        let of_column = by.on(stringify!($column))?;
                        comparisons += of_column.len() * <$by as ColumnFilter>::WEIGHT;
                        parts.extend(of_column);
                    }
                )+
                // An empty nested filter counts as one comparison.
                take(left, comparisons.max(1))?;
                let mut nested = |filters: Vec<Self>| {
                    filters.into_iter().map(|filter| filter.parts(left)).collect::<$crate::error::Result<Vec<_>>>()
                };
                if let Some(all) = self.and {
                    parts.push(Filter::All(nested(all)?));
                }
                if let Some(any) = self.or {
                    parts.push(Filter::Any(nested(any)?));
                }
                if let Some(not) = self.not {
                    parts.push(Filter::Not(Box::new(Filter::All(nested(vec![*not])?))));
                }
                Ok(Filter::All(parts))
            }
        }

        #[doc = concat!("The fields by which a list of `", stringify!($row), "` objects can be sorted.")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, async_graphql::Enum)]
        pub enum $field {
            $($(#[$key_doc])* $key),+
        }

        impl $crate::graphql::connection::OrderField for $field {
            const DEFAULT: $crate::graphql::connection::Order<Self> = $crate::graphql::connection::Order {
                field: Self::$default,
                direction: $crate::graphql::connection::Direction::$direction,
            };

            fn column(self) -> $crate::graphql::connection::OrderColumn {
                use $crate::{db::filter::Column, graphql::connection::OrderColumn};

                match self {
                    $(Self::$key => OrderColumn {
                        name: stringify!($key_column),
                        kind: <$key_type as Column>::KIND,
                        nullable: <$key_type as Column>::NULLABLE,
                    }),+
                }
            }
        }

        impl $crate::db::page::Sortable for $row {
            $(const READABLE_BY: Option<&'static [$crate::auth::role::UserRole]> =
                Some(&[$($crate::auth::role::UserRole::$role),+]);)?

            fn sort_value(
                &self,
                column: &'static str,
            ) -> $crate::error::Result<Option<$crate::db::filter::Value>> {
                match column {
                    $(stringify!($key_column) => {
                        Ok(<$key_type as $crate::db::filter::Column>::value(self.$key_column.get()?))
                    })+
                    _ => unreachable!("BUG: {column} is not a sort column of {}", stringify!($row)),
                }
            }
        }

        impl $crate::graphql::connection::Listable for $row {
            type Filter = $filter;
            type OrderField = $field;
            type List = $crate::graphql::filter::list_type!($row $(, $($role)+)?);
        }
    };
}
pub(crate) use listed;

/// The type of a list in the schema: nullable if only some roles may read it.
macro_rules! list_type {
    ($row:ident) => {
        $crate::graphql::object::Object<$crate::graphql::connection::Connection<$row>>
    };
    ($row:ident, $($role:ident)+) => {
        Option<$crate::graphql::filter::list_type!($row)>
    };
}
pub(crate) use list_type;

#[cfg(test)]
mod tests {
    use async_graphql::{InputType as _, value};

    use super::*;

    fn boolean(input: async_graphql::Value) -> Vec<Filter> {
        let filter = BooleanFilter::parse(Some(input)).unwrap();
        filter.on("is_billable").unwrap()
    }

    fn compares(comparison: Comparison, value: bool) -> Filter {
        Filter::Compare("is_billable", comparison, Value::Bool(value))
    }

    #[test]
    fn a_boolean_filter_compares_with_each_operator_that_is_given() {
        for given in [true, false] {
            let expected = compares(Comparison::Eq, given);
            assert_eq!(boolean(value!({ "eq": given })), [expected]);
            let expected = compares(Comparison::Ne, given);
            assert_eq!(boolean(value!({ "ne": given })), [expected]);
            let expected = Filter::Null("is_billable", given);
            assert_eq!(boolean(value!({ "isNull": given })), [expected]);
        }
        let all = boolean(value!({ "isNull": false, "ne": true, "eq": false }));
        let expected = [
            compares(Comparison::Eq, false),
            compares(Comparison::Ne, true),
            Filter::Null("is_billable", false),
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn a_boolean_filter_without_an_operator_compares_nothing() {
        assert_eq!(boolean(value!({})), []);
        assert_eq!(boolean(value!({ "eq": null, "isNull": null })), []);
    }

    #[test]
    fn a_boolean_filter_rejects_values_that_are_not_booleans() {
        for input in [value!({ "eq": "true" }), value!({ "ne": 1 })] {
            assert!(BooleanFilter::parse(Some(input)).is_err());
        }
    }
}
