//! `palisade doctor`, and the rules that `serve` runs when it starts and while it runs.

use std::time::{Duration, Instant};

use macro_rules_attribute::apply;
use palisade::{doctor::RULES, embedded::Embedded};
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::{
    CommandResult, Service, create_test_dir, palisade, remove_dir, run_palisade, run_to_exit,
    serve_command, start_server,
};
use crate::harness::{eventually, palisade_test};

/// A migrated database in a cluster of its own, because the tests change the roles.
pub(super) struct OwnCluster {
    dir: std::path::PathBuf,
    server: Embedded,
    superuser: PgConnection,
}

impl OwnCluster {
    pub(super) async fn start() -> Self {
        let dir = create_test_dir().await;
        let server = start_server(dir.clone()).await;
        let url = server.url("postgres", "postgres");
        let superuser = PgConnection::connect(&url).await.unwrap();
        let mut cluster = Self {
            dir,
            server,
            superuser,
        };
        cluster.migrate().await;
        // Otherwise D51 reports it.
        cluster
            .execute("revoke connect on database template1 from public")
            .await;
        cluster
    }

    pub(super) fn url(&self, role: &str) -> String {
        self.server.url(role, "postgres")
    }

    async fn migrate(&self) {
        run_palisade(&["migrate", "--database-url", &self.url("postgres")])
            .await
            .success();
    }

    pub(super) async fn execute(&mut self, sql: &'static str) {
        self.superuser.execute(sql).await.unwrap();
    }

    pub(super) async fn doctor(&self, options: &[&str]) -> CommandResult {
        let url = self.url("postgres");
        let arguments = ["doctor", "--database-url", &url];
        run_palisade(&[&arguments, options].concat()).await
    }

    pub(super) async fn stop(self) {
        drop(self.superuser);
        self.server.stop().await.unwrap();
        remove_dir(&self.dir);
    }
}

/// A rule that `serve` runs when it starts, SQL that violates the rule, and SQL that repairs it.
const GAPS: &[(&str, &str, &str)] = &[
    (
        "D01",
        "alter role palisade_app createrole",
        "alter role palisade_app nocreaterole",
    ),
    (
        "D01",
        "alter role palisade_app replication",
        "alter role palisade_app noreplication",
    ),
    (
        "D02",
        "grant pg_monitor to palisade_app",
        "revoke pg_monitor from palisade_app",
    ),
    (
        "D02",
        "grant pg_signal_backend to palisade_app",
        "revoke pg_signal_backend from palisade_app",
    ),
    (
        "D02",
        "grant pg_read_all_stats to palisade_app",
        "revoke pg_read_all_stats from palisade_app",
    ),
    (
        "D03",
        "create function app.extra() returns integer language sql return 1;
             alter function app.extra() owner to palisade_app",
        "drop function app.extra()",
    ),
    (
        "D03",
        "create schema extra authorization palisade_app",
        "drop schema extra",
    ),
    (
        "D04",
        "alter table projects disable row level security",
        "alter table projects enable row level security",
    ),
    (
        "D05",
        "alter table projects no force row level security",
        "alter table projects force row level security",
    ),
    (
        "D06",
        "create table bare (n integer); grant select on bare to palisade_app",
        "drop table bare",
    ),
    (
        "D08",
        "create policy extra on projects using (true)",
        "drop policy extra on projects",
    ),
    (
        "D12",
        "alter table projects add constraint extra foreign key (id, tenant_id)
                 references organizations (tenant_id, id) not valid",
        "alter table projects drop constraint extra",
    ),
    (
        "D22",
        "grant truncate on projects to palisade_app",
        "revoke truncate on projects from palisade_app",
    ),
    (
        "D23",
        "grant create on schema public to palisade_app",
        "revoke create on schema public from palisade_app",
    ),
    (
        "D26",
        "alter role palisade_app set app.context = 'x'",
        "alter role palisade_app reset app.context",
    ),
    (
        "D40",
        "alter table projects disable trigger record_change",
        "alter table projects enable trigger record_change",
    ),
    (
        "D45",
        "drop policy tenant on projects;
             create policy tenant on projects using (tenant_id = (select app.tenant_id()))",
        "alter policy tenant on projects with check (tenant_id = (select app.tenant_id()))",
    ),
    (
        "D01",
        "alter role palisade_auth replication",
        "alter role palisade_auth noreplication",
    ),
    (
        "D22",
        "grant truncate on projects to palisade_auth",
        "revoke truncate on projects from palisade_auth",
    ),
];

