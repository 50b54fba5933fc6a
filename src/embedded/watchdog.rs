//! A server that this process started, from its first answer to its end.
//!
//! The one rule: **it ends with this process, and no signal reaches a stranger.** A shell reads a
//! pipe of which only this process holds the write end, so the system itself reports a `kill -9`;
//! and whoever signals a process id does so before that process is reaped.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
    process::{Child, ChildStdin, Stdio},
    sync::Arc,
    thread,
};

use parking_lot::Mutex;
use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    POLL, START_LIMIT,
    account::Account,
    error::{Error, io_error},
    handshake::{Answer, ask},
};

/// Waits for the end of its input, which is the end of the process that holds the pipe, then asks
/// the server for a fast shutdown. Deaf to what a supervisor sends to a whole group of processes.
const WATCHDOG: &str = r#"trap '' HUP INT TERM; read -r _; kill -INT "$0""#;

/// A server that this process started. Not tied to a runtime: it may be kept in a `static` that
/// outlives many.
#[derive(Debug)]
pub(super) struct Server {
    pub pid: Pid,
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
    pub fn watch(mut child: Child, account: &Account) -> Result<Self, Error> {
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
    pub async fn ready(&self, socket_dir: &Path, log: &Path) -> Result<String, Error> {
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
    pub fn end(&self, signal: Signal) {
        let mut life = self.life.lock();
        life.ending = true;
        if !life.reaped {
            let _ = kill_process(self.pid, signal);
        }
    }

    pub async fn ended(&self) {
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
    let mut life = life.lock();
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
