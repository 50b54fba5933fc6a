//! Filters: typed operators for each kind of column, and the macro by which a slice lists its own.

use std::{borrow::Cow, str::FromStr};

use async_graphql::{
    ID, InputObject, InputType, InputValueError, InputValueResult, registry::Registry,
};

use super::{
    enums::StoredEnum,
    generic_input::{self, Fields, field},
    scalars::{Date, Moment},
};
use crate::{
    db::page::{Column, Comparison, Filter, Value},
    error::{Error, Result},
    ids::{EntityId, InvalidId},
};

/// Most values of an `in`.
pub const MAX_VALUES: usize = 100;
/// Most comparisons of one filter, all its parts together.
pub const MAX_COMPARISONS: usize = 100;
/// Longest text in a filter, in characters.
const MAX_TEXT: usize = 1_000;

/// Which rows, as a client says it.
pub trait FilterInput: InputType + std::fmt::Debug {
    /// The same for the database. Errors: too many values or comparisons, text that cannot be stored.
    fn filter(self) -> Result<Filter> {
        let mut left = MAX_COMPARISONS;
        self.parts(&mut left)
    }

    /// The same for the database, of which at most `left` comparisons.
    fn parts(self, left: &mut usize) -> Result<Filter>;
}

/// The comparisons of one column, all of which must hold.
pub trait ColumnFilter {
    /// The same for the database.
    fn on(self, column: &'static str) -> Result<Vec<Filter>>;
}

/// Takes comparisons from what a filter has left.
pub fn take(left: &mut usize, comparisons: usize) -> Result<()> {
    *left = left.checked_sub(comparisons).ok_or_else(|| {
        Error::invalid("filter", format!("at most {MAX_COMPARISONS} comparisons"))
    })?;
    Ok(())
}

fn check_text(text: &str) -> Result<()> {
    if text.contains('\0') {
        return Err(Error::invalid(
            "filter",
            "text cannot hold the character U+0000",
        ));
    }
    if text.chars().count() > MAX_TEXT {
        return Err(Error::invalid(
            "filter",
            format!("text of more than {MAX_TEXT} characters"),
        ));
    }
    Ok(())
}

fn bounded<T>(values: Vec<T>) -> Result<Vec<T>> {
    if values.len() > MAX_VALUES {
        return Err(Error::invalid(
            "filter",
            format!("in: at most {MAX_VALUES} values"),
        ));
    }
    Ok(values)
}

/// Gathers the comparisons that a client gave.
struct Comparisons {
    column: &'static str,
    parts: Vec<Filter>,
}

impl Comparisons {
    fn on(column: &'static str) -> Self {
        Self {
            column,
            parts: Vec::new(),
        }
    }

    fn is(mut self, comparison: Comparison, value: Option<Value>) -> Self {
        self.parts
            .extend(value.map(|value| Filter::Is(self.column, comparison, value)));
        self
    }

    fn any(mut self, values: Option<Value>) -> Self {
        self.parts
            .extend(values.map(|values| Filter::In(self.column, values)));
        self
    }

