//! Flags and environment variables with wrong values.

use macro_rules_attribute::apply;

use super::{end_of, palisade, run_command};
use crate::harness::{SECRET, palisade_test};

#[apply(palisade_test)]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
async fn bad_settings_are_one_line_that_says_what_to_do() {
    let holder = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let closed = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let closed = format!("postgres://palisade_app:hunter2secret@127.0.0.1:{closed}/palisade");
    let no_socket = "postgres://palisade_app:hunter2secret@localhost/palisade?host=/nonexistent";
    let no_dir = "/proc/nothing";
    let serve = |url: &'static str| vec!["serve", "--listen", "127.0.0.1:0", "--database-url", url];
    let secret = Some(SECRET);
    let listen = ["serve", "--listen", &taken, "--database-url", no_socket];
    let at_closed = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--database-url",
        &closed,
    ];
    let cases: Vec<(Vec<&str>, Option<&str>, i32, &str)> = vec![
        (
            listen.to_vec(),
            secret,
            1,
            "the port is in use; choose another with --listen",
        ),
        (
            vec!["dev", "--listen", &taken, "--data-dir", no_dir],
            None,
            1,
            "the port is in use",
        ),
        (
            at_closed.to_vec(),
            secret,
            1,
            "cannot reach the database at 127.0.0.1:",
        ),
        (
            serve(no_socket),
            secret,
            1,
            "cannot reach the database at /nonexistent",
        ),
        (
            serve("mysql://u:hunter2secret@h/d"),
            secret,
            2,
            "not a PostgreSQL URL: it must start with",
        ),
        (serve("hunter2secret"), secret, 2, "not a PostgreSQL URL"),
        (serve(""), secret, 2, "not a PostgreSQL URL"),
        (
            serve("postgres://u:hunter2secret@h:99999/d"),
            secret,
            2,
            "not a PostgreSQL URL",
        ),
        (
            serve(no_socket),
            None,
            2,
            "no token secret: set PALISADE_JWT_SECRET",
        ),
        (
            serve(no_socket),
            Some("hunter2secret"),
            2,
            "the token secret has 13 bytes",
        ),
        (
            vec!["serve"],
            secret,
            2,
            "no database: set PALISADE_APP_DATABASE_URL",
        ),
        (
            vec!["migrate"],
            None,
            2,
            "no database: set PALISADE_OWNER_DATABASE_URL",
        ),
        (
            vec!["migrate", "--database-url", no_socket],
            None,
            1,
            "cannot reach the database",
        ),
        (
            vec!["migrate", "--database-url", "x:hunter2secret"],
            None,
            1,
            "not a PostgreSQL URL",
        ),
        (
            vec!["dev", "--listen", "127.0.0.1:0", "--data-dir", no_dir],
            None,
            1,
            no_dir,
        ),
        (
            vec![
                "dev",
                "--listen",
                "127.0.0.1:0",
                "--data-dir",
                "/etc/passwd",
            ],
            None,
            1,
            "/etc/passwd",
        ),
        (
            vec!["dev", "--listen", "127.0.0.1:0", "--data-dir", "/etc"],
            None,
            1,
            "/etc",
        ),
        (
            vec![
                "token",
                "--tenant",
                "a",
                "--user",
                "b",
                "--data-dir",
                no_dir,
            ],
            None,
            1,
            no_dir,
        ),
    ];
    for (arguments, secret, code, says) in cases {
        let mut command = palisade(&arguments);
        command.envs(secret.map(|secret| ("PALISADE_JWT_SECRET", secret)));
        let ended = end_of(command).await;
        assert!(ended.line(code).contains(says), "{arguments:?}: {ended:?}");
        assert!(
            !format!("{ended:?}").contains("hunter2secret"),
            "{arguments:?}: {ended:?}"
        );
        assert!(
            !format!("{ended:?}").contains(SECRET),
            "{arguments:?}: {ended:?}"
        );
    }
    drop(holder);
}

#[apply(palisade_test)]
async fn a_flag_that_cannot_be_is_a_usage_error() {
    let token = [
        "token",
        "--tenant",
        "acme",
        "--user",
        "olivia@acme.example",
        "--expires",
    ];
    let mut cases: Vec<Vec<&str>> = vec![
        vec!["--nothing"],
        vec!["nothing"],
        vec!["serve", "--nothing"],
        vec!["serve", "--listen", "nowhere"],
        vec!["serve", "--pool-size", "0"],
        vec!["serve", "--pool-size", "many"],
        vec!["serve", "--operation-timeout", "0"],
        vec!["serve", "--operation-timeout", "0s"],
        vec!["serve", "--operation-timeout", "11m"],
        vec!["serve", "--acquire-timeout", "61s"],
        vec!["serve", "--max-connections", "0"],
        vec!["serve", "--explorer"],
        vec!["demo", "--tenants", "0"],
        vec!["demo", "--tenants", "-1"],
        vec!["token", "--tenant", "acme"],
    ];
    for life in [
        "",
        "0",
        "12",
        "0s",
        "32d",
        "1y",
        "-1h",
        "1.5h",
        "12 h",
        "99999999999d",
        "h",
        "é",
    ] {
        cases.push([&token[..], &[life]].concat());
    }
    for arguments in cases {
        let ended = run_command(&arguments).await;
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
        assert!(
            ended.stderr.starts_with("error: "),
            "{arguments:?}: {ended:?}"
        );
        assert!(
            !ended.stderr.contains("panicked"),
            "{arguments:?}: {ended:?}"
        );
        assert_eq!(ended.stdout, "", "{arguments:?}");
    }
}

#[apply(palisade_test)]
async fn a_duration_without_unit_is_rejected_with_the_notation() {
    let notation = "write a duration as a number with its unit: ms, s, m, h or d, such as 10s";
    for flag in [
        "--operation-timeout",
        "--receive-timeout",
        "--acquire-timeout",
    ] {
        let ended = run_command(&["serve", flag, "10000"]).await;
        assert_eq!(ended.code, Some(2), "{flag}: {ended:?}");
        assert!(ended.stderr.contains(notation), "{flag}: {ended:?}");
        assert!(ended.stderr.contains(flag), "{flag}: {ended:?}");
    }
    for variable in [
        "PALISADE_OPERATION_TIMEOUT",
        "PALISADE_RECEIVE_TIMEOUT",
        "PALISADE_ACQUIRE_TIMEOUT",
    ] {
        let mut command = palisade(&["serve"]);
        command.env(variable, "2000");
        let ended = end_of(command).await;
        assert_eq!(ended.code, Some(2), "{variable}: {ended:?}");
        assert!(ended.stderr.contains(notation), "{variable}: {ended:?}");
    }
}
