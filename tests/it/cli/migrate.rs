//! `palisade migrate`: repeated and concurrent runs, and the roles that may run the command.

use futures_util::future::join_all;
use macro_rules_attribute::apply;
use sqlx::{Connection as _, PgConnection};

use super::{
    Database, Service, create_test_dir, remove_dir, run_palisade, run_to_exit, serve_command,
    start_server,
};
use crate::harness::palisade_test;

#[apply(palisade_test)]
async fn migrating_again_or_at_the_same_time_changes_nothing() {
    let database = Database::empty().await;
    let (a, b, c, d) = tokio::join!(
        database.migrate("postgres"),
        database.migrate("postgres"),
        database.migrate("postgres"),
        database.migrate("postgres"),
    );
    let mut applied: Vec<usize> = Vec::new();
    for result in [a, b, c, d] {
        let stdout = result.success();
        let words: Vec<&str> = stdout.split_whitespace().collect();
        assert_eq!(
            &words[1..4],
            ["migrations", "applied,", words[3]],
            "{stdout}"
        );
        applied.push(words[0].parse().unwrap());
    }
    applied.sort_unstable();
    assert!(applied[..3] == [0, 0, 0] && applied[3] > 0, "{applied:?}");
    for role in ["postgres", "palisade_owner"] {
        let stdout = database.migrate(role).await.success();
        assert!(stdout.starts_with("0 migrations applied, "), "{stdout}");
    }
    database.drop().await;
}

#[apply(palisade_test)]
async fn databases_of_one_cluster_are_migrated_at_the_same_time() {
    // All databases share the roles of the cluster, but each database has its own migration lock.
    let databases = join_all((0..6).map(|_| Database::empty())).await;
    for result in join_all(databases.iter().map(|one| one.migrate("postgres"))).await {
        let stdout = result.success();
        assert!(!stdout.starts_with("0 "), "{stdout}");
    }
    for database in databases {
        database.drop().await;
    }
}

#[apply(palisade_test)]
async fn only_a_superuser_and_the_owner_can_migrate() {
    let database = Database::migrated().await;
    for role in ["palisade_app", "palisade_auth", "palisade_admin"] {
        let result = database.migrate(role).await;
        assert_eq!(
            result.error_line(1),
            format!(
                "the role {role} can create neither roles nor the schema: run `palisade migrate` \
                 as a superuser or as palisade_owner"
            )
        );
    }
    // `palisade_owner` can also create the whole schema in an empty database.
    database
        .execute("drop schema public cascade; drop schema app cascade; create schema public authorization palisade_owner")
        .await;
    let stdout = database.migrate("palisade_owner").await.success();
    assert!(!stdout.starts_with("0 "), "{stdout}");
    database.drop().await;
}

#[apply(palisade_test)]
async fn migrating_takes_extra_rights_from_a_role() {
    // A separate cluster, because during this test one of the roles bypasses row level security.
    let dir = create_test_dir().await;
    let server = start_server(dir.clone()).await;
    let url = server.url("postgres", "postgres");
    run_palisade(&["migrate", "--database-url", &url])
        .await
        .success();
    let mut postgres = PgConnection::connect(&url).await.unwrap();
    sqlx::query("alter role palisade_app bypassrls createrole createdb")
        .execute(&mut postgres)
        .await
        .unwrap();
    let app = server.url("palisade_app", "postgres");
    let result = run_to_exit(serve_command(&app)).await;
    assert_eq!(
        result.error_line(1),
        "the role palisade_app has BYPASSRLS: connect as palisade_app, which does not bypass row level security"
    );
    run_palisade(&["migrate", "--database-url", &url])
        .await
        .success();
    let has_no_extra_right: bool = sqlx::query_scalar(
        "select not (rolbypassrls or rolcreaterole or rolcreatedb or rolsuper)
         from pg_roles where rolname = 'palisade_app'",
    )
    .fetch_one(&mut postgres)
    .await
    .unwrap();
    assert!(has_no_extra_right);
    let (service, _) = Service::serve(serve_command(&app)).await;
    service.terminate().await;
    drop(postgres);
    server.stop().await.unwrap();
    remove_dir(&dir);
}

#[apply(palisade_test)]
async fn a_migration_that_cannot_be_applied_is_reported_in_one_line() {
    let database = Database::migrated().await;
    database
        .execute("update _sqlx_migrations set checksum = '\\x00' where version = 20261121000300")
        .await;
    let result = database.migrate("postgres").await;
    assert!(
        result
            .error_line(1)
            .starts_with("migration 20261121000300 (audit seals)"),
        "{result:?}"
    );
    assert!(
        result
            .error_line(1)
            .ends_with(") was changed after it was applied to this database")
    );
    database.drop().await;

    let database = Database::migrated().await;
    database
        .execute(
            "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
             values (99991231000000, 'of the future', true, '\\x00', 0)",
        )
        .await;
    let result = database.migrate("postgres").await;
    assert_eq!(
        result.error_line(1),
        "the database has migration 99991231000000, which this binary does not contain: use a newer binary"
    );
    database.drop().await;

    let database = Database::empty().await;
    database
        .execute("create table public.projects (n integer)")
        .await;
    let result = database.migrate("postgres").await;
    assert!(
        result
            .error_line(1)
            .contains("failed: relation \"projects\" already exists"),
        "{result:?}"
    );
    database.drop().await;
}
