//! The only place that knows pools, transactions and SQL building.
//!
//! Row level security is the wall; the `tenant_id = $n` that this module adds to every statement is
//! the address. Neither is ever written anywhere else.

pub mod admin_tx;
pub mod audit_snapshot;
pub mod bulk;
pub mod entity;
pub mod idempotency;
pub mod load;
pub mod membership;
pub mod migrate;
pub mod page;
pub mod shared;
pub mod sign_in;
pub mod tenant_tx;
pub mod write;

use std::{str::FromStr, time::Duration};

use sqlx::{
    ConnectOptions, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::duration;

pub use tenant_tx::{
    Operation, OperationName, Purpose, Statement, TenantContext, TenantTx, Traced,
};

/// The oldest server that is supported: policies need `security_invoker` views and 15's fixes.
pub const OLDEST_SERVER: i32 = 15;

/// Why the database cannot be used. Each is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is not one of PostgreSQL.
    #[error("the database address is not a PostgreSQL URL: {0}")]
    Address(String),
    /// Nobody answers, or not as a database.
    #[error("cannot reach the database at {place}: {reason}")]
    Unreachable {
        /// Host and port or socket; never the password.
        place: String,
        /// What the driver says.
        reason: String,
    },
    /// The server is older than [`OLDEST_SERVER`].
    #[error("PostgreSQL {found} is too old: palisade needs {OLDEST_SERVER} or newer")]
    TooOld {
        /// The version that the server reports.
        found: String,
    },
    /// The role bypasses row level security by being a superuser.
    #[error(
        "the role {0} is a superuser, whom row level security never binds: connect as palisade_app"
    )]
    Superuser(String),
    /// The role has BYPASSRLS.
    #[error("the role {0} has BYPASSRLS: connect as palisade_app, which has not")]
    BypassRls(String),
    /// The role could switch row level security off.
    #[error(
        "the role {role} owns {table}, so it could switch row level security off: connect as palisade_app"
    )]
    Owner {
        /// The role.
        role: String,
        /// One of its tables.
        table: String,
    },
    /// The role could become one that bypasses.
    #[error(
        "the role {role} is a member of {group}, which {reason}: connect as palisade_app, a member of nothing"
    )]
    Member {
        /// The role.
        role: String,
        /// The role that it could become.
        group: String,
        /// What that role may do.
        reason: String,
    },
    /// The schema is not there.
    #[error("the database has no palisade schema: run `palisade migrate` first")]
    NotMigrated,
}

/// The settings of the connection pool.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct PoolSettings {
    /// The number of database connections; 2 to 4 for each core of the database server.
    #[arg(long = "pool-size", env = "PALISADE_POOL_SIZE", default_value_t = 8, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub size: u32,
    /// The longest wait for a free connection; after it, the response is UNAVAILABLE.
    #[arg(long, env = "PALISADE_ACQUIRE_TIMEOUT", default_value = "2s", value_name = "DURATION",
          value_parser = duration::between("1ms", "1m"))]
    pub acquire_timeout: Duration,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            size: 8,
            acquire_timeout: Duration::from_secs(2),
        }
    }
}

/// The database as `palisade_app` sees it.
#[derive(Clone, Debug)]
pub struct TenantDb {
    pool: PgPool,
    /// For cancelling, when every connection of the pool is busy. Runs no tenant's SQL.
    side: PgPool,
    records_statements: bool,
}

impl TenantDb {
    /// Connects, and refuses a role that could see past row level security.
    pub async fn connect(url: &str, settings: PoolSettings) -> Result<Self, ConnectError> {
        let options = connect_options(url)?;
        let pool = pool(options.clone(), settings.size, settings.acquire_timeout);
        refuse_bypassing_role(&pool, &options).await?;
        let side = pool_of_side_connections(options);
        Ok(Self {
            pool,
            side,
            records_statements: false,
        })
    }

    /// Keeps every statement's text for [`TenantTx::cost`]. For development and tests.
    #[must_use]
    pub fn recording_statements(mut self) -> Self {
        self.records_statements = true;
        self
    }

