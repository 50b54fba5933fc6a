//! The SQL of the most frequent statements, which is built once for each shape.
//!
//! The invariant: **the SQL is the one that sea-query builds.** A build with debug assertions, as for the tests, builds
//! it for each statement and compares.

use std::sync::{Arc, LazyLock};

use foldhash::fast::RandomState;
use hashlink::LruCache;
use parking_lot::Mutex;
use sea_query::PostgresQueryBuilder;
use sea_query_sqlx::SqlxBinder;
use sqlx::{Arguments as _, AssertSqlSafe, SqlSafeStr as _, SqlStr, postgres::PgArguments};

use super::{entity::ColumnSet, page::Term, statement::Statement};

/// The maximum number of shapes whose SQL is kept. Clients choose the columns and the sort orders. The SQL of a shape has
/// about 500 bytes.
const MAX_SHAPES: usize = 2_000;

/// The kept SQL. Clients choose the shapes, so the hash function has a random seed.
type KeptSql = LruCache<Shape, SqlStr, RandomState>;

static SQL: LazyLock<Mutex<KeptSql>> =
    LazyLock::new(|| Mutex::new(KeptSql::with_hasher(MAX_SHAPES, RandomState::default())));

/// Everything on which the SQL of a statement depends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Shape {
    /// The rows with some ids.
    ById {
        table: &'static str,
        columns: ColumnSet,
    },
    /// A page of a list without a filter and without cursors.
    Page {
        table: &'static str,
        columns: ColumnSet,
        parent_column: Option<&'static str>,
        order: Vec<Term>,
        from_end: bool,
    },
    /// An insertion of one row.
    Insert {
        table: &'static str,
        columns: Vec<&'static str>,
        /// The column on whose conflict nothing is inserted.
        unique: Option<&'static str>,
    },
}

impl Shape {
    /// A statement of this shape with these arguments. `query` is called only if the SQL of the shape is not kept. Its
    /// values are not used.
    pub(super) fn statement<Q: SqlxBinder>(
        self,
        arguments: PgArguments,
        query: impl FnOnce() -> Q,
    ) -> Statement {
        let kept = SQL.lock().get(&self).cloned();
        if let Some(sql) = kept {
            debug_assert_eq!(sql, build(&query(), &arguments), "{self:?}");
            return Statement::with_sql(sql, arguments);
        }
        let sql = build(&query(), &arguments);
        let sql = AssertSqlSafe(Arc::<str>::from(sql)).into_sql_str();
        SQL.lock().insert(self, sql.clone());
        Statement::with_sql(sql, arguments)
    }
}

/// The arguments of a statement: `arguments![tenant, ids]`. Returns from the function if one cannot be encoded.
macro_rules! arguments {
    ($($value:expr),+) => {{
        let mut arguments = sqlx::postgres::PgArguments::default();
        $(sqlx::Arguments::add(&mut arguments, $value).map_err(sqlx::Error::Encode)?;)+
        arguments
    }};
}
pub(super) use arguments;

fn build(query: &impl SqlxBinder, arguments: &PgArguments) -> String {
    let (sql, values) = query.build_sqlx(PostgresQueryBuilder);
    debug_assert_eq!(values.0.0.len(), arguments.len(), "{sql}");
    sql
}

#[cfg(test)]
mod tests {
    use sea_query::{Expr, ExprTrait as _, Query};

    use super::*;

    #[test]
    fn the_sql_of_a_shape_is_built_once_and_depends_on_every_column() {
        let statement = |columns: &[&'static str]| {
            let shape = Shape::Insert {
                table: "shapes",
                columns: columns.to_vec(),
                unique: None,
            };
            let mut arguments = PgArguments::default();
            arguments.add(1_i32).unwrap();
            let query = Query::select()
                .columns(columns.iter().copied())
                .and_where(Expr::col("id").eq(1))
                .take();
            shape.statement(arguments, || query).text().to_owned()
        };
        let first = statement(&["a"]);
        assert_eq!(first, r#"SELECT "a" WHERE "id" = $1"#);
        assert_eq!(statement(&["a"]), first);
        assert_eq!(statement(&["a", "b"]), r#"SELECT "a", "b" WHERE "id" = $1"#);
    }

    #[test]
    #[should_panic(expected = r#"SELECT \"b\""#)]
    fn a_shape_with_another_sql_is_found_by_tests() {
        let statement = |column: &'static str| {
            let shape = Shape::ById {
                table: "found",
                columns: ColumnSet::ID,
            };
            let query = || Query::select().column(column).take();
            shape.statement(PgArguments::default(), query);
        };
        statement("a");
        statement("b");
    }
}
