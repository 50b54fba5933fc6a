//! Options and environment variables with invalid values.

use macro_rules_attribute::apply;
use tokio::net::TcpListener;

use super::{palisade, run_palisade, run_to_exit};
use crate::harness::{CONTEXT_KEY, SECRET, palisade_test};

/// A password in the URLs. No message may print it.
const PASSWORD: &str = "hunter2secret";
const NO_SOCKET: &str =
    "postgres://palisade_app:hunter2secret@localhost/palisade?host=/nonexistent";
const NO_DIR: &str = "/proc/nothing";

/// Runs a command that must fail with this exit code and one line that contains `message`. The
/// output must not contain a secret.
async fn assert_fails(arguments: &[&str], secret: Option<&str>, code: i32, message: &str) {
    assert_fails_with_url(arguments, None, secret, code, message).await;
}

/// Like [`assert_fails`], with a database URL in the environment.
async fn assert_fails_with_url(
    arguments: &[&str],
    url: Option<&str>,
    secret: Option<&str>,
    code: i32,
    message: &str,
) {
    let mut command = palisade(arguments);
    command.envs(url.map(|url| ("DATABASE_URL", url)));
    command.envs(secret.map(|secret| ("PALISADE_JWT_SECRET", secret)));
    let result = run_to_exit(command).await;
    let line = result.error_line(code);
    assert!(line.contains(message), "{arguments:?}: {result:?}");
    let output = format!("{result:?}");
    assert!(!output.contains(PASSWORD), "{arguments:?}: {output}");
    assert!(!output.contains(SECRET), "{arguments:?}: {output}");
}

const SERVE: &[&str] = &["serve", "--listen", "127.0.0.1:0"];

#[apply(palisade_test)]
async fn a_taken_port_is_reported_before_anything_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    let serve = ["serve", "--listen", &taken];
    let dev = ["dev", "--listen", &taken, "--data-dir", NO_DIR];
    let message = "the port is in use; choose another with --listen";
    assert_fails_with_url(&serve, Some(NO_SOCKET), Some(SECRET), 1, message).await;
    assert_fails(&dev, None, 1, "the port is in use").await;
}

#[apply(palisade_test)]
async fn a_taken_port_of_the_health_checks_is_reported_with_its_option() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    let options = ["--listen", "127.0.0.1:0", "--health-listen", &taken];
    let serve = [&["serve"], &options[..]].concat();
    let dev = [&["dev", "--data-dir", NO_DIR], &options[..]].concat();
    let message = format!(
        "cannot listen on {taken}: the port of the health checks is in use; choose another with --health-listen"
    );
    assert_fails_with_url(&serve, Some(NO_SOCKET), Some(SECRET), 1, &message).await;
    assert_fails(&dev, None, 1, &message).await;
    let last = ["serve", "--listen", "127.0.0.1:65535"];
    let message = "there is no port after the one of --listen: set --health-listen";
    assert_fails_with_url(&last, Some(NO_SOCKET), Some(SECRET), 2, message).await;
}

#[apply(palisade_test)]
async fn a_secret_on_the_command_line_is_reported_with_its_variable() {
    let url = ["--database-url", NO_SOCKET];
    let secrets = ["--jwt-secret", SECRET, "--context-key", CONTEXT_KEY];
    let result = run_palisade(&[SERVE, &url, &secrets].concat()).await;
    assert_eq!(result.code, Some(1), "{result:?}");
    let (warning, error) = result.stderr.split_once('\n').unwrap();
    assert!(
        warning.contains("WARN ")
            && warning.ends_with(
                "instead of --database-url, --context-key, --jwt-secret, set PALISADE_APP_DATABASE_URL, PALISADE_CONTEXT_KEY, PALISADE_JWT_SECRET"
            ),
        "{warning}"
    );
    assert!(
        error.starts_with("palisade: cannot reach the database at /nonexistent"),
        "{error}"
    );
    assert!(
        !result.stderr.contains(PASSWORD) && !result.stderr.contains(SECRET),
        "{result:?}"
    );
}

