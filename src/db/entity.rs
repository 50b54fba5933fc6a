//! Entities: the table, the columns and the id of a row type, and which columns a statement fetches.
//!
//! The invariant: **a column that was not fetched is never read as if it were empty.** A field of a row is
//! a [`Column`], whose value can be taken only if the statement fetched it. Columns are read by position:
//! [`Entity::COLUMNS`] and [`Entity::read_columns`] have the same order, because one macro writes both.

use std::{collections::HashMap, sync::Arc};

use sqlx::{Decode, Postgres, Row as _, Type, postgres::PgRow};

use super::{TenantTx, statement::Statement, tenant_tx::byte_length};
use crate::{
    canary::Canary,
    error::{Error, Result},
    ids::EntityId,
};

/// A row type with its table. Every slice declares its own with `entity!`.
pub trait Entity: Clone + Send + Sync + Sized + 'static {
    /// The type of the id.
    type Id: EntityId;
    /// The name of the table, from the list of entities.
    const TABLE: &'static str = <Self::Id as EntityId>::TABLE;
    /// The columns, in the order of [`Entity::read_columns`]; at most 64. The first is the id.
    const COLUMNS: &'static [&'static str];
    /// The columns whose values can be longer than a few hundred characters.
    const LONG_COLUMNS: &'static [&'static str] = &[];
    /// The column with the tenant's id. Only the table of the tenants has another name for it.
    const TENANT_COLUMN: &'static str = "tenant_id";

    /// The id of the row.
    fn id(&self) -> Self::Id;

    /// Reads the columns that the statement fetched.
    fn read_columns(row: &mut RowReader<'_>) -> sqlx::Result<Self>;
}

/// The value of a column, or the fact that the statement did not fetch it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column<T>(Option<T>);

impl<T> Column<T> {
    /// The value. Errors: the statement did not fetch the column, which is a defect of the service.
    pub fn get(&self) -> Result<&T> {
        let not_fetched = || Error::Internal("a column was read that was not fetched".into());
        self.0.as_ref().ok_or_else(not_fetched)
    }

    /// A column that was not fetched, or the value of one that was.
    #[cfg(test)]
    pub(crate) fn new(value: Option<T>) -> Self {
        Self(value)
    }

    /// A copy of the value. Errors: as for [`Column::get`].
    pub fn copied(&self) -> Result<T>
    where
        T: Copy,
    {
        self.get().copied()
    }
}

/// A set of columns of one entity, always with the id: bit `n` is the column `n` of [`Entity::COLUMNS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ColumnSet(u64);

impl ColumnSet {
    /// Every column.
    pub const ALL: Self = Self(u64::MAX);
    /// The id alone.
    pub const ID: Self = Self(1);

    /// The set with these columns and the id.
    ///
    /// # Panics
    ///
    /// If one of these columns is not a column of the entity.
    #[must_use]
    pub fn of<E: Entity>(columns: &[&str]) -> Self {
        let mut set = Self::ID;
        for column in columns {
            set.insert::<E>(column);
        }
        set
    }

    /// Adds a column.
    ///
    /// # Panics
    ///
    /// If the entity does not have the column.
    pub fn insert<E: Entity>(&mut self, column: &str) {
        let index = E::COLUMNS.iter().position(|one| *one == column);
        let index = index.unwrap_or_else(|| panic!("BUG: {} has no {column}", E::TABLE));
        self.0 |= 1 << index;
    }

    /// Adds the columns of another set.
    pub fn extend(&mut self, other: Self) {
        self.0 |= other.0;
    }

    fn contains(self, index: usize) -> bool {
        self.0 & (1 << index) != 0
    }

    /// The positions of the long columns in a row whose first columns are these.
    fn long_positions<E: Entity>(self) -> Vec<usize> {
        if E::LONG_COLUMNS.is_empty() {
            return Vec::new();
        }
        let names = self.names::<E>().enumerate();
        names
            .filter(|(_, name)| E::LONG_COLUMNS.contains(name))
            .map(|(position, _)| position)
            .collect()
    }

    /// The names of the columns, in the order of [`Entity::COLUMNS`].
    pub fn names<E: Entity>(self) -> impl Iterator<Item = &'static str> {
        let columns = E::COLUMNS.iter().copied().enumerate();
        columns
            .filter(move |(index, _)| self.contains(*index))
            .map(|(_, name)| name)
    }
}

/// How an operation uses the rows of one entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntityUse {
    /// The columns that the selected fields need.
    pub columns: ColumnSet,
    /// Whether the operation returns cursors, which need the columns of the sort order.
    pub has_cursors: bool,
    /// Whether the operation loads rows by id. If so, the rows of lists are kept for these loads.
    pub loads_by_id: bool,
}

