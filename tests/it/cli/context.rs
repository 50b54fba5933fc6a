//! `palisade context`, and the keys with which `migrate` and `serve` run.

use macro_rules_attribute::apply;
use palisade::db::context::ContextKey;
use sqlx::{Connection as _, PgConnection};
use tokio::process::Command;

use super::{
    Database, Service, create_test_dir, demo_command, dev_env, graphql, palisade, remove_dir,
    run_palisade, run_to_exit, serve_command,
};
use crate::harness::{CONTEXT_KEY, SECRET, attempt, palisade_test};

/// The database with two demo tenants.
async fn with_tenants() -> Database {
    let database = Database::migrated().await;
    run_to_exit(demo_command(&database, "2", "2", "0", "0"))
        .await
        .success();
    database
}

/// Runs `palisade context` for a database.
async fn print(database: &Database, options: &[&str]) -> super::CommandResult {
    let url = database.url("palisade_auth");
    run_palisade(&[&["context", "--auth-database-url", &url], options].concat()).await
}

async fn rows(sql: &mut PgConnection, table: &str) -> i64 {
    sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select count(*) from {table}")))
        .fetch_one(sql)
        .await
        .unwrap()
}

#[apply(palisade_test)]
async fn the_printed_context_opens_a_transaction_of_the_tenant() {
    let database = with_tenants().await;
    let mut sql = PgConnection::connect(&database.url("palisade_app"))
        .await
        .unwrap();
    assert_eq!(rows(&mut sql, "projects").await, 0);

    let line = print(&database, &["--tenant", "acme"]).await.success();
    assert!(
        line.starts_with(
            "begin isolation level repeatable read read only; set local app.context = '01"
        ),
        "{line}"
    );
    attempt(&mut sql, line.clone()).await.unwrap();
    assert_eq!(rows(&mut sql, "projects").await, 2);
    assert_eq!(rows(&mut sql, "tenants").await, 1);
    // Without a user, there is no role, so the audit log is hidden.
    assert_eq!(rows(&mut sql, "audit_logs").await, 0);
    attempt(&mut sql, "rollback".to_owned()).await.unwrap();

    let owner = ["--tenant", "acme", "--user", "olivia@acme.example"];
    let line = print(&database, &owner).await.success();
    attempt(&mut sql, line).await.unwrap();
    assert!(rows(&mut sql, "audit_logs").await > 0);
    let write = "update projects set name = name || '.'".to_owned();
    assert_eq!(
        attempt(&mut sql, write.clone()).await,
        Err("25006".to_owned())
    );
    attempt(&mut sql, "rollback".to_owned()).await.unwrap();

    let line = print(&database, &[&owner[..], &["--write"]].concat())
        .await
        .success();
    attempt(&mut sql, line).await.unwrap();
    assert_eq!(attempt(&mut sql, write).await, Ok(2));
    attempt(&mut sql, "rollback".to_owned()).await.unwrap();

    for (options, message) in [
        (
            &["--tenant", "nothing"][..],
            "there is no tenant with the slug nothing",
        ),
        (
            &["--tenant", "globex", "--user", "olivia@acme.example"],
            "there is no active user olivia@acme.example in an active tenant globex",
        ),
    ] {
        let result = print(&database, options).await;
        assert_eq!(result.error_line(1), message);
    }
    assert_eq!(run_palisade(&["context"]).await.code, Some(2));
    database.drop().await;
}

/// The command with another context key.
fn with_key(mut command: Command, key: &str) -> Command {
    command.env("PALISADE_CONTEXT_KEY", key);
    command
}

