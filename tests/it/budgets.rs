//! The cost of operations in round trips and statements. The cost does not depend on the number of rows.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::{Path, PathBuf},
};

use async_graphql::parser::{
    parse_query,
    types::{ExecutableDocument, Selection, SelectionSet},
};
use chrono::{DateTime, Utc};
use macro_rules_attribute::apply;
use palisade::{
    auth::role::UserRole,
    db::{PoolSettings, TenantDb, admin_tx::AdminDb},
    demo::{self, Amounts},
    entities::ENTITIES,
    ids::EntityId as _,
};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::harness::{
    Caller, Kind, Response, ServiceOptions, Tenant, TestApp, camel_case, enter, eventually,
    fill_empty_tables, id, id_of, model, palisade_test, scratch, session_context, signing,
};
use crate::selection::assert_same_response;

/// The headline document of the documentation, with this number of projects.
fn headline(projects: u32) -> String {
    format!(
        "{{ projects(first: {projects}) {{ nodes {{ id name status organization {{ id name }}
            owner {{ id email displayName }}
            invoices(first: 5) {{ nodes {{ id number status total {{ amount currencyCode }} }} }}
            auditLogs(first: 10) {{ nodes {{ id action occurredAt actor {{ ... on User {{ id email }} }} }} }} }} }} }}"
    )
}

#[apply(palisade_test)]
async fn an_operation_costs_one_round_trip_and_one_for_each_list_or_type_of_a_level(
    tenant: Tenant,
) {
    let seed = tenant.seed(25, 2).await;
    let caller = tenant.owner();
    let project = id("prj", seed.projects[0]);
    for (round_trips, document) in [
        (0, "{ __typename }".to_owned()),
        (0, "{ viewer { role permissions } }".to_owned()),
        (2, format!("{{ project(id: \"{project}\") {{ name }} }}")),
        (2, "{ projects(first: 20) { nodes { name } } }".to_owned()),
        (
            3,
            "{ projects(first: 20) { totalCount nodes { name } } }".to_owned(),
        ),
        (
            3,
            "{ projects(first: 20) { totalCount totalCountIsCapped nodes { name } } }".to_owned(),
        ),
        (
            4,
            "{ projects(first: 20) { totalCount nodes { owner { email } } } }".to_owned(),
        ),
        // One statement reads the pages of all parents of a level, and one statement reads their counts.
        (
            4,
            "{ projects(first: 20) { nodes { invoices { totalCount nodes { id } } } } }".to_owned(),
        ),
        (
            5,
            "{ projects(first: 20) { totalCount nodes { invoices { totalCount nodes { id } } } } }"
                .to_owned(),
        ),
        // A row or a list that two fields request is loaded once.
        (
            2,
            format!(
                "{{ a: project(id: \"{project}\") {{ name }} b: project(id: \"{project}\") {{ id }} }}"
            ),
        ),
        (
            2,
            "{ a: projects { nodes { id } } b: projects { nodes { name } } }".to_owned(),
        ),
        // The same list with different arguments needs a statement of its own.
        (
            3,
            "{ a: projects(first: 1) { nodes { id } } b: projects(first: 2) { nodes { id } } }"
                .to_owned(),
        ),
    ] {
        let response = caller.query(&document).await;
        response.data();
        assert_eq!(
            response.round_trips(),
            round_trips,
            "{document}\n{:#?}",
            response.statements()
        );
        let opening = u64::from(round_trips > 0);
        assert_eq!(
            response.statements().len() as u64,
            round_trips - opening,
            "{document}"
        );
    }
}

#[apply(palisade_test)]
async fn the_headline_document_costs_the_same_for_5_20_and_100_projects(tenant: Tenant) {
    tenant.seed(100, 6).await;
    let mut costs = BTreeSet::new();
    for projects in [5, 20, 100] {
        let response = tenant.owner().query(&headline(projects)).await;
        let nodes = response.data()["projects"]["nodes"].as_array().unwrap();
        assert_eq!(nodes.len(), projects as usize);
        for project in nodes {
            assert_eq!(project["invoices"]["nodes"].as_array().unwrap().len(), 5);
            assert_eq!(project["auditLogs"]["nodes"].as_array().unwrap().len(), 10);
        }
        // The actor is also the owner of the projects, so the user's row is already loaded.
        assert_eq!(response.round_trips(), 6, "{:#?}", response.statements());
        costs.insert((response.round_trips(), response.statements()));
    }
    assert_eq!(costs.len(), 1, "rows changed the statements: {costs:#?}");
}

