//! The schema version of the database: which versions the commands reject.

use macro_rules_attribute::apply;
use sqlx::{Connection as _, PgConnection};

use super::{
    Database, Service, create_test_dir, remove_dir, run_palisade, serve_command, start_server,
};
use crate::harness::{create_database, palisade_test};

/// Changes a migrated database so that it looks like a database from before the first release.
const BEFORE_FIRST_RELEASE: &str = "
    delete from _sqlx_migrations;
    insert into _sqlx_migrations (version, description, success, checksum, execution_time)
    select version, 'one of twelve', true, '\\x00', 0 from generate_series(1, 12) as version;
    drop function app.schema_versions()";

#[apply(palisade_test)]
async fn migrate_and_serve_refuse_a_database_from_before_the_first_release() {
    let database = Database::migrated().await;
    database.execute(BEFORE_FIRST_RELEASE).await;
    for result in [
        database.migrate("postgres").await,
        database.migrate("palisade_owner").await,
        database.serve("palisade_app").await,
    ] {
        assert_eq!(
            result.error_line(1),
            "the database was created by an unreleased version of palisade and cannot be upgraded: \
             start over with an empty database"
        );
    }
    database.drop().await;
}

#[apply(palisade_test)]
async fn dev_names_its_directory_if_the_database_is_from_before_the_first_release() {
    let dir = create_test_dir().await;
    let server = start_server(dir.clone()).await;
    let mut postgres = PgConnection::connect(&server.url("postgres", "postgres"))
        .await
        .unwrap();
    create_database(&mut postgres, "palisade").await;
    let url = server.url("postgres", "palisade");
    run_palisade(&["migrate", "--database-url", &url])
        .await
        .success();
    let mut database = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(BEFORE_FIRST_RELEASE)
        .execute(&mut database)
        .await
        .unwrap();
    drop((postgres, database));
    server.stop().await.unwrap();

    let path = dir.to_str().unwrap();
    let result = run_palisade(&["dev", "--data-dir", path, "--listen", "127.0.0.1:0"]).await;
    assert_eq!(
        result.error_line(1),
        format!(
            "the development database in {path} was created by an unreleased version of palisade and \
             cannot be upgraded: stop palisade, delete {path}, and start again"
        )
    );
    assert!(dir.exists());
    remove_dir(&dir);
}

/// The status and the body of the response of `/health/ready`.
async fn readiness(api: &str) -> (u16, String) {
    let url = api.replace("/graphql", "/health/ready");
    let response = reqwest::get(url).await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[apply(palisade_test)]
async fn serve_and_its_readiness_compare_the_schema_with_the_binary() {
    const NEWER: i64 = 99_991_231_000_000;
    let database = Database::migrated().await;
    let mut postgres = PgConnection::connect(&database.url("postgres"))
        .await
        .unwrap();
    let newest: Vec<i64> =
        sqlx::query_scalar("select version from _sqlx_migrations order by version desc limit 2")
            .fetch_all(&mut postgres)
            .await
            .unwrap();
    let [newest, previous] = newest[..] else {
        panic!("{newest:?}")
    };
    let older =
        format!("update _sqlx_migrations set version = 1 - version where version = {newest}");
    let current = format!("update _sqlx_migrations set version = {newest} where version < 0");
    let is_older = format!(
        "the schema has version {previous}, but this binary needs {newest} (migration {newest} is missing): \
         run `palisade migrate`"
    );
    let newer = format!(
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values ({NEWER}, 'of the future', true, '\\x00', 0)"
    );
    let incompatible = format!(
        "create or replace function app.oldest_binary() returns bigint
             language sql stable parallel safe return {NEWER}"
    );
    let is_incompatible = format!(
        "the schema has version {NEWER}, which needs a binary with migration {NEWER}; this binary has {newest}: \
         use a newer palisade"
    );

    database.execute(&older).await;
    assert_eq!(database.serve("palisade_app").await.error_line(1), is_older);
    database.execute(&current).await;

    // The version of the schema changes while the service runs.
    let (serving, api) = Service::serve(serve_command(&database.url("palisade_app"))).await;
    let ready = |version: i64| (200, format!("ready, schema version {version}\n"));
    assert_eq!(readiness(&api).await, ready(newest));
    database.execute(&older).await;
    assert_eq!(readiness(&api).await, (503, format!("{is_older}\n")));
    database.execute(&current).await;
    assert_eq!(readiness(&api).await, ready(newest));
    database.execute(&newer).await;
    assert_eq!(readiness(&api).await, ready(NEWER));
    let (compatible, _) = Service::serve(serve_command(&database.url("palisade_app"))).await;
    compatible.terminate().await;
    database.execute(&incompatible).await;
    assert_eq!(readiness(&api).await, (503, format!("{is_incompatible}\n")));
    serving.terminate().await;
    assert_eq!(
        database.serve("palisade_app").await.error_line(1),
        is_incompatible
    );
    drop(postgres);
    database.drop().await;
}
