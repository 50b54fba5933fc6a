//! Pools, transactions and SQL building.
//!
//! The invariant: **every statement names its tenant.** The policies of row level security decide which
//! rows are visible. In addition, this module adds `tenant_id = $n` to every statement that it builds.
//! No other module contains a tenant predicate or SQL for the rows of a tenant.

pub mod admin_tx;
pub mod archive;
mod audit_hash;
pub mod audit_seal;
pub mod audit_snapshot;
pub mod bulk;
mod cancellation;
mod clock;
pub mod context;
pub mod entity;
pub mod filter;
pub mod idempotency;
mod inspect;
mod lease;
pub mod load;
pub mod membership;
pub mod migrate;
mod operation;
pub mod page;
mod pool;
mod shape;
pub mod shared;
pub mod sign_in;
mod statement;
pub mod tenant_tx;
pub mod write;
pub mod write_error;

use std::{str::FromStr, sync::Arc};

use sqlx::{ConnectOptions, PgConnection, PgPool, postgres::PgConnectOptions};
use uuid::Uuid;

use crate::{
    canary::Canary,
    doctor::Finding,
    embedded::OLDEST_MAJOR_VERSION,
    ids::{EntityId as _, TenantId},
};

pub use inspect::IsolationError;
pub(crate) use operation::MAX_WRITTEN_ROWS;
pub use operation::{Operation, OperationName};
pub use pool::PoolSettings;
pub use statement::TracedStatement;
pub use tenant_tx::{Purpose, TenantContext, TenantTx};

use cancellation::Cancellations;
use clock::ServerClock;
use context::{ContextSigner, Signing};
use inspect::IsolationStatus;
use pool::{new_pool, side_connection};

/// The reason why the database cannot be used. Each message is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL is not a PostgreSQL URL.
    #[error("the database address is not a PostgreSQL URL: {0}")]
    Address(String),
    /// The server does not respond, is not a database server, or rejects the login.
    #[error("cannot reach the database at {location}: {reason}")]
    Unreachable {
        /// The host and the port, or the socket. Never contains the password.
        location: String,
        /// The driver's error.
        reason: String,
    },
    /// The server is older than [`OLDEST_MAJOR_VERSION`].
    #[error("PostgreSQL {found} is too old: palisade needs {OLDEST_MAJOR_VERSION} or newer")]
    TooOld {
        /// The version that the server reports.
        found: String,
    },
    /// The role is a superuser, so it bypasses row level security.
    #[error(
        "the role {0} is a superuser, and superusers bypass row level security: connect as palisade_app"
    )]
    Superuser(String),
    /// The role has BYPASSRLS.
    #[error(
        "the role {0} has BYPASSRLS: connect as palisade_app, which does not bypass row level security"
    )]
    BypassRls(String),
    /// The role owns a table or view, so it could switch row level security off.
    #[error(
        "the role {role} owns {table}, and owners can switch row level security off: connect as palisade_app"
    )]
    Owner {
        /// The role.
        role: String,
        /// A table or view that the role owns.
        table: String,
    },
    /// The role is a member of a role that can bypass row level security.
    #[error(
        "the role {role} is a member of {group}, which {reason}: connect as palisade_app, which is not a member of any role"
    )]
    Member {
        /// The role.
        role: String,
        /// The role of which the login role is a member.
        group: String,
        /// The reason why that role is dangerous.
        reason: String,
    },
    /// A rule of the doctor found a gap in the isolation of the tenants.
    #[error("the database does not isolate the tenants: {0} `palisade doctor` lists every finding")]
    NotIsolated(Box<Finding>),
    /// The database rejects a context that this service has signed.
    #[error(
        "the database does not accept the context key: run `palisade migrate` with the PALISADE_CONTEXT_KEY of this \
         service ({0})"
    )]
    ContextRejected(String),
    /// The database accepts a context with a wrong signature.
    #[error(
        "the database accepts a forged context: run `palisade migrate` with PALISADE_CONTEXT_KEY, or serve with \
         --unsigned-context if the database is Citus"
    )]
    ForgeryAccepted,
    /// The database verifies contexts, but the service does not sign them.
    #[error(
        "the database verifies contexts: set PALISADE_CONTEXT_KEY instead of --unsigned-context"
    )]
    ContextUnsigned,
    /// The schema does not exist.
    #[error("the database has no palisade schema: run `palisade migrate` first")]
    NotMigrated,
    /// The schema is from before the first release and cannot be upgraded.
    #[error(
        "the database was created by an unreleased version of palisade and cannot be upgraded: \
         start over with an empty database"
    )]
    BeforeFirstRelease,
    /// The schema lacks a migration of this binary.
    #[error(
        "the schema has version {found}, but this binary needs {needed} (migration {missing} is missing): \
         run `palisade migrate`"
    )]
    SchemaTooOld {
        /// The newest migration of the database; 0 if it has none.
        found: i64,
        /// The newest migration of this binary.
        needed: i64,
        /// The first migration that the database lacks.
        missing: i64,
    },
    /// The database has a newer migration that this binary is not compatible with.
    #[error(
        "the schema has version {found}, which needs a binary with migration {oldest_binary}; this binary has {known}: \
         use a newer palisade"
    )]
    SchemaTooNew {
        /// The newest migration of the database.
        found: i64,
        /// The migration that a binary must contain.
        oldest_binary: i64,
        /// The newest migration of this binary.
        known: i64,
    },
}

