//! Who runs the server, what it is given, and where it may go.
//!
//! The one rule: **nothing of Postgres runs as root.** For root every program runs as an account
//! without rights of its own, and what that account may enter is asked of the system as that
//! account, not guessed from permission bits.

use std::{
    env, io,
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::Path,
    process::{Command, Output, Stdio},
};

use rustix::process::{getegid, geteuid};

use super::error::{Error, io_error};

/// Who runs the server.
#[derive(Debug)]
pub(super) struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    /// Whether the caller is root and has to become this account.
    pub changed: bool,
}

impl Account {
    pub async fn find(wanted: Option<&str>) -> Result<Self, Error> {
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
        if self.changed {
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// Whether this account may enter each existing directory on the way to `dir`, asked of the
    /// system as that account.
    pub async fn can_enter(&self, dir: &Path) -> Result<(), Error> {
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
    pub async fn private_dir(&self, dir: &Path) -> Result<(), Error> {
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
pub(super) async fn run(command: &mut Command) -> io::Result<Output> {
    let command = std::mem::replace(command, Command::new(""));
    let mut command = tokio::process::Command::from(command);
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command.spawn()?.wait_with_output().await
}
