//! Queries as a frontend sends them: the response has the fields in query order, and only rows of the caller's tenant.

use macro_rules_attribute::apply;
use palisade::{auth::role::UserRole, graphql::scalars::CurrencyCode};
use serde_json::{Value, json};

use crate::{
    create::read,
    harness::{Tenant, TestApp, id, palisade_test},
};

/// The headline document: a page of projects with their related rows.
const HEADLINE: &str = "{ projects(first: 20) { nodes { id name status organization { id name } \
    owner { id email displayName } \
    invoices(first: 5) { nodes { id number status total { amount currencyCode } } } \
    auditLogs(first: 10) { nodes { id action occurredAt actor { ... on User { id email } } } } } } }";

#[apply(palisade_test)]
async fn the_headline_document_returns_the_callers_rows_in_query_order(app: &'static TestApp) {
    let (acme, globex) = (app.tenant().await, app.tenant().await);
    acme.seed(25, 6).await;
    globex.seed(3, 2).await;

    let response = acme.owner().query(HEADLINE).await;
    let projects = response.data()["projects"]["nodes"].as_array().unwrap();
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
    assert!(!response.body.to_string().contains(&globex.slug));

    let response = globex.owner().query(HEADLINE).await;
    assert_eq!(
        response.data()["projects"]["nodes"]
            .as_array()
            .map(Vec::len),
        Some(3)
    );
    assert!(!response.body.to_string().contains(&acme.slug));
    assert!(response.body.to_string().contains(&globex.slug));
}

#[apply(palisade_test)]
async fn root_fields_are_returned_in_the_order_of_the_query(acme: Tenant) {
    acme.seed(1, 0).await;
    let response = acme
        .owner()
        .query("{ z: projects { totalCount } __typename a: tenant { id } viewer { role } }")
        .await;
    let keys: Vec<&String> = match response.data() {
        Value::Object(data) => data.keys().collect(),
        other => panic!("no data: {other}"),
    };
    assert_eq!(keys, ["z", "__typename", "a", "viewer"]);
}

