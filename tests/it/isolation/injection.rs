//! SQL that an attacker injects through a resolver. The resolvers of this service cannot send such SQL; the one of these
//! tests formats an argument into its statement, as a careless change would.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_graphql::{Context, EmptySubscription, Object, Request, Schema, Variables};
use chrono::{DateTime, Utc};
use macro_rules_attribute::apply;
use palisade::{
    api::transaction::{OperationInfo, TenantTransaction},
    auth::{Principal, role::UserRole},
    db::{
        Operation, PoolSettings, Purpose, TenantContext, TenantDb,
        context::{ContextKey, ContextSigner, Signing},
        entity::NeededColumns,
    },
    error::{Error, Result},
    graphql::context::ContextExt as _,
};
use serde_json::json;
use sqlx::Row as _;
use uuid::Uuid;

use crate::harness::{Tenant, TestApp, attempt, now, palisade_test, signing};

/// The rows of a statement that a resolver has sent, or its SQLSTATE.
type Outcome = std::result::Result<Vec<String>, String>;
type Outcomes = Arc<Mutex<Vec<Outcome>>>;

/// The resolvers of queries.
struct Queries;

#[Object]
impl Queries {
    /// The names of the projects with this name.
    async fn projects(&self, ctx: &Context<'_>, name: String) -> Result<bool> {
        let sql = format!("SELECT name FROM projects WHERE name = '{name}'");
        send(ctx, sql).await
    }

    /// A statement that the attacker controls from its first character.
    async fn statement(&self, ctx: &Context<'_>, sql: String) -> Result<bool> {
        send(ctx, sql).await
    }
}

/// The same resolvers for mutations, whose transactions commit.
struct Mutations;

#[Object]
impl Mutations {
    async fn projects(&self, ctx: &Context<'_>, name: String) -> Result<bool> {
        Queries.projects(ctx, name).await
    }

    async fn statement(&self, ctx: &Context<'_>, sql: String) -> Result<bool> {
        Queries.statement(ctx, sql).await
    }
}

async fn send(ctx: &Context<'_>, sql: String) -> Result<bool> {
    let outcome = ctx.tx().fetch_injected(sql).await;
    let outcomes = ctx.data_unchecked::<Outcomes>();
    outcomes.lock().unwrap().push(match outcome {
        Ok(rows) => Ok(rows.iter().map(|row| row.get(0)).collect()),
        Err(
            Error::Database(sqlx::Error::Database(error))
            | Error::Unavailable(Some(sqlx::Error::Database(error))),
        ) => Err(error.code().unwrap().into_owned()),
        Err(error) => Err(format!("{error:?}")),
    });
    Ok(true)
}

/// The service with the resolver above, and a pool of one connection.
struct InjectableService {
    schema: Schema<Queries, Mutations, EmptySubscription>,
    db: TenantDb,
    outcomes: Outcomes,
}

impl InjectableService {
    async fn start(app: &TestApp) -> Self {
        let settings = PoolSettings {
            size: 1,
            acquire_timeout: Duration::from_secs(5),
        };
        let db = TenantDb::connect(&app.database_url("palisade_app"), settings, &signing())
            .await
            .unwrap();
        let outcomes = Outcomes::default();
        let schema = Schema::build(Queries, Mutations, EmptySubscription)
            .extension(TenantTransaction)
            .data(db.clone())
            .data(Arc::clone(&outcomes))
            .finish();
        Self {
            schema,
            db,
            outcomes,
        }
    }

    /// Executes one operation with these root fields and their argument. Returns what each of its statements returned.
    async fn send(
        &self,
        tenant: &Tenant,
        purpose: Purpose,
        fields: &[(&str, &str)],
    ) -> Vec<Outcome> {
        let (mut definitions, mut selection) = (String::new(), String::new());
        let mut variables = serde_json::Map::new();
        for (n, (field, value)) in fields.iter().enumerate() {
            let argument = if *field == "projects" { "name" } else { "sql" };
            write!(definitions, "$v{n}: String! ").unwrap();
            write!(selection, "f{n}: {field}({argument}: $v{n}) ").unwrap();
            variables.insert(format!("v{n}"), json!(value));
        }
        let operation = match purpose {
            Purpose::Read => "query",
            Purpose::Write => "mutation",
        };
        let document = format!("{operation} ({definitions}) {{ {selection} }}");
        let info = OperationInfo {
            operation: Operation::new(Uuid::now_v7()),
            purpose,
            traced: false,
            dry_run: false,
            claim: None,
            columns: NeededColumns::ALL,
            cost: 0,
        };
        let principal = Principal {
            tenant: tenant.id,
            user: tenant.owner().user,
            role: UserRole::Owner,
            expires_at: DateTime::<Utc>::MAX_UTC,
        };
        let request = Request::new(document)
            .variables(Variables::from_json(variables.into()))
            .data(principal)
            .data(info);
        self.schema.execute(request).await;
        std::mem::take(&mut self.outcomes.lock().unwrap())
    }

