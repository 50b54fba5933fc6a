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
    /// Longest time to receive a request's headers, again its body, and to take nothing of its answer, in
    /// milliseconds.
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
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment would become the help of every flag in it"
    )]
    pub traffic: TrafficSettings,
}

/// Who may call from where, with which documents, and how much.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct TrafficSettings {
    /// Pages that may call the API from a browser, as `https://app.example`; several separated by commas.
    #[arg(long = "cors-origin", env = "PALISADE_CORS_ORIGINS", value_name = "ORIGIN", value_delimiter = ',',
          value_parser = origin)]
    pub cors_origins: Vec<String>,
    /// Rows that a tenant may fetch in a minute, and most at once; 0 for no bound.
    #[arg(
        long,
        env = "PALISADE_TENANT_BUDGET",
        default_value_t = 1_000_000,
        value_name = "ROWS"
    )]
    pub tenant_budget: u64,
    /// Operations of one tenant that run at once; more wait their turn [default: a quarter of the pool, at least 2].
    #[arg(long, env = "PALISADE_TENANT_PLACES", value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub tenant_places: Option<u32>,
    /// Operations that one request may hold in a list; 0 for no lists.
    #[arg(long, env = "PALISADE_MAX_BATCH", default_value_t = 0, value_name = "N",
          value_parser = clap::value_parser!(u32).range(0..=10))]
    pub max_batch: u32,
    /// Bytes for documents that clients name by their hash (automatic persisted queries); 0 for none.
    #[arg(
        long,
        env = "PALISADE_APQ_BYTES",
        default_value_t = 33_554_432,
        value_name = "BYTES"
    )]
    pub apq_bytes: u64,
    /// File of trusted documents: an object of ids and documents, or Apollo's manifest.
    #[arg(long, env = "PALISADE_TRUSTED_DOCUMENTS", value_name = "FILE")]
    pub trusted_documents: Option<PathBuf>,
    /// Run nothing but trusted documents.
    #[arg(long, env = "PALISADE_ONLY_TRUSTED", requires = "trusted_documents")]
    pub only_trusted: bool,
}

/// An origin as a browser writes it.
fn origin(text: &str) -> Result<String, String> {
    let wrong = || {
        "an origin is a scheme, a host and perhaps a port, such as https://app.example".to_owned()
    };
    let (scheme, place) = text.split_once("://").ok_or_else(wrong)?;
    let is_host = |c: char| c.is_ascii_alphanumeric() || "-.:[]".contains(c);
    if !matches!(scheme, "http" | "https") || place.is_empty() || !place.chars().all(is_host) {
        return Err(wrong());
    }
    Ok(text.to_ascii_lowercase())
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
