//! The canary: a tenant whose rows no request may return. The service replaces a response that contains one.

use std::collections::BTreeSet;

use macro_rules_attribute::apply;
use palisade::{
    auth::role::UserRole,
    db::{admin_tx::AdminDb, sign_in::SignInDb},
    entities::ENTITIES,
    ids::{EntityId as _, TenantId, UserId},
    metrics,
    prove::{self, ProveError, Settings},
};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    cli::serve_in_json,
    harness::{Tenant, TestApp, attempt, palisade_test, without_predicate},
};

async fn one<T>(connection: &mut PgConnection, query: &str) -> T
where
    for<'r> T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    let query = sqlx::query_scalar(sqlx::AssertSqlSafe(query.to_owned()));
    query.fetch_one(connection).await.unwrap()
}

async fn marker(app: &TestApp) -> String {
    let mut superuser = app.connect("postgres").await;
    one(&mut superuser, "select app.canary_marker()").await
}

#[apply(palisade_test)]
async fn every_entity_has_a_row_of_the_canary_whose_strings_have_the_marker(app: &'static TestApp) {
    let mut superuser = app.connect("postgres").await;
    let marker = marker(app).await;
    assert_eq!(marker.len(), 16);
    assert!(marker.starts_with('f') && marker.bytes().all(|byte| byte.is_ascii_hexdigit()));
    for entity in ENTITIES {
        let table = entity.table;
        let id: Uuid = one(
            &mut superuser,
            &format!(
                "select id from {table} where id::text like '{}-%'",
                &marker[..8]
            ),
        )
        .await;
        assert!(id.simple().to_string().starts_with(&marker), "{table}");
        // A row without strings, such as a draft invoice, is recognized by its id.
        let row: Value = one(
            &mut superuser,
            &format!("select to_jsonb(r) from {table} r where id = '{id}'"),
        )
        .await;
        let names = [
            "name",
            "title",
            "body",
            "description",
            "display_name",
            "changes",
            "slug",
            "email",
        ];
        for name in names {
            let value = &row[name];
            assert!(
                value.is_null() || value.to_string().contains(&marker),
                "{table}.{name}: {value}"
            );
        }
        let flags = format!(
            "select relrowsecurity and relforcerowsecurity and not exists (
                 select from pg_trigger where tgrelid = c.oid and tgenabled = 'D')
             from pg_class c where oid = '{table}'::regclass"
        );
        assert!(
            one::<bool>(&mut superuser, &flags).await,
            "{table}: not as before"
        );
    }
}

#[apply(palisade_test)]
async fn each_database_has_another_marker_and_only_the_service_may_ask_for_it(
    app: &'static TestApp,
) {
    let other = app.in_own_database(&[]).await;
    assert_ne!(marker(app).await, marker(other).await);
    other.drop_database().await;
    let mut auth = app.connect("palisade_auth").await;
    let asked = attempt(&mut auth, "select app.canary_marker()".to_owned()).await;
    assert_eq!(asked, Err("42501".to_owned()));
    for role in ["palisade_app", "palisade_admin", "palisade_auth"] {
        let mut connection = app.connect(role).await;
        let added = "select app.add_canary_row('projects', 9, '{}')".to_owned();
        assert_eq!(
            attempt(&mut connection, added).await,
            Err("42501".to_owned()),
            "{role}"
        );
    }
}

#[apply(palisade_test)]
async fn no_person_can_sign_in_to_the_canary_and_no_list_of_tenants_has_it(app: &'static TestApp) {
    let mut superuser = app.connect("postgres").await;
    let tenant: Uuid = one(&mut superuser, "select app.canary_id(0)").await;
    let user: Uuid = one(&mut superuser, "select app.canary_id(1)").await;
    let (slug, email) = {
        let marker = marker(app).await;
        (
            format!("canary-{marker}"),
            format!("{marker}@canary.invalid"),
        )
    };

    let mut admin = AdminDb::connect(&app.database_url("palisade_admin"))
        .await
        .unwrap();
    assert!(
        !admin
            .tenants()
            .await
            .unwrap()
            .contains(&TenantId::from(tenant))
    );
    let directory = SignInDb::connect(&app.database_url("palisade_auth"))
        .await
        .unwrap();
    assert!(directory.find(&slug, &email).await.unwrap().is_none());
    let people = directory.people().await.unwrap();
    assert!(people.iter().all(|person| person.tenant_slug != slug));

    // Not even a token of the canary's owner is valid.
    let owner = app.caller(&app.url, tenant.into(), UserId::from(user), UserRole::Owner);
    let response = owner.query("{ viewer { user { email } } }").await;
    assert_eq!((response.status, response.code()), (401, "UNAUTHENTICATED"));
}

/// Documents that return a row of the canary once nothing isolates the projects. The last one selects neither its id nor
/// a string of it.
const DOCUMENTS: [&str; 3] = [
    "{ projects(first: 100) { nodes { id } } }",
    "{ projects(first: 100) { nodes { description } } }",
    "{ projects(first: 100) { nodes { version } } }",
];

