//! Attacks on the signed context, with SQL that an attacker injects into the service's own role.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use macro_rules_attribute::apply;
use palisade::{
    auth::role::UserRole,
    db::{
        ConnectError, PoolSettings, Purpose, TenantContext, TenantDb,
        context::{ContextKey, ContextSigner, Signing},
        migrate,
    },
    ids::{EntityId as _, TenantId},
};
use sqlx::{Connection as _, PgConnection, Row as _};
use uuid::Uuid;

use crate::harness::{Tenant, TestApp, attempt, now, palisade_test, signing, tenant_tables};

/// The roles that an attacker would like to have.
const OTHER_ROLES: [&str; 6] = [
    "postgres",
    "palisade_owner",
    "palisade_admin",
    "palisade_auth",
    "palisade_context",
    "palisade_cancel",
];

fn context(tenant: TenantId, user: &Tenant) -> TenantContext {
    TenantContext {
        tenant,
        user: Some(user.owner().user),
        role: Some(UserRole::Owner),
    }
}

/// A context as the service writes it: with its key, for writing.
fn written(signer: &ContextSigner, of: &Tenant, issued_at: i64) -> String {
    signer.write(
        &context(of.id, of),
        Purpose::Write,
        Uuid::now_v7(),
        issued_at,
    )
}

fn service_signer() -> ContextSigner {
    ContextSigner::new(&signing())
}

/// Runs a statement in a transaction with a context. Returns the number of rows, or the SQLSTATE.
async fn run_in(connection: &mut PgConnection, context: &str, sql: &str) -> Result<u64, String> {
    let quoted = context.replace('\'', "''");
    let begin = format!("begin; set local app.context = '{quoted}'");
    attempt(connection, begin).await.unwrap();
    let done = attempt(connection, sql.to_owned()).await;
    attempt(connection, "rollback".to_owned()).await.unwrap();
    done
}

/// Asserts that a statement of each kind fails with 28000.
async fn assert_rejected(
    connection: &mut PgConnection,
    context: &str,
    victim: &Tenant,
    case: &str,
) {
    for sql in [
        "select from projects".to_owned(),
        "update projects set name = name".to_owned(),
        "delete from comments".to_owned(),
        format!(
            "insert into organizations (tenant_id, id, slug, name)
             values ('{}', gen_random_uuid(), 'planted', 'planted')",
            victim.id.uuid()
        ),
        "select app.seal_audit_log()".to_owned(),
        "select app.tenant_id()".to_owned(),
    ] {
        let done = run_in(connection, context, &sql).await;
        assert_eq!(done, Err("28000".to_owned()), "{case}: {sql}");
    }
}

