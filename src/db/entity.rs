//! Entities: the table, the columns and the id of a row type.
//!
//! The invariant: **columns are read by position.** [`Entity::COLUMNS`] and [`Entity::read`] have the same
//! order, because one macro writes both.

use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::ids::EntityId;

/// A row type with its table. Every slice declares its own with `entity!`.
pub trait Entity: Clone + Send + Sync + Sized + 'static {
    /// The type of the id.
    type Id: EntityId;
    /// The table, as the list of entities names it.
    const TABLE: &'static str = <Self::Id as EntityId>::TABLE;
    /// The columns that [`Entity::read`] expects, in this order.
    const COLUMNS: &'static [&'static str];
    /// The column with the tenant's id. Only the table of the tenants has another name for it.
    const TENANT_COLUMN: &'static str = "tenant_id";

    /// The id of the row.
    fn id(&self) -> Self::Id;

    /// Reads a row whose first columns are [`Entity::COLUMNS`].
    fn read(row: &PgRow) -> sqlx::Result<Self>;
}

/// Reads the id of a row's parent. The query for the lists of several parents returns this id as the column after
/// [`Entity::COLUMNS`].
pub(super) fn parent_of<E: Entity>(row: &PgRow) -> sqlx::Result<Uuid> {
    sqlx::Row::try_get(row, E::COLUMNS.len())
}

/// Declares the columns of a struct: `entity!(Project { id: ProjectId, name, … })`.
///
/// The columns and the fields of the struct have the same names, so the compiler finds a column without
/// a field and a field without a column.
macro_rules! entity {
    ($type:ident $(, tenant in $tenant:literal)? { id: $id:ty $(, $column:ident)* $(,)? }) => {
        impl $crate::db::entity::Entity for $type {
            type Id = $id;
            const COLUMNS: &'static [&'static str] = &["id" $(, stringify!($column))*];
            $(const TENANT_COLUMN: &'static str = $tenant;)?

            fn id(&self) -> $id {
                self.id
            }

            fn read(row: &sqlx::postgres::PgRow) -> sqlx::Result<Self> {
                use sqlx::Row as _;

                let mut position = 0..;
                let mut next = || position.next().expect("BUG: an open range ended");
                Ok(Self { id: row.try_get(next())? $(, $column: row.try_get(next())?)* })
            }
        }
    };
}
pub(crate) use entity;
