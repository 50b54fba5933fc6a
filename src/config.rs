//! The settings of the service: every one a flag, an environment variable and a line of `--help`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::{auth::jwt::TokenSettings, db::PoolSettings};

/// How the service listens, and what it allows.
#[derive(Clone, Debug, clap::Args)]
pub struct ServiceSettings {
    /// Address and port to listen on.
    #[arg(
        long,
        env = "PALISADE_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDR"
    )]
    pub listen: SocketAddr,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment would become the help of every flag in it"
    )]
    pub pool: PoolSettings,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment would become the help of every flag in it"
    )]
    pub tokens: TokenSettings,
    /// Longest time for one operation, in milliseconds; then it is cancelled in the database too.
    #[arg(long, env = "PALISADE_OPERATION_TIMEOUT", default_value_t = 10_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub operation_timeout: u64,
    /// Longest time to receive a request's headers, and again its body, in milliseconds.
    #[arg(long, env = "PALISADE_RECEIVE_TIMEOUT", default_value_t = 10_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub receive_timeout: u64,
    /// Most client connections at a time; more wait to be accepted.
    #[arg(long, env = "PALISADE_MAX_CONNECTIONS", default_value_t = 1_000, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_connections: u32,
    /// Most rows that one operation may ask for.
    #[arg(
        long,
        env = "PALISADE_MAX_COST",
        default_value_t = 20_000,
        value_name = "ROWS"
    )]
    pub max_cost: u64,
}

impl ServiceSettings {
    /// Longest time for one operation.
    #[must_use]
    pub fn operation_timeout(&self) -> Duration {
        Duration::from_millis(self.operation_timeout)
    }

    /// Longest time to receive headers, and again a body.
    #[must_use]
    pub fn receive_timeout(&self) -> Duration {
        Duration::from_millis(self.receive_timeout)
    }
}

/// Where the private PostgreSQL of `dev` lives, and which binaries it uses.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct EmbeddedSettings {
    /// Directory of dev's PostgreSQL, token secret and dev.env [default: the user's data directory;
    /// /var/lib/palisade as root].
    #[arg(long, env = "PALISADE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Directory with `postgres` and `initdb`; no other place is then looked at.
    #[arg(long, env = "PALISADE_PG_BIN", value_name = "DIR")]
    pub pg_bin: Option<PathBuf>,
    /// Account to run PostgreSQL as when started by root [default: postgres, else nobody].
    #[arg(long, env = "PALISADE_PG_USER", value_name = "USER")]
    pub pg_user: Option<String>,
    /// Directory for a PostgreSQL that had to be fetched [default: the user's cache directory].
    #[arg(long, env = "PALISADE_CACHE_DIR", value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Where to fetch PostgreSQL from if none is installed: a GitHub repository or a file:// archive.
    #[arg(long, env = "PALISADE_PG_ARCHIVE_URL", value_name = "URL")]
    pub pg_archive_url: Option<String>,
}
