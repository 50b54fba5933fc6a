//! A private PostgreSQL server for development and tests: finds or downloads it, starts it, and stops
//! it together with the process that started it.
//!
//! The invariant: **the server itself holds the lock file.** The descriptor is the standard input of `initdb`
//! and of `postgres`, and every backend inherits it. So if a process gets the lock, no process of an earlier
//! server is left, even if processes were killed, in any order. Then this process removes stale files and
//! starts a server. A process that does not get the lock attaches to the running server. Two servers never
//! share a cluster.
//!
//! The server listens only on a Unix socket, in a directory that only its account may enter. This makes
//! trust authentication safe, and no TCP port is needed.
//!
//! The server stops with the process that started it: by [`Embedded::stop`], or when the [`Embedded`] is
//! dropped. After a `kill -9` of this process, a watchdog stops the server. The watchdog is a shell that
//! reads a pipe, and only this process holds the write end of the pipe. A process that attached loses its
//! connections when the server stops, and may start the server again.

mod account;
mod cluster;
mod data_dir;
mod discover;
mod download;
mod error;
mod lock;
mod options;
mod probe;
mod programs;
mod server;
#[cfg(test)]
mod testing;
mod version;

use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use tokio::time::{Instant, sleep};

use account::Account;
use data_dir::{DataDir, default_dir};
use discover::{SearchLocations, find};
pub use error::Error;
pub use options::{Options, Origin};
use options::{POLL_INTERVAL, PORT, START_LIMIT};
use probe::{Probe, probe};
use server::Server;
pub use version::OLDEST_MAJOR_VERSION;

/// The characters to encode in a part of a URL: all but RFC 3986's unreserved ones.
const URL_ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A running private server. Dropping it without [`Embedded::stop`] requests a shutdown of a server
/// that this process started, and does not wait for it.
#[derive(Debug)]
pub struct Embedded {
    socket_dir: PathBuf,
    cluster: PathBuf,
    version: String,
    origin: Origin,
    /// `None` if another process started the server.
    server: Option<Server>,
}

impl Embedded {
    /// Starts the server of a data directory, or attaches to the server that another process started there.
    /// Creates the cluster if there is none. Returns when the server accepts connections.
    ///
    /// # Errors
    ///
    /// Each variant of [`Error`] except [`Error::NotStopped`]. If this call has started a server before it fails,
    /// the server is stopped.
    pub async fn start(options: &Options) -> Result<Self, Error> {
        let data_dir = DataDir::prepare(options).await?;
        // A process that attaches to a running server needs no programs.
        if data_dir.try_lock()?.is_none()
            && let Probe::Ready(version) = probe(&data_dir.socket_dir).await
        {
            return Ok(Self::new(data_dir, version, Origin::Attached, None));
        }
        let programs = find(options, &data_dir.account, &SearchLocations::default()).await?;
        let limit = Instant::now() + START_LIMIT;
        loop {
            if let Some(lock) = data_dir.try_lock()? {
                let (server, version) = data_dir.launch(lock, &programs).await?;
                return Ok(Self::new(data_dir, version, programs.origin, Some(server)));
            }
            match probe(&data_dir.socket_dir).await {
                Probe::Ready(version) => {
                    return Ok(Self::new(data_dir, version, Origin::Attached, None));
                }
                Probe::NotReady(reason) if Instant::now() > limit => {
                    return Err(Error::Busy {
                        lock: data_dir.lock_path(),
                        reason,
                    });
                }
                Probe::NotReady(_) => sleep(POLL_INTERVAL).await,
            }
        }
    }

    fn new(data_dir: DataDir, version: String, origin: Origin, server: Option<Server>) -> Self {
        Self {
            cluster: data_dir.cluster(&version),
            socket_dir: data_dir.socket_dir,
            version,
            origin,
            server,
        }
    }

    /// The directory of the Unix socket, for `psql -h`.
    #[must_use]
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// The directory of the cluster: `pg<major>` in [`Options::data_dir`].
    #[must_use]
    pub fn cluster_dir(&self) -> &Path {
        &self.cluster
    }

    /// The version that the server reports, such as `15.18`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The origin of the server's programs.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Whether another process started the server. The server then stops with that process, and has
    /// that process's setting of [`Options::durable`].
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.server.is_none()
    }

    /// The URL of a database for a role, for `psql` and sqlx. The superuser is `postgres`. No role
    /// needs a password.
    #[must_use]
    pub fn url(&self, role: &str, database: &str) -> String {
        format!(
            "postgresql://{}@localhost:{PORT}/{}?host={}",
            percent_encode(role.as_bytes(), URL_ENCODED),
            percent_encode(database.as_bytes(), URL_ENCODED),
            percent_encode(self.socket_dir.as_os_str().as_encoded_bytes(), URL_ENCODED),
        )
    }

    /// Stops the server if this process started it, and waits until it has exited. The server rolls
    /// open transactions back.
    ///
    /// # Errors
    ///
    /// [`Error::NotStopped`] if the server still runs after a fast and an immediate shutdown, 15 s each.
    pub async fn stop(self) -> Result<(), Error> {
        match self.server {
            Some(server) => server.stop().await,
            None => Ok(()),
        }
    }
}

/// The default data directory: `palisade` in the platform's directory for a user's data
/// (`$XDG_DATA_HOME`, else `~/.local/share`). For root it is `/var/lib/palisade`, because the server's
/// account cannot enter root's home directory.
///
/// # Errors
///
/// [`Error::NoHome`].
pub fn default_data_dir() -> Result<PathBuf, Error> {
    default_dir(
        "the data directory",
        "/var/lib",
        "XDG_DATA_HOME",
        ".local/share",
    )
}

/// Checks that the account that runs the server could enter a data directory at `dir`, which need not
/// exist. This can fail only if the caller is root.
///
/// # Errors
///
/// [`Error::Unreachable`] names the directory that the account cannot enter; [`Error::NoAccount`].
pub async fn check_reachable(dir: &Path, user: Option<&str>) -> Result<(), Error> {
    Account::find(user).await?.check_can_enter(dir).await
}
