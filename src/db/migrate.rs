//! Prepares a database: roles, rights, migrations.
//!
//! Roles belong to the cluster and not to a database, so they are created here and never in a migration.
//! A superuser creates or repairs them; `palisade_owner` only migrates.

mod keys;
mod roles;

use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection,
    migrate::{Migrate as _, MigrateError as SqlxMigrateError, Migration, Migrator},
};

use super::{ConnectError, connect_options, context::Signing, refuse_old_server, unreachable};

pub use keys::{KEY_OVERLAP, rotate_key};
pub use roles::RolePasswords;

use keys::install_key;
use roles::{FUNCTION_RIGHTS, RIGHTS, make_function_owners, make_roles, require_roles};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// The role that owns the schema.
pub const OWNER: &str = "palisade_owner";

/// The reason why a database could not be prepared. Each message is one line.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database cannot be used at all.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The login may neither create roles nor act as the owner.
    #[error(
        "the role {0} can create neither roles nor the schema: run `palisade migrate` as a superuser or as {OWNER}"
    )]
    Powerless(String),
    /// A role is missing, and the owner cannot create roles.
    #[error(
        "the role {0} is missing, and {OWNER} cannot create it: run `palisade migrate` once as a superuser"
    )]
    RoleMissing(String),
    /// A migration failed, or an applied migration is not in this binary or differs from it.
    #[error("{0}")]
    Migration(String),
    /// The database is Citus, which cannot verify contexts.
    #[error("Citus cannot verify signed contexts: run `palisade migrate --unsigned-context`")]
    SignedOnCitus,
    /// Two other keys are valid.
    #[error(
        "two other context keys are still valid: wait until one has expired, or run `palisade context rotate \
         --keep-previous 0s` to end both now"
    )]
    TwoKeys,
    /// Another valid key has the same id.
    #[error("another valid context key has the id {0}, a part of its hash: choose another key")]
    KeyIdTaken(String),
    /// Another key has replaced this one.
    #[error(
        "the context key {id} was replaced, and is not valid after {valid_until}: set PALISADE_CONTEXT_KEY to the key \
         that replaced it, or run `palisade context rotate` for a new one"
    )]
    KeyReplaced {
        /// The id of the key.
        id: String,
        /// The end of its validity, for people.
        valid_until: String,
    },
    /// A statement that does not belong to a migration failed.
    #[error("cannot prepare the database: {0}")]
    Refused(String),
}

impl From<sqlx::Error> for MigrateError {
    fn from(error: sqlx::Error) -> Self {
        Self::Refused(match error {
            sqlx::Error::Database(database) => database.message().to_owned(),
            other => other.to_string(),
        })
    }
}

impl From<SqlxMigrateError> for MigrateError {
    fn from(error: SqlxMigrateError) -> Self {
        explain(&error)
    }
}

/// The result of [`run`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MigrationSummary {
    /// The number of migrations that this run applied.
    pub applied: usize,
    /// The number of migrations that the database has.
    pub total: usize,
    /// Whether the database can accept a context: it has a key, or it does not verify contexts.
    pub accepts_contexts: bool,
}

/// The versions of the migrations of this binary, in ascending order.
pub(super) fn versions() -> impl DoubleEndedIterator<Item = i64> {
    MIGRATIONS.iter().map(|migration| migration.version)
}

/// Creates roles and rights if the login may, then applies the missing migrations. If `signing` is given, installs its
/// key, or switches the verification of contexts off.
///
/// Several runs, one after another or at the same time, are safe: an advisory lock serializes them.
pub async fn run(
    url: &str,
    passwords: &RolePasswords,
    signing: Option<&Signing>,
) -> Result<MigrationSummary, MigrateError> {
    let options = connect_options(url)?;
    let mut connection = options
        .connect()
        .await
        .map_err(|error| unreachable(&options, &error))?;
    let migrated = prepare(&mut connection, passwords, signing).await;
    // The result is already known, so an error on close does not matter.
    connection.close().await.ok();
    migrated
}

/// Creates a database of this name in the cluster unless it exists. Takes the URL of a superuser.
pub async fn create_database(url: &str, name: &'static str) -> Result<(), MigrateError> {
    let options = connect_options(url)?;
    let mut connection = options
        .connect()
        .await
        .map_err(|error| unreachable(&options, &error))?;
    let create = format!("create database {name}");
    match connection.execute(AssertSqlSafe(create)).await {
        Ok(_) => Ok(()),
        Err(error) => {
            // The database exists (42P04), or another run created it at the same time (23505).
            let code = error
                .as_database_error()
                .and_then(sqlx::error::DatabaseError::code);
            if matches!(code.as_deref(), Some("42P04" | "23505")) {
                Ok(())
            } else {
                Err(error.into())
            }
        }
    }
}

