//! The command as people and supervisors run it: the built binary, its output, its exit codes.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use palisade::db::embedded::{self, Embedded};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader},
    process::{Child, Command},
    sync::OnceCell,
    task::JoinHandle,
};
use uuid::Uuid;

use crate::harness::{self, SECRET, create_database, eventually, run};

/// No command takes longer, even on a busy machine.
const LIMIT: Duration = Duration::from_mins(1);

/// The binary, with nothing of the environment that could configure it.
pub fn palisade(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_palisade"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("PALISADE_") || name.starts_with("PG") || name == "DATABASE_URL" {
            command.env_remove(&*name);
        }
    }
    command.kill_on_drop(true);
    command
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Exactly one line on standard error, which is the command's own.
    pub fn line(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        self.stderr
            .trim_end_matches('\n')
            .strip_prefix("palisade: ")
            .unwrap_or_else(|| panic!("{self:?}"))
    }

    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

pub async fn end_of(mut command: Command) -> Ended {
    let output = command.spawn().unwrap().wait_with_output();
    tokio::time::timeout(LIMIT, output)
        .await
        .expect("the command never ended")
        .unwrap()
        .into()
}

async fn run_command(arguments: &[&str]) -> Ended {
    end_of(palisade(arguments)).await
}

/// A running `dev` or `serve`.
struct Running {
    child: Child,
    stdout: JoinHandle<String>,
    stderr: JoinHandle<String>,
    /// The lines of standard output up to the one that was waited for.
    greeting: String,
}

/// Reads on, so that the process never waits for its reader.
fn collect(mut from: impl AsyncRead + Unpin + Send + 'static) -> JoinHandle<String> {
    tokio::spawn(async move {
        let mut text = String::new();
        from.read_to_string(&mut text).await.unwrap();
        text
    })
}

impl Running {
    /// `dev` in a directory, once it has said where its API is.
    async fn dev(dir: &Path, change: impl FnOnce(&mut Command)) -> Self {
        let dir = dir.to_str().unwrap();
        let mut command = palisade(&["dev", "--data-dir", dir, "--listen", "127.0.0.1:0"]);
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let stderr = collect(child.stderr.take().unwrap());
        let mut greeting = String::new();
        let greeted = tokio::time::timeout(LIMIT, async {
            while !greeting.lines().any(|line| line.starts_with("API ")) {
                if lines.read_line(&mut greeting).await.unwrap() == 0 {
                    return false;
                }
            }
            true
        });
        let ready = greeted.await.expect("dev never got ready");
        assert!(ready, "dev ended: {greeting}");
        Self {
            child,
            stdout: collect(lines),
            stderr,
            greeting,
        }
    }

    /// `serve`, once it says that it listens; with the address of its API.
    async fn serve(mut command: Command) -> (Self, String) {
        let mut child = command.spawn().unwrap();
        let stdout = collect(child.stdout.take().unwrap());
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut greeting = String::new();
        let listens = tokio::time::timeout(LIMIT, async {
            while !greeting.contains("listening on ") {
                assert_ne!(
                    lines.read_line(&mut greeting).await.unwrap(),
                    0,
                    "{greeting}"
                );
            }
        });
        listens.await.expect("serve never got ready");
        let url = greeting
            .split("listening on ")
            .nth(1)
            .unwrap()
            .trim()
            .to_owned();
        let stderr = collect(lines);
        (
            Self {
                child,
                stdout,
                stderr,
                greeting,
            },
            url,
        )
    }

    /// What follows a word at the start of a line of the greeting.
    fn said(&self, word: &str) -> Vec<&str> {
        let lines = self.greeting.lines();
        lines
            .filter_map(|line| line.strip_prefix(word))
            .map(str::trim)
            .collect()
    }