#[apply(palisade_test)]
async fn a_context_that_the_service_did_not_write_is_rejected(app: &'static TestApp) {
    let (victim, attacker) = (app.tenant().await, app.tenant().await);
    victim.seed(2, 1).await;
    attacker.seed(1, 1).await;
    let before = victim.everything().await;
    let mut sql = app.connect("palisade_app").await;
    let signer = service_signer();
    let own = written(&signer, &attacker, now());
    let others = written(&signer, &victim, now());
    // The own context is valid, so the changes below are the reason for the rejections.
    assert_eq!(run_in(&mut sql, &own, "select from projects").await, Ok(1));
    assert_eq!(
        run_in(&mut sql, &own, "update projects set name = name").await,
        Ok(1)
    );

    let mac = own.len() - 64;
    let rejected = |case: &str, context: String| (case.to_owned(), context);
    let mut cases = vec![
        rejected(
            "the tenant, user and role of another context",
            [&others[..mac], &own[mac..]].concat(),
        ),
        rejected(
            "the tenant alone",
            own.replace(
                &attacker.id.uuid().simple().to_string(),
                &victim.id.uuid().simple().to_string(),
            ),
        ),
        rejected("capital letters", own.to_uppercase()),
        rejected("one digit more", format!("{own}0")),
        rejected("twice", own.repeat(2)),
        rejected("a space before", format!(" {own}")),
        rejected("letters of two bytes", "ä".repeat(own.len())),
        rejected("a quote", format!("{}'{}", &own[..20], &own[21..])),
        rejected("a backslash", format!("{}\\{}", &own[..20], &own[21..])),
        rejected("zeros", "0".repeat(own.len())),
        rejected("the plain id of a tenant", victim.id.uuid().to_string()),
        rejected("expired", written(&signer, &attacker, now() - 31_000)),
        rejected(
            "of an hour ago",
            written(&signer, &attacker, now() - 3_600_000),
        ),
        rejected(
            "from the future",
            written(&signer, &attacker, now() + 7_000),
        ),
        rejected("before 1970", written(&signer, &attacker, 0)),
        rejected(
            "without a signature",
            written(&ContextSigner::new(&Signing::Off), &victim, now()),
        ),
    ];
    let unknown = ContextSigner::new(&Signing::On(ContextKey::generate()));
    let of_unknown = written(&unknown, &victim, now());
    cases.push(rejected("of an unknown key", of_unknown.clone()));
    cases.push(rejected(
        "of an unknown key, with the id of the key",
        [&of_unknown[..2], &own[2..4], &of_unknown[4..]].concat(),
    ));
    for (case, context) in &cases {
        assert_rejected(&mut sql, context, &victim, case).await;
    }
    // Every character belongs to the message or to the MAC.
    for at in 0..own.len() {
        let other = if &own[at..=at] == "0" { "1" } else { "0" };
        let changed = [&own[..at], other, &own[at + 1..]].concat();
        let done = run_in(&mut sql, &changed, "select from projects").await;
        assert_eq!(done, Err("28000".to_owned()), "character {at}");
        let length = at.max(1);
        let done = run_in(&mut sql, &own[..length], "select from projects").await;
        assert_eq!(done, Err("28000".to_owned()), "{length} characters");
    }
    // No context at all: no rows, and no error.
    assert_eq!(run_in(&mut sql, "", "select from projects").await, Ok(0));
    // Within the limits of the time.
    for age in [-3_000, 25_000] {
        let context = written(&signer, &attacker, now() - age);
        assert_eq!(
            run_in(&mut sql, &context, "select from projects").await,
            Ok(1)
        );
    }
    assert_eq!(victim.everything().await, before);
}

#[apply(palisade_test)]
async fn no_setting_opens_the_rows_of_another_tenant(app: &'static TestApp) {
    let (victim, attacker) = (app.tenant().await, app.tenant().await);
    victim.seed(2, 1).await;
    attacker.seed(1, 1).await;
    let mut sql = app.connect("palisade_app").await;
    let settings = sqlx::query(
        "select name, vartype, enumvals, min_val, max_val from pg_settings where context in ('user', 'superuser')",
    )
    .fetch_all(&mut sql)
    .await
    .unwrap();
    assert!(settings.len() > 100, "{}", settings.len());
    let (theirs, other) = (victim.id.uuid(), victim.owner().user.uuid());
    let mut tried: Vec<(String, String)> = Vec::new();
    for row in &settings {
        let name: String = row.get(0);
        let values: Vec<String> = match row.get::<&str, _>(1) {
            "bool" => vec!["on".to_owned(), "off".to_owned()],
            "enum" => row.get(2),
            "string" => vec![theirs.to_string()],
            _ => vec![row.get(3), row.get(4)],
        };
        tried.extend(values.into_iter().map(|value| (name.clone(), value)));
    }
    for name in [
        "tenant_id",
        "user_id",
        "role",
        "request_id",
        "operation_name",
    ] {
        for value in [theirs.to_string(), other.to_string(), "OWNER".to_owned()] {
            tried.push((format!("app.{name}"), value));
        }
    }
    for name in ["role", "session_authorization"] {
        tried.extend(OTHER_ROLES.map(|role| (name.to_owned(), role.to_owned())));
    }
    let signer = service_signer();
    let foreign = format!(
        "select (select count(*) from projects where tenant_id = '{theirs}')
              + (select count(*) from projects where tenant_id <> '{}')
              + (select count(*) from tenants where id = '{theirs}')
              + (select count(*) from audit_logs where tenant_id = '{theirs}')",
        attacker.id.uuid()
    );
    let mut accepted = 0;
    for (name, value) in tried {
        // The transaction begins as the service begins it. The settings are set by what was injected.
        let begin = format!(
            "begin; set local app.context = '{}'",
            written(&signer, &attacker, now())
        );
        attempt(&mut sql, begin).await.unwrap();
        let value = value.replace('\'', "''");
        let set = format!("select set_config('{name}', '{value}', true)");
        if attempt(&mut sql, set).await.is_ok() {
            accepted += 1;
            let found: Result<i64, sqlx::Error> =
                sqlx::query_scalar(sqlx::AssertSqlSafe(foreign.clone()))
                    .persistent(false)
                    .fetch_one(&mut sql)
                    .await;
            if let Ok(found) = found {
                assert_eq!(found, 0, "{name} = {value}");
            }
        }
        attempt(&mut sql, "rollback".to_owned()).await.unwrap();
    }
    assert!(accepted > 100, "{accepted}");
}