#[apply(palisade_test)]
async fn a_batch_holds_all_parents_of_its_level(tenant: Tenant) {
    tenant.seed(100, 2).await;
    let levels = "{ projects(first: 100) { nodes { id
        organization { id } owner { id }
        comments(first: 2) { totalCount nodes { author { id } subject { ... on Project { id } } } }
        invoices(first: 2) { nodes { id project { id } organization { id }
            lineItems(first: 2) { nodes { id product { id } invoice { id } auditLogs(first: 1) { nodes { id } } } } } } } } }";
    let response = tenant.owner().query(levels).await;
    let lines: usize = response.data()["projects"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|project| project["invoices"]["nodes"].as_array().unwrap())
        .map(|invoice| invoice["lineItems"]["nodes"].as_array().unwrap().len())
        .sum();
    assert_eq!(lines, 400);
    // Each list and each relation by id takes one statement, for any number of rows. Rows that are already loaded by
    // id are not read again.
    let mut read_count: BTreeMap<String, usize> = BTreeMap::new();
    for statement in response.statements() {
        let of = statement
            .rsplit("FROM \"")
            .next()
            .unwrap()
            .split('"')
            .next()
            .unwrap()
            .to_owned();
        *read_count.entry(of).or_default() += 1;
    }
    let once = |table: &str| read_count.get(table).copied().unwrap_or_default();
    assert_eq!(once("organizations"), 1, "{read_count:?}");
    assert_eq!(once("users"), 1, "{read_count:?}");
    assert_eq!(once("products"), 1, "{read_count:?}");
    assert_eq!(once("invoice_line_items"), 1, "{read_count:?}");
    assert_eq!(once("audit_logs"), 1, "{read_count:?}");
    // One statement for the list and one for its count.
    assert_eq!(once("comments"), 2, "{read_count:?}");
    // The rows of a list are not read again by the relations that lead back to them.
    assert_eq!(once("invoices"), 1, "{read_count:?}");
    assert_eq!(once("projects"), 1, "{read_count:?}");
    assert_eq!(
        response.round_trips(),
        1 + read_count.values().sum::<usize>() as u64
    );
}

/// The demo tenant in a separate database, and its owner.
struct Demo {
    database: String,
    tenant: Uuid,
    caller: Caller,
}

async fn demo() -> Demo {
    let app = TestApp::shared().await;
    let database = app.own_database().await;
    let url = |role: &str| app.server.url(role, &database);
    let db = TenantDb::connect(&url("palisade_app"), PoolSettings::default(), &signing())
        .await
        .unwrap();
    let mut admin = AdminDb::connect(&url("palisade_admin")).await.unwrap();
    let amounts = Amounts {
        tenants: 1,
        projects: 6,
        invoices: 2,
        audit_logs: 14,
    };
    demo::create_tenants(&db, &mut admin, amounts, false)
        .await
        .unwrap();
    db.close().await;

    let mut postgres = PgConnection::connect(&url("postgres")).await.unwrap();
    let (tenant, user): (Uuid, Uuid) = sqlx::query_as(
        "select tenant_id, id from users where role = 'OWNER' and tenant_id <> app.canary_id(0)",
    )
    .fetch_one(&mut postgres)
    .await
    .unwrap();
    let url = app
        .serve_database(&database, ServiceOptions::default())
        .await;
    let caller = app.caller(&url, tenant.into(), user.into(), UserRole::Owner);
    // Insert rows of the entities of which the demo data has none.
    let context = session_context(tenant.into(), Some(user.into()), None);
    enter(&mut postgres, &context).await;
    fill_empty_tables(&mut postgres, 12).await;
    Demo {
        database,
        tenant,
        caller,
    }
}

fn documents() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/documents");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "graphql")
        })
        .collect();
    files.sort();
    files
}

/// The number after `# name:` in the first lines of a document.
fn budget(document: &str, name: &str) -> u64 {
    let line = document
        .lines()
        .find_map(|line| line.strip_prefix(&format!("# {name}: ")));
    line.unwrap_or_else(|| panic!("no line `# {name}: N`"))
        .trim()
        .parse()
        .unwrap()
}

/// Replaces the values that differ between runs: ids and timestamps that the database generates.
fn redact(value: &mut Value, started: DateTime<Utc>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| redact(item, started)),
        Value::Object(fields) => fields.values_mut().for_each(|field| redact(field, started)),
        Value::String(text) => {
            if text.starts_with("aud_") {
                "[audit log]".clone_into(text);
            } else if text
                .parse::<DateTime<Utc>>()
                .is_ok_and(|time| time >= started)
            {
                "[now]".clone_into(text);
            } else if text.parse::<Uuid>().is_ok() && text.contains('-') {
                "[request]".clone_into(text);
            }
        }
        _ => {}
    }
}

