//! Keyset pages: every list, in every order, both ways, without a gap or a repeat.

use std::{collections::BTreeSet, fmt::Write as _};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use macro_rules_attribute::apply;
use serde_json::{Value, json};
use sqlx::Row as _;

use crate::{
    harness::{Caller, Tenant, TestApp, id, palisade_test},
    lists::{
        Field, Shape, assert_refused, column, fill, ids, ids_by_sql, list, order_by, row_of, table,
    },
};

/// Which way a list is walked.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Forwards,
    Backwards,
}

/// Checks what a page says of itself. `rest` tells how many rows the walk has not seen yet.
fn check_page(connection: &Value, way: Way, is_first: bool, rest: usize) {
    let edges = connection["edges"].as_array().unwrap();
    let info = &connection["pageInfo"];
    let (more, came_from) = match way {
        Way::Forwards => ("hasNextPage", "hasPreviousPage"),
        Way::Backwards => ("hasPreviousPage", "hasNextPage"),
    };
    assert_eq!(info[more], rest > 0, "{way:?}, {rest} left: {info}");
    assert_eq!(info[came_from], !is_first, "{way:?}: {info}");
    assert_eq!(
        info["startCursor"],
        edges
            .first()
            .map_or(Value::Null, |edge| edge["cursor"].clone())
    );
    assert_eq!(
        info["endCursor"],
        edges
            .last()
            .map_or(Value::Null, |edge| edge["cursor"].clone())
    );
    let nodes: Vec<&Value> = edges.iter().map(|edge| &edge["node"]).collect();
    assert_eq!(
        connection["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .collect::<Vec<_>>(),
        nodes
    );
}

/// Walks a root list and compares each page with the ids that belong on it.
async fn walk(
    caller: &Caller,
    field: &Field,
    terms: &[String],
    size: usize,
    way: Way,
    all: &[String],
) {
    let what = format!("{} by {terms:?} {way:?} in pages of {size}", field.name);
    let order = if terms.is_empty() {
        Value::Null
    } else {
        order_by(terms)
    };
    let mut seen = 0;
    let mut cursor = Value::Null;
    loop {
        let (page, variables) = match way {
            Way::Forwards => (format!("first: {size}"), json!({ "o": order, "a": cursor })),
            Way::Backwards => (format!("last: {size}"), json!({ "o": order, "b": cursor })),
        };
        let answer = list(caller, field, &page, variables).await;
        let connection = &answer.data()["list"];
        let here = ids(connection);
        let expected = match way {
            Way::Forwards => &all[seen..(seen + size).min(all.len())],
            Way::Backwards => {
                let end = all.len() - seen;
                &all[end.saturating_sub(size)..end]
            }
        };
        assert!(
            here == expected,
            "{what}, after {seen} rows: {here:?} instead of {expected:?}"
        );
        let is_first = seen == 0;
        seen += here.len();
        check_page(connection, way, is_first, all.len() - seen);
        let end = match way {
            Way::Forwards => "endCursor",
            Way::Backwards => "startCursor",
        };
        cursor = connection["pageInfo"][end].clone();
        if seen == all.len() {
            break;
        }
    }
}

/// The rows in an order, sorted by Postgres without pages. The id goes the way of the last term.
async fn sorted(tenant: &Tenant, row: &str, terms: &[String]) -> Vec<String> {
    let mut by: Vec<String> = terms
        .iter()
        .map(|term| {
            let (field, direction) = term.split_once(' ').unwrap();
            let nulls = if direction == "ASC" { "last" } else { "first" };
            format!("{} {direction} nulls {nulls}", column(field))
        })
        .collect();
    let (_, last) = terms.last().unwrap().split_once(' ').unwrap();
    by.push(format!("id {last}"));
    ids_by_sql(tenant, row, &format!("order by {}", by.join(", "))).await
}

/// Every order of one term, both ways, and orders of several, mixed and with columns that can be null.
fn orders(fields: &[String]) -> Vec<Vec<String>> {
    let mut orders = Vec::new();
    for field in fields {
        orders.push(vec![format!("{field} ASC")]);
        orders.push(vec![format!("{field} DESC")]);
    }
    if let [first, .., last] = fields {
        orders.push(vec![format!("{last} ASC"), format!("{first} DESC")]);
        orders.push(vec![format!("{last} DESC"), format!("{first} ASC")]);
        orders.push(vec![format!("{first} DESC"), format!("{last} DESC")]);
        orders.push(fields.iter().map(|field| format!("{field} ASC")).collect());
    }
    orders
}

#[apply(palisade_test)]
async fn every_list_walks_both_ways_in_every_order_without_a_gap_or_a_repeat(tenant: Tenant) {
    fill(&tenant, 1_000).await;
    let caller = tenant.owner();
    let shape = Shape::of(caller).await;

    let roots = shape.roots();
    let walks = roots.iter().map(|field| {
        let (tenant, shape) = (&tenant, &shape);
        async move {
            let orders = orders(shape.order_fields(field));
            for terms in &orders {
                let all = sorted(tenant, row_of(field), terms).await;
                assert!(all.len() >= 1_000, "only {} {}", all.len(), field.name);
                walk(caller, field, terms, 100, Way::Forwards, &all).await;
                walk(caller, field, terms, 97, Way::Backwards, &all).await;
            }
            orders.len()
        }
    });
    let walked: usize = join_all(walks).await.into_iter().sum();
    // Every value of every order there is, in both directions, and not fewer lists than types.
    let enums = shape
        .types()
        .filter(|(name, _)| name.ends_with("OrderField"));
    let (kinds, values) = enums.fold((0, 0), |(kinds, values), (_, one)| {
        (kinds + 1, values + one.values.len())
    });
    assert_eq!(
        kinds,
        roots.len(),
        "a kind of list has no root list that this test walks"
    );
    assert!(
        walked >= 2 * values && values >= kinds,
        "{walked} walks of {values} orders"
    );
}

#[apply(palisade_test)]
async fn small_odd_pages_walk_a_thousand_equal_rows(tenant: Tenant) {
    fill(&tenant, 1_000).await;
    let caller = tenant.owner();
    let shape = Shape::of(caller).await;
    let root = |name: &str| {
        shape
            .roots()
            .into_iter()
            .find(|field| field.name == name)
            .unwrap()
    };
    let (projects, products) = (root("projects"), root("products"));

    let newest = vec!["CREATED_AT DESC".to_owned()];
    let all = sorted(&tenant, "Project", &newest).await;
    // Without an order the newest come first.
    walk(caller, &projects, &[], 7, Way::Forwards, &all).await;
    walk(caller, &projects, &newest, 7, Way::Backwards, &all).await;
    // One row a page, in an order whose null part is a third of the rows.
    let mixed = vec!["TITLE DESC".to_owned(), "CREATED_AT ASC".to_owned()];
    let all = sorted(&tenant, "Product", &mixed).await;
    walk(caller, &products, &mixed, 13, Way::Forwards, &all).await;
    walk(caller, &products, &mixed, 13, Way::Backwards, &all).await;
}

/// The column by which the rows of a list name their parent.
fn parent_column(parent: &str, list: &str) -> &'static str {
    match (parent, list) {
        ("Tenant", "users") => "tenant_id",
        ("User", "projects") => "owner_id",
        ("User", "comments") => "author_id",
        ("User", "auditLogs") => "actor_id",
        ("Organization", "projects" | "invoices") => "organization_id",
        ("Project", "invoices" | "comments" | "auditLogs") => "project_id",
        ("Invoice", "lineItems" | "comments") => "invoice_id",
        ("Product", "lineItems" | "comments") => "product_id",
        (_, "auditLogs") => "subject_id",
        _ => panic!("name the column of {parent}.{list} here"),
    }
}

