//! The audit log as clients read it.

use macro_rules_attribute::apply;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{TestApp, attempt, palisade_test};

/// A table that is not an entity of the service. The service does not know the type of the table's audit log entries.
/// The test drops the table after it has inserted a row.
const RETIRED: [&str; 2] = [
    "create table retired_things (
         tenant_id uuid not null default app.tenant_id(), id uuid not null, note text not null,
         constraint retired_things_pkey primary key (tenant_id, id))",
    "select app.protect('retired_things', subject => 'retired_thing')",
];

#[apply(palisade_test)]
async fn an_entry_about_an_unsupported_type_has_the_subject_type_unknown(app: &'static TestApp) {
    let app = app.in_own_database(&RETIRED).await;
    let tenant = app.tenant().await;
    tenant.seed(2, 1).await;
    let thing = Uuid::now_v7();
    let insert = format!("insert into retired_things (id, note) values ('{thing}', 'Old')");
    let mut sql = tenant.begin().await.0;
    assert_eq!(attempt(&mut sql, insert).await, Ok(1));
    let mut superuser = app.connect("postgres").await;
    let drop = "drop table retired_things".to_owned();
    attempt(&mut superuser, drop).await.unwrap();

    let list = async |filter: Value| -> (u64, Vec<Value>) {
        let document = "query ($filter: AuditLogFilter) { auditLogs(first: 100, filter: $filter) {
            totalCount nodes { id action subjectType subjectId subject { id } changes { field after } } } }";
        let response = tenant
            .owner()
            .graphql(document, json!({ "filter": filter }))
            .await;
        let list = &response.data()["auditLogs"];
        let nodes = list["nodes"].as_array().unwrap().clone();
        (list["totalCount"].as_u64().unwrap(), nodes)
    };
    let is_unknown = |entry: &&Value| entry["subjectType"] == "UNKNOWN";
    let (all, entries) = list(Value::Null).await;
    assert_eq!(all, entries.len() as u64);
    let unknown: Vec<&Value> = entries.iter().filter(is_unknown).collect();
    let [unknown] = unknown[..] else {
        panic!("{unknown:?}");
    };
    assert_eq!(
        *unknown,
        json!({
            "id": unknown["id"],
            "action": "retired_thing.created",
            "subjectType": "UNKNOWN",
            "subjectId": thing.to_string(),
            "subject": null,
            "changes": [{ "field": "note", "after": "Old" }],
        })
    );

    let of_projects = entries
        .iter()
        .filter(|entry| entry["subjectType"] == "PROJECT")
        .count() as u64;
    assert!(of_projects > 0 && of_projects < all - 1);
    for (filter, expected, has_unknown) in [
        (json!({ "eq": "UNKNOWN" }), 1, true),
        (json!({ "in": ["UNKNOWN"] }), 1, true),
        (
            json!({ "in": ["PROJECT", "UNKNOWN"] }),
            of_projects + 1,
            true,
        ),
        (json!({ "ne": "PROJECT" }), all - of_projects, true),
        (json!({ "ne": "UNKNOWN" }), all - 1, false),
        (json!({ "eq": "PROJECT" }), of_projects, false),
        (json!({ "eq": "UNKNOWN", "ne": "UNKNOWN" }), 0, false),
        (json!({ "in": [] }), 0, false),
    ] {
        let filter = json!({ "subjectType": filter });
        let (total, nodes) = list(filter.clone()).await;
        assert_eq!(total, expected, "{filter}");
        assert_eq!(nodes.len() as u64, expected, "{filter}");
        assert_eq!(
            nodes.iter().any(|entry| is_unknown(&entry)),
            has_unknown,
            "{filter}"
        );
        // The negated filter finds exactly the other entries.
        let negation = json!({ "not": filter });
        let (total, nodes) = list(negation.clone()).await;
        assert_eq!(total, all - expected, "{negation}");
        assert_eq!(
            nodes.iter().any(|entry| is_unknown(&entry)),
            !has_unknown,
            "{negation}"
        );
    }

    let document =
        "query ($id: ID!) { auditLog(id: $id) { subjectType subjectId subject { id } } }";
    let response = tenant
        .owner()
        .graphql(document, json!({ "id": unknown["id"] }))
        .await;
    assert_eq!(response.data()["auditLog"]["subjectType"], "UNKNOWN");
    app.drop_database().await;
}
