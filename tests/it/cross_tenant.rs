//! One tenant's token with another tenant's ids, cursors and filter values.
//!
//! What is attacked is computed from the schema: a new field is attacked as soon as it exists, and an
//! argument that these attacks do not know fails the test.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use macro_rules_attribute::apply;
use serde_json::{Value, json};
use sqlx::Connection as _;
use uuid::Uuid;

use crate::{
    harness::{Caller, Seed, Tenant, TestApp, id, palisade_test},
    mutations::samples::sampled,
};

/// The table whose ids a prefix names.
const TABLES: [(&str, &str); 9] = [
    ("ten", "tenants"),
    ("usr", "users"),
    ("org", "organizations"),
    ("prj", "projects"),
    ("prd", "products"),
    ("inv", "invoices"),
    ("ili", "invoice_line_items"),
    ("com", "comments"),
    ("aud", "audit_logs"),
];

/// Arguments that hold no value of anybody's rows.
const HARMLESS: [&str; 3] = ["first", "last", "orderBy"];

/// The request id of every attack, so that answers can be compared byte by byte.
const REQUEST: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);

const INTROSPECTION: &str = "{ __schema { queryType { name } mutationType { name } subscriptionType { name }
    types { kind name possibleTypes { name } enumValues { name }
        fields { name args { name type { ...T } } type { ...T } }
        inputFields { name type { ...T } } } } }
    fragment T on __Type { kind name ofType { kind name ofType { kind name ofType { kind name } } } }";

/// The schema as its own introspection tells it.
pub struct Schema {
    types: BTreeMap<String, Value>,
}

/// The name of a type without its lists and non-nulls.
pub fn named(mut of: &Value) -> &str {
    while of["name"].is_null() {
        of = &of["ofType"];
    }
    of["name"].as_str().unwrap()
}

pub fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub fn name(value: &Value) -> &str {
    value["name"].as_str().unwrap()
}

impl Schema {
    /// Asks the service.
    pub async fn of(caller: &Caller) -> Self {
        let answer = caller.query(INTROSPECTION).await;
        let told = &answer.data()["__schema"];
        assert_eq!(told["queryType"]["name"], "Query");
        assert_eq!(told["mutationType"]["name"], "Mutation");
        let kind = "subscriptionType";
        assert!(
            told[kind].is_null(),
            "{kind}: its fields need their attacks here"
        );
        let types = array(&told["types"])
            .iter()
            .map(|of| (name(of).to_owned(), of.clone()));
        let schema = Self {
            types: types.collect(),
        };
        // The fields of mutations are attacked by the module that has a sample of each.
        let mutations = schema.fields("Mutation").iter().map(name);
        assert_eq!(mutations.collect::<BTreeSet<_>>(), sampled());
        schema
    }

    /// What kind of type it is.
    pub fn kind(&self, of: &str) -> &str {
        self.types[of]["kind"].as_str().unwrap()
    }

    /// The fields of a type.
    pub fn fields(&self, of: &str) -> &[Value] {
        array(&self.types[of]["fields"])
    }

    /// The fields of an input.
    pub fn inputs(&self, of: &str) -> &[Value] {
        array(&self.types[of]["inputFields"])
    }

    /// Everything that can be read of a type, to a depth: plain fields, rows beside, pages of two.
    pub fn selection(&self, of: &str, depth: usize) -> String {
        let mut text = "__typename".to_owned();
        for member in array(&self.types[of]["possibleTypes"]) {
            write!(
                text,
                " ... on {} {{ {} }}",
                name(member),
                self.selection_as(name(member), depth)
            )
            .unwrap();
        }
        if self.kind(of) == "OBJECT" {
            text.push(' ');
            text.push_str(&self.selection_as(of, depth));
        }
        text
    }

    /// The same for a type that is no interface and no union.
    fn selection_as(&self, of: &str, depth: usize) -> String {
        let mut text = String::new();
        for field in self.fields(of) {
            let (field_name, field_type) = (name(field), named(&field["type"]));
            let inner = match self.kind(field_type) {
                "SCALAR" | "ENUM" => String::new(),
                // Wrappers take no depth, for their rows are what is asked for.
                _ if self.is_list(field_type) && depth > 0 => {
                    let row = self.row_of(field_type);
                    format!(
                        "{{ totalCount edges {{ cursor }} nodes {{ {} }} }}",
                        self.selection(row, depth - 1)
                    )
                }
                _ if depth > 0 => format!("{{ {} }}", self.selection(field_type, depth - 1)),
                _ => continue,
            };
            let arguments = if self.is_list(field_type) {
                "(first: 2)"
            } else {
                ""
            };
            write!(text, "{field_name}{arguments} {inner} ").unwrap();
        }
        text
    }