async fn prepare(
    connection: &mut PgConnection,
    passwords: &RolePasswords,
    signing: Option<&Signing>,
) -> Result<MigrationSummary, MigrateError> {
    let login = sqlx::query!(
        r#"
        select rolname::text as "name!",
               rolsuper as "is_superuser!",
               current_setting('server_version_num')::integer as "server_number!",
               current_setting('server_version') as "server!"
        from pg_roles
        where rolname = current_user
        "#
    )
    .fetch_one(&mut *connection)
    .await?;
    refuse_old_server(login.server_number, login.server)?;
    if login.is_superuser {
        make_roles(connection, passwords).await?;
        make_function_owners(connection).await?;
        connection.execute(RIGHTS).await?;
        connection.execute("set role palisade_owner").await?;
    } else if login.name == OWNER {
        require_roles(connection).await?;
    } else {
        return Err(MigrateError::Powerless(login.name));
    }

    connection.execute("set lock_timeout = '30s'").await?;
    let on_citus = sqlx::query_scalar!(
        r#"select exists (select from pg_extension where extname = 'citus') as "on_citus!""#
    );
    if on_citus.fetch_one(&mut *connection).await? {
        if !matches!(signing, Some(Signing::Off)) {
            return Err(MigrateError::SignedOnCitus);
        }
        for setting in CITUS_SETTINGS {
            connection.execute(setting).await?;
        }
    }
    // Closing the connection releases the lock.
    connection.lock().await?;
    let mut summary = apply_missing(connection).await?;
    match signing {
        Some(Signing::On(key)) => install_key(connection, key, KEY_OVERLAP).await?,
        Some(Signing::Off) => {
            connection
                .execute("select app.sign_contexts(false)")
                .await?;
        }
        None => {}
    }
    let accepts_contexts = sqlx::query_scalar!(
        r#"
        select not prosecdef
               or exists (select from app.context_keys where valid_until is null or valid_until > now()) as "accepts!"
        from pg_proc
        where oid = 'app.verified()'::regprocedure
        "#
    );
    summary.accepts_contexts = accepts_contexts.fetch_one(&mut *connection).await?;
    if login.is_superuser {
        connection.execute("reset role").await?;
        connection.execute(FUNCTION_RIGHTS).await?;
    }
    Ok(summary)
}

/// Without these settings, Citus rejects triggers on distributed tables, and rejects the change of a table in
/// the transaction that distributed the table.
const CITUS_SETTINGS: [&str; 2] = [
    "set citus.enable_unsafe_triggers = on",
    "set citus.multi_shard_modify_mode = 'sequential'",
];

/// Compares the applied migrations with those of this binary, then applies the missing ones.
///
/// sqlx's own runner is not used: it sends a file as one message. Citus forwards the whole message to its
/// workers, which accept only one statement at a time.
async fn apply_missing(connection: &mut PgConnection) -> Result<MigrationSummary, MigrateError> {
    connection
        .ensure_migrations_table(&MIGRATIONS.table_name)
        .await?;
    let applied = connection
        .list_applied_migrations(&MIGRATIONS.table_name)
        .await?;
    let found: Vec<i64> = applied.iter().map(|migration| migration.version).collect();
    if is_before_first_release(&found) {
        return Err(ConnectError::BeforeFirstRelease.into());
    }
    for migration in applied {
        let known = MIGRATIONS.iter().find(|m| m.version == migration.version);
        match known {
            None => return Err(SqlxMigrateError::VersionMissing(migration.version).into()),
            Some(known) if known.checksum != migration.checksum => {
                return Err(SqlxMigrateError::VersionMismatch(migration.version).into());
            }
            Some(_) => {}
        }
    }
    let missing = MIGRATIONS.iter().filter(|m| !found.contains(&m.version));
    let mut migrated = MigrationSummary {
        applied: 0,
        total: found.len(),
        accepts_contexts: false,
    };
    for migration in missing {
        apply(connection, migration).await?;
        migrated.applied += 1;
        migrated.total += 1;
    }
    Ok(migrated)
}

/// Whether these are the versions of a database that was created before the first release. Its migrations
/// were numbered from 1 and have been replaced.
fn is_before_first_release(found: &[i64]) -> bool {
    let first = versions().next();
    found.iter().any(|version| Some(*version) < first)
}

/// Applies one migration in a transaction, unless its first line is `-- no-transaction`.
async fn apply(connection: &mut PgConnection, migration: &Migration) -> Result<(), MigrateError> {
    if migration.no_tx {
        return execute(connection, migration).await;
    }
    let mut transaction = connection.begin().await?;
    execute(&mut transaction, migration).await?;
    Ok(transaction.commit().await?)
}

/// Executes the statements of a migration and records it.
async fn execute(connection: &mut PgConnection, migration: &Migration) -> Result<(), MigrateError> {
    for statement in statements(migration.sql.as_str()) {
        connection
            .execute(AssertSqlSafe(statement.to_owned()))
            .await
            .map_err(|error| SqlxMigrateError::ExecuteMigration(error, migration.version))?;
    }
    // `skip` records the migration without running it.
    Ok(connection.skip(&MIGRATIONS.table_name, migration).await?)
}

