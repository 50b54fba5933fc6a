//! Many tenants over few connections, operations that are cancelled at any time, and transactions that fail.

use std::{future::Future, task::Poll, time::Duration};

use macro_rules_attribute::apply;
use palisade::{
    audit::AuditLog,
    auth::role::UserRole,
    db::{
        Operation, PoolSettings, Purpose, TenantContext, TenantDb, TenantTx,
        entity::{Entity, NeededColumns, RowReader},
        load::{ById, Loaders},
    },
    ids::{AuditLogId, ProjectId},
    projects::Project,
};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::harness::{
    ServiceOptions, Tenant, TestApp, attempt, eventually, lock_table, palisade_test, signing,
};

/// A separate database without timeouts for `palisade_app`: if a statement is cancelled, it was the service that
/// cancelled it. No other test connects to this database.
pub async fn patient() -> &'static TestApp {
    let settings = "do $$ declare setting text; begin
        foreach setting in array
            '{lock_timeout,statement_timeout,idle_in_transaction_session_timeout}'::text[]
        loop
            execute format('alter role palisade_app in database %I set %I = 0', current_database(), setting);
        end loop;
    end $$";
    TestApp::shared().await.in_own_database(&[settings]).await
}

/// The number of backends of the service's role in the test's database that meet a condition.
pub async fn backends(superuser: &mut PgConnection, condition: &str) -> i64 {
    let sql = format!(
        "select count(*) from pg_stat_activity
         where datname = current_database() and usename = 'palisade_app' and ({condition})"
    );
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
        .fetch_one(superuser)
        .await
        .unwrap()
}

const IN_TRANSACTION: &str = "state like 'idle in transaction%' or xact_start is not null";
pub const WAITING: &str = "application_name like 'palisade %' and wait_event_type = 'Lock'";

const PAGE: &str = "{ projects(first: 3) { totalCount nodes {
    name organization { slug } owner { email } invoices(first: 2) { nodes { id } } } } }";

/// Whether a response to [`PAGE`] contains the tenant's three projects and nothing else.
fn check_page(tenant: &Tenant, body: &Value) {
    let page = &body["data"]["projects"];
    let nodes = page["nodes"]
        .as_array()
        .unwrap_or_else(|| panic!("no rows: {body}"));
    assert_eq!(
        (page["totalCount"].as_u64(), nodes.len()),
        (Some(3), 3),
        "{body}"
    );
    for node in nodes {
        assert!(
            node["name"].as_str().unwrap().ends_with(&tenant.slug),
            "{body}"
        );
        assert_eq!(
            node["organization"]["slug"],
            format!("slug-1-{}", tenant.slug),
            "{body}"
        );
        assert_eq!(
            node["owner"]["email"],
            format!("owner@{}.example", tenant.slug),
            "{body}"
        );
        assert_eq!(
            node["invoices"]["nodes"].as_array().map(Vec::len),
            Some(2),
            "{body}"
        );
    }
}

#[apply(palisade_test)]
async fn two_thousand_requests_of_two_tenants_over_four_connections_never_mix(
    app: &'static TestApp,
) {
    const CLIENTS: usize = 64;
    const REQUESTS: usize = 2_000;

    let tenants: &'static [Tenant; 2] =
        Box::leak(Box::new([app.tenant().await, app.tenant().await]));
    for tenant in tenants {
        tenant.seed(3, 2).await;
    }
    let url = app
        .serve(ServiceOptions {
            pool_size: 4,
            ..ServiceOptions::default()
        })
        .await;
    let clients = (0..CLIENTS).map(|client| {
        let url = url.clone();
        tokio::spawn(async move {
            let roles = [UserRole::Owner, UserRole::Viewer, UserRole::Member];
            let mut response_count = 0;
            for request in (client..REQUESTS).step_by(CLIENTS) {
                let tenant = &tenants[(request / CLIENTS + client) % 2];
                let response = tenant.caller(roles[request % 3]).at(&url).query(PAGE).await;
                response.data();
                check_page(tenant, &response.body);
                response_count += 1;
            }
            response_count
        })
    });
    let mut response_count = 0;
    for client in clients.collect::<Vec<_>>() {
        response_count += client.await.unwrap();
    }
    assert_eq!(response_count, REQUESTS);
}

/// Polls a future for at most this time, then drops it. Returns whether it completed.
async fn cut<T>(after: Duration, future: impl Future<Output = T>) -> bool {
    tokio::time::timeout(after, future).await.is_ok()
}

