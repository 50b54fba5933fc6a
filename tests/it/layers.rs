//! The two layers of isolation, each without the other: row level security, and the tenant predicate of each statement.

use std::{collections::BTreeSet, fmt::Write as _};

use macro_rules_attribute::apply;
use palisade::{entities::ENTITIES, ids::EntityId as _};
use serde_json::{Value, json};
use sqlx::{Column as _, Connection as _, PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use crate::harness::{
    FieldExt as _, Response, Tenant, TestApp, attempt, id, model, palisade_test, tenant_tables,
};

/// A document for each root list. It selects the count, the related rows and the lists below the rows, so together the
/// documents use every form of statement that reads rows.
fn documents() -> Vec<String> {
    let lists = model().root_lists().map(|list| {
        let row = model().selection(list.row(), 2);
        format!(
            "{{ {}(first: 20) {{ totalCount nodes {{ {row} }} }} }}",
            list.name
        )
    });
    let caller = "{ tenant { slug } viewer { user { email } tenant { slug } } }".to_owned();
    lists.chain([caller]).collect()
}

/// The responses to all documents.
async fn read_all(tenant: &Tenant) -> Vec<Response> {
    let mut responses = Vec::new();
    for document in documents() {
        let response = tenant.owner().query(&document).await;
        response.data();
        responses.push(response);
    }
    responses
}

/// The data of responses.
fn data(responses: &[Response]) -> Vec<&Value> {
    responses.iter().map(Response::data).collect()
}

async fn visible(connection: &mut PgConnection, table: &str) -> i64 {
    let sql = format!("select count(*) from {table}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
        .fetch_one(connection)
        .await
        .unwrap()
}

#[apply(palisade_test)]
async fn without_policies_the_service_returns_only_the_own_tenants_rows() {
    let app = TestApp::shared().await.in_own_database(&[]).await;
    let (acme, globex) = (app.tenant().await, app.tenant().await);
    acme.fill(12).await;
    globex.fill(12).await;
    let mut ids = Vec::new();
    let mut sql = acme.begin().await.0;
    for entity in ENTITIES {
        let first = format!("select id from {} order by id limit 1", entity.table);
        let first = sqlx::query_scalar(sqlx::AssertSqlSafe(first)).fetch_one(&mut sql);
        ids.push(id(entity.id_prefix, first.await.unwrap()));
    }
    let before = read_all(&globex).await;

    let mut superuser = app.connect("postgres").await;
    for table in tenant_tables(&mut superuser).await {
        let off = format!("alter table {} disable row level security", table.name);
        attempt(&mut superuser, off).await.unwrap();
    }
    // Row level security is off, so the service's role sees the rows of both tenants.
    let mut service = app.connect("palisade_app").await;
    // The third tenant, with one project, is the canary.
    assert_eq!(visible(&mut service, "projects").await, 25);
    assert_eq!(visible(&mut service, "tenants").await, 3);

    let after = read_all(&globex).await;
    assert_eq!(
        data(&after),
        data(&before),
        "what the policies hid, the predicate hides"
    );
    for response in &after {
        assert!(!response.body.to_string().contains(&acme.slug));
        assert!(response.body.to_string().contains(&globex.slug));
    }

    let nodes = "query($ids: [ID!]!) { nodes(ids: $ids) { id } }";
    let variables = json!({ "ids": ids });
    let found = globex.owner().graphql(nodes, variables.clone()).await;
    assert_eq!(found.data()["nodes"], json!(vec![Value::Null; ids.len()]));
    let found = acme.owner().graphql(nodes, variables).await;
    let expected: Vec<Value> = ids.iter().map(|id| json!({ "id": id })).collect();
    assert_eq!(found.data()["nodes"], json!(expected));

    // A filter by the id of another tenant's parent row finds no children of that row.
    let parent = "select organization_id from projects where tenant_id = app.tenant_id() limit 1";
    let parent = sqlx::query_scalar(parent).fetch_one(&mut sql);
    let parent: Uuid = parent.await.unwrap();
    let filter = json!({ "org": id("org", parent) });
    let children = "query($org: ID!) { projects(filter: { organizationId: { eq: $org } }) { totalCount nodes { id } } }";
    let found = globex.owner().graphql(children, filter.clone()).await;
    assert_eq!(
        found.data()["projects"],
        json!({ "totalCount": 0, "nodes": [] })
    );
    let found = acme.owner().graphql(children, filter).await;
    assert!(found.data()["projects"]["totalCount"].as_u64() > Some(0));
}

/// Runs a recorded statement, and returns the number of rows that it found. The value of a parameter depends only on
/// its type: a single uuid is the tenant, the other parameters are lists of ids and page sizes.
async fn replay(
    connection: &mut PgConnection,
    statement: &str,
    tenant: Uuid,
    ids: &[Uuid],
) -> usize {
    attempt(connection, format!("prepare replayed as {statement}"))
        .await
        .unwrap();
    let types: Vec<String> = sqlx::query_scalar(
        "select parameter_types::text[] from pg_prepared_statements where name = 'replayed'",
    )
    .fetch_one(&mut *connection)
    .await
    .unwrap();
    let mut arguments = String::new();
    for of in &types {
        let separator = if arguments.is_empty() { "" } else { ", " };
        let value = match of.as_str() {
            "uuid" => format!("'{tenant}'"),
            "uuid[]" => {
                let ids: Vec<String> = ids.iter().map(Uuid::to_string).collect();
                format!("'{{{}}}'", ids.join(","))
            }
            "bigint" => "1000".to_owned(),
            other => panic!("{statement}: a parameter of type {other}"),
        };
        write!(arguments, "{separator}{value}").unwrap();
    }
    assert!(
        types.iter().any(|of| of == "uuid"),
        "{statement}: names no tenant"
    );
    let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "execute replayed({arguments})"
    )))
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    attempt(connection, "deallocate replayed".to_owned())
        .await
        .unwrap();
    // The statement of a count returns a row even if the count is 0.
    let found = |row: &&PgRow| counted(row).is_none_or(|count| count > 0);
    rows.iter().filter(found).count()
}

