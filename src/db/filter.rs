//! Conditions on rows, and the values that they compare.
//!
//! The invariant: **every comparison that should use an index is leakproof.** Under row level security,
//! PostgreSQL uses an index only for leakproof comparisons. So each type of value has such comparisons, and a
//! comparison that ignores case compares a stored column and not an expression.

use chrono::{DateTime, NaiveDate, Utc};
use sea_query::{ArrayType, Cond, Expr, ExprTrait as _, Func, extension::postgres::PgFunc};
use uuid::Uuid;

use crate::ids::EntityId;

/// A value in a condition or a cursor. Only types whose comparison is leakproof are supported, because
/// other comparisons cannot use an index under row level security.
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

/// The type of a sorted column. Cursors are checked against it.
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
    pub(super) fn into_expr(self) -> Expr {
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

/// A Rust type that is stored in one column, by which rows can be sorted or filtered.
pub trait Column {
    /// The type of the column.
    const KIND: Kind;
    /// Whether the column can be null.
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

/// A condition on rows, as a tree. A condition is true or false, never null: if the column is null, a comparison
/// other than [`Comparison::Ne`] is false, and its `Not` is true.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Filter {
    /// Every part is true. Without parts, the condition is true.
    All(Vec<Filter>),
    /// At least one part is true. Without parts, the condition is false.
    Any(Vec<Filter>),
    /// The part is not true.
    Not(Box<Filter>),
    /// A comparison of a column with a value.
    Compare(&'static str, Comparison, Value),
    /// The column equals one of the values.
    In(&'static str, Value),
    /// The column is null (`true`) or not null (`false`).
    Null(&'static str, bool),
}

/// A comparison operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// Equal.
    Eq,
    /// Not equal, or null.
    Ne,
    /// Less or earlier.
    Lt,
    /// Less than or equal.
    Lte,
    /// Greater or later.
    Gt,
    /// Greater than or equal.
    Gte,
    /// The string starts with the value. Uses an index unless the letters are `Unindexed`.
    StartsWith(Letters),
    /// The string equals the value, ignoring case. Uses an index unless the letters are `Unindexed`.
    EqIgnoreCase(Letters),
    /// The string starts with the value, ignoring case. Uses an index unless the letters are `Unindexed`.
    StartsWithIgnoreCase(Letters),
    /// The string contains the value, ignoring case. Uses no index.
    Contains(Letters),
}

/// The letters that the strings of a column may contain. They determine how a comparison ignores case: each
/// side of the comparison is a string without differences of case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Letters {
    /// Any letters. The generated column `<column>_folded` contains the folded strings.
    Mixed,
    /// No uppercase letters, so a string is equal to its folded string, unless it contains a Greek final sigma.
    Lower,
    /// Only ASCII letters, all uppercase.
    Upper,
    /// Any letters, in a long string without an index. Each search calls `app.fold` for each string.
    Unindexed,
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
            // In SQL, `not null` is null. So a part that is null becomes false before the negation.
            Self::Not(part) => {
                let holds = Func::coalesce([Expr::from(part.condition()), Expr::cust("false")]);
                Cond::all().add(Expr::from(holds).not())
            }
            Self::Compare(column, comparison, value) => {
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
        let own = Expr::col(column);
        match self {
            Self::Eq => own.eq(value),
            Self::Ne => Expr::cust_with_exprs("$1 is distinct from $2", [own, value]),
            Self::Lt => own.lt(value),
            Self::Lte => own.lte(value),
            Self::Gt => own.gt(value),
            Self::Gte => own.gte(value),
            // The first condition uses the index of the folded column and gives a good estimate of the number
            // of rows. A second `starts_with` would spoil the estimate. `coalesce` hides it from the planner, which
            // then assumes that it is true for half of the rows.
            Self::StartsWith(letters @ Letters::Mixed) => {
                starts_with(letters.column(column), letters.fold(value.clone())).and(
                    Expr::cust_with_exprs("coalesce(starts_with($1, $2), false)", [own, value]),
                )
            }
            Self::StartsWith(_) => starts_with(own, value),
            Self::EqIgnoreCase(letters) => letters.column(column).eq(letters.fold(value)),
            Self::StartsWithIgnoreCase(letters) => {
                starts_with(letters.column(column), letters.fold(value))
            }
            Self::Contains(letters) => Expr::cust_with_exprs(
                "strpos($1, $2) > 0",
                [letters.column(column), letters.fold(value)],
            ),
        }
    }
}

impl Letters {
    /// The folded strings of a column, or the column itself if its strings need no folding.
    fn column(self, column: &'static str) -> Expr {
        match self {
            Self::Mixed => Expr::col(format!("{column}_folded")),
            Self::Lower | Self::Upper => Expr::col(column),
            Self::Unindexed => folded(Expr::col(column)),
        }
    }

    /// The value, folded so that it can be compared with [`Letters::column`].
    fn fold(self, value: Expr) -> Expr {
        match self {
            Self::Mixed | Self::Lower | Self::Unindexed => folded(value),
            // The collation maps only ASCII letters. Other letters stay lowercase and match no string of the column.
            Self::Upper => Expr::cust_with_exprs(r#"upper($1 collate "C")"#, [folded(value)]),
        }
    }
}

fn folded(string: Expr) -> Expr {
    Expr::cust_with_exprs("app.fold($1)", [string])
}

/// `starts_with(column, start)`. PostgreSQL plans each execution with the value of `start`, because only a
/// constant becomes a range of an index.
fn starts_with(column: Expr, start: Expr) -> Expr {
    let start = Expr::cust_with_exprs("app.plan_with($1)", [start]);
    PgFunc::starts_with(column, start).into()
}

/// The condition that the id is one of these. PostgreSQL uses one plan for any number of ids.
///
/// With `id = any($n)`, PostgreSQL would plan each execution. It compares the cost of a custom plan, which knows the
/// array, with the cost of the generic plan, which assumes ten elements. The sub-select hides the number of elements
/// from both plans, so both have the same cost, and PostgreSQL reuses the generic plan.
pub(super) fn id_in(ids: Vec<Uuid>) -> Expr {
    let ids = Value::Uuids(ids).into_expr();
    let listed = Expr::cust_with_exprs("array(select unnest($1::uuid[]))", [ids]);
    Expr::col("id").eq(PgFunc::any(listed))
}

/// `column = any($n)`: one placeholder for any number of values, so the SQL is always the same.
pub(super) fn any(column: &'static str, values: Value) -> Expr {
    Expr::col(column).eq(PgFunc::any(values.into_expr()))
}
