//! Secrets on the command line.

use std::ffi::OsStr;

use clap::{Arg, ArgMatches, Command, parser::ValueSource};

/// Logs one warning if the command line has a secret: other users of the machine can read the command lines of all
/// processes. A secret of an environment variable is not reported.
pub fn warn(command: &Command, matches: &ArgMatches) {
    let exposed = find(command, matches);
    if exposed.is_empty() {
        return;
    }
    let flags: Vec<_> = exposed.iter().map(|secret| &*secret.flag).collect();
    let variables: Vec<_> = exposed.iter().map(|secret| &*secret.variable).collect();
    tracing::warn!(
        "other users of this machine can read the secrets on the command line with `ps`: instead of {}, set {}",
        flags.join(", "),
        variables.join(", "),
    );
}

/// An option whose value on the command line is a secret.
#[derive(Debug, PartialEq, Eq)]
struct ExposedSecret {
    flag: String,
    variable: String,
}

/// Finds the secrets on the command line, for the command and its subcommand. An option has a secret if its help hides
/// the value of its environment variable. A URL is a secret only if it has a password.
fn find(mut command: &Command, mut matches: &ArgMatches) -> Vec<ExposedSecret> {
    let mut found = Vec::new();
    loop {
        let arguments = command.get_arguments().filter(|argument| {
            argument.is_hide_env_values_set()
                && matches.value_source(argument.get_id().as_str())
                    == Some(ValueSource::CommandLine)
        });
        found.extend(arguments.filter_map(|argument| exposed(argument, matches)));
        let Some((name, of_subcommand)) = matches.subcommand() else {
            return found;
        };
        let Some(subcommand) = command.find_subcommand(name) else {
            return found;
        };
        (command, matches) = (subcommand, of_subcommand);
    }
}

fn exposed(argument: &Arg, matches: &ArgMatches) -> Option<ExposedSecret> {
    let variable = argument.get_env()?.to_str()?;
    let is_url = variable.ends_with("_URL");
    let mut values = matches.get_raw(argument.get_id().as_str())?;
    if is_url && !values.any(has_password) {
        return None;
    }
    Some(ExposedSecret {
        flag: format!("--{}", argument.get_long()?),
        variable: variable.to_owned(),
    })
}

/// Whether a database URL has a password, before the host or as a parameter. A value that is not a URL counts as a
/// password: the user confused two options.
fn has_password(url: &OsStr) -> bool {
    let Some((_, rest)) = url.to_str().and_then(|url| url.split_once("://")) else {
        return !url.is_empty();
    };
    let (address, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let in_address = address.rsplit_once('@').is_some_and(|(user, _)| {
        user.split_once(':')
            .is_some_and(|(_, password)| !password.is_empty())
    });
    let in_parameters = form_urlencoded::parse(parameters.as_bytes())
        .any(|(name, value)| name == "password" && !value.is_empty());
    in_address || in_parameters
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    /// The flags and variables of the secrets on a command line.
    fn secrets(arguments: &[&str]) -> Vec<(String, String)> {
        let mut command = Cli::command();
        let arguments = [&["palisade"], arguments].concat();
        let matches = command.try_get_matches_from_mut(arguments).unwrap();
        let found = find(&command, &matches);
        found
            .into_iter()
            .map(|secret| (secret.flag, secret.variable))
            .collect()
    }

    #[test]
    fn secrets_of_the_command_line_are_found_with_their_variables() {
        let with_password = "postgres://palisade_app:p@host/palisade";
        for (arguments, flag, variable) in [
            (
                &["--jwt-secret", "x"][..],
                "--jwt-secret",
                "PALISADE_JWT_SECRET",
            ),
            (
                &["dev", "--jwt-secret=x"],
                "--jwt-secret",
                "PALISADE_JWT_SECRET",
            ),
            (
                &["serve", "--jwt-previous-secret", "x"],
                "--jwt-previous-secret",
                "PALISADE_JWT_PREVIOUS_SECRET",
            ),
            (
                &["serve", "--database-url", with_password],
                "--database-url",
                "PALISADE_APP_DATABASE_URL",
            ),
            (
                &[
                    "migrate",
                    "--database-url",
                    "postgres://host/palisade?password=p",
                ],
                "--database-url",
                "PALISADE_OWNER_DATABASE_URL",
            ),
            (
                &["migrate", "--app-password", "x"],
                "--app-password",
                "PALISADE_APP_PASSWORD",
            ),
            (
                &[
                    "audit",
                    "verify",
                    "--tenant",
                    "a",
                    "--admin-database-url",
                    with_password,
                ],
                "--admin-database-url",
                "PALISADE_ADMIN_DATABASE_URL",
            ),
        ] {
            let expected = (flag.to_owned(), variable.to_owned());
            assert_eq!(secrets(arguments), [expected], "{arguments:?}");
        }
        let both = [
            "serve",
            "--jwt-secret",
            "x",
            "--database-url",
            with_password,
        ];
        assert_eq!(secrets(&both).len(), 2);
    }

    #[test]
    fn urls_without_a_password_and_other_options_are_not_secrets() {
        for url in [
            "postgres://palisade_app@host/palisade",
            "postgres://palisade_app:@host/palisade",
            "postgres://host:5432/palisade",
            "postgres://palisade_app@localhost/palisade?host=/run/postgresql&port=5432",
        ] {
            assert_eq!(secrets(&["serve", "--database-url", url]), [], "{url}");
        }
        assert_eq!(
            secrets(&["serve", "--listen", "127.0.0.1:0", "--jwt-issuer", "x"]),
            []
        );
        assert_eq!(secrets(&["schema"]), []);
        assert_eq!(secrets(&[]), []);
    }

    #[test]
    fn every_option_for_a_secret_hides_the_value_of_its_variable() {
        fn check(command: &Command) {
            for argument in command.get_arguments() {
                let name = argument.get_long().unwrap_or_default();
                let ends = [
                    "secret",
                    "password",
                    "database-url",
                    "context-key",
                    "token-a",
                    "token-b",
                ];
                let is_secret = ends.iter().any(|end| name.ends_with(end));
                assert_eq!(argument.is_hide_env_values_set(), is_secret, "--{name}");
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
