//! What the database layer must know of a row's type: its table, its columns, its id.

use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::ids::EntityId;

/// A row of one table, as every slice declares it with `entity!`.
pub trait Entity: Clone + Send + Sync + Sized + 'static {
    /// The type of its id.
    type Id: EntityId;
    /// The table, as the list of entities names it.
    const TABLE: &'static str = <Self::Id as EntityId>::TABLE;
    /// The columns that [`Entity::read`] expects, in its order.
    const COLUMNS: &'static [&'static str];
    /// The column that holds the tenant; only the tenants' own table calls it otherwise.
    const TENANT_COLUMN: &'static str = "tenant_id";

    /// The id.
    fn id(&self) -> Self::Id;

    /// Reads a row whose first columns are [`Entity::COLUMNS`].
    fn read(row: &PgRow) -> sqlx::Result<Self>;
}

/// The parent's id of a row that was read as somebody's child: it stands behind the row's columns.
pub(super) fn parent_of<E: Entity>(row: &PgRow) -> sqlx::Result<Uuid> {
    sqlx::Row::try_get(row, E::COLUMNS.len())
}

/// Connects a struct with its table: `entity!(Project { id: ProjectId, name, … })`.
///
/// The names are those of the columns and of the struct's fields alike, so the compiler finds a
/// column that is missing on either side of the struct. Decoding goes by position.
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
