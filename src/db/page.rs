//! Lists: filters, sort orders, keyset pages and counts, for one parent or for all parents of a level.
//!
//! The invariant: **a list is one statement, and a page starts at a position, never at an offset.** The
//! list of several parents is `unnest(parents)` with a lateral join of one page each.

use std::{
    fmt::Debug,
    hash::{Hash, Hasher},
    marker::PhantomData,
    sync::Arc,
};

use sea_query::{
    Alias, Asterisk, Cond, Expr, ExprTrait as _, Func, JoinType, NullOrdering, Order, Query,
    SelectStatement,
};
use sqlx::Row as _;
use uuid::Uuid;

use super::{
    TenantTx,
    entity::{ColumnSet, Entity, NeededColumns, fetch_entities},
    filter::{Filter, Kind, Value},
    load::{KeyMap, LoadKey, LoadedMap},
    shape::{Shape, arguments},
    statement::Statement,
};
use crate::{auth::role::UserRole, error::Result, ids::EntityId};

/// The number of rows of a page if the client gives no size.
pub const DEFAULT_PAGE_SIZE: u32 = 20;
/// The maximum number of rows of a page.
pub const MAX_PAGE_SIZE: u32 = 100;
/// The number at which counting stops, so that a count costs no more than a large page.
pub const MAX_COUNT: u32 = 10_000;

/// A row type that can be in a list, with the values by which it can be sorted.
pub trait Sortable: Entity + Debug {
    /// The roles that may read rows of this type; `None` if every role may. The policies of the database enforce
    /// this; a test compares this constant with the policies.
    const READABLE_BY: Option<&'static [UserRole]> = None;

    /// The value of a column of the sort order; `None` for null.
    /// Errors: the statement did not fetch the column.
    fn sort_value(&self, column: &'static str) -> Result<Option<Value>>;
}

/// One term of a sort order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Term {
    /// The column.
    pub column: &'static str,
    /// The type of the column.
    pub kind: Kind,
    /// Whether the column can be null. Null is greater than every value, as in PostgreSQL.
    pub nullable: bool,
    /// Whether the greatest value comes first.
    pub descending: bool,
}

/// The position of a row in a sort order: its value for each term; `None` for null.
pub type Position = Vec<Option<Value>>;

/// A list with its filter, sort order and page. It does not contain the parent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct List {
    /// The column that refers to the parent; `None` for a list without parents.
    pub parent_column: Option<&'static str>,
    /// The condition on the rows.
    pub filter: Filter,
    /// The sort order. Its last term is the id, so no two rows are equal.
    pub order: Vec<Term>,
    /// Only rows after this position.
    pub after: Option<Position>,
    /// Only rows before this position.
    pub before: Option<Position>,
    /// The maximum number of rows of the page; not greater than [`MAX_PAGE_SIZE`].
    pub size: u32,
    /// Whether the page contains the last rows instead of the first.
    pub from_end: bool,
}

impl List {
    /// The rows of the tenant and, in a lateral join, of the joined parent.
    fn rows<E: Entity>(&self, tx: &TenantTx) -> SelectStatement {
        let mut query = Query::select();
        query
            .from(E::TABLE)
            .and_where(Expr::col(E::TENANT_COLUMN).eq(tx.tenant_uuid()));
        if let Some(column) = self.parent_column {
            query.and_where(Expr::col(column).equals((PARENT, PARENT)));
        }
        query.cond_where(self.filter.condition());
        query
    }

    /// The columns of its rows: those that the operation needs and, for cursors, those of the sort order.
    fn columns<E: Entity>(&self, needed: &NeededColumns) -> ColumnSet {
        let entity = needed.entity::<E>();
        let mut columns = entity.columns;
        if entity.has_cursors {
            for term in &self.order {
                columns.insert::<E>(term.column);
            }
        }
        columns
    }

