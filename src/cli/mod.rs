//! The commands, one file each. A command that fails prints one line on standard error. The exit code
//! is 2 for an invalid command line or setting, and 1 for any other failure.

pub mod audit;
pub mod context;
pub mod databases;
pub mod demo;
pub mod dev;
pub mod doctor;
mod exposed_secrets;
pub mod migrate;
pub mod prove;
pub mod schema;
pub mod serve;
pub mod token;

use std::{
    env,
    io::{self, IsTerminal as _},
    process::ExitCode,
};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::error::Error;

/// A multi-tenant GraphQL service. Row level security of PostgreSQL isolates the tenants.
///
/// Without a command, `palisade` runs `palisade dev`. If the help of an option names an environment variable,
/// the variable also sets the option; the command line has precedence.
#[derive(Debug, Parser)]
#[command(name = "palisade", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    dev: dev::Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start everything for development: a private PostgreSQL, demo tenants, the API and the explorer.
    Dev(Box<dev::Options>),
    /// Serve the API with a database that `migrate` has prepared.
    Serve(Box<serve::Options>),
    /// Create the roles and bring the schema of the database up to date.
    Migrate(migrate::Options),
    /// Create demo tenants: the same options always create the same data.
    Demo(demo::Options),
    /// Verify or seal the audit log of a tenant.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Inspect a database for gaps in the isolation of its tenants.
    Doctor(doctor::Options),
    /// Attack a running service as one tenant with the ids and values of another.
    Prove(Box<prove::Options>),
    /// Issue and print an access token for a user of a tenant.
    Token(token::Options),
    /// Print a signed context of a tenant for psql, or rotate the key that signs contexts.
    Context(context::Options),
    /// Print the GraphQL schema.
    Schema,
}

/// The reason why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// An invalid setting: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Any other failure: exit code 1.
    #[error("{0}")]
    Failed(String),
}

/// The message contains the cause of the error: an operator may read it, clients of the API may not.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::failed(error.detail())
    }
}

impl Failure {
    /// A failure with the message of an error.
    pub fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }

    /// An invalid setting, with the message of an error.
    pub fn usage(error: impl std::fmt::Display) -> Self {
        Self::Usage(error.to_string())
    }
}

/// Runs the command of the process's command line.
#[must_use]
pub fn main() -> ExitCode {
    let mut command = Cli::command();
    let matches = command.get_matches_mut();
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.format(&mut command).exit(),
    };
    if let Err(failure) = start_log() {
        return report(&failure);
    }
    exposed_secrets::warn(&command, &matches);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return report(&Failure::failed(format!("cannot start: {error}"))),
    };
    let result = runtime.block_on(async {
        match cli.command {
            None => dev::run(cli.dev).await,
            Some(Command::Dev(options)) => dev::run(*options).await,
            Some(Command::Serve(options)) => serve::run(*options).await,
            Some(Command::Migrate(options)) => migrate::run(options).await,
            Some(Command::Demo(options)) => demo::run(options).await,
            Some(Command::Audit(command)) => audit::run(command).await,
            Some(Command::Doctor(options)) => doctor::run(options).await,
            Some(Command::Prove(options)) => prove::run(*options).await,
            Some(Command::Token(options)) => token::run(options).await,
            Some(Command::Context(options)) => context::run(options).await,
            Some(Command::Schema) => schema::run(),
        }
    });
    // No background task has work that must be completed.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure),
    }
}

fn report(failure: &Failure) -> ExitCode {
    let line = failure.to_string().replace(['\n', '\r'], " ");
    eprintln!("palisade: {line}");
    match failure {
        Failure::Usage(_) => ExitCode::from(2),
        Failure::Failed(_) => ExitCode::from(1),
    }
}

/// The default of `PALISADE_LOG`. Notices of PostgreSQL are hidden: they only report skipped
/// `if not exists` statements.
const DEFAULT_LOG_FILTER: &str = "info,sqlx::postgres::notice=warn";

/// Starts the log on standard error. `PALISADE_LOG` contains directives such as `info,palisade=debug`.
/// `PALISADE_LOG_FORMAT` is `text` (the default) or `json`, which writes one object per line.
///
/// The format `text` has colors only on a terminal, and only if `NO_COLOR` is not set.
fn start_log() -> Result<(), Failure> {
    let directives = env::var("PALISADE_LOG").unwrap_or_else(|_| DEFAULT_LOG_FILTER.to_owned());
    let filter = EnvFilter::try_new(&directives)
        .map_err(|error| Failure::Usage(format!("PALISADE_LOG: {error}")))?;
    let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal() && !no_color)
        .with_writer(io::stderr);
    match env::var("PALISADE_LOG_FORMAT").as_deref() {
        Ok("json") => log.json().init(),
        Ok("" | "text") | Err(_) => log.with_target(false).init(),
        Ok(other) => {
            let message = format!("PALISADE_LOG_FORMAT must be text or json, not {other}");
            return Err(Failure::Usage(message));
        }
    }
    Ok(())
}
