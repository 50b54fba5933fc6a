//! The private PostgreSQL: started, attached to, killed and denied.
//!
//! A server must not outlive its owner nor meet another one in its cluster, so most tests end by
//! looking at the lock, which is free only when no process of a server is left.
//!
//! Each test has a runtime of its own, because a server must not depend on the runtime of another test.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs::{self, File, Permissions},
    future::Future,
    io::Write as _,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use futures_util::future::join_all;
use palisade::embedded::{self, Embedded, Error, Options, Origin};
use rustix::process::{Pid, Signal, geteuid, kill_process, test_kill_process};
use sqlx::{Connection as _, PgConnection};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child, ChildStdout},
    runtime::Runtime,
};

use crate::harness::{self, eventually};

const PALISADE: &str = env!("CARGO_BIN_EXE_palisade");

/// Runs a future on a new runtime.
fn run<T>(future: impl Future<Output = T>) -> T {
    Runtime::new().unwrap().block_on(future)
}

/// The directory of one test, which goes when the test has passed.
struct Scratch(PathBuf);

impl std::ops::Deref for Scratch {
    type Target = PathBuf;

    fn deref(&self) -> &PathBuf {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// An empty directory, which the server's account may enter.
async fn scratch(name: &str) -> Scratch {
    let dir = harness::scratch("embedded").await.join(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    Scratch(dir.canonicalize().unwrap())
}

fn options(data_dir: &Path) -> Options {
    Options {
        data_dir: data_dir.to_owned(),
        durable: false,
        bin_dir: None,
        user: None,
        cache_dir: None,
        archive_url: None,
    }
}

async fn start(data_dir: &Path) -> Embedded {
    Embedded::start(&options(data_dir)).await.unwrap()
}

async fn refused(data_dir: &Path) -> Error {
    Embedded::start(&options(data_dir)).await.unwrap_err()
}

/// The user and group that run the server for root; `None` for other callers.
fn account() -> Option<(u32, u32)> {
    let id = |which: &str, name: &str| {
        let output = Command::new("id").args([which, name]).output().unwrap();
        String::from_utf8(output.stdout)
            .unwrap()
            .trim()
            .parse()
            .ok()
    };
    let found = |name| Some((id("-u", name)?, id("-g", name)?));
    let is_root = geteuid().is_root();
    is_root.then(|| found("postgres").or_else(|| found("nobody")).unwrap())
}

fn bin_dir(server: &Embedded) -> PathBuf {
    match server.origin() {
        Origin::Installed(dir) | Origin::Downloaded(dir) => dir.clone(),
        Origin::Attached => panic!("attached"),
    }
}

/// One value, asked for as the superuser.
async fn ask(server: &Embedded, sql: &str) -> String {
    let url = server.url("postgres", "postgres");
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let answer = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
        .fetch_one(&mut connection)
        .await;
    connection.close().await.unwrap();
    answer.unwrap()
}

/// The same through `psql`, which reads URLs differently: the server's own, or the one on PATH where
/// a package of the server brings none.
fn psql(server: &Embedded, sql: &str) -> String {
    let beside = bin_dir(server).join("psql");
    let program = if beside.exists() {
        beside
    } else {
        "psql".into()
    };
    let output = Command::new(program)
        .args(["-X", "-At", "-c", sql, &server.url("postgres", "postgres")])
        .env("PGPORT", "1")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The directory `pg<major>` with an ending in a data directory, once it is there.
fn cluster_of(root: &Path, ending: &str) -> Option<PathBuf> {
    fs::read_dir(root)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            let major = name
                .strip_prefix("pg")
                .and_then(|name| name.strip_suffix(ending));
            major.is_some_and(|major| major.parse::<u32>().is_ok())
        })
}

fn postmaster(cluster: &Path) -> Pid {
    let text = fs::read_to_string(cluster.join("postmaster.pid")).unwrap();
    Pid::from_raw(text.lines().next().unwrap().parse().unwrap()).unwrap()
}

/// Ends a server that nobody else would, if the test fails.
struct EndIfFailed(Pid);

impl Drop for EndIfFailed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = kill_process(self.0, Signal::INT);
        }
    }
}

fn lock_is_free(root: &Path) -> bool {
    File::open(root.join("lock")).unwrap().try_lock().is_ok()
}

async fn the_server_is_gone(root: &Path) {
    eventually("the server's end", async || lock_is_free(root)).await;
}