/// The age of a context that no database accepts. The limit is 30 seconds unless an administrator has changed it.
const EXPIRED_AGE_MS: i64 = 3_600_000;

/// The database as `palisade_app` sees it.
#[derive(Clone, Debug)]
pub struct TenantDb {
    pool: PgPool,
    /// One connection that checks the schema and the clock while every connection of the main pool is busy. Neither this
    /// connection nor the next two run the statements of a tenant.
    side: PgPool,
    /// One connection that checks the isolation of the tenants. Nothing else uses it, because the service rejects all
    /// requests if the check is delayed for long.
    isolation_pool: PgPool,
    /// Has one connection, too.
    cancellations: Cancellations,
    signer: ContextSigner,
    clock: Arc<ServerClock>,
    isolation: IsolationStatus,
    canary: Canary,
    records_statements: bool,
}

impl TenantDb {
    /// Connects. Fails if the role can bypass row level security, the schema does not fit this binary, or the database
    /// accepts contexts that the service did not sign.
    pub async fn connect(
        url: &str,
        settings: PoolSettings,
        signing: &Signing,
    ) -> Result<Self, ConnectError> {
        let options = connect_options(url)?;
        let pool = new_pool(options.clone(), settings.size, settings.acquire_timeout);
        check_at_start(&options).await?;
        let side = side_connection(options.clone());
        let isolation_pool = side_connection(options.clone());
        let cancellations = Cancellations::new(side_connection(options));
        check_schema(&side).await?;
        inspect::check_role(&side).await?;
        let db = Self {
            canary: read_canary(&side).await?,
            pool,
            side,
            isolation_pool,
            cancellations,
            signer: ContextSigner::new(signing),
            clock: Arc::default(),
            isolation: IsolationStatus::default(),
            records_statements: false,
        };
        db.check_signing().await?;
        db.clock.watch(&db.side);
        Ok(db)
    }

    /// The canary, whose rows no response may contain.
    #[must_use]
    pub fn canary(&self) -> &Canary {
        &self.canary
    }

    /// Records the SQL of every statement for [`TenantTx::cost`]. For development and tests.
    #[must_use]
    pub fn recording_statements(mut self) -> Self {
        self.records_statements = true;
        self
    }

    /// Checks that the database responds and that its schema fits this binary. Returns the version of the
    /// schema. Takes one round trip, without a tenant.
    pub async fn check_schema(&self) -> Result<i64, ConnectError> {
        check_schema(&self.side).await
    }

    /// What writes the contexts of the transactions.
    #[must_use]
    pub fn signer(&self) -> &ContextSigner {
        &self.signer
    }

