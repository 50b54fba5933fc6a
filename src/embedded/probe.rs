//! Finds out whether a server accepts connections, and its version.
//!
//! The invariant: **only a successful login proves that a server runs.** A pid file or a socket file
//! may be left from an earlier server.

use std::path::{Path, PathBuf};

use sqlx::{
    ConnectOptions as _, Connection as _,
    postgres::{PgConnectOptions, PgSslMode},
};
use tokio::time::timeout;

use super::options::{PORT, RESPONSE_LIMIT};

/// The result of one attempt to log in.
pub(super) enum Probe {
    /// The server accepts connections. Holds its version, such as `15.18` or `19beta1`.
    Ready(String),
    /// No server accepts connections yet. Holds the reason.
    NotReady(String),
}

/// Tries to log in as the superuser, and reads the version.
pub(super) async fn probe(socket_dir: &Path) -> Probe {
    let error = match timeout(RESPONSE_LIMIT, server_version(socket_dir)).await {
        Ok(Ok(version)) => return Probe::Ready(version),
        Ok(Err(sqlx::Error::Database(error))) => {
            return Probe::NotReady(error.message().to_owned());
        }
        Ok(Err(sqlx::Error::Io(error))) => error.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no response within {} s", RESPONSE_LIMIT.as_secs()),
    };
    Probe::NotReady(format!("{}: {error}", socket_in(socket_dir).display()))
}

async fn server_version(socket_dir: &Path) -> sqlx::Result<String> {
    // The environment of the process (PGPORT, PGUSER, …) must not change the target.
    let options = PgConnectOptions::new_without_pgpass()
        .socket(socket_dir)
        .port(PORT)
        .username("postgres")
        .database("postgres")
        .ssl_mode(PgSslMode::Disable)
        .disable_statement_logging();
    let mut connection = options.connect().await?;
    // Not `server_version_num()`, which drops the `beta1` of `19beta1`.
    let version = sqlx::query_scalar!(r#"select current_setting('server_version') as "version!""#)
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    // "15.18 (Debian 15.18-0+deb12u1)"
    let version = version.split_whitespace().next().unwrap_or_default();
    Ok(version.to_owned())
}

/// The socket file in the directory of the socket.
pub(super) fn socket_in(dir: &Path) -> PathBuf {
    dir.join(format!(".s.PGSQL.{PORT}"))
}