/// A service in a process of its own, `palisade dev`.
struct Service {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Service {
    fn command(program: &Path, root: &Path) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PALISADE_") {
                command.env_remove(name);
            }
        }
        command
            .args(["dev", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(root);
        command
    }

    fn spawn(command: Command) -> Self {
        let mut command = tokio::process::Command::from(command);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    fn start(root: &Path) -> Self {
        Self::spawn(Self::command(Path::new(PALISADE), root))
    }

    /// The first line it prints, when it is ready.
    async fn greeting(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).await.unwrap();
        line
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().unwrap().try_into().unwrap()).unwrap()
    }

    async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// An orderly end.
    async fn stop(mut self) {
        kill_process(self.pid(), Signal::TERM).unwrap();
        self.output
            .read_to_string(&mut String::new())
            .await
            .unwrap();
        assert!(self.child.wait().await.unwrap().success());
    }
}

// ---- start and stop ----

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_start_serves_and_a_stop_leaves_nothing_running() {
    let dir = scratch("cold").await;
    let root = dir.join("data");
    let server = start(&root).await;
    assert!(!server.is_attached());
    let pid = postmaster(server.cluster_dir());
    let sql = "select concat_ws(' ', current_user, current_setting('fsync'),
                   current_setting('TimeZone'), current_setting('listen_addresses'),
                   pg_size_bytes(current_setting('wal_segment_size')))";
    assert_eq!(ask(&server, sql).await, "postgres off UTC  1048576");
    let version = ask(&server, "show server_version").await;
    assert_eq!(version.split(' ').next(), Some(server.version()));
    for dir in [&root, server.socket_dir(), server.cluster_dir()] {
        assert_eq!(
            dir.metadata().unwrap().mode() & 0o777,
            0o700,
            "{}",
            dir.display()
        );
    }
    assert!(!lock_is_free(&root));
    server.stop().await.unwrap();
    assert!(test_kill_process(pid).is_err(), "reaped");
    assert!(lock_is_free(&root));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_start_keeps_what_was_written() {
    let dir = scratch("warm").await;
    let root = dir.join("data");
    let durable = Options {
        durable: true,
        ..options(&root)
    };
    let server = Embedded::start(&durable).await.unwrap();
    psql(&server, "create table kept as select 42 as answer");
    server.stop().await.unwrap();

    let server = Embedded::start(&durable).await.unwrap();
    assert_eq!(ask(&server, "select answer::text from kept").await, "42");
    let safe = "select concat_ws(' ', current_setting('fsync'),
                    current_setting('full_page_writes'), current_setting('synchronous_commit'))";
    assert_eq!(ask(&server, safe).await, "on on on");
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_it_ends_the_server() {
    let dir = scratch("dropped").await;
    let root = dir.join("data");
    drop(start(&root).await);
    the_server_is_gone(&root).await;
}

