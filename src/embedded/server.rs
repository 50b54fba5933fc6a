//! A server that this process started: waits until it is ready, stops it, and reports its exit.
//!
//! The invariant: **the server stops when this process ends, and no signal reaches another process.** A
//! watchdog, a shell, reads a pipe. Only this process holds the write end of the pipe, so the watchdog notices
//! a `kill -9` too. Signals are sent only until the server's process is reaped. Until then, its process id
//! cannot belong to another process.

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
    time::{Instant, sleep, timeout},
};

use super::{
    account::Account,
    error::{Error, io_error},
    options::{POLL_INTERVAL, START_LIMIT, STOP_LIMIT},
    probe::{Probe, probe},
};

/// Waits for the end of its input, then requests a fast shutdown of the server. The input ends when the process
/// that holds the pipe ends. Ignores signals that a supervisor sends to the whole process group.
const WATCHDOG: &str = r#"trap '' HUP INT TERM; read -r _; kill -INT "$0""#;

/// A server that this process started. It does not depend on an async runtime, so a `static` may hold
/// it longer than any runtime.
#[derive(Debug)]
pub(super) struct Server {
    pid: Pid,
    state: Arc<Mutex<State>>,
    /// The exit status, once the server has exited.
    exit_status: watch::Receiver<Option<String>>,
    /// The watchdog waits until this pipe is closed. When this process ends, the operating system closes the
    /// pipe.
    _watchdog: ChildStdin,
}

#[derive(Debug, Default)]
struct State {
    /// Whether a shutdown was requested.
    stopping: bool,
    /// Whether the process was reaped, so that its id may belong to another process.
    reaped: bool,
}

impl Server {
    /// Starts the watchdog for a server that was just started.
    pub fn watch(mut child: Child, account: &Account) -> Result<Self, Error> {
        let pid = Pid::from_child(&child);
        let state = Arc::new(Mutex::new(State::default()));
        let (sender, exit_status) = watch::channel(None);
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
        let shared = Arc::clone(&state);
        // If this fails, the pipe is closed and the watchdog stops the server.
        thread::Builder::new()
            .name("postgres".to_owned())
            .spawn(move || reap(child, watchdog, &shared, &sender))
            .map_err(io_error("start a thread for", Path::new("postgres")))?;
        Ok(Self {
            pid,
            state,
            exit_status,
            _watchdog: pipe,
        })
    }

    /// Waits until the server accepts connections, and returns its version.
    pub async fn wait_until_ready(&self, socket_dir: &Path, log: &Path) -> Result<String, Error> {
        let limit = Instant::now() + START_LIMIT;
        loop {
            let probe = probe(socket_dir).await;
            if let Some(status) = self.exit_status.borrow().clone() {
                return Err(Error::Exited {
                    status,
                    log: log.to_path_buf(),
                    tail: tail(log),
                });
            }
            match probe {
                Probe::Ready(version) => return Ok(version),
                Probe::NotReady(reason) if Instant::now() > limit => {
                    return Err(Error::NotReady {
                        reason,
                        log: log.to_path_buf(),
                        tail: tail(log),
                    });
                }
                Probe::NotReady(_) => sleep(POLL_INTERVAL).await,
            }
        }
    }

    /// Stops the server: a fast shutdown, then an immediate one. Returns when the server has exited.
    pub async fn stop(self) -> Result<(), Error> {
        for signal in [Signal::INT, Signal::QUIT] {
            self.signal(signal);
            // The sender is dropped only after it has sent the exit status.
            let mut exit_status = self.exit_status.clone();
            let exited = exit_status.wait_for(Option::is_some);
            if timeout(STOP_LIMIT, exited).await.is_ok() {
                return Ok(());
            }
        }
        Err(Error::NotStopped(self.pid.as_raw_pid()))
    }

    /// Sends the server a signal that requests a shutdown, unless it has exited.
    fn signal(&self, signal: Signal) {
        let mut state = self.state.lock();
        state.stopping = true;
        if !state.reaped {
            let _ = kill_process(self.pid, signal);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal(Signal::INT);
    }
}

/// Waits until the server has exited, ends the watchdog, then reaps the server. Until the server is reaped, no
/// other process can have its process id, so the watchdog cannot signal another process.
fn reap(
    mut server: Child,
    mut watchdog: Child,
    state: &Mutex<State>,
    exit_status: &watch::Sender<Option<String>>,
) {
    let pid = Pid::from_child(&server);
    while let Err(Errno::INTR) = waitid(
        WaitId::Pid(pid),
        WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
    ) {}
    let _ = watchdog.kill();
    let _ = watchdog.wait();
    let mut state = state.lock();
    state.reaped = true;
    let status = server
        .wait()
        .map_or_else(|error| error.to_string(), |status| status.to_string());
    if !state.stopping {
        tracing::error!(
            "the private PostgreSQL (process {}) stopped unexpectedly: {status}",
            pid.as_raw_pid()
        );
    }
    drop(state);
    exit_status.send_replace(Some(status));
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