    fn api(&self) -> String {
        self.said("API ")[0].to_owned()
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it ended already").to_string();
        let sent = std::process::Command::new("kill")
            .args([name, &pid])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Waits for the end; answers the exit code and everything that was printed.
    async fn end(mut self) -> (Option<i32>, String) {
        let status = tokio::time::timeout(LIMIT, self.child.wait()).await;
        let status = status.expect("it never ended").unwrap();
        let printed = [
            self.greeting,
            self.stdout.await.unwrap(),
            self.stderr.await.unwrap(),
        ];
        (status.code(), printed.concat())
    }

    async fn terminate(self) -> String {
        self.signal("-TERM");
        let (code, printed) = self.end().await;
        assert_eq!(code, Some(0), "{printed}");
        assert!(!printed.contains("panicked"), "{printed}");
        printed
    }
}

/// A new directory for one test; removed when the test has passed.
async fn new_dir() -> PathBuf {
    harness::scratch(&format!("cli-{}", Uuid::now_v7().simple())).await
}

fn remove(dir: &Path) {
    std::fs::remove_dir_all(dir).unwrap();
}

/// The variables of `dev.env`, as a shell reads them.
async fn sourced(dir: &Path) -> Vec<(String, String)> {
    let script = "set -a; . \"$1\"; env -0";
    let file = dir.join("dev.env");
    let output = Command::new("sh")
        .args([
            OsStr::new("-euc"),
            OsStr::new(script),
            OsStr::new("sh"),
            file.as_os_str(),
        ])
        .env_clear()
        .output()
        .await
        .unwrap();
    let ended = Ended::from(output).ok();
    let lines = ended.split('\0').filter_map(|line| line.split_once('='));
    let mut variables: Vec<(String, String)> = lines
        .filter(|(name, _)| name.starts_with("PALISADE_"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    variables.sort();
    variables
}

async fn ask(url: &str, token: &str, document: &str) -> Value {
    let request = reqwest::Client::new().post(url).bearer_auth(token);
    let response = request
        .json(&json!({ "query": document }))
        .send()
        .await
        .unwrap();
    response.json().await.unwrap()
}

/// Whether a process with the data directory in its command line still runs.
fn postgres_runs(dir: &Path) -> bool {
    let listed = std::process::Command::new("ps")
        .args(["-eo", "args"])
        .output()
        .unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let dir = dir.to_str().unwrap();
    listed
        .lines()
        .any(|line| line.contains("postgres") && line.contains(dir) && line.contains("-D"))
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "one life of a data directory, from first start to kill -9"
)]
fn dev_serves_keeps_its_data_and_takes_its_database_with_it() {
    run(async {
        let dir = new_dir().await;
        let first = Running::dev(&dir, |command| {
            command.env(
                "DATABASE_URL",
                "postgres://nobody:hunter2secret@127.0.0.1:1/nothing",
            );
        })
        .await;
        assert!(
            first
                .greeting
                .contains("DATABASE_URL is set; dev does not use it")
        );
        let tokens: Vec<String> = first
            .said("token ")
            .iter()
            .map(|t| (*t).to_owned())
            .collect();
        assert!(tokens.len() >= 2, "{}", first.greeting);
        let mut slugs = Vec::new();
        for token in &tokens {
            let answer = ask(
                &first.api(),
                token,
                "{ tenant { slug } projects { totalCount } }",
            )
            .await;
            assert!(
                answer["data"]["projects"]["totalCount"].as_i64() > Some(0),
                "{answer}"
            );
            slugs.push(
                answer["data"]["tenant"]["slug"]
                    .as_str()
                    .unwrap()
                    .to_owned(),
            );
        }
        assert_ne!(slugs[0], slugs[1]);

        let variables = sourced(&dir).await;
        let names: Vec<&str> = variables.iter().map(|(name, _)| name.as_str()).collect();
        for expected in [
            "PALISADE_ADMIN_DATABASE_URL",
            "PALISADE_APP_DATABASE_URL",
            "PALISADE_AUTH_DATABASE_URL",
            "PALISADE_EXPLORER_URL",
            "PALISADE_GRAPHQL_URL",
            "PALISADE_JWT_SECRET",
            "PALISADE_OWNER_DATABASE_URL",
            "PALISADE_TENANT_A",
            "PALISADE_TENANT_B",
            "PALISADE_TOKEN_A",
            "PALISADE_TOKEN_B",
        ] {
            assert!(names.contains(&expected), "{expected}: {names:?}");
        }
        // A third demo tenant has a letter, too; there is nothing else.
        assert_eq!(names.len(), 9 - 2 + 2 * tokens.len(), "{names:?}");
        let value = |name: &str| &variables.iter().find(|(known, _)| known == name).unwrap().1;
        assert_eq!(value("PALISADE_GRAPHQL_URL"), &first.api());
        assert_eq!(value("PALISADE_TOKEN_A"), &tokens[0]);
        let page = reqwest::get(value("PALISADE_EXPLORER_URL")).await.unwrap();
        assert_eq!(page.status().as_u16(), 200);
        for role in ["app", "owner", "auth", "admin"] {
            let url = value(&format!("PALISADE_{}_DATABASE_URL", role.to_uppercase()));
            let select = "select session_user";
            let output = Command::new("psql")
                .args(["-XAtqc", select, url])
                .output()
                .await
                .unwrap();
            assert_eq!(Ended::from(output).ok().trim(), format!("palisade_{role}"));
        }
        let secret = value("PALISADE_JWT_SECRET").clone();
        for private in ["dev.env", "jwt.secret"] {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(dir.join(private))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{private}");
        }

        // A token is to be had while dev runs.
        let dir_text = dir.to_str().unwrap();
        let email = format!("olivia@{}.example", slugs[0]);
        let token_of = [
            "token",
            "--data-dir",
            dir_text,
            "--tenant",
            &slugs[0],
            "--user",
            &email,
        ];
        let token = run_command(&token_of).await.ok();
        let token = token.lines().last().unwrap();
        let answer = ask(&first.api(), token, "{ viewer { role } }").await;
        assert_eq!(answer["data"], json!({ "viewer": { "role": "OWNER" } }));

        let verify = ["audit", "verify", "--data-dir", dir_text, "--tenant"];
        let log = run_command(&[&verify[..], &[slugs[0].as_str()]].concat()).await;
        assert!(log.ok().contains("not yet sealed 0"));

        // A second service attaches, and outlives neither its own end nor that of the first.
        let second = Running::dev(&dir, |_| {}).await;
        assert!(second.greeting.contains("attached"), "{}", second.greeting);
        for api in [first.api(), second.api()] {
            let answer = ask(&api, &tokens[1], "{ tenant { slug } }").await;
            assert_eq!(answer["data"]["tenant"]["slug"], slugs[1]);
        }
        let mut printed = second.terminate().await;
        let answer = ask(&first.api(), &tokens[1], "{ tenant { slug } }").await;
        assert_eq!(answer["data"]["tenant"]["slug"], slugs[1]);

        // Something that only this cluster holds, to find it again.
        let mut owner = PgConnection::connect(value("PALISADE_OWNER_DATABASE_URL"))
            .await
            .unwrap();
        sqlx::query("create table kept (n integer)")
            .execute(&mut owner)
            .await
            .unwrap();
        drop(owner);
        assert!(postgres_runs(&dir));
        printed += &first.terminate().await;
        assert!(!postgres_runs(&dir));

        // Also while it does not.
        let token = run_command(&token_of).await.ok();
        let token = token.lines().last().unwrap().to_owned();
        assert!(!postgres_runs(&dir));

        let started = Instant::now();
        let third = Running::dev(&dir, |_| {}).await;
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "{:?}",
            started.elapsed()
        );
        for token in [&token, &tokens[0]] {
            let answer = ask(&third.api(), token, "{ tenant { slug } }").await;
            assert_eq!(answer["data"]["tenant"]["slug"], slugs[0]);
        }
        let variables = sourced(&dir).await;
        let url = |name| &variables.iter().find(|(known, _)| known == name).unwrap().1;
        let mut owner = PgConnection::connect(url("PALISADE_OWNER_DATABASE_URL"))
            .await
            .unwrap();
        let kept: i64 = sqlx::query_scalar("select count(*) from kept")
            .fetch_one(&mut owner)
            .await
            .unwrap();
        assert_eq!(kept, 0);
        drop(owner);

        // After kill -9 the database ends by itself, and the next start finds everything.
        third.signal("-KILL");
        let killed = Instant::now();
        printed += &third.end().await.1;
        eventually("PostgreSQL ended", async || !postgres_runs(&dir)).await;
        assert!(
            killed.elapsed() < Duration::from_secs(5),
            "{:?}",
            killed.elapsed()
        );
        let fourth = Running::dev(&dir, |_| {}).await;
        let answer = ask(&fourth.api(), &tokens[0], "{ tenant { slug } }").await;
        assert_eq!(answer["data"]["tenant"]["slug"], slugs[0]);
        printed += &fourth.terminate().await;

        assert!(!printed.contains(&secret), "the token secret was printed");
        assert!(
            !printed.contains("hunter2secret"),
            "the password of DATABASE_URL was printed"
        );
        remove(&dir);
    });
}

// Commands over a cluster of their own

/// One cluster for the tests of commands. Its roles may be narrowed and widened without harm to the
/// service of the other modules.
static CLUSTER: OnceCell<Embedded> = OnceCell::const_new();

async fn start(dir: PathBuf) -> Embedded {
    Embedded::start(&embedded::Options {
        data_dir: dir,
        durable: false,
        bin_dir: None,
        user: None,
        cache_dir: None,
        archive_url: None,
    })
    .await
    .unwrap()
}

async fn cluster() -> &'static Embedded {
    CLUSTER
        .get_or_init(async || start(harness::scratch("postgres-of-commands").await).await)
        .await
}

