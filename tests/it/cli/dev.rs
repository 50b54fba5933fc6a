//! `palisade dev`: what the command serves, which file it writes, and when its database starts and stops.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, Instant},
};

use macro_rules_attribute::apply;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use tokio::process::Command;

use super::{CommandResult, Service, create_test_dir, dev_env, graphql, remove_dir, run_palisade};
use crate::harness::{eventually, palisade_test};

const SLUG: &str = "{ tenant { slug } }";

/// Whether a PostgreSQL process with this data directory is running.
fn postgres_runs(dir: &Path) -> bool {
    let processes = std::process::Command::new("ps")
        .args(["-eo", "args"])
        .output()
        .unwrap();
    let processes = String::from_utf8_lossy(&processes.stdout).into_owned();
    let dir = dir.to_str().unwrap();
    processes
        .lines()
        .any(|line| line.contains("postgres") && line.contains(dir) && line.contains("-D"))
}

/// The printed tokens, one for each demo tenant.
fn tokens(service: &Service) -> Vec<String> {
    let tokens = service.labelled("token ");
    tokens.into_iter().map(str::to_owned).collect()
}

/// The slug of the tenant that the API returns for a token.
async fn slug(service: &Service, token: &str) -> String {
    let response = graphql(&service.api(), token, SLUG).await;
    let slug = response["data"]["tenant"]["slug"].as_str();
    slug.unwrap_or_else(|| panic!("{response}")).to_owned()
}

async fn assert_no_secret(dir: &Path, output: &str) {
    let secret = &dev_env(dir).await["PALISADE_JWT_SECRET"];
    assert!(!output.contains(secret), "the token secret was printed");
}

#[apply(palisade_test)]
async fn dev_serves_demo_tenants_with_the_printed_tokens() {
    let dir = create_test_dir().await;
    let service = Service::dev_with(&dir, |command| {
        command.env(
            "DATABASE_URL",
            "postgres://nobody:hunter2secret@127.0.0.1:1/nothing",
        );
    })
    .await;
    assert!(
        service
            .startup
            .contains("DATABASE_URL is set, but `palisade dev` does not use it")
    );
    let tokens = tokens(&service);
    assert!(tokens.len() >= 2, "{}", service.startup);
    let mut slugs = Vec::new();
    for token in &tokens {
        let document = "{ projects { totalCount } }";
        let response = graphql(&service.api(), token, document).await;
        let projects = response["data"]["projects"]["totalCount"].as_i64();
        assert!(projects > Some(0), "{response}");
        slugs.push(slug(&service, token).await);
    }
    assert_ne!(slugs[0], slugs[1]);

    let output = service.terminate().await;
    assert_no_secret(&dir, &output).await;
    assert!(
        !output.contains("hunter2secret"),
        "the password of DATABASE_URL was printed"
    );
    remove_dir(&dir);
}

