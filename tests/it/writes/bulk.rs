//! Mutations of many rows: imports and deletions.

use macro_rules_attribute::apply;
use palisade::auth::role::UserRole;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    create::{self, fingerprint, read},
    harness::{Tenant, palisade_test, user_errors},
};

fn rows(rows: &[(&str, &str)]) -> Vec<Value> {
    rows.iter()
        .map(|(asin, title)| json!({ "asin": asin, "title": title }))
        .collect()
}

const IMPORTED: &str = "results { index product { asin title } userErrors { code field } }";

#[apply(palisade_test)]
async fn an_import_creates_all_products_or_none(acme: Tenant) {
    let caller = acme.caller(UserRole::Member);
    let input = json!({ "rows": rows(&[("B000000001", "One"), ("B000000002", "Two")]) });
    let payload = caller.mutate_ok("importProducts", input, IMPORTED).await;
    assert_eq!(
        payload["results"],
        json!([
            { "index": 0, "product": { "asin": "B000000001", "title": "One" }, "userErrors": [] },
            { "index": 1, "product": { "asin": "B000000002", "title": "Two" }, "userErrors": [] },
        ])
    );

    let before = fingerprint(&acme).await;
    let some_bad = rows(&[
        ("B000000003", "Three"),
        ("B000000001", "Taken"),
        ("lower", ""),
        ("B000000003", "Twice"),
    ]);
    let input = json!({ "rows": some_bad });
    let payload = caller.mutate("importProducts", input, IMPORTED).await;
    let at = |row: u32, field: &str| format!("input.rows.{row}.{field}");
    assert_eq!(
        user_errors(&payload),
        [
            ("ALREADY_EXISTS", at(1, "asin")),
            ("INVALID", at(2, "asin")),
            ("REQUIRED", at(2, "title")),
            ("ALREADY_EXISTS", at(3, "asin")),
        ]
    );
    let results = payload["results"].as_array().unwrap();
    assert_eq!(results.len(), 4);
    assert!(
        results.iter().all(|row| row["product"].is_null()),
        "{payload}"
    );
    let codes: Vec<&Value> = results
        .iter()
        .map(|row| &row["userErrors"][0]["code"])
        .collect();
    assert_eq!(
        codes,
        [
            &Value::Null,
            &json!("ALREADY_EXISTS"),
            &json!("INVALID"),
            &json!("ALREADY_EXISTS")
        ]
    );
    assert!(fingerprint(&acme).await == before);

    let input = json!({ "rows": some_bad, "atomic": false });
    let payload = caller.mutate_ok("importProducts", input, IMPORTED).await;
    let made: Vec<&Value> = payload["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["product"]["title"])
        .collect();
    assert_eq!(
        made,
        [&json!("Three"), &Value::Null, &Value::Null, &Value::Null]
    );
    let of_second = &payload["results"][1]["userErrors"];
    assert_eq!(
        of_second,
        &json!([{ "code": "ALREADY_EXISTS", "field": ["input", "asin"] }])
    );
    let response = caller
        .query("{ products(orderBy: [{ field: CREATED_AT }]) { nodes { title } } }")
        .await;
    assert_eq!(
        response.data()["products"]["nodes"],
        json!([{ "title": "One" }, { "title": "Two" }, { "title": "Three" }])
    );
}

#[apply(palisade_test)]
async fn a_thousand_whole_products_are_imported_and_one_more_is_not(acme: Tenant) {
    let owner = acme.owner();
    let price = json!({ "amount": "1.00", "currencyCode": "EUR" });
    let mut rows: Vec<Value> = (0..1_001)
        .map(|n| json!({ "asin": format!("C{n:09}"), "title": format!("{n}"), "price": price }))
        .collect();
    for (count, code) in [(0, "REQUIRED"), (1_001, "LIMIT_REACHED")] {
        let input = json!({ "rows": rows[..count] });
        let payload = owner.mutate("importProducts", input, IMPORTED).await;
        assert_eq!(user_errors(&payload), [(code, "input.rows".to_owned())]);
        assert_eq!(payload["results"], json!([]));
    }
    rows.pop();
    let input = json!({ "rows": rows });
    let payload = owner.mutate_ok("importProducts", input, IMPORTED).await;
    let results = payload["results"].as_array().unwrap();
    assert_eq!(results.len(), 1_000);
    for (index, row) in results.iter().enumerate() {
        assert_eq!(row["product"]["title"], index.to_string(), "{row}");
        assert_eq!(row["index"], index, "{row}");
    }
    let response = owner.query("{ products { totalCount } }").await;
    assert_eq!(response.data()["products"]["totalCount"], 1_000);
}

const DELETED: &str = "results { index deletedId userErrors { code field } }";

#[apply(palisade_test)]
async fn a_bulk_deletion_deletes_all_or_none_and_reports_why(acme: Tenant) {
    let owner = acme.owner();
    let member = acme.caller(UserRole::Member);
    let organization = create::organization(owner).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(create::project(member, &organization).await);
    }
    let [free, own, billed, discussed, last] = &<[String; 5]>::try_from(ids).unwrap();
    let input =
        json!({ "organizationId": organization, "projectId": billed, "currencyCode": "EUR" });
    owner
        .mutate_ok("createInvoice", input, "invoice { id }")
        .await;
    let own_comment = create::comment(member, own).await;
    let others_comment = create::comment(owner, discussed).await;
    let missing = format!("prj_{}", Uuid::now_v7().simple());
    let all = [free, own, billed, discussed, &missing, free];

    let before = fingerprint(&acme).await;
    let payload = member
        .mutate("deleteProjects", json!({ "ids": all }), DELETED)
        .await;
    let at = |row: u32| format!("input.ids.{row}");
    let expected = [
        ("INVALID_STATE", at(2)),
        ("INVALID_STATE", at(3)),
        ("NOT_FOUND", at(4)),
        ("INVALID", at(5)),
    ];
    assert_eq!(user_errors(&payload), expected);
    let results = payload["results"].as_array().unwrap();
    assert!(
        results.iter().all(|row| row["deletedId"].is_null()),
        "{payload}"
    );
    assert!(fingerprint(&acme).await == before);

    let input = json!({ "ids": all, "atomic": false });
    let payload = member.mutate_ok("deleteProjects", input, DELETED).await;
    let found: Vec<(Value, Value)> = payload["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (
                row["deletedId"].clone(),
                row["userErrors"][0]["code"].clone(),
            )
        })
        .collect();
    let gone = |id: &str| (json!(id), Value::Null);
    let stays = |code: &str| (Value::Null, json!(code));
    assert_eq!(
        found,
        [
            gone(free),
            gone(own),
            stays("INVALID_STATE"),
            stays("INVALID_STATE"),
            stays("NOT_FOUND"),
            stays("INVALID"),
        ]
    );
    for (id, is_there) in [(free, false), (own, false), (billed, true), (last, true)] {
        let there = !read(owner, "project", id, "id").await.is_null();
        assert_eq!(there, is_there, "{id}");
    }
    assert!(read(owner, "comment", &own_comment, "id").await.is_null());

    // An owner may also delete the comments of other users.
    let input = json!({ "ids": [discussed, last] });
    owner.mutate_ok("deleteProjects", input, DELETED).await;
    assert!(
        read(owner, "comment", &others_comment, "id")
            .await
            .is_null()
    );
}

