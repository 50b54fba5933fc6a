//! `palisade dev`: starts, keeps its data and stops its database.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use macro_rules_attribute::apply;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use tokio::process::Command;

use super::{Ended, Running, ask, new_dir, remove, run_command, sourced};
use crate::harness::{eventually, palisade_test};

/// Whether a process with the data directory in its command line still runs.
fn postgres_runs(dir: &Path) -> bool {
    let listed = std::process::Command::new("ps")
        .args(["-eo", "args"])
        .output()
        .unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let dir = dir.to_str().unwrap();
    listed
        .lines()
        .any(|line| line.contains("postgres") && line.contains(dir) && line.contains("-D"))
}

#[apply(palisade_test)]
#[expect(
    clippy::too_many_lines,
    reason = "one life of a data directory, from first start to kill -9"
)]
async fn dev_serves_keeps_its_data_and_takes_its_database_with_it() {
    let dir = new_dir().await;
    let first = Running::dev(&dir, |command| {
        command.env(
            "DATABASE_URL",
            "postgres://nobody:hunter2secret@127.0.0.1:1/nothing",
        );
    })
    .await;
    assert!(
        first
            .greeting
            .contains("DATABASE_URL is set; dev does not use it")
    );
    let tokens: Vec<String> = first
        .said("token ")
        .iter()
        .map(|t| (*t).to_owned())
        .collect();
    assert!(tokens.len() >= 2, "{}", first.greeting);
    let mut slugs = Vec::new();
    for token in &tokens {
        let answer = ask(
            &first.api(),
            token,
            "{ tenant { slug } projects { totalCount } }",
        )
        .await;
        assert!(
            answer["data"]["projects"]["totalCount"].as_i64() > Some(0),
            "{answer}"
        );
        slugs.push(
            answer["data"]["tenant"]["slug"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    assert_ne!(slugs[0], slugs[1]);

    let variables = sourced(&dir).await;
    let names: Vec<&str> = variables.iter().map(|(name, _)| name.as_str()).collect();
    for expected in [
        "PALISADE_ADMIN_DATABASE_URL",
        "PALISADE_APP_DATABASE_URL",
        "PALISADE_AUTH_DATABASE_URL",
        "PALISADE_EXPLORER_URL",
        "PALISADE_GRAPHQL_URL",
        "PALISADE_JWT_SECRET",
        "PALISADE_OWNER_DATABASE_URL",
        "PALISADE_TENANT_A",
        "PALISADE_TENANT_B",
        "PALISADE_TOKEN_A",
        "PALISADE_TOKEN_B",
    ] {
        assert!(names.contains(&expected), "{expected}: {names:?}");
    }
    // A third demo tenant has a letter, too; there is nothing else.
    assert_eq!(names.len(), 9 - 2 + 2 * tokens.len(), "{names:?}");
    let value = |name: &str| &variables.iter().find(|(known, _)| known == name).unwrap().1;
    assert_eq!(value("PALISADE_GRAPHQL_URL"), &first.api());
    assert_eq!(value("PALISADE_TOKEN_A"), &tokens[0]);
    let page = reqwest::get(value("PALISADE_EXPLORER_URL")).await.unwrap();
    assert_eq!(page.status().as_u16(), 200);
    for role in ["app", "owner", "auth", "admin"] {
        let url = value(&format!("PALISADE_{}_DATABASE_URL", role.to_uppercase()));
        let select = "select session_user";
        let output = Command::new("psql")
            .args(["-XAtqc", select, url])
            .output()
            .await
            .unwrap();
        assert_eq!(Ended::from(output).ok().trim(), format!("palisade_{role}"));
    }
    let secret = value("PALISADE_JWT_SECRET").clone();
    for private in ["dev.env", "jwt.secret"] {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(dir.join(private))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{private}");
    }

    // A token is to be had while dev runs.
    let dir_text = dir.to_str().unwrap();
    let email = format!("olivia@{}.example", slugs[0]);
    let token_of = [
        "token",
        "--data-dir",
        dir_text,
        "--tenant",
        &slugs[0],
        "--user",
        &email,
    ];
    let token = run_command(&token_of).await.ok();
    let token = token.lines().last().unwrap();
    let answer = ask(&first.api(), token, "{ viewer { role } }").await;
    assert_eq!(answer["data"], json!({ "viewer": { "role": "OWNER" } }));

    let verify = ["audit", "verify", "--data-dir", dir_text, "--tenant"];
    let log = run_command(&[&verify[..], &[slugs[0].as_str()]].concat()).await;
    assert!(log.ok().contains("not yet sealed 0"));

    // A second service attaches, and outlives neither its own end nor that of the first.
    let second = Running::dev(&dir, |_| {}).await;
    assert!(second.greeting.contains("attached"), "{}", second.greeting);
    for api in [first.api(), second.api()] {
        let answer = ask(&api, &tokens[1], "{ tenant { slug } }").await;
        assert_eq!(answer["data"]["tenant"]["slug"], slugs[1]);
    }
    let mut printed = second.terminate().await;
    let answer = ask(&first.api(), &tokens[1], "{ tenant { slug } }").await;
    assert_eq!(answer["data"]["tenant"]["slug"], slugs[1]);

    // Something that only this cluster holds, to find it again.
    let mut owner = PgConnection::connect(value("PALISADE_OWNER_DATABASE_URL"))
        .await
        .unwrap();
    sqlx::query("create table kept (n integer)")
        .execute(&mut owner)
        .await
        .unwrap();
    drop(owner);
    assert!(postgres_runs(&dir));
    printed += &first.terminate().await;
    assert!(!postgres_runs(&dir));

    // Also while it does not.
    let token = run_command(&token_of).await.ok();
    let token = token.lines().last().unwrap().to_owned();
    assert!(!postgres_runs(&dir));

    let started = Instant::now();
    let third = Running::dev(&dir, |_| {}).await;
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
    for token in [&token, &tokens[0]] {
        let answer = ask(&third.api(), token, "{ tenant { slug } }").await;
        assert_eq!(answer["data"]["tenant"]["slug"], slugs[0]);
    }
    let variables = sourced(&dir).await;
    let url = |name| &variables.iter().find(|(known, _)| known == name).unwrap().1;
    let mut owner = PgConnection::connect(url("PALISADE_OWNER_DATABASE_URL"))
        .await
        .unwrap();
    let kept: i64 = sqlx::query_scalar("select count(*) from kept")
        .fetch_one(&mut owner)
        .await
        .unwrap();
    assert_eq!(kept, 0);
    drop(owner);

    // After kill -9 the database ends by itself, and the next start finds everything.
    third.signal("-KILL");
    let killed = Instant::now();
    printed += &third.end().await.1;
    eventually("PostgreSQL ended", async || !postgres_runs(&dir)).await;
    assert!(
        killed.elapsed() < Duration::from_secs(5),
        "{:?}",
        killed.elapsed()
    );
    let fourth = Running::dev(&dir, |_| {}).await;
    let answer = ask(&fourth.api(), &tokens[0], "{ tenant { slug } }").await;
    assert_eq!(answer["data"]["tenant"]["slug"], slugs[0]);
    printed += &fourth.terminate().await;

    assert!(!printed.contains(&secret), "the token secret was printed");
    assert!(
        !printed.contains("hunter2secret"),
        "the password of DATABASE_URL was printed"
    );
    remove(&dir);
}
