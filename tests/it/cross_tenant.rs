//! Attacks with queries: a caller of one tenant sends the ids, cursors and filter values of another tenant.
//!
//! The attacks are computed from the schema: the tests attack a new field as soon as it exists, and fail for an
//! argument without an attack.

use std::collections::{BTreeMap, BTreeSet};

use macro_rules_attribute::apply;
use palisade::entities::ENTITIES;
use serde_json::{Value, json};
use sqlx::Connection as _;
use uuid::Uuid;

use crate::harness::{Field, Kind, Table, Tenant, TestApp, id, model, palisade_test};

/// Arguments that cannot contain a value from a row.
const HARMLESS: [&str; 3] = ["first", "last", "orderBy"];

/// The request id of every attack, so that responses can be compared byte by byte.
const REQUEST: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);

/// Every list of the schema: the root lists, and the lists below one of the attacker's rows of each type.
fn lists(own: &Ids) -> Vec<List> {
    let roots = model()
        .root_lists()
        .map(|list| List::new(list, String::new(), ""));
    let nested = model()
        .nested_lists()
        .filter(|(parent, _)| model().named("Node").members.contains(&parent.name));
    let nested = nested.map(|(parent, list)| {
        let id = &own.0[&*parent.name];
        let open = format!("node(id: \"{id}\") {{ ... on {} {{", parent.name);
        List::new(list, open, "} }")
    });
    roots.chain(nested).collect()
}

/// The fields of a filter that compare ids, and those that compare strings.
fn filtered(filter: &str) -> (Vec<&'static str>, Vec<&'static Field>) {
    let (mut ids, mut strings) = (Vec::new(), Vec::new());
    for field in model().fields(filter) {
        match field.type_name.as_str() {
            "IdFilter" => ids.push(field.name.as_str()),
            "StringFilter" | "TextFilter" => strings.push(field),
            of if of == filter => {}
            of => {
                // No other type of filter has an operator that takes an id or an arbitrary string.
                for operand in model().fields(of) {
                    let operand = operand.type_name.as_str();
                    assert!(
                        !matches!(operand, "ID" | "String") && model().kind(operand) != Kind::Input,
                        "{filter}.{}: {operand} is not attacked",
                        field.name
                    );
                }
            }
        }
    }
    (ids, strings)
}

struct List {
    field: &'static Field,
    open: String,
    close: &'static str,
}

impl List {
    fn new(field: &'static Field, open: String, close: &'static str) -> Self {
        Self { field, open, close }
    }

    fn document(&self, variables: &str, arguments: &str) -> String {
        let Self { field, open, close } = self;
        let field = &field.name;
        format!(
            "query({variables}) {{ {open} list: {field}({arguments})
             {{ totalCount nodes {{ id }} edges {{ cursor }} pageInfo {{ hasNextPage endCursor }} }} {close} }}"
        )
    }

    fn name(&self) -> String {
        format!("{}{}", self.open, self.field.name)
    }
}

