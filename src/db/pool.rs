//! The pools of connections.

use std::time::Duration;

use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::duration;

/// The size of a connection pool, and how long an operation waits for a connection.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct PoolSettings {
    /// The number of database connections; 2 to 4 for each core of the database server.
    #[arg(long = "pool-size", env = "PALISADE_POOL_SIZE", default_value_t = 8, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub size: u32,
    /// The longest wait for a free connection; after it, the response is UNAVAILABLE.
    #[arg(long, env = "PALISADE_ACQUIRE_TIMEOUT", default_value = "2s", value_name = "DURATION",
          value_parser = duration::between("1ms", "1m"))]
    pub acquire_timeout: Duration,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            size: 8,
            acquire_timeout: Duration::from_secs(2),
        }
    }
}

/// Creates a pool, which connects when a connection is first needed.
pub(super) fn new_pool(options: PgConnectOptions, size: u32, acquire_timeout: Duration) -> PgPool {
    PgPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(acquire_timeout)
        .idle_timeout(Duration::from_mins(10))
        .max_lifetime(Duration::from_mins(30))
        // A test would cost a round trip. The statement that opens a transaction detects a dead connection too.
        .test_before_acquire(false)
        .connect_lazy_with(options)
}

/// A pool of one connection.
pub(super) fn side_connection(options: PgConnectOptions) -> PgPool {
    new_pool(
        options.application_name("palisade side"),
        1,
        Duration::from_secs(1),
    )
}
