//! Lists: filter, order, keyset pages and counts, for one parent or for all parents of a level.
//!
//! A page is found by the position of its last row, never by an offset. A list under parents is one
//! statement however many parents there are: `unnest(parents)` joined laterally with a page each.

use std::{
    collections::HashMap,
    fmt::Debug,
    hash::{Hash, Hasher},
    marker::PhantomData,
    sync::Arc,
};

use chrono::{DateTime, NaiveDate, Utc};
use sea_query::{
    Alias, ArrayType, Asterisk, Cond, Expr, ExprTrait as _, Func, JoinType, NullOrdering, Order,
    PostgresQueryBuilder, Query, SelectStatement, extension::postgres::PgFunc,
};
use sea_query_sqlx::SqlxBinder;
use sqlx::{IntoArguments as _, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{
    Statement, TenantTx,
    entity::{Entity, parent_of},
    load::Batch,
};
use crate::{error::Result, ids::EntityId};

/// Rows of a page when the client names no size.
pub const DEFAULT_PAGE: u32 = 20;
/// Most rows of a page.
pub const MAX_PAGE: u32 = 100;
/// Counting stops here, so that a count costs no more than a large page.
pub const COUNT_CAP: u32 = 10_000;

/// A row that can stand in a list: the values by which it may be ordered.
pub trait Keyed: Entity + Debug {
    /// The value of a column that an order names; `None` for null.
    fn key(&self, column: &'static str) -> Option<Value>;
}

/// A value in a condition or a cursor. Only types whose comparison is leakproof are here, because
/// under row level security no other comparison can use an index.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// `uuid`
    Uuid(Uuid),
    /// `text`
    Text(String),
    /// `integer`
    Int(i32),
    /// `boolean`
    Bool(bool),
    /// `timestamptz`
    Time(DateTime<Utc>),
    /// `date`
    Date(NaiveDate),
    /// `uuid[]`
    Uuids(Vec<Uuid>),
    /// `text[]`
    Texts(Vec<String>),
    /// `integer[]`
    Ints(Vec<i32>),
}

/// The type of an ordered column, against which a cursor is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(
    missing_docs,
    reason = "each is the variant of Value with the same name"
)]
pub enum Kind {
    Uuid,
    Text,
    Int,
    Bool,
    Time,
    Date,
}

impl Value {
    fn into_expr(self) -> Expr {
        fn array<T: Into<sea_query::Value>>(of: ArrayType, items: Vec<T>) -> Expr {
            let items = items.into_iter().map(Into::into).collect();
            Expr::val(sea_query::Value::Array(of, Some(Box::new(items))))
        }
        match self {
            Self::Uuid(value) => Expr::val(value),
            Self::Text(value) => Expr::val(value),
            Self::Int(value) => Expr::val(value),
            Self::Bool(value) => Expr::val(value),
            Self::Time(value) => Expr::val(value),
            Self::Date(value) => Expr::val(value),
            Self::Uuids(values) => array(ArrayType::Uuid, values),
            Self::Texts(values) => array(ArrayType::String, values),
            Self::Ints(values) => array(ArrayType::Int, values),
        }
    }
}

/// A Rust type that is stored as one ordered or filtered column.
pub trait Column {
    /// The type in the database.
    const KIND: Kind;
    /// Whether it can be null.
    const NULLABLE: bool = false;

    /// The value; `None` for null.
    fn value(&self) -> Option<Value>;
}

macro_rules! columns {
    ($($type:ty = $kind:ident),+) => {
        $(impl Column for $type {
            const KIND: Kind = Kind::$kind;

            fn value(&self) -> Option<Value> {
                Some(Value::$kind(self.clone()))
            }
        })+
    };
}
columns!(Uuid = Uuid, String = Text, i32 = Int, bool = Bool, DateTime<Utc> = Time, NaiveDate = Date);

impl<I: EntityId> Column for I {
    const KIND: Kind = Kind::Uuid;

    fn value(&self) -> Option<Value> {
        Some(Value::Uuid(self.uuid()))
    }
}