#[apply(palisade_test)]
async fn serve_does_not_start_on_a_database_with_a_gap_and_names_the_rule() {
    let mut cluster = OwnCluster::start().await;
    for (rule, open, close) in GAPS {
        cluster.execute(open).await;
        let mut serve = serve_command(&cluster.url("palisade_app"));
        serve.env("PALISADE_AUTH_DATABASE_URL", cluster.url("palisade_auth"));
        let result = run_to_exit(serve).await;
        let line = result.error_line(1);
        let expected = format!("the database does not isolate the tenants: {rule} ");
        assert!(line.starts_with(&expected), "{open}: {line}");
        cluster.execute(close).await;
    }
    let mut serve = serve_command(&cluster.url("palisade_app"));
    serve.env("PALISADE_AUTH_DATABASE_URL", cluster.url("postgres"));
    let result = run_to_exit(serve).await;
    let line = result.error_line(1);
    assert!(
        line.contains("D01 role-bypass: The role postgres has "),
        "{line}"
    );

    let (service, _) = Service::serve(serve_command(&cluster.url("palisade_app"))).await;
    service.terminate().await;
    cluster.stop().await;
}

#[apply(palisade_test)]
async fn a_running_service_rejects_requests_while_the_database_has_a_gap() {
    let mut cluster = OwnCluster::start().await;
    let mut serve = serve_command(&cluster.url("palisade_app"));
    serve.env("PALISADE_ISOLATION_CHECK_INTERVAL", "100ms");
    serve.env("PALISADE_AUTH_DATABASE_URL", cluster.url("palisade_auth"));
    let (service, api) = Service::serve(serve).await;
    let ready = api.replace("/graphql", "/health/ready");
    for (rule, open, close) in [
        (
            "D08 policy-count",
            "create policy extra on projects using (tenant_id = (select app.tenant_id()))
                 with check (tenant_id = (select app.tenant_id()))",
            "drop policy extra on projects",
        ),
        (
            "D04 rls-off",
            "alter table projects disable row level security",
            "alter table projects enable row level security",
        ),
        // The role of the sign-in.
        (
            "D01 role-bypass",
            "alter role palisade_auth bypassrls",
            "alter role palisade_auth nobypassrls",
        ),
    ] {
        // Without a token, the service rejects the request with 401.
        assert_eq!(post(&api).await, 401);
        cluster.execute(open).await;
        eventually("the service reports the gap", async || {
            let response = reqwest::get(&ready).await.unwrap();
            response.status() == 503
                && response.text().await.unwrap()
                    == format!("the database does not isolate the tenants: {rule}\n")
        })
        .await;
        assert_eq!(post(&api).await, 503);
        cluster.execute(close).await;
        eventually("the service serves again", async || {
            reqwest::get(&ready).await.unwrap().status() == 200
        })
        .await;
    }
    let output = service.terminate().await;
    for rule in ["D08 policy-count", "D04 rls-off", "D01 role-bypass"] {
        for line in [
            format!("the service rejects all requests: {rule}: "),
            format!("the service accepts requests again, after: {rule}: "),
        ] {
            assert_eq!(output.matches(&line).count(), 1, "{line}: {output}");
        }
    }
    cluster.stop().await;
}

/// What weakens the signed context: SQL, the rule that reports it, and SQL that repairs it.
const WEAKENED_CONTEXTS: &[(&str, &str, &str)] = &[
    (
        "set role palisade_owner; select app.sign_contexts(false); reset role",
        "D34 context-unsigned",
        "set role palisade_owner; select app.sign_contexts(true); reset role",
    ),
    // A function that runs as its owner and verifies nothing.
    (
        "set role palisade_owner;
         create or replace function app.verified() returns text
             language sql stable parallel safe security definer set search_path = pg_catalog, pg_temp
             return nullif(current_setting('app.context', true), '');
         reset role",
        "D34 context-unsigned",
        "set role palisade_owner; select app.sign_contexts(true); reset role",
    ),
    // Contexts that do not expire.
    (
        "set role palisade_owner; update app.context_keys set max_age = 2147483647; reset role",
        "D34 context-unsigned",
        "set role palisade_owner; update app.context_keys set max_age = 30000; reset role",
    ),
    (
        "grant select on app.context_keys to palisade_app",
        "D47 context-keys",
        "revoke select on app.context_keys from palisade_app",
    ),
    (
        "grant select (outer_pad) on app.context_keys to public",
        "D47 context-keys",
        "revoke select (outer_pad) on app.context_keys from public",
    ),
];