    fn page<E: Entity>(&self, tx: &TenantTx, columns: ColumnSet) -> SelectStatement {
        let mut query = self.rows::<E>(tx);
        query.columns(columns.names::<E>());
        if let Some(position) = &self.after {
            query.cond_where(after_position(&self.order, position, false));
        }
        if let Some(position) = &self.before {
            query.cond_where(after_position(&self.order, position, true));
        }
        for term in &self.order {
            let descending = term.descending != self.from_end;
            let order = if descending { Order::Desc } else { Order::Asc };
            if term.nullable {
                let nulls = if descending {
                    NullOrdering::First
                } else {
                    NullOrdering::Last
                };
                query.order_by_with_nulls(term.column, order, nulls);
            } else {
                query.order_by(term.column, order);
            }
        }
        // One row more than requested: it shows whether there is another page.
        query.limit(u64::from(self.size) + 1);
        query
    }

    /// The statement of the page under each of these parents, or of the page of a list without parents.
    fn statement<E: Entity>(
        &self,
        tx: &TenantTx,
        columns: ColumnSet,
        parents: &[Option<Uuid>],
    ) -> Result<Statement> {
        let query = || {
            let page = self.page::<E>(tx, columns);
            if self.parent_column.is_some() {
                let names: Vec<_> = columns.names::<E>().collect();
                join_parents(page, &names, parents)
            } else {
                page
            }
        };
        let has_only_order =
            self.filter == Filter::default() && self.after.is_none() && self.before.is_none();
        if !has_only_order {
            return Ok(Statement::build(&query()));
        }
        let shape = Shape::Page {
            table: E::TABLE,
            columns,
            parent_column: self.parent_column,
            order: self.order.clone(),
            from_end: self.from_end,
        };
        let (tenant, limit) = (tx.tenant_uuid(), i64::from(self.size) + 1);
        let arguments = if self.parent_column.is_some() {
            let parents: Vec<Uuid> = parents.iter().copied().flatten().collect();
            arguments![parents, tenant, limit]
        } else {
            arguments![tenant, limit]
        };
        Ok(shape.statement(arguments, query))
    }

    fn count<E: Entity>(&self, tx: &TenantTx) -> SelectStatement {
        let mut rows = self.rows::<E>(tx);
        rows.expr(Expr::cust("1")).limit(u64::from(MAX_COUNT) + 1);
        let mut query = Query::select();
        query
            .expr_as(Func::count(Expr::col(Asterisk)), Alias::new("n"))
            .from_subquery(rows, "counted");
        query
    }

    fn finish<E>(&self, mut rows: Vec<Arc<E>>) -> Page<E> {
        let more = rows.len() > self.size as usize;
        rows.truncate(self.size as usize);
        if self.from_end {
            rows.reverse();
            Page {
                rows,
                has_previous: more,
                has_next: self.before.is_some(),
            }
        } else {
            Page {
                rows,
                has_next: more,
                has_previous: self.after.is_some(),
            }
        }
    }
}

