//! Walks over every list, forwards and backwards, in every order.

use std::fmt::Write as _;

use futures_util::future::join_all;
use macro_rules_attribute::apply;
use serde_json::{Value, json};
use sqlx::Row as _;

use super::{Way, check_page, sorted, walk};
use crate::{
    harness::{
        Column, Field, FieldExt as _, Table, Tenant, entity, id_of, model, palisade_test,
        snake_case,
    },
    lists::{ids, ids_by_sql, list, order_by},
};

/// Every order with one term, in both directions, and orders with several terms, also in mixed directions.
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
async fn every_list_is_paged_in_both_directions_in_every_order_without_gaps_or_repeats(
    tenant: Tenant,
) {
    tenant.fill(1_000).await;
    let caller = tenant.owner();
    let walks = model().root_lists().map(|field| {
        let tenant = &tenant;
        async move {
            let orders = orders(model().order_fields(field));
            for terms in &orders {
                let all = sorted(tenant, field.row(), terms).await;
                assert!(all.len() >= 1_000, "only {} {}", all.len(), field.name);
                walk(caller, field, terms, 100, Way::Forwards, &all).await;
                walk(caller, field, terms, 97, Way::Backwards, &all).await;
            }
            orders.len()
        }
    });
    let walked: usize = join_all(walks).await.into_iter().sum();
    // The walks covered each value of each `…OrderField` enum in both directions, and each enum belongs to a root list.
    let enums = model().types().filter(|of| of.name.ends_with("OrderField"));
    let (kinds, values) = enums.fold((0, 0), |(kinds, values), of| {
        (kinds + 1, values + of.values.len())
    });
    assert_eq!(
        kinds,
        model().root_lists().count(),
        "a kind of list has no root list that this test walks"
    );
    assert!(
        walked >= 2 * values && values >= kinds,
        "{walked} walks of {values} orders"
    );
}

#[apply(palisade_test)]
async fn small_pages_reach_a_thousand_rows_with_equal_keys(tenant: Tenant) {
    tenant.fill(1_000).await;
    let caller = tenant.owner();
    let (projects, products) = (model().root_list("projects"), model().root_list("products"));

    let newest = vec!["CREATED_AT DESC".to_owned()];
    let all = sorted(&tenant, "Project", &newest).await;
    // By default, the newest rows are first.
    walk(caller, projects, &[], 7, Way::Forwards, &all).await;
    walk(caller, projects, &newest, 7, Way::Backwards, &all).await;
    // In this order, the first column is null in a third of the rows.
    let mixed = vec!["TITLE DESC".to_owned(), "CREATED_AT ASC".to_owned()];
    let all = sorted(&tenant, "Product", &mixed).await;
    walk(caller, products, &mixed, 13, Way::Forwards, &all).await;
    walk(caller, products, &mixed, 13, Way::Backwards, &all).await;
}

/// The column by which the rows of a list refer to their parent.
async fn parent_column(tenant: &Tenant, parent: &str, list: &Field) -> String {
    let named_after_parent = format!("{}_id", snake_case(parent));
    if list.row() == "AuditLog" {
        // Audit log entries outlive the rows that they name, so they have no foreign keys.
        return match parent {
            "User" => "actor_id".to_owned(),
            "Project" => named_after_parent,
            _ => "subject_id".to_owned(),
        };
    }
    if parent == "Tenant" {
        return "tenant_id".to_owned();
    }
    let mut sql = tenant.begin().await.0;
    let table = Table::read(&mut sql, entity(list.row()).table).await;
    let is_reference =
        |column: &&Column| column.references.as_deref() == Some(entity(parent).table);
    let columns: Vec<Column> = table
        .columns
        .into_iter()
        .filter(|one| is_reference(&one))
        .collect();
    let [column] = &columns[..] else {
        let named = columns
            .iter()
            .any(|column| column.name == named_after_parent);
        assert!(named, "{parent}.{}: {columns:?}", list.name);
        return named_after_parent;
    };
    column.name.clone()
}

#[apply(palisade_test)]
async fn lists_of_several_parents_are_paged_in_both_directions_at_once(tenant: Tenant) {
    tenant.fill(90).await;
    let nested: Vec<_> = model().nested_lists().collect();
    assert!(
        nested.len() >= 19,
        "only {} lists under parents",
        nested.len()
    );
    let walks = nested
        .iter()
        .map(|(parent, field)| nested_walk(&tenant, &parent.name, field));
    join_all(walks).await;
}

async fn nested_walk(tenant: &Tenant, parent: &str, field: &Field) {
    let column = parent_column(tenant, parent, field).await;
    let row = field.row();
    let mut sql = tenant.begin().await;
    let text = format!(
        "select {column} from {} where {column} in (select id from {}) group by 1
         order by count(*) desc, 1 limit 3",
        entity(row).table,
        entity(parent).table,
    );
    let parents = sqlx::query(sqlx::AssertSqlSafe(text))
        .fetch_all(&mut sql.0)
        .await
        .unwrap();
    let parents: Vec<uuid::Uuid> = parents.iter().map(|row| row.get(0)).collect();
    // The default order is newest first, except for the lines of an invoice.
    let (order, terms) = match row {
        "AuditLog" => ("occurred_at desc, id desc", ["OCCURRED_AT DESC"]),
        _ => ("created_at desc, id desc", ["CREATED_AT DESC"]),
    };
    let mut all = Vec::new();
    for parent in &parents {
        let rest = format!("where {column} = '{parent}' order by {order}");
        all.push(ids_by_sql(tenant, row, &rest).await);
    }
    // There is only one parent: the tenant, or the only user who has changed rows.
    let least = if parent == "Tenant" || column == "actor_id" {
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
            let mut document = "query ($o: [".to_owned() + field.order() + "!]";
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
                    id_of(parent, *parent_id),
                    field.name,
                )
                .unwrap();
            }
            document = format!("{document}) {{ {body} }}");
            let response = tenant.owner().graphql(&document, variables).await;
            for n in 0..parents.len() {
                let connection = &response.data()[format!("p{n}")]["list"];
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
async fn after_and_before_together_return_the_rows_between(tenant: Tenant) {
    tenant.fill(30).await;
    let caller = tenant.owner();
    let projects = model().root_list("projects");
    for terms in [
        vec!["CREATED_AT DESC".to_owned()],
        vec!["DUE_ON DESC".to_owned(), "NAME ASC".to_owned()],
    ] {
        let order = order_by(&terms);
        let all = sorted(&tenant, "Project", &terms).await;
        let response = list(caller, projects, "first: 100", json!({ "o": order })).await;
        let cursor = |row: usize| response.data()["list"]["edges"][row]["cursor"].clone();
        let between = |page: &'static str, after: usize, before: usize| {
            let variables = json!({ "o": order, "a": cursor(after), "b": cursor(before) });
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
async fn an_empty_page_has_no_cursors_and_reports_whether_rows_follow(tenant: Tenant) {
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
            let response = tenant.owner().query(&page(size)).await;
            let list = &response.data()["list"];
            assert_eq!(list["edges"], json!([]));
            assert_eq!(list["nodes"], json!([]));
            assert_eq!(list["pageInfo"][more], follows, "{size} of {rows}");
            assert_eq!(list["pageInfo"]["startCursor"], Value::Null);
            assert_eq!(list["pageInfo"]["endCursor"], Value::Null);
        }
    }
}