#[apply(palisade_test)]
async fn a_service_stops_within_5_s_after_its_contexts_are_no_longer_safe() {
    let mut cluster = OwnCluster::start().await;
    // With the default interval.
    let (service, api) = Service::serve(serve_command(&cluster.url("palisade_app"))).await;
    let ready = api.replace("/graphql", "/health/ready");
    for (weaken, rule, repair) in WEAKENED_CONTEXTS {
        assert_eq!(post(&api).await, 401, "{weaken}");
        cluster.execute(weaken).await;
        let since = Instant::now();
        eventually("the service rejects requests", async || {
            post(&api).await == 503
        })
        .await;
        assert!(since.elapsed() < Duration::from_secs(5), "{weaken}");
        let response = reqwest::get(&ready).await.unwrap();
        assert_eq!(response.status(), 503, "{weaken}");
        assert_eq!(
            response.text().await.unwrap(),
            format!("the database does not isolate the tenants: {rule}\n"),
            "{weaken}"
        );
        let result = run_to_exit(serve_command(&cluster.url("palisade_app"))).await;
        assert_eq!(result.code, Some(1), "{weaken}: {result:?}");
        cluster.execute(repair).await;
        eventually("the service serves again", async || {
            reqwest::get(&ready).await.unwrap().status() == 200
        })
        .await;
    }
    let output = service.terminate().await;
    for line in [
        "D34 context-unsigned: app.verified() returns every context",
        "D34 context-unsigned: app.verified() accepts a context with a wrong signature.",
        "D34 context-unsigned: app.verified() accepts a context that was signed an hour ago.",
        "D47 context-keys: palisade_app can read or write app.context_keys.",
    ] {
        let error = format!("the service rejects all requests: {line}");
        assert!(output.contains(&error), "{error}: {output}");
    }
    cluster.stop().await;
}

#[apply(palisade_test)]
async fn a_service_without_signatures_only_warns_about_them_and_about_what_it_cannot_cancel() {
    let mut cluster = OwnCluster::start().await;
    cluster
        .execute(
            "set role palisade_owner; select app.sign_contexts(false); reset role;
             alter function app.cancel(text) security invoker",
        )
        .await;
    let mut serve = serve_command(&cluster.url("palisade_app"));
    serve
        .arg("--unsigned-context")
        .env_remove("PALISADE_CONTEXT_KEY")
        .env("PALISADE_ISOLATION_CHECK_INTERVAL", "100ms");
    let (service, api) = Service::serve(serve).await;
    let ready = api.replace("/graphql", "/health/ready");
    // The rules run: the service notices a gap and its repair.
    cluster
        .execute("alter table projects disable row level security")
        .await;
    eventually("the service reports the gap", async || {
        reqwest::get(&ready).await.unwrap().status() == 503
    })
    .await;
    cluster
        .execute("alter table projects enable row level security")
        .await;
    eventually("the service serves again", async || {
        reqwest::get(&ready).await.unwrap().status() == 200
    })
    .await;
    let output = service.terminate().await;
    assert!(!output.contains("all requests: D34"), "{output}");
    for line in [
        "WARN D34 context-unsigned: app.verified() returns every context",
        "WARN D50 cancel-powerless: app.cancel(text) does not cancel the statements of palisade_app, because palisade_app \
         lacks rights. Fix: run `palisade migrate` as a superuser",
    ] {
        assert!(output.contains(line), "{line}: {output}");
    }
    cluster.stop().await;
}

