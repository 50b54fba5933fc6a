//! Why there is no private server.
//!
//! The one rule: the texts are for the person at the terminal, and say the way out.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use rustix::process::geteuid;

use super::{START_LIMIT, discover::OLDEST};

/// Why there is no private server.
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

/// Makes an [`Error::Io`] of the system's answer.
pub(super) fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io {
        doing,
        path: path.to_path_buf(),
        source,
    }
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
