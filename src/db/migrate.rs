//! Prepares a database: roles, rights, migrations.
//!
//! Roles belong to the cluster and not to a database, so they are created here and never in a migration.
//! A superuser creates or repairs them; `palisade_owner` only migrates.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection,
    migrate::{Migrate as _, MigrateError as SqlxMigrateError, Migration, Migrator},
};

use super::{
    ConnectError, connect_options,
    context::{ContextKey, Signing},
    refuse_old_server, unreachable,
};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// The role that owns the schema.
pub const OWNER: &str = "palisade_owner";

/// Each role with its attributes and settings.
///
/// The settings of the service's role limit one request: a statement to 5 s, a wait for a lock to 2 s, an idle
/// transaction to 10 s. Those of the admin plane limit a forgotten session; `palisade audit verify` needs no limit of
/// its statements and sets none.
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
        &[
            "statement_timeout = '5s'",
            "lock_timeout = '2s'",
            "idle_in_transaction_session_timeout = '10s'",
        ],
    ),
    (
        "palisade_admin",
        "bypassrls",
        &[
            "statement_timeout = '5min'",
            "lock_timeout = '2s'",
            "idle_in_transaction_session_timeout = '10min'",
        ],
    ),
];

/// The roles that own functions with the rights of their owner. Nothing logs in as one of them.
///
/// `palisade_context` reads the keys of contexts. `palisade_cancel` sees and cancels the statements of all sessions.
const FUNCTION_OWNERS: [(&str, &[&str]); 2] = [
    ("palisade_context", &[]),
    (
        "palisade_cancel",
        &["pg_read_all_stats", "pg_signal_backend"],
    ),
];

/// How long a context key stays valid after another one has replaced it.
pub const KEY_OVERLAP: Duration = Duration::from_hours(24);

/// The log settings of every role except the owner. With them, no line of PostgreSQL's log quotes a value of a row: the
/// detail of an error can contain the row or its key, and the parameters of a statement are values. The client still
/// receives the detail. Only a superuser may set the first two.
const LOG_SETTINGS: [&str; 3] = [
    "log_error_verbosity = terse",
    "log_parameter_max_length = 0",
    "log_parameter_max_length_on_error = 0",
];

/// Passwords to set for the roles. A role for which no password is given keeps its password.
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

/// Installs a new random key. The other keys stay valid for this time. Returns the key.
pub async fn rotate_key(url: &str, keep_previous: Duration) -> Result<ContextKey, MigrateError> {
    let options = connect_options(url)?;
    let mut connection = options
        .connect()
        .await
        .map_err(|error| unreachable(&options, &error))?;
    let rotated = async {
        connection.execute("set role palisade_owner").await?;
        let known: Vec<String> = sqlx::query_scalar!("select id from app.context_keys")
            .fetch_all(&mut connection)
            .await?;
        // A key is found by the first byte of its hash, so the new one must differ from those that are valid.
        let key = std::iter::repeat_with(ContextKey::generate)
            .find(|key| !known.contains(&key.id()))
            .expect("BUG: the iterator is infinite");
        install_key(&mut connection, &key, keep_previous).await?;
        Ok(key)
    }
    .await;
    connection.close().await.ok();
    rotated
}