/// Drops a future after it has waited this number of times. Returns whether it completed.
async fn cut_after_polls<T>(mut waits: u32, future: impl Future<Output = T>) -> bool {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|poller| match future.as_mut().poll(poller) {
        Poll::Ready(_) => Poll::Ready(true),
        Poll::Pending if waits == 0 => Poll::Ready(false),
        Poll::Pending => {
            waits -= 1;
            Poll::Pending
        }
    })
    .await
}

#[apply(palisade_test)]
async fn two_hundred_requests_that_their_clients_cancel_leave_no_open_transaction() {
    let app = patient().await;
    let (acme, globex) = (app.tenant().await, app.tenant().await);
    acme.seed(3, 2).await;
    globex.seed(3, 2).await;
    let url = app
        .serve(ServiceOptions {
            pool_size: 2,
            ..ServiceOptions::default()
        })
        .await;
    let (a, b) = (acme.owner().at(&url), globex.owner().at(&url));
    check_page(&acme, &a.query(PAGE).await.body);

    let started = std::time::Instant::now();
    check_page(&acme, &a.query(PAGE).await.body);
    let whole = started.elapsed();

    let mut ended = 0;
    for round in 0..200 {
        // The client cancels at a different time in each round: at first before the request is sent, in the end long
        // after the response.
        ended += u32::from(cut(whole * round / 50, a.query(PAGE)).await);
        if round % 10 == 0 {
            check_page(&globex, &b.query(PAGE).await.body);
        }
    }
    assert!(
        (1..200).contains(&ended),
        "{ended} requests came to their end"
    );
    let mut superuser = app.connect("postgres").await;
    eventually("no connection is left in a transaction", async || {
        backends(&mut superuser, IN_TRANSACTION).await == 0
    })
    .await;
    for _ in 0..8 {
        check_page(&globex, &b.query(PAGE).await.body);
        check_page(&acme, &a.query(PAGE).await.body);
    }
}

async fn private_pool(app: &TestApp) -> TenantDb {
    let settings = PoolSettings {
        size: 1,
        acquire_timeout: Duration::from_secs(30),
    };
    TenantDb::connect(&app.database_url("palisade_app"), settings, &signing())
        .await
        .unwrap()
}

fn transaction(
    db: &TenantDb,
    tenant: &Tenant,
    role: Option<UserRole>,
    purpose: Purpose,
) -> TenantTx {
    let user = role.map(|role| tenant.caller(role).user);
    let context = TenantContext {
        tenant: tenant.id,
        user,
        role,
    };
    TenantTx::new(db.clone(), context, purpose, Operation::new(Uuid::now_v7()))
}

async fn find<E: Entity + std::fmt::Debug>(
    tx: &TenantTx,
    id: E::Id,
) -> palisade::error::Result<bool> {
    Ok(Loaders::new(tx.clone(), NeededColumns::ALL)
        .load(ById::<E>(id))
        .await?
        .is_some())
}

#[apply(palisade_test)]
async fn two_hundred_transactions_cancelled_while_opening_leave_nothing_to_the_next_borrower() {
    let app = patient().await;
    let (acme, globex) = (app.tenant().await, app.tenant().await);
    let theirs = ProjectId::from(acme.seed(1, 0).await.projects[0]);
    let own = ProjectId::from(globex.seed(1, 0).await.projects[0]);
    let entry: Uuid = sqlx::query_scalar("select min(id::text)::uuid from audit_logs")
        .fetch_one(&mut globex.begin().await.0)
        .await
        .unwrap();
    let entry = AuditLogId::from(entry);
    let db = private_pool(app).await;
    let owner = Some(UserRole::Owner);

    let mut ended = 0;
    for round in 0..200_u32 {
        let purpose = if round % 2 == 0 {
            Purpose::Read
        } else {
            Purpose::Write
        };
        let tx = transaction(&db, &globex, owner, purpose);
        // The transaction uses a connection that the previous round returned to the pool.
        ended += u32::from(cut_after_polls(round % 16, find::<Project>(&tx, own)).await);
        drop(tx);

        // The next transaction has no role. If the role of an earlier one were still set, it would see the audit log.
        let next = transaction(&db, &globex, None, Purpose::Read);
        assert!(
            !find::<AuditLog>(&next, entry).await.unwrap(),
            "the connection still has a role"
        );
        assert!(
            find::<Project>(&next, own).await.unwrap(),
            "the borrower sees its own rows"
        );
        next.rollback().await;
        let next = transaction(&db, &acme, owner, Purpose::Read);
        assert!(
            !find::<Project>(&next, own).await.unwrap(),
            "the connection still has a tenant"
        );
        assert!(find::<Project>(&next, theirs).await.unwrap());
        next.rollback().await;
    }
    assert!((1..200).contains(&ended), "{ended} came to their end");
    let reader = transaction(&db, &globex, owner, Purpose::Read);
    assert!(
        find::<AuditLog>(&reader, entry).await.unwrap(),
        "with the role it is there"
    );
    reader.rollback().await;
    let mut superuser = app.connect("postgres").await;
    eventually("no connection is left in a transaction", async || {
        backends(&mut superuser, IN_TRANSACTION).await == 0
    })
    .await;
    db.close().await;
}