#[apply(palisade_test)]
async fn only_the_owner_of_the_verification_reads_the_keys(app: &'static TestApp) {
    for role in ["palisade_app", "palisade_auth", "palisade_admin"] {
        let mut sql = app.connect(role).await;
        for statement in [
            "select from app.context_keys",
            "select inner_pad from app.context_keys",
            "insert into app.context_keys (id, inner_pad, outer_pad) values ('00', '', '')",
            "update app.context_keys set max_age = 1000000000",
            "delete from app.context_keys",
            "select from app.replaced_context_keys",
            "delete from app.replaced_context_keys",
            "select app.sign_contexts(false)",
            "alter function app.verified() security invoker",
            "set role palisade_context",
            "set role palisade_cancel",
        ] {
            let done = attempt(&mut sql, statement.to_owned()).await;
            assert_eq!(done, Err("42501".to_owned()), "{role}: {statement}");
        }
    }
    let mut superuser = app.connect("postgres").await;
    let owners: Vec<String> = sqlx::query_scalar(
        "select format('%s %s %s', p.oid::regprocedure, o.rolname, o.rolcanlogin or o.rolsuper or o.rolbypassrls)
         from pg_proc p join pg_roles o on o.oid = p.proowner
         where p.oid in ('app.verified()'::regprocedure, 'app.cancel(text)'::regprocedure)
         union all
         select 'context_keys ' || relowner::regrole from pg_class where oid = 'app.context_keys'::regclass
         order by 1",
    )
    .fetch_all(&mut superuser)
    .await
    .unwrap();
    assert_eq!(
        owners,
        [
            "app.cancel(text) palisade_cancel f",
            "app.verified() palisade_context f",
            "context_keys palisade_context",
        ]
    );
}

#[apply(palisade_test)]
async fn a_context_for_reading_writes_nothing(tenant: Tenant) {
    tenant.seed(1, 1).await;
    let mut sql = tenant.app.connect("palisade_app").await;
    let read = service_signer().write(
        &context(tenant.id, &tenant),
        Purpose::Read,
        Uuid::now_v7(),
        now(),
    );
    let write = written(&service_signer(), &tenant, now());
    let update = "update projects set name = name || '.'";
    assert_eq!(run_in(&mut sql, &read, "select from projects").await, Ok(1));
    assert_eq!(
        run_in(&mut sql, &read, update).await,
        Err("42501".to_owned())
    );
    assert_eq!(run_in(&mut sql, &write, update).await, Ok(1));
}

/// Functions of PostgreSQL that wait, end the session or change the server. They return no statement of a session.
const NOT_CALLED: &str = "^(pg_sleep|pg_(try_)?advisory|pg_promote|pg_terminate|pg_cancel|pg_reload|pg_rotate|pg_switch|\
     pg_backup|pg_start_backup|pg_stop_backup|pg_create|pg_drop|pg_stat_reset|pg_stat_force|pg_stat_clear|pg_export|\
     pg_log_|pg_wal_replay|pg_notify|lo_|setseed|txid_current$|pg_current_xact_id$|pg_import|pg_restore|pg_replication|\
     pg_logical|pg_nextoid|pg_stop_making|binary_upgrade|query_to|cursor_to|table_to|schema_to|database_to)";