/// A new, empty database, and how to reach it.
struct Database {
    name: String,
    cluster: &'static Embedded,
}

impl Database {
    async fn empty() -> Self {
        let cluster = cluster().await;
        let name = format!("palisade_test_{}", Uuid::now_v7().simple());
        let url = cluster.url("postgres", "postgres");
        let mut postgres = PgConnection::connect(&url).await.unwrap();
        create_database(&mut postgres, &name).await;
        Self { name, cluster }
    }

    async fn migrated() -> Self {
        let database = Self::empty().await;
        database.migrate("postgres").await.ok();
        database
    }

    fn url(&self, role: &str) -> String {
        self.cluster.url(role, &self.name)
    }

    async fn migrate(&self, role: &str) -> Ended {
        run_command(&["migrate", "--database-url", &self.url(role)]).await
    }

    async fn execute(&self, sql: &str) {
        use sqlx::Executor as _;

        let mut postgres = PgConnection::connect(&self.url("postgres")).await.unwrap();
        postgres
            .execute(sqlx::AssertSqlSafe(sql.to_owned()))
            .await
            .unwrap();
    }

    async fn serve(&self, role: &str) -> Ended {
        end_of(serve_command(&self.url(role))).await
    }

    async fn drop(self) {
        let url = self.cluster.url("postgres", "postgres");
        let mut postgres = PgConnection::connect(&url).await.unwrap();
        let sql = format!("drop database {} with (force)", self.name);
        sqlx::query(sqlx::AssertSqlSafe(sql))
            .execute(&mut postgres)
            .await
            .unwrap();
    }
}

fn serve_command(url: &str) -> Command {
    let mut command = palisade(&["serve", "--listen", "127.0.0.1:0", "--database-url", url]);
    command.env("PALISADE_JWT_SECRET", SECRET);
    command
}

#[test]
fn migrating_again_or_at_the_same_time_changes_nothing() {
    run(async {
        let database = Database::empty().await;
        let (a, b, c, d) = tokio::join!(
            database.migrate("postgres"),
            database.migrate("postgres"),
            database.migrate("postgres"),
            database.migrate("postgres"),
        );
        let mut applied: Vec<usize> = Vec::new();
        for ended in [a, b, c, d] {
            let said = ended.ok();
            let words: Vec<&str> = said.split_whitespace().collect();
            assert_eq!(&words[1..4], ["migrations", "applied,", words[3]], "{said}");
            applied.push(words[0].parse().unwrap());
        }
        applied.sort_unstable();
        assert!(applied[..3] == [0, 0, 0] && applied[3] > 0, "{applied:?}");
        for role in ["postgres", "palisade_owner"] {
            let said = database.migrate(role).await.ok();
            assert!(said.starts_with("0 migrations applied, "), "{said}");
        }
        database.drop().await;
    });
}

#[test]
fn databases_of_one_cluster_are_migrated_at_the_same_time() {
    run(async {
        // The roles are the cluster's, and no lock of a database keeps these runs apart.
        let databases = join_all((0..6).map(|_| Database::empty())).await;
        for ended in join_all(databases.iter().map(|one| one.migrate("postgres"))).await {
            let said = ended.ok();
            assert!(!said.starts_with("0 "), "{said}");
        }
        for database in databases {
            database.drop().await;
        }
    });
}

#[test]
fn the_owner_migrates_what_a_superuser_prepared_and_nobody_else_does() {
    run(async {
        let database = Database::migrated().await;
        for role in ["palisade_app", "palisade_auth", "palisade_admin"] {
            let ended = database.migrate(role).await;
            assert_eq!(
                ended.line(1),
                format!(
                    "the role {role} can create neither roles nor the schema: run `palisade migrate` \
                     as a superuser or as palisade_owner"
                )
            );
        }
        // All of it again, by the owner alone.
        database
            .execute("drop schema public cascade; drop schema app cascade; create schema public authorization palisade_owner")
            .await;
        let said = database.migrate("palisade_owner").await.ok();
        assert!(!said.starts_with("0 "), "{said}");
        database.drop().await;
    });
}