    /// Compares the clocks. Then tries an own context, which the database must accept, and a forged one, which it must
    /// reject.
    async fn check_signing(&self) -> Result<(), ConnectError> {
        let measured = self.clock.measure(&self.side).await;
        measured.map_err(|error| unreachable(&self.side.connect_options(), &error))?;
        let tenant = TenantId::generate();
        let context = TenantContext {
            tenant,
            user: None,
            role: None,
        };
        let now = self.clock.now();
        let own = self.signer.write(&context, Purpose::Read, Uuid::nil(), now);
        let forged = self.signer.forge(tenant, now);
        let accepts_own = match self.tenant_of_context(own).await {
            Ok(found) => found == Some(tenant.uuid()),
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("28000") => {
                return Err(if self.signer.is_signing() {
                    ConnectError::ContextRejected(error.message().to_owned())
                } else {
                    ConnectError::ContextUnsigned
                });
            }
            Err(error) => return Err(unreachable(&self.side.connect_options(), &error)),
        };
        let accepts_forged = match self.tenant_of_context(forged).await {
            Ok(found) => found.is_some(),
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("28000") => false,
            Err(error) => return Err(unreachable(&self.side.connect_options(), &error)),
        };
        match (self.signer.is_signing(), accepts_own, accepts_forged) {
            (true, _, true) => Err(ConnectError::ForgeryAccepted),
            (_, false, _) => Err(ConnectError::ContextRejected(
                "it returns another tenant".to_owned(),
            )),
            (true, true, false) => Ok(()),
            (false, ..) => {
                tracing::warn!(
                    "contexts are not signed: an SQL statement that an attacker injects can read every tenant"
                );
                Ok(())
            }
        }
    }

    /// Tries contexts that the database must reject, and returns what it has accepted.
    async fn find_accepted_forgery(
        &self,
        connection: &mut PgConnection,
    ) -> sqlx::Result<Option<&'static str>> {
        let (tenant, now) = (TenantId::generate(), self.clock.now());
        let context = TenantContext {
            tenant,
            user: None,
            role: None,
        };
        let expired_at = now - EXPIRED_AGE_MS;
        let expired = self
            .signer
            .write(&context, Purpose::Read, Uuid::nil(), expired_at);
        let accepted = sqlx::query!(
            r#"select app.accepts_context($1) as "forged!", app.accepts_context($2) as "expired!""#,
            self.signer.forge(tenant, now),
            expired,
        );
        let accepted = accepted.fetch_one(connection).await?;
        Ok(if accepted.forged {
            Some("a context with a wrong signature")
        } else {
            let is_accepted = accepted.expired;
            is_accepted.then_some("a context that was signed an hour ago")
        })
    }

    /// Returns the tenant that the database reads from a context.
    async fn tenant_of_context(&self, context: String) -> sqlx::Result<Option<Uuid>> {
        let mut transaction = self.side.begin().await?;
        sqlx::query!(
            r#"select set_config('app.context', $1, true) as "set!""#,
            context
        )
        .fetch_one(&mut *transaction)
        .await?;
        let tenant = sqlx::query_scalar!(r#"select app.tenant_id() as "tenant""#);
        let tenant = tenant.fetch_one(&mut *transaction).await;
        transaction.rollback().await?;
        tenant
    }

    /// Closes every connection, after the running transactions have ended.
    pub async fn close(&self) {
        self.pool.close().await;
        self.side.close().await;
        self.isolation_pool.close().await;
        self.cancellations.close().await;
    }
}

async fn check_schema(pool: &PgPool) -> Result<i64, ConnectError> {
    let schema = sqlx::query!(
        r#"select app.schema_versions() as "versions!", app.oldest_binary() as "oldest_binary!""#
    )
    .fetch_one(pool)
    .await
    .map_err(|error| unreachable(&pool.connect_options(), &error))?;
    compare_versions(&schema.versions, schema.oldest_binary)
}

async fn read_canary(pool: &PgPool) -> Result<Canary, ConnectError> {
    let marker = sqlx::query_scalar!(r#"select app.canary_marker() as "marker!""#);
    let marker = marker.fetch_one(pool).await;
    let marker = marker.map_err(|error| unreachable(&pool.connect_options(), &error))?;
    Canary::new(&marker).ok_or(ConnectError::NotMigrated)
}

/// Parses a URL. An error never contains its password.
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

/// Opens one connection for the rules of [`crate::doctor`].
pub async fn connect_for_inspection(url: &str) -> Result<PgConnection, ConnectError> {
    let options = connect_options(url)?;
    let connected = options.connect().await;
    connected.map_err(|error| unreachable(&options, &error))
}

/// Host and port, or the socket; for messages.
fn location(options: &PgConnectOptions) -> String {
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
        location: location(options),
        reason,
    }
}