#[test]
fn it_outlives_the_runtime_that_started_it() {
    let dir = run(scratch("runtime"));
    let root = dir.join("data");
    let server = run(start(&root));
    assert_eq!(run(ask(&server, "select 'here'")), "here");
    run(server.stop()).unwrap();
    assert!(lock_is_free(&root));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_start_shows_its_log() {
    let dir = scratch("broken").await;
    let root = dir.join("data");
    let server = start(&root).await;
    let cluster = server.cluster_dir().to_owned();
    server.stop().await.unwrap();
    fs::write(cluster.join("postgresql.conf"), "nonsense = on\n").unwrap();
    let error = refused(&root).await;
    assert!(matches!(error, Error::Exited { .. }), "{error:?}");
    assert!(error.to_string().contains("nonsense"), "{error}");
    assert!(lock_is_free(&root));
}

// ---- several at once ----

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_attaches_and_leaves_the_server_alone() {
    let dir = scratch("attach").await;
    let root = dir.join("data");
    let server = start(&root).await;
    let mut second = Service::start(&root);
    let greeting = second.greeting().await;
    let attached = format!(
        "{} attached to the server of another process",
        server.version()
    );
    assert!(greeting.contains(&attached), "{greeting}");
    second.stop().await;

    let third = start(&root).await;
    assert!(third.is_attached());
    assert_eq!(third.origin(), &Origin::Attached);
    assert_eq!(third.cluster_dir(), server.cluster_dir());
    assert_eq!(third.version(), server.version());
    third.stop().await.unwrap();
    assert_eq!(ask(&server, "select 'here'").await, "here");
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_five_cold_starts_at_once_one_starts_and_four_attach() {
    let dir = scratch("five").await;
    let root = dir.join("data");
    let servers = join_all((0..5).map(|_| start(&root))).await;
    assert_eq!(
        servers
            .iter()
            .filter(|server| !server.is_attached())
            .count(),
        1
    );
    for server in servers {
        server.stop().await.unwrap();
    }
    assert!(lock_is_free(&root));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_started_by_hand_is_left_alone() {
    let dir = scratch("by-hand").await;
    let root = dir.join("data");
    let server = start(&root).await;
    let (bin_dir, cluster) = (bin_dir(&server), server.cluster_dir().to_owned());
    server.stop().await.unwrap();
    let owner = root.metadata().unwrap();
    let pg_ctl = |verb: &str| {
        let mut command = Command::new(bin_dir.join("pg_ctl"));
        command.args([verb, "-w", "-m", "fast", "-D"]).arg(&cluster);
        let options = format!("-c listen_addresses= -k '{}'", root.display());
        command
            .args(["-l", "/dev/null", "-o", &options])
            .current_dir("/");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if geteuid().is_root() {
            command.uid(owner.uid()).gid(owner.gid());
        }
        assert!(command.status().unwrap().success(), "pg_ctl {verb}");
    };
    pg_ctl("start");
    let by_hand = postmaster(&cluster);
    let _guard = EndIfFailed(by_hand);
    let error = refused(&root).await;
    assert_eq!(postmaster(&cluster), by_hand);
    pg_ctl("stop");
    assert!(
        matches!(error, Error::ForeignServer { pid, .. } if pid == by_hand.as_raw_pid()),
        "{error:?}"
    );
    start(&root).await.stop().await.unwrap();
}

// ---- after a kill ----

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_service_takes_its_server_along() {
    let dir = scratch("killed").await;
    let root = dir.join("data");
    let mut service = Service::start(&root);
    let greeting = service.greeting().await;
    assert!(greeting.contains(" started, "), "{greeting}");
    let _guard = EndIfFailed(postmaster(&cluster_of(&root, "").unwrap()));
    service.kill().await;
    the_server_is_gone(&root).await;
    let log = fs::read_to_string(root.join("postgres.log")).unwrap();
    assert!(
        log.contains("database system is shut down"),
        "an orderly shutdown:\n{log}"
    );
    start(&root).await.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_of_both_leaves_is_cleared_away() {
    let dir = scratch("crash").await;
    let root = dir.join("data");
    let mut service = Service::start(&root);
    service.greeting().await;
    let cluster = cluster_of(&root, "").unwrap();
    kill_process(postmaster(&cluster), Signal::KILL).unwrap();
    service.kill().await;
    let stale = [
        cluster.join("postmaster.pid"),
        root.join("s/.s.PGSQL.5432.lock"),
    ];
    assert!(stale.iter().all(|file| file.exists()));
    let server = start(&root).await;
    assert!(!server.is_attached());
    server.stop().await.unwrap();

    // The same with the number of a process that lives, of the same account.
    let owner = root.metadata().unwrap();
    let mut stranger = Command::new("sleep");
    stranger.arg("60");
    if geteuid().is_root() {
        stranger.uid(owner.uid()).gid(owner.gid());
    }
    let mut stranger = stranger.spawn().unwrap();
    for file in &stale {
        fs::write(file, format!("{}\n{}\n", stranger.id(), cluster.display())).unwrap();
        chown(file, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    let server = Embedded::start(&options(&root)).await;
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    server.unwrap().stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_made_cluster_is_started_over() {
    let dir = scratch("half").await;
    let root = dir.join("data");
    let service = Service::start(&root);
    eventually("initdb's first files", async || {
        cluster_of(&root, ".new0").is_some_and(|half| half.join("PG_VERSION").exists())
    })
    .await;
    service.kill().await;
    assert_eq!(cluster_of(&root, ""), None, "initdb was not done");
    let server = start(&root).await;
    assert!(!server.is_attached());
    let entries = fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut left: Vec<_> = entries.collect();
    left.sort();
    let cluster = server.cluster_dir().to_owned();
    assert_eq!(
        left,
        [
            root.join("lock"),
            cluster,
            root.join("postgres.log"),
            root.join("s")
        ]
    );
    server.stop().await.unwrap();
}

// ---- programs, directories and accounts ----

#[tokio::test(flavor = "multi_thread")]
async fn a_given_directory_without_programs_is_named() {
    let dir = scratch("no-programs").await;
    let given = Options {
        bin_dir: Some(dir.to_path_buf()),
        ..options(&dir.join("data"))
    };
    let error = Embedded::start(&given).await.unwrap_err();
    assert!(matches!(error, Error::BinDir { .. }), "{error:?}");
    let text = error.to_string();
    let named = text.contains(&dir.display().to_string()) && text.contains("no `postgres`");
    assert!(named, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_with_other_content_is_refused_untouched() {
    let root = scratch("not-ours").await;
    File::create(root.join("precious"))
        .unwrap()
        .write_all(b"x")
        .unwrap();
    let before = root.metadata().unwrap();
    let error = refused(&root).await;
    assert!(matches!(error, Error::NotOurs { .. }), "{error:?}");
    let after = root.metadata().unwrap();
    assert_eq!((before.uid(), before.mode()), (after.uid(), after.mode()));
    assert_eq!(root.read_dir().unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_cannot_be_entered_is_named() {
    let dir = scratch("closed").await;
    let closed = dir.join("closed");
    fs::create_dir(&closed).unwrap();
    // Closed to the owner, too, unless that is root.
    let mode = if geteuid().is_root() { 0o700 } else { 0 };
    fs::set_permissions(&closed, Permissions::from_mode(mode)).unwrap();
    let root = closed.join("data");
    let reachable = embedded::check_reachable(&root, None).await;
    let error = refused(&root).await;
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
    let text = error.to_string();
    assert!(text.contains(&closed.display().to_string()), "{text}");
    if geteuid().is_root() {
        assert!(
            matches!(error, Error::Unreachable { dir, .. } if dir == closed),
            "{text}"
        );
        assert!(text.contains("mode 0700, owner 0"), "{text}");
        assert!(reachable.is_err());
    } else {
        assert!(matches!(error, Error::Io { .. }), "{text}");
    }
    assert!(!root.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn root_runs_it_as_another_account_and_everyone_else_as_themselves() {
    let dir = scratch("accounts").await;
    let as_user = |user: &str, name: &str| Options {
        user: Some(user.to_owned()),
        ..options(&dir.join(name))
    };
    let server = Embedded::start(&as_user("nobody", "nobody")).await.unwrap();
    let owner = server.cluster_dir().metadata().unwrap().uid();
    server.stop().await.unwrap();
    if !geteuid().is_root() {
        assert_eq!(owner, geteuid().as_raw());
        return;
    }
    assert_ne!(owner, 0);
    for user in ["root", "no-such-account", "65534"] {
        let error = Embedded::start(&as_user(user, "wrong")).await.unwrap_err();
        assert!(matches!(error, Error::NoAccount(_)), "{user}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_user_needs_no_help() {
    let dir = scratch("ordinary").await;
    // The build directory may be closed to the account. A copy of another process's making: a
    // program that is open for writing anywhere, as in a child of another test, cannot be run.
    let program = dir.join("palisade");
    assert!(
        Command::new("cp")
            .arg(PALISADE)
            .arg(&program)
            .status()
            .unwrap()
            .success()
    );
    let root = dir.join("new/data");
    let mut command = Service::command(&program, &root);
    command.current_dir("/").env("HOME", &*dir);
    if let Some((uid, gid)) = account() {
        chown(&*dir, Some(uid), Some(gid)).unwrap();
        command.uid(uid).gid(gid);
    }
    let mut service = Service::spawn(command);
    let greeting = service.greeting().await;
    assert!(greeting.contains(" started, "), "{greeting}");
    service.stop().await;
    fs::remove_file(program).unwrap();
    assert!(lock_is_free(&root));
}

// ---- paths ----

/// What a server put into the system's temporary directory for want of a short path.
struct SocketDir(PathBuf);

impl Drop for SocketDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_path_gets_a_short_socket() {
    let dir = scratch("long").await;
    let root = dir.join("x".repeat(110));
    let server = start(&root).await;
    let SocketDir(socket_dir) = &SocketDir(server.socket_dir().to_owned());
    assert!(socket_dir.starts_with("/tmp"), "{}", socket_dir.display());
    assert_eq!(ask(&server, "select 'here'").await, "here");
    assert!(start(&root).await.is_attached());
    server.stop().await.unwrap();

    fs::set_permissions(socket_dir, Permissions::from_mode(0o755)).unwrap();
    let error = refused(&root).await;
    assert!(
        matches!(&error, Error::NotOurs { dir, .. } if dir == socket_dir),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_may_hold_anything() {
    let dir = scratch("odd").await;
    // A client splits the list of hosts at the comma.
    let server = start(&dir.join(r#"a b,"c"='%é"#)).await;
    let SocketDir(socket_dir) = &SocketDir(server.socket_dir().to_owned());
    assert!(socket_dir.starts_with("/tmp"), "{}", socket_dir.display());
    assert_eq!(psql(&server, "select 'here'"), "here");
    server.stop().await.unwrap();

    let root = dir.join(r#"a b"c"='%é"#);
    let server = start(&root).await;
    assert_eq!(server.socket_dir(), root.join("s"));
    assert_eq!(psql(&server, "select 'here'"), "here");
    assert_eq!(ask(&server, "select 'here'").await, "here");
    server.stop().await.unwrap();
}