#[test]
fn migrating_narrows_a_role_that_was_widened() {
    run(async {
        // Of its own: meanwhile the role would see past every policy of the cluster.
        let dir = new_dir().await;
        let server = start(dir.clone()).await;
        let url = server.url("postgres", "postgres");
        run_command(&["migrate", "--database-url", &url]).await.ok();
        let mut postgres = PgConnection::connect(&url).await.unwrap();
        sqlx::query("alter role palisade_app bypassrls createrole createdb")
            .execute(&mut postgres)
            .await
            .unwrap();
        let app = server.url("palisade_app", "postgres");
        let refused = end_of(serve_command(&app)).await;
        assert_eq!(
            refused.line(1),
            "the role palisade_app has BYPASSRLS: connect as palisade_app, which does not bypass row level security"
        );
        run_command(&["migrate", "--database-url", &url]).await.ok();
        let narrowed: bool = sqlx::query_scalar(
            "select not (rolbypassrls or rolcreaterole or rolcreatedb or rolsuper)
             from pg_roles where rolname = 'palisade_app'",
        )
        .fetch_one(&mut postgres)
        .await
        .unwrap();
        assert!(narrowed);
        let (serving, _) = Running::serve(serve_command(&app)).await;
        serving.terminate().await;
        drop(postgres);
        server.stop().await.unwrap();
        remove(&dir);
    });
}

#[test]
fn serve_refuses_every_role_that_row_level_security_does_not_bind() {
    run(async {
        let database = Database::migrated().await;
        let mark = Uuid::now_v7().simple();
        let name = |kind: &str| format!("t_{kind}_{mark}");
        let (bypass, owner, member, of_super, reads) = (
            name("bypass"),
            name("owner"),
            name("member"),
            name("of_super"),
            name("reads"),
        );
        let connect = format!("grant connect on database {}", database.name);
        database
            .execute(&format!(
                "create role {bypass} login bypassrls;
                 create role {owner} login;
                 create role {member} login in role palisade_owner;
                 create role {of_super} login noinherit in role postgres;
                 create role {reads} login in role pg_read_all_data;
                 create table belongings_{mark} (n integer);
                 alter table belongings_{mark} owner to {owner};
                 {connect} to {bypass}, {owner}, {member}, {of_super}, {reads}"
            ))
            .await;
        let ends = "connect as palisade_app";
        for (role, reason) in [
            (
                "postgres".to_owned(),
                "is a superuser, which row level security never binds".to_owned(),
            ),
            (bypass.clone(), "has BYPASSRLS".to_owned()),
            (
                owner.clone(),
                format!("owns public.belongings_{mark}, so it could switch"),
            ),
            (
                member.clone(),
                "is a member of palisade_owner, which owns ".to_owned(),
            ),
            (of_super.clone(), "is a member of ".to_owned()),
            (
                reads.clone(),
                "is a member of pg_read_all_data, which reads, writes or runs past".to_owned(),
            ),
            (
                "palisade_owner".to_owned(),
                "so it could switch row level security off".to_owned(),
            ),
            ("palisade_admin".to_owned(), "has BYPASSRLS".to_owned()),
        ] {
            let ended = database.serve(&role).await;
            let line = ended.line(1);
            assert!(line.starts_with(&format!("the role {role} ")), "{line}");
            assert!(line.contains(&reason) && line.contains(ends), "{line}");
        }
        let cluster = database.cluster;
        database.drop().await;
        let mut postgres = PgConnection::connect(&cluster.url("postgres", "postgres"))
            .await
            .unwrap();
        for role in [bypass, owner, member, of_super, reads] {
            let sql = format!("drop role {role}");
            sqlx::query(sqlx::AssertSqlSafe(sql))
                .execute(&mut postgres)
                .await
                .unwrap();
        }
    });
}

#[test]
fn serve_refuses_a_database_without_the_schema() {
    run(async {
        let database = Database::migrated().await;
        let empty = Database::empty().await;
        let ended = empty.serve("palisade_app").await;
        assert_eq!(
            ended.line(1),
            "the database has no palisade schema: run `palisade migrate` first"
        );
        database.drop().await;
        empty.drop().await;
    });
}

/// Turns a migrated database into one like those from before the first release.
const BEFORE_FIRST_RELEASE: &str = "
    delete from _sqlx_migrations;
    insert into _sqlx_migrations (version, description, success, checksum, execution_time)
    select version, 'one of twelve', true, '\\x00', 0 from generate_series(1, 12) as version;
    drop function app.schema_versions()";

#[test]
fn migrate_and_serve_refuse_a_database_from_before_the_first_release() {
    run(async {
        let database = Database::migrated().await;
        database.execute(BEFORE_FIRST_RELEASE).await;
        for ended in [
            database.migrate("postgres").await,
            database.migrate("palisade_owner").await,
            database.serve("palisade_app").await,
        ] {
            assert_eq!(
                ended.line(1),
                "the database was created by a version of palisade before its first release and cannot be \
                 upgraded: start over with an empty database"
            );
        }
        database.drop().await;
    });
}

#[test]
fn dev_names_its_directory_if_the_database_is_from_before_the_first_release() {
    run(async {
        let dir = new_dir().await;
        let server = start(dir.clone()).await;
        let mut postgres = PgConnection::connect(&server.url("postgres", "postgres"))
            .await
            .unwrap();
        create_database(&mut postgres, "palisade").await;
        let url = server.url("postgres", "palisade");
        run_command(&["migrate", "--database-url", &url]).await.ok();
        let mut database = PgConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(BEFORE_FIRST_RELEASE)
            .execute(&mut database)
            .await
            .unwrap();
        drop((postgres, database));
        server.stop().await.unwrap();

        let path = dir.to_str().unwrap();
        let ended = run_command(&["dev", "--data-dir", path, "--listen", "127.0.0.1:0"]).await;
        assert_eq!(
            ended.line(1),
            format!(
                "the development database in {path} was created by a version of palisade before its first \
                 release and cannot be upgraded: stop palisade, delete {path}, and start again"
            )
        );
        assert!(dir.exists());
        remove(&dir);
    });
}