/// Rejects a server by its `server_version_num`, such as 150018.
fn refuse_old_server(number: i32, text: String) -> Result<(), ConnectError> {
    if number / 10_000 < OLDEST_MAJOR_VERSION {
        return Err(ConnectError::TooOld { found: text });
    }
    Ok(())
}

/// Compares the migrations of a database with those of this binary. Returns the newest of the database.
fn compare_versions(found: &[i64], oldest_binary: i64) -> Result<i64, ConnectError> {
    let newest_found = found.last().copied().unwrap_or_default();
    let newest_known = migrate::versions().next_back().unwrap_or_default();
    if let Some(missing) = migrate::versions().find(|version| !found.contains(version)) {
        return Err(ConnectError::SchemaTooOld {
            found: newest_found,
            needed: newest_known,
            missing,
        });
    }
    if migrate::versions().all(|version| version != oldest_binary) {
        return Err(ConnectError::SchemaTooNew {
            found: newest_found,
            oldest_binary,
            known: newest_known,
        });
    }
    Ok(newest_found)
}

/// Checks the server, the role and the existence of the schema.
async fn check_at_start(options: &PgConnectOptions) -> Result<(), ConnectError> {
    // A separate connection returns the server's error. A pool would return only a timeout.
    let mut connection = options
        .connect()
        .await
        .map_err(|error| unreachable(options, &error))?;
    check_server_version(&mut connection, options).await?;
    let role = check_login_role(&mut connection, options).await?;
    check_memberships(&mut connection, options, role).await?;
    check_migrated(&mut connection, options).await
}

async fn check_server_version(
    connection: &mut PgConnection,
    options: &PgConnectOptions,
) -> Result<(), ConnectError> {
    let version = sqlx::query!(
        r#"
        select current_setting('server_version_num')::integer as "number!",
               current_setting('server_version') as "text!"
        "#
    )
    .fetch_one(connection)
    .await
    .map_err(|error| unreachable(options, &error))?;
    refuse_old_server(version.number, version.text)
}

/// Returns the name of the role that logged in. Fails if this role bypasses row level security. `session_user` is
/// the role to which RESET ROLE would return.
async fn check_login_role(
    connection: &mut PgConnection,
    options: &PgConnectOptions,
) -> Result<String, ConnectError> {
    let role = sqlx::query!(
        r#"
        select rolname::text as "name!", rolsuper as "is_superuser!", rolbypassrls as "bypasses!"
        from pg_roles
        where rolname = session_user
        "#
    )
    .fetch_one(connection)
    .await
    .map_err(|error| unreachable(options, &error))?;
    if role.is_superuser {
        return Err(ConnectError::Superuser(role.name));
    }
    if role.bypasses {
        return Err(ConnectError::BypassRls(role.name));
    }
    Ok(role.name)
}

/// Checks that the role owns no table and cannot become a role that bypasses row level security.
async fn check_memberships(
    connection: &mut PgConnection,
    options: &PgConnectOptions,
    role: String,
) -> Result<(), ConnectError> {
    // A role whose rights the login has or can assume, and the reason why these rights are dangerous.
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
        order by r.rolname = session_user desc, r.rolcanlogin desc, r.rolname
        limit 1
        "#
    )
    .fetch_optional(connection)
    .await
    .map_err(|error| unreachable(options, &error))?;
    Err(match danger {
        None => return Ok(()),
        Some(found) if found.is_itself => ConnectError::Owner {
            role,
            table: found.table.unwrap_or_default(),
        },
        Some(found) => ConnectError::Member {
            role,
            group: found.name,
            reason: found.reason,
        },
    })
}

/// Checks that the palisade schema exists and is not from before the first release. [`TenantDb::check_schema`]
/// checks its version.
async fn check_migrated(
    connection: &mut PgConnection,
    options: &PgConnectOptions,
) -> Result<(), ConnectError> {
    let schema = sqlx::query!(
        r#"
        select to_regclass('public.tenants') is not null as "exists!",
               to_regprocedure('app.schema_versions()') is not null as "has_versions!"
        "#
    )
    .fetch_one(connection)
    .await
    .map_err(|error| unreachable(options, &error))?;
    match (schema.exists, schema.has_versions) {
        (false, _) => Err(ConnectError::NotMigrated),
        (true, false) => Err(ConnectError::BeforeFirstRelease),
        (true, true) => Ok(()),
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
