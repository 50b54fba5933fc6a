//! `palisade token`: the users for whom it issues no token.

use macro_rules_attribute::apply;

use super::{Database, demo_command, end_of, palisade};
use crate::harness::{self, SECRET, palisade_test};

#[apply(palisade_test)]
async fn a_token_for_nobody_is_refused() {
    let database = Database::migrated().await;
    let demo = demo_command(&database, "1", "1", "0", "0");
    end_of(demo).await.ok();
    let token = |tenant: &str, user: &str| {
        let url = database.url("palisade_auth");
        let mut command = palisade(&[
            "token",
            "--tenant",
            tenant,
            "--user",
            user,
            "--auth-database-url",
            &url,
        ]);
        command.env("PALISADE_JWT_SECRET", SECRET);
        command
    };
    let printed = end_of(token("acme", "Olivia@Acme.example")).await.ok();
    let printed = printed.lines().last().unwrap();
    assert!(harness::tokens().verify(printed).is_ok(), "{printed}");
    for (tenant, user) in [
        ("nobody", "olivia@acme.example"),
        ("acme", "nobody@acme.example"),
        ("acme' or '1'='1", "x"),
        ("", ""),
    ] {
        let ended = end_of(token(tenant, user)).await;
        assert_eq!(
            ended.line(1),
            format!("no active user {user} in an active tenant {tenant}")
        );
        assert_eq!(ended.stdout, "");
    }
    database.drop().await;
}