#[apply(palisade_test)]
async fn the_viewer_is_the_caller_with_their_other_tenants(app: &'static TestApp) {
    let (acme, globex) = (app.tenant().await, app.tenant().await);
    let consultant = acme.share_member_with(&globex, UserRole::Viewer).await;

    let document = "{ viewer { role permissions tokenExpiresAt user { id email } \
                    tenant { id slug } memberships { tenantSlug tenantName role } } }";
    let response = consultant.query(document).await;
    let viewer = &response.data()["viewer"];
    assert_eq!(viewer["role"], "VIEWER");
    assert_eq!(viewer["permissions"], json!([]));
    assert_eq!(viewer["user"]["id"], consultant.user.to_string());
    assert_eq!(viewer["tenant"]["slug"], acme.slug);
    let mut slugs: Vec<&str> = viewer["memberships"]
        .as_array()
        .unwrap()
        .iter()
        .map(|membership| membership["tenantSlug"].as_str().unwrap())
        .collect();
    slugs.sort_unstable();
    let mut expected = [acme.slug.as_str(), globex.slug.as_str()];
    expected.sort_unstable();
    assert_eq!(slugs, expected);

    let response = acme.owner().query(document).await;
    assert_eq!(
        response.data()["viewer"]["memberships"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
}

#[apply(palisade_test)]
async fn money_has_the_digits_of_its_currency(acme: Tenant) {
    let seed = acme.seed(1, 1).await;
    let mut sql = acme.begin().await;
    let one = "delete from invoice_line_items where position = 2";
    sqlx::query(one).execute(&mut sql.0).await.unwrap();
    for (currency, minor, amount) in [
        ("EUR", 1_i64, "0.01"),
        ("EUR", -1_999, "-19.99"),
        ("JPY", 500, "500"),
        ("KWD", 1, "0.001"),
        ("USD", 1_000_000_000_000_000, "10000000000000.00"),
        ("USD", 0, "0.00"),
    ] {
        let price = "update invoice_line_items set unit_price_minor = $1, amount_minor = $1";
        sqlx::query(price)
            .bind(minor)
            .execute(&mut sql.0)
            .await
            .unwrap();
        sqlx::query("update invoices set currency = $1")
            .bind(currency)
            .execute(&mut sql.0)
            .await
            .unwrap();
        let response = acme
            .owner()
            .graphql(
                "query ($id: ID!) { invoice(id: $id) { total { amount currencyCode } } }",
                json!({ "id": id("inv", seed.invoices[0]) }),
            )
            .await;
        assert_eq!(
            response.data()["invoice"]["total"],
            json!({ "amount": amount, "currencyCode": currency })
        );
    }
}

#[apply(palisade_test)]
async fn every_currency_has_the_same_number_of_digits_as_in_the_database(acme: Tenant) {
    let response = acme
        .caller(UserRole::Viewer)
        .query("{ currencies { code minorDigits } }")
        .await;
    let currencies = response.data()["currencies"].as_array().unwrap();
    assert!(currencies.len() > 40);
    for currency in currencies {
        let code = CurrencyCode::from(currency["code"].as_str().unwrap());
        assert_eq!(currency["minorDigits"], code.minor_digits(), "{code}");
    }
}

#[apply(palisade_test)]
async fn the_audit_log_reports_who_changed_what(acme: Tenant) {
    let seed = acme.seed(1, 0).await;
    let project = id("prj", seed.projects[0]);
    let before = read(acme.owner(), "project", &project, "name").await["name"].clone();
    let mut sql = acme.begin_as(UserRole::Member).await;
    sqlx::query("update projects set name = 'Renamed', due_on = '2026-12-24'")
        .execute(&mut sql.0)
        .await
        .unwrap();
    let response = acme
        .owner()
        .graphql(
            "query ($id: ID!) { project(id: $id) { auditLogs(first: 1) { nodes {
                action subjectType subjectId subject { id __typename } project { id }
                actor { __typename ... on User { id } ... on SystemActor { name } }
                changes { field before after } } } } }",
            json!({ "id": project }),
        )
        .await;
    assert_eq!(
        response.data()["project"]["auditLogs"]["nodes"][0],
        json!({
            "action": "project.updated",
            "subjectType": "PROJECT",
            "subjectId": project,
            "subject": { "id": project, "__typename": "Project" },
            "project": { "id": project },
            "actor": {
                "__typename": "User",
                "id": acme.caller(UserRole::Member).user.to_string(),
            },
            "changes": [
                { "field": "due_on", "before": null, "after": "2026-12-24" },
                { "field": "name", "before": before, "after": "Renamed" },
            ],
        })
    );
}

#[apply(palisade_test)]
async fn a_comment_reports_what_the_caller_may_do_with_it(acme: Tenant) {
    acme.seed(1, 0).await;
    let document =
        "{ comments { nodes { viewerCanEdit viewerCanDelete subject { __typename } } } }";
    for (role, edits, deletes) in [
        (UserRole::Owner, true, true),
        (UserRole::Admin, false, true),
        (UserRole::Member, false, false),
        (UserRole::Billing, false, false),
        (UserRole::Viewer, false, false),
    ] {
        let response = acme.caller(role).query(document).await;
        assert_eq!(
            response.data()["comments"]["nodes"],
            json!([{
                "viewerCanEdit": edits,
                "viewerCanDelete": deletes,
                "subject": { "__typename": "Project" },
            }]),
            "{role:?}"
        );
    }
}

#[apply(palisade_test)]
async fn a_failed_root_field_is_null_and_a_failed_non_null_one_makes_data_null(acme: Tenant) {
    let owner = acme.owner();

    let response = owner
        .query("{ a: viewer { role } node(id: \"x\") { id } project(id: \"y\") { id } }")
        .await;
    assert_eq!(
        response.body["data"].to_string(),
        r#"{"a":{"role":"OWNER"},"node":null,"project":null}"#
    );
    let paths: Vec<&Value> = response.body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| &error["path"])
        .collect();
    assert_eq!(paths, [&json!(["node"]), &json!(["project"])]);

    let response = owner
        .query("{ viewer { role } projects(first: 101) { nodes { id } } }")
        .await;
    assert_eq!(response.body["data"], Value::Null);
    assert_eq!(response.code(), "BAD_USER_INPUT");
    assert_eq!(response.body["errors"][0]["path"], json!(["projects"]));

    let response = owner.query("{ node(id: \"x\") { id } }").await;
    assert_eq!(response.body["data"], json!({ "node": null }));

    let response = owner.query("{ viewer @skip(if: true) { role } }").await;
    assert_eq!(response.data(), &json!({}));
}