    /// Whether the database answers now. Asks outside of any tenant.
    pub async fn is_ready(&self) -> bool {
        sqlx::query_scalar!(r#"select true as "ready!""#)
            .fetch_one(&self.side)
            .await
            .is_ok()
    }

    /// Closes every connection, after the transactions that still run.
    pub async fn close(&self) {
        self.pool.close().await;
        self.side.close().await;
    }
}

fn pool(options: PgConnectOptions, size: u32, acquire_timeout: Duration) -> PgPool {
    PgPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(acquire_timeout)
        .idle_timeout(Duration::from_mins(10))
        .max_lifetime(Duration::from_mins(30))
        // Opening a transaction finds a dead connection just as well, without a round trip.
        .test_before_acquire(false)
        .connect_lazy_with(options)
}

fn pool_of_side_connections(options: PgConnectOptions) -> PgPool {
    pool(
        options.application_name("palisade side"),
        2,
        Duration::from_secs(1),
    )
}

/// Parses an address without ever repeating its password.
fn connect_options(url: &str) -> Result<PgConnectOptions, ConnectError> {
    let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
    if !matches!(scheme, "postgres" | "postgresql") {
        return Err(ConnectError::Address(
            "it must start with postgres:// or postgresql://".to_owned(),
        ));
    }
    PgConnectOptions::from_str(url)
        .map(|options| {
            options
                .application_name("palisade")
                .disable_statement_logging()
        })
        .map_err(|error| ConnectError::Address(error.to_string()))
}

/// Host and port, or the socket; for messages.
fn place(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}

fn unreachable(options: &PgConnectOptions, error: &sqlx::Error) -> ConnectError {
    let reason = match error {
        sqlx::Error::Io(io) => io.to_string(),
        sqlx::Error::PoolTimedOut => "no connection within the time limit".to_owned(),
        sqlx::Error::Database(database) => database.message().to_owned(),
        other => other.to_string(),
    };
    ConnectError::Unreachable {
        place: place(options),
        reason,
    }
}

/// Judges a server by its `server_version_num`, such as 150018.
fn refuse_old_server(number: i32, text: String) -> Result<(), ConnectError> {
    if number / 10_000 < OLDEST_SERVER {
        return Err(ConnectError::TooOld { found: text });
    }
    Ok(())
}

/// The four ways past row level security, each looked up on the live connection. `session_user` is
/// the role that logged in, to which RESET ROLE would return.
async fn refuse_bypassing_role(
    pool: &PgPool,
    options: &PgConnectOptions,
) -> Result<(), ConnectError> {
    // A connection of its own, so that the error is the server's and not the pool's time limit.
    let mut connection = options
        .connect()
        .await
        .map_err(|error| unreachable(options, &error))?;
    let failed = |error: sqlx::Error| unreachable(options, &error);

    let version = sqlx::query!(
        r#"
        select current_setting('server_version_num')::integer as "number!",
               current_setting('server_version') as "text!"
        "#
    )
    .fetch_one(&mut connection)
    .await
    .map_err(failed)?;
    refuse_old_server(version.number, version.text)?;

    let role = sqlx::query!(
        r#"
        select rolname::text as "name!", rolsuper as "is_superuser!", rolbypassrls as "bypasses!"
        from pg_roles
        where rolname = session_user
        "#
    )
    .fetch_one(&mut connection)
    .await
    .map_err(failed)?;
    if role.is_superuser {
        return Err(ConnectError::Superuser(role.name));
    }
    if role.bypasses {
        return Err(ConnectError::BypassRls(role.name));
    }

    // Every role whose rights the login has or may take on, with what makes it dangerous.
    let danger = sqlx::query!(
        r#"
        select r.rolname::text as "name!",
               r.rolname = session_user as "is_itself!",
               case
                   when r.rolsuper then 'is a superuser'
                   when r.rolbypassrls then 'has BYPASSRLS'
                   when r.rolname like 'pg\_%' then 'reads, writes or runs past row level security'
                   else 'owns ' || owned.name
               end as "reason!",
               owned.name as "table"
        from pg_roles r
        left join lateral (
            select c.oid::regclass::text as name
            from pg_class c
            join pg_namespace n on n.oid = c.relnamespace
            where c.relowner = r.oid and c.relkind in ('r', 'p', 'v', 'm', 'f')
              and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname not like 'pg\_t%'
            order by name limit 1
        ) owned on true
        where pg_has_role(session_user, r.oid, 'member')
          and (r.rolsuper or r.rolbypassrls or owned.name is not null
               or r.rolname in ('pg_read_all_data', 'pg_write_all_data', 'pg_execute_server_program',
                                'pg_read_server_files', 'pg_write_server_files'))
        order by r.rolname = session_user desc, r.rolname
        limit 1
        "#
    )
    .fetch_optional(&mut connection)
    .await
    .map_err(failed)?;
    match danger {
        Some(found) if found.is_itself => {
            let table = found.table.unwrap_or_default();
            return Err(ConnectError::Owner {
                role: role.name,
                table,
            });
        }
        Some(found) => {
            let reason = found.reason;
            return Err(ConnectError::Member {
                role: role.name,
                group: found.name,
                reason,
            });
        }
        None => {}
    }

    let migrated =
        sqlx::query_scalar!(r#"select to_regclass('public.tenants') is not null as "migrated!""#)
            .fetch_one(pool)
            .await
            .map_err(failed)?;
    if migrated {
        Ok(())
    } else {
        Err(ConnectError::NotMigrated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_before_15_is_refused_in_one_line() {
        for (number, text) in [(90_624, "9.6.24"), (140_099, "14.99 (Debian)")] {
            assert_eq!(
                refuse_old_server(number, text.to_owned())
                    .unwrap_err()
                    .to_string(),
                format!("PostgreSQL {text} is too old: palisade needs 15 or newer"),
            );
        }
        for number in [150_000, 150_018, 180_004] {
            assert!(refuse_old_server(number, String::new()).is_ok(), "{number}");
        }
    }
}
