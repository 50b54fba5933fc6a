//! Makes a database ready: roles, rights, migrations.
//!
//! Roles belong to the cluster and not to a database, so they are made here and never in a migration.
//! Run as a superuser it makes or repairs them; run as `palisade_owner` it only migrates.

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection,
    migrate::{Migrate as _, Migrator},
};

use super::{ConnectError, connect_options, refuse_old_server, unreachable};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// The role that owns the schema.
pub const OWNER: &str = "palisade_owner";

/// Each role with its attributes and settings. The settings of the service's role bound what one
/// request may hold: a statement 5 s, a lock wait 2 s, an idle transaction 10 s.
const ROLES: [(&str, &str, &[&str]); 4] = [
    (OWNER, "nobypassrls", &[]),
    (
        "palisade_app",
        "nobypassrls",
        &[
            "statement_timeout = '5s'",
            "lock_timeout = '2s'",
            "idle_in_transaction_session_timeout = '10s'",
        ],
    ),
    (
        "palisade_auth",
        "nobypassrls",
        &["statement_timeout = '5s'", "lock_timeout = '2s'"],
    ),
    ("palisade_admin", "bypassrls", &["lock_timeout = '2s'"]),
];

/// Passwords to give to the roles; a role without one keeps what it has.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct RolePasswords {
    /// Password to set for `palisade_owner`.
    #[arg(
        long,
        env = "PALISADE_OWNER_PASSWORD",
        hide_env_values = true,
        value_name = "PASSWORD"
    )]
    pub owner_password: Option<SecretString>,
    /// Password to set for `palisade_app`.
    #[arg(
        long,
        env = "PALISADE_APP_PASSWORD",
        hide_env_values = true,
        value_name = "PASSWORD"
    )]
    pub app_password: Option<SecretString>,
    /// Password to set for `palisade_auth`.
    #[arg(
        long,
        env = "PALISADE_AUTH_PASSWORD",
        hide_env_values = true,
        value_name = "PASSWORD"
    )]
    pub auth_password: Option<SecretString>,
    /// Password to set for `palisade_admin`.
    #[arg(
        long,
        env = "PALISADE_ADMIN_PASSWORD",
        hide_env_values = true,
        value_name = "PASSWORD"
    )]
    pub admin_password: Option<SecretString>,
}

impl RolePasswords {
    fn of(&self, role: &str) -> Option<&str> {
        let password = match role {
            OWNER => &self.owner_password,
            "palisade_app" => &self.app_password,
            "palisade_auth" => &self.auth_password,
            _ => &self.admin_password,
        };
        password.as_ref().map(SecretString::expose_secret)
    }
}

/// Why a database could not be made ready. Each is one line.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database cannot be used at all.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The login may neither make roles nor act as the owner.
    #[error(
        "the role {0} can make neither roles nor the schema: run `palisade migrate` as a superuser or as {OWNER}"
    )]
    Powerless(String),
    /// The owner cannot make roles.
    #[error(
        "the role {0} is missing, and {OWNER} cannot make it: run `palisade migrate` once as a superuser"
    )]
    RoleMissing(String),
    /// A migration failed or does not fit what was applied before.
    #[error("{0}")]
    Migration(String),
    /// The server refused a statement of the bootstrap.
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

/// What [`run`] found and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// Migrations that were applied now.
    pub applied: usize,
    /// Migrations that the database has.
    pub total: usize,
}

/// Makes roles and rights if the login may, then applies what is missing.
///
/// Safe to run again and at the same time: an advisory lock lets one run after the other.
pub async fn run(url: &str, passwords: &RolePasswords) -> Result<Migrated, MigrateError> {
    let options = connect_options(url)?;
    let mut connection = options
        .connect()
        .await
        .map_err(|error| unreachable(&options, &error))?;
    let migrated = prepare(&mut connection, passwords).await;
    // The answer counts, not how the goodbye went.
    connection.close().await.ok();
    migrated
}

/// Makes a database of this name in the cluster, unless it is there. Takes a superuser's address.
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
            // It exists (42P04), or another run made it this very moment (23505).
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
) -> Result<Migrated, MigrateError> {
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
        connection.execute(RIGHTS).await?;
        connection.execute("set role palisade_owner").await?;
    } else if login.name == OWNER {
        require_roles(connection).await?;
    } else {
        return Err(MigrateError::Powerless(login.name));
    }

    connection.execute("set lock_timeout = '30s'").await?;
    // The migrator takes the same lock once more. What it takes too late for is its own table, and
    // the count of what was applied before. Closing the connection gives it back.
    connection.lock().await.map_err(|error| explain(&error))?;
    let before = applied(connection).await?;
    MIGRATIONS
        .run(&mut *connection)
        .await
        .map_err(|error| explain(&error))?;
    let total = applied(connection).await?;
    Ok(Migrated {
        applied: total - before,
        total,
    })
}

