//! A private Postgres server for development and tests: found or fetched, started, and ended with
//! its owner.
//!
//! The one rule: **the lock file is held by the server itself.** Its descriptor is the standard
//! input of `initdb` and of `postgres`, and every backend inherits it, so whoever gets the lock
//! knows that no process of an earlier server is left, whatever was killed and in which order. Only
//! then are stale files removed and a server started; whoever does not get it attaches to the
//! server that has it. Two servers never share a cluster.
//!
//! The server listens on a Unix socket in a directory only its account may enter, and nowhere else:
//! trust authentication is guarded by the file system, and no TCP port is chosen.
//!
//! It ends with the process that started it: by [`Embedded::stop`], by dropping the [`Embedded`],
//! and after a `kill -9` through a watchdog, a shell that reads a pipe of which this process holds
//! the only write end. A process that attached loses the server with its starter; it finds the
//! connection closed and may start anew.

mod account;
mod cluster;
mod discover;
mod error;
mod fetch;
mod handshake;
mod place;
#[cfg(test)]
mod testing;
mod watchdog;

use std::{
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rustix::process::Signal;
use tokio::time::{Instant, sleep, timeout};

use account::Account;
use discover::{Places, find};
pub use error::Error;
use handshake::{Answer, ask};
use place::{Place, default_dir};
use watchdog::Server;

/// A server, our own or another's, that does not answer within this time is given up.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long a fast shutdown, and then an immediate one, may take.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// How long to wait for one answer of a server, or for `postgres --version`.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// The pause between two looks at something that another process changes.
const POLL: Duration = Duration::from_millis(20);
/// Names the socket file only; there is no TCP.
const PORT: &str = "5432";

/// The bytes of a URL's parts that are encoded: all but the unreserved ones (RFC 3986, 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// How to run the private server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Holds `pg<major>/` (the cluster), `s/` (the socket), `postgres.log` and `lock`. Created if
    /// missing; a directory that holds anything else is refused.
    pub data_dir: PathBuf,
    /// Whether a commit survives a crash of the machine. Tests go without, and are faster for it.
    pub durable: bool,
    /// A directory with `postgres` and `initdb`. If given, no other place is tried.
    pub bin_dir: Option<PathBuf>,
    /// The account to run as when the caller is root; without it `postgres`, else `nobody`. Ignored
    /// for other callers.
    pub user: Option<String>,
    /// Where a fetched Postgres is kept; `None` is `palisade` in the platform's cache directory.
    pub cache_dir: Option<PathBuf>,
    /// Where to fetch from: a GitHub repository with releases like those of
    /// `https://github.com/theseus-rs/postgresql-binaries` (the default), or `file://` and the path
    /// of one of its archives, with its `.sha256` beside it.
    pub archive_url: Option<String>,
}

/// Where the programs of a server come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Found on this machine, in this directory.
    Installed(PathBuf),
    /// Fetched by the service, now or earlier; the directory with the programs.
    Fetched(PathBuf),
    /// Started by another process of the same data directory, which alone knows.
    Attached,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Installed(dir) => write!(f, "installed in {}", dir.display()),
            Self::Fetched(dir) => write!(f, "fetched into {}", dir.display()),
            Self::Attached => f.write_str("running already"),
        }
    }
}

/// A running private server, and the right to use it. Dropping it without [`Embedded::stop`] tells
/// a server that was started here to shut down, without waiting.
#[derive(Debug)]
pub struct Embedded {
    socket_dir: PathBuf,
    cluster: PathBuf,
    version: String,
    origin: Origin,
    /// `None` if another process started it.
    server: Option<Server>,
}

impl Embedded {
    /// Starts the server of a data directory, creating its cluster if there is none, or attaches to
    /// the one that another process runs there. Returns when it accepts connections.
    ///
    /// # Errors
    ///
    /// Each variant of [`Error`] but [`Error::Stop`]. After an error a server that was started is
    /// told to end.
    pub async fn start(options: &Options) -> Result<Self, Error> {
        let place = Place::prepare(options).await?;
        // A running server needs no programs of ours.
        if place.try_lock()?.is_none()
            && let Answer::Ready(version) = ask(&place.socket_dir).await
        {
            return Ok(Self::attach(place, version));
        }
        let programs = find(options, &place.account, &Places::default()).await?;
        let limit = Instant::now() + START_LIMIT;
        loop {
            if let Some(lock) = place.try_lock()? {
                return place.launch(lock, programs).await;
            }
            match ask(&place.socket_dir).await {
                Answer::Ready(version) => return Ok(Self::attach(place, version)),
                Answer::NotYet(answer) if Instant::now() > limit => {
                    return Err(Error::Busy {
                        lock: place.root.join("lock"),
                        answer,
                    });
                }
                Answer::NotYet(_) => sleep(POLL).await,
            }
        }
    }

    fn attach(place: Place, version: String) -> Self {
        Self {
            cluster: place.cluster(&version),
            socket_dir: place.socket_dir,
            version,
            origin: Origin::Attached,
            server: None,
        }
    }

    /// The directory of the Unix socket, for `psql -h`.
    #[must_use]
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// The cluster's own directory, `pg<major>` in [`Options::data_dir`].
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.cluster
    }

    /// The server's version as it reports it, such as `15.18`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Where its programs come from.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Whether another process started the server. It then ends with that process, and is as
    /// durable as that process wanted it.
    #[must_use]
    pub fn attached(&self) -> bool {
        self.server.is_none()
    }

    /// The URL of a database for a role, understood by `psql` and sqlx. The superuser is
    /// `postgres`, without password.
    #[must_use]
    pub fn url(&self, role: &str, database: &str) -> String {
        format!(
            "postgresql://{}@localhost:{PORT}/{}?host={}",
            percent_encode(role.as_bytes(), RESERVED),
            percent_encode(database.as_bytes(), RESERVED),
            percent_encode(self.socket_dir.as_os_str().as_bytes(), RESERVED),
        )
    }

    /// Shuts the server down, rolling back what is open, and waits until it is gone. Leaves a
    /// server alone that another process started.
    ///
    /// # Errors
    ///
    /// [`Error::Stop`] if it outlives a fast and an immediate shutdown, 15 s each.
    pub async fn stop(self) -> Result<(), Error> {
        let Some(server) = self.server else {
            return Ok(());
        };
        for signal in [Signal::INT, Signal::QUIT] {
            server.end(signal);
            if timeout(STOP_LIMIT, server.ended()).await.is_ok() {
                return Ok(());
            }
        }
        Err(Error::Stop(server.pid.as_raw_pid()))
    }
}

/// `palisade` in the platform's directory for a user's data (`$XDG_DATA_HOME`, else
/// `~/.local/share`), or `/var/lib/palisade` for root, whose home the server's account cannot
/// enter.
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

/// Whether a data directory at `dir`, which need not exist, would be within reach of the account
/// that runs the server. Always so unless the caller is root.
///
/// # Errors
///
/// [`Error::Unreachable`] names the directory that is in the way; [`Error::NoAccount`].
pub async fn reachable(dir: &Path, user: Option<&str>) -> Result<(), Error> {
    Account::find(user).await?.can_enter(dir).await
}
