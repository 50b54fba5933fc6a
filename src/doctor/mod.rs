//! The doctor: rules that inspect a database for gaps in the isolation of its tenants.
//!
//! A rule is one SQL file in `rules/`. It selects from `scope.sql` and returns the same columns as every other rule:
//! the object (`catalog`, `id`, `object`), the `problem` and the SQL that repairs it (`fix`). Rules read only
//! `pg_catalog`, which every role may read. So the service runs them with its own connection. One rule attacks the
//! tables instead: see `probe.rs`.
//!
//! The comment of an object can allow a finding: `doctor: allow D06 D13, <the reason>`. Objects without such
//! comments, such as roles, allow nothing.

mod format;
mod probe;
mod rules;

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

pub use format::Format;
pub use rules::{CONTEXT_UNSIGNED, LIVE_PROBE, RULES, Rule, RunAt, Severity};

/// What the rules inspect.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The roles with which the service connects. If the list is empty: the role that has logged in.
    pub roles: Vec<String>,
    /// The column with the tenant of a row.
    pub tenant_column: String,
    /// The setting with the context of a transaction, which contains its tenant.
    pub setting: String,
    /// The schemas. If the list is empty: every schema except those of PostgreSQL.
    pub schemas: Vec<String>,
}

impl Scope {
    /// The names of the Palisade schema, for the role that has logged in.
    #[must_use]
    pub fn of_login() -> Self {
        Self {
            roles: Vec::new(),
            tenant_column: "tenant_id".to_owned(),
            setting: "app.context".to_owned(),
            schemas: Vec::new(),
        }
    }
}

/// A violation of a rule.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The rule.
    pub rule: &'static Rule,
    /// The kind and the name of the object, such as `table public.projects`.
    pub object: String,
    /// One sentence that says what is wrong with the object.
    pub problem: String,
    /// The SQL that repairs it.
    pub fix: String,
    /// The line of the object's comment that allows the finding.
    pub allowed_by: Option<String>,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (code, slug) = (self.rule.code, self.rule.slug);
        write!(f, "{code} {slug}: {} Fix: {}", self.problem, self.fix)
    }
}

/// The findings of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The findings that no comment allows: by rule, then by object.
    pub findings: Vec<Finding>,
    /// The findings that a comment of the object allows.
    pub allowed: Vec<Finding>,
    /// The rules that could not run, with the reason.
    pub skipped: Vec<(&'static Rule, String)>,
}

impl Report {
    /// The number of findings with this severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        let matches = |finding: &&Finding| finding.rule.severity == severity;
        self.findings.iter().filter(matches).count()
    }
}

/// The statements around the query of a rule, which has only the columns of a finding.
const OPENING: &str = "finding as (\n";
const CLOSING: &str = r"
)
select <columns>,
       (select substring(d.description from 'doctor: allow[^\n]*')
          from pg_description d
         where d.classoid = f.catalog and d.objoid = f.id and d.objsubid = 0
           and d.description ~ ('doctor: allow[^,\n]*\m' || $5 || '\M')) as allowed_by
from finding f
order by f.object, f.problem";

/// Returns the roles of the scope that do not exist.
pub async fn missing_roles(
    connection: &mut PgConnection,
    scope: &Scope,
) -> Result<Vec<String>, sqlx::Error> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the doctor must also work on a database that the build does not know"
    )]
    let missing = sqlx::query_scalar(
        "select name from unnest($1) as name
         where not exists (select from pg_catalog.pg_roles where rolname = name)",
    )
    .bind(&scope.roles);
    missing.fetch_all(connection).await
}

/// Runs the rules that `wants` selects, in one transaction that changes nothing.
pub async fn run(
    connection: &mut PgConnection,
    scope: &Scope,
    wants: impl Fn(&Rule) -> bool,
) -> Result<Report, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    // Some rules need locks on the tables to print the expressions of policies.
    transaction
        .execute(
            "set local search_path = pg_catalog, pg_temp; set local statement_timeout = '10s';
             set local lock_timeout = '1s'",
        )
        .await?;
    let mut report = Report::default();
    for rule in RULES.iter().filter(|rule| wants(rule)) {
        let findings = if rule.code == LIVE_PROBE {
            match probe::run(&mut transaction, scope, rule).await? {
                Ok(findings) => findings,
                Err(reason) => {
                    report.skipped.push((rule, reason));
                    continue;
                }
            }
        } else {
            let closing = CLOSING.replace("<columns>", "f.object, f.problem, f.fix");
            let rows: Vec<(String, String, String, Option<String>)> =
                select(&mut transaction, scope, rule, &closing).await?;
            rows.into_iter()
                .map(|(object, problem, fix, allowed_by)| Finding {
                    rule,
                    object,
                    problem,
                    fix,
                    allowed_by,
                })
                .collect()
        };
        let (allowed, findings) = findings
            .into_iter()
            .partition(|finding: &Finding| finding.allowed_by.is_some());
        report.allowed.extend::<Vec<Finding>>(allowed);
        report.findings.extend::<Vec<Finding>>(findings);
    }
    transaction.rollback().await?;
    Ok(report)
}

/// Returns a hash of everything that the rules of [`RULES`] with [`Rule::needs_table_locks`] read. Needs no lock on a
/// table.
pub async fn hash_policies(
    connection: &mut PgConnection,
    scope: &Scope,
) -> Result<String, sqlx::Error> {
    let sql = [
        include_str!("scope.sql"),
        "finding as (select 1)\n",
        include_str!("policies_hash.sql"),
    ]
    .concat();
    #[expect(
        clippy::disallowed_methods,
        reason = "the statement shares a file with the rules"
    )]
    let hash = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(&scope.roles)
        .bind(&scope.tenant_column)
        .bind(&scope.setting)
        .bind(&scope.schemas);
    hash.fetch_one(connection).await
}

/// Runs the query of a rule.
async fn select<R>(
    connection: &mut PgConnection,
    scope: &Scope,
    rule: &Rule,
    closing: &str,
) -> Result<Vec<R>, sqlx::Error>
where
    R: for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin,
{
    let sql = [include_str!("scope.sql"), OPENING, rule.sql, closing].concat();
    #[expect(
        clippy::disallowed_methods,
        reason = "a rule is inserted between the files that all rules share"
    )]
    let rows = sqlx::query_as(AssertSqlSafe(sql))
        .bind(&scope.roles)
        .bind(&scope.tenant_column)
        .bind(&scope.setting)
        .bind(&scope.schemas)
        .bind(rule.code)
        .persistent(false);
    rows.fetch_all(connection).await
}
