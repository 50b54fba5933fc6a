//! `palisade migrate`: repeatable, concurrent, and run by the owner of the schema.

use futures_util::future::join_all;
use macro_rules_attribute::apply;
use sqlx::{Connection as _, PgConnection};

use super::{Database, Running, end_of, new_dir, remove, run_command, serve_command, start};
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
    for ended in [a, b, c, d] {
        let said = ended.ok();
        let words: Vec<&str> = said.split_whitespace().collect();
        assert_eq!(&words[1..4], ["migrations", "applied,", words[3]], "{said}");
        applied.push(words[0].parse().unwrap());
    }
    applied.sort_unstable();
    assert!(applied[..3] == [0, 0, 0] && applied[3] > 0, "{applied:?}");
    for role in ["postgres", "palisade_owner"] {
        let said = database.migrate(role).await.ok();
        assert!(said.starts_with("0 migrations applied, "), "{said}");
    }
    database.drop().await;
}

#[apply(palisade_test)]
async fn databases_of_one_cluster_are_migrated_at_the_same_time() {
    // The roles are the cluster's, and no lock of a database keeps these runs apart.
    let databases = join_all((0..6).map(|_| Database::empty())).await;
    for ended in join_all(databases.iter().map(|one| one.migrate("postgres"))).await {
        let said = ended.ok();
        assert!(!said.starts_with("0 "), "{said}");
    }
    for database in databases {
        database.drop().await;
    }
}

#[apply(palisade_test)]
async fn the_owner_migrates_what_a_superuser_prepared_and_nobody_else_does() {
    let database = Database::migrated().await;
    for role in ["palisade_app", "palisade_auth", "palisade_admin"] {
        let ended = database.migrate(role).await;
        assert_eq!(
            ended.line(1),
            format!(
                "the role {role} can create neither roles nor the schema: run `palisade migrate` \
                 as a superuser or as palisade_owner"
            )
        );
    }
    // All of it again, by the owner alone.
    database
        .execute("drop schema public cascade; drop schema app cascade; create schema public authorization palisade_owner")
        .await;
    let said = database.migrate("palisade_owner").await.ok();
    assert!(!said.starts_with("0 "), "{said}");
    database.drop().await;
}

#[apply(palisade_test)]
async fn migrating_narrows_a_role_that_was_widened() {
    // Of its own: meanwhile the role would see past every policy of the cluster.
    let dir = new_dir().await;
    let server = start(dir.clone()).await;
    let url = server.url("postgres", "postgres");
    run_command(&["migrate", "--database-url", &url]).await.ok();
    let mut postgres = PgConnection::connect(&url).await.unwrap();
    sqlx::query("alter role palisade_app bypassrls createrole createdb")
        .execute(&mut postgres)
        .await
        .unwrap();
    let app = server.url("palisade_app", "postgres");
    let refused = end_of(serve_command(&app)).await;
    assert_eq!(
        refused.line(1),
        "the role palisade_app has BYPASSRLS: connect as palisade_app, which does not bypass row level security"
    );
    run_command(&["migrate", "--database-url", &url]).await.ok();
    let narrowed: bool = sqlx::query_scalar(
        "select not (rolbypassrls or rolcreaterole or rolcreatedb or rolsuper)
         from pg_roles where rolname = 'palisade_app'",
    )
    .fetch_one(&mut postgres)
    .await
    .unwrap();
    assert!(narrowed);
    let (serving, _) = Running::serve(serve_command(&app)).await;
    serving.terminate().await;
    drop(postgres);
    server.stop().await.unwrap();
    remove(&dir);
}

#[apply(palisade_test)]
async fn a_migration_that_does_not_fit_is_named_in_one_line() {
    let database = Database::migrated().await;
    database
        .execute("update _sqlx_migrations set checksum = '\\x00' where version = 20261121000300")
        .await;
    let ended = database.migrate("postgres").await;
    assert!(
        ended
            .line(1)
            .starts_with("migration 20261121000300 (audit seals)"),
        "{ended:?}"
    );
    assert!(
        ended
            .line(1)
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
    let ended = database.migrate("postgres").await;
    assert_eq!(
        ended.line(1),
        "the database has migration 99991231000000, which this binary does not contain: use a newer binary"
    );
    database.drop().await;

    let database = Database::empty().await;
    database
        .execute("create table public.projects (n integer)")
        .await;
    let ended = database.migrate("postgres").await;
    assert!(
        ended
            .line(1)
            .contains("failed: relation \"projects\" already exists"),
        "{ended:?}"
    );
    database.drop().await;
}
