//! `palisade serve`: the databases that it rejects, and how it stops.

use macro_rules_attribute::apply;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::{Database, Running, ask, demo_command, end_of, palisade, serve_command};
use crate::harness::{SECRET, eventually, palisade_test};

#[apply(palisade_test)]
async fn serve_refuses_every_role_that_row_level_security_does_not_bind() {
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
}

#[apply(palisade_test)]
async fn serve_refuses_a_database_without_the_schema() {
    let database = Database::migrated().await;
    let empty = Database::empty().await;
    let ended = empty.serve("palisade_app").await;
    assert_eq!(
        ended.line(1),
        "the database has no palisade schema: run `palisade migrate` first"
    );
    database.drop().await;
    empty.drop().await;
}

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
        command.env("PALISADE_OPERATION_TIMEOUT", "10m");
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

#[apply(palisade_test)]
async fn a_running_operation_is_answered_before_the_service_ends() {
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
}

#[apply(palisade_test)]
async fn a_second_signal_ends_the_service_whatever_still_runs() {
    let busy = Busy::start().await;
    busy.stop().await;
    busy.serving.signal("-TERM");
    // The operation has ten minutes, and nobody lets go of the lock.
    let (code, printed) = busy.serving.end().await;
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("stopping immediately"), "{printed}");
    busy.asking.abort();
    drop(busy.holder);
    busy.database.drop().await;
}