/// The status and the text of `/health/ready`.
async fn readiness(api: &str) -> (u16, String) {
    let url = api.replace("/graphql", "/health/ready");
    let response = reqwest::get(url).await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[test]
fn serve_and_its_readiness_compare_the_schema_with_the_binary() {
    run(async {
        const NEWER: i64 = 99_991_231_000_000;
        let database = Database::migrated().await;
        let mut postgres = PgConnection::connect(&database.url("postgres"))
            .await
            .unwrap();
        let newest: Vec<i64> = sqlx::query_scalar(
            "select version from _sqlx_migrations order by version desc limit 2",
        )
        .fetch_all(&mut postgres)
        .await
        .unwrap();
        let [newest, previous] = newest[..] else {
            panic!("{newest:?}")
        };
        let older =
            format!("update _sqlx_migrations set version = 1 - version where version = {newest}");
        let current = format!("update _sqlx_migrations set version = {newest} where version < 0");
        let is_older = format!(
            "the schema has version {previous}, this binary needs {newest} (migration {newest} is missing): \
             run `palisade migrate`"
        );
        let newer = format!(
            "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
             values ({NEWER}, 'of the future', true, '\\x00', 0)"
        );
        let incompatible = format!(
            "create or replace function app.oldest_binary() returns bigint
                 language sql stable parallel safe return {NEWER}"
        );
        let is_incompatible = format!(
            "the schema has version {NEWER}, which needs a binary with migration {NEWER}; this one has {newest}: \
             use a newer palisade"
        );

        database.execute(&older).await;
        assert_eq!(database.serve("palisade_app").await.line(1), is_older);
        database.execute(&current).await;

        // The schema moves while the service runs.
        let (serving, api) = Running::serve(serve_command(&database.url("palisade_app"))).await;
        let ready = |version: i64| (200, format!("ready, schema version {version}\n"));
        assert_eq!(readiness(&api).await, ready(newest));
        database.execute(&older).await;
        assert_eq!(readiness(&api).await, (503, format!("{is_older}\n")));
        database.execute(&current).await;
        assert_eq!(readiness(&api).await, ready(newest));
        database.execute(&newer).await;
        assert_eq!(readiness(&api).await, ready(NEWER));
        let (compatible, _) = Running::serve(serve_command(&database.url("palisade_app"))).await;
        compatible.terminate().await;
        database.execute(&incompatible).await;
        assert_eq!(readiness(&api).await, (503, format!("{is_incompatible}\n")));
        serving.terminate().await;
        assert_eq!(
            database.serve("palisade_app").await.line(1),
            is_incompatible
        );
        drop(postgres);
        database.drop().await;
    });
}

#[test]
fn a_migration_that_does_not_fit_is_named_in_one_line() {
    run(async {
        let database = Database::migrated().await;
        database
            .execute(
                "update _sqlx_migrations set checksum = '\\x00' where version = 20261121000300",
            )
            .await;
        let ended = database.migrate("postgres").await;
        assert!(
            ended
                .line(1)
                .starts_with("migration 20261121000300 (audit seals)"),
            "{ended:?}"
        );
        assert!(
            ended
                .line(1)
                .ends_with(") was changed after it was applied to this database")
        );
        database.drop().await;

        let database = Database::migrated().await;
        database
            .execute(
                "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
                 values (99991231000000, 'of the future', true, '\\x00', 0)",
            )
            .await;
        let ended = database.migrate("postgres").await;
        assert_eq!(
            ended.line(1),
            "the database has migration 99991231000000, which this binary does not contain: use a newer binary"
        );
        database.drop().await;

        let database = Database::empty().await;
        database
            .execute("create table public.projects (n integer)")
            .await;
        let ended = database.migrate("postgres").await;
        assert!(
            ended
                .line(1)
                .contains("failed: relation \"projects\" already exists"),
            "{ended:?}"
        );
        database.drop().await;
    });
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn bad_settings_are_one_line_that_says_what_to_do() {
    run(async {
        let holder = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let taken = holder.local_addr().unwrap().to_string();
        let closed = {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap().port()
        };
        let closed = format!("postgres://palisade_app:hunter2secret@127.0.0.1:{closed}/palisade");
        let no_socket =
            "postgres://palisade_app:hunter2secret@localhost/palisade?host=/nonexistent";
        let no_dir = "/proc/nothing";
        let serve =
            |url: &'static str| vec!["serve", "--listen", "127.0.0.1:0", "--database-url", url];
        let secret = Some(SECRET);
        let listen = ["serve", "--listen", &taken, "--database-url", no_socket];
        let at_closed = [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--database-url",
            &closed,
        ];
        let cases: Vec<(Vec<&str>, Option<&str>, i32, &str)> = vec![
            (
                listen.to_vec(),
                secret,
                1,
                "the port is taken; choose another with --listen",
            ),
            (
                vec!["dev", "--listen", &taken, "--data-dir", no_dir],
                None,
                1,
                "the port is taken",
            ),
            (
                at_closed.to_vec(),
                secret,
                1,
                "cannot reach the database at 127.0.0.1:",
            ),
            (
                serve(no_socket),
                secret,
                1,
                "cannot reach the database at /nonexistent",
            ),
            (
                serve("mysql://u:hunter2secret@h/d"),
                secret,
                2,
                "not a PostgreSQL URL: it must start with",
            ),
            (serve("hunter2secret"), secret, 2, "not a PostgreSQL URL"),
            (serve(""), secret, 2, "not a PostgreSQL URL"),
            (
                serve("postgres://u:hunter2secret@h:99999/d"),
                secret,
                2,
                "not a PostgreSQL URL",
            ),
            (
                serve(no_socket),
                None,
                2,
                "no token secret: set PALISADE_JWT_SECRET",
            ),
            (
                serve(no_socket),
                Some("hunter2secret"),
                2,
                "the token secret has 13 bytes",
            ),
            (
                vec!["serve"],
                secret,
                2,
                "no database: set PALISADE_APP_DATABASE_URL",
            ),
            (
                vec!["migrate"],
                None,
                2,
                "no database: set PALISADE_OWNER_DATABASE_URL",
            ),
            (
                vec!["migrate", "--database-url", no_socket],
                None,
                1,
                "cannot reach the database",
            ),
            (
                vec!["migrate", "--database-url", "x:hunter2secret"],
                None,
                1,
                "not a PostgreSQL URL",
            ),
            (
                vec!["dev", "--listen", "127.0.0.1:0", "--data-dir", no_dir],
                None,
                1,
                no_dir,
            ),
            (
                vec![
                    "dev",
                    "--listen",
                    "127.0.0.1:0",
                    "--data-dir",
                    "/etc/passwd",
                ],
                None,
                1,
                "/etc/passwd",
            ),
            (
                vec!["dev", "--listen", "127.0.0.1:0", "--data-dir", "/etc"],
                None,
                1,
                "/etc",
            ),
            (
                vec![
                    "token",
                    "--tenant",
                    "a",
                    "--user",
                    "b",
                    "--data-dir",
                    no_dir,
                ],
                None,
                1,
                no_dir,
            ),
        ];
        for (arguments, secret, code, says) in cases {
            let mut command = palisade(&arguments);
            command.envs(secret.map(|secret| ("PALISADE_JWT_SECRET", secret)));
            let ended = end_of(command).await;
            assert!(ended.line(code).contains(says), "{arguments:?}: {ended:?}");
            assert!(
                !format!("{ended:?}").contains("hunter2secret"),
                "{arguments:?}: {ended:?}"
            );
            assert!(
                !format!("{ended:?}").contains(SECRET),
                "{arguments:?}: {ended:?}"
            );
        }
        drop(holder);
    });
}

#[test]
fn a_flag_that_cannot_be_is_a_usage_error() {
    run(async {
        let token = [
            "token",
            "--tenant",
            "acme",
            "--user",
            "olivia@acme.example",
            "--expires",
        ];
        let mut cases: Vec<Vec<&str>> = vec![
            vec!["--nothing"],
            vec!["nothing"],
            vec!["serve", "--nothing"],
            vec!["serve", "--listen", "nowhere"],
            vec!["serve", "--pool-size", "0"],
            vec!["serve", "--pool-size", "many"],
            vec!["serve", "--operation-timeout", "0"],
            vec!["serve", "--max-connections", "0"],
            vec!["serve", "--explorer"],
            vec!["demo", "--tenants", "0"],
            vec!["demo", "--tenants", "-1"],
            vec!["token", "--tenant", "acme"],
        ];
        for life in [
            "",
            "0",
            "12",
            "0s",
            "32d",
            "1y",
            "-1h",
            "1.5h",
            "12 h",
            "99999999999d",
            "h",
            "é",
        ] {
            cases.push([&token[..], &[life]].concat());
        }
        for arguments in cases {
            let ended = run_command(&arguments).await;
            assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
            assert!(
                ended.stderr.starts_with("error: "),
                "{arguments:?}: {ended:?}"
            );
            assert!(
                !ended.stderr.contains("panicked"),
                "{arguments:?}: {ended:?}"
            );
            assert_eq!(ended.stdout, "", "{arguments:?}");
        }
    });
}

#[test]
fn a_token_for_nobody_is_refused() {
    run(async {
        let database = Database::migrated().await;
        let demo = demo_command(&database, "1", "1", "0", "0");
        end_of(demo).await.ok();
        let token = |tenant: &str, user: &str| {
            let url = database.url("palisade_auth");
            let mut command = palisade(&[
                "token",
                "--tenant",
                tenant,
                "--user",
                user,
                "--auth-database-url",
                &url,
            ]);
            command.env("PALISADE_JWT_SECRET", SECRET);
            command
        };
        let printed = end_of(token("acme", "Olivia@Acme.example")).await.ok();
        let printed = printed.lines().last().unwrap();
        assert!(harness::tokens().verify(printed).is_ok(), "{printed}");
        for (tenant, user) in [
            ("nobody", "olivia@acme.example"),
            ("acme", "nobody@acme.example"),
            ("acme' or '1'='1", "x"),
            ("", ""),
        ] {
            let ended = end_of(token(tenant, user)).await;
            assert_eq!(
                ended.line(1),
                format!("no active user {user} in an active tenant {tenant}")
            );
            assert_eq!(ended.stdout, "");
        }
        database.drop().await;
    });
}

// Demo data

fn demo_command(
    database: &Database,
    tenants: &str,
    projects: &str,
    invoices: &str,
    audit_logs: &str,
) -> Command {
    let (app, admin) = (database.url("palisade_app"), database.url("palisade_admin"));
    palisade(&[
        "demo",
        "--tenants",
        tenants,
        "--projects",
        projects,
        "--invoices",
        invoices,
        "--audit-logs",
        audit_logs,
        "--app-database-url",
        &app,
        "--admin-database-url",
        &admin,
    ])
}

/// What a database holds, table by table, without what the clock or chance decides.
async fn content(database: &Database) -> Vec<(String, i64, String)> {
    let mut postgres = PgConnection::connect(&database.url("postgres"))
        .await
        .unwrap();
    let tables: Vec<String> = sqlx::query_scalar(
        "select relname::text from pg_class where relnamespace = 'public'::regnamespace
         and relkind = 'r' and relname <> '_sqlx_migrations' order by 1",
    )
    .fetch_all(&mut postgres)
    .await
    .unwrap();
    let mut content = Vec::new();
    for table in tables {
        // Audit entries hold their own id and request, and copies of the times of the row.
        let row = match table.as_str() {
            "audit_logs" => {
                "concat_ws('|', tenant_id, actor_id, action, subject_id, project_id)".to_owned()
            }
            "audit_unsealed" | "audit_seal_entries" => "tenant_id::text".to_owned(),
            "audit_seals" => "concat_ws('|', tenant_id, number, rows)".to_owned(),
            // These are made now; the rest carries the times of its story.
            "tenants" | "users" | "identities" | "memberships" | "currencies"
            | "invoice_counters" => {
                "(to_jsonb(t) - '{created_at,updated_at}'::text[])::text".to_owned()
            }
            _ => "(to_jsonb(t) - 'updated_at')::text".to_owned(),
        };
        let sql = format!(
            "select count(*), coalesce(md5(string_agg(r, '' order by r)), '')
             from (select {row} as r from {table} t) s"
        );
        let (count, sum): (i64, String) = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .fetch_one(&mut postgres)
            .await
            .unwrap();
        content.push((table, count, sum));
    }
    content
}

#[test]
fn demo_data_is_the_same_for_the_same_numbers() {
    run(async {
        let (one, two) = (Database::migrated().await, Database::migrated().await);
        for database in [&one, &two] {
            let said = end_of(demo_command(database, "2", "3", "4", "30"))
                .await
                .ok();
            assert_eq!(said, "2 tenants made, 0 were there already\n");
        }
        let made = content(&one).await;
        assert!(
            made.iter()
                .any(|(table, count, _)| table == "projects" && *count == 6),
            "{made:?}"
        );
        assert!(
            made.iter()
                .any(|(table, count, _)| table == "invoices" && *count == 24),
            "{made:?}"
        );
        assert_eq!(made, content(&two).await);

        let said = end_of(demo_command(&one, "2", "3", "4", "30")).await.ok();
        assert_eq!(said, "0 tenants made, 2 were there already\n");
        assert_eq!(made, content(&one).await);
        one.drop().await;
        two.drop().await;
    });
}

#[test]
fn demo_data_is_sealed() {
    run(async {
        let database = Database::migrated().await;
        end_of(demo_command(&database, "2", "3", "4", "30"))
            .await
            .ok();
        let (app, admin) = (database.url("palisade_app"), database.url("palisade_admin"));
        let verify = [
            "audit",
            "verify",
            "--tenant",
            "acme",
            "--admin-database-url",
            &admin,
        ];
        let said = run_command(&verify).await.ok();
        assert!(
            said.contains(", not yet sealed 0, seals 1, head "),
            "{said}"
        );
        let seal = [
            "audit",
            "seal",
            "--app-database-url",
            &app,
            "--admin-database-url",
            &admin,
        ];
        let said = run_command(&seal).await.ok();
        assert_eq!(said, "0 rows sealed, of 2 tenants\n");
        database.drop().await;
    });
}

#[test]
fn demo_makes_as_much_as_was_asked_for() {
    run(async {
        // Enough audit entries that edits fill up what making the content left; then too few.
        for (audit_logs, exactly) in [(30, true), (3, false)] {
            let database = Database::migrated().await;
            end_of(demo_command(
                &database,
                "2",
                "5",
                "3",
                &audit_logs.to_string(),
            ))
            .await
            .ok();
            let mut postgres = PgConnection::connect(&database.url("postgres"))
                .await
                .unwrap();
            let counts: Vec<(i64, i64, i64)> = sqlx::query_as(
                "select (select count(*) from projects p where p.tenant_id = t.id),
                        (select min(n) from (select count(i.id) as n from projects p
                          left join invoices i on i.tenant_id = p.tenant_id and i.project_id = p.id
                          where p.tenant_id = t.id group by p.id) s),
                        (select max(n) from (select count(i.id) as n from projects p
                          left join invoices i on i.tenant_id = p.tenant_id and i.project_id = p.id
                          where p.tenant_id = t.id group by p.id) s)
                 from tenants t",
            )
            .fetch_all(&mut postgres)
            .await
            .unwrap();
            assert_eq!(counts, [(5, 3, 3); 2]);
            let logs: Vec<i64> = sqlx::query_scalar(
                "select (select count(*) from audit_logs a where a.tenant_id = p.tenant_id and a.project_id = p.id)
                 from projects p order by 1",
            )
            .fetch_all(&mut postgres)
            .await
            .unwrap();
            assert!(logs.iter().all(|n| *n >= audit_logs), "{logs:?}");
            if exactly {
                assert_eq!(logs, [audit_logs; 10]);
            }
            drop(postgres);
            database.drop().await;
        }
    });
}

// Schema

#[test]
fn the_committed_schema_is_the_one_that_is_printed() {
    run(async {
        let printed = run_command(&["schema"]).await.ok();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema.graphql");
        let committed = std::fs::read_to_string(path).unwrap();
        assert!(
            printed == committed,
            "schema.graphql is out of date: run `cargo run -- schema > schema.graphql` and commit it"
        );
    });
}

#[test]
fn everything_in_the_schema_is_described() {
    run(async {
        let tenant = harness::TestApp::shared().await.tenant().await;
        let answer = tenant
            .owner()
            .query(
                "{ __schema { types { name description
                   fields(includeDeprecated: true) { name description args { name description } }
                   inputFields { name description }
                   enumValues(includeDeprecated: true) { name description } } } }",
            )
            .await;
        let mut bare = Vec::new();
        let mut look = |thing: &Value, path: String| {
            if thing["description"]
                .as_str()
                .is_none_or(|text| text.trim().is_empty())
            {
                bare.push(path);
            }
        };
        let types = answer.data()["__schema"]["types"].as_array().unwrap();
        for kind in types {
            let name = kind["name"].as_str().unwrap();
            // Those of the specification.
            if name.starts_with("__") || ["Boolean", "Float", "ID", "Int", "String"].contains(&name)
            {
                continue;
            }
            look(kind, name.to_owned());
            for member in ["fields", "inputFields", "enumValues"] {
                for field in kind[member].as_array().into_iter().flatten() {
                    let path = format!("{name}.{}", field["name"].as_str().unwrap());
                    look(field, path.clone());
                    for argument in field["args"].as_array().into_iter().flatten() {
                        look(
                            argument,
                            format!("{path}({})", argument["name"].as_str().unwrap()),
                        );
                    }
                }
            }
        }
        assert!(types.len() > 50, "{}", types.len());
        assert_eq!(bare, Vec::<String>::new());
    });
}

