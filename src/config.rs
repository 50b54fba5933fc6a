//! The settings of the service. Each setting is a flag and an environment variable, and its doc comment is the help of
//! the flag.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::{auth::jwt::TokenSettings, db::PoolSettings, duration};

/// The settings of `palisade serve` and `palisade dev`.
#[derive(Clone, Debug, clap::Args)]
pub struct ServiceSettings {
    /// The address and port to listen on.
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
    /// The time limit of an operation. The service cancels an operation that exceeds the limit, also in the database.
    #[arg(long, env = "PALISADE_OPERATION_TIMEOUT", default_value = "10s", value_name = "DURATION",
          value_parser = duration::between("1ms", "10m"))]
    pub operation_timeout: Duration,
    /// The time limit for the headers of a request, and then for its body. Also the time that a client has to receive a
    /// response, in addition to one second for each 64 KiB that it has received.
    #[arg(long, env = "PALISADE_RECEIVE_TIMEOUT", default_value = "10s", value_name = "DURATION",
          value_parser = duration::between("1ms", "10m"))]
    pub receive_timeout: Duration,
    /// The maximum number of open client connections. Beyond it, the service closes the connection that has been idle
    /// for the longest time, or else the oldest one without a valid token. If all are busy, it rejects the new one.
    #[arg(long, env = "PALISADE_MAX_CONNECTIONS", default_value_t = 1_000, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_connections: u32,
    /// The maximum number of rows that one operation may request, as estimated before the operation runs.
    #[arg(
        long,
        env = "PALISADE_MAX_COST",
        default_value_t = 20_000,
        value_name = "ROWS"
    )]
    pub max_cost: u64,
    /// The memory for documents that were parsed and validated, in bytes. With 0, the service parses and
    /// validates the document of each request. One tenant has at most an eighth.
    #[arg(
        long,
        env = "PALISADE_DOCUMENT_CACHE_BYTES",
        default_value_t = 33_554_432,
        value_name = "BYTES"
    )]
    pub document_cache_bytes: u64,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment would become the help of every flag in it"
    )]
    pub memory: MemorySettings,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment would become the help of every flag in it"
    )]
    pub traffic: TrafficSettings,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment would become the help of every flag in it"
    )]
    pub connections: ConnectionSettings,
    /// How often the service checks that its role and the tables still isolate the tenants. If they do not, it rejects
    /// every request until they do.
    #[arg(long, env = "PALISADE_ISOLATION_CHECK_INTERVAL", default_value = "2s", value_name = "DURATION",
          value_parser = duration::between("100ms", "1m"))]
    pub isolation_check_interval: Option<Duration>,
}

/// The settings that limit the memory of operations.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct MemorySettings {
    /// The maximum number of bytes that one operation may fetch in long strings: comments, descriptions of projects and
    /// changes of the audit log. The running operations of a tenant together may fetch as many, and those of all tenants
    /// twice as many.
    #[arg(long, env = "PALISADE_MAX_FETCHED_BYTES", default_value_t = Self::default().max_fetched_bytes, value_name = "BYTES",
          value_parser = clap::value_parser!(u64).range(1024..))]
    pub max_fetched_bytes: u64,
    /// The maximum length of a response, in bytes. Twice as many bytes may wait for the clients of a tenant, and eight
    /// times as many for all clients.
    #[arg(long, env = "PALISADE_MAX_RESPONSE_BYTES", default_value_t = Self::default().max_response_bytes, value_name = "BYTES",
          value_parser = clap::value_parser!(u64).range(1024..))]
    pub max_response_bytes: u64,
}

impl Default for MemorySettings {
    fn default() -> Self {
        Self {
            max_fetched_bytes: 64 * 1024 * 1024,
            max_response_bytes: 8 * 1024 * 1024,
        }
    }
}

/// The settings that limit what clients may send.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct TrafficSettings {
    /// The origins whose pages may call the API from a browser, such as `https://app.example`, separated by
    /// commas.
    #[arg(long = "cors-origin", env = "PALISADE_CORS_ORIGINS", value_name = "ORIGIN", value_delimiter = ',',
          value_parser = origin)]
    pub cors_origins: Vec<String>,
    /// The number of rows that a tenant may use per minute; 0 for no limit. A tenant can save at most the rows of one
    /// minute. Other work, such as a long document, has a price in rows.
    #[arg(
        long,
        env = "PALISADE_TENANT_BUDGET",
        default_value_t = 1_000_000,
        value_name = "ROWS"
    )]
    pub tenant_budget: u64,
    /// The number of requests that a tenant may send per second; 0 for no limit. Further requests wait. They are
    /// rejected if as many requests as the tenant may send per second wait already.
    #[arg(
        long,
        env = "PALISADE_TENANT_REQUESTS",
        default_value_t = 1_000,
        value_name = "N"
    )]
    pub tenant_requests: u32,
    /// The maximum number of requests of one tenant that run at the same time; a user has at most half of them. Further
    /// requests wait [default: a quarter of the pool, at least 2].
    #[arg(long, env = "PALISADE_TENANT_SLOTS", value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub tenant_slots: Option<u32>,
    /// The maximum number of requests of one tenant that wait for a slot; a user has at most half of them. Further
    /// requests are rejected at once. 0 for no limit.
    #[arg(
        long,
        env = "PALISADE_TENANT_QUEUE",
        default_value_t = 32,
        value_name = "N"
    )]
    pub tenant_queue: u32,
    /// The maximum number of operations in a batch (a request with a list of operations); 0 to reject batches.
    #[arg(long, env = "PALISADE_MAX_BATCH", default_value_t = 0, value_name = "N",
          value_parser = clap::value_parser!(u32).range(0..=10))]
    pub max_batch: u32,
    /// The memory for automatic persisted queries (documents that clients refer to by hash), in bytes; 0 to disable
    /// automatic persisted queries.
    #[arg(
        long,
        env = "PALISADE_APQ_BYTES",
        default_value_t = 33_554_432,
        value_name = "BYTES"
    )]
    pub apq_bytes: u64,
    /// The file of trusted documents: a JSON object that maps ids to documents, or a manifest of Apollo.
    #[arg(long, env = "PALISADE_TRUSTED_DOCUMENTS", value_name = "FILE")]
    pub trusted_documents: Option<PathBuf>,
    /// Run only trusted documents.
    #[arg(long, env = "PALISADE_ONLY_TRUSTED", requires = "trusted_documents")]
    pub only_trusted: bool,
}