    /// Executes one operation with one statement, which succeeds.
    async fn rows(&self, tenant: &Tenant, sql: &str) -> Vec<String> {
        let outcomes = self
            .send(tenant, Purpose::Read, &[("statement", sql)])
            .await;
        let [Ok(rows)] = &outcomes[..] else {
            panic!("{sql}: {outcomes:?}");
        };
        rows.clone()
    }
}

fn context(tenant: &Tenant) -> TenantContext {
    TenantContext {
        tenant: tenant.id,
        user: Some(tenant.owner().user),
        role: Some(UserRole::Owner),
    }
}

/// Ends the quoted name, and hides the quote that follows.
fn injected(sql: &str) -> String {
    format!("' {sql} --")
}

const WRITE: &str = "UPDATE projects SET name = 'stolen' RETURNING name";

#[apply(palisade_test)]
async fn an_injected_statement_reads_no_row_of_another_tenant(app: &'static TestApp) {
    let (victim, attacker) = (app.tenant().await, app.tenant().await);
    victim.seed(2, 1).await;
    attacker.seed(1, 1).await;
    let before = victim.everything().await;
    let service = InjectableService::start(app).await;
    // The injection works: it returns every row that the transaction sees.
    let every_row = injected("OR true");
    let outcomes = service
        .send(&attacker, Purpose::Read, &[("projects", &every_row[..])])
        .await;
    let [Ok(own)] = &outcomes[..] else {
        panic!("{outcomes:?}");
    };
    assert_eq!(own.len(), 1);

    let signer = ContextSigner::new(&signing());
    let write = |signer: &ContextSigner, tenant: &Tenant, at| {
        signer.write(&context(tenant), Purpose::Read, Uuid::now_v7(), at)
    };
    let valid = write(&signer, &attacker, now());
    let others = write(&signer, &victim, now());
    let mac = valid.len() - 64;
    let flipped = if valid.ends_with('0') { "1" } else { "0" };
    let unknown = ContextSigner::new(&Signing::On(ContextKey::generate()));
    let forged = [
        ("cut", valid[..valid.len() - 1].to_owned()),
        (
            "with a changed digit",
            format!("{}{flipped}", &valid[..valid.len() - 1]),
        ),
        ("of another key", write(&unknown, &victim, now())),
        ("expired", write(&signer, &victim, now() - 31_000)),
        ("from the future", write(&signer, &victim, now() + 7_000)),
        (
            "with the own MAC and another tenant",
            [&others[..mac], &valid[mac..]].concat(),
        ),
    ];
    for (case, context) in &forged {
        let set = format!("UNION ALL SELECT set_config('app.context', '{context}', true)");
        let set = injected(&set);
        let read = ("projects", &every_row[..]);
        for (purpose, attack) in [
            (Purpose::Read, read),
            (Purpose::Write, read),
            (Purpose::Write, ("statement", WRITE)),
        ] {
            let fields = [("projects", &set[..]), attack];
            let outcomes = service.send(&attacker, purpose, &fields).await;
            let expected = [Ok(vec![context.clone()]), Err("28000".to_owned())];
            assert_eq!(outcomes, expected, "{case}: {attack:?}");
            // The next transaction of the connection has its own context again.
            let outcomes = service.send(&attacker, Purpose::Read, &[read]).await;
            assert_eq!(outcomes, [Ok(own.clone())], "{case}");
        }
    }
    // With the own context, the statements reach the own rows alone.
    let write = [("statement", WRITE)];
    let outcomes = service.send(&attacker, Purpose::Read, &write).await;
    assert_eq!(outcomes, [Err("25006".to_owned())]);
    let outcomes = service.send(&attacker, Purpose::Write, &write).await;
    assert_eq!(outcomes, [Ok(vec!["stolen".to_owned()])]);
    assert_eq!(victim.everything().await, before);
    service.db.close().await;
}

/// The settings of the session and of the database in the current transaction, but for those that each transaction sets.
const SETTINGS: &str = "SELECT name || ' = ' || setting FROM pg_settings
    WHERE name NOT IN ('application_name', 'transaction_isolation', 'transaction_read_only')
    UNION ALL SELECT 'app.stolen = ' || coalesce(nullif(current_setting('app.stolen', true), ''), 'none')";