/// The rights on `pg_stat_activity` belong to one database, so the role must not connect to another one.
#[apply(palisade_test)]
async fn doctor_reports_other_databases_in_which_the_role_sees_its_statements() {
    let mut cluster = OwnCluster::start().await;
    let roles = ["--role", "palisade_app", "--role", "palisade_auth"];
    let result = cluster.doctor(&roles).await;
    assert!(!result.stdout.contains("D51"), "{result:?}");
    cluster.execute("create database other").await;
    let result = cluster.doctor(&roles).await;
    let found = result.stdout.matches("may connect to the database").count();
    assert_eq!(found, 1, "{result:?}");
    for part in [
        "D51 other-databases",
        "palisade_app may connect to the database other.",
    ] {
        assert!(result.stdout.contains(part), "{result:?}");
    }

    // What the rule prevents.
    let mut session = PgConnection::connect(&cluster.url("palisade_app"))
        .await
        .unwrap();
    session
        .execute("begin; set local app.context = 'signed'")
        .await
        .unwrap();
    let other = cluster.server.url("palisade_app", "other");
    let mut spy = PgConnection::connect(&other).await.unwrap();
    let seen: i64 = sqlx::query_scalar(
        "select count(*) from pg_stat_activity where query like 'begin; set local app.context%'",
    )
    .fetch_one(&mut spy)
    .await
    .unwrap();
    assert_eq!(seen, 1);
    drop(spy);
    cluster
        .execute("revoke connect on database other from public, palisade_app")
        .await;
    let rejected = PgConnection::connect(&other).await.unwrap_err();
    let rejected = rejected.into_database_error().unwrap();
    assert_eq!(rejected.code().as_deref(), Some("42501"));
    let result = cluster.doctor(&roles).await;
    assert!(!result.stdout.contains("D51"), "{result:?}");
    drop(session);
    cluster.stop().await;
}

#[apply(palisade_test)]
async fn a_service_that_cannot_check_the_isolation_stops_serving_and_recovers_once() {
    let mut cluster = OwnCluster::start().await;
    let mut serve = serve_command(&cluster.url("palisade_app"));
    serve.env("PALISADE_ISOLATION_CHECK_INTERVAL", "100ms");
    let (service, api) = Service::serve(serve).await;
    let ready = api.replace("/graphql", "/health/ready");
    // The connections of the service may not read the catalogue, as after a change that the rules do not know.
    cluster
        .execute("revoke select on pg_catalog.pg_policy from public")
        .await;
    eventually("the service stops serving", async || {
        let response = reqwest::get(&ready).await.unwrap();
        response.status() == 503
            && response.text().await.unwrap()
                == "the isolation of the tenants could not be checked for 8 s\n"
    })
    .await;
    assert_eq!(post(&api).await, 503);
    cluster
        .execute("grant select on pg_catalog.pg_policy to public")
        .await;
    eventually("the service serves again", async || {
        reqwest::get(&ready).await.unwrap().status() == 200
    })
    .await;
    let output = service.terminate().await;
    for line in [
        "cannot check the isolation of the tenants: ",
        "the service rejects all requests: the isolation of the tenants could not be checked for 8 s",
        "the service accepts requests again, after: the isolation of the tenants could not be checked",
    ] {
        assert_eq!(output.matches(line).count(), 1, "{line}: {output}");
    }
    cluster.stop().await;
}

async fn post(api: &str) -> u16 {
    let request = reqwest::Client::new().post(api);
    let response = request.json(&json!({ "query": "{ __typename }" })).send();
    response.await.unwrap().status().as_u16()
}

#[apply(palisade_test)]
async fn migrating_as_a_superuser_takes_memberships_settings_and_grants_from_the_roles() {
    let mut cluster = OwnCluster::start().await;
    cluster
        .execute(
            "grant pg_monitor to palisade_app;
             create role team;
             grant team to palisade_auth;
             grant create on schema public to palisade_app;
             grant create on schema app to palisade_auth;
             grant truncate, references, trigger on projects to palisade_app;
             grant select on projects to public;
             grant temporary on database postgres to palisade_app;
             alter role palisade_app set app.context = 'x';
             alter role palisade_app in database postgres set row_security = off;
             alter role palisade_app reset statement_timeout;
             alter role palisade_auth set session_replication_role = replica",
        )
        .await;
    let roles = ["--role", "palisade_app", "--role", "palisade_auth"];
    let json = [&roles[..], &["--format", "json"]].concat();
    let result = cluster.doctor(&json).await;
    assert_eq!(result.code, Some(1));
    let report: Value = serde_json::from_str(&result.stdout).unwrap();
    let mut found: Vec<&str> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["rule"].as_str().unwrap())
        .collect();
    found.dedup();
    assert_eq!(
        found,
        ["D02", "D22", "D23", "D26", "D27", "D40", "D44"],
        "{report:#}"
    );
    cluster.migrate().await;
    let result = cluster.doctor(&roles).await;
    let expected = format!(
        "0 errors, 0 warnings, 17 allowed by comments; {} rules\n",
        RULES.len()
    );
    let text = result.success();
    assert!(text.ends_with(&expected), "{text}");
    cluster.stop().await;
}