/// The settings of connections and of the listener for health checks.
#[derive(Clone, Debug, clap::Args)]
pub struct ConnectionSettings {
    /// The maximum number of open connections of one client address; 0 for no limit. An IPv6 client counts with its /64
    /// network. If clients connect through a proxy on another machine, all of them have the address of the proxy: set 0
    /// [default: a quarter of --max-connections; no limit for loopback addresses, from which a proxy on this machine
    /// connects].
    #[arg(long, env = "PALISADE_MAX_CONNECTIONS_PER_ADDRESS", value_name = "N")]
    pub max_connections_per_address: Option<u32>,
    /// The maximum number of open connections whose last request was of one tenant; 0 for no limit [default: a quarter
    /// of --max-connections].
    #[arg(long, env = "PALISADE_MAX_CONNECTIONS_PER_TENANT", value_name = "N")]
    pub max_connections_per_tenant: Option<u32>,
    /// The time limit for the first byte of a new connection.
    #[arg(long, env = "PALISADE_FIRST_BYTE_TIMEOUT", default_value = "2s", value_name = "DURATION",
          value_parser = duration::between("1ms", "10m"))]
    pub first_byte_timeout: Duration,
    /// The address and port of a listener that serves only the health checks, also when the clients of the API use all
    /// connections [default: for `serve`, the next port after the one of --listen; for `dev`, none].
    #[arg(long, env = "PALISADE_HEALTH_LISTEN", value_name = "ADDR")]
    pub health_listen: Option<SocketAddr>,
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        Self {
            max_connections_per_address: None,
            max_connections_per_tenant: None,
            first_byte_timeout: Duration::from_secs(2),
            health_listen: None,
        }
    }
}

impl ServiceSettings {
    /// The address of the health checks of `serve`: by default, the next port of the same host. `None` if there is no
    /// such port. The port 0, which the system replaces by a free one, has no successor.
    #[must_use]
    pub fn health_address(&self) -> Option<SocketAddr> {
        let next = || {
            let port = match self.listen.port() {
                0 => 0,
                port => port.checked_add(1)?,
            };
            Some(SocketAddr::new(self.listen.ip(), port))
        };
        self.connections.health_listen.or_else(next)
    }
}

/// Parses an origin as browsers send it.
fn origin(text: &str) -> Result<String, String> {
    let invalid = || {
        "an origin is a scheme, a host and a port (omit the default port), such as \
         https://app.example"
            .to_owned()
    };
    let (scheme, authority) = text.split_once("://").ok_or_else(invalid)?;
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-.:[]".contains(c);
    if !matches!(scheme, "http" | "https")
        || authority.is_empty()
        || !authority.chars().all(is_allowed)
    {
        return Err(invalid());
    }
    Ok(text.to_ascii_lowercase())
}

/// The settings of the private PostgreSQL that `palisade dev` starts.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct EmbeddedSettings {
    /// The directory of the files of `palisade dev`: its PostgreSQL, its token secret and dev.env [default: the user's
    /// data directory; /var/lib/palisade as root].
    #[arg(long, env = "PALISADE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The directory with `postgres` and `initdb`; no other directory is searched.
    #[arg(long, env = "PALISADE_PG_BIN", value_name = "DIR")]
    pub pg_bin: Option<PathBuf>,
    /// The account that runs PostgreSQL if palisade is started as root [default: the account `postgres` if it exists,
    /// otherwise the account `nobody`].
    #[arg(long, env = "PALISADE_PG_USER", value_name = "USER")]
    pub pg_user: Option<String>,
    /// The directory for a downloaded PostgreSQL [default: the user's cache directory].
    #[arg(long, env = "PALISADE_CACHE_DIR", value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// The source of PostgreSQL if none is installed: a GitHub repository or a file:// archive.
    #[arg(long, env = "PALISADE_PG_ARCHIVE_URL", value_name = "URL")]
    pub pg_archive_url: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        settings: ServiceSettings,
    }

    #[test]
    fn the_health_checks_are_on_the_next_port_of_the_same_host() {
        for (arguments, expected) in [
            (&["--listen", "127.0.0.1:8080"][..], Some("127.0.0.1:8081")),
            (&["--listen", "0.0.0.0:80"], Some("0.0.0.0:81")),
            (&["--listen", "[::1]:8080"], Some("[::1]:8081")),
            (&["--listen", "127.0.0.1:0"], Some("127.0.0.1:0")),
            (&["--listen", "127.0.0.1:65535"], None),
            (
                &[
                    "--listen",
                    "127.0.0.1:65535",
                    "--health-listen",
                    "127.0.0.1:9",
                ],
                Some("127.0.0.1:9"),
            ),
        ] {
            let command = Command::parse_from([&["palisade"], arguments].concat());
            let expected = expected.map(|address| address.parse().unwrap());
            assert_eq!(command.settings.health_address(), expected, "{arguments:?}");
        }
    }
}
