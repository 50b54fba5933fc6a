//! The commands, one file each. An error is one line on standard error and the exit code 1, or 2 for
//! a command line or setting that cannot be used.

pub mod audit;
pub mod databases;
pub mod demo;
pub mod dev;
pub mod migrate;
pub mod schema;
pub mod serve;
pub mod token;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// A GraphQL service for software that many companies share: each sees its own rows, and PostgreSQL's
/// row level security sees to it.
///
/// Without a command it does what `palisade dev` does. Every flag can be given as the environment
/// variable that stands beside it.
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
    /// Start everything for development: a private PostgreSQL, demo tenants, the API, the explorer.
    Dev(Box<dev::Options>),
    /// Serve the API from a database that was prepared with `migrate`.
    Serve(Box<serve::Options>),
    /// Make the database's roles and bring its schema up to date.
    Migrate(migrate::Options),
    /// Fill in demo tenants: the same data for the same numbers.
    Demo(demo::Options),
    /// Check or seal a tenant's audit log.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Print a token for a user of a tenant.
    Token(token::Options),
    /// Print the API's schema.
    Schema,
}

/// Why a command ended without success.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A setting cannot be used: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Something went wrong: exit code 1.
    #[error("{0}")]
    Failed(String),
}

impl Failure {
    /// A failure with the text of an error.
    pub fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }

    /// A setting that cannot be used, with the text of an error.
    pub fn usage(error: impl std::fmt::Display) -> Self {
        Self::Usage(error.to_string())
    }
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(failure) = start_log() {
        return report(&failure);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return report(&Failure::failed(format!("cannot start: {error}"))),
    };
    let done = runtime.block_on(async {
        match cli.command {
            None => dev::run(cli.dev).await,
            Some(Command::Dev(options)) => dev::run(*options).await,
            Some(Command::Serve(options)) => serve::run(*options).await,
            Some(Command::Migrate(options)) => migrate::run(options).await,
            Some(Command::Demo(options)) => demo::run(options).await,
            Some(Command::Audit(command)) => audit::run(command).await,
            Some(Command::Token(options)) => token::run(options).await,
            Some(Command::Schema) => schema::run(),
        }
    });
    // Whatever still runs in the background holds nothing that must be finished.
    runtime.shutdown_background();
    match done {
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

/// What is logged unless `PALISADE_LOG` says otherwise. Postgres' notices tell nothing but that what
/// exists was not made again.
const LOG: &str = "info,sqlx::postgres::notice=warn";

/// The log goes to standard error. `PALISADE_LOG` takes directives such as `info,palisade=debug`;
/// `PALISADE_LOG_FORMAT` is `text`, or `json` for one object a line.
fn start_log() -> Result<(), Failure> {
    let directives = std::env::var("PALISADE_LOG").unwrap_or_else(|_| LOG.to_owned());
    let filter = EnvFilter::try_new(&directives)
        .map_err(|error| Failure::Usage(format!("PALISADE_LOG: {error}")))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match std::env::var("PALISADE_LOG_FORMAT").as_deref() {
        Ok("json") => log.json().init(),
        Ok("" | "text") | Err(_) => log.with_target(false).init(),
        Ok(other) => {
            let message = format!("PALISADE_LOG_FORMAT is text or json, not {other}");
            return Err(Failure::Usage(message));
        }
    }
    Ok(())
}
