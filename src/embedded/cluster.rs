//! The cluster in a data directory: made, cleared of what an earlier server left, and served.
//!
//! The one rule: **the lock goes to the server.** It arrives here with the proof that no other
//! server lives, and is the standard input of `initdb` and of `postgres`, so that it stays taken
//! for exactly as long as one of them, or a child of theirs, runs.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::Path,
};

use super::{
    Embedded,
    account::run,
    discover::{Programs, versions},
    error::{Error, io_error},
    handshake::socket_in,
    place::{Place, open_private},
    watchdog::Server,
};

/// The server's log is emptied at a start that finds it longer than this many bytes.
const LOG_LIMIT: u64 = 8 << 20;

impl Place {
    /// Starts a server; `lock` proves that there is none.
    pub async fn launch(self, lock: File, programs: Programs) -> Result<Embedded, Error> {
        let cluster = self.cluster(&programs.version);
        self.report_other_majors(&cluster);
        self.account.private_dir(&self.socket_dir).await?;
        if cluster.exists() {
            refuse_foreign(&cluster)?;
        } else {
            self.initdb(&lock, &programs, &cluster).await?;
        }
        let socket = socket_in(&self.socket_dir);
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
        Ok(Embedded {
            socket_dir: self.socket_dir,
            cluster,
            version,
            origin: programs.origin,
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
            "max_connections=200",
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::setting_of_path;

    #[test]
    fn a_quoted_setting_keeps_its_quotes() {
        assert_eq!(
            setting_of_path("name", Path::new("/a, \"b")),
            r#"name="/a, ""b""#
        );
    }
}
