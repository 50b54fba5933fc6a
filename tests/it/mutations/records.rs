//! The entries that a mutation writes to the audit log.

use macro_rules_attribute::apply;
use palisade::{auth::role::UserRole, entities::ENTITIES, ids::EntityId as _};
use serde_json::Value;
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{assert_done, document, operation_name, send};
use crate::{
    harness::{Tenant, palisade_test, snake_case},
    samples::{EntryProject, Rows, samples},
};

/// An entry of the audit log.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    action: String,
    subject_type: String,
    project: EntryProject,
    actor: Option<Uuid>,
    operation: Option<String>,
    request: Option<Uuid>,
}

impl Entry {
    fn read(row: &PgRow) -> Self {
        let (subject_type, subject): (String, Uuid) = (row.get(1), row.get(2));
        let project = match row.get(3) {
            None => EntryProject::None,
            Some(project) if subject_type == "projects" && project == subject => {
                EntryProject::Itself
            }
            Some(project) => EntryProject::Project(project),
        };
        Self {
            action: row.get(0),
            subject_type,
            project,
            actor: row.get(4),
            operation: row.get(5),
            request: row.get(6),
        }
    }
}

/// The table of the entity that an action names: `invoices` for `invoice.created`.
fn table_of(action: &str) -> &'static str {
    let (subject, _) = action.split_once('.').unwrap();
    let mut entities = ENTITIES.iter();
    let entity = entities.find(|entity| snake_case(entity.type_name) == subject);
    entity
        .unwrap_or_else(|| panic!("{action} names no entity"))
        .table
}

async fn count(sql: &mut PgConnection) -> i64 {
    sqlx::query_scalar("select count(*) from audit_logs")
        .fetch_one(sql)
        .await
        .unwrap()
}

#[apply(palisade_test)]
async fn every_mutation_succeeds_for_an_owner_and_leaves_exactly_its_entries_in_the_audit_log(
    tenant: Tenant,
) {
    let owner = tenant.owner();
    let mut sql = tenant.begin().await;
    for sample in samples() {
        let name = sample.name();
        let rows = Rows::insert(&tenant, &mut sql, UserRole::Owner).await;
        let before = count(&mut sql.0).await;
        let request = Uuid::now_v7();
        let document = document(sample.field);
        let response = send(owner, &document, &(sample.input)(&rows), request)
            .await
            .response();
        assert_done(&response, sample.field);

        let query = "select action, subject_type, subject_id, project_id, actor_id, operation_name,
                            request_id, changes::text
                     from audit_logs where request_id = $1";
        let found = sqlx::query(query).bind(request).fetch_all(&mut sql.0).await;
        let found = found.unwrap();
        let mut left: Vec<Entry> = found.iter().map(Entry::read).collect();
        let mut expected: Vec<Entry> = (sample.entries)(&rows)
            .into_iter()
            .map(|(action, project)| Entry {
                action: action.to_owned(),
                subject_type: table_of(action).to_owned(),
                project,
                actor: Some(owner.user.uuid()),
                operation: Some(operation_name(sample.field)),
                request: Some(request),
            })
            .collect();
        left.sort();
        expected.sort();
        assert_eq!(left, expected, "{name}");
        let all = count(&mut sql.0).await - before;
        assert_eq!(all, i64::try_from(left.len()).unwrap(), "{name}: others");

        assert_eq!(
            sample.changes.is_some(),
            sample.field.starts_with("update"),
            "{name}"
        );
        if let Some(changes) = sample.changes {
            // The row that the input names.
            let input = (sample.input)(&rows);
            let named = input["id"].as_str().unwrap().split_once('_').unwrap().1;
            let named: Uuid = named.parse().unwrap();
            let entry = found.iter().find(|row| row.get::<Uuid, _>(2) == named);
            let left: Value = serde_json::from_str(entry.unwrap().get(7)).unwrap();
            assert_eq!(left, changes(&rows), "{name}");
        }
    }
}
