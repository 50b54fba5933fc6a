//! `palisade doctor`: each rule has a fixture that violates it, and the schema of this repository violates none.

mod fixtures;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use macro_rules_attribute::apply;
use palisade::doctor::{self, Report, Scope};
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

async fn inspect(connection: &mut PgConnection) -> Report {
    doctor::run(connection, &scope(), |_| true).await.unwrap()
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
        let mut transaction = superuser.begin().await.unwrap();
        let applied = attempt(&mut transaction, fixture.sql.to_owned()).await;
        assert!(applied.is_ok(), "{}: {applied:?}", fixture.sql);
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
            [code] => Some(*code),
            _ => None,
        })
        .collect();
    // D28 compares the version of the server, which a fixture cannot change.
    let missing: Vec<&str> = doctor::RULES
        .iter()
        .map(|rule| rule.code)
        .filter(|code| !alone.contains(code) && *code != "D28")
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
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
