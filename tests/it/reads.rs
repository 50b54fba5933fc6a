//! What a frontend reads: every relation, in query order, and only its own tenant's.

use serde_json::Value;

use crate::harness::{TestApp, run};

/// The document of the promise: a page of projects with everything around them.
const HEADLINE: &str = "{ projects(first: 20) { nodes { id name status organization { id name } \
    owner { id email displayName } \
    invoices(first: 5) { nodes { id number status total { amount currencyCode } } } \
    auditLogs(first: 10) { nodes { id action occurredAt actor { ... on User { id email } } } } } } }";

#[test]
fn the_headline_document_returns_the_callers_rows_in_query_order() {
    run(async {
        let app = TestApp::shared().await;
        let (acme, globex) = (app.tenant().await, app.tenant().await);
        acme.seed(25, 6).await;
        globex.seed(3, 2).await;

        let answer = acme.owner().query(HEADLINE).await;
        let projects = answer.data()["projects"]["nodes"].as_array().unwrap();
        assert_eq!(projects.len(), 20);
        for project in projects {
            let keys: Vec<&str> = project
                .as_object()
                .unwrap()
                .keys()
                .map(String::as_str)
                .collect();
            assert_eq!(
                keys,
                [
                    "id",
                    "name",
                    "status",
                    "organization",
                    "owner",
                    "invoices",
                    "auditLogs"
                ]
            );
            assert_eq!(project["invoices"]["nodes"].as_array().unwrap().len(), 5);
            assert_eq!(project["auditLogs"]["nodes"].as_array().unwrap().len(), 10);
            assert_eq!(
                project["owner"]["email"],
                format!("owner@{}.example", acme.slug)
            );
        }
        assert!(!answer.body.to_string().contains(&globex.slug));

        let answer = globex.owner().query(HEADLINE).await;
        assert_eq!(
            answer.data()["projects"]["nodes"].as_array().map(Vec::len),
            Some(3)
        );
        assert!(!answer.body.to_string().contains(&acme.slug));
        assert!(answer.body.to_string().contains(&globex.slug));
    });
}

#[test]
fn root_fields_come_in_the_order_of_the_query() {
    run(async {
        let acme = TestApp::shared().await.tenant().await;
        acme.seed(1, 0).await;
        let answer = acme
            .owner()
            .query("{ z: projects { totalCount } __typename a: tenant { id } viewer { role } }")
            .await;
        let keys: Vec<&String> = match answer.data() {
            Value::Object(data) => data.keys().collect(),
            other => panic!("no data: {other}"),
        };
        assert_eq!(keys, ["z", "__typename", "a", "viewer"]);
    });
}
