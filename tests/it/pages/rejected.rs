//! Page sizes, cursors and orders that the service rejects.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use macro_rules_attribute::apply;
use serde_json::{Value, json};

use super::{Way, sorted, walk};
use crate::{
    harness::{Caller, Tenant, TestApp, id, model, palisade_test},
    lists::{assert_rejected, ids, list, order_by},
};

#[apply(palisade_test)]
async fn invalid_page_sizes_are_rejected_before_any_sql(tenant: Tenant) {
    let caller = tenant.owner();
    let rejections = [
        ("first: 101", "first: must be between 0 and 100"),
        ("first: -1", "first: must be between 0 and 100"),
        ("last: 101", "last: must be between 0 and 100"),
        ("last: -1", "last: must be between 0 and 100"),
        (
            "first: 1, last: 1",
            "last: must not be combined with `first`",
        ),
    ];
    for root in model().root_lists() {
        for (page, message) in rejections {
            let document = format!("{{ {}({page}) {{ nodes {{ id }} }} }}", root.name);
            assert_rejected(&caller.query(&document).await, message);
        }
    }
    // An invalid page size below a row fails only its own field, and the service does not read the list.
    let seed = tenant.seed(1, 1).await;
    let document = format!(
        "{{ project(id: \"{}\") {{ id invoices(first: 101) {{ nodes {{ id }} }} }} }}",
        id("prj", seed.projects[0])
    );
    let response = caller.query(&document).await;
    assert_eq!(response.code(), "BAD_USER_INPUT");
    assert_eq!(
        response.body["errors"][0]["path"],
        json!(["project", "invoices"])
    );
    assert_eq!(response.statements().len(), 1);
}