    fn is_list(&self, of: &str) -> bool {
        of.ends_with("Connection") && self.fields(of).iter().any(|field| name(field) == "edges")
    }

    fn row_of<'s>(&'s self, connection: &str) -> &'s str {
        let nodes = self
            .fields(connection)
            .iter()
            .find(|field| name(field) == "nodes")
            .unwrap();
        named(&nodes["type"])
    }

    /// Every list: those of the root, and those of each type under an object of the attacker's own.
    fn lists(&self, own: &Ids) -> Vec<List> {
        let mut lists = Vec::new();
        let mut add = |field: &Value, open: String, close: &'static str| {
            let of = named(&field["type"]);
            if self.is_list(of) {
                let filter = array(&field["args"])
                    .iter()
                    .find(|argument| name(argument) == "filter");
                lists.push(List {
                    field: name(field).to_owned(),
                    open,
                    close,
                    filter: named(&filter.expect("a list without filter")["type"]).to_owned(),
                });
            }
        };
        for field in self.fields("Query") {
            add(field, String::new(), "");
        }
        for member in array(&self.types["Node"]["possibleTypes"]) {
            let own = &own.0[prefix_of(name(member))];
            for field in self.fields(name(member)) {
                add(
                    field,
                    format!("node(id: \"{own}\") {{ ... on {} {{", name(member)),
                    "} }",
                );
            }
        }
        lists
    }

    /// The fields of a filter that compare ids, and those that compare texts.
    fn filtered(&self, filter: &str) -> (Vec<String>, Vec<String>) {
        let (mut ids, mut texts) = (Vec::new(), Vec::new());
        for field in array(&self.types[filter]["inputFields"]) {
            match named(&field["type"]) {
                "IdFilter" => ids.push(name(field).to_owned()),
                "StringFilter" => texts.push(name(field).to_owned()),
                of if of == filter => {}
                of => {
                    // Nothing else may hold an id or free text below.
                    for inner in array(&self.types[of]["inputFields"]) {
                        let inner = named(&inner["type"]);
                        assert!(
                            !matches!(inner, "ID" | "String") && self.kind(inner) != "INPUT_OBJECT",
                            "{filter}.{}: {inner} is not attacked",
                            name(field)
                        );
                    }
                }
            }
        }
        (ids, texts)
    }
}

struct List {
    field: String,
    open: String,
    close: &'static str,
    filter: String,
}

impl List {
    fn document(&self, variables: &str, arguments: &str) -> String {
        let Self {
            field, open, close, ..
        } = self;
        format!(
            "query({variables}) {{ {open} list: {field}({arguments})
             {{ totalCount nodes {{ id }} edges {{ cursor }} pageInfo {{ hasNextPage endCursor }} }} {close} }}"
        )
    }

    fn name(&self) -> String {
        format!("{}{}", self.open, self.field)
    }
}

fn prefix_of(of: &str) -> &'static str {
    match of {
        "Tenant" => "ten",
        "User" => "usr",
        "Organization" => "org",
        "Project" => "prj",
        "Product" => "prd",
        "Invoice" => "inv",
        "InvoiceLineItem" => "ili",
        "Comment" => "com",
        "AuditLog" => "aud",
        other => panic!("{other}: a new type of node, attack it here"),
    }
}