#[apply(palisade_test)]
async fn lists_under_several_parents_walk_both_ways_at_once(tenant: Tenant) {
    fill(&tenant, 90).await;
    let caller = tenant.owner();
    let shape = Shape::of(caller).await;

    let nested: Vec<(&String, &Field)> = shape
        .types()
        .filter(|(name, one)| one.kind == "OBJECT" && *name != "Query")
        .flat_map(|(name, one)| {
            one.fields
                .iter()
                .filter(|field| field.is_connection())
                .map(move |f| (name, f))
        })
        .collect();
    assert!(
        nested.len() >= 18,
        "only {} lists under parents",
        nested.len()
    );
    let walks = nested
        .iter()
        .map(|(parent, field)| nested_walk(&tenant, parent, field));
    join_all(walks).await;
}

async fn nested_walk(tenant: &Tenant, parent: &str, field: &Field) {
    let column = parent_column(parent, &field.name);
    let row = row_of(field);
    let prefix = table(parent).1;
    let mut sql = tenant.begin().await;
    let text = format!(
        "select {column} from {} where {column} in (select id from {}) group by 1
         order by count(*) desc, 1 limit 3",
        table(row).0,
        table(parent).0,
    );
    let parents = sqlx::query(sqlx::AssertSqlSafe(text))
        .fetch_all(&mut sql.0)
        .await
        .unwrap();
    let parents: Vec<uuid::Uuid> = parents.iter().map(|row| row.get(0)).collect();
    // The default order of every list but that of lines is newest first.
    let (order, terms) = match row {
        "AuditLog" => ("occurred_at desc, id desc", ["OCCURRED_AT DESC"]),
        _ => ("created_at desc, id desc", ["CREATED_AT DESC"]),
    };
    let mut all = Vec::new();
    for parent in &parents {
        let rest = format!("where {column} = '{parent}' order by {order}");
        all.push(ids_by_sql(tenant, row, &rest).await);
    }
    // A user writes nothing but what the fixture's only author does, and there is one tenant.
    let least = if matches!(parent, "Tenant") || column == "author_id" || column == "actor_id" {
        1
    } else {
        2
    };
    assert!(
        parents.len() >= least,
        "{parent}.{} has {} parents",
        field.name,
        parents.len()
    );

    for (way, size) in [(Way::Forwards, 7), (Way::Backwards, 5)] {
        let mut cursors = vec![Value::Null; parents.len()];
        let mut seen = vec![0; parents.len()];
        while seen.iter().zip(&all).any(|(seen, all)| *seen < all.len()) {
            let (page, at) = match way {
                Way::Forwards => ("first", "after"),
                Way::Backwards => ("last", "before"),
            };
            let mut document = "query ($o: [".to_owned() + field.arg("orderBy").unwrap() + "!]";
            let mut body = String::new();
            let mut variables = json!({ "o": order_by(&terms.map(str::to_owned)) });
            for (n, parent_id) in parents.iter().enumerate() {
                write!(document, ", $c{n}: String").unwrap();
                variables[format!("c{n}")] = cursors[n].clone();
                write!(
                    body,
                    "p{n}: node(id: \"{}\") {{ ... on {parent} {{ list: {}({page}: {size}, {at}: $c{n}, orderBy: $o) {{
                        edges {{ cursor node {{ id }} }} nodes {{ id }}
                        pageInfo {{ hasNextPage hasPreviousPage startCursor endCursor }} }} }} }} ",
                    id(prefix, *parent_id),
                    field.name,
                )
                .unwrap();
            }
            document = format!("{document}) {{ {body} }}");
            let answer = tenant.owner().graphql(&document, variables).await;
            for n in 0..parents.len() {
                let connection = &answer.data()[format!("p{n}")]["list"];
                if seen[n] == all[n].len() {
                    continue;
                }
                let here = ids(connection);
                let left = all[n].len() - seen[n];
                let expected = match way {
                    Way::Forwards => &all[n][seen[n]..seen[n] + size.min(left)],
                    Way::Backwards => &all[n][left - size.min(left)..left],
                };
                assert!(
                    here == expected,
                    "{parent}.{} {way:?}, after {}",
                    field.name,
                    seen[n]
                );
                let is_first = seen[n] == 0;
                seen[n] += here.len();
                check_page(connection, way, is_first, all[n].len() - seen[n]);
                let end = if way == Way::Forwards {
                    "endCursor"
                } else {
                    "startCursor"
                };
                cursors[n] = connection["pageInfo"][end].clone();
            }
        }
    }
}