#[apply(palisade_test)]
async fn a_database_that_cannot_be_used_is_named_without_its_password() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let closed = format!("postgres://palisade_app:{PASSWORD}@127.0.0.1:{closed}/palisade");
    for (url, code, message) in [
        (&*closed, 1, "cannot reach the database at 127.0.0.1:"),
        (NO_SOCKET, 1, "cannot reach the database at /nonexistent"),
        (
            "mysql://u:hunter2secret@h/d",
            2,
            "not a PostgreSQL URL: it must start with",
        ),
        (PASSWORD, 2, "not a PostgreSQL URL"),
        ("", 2, "not a PostgreSQL URL"),
        (
            "postgres://u:hunter2secret@h:99999/d",
            2,
            "not a PostgreSQL URL",
        ),
    ] {
        assert_fails_with_url(SERVE, Some(url), Some(SECRET), code, message).await;
    }
    for (url, message) in [
        (NO_SOCKET, "cannot reach the database"),
        ("x:hunter2secret", "not a PostgreSQL URL"),
    ] {
        assert_fails_with_url(&["migrate"], Some(url), None, 1, message).await;
    }
}

#[apply(palisade_test)]
async fn a_missing_or_short_setting_is_reported_with_its_variable() {
    let repeated = PASSWORD.repeat(3);
    for (arguments, url, secret, message) in [
        (
            SERVE,
            Some(NO_SOCKET),
            None,
            "no token secret: set PALISADE_JWT_SECRET",
        ),
        (
            SERVE,
            Some(NO_SOCKET),
            Some(PASSWORD),
            "the token secret has 13 bytes",
        ),
        (
            SERVE,
            Some(NO_SOCKET),
            Some(&*repeated),
            "because it repeats itself or has few different bytes: set PALISADE_JWT_SECRET",
        ),
        (
            &["serve"],
            None,
            Some(SECRET),
            "no database: set PALISADE_APP_DATABASE_URL",
        ),
        (
            &["migrate"],
            None,
            None,
            "no database: set PALISADE_OWNER_DATABASE_URL",
        ),
    ] {
        assert_fails_with_url(arguments, url, secret, 2, message).await;
    }
}

#[apply(palisade_test)]
async fn a_data_directory_that_cannot_be_used_is_named() {
    for dir in [NO_DIR, "/etc/passwd", "/etc"] {
        let dev = ["dev", "--listen", "127.0.0.1:0", "--data-dir", dir];
        assert_fails(&dev, None, 1, dir).await;
    }
    let token = [
        "token",
        "--tenant",
        "a",
        "--user",
        "b",
        "--data-dir",
        NO_DIR,
    ];
    assert_fails(&token, None, 1, NO_DIR).await;
}

#[apply(palisade_test)]
async fn an_invalid_option_is_a_usage_error() {
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
    for lifetime in [
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
        cases.push([&token[..], &[lifetime]].concat());
    }
    for arguments in cases {
        let result = run_palisade(&arguments).await;
        assert_eq!(result.code, Some(2), "{arguments:?}: {result:?}");
        assert!(
            result.stderr.starts_with("error: "),
            "{arguments:?}: {result:?}"
        );
        assert!(
            !result.stderr.contains("panicked"),
            "{arguments:?}: {result:?}"
        );
        assert_eq!(result.stdout, "", "{arguments:?}");
    }
}

#[apply(palisade_test)]
async fn an_invalid_log_setting_is_a_usage_error() {
    for (name, value, message) in [
        ("PALISADE_LOG", "info,palisade=loud", "PALISADE_LOG: "),
        (
            "PALISADE_LOG_FORMAT",
            "JSON",
            "must be text or json, not JSON",
        ),
    ] {
        let mut command = palisade(&["schema"]);
        command.env(name, value);
        let result = run_to_exit(command).await;
        assert!(result.error_line(2).contains(message), "{name}: {result:?}");
    }
}

#[apply(palisade_test)]
async fn a_duration_without_unit_is_rejected_with_the_notation() {
    let notation = "write a duration as a number with its unit: ms, s, m, h or d, such as 10s";
    for (flag, variable) in [
        ("--operation-timeout", "PALISADE_OPERATION_TIMEOUT"),
        ("--receive-timeout", "PALISADE_RECEIVE_TIMEOUT"),
        ("--acquire-timeout", "PALISADE_ACQUIRE_TIMEOUT"),
        ("--first-byte-timeout", "PALISADE_FIRST_BYTE_TIMEOUT"),
        (
            "--isolation-check-interval",
            "PALISADE_ISOLATION_CHECK_INTERVAL",
        ),
    ] {
        let by_flag = palisade(&["serve", flag, "10000"]);
        let mut by_variable = palisade(&["serve"]);
        by_variable.env(variable, "10000");
        for command in [by_flag, by_variable] {
            let result = run_to_exit(command).await;
            assert_eq!(result.code, Some(2), "{flag}: {result:?}");
            assert!(result.stderr.contains(notation), "{flag}: {result:?}");
            assert!(result.stderr.contains(flag), "{flag}: {result:?}");
        }
    }
}
