//! `palisade token`: issues tokens to active users only.

use macro_rules_attribute::apply;

use super::{Database, demo_command, palisade, run_to_exit};
use crate::harness::{self, SECRET, palisade_test};

#[apply(palisade_test)]
async fn only_an_active_user_of_an_active_tenant_gets_a_token() {
    let database = Database::migrated().await;
    let demo = demo_command(&database, "1", "1", "0", "0");
    run_to_exit(demo).await.success();
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
    let stdout = run_to_exit(token("acme", "Olivia@Acme.example"))
        .await
        .success();
    let issued = stdout.lines().last().unwrap();
    assert!(harness::tokens().verify(issued).is_ok(), "{issued}");
    for (tenant, user) in [
        ("nobody", "olivia@acme.example"),
        ("acme", "nobody@acme.example"),
        ("acme' or '1'='1", "x"),
        ("", ""),
    ] {
        let result = run_to_exit(token(tenant, user)).await;
        assert_eq!(
            result.error_line(1),
            format!("there is no active user {user} in an active tenant {tenant}")
        );
        assert_eq!(result.stdout, "");
    }
    database.drop().await;
}