#[apply(palisade_test)]
async fn a_client_that_disconnects_cancels_its_statement_on_the_server() {
    let app = patient().await;
    let tenant = app.tenant().await;
    tenant.seed(3, 2).await;
    let mut superuser = app.connect("postgres").await;
    let holder = lock_table(app, "projects").await;

    let caller = tenant.owner().clone();
    let client = tokio::spawn(async move { caller.query(PAGE).await });
    eventually("the statement waits", async || {
        backends(&mut superuser, WAITING).await == 1
    })
    .await;
    client.abort();
    eventually("it was cancelled while the lock is held", async || {
        backends(&mut superuser, &format!("{WAITING} or {IN_TRANSACTION}")).await == 0
    })
    .await;
    drop(holder);
    check_page(&tenant, &tenant.owner().query(PAGE).await.body);
}

#[apply(palisade_test)]
async fn a_client_that_disconnects_cancels_no_statement_of_another_with_the_same_request_id() {
    let app = patient().await;
    let (acme, globex) = (app.tenant().await, app.tenant().await);
    acme.seed(3, 2).await;
    globex.seed(3, 2).await;
    let mut superuser = app.connect("postgres").await;
    let mut holder = lock_table(app, "projects").await;

    let request = Uuid::now_v7();
    let ask = |tenant: &Tenant| {
        let caller = tenant.owner().clone();
        tokio::spawn(async move { caller.bytes(PAGE, &json!({}), request).await })
    };
    let (leaves, stays) = (ask(&acme), ask(&globex));
    eventually("both wait", async || {
        backends(&mut superuser, WAITING).await == 2
    })
    .await;
    leaves.abort();
    eventually("one was cancelled", async || {
        backends(&mut superuser, WAITING).await < 2
    })
    .await;
    attempt(&mut holder, "rollback".to_owned()).await.unwrap();
    let (_, body) = stays.await.unwrap();
    check_page(&globex, &serde_json::from_str(&body).unwrap());
}

#[apply(palisade_test)]
async fn an_operation_past_its_deadline_returns_timeout_and_ends_on_the_server() {
    let app = patient().await;
    let tenant = app.tenant().await;
    tenant.seed(3, 2).await;
    let options = ServiceOptions {
        operation_timeout: Duration::from_millis(300),
        ..ServiceOptions::default()
    };
    let caller = tenant.owner().at(&app.serve(options).await);
    let mut superuser = app.connect("postgres").await;
    let holder = lock_table(app, "projects").await;

    let response = caller.query(PAGE).await;
    assert_eq!(response.code(), "TIMEOUT", "{}", response.body);
    assert!(response.body["data"].is_null());
    eventually("it was cancelled while the lock is held", async || {
        backends(&mut superuser, &format!("{WAITING} or {IN_TRANSACTION}")).await == 0
    })
    .await;
    drop(holder);
}