/// One id for each entity type.
struct Ids(BTreeMap<&'static str, String>);

impl Ids {
    /// Returns the ids of the tenant's first rows, to which the rows of other tables refer.
    async fn of(tenant: &Tenant) -> Self {
        let mut sql = tenant.begin().await;
        let mut ids = BTreeMap::new();
        for entity in ENTITIES {
            let table = Table::read(&mut sql.0, entity.table).await;
            let query = match entity.type_name {
                // Only entries about a project have a project; the first entry is about the tenant.
                "AuditLog" => {
                    "select min(id::text)::uuid from audit_logs where subject_type = 'projects'"
                        .to_owned()
                }
                _ => format!("select {}", table.first()),
            };
            let uuid: Uuid = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
                .fetch_one(&mut sql.0)
                .await
                .unwrap();
            ids.insert(entity.type_name, id(entity.id_prefix, uuid));
        }
        sql.0.close().await.unwrap();
        Self(ids)
    }

    fn random() -> Self {
        let ids = ENTITIES
            .iter()
            .map(|entity| (entity.type_name, id(entity.id_prefix, Uuid::now_v7())));
        Self(ids.collect())
    }
}

/// Two tenants with rows in every table, and the ids that the attacks use.
struct Scene {
    victim: Tenant,
    attacker: Tenant,
    theirs: Ids,
    own: Ids,
}

impl Scene {
    async fn new() -> Self {
        let app = TestApp::shared().await;
        let (victim, attacker) = (app.tenant().await, app.tenant().await);
        for tenant in [&victim, &attacker] {
            tenant.fill(12).await;
        }
        let (theirs, own) = (Ids::of(&victim).await, Ids::of(&attacker).await);
        Self {
            victim,
            attacker,
            theirs,
            own,
        }
    }

    /// Sends a document as the attacker. Asserts that the response contains no data of the victim.
    async fn attack(&self, document: &str, variables: &Value) -> String {
        let (status, body) = self
            .attacker
            .owner()
            .bytes(document, variables, REQUEST)
            .await;
        assert_eq!(status, 200, "{document} {variables}: {body}");
        assert!(
            !body.contains(&self.victim.slug),
            "{document} {variables}: the canary is in {body}"
        );
        body
    }

    /// Sends a document with the victim's value, then with a random one. Asserts that the two responses are identical.
    async fn attack_twice(&self, document: &str, theirs: &Value, random: &Value) -> Value {
        let (real, made_up) = (
            self.attack(document, theirs).await,
            self.attack(document, random).await,
        );
        assert_eq!(real, made_up, "{document} {theirs} {random}");
        serde_json::from_str(&real).unwrap()
    }

    /// Sends the same document with the victim's token. The rows in its response prove that the attack had a target.
    async fn control(&self, document: &str, variables: &Value) -> Value {
        let response = self
            .victim
            .owner()
            .graphql(document, variables.clone())
            .await;
        response.data().clone()
    }
}

#[apply(palisade_test)]
async fn another_tenants_id_returns_the_same_bytes_as_a_random_one_in_every_root_field() {
    let scene = Scene::new().await;
    let random = Ids::random();
    let mut attacked = BTreeSet::new();

    for field in model().queries() {
        let (field_name, of) = (field.name.as_str(), field.type_name.as_str());
        for argument in &field.args {
            let argument_name = argument.name.as_str();
            let plural = match (argument_name, argument.type_name.as_str()) {
                ("id", "ID") => false,
                ("ids", "ID") => true,
                // The tests of lists below attack these arguments.
                ("after" | "before", "String") | ("filter", _) if field.is_connection() => {
                    continue;
                }
                (harmless, _) if HARMLESS.contains(&harmless) => continue,
                other => panic!("Query.{field_name}: the argument {other:?} is not attacked"),
            };
            let kind = if plural { "[ID!]!" } else { "ID!" };
            let document = format!(
                "query($v: {kind}) {{ found: {field_name}({argument_name}: $v) {{ {} }} }}",
                model().selection(of, 1)
            );
            let value = |id: &str| {
                if plural {
                    json!({ "v": [id] })
                } else {
                    json!({ "v": id })
                }
            };
            let mut accepted = 0;
            for (type_name, id) in &scene.theirs.0 {
                let body = scene
                    .attack_twice(&document, &value(id), &value(&random.0[type_name]))
                    .await;
                if body.get("errors").is_some() {
                    assert!(
                        body["data"].is_null() || body["data"]["found"].is_null(),
                        "{body}"
                    );
                    continue;
                }
                accepted += 1;
                let nothing = if plural { json!([null]) } else { json!(null) };
                assert_eq!(body["data"]["found"], nothing, "{field_name} {id}");
                let seen = scene.control(&document, &value(id)).await;
                assert!(
                    seen.to_string().contains(&scene.victim.slug),
                    "{field_name} {id}: {seen}"
                );

                // The victim's UUID with the prefix of each other type.
                let uuid = id.split_once('_').unwrap().1;
                for (retyped, random) in &random.0 {
                    let prefix = random.split_once('_').unwrap().0;
                    assert_eq!(prefix, crate::harness::entity(retyped).id_prefix);
                    let theirs = value(&format!("{prefix}_{uuid}"));
                    scene.attack_twice(&document, &theirs, &value(random)).await;
                }
            }
            let expected = if of == "Node" { ENTITIES.len() } else { 1 };
            assert_eq!(
                accepted, expected,
                "{field_name}: types of id that were let in"
            );
            attacked.insert(field_name);
        }
    }
    assert!(attacked.len() >= 10, "only {attacked:?}");
    for field in ["node", "nodes", "project", "auditLog"] {
        assert!(attacked.contains(field), "{field} was not attacked");
    }
}

#[apply(palisade_test)]
async fn no_root_field_returns_anything_of_another_tenant() {
    let scene = Scene::new().await;
    for field in model().queries() {
        let (field_name, of) = (field.name.as_str(), field.type_name.as_str());
        if field.args.iter().any(|argument| !argument.is_nullable) {
            continue;
        }
        let (arguments, selection) = if field.is_connection() {
            let row = model().selection(field.row(), 1);
            ("(first: 20)", format!("totalCount nodes {{ {row} }}"))
        } else {
            ("", model().selection(of, 2))
        };
        let document = format!("{{ {field_name}{arguments} {{ {selection} }} }}");
        let body = scene.attack(&document, &json!({})).await;
        assert!(!body.contains("\"errors\""), "{document}: {body}");
        let is_of_no_tenant = matches!(of, "Currency" | "RateLimit");
        assert_eq!(
            !is_of_no_tenant,
            body.contains(&scene.attacker.slug),
            "{field_name} shows its own: {body}"
        );
        for id in scene.theirs.0.values() {
            assert!(!body.contains(id), "{field_name}: {id} is in {body}");
        }
    }
}

#[apply(palisade_test)]
async fn another_tenants_id_or_string_in_a_filter_finds_nothing_in_any_list() {
    let scene = Scene::new().await;
    let random = Ids::random();
    let made_up = format!("t-{}", Uuid::now_v7().simple());
    let mut compared = 0;
    for list in lists(&scene.own) {
        let filter = list.field.filter();
        let (ids, strings) = filtered(filter);
        assert!(ids.contains(&"id"), "{} is not filtered by id", list.name());
        let document = list.document(&format!("$f: {filter}"), "first: 3, filter: $f");
        let finds_nothing = |body: &Value| {
            let found = body["data"]
                .get("list")
                .unwrap_or(&body["data"]["node"]["list"]);
            assert_eq!(found["totalCount"], 0, "{}: {body}", list.name());
            assert_eq!(found["nodes"], json!([]), "{}: {body}", list.name());
        };
        for column in ids {
            let mut accepted = 0;
            for (type_name, theirs) in &scene.theirs.0 {
                let random = &random.0[type_name];
                let eq = |id: &str| json!({ "f": { column: { "eq": id } } });
                let body = scene
                    .attack_twice(&document, &eq(theirs), &eq(random))
                    .await;
                if body.get("errors").is_some() {
                    continue;
                }
                accepted += 1;
                finds_nothing(&body);
                let any = |id: &str| json!({ "f": { "or": [{ column: { "in": [id] } }] } });
                finds_nothing(
                    &scene
                        .attack_twice(&document, &any(theirs), &any(random))
                        .await,
                );
                let ne = |id: &str| json!({ "f": { "not": { column: { "eq": id } } } });
                scene
                    .attack_twice(&document, &ne(theirs), &ne(random))
                    .await;
            }
            assert_eq!(
                accepted,
                1,
                "{}: types of id that {column} lets in",
                list.name()
            );
            compared += 1;
        }
        for column in strings {
            for operator in model().fields(&column.type_name) {
                // `ne` matches the attacker's own rows.
                if operator.type_name != "String" || operator.name == "ne" {
                    continue;
                }
                let filter = |text: &str| {
                    let operand = if operator.type_text.starts_with('[') {
                        json!([text])
                    } else {
                        json!(text)
                    };
                    json!({ "f": { (&*column.name): { (&*operator.name): operand } } })
                };
                let body = scene
                    .attack_twice(&document, &filter(&scene.victim.slug), &filter(&made_up))
                    .await;
                finds_nothing(&body);
            }
        }
    }
    assert!(compared >= 83, "only {compared} filters were attacked");
    // With the victim's token, the same filters find the rows.
    let list = "query($f: ProjectFilter) { projects(filter: $f) { nodes { name } } }";
    let filters = [
        json!({ "f": { "id": { "eq": scene.theirs.0["Project"] } } }),
        json!({ "f": { "name": { "contains": scene.victim.slug } } }),
    ];
    for filter in filters {
        let seen = scene.control(list, &filter).await;
        assert!(seen.to_string().contains(&scene.victim.slug), "{seen}");
    }
}

#[apply(palisade_test)]
async fn another_tenants_cursor_returns_the_same_bytes_as_an_invented_one_in_every_list() {
    let scene = Scene::new().await;
    let (own, theirs) = (lists(&scene.own), lists(&scene.theirs));
    assert!(own.len() >= 27, "only {} lists", own.len());
    for (list, same) in own.iter().zip(&theirs) {
        let seen = scene
            .control(&same.document("$n: Int", "first: $n"), &json!({ "n": 3 }))
            .await;
        let page = seen.get("list").unwrap_or(&seen["node"]["list"]);
        let cursor = page["pageInfo"]["endCursor"].as_str();
        let cursor = cursor.unwrap_or_else(|| panic!("{}: no rows", same.name()));
        for argument in ["after", "before"] {
            let document = list.document("$c: String", &format!("{argument}: $c"));
            let body = scene
                .attack_twice(
                    &document,
                    &json!({ "c": cursor }),
                    &json!({ "c": "bWFkZSB1cA" }),
                )
                .await;
            assert_eq!(
                body["errors"][0]["extensions"]["code"], "BAD_USER_INPUT",
                "{body}"
            );
            assert!(!body["data"].to_string().contains("totalCount"), "{body}");
            // With the victim's token, the cursor is accepted.
            scene
                .control(
                    &same.document("$c: String", &format!("{argument}: $c")),
                    &json!({ "c": cursor }),
                )
                .await;
        }
    }
}

#[apply(palisade_test)]
async fn alternating_requests_of_two_tenants_for_one_id_never_mix() {
    let scene = Scene::new().await;
    let document =
        "query($id: ID!) { project(id: $id) { name owner { email } organization { slug } } }";
    let variables = json!({ "id": scene.theirs.0["Project"] });
    for _ in 0..200 {
        let (theirs, own) = tokio::join!(
            scene.victim.owner().bytes(document, &variables, REQUEST),
            scene.attacker.owner().bytes(document, &variables, REQUEST),
        );
        let nothing =
            r#"{"data":{"project":null},"extensions":{"cost":{"requested":3,"actual":0}}}"#;
        assert_eq!(own.1, nothing);
        assert_eq!(
            theirs.1.matches(&scene.victim.slug).count(),
            3,
            "{}",
            theirs.1
        );
    }
}
