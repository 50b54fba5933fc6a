//! `palisade serve`: the databases that it rejects, and how it stops.

use macro_rules_attribute::apply;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::{
    Database, Service, create_test_dir, demo_command, graphql, palisade, remove_dir, run_to_exit,
    serve_command,
};
use crate::harness::{SECRET, eventually, palisade_test};

#[apply(palisade_test)]
async fn serve_does_not_start_with_a_role_that_can_bypass_row_level_security() {
    let database = Database::migrated().await;
    let suffix = Uuid::now_v7().simple();
    let name = |kind: &str| format!("t_{kind}_{suffix}");
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
             create table belongings_{suffix} (n integer);
             alter table belongings_{suffix} owner to {owner};
             {connect} to {bypass}, {owner}, {member}, {of_super}, {reads}"
        ))
        .await;
    let advice = "connect as palisade_app";
    for (role, reason) in [
        (
            "postgres".to_owned(),
            "is a superuser, and superusers bypass row level security".to_owned(),
        ),
        (bypass.clone(), "has BYPASSRLS".to_owned()),
        (
            owner.clone(),
            format!("owns public.belongings_{suffix}, and owners can switch"),
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
            "owners can switch row level security off".to_owned(),
        ),
        ("palisade_admin".to_owned(), "has BYPASSRLS".to_owned()),
    ] {
        let result = database.serve(&role).await;
        let line = result.error_line(1);
        assert!(line.starts_with(&format!("the role {role} ")), "{line}");
        assert!(line.contains(&reason) && line.contains(advice), "{line}");
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
async fn serve_does_not_start_without_the_schema() {
    let database = Database::migrated().await;
    let empty = Database::empty().await;
    let result = empty.serve("palisade_app").await;
    assert_eq!(
        result.error_line(1),
        "the database has no palisade schema: run `palisade migrate` first"
    );
    database.drop().await;
    empty.drop().await;
}

#[apply(palisade_test)]
async fn serve_has_a_listener_for_the_health_checks_and_dev_only_if_it_is_set() {
    let database = Database::migrated().await;
    let (service, api) = Service::serve(serve_command(&database.url("palisade_app"))).await;
    let health = service
        .startup
        .split("health checks at ")
        .nth(1)
        .and_then(|rest| rest.lines().next())
        .unwrap();
    assert_ne!(health, api.replace("/graphql", "/health/ready"));
    assert_eq!(status(health).await, 200);
    assert_eq!(status(&health.replace("ready", "live")).await, 200);
    assert_eq!(
        status(&health.replace("/health/ready", "/graphql")).await,
        404
    );
    service.terminate().await;
    database.drop().await;

    let dir = create_test_dir().await;
    let dev = Service::dev(&dir).await;
    assert_eq!(dev.labelled("health "), [""; 0]);
    dev.terminate().await;
    let dev = Service::dev_with(&dir, |command| {
        command.args(["--health-listen", "127.0.0.1:0"]);
    })
    .await;
    assert_eq!(status(dev.labelled("health ")[0]).await, 200);
    dev.terminate().await;
    remove_dir(&dir);
}

async fn status(url: &str) -> u16 {
    reqwest::get(url).await.unwrap().status().as_u16()
}

const COUNT: &str = "{ projects { totalCount } }";

/// A service that runs an operation which waits for a table lock. Another connection holds the lock.
struct BlockedService {
    database: Database,
    service: Service,
    url: String,
    token: String,
    operation: JoinHandle<Value>,
    blocker: PgConnection,
}

impl BlockedService {
    async fn start() -> Self {
        let database = Database::migrated().await;
        run_to_exit(demo_command(&database, "1", "2", "0", "0"))
            .await
            .success();
        let mut token = palisade(&["token", "--tenant", "acme", "--user", "olivia@acme.example"]);
        token.env("PALISADE_AUTH_DATABASE_URL", database.url("palisade_auth"));
        token.env("PALISADE_JWT_SECRET", SECRET);
        let token = run_to_exit(token).await.success();
        let token = token.lines().last().unwrap().to_owned();

        let mut blocker = PgConnection::connect(&database.url("postgres"))
            .await
            .unwrap();
        sqlx::raw_sql(
            "do $$ begin
                execute format('alter role palisade_app in database %I set lock_timeout = 0', current_database());
                execute format('alter role palisade_app in database %I set statement_timeout = 0', current_database());
            end $$",
        )
        .execute(&mut blocker)
        .await
        .unwrap();
        let mut command = serve_command(&database.url("palisade_app"));
        command.env("PALISADE_OPERATION_TIMEOUT", "10m");
        let (service, url) = Service::serve(command).await;
        // The service reads the policies of the table when it starts, so the lock comes later.
        for statement in ["begin", "lock table projects in access exclusive mode"] {
            sqlx::raw_sql(statement)
                .execute(&mut blocker)
                .await
                .unwrap();
        }
        let operation = tokio::spawn({
            let (url, token) = (url.clone(), token.clone());
            async move { graphql(&url, &token, COUNT).await }
        });
        let mut observer = PgConnection::connect(&database.url("postgres"))
            .await
            .unwrap();
        eventually("the operation waits for the lock", async || {
            sqlx::query_scalar(
                "select exists (select from pg_stat_activity where datname = current_database()
                 and usename = 'palisade_app' and wait_event_type = 'Lock')",
            )
            .fetch_one(&mut observer)
            .await
            .unwrap()
        })
        .await;
        Self {
            database,
            service,
            url,
            token,
            operation,
            blocker,
        }
    }

    /// Sends SIGTERM, and waits until the service accepts no more connections.
    async fn request_stop(&self) {
        self.service.signal("-TERM");
        let port = self
            .url
            .trim_start_matches("http://")
            .trim_end_matches("/graphql");
        eventually("no further connection is accepted", async || {
            tokio::net::TcpStream::connect(port).await.is_err()
        })
        .await;
        assert!(!self.operation.is_finished());
    }
}

#[apply(palisade_test)]
async fn a_shutdown_waits_for_running_operations() {
    let mut blocked = BlockedService::start().await;
    blocked.request_stop().await;
    sqlx::raw_sql("commit")
        .execute(&mut blocked.blocker)
        .await
        .unwrap();
    let expected = json!({ "projects": { "totalCount": 2 } });
    assert_eq!(blocked.operation.await.unwrap()["data"], expected);
    let (code, output) = blocked.service.wait().await;
    assert_eq!(code, Some(0), "{output}");
    assert!(
        !output.contains(SECRET) && !output.contains(&blocked.token),
        "{output}"
    );
    drop(blocked.blocker);
    blocked.database.drop().await;
}

#[apply(palisade_test)]
async fn a_second_signal_stops_the_service_at_once() {
    let blocked = BlockedService::start().await;
    blocked.request_stop().await;
    blocked.service.signal("-TERM");
    // The operation may run for ten minutes, and the lock is not released.
    let (code, output) = blocked.service.wait().await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("stopping immediately"), "{output}");
    blocked.operation.abort();
    drop(blocked.blocker);
    blocked.database.drop().await;
}