impl<T: Column> Column for Option<T> {
    const KIND: Kind = T::KIND;
    const NULLABLE: bool = true;

    fn value(&self) -> Option<Value> {
        self.as_ref().and_then(T::value)
    }
}

/// Which rows, as a tree. Two-valued: a comparison with null is false, and `Not` of it is true.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Filter {
    /// Every part holds; no part at all holds always.
    All(Vec<Filter>),
    /// One part holds; no part at all never holds.
    Any(Vec<Filter>),
    /// The part does not hold.
    Not(Box<Filter>),
    /// A column compares with a value.
    Is(&'static str, Comparison, Value),
    /// A column is one of the values.
    In(&'static str, Value),
    /// A column is null (`true`) or not (`false`).
    Null(&'static str, bool),
}

/// How a column compares with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// The same value.
    Eq,
    /// Another value, or null.
    Ne,
    /// Less, earlier.
    Lt,
    /// At most.
    Lte,
    /// Greater, later.
    Gt,
    /// At least.
    Gte,
    /// Text that begins with it, case and all; uses an index.
    StartsWith,
    /// Text that holds it, ignoring case; reads the tenant's whole part of the table.
    Contains,
}

impl Default for Filter {
    fn default() -> Self {
        Self::All(Vec::new())
    }
}

impl Filter {
    pub(super) fn condition(&self) -> Cond {
        match self {
            Self::All(parts) => parts
                .iter()
                .fold(Cond::all(), |all, part| all.add(part.condition())),
            Self::Any(parts) if parts.is_empty() => Cond::all().add(Expr::cust("false")),
            Self::Any(parts) => parts
                .iter()
                .fold(Cond::any(), |any, part| any.add(part.condition())),
            // `not null` is null in SQL, so the part is made two-valued first.
            Self::Not(part) => {
                let holds = Func::coalesce([Expr::from(part.condition()), Expr::cust("false")]);
                Cond::all().add(Expr::from(holds).not())
            }
            Self::Is(column, comparison, value) => {
                Cond::all().add(comparison.expr(column, value.clone().into_expr()))
            }
            Self::In(column, values) => Cond::all().add(any(column, values.clone())),
            Self::Null(column, true) => Cond::all().add(Expr::col(*column).is_null()),
            Self::Null(column, false) => Cond::all().add(Expr::col(*column).is_not_null()),
        }
    }
}

impl Comparison {
    fn expr(self, column: &'static str, value: Expr) -> Expr {
        let column = Expr::col(column);
        match self {
            Self::Eq => column.eq(value),
            Self::Ne => Expr::cust_with_exprs("$1 is distinct from $2", [column, value]),
            Self::Lt => column.lt(value),
            Self::Lte => column.lte(value),
            Self::Gt => column.gt(value),
            Self::Gte => column.gte(value),
            Self::StartsWith => PgFunc::starts_with(column, value).into(),
            Self::Contains => {
                Expr::cust_with_exprs("strpos(lower($1), lower($2)) > 0", [column, value])
            }
        }
    }
}

/// `column = any($n)`: one placeholder however many values, so the text of the statement is constant.
pub(super) fn any(column: &'static str, values: Value) -> Expr {
    Expr::col(column).eq(PgFunc::any(values.into_expr()))
}

/// One term of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Term {
    /// The column.
    pub column: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Whether it can be null; null sorts as greater than everything, as in Postgres.
    pub nullable: bool,
    /// From great to small.
    pub descending: bool,
}

/// Where a row stands in an order: its value for each term; `None` for null.
pub type Position = Vec<Option<Value>>;

/// A list with its filter, order and page: everything but the parent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct List {
    /// The column by which rows belong to a parent; `None` for a list under no parent.
    pub scope: Option<&'static str>,
    /// Which rows.
    pub filter: Filter,
    /// In which order. The last term is the id, so that no two rows are equal.
    pub order: Vec<Term>,
    /// Only rows behind this position.
    pub after: Option<Position>,
    /// Only rows in front of this position.
    pub before: Option<Position>,
    /// Most rows; at most [`MAX_PAGE`].
    pub size: u32,
    /// The last rows instead of the first.
    pub from_end: bool,
}