#[apply(palisade_test)]
async fn serve_needs_the_key_of_the_database() {
    let database = Database::empty().await;
    let migrate = || palisade(&["migrate", "--database-url", &database.url("postgres")]);
    let serve = || serve_command(&database.url("palisade_app"));
    let mut without_key = migrate();
    without_key.env_remove("PALISADE_CONTEXT_KEY");
    let result = run_to_exit(without_key).await;
    assert_eq!(result.code, Some(0), "{result:?}");
    assert!(
        result.stderr.contains("the database has no context key"),
        "{result:?}"
    );

    let mut without_key = serve();
    without_key.env_remove("PALISADE_CONTEXT_KEY");
    let result = run_to_exit(without_key).await;
    assert!(
        result
            .error_line(2)
            .starts_with("no context key: set PALISADE_CONTEXT_KEY")
    );
    let result = run_to_exit(with_key(serve(), "too short")).await;
    assert!(
        result
            .error_line(2)
            .starts_with("PALISADE_CONTEXT_KEY must be 32 random bytes")
    );
    let result = run_to_exit(serve()).await;
    assert!(
        result
            .error_line(1)
            .starts_with("the database does not accept the context key: run `palisade migrate`"),
        "{result:?}"
    );

    run_to_exit(migrate()).await.success();
    let (service, _) = Service::serve(serve()).await;
    service.terminate().await;

    // The same database, without signatures.
    let mut unsigned = palisade(&[
        "migrate",
        "--unsigned-context",
        "--database-url",
        &database.url("postgres"),
    ]);
    unsigned.env_remove("PALISADE_CONTEXT_KEY");
    run_to_exit(unsigned).await.success();
    let result = run_to_exit(serve()).await;
    assert!(
        result
            .error_line(1)
            .starts_with("the database accepts a forged context: "),
        "{result:?}"
    );
    let mut unsigned = serve();
    unsigned
        .arg("--unsigned-context")
        .env_remove("PALISADE_CONTEXT_KEY");
    let (service, _) = Service::serve(unsigned).await;
    let printed = service.terminate().await;
    assert!(
        printed.contains("WARN contexts are not signed"),
        "{printed}"
    );
    assert!(printed.contains("D34 context-unsigned"), "{printed}");
    run_to_exit(migrate()).await.success();
    let (service, _) = Service::serve(serve()).await;
    service.terminate().await;
    database.drop().await;
}

#[apply(palisade_test)]
async fn a_rejected_context_is_an_internal_error_that_is_logged_once() {
    let database = with_tenants().await;
    let mut token = palisade(&["token", "--tenant", "acme", "--user", "olivia@acme.example"]);
    token.args(["--auth-database-url", &database.url("palisade_auth")]);
    token.env("PALISADE_JWT_SECRET", SECRET);
    let token = run_to_exit(token).await.success();
    let (service, url) = Service::serve(serve_command(&database.url("palisade_app"))).await;
    let document = "{ projects { totalCount } organizations { totalCount } }";
    let response = graphql(&url, token.trim(), document).await;
    assert_eq!(response["data"]["projects"]["totalCount"], 2, "{response}");
    database.execute("delete from app.context_keys").await;
    let response = graphql(&url, token.trim(), document).await;
    let error = &response["errors"][0];
    assert_eq!(error["extensions"]["code"], "INTERNAL", "{response}");
    assert_eq!(error["message"], "internal error");
    let request = error["extensions"]["requestId"]
        .as_str()
        .unwrap()
        .to_owned();
    let printed = service.terminate().await;
    let lines: Vec<&str> = printed
        .lines()
        .filter(|line| line.contains("the context has no valid signature"))
        .collect();
    assert_eq!(lines.len(), 1, "{printed}");
    assert!(lines[0].contains(&request), "{printed}");
    database.drop().await;
}

#[apply(palisade_test)]
async fn a_key_is_rotated_by_a_command() {
    let database = with_tenants().await;
    let owner = database.url("palisade_owner");
    let rotate = ["context", "rotate", "--database-url", &owner];
    let printed = run_palisade(&rotate).await.success();
    let key = printed
        .trim()
        .strip_prefix("PALISADE_CONTEXT_KEY=")
        .unwrap();
    assert!(ContextKey::parse(key).is_ok());
    let serve = || serve_command(&database.url("palisade_app"));
    for command in [serve(), with_key(serve(), key)] {
        let (service, _) = Service::serve(command).await;
        service.terminate().await;
    }
    let result = run_palisade(&rotate).await;
    assert!(
        result
            .error_line(1)
            .starts_with("two other context keys are still valid: "),
        "{result:?}"
    );
    let now = [&rotate[..], &["--keep-previous", "0s"]].concat();
    run_palisade(&now).await.success();
    for command in [serve(), with_key(serve(), key)] {
        assert_eq!(run_to_exit(command).await.code, Some(1));
    }
    database.drop().await;
}

