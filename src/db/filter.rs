//! Conditions on rows, and the values that they compare.
//!
//! The invariant: **only leakproof comparisons use an index.** Under row level security PostgreSQL uses no
//! index for others. So a value has one of the types with leakproof comparisons.

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

/// A condition on rows, as a tree. It is two-valued: a comparison with null is false, and its `Not` is true.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Filter {
    /// Every part holds. Without parts it always holds.
    All(Vec<Filter>),
    /// At least one part holds. Without parts it never holds.
    Any(Vec<Filter>),
    /// The part does not hold.
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
    /// The string starts with the value, case-sensitive. Uses an index.
    StartsWith,
    /// The string contains the value, case-insensitive. Reads all rows of the tenant.
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
            // In SQL, `not null` is null. So the null of a part becomes false before it is negated.
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

/// `column = any($n)`: one placeholder for any number of values, so the text of the statement is constant.
pub(super) fn any(column: &'static str, values: Value) -> Expr {
    Expr::col(column).eq(PgFunc::any(values.into_expr()))
}