// Secrets

#[test]
fn no_log_level_prints_a_secret() {
    run(async {
        // Of its own: the roles get passwords here.
        let dir = new_dir().await;
        let server = start(dir.clone()).await;
        let url = server.url("postgres", "postgres");
        let words = [
            "owner's hunter1",
            "app's hunter2",
            "auth's hunter3",
            "admin's hunter4",
        ];
        let mut migrate = palisade(&["migrate", "--database-url", &url]);
        migrate.env("PALISADE_LOG", "trace");
        for (role, word) in ["OWNER", "APP", "AUTH", "ADMIN"].iter().zip(words) {
            migrate.env(format!("PALISADE_{role}_PASSWORD"), word);
        }
        let ended = end_of(migrate).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let mut printed = format!("{}{}", ended.stdout, ended.stderr);
        let mut postgres = PgConnection::connect(&url).await.unwrap();
        let set: i64 = sqlx::query_scalar(
            "select count(*) from pg_authid where rolname like 'palisade%' and rolpassword is not null",
        )
        .fetch_one(&mut postgres)
        .await
        .unwrap();
        assert_eq!(set, 4);

        let app = server
            .url("palisade_app", "postgres")
            .replace("app@", "app:hunter5@");
        let mut serve = serve_command(&app);
        serve.env("PALISADE_LOG", "trace").env("NO_COLOR", "1");
        let (serving, api) = Running::serve(serve).await;
        let token = harness::tokens()
            .issue(
                Uuid::now_v7().into(),
                Uuid::now_v7().into(),
                chrono::TimeDelta::hours(1),
            )
            .unwrap();
        let answer = ask(&api, &token, "{ __typename }").await;
        assert_eq!(answer["errors"][0]["extensions"]["code"], "UNAUTHENTICATED");
        printed += &serving.terminate().await;
        assert!(printed.contains("DEBUG"), "{printed}");
        let signature = token.rsplit_once('.').unwrap().1;
        for secret in ["hunter", SECRET, signature] {
            let told: Vec<&str> = printed
                .lines()
                .filter(|line| line.contains(secret))
                .collect();
            assert_eq!(told, Vec::<&str>::new(), "{secret}");
        }
        drop(postgres);
        server.stop().await.unwrap();
        remove(&dir);
    });
}

