//! `palisade doctor`: each rule has a fixture that violates it, and the schema of this repository violates none.

mod fixtures;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use macro_rules_attribute::apply;
use palisade::doctor::{self, LIVE_PROBE, Report, RunAt, Scope};
use sqlx::{Connection as _, PgConnection};

use crate::harness::{TestApp, attempt, palisade_test};
use fixtures::FIXTURES;

/// The roles with which the service connects.
fn scope() -> Scope {
    Scope {
        roles: vec!["palisade_app".to_owned(), "palisade_auth".to_owned()],
        ..Scope::of_login()
    }
}

/// The rule about other databases of the server. The tests share a server, so it has many. `cli/doctor.rs` violates it.
const OTHER_DATABASES: &str = "D51";

async fn inspect(connection: &mut PgConnection) -> Report {
    let wants = |rule: &doctor::Rule| rule.code != OTHER_DATABASES;
    doctor::run(connection, &scope(), wants).await.unwrap()
}

/// The findings, one line each.
fn lines(report: &Report) -> String {
    let lines: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[apply(palisade_test)]
async fn each_rule_finds_its_fixture_and_nothing_in_the_schema(app: &'static TestApp) {
    let database = app.own_database().await;
    let url = app.server.url("postgres", &database);
    let mut superuser = PgConnection::connect(&url).await.unwrap();
    let clean = inspect(&mut superuser).await;
    assert!(clean.findings.is_empty(), "{}", lines(&clean));

    let mut failures = Vec::new();
    for fixture in FIXTURES {
        // Roles belong to the whole cluster, so another test may change one at the same time.
        let mut transaction = loop {
            let mut transaction = superuser.begin().await.unwrap();
            match attempt(&mut transaction, fixture.sql.to_owned()).await {
                Err(error) if error == "XX000" => transaction.rollback().await.unwrap(),
                applied => {
                    assert!(applied.is_ok(), "{}: {applied:?}", fixture.sql);
                    break transaction;
                }
            }
        };
        let report = inspect(&mut transaction).await;
        let found: BTreeSet<&str> = report.findings.iter().map(|f| f.rule.code).collect();
        let expected: BTreeSet<&str> = fixture.codes.iter().copied().collect();
        if found != expected {
            failures.push(format!("{expected:?}: {}\n{}", fixture.sql, lines(&report)));
        }
        transaction.rollback().await.unwrap();
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    superuser.close().await.unwrap();
    app.drop_own_database(&database).await;
}

#[test]
fn each_rule_has_a_fixture_that_violates_it_alone() {
    let alone: BTreeSet<&str> = FIXTURES
        .iter()
        .filter_map(|fixture| match fixture.codes {
            // The attack of D36 succeeds because of the gap that the other rule finds.
            [code] | [code, LIVE_PROBE] => Some(*code),
            _ => None,
        })
        .collect();
    let missing: Vec<&str> = doctor::RULES
        .iter()
        .map(|rule| rule.code)
        .filter(|code| !alone.contains(code) && *code != OTHER_DATABASES)
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The columns of the tables in `public`, as D37 lists them.
async fn columns(connection: &mut PgConnection) -> String {
    let rows: Vec<(String,)> = sqlx::query_as(
        "select format('    (%L, %L, %L, %L::boolean)', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull)
         from pg_class c
         join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
         where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and c.relname <> '_sqlx_migrations'
         order by c.relname, a.attnum",
    )
    .fetch_all(connection)
    .await
    .unwrap();
    let rows: Vec<String> = rows.into_iter().map(|(row,)| row).collect();
    rows.join(",\n") + "\n"
}

/// With `PALISADE_UPDATE_COLUMNS=1`, this test writes the list.
#[apply(palisade_test)]
async fn the_columns_of_d37_are_those_that_the_migrations_create(app: &'static TestApp) {
    const BEGIN: &str = "-- begin of the columns\n";
    const END: &str = "-- end of the columns\n";

    let database = app.own_database().await;
    let url = app.server.url("postgres", &database);
    let mut superuser = PgConnection::connect(&url).await.unwrap();
    let expected = columns(&mut superuser).await;
    superuser.close().await.unwrap();
    app.drop_own_database(&database).await;

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/doctor/rules/D37.sql");
    let rule = fs::read_to_string(&path).unwrap();
    let (head, rest) = rule.split_once(BEGIN).unwrap();
    let (found, tail) = rest.split_once(END).unwrap();
    if std::env::var_os("PALISADE_UPDATE_COLUMNS").is_some() {
        fs::write(path, [head, BEGIN, &expected, END, tail].concat()).unwrap();
    } else {
        assert_eq!(
            found, expected,
            "run this test with PALISADE_UPDATE_COLUMNS=1"
        );
    }
}

/// The four mistakes that are made most often: the rule, a fixture, and words of the finding.
#[apply(palisade_test)]
async fn the_four_common_mistakes_are_found_by_name(app: &'static TestApp) {
    let database = app.own_database().await;
    let url = app.server.url("postgres", &database);
    let mut superuser = PgConnection::connect(&url).await.unwrap();
    for (mistake, sql, finding) in [
        (
            "the service's role has BYPASSRLS",
            "alter role palisade_app bypassrls",
            "D01 role-bypass: The role palisade_app has BYPASSRLS",
        ),
        (
            "a policy without WITH CHECK",
            "drop policy tenant on projects;
             create policy tenant on projects using (tenant_id = (select app.tenant_id()))",
            "D45 no-with-check: The policy tenant on public.projects has no WITH CHECK",
        ),
        (
            "no index that begins with the tenant",
            "alter table invoice_counters drop constraint invoice_counters_pkey",
            "D14 index-without-tenant: No index of public.invoice_counters begins with tenant_id",
        ),
        (
            "SET without LOCAL",
            "create function app.enter(tenant uuid) returns void language plpgsql as
             $$ begin perform set_config('app.context', tenant::text, false); end $$",
            "D46 context-per-session: ",
        ),
    ] {
        let mut transaction = superuser.begin().await.unwrap();
        attempt(&mut transaction, sql.to_owned()).await.unwrap();
        let report = inspect(&mut transaction).await;
        assert!(
            lines(&report).contains(finding),
            "{mistake}: {}",
            lines(&report)
        );
        transaction.rollback().await.unwrap();
    }
    superuser.close().await.unwrap();
    app.drop_own_database(&database).await;
}

#[apply(palisade_test)]
async fn the_live_probe_attacks_every_table_and_leaves_no_row(app: &'static TestApp) {
    let database = app
        .in_own_database(&["create table seen (n integer)"])
        .await;
    let mut superuser = database.connect("postgres").await;
    // The policies are gone, so each attack that reads a table finds the row of the canary.
    attempt(
        &mut superuser,
        "do $$ declare name text; begin
            for name in select c.oid::regclass from pg_class c join pg_policy p on p.polrelid = c.oid
                        where c.relnamespace = 'public'::regnamespace group by c.oid loop
                execute format('alter table %s disable row level security', name);
            end loop;
        end $$"
            .to_owned(),
    )
    .await
    .unwrap();
    let report = doctor::run(&mut superuser, &scope(), |rule| rule.code == LIVE_PROBE)
        .await
        .unwrap();
    let found: BTreeSet<&str> = report.findings.iter().map(|f| f.object.as_str()).collect();
    let readable: Vec<String> = sqlx::query_scalar(
        "select c.oid::regclass::text
         from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id'
         where c.relnamespace = 'public'::regnamespace and c.relkind = 'r'
           and has_table_privilege('palisade_app', c.oid, 'select')",
    )
    .fetch_all(&mut superuser)
    .await
    .unwrap();
    let mut with_rows = 0;
    for table in &readable {
        let count = format!("select count(*) from {table}");
        let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(count))
            .fetch_one(&mut superuser)
            .await
            .unwrap();
        let object = format!("table public.{table}");
        let is_found = found.contains(object.as_str());
        assert!(is_found || count == 0, "{object}: {}", lines(&report));
        with_rows += usize::from(count > 0);
    }
    assert!(with_rows >= 8, "{readable:?}");
    let rows: i64 = sqlx::query_scalar("select count(*) from projects")
        .fetch_one(&mut superuser)
        .await
        .unwrap();
    assert_eq!(rows, 1, "the canary");
    drop(superuser);
    database.drop_database().await;
}

#[apply(palisade_test)]
async fn the_live_probe_is_skipped_if_the_login_may_not_act_as_the_service(app: &'static TestApp) {
    let mut owner = app.connect("palisade_owner").await;
    let report = doctor::run(&mut owner, &scope(), |rule| rule.code == LIVE_PROBE)
        .await
        .unwrap();
    assert!(report.findings.is_empty(), "{}", lines(&report));
    let [(rule, reason)] = &report.skipped[..] else {
        panic!("{:?}", report.skipped)
    };
    assert_eq!(rule.code, LIVE_PROBE);
    assert!(reason.contains("may not act as palisade_app"), "{reason}");
}

/// A transaction may hold an ACCESS EXCLUSIVE lock on every table, as a migration does. The rules of the running service
/// do not wait for it, except for those that run only after a change of a policy.
#[apply(palisade_test)]
async fn the_rules_of_the_running_service_need_no_lock_on_a_table(app: &'static TestApp) {
    let app = app.in_own_database(&[]).await;
    let mut holder = app.connect("postgres").await;
    attempt(
        &mut holder,
        "begin; do $$ declare name text; begin
            for name in select oid::regclass from pg_class
                        where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') loop
                execute format('lock table %s in access exclusive mode', name);
            end loop;
        end $$"
            .to_owned(),
    )
    .await
    .unwrap();
    let mut service = app.connect("palisade_app").await;
    let scope = Scope::of_login();
    let hash = doctor::hash_policies(&mut service, &scope).await.unwrap();
    let always = |rule: &doctor::Rule| rule.run_at == RunAt::Always;
    let report = doctor::run(&mut service, &scope, |rule| {
        always(rule) && !rule.needs_table_locks()
    })
    .await
    .unwrap();
    assert!(report.findings.is_empty(), "{}", lines(&report));
    for rule in doctor::RULES
        .iter()
        .filter(|rule| always(rule) && rule.needs_table_locks())
    {
        let waited = doctor::run(&mut service, &scope, |other| other.code == rule.code).await;
        let waited = waited.unwrap_err().into_database_error().unwrap();
        assert_eq!(waited.code().as_deref(), Some("55P03"), "{}", rule.code);
    }
    attempt(&mut holder, "rollback".to_owned()).await.unwrap();

    // The hash changes with everything that these rules read.
    for change in [
        "alter policy tenant on projects using (true)",
        "create or replace function app.tenant_id() returns uuid language sql stable parallel safe as 'select null::uuid'",
        "create policy extra on projects using (true)",
        "alter table projects disable row level security",
        "alter table projects rename column tenant_id to tenant",
        "grant select on _sqlx_migrations to palisade_app",
    ] {
        attempt(&mut holder, format!("begin; {change}"))
            .await
            .unwrap();
        let changed = doctor::hash_policies(&mut holder, &scope).await.unwrap();
        attempt(&mut holder, "rollback".to_owned()).await.unwrap();
        let unchanged = doctor::hash_policies(&mut holder, &scope).await.unwrap();
        assert_ne!(changed, unchanged, "{change}");
    }
    let again = doctor::hash_policies(&mut service, &scope).await.unwrap();
    assert_eq!(again, hash);
    drop((holder, service));
    app.drop_database().await;
}

#[test]
fn each_rule_has_a_page_and_a_line_in_the_index() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let index = fs::read_to_string(root.join("docs/doctor/README.md")).unwrap();
    let mut pages: BTreeSet<PathBuf> = BTreeSet::from([root.join("docs/doctor/README.md")]);
    for rule in doctor::RULES {
        let path = root.join(rule.page());
        let page = fs::read_to_string(&path).unwrap_or_else(|_| panic!("{}", rule.page()));
        let title = format!("# {} {}: {}\n", rule.code, rule.slug, rule.title);
        assert!(page.starts_with(&title), "{}", rule.page());
        let severity = rule.severity.as_str();
        let file = path.file_name().unwrap().to_str().unwrap();
        let line = format!("| [{}]({file}) | {severity} |", rule.code);
        assert!(index.contains(&line), "{line}");
        pages.insert(path);
    }
    let found: BTreeSet<PathBuf> = fs::read_dir(root.join("docs/doctor"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(found, pages);
}
