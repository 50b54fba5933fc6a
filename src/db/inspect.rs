//! Runs the rules of the doctor with the connections of the service, at its start and while it runs.

use std::{collections::BTreeSet, convert::Infallible, fmt, sync::Arc, time::Duration};

use parking_lot::RwLock;
use sqlx::{PgConnection, PgPool};
use tokio::time::Instant;

use super::{ConnectError, TenantDb, sign_in::SignInDb, unreachable};
use crate::doctor::{self, CONTEXT_UNSIGNED, Finding, Report, Rule, RunAt, Scope, Severity};

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
    /// Runs the rules of the doctor that apply at the start, then tries contexts that the database must reject. Logs the
    /// warnings, and fails at the first error.
    pub async fn check_isolation(&self) -> Result<(), ConnectError> {
        let signs = self.signer.is_signing();
        check(&self.side, signs, |rule| rule.run_at >= RunAt::Start).await?;
        if !signs {
            return Ok(());
        }
        let tried = async {
            let mut connection = self.side.acquire().await?;
            self.find_accepted_forgery(&mut connection).await
        };
        match tried.await {
            Ok(None) => Ok(()),
            Ok(Some(accepted)) => Err(ConnectError::NotIsolated(Box::new(unverified(accepted)))),
            Err(error) => Err(unreachable(&self.side.connect_options(), &error)),
        }
    }

    /// Runs the rules of the doctor that apply while the service runs, again and again, for the roles of these pools.
    /// [`TenantDb::isolation_error`] returns what the last run found. Ends when the future is dropped.
    pub async fn watch_isolation(
        &self,
        directory: Option<&SignInDb>,
        interval: Duration,
    ) -> Infallible {
        let mut watch = Watch {
            db: self,
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
    db: &'p TenantDb,
    directory: Option<&'p PgPool>,
    /// The roles of the pools. Empty until the first check.
    roles: Vec<String>,
    /// The hash of the policies in which the rules have found no error.
    verified_policies: Option<String>,
    /// The warnings of the last check.
    warnings: BTreeSet<String>,
}

impl Watch<'_> {
    /// Runs the rules once, then tries contexts that the database must reject. Returns the first error, or the reason why
    /// the check was not complete.
    async fn check(&mut self) -> Result<Option<Box<Finding>>, String> {
        if self.roles.is_empty() {
            let mut roles = vec![login_role(&self.db.isolation_pool).await?];
            if let Some(directory) = self.directory {
                roles.push(login_role(directory).await?);
            }
            self.roles = roles;
        }
        let signs = self.db.signer.is_signing();
        let mut connection = self.db.isolation_pool.acquire().await.map_err(describe)?;
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
            if !is_verified && !report.findings.iter().any(|found| is_error(found, signs)) {
                let further = doctor::run(&mut connection, &scope, |rule| {
                    always(rule) && rule.needs_table_locks()
                })
                .await?;
                report.findings.extend(further.findings);
            }
            if signs && !report.findings.iter().any(|found| is_error(found, signs)) {
                let accepted = self.db.find_accepted_forgery(&mut connection).await?;
                report.findings.extend(accepted.map(unverified));
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
            .partition(|finding| is_error(finding, signs));
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

/// Whether the service must not serve with this finding. A service that signs contexts relies on their verification.
fn is_error(finding: &Finding, signs: bool) -> bool {
    finding.rule.severity == Severity::Error || signs && finding.rule.code == CONTEXT_UNSIGNED
}

/// The finding that the database accepts a context that it must reject.
fn unverified(accepted: &'static str) -> Finding {
    let rule = doctor::RULES
        .iter()
        .find(|rule| rule.code == CONTEXT_UNSIGNED);
    Finding {
        rule: rule.expect("BUG: the rule about unsigned contexts is missing"),
        object: "function app.verified()".to_owned(),
        problem: format!("app.verified() accepts {accepted}."),
        fix: "as palisade_owner: select app.sign_contexts(true); update app.context_keys set max_age = 30000"
            .to_owned(),
        allowed_by: None,
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
        check(&self.0, false, |rule| rule.run_at >= RunAt::Start).await
    }
}

/// Checks the role that has logged in. Every connection of the service passes this check.
pub(super) async fn check_role(pool: &PgPool) -> Result<(), ConnectError> {
    check(pool, false, |rule| ROLE_RULES.contains(&rule.code)).await
}

/// Runs rules for the role of the pool, for a service that signs contexts or does not. Logs the warnings, and returns the
/// first error.
async fn check(
    pool: &PgPool,
    signs: bool,
    wants: impl Fn(&Rule) -> bool,
) -> Result<(), ConnectError> {
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
        .partition(|finding| is_error(finding, signs));
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    match errors.into_iter().next() {
        Some(error) => Err(ConnectError::NotIsolated(Box::new(error))),
        None => Ok(()),
    }
}