#[apply(palisade_test)]
async fn no_setting_of_a_session_reaches_the_next_transaction(app: &'static TestApp) {
    let (victim, attacker) = (app.tenant().await, app.tenant().await);
    let service = InjectableService::start(app).await;
    // The policies load plpgsql, which has settings of its own.
    service.rows(&victim, "SELECT name FROM projects").await;
    let before = service.rows(&victim, SETTINGS).await;
    let process = service.rows(&victim, "SELECT pg_backend_pid()::text").await;
    // A value for each setting that the role may change, different from the present one where there is another.
    let changes = service
        .rows(
            &attacker,
            "SELECT format('%L, %L', name, CASE
                 WHEN vartype = 'bool' THEN CASE setting WHEN 'on' THEN 'off' ELSE 'on' END
                 WHEN vartype = 'enum' THEN coalesce((SELECT value FROM unnest(enumvals) AS value
                                                       WHERE value <> setting LIMIT 1), setting)
                 WHEN vartype = 'string' THEN 'C'
                 WHEN setting = max_val THEN min_val ELSE max_val END)
             FROM pg_settings WHERE context = 'user' ORDER BY name",
        )
        .await;
    assert!(changes.len() > 100, "{}", changes.len());
    let mut accepted = BTreeMap::new();
    for change in changes
        .iter()
        .map(String::as_str)
        .chain(["'app.stolen', 'a secret'", "'statement_timeout', '1'"])
    {
        let set = injected(&format!(
            "UNION ALL SELECT set_config({change}, false) || ''"
        ));
        let outcome = service
            .send(&attacker, Purpose::Write, &[("projects", &set[..])])
            .await;
        accepted.insert(change, outcome[0].is_ok());
        let after = service.rows(&victim, SETTINGS).await;
        let differing: Vec<_> = after.iter().filter(|s| !before.contains(s)).collect();
        assert!(
            differing.is_empty() && after.len() == before.len(),
            "{change}: {differing:?}"
        );
    }
    let count = accepted.values().filter(|accepted| **accepted).count();
    assert!(count > 100, "{accepted:?}");
    for needed in ["'search_path'", "'statement_timeout'", "'app.stolen'"] {
        let mut found = accepted.iter().filter(|(name, _)| name.starts_with(needed));
        assert!(found.all(|(_, accepted)| *accepted), "{needed}");
    }
    // It is still the first connection, so the settings were reset.
    let last = service.rows(&victim, "SELECT pg_backend_pid()::text").await;
    assert_eq!(last, process);
    service.db.close().await;
}

#[apply(palisade_test)]
async fn an_injected_command_that_is_not_a_query_is_not_sent(app: &'static TestApp) {
    let (victim, attacker) = (app.tenant().await, app.tenant().await);
    attacker.seed(1, 1).await;
    victim.seed(2, 1).await;
    let service = InjectableService::start(app).await;
    let session = "SELECT pg_backend_pid() || ' ' || count(*)::text FROM pg_prepared_statements WHERE from_sql";
    let before = service.rows(&victim, session).await;
    for command in [
        "DO $$ begin execute 'deallocate all'; end $$",
        "PREPARE sqlx_s_1 AS SELECT 'stolen'",
        "DEALLOCATE ALL",
        "DISCARD ALL",
        "SET search_path = pg_catalog",
        "set local app.context = ''",
        "RESET ALL",
        "LISTEN everything",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "COMMIT",
        "ROLLBACK",
        "BEGIN",
        "CALL app.fold('')",
        "COPY projects TO STDOUT",
        "EXPLAIN ANALYZE EXECUTE sqlx_s_1",
        "LOCK TABLE projects",
        "CREATE TEMPORARY TABLE t (n integer)",
        "NOTIFY everything",
        "VALUES (1)",
        "TABLE projects",
        "/* */ DEALLOCATE ALL",
        " DEALLOCATE ALL",
        "-- \nDEALLOCATE ALL",
        "\nDEALLOCATE ALL",
        "",
    ] {
        let outcomes = service
            .send(&attacker, Purpose::Write, &[("statement", command)])
            .await;
        let [Err(error)] = &outcomes[..] else {
            panic!("{command}: {outcomes:?}");
        };
        assert!(
            error.contains("a statement that is not a query"),
            "{command}: {error}"
        );
        assert_eq!(service.rows(&victim, session).await, before, "{command}");
    }
    // PostgreSQL itself rejects a second command.
    let second = injected("; DEALLOCATE ALL");
    let outcomes = service
        .send(&attacker, Purpose::Write, &[("projects", &second[..])])
        .await;
    assert_eq!(outcomes, [Err("42601".to_owned())]);
    assert_eq!(service.rows(&victim, session).await, before);
    service.db.close().await;
}

#[apply(palisade_test)]
async fn the_roles_of_the_service_can_leave_nothing_in_a_session(app: &'static TestApp) {
    let mut superuser = app.connect("postgres").await;
    let locks: Vec<String> = sqlx::query_scalar(
        "select format('%s(%s)', proname, array_to_string(array_fill('1'::text, array[pronargs]), ', '))
         from pg_proc where proname ~ '^pg_(try_)?advisory_(un)?lock'",
    )
    .fetch_all(&mut superuser)
    .await
    .unwrap();
    assert!(locks.len() > 10, "{locks:?}");
    for role in ["palisade_app", "palisade_auth", "palisade_admin"] {
        let mut sql = app.connect(role).await;
        let calls = locks.iter().map(|call| format!("select {call}"));
        let anonymous = ["do $$ begin end $$".to_owned()];
        for statement in calls.chain(anonymous) {
            let done = attempt(&mut sql, statement.clone()).await;
            assert_eq!(done, Err("42501".to_owned()), "{role}: {statement}");
        }
    }
}