#[apply(palisade_test)]
async fn a_hundred_projects_are_deleted_at_once_and_one_more_is_not(acme: Tenant) {
    let owner = acme.owner();
    let organization = create::organization(owner).await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        let one = |n| {
            format!(
                "p{n}: createProject(input: {{ name: \"p\", organizationId: \"{organization}\" }}) {{ project {{ id }} }}"
            )
        };
        let document = (0..20).map(one).collect::<String>();
        let response = owner.query(&format!("mutation {{ {document} }}")).await;
        let made = response.data().as_object().unwrap().values();
        ids.extend(made.map(|payload| payload["project"]["id"].clone()));
    }
    ids.truncate(101);
    let before = fingerprint(&acme).await;
    for (count, code) in [(0, "REQUIRED"), (101, "LIMIT_REACHED")] {
        let input = json!({ "ids": ids[..count] });
        let payload = owner.mutate("deleteProjects", input, DELETED).await;
        assert_eq!(user_errors(&payload), [(code, "input.ids".to_owned())]);
    }
    assert!(fingerprint(&acme).await == before);
    ids.pop();
    let payload = owner
        .mutate_ok("deleteProjects", json!({ "ids": ids }), DELETED)
        .await;
    let deleted: Vec<&Value> = payload["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["deletedId"])
        .collect();
    assert_eq!(deleted, ids.iter().collect::<Vec<_>>());
    let response = owner.query("{ projects { totalCount } }").await;
    assert_eq!(response.data()["projects"]["totalCount"], 20);
}