#[apply(palisade_test)]
async fn no_function_or_view_returns_the_statement_of_another_session(app: &'static TestApp) {
    let canary = format!("canary{}", Uuid::now_v7().simple());
    let mut other = app.connect("palisade_app").await;
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()")
        .fetch_one(&mut other)
        .await
        .unwrap();
    let begin = format!(
        "begin; set local app.context = '{canary}'; set local application_name = '{canary}'"
    );
    attempt(&mut other, begin).await.unwrap();
    let mut superuser = app.connect("postgres").await;
    let visible =
        format!("select from pg_stat_activity where query like '%{canary}%' and pid = {pid}");
    // A superuser sees the statement, so it is there to be found.
    assert_eq!(attempt(&mut superuser, visible.clone()).await, Ok(1));

    let mut sql = app.connect("palisade_app").await;
    assert_eq!(attempt(&mut sql, visible).await, Err("42501".to_owned()));
    let views: Vec<String> = sqlx::query_scalar(
        "select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where c.relkind in ('v', 'm') and has_table_privilege(c.oid, 'select')
           and n.nspname in ('pg_catalog', 'information_schema', 'public')",
    )
    .fetch_all(&mut sql)
    .await
    .unwrap();
    assert!(views.len() > 80, "{}", views.len());
    // Every function that a statement can call without an argument, with the id of a process or with an index.
    let calls: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
        "select format('%I.%I(%s)', n.nspname, p.proname, argument.value)
         from pg_proc p
         join pg_namespace n on n.oid = p.pronamespace
         cross join lateral (
             select '' as value where p.pronargs - p.pronargdefaults = 0
             union all
             select format('%s::%s', number, p.proargtypes[0]::regtype)
             from unnest(array[{pid}] || array(select generate_series(0, 120))) as number
             where p.pronargs - p.pronargdefaults <= 1 and p.pronargs > 0
               and p.proargtypes[0] in ('integer'::regtype, 'bigint'::regtype, 'oid'::regtype)
               and (number in ({pid}, 0) or p.proname like 'pg_stat_get_%')
             union all
             select format('null::%s', p.proargtypes[0]::regtype)
             where p.pronargs - p.pronargdefaults <= 1 and p.pronargs > 0 and not p.proisstrict
         ) argument
         where p.prokind = 'f' and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype, 'internal'::regtype)
           and n.nspname in ('pg_catalog', 'public', 'app') and has_function_privilege(p.oid, 'execute')
           and p.proname !~ '{NOT_CALLED}'"
    )))
    .fetch_all(&mut sql)
    .await
    .unwrap();
    assert!(calls.len() > 500, "{}", calls.len());
    let sources = views
        .into_iter()
        .chain(calls.into_iter().collect::<BTreeSet<_>>());
    let mut answered = 0;
    for source in sources {
        attempt(&mut sql, "begin".to_owned()).await.unwrap();
        // In two parts, so that the search does not find itself.
        let (first, second) = canary.split_at(12);
        let pattern = format!("'%{first}' || '{second}%'");
        let search = format!("select from {source} as found where found::text like {pattern}");
        // An error also shows nothing: the function rejects the argument or the role.
        if let Ok(found) = attempt(&mut sql, search).await {
            assert_eq!(found, 0, "{source} shows the statement of another session");
            answered += 1;
        }
        attempt(&mut sql, "rollback".to_owned()).await.unwrap();
    }
    assert!(answered > 500, "{answered}");
    drop(other);
}

