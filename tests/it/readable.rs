//! If the caller's role may not read a list or a row, the field fails with FORBIDDEN. It never returns an empty list.
//! The policies decide which roles may read a type, and the service must agree with them.

use std::collections::BTreeSet;

use macro_rules_attribute::apply;
use palisade::{auth::role::UserRole, entities::ENTITIES};
use serde_json::{Value, json};

use crate::{
    harness::{
        Caller, FieldExt as _, Response, Tenant, TenantSql, camel_case, entity, id, model,
        palisade_test,
    },
    mutations::ROLES,
};

/// The first id of a table that is visible to the connection's role.
async fn first_id(sql: &mut TenantSql, table: &str) -> Option<uuid::Uuid> {
    let text = format!("select id from {table} order by id limit 1");
    let row = sqlx::query_scalar(sqlx::AssertSqlSafe(text));
    row.fetch_optional(&mut sql.0).await.unwrap()
}

/// Asserts that the field at a path is null and that its error is FORBIDDEN.
fn assert_forbidden(response: &Response, path: &Value, what: &str) {
    assert_eq!(response.status, 200, "{what}: {}", response.body);
    let errors = response.body["errors"].as_array();
    let errors: Vec<&Value> = errors.into_iter().flatten().collect();
    let found = errors.iter().find(|error| error["path"] == *path);
    let error = found.unwrap_or_else(|| panic!("{what}: no error at {path}: {}", response.body));
    assert_eq!(error["extensions"]["code"], "FORBIDDEN", "{what}");
    let value = path
        .as_array()
        .unwrap()
        .iter()
        .fold(&response.body["data"], |value, part| match part.as_u64() {
            Some(index) => &value[usize::try_from(index).unwrap()],
            None => &value[part.as_str().unwrap()],
        });
    assert_eq!(*value, Value::Null, "{what}: {}", response.body);
}

/// Asserts that a document succeeds if `reads` is true. Otherwise, asserts that its field at `path` is FORBIDDEN.
async fn assert_reads(caller: &Caller, reads: bool, document: &str, path: Value, what: &str) {
    let response = caller.query(document).await;
    if reads {
        response.data();
    } else {
        assert_forbidden(&response, &path, what);
    }
}

#[apply(palisade_test)]
async fn the_roles_that_the_policies_let_read_a_type_read_its_lists_and_rows(acme: Tenant) {
    acme.fill(12).await;
    let mut owner = acme.begin().await;
    let mut hidden = BTreeSet::new();
    let mut parents = 0;
    for list in model().root_lists() {
        let row = list.row();
        let table = entity(row).table;
        let row_id = id(
            entity(row).id_prefix,
            first_id(&mut owner, table).await.unwrap(),
        );
        for role in ROLES {
            let mut sql = acme.begin_as(role).await;
            let reads = first_id(&mut sql, table).await.is_some();
            let caller = acme.caller(role);
            let what = format!("{} as {}", list.name, role.as_str());
            if !reads {
                hidden.insert((row.to_owned(), role.as_str()));
            }

            let root = list.name.as_str();
            let document = format!("{{ {root} {{ totalCount nodes {{ id }} }} }}");
            assert_reads(caller, reads, &document, json!([root]), &what).await;
            let counted = format!("{{ {root} {{ totalCount }} }}");
            assert_reads(caller, reads, &counted, json!([root]), &what).await;

            let one = camel_case(row);
            let document = format!("{{ {one}(id: \"{row_id}\") {{ id }} }}");
            assert_reads(caller, reads, &document, json!([one]), &what).await;
            let document = format!("{{ node(id: \"{row_id}\") {{ id }} }}");
            assert_reads(caller, reads, &document, json!(["node"]), &what).await;
            let tenant = acme.id;
            let document = format!("{{ nodes(ids: [\"{tenant}\", \"{row_id}\"]) {{ id }} }}");
            assert_reads(caller, reads, &document, json!(["nodes", 1]), &what).await;
            let response = caller.query(&document).await;
            assert_eq!(
                response.body["data"]["nodes"][0]["id"],
                tenant.to_string(),
                "{what}"
            );

            // The same list under each parent.
            for parent in ENTITIES {
                let fields = model().fields(parent.type_name).iter();
                for field in fields.filter(|field| field.type_name == list.type_name) {
                    let parent_id = id(
                        parent.id_prefix,
                        first_id(&mut owner, parent.table).await.unwrap(),
                    );
                    let document = format!(
                        "{{ node(id: \"{parent_id}\") {{ ... on {} {{ {} {{ totalCount }} }} }} }}",
                        parent.type_name, field.name
                    );
                    let path = json!(["node", field.name]);
                    assert_reads(caller, reads, &document, path, &what).await;
                    parents += 1;
                }
            }
        }
    }
    assert!(parents > 50, "{parents} lists of parents");
    let expected = ["MEMBER", "BILLING", "VIEWER"].map(|role| ("AuditLog".to_owned(), role));
    assert_eq!(hidden, BTreeSet::from(expected));
}

#[apply(palisade_test)]
async fn a_forbidden_list_leaves_the_rest_of_the_response(acme: Tenant) {
    acme.seed(2, 1).await;
    let response = acme
        .caller(UserRole::Member)
        .query("{ projects(first: 2) { nodes { name auditLogs { totalCount } } } tenant { slug } }")
        .await;
    for index in 0..2 {
        let path = json!(["projects", "nodes", index, "auditLogs"]);
        assert_forbidden(&response, &path, "auditLogs of a project");
        let name = &response.body["data"]["projects"]["nodes"][index]["name"];
        assert!(name.is_string(), "{}", response.body);
    }
    assert_eq!(response.body["data"]["tenant"]["slug"], json!(acme.slug));
}