#[apply(palisade_test)]
async fn after_and_before_together_are_the_rows_between(tenant: Tenant) {
    fill(&tenant, 30).await;
    let caller = tenant.owner();
    let projects = Shape::of(caller)
        .await
        .roots()
        .into_iter()
        .find(|f| f.name == "projects")
        .unwrap();
    for terms in [
        vec!["CREATED_AT DESC".to_owned()],
        vec!["DUE_ON DESC".to_owned(), "NAME ASC".to_owned()],
    ] {
        let order = order_by(&terms);
        let all = sorted(&tenant, "Project", &terms).await;
        let answer = list(caller, &projects, "first: 100", json!({ "o": order })).await;
        let cursor = |row: usize| answer.data()["list"]["edges"][row]["cursor"].clone();
        let between = |page: &'static str, after: usize, before: usize| {
            let variables = json!({ "o": order, "a": cursor(after), "b": cursor(before) });
            let projects = &projects;
            async move { list(caller, projects, page, variables).await.data()["list"].clone() }
        };

        let page = between("first: 100", 4, 20).await;
        assert_eq!(ids(&page), all[5..20]);
        assert_eq!(page["pageInfo"]["hasNextPage"], false);
        assert_eq!(page["pageInfo"]["hasPreviousPage"], true);
        let page = between("first: 3", 4, 20).await;
        assert_eq!(ids(&page), all[5..8]);
        assert_eq!(page["pageInfo"]["hasNextPage"], true);
        let page = between("last: 3", 4, 20).await;
        assert_eq!(ids(&page), all[17..20]);
        assert_eq!(page["pageInfo"]["hasPreviousPage"], true);
        assert_eq!(page["pageInfo"]["hasNextPage"], true);
        assert!(ids(&between("first: 3", 20, 4).await).is_empty());
        assert!(ids(&between("first: 3", 4, 5).await).is_empty());
    }
}

