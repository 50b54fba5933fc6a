//! Every entity of the list is complete, and `docs/adding-an-entity.md` names the right paths.

use std::collections::BTreeSet;

use macro_rules_attribute::apply;
use palisade::{auth::role::UserRole, entities::ENTITIES};

use crate::{
    harness::{FieldExt as _, Tenant, camel_case, model, palisade_test, snake_case, tenant_tables},
    samples::World,
};

/// The fields that every entity must have.
const OF_EACH_ROW: [&str; 4] = ["id", "version", "createdAt", "updatedAt"];

#[apply(palisade_test)]
async fn every_entity_has_a_table_that_belongs_to_tenants(tenant: Tenant) {
    let mut sql = tenant.begin().await.0;
    let tables = tenant_tables(&mut sql).await;
    let tables: BTreeSet<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    for entity in ENTITIES {
        assert!(tables.contains(entity.table), "{}", entity.table);
    }
}

#[test]
fn the_entities_are_the_types_of_node() {
    let entities: BTreeSet<&str> = ENTITIES.iter().map(|entity| entity.type_name).collect();
    let members = model().named("Node").members.iter();
    assert_eq!(
        members.map(String::as_str).collect::<BTreeSet<_>>(),
        entities
    );
}

#[test]
fn every_entity_is_read_by_its_id_and_listed() {
    for entity in ENTITIES {
        // A caller sees one tenant only, so there is no list of tenants, and `Query.tenant` takes no id.
        if entity.type_name == "Tenant" {
            continue;
        }
        let mut queries = model().queries().iter();
        let name = camel_case(entity.type_name);
        let by_id = queries.find(|field| field.name == name).unwrap();
        assert_eq!(by_id.type_name, entity.type_name);
        assert_eq!(by_id.arg("id").unwrap().type_text, "ID!");
        let mut lists = model().root_lists();
        assert!(
            lists.any(|list| list.row() == entity.type_name),
            "there is no list of {}",
            entity.type_name
        );
        let fields = &model().named(entity.type_name).fields;
        for name in OF_EACH_ROW.iter().filter(|_| entity.is_audited) {
            assert!(
                fields.iter().any(|field| field.name == *name),
                "{}.{name} is missing",
                entity.type_name
            );
        }
    }
}

#[test]
fn a_golden_document_asks_for_every_entity() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/documents");
    let files = std::fs::read_dir(folder).unwrap();
    let documents = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
    let documents: Vec<String> = documents.collect();
    for entity in ENTITIES {
        let mut queries = model().queries().iter();
        let root = queries.find(|field| field.type_name == entity.type_name);
        let field = &root.unwrap().name;
        let asks = |document: &String| {
            document.contains(&format!("{field}(")) || document.contains(&format!("{field} {{"))
        };
        assert!(documents.iter().any(asks), "no document asks for {field}");
    }
}

#[apply(palisade_test)]
async fn every_audited_entity_has_its_name_in_its_actions_and_a_row_among_the_samples(
    world: World,
) {
    let mut sql = world.tenant.begin().await.0;
    for entity in ENTITIES.iter().filter(|entity| entity.is_audited) {
        let name = snake_case(entity.type_name);
        let row = world.rows.any_of(entity.type_name);
        let row = row.unwrap_or_else(|| panic!("no slice inserts a row of {name}"));
        if entity.type_name == "Tenant" {
            // Only the admin role may change a tenant.
            let mut admin = world
                .tenant
                .connect_as("palisade_admin", UserRole::Owner)
                .await
                .0;
            let update = "update tenants set name = name || '.' where id = app.tenant_id()";
            sqlx::raw_sql(update).execute(&mut admin).await.unwrap();
        }
        let actions = "select array_agg(distinct action) from audit_logs where subject_type = $1 and subject_id = $2";
        let actions: Option<Vec<String>> = sqlx::query_scalar(actions)
            .bind(entity.table)
            .bind(row)
            .fetch_one(&mut sql)
            .await
            .unwrap();
        let actions = actions.unwrap_or_else(|| panic!("{name} has no entry in the audit log"));
        let expected = [format!("{name}.created"), format!("{name}.updated")];
        assert!(
            actions.iter().all(|action| expected.contains(action)),
            "{actions:?}"
        );
    }
}

#[test]
fn the_audited_entities_are_the_subject_types() {
    let values: BTreeSet<&str> = model()
        .named("AuditSubjectType")
        .values
        .iter()
        .map(String::as_str)
        .collect();
    let audited = ENTITIES.iter().filter(|entity| entity.is_audited);
    let mut names: BTreeSet<String> = audited
        .map(|entity| snake_case(entity.type_name).to_uppercase())
        .collect();
    names.insert("UNKNOWN".to_owned());
    assert_eq!(values, names.iter().map(String::as_str).collect());
}

#[test]
fn every_path_in_the_guide_exists() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = std::fs::read_to_string(root.join("docs/adding-an-entity.md")).unwrap();
    let starts = ["src/", "tests/", "migrations/", "docs/", ".ci/"];
    let quoted = guide.split('`').skip(1).step_by(2);
    let paths: Vec<String> = quoted
        .filter(|quoted| starts.iter().any(|start| quoted.starts_with(start)))
        // Skip the files of the guide's example, which do not exist.
        .filter(|path| !path.contains("milestone"))
        .map(|path| path.replace("<slice>", "projects"))
        .collect();
    assert!(paths.len() >= 6, "{paths:?}");
    for path in paths {
        assert!(root.join(&path).exists(), "{path} does not exist");
    }
}