#[apply(palisade_test)]
async fn every_golden_document_keeps_its_response_its_statements_and_its_budget() {
    let started: DateTime<Utc> = std::time::SystemTime::now().into();
    let demo = demo().await;
    let files = documents();
    assert!(files.len() >= 10, "only {} documents", files.len());
    let mut over = Vec::new();
    for file in files {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let document = std::fs::read_to_string(&file).unwrap();
        let ids = demo_ids(&demo, &document).await;
        let response = demo
            .caller
            .graphql(&document, variables(&document, &ids))
            .await;
        response.data();
        // The second time, the service finds the document in its cache of admitted documents.
        let again = demo
            .caller
            .graphql(&document, variables(&document, &ids))
            .await;
        assert_eq!(again.data(), response.data(), "{name}");
        assert!(assert_same_response(&demo.caller, &document, &variables(&document, &ids)).await);
        let mut statements = response.statements();
        let cost = (statements.len() as u64, response.round_trips());
        let budget = (
            budget(&document, "statements"),
            budget(&document, "round trips"),
        );
        if cost != budget {
            over.push(format!(
                "{name} costs {cost:?} and not {budget:?}: {statements:#?}"
            ));
        }

        let mut data = response.body["data"].clone();
        redact(&mut data, started);
        // Sorted, because the lists of one level may be loaded in any order.
        statements.sort();
        let mut golden = format!("{data:#}\n");
        for statement in statements {
            write!(golden, "\n{statement};\n").unwrap();
        }
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("documents");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(name, golden));
    }
    assert!(
        over.is_empty(),
        "statements, round trips: {}",
        over.join("\n")
    );
}

/// Maps the name of a variable, such as `project`, to the id of a row of that entity. A document chooses the row with a
/// line such as `# $project: projects order by created_at`. The default is the row with the lowest id.
async fn demo_ids(demo: &Demo, document: &str) -> BTreeMap<String, String> {
    let mut postgres =
        PgConnection::connect(&demo.caller.app.server.url("postgres", &demo.database))
            .await
            .unwrap();
    let mut ids = BTreeMap::new();
    for entity in ENTITIES {
        let name = camel_case(entity.type_name);
        let given = format!("# ${name}: ");
        let given = document.lines().find_map(|line| line.strip_prefix(&given));
        let first = format!("{} order by id", entity.table);
        let text = format!("select id from {} limit 1", given.unwrap_or(&first));
        let found: Uuid = sqlx::query_scalar(sqlx::AssertSqlSafe(text))
            .fetch_one(&mut postgres)
            .await
            .unwrap();
        ids.insert(name, id_of(entity.type_name, found));
    }
    ids
}

/// The values of the variables that a document declares.
fn variables(document: &str, ids: &BTreeMap<String, String>) -> Value {
    let named = ids
        .iter()
        .filter(|(name, _)| document.contains(&format!("${name}: ID!")));
    let mut variables: serde_json::Map<String, Value> =
        named.map(|(name, id)| (name.clone(), json!(id))).collect();
    if document.contains("$ids: [ID!]!") {
        let listed = document.lines().filter_map(|line| line.strip_prefix("# $"));
        let all: Vec<&String> = listed
            .map(|line| &ids[line.split(':').next().unwrap()])
            .collect();
        variables.insert("ids".to_owned(), json!(all));
    }
    for (name, value) in [("yes", true), ("no", false)] {
        if document.contains(&format!("${name}: Boolean!")) {
            variables.insert(name.to_owned(), json!(value));
        }
    }
    variables.into()
}

/// Collects every field that a document selects, as `Type.field`.
fn collect(document: &ExecutableDocument, seen: &mut BTreeSet<String>) {
    for (_, operation) in document.operations.iter() {
        collect_set(document, "Query", &operation.node.selection_set.node, seen);
    }
}

fn collect_set(
    document: &ExecutableDocument,
    on: &str,
    set: &SelectionSet,
    seen: &mut BTreeSet<String>,
) {
    for selection in &set.items {
        match &selection.node {
            Selection::Field(field) => {
                let name = field.node.name.node.as_str();
                seen.insert(format!("{on}.{name}"));
                let fields = model().find(on).map(|of| &of.fields);
                let of = fields
                    .into_iter()
                    .flatten()
                    .find(|field| field.name == name);
                if let Some(of) = of {
                    collect_set(
                        document,
                        &of.type_name,
                        &field.node.selection_set.node,
                        seen,
                    );
                }
            }
            Selection::InlineFragment(fragment) => {
                let condition = fragment.node.type_condition.as_ref();
                let on = condition.map_or(on, |condition| condition.node.on.node.as_str());
                collect_set(document, on, &fragment.node.selection_set.node, seen);
            }
            Selection::FragmentSpread(spread) => {
                let fragment = &document.fragments[&spread.node.fragment_name.node].node;
                let on = fragment.type_condition.node.on.node.as_str();
                collect_set(document, on, &fragment.selection_set.node, seen);
            }
        }
    }
}