impl List {
    /// Rows of one tenant and, in a lateral join, of the parent beside it.
    fn rows<E: Entity>(&self, tx: &TenantTx) -> SelectStatement {
        let mut query = Query::select();
        query
            .from(E::TABLE)
            .and_where(Expr::col(E::TENANT_COLUMN).eq(tx.tenant_uuid()));
        if let Some(scope) = self.scope {
            query.and_where(Expr::col(scope).equals((PARENT, PARENT)));
        }
        query.cond_where(self.filter.condition());
        query
    }

    fn page<E: Entity>(&self, tx: &TenantTx) -> SelectStatement {
        let mut query = self.rows::<E>(tx);
        query.columns(E::COLUMNS.iter().copied());
        if let Some(position) = &self.after {
            query.cond_where(behind(&self.order, position, false));
        }
        if let Some(position) = &self.before {
            query.cond_where(behind(&self.order, position, true));
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
        // One row more than asked for: it answers whether there is another page.
        query.limit(u64::from(self.size) + 1);
        query
    }

    fn count<E: Entity>(&self, tx: &TenantTx) -> SelectStatement {
        let mut rows = self.rows::<E>(tx);
        rows.expr(Expr::cust("1")).limit(u64::from(COUNT_CAP) + 1);
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

/// The rows behind a position of an order, or in front of it.
///
/// If all terms point the same way and none is nullable this is one row comparison, which Postgres
/// takes as an index condition. Otherwise it is spelled out: equal in the terms before, behind in this.
fn behind(order: &[Term], position: &Position, in_front: bool) -> Cond {
    let descends = |term: &Term| term.descending != in_front;
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

    let mut cases = Cond::any();
    let mut equal = Cond::all();
    for (term, value) in order.iter().zip(position) {
        let column = || Expr::col(term.column);
        let value = value.clone().map(Value::into_expr);
        let beyond = match (descends(term), value.clone()) {
            (true, Some(value)) => Some(Cond::all().add(column().lt(value))),
            (true, None) => Some(Cond::all().add(column().is_not_null())),
            (false, Some(value)) if term.nullable => {
                Some(Cond::any().add(column().gt(value)).add(column().is_null()))
            }
            (false, Some(value)) => Some(Cond::all().add(column().gt(value))),
            (false, None) => None,
        };
        if let Some(beyond) = beyond {
            cases = cases.add(Cond::all().add(equal.clone()).add(beyond));
        }
        equal = equal.add(match value {
            Some(value) => column().eq(value),
            None => column().is_null(),
        });
    }
    cases
}

/// A page of rows.
#[derive(Clone, Debug)]
pub struct Page<E> {
    /// The rows, in the order of the list.
    pub rows: Vec<Arc<E>>,
    /// Whether rows follow. Of a page from the end: whether `before` was given.
    pub has_next: bool,
    /// Whether rows precede. Of a page from the start: whether `after` was given.
    pub has_previous: bool,
}

/// "That list, of this parent."
pub struct Of<E> {
    /// The parent's id; `None` for a list under no parent.
    pub parent: Option<Uuid>,
    /// The list.
    pub list: Arc<List>,
    row: PhantomData<fn() -> E>,
}

/// "How many rows that list has, of this parent": up to [`COUNT_CAP`] and one.
pub struct CountOf<E>(pub Of<E>);

impl<E> Of<E> {
    /// The list of a parent.
    #[must_use]
    pub fn new(parent: Option<Uuid>, list: Arc<List>) -> Self {
        Self {
            parent,
            list,
            row: PhantomData,
        }
    }
}

impl<E> Clone for Of<E> {
    fn clone(&self) -> Self {
        Self::new(self.parent, Arc::clone(&self.list))
    }
}

impl<E> Debug for Of<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Of")
            .field("parent", &self.parent)
            .field("list", &self.list)
            .finish()
    }
}

impl<E> PartialEq for Of<E> {
    fn eq(&self, other: &Self) -> bool {
        self.parent == other.parent && self.list == other.list
    }
}

impl<E> Eq for Of<E> {}

impl<E> Hash for Of<E> {
    /// By parent alone: within one level most keys share their list, and hashing a filter for
    /// each parent would cost more than the few collisions of aliased lists.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parent.hash(state);
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

impl<E: Keyed> Batch for Of<E> {
    type Value = Arc<Page<E>>;