async fn make_roles(
    connection: &mut PgConnection,
    passwords: &RolePasswords,
) -> Result<(), MigrateError> {
    for (role, attributes, settings) in ROLES {
        // Attributes are set again each time, so that a role that was widened by hand is narrowed.
        let create = format!("create role {role} login");
        if let Err(error) = connection.execute(AssertSqlSafe(create)).await {
            // It exists (42710), or another run made it this very moment (23505).
            let code = error
                .as_database_error()
                .and_then(sqlx::error::DatabaseError::code);
            if !matches!(code.as_deref(), Some("42710" | "23505")) {
                return Err(error.into());
            }
        }
        let mut statements = vec![format!(
            "alter role {role} login nosuperuser nocreatedb nocreaterole noreplication inherit {attributes}"
        )];
        statements.extend(
            settings
                .iter()
                .map(|setting| format!("alter role {role} set {setting}")),
        );
        if let Some(password) = passwords.of(role) {
            // ALTER ROLE takes no parameters: Postgres itself quotes the literal.
            let quoted = sqlx::query_scalar!(
                r#"select format('alter role %I password %L', $1::text, $2::text) as "sql!""#,
                role,
                password,
            );
            statements.push(quoted.fetch_one(&mut *connection).await?);
        }
        for statement in statements {
            repeat_if_concurrent(connection, statement).await?;
        }
    }
    Ok(())
}

/// Roles belong to the cluster, so two runs in two of its databases, which no lock of a database keeps
/// apart, may change the same role at once: Postgres lets one fail, with XX000 "tuple concurrently
/// updated" or with 23505 for a setting that was new. The statements are the same, so doing it again
/// is right.
async fn repeat_if_concurrent(
    connection: &mut PgConnection,
    statement: String,
) -> Result<(), MigrateError> {
    for attempt in 0..10 {
        match connection.execute(AssertSqlSafe(statement.clone())).await {
            Err(sqlx::Error::Database(error))
                if matches!(error.code().as_deref(), Some("XX000" | "23505")) && attempt < 9 => {}
            done => return Ok(done.map(|_| ())?),
        }
    }
    Ok(())
}

/// Rights on what exists before the first migration. No right comes by default: each table's
/// migration grants its own.
const RIGHTS: &str = r"
do $$
declare
    routine regprocedure;
begin
    perform pg_advisory_xact_lock(7305825634912); -- one bootstrap of this database at a time
    execute format('revoke all on database %I from public', current_database());
    execute format('grant connect on database %I to palisade_app, palisade_auth, palisade_admin', current_database());
    execute format('grant connect, create on database %I to palisade_owner', current_database());
    revoke all on schema public from public;
    grant usage, create on schema public to palisade_owner;
    grant usage on schema public to palisade_app, palisade_auth, palisade_admin;
    -- Large objects know no row level security.
    for routine in
        select oid::regprocedure from pg_proc
         where pronamespace = 'pg_catalog'::regnamespace
           and (proname like 'lo\_%' or proname in ('loread', 'lowrite'))
           and (proacl is null or exists (select from aclexplode(proacl) where grantee = 0))
    loop
        execute format('revoke execute on function %s from public', routine);
    end loop;
end $$";

async fn require_roles(connection: &mut PgConnection) -> Result<(), MigrateError> {
    let names: Vec<String> = ROLES.iter().map(|(role, ..)| (*role).to_owned()).collect();
    let missing = sqlx::query_scalar!(
        r#"
        select name as "name!" from unnest($1::text[]) as name
        where not exists (select from pg_roles where rolname = name)
        limit 1
        "#,
        &names,
    );
    match missing.fetch_optional(connection).await? {
        Some(role) => Err(MigrateError::RoleMissing(role)),
        None => Ok(()),
    }
}

/// How many migrations the database has; none if it never saw one.
async fn applied(connection: &mut PgConnection) -> Result<usize, MigrateError> {
    connection
        .ensure_migrations_table(&MIGRATIONS.table_name)
        .await
        .map_err(|error| explain(&error))?;
    let applied = connection
        .list_applied_migrations(&MIGRATIONS.table_name)
        .await
        .map_err(|error| explain(&error))?;
    Ok(applied.len())
}

/// One line that names the migration and what is wrong with it.
fn explain(error: &sqlx::migrate::MigrateError) -> MigrateError {
    use sqlx::migrate::MigrateError as Cause;

    let name = |version: i64| {
        let description = MIGRATIONS
            .iter()
            .find(|m| m.version == version)
            .map(|m| &*m.description);
        format!(
            "migration {version:04} ({})",
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
            "the database has migration {version:04}, which this binary does not know: use a newer one"
        ),
        Cause::Dirty(version) => format!("{} was left half applied", name(*version)),
        Cause::Execute(error) => format!("cannot migrate: {}", of_server(error)),
        other => format!("cannot migrate: {other}"),
    })
}