/// An id of each type, by its prefix.
struct Ids(BTreeMap<&'static str, String>);

impl Ids {
    async fn of(tenant: &Tenant) -> Self {
        let mut sql = tenant.begin().await;
        let mut ids = BTreeMap::new();
        for (prefix, table) in TABLES {
            // The owner made everything; an entry about a tenant's own row is nobody's child.
            let which = match table {
                "audit_logs" => "where subject_type = 'projects'",
                "users" => "where role = 'OWNER'",
                _ => "",
            };
            let query = format!("select max(id::text)::uuid from {table} {which}");
            let uuid: Uuid = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
                .fetch_one(&mut sql.0)
                .await
                .unwrap();
            ids.insert(prefix, id(prefix, uuid));
        }
        sql.0.close().await.unwrap();
        Self(ids)
    }

    fn random() -> Self {
        Self(
            TABLES
                .iter()
                .map(|(prefix, _)| (*prefix, id(prefix, Uuid::now_v7())))
                .collect(),
        )
    }
}

/// Two tenants with rows in every table, and what the attacker uses.
struct Scene {
    victim: Tenant,
    attacker: Tenant,
    schema: Schema,
    theirs: Ids,
    own: Ids,
}

impl Scene {
    async fn new() -> Self {
        let app = TestApp::shared().await;
        let (victim, attacker) = (app.tenant().await, app.tenant().await);
        for tenant in [&victim, &attacker] {
            let seed = tenant.seed(3, 3).await;
            comment_everything(tenant, &seed).await;
        }
        let schema = Schema::of(attacker.owner()).await;
        let (theirs, own) = (Ids::of(&victim).await, Ids::of(&attacker).await);
        Self {
            victim,
            attacker,
            schema,
            theirs,
            own,
        }
    }

    /// Sends a document as the attacker; its answer may never hold anything of the victim.
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

    /// The same with the victim's value and with a made-up one: not one byte may differ.
    async fn attack_twice(&self, document: &str, theirs: &Value, random: &Value) -> Value {
        let (real, made_up) = (
            self.attack(document, theirs).await,
            self.attack(document, random).await,
        );
        assert_eq!(real, made_up, "{document} {theirs} {random}");
        serde_json::from_str(&real).unwrap()
    }

    /// What the victim's own token answers, which proves that there was something to see.
    async fn control(&self, document: &str, variables: &Value) -> Value {
        let answer = self
            .victim
            .owner()
            .graphql(document, variables.clone())
            .await;
        answer.data().clone()
    }
}

/// A comment on an invoice and on a product, so that every list under a node has rows.
async fn comment_everything(tenant: &Tenant, seed: &Seed) {
    let mut sql = tenant.begin().await;
    for (column, subjects) in [
        ("invoice_id", &seed.invoices),
        ("product_id", &vec![seed.product]),
    ] {
        let insert = format!(
            "insert into comments (id, author_id, {column}, body)
             select app.uuid_v7(), app.user_id(), subject, 'Comment ' || $2 from unnest($1::uuid[]) subject"
        );
        sqlx::query(sqlx::AssertSqlSafe(insert))
            .bind(subjects)
            .bind(&tenant.slug)
            .execute(&mut sql.0)
            .await
            .unwrap();
    }
}

#[apply(palisade_test)]
async fn another_tenants_id_answers_byte_for_byte_like_a_random_one_in_every_root_field() {
    let scene = Scene::new().await;
    let schema = &scene.schema;
    let random = Ids::random();
    let mut attacked = BTreeSet::new();

    for field in schema.fields("Query") {
        let (field_name, of) = (name(field), named(&field["type"]));
        for argument in array(&field["args"]) {
            let argument_name = name(argument);
            let plural = match (argument_name, named(&argument["type"])) {
                ("id", "ID") => false,
                ("ids", "ID") => true,
                // Attacked as lists below.
                ("after" | "before", "String") | ("filter", _) if schema.is_list(of) => {
                    continue;
                }
                (harmless, _) if HARMLESS.contains(&harmless) => continue,
                other => panic!("Query.{field_name}: the argument {other:?} is not attacked"),
            };
            let kind = if plural { "[ID!]!" } else { "ID!" };
            let document = format!(
                "query($v: {kind}) {{ found: {field_name}({argument_name}: $v) {{ {} }} }}",
                schema.selection(of, 1)
            );
            let value = |id: &str| {
                if plural {
                    json!({ "v": [id] })
                } else {
                    json!({ "v": id })
                }
            };
            let mut accepted = 0;
            for (prefix, id) in &scene.theirs.0 {
                let body = scene
                    .attack_twice(&document, &value(id), &value(&random.0[prefix]))
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

                // The victim's uuid under each other type's prefix.
                let uuid = id.split_once('_').unwrap().1;
                for (retyped, random) in &random.0 {
                    let theirs = value(&format!("{retyped}_{uuid}"));
                    scene.attack_twice(&document, &theirs, &value(random)).await;
                }
            }
            let expected = if of == "Node" { TABLES.len() } else { 1 };
            assert_eq!(
                accepted, expected,
                "{field_name}: types of id that were let in"
            );
            attacked.insert(field_name);
        }
    }
    for field in ["node", "nodes", "project", "auditLog"] {
        assert!(attacked.contains(field), "{field} was not attacked");
    }
}

#[apply(palisade_test)]
async fn no_root_field_shows_anything_of_another_tenant() {
    let scene = Scene::new().await;
    for field in scene.schema.fields("Query") {
        let (field_name, of) = (name(field), named(&field["type"]));
        if array(&field["args"])
            .iter()
            .any(|argument| argument["type"]["kind"] == "NON_NULL")
        {
            continue;
        }
        let arguments = if scene.schema.is_list(of) {
            "(first: 20)"
        } else {
            ""
        };
        let selection = if scene.schema.is_list(of) {
            format!(
                "totalCount nodes {{ {} }}",
                scene.schema.selection(scene.schema.row_of(of), 1)
            )
        } else {
            scene.schema.selection(of, 2)
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
async fn another_tenants_id_or_text_in_a_filter_finds_nothing_in_any_list() {
    let scene = Scene::new().await;
    let random = Ids::random();
    let made_up = format!("t-{}", Uuid::now_v7().simple());
    let mut compared = 0;
    for list in scene.schema.lists(&scene.own) {
        let (ids, texts) = scene.schema.filtered(&list.filter);
        assert!(
            ids.contains(&"id".to_owned()),
            "{} is not filtered by id",
            list.name()
        );
        let document = list.document(&format!("$f: {}", list.filter), "first: 3, filter: $f");
        let finds_nothing = |body: &Value| {
            let found = body["data"]
                .get("list")
                .unwrap_or(&body["data"]["node"]["list"]);
            assert_eq!(found["totalCount"], 0, "{}: {body}", list.name());
            assert_eq!(found["nodes"], json!([]), "{}: {body}", list.name());
        };
        for column in &ids {
            let mut accepted = 0;
            for (prefix, theirs) in &scene.theirs.0 {
                let random = &random.0[prefix];
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
        for column in &texts {
            let holds = |text: &str| json!({ "f": { column: { "contains": text } } });
            let body = scene
                .attack_twice(&document, &holds(&scene.victim.slug), &holds(&made_up))
                .await;
            finds_nothing(&body);
            let is = |text: &str| json!({ "f": { column: { "in": [text] } } });
            finds_nothing(
                &scene
                    .attack_twice(&document, &is(&scene.victim.slug), &is(&made_up))
                    .await,
            );
        }
    }
    assert!(compared > 30, "only {compared} filters were attacked");
    // The same filters do find what they name, for those who may see it.
    let list = "query($f: ProjectFilter) { projects(filter: $f) { nodes { name } } }";
    let filters = [
        json!({ "f": { "id": { "eq": scene.theirs.0["prj"] } } }),
        json!({ "f": { "name": { "contains": scene.victim.slug } } }),
    ];
    for filter in filters {
        let seen = scene.control(list, &filter).await;
        assert!(seen.to_string().contains(&scene.victim.slug), "{seen}");
    }
}

#[apply(palisade_test)]
async fn another_tenants_cursor_answers_byte_for_byte_like_a_made_up_one_in_every_list() {
    let scene = Scene::new().await;
    let (own, theirs) = (
        scene.schema.lists(&scene.own),
        scene.schema.lists(&scene.theirs),
    );
    assert!(own.len() > 20, "only {} lists", own.len());
    for (list, same) in own.iter().zip(&theirs) {
        let seen = scene
            .control(&same.document("$n: Int", "first: $n"), &json!({ "n": 3 }))
            .await;
        let page = seen.get("list").unwrap_or(&seen["node"]["list"]);
        let cursor = page["pageInfo"]["endCursor"].as_str();
        let cursor = cursor.unwrap_or_else(|| panic!("{}: no rows, seed some", same.name()));
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
            // Who it belongs to may use it.
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
async fn the_same_id_asked_by_two_tenants_in_turn_never_mixes() {
    let scene = Scene::new().await;
    let document =
        "query($id: ID!) { project(id: $id) { name owner { email } organization { slug } } }";
    let variables = json!({ "id": scene.theirs.0["prj"] });
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
