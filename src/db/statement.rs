//! A statement for a tenant transaction.
//!
//! The invariant: **the SQL contains no values.** Every value is an argument, so the SQL depends only on
//! the shape of the statement, and prepared statements are reused.

use std::time::Duration;

use sea_query::PostgresQueryBuilder;
use sea_query_sqlx::SqlxBinder;
use sqlx::{
    AssertSqlSafe, IntoArguments as _, Postgres, SqlSafeStr, postgres::PgArguments, query::Query,
};

/// A statement with its arguments. Only `db/` creates statements.
pub(super) struct Statement {
    text: sqlx::SqlStr,
    arguments: PgArguments,
}

impl Statement {
    /// A statement that sea-query builds.
    pub(super) fn build(query: &impl SqlxBinder) -> Self {
        let (text, values) = query.build_sqlx(PostgresQueryBuilder);
        Self::with_arguments(text, values.into_arguments())
    }

    /// A statement that sea-query built with explicit placeholders, for these arguments.
    pub(super) fn with_arguments(text: String, arguments: PgArguments) -> Self {
        Self {
            text: AssertSqlSafe(text).into_sql_str(),
            arguments,
        }
    }

    pub(super) fn text(&self) -> &str {
        self.text.as_str()
    }

    pub(super) fn into_query(self) -> Query<'static, Postgres, PgArguments> {
        sqlx::query_with(self.text, self.arguments)
    }
}

/// A statement that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedStatement {
    /// The SQL, which contains no values.
    pub sql: String,
    /// The time from sending the statement to its complete reply.
    pub duration: Duration,
    /// The number of rows that it returned or changed.
    pub rows: u64,
}