    async fn load(tx: &TenantTx, keys: &[Self]) -> Result<HashMap<Self, Arc<Page<E>>>> {
        let mut pages = HashMap::with_capacity(keys.len());
        for (list, parents) in by_list(keys) {
            let query = list.page::<E>(tx);
            let mut rows = if list.scope.is_some() {
                let query = beside_parents(query, E::COLUMNS, &parents);
                group::<E>(&tx.fetch_all(statement(&query)).await?)?
            } else {
                let rows = tx.fetch_all(statement(&query)).await?;
                let rows = rows.iter().map(|row| E::read(row).map(Arc::new));
                HashMap::from([(None, rows.collect::<sqlx::Result<Vec<_>>>()?)])
            };
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

impl<E: Keyed> Batch for CountOf<E> {
    type Value = u32;

    async fn load(tx: &TenantTx, keys: &[Self]) -> Result<HashMap<Self, u32>> {
        let mut counts = HashMap::with_capacity(keys.len());
        let keys: Vec<Of<E>> = keys.iter().map(|key| key.0.clone()).collect();
        for (list, parents) in by_list(&keys) {
            let query = list.count::<E>(tx);
            let query = if list.scope.is_some() {
                beside_parents(query, &["n"], &parents)
            } else {
                query
            };
            for row in tx.fetch_all(statement(&query)).await? {
                let count: i64 = row.try_get(0)?;
                let parent = if list.scope.is_some() {
                    Some(row.try_get(1)?)
                } else {
                    None
                };
                let key = Of::new(parent, Arc::clone(&list));
                counts.insert(Self(key), u32::try_from(count).unwrap_or(u32::MAX));
            }
        }
        Ok(counts)
    }
}

/// The keys' parents by list: one group unless the client aliased the field with other arguments.
fn by_list<E>(keys: &[Of<E>]) -> Vec<(Arc<List>, Vec<Option<Uuid>>)> {
    let mut groups: Vec<(Arc<List>, Vec<Option<Uuid>>)> = Vec::with_capacity(1);
    for key in keys {
        match groups.iter_mut().find(|(list, _)| *list == key.list) {
            Some((_, parents)) => parents.push(key.parent),
            None => groups.push((Arc::clone(&key.list), vec![key.parent])),
        }
    }
    groups
}

/// The name of the relation, and thereby of the column, that holds the parents' ids.
const PARENT: &str = "parent";

/// `select row.…, parent from unnest($1) as parent join lateral (…) as row on true`
///
/// A lateral join can only be a nested loop, so the rows of a parent keep the order of the inner page.
fn beside_parents(
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

fn group<E: Entity>(rows: &[PgRow]) -> Result<HashMap<Option<Uuid>, Vec<Arc<E>>>> {
    let mut groups: HashMap<Option<Uuid>, Vec<Arc<E>>> = HashMap::new();
    for row in rows {
        groups
            .entry(Some(parent_of::<E>(row)?))
            .or_default()
            .push(Arc::new(E::read(row)?));
    }
    Ok(groups)
}

/// The statement of a query: names and placeholders in the text, every value an argument.
pub(super) fn statement(query: &impl SqlxBinder) -> Statement {
    let (text, values) = query.build_sqlx(PostgresQueryBuilder);
    Statement::built(text, values.into_arguments())
}

/// The position of a row in an order.
pub fn position<E: Keyed>(order: &[Term], row: &E) -> Position {
    order
        .iter()
        .map(|term| match term.column {
            "id" => Some(Value::Uuid(row.id().uuid())),
            column => row.key(column),
        })
        .collect()
}