#[apply(palisade_test)]
async fn only_a_statement_with_the_mark_and_of_the_own_login_is_cancelled(app: &'static TestApp) {
    let sleeping = async |role: &'static str, mark: &str| {
        let mut sql = app.connect(role).await;
        attempt(
            &mut sql,
            format!("set application_name = '{mark}'; set statement_timeout = 0"),
        )
        .await
        .unwrap();
        let pid: i32 = sqlx::query_scalar("select pg_backend_pid()")
            .fetch_one(&mut sql)
            .await
            .unwrap();
        let done =
            tokio::spawn(async move { attempt(&mut sql, "select pg_sleep(60)".to_owned()).await });
        (pid, done)
    };
    let mark = format!("palisade {} 01234567", Uuid::now_v7());
    let other_mark = format!("palisade {} 01234567", Uuid::now_v7());
    let (own, own_done) = sleeping("palisade_app", &mark).await;
    let (unmarked, unmarked_done) = sleeping("palisade_app", &other_mark).await;
    let (of_admin, admin_done) = sleeping("palisade_admin", &mark).await;
    let mut superuser = app.connect("postgres").await;
    let active = format!(
        "select count(*) from pg_stat_activity
         where pid in ({own}, {unmarked}, {of_admin}) and wait_event = 'PgSleep'"
    );
    crate::harness::eventually("all three sleep", async || {
        sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(active.clone()))
            .fetch_one(&mut superuser)
            .await
            .unwrap()
            == 3
    })
    .await;
    let mut sql = app.connect("palisade_app").await;
    for pid in [own, of_admin] {
        for end in ["pg_cancel_backend", "pg_terminate_backend"] {
            let done = attempt(&mut sql, format!("select {end}({pid})")).await;
            assert_eq!(done, Err("42501".to_owned()), "{end}");
        }
    }
    let cancelled: bool = sqlx::query_scalar("select app.cancel($1)")
        .bind(&mark)
        .fetch_one(&mut sql)
        .await
        .unwrap();
    assert!(cancelled);
    assert_eq!(own_done.await.unwrap(), Err("57014".to_owned()));
    for mark in ["palisade side", "palisade", "", "palisade % %", "psql"] {
        let cancelled: bool = sqlx::query_scalar("select app.cancel($1)")
            .bind(mark)
            .fetch_one(&mut sql)
            .await
            .unwrap();
        assert!(!cancelled, "{mark}");
    }
    let still: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(active))
        .fetch_one(&mut superuser)
        .await
        .unwrap();
    assert_eq!(still, 2);
    for pid in [unmarked, of_admin] {
        attempt(&mut superuser, format!("select pg_cancel_backend({pid})"))
            .await
            .unwrap();
    }
    assert!(unmarked_done.await.unwrap().is_err());
    assert!(admin_done.await.unwrap().is_err());
}

async fn connect(app: &TestApp, signing: &Signing) -> Result<TenantDb, ConnectError> {
    TenantDb::connect(
        &app.database_url("palisade_app"),
        PoolSettings::default(),
        signing,
    )
    .await
}

#[apply(palisade_test)]
async fn the_service_does_not_start_if_the_database_believes_a_forged_context(
    app: &'static TestApp,
) {
    let app = app.in_own_database(&[]).await;
    let mut superuser = app.connect("postgres").await;
    let unknown = Signing::On(ContextKey::generate());
    assert!(matches!(
        connect(app, &unknown).await,
        Err(ConnectError::ContextRejected(_))
    ));
    assert!(matches!(
        connect(app, &Signing::Off).await,
        Err(ConnectError::ContextUnsigned)
    ));
    connect(app, &signing()).await.unwrap().close().await;

    attempt(&mut superuser, "select app.sign_contexts(false)".to_owned())
        .await
        .unwrap();
    assert!(matches!(
        connect(app, &signing()).await,
        Err(ConnectError::ForgeryAccepted)
    ));
    connect(app, &Signing::Off).await.unwrap().close().await;
    // Unsigned contexts isolate tenants as well, as long as nothing is injected.
    let tenant = app.tenant().await;
    let mut sql = tenant.begin().await.0;
    for table in tenant_tables(&mut superuser).await {
        let (name, column) = (&table.name, &table.tenant_column);
        let foreign = format!(
            "select from {name} where {column} <> '{}'",
            tenant.id.uuid()
        );
        assert_eq!(attempt(&mut sql, foreign).await, Ok(0), "{name}");
    }
    // A migration with a key switches the verification on again.
    let url = app.database_url("postgres");
    migrate::run(&url, &migrate::RolePasswords::default(), Some(&signing()))
        .await
        .unwrap();
    connect(app, &signing()).await.unwrap().close().await;
    app.drop_database().await;
}

