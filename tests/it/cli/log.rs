//! The content of the log: no secrets, and no color codes outside a terminal.

use macro_rules_attribute::apply;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use super::{
    Database, Service, create_test_dir, graphql, palisade, remove_dir, run_to_exit, serve_command,
    start_server,
};
use crate::harness::{self, CONTEXT_KEY, SECRET, palisade_test};

#[apply(palisade_test)]
async fn no_log_level_prints_a_secret() {
    // A separate cluster, because the roles get passwords here.
    let dir = create_test_dir().await;
    let server = start_server(dir.clone()).await;
    let url = server.url("postgres", "postgres");
    let passwords = [
        "owner's hunter1",
        "app's hunter2",
        "auth's hunter3",
        "admin's hunter4",
    ];
    let mut migrate = palisade(&["migrate", "--database-url", &url]);
    migrate.env("PALISADE_LOG", "trace");
    for (role, password) in ["OWNER", "APP", "AUTH", "ADMIN"].iter().zip(passwords) {
        migrate.env(format!("PALISADE_{role}_PASSWORD"), password);
    }
    let result = run_to_exit(migrate).await;
    assert_eq!(result.code, Some(0), "{result:?}");
    let mut output = format!("{}{}", result.stdout, result.stderr);
    let mut postgres = PgConnection::connect(&url).await.unwrap();
    let with_password: i64 = sqlx::query_scalar(
        "select count(*) from pg_authid where rolname like 'palisade%' and rolpassword is not null",
    )
    .fetch_one(&mut postgres)
    .await
    .unwrap();
    assert_eq!(with_password, 4);

    let app = server
        .url("palisade_app", "postgres")
        .replace("app@", "app:hunter5@");
    let mut serve = serve_command(&app);
    serve.env("PALISADE_LOG", "trace");
    let (service, api) = Service::serve(serve).await;
    let token = harness::tokens()
        .issue(
            Uuid::now_v7().into(),
            Uuid::now_v7().into(),
            chrono::TimeDelta::hours(1),
        )
        .unwrap();
    let response = graphql(&api, &token, "{ __typename }").await;
    assert_eq!(
        response["errors"][0]["extensions"]["code"],
        "UNAUTHENTICATED"
    );
    output += &service.terminate().await;
    assert!(output.contains("DEBUG"), "{output}");
    let signature = token.rsplit_once('.').unwrap().1;
    for secret in ["hunter", SECRET, signature, CONTEXT_KEY] {
        let lines: Vec<&str> = output
            .lines()
            .filter(|line| line.contains(secret))
            .collect();
        assert_eq!(lines, Vec::<&str>::new(), "{secret}");
    }
    drop(postgres);
    server.stop().await.unwrap();
    remove_dir(&dir);
}

#[apply(palisade_test)]
async fn the_text_log_has_no_color_codes_if_it_is_not_written_to_a_terminal() {
    let database = Database::migrated().await;
    let mut serve = serve_command(&database.url("palisade_app"));
    serve.env_remove("NO_COLOR");
    let (service, _) = Service::serve(serve).await;
    let output = service.terminate().await;
    assert!(output.contains("INFO"), "{output}");
    assert!(!output.contains('\x1b'), "{output:?}");
    database.drop().await;
}
