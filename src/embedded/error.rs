//! The reasons why the private server cannot be used.
//!
//! The invariant: each message is for the person at the terminal, and says what to do.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use rustix::process::geteuid;

use super::{options::START_LIMIT, version::OLDEST_MAJOR_VERSION};

/// The reason why the private server cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file, directory or process cannot be used.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was tried: a verb.
        action: &'static str,
        /// The file, directory or program.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// `HOME` is not set, or is not an absolute path.
    #[error(
        "{0} has no default because HOME is not an absolute path: set HOME, or name the directory"
    )]
    NoHome(&'static str),
    /// No account can run the server. PostgreSQL does not run as root.
    #[error(
        "PostgreSQL does not run as root, and {0}; create an account, or name another account \
         (PALISADE_PG_USER)"
    )]
    NoAccount(String),
    /// The account that runs the server cannot enter a directory.
    #[error(
        "the account `{user}`, which runs PostgreSQL for root, cannot enter {} \
         (mode {mode:04o}, owner {owner}); \
         choose another directory (--data-dir), such as /var/lib/palisade",
        .dir.display()
    )]
    Unreachable {
        /// The first directory of the path that the account cannot enter.
        dir: PathBuf,
        /// The directory's permission bits.
        mode: u32,
        /// The user id of the directory's owner.
        owner: u32,
        /// The account.
        user: String,
    },
    /// A directory was not created by this program, or belongs to another account. Nothing in it was
    /// changed.
    #[error("{} {problem}; choose an empty or a new directory (--data-dir)", .dir.display())]
    NotOurs {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with the directory.
        problem: String,
    },
    /// The programs in the given directory cannot be used.
    #[error("no usable PostgreSQL in {} (PALISADE_PG_BIN): {problem}", .dir.display())]
    BinDir {
        /// The directory.
        dir: PathBuf,
        /// Why the programs cannot be used.
        problem: String,
    },
    /// No usable server is installed, and none could be downloaded.
    #[error("{}", not_found(.searched, .download))]
    NotFound {
        /// Each directory that was searched, with the reason why it was not used.
        searched: Vec<String>,
        /// Why the download failed.
        download: String,
    },
    /// `initdb` failed.
    #[error("initdb could not create a cluster in {} ({status}):\n{output}", .dir.display())]
    Initdb {
        /// The data directory.
        dir: PathBuf,
        /// The exit status.
        status: String,
        /// The output of `initdb`.
        output: String,
    },
    /// The server exited before it accepted connections.
    #[error("PostgreSQL exited while starting ({status}); the end of {}:\n{tail}", .log.display())]
    Exited {
        /// The exit status.
        status: String,
        /// The server's log.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// The server runs, but does not accept connections in time.
    #[error(
        "PostgreSQL did not accept connections within {} s ({reason}); the end of {}:\n{tail}",
        START_LIMIT.as_secs(), .log.display()
    )]
    NotReady {
        /// Why the last connection failed.
        reason: String,
        /// The server's log.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// Another process holds the lock of the directory, and no server accepts connections there.
    #[error(
        "another process holds the lock file {}, but no server accepted connections within {} s \
         ({reason}); end that process, or choose another directory (--data-dir)",
        .lock.display(), START_LIMIT.as_secs()
    )]
    Busy {
        /// The lock file.
        lock: PathBuf,
        /// Why the last connection failed.
        reason: String,
    },
    /// A server that this program did not start uses the cluster.
    #[error(
        "process {pid} runs PostgreSQL on {} but was not started by this program; \
         stop this PostgreSQL (pg_ctl stop -D {})",
        .cluster.display(), .cluster.display()
    )]
    ForeignServer {
        /// The server's process id.
        pid: i32,
        /// The cluster's directory.
        cluster: PathBuf,
    },
    /// The server did not exit after a fast and an immediate shutdown.
    #[error("PostgreSQL (process {0}) did not stop")]
    NotStopped(i32),
}

/// Converts an error of the operating system into an [`Error::Io`].
pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io {
        action,
        path: path.to_path_buf(),
        source,
    }
}

fn not_found(searched: &[String], download: &str) -> String {
    let mut message = format!("no PostgreSQL {OLDEST_MAJOR_VERSION} or newer was found:\n");
    for location in searched {
        let _ = writeln!(message, "  {location}");
    }
    let install = install_command(&fs::read_to_string("/etc/os-release").unwrap_or_default());
    let _ = write!(
        message,
        "and none could be downloaded: {download}\n\
         install PostgreSQL ({install}), or name the directory of `postgres` and `initdb` \
         (PALISADE_PG_BIN), or use a database of your own (DATABASE_URL)"
    );
    message
}

/// The command that installs PostgreSQL on the system that this `os-release` file describes.
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
        None => format!(
            "PostgreSQL {OLDEST_MAJOR_VERSION} or newer, with the package manager of the system"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::install_command;

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
}