/// Makes a key valid without limit, and switches the verification on. Other keys stay valid for at most this time.
async fn install_key(
    connection: &mut PgConnection,
    key: &ContextKey,
    keep_previous: Duration,
) -> Result<(), MigrateError> {
    let [inner_pad, outer_pad] = key.pads();
    let mut transaction = connection.begin().await?;
    transaction
        .execute("lock table app.context_keys in share row exclusive mode")
        .await?;
    sqlx::query!(
        "update app.context_keys
         set valid_until = least(valid_until, now() + make_interval(secs => $2))
         where id <> $1",
        key.id(),
        keep_previous.as_secs_f64(),
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query!("delete from app.context_keys where valid_until <= now()")
        .execute(&mut *transaction)
        .await?;
    let others = sqlx::query!(
        r#"
        select count(*) filter (where id <> $1) as "valid!",
               coalesce(bool_or(id = $1 and inner_pad <> $2), false) as "have_its_id!"
        from app.context_keys
        "#,
        key.id(),
        inner_pad,
    );
    let others = others.fetch_one(&mut *transaction).await?;
    if others.have_its_id {
        return Err(MigrateError::KeyIdTaken(key.id()));
    }
    if others.valid > 1 {
        return Err(MigrateError::TwoKeys);
    }
    sqlx::query!(
        "insert into app.context_keys (id, inner_pad, outer_pad) values ($1, $2, $3)
         on conflict (id) do update set valid_until = null",
        key.id(),
        inner_pad,
        outer_pad,
    )
    .execute(&mut *transaction)
    .await?;
    transaction
        .execute(
            "select app.sign_contexts(true) from pg_proc where oid = 'app.verified()'::regprocedure and not prosecdef",
        )
        .await?;
    Ok(transaction.commit().await?)
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

async fn make_roles(
    connection: &mut PgConnection,
    passwords: &RolePasswords,
) -> Result<(), MigrateError> {
    for (role, attributes, settings) in ROLES {
        // Each run sets the attributes again. This revokes attributes that were granted by hand.
        create_role(connection, role, "login").await?;
        let mut changes = vec![
            format!(
                "alter role {role} login nosuperuser nocreatedb nocreaterole noreplication inherit {attributes}"
            ),
            format!("alter role {role} reset all"),
        ];
        changes.extend(
            settings
                .iter()
                .chain(LOG_SETTINGS.iter().filter(|_| role != OWNER))
                .map(|setting| format!("alter role {role} set {setting}")),
        );
        // One message is one transaction, so no session starts without the settings.
        let mut statements = vec![changes.join("; ")];
        statements.extend(extra_rights(connection, role).await?);
        if let Some(password) = passwords.of(role) {
            // ALTER ROLE takes no parameters, so PostgreSQL quotes the literal.
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

/// Creates the roles that own functions, and gives them their rights. The owner of the schema is a member of
/// `palisade_context`, so that it can replace the functions and install keys.
async fn make_function_owners(connection: &mut PgConnection) -> Result<(), MigrateError> {
    for (role, groups) in FUNCTION_OWNERS {
        create_role(connection, role, "nologin").await?;
        let attributes =
            "nologin nosuperuser nocreatedb nocreaterole noreplication inherit nobypassrls";
        let mut statements = vec![format!(
            "alter role {role} {attributes}; alter role {role} reset all"
        )];
        statements.extend(extra_rights(connection, role).await?);
        statements.extend(
            groups
                .iter()
                .map(|group| format!("grant {group} to {role}")),
        );
        for statement in statements {
            repeat_if_concurrent(connection, statement).await?;
        }
    }
    repeat_if_concurrent(connection, format!("grant palisade_context to {OWNER}")).await
}

/// Creates a role unless it exists.
async fn create_role(
    connection: &mut PgConnection,
    role: &str,
    login: &str,
) -> Result<(), MigrateError> {
    let create = format!("create role {role} {login}");
    if let Err(error) = connection.execute(AssertSqlSafe(create)).await {
        // The role exists (42710), or another run created it at the same time (23505).
        let code = error
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code);
        if !matches!(code.as_deref(), Some("42710" | "23505")) {
            return Err(error.into());
        }
    }
    Ok(())
}

/// The statements that take the memberships from a role, and its settings in this database.
async fn extra_rights(
    connection: &mut PgConnection,
    role: &str,
) -> Result<Vec<String>, MigrateError> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a statement about the catalogue alone"
    )]
    let statements = sqlx::query_scalar(
        "select format('revoke %I from %I', g.rolname, $1)
           from pg_catalog.pg_auth_members m
           join pg_catalog.pg_roles g on g.oid = m.roleid
          where m.member = (select oid from pg_catalog.pg_roles where rolname = $1)
            and (g.rolname, $1) <> ('palisade_context', 'palisade_owner')
         union all
         select format('alter role %I in database %I reset all', $1, current_database())
           from pg_catalog.pg_db_role_setting s
           join pg_catalog.pg_roles r on r.oid = s.setrole
           join pg_catalog.pg_database d on d.oid = s.setdatabase
          where r.rolname = $1 and d.datname = current_database()",
    )
    .bind(role);
    Ok(statements.fetch_all(connection).await?)
}

/// Runs a statement again if another run changed the same role at the same time.
///
/// A role belongs to the cluster, but an advisory lock belongs to one database. So two runs in two databases
/// may collide. PostgreSQL then reports XX000 "tuple concurrently updated", or 23505 for a new setting. Both
/// runs execute the same statements, so a repetition is safe.
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

/// Rights on the objects that exist before the first migration. There are no default privileges: the migration
/// that creates a table also grants the rights on the table.
const RIGHTS: &str = r"
do $$
declare
    routine regprocedure;
    place   regnamespace;
begin
    perform pg_advisory_xact_lock(7305825634912); -- one bootstrap of this database at a time
    execute format('revoke all on database %I from public, palisade_app, palisade_auth, palisade_admin',
                   current_database());
    execute format('grant connect on database %I to palisade_app, palisade_auth, palisade_admin', current_database());
    execute format('grant connect, create on database %I to palisade_owner', current_database());
    revoke all on schema public from public, palisade_app, palisade_auth, palisade_admin;
    grant usage, create on schema public to palisade_owner;
    grant usage on schema public to palisade_app, palisade_auth, palisade_admin;
    -- No migration grants these rights.
    for place in
        select oid from pg_namespace where nspname in ('public', 'app')
    loop
        execute format('revoke create on schema %s from public, palisade_app, palisade_auth, palisade_admin', place);
        execute format('revoke truncate, references, trigger on all tables in schema %s
                            from public, palisade_app, palisade_auth, palisade_admin', place);
        execute format('revoke all on all tables in schema %s from public', place);
    end loop;
    -- Row level security does not cover large objects.
    for routine in
        select oid::regprocedure from pg_proc
         where pronamespace = 'pg_catalog'::regnamespace
           and (proname like 'lo\_%' or proname in ('loread', 'lowrite'))
           and (proacl is null or exists (select from aclexplode(proacl) where grantee = 0))
    loop
        execute format('revoke execute on function %s from public', routine);
    end loop;
end $$";

/// The owners of the functions that need more rights than those of their callers, and the rights to see and end the
/// statements of other sessions.
///
/// The BEGIN of a transaction contains its context. Without these revocations, SQL that an attacker injects could copy
/// the context of another session and use it while it is fresh.
const FUNCTION_RIGHTS: &str = r"
do $$
declare
    routine regprocedure;
    view_   regclass;
begin
    perform pg_advisory_xact_lock(7305825634912); -- one bootstrap of this database at a time
    alter table app.context_keys owner to palisade_context;
    revoke all on app.context_keys from public, palisade_app, palisade_auth, palisade_admin;
    if (select prosecdef from pg_proc where oid = 'app.verified()'::regprocedure) then
        alter function app.verified() owner to palisade_context;
    else
        alter function app.verified() owner to palisade_owner;
    end if;
    alter function app.cancel(text) owner to palisade_cancel;
    alter function app.cancel(text) security definer;
    for routine in
        select oid::regprocedure from pg_proc
         where (pronamespace = 'pg_catalog'::regnamespace
                and proname in ('pg_stat_get_activity', 'pg_stat_get_backend_activity',
                                'pg_cancel_backend', 'pg_terminate_backend'))
            or (proname = 'pg_stat_statements' and probin like '%pg_stat_statements')
    loop
        execute format('revoke execute on function %s from public, palisade_app, palisade_auth, palisade_admin', routine);
        execute format('grant execute on function %s to pg_read_all_stats, pg_signal_backend', routine);
    end loop;
    for view_ in
        select c.oid::regclass from pg_class c
         where c.oid = 'pg_catalog.pg_stat_activity'::regclass
            or (c.relkind = 'v' and c.relname = 'pg_stat_statements'
                and exists (select from pg_depend d join pg_extension e on e.oid = d.refobjid
                             where d.objid = c.oid and d.deptype = 'e' and e.extname = 'pg_stat_statements'))
    loop
        execute format('revoke select on %s from public, palisade_app, palisade_auth, palisade_admin', view_);
        execute format('grant select on %s to pg_read_all_stats', view_);
    end loop;
end $$";

async fn require_roles(connection: &mut PgConnection) -> Result<(), MigrateError> {
    let owners = FUNCTION_OWNERS.iter().map(|(role, _)| *role);
    let names: Vec<String> = ROLES
        .iter()
        .map(|(role, ..)| *role)
        .chain(owners)
        .map(str::to_owned)
        .collect();
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
            "alter", "comment", "create", "grant", "insert", "revoke", "select",
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