#[apply(palisade_test)]
async fn a_response_with_a_row_of_the_canary_is_replaced_by_an_error() {
    let app = TestApp::shared().await.in_own_database(&[]).await;
    let acme = app.tenant().await;
    acme.seed(3, 0).await;
    let marker = marker(app).await;
    without_predicate(app, "projects").await;
    let before = metrics::CANARY_FOUND.value();
    for document in DOCUMENTS {
        let projects = acme.owner().query(document).await.data()["projects"]["nodes"].clone();
        assert_eq!(projects.as_array().unwrap().len(), 3);
    }
    assert_eq!(metrics::CANARY_FOUND.value(), before);

    let mut superuser = app.connect("postgres").await;
    let off = "alter table projects_rows disable row level security".to_owned();
    attempt(&mut superuser, off).await.unwrap();
    for (number, document) in (1..).zip(DOCUMENTS) {
        let reply = acme.owner().send(document, &json!({}), &[]).await;
        assert!(!reply.text.contains(&marker), "{}", reply.text);
        let response = reply.response();
        assert_eq!(
            (reply.status, response.code()),
            (200, "INTERNAL"),
            "{document}"
        );
        assert_eq!(response.body["data"], Value::Null, "{document}");
        let request_id = response.body["errors"][0]["extensions"]["requestId"].as_str();
        assert_eq!(request_id, reply.header("x-request-id"));
        assert_eq!(metrics::CANARY_FOUND.value(), before + number);
    }
    // `prove` reports it, too, although it cannot see the row.
    let globex = app.tenant().await;
    let proved = prove::run(Settings {
        url: acme.owner().url.clone(),
        token_a: acme.owner().token.clone().into(),
        token_b: globex.owner().token.clone().into(),
        sdl: None,
        fields: Vec::new(),
        max_rows: 100,
        samples: 0,
        checks_times: false,
    });
    let proved = proved.await;
    assert!(
        matches!(proved, Err(ProveError::Failed { .. })),
        "{proved:?}"
    );
    // A row that a mutation writes or rejects is read, too. These responses contain neither its id nor a string of it.
    let alone = "set session_replication_role = replica;
        delete from comments where project_id = app.canary_id(3);
        delete from invoices where project_id = app.canary_id(3);
        alter table projects_rows disable trigger user"
        .to_owned();
    attempt(&mut superuser, alone).await.unwrap();
    let id = format!("prj_{marker}{:016x}", 3);
    for mutation in [
        "updateProject(input: { id: $id, name: \"x\" })",
        "updateProject(input: { id: $id, name: \"x\", ifVersion: 7 })",
        "archiveProject(input: { id: $id })",
        "deleteProject(input: { id: $id })",
    ] {
        let document = format!(
            "mutation($id: ID!) {{ {mutation} {{ project {{ version }} userErrors {{ code }} }} }}"
        );
        let before = metrics::CANARY_FOUND.value();
        let reply = acme
            .owner()
            .send(&document, &json!({ "id": id }), &[])
            .await;
        assert!(!reply.text.contains(&marker), "{}", reply.text);
        let response = reply.response();
        assert_eq!(response.code(), "INTERNAL", "{mutation}: {}", reply.text);
        assert_eq!(metrics::CANARY_FOUND.value(), before + 1, "{mutation}");
        let unchanged = format!(
            "select count(*) from projects_rows
             where id = app.canary_id(3) and name like '%{marker}' and status <> 'ARCHIVED'"
        );
        let rows: i64 = one(&mut superuser, &unchanged).await;
        assert_eq!(rows, 1, "{mutation}");
    }
    // A response without a row of the canary is sent.
    let first =
        "{ projects(first: 1, filter: { name: { startsWith: \"nothing\" } }) { nodes { id } } }";
    assert_eq!(
        acme.owner().query(first).await.data()["projects"]["nodes"],
        json!([])
    );
    app.drop_database().await;
}

#[apply(palisade_test)]
async fn the_refusal_is_one_line_of_the_log_with_the_request_id() {
    let app = TestApp::shared().await.in_own_database(&[]).await;
    let acme: Tenant = app.tenant().await;
    acme.seed(1, 0).await;
    let marker = marker(app).await;
    let mut superuser = app.connect("postgres").await;
    // Without triggers, which need the context of a tenant.
    let mark = format!(
        "set session_replication_role = replica;
         update projects set name = '{marker}' where tenant_id = '{}'",
        acme.id.uuid()
    );
    attempt(&mut superuser, mark).await.unwrap();

    let (service, url) = serve_in_json(&app.database_url("palisade_app")).await;
    let owner = acme.owner().at(&url);
    let mut requests = BTreeSet::new();
    for document in [
        "{ projects { nodes { name } } }",
        "{ projects { nodes { version } } }",
    ] {
        let reply = owner.send(document, &json!({}), &[]).await;
        if reply.response().code() == "INTERNAL" {
            requests.insert(reply.header("x-request-id").unwrap().to_owned());
        }
    }
    assert_eq!(requests.len(), 1);
    let output = service.terminate().await;
    let lines = output
        .lines()
        .filter(|line| line.contains("row of the canary"));
    let lines: Vec<Value> = lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 1, "{output}");
    assert_eq!(lines[0]["level"], "ERROR");
    let logged = lines[0]["fields"]["request.id"].as_str().unwrap();
    assert!(requests.contains(logged), "{lines:?}");
    assert!(!output.contains(&marker));
    app.drop_database().await;
}