#[apply(palisade_test)]
async fn doctor_prints_text_json_and_sarif_and_exits_with_1_for_errors() {
    let mut cluster = OwnCluster::start().await;
    cluster
        .execute("alter table projects no force row level security")
        .await;
    let result = cluster.doctor(&[]).await;
    assert_eq!(
        result.error_line(1),
        "the isolation of the tenants has gaps, errors: 1"
    );
    assert!(
        result.stdout.contains("\n1 error, 0 warnings, "),
        "{result:?}"
    );
    let fix = "    fix: alter table public.projects force row level security;\n";
    assert!(
        result.stdout.contains("error D05 rls-not-forced: "),
        "{result:?}"
    );
    assert!(result.stdout.contains(fix), "{result:?}");

    let result = cluster.doctor(&["--format", "json"]).await;
    assert_eq!(result.code, Some(1));
    let report: Value = serde_json::from_str(&result.stdout).unwrap();
    assert_eq!(
        (&report["errors"], &report["warnings"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(report["findings"][0]["rule"], "D05");
    assert_eq!(report["findings"][0]["object"], "table public.projects");

    let result = cluster.doctor(&["--format", "sarif"]).await;
    assert_eq!(result.code, Some(1));
    let sarif: Value = serde_json::from_str(&result.stdout).unwrap();
    assert_eq!(sarif["version"], "2.1.0");
    let run = &sarif["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    assert_eq!(rules.len(), RULES.len());
    let first = &run["results"][0];
    assert_eq!(
        (&first["ruleId"], &first["level"]),
        (&json!("D05"), &json!("error"))
    );
    let index = usize::try_from(first["ruleIndex"].as_u64().unwrap()).unwrap();
    assert_eq!(rules[index]["id"], "D05");
    // The findings that a comment allows are in the report, as suppressed.
    let suppressed = run["results"].as_array().unwrap().iter().skip(1);
    for result in suppressed {
        assert_eq!(result["suppressions"][0]["kind"], "inSource", "{result}");
    }

    for (options, message) in [
        (
            ["--role", "nobody"],
            "there is no role nobody: name the role of the service with --role",
        ),
        (
            ["--setting", "tenant"],
            "a setting has a prefix and a name, such as app.context",
        ),
    ] {
        let result = cluster.doctor(&options).await;
        assert_eq!(result.code, Some(2), "{result:?}");
        assert!(result.stderr.contains(message), "{result:?}");
    }
    assert_eq!(run_to_exit(palisade(&["doctor"])).await.code, Some(2));
    cluster.stop().await;
}

#[apply(palisade_test)]
async fn doctor_inspects_any_database_with_a_tenant_column() {
    let mut cluster = OwnCluster::start().await;
    cluster
        .execute(
            "create schema shop;
             create role shop_app login;
             grant usage on schema shop to shop_app;
             alter role shop_app set statement_timeout = '5s';
             alter role shop_app set lock_timeout = '2s';
             alter role shop_app set idle_in_transaction_session_timeout = '10s';
             alter role shop_app set log_error_verbosity = terse;
             alter role shop_app set log_parameter_max_length = 0;
             alter role shop_app set log_parameter_max_length_on_error = 0;
             create table shop.orders (account bigint not null, id bigint not null, primary key (account, id));
             alter table shop.orders enable row level security;
             alter table shop.orders force row level security;
             create policy account on shop.orders
                 using (account = (select nullif(current_setting('shop.account', true), '')::bigint))
                 with check (account = (select nullif(current_setting('shop.account', true), '')::bigint));
             grant select, insert on shop.orders to shop_app",
        )
        .await;
    let options = [
        "--role",
        "shop_app",
        "--tenant-column",
        "account",
        "--setting",
        "shop.account",
        "--schema",
        "shop",
    ];
    let text = cluster.doctor(&options).await.success();
    assert!(
        text.starts_with("0 errors, 0 warnings, 0 allowed"),
        "{text}"
    );
    cluster
        .execute("create table shop.notes (account bigint, id bigint primary key); grant select on shop.notes to shop_app")
        .await;
    let result = cluster.doctor(&options).await;
    for code in ["D04", "D07", "D13", "D14"] {
        assert!(result.stdout.contains(code), "{code}: {result:?}");
    }
    cluster.stop().await;
}
