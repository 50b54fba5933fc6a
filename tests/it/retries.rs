//! If the database aborts a mutation because of a conflict with another, the service retries the mutation a limited
//! number of times. The changes are stored once.

use futures_util::future::join_all;
use macro_rules_attribute::apply;
use serde_json::json;
use sqlx::PgConnection;

use crate::{
    create::{self, fingerprint, read},
    harness::{Caller, Tenant, TestApp, eventually, mutation, palisade_test, user_errors},
};

#[apply(palisade_test)]
async fn conflicting_clients_all_succeed_each_time() {
    // The second storm has so many conflicts that few mutations would succeed if the last attempt did not run alone.
    for (pairs, rounds) in [(1, 200), (4, 25)] {
        storm(pairs, rounds).await;
    }
}

/// Runs pairs of clients that change the same two projects in opposite order. Each client does so `rounds` times.
async fn storm(pairs: usize, rounds: usize) {
    // PostgreSQL looks for a deadlock after 1 ms of waiting. The default is a second.
    let settings = "do $$ begin
            execute format('alter role palisade_app in database %I set deadlock_timeout = ''1ms''', current_database());
        end $$";
    let app = TestApp::shared().await.in_own_database(&[settings]).await;
    let acme = app.tenant().await;
    let owner = acme.owner();
    let organization = create::organization(owner).await;
    let one = create::project(owner, &organization).await;
    let two = create::project(owner, &organization).await;
    let client = async |first: &str, second: &str, way: &str| {
        for round in 0..rounds {
            let name = format!("{way} {round}");
            let field = |alias, id| {
                format!(
                    "{alias}: updateProject(input: {{ id: \"{id}\", name: \"{name}\" }}) {{ project {{ name }} userErrors {{ code }} }}"
                )
            };
            let (a, b) = (field("a", first), field("b", second));
            let reply = owner
                .send(&format!("mutation {{ {a} {b} }}"), &json!({}), &[])
                .await;
            let done = json!({ "project": { "name": name }, "userErrors": [] });
            assert_eq!(reply.response().data(), &json!({ "a": done, "b": done }));
        }
    };
    let clients = (0..pairs).map(async |pair| {
        let (there, back) = (format!("There {pair}"), format!("Back {pair}"));
        tokio::join!(client(&one, &two, &there), client(&two, &one, &back))
    });
    join_all(clients).await;
    let sent = 2 * pairs * rounds;
    let expected = 1 + sent;
    let first = read(owner, "project", &one, "name version").await;
    let second = read(owner, "project", &two, "name version").await;
    assert_eq!(first["version"], expected);
    assert_eq!(second["version"], expected);
    // The last mutation of one project was also the last mutation of the other.
    assert_eq!(first["name"], second["name"]);
    let audited: i64 = sqlx::query_scalar(
        "select count(*) from audit_logs where tenant_id = $1 and action = 'project.updated'",
    )
    .bind(acme.id)
    .fetch_one(&mut app.connect("postgres").await)
    .await
    .unwrap();
    assert_eq!(audited, 2 * i64::try_from(sent).unwrap());
    // PostgreSQL updates its statistics with a delay.
    eventually("there were deadlocks", async || {
        let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
        let found: i64 = sqlx::query_scalar(deadlocks)
            .fetch_one(&mut app.connect("postgres").await)
            .await
            .unwrap();
        found >= 10
    })
    .await;
    app.drop_database().await;
}

/// A service on a database in which the first `runs` attempts to create an organization fail: in the insertion or, with
/// `at_commit`, in the commit.
async fn failing(error: &str, runs: u32, at_commit: bool) -> &'static TestApp {
    let function = format!(
        "create function public.fail() returns trigger language plpgsql as $$ begin
            if nextval('public.runs') <= {runs} then raise {error}; end if;
            return new;
         end $$"
    );
    let trigger = if at_commit {
        "create constraint trigger fail after insert on organizations
         deferrable initially deferred for each row execute function public.fail()"
    } else {
        "create trigger fail before insert on organizations
         for each row execute function public.fail()"
    };
    let steps = [
        "create sequence public.runs",
        "grant usage on sequence public.runs to palisade_app",
        &function,
        trigger,
    ];
    TestApp::shared().await.in_own_database(&steps).await
}

/// The number of times that the trigger has run.
async fn runs(superuser: &mut PgConnection) -> i64 {
    sqlx::query_scalar("select last_value from public.runs where is_called")
        .fetch_one(superuser)
        .await
        .unwrap()
}