// Stopping

const COUNT: &str = "{ projects { totalCount } }";

/// A service with an operation that waits for as long as somebody holds a table.
struct Busy {
    database: Database,
    serving: Running,
    url: String,
    token: String,
    asking: JoinHandle<Value>,
    holder: PgConnection,
}

impl Busy {
    async fn start() -> Self {
        let database = Database::migrated().await;
        end_of(demo_command(&database, "1", "2", "0", "0"))
            .await
            .ok();
        let mut token = palisade(&["token", "--tenant", "acme", "--user", "olivia@acme.example"]);
        token.env("PALISADE_AUTH_DATABASE_URL", database.url("palisade_auth"));
        token.env("PALISADE_JWT_SECRET", SECRET);
        let token = end_of(token).await.ok();
        let token = token.lines().last().unwrap().to_owned();

        let mut holder = PgConnection::connect(&database.url("postgres"))
            .await
            .unwrap();
        for statement in [
            "do $$ begin
                execute format('alter role palisade_app in database %I set lock_timeout = 0', current_database());
                execute format('alter role palisade_app in database %I set statement_timeout = 0', current_database());
            end $$",
            "begin",
            "lock table projects in access exclusive mode",
        ] {
            sqlx::raw_sql(statement).execute(&mut holder).await.unwrap();
        }
        let mut command = serve_command(&database.url("palisade_app"));
        command.env("PALISADE_OPERATION_TIMEOUT", "600000");
        let (serving, url) = Running::serve(command).await;
        let asking = tokio::spawn({
            let (url, token) = (url.clone(), token.clone());
            async move { ask(&url, &token, COUNT).await }
        });
        let mut watching = PgConnection::connect(&database.url("postgres"))
            .await
            .unwrap();
        eventually("the operation waits for the lock", async || {
            sqlx::query_scalar(
                "select exists (select from pg_stat_activity where datname = current_database()
                 and usename = 'palisade_app' and wait_event_type = 'Lock')",
            )
            .fetch_one(&mut watching)
            .await
            .unwrap()
        })
        .await;
        Self {
            database,
            serving,
            url,
            token,
            asking,
            holder,
        }
    }

    /// Tells the service to stop, and waits until it takes nobody in any more.
    async fn stop(&self) {
        self.serving.signal("-TERM");
        let port = self
            .url
            .trim_start_matches("http://")
            .trim_end_matches("/graphql");
        eventually("no further connection is accepted", async || {
            tokio::net::TcpStream::connect(port).await.is_err()
        })
        .await;
        assert!(!self.asking.is_finished());
    }
}