#[apply(palisade_test)]
async fn an_exhausted_pool_returns_unavailable_with_a_time_to_retry() {
    let app = patient().await;
    let tenant = app.tenant().await;
    tenant.seed(3, 2).await;
    let options = ServiceOptions {
        pool_size: 1,
        acquire_timeout: Duration::from_millis(200),
        ..ServiceOptions::default()
    };
    let caller = tenant.owner().at(&app.serve(options).await);
    // This request makes the service cache the caller's role, so the next request needs no connection to read the role.
    caller.query("{ __typename }").await.data();
    let mut superuser = app.connect("postgres").await;
    let mut holder = lock_table(app, "projects").await;

    let first = caller.clone();
    let first = tokio::spawn(async move { first.query(PAGE).await });
    eventually("the one connection waits", async || {
        backends(&mut superuser, WAITING).await == 1
    })
    .await;
    let response = app
        .client
        .post(&caller.url)
        .bearer_auth(&caller.token)
        .json(&json!({ "query": "{ products { totalCount } }" }))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status().as_u16(), 503);
    assert_eq!(response.headers()["retry-after"], "1");
    let body: Value = response.json().await.unwrap();
    assert_eq!(
        body["errors"][0]["extensions"]["code"], "UNAVAILABLE",
        "{body}"
    );

    attempt(&mut holder, "rollback".to_owned()).await.unwrap();
    check_page(&tenant, &first.await.unwrap().body);
}

/// An entity whose table is a view that writes a row whenever it is read.
#[derive(Clone, Debug)]
struct Writing(ProjectId);

/// An entity whose table does not exist.
#[derive(Clone, Debug)]
struct Missing(ProjectId);

macro_rules! probe {
    ($name:ident in $table:literal) => {
        impl Entity for $name {
            type Id = ProjectId;
            const TABLE: &'static str = $table;
            const COLUMNS: &'static [&'static str] = &["id"];

            fn id(&self) -> ProjectId {
                self.0
            }

            fn read_columns(row: &mut RowReader<'_>) -> sqlx::Result<Self> {
                row.value().map(Self)
            }
        }
    };
}
probe!(Writing in "writing");
probe!(Missing in "missing");

#[apply(palisade_test)]
async fn a_query_cannot_write_and_a_failed_statement_never_commits() {
    let app = patient().await;
    let tenant = app.tenant().await;
    let mut superuser = app.connect("postgres").await;
    for step in [
        "create table written (id uuid); grant insert, select on written to palisade_app",
        "create function public.write() returns uuid language sql volatile
         as $$ insert into public.written values (gen_random_uuid()) returning id $$",
        "create view writing as select app.tenant_id() as tenant_id, public.write() as id",
        "grant select on writing to palisade_app",
    ] {
        attempt(&mut superuser, step.to_owned()).await.unwrap();
    }
    let mut written = async || -> i64 {
        let sql = "select count(*) from written";
        sqlx::query_scalar(sql)
            .fetch_one(&mut superuser)
            .await
            .unwrap()
    };
    let db = private_pool(app).await;
    let begin = |purpose| transaction(&db, &tenant, Some(UserRole::Owner), purpose);
    let id = ProjectId::generate();

    let query = begin(Purpose::Read);
    let failure = find::<Writing>(&query, id).await.unwrap_err();
    assert!(
        failure.detail().contains("read-only transaction"),
        "{}",
        failure.detail()
    );
    query.rollback().await;
    assert_eq!(written().await, 0);

    let mutation = begin(Purpose::Write);
    assert!(!find::<Writing>(&mutation, id).await.unwrap());
    mutation.commit().await.unwrap();
    assert_eq!(written().await, 1, "a mutation can");

    let failed = begin(Purpose::Write);
    find::<Writing>(&failed, id).await.unwrap();
    assert_eq!(
        find::<Missing>(&failed, id).await.unwrap_err().code(),
        palisade::error::Code::Internal
    );
    find::<Writing>(&failed, id).await.unwrap_err();
    assert!(
        failed.commit().await.is_err(),
        "a transaction with a failed statement was committed"
    );
    assert_eq!(written().await, 1);

    let operation = Operation::new(Uuid::now_v7());
    let context = TenantContext {
        tenant: tenant.id,
        user: None,
        role: None,
    };
    let cancelled_tx = TenantTx::new(db.clone(), context, Purpose::Write, operation.clone());
    find::<Writing>(&cancelled_tx, id).await.unwrap();
    operation.cancel();
    let failure = cancelled_tx.commit().await.unwrap_err();
    assert_eq!(
        failure.code(),
        palisade::error::Code::Timeout,
        "the client has received a timeout"
    );
    assert_eq!(written().await, 1);

    for ended in [begin(Purpose::Write), begin(Purpose::Write)] {
        find::<Writing>(&ended, id).await.unwrap();
        ended.rollback().await;
        find::<Writing>(&ended, id).await.unwrap_err();
        assert!(ended.commit().await.is_err(), "it ends once");
    }
    assert_eq!(written().await, 1);
    db.close().await;
}