/// The count in a row, if the row is the result of a count.
fn counted(row: &PgRow) -> Option<i64> {
    let first = row
        .columns()
        .first()
        .filter(|column| column.name() == "n")?;
    Some(row.get(first.ordinal()))
}

async fn ids_of(tenant: &Tenant) -> Vec<Uuid> {
    let mut sql = tenant.begin().await;
    let mut ids = Vec::new();
    for table in tenant_tables(&mut sql.0).await {
        let query = format!("select id from {}", table.name);
        let found: Vec<Uuid> = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
            .fetch_all(&mut sql.0)
            .await
            .unwrap();
        ids.extend(found);
    }
    sql.0.close().await.unwrap();
    ids
}

#[apply(palisade_test)]
async fn with_the_wrong_predicate_row_level_security_returns_nothing(app: &'static TestApp) {
    let (acme, globex) = (app.tenant().await, app.tenant().await);
    acme.fill(12).await;
    globex.fill(12).await;
    let responses = read_all(&acme).await;
    let statements: BTreeSet<String> = responses.iter().flat_map(Response::statements).collect();
    assert!(
        statements.len() > 20,
        "only {} statements",
        statements.len()
    );
    let ids = ids_of(&acme).await;

    let (mut own, mut foreign) = (acme.begin().await.0, globex.begin().await.0);
    for statement in &statements {
        let seen = replay(&mut own, statement, acme.id.uuid(), &ids).await;
        assert!(
            seen > 0,
            "{statement}: finds nothing for its own tenant either"
        );
        let seen = replay(&mut foreign, statement, acme.id.uuid(), &ids).await;
        assert_eq!(seen, 0, "{statement}: rows of another tenant");
    }
}