/// The rows after a position in a sort order or, if `reverse`, those before it.
///
/// If all terms have the same direction and no column is nullable, this is one row comparison, which
/// PostgreSQL uses as an index condition. Otherwise there is one case per term: the row equals the
/// position in all earlier terms and comes after the position in this term. PostgreSQL cannot use the cases
/// as an index condition, so a condition that follows from every case is added: the bound of the first term.
fn after_position(order: &[Term], position: &Position, reverse: bool) -> Cond {
    let descends = |term: &Term| term.descending != reverse;
    let Some(first) = order.first() else {
        return Cond::all();
    };

    if order
        .iter()
        .all(|term| !term.nullable && descends(term) == descends(first))
    {
        let row = Expr::tuple(order.iter().map(|term| Expr::col(term.column)));
        let values = Expr::tuple(position.iter().flatten().cloned().map(Value::into_expr));
        return Cond::all().add(if descends(first) {
            row.lt(values)
        } else {
            row.gt(values)
        });
    }

    let bound = match (descends(first), position.first().cloned().flatten()) {
        (true, Some(value)) => Some(Expr::col(first.column).lte(value.into_expr())),
        // The rows whose value is null come after the greatest value, so there is no bound.
        (false, Some(_)) if first.nullable => None,
        (false, Some(value)) => Some(Expr::col(first.column).gte(value.into_expr())),
        (false, None) => Some(Expr::col(first.column).is_null()),
        (true, None) => None,
    };
    let mut cases = Cond::any();
    let mut equal = Cond::all();
    for (term, value) in order.iter().zip(position) {
        let column = || Expr::col(term.column);
        let value = value.clone().map(Value::into_expr);
        let after = match (descends(term), value.clone()) {
            (true, Some(value)) => Some(Cond::all().add(column().lt(value))),
            (true, None) => Some(Cond::all().add(column().is_not_null())),
            (false, Some(value)) if term.nullable => {
                Some(Cond::any().add(column().gt(value)).add(column().is_null()))
            }
            (false, Some(value)) => Some(Cond::all().add(column().gt(value))),
            (false, None) => None,
        };
        if let Some(after) = after {
            cases = cases.add(Cond::all().add(equal.clone()).add(after));
        }
        equal = equal.add(match value {
            Some(value) => column().eq(value),
            None => column().is_null(),
        });
    }
    match bound {
        Some(bound) => Cond::all().add(bound).add(cases),
        None => cases,
    }
}

/// A page of rows.
#[derive(Clone, Debug)]
pub struct Page<E> {
    /// The rows, in the order of the list.
    pub rows: Vec<Arc<E>>,
    /// Whether the list has rows after the page. For a page from the end: whether `before` was given.
    pub has_next: bool,
    /// Whether the list has rows before the page. For a page from the start: whether `after` was given.
    pub has_previous: bool,
}

/// The key of a page: a list, and the parent whose rows it contains. Two keys are equal only if they share the list:
/// see [`Loaders::share`](super::load::Loaders::share).
pub struct PageOf<E> {
    /// The parent's id; `None` for a list without parents.
    pub parent: Option<Uuid>,
    /// The list.
    pub list: Arc<List>,
    row: PhantomData<fn() -> E>,
}

/// The key of a count: the number of rows of a list under a parent, up to [`MAX_COUNT`] + 1.
pub struct CountOf<E>(pub PageOf<E>);

impl<E> PageOf<E> {
    /// The key of a list under a parent.
    #[must_use]
    pub fn new(parent: Option<Uuid>, list: Arc<List>) -> Self {
        Self {
            parent,
            list,
            row: PhantomData,
        }
    }
}

impl<E> Clone for PageOf<E> {
    fn clone(&self) -> Self {
        Self::new(self.parent, Arc::clone(&self.list))
    }
}

impl<E> Debug for PageOf<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PageOf")
            .field("parent", &self.parent)
            .field("list", &self.list)
            .finish()
    }
}

impl<E> PartialEq for PageOf<E> {
    fn eq(&self, other: &Self) -> bool {
        self.parent == other.parent && Arc::ptr_eq(&self.list, &other.list)
    }
}

impl<E> Eq for PageOf<E> {}

impl<E> Hash for PageOf<E> {
    /// Hashes the address of the list, because hashing its filter for each parent would take time.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parent.hash(state);
        Arc::as_ptr(&self.list).hash(state);
    }
}

impl<E> Clone for CountOf<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E> Debug for CountOf<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("CountOf").field(&self.0).finish()
    }
}

impl<E> PartialEq for CountOf<E> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<E> Eq for CountOf<E> {}

impl<E> Hash for CountOf<E> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl<E: Sortable> LoadKey for PageOf<E> {
    type Value = Arc<Page<E>>;

