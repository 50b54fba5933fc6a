//! Runs the rules of the doctor with the connections of the service, at its start and while it runs.

use std::{convert::Infallible, sync::Arc, time::Duration};

use parking_lot::RwLock;
use sqlx::{PgConnection, PgPool};

use super::{ConnectError, TenantDb, sign_in::SignInDb, unreachable};
use crate::doctor::{self, Finding, Rule, RunAt, Scope, Severity};

/// The rules about the role that logs in.
const ROLE_RULES: [&str; 3] = ["D01", "D02", "D03"];

/// The error that the last check of the isolation found.
#[derive(Clone, Debug, Default)]
pub(super) struct IsolationStatus(Arc<RwLock<Option<Finding>>>);

impl TenantDb {
    /// Runs the rules of the doctor that apply at the start. Logs the warnings, and fails at the first error.
    pub async fn check_isolation(&self) -> Result<(), ConnectError> {
        check(&self.side, |rule| rule.run_at >= RunAt::Start).await
    }

    /// Runs the rules of the doctor that apply while the service runs, again and again. Until a run finds no error,
    /// [`TenantDb::isolation_error`] returns the error of the last one. Ends when the future is dropped.
    pub async fn watch_isolation(&self, interval: Duration) -> Infallible {
        loop {
            tokio::time::sleep(interval).await;
            let error = match check(&self.side, |rule| rule.run_at == RunAt::Always).await {
                Err(ConnectError::NotIsolated(finding)) => Some(*finding),
                Ok(()) => None,
                // A database that does not respond has not changed either: its requests fail anyway.
                Err(error) => {
                    tracing::warn!("cannot check the isolation of the tenants: {error}");
                    continue;
                }
            };
            let before = self.isolation_error();
            if let Some(finding) = &error
                && before.is_none_or(|before| before.to_string() != finding.to_string())
            {
                tracing::error!("the service rejects all requests: {finding}");
            }
            *self.isolation.0.write() = error;
        }
    }

    /// The error that the last run of [`TenantDb::watch_isolation`] found.
    #[must_use]
    pub fn isolation_error(&self) -> Option<Finding> {
        self.isolation.0.read().clone()
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
