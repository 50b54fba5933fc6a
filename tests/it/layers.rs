//! The two layers, each alone: row level security without the predicate, the predicate without it.

use std::fmt::Write as _;

use macro_rules_attribute::apply;
use palisade::ids::EntityId as _;
use serde_json::{Value, json};
use sqlx::{Column as _, Connection as _, PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use crate::harness::{Tenant, TestApp, attempt, id, palisade_test, tenant_tables};

/// Root lists, rows by id, children, counts: every form of statement that reads rows.
const EVERYTHING: &str = "{
    projects(first: 50) { totalCount nodes {
        id name organization { name slug } owner { email }
        invoices(first: 5) { totalCount nodes { id lineItems(first: 5) { totalCount nodes { description product { title } } } } }
        comments(first: 5) { totalCount nodes { body author { email } } }
        auditLogs(first: 5) { totalCount nodes { action } } } }
    organizations { totalCount nodes { name } } users { totalCount nodes { email } }
    products { totalCount nodes { title } } invoices { totalCount nodes { id } }
    invoiceLineItems { totalCount nodes { description } } comments { totalCount nodes { body } }
    auditLogs { totalCount nodes { id } } tenant { slug } viewer { user { email } tenant { slug } } }";

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
    let theirs = acme.seed(3, 2).await;
    globex.seed(2, 1).await;
    let before = globex.owner().query(EVERYTHING).await.data().clone();

    let mut superuser = app.connect("postgres").await;
    for table in tenant_tables(&mut superuser).await {
        let off = format!("alter table {} disable row level security", table.name);
        attempt(&mut superuser, off).await.unwrap();
    }
    // Row level security is off: the role of the service reads both tenants.
    let mut service = app.connect("palisade_app").await;
    assert_eq!(visible(&mut service, "projects").await, 5);
    assert_eq!(visible(&mut service, "tenants").await, 2);

    let after = globex.owner().query(EVERYTHING).await;
    assert_eq!(
        after.data(),
        &before,
        "what the policies hid, the predicate hides"
    );
    assert!(!after.body.to_string().contains(&acme.slug));
    assert!(after.body.to_string().contains(&globex.slug));

    let ids = json!({ "ids": [
        acme.id.to_string(),
        acme.owner().user.to_string(),
        id("org", theirs.organization),
        id("prj", theirs.projects[0]),
        id("prd", theirs.product),
        id("inv", theirs.invoices[0]),
    ] });
    let nodes = "query($ids: [ID!]!) { nodes(ids: $ids) { id } }";
    let found = globex.owner().graphql(nodes, ids.clone()).await;
    assert_eq!(
        found.data()["nodes"],
        json!([null, null, null, null, null, null])
    );
    let found = acme.owner().graphql(nodes, ids.clone()).await;
    assert_eq!(found.data()["nodes"].as_array().unwrap().len(), 6);
    assert!(
        found.data()["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .all(Value::is_object)
    );

    // Also where the foreign id is a parent and not the row itself.
    let filter = json!({ "org": id("org", theirs.organization) });
    let children = "query($org: ID!) { projects(filter: { organizationId: { eq: $org } }) { totalCount nodes { id } } }";
    let found = globex.owner().graphql(children, filter).await;
    assert_eq!(
        found.data()["projects"],
        json!({ "totalCount": 0, "nodes": [] })
    );
}

/// Runs a recorded statement with every parameter of a type set to the same value, and returns how
/// many rows it found: the tenant is the only plain uuid, the rest are lists of ids and page sizes.
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
    // A count returns a row for each parent, also for a count of 0.
    let found = |row: &&PgRow| counted(row).is_none_or(|count| count > 0);
    rows.iter().filter(found).count()
}

/// The count in a row.
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
    acme.seed(3, 2).await;
    globex.seed(2, 1).await;
    let response = acme.owner().query(EVERYTHING).await;
    response.data();
    let statements = response.statements();
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
