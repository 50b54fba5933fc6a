//! The roles and their rights. A superuser creates or repairs them.

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use super::{MigrateError, OWNER};

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

pub(super) async fn make_roles(
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
pub(super) async fn make_function_owners(
    connection: &mut PgConnection,
) -> Result<(), MigrateError> {
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
pub(super) const RIGHTS: &str = r"
do $$
declare
    routine   regprocedure;
    place     regnamespace;
    language_ name;
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
    -- A connection serves one tenant after the other, so injected SQL must leave nothing in the session. With DO, it
    -- could replace a prepared statement. Locks of the session would stay.
    for language_ in
        select lanname from pg_language where laninline <> 0
    loop
        execute format('revoke usage on language %I from public, palisade_app, palisade_auth, palisade_admin', language_);
    end loop;
    grant usage on language plpgsql to palisade_owner;
    for routine in
        select oid::regprocedure from pg_proc
         where pronamespace = 'pg_catalog'::regnamespace and proname ~ '^pg_(try_)?advisory_(un)?lock'
    loop
        execute format('revoke execute on function %s from public, palisade_app, palisade_auth, palisade_admin', routine);
        execute format('grant execute on function %s to palisade_owner', routine);
    end loop;
end $$";

/// The owners of the functions that need more rights than those of their callers, and the rights to see and end the
/// statements of other sessions.
///
/// The BEGIN of a transaction contains its context. Without these revocations, SQL that an attacker injects could copy
/// the context of another session and use it while it is fresh.
pub(super) const FUNCTION_RIGHTS: &str = r"
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

pub(super) async fn require_roles(connection: &mut PgConnection) -> Result<(), MigrateError> {
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
