//! Filters that the service rejects before it runs any SQL.

use macro_rules_attribute::apply;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Subject;
use crate::{
    harness::{Tenant, id, model, palisade_test},
    lists::assert_rejected,
};

#[apply(palisade_test)]
async fn filters_over_a_limit_are_rejected_before_any_sql(tenant: Tenant) {
    let subject = Subject::new(&tenant, model().root_list("projects")).await;
    let strings = |amount: usize| -> Value { (0..amount).map(|n| json!(n.to_string())).collect() };
    let ids = |amount: usize| -> Value {
        (0..amount)
            .map(|_| json!(id("prj", Uuid::now_v7())))
            .collect()
    };
    let one = json!({ "name": { "eq": "x" } });
    let many = |amount: usize| -> Value { (0..amount).map(|_| one.clone()).collect() };
    let nested = |depth: usize| (0..depth).fold(one.clone(), |inner, _| json!({ "not": inner }));
    let long = |length: usize| "ä".repeat(length);

    for (what, accepted) in [
        ("100 strings", json!({ "name": { "in": strings(100) } })),
        ("100 ids", json!({ "id": { "in": ids(100) } })),
        ("100 comparisons", json!({ "or": many(99) })),
        (
            "1,000 characters",
            json!({ "name": { "contains": long(1_000) } }),
        ),
        ("a nest", nested(10)),
    ] {
        let response = subject.ask(accepted).await;
        assert_eq!(
            response.data()["list"]["totalCount"],
            0,
            "{what} were rejected"
        );
    }

    let comparisons = "filter: must have at most 100 comparisons";
    let values = "filter: `in` must have at most 100 values";
    let length = "filter: a string must have at most 1000 characters";
    let nul = "filter: a string must not contain the character U+0000";
    for (rejected_filter, message) in [
        (json!({ "name": { "in": strings(101) } }), values),
        (json!({ "id": { "in": ids(101) } }), values),
        (json!({ "status": { "in": vec!["ACTIVE"; 101] } }), values),
        (json!({ "not": { "name": { "in": strings(101) } } }), values),
        (json!({ "or": many(101) }), comparisons),
        (
            json!({ "and": [{ "or": many(60) }, { "not": { "and": many(60) } }] }),
            comparisons,
        ),
        (json!({ "and": vec![json!({}); 101] }), comparisons),
        (json!({ "name": { "eq": long(1_001) } }), length),
        (json!({ "name": { "ne": long(1_001) } }), length),
        (json!({ "name": { "in": [long(1_001)] } }), length),
        (json!({ "name": { "contains": long(1_001) } }), length),
        (json!({ "name": { "startsWith": long(1_001) } }), length),
        (json!({ "name": { "eq": "a\0" } }), nul),
        (json!({ "name": { "ne": "\0" } }), nul),
        (json!({ "name": { "in": ["a", "\0"] } }), nul),
        (json!({ "name": { "contains": "\0" } }), nul),
        (json!({ "name": { "startsWith": "\0" } }), nul),
        (
            json!({ "id": { "eq": id("inv", Uuid::now_v7()) } }),
            "is not an ID of the type Project",
        ),
        (
            json!({ "id": { "ne": Uuid::now_v7().to_string() } }),
            "is not an ID of the type Project",
        ),
        (
            json!({ "id": { "in": [id("prj", Uuid::now_v7()), id("usr", Uuid::now_v7())] } }),
            "is not an ID of the type Project",
        ),
        (
            json!({ "ownerId": { "eq": id("prj", Uuid::now_v7()) } }),
            "is not an ID of the type User",
        ),
    ] {
        assert_rejected(&subject.ask(rejected_filter).await, message);
    }
}

#[apply(palisade_test)]
async fn an_invalid_date_or_time_is_rejected_before_any_sql(tenant: Tenant) {
    let subject = Subject::new(&tenant, model().root_list("projects")).await;
    for day in [
        "-9999-01-01",
        "+2026-01-01",
        "+262000-01-01",
        "0000-01-01",
        "10000-01-01",
        "2026-1-1",
        " 2026-01-01",
        "2026-02-30",
        "",
    ] {
        let rejection = subject.ask(json!({ "dueOn": { "eq": day } })).await;
        assert_rejected(&rejection, "must be a valid date in the format YYYY-MM-DD");
    }
    for time in [
        "-5000-01-01T00:00:00Z",
        "+10000-01-01T00:00:00Z",
        "0000-12-31T23:59:59Z",
        // In UTC, this timestamp is in the year 10000.
        "9999-12-31T23:59:59-01:00",
    ] {
        let rejection = subject.ask(json!({ "createdAt": { "gt": time } })).await;
        assert_rejected(&rejection, "must be from year 0001 to 9999");
    }
    subject
        .check(json!({ "dueOn": { "gte": "0001-01-01" } }), |row| {
            !row["due_on"].is_null()
        })
        .await;
    subject
        .check(
            json!({ "createdAt": { "lt": "9999-12-31T23:59:59Z" } }),
            |_| true,
        )
        .await;
}

#[apply(palisade_test)]
async fn a_deeply_nested_filter_is_rejected_and_the_service_survives(tenant: Tenant) {
    let subject = Subject::new(&tenant, model().root_list("projects")).await;
    for key in ["not", "and", "or"] {
        for depth in [40, 110] {
            let deep = (0..depth).fold(json!({}), |inner, _| match key {
                "not" => json!({ "not": inner }),
                list => json!({ (list): [inner] }),
            });
            let response = subject.ask(deep).await;
            let code = response.body["errors"][0]["extensions"]["code"]
                .as_str()
                .unwrap();
            assert!(
                matches!(code, "BAD_USER_INPUT" | "QUERY_TOO_COMPLEX"),
                "{}",
                response.body
            );
            assert!(response.body.get("data").is_none_or(Value::is_null));
        }
    }
    subject.check(json!({}), |_| true).await;
}