/// The columns that an operation needs of each entity: the union of all its fields, so that a row that one
/// loader fetched has the columns for the whole operation.
#[derive(Clone, Debug)]
pub struct NeededColumns(Option<Arc<HashMap<&'static str, EntityUse>>>);

impl NeededColumns {
    /// Every column of every entity. The rows of lists are not kept for loads by id.
    pub const ALL: Self = Self(None);

    /// The use of each table. If a table is missing here, the operation needs only the ids of its rows.
    #[must_use]
    pub fn of(uses: HashMap<&'static str, EntityUse>) -> Self {
        Self(Some(Arc::new(uses)))
    }

    /// The bytes that it takes on the heap, estimated from above.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let uses = self.0.as_ref().map_or(0, |uses| uses.capacity());
        // Each slot of the map has a byte of its own, and every eighth slot is free.
        uses * (size_of::<(&str, EntityUse)>() + 1) * 8 / 7 + 2 * size_of::<usize>()
    }

    /// The use of an entity.
    #[must_use]
    pub fn entity<E: Entity>(&self) -> EntityUse {
        let (columns, has_cursors) = match &self.0 {
            None => (ColumnSet::ALL, true),
            Some(uses) => match uses.get(E::TABLE) {
                Some(entity) => return *entity,
                None => (ColumnSet::ID, false),
            },
        };
        EntityUse {
            columns,
            has_cursors,
            loads_by_id: false,
        }
    }
}

/// Reads the fetched columns of a row, in the order of [`Entity::COLUMNS`]. Only this module creates readers, so
/// `RowReader::entity` checks every entity that the service reads.
pub struct RowReader<'r> {
    row: &'r PgRow,
    columns: ColumnSet,
    checks_types: bool,
    /// The next column of the entity.
    index: usize,
    /// The next column of the row.
    position: usize,
}

impl<'r> RowReader<'r> {
    /// A reader of a row whose first columns are these.
    fn new(row: &'r PgRow, columns: ColumnSet) -> Self {
        Self {
            row,
            columns,
            checks_types: true,
            index: 0,
            position: 0,
        }
    }

    /// Reads the entity. Errors: the row belongs to the canary.
    fn entity<E: Entity>(mut self, canary: &Canary) -> sqlx::Result<E> {
        let entity = E::read_columns(&mut self)?;
        canary.check_row(entity.id().uuid())?;
        Ok(entity)
    }

    /// Reads the next column. The statement must have fetched this column.
    #[inline]
    pub fn value<T: Decode<'r, Postgres> + Type<Postgres>>(&mut self) -> sqlx::Result<T> {
        let position = self.position;
        self.index += 1;
        self.position += 1;
        if self.checks_types {
            self.row.try_get(position)
        } else {
            self.row.try_get_unchecked(position)
        }
    }

    /// Reads the next column if it was fetched.
    #[inline]
    pub fn column<T: Decode<'r, Postgres> + Type<Postgres>>(&mut self) -> sqlx::Result<Column<T>> {
        if self.columns.contains(self.index) {
            return self.value().map(|value| Column(Some(value)));
        }
        self.index += 1;
        Ok(Column(None))
    }
}

/// Reads a row whose first columns are [`Entity::COLUMNS`]. Counts the bytes of its long columns. Errors: as for
/// [`Operation::add_fetched_bytes`](super::Operation).
pub(super) fn read_whole<E: Entity>(tx: &TenantTx, row: &PgRow) -> Result<E> {
    let long = ColumnSet::ALL.long_positions::<E>();
    if !long.is_empty() {
        tx.operation().add_fetched_bytes(byte_length(row, &long))?;
    }
    Ok(RowReader::new(row, ColumnSet::ALL).entity(tx.canary())?)
}

/// Fetches the rows of a statement, whose first columns are these, and passes each entity to `keep` as soon as its row
/// arrives, so that the rows are not in memory twice. Only the first row is checked for the right column types, because
/// the types are the same in all rows.
pub(super) async fn fetch_entities<E: Entity>(
    tx: &TenantTx,
    statement: Statement,
    columns: ColumnSet,
    mut keep: impl FnMut(&PgRow, Arc<E>) -> sqlx::Result<()> + Send,
) -> Result<()> {
    let mut checks_types = true;
    let long = columns.long_positions::<E>();
    tx.fetch_each(statement, &long, |row| {
        let mut reader = RowReader::new(row, columns);
        reader.checks_types = std::mem::take(&mut checks_types);
        keep(row, Arc::new(reader.entity(tx.canary())?))
    })
    .await
}