#[apply(palisade_test)]
async fn an_empty_page_has_no_cursors_and_tells_whether_rows_follow(tenant: Tenant) {
    let page = |page: &str| {
        format!(
            "{{ list: projects({page}) {{ nodes {{ id }} edges {{ cursor node {{ id }} }}
            pageInfo {{ hasNextPage hasPreviousPage startCursor endCursor }} }} }}"
        )
    };
    for (rows, follows) in [(0, false), (3, true)] {
        if rows > 0 {
            tenant.seed(rows, 0).await;
        }
        for (size, more) in [("first: 0", "hasNextPage"), ("last: 0", "hasPreviousPage")] {
            let answer = tenant.owner().query(&page(size)).await;
            let list = &answer.data()["list"];
            assert_eq!(list["edges"], json!([]));
            assert_eq!(list["nodes"], json!([]));
            assert_eq!(list["pageInfo"][more], follows, "{size} of {rows}");
            assert_eq!(list["pageInfo"]["startCursor"], Value::Null);
            assert_eq!(list["pageInfo"]["endCursor"], Value::Null);
        }
    }
}

#[apply(palisade_test)]
async fn page_sizes_that_no_page_has_are_refused_before_any_sql(tenant: Tenant) {
    let caller = tenant.owner();
    let refused = [
        ("first: 101", "first: must be between 0 and 100"),
        ("first: -1", "first: must be between 0 and 100"),
        ("last: 101", "last: must be between 0 and 100"),
        ("last: -1", "last: must be between 0 and 100"),
        (
            "first: 1, last: 1",
            "last: give either first or last, not both",
        ),
    ];
    for root in Shape::of(caller).await.roots() {
        for (page, message) in refused {
            let document = format!("{{ {}({page}) {{ nodes {{ id }} }} }}", root.name);
            assert_refused(&caller.query(&document).await, message);
        }
    }
    // Also below a row: that field alone is refused, and its list is not asked for.
    let seed = tenant.seed(1, 1).await;
    let document = format!(
        "{{ project(id: \"{}\") {{ id invoices(first: 101) {{ nodes {{ id }} }} }} }}",
        id("prj", seed.projects[0])
    );
    let answer = caller.query(&document).await;
    assert_eq!(answer.code(), "BAD_USER_INPUT");
    assert_eq!(
        answer.body["errors"][0]["path"],
        json!(["project", "invoices"])
    );
    assert_eq!(answer.statements().len(), 1);
}