    async fn load(tx: &TenantTx, needed: &NeededColumns, keys: &[Self]) -> Result<LoadedMap<Self>> {
        let mut pages = LoadedMap::<Self>::default();
        for (list, parents) in by_list(keys) {
            let columns = list.columns::<E>(needed);
            let statement = list.statement::<E>(tx, columns, &parents)?;
            let mut rows: KeyMap<Option<Uuid>, Vec<Arc<E>>> = KeyMap::default();
            if list.parent_column.is_some() {
                let parent_position = columns.names::<E>().count();
                let mut is_checked = false;
                fetch_entities::<E>(tx, statement, columns, |row, entity| {
                    // The id of the parent follows the columns. The type of the column is the same in all rows.
                    let parent = if std::mem::replace(&mut is_checked, true) {
                        row.try_get_unchecked(parent_position)?
                    } else {
                        row.try_get(parent_position)?
                    };
                    rows.entry(Some(parent)).or_default().push(entity);
                    Ok(())
                })
                .await?;
            } else {
                let rows = rows.entry(None).or_default();
                fetch_entities::<E>(tx, statement, columns, |_, entity| {
                    rows.push(entity);
                    Ok(())
                })
                .await?;
            }
            for parent in parents {
                let rows = rows.remove(&parent).unwrap_or_default();
                pages.insert(
                    Self::new(parent, Arc::clone(&list)),
                    Arc::new(list.finish(rows)),
                );
            }
        }
        Ok(pages)
    }
}

impl<E: Sortable> LoadKey for CountOf<E> {
    type Value = u32;

    async fn load(tx: &TenantTx, _: &NeededColumns, keys: &[Self]) -> Result<LoadedMap<Self>> {
        let mut counts = LoadedMap::<Self>::default();
        let keys: Vec<PageOf<E>> = keys.iter().map(|key| key.0.clone()).collect();
        for (list, parents) in by_list(&keys) {
            let query = list.count::<E>(tx);
            let query = if list.parent_column.is_some() {
                join_parents(query, &["n"], &parents)
            } else {
                query
            };
            for row in tx.fetch_all(Statement::build(&query)).await? {
                let count: i64 = row.try_get(0)?;
                let parent = if list.parent_column.is_some() {
                    Some(row.try_get(1)?)
                } else {
                    None
                };
                let key = PageOf::new(parent, Arc::clone(&list));
                counts.insert(Self(key), u32::try_from(count).unwrap_or(u32::MAX));
            }
        }
        Ok(counts)
    }
}

/// Groups the parents of the keys by list. There is one group, unless the client selects the field several
/// times with different arguments.
fn by_list<E>(keys: &[PageOf<E>]) -> Vec<(Arc<List>, Vec<Option<Uuid>>)> {
    let mut groups: Vec<(Arc<List>, Vec<Option<Uuid>>)> = Vec::with_capacity(1);
    for key in keys {
        match groups
            .iter_mut()
            .find(|(list, _)| Arc::ptr_eq(list, &key.list))
        {
            Some((_, parents)) => parents.push(key.parent),
            None => groups.push((Arc::clone(&key.list), vec![key.parent])),
        }
    }
    groups
}

/// The alias of the unnested ids of the parents. It is also the name of their column.
const PARENT: &str = "parent";

/// `select row.…, parent from unnest($1) as parent join lateral (…) as row on true`
///
/// PostgreSQL runs a lateral join as a nested loop, so the rows of a parent keep the order of their page.
fn join_parents(
    inner: SelectStatement,
    columns: &[&'static str],
    parents: &[Option<Uuid>],
) -> SelectStatement {
    let parents = Value::Uuids(parents.iter().copied().flatten().collect()).into_expr();
    let mut query = Query::select();
    query
        .columns(columns.iter().map(|column| ("row", *column)))
        .column((PARENT, PARENT))
        .from_function(Func::cust("unnest").arg(parents.cast_as("uuid[]")), PARENT)
        .join_lateral(JoinType::InnerJoin, inner, "row", Expr::cust("true"));
    query
}

/// The position of a row in a sort order. Errors: the statement did not fetch the columns of the order.
pub fn position<E: Sortable>(order: &[Term], row: &E) -> Result<Position> {
    order
        .iter()
        .map(|term| match term.column {
            "id" => Ok(Some(Value::Uuid(row.id().uuid()))),
            column => row.sort_value(column),
        })
        .collect()
}
