//! Runs the rules of the doctor with the connections of the service, at its start and while it runs.

use std::{collections::BTreeSet, convert::Infallible, fmt, sync::Arc, time::Duration};

use parking_lot::RwLock;
use sqlx::{PgConnection, PgPool};
use tokio::time::Instant;

use super::{ConnectError, TenantDb, sign_in::SignInDb, unreachable};
use crate::doctor::{self, Finding, Report, Rule, RunAt, Scope, Severity};

/// The rules about the role that logs in.
const ROLE_RULES: [&str; 3] = ["D01", "D02", "D03"];

/// The time limit for a check of the running service. The limits of PostgreSQL do not apply to a server that does not
/// respond.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest time, besides the interval, after which the service relies on the last complete check.
const UNCHECKED_LIMIT: Duration = Duration::from_secs(8);

/// The pause after a check that could not run.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// The reason why the service rejects all requests.
#[derive(Clone, Debug)]
pub enum IsolationError {
    /// A rule of the doctor found a gap.
    Gap(Box<Finding>),
    /// No check was complete for this time.
    Unchecked(Duration),
}

impl IsolationError {
    /// The reason without the names of objects of the database.
    #[must_use]
    pub fn public_reason(&self) -> String {
        match self {
            Self::Gap(finding) => format!(
                "the database does not isolate the tenants: {} {}",
                finding.rule.code, finding.rule.slug
            ),
            Self::Unchecked(_) => self.to_string(),
        }
    }
}

impl fmt::Display for IsolationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap(finding) => finding.fmt(f),
            Self::Unchecked(limit) => write!(
                f,
                "the isolation of the tenants could not be checked for {} s",
                limit.as_secs()
            ),
        }
    }
}

/// What the last checks of the isolation found.
#[derive(Clone, Debug, Default)]
pub(super) struct IsolationStatus(Arc<RwLock<LastCheck>>);

#[derive(Debug, Default)]
struct LastCheck {
    gap: Option<Box<Finding>>,
    /// The time until which the last complete check is recent enough, and how old it is then. Empty if the service does
    /// not check itself.
    valid_until: Option<(Instant, Duration)>,
}

impl TenantDb {
    /// Runs the rules of the doctor that apply at the start. Logs the warnings, and fails at the first error.
    pub async fn check_isolation(&self) -> Result<(), ConnectError> {
        check(&self.side, |rule| rule.run_at >= RunAt::Start).await
    }

    /// Runs the rules of the doctor that apply while the service runs, again and again, for the roles of these pools.
    /// [`TenantDb::isolation_error`] returns what the last run found. Ends when the future is dropped.
    pub async fn watch_isolation(
        &self,
        directory: Option<&SignInDb>,
        interval: Duration,
    ) -> Infallible {
        let mut watch = Watch {
            pool: &self.isolation_pool,
            directory: directory.map(|directory| &directory.0),
            roles: Vec::new(),
            verified_policies: None,
            warnings: BTreeSet::new(),
        };
        let limit = interval + UNCHECKED_LIMIT;
        self.isolation.0.write().valid_until = Some((Instant::now() + limit, limit));
        let mut pause = interval;
        let mut is_failing = false;
        let mut logged: Option<String> = None;
        loop {
            tokio::time::sleep(pause).await;
            self.log_isolation_change(&mut logged);
            match watch.check().await {
                Ok(gap) => {
                    is_failing = false;
                    pause = interval;
                    *self.isolation.0.write() = LastCheck {
                        gap,
                        valid_until: Some((Instant::now() + limit, limit)),
                    };
                }
                Err(reason) => {
                    if !is_failing {
                        tracing::warn!("cannot check the isolation of the tenants: {reason}");
                    }
                    is_failing = true;
                    pause = interval.min(RETRY_PAUSE);
                }
            }
            self.log_isolation_change(&mut logged);
        }
    }

    /// Logs the error of the isolation if it differs from the logged one, or that there is none any more.
    fn log_isolation_change(&self, logged: &mut Option<String>) {
        let error = self.isolation_error().map(|error| error.to_string());
        match (&*logged, &error) {
            (before, Some(error)) if before.as_ref() != Some(error) => {
                tracing::error!("the service rejects all requests: {error}");
            }
            (Some(before), None) => {
                tracing::info!("the service accepts requests again, after: {before}");
            }
            _ => {}
        }
        *logged = error;
    }

    /// The reason why the service must reject requests, as [`TenantDb::watch_isolation`] has found it.
    #[must_use]
    pub fn isolation_error(&self) -> Option<IsolationError> {
        let last = self.isolation.0.read();
        if let Some(gap) = &last.gap {
            return Some(IsolationError::Gap(gap.clone()));
        }
        let (valid_until, age) = last.valid_until?;
        (Instant::now() > valid_until).then_some(IsolationError::Unchecked(age))
    }
}