#[apply(palisade_test)]
async fn a_key_is_replaced_under_load_without_a_failed_request(app: &'static TestApp) {
    let app = app.in_own_database(&[]).await;
    let tenant: &'static Tenant = Box::leak(Box::new(app.tenant().await));
    tenant.seed(2, 1).await;
    // The keys of the tests' own connections would count as the second valid key.
    let mut superuser = app.connect("postgres").await;
    attempt(
        &mut superuser,
        "delete from app.context_keys where max_age > 30000".to_owned(),
    )
    .await
    .unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|number| {
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                let caller = tenant.owner();
                let mut served = 0_u32;
                while !stop.load(Ordering::Relaxed) {
                    let response = caller.query("{ projects { nodes { name } } }").await;
                    let nodes = response.data()["projects"]["nodes"].as_array();
                    assert_eq!(nodes.map(Vec::len), Some(2), "client {number}");
                    served += 1;
                }
                served
            })
        })
        .collect();
    let url = app.database_url("palisade_owner");
    let key = migrate::rotate_key(&url, Duration::from_hours(1))
        .await
        .unwrap();
    // The service has the old key, and this database connection the new one.
    let new = Signing::On(key.clone());
    let db = connect(app, &new).await.unwrap();
    for _ in 0..20 {
        connect(app, &signing()).await.unwrap().close().await;
    }
    // A third key would leave one service without a valid one.
    let third = migrate::rotate_key(&url, Duration::from_hours(1)).await;
    assert!(matches!(third, Err(migrate::MigrateError::TwoKeys)));
    // The same key again changes nothing.
    migrate::run(&url, &migrate::RolePasswords::default(), Some(&new))
        .await
        .unwrap();
    stop.store(true, Ordering::Relaxed);
    let mut served = 0;
    for client in clients {
        served += client.await.unwrap();
    }
    assert!(served > 20, "{served}");

    // The end of all previous keys.
    let last = migrate::rotate_key(&url, Duration::ZERO).await.unwrap();
    assert!(matches!(
        connect(app, &signing()).await,
        Err(ConnectError::ContextRejected(_))
    ));
    assert!(matches!(
        connect(app, &new).await,
        Err(ConnectError::ContextRejected(_))
    ));
    connect(app, &Signing::On(last))
        .await
        .unwrap()
        .close()
        .await;
    let response = tenant
        .owner()
        .query("{ projects { nodes { name } } }")
        .await;
    assert_eq!(response.code(), "INTERNAL");
    db.close().await;
    app.drop_database().await;
}

#[apply(palisade_test)]
async fn a_transaction_that_lasts_longer_than_a_context_is_valid_keeps_it(tenant: Tenant) {
    tenant.seed(1, 1).await;
    let mut sql = tenant.app.connect("palisade_app").await;
    // The age counts from the start of the transaction, so 25 seconds old at its start stays valid in it.
    let old = written(&service_signer(), &tenant, now() - 25_000);
    attempt(&mut sql, format!("begin; set local app.context = '{old}'"))
        .await
        .unwrap();
    let first: String = sqlx::query_scalar("select now()::text")
        .fetch_one(&mut sql)
        .await
        .unwrap();
    for _ in 0..3 {
        assert_eq!(
            attempt(&mut sql, "select from projects".to_owned()).await,
            Ok(1)
        );
    }
    let last: String = sqlx::query_scalar("select now()::text")
        .fetch_one(&mut sql)
        .await
        .unwrap();
    assert_eq!(first, last);
    sql.close().await.unwrap();
}
