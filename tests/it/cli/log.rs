//! What the log contains, and the settings of its format.

use macro_rules_attribute::apply;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use super::{Running, ask, end_of, new_dir, palisade, remove, serve_command, start};
use crate::harness::{self, SECRET, palisade_test};

#[apply(palisade_test)]
async fn no_log_level_prints_a_secret() {
    // Of its own: the roles get passwords here.
    let dir = new_dir().await;
    let server = start(dir.clone()).await;
    let url = server.url("postgres", "postgres");
    let words = [
        "owner's hunter1",
        "app's hunter2",
        "auth's hunter3",
        "admin's hunter4",
    ];
    let mut migrate = palisade(&["migrate", "--database-url", &url]);
    migrate.env("PALISADE_LOG", "trace");
    for (role, word) in ["OWNER", "APP", "AUTH", "ADMIN"].iter().zip(words) {
        migrate.env(format!("PALISADE_{role}_PASSWORD"), word);
    }
    let ended = end_of(migrate).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let mut printed = format!("{}{}", ended.stdout, ended.stderr);
    let mut postgres = PgConnection::connect(&url).await.unwrap();
    let set: i64 = sqlx::query_scalar(
        "select count(*) from pg_authid where rolname like 'palisade%' and rolpassword is not null",
    )
    .fetch_one(&mut postgres)
    .await
    .unwrap();
    assert_eq!(set, 4);

    let app = server
        .url("palisade_app", "postgres")
        .replace("app@", "app:hunter5@");
    let mut serve = serve_command(&app);
    serve.env("PALISADE_LOG", "trace").env("NO_COLOR", "1");
    let (serving, api) = Running::serve(serve).await;
    let token = harness::tokens()
        .issue(
            Uuid::now_v7().into(),
            Uuid::now_v7().into(),
            chrono::TimeDelta::hours(1),
        )
        .unwrap();
    let answer = ask(&api, &token, "{ __typename }").await;
    assert_eq!(answer["errors"][0]["extensions"]["code"], "UNAUTHENTICATED");
    printed += &serving.terminate().await;
    assert!(printed.contains("DEBUG"), "{printed}");
    let signature = token.rsplit_once('.').unwrap().1;
    for secret in ["hunter", SECRET, signature] {
        let told: Vec<&str> = printed
            .lines()
            .filter(|line| line.contains(secret))
            .collect();
        assert_eq!(told, Vec::<&str>::new(), "{secret}");
    }
    drop(postgres);
    server.stop().await.unwrap();
    remove(&dir);
}

#[apply(palisade_test)]
async fn a_log_that_cannot_be_written_so_is_a_usage_error() {
    for (name, value, says) in [
        ("PALISADE_LOG", "info,palisade=loud", "PALISADE_LOG: "),
        ("PALISADE_LOG_FORMAT", "JSON", "is text or json, not JSON"),
    ] {
        let mut command = palisade(&["schema"]);
        command.env(name, value);
        let ended = end_of(command).await;
        assert!(ended.line(2).contains(says), "{name}: {ended:?}");
    }
}
