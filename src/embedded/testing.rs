//! Fixtures of the module's own tests.
//!
//! The invariant: a test removes its directory, whether it passes or fails.

use std::{
    fs::{self, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use parking_lot::Mutex;

use super::{Options, discover::SearchLocations};

/// The log of all tests since the first [`ScratchDir`]. One subscriber per test would not be reliable: if the
/// thread of another test is the first to reach a log statement, tracing may skip the subscriber for that
/// statement.
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

/// How many times a string was logged.
pub fn times_logged(string: &str) -> usize {
    let log = LOG.lock();
    String::from_utf8_lossy(&log).matches(string).count()
}

/// The directory of one test. Every account may enter it.
pub struct ScratchDir(PathBuf);

impl ScratchDir {
    pub fn new(name: &str) -> Self {
        LazyLock::force(&LOGGING);
        let dir = std::env::temp_dir().join(format!("palisade-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        open_dir(&dir);
        Self(dir.canonicalize().unwrap())
    }

    /// Options whose paths are all in this directory.
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

    /// Search locations that are all in this directory.
    pub fn locations(&self) -> SearchLocations {
        SearchLocations {
            path: self.join("path").into(),
            pg_config: self.join("pg_config"),
            versioned: vec![(self.join("usr"), "postgresql-", "bin")],
            local: self.join("local"),
        }
    }
}

impl std::ops::Deref for ScratchDir {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Creates programs that print a version and do nothing else.
pub fn programs(bin_dir: &Path, version: &str) {
    open_dir(bin_dir);
    for program in ["postgres", "initdb"] {
        script(
            &bin_dir.join(program),
            &format!("echo 'postgres (PostgreSQL) {version}'"),
        );
    }
}

/// Creates a shell script that every account may run. A child process writes the script: a program cannot run
/// while a process has its file open for writing, and a child process of another test would inherit a
/// descriptor of this process.
pub fn script(path: &Path, body: &str) {
    let write = r#"printf '#!/bin/sh\n%s\n' "$1" > "$0" && chmod 755 "$0""#;
    let mut shell = Command::new("sh");
    shell.args(["-c", write]).arg(path).arg(body);
    assert!(shell.status().unwrap().success());
}

fn open_dir(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
}