#[test]
fn a_running_operation_is_answered_before_the_service_ends() {
    run(async {
        let mut busy = Busy::start().await;
        busy.stop().await;
        sqlx::raw_sql("commit")
            .execute(&mut busy.holder)
            .await
            .unwrap();
        let expected = json!({ "projects": { "totalCount": 2 } });
        assert_eq!(busy.asking.await.unwrap()["data"], expected);
        let (code, printed) = busy.serving.end().await;
        assert_eq!(code, Some(0), "{printed}");
        assert!(
            !printed.contains(SECRET) && !printed.contains(&busy.token),
            "{printed}"
        );
        drop(busy.holder);
        busy.database.drop().await;
    });
}

#[test]
fn a_second_signal_ends_the_service_whatever_still_runs() {
    run(async {
        let busy = Busy::start().await;
        busy.stop().await;
        busy.serving.signal("-TERM");
        // The operation has ten minutes, and nobody lets go of the lock.
        let (code, printed) = busy.serving.end().await;
        assert_eq!(code, Some(0), "{printed}");
        assert!(printed.contains("stopping at once"), "{printed}");
        busy.asking.abort();
        drop(busy.holder);
        busy.database.drop().await;
    });
}

#[test]
fn a_log_that_cannot_be_written_so_is_a_usage_error() {
    run(async {
        for (name, value, says) in [
            ("PALISADE_LOG", "info,palisade=loud", "PALISADE_LOG: "),
            ("PALISADE_LOG_FORMAT", "JSON", "is text or json, not JSON"),
        ] {
            let mut command = palisade(&["schema"]);
            command.env(name, value);
            let ended = end_of(command).await;
            assert!(ended.line(2).contains(says), "{name}: {ended:?}");
        }
    });
}
