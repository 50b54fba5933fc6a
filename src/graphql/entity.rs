//! Entities in the API: which columns each field of a row type needs, and how a column becomes JSON.

use async_graphql::{
    ContextSelectionSet, OutputType, Positioned, ServerResult, Value, parser::types::Field,
    registry::Registry,
};

use super::{
    json::{JsonWriter, WriteJson},
    object::ListResolver,
};
use crate::{
    db::entity::{Column, ColumnSet, Entity},
    error::Result,
};

/// A column as a field: its value, or the error `INTERNAL` if the statement did not fetch it.
impl<T: OutputType> OutputType for Column<T> {
    fn type_name() -> std::borrow::Cow<'static, str> {
        T::type_name()
    }

    fn qualified_type_name() -> String {
        T::qualified_type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        T::create_type_info(registry)
    }

    async fn resolve(
        &self,
        ctx: &ContextSelectionSet<'_>,
        field: &Positioned<Field>,
    ) -> ServerResult<Value> {
        let value = self.get().map_err(|error| {
            ctx.set_error_path(async_graphql::Error::from(error).into_server_error(field.pos))
        })?;
        value.resolve(ctx, field).await
    }
}

impl<T: WriteJson> WriteJson for Column<T> {
    fn write_json(&self, writer: &mut JsonWriter) -> Result<()> {
        self.get()?.write_json(writer)
    }
}

/// A row type that declares which columns each of its fields needs. Implemented for every type with `entity!` and
/// `relations!`.
pub trait Selectable: Entity + ShownColumns + Relations {
    /// The columns that a field needs; `None` if the type does not have the field.
    #[must_use]
    fn needed_columns(field: &str) -> Option<ColumnSet> {
        let relation = Self::RELATIONS
            .iter()
            .find(|(name, _)| is_field(name, field));
        let shown = || {
            let column = Self::SHOWN.iter().find(|column| column.is_field(field))?;
            Some(ColumnSet::of::<Self>(&[column.name]))
        };
        match relation {
            Some((_, columns)) => Some(ColumnSet::of::<Self>(columns)),
            None => shown(),
        }
    }
}

impl<E: Entity + ShownColumns + Relations> Selectable for E {}

/// The columns of a row type that are fields of the API.
pub trait ShownColumns {
    /// The columns, without the ID.
    const SHOWN: &'static [ShownColumn];
}

/// A column that is a field of the API.
#[derive(Clone, Copy, Debug)]
pub struct ShownColumn {
    /// The name of the column.
    pub name: &'static str,
    /// The name of the field, if it is not the name of the column in camel case.
    pub field: Option<&'static str>,
}

impl ShownColumn {
    fn is_field(&self, field: &str) -> bool {
        match self.field {
            Some(name) => name == field,
            None => is_field(self.name, field),
        }
    }
}

/// The fields of a row type that methods resolve.
pub trait Relations: Sized {
    /// The name of each field in snake case, with the columns that its method reads.
    const RELATIONS: &'static [(&'static str, &'static [&'static str])];

    /// The function that resolves a list; `None` if the type does not have a list with this name.
    fn list_resolver(field: &str) -> Option<ListResolver<Self>>;
}

/// Whether a name in snake case is the name of the field: `due_on` is the name of `dueOn`.
#[must_use]
pub fn is_field(name: &str, field: &str) -> bool {
    let mut field = field.bytes();
    let mut is_upper = false;
    for byte in name.bytes() {
        if byte == b'_' {
            is_upper = true;
            continue;
        }
        let expected = if is_upper {
            byte.to_ascii_uppercase()
        } else {
            byte
        };
        if field.next() != Some(expected) {
            return false;
        }
        is_upper = false;
    }
    field.next().is_none()
}

/// Declares the columns of a struct, whose fields are [`Column`]s with the same names. `shown` columns are
/// fields of the API; `hidden` ones are not.
///
/// ```text
/// entity!(Project {
///     id: ProjectId,
///     shown { name, status }
///     hidden { organization_id }
/// });
/// ```
///
/// A column without a field is a compile error; so is a field without a column. A column that the table lacks is not.
/// `shown { currency as "currencyCode" }` sets the name of the field of the API, if it is not the name of the column in
/// camel case. `long { body }` names the columns whose values can be longer than a few hundred characters: the service
/// counts the bytes that an operation fetches of them.
macro_rules! entity {
    ($type:ident $(, tenant in $tenant:literal)? {
        id: $id:ty,
        shown { $($column:ident $(as $field:literal)?),+ $(,)? }
        $(hidden { $($hidden:ident),+ $(,)? })?
        $(long { $($long:ident),+ $(,)? })?
    }) => {
        impl $crate::db::entity::Entity for $type {
            type Id = $id;
            const COLUMNS: &'static [&'static str] =
                &["id", $(stringify!($column),)+ $($(stringify!($hidden),)+)?];
            $(const LONG_COLUMNS: &'static [&'static str] = &[$(stringify!($long)),+];)?
            $(const TENANT_COLUMN: &'static str = $tenant;)?

            fn id(&self) -> $id {
                self.id
            }

            fn read_columns(row: &mut $crate::db::entity::RowReader<'_>) -> sqlx::Result<Self> {
                Ok(Self {
                    id: row.value()?,
                    $($column: row.column()?,)+
                    $($($hidden: row.column()?,)+)?
                })
            }
        }

        // A set of columns has 64 bits.
        const _: () = assert!(<$type as $crate::db::entity::Entity>::COLUMNS.len() <= 64);

        impl $crate::graphql::entity::ShownColumns for $type {
            const SHOWN: &'static [$crate::graphql::entity::ShownColumn] = &[
                $($crate::graphql::entity::ShownColumn {
                    name: stringify!($column),
                    field: $crate::graphql::entity::field_name!($($field)?),
                },)+
            ];
        }

        $crate::graphql::json::plain_fields!(
            $type { id, $($column $(as $field)?),+ } lists in $crate::graphql::entity::Relations
        );
    };
}
pub(crate) use entity;

/// The name of the field of a column, if `as` sets it.
macro_rules! field_name {
    () => {
        None
    };
    ($field:literal) => {
        Some($field)
    };
}
pub(crate) use field_name;

#[cfg(test)]
mod tests {
    use super::is_field;

    #[test]
    fn a_field_is_its_column_in_camel_case() {
        assert!(is_field("due_on", "dueOn") && is_field("id", "id"));
        for other in ["due_on", "dueon", "dueO", "dueOnn", "", "DueOn"] {
            assert!(!is_field("due_on", other), "{other}");
        }
    }
}