/// The repeated check of the running service.
struct Watch<'p> {
    pool: &'p PgPool,
    directory: Option<&'p PgPool>,
    /// The roles of the pools. Empty until the first check.
    roles: Vec<String>,
    /// The hash of the policies in which the rules have found no error.
    verified_policies: Option<String>,
    /// The warnings of the last check.
    warnings: BTreeSet<String>,
}

impl Watch<'_> {
    /// Runs the rules once. Returns the first error that they find, or the reason why they could not run.
    async fn check(&mut self) -> Result<Option<Box<Finding>>, String> {
        if self.roles.is_empty() {
            let mut roles = vec![login_role(self.pool).await?];
            if let Some(directory) = self.directory {
                roles.push(login_role(directory).await?);
            }
            self.roles = roles;
        }
        let mut connection = self.pool.acquire().await.map_err(describe)?;
        let scope = Scope {
            roles: self.roles.clone(),
            ..Scope::of_login()
        };
        let checked = async {
            // The hash comes first: a policy that changes later has another hash at the next check.
            let policies = doctor::hash_policies(&mut connection, &scope).await?;
            let is_verified = self.verified_policies.as_ref() == Some(&policies);
            let always = |rule: &Rule| rule.run_at == RunAt::Always;
            let mut report = doctor::run(&mut connection, &scope, |rule| {
                always(rule) && !rule.needs_table_locks()
            })
            .await?;
            // Another transaction may hold a lock on a table for long. The rules that need locks run only after a change.
            if !is_verified && report.count(Severity::Error) == 0 {
                let further = doctor::run(&mut connection, &scope, |rule| {
                    always(rule) && rule.needs_table_locks()
                })
                .await?;
                report.findings.extend(further.findings);
            }
            Ok::<(String, Report), sqlx::Error>((policies, report))
        };
        let Ok(checked) = tokio::time::timeout(CHECK_TIMEOUT, checked).await else {
            // A server that does not respond would keep the connection.
            drop(connection.detach());
            return Err(format!(
                "the database did not respond within {} s",
                CHECK_TIMEOUT.as_secs()
            ));
        };
        let (policies, report) = checked.map_err(describe)?;
        let (errors, warnings): (Vec<Finding>, Vec<Finding>) = report
            .findings
            .into_iter()
            .partition(|finding| finding.rule.severity == Severity::Error);
        let warnings: BTreeSet<String> = warnings.iter().map(ToString::to_string).collect();
        for warning in warnings.difference(&self.warnings) {
            tracing::warn!("{warning}");
        }
        self.warnings = warnings;
        let error = errors.into_iter().next().map(Box::new);
        self.verified_policies = error.is_none().then_some(policies);
        Ok(error)
    }
}

/// The role that logs in with a pool.
async fn login_role(pool: &PgPool) -> Result<String, String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the statement names nothing of the schema"
    )]
    let role = sqlx::query_scalar("select session_user::text").fetch_one(pool);
    match tokio::time::timeout(CHECK_TIMEOUT, role).await {
        Ok(role) => role.map_err(describe),
        Err(_) => Err("the database did not respond".to_owned()),
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the argument of `map_err` is a value"
)]
fn describe(error: sqlx::Error) -> String {
    match &error {
        sqlx::Error::Database(database) => database.message().to_owned(),
        error => error.to_string(),
    }
}

impl SignInDb {
    /// Like [`TenantDb::check_isolation`], for the role of the sign-in.
    pub async fn check_isolation(&self) -> Result<(), ConnectError> {
        check(&self.0, |rule| rule.run_at >= RunAt::Start).await
    }
}

/// Checks the role that has logged in. Every connection of the service passes this check.
pub(super) async fn check_role(pool: &PgPool) -> Result<(), ConnectError> {
    check(pool, |rule| ROLE_RULES.contains(&rule.code)).await
}

/// Runs rules for the role of the pool. Logs the warnings, and returns the first error.
async fn check(pool: &PgPool, wants: impl Fn(&Rule) -> bool) -> Result<(), ConnectError> {
    let inspected = async {
        let connection: &mut PgConnection = &mut *pool.acquire().await?;
        doctor::run(connection, &Scope::of_login(), wants).await
    };
    let report = inspected
        .await
        .map_err(|error| unreachable(&pool.connect_options(), &error))?;
    let (errors, warnings): (Vec<Finding>, Vec<Finding>) = report
        .findings
        .into_iter()
        .partition(|finding| finding.rule.severity == Severity::Error);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    match errors.into_iter().next() {
        Some(error) => Err(ConnectError::NotIsolated(Box::new(error))),
        None => Ok(()),
    }
}
