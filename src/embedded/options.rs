//! The options of the private server, the origin of its programs, and the time limits.

use std::{fmt, path::PathBuf, time::Duration};

/// How long to wait until a server accepts connections, whether this or another process started it.
pub(super) const START_LIMIT: Duration = Duration::from_secs(30);
/// How long a fast shutdown may take, and then an immediate one.
pub(super) const STOP_LIMIT: Duration = Duration::from_secs(15);
/// How long to wait for one response of a server, or for `postgres --version`.
pub(super) const RESPONSE_LIMIT: Duration = Duration::from_secs(10);
/// The pause before the state of another process is read again.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// The port is part of the socket file's name. The server does not listen on TCP.
pub(super) const PORT: u16 = 5432;

/// How to run the private server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Holds `pg<major>/` (the cluster), `s/` (the socket), `postgres.log` and `lock`. Created if
    /// missing. A directory with other content is not used.
    pub data_dir: PathBuf,
    /// Whether a commit survives a crash of the machine. Tests are faster without this.
    pub durable: bool,
    /// A directory with `postgres` and `initdb`. If given, no other directory is tried.
    pub bin_dir: Option<PathBuf>,
    /// The account that runs the server if the caller is root. The default is `postgres`, else
    /// `nobody`. Ignored for other callers.
    pub user: Option<String>,
    /// The directory for downloaded servers. The default is `palisade` in the platform's cache
    /// directory.
    pub cache_dir: Option<PathBuf>,
    /// The download source: a GitHub repository with releases like those of
    /// `https://github.com/theseus-rs/postgresql-binaries` (the default), or `file://` with the path
    /// of one of its archives. The archive's `.sha256` file must be in the same directory.
    pub archive_url: Option<String>,
}

/// The origin of the server's programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Installed on this machine, in this directory.
    Installed(PathBuf),
    /// Downloaded by the service, now or earlier, into this directory.
    Downloaded(PathBuf),
    /// Unknown: another process started the server.
    Attached,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Installed(dir) => write!(f, "installed in {}", dir.display()),
            Self::Downloaded(dir) => write!(f, "downloaded to {}", dir.display()),
            Self::Attached => f.write_str("already running"),
        }
    }
}