#[apply(palisade_test)]
async fn dev_writes_its_urls_and_tokens_to_a_private_file() {
    let dir = create_test_dir().await;
    let service = Service::dev(&dir).await;
    let tokens = tokens(&service);
    let variables = dev_env(&dir).await;
    for expected in [
        "PALISADE_ADMIN_DATABASE_URL",
        "PALISADE_APP_DATABASE_URL",
        "PALISADE_AUTH_DATABASE_URL",
        "PALISADE_CONTEXT_KEY",
        "PALISADE_EXPLORER_URL",
        "PALISADE_GRAPHQL_URL",
        "PALISADE_JWT_SECRET",
        "PALISADE_OWNER_DATABASE_URL",
        "PALISADE_TENANT_A",
        "PALISADE_TENANT_B",
        "PALISADE_TOKEN_A",
        "PALISADE_TOKEN_B",
    ] {
        assert!(
            variables.contains_key(expected),
            "{expected}: {variables:?}"
        );
    }
    // The file has 8 general variables, and 2 variables for each demo tenant.
    assert_eq!(variables.len(), 8 + 2 * tokens.len(), "{variables:?}");
    assert_eq!(variables["PALISADE_GRAPHQL_URL"], service.api());
    assert_eq!(variables["PALISADE_TOKEN_A"], tokens[0]);
    let page = reqwest::get(&variables["PALISADE_EXPLORER_URL"])
        .await
        .unwrap();
    assert_eq!(page.status().as_u16(), 200);
    for role in ["app", "owner", "auth", "admin"] {
        let url = &variables[&format!("PALISADE_{}_DATABASE_URL", role.to_uppercase())];
        let output = Command::new("psql")
            .args(["-XAtqc", "select session_user", url])
            .output()
            .await
            .unwrap();
        let user = CommandResult::from(output).success();
        assert_eq!(user.trim(), format!("palisade_{role}"));
    }
    for file in ["dev.env", "jwt.secret"] {
        let mode = dir.join(file).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    service.terminate().await;
    remove_dir(&dir);
}

#[apply(palisade_test)]
async fn other_commands_use_the_database_of_dev_whether_dev_runs_or_not() {
    let dir = create_test_dir().await;
    let path = dir.to_str().unwrap();
    let service = Service::dev(&dir).await;
    let slug = slug(&service, &tokens(&service)[0]).await;

    let email = format!("olivia@{slug}.example");
    let token_command = [
        "token",
        "--data-dir",
        path,
        "--tenant",
        &slug,
        "--user",
        &email,
    ];
    let stdout = run_palisade(&token_command).await.success();
    let while_running = stdout.lines().last().unwrap();
    let verify = ["audit", "verify", "--data-dir", path, "--tenant", &slug];
    let stdout = run_palisade(&verify).await.success();
    assert!(stdout.contains("not yet sealed 0"), "{stdout}");
    let role = "{ viewer { role } }";
    let expected = json!({ "viewer": { "role": "OWNER" } });
    let response = graphql(&service.api(), while_running, role).await;
    assert_eq!(response["data"], expected);

    service.terminate().await;
    assert!(!postgres_runs(&dir));
    let stdout = run_palisade(&token_command).await.success();
    let while_stopped = stdout.lines().last().unwrap();
    assert!(!postgres_runs(&dir));

    let service = Service::dev(&dir).await;
    let response = graphql(&service.api(), while_stopped, role).await;
    assert_eq!(response["data"], expected);
    service.terminate().await;
    remove_dir(&dir);
}

#[apply(palisade_test)]
async fn a_second_dev_attaches_to_the_database_of_the_first() {
    let dir = create_test_dir().await;
    let first = Service::dev(&dir).await;
    let token = &tokens(&first)[1];
    let expected = slug(&first, token).await;
    let second = Service::dev(&dir).await;
    assert!(second.startup.contains("attached"), "{}", second.startup);
    assert_eq!(slug(&first, token).await, expected);
    assert_eq!(slug(&second, token).await, expected);
    let mut output = second.terminate().await;
    assert_eq!(slug(&first, token).await, expected);
    output += &first.terminate().await;
    assert_no_secret(&dir, &output).await;
    remove_dir(&dir);
}

#[apply(palisade_test)]
async fn dev_keeps_its_data_after_sigterm_and_after_sigkill() {
    let dir = create_test_dir().await;
    let first = Service::dev(&dir).await;
    let token = &tokens(&first)[0];
    let expected = slug(&first, token).await;
    // Create a table that no other cluster has.
    let url = &dev_env(&dir).await["PALISADE_OWNER_DATABASE_URL"];
    let mut owner = PgConnection::connect(url).await.unwrap();
    sqlx::query("create table kept (n integer)")
        .execute(&mut owner)
        .await
        .unwrap();
    drop(owner);
    assert!(postgres_runs(&dir));
    let mut output = first.terminate().await;
    assert!(!postgres_runs(&dir));

    let restarted = Instant::now();
    let second = Service::dev(&dir).await;
    let elapsed = restarted.elapsed();
    assert!(elapsed < Duration::from_secs(20), "{elapsed:?}");
    assert_eq!(slug(&second, token).await, expected);
    let url = &dev_env(&dir).await["PALISADE_OWNER_DATABASE_URL"];
    let mut owner = PgConnection::connect(url).await.unwrap();
    let kept: i64 = sqlx::query_scalar("select count(*) from kept")
        .fetch_one(&mut owner)
        .await
        .unwrap();
    assert_eq!(kept, 0);
    drop(owner);

    second.signal("-KILL");
    let killed = Instant::now();
    output += &second.wait().await.1;
    eventually("PostgreSQL has exited", async || !postgres_runs(&dir)).await;
    let elapsed = killed.elapsed();
    assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
    let third = Service::dev(&dir).await;
    assert_eq!(slug(&third, token).await, expected);
    output += &third.terminate().await;
    assert_no_secret(&dir, &output).await;
    remove_dir(&dir);
}
