//! The account that runs the server, the environment it gets, and the directories it may enter.
//!
//! The invariant: **no program of PostgreSQL runs as root.** If the caller is root, each program runs
//! as an account without special rights. A program that runs as that account checks which
//! directories it may enter, because permission bits alone do not decide.

use std::{
    env, io,
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::Path,
    process::{Command, Output, Stdio},
};

use rustix::process::{getegid, geteuid};

use super::error::{Error, io_error};

/// The account that runs the server.
#[derive(Debug)]
pub(super) struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    /// Whether the caller is root, so that each program must switch to this account.
    pub switches: bool,
}

impl Account {
    /// Finds the account: the caller's own, unless the caller is root. For root, the account with this name;
    /// without a name, `postgres`, or `nobody` if there is no `postgres`.
    pub async fn find(name: Option<&str>) -> Result<Self, Error> {
        let (uid, gid) = (geteuid(), getegid());
        if !uid.is_root() {
            let name = format!("uid {}", uid.as_raw());
            return Ok(Self {
                name,
                uid: uid.as_raw(),
                gid: gid.as_raw(),
                switches: false,
            });
        }
        for candidate in name.map_or(vec!["postgres", "nobody"], |name| vec![name]) {
            // `initdb` needs an account with a name, so a number is not accepted.
            let (Some(uid), Some(gid)) = (id("-u", candidate).await, id("-g", candidate).await)
            else {
                continue;
            };
            if uid != 0 && uid.to_string() != candidate {
                return Ok(Self {
                    name: candidate.to_owned(),
                    uid,
                    gid,
                    switches: true,
                });
            }
        }
        Err(Error::NoAccount(name.map_or_else(
            || "there is neither an account `postgres` nor `nobody`".to_owned(),
            |name| format!("the account `{name}` is root or was not found"),
        )))
    }

    /// A command that runs as this account, detached from the terminal and without the caller's
    /// environment, so that no setting and no secret of the service reaches the server.
    pub fn command(&self, program: &Path) -> Command {
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
        if self.switches {
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// Checks that this account may enter each existing directory of the path. The check is a shell script
    /// that runs as the account.
    pub async fn check_can_enter(&self, dir: &Path) -> Result<(), Error> {
        if !self.switches {
            return Ok(());
        }
        let dir = std::path::absolute(dir).map_err(io_error("find", dir))?;
        let existing = dir
            .ancestors()
            .find_map(|dir| dir.canonicalize().ok())
            .unwrap_or_default();
        let mut path: Vec<&Path> = existing.ancestors().collect();
        path.reverse();
        let mut command = self.command(Path::new("/bin/sh"));
        command.args([
            "-c",
            r#"n=0; for d; do [ -x "$d" ] || exit $n; n=$((n + 1)); done; exit 255"#,
            "sh",
        ]);
        let shell = Path::new("/bin/sh");
        let output = output_of(command.args(&path))
            .await
            .map_err(io_error("run", shell))?;
        let closed = output.status.code().and_then(|n| usize::try_from(n).ok());
        let Some(&closed) = closed.and_then(|n| path.get(n)) else {
            return Ok(());
        };
        let metadata = closed.metadata().map_err(io_error("inspect", closed))?;
        Err(Error::Unreachable {
            dir: closed.to_path_buf(),
            mode: metadata.mode() & 0o7777,
            owner: metadata.uid(),
            user: self.name.clone(),
        })
    }

    /// Creates a directory that only this account may enter. If the directory exists, checks that it has this
    /// owner and mode. `mkdir` runs as the account, so that a symbolic link cannot lead root elsewhere.
    pub async fn create_private_dir(&self, dir: &Path) -> Result<(), Error> {
        let mut mkdir = self.command(Path::new("mkdir"));
        let output = output_of(mkdir.args(["-m", "700"]).arg(dir))
            .await
            .map_err(io_error("create", dir))?;
        let metadata = dir.symlink_metadata().map_err(|_| {
            let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            io_error("create", dir)(io::Error::other(reason))
        })?;
        if metadata.is_dir() && metadata.uid() == self.uid && metadata.mode() & 0o777 == 0o700 {
            return Ok(());
        }
        let problem = format!(
            "is not a directory that belongs to `{}` and has mode 0700",
            self.name
        );
        Err(Error::NotOurs {
            dir: dir.to_path_buf(),
            problem,
        })
    }
}

/// The user id (`-u`) or group id (`-g`) of an account. The program `id` searches every account database of
/// the system.
async fn id(flag: &str, account: &str) -> Option<u32> {
    let mut command = Command::new("id");
    command.args([flag, "--", account]).stdin(Stdio::null());
    let output = output_of(&mut command)
        .await
        .ok()
        .filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// Runs a short command until it exits, and returns its output.
pub(super) async fn output_of(command: &mut Command) -> io::Result<Output> {
    let command = std::mem::replace(command, Command::new(""));
    let mut command = tokio::process::Command::from(command);
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command.spawn()?.wait_with_output().await
}
