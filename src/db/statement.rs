//! A statement for a tenant transaction.
//!
//! The invariant: **the SQL contains no values.** Every value is an argument, so the SQL depends only on
//! the shape of the statement, and prepared statements are reused.
//!
//! **No statement changes the session.** PostgreSQL executes only one command of a prepared statement, and this module
//! rejects every command that does not read or write rows. Otherwise, an SQL statement that an attacker injects could
//! replace a prepared statement of the connection, which the next tenant would run in its own context.

use std::time::Duration;

use sea_query::PostgresQueryBuilder;
use sea_query_sqlx::SqlxBinder;
use sqlx::{
    AssertSqlSafe, IntoArguments as _, Postgres, SqlSafeStr, postgres::PgArguments, query::Query,
};

use crate::error::{Error, Result};

/// The beginnings of the commands that read or write rows, as sea-query writes them.
const QUERIES: [&str; 5] = ["SELECT ", "INSERT ", "UPDATE ", "DELETE ", "WITH "];

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
        Self::with_sql(AssertSqlSafe(text).into_sql_str(), arguments)
    }

    /// A statement whose SQL was built before, for these arguments.
    pub(super) fn with_sql(text: sqlx::SqlStr, arguments: PgArguments) -> Self {
        Self { text, arguments }
    }

    pub(super) fn text(&self) -> &str {
        self.text.as_str()
    }

    /// Fails if the statement is another command than a query, such as PREPARE, DO or SET.
    pub(super) fn check_command(&self) -> Result<()> {
        let is_query = QUERIES
            .iter()
            .any(|command| self.text().starts_with(command));
        if is_query {
            Ok(())
        } else {
            Err(Error::Internal("a statement that is not a query".into()))
        }
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
