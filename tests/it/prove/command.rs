//! The command line: options, output and exit codes.

use macro_rules_attribute::apply;
use serde_json::Value;

use super::tenants;
use crate::{
    cli::{CommandResult, palisade, run_to_exit},
    harness::{Caller, TestApp, attempt, palisade_test},
};

/// Runs `palisade prove` with the tokens in the environment.
async fn prove(url: &str, a: &Caller, b: &Caller, options: &[&str]) -> CommandResult {
    let mut command = palisade(&[&["prove", "--url", url][..], options].concat());
    command.env("PALISADE_PROVE_TOKEN_A", &a.token);
    command.env("PALISADE_PROVE_TOKEN_B", &b.token);
    run_to_exit(command).await
}

#[apply(palisade_test)]
async fn the_exit_code_says_whether_the_isolation_is_proved(app: &'static TestApp) {
    let (a, b) = tenants(app).await;
    let (a, b) = (a.owner(), b.owner());
    let fields = ["--field", "Query.project,archiveProject", "--samples", "3"];
    let proved = prove(&app.url, a, b, &fields).await.success();
    let lines: Vec<&str> = proved.lines().collect();
    assert!(lines[0].starts_with("field "), "{proved}");
    assert!(
        lines[1].starts_with("Query.project ") && lines[1].contains(" ok "),
        "{proved}"
    );
    assert!(lines[1].ends_with(" ms"), "{proved}");
    assert!(lines[2].starts_with("Mutation.archiveProject "), "{proved}");
    assert!(lines.last().unwrap().ends_with("findings: 0"), "{proved}");

    // A gap in the database that no request can use.
    let gapped = app.in_own_database(&[]).await;
    let mut superuser = gapped.connect("postgres").await;
    let gap = "alter table projects no force row level security".to_owned();
    attempt(&mut superuser, gap).await.unwrap();
    drop(superuser);
    let database = gapped.database_url("palisade_app");
    let options = [
        "--database-url",
        &database,
        "--format",
        "json",
        "--field",
        "currencies",
    ];
    let found = prove(&app.url, a, b, &options).await;
    let message = "the isolation of the tenants is not proved, findings: 1";
    assert_eq!(found.error_line(1), message);
    let report: Value = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!(report["general"][0]["problem"], "doctor");
    let detail = report["general"][0]["detail"].as_str().unwrap();
    assert!(detail.starts_with("D05 "), "{detail}");
    assert_eq!(report["fields"][0]["result"], "ok");
    gapped.drop_database().await;

    for (url, other, options, message) in [
        (&*app.url, a, &[][..], "both tokens are of the same tenant"),
        (
            &*app.url,
            b,
            &["--field", "nothing"],
            "--field names no field of the schema",
        ),
        (
            &*app.url,
            b,
            &["--schema", "no/file"],
            "cannot read no/file: ",
        ),
        (
            "http://127.0.0.1:1/graphql",
            b,
            &[],
            "cannot reach http://127.0.0.1:1/graphql: ",
        ),
    ] {
        let failed = prove(url, a, other, options).await;
        let line = failed.error_line(2);
        assert!(line.starts_with(message), "{line}");
    }
}
