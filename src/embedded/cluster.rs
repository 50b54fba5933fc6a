//! The cluster in a data directory: creates it, removes stale files of an earlier server, and starts
//! a server.
//!
//! The invariant: **the lock is passed on to the server.** The caller's lock proves that no other
//! server runs. Its descriptor becomes the standard input of `initdb` and of `postgres`, so the lock is
//! held for exactly as long as one of them, or one of their child processes, runs.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::Path,
};

use super::{
    account::output_of,
    data_dir::DataDir,
    error::{Error, io_error},
    lock::open_private,
    probe::socket_in,
    programs::{Programs, versions},
    server::Server,
};

/// A start empties the server's log if it has more bytes than this.
const LOG_LIMIT: u64 = 8 << 20;

impl DataDir {
    /// Starts a server and waits until it accepts connections. `lock` proves that no other server
    /// runs. Returns the server and the version that it reports.
    pub async fn launch(&self, lock: File, programs: &Programs) -> Result<(Server, String), Error> {
        let cluster = self.cluster(&programs.version);
        self.log_other_clusters(&cluster);
        self.account.create_private_dir(&self.socket_dir).await?;
        if cluster.exists() {
            reject_foreign_server(&cluster)?;
        } else {
            self.initdb(&lock, programs, &cluster).await?;
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
        let server = self.spawn(lock, &log, programs, &cluster)?;
        let version = server.wait_until_ready(&self.socket_dir, &log_path).await?;
        Ok((server, version))
    }

    fn log_other_clusters(&self, cluster: &Path) {
        for (_, other) in versions(&self.root, "pg", "") {
            if other != cluster {
                tracing::info!(
                    "{} is a cluster of another PostgreSQL version and is not used; \
                     the installed version uses {}",
                    other.display(),
                    cluster.display()
                );
            }
        }
    }

    /// Creates a cluster under another name and renames it: a cluster with the final name is complete.
    async fn initdb(&self, lock: &File, programs: &Programs, cluster: &Path) -> Result<(), Error> {
        let names = (0..10).map(|n| cluster.with_extension(format!("new{n}")));
        // An initdb that was killed leaves its directory. One of its child processes may still write there,
        // so a directory that cannot be removed is skipped.
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
        // initdb holds the lock until it exits, even if this process is killed.
        initdb.stdin(
            lock.try_clone()
                .map_err(io_error("share", &self.lock_path()))?,
        );
        let output = output_of(&mut initdb)
            .await
            .map_err(io_error("run", &program))?;
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
        postgres.arg(path_setting("unix_socket_directories", &self.socket_dir));
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
        // Closes this process's copy of the lock. From now on, only the server holds the lock.
        drop(postgres);
        Server::watch(child, &self.account)
    }
}

/// Fails if a server that was started by hand uses the cluster. Such a server does not hold the lock file,
/// but its `postmaster.pid` must not be removed. Without `/proc`, this function does not find the server, but
/// PostgreSQL checks the shared memory and then does not start.
fn reject_foreign_server(cluster: &Path) -> Result<(), Error> {
    let Ok(pid_file) = fs::read_to_string(cluster.join("postmaster.pid")) else {
        return Ok(());
    };
    let Some(pid) = pid_file
        .lines()
        .next()
        .and_then(|line| line.trim().parse::<i32>().ok())
    else {
        return Ok(());
    };
    if fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == cluster) {
        return Err(Error::ForeignServer {
            pid,
            cluster: cluster.to_path_buf(),
        });
    }
    Ok(())
}

/// The setting `name="path"`. Its value is a list, in which a quoted item may have any characters.
fn path_setting(name: &str, path: &Path) -> OsString {
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

    use super::path_setting;

    #[test]
    fn quotes_in_a_path_are_doubled() {
        assert_eq!(
            path_setting("name", Path::new("/a, \"b")),
            r#"name="/a, ""b""#
        );
    }
}