    fn null(mut self, is_null: Option<bool>) -> Self {
        self.parts
            .extend(is_null.map(|is_null| Filter::Null(self.column, is_null)));
        self
    }
}

/// Compares an id. Every operator that is given must hold.
#[derive(Clone, Debug, InputObject)]
#[graphql(name = "IdFilter")]
struct IdFilterInput {
    /// This one.
    eq: Option<ID>,
    /// Not this one; also none.
    ne: Option<ID>,
    /// One of these, at most 100.
    #[graphql(name = "in")]
    any: Option<Vec<ID>>,
    /// Whether there is none.
    is_null: Option<bool>,
}

/// Compares an id of one kind. To clients all of these are one type, as all ids are `ID`; an id of
/// another kind is refused with the name of the kind.
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

/// Compares a text, case and all unless said otherwise. Every operator that is given must hold.
#[derive(Clone, Debug, Default, InputObject)]
pub struct StringFilter {
    /// This text.
    pub eq: Option<String>,
    /// Not this text; also none.
    pub ne: Option<String>,
    /// One of these, at most 100.
    #[graphql(name = "in")]
    pub any: Option<Vec<String>>,
    /// Begins with this text.
    pub starts_with: Option<String>,
    /// Holds this text, ignoring case as far as the database's locale knows it. No index helps: it
    /// reads all rows of the tenant.
    pub contains: Option<String>,
    /// Whether there is none.
    pub is_null: Option<bool>,
}

impl ColumnFilter for StringFilter {
    fn on(self, column: &'static str) -> Result<Vec<Filter>> {
        let any = self.any.map(bounded).transpose()?;
        for one in any.iter().flatten() {
            check_text(one)?;
        }
        let value = |given: Option<String>| {
            given
                .map(|given| check_text(&given).map(|()| Value::Text(given)))
                .transpose()
        };
        Ok(Comparisons::on(column)
            .is(Comparison::Eq, value(self.eq)?)
            .is(Comparison::Ne, value(self.ne)?)
            .any(any.map(Value::Texts))
            .is(Comparison::StartsWith, value(self.starts_with)?)
            .is(Comparison::Contains, value(self.contains)?)
            .null(self.is_null)
            .parts)
    }
}

/// Compares a point in time. Every operator that is given must hold.
#[derive(Clone, Debug, Default, InputObject)]
pub struct DateTimeFilter {
    /// At this instant, to the microsecond.
    pub eq: Option<Moment>,
    /// Before.
    pub lt: Option<Moment>,
    /// Before or at.
    pub lte: Option<Moment>,
    /// After.
    pub gt: Option<Moment>,
    /// After or at.
    pub gte: Option<Moment>,
}

impl ColumnFilter for DateTimeFilter {
    fn on(self, column: &'static str) -> Result<Vec<Filter>> {
        let time = |moment: Moment| moment.time().value();
        Ok(Comparisons::on(column)
            .is(Comparison::Eq, self.eq.and_then(time))
            .is(Comparison::Lt, self.lt.and_then(time))
            .is(Comparison::Lte, self.lte.and_then(time))
            .is(Comparison::Gt, self.gt.and_then(time))
            .is(Comparison::Gte, self.gte.and_then(time))
            .parts)
    }
}

/// Compares a date. Every operator that is given must hold.
#[derive(Clone, Debug, Default, InputObject)]
pub struct DateFilter {
    /// On this day.
    pub eq: Option<Date>,
    /// Before.
    pub lt: Option<Date>,
    /// Before or on.
    pub lte: Option<Date>,
    /// After.
    pub gt: Option<Date>,
    /// After or on.
    pub gte: Option<Date>,
    /// Whether there is none.
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

/// Compares an integer. Every operator that is given must hold.
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
    /// If true, the value is null; if false, it is not.
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

/// Compares a boolean. Every operator that is given must hold.
#[derive(Clone, Debug, Default, InputObject)]
pub struct BooleanFilter {
    /// Equals this value.
    pub eq: Option<bool>,
    /// Does not equal this value, or is null.
    pub ne: Option<bool>,
    /// If true, the value is null; if false, it is not.
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

/// Compares an enum. Every operator that is given must hold.
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
        let description = "Compares an enum. Every operator that is given must hold.";
        generic_input::register::<Self>(registry, description, |registry| {
            vec![
                field::<Option<T>>(registry, "eq", "Equals this value."),
                field::<Option<T>>(registry, "ne", "Does not equal this value."),
                field::<Option<Vec<T>>>(registry, "in", "Equals one of these values."),
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
        _ => Filter::Is(
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
            _ => Filter::Is(
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

/// How an entity can be listed: its filter, its orders, and the order when none is named.
///
/// ```text
/// listed! {
///     Project {
///         filter ProjectFilter {
///             /// By name.
///             name: StringFilter,
///         }
///         order ProjectOrderField {
///             /// By name.
///             Name => name: String,
///         }
///         default Name Asc
///     }
/// }
/// ```
macro_rules! listed {
    ($row:ident {
        filter $filter:ident { $($(#[$column_doc:meta])* $column:ident: $by:ty),+ $(,)? }
        order $field:ident { $($(#[$key_doc:meta])* $key:ident => $key_column:ident: $key_type:ty),+ $(,)? }
        default $default:ident $direction:ident
    }) => {
        /// Which rows: everything that is given must hold.
        #[derive(Clone, Debug, async_graphql::InputObject)]
        pub struct $filter {
            $($(#[$column_doc])* pub $column: Option<$by>,)+
            /// All of these hold, too.
            pub and: Option<Vec<$filter>>,
            /// At least one of these holds, too; an empty list never does.
            pub or: Option<Vec<$filter>>,
            /// This does not hold.
            pub not: Option<Box<$filter>>,
        }

        impl $crate::graphql::filter::FilterInput for $filter {
            fn parts(self, left: &mut usize) -> $crate::error::Result<$crate::db::page::Filter> {
                use $crate::{db::page::Filter, graphql::filter::{ColumnFilter as _, take}};

                let mut parts = Vec::new();
                $(
                    if let Some(by) = self.$column {
                        parts.extend(by.on(stringify!($column))?);
                    }
                )+
                // Each nested filter counts too, so that an empty one is not free.
                take(left, parts.len().max(1))?;
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

        /// By what the list can be ordered.
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
                use $crate::{db::page::Column, graphql::connection::OrderColumn};

                match self {
                    $(Self::$key => OrderColumn {
                        name: stringify!($key_column),
                        kind: <$key_type as Column>::KIND,
                        nullable: <$key_type as Column>::NULLABLE,
                    }),+
                }
            }
        }

        impl $crate::db::page::Keyed for $row {
            fn key(&self, column: &'static str) -> Option<$crate::db::page::Value> {
                match column {
                    $(stringify!($key_column) => <$key_type as $crate::db::page::Column>::value(&self.$key_column),)+
                    _ => unreachable!("BUG: {column} is no order of {}", stringify!($row)),
                }
            }
        }

        impl $crate::graphql::connection::Listed for $row {
            type Filter = $filter;
            type OrderField = $field;
        }
    };
}
pub(crate) use listed;