#[apply(palisade_test)]
#[expect(
    clippy::too_many_lines,
    reason = "one table of cursors, each with its reason"
)]
async fn a_cursor_of_anything_else_is_refused_before_any_sql(app: &'static TestApp) {
    let (tenant, other) = (app.tenant().await, app.tenant().await);
    tenant.seed(3, 1).await;
    other.seed(3, 1).await;
    let caller = tenant.owner();
    let shape = Shape::of(caller).await;
    let root = |name: &str| {
        shape
            .roots()
            .into_iter()
            .find(|field| field.name == name)
            .unwrap()
    };
    let cursor_of = async |caller: &Caller, name: &str, terms: &[&str]| {
        let terms: Vec<String> = terms.iter().map(|term| (*term).to_owned()).collect();
        let answer = list(
            caller,
            &root(name),
            "first: 1",
            json!({ "o": order_by(&terms) }),
        )
        .await;
        answer.data()["list"]["pageInfo"]["endCursor"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let mine = cursor_of(caller, "projects", &["NAME ASC"]).await;
    let name_asc = json!([{ "field": "NAME", "direction": "ASC" }]);
    let accepted = list(
        caller,
        &root("projects"),
        "first: 1",
        json!({ "o": name_asc, "a": mine }),
    )
    .await;
    assert_eq!(ids(&accepted.data()["list"]).len(), 1);

    // The parts of a cursor are readable, and changing them is no way around the check.
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
            "with a number for a text",
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
            "with a text for an id",
            forge(&|parts| parts[2] = json!("x")),
        ),
        ("with a part more", forge(&|parts| parts.push(json!("x")))),
        ("with a part less", forge(&|parts| drop(parts.pop()))),
        ("that is cut", mine[..mine.len() - 3].to_owned()),
        ("that is no cursor", "not a cursor".to_owned()),
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
            let answer = list(caller, &root("projects"), "first: 1", variables).await;
            assert_eq!(
                answer.code(),
                "BAD_USER_INPUT",
                "a cursor {what}: {}",
                answer.body
            );
            assert_refused(&answer, &format!("{name}: not a cursor of this list"));
        }
    }
}

#[apply(palisade_test)]
async fn a_forged_position_reaches_no_row_of_another_tenant(app: &'static TestApp) {
    let (tenant, other) = (app.tenant().await, app.tenant().await);
    tenant.seed(4, 0).await;
    let theirs = other.seed(4, 0).await;
    let caller = tenant.owner();
    let projects = Shape::of(caller)
        .await
        .roots()
        .into_iter()
        .find(|f| f.name == "projects")
        .unwrap();
    let all = list(caller, &projects, "first: 100", json!({})).await;
    let mine: BTreeSet<String> = ids(&all.data()["list"]).into_iter().collect();
    let cursor = all.data()["list"]["edges"][0]["cursor"].as_str().unwrap();
    let mut parts: Vec<Value> =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(cursor).unwrap()).unwrap();
    // A time that the database does not know.
    parts[1] = json!(-6_000_000_000_000_000_000_i64);
    let far = URL_SAFE_NO_PAD.encode(Value::Array(parts.clone()).to_string());
    let refused = list(caller, &projects, "first: 1", json!({ "a": far })).await;
    assert_refused(&refused, "after: not a cursor of this list");

    parts[1] = json!(4_000_000_000_000_000_i64);
    parts[2] = json!(theirs.projects[0].simple().to_string());
    let forged = URL_SAFE_NO_PAD.encode(Value::Array(parts).to_string());
    let page = list(caller, &projects, "first: 100", json!({ "a": forged })).await;
    let seen: BTreeSet<String> = ids(&page.data()["list"]).into_iter().collect();
    assert_eq!(seen, mine);
}

#[apply(palisade_test)]
async fn an_order_has_at_most_five_terms_and_a_repeated_column_decides_nothing(tenant: Tenant) {
    fill(&tenant, 20).await;
    let caller = tenant.owner();
    let projects = Shape::of(caller)
        .await
        .roots()
        .into_iter()
        .find(|f| f.name == "projects")
        .unwrap();
    let six: Vec<String> = ["NAME ASC"; 6].map(str::to_owned).into();
    let answer = list(
        caller,
        &projects,
        "first: 5",
        json!({ "o": order_by(&six) }),
    )
    .await;
    assert_refused(&answer, "orderBy: at most 5 terms");
    let answer = list(
        caller,
        &projects,
        "first: 5",
        json!({ "o": order_by(&six[1..]) }),
    )
    .await;
    let once = list(
        caller,
        &projects,
        "first: 5",
        json!({ "o": order_by(&six[..1]) }),
    )
    .await;
    assert_eq!(answer.comparable(), once.comparable());

    let twice = ["NAME ASC", "DUE_ON DESC", "NAME DESC"].map(str::to_owned);
    let all = sorted(&tenant, "Project", &twice[..2]).await;
    walk(caller, &projects, &twice, 7, Way::Forwards, &all).await;
    // A direction that is not given is ascending.
    let answer = list(
        caller,
        &projects,
        "first: 100",
        json!({ "o": [{ "field": "NAME" }] }),
    )
    .await;
    assert_eq!(
        ids(&answer.data()["list"]),
        sorted(&tenant, "Project", &twice[..1]).await
    );
}