#[apply(palisade_test)]
async fn migrate_does_not_install_a_key_again_that_another_one_has_replaced() {
    let database = Database::migrated().await;
    let (owner, superuser) = (database.url("palisade_owner"), database.url("postgres"));
    let rotate = async |options: &[&str]| {
        let command = ["context", "rotate", "--database-url", &owner];
        let printed = run_palisade(&[&command[..], options].concat())
            .await
            .success();
        let key = printed.trim().strip_prefix("PALISADE_CONTEXT_KEY=");
        key.unwrap().to_owned()
    };
    let migrate = |key: &str| {
        run_to_exit(with_key(
            palisade(&["migrate", "--database-url", &superuser]),
            key,
        ))
    };
    let serve = |key: &str| with_key(serve_command(&database.url("palisade_app")), key);
    let assert_rejected = async |key: &str| {
        let result = migrate(key).await;
        let line = result.error_line(1);
        let id = ContextKey::parse(key).unwrap().id();
        let start = format!("the context key {id} was replaced, and is not valid after 2");
        assert!(line.starts_with(&start), "{line}");
        let end = " UTC: set PALISADE_CONTEXT_KEY to the key that replaced it, or run `palisade context rotate` for a new one";
        assert!(line.ends_with(end), "{line}");
    };

    // The first key is still valid, but its end does not change.
    let second = rotate(&[]).await;
    assert_rejected(CONTEXT_KEY).await;
    migrate(&second).await.success();
    for key in [CONTEXT_KEY, second.as_str()] {
        let (service, _) = Service::serve(serve(key)).await;
        service.terminate().await;
    }
    // Both keys end.
    let third = rotate(&["--keep-previous", "0s"]).await;
    for key in [CONTEXT_KEY, second.as_str()] {
        assert_rejected(key).await;
        assert_eq!(run_to_exit(serve(key)).await.code, Some(1));
    }
    migrate(&third).await.success();
    // A key that ends between two runs.
    let fourth = rotate(&[]).await;
    database
        .execute("update app.context_keys set valid_until = now() where valid_until is not null")
        .await;
    assert_rejected(&third).await;
    migrate(&fourth).await.success();
    assert_rejected(&third).await;
    let (service, _) = Service::serve(serve(&fourth)).await;
    service.terminate().await;
    database.drop().await;
}

#[apply(palisade_test)]
async fn dev_creates_its_key_and_rotates_it() {
    let dir = create_test_dir().await;
    let path = dir.to_str().unwrap();
    let without_key = |arguments: &[&str]| {
        let mut command = palisade(arguments);
        command.env_remove("PALISADE_CONTEXT_KEY");
        command
    };
    let dev = Service::dev_with(&dir, |command| {
        command.env_remove("PALISADE_CONTEXT_KEY");
    })
    .await;
    let before = dev_env(&dir).await["PALISADE_CONTEXT_KEY"].clone();
    let print = ["context", "--data-dir", path, "--tenant", "acme"];
    let line = run_to_exit(without_key(&print)).await.success();
    assert!(line.starts_with("begin"), "{line}");
    let rotate = ["context", "rotate", "--data-dir", path];
    let printed = run_to_exit(without_key(&rotate)).await.success();
    assert_ne!(printed.trim(), format!("PALISADE_CONTEXT_KEY={before}"));
    // The running service still has the previous key.
    let env = dev_env(&dir).await;
    let response = graphql(
        &dev.api(),
        &env["PALISADE_TOKEN_A"],
        "{ projects { totalCount } }",
    )
    .await;
    assert!(response["errors"].is_null(), "{response}");
    dev.terminate().await;
    let dev = Service::dev(&dir).await;
    assert_eq!(
        format!(
            "PALISADE_CONTEXT_KEY={}",
            dev_env(&dir).await["PALISADE_CONTEXT_KEY"]
        ),
        printed.trim()
    );
    dev.terminate().await;
    remove_dir(&dir);
}