#[apply(palisade_test)]
#[expect(
    clippy::too_many_lines,
    reason = "one table of cursors, each with its reason"
)]
async fn a_cursor_not_from_this_list_and_order_is_rejected_before_any_sql(app: &'static TestApp) {
    let (tenant, other) = (app.tenant().await, app.tenant().await);
    tenant.seed(3, 1).await;
    other.seed(3, 1).await;
    let caller = tenant.owner();
    let root = |name: &str| model().root_list(name);
    let cursor_of = async |caller: &Caller, name: &str, terms: &[&str]| {
        let terms: Vec<String> = terms.iter().map(|term| (*term).to_owned()).collect();
        let response = list(
            caller,
            root(name),
            "first: 1",
            json!({ "o": order_by(&terms) }),
        )
        .await;
        response.data()["list"]["pageInfo"]["endCursor"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let mine = cursor_of(caller, "projects", &["NAME ASC"]).await;
    let name_asc = json!([{ "field": "NAME", "direction": "ASC" }]);
    let accepted = list(
        caller,
        root("projects"),
        "first: 1",
        json!({ "o": name_asc, "a": mine }),
    )
    .await;
    assert_eq!(ids(&accepted.data()["list"]).len(), 1);

    // A client can decode a cursor, but the service rejects a cursor that was changed.
    let parts: Vec<Value> =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(&mine).unwrap()).unwrap();
    let forge = |change: &dyn Fn(&mut Vec<Value>)| {
        let mut parts = parts.clone();
        change(&mut parts);
        URL_SAFE_NO_PAD.encode(Value::Array(parts).to_string())
    };
    let wrong = [
        (
            "of another field",
            cursor_of(caller, "projects", &["DUE_ON ASC"]).await,
        ),
        (
            "of the other direction",
            cursor_of(caller, "projects", &["NAME DESC"]).await,
        ),
        (
            "of more terms",
            cursor_of(caller, "projects", &["NAME ASC", "CREATED_AT ASC"]).await,
        ),
        (
            "of another list",
            cursor_of(caller, "organizations", &["NAME ASC"]).await,
        ),
        (
            "of another tenant",
            cursor_of(other.owner(), "projects", &["NAME ASC"]).await,
        ),
        (
            "with another stamp",
            forge(&|parts| parts[0] = json!("0".repeat(32))),
        ),
        (
            "with a number for a string",
            forge(&|parts| parts[1] = json!(1)),
        ),
        (
            "with a null where none can be",
            forge(&|parts| parts[1] = Value::Null),
        ),
        (
            "with a character that cannot be stored",
            forge(&|parts| parts[1] = json!("\0")),
        ),
        (
            "with a string for an id",
            forge(&|parts| parts[2] = json!("x")),
        ),
        ("with a part more", forge(&|parts| parts.push(json!("x")))),
        ("with a part less", forge(&|parts| drop(parts.pop()))),
        ("that is cut", mine[..mine.len() - 3].to_owned()),
        ("that is not a cursor", "not a cursor".to_owned()),
        ("that is empty", String::new()),
        (
            "that is an injection",
            "'; drop table projects; --".to_owned(),
        ),
        ("that is far too long", "A".repeat(100_000)),
    ];
    for (what, cursor) in &wrong {
        for (argument, name) in [("a", "after"), ("b", "before")] {
            let mut variables = json!({ "o": name_asc });
            variables[argument] = json!(cursor);
            let response = list(caller, root("projects"), "first: 1", variables).await;
            assert_eq!(
                response.code(),
                "BAD_USER_INPUT",
                "a cursor {what}: {}",
                response.body
            );
            assert_rejected(&response, &format!("{name}: must be a cursor of this list"));
        }
    }
}

#[apply(palisade_test)]
async fn a_forged_position_reaches_no_row_of_another_tenant(app: &'static TestApp) {
    let (tenant, other) = (app.tenant().await, app.tenant().await);
    tenant.seed(4, 0).await;
    let theirs = other.seed(4, 0).await;
    let caller = tenant.owner();
    let projects = model().root_list("projects");
    let all = list(caller, projects, "first: 100", json!({})).await;
    let mine: BTreeSet<String> = ids(&all.data()["list"]).into_iter().collect();
    let cursor = all.data()["list"]["edges"][0]["cursor"].as_str().unwrap();
    let mut parts: Vec<Value> =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(cursor).unwrap()).unwrap();
    // This timestamp is before the earliest one that the database can store.
    parts[1] = json!(-6_000_000_000_000_000_000_i64);
    let far = URL_SAFE_NO_PAD.encode(Value::Array(parts.clone()).to_string());
    let rejection = list(caller, projects, "first: 1", json!({ "a": far })).await;
    assert_rejected(&rejection, "after: must be a cursor of this list");

    parts[1] = json!(4_000_000_000_000_000_i64);
    parts[2] = json!(theirs.projects[0].simple().to_string());
    let forged = URL_SAFE_NO_PAD.encode(Value::Array(parts).to_string());
    let page = list(caller, projects, "first: 100", json!({ "a": forged })).await;
    let seen: BTreeSet<String> = ids(&page.data()["list"]).into_iter().collect();
    assert_eq!(seen, mine);
}

#[apply(palisade_test)]
async fn an_order_has_at_most_five_terms_and_a_repeated_column_has_no_effect(tenant: Tenant) {
    tenant.fill(20).await;
    let caller = tenant.owner();
    let projects = model().root_list("projects");
    let six: Vec<String> = ["NAME ASC"; 6].map(str::to_owned).into();
    let response = list(caller, projects, "first: 5", json!({ "o": order_by(&six) })).await;
    assert_rejected(&response, "orderBy: must have at most 5 terms");
    let response = list(
        caller,
        projects,
        "first: 5",
        json!({ "o": order_by(&six[1..]) }),
    )
    .await;
    let once = list(
        caller,
        projects,
        "first: 5",
        json!({ "o": order_by(&six[..1]) }),
    )
    .await;
    assert_eq!(response.comparable(), once.comparable());

    let twice = ["NAME ASC", "DUE_ON DESC", "NAME DESC"].map(str::to_owned);
    let all = sorted(&tenant, "Project", &twice[..2]).await;
    walk(caller, projects, &twice, 7, Way::Forwards, &all).await;
    // The default direction is ascending.
    let response = list(
        caller,
        projects,
        "first: 100",
        json!({ "o": [{ "field": "NAME" }] }),
    )
    .await;
    assert_eq!(
        ids(&response.data()["list"]),
        sorted(&tenant, "Project", &twice[..1]).await
    );
}