#[apply(palisade_test)]
async fn every_relation_of_every_type_is_in_a_golden_document() {
    let mut seen = BTreeSet::new();
    for file in documents() {
        let document = parse_query(std::fs::read_to_string(file).unwrap()).unwrap();
        collect(&document, &mut seen);
    }
    // Skip the types that only mutations return: the tests of mutations cover them.
    let reached = model().reached_from("Query");
    let mut left = Vec::new();
    for of in model().types() {
        if of.kind != Kind::Object || !reached.contains(&of.name) {
            continue;
        }
        for field in &of.fields {
            let leads_on = model().is_composite(&field.type_name);
            let key = format!("{}.{}", of.name, field.name);
            if leads_on && !seen.contains(&key) {
                left.push(key);
            }
        }
    }
    assert!(left.is_empty(), "in no document: {left:#?}");
}

/// The statements of one transaction in PostgreSQL's log, from the one that contains `mark` to COMMIT or ROLLBACK.
/// `None` if the log does not contain the end of the transaction yet.
fn logged(log: &str, mark: &str) -> Option<Vec<String>> {
    let opening = log.lines().find(|line| line.contains(mark))?;
    let backend = opening.split('[').nth(1)?.split(']').next()?;
    let backend = format!(" [{backend}] LOG:  ");
    let after = &log[log.find(opening)?..];
    let mut statements = Vec::new();
    for line in after.lines() {
        let Some((_, entry)) = line.split_once(&backend) else {
            continue;
        };
        let text = if let Some(text) = entry.strip_prefix("statement: ") {
            text
        } else if entry.starts_with("execute ") {
            entry.split_once(": ")?.1
        } else {
            continue;
        };
        let is_end = text == "ROLLBACK" || text == "COMMIT";
        statements.push(text.to_owned());
        if is_end {
            return Some(statements);
        }
    }
    None
}

#[apply(palisade_test)]
async fn the_servers_own_log_holds_the_statements_that_the_transaction_counted(
    app: &'static TestApp,
) {
    let Demo {
        database,
        tenant,
        caller,
        ..
    } = demo().await;
    let mut postgres = PgConnection::connect(&app.server.url("postgres", &database))
        .await
        .unwrap();
    let everything =
        format!("alter role palisade_app in database {database} set log_statement = 'all'");
    sqlx::query(sqlx::AssertSqlSafe(everything))
        .execute(&mut postgres)
        .await
        .unwrap();
    // The settings of a role apply to new sessions only, so a new service is started.
    let caller = caller.at(&app
        .serve_database(&database, ServiceOptions::default())
        .await);
    let log_file = scratch("postgres").await.join("postgres.log");

    let (request, response) = marked(&caller, &headline(6)).await;
    let mark = format!("palisade {request}");
    let mut statements = Vec::new();
    eventually("the end of the transaction is in the log", async || {
        let log = std::fs::read(&log_file).unwrap();
        statements = logged(&String::from_utf8_lossy(&log), &mark).unwrap_or_default();
        !statements.is_empty()
    })
    .await;

    // In the log, random digits of the operation follow the mark.
    let (before, rest) = statements[0].split_once(&mark).unwrap();
    let (nonce, after) = rest.split_once('\'').unwrap();
    assert_eq!(nonce.len(), " 0123abcd".len(), "{nonce}");
    statements[0] = format!("{before}{mark}'{after}");
    // The time and the MAC of the context differ each time.
    let opening = format!(
        "RESET ALL; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY NOT DEFERRABLE; \
         SET LOCAL application_name = '{mark}'; SET LOCAL app.context = '"
    );
    let context = statements[0].strip_prefix(&opening).unwrap();
    let fields = [tenant, caller.user.uuid()].map(|id| id.simple().to_string());
    assert_eq!(
        &context[17..115],
        format!("{}{}Or{}", fields[0], fields[1], request.simple())
    );
    assert_eq!(&context[179..], "'");
    assert_eq!(statements.last().map(String::as_str), Some("ROLLBACK"));
    assert_eq!(statements[1..statements.len() - 1], response.statements());
    // The service does not wait for the ROLLBACK, so it does not count as a round trip.
    assert_eq!(statements.len() as u64 - 1, response.round_trips());
    // Some actors own none of the projects, so one more statement loads these users.
    assert_eq!(response.round_trips(), 7);
}

/// Sends a document with a new request id, and returns both the id and the response.
async fn marked(caller: &Caller, document: &str) -> (Uuid, Response) {
    let request = Uuid::now_v7();
    let reply = caller
        .app
        .client
        .post(&caller.url)
        .bearer_auth(&caller.token)
        .header("palisade-trace", "1")
        .header("x-request-id", request.to_string())
        .json(&json!({ "query": document }))
        .send()
        .await
        .unwrap();
    let status = reply.status().as_u16();
    let response = Response {
        status,
        body: reply.json().await.unwrap(),
    };
    response.data();
    (request, response)
}