/// Splits a file into its statements. Recognizes comments, quoted strings and names, and dollar quotes. Does not
/// recognize `E'…\'…'` strings or bodies in `begin atomic`, which migrations do not use.
fn statements(sql: &str) -> Vec<&str> {
    let bytes = sql.as_bytes();
    // The position after the next `end` at or after `from`.
    let after = |end: &str, from: usize| {
        sql[from..]
            .find(end)
            .map_or(sql.len(), |at| from + at + end.len())
    };
    let (mut found, mut start, mut at, mut is_empty) = (Vec::new(), 0, 0, true);
    while at < bytes.len() {
        let (next, is_code) = match bytes[at] {
            b'-' if sql[at..].starts_with("--") => (after("\n", at), false),
            b'/' if sql[at..].starts_with("/*") => (after("*/", at), false),
            b'\'' => (after("'", at + 1), true),
            b'"' => (after("\"", at + 1), true),
            b'$' => match dollar_quote(&sql[at..]) {
                Some(quote) => (after(quote, at + quote.len()), true),
                None => (at + 1, true),
            },
            b';' => {
                found.push(sql[start..at].trim());
                (start, is_empty) = (at + 1, true);
                (at + 1, false)
            }
            byte => (at + 1, !byte.is_ascii_whitespace()),
        };
        is_empty &= !is_code;
        at = next;
    }
    if !is_empty {
        found.push(sql[start..].trim());
    }
    found
}

/// The opening quote, such as `$$` or `$body$`, that a string starts with.
fn dollar_quote(sql: &str) -> Option<&str> {
    let length = sql[1..].find('$')? + 2;
    let tag = &sql[1..length - 1];
    let is_tag = tag.chars().all(|c| c.is_alphanumeric() || c == '_')
        && !tag.starts_with(|c: char| c.is_ascii_digit());
    is_tag.then_some(&sql[..length])
}

/// Returns an error whose message is one line: the migration and its error.
fn explain(error: &SqlxMigrateError) -> MigrateError {
    use SqlxMigrateError as Cause;

    let name = |version: i64| {
        let description = MIGRATIONS
            .iter()
            .find(|m| m.version == version)
            .map(|m| &*m.description);
        format!(
            "migration {version} ({})",
            description.unwrap_or("unknown to this binary")
        )
    };
    let of_server = |error: &sqlx::Error| match error {
        sqlx::Error::Database(database) => database.message().to_owned(),
        other => other.to_string(),
    };
    MigrateError::Migration(match error {
        Cause::ExecuteMigration(error, version) => {
            format!("{} failed: {}", name(*version), of_server(error))
        }
        Cause::VersionMismatch(version) => {
            format!(
                "{} was changed after it was applied to this database",
                name(*version)
            )
        }
        Cause::VersionMissing(version) => format!(
            "the database has migration {version}, which this binary does not contain: use a newer binary"
        ),
        Cause::Execute(error) => format!("cannot migrate: {}", of_server(error)),
        other => format!("cannot migrate: {other}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_split_into_its_statements() {
        for (sql, expected) in [
            ("", vec![]),
            ("-- nothing; at all\n  ", vec![]),
            ("a;b", vec!["a", "b"]),
            ("a;\n-- c; d\nb;\n", vec!["a", "-- c; d\nb"]),
            ("/* a; */ b;", vec!["/* a; */ b"]),
            ("a ';' 'it''s;' \";\"; b", vec!["a ';' 'it''s;' \";\"", "b"]),
            ("$$ a; 'b $$; c", vec!["$$ a; 'b $$", "c"]),
            ("$x$ $$; $y$; $x$ ä; b", vec!["$x$ $$; $y$; $x$ ä", "b"]),
            ("a $1; b $2", vec!["a $1", "b $2"]),
        ] {
            assert_eq!(statements(sql), expected, "{sql}");
        }
    }

    #[test]
    fn every_statement_of_the_migrations_begins_with_a_keyword_and_adds_at_most_one_constraint() {
        let keywords = [
            "alter", "comment", "create", "do", "grant", "insert", "revoke", "select",
        ];
        for migration in MIGRATIONS.iter() {
            let statements = statements(migration.sql.as_str());
            assert!(!statements.is_empty(), "{}", migration.version);
            for statement in statements {
                let code = statement
                    .lines()
                    .find(|line| !line.is_empty() && !line.starts_with("--"));
                let first = code.and_then(|line| line.split(' ').next());
                assert!(
                    first.is_some_and(|first| keywords.contains(&first)),
                    "{}: {statement}",
                    migration.version
                );
                // Citus rejects two constraints in one statement.
                let constraints = statement.matches("add constraint").count();
                assert!(
                    constraints <= 1 || statement.starts_with("create function"),
                    "{}: {statement}",
                    migration.version
                );
            }
        }
    }

    #[test]
    fn versions_are_timestamps_in_ascending_order() {
        let versions: Vec<i64> = versions().collect();
        assert!(versions.is_sorted());
        for version in versions {
            assert_eq!(version.to_string().len(), 14, "{version}");
        }
    }
}
