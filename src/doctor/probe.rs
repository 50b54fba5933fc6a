//! The rule that attacks the tables as the service's role. It changes nothing: each attack is rolled back.

use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, PgConnection, postgres::PgDatabaseError,
};

use super::{CLOSING, Finding, Rule, Scope, select};

/// An attack that must fail.
#[derive(sqlx::FromRow)]
struct Attack {
    object: String,
    problem: String,
    fix: String,
    /// The role that attacks.
    role: String,
    /// The tenant of the attack's context; empty for an attack without a context.
    context: String,
    /// The attacking statement.
    statement: String,
    allowed_by: Option<String>,
}

/// Runs the attacks of the rule. Returns the reason if this login may not act as a role of the service.
pub(super) async fn run(
    connection: &mut PgConnection,
    scope: &Scope,
    rule: &'static Rule,
) -> Result<Result<Vec<Finding>, String>, sqlx::Error> {
    let closing = CLOSING.replace(
        "<columns>",
        "f.object, f.problem, f.fix, f.role, f.context, f.statement",
    );
    let attacks: Vec<Attack> = select(connection, scope, rule, &closing).await?;
    let mut findings = Vec::new();
    for attack in attacks {
        let mut savepoint = connection.begin().await?;
        let Ok(()) = act_as(&mut savepoint, &attack.role).await else {
            savepoint.rollback().await?;
            return Ok(Err(format!(
                "this login may not act as {role}: connect as a superuser or as {role}",
                role = attack.role
            )));
        };
        let succeeded = attempt(&mut savepoint, scope, &attack).await?;
        savepoint.rollback().await?;
        if succeeded {
            findings.push(Finding {
                rule,
                object: attack.object,
                problem: attack.problem,
                fix: attack.fix,
                allowed_by: attack.allowed_by,
            });
        }
    }
    Ok(Ok(findings))
}

/// Assumes a role until the end of the savepoint.
async fn act_as(connection: &mut PgConnection, role: &str) -> Result<(), sqlx::Error> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the role is a value, which SET ROLE cannot bind"
    )]
    let assumed = sqlx::query("select set_config('role', $1, true)")
        .bind(role)
        .execute(connection);
    assumed.await.map(|_| ())
}

/// Whether an attack succeeds. Fails only if the connection does.
async fn attempt(
    connection: &mut PgConnection,
    scope: &Scope,
    attack: &Attack,
) -> Result<bool, sqlx::Error> {
    // The functions of policies run with the search_path of the role. An index keeps the reads short: they find no row.
    connection
        .execute("set local search_path to default; set local enable_seqscan = off")
        .await?;
    #[expect(
        clippy::disallowed_methods,
        reason = "the doctor must also work on a database that the build does not know"
    )]
    let context = sqlx::query("select pg_catalog.set_config($1, $2, true)")
        .bind(&scope.setting)
        .bind(&attack.context)
        .execute(&mut *connection)
        .await;
    let attacked = match context {
        Ok(_) => {
            sqlx::raw_sql(AssertSqlSafe(attack.statement.clone()))
                .execute(connection)
                .await
        }
        Err(error) => Err(error),
    };
    match attacked {
        Ok(done) => Ok(done.rows_affected() > 0),
        Err(sqlx::Error::Database(error)) => Ok(error
            .try_downcast_ref::<PgDatabaseError>()
            .is_some_and(passed_the_policies)),
        Err(error) => Err(error),
    }
}

/// Whether PostgreSQL reports an error of the row's values. It checks them after the policies. Errors that a trigger
/// raises come before the policies.
fn passed_the_policies(error: &PgDatabaseError) -> bool {
    match error.code() {
        "23502" | "23503" | "23505" => error.r#where().is_none(),
        // A partitioned table reports a row without a partition before the policies, and without a constraint.
        "23514" => error.r#where().is_none() && error.constraint().is_some(),
        _ => false,
    }
}
