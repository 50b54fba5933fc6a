//! What the module's own tests share.
//!
//! The one rule: a directory goes with its test, passed or failed.

use std::{
    fs::{self, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use parking_lot::Mutex;

use super::{Options, discover::Places};

/// Everything that was logged since the first [`Scratch`]. A subscriber of one test would not do:
/// tracing may miss it for a line that another thread reaches for the first time just then.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

static LOGGING: LazyLock<()> = LazyLock::new(|| {
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(|| Log)
        .init();
});

struct Log;

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        LOG.lock().write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How often something was logged.
pub fn times_logged(what: &str) -> usize {
    let log = LOG.lock();
    String::from_utf8_lossy(&log).matches(what).count()
}

/// A directory of one test, which every account may enter.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        LazyLock::force(&LOGGING);
        let dir = std::env::temp_dir().join(format!("palisade-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        open_dir(&dir);
        Self(dir.canonicalize().unwrap())
    }

    /// Options that name only places in here.
    pub fn options(&self) -> Options {
        Options {
            data_dir: self.join("data"),
            durable: false,
            bin_dir: None,
            user: None,
            cache_dir: Some(self.join("cache")),
            archive_url: Some("file:///no-such-archive.tar.gz".to_owned()),
        }
    }

    /// A system whose places are all in here.
    pub fn places(&self) -> Places {
        Places {
            path: self.join("path").into(),
            pg_config: self.join("pg_config"),
            versioned: vec![(self.join("usr"), "postgresql-", "bin")],
            local: self.join("local"),
        }
    }
}

impl std::ops::Deref for Scratch {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Programs that can tell their version and nothing else.
pub fn programs(bin_dir: &Path, version: &str) {
    open_dir(bin_dir);
    for program in ["postgres", "initdb"] {
        script(
            &bin_dir.join(program),
            &format!("echo 'postgres (PostgreSQL) {version}'"),
        );
    }
}

/// A shell script that every account may run. Another process writes it: a program that a process
/// has open for writing cannot be run, and a child that another test starts inherits what is open.
pub fn script(path: &Path, text: &str) {
    let write = r#"printf '#!/bin/sh\n%s\n' "$1" > "$0" && chmod 755 "$0""#;
    let mut shell = Command::new("sh");
    shell.args(["-c", write]).arg(path).arg(text);
    assert!(shell.status().unwrap().success());
}

fn open_dir(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
}