async fn keys(superuser: &mut PgConnection, tenant: &Tenant) -> i64 {
    sqlx::query_scalar("select count(*) from idempotency_keys where tenant_id = $1")
        .bind(tenant.id)
        .fetch_one(superuser)
        .await
        .unwrap()
}

async fn comments(caller: &Caller) -> u64 {
    let response = caller.query("{ comments { totalCount } }").await;
    response.data()["comments"]["totalCount"].as_u64().unwrap()
}

#[apply(palisade_test)]
async fn a_lasting_fault_is_unavailable_after_eight_attempts() {
    for (error, at_commit) in [
        ("serialization_failure", false),
        ("deadlock_detected", true),
    ] {
        let app = failing(error, u32::MAX, at_commit).await;
        let acme = app.tenant().await;
        let owner = acme.owner();
        let mut superuser = app.connect("postgres").await;
        let product = create::product(owner).await;
        let before = fingerprint(&acme).await;
        let create = "createOrganization(input: { name: \"n\" }) { organization { id } }";
        let add_comment = format!(
            "createComment(input: {{ subjectId: \"{product}\", body: \"b\" }}) {{ comment {{ id }} }}"
        );
        let mut ran = 0;
        for document in [
            format!("mutation {{ {create} }}"),
            format!("mutation {{ {add_comment} {create} }}"),
        ] {
            for headers in [&[][..], &[("idempotency-key", "key")]] {
                let reply = owner.send(&document, &json!({}), headers).await;
                assert_eq!(reply.status, 503, "{}", reply.text);
                assert_eq!(reply.header("retry-after"), Some("1"));
                let response = reply.response();
                assert_eq!(response.code(), "UNAVAILABLE");
                assert_eq!(response.body["data"], json!(null));
                ran += 8;
                assert_eq!(runs(&mut superuser).await, ran, "{document} {headers:?}");
                assert!(fingerprint(&acme).await == before);
                assert_eq!(keys(&mut superuser, &acme).await, 0);
            }
        }
        app.drop_database().await;
    }
}

#[apply(palisade_test)]
async fn a_passing_fault_is_invisible_and_the_mutation_runs_once() {
    for (error, at_commit, with_key) in [
        ("serialization_failure", false, false),
        ("deadlock_detected", false, true),
        ("serialization_failure", true, false),
        ("serialization_failure", true, true),
    ] {
        let app = failing(error, 2, at_commit).await;
        let acme = app.tenant().await;
        let owner = acme.owner();
        let mut superuser = app.connect("postgres").await;
        let product = create::product(owner).await;
        let document = format!(
            "mutation {{
                createComment(input: {{ subjectId: \"{product}\", body: \"b\" }}) {{ comment {{ id }} }}
                createOrganization(input: {{ name: \"n\" }}) {{ organization {{ slug version }} }} }}"
        );
        let key = [("idempotency-key", "key")];
        let headers = if with_key { &key[..] } else { &[] };
        let reply = owner.send(&document, &json!({}), headers).await;
        let response = reply.response();
        let expected = json!({ "organization": { "slug": "n", "version": 1 } });
        assert_eq!(response.data()["createOrganization"], expected);
        assert_eq!(
            runs(&mut superuser).await,
            3,
            "{error} {at_commit} {with_key}"
        );
        assert_eq!(comments(owner).await, 1);
        let response = owner
            .query("{ organizations { nodes { slug auditLogs { totalCount } } } }")
            .await;
        let once = json!([{ "slug": "n", "auditLogs": { "totalCount": 1 } }]);
        assert_eq!(response.data()["organizations"]["nodes"], once);
        assert_eq!(keys(&mut superuser, &acme).await, i64::from(with_key));
        app.drop_database().await;
    }
}

#[apply(palisade_test)]
async fn a_failure_without_contention_is_tried_once() {
    for error in [
        "exception 'a defect'",
        "lock_not_available",
        "query_canceled",
    ] {
        let app = failing(error, u32::MAX, false).await;
        let acme = app.tenant().await;
        let mut superuser = app.connect("postgres").await;
        let document = mutation("createOrganization", "organization { id }");
        let variables = json!({ "input": { "name": "n" } });
        let reply = acme.owner().send(&document, &variables, &[]).await;
        assert!(!reply.response().code().is_empty(), "{}", reply.text);
        assert_eq!(runs(&mut superuser).await, 1, "{error}");
        // The service does not retry after the violation of a constraint either.
        let payload = acme
            .owner()
            .mutate("createOrganization", json!({ "name": "", "slug": "" }), "")
            .await;
        assert_eq!(user_errors(&payload).len(), 2);
        assert_eq!(runs(&mut superuser).await, 1);
        app.drop_database().await;
    }
}
