//! The samples of each slice: rows for its mutations, an input for each mutation, and inputs that are
//! rejected. One file per slice; the tests compute everything else.

use std::collections::{BTreeMap, BTreeSet};

use palisade::{
    auth::role::UserRole, db::write::ConstraintRule, entities::ENTITIES, ids::EntityId as _,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{
    Field, FieldExt as _, Fixture, Kind, Tenant, TenantSql, TestApp, id_of, model, session_context,
    snake_case,
};

mod comments;
mod invoices;
mod organizations;
mod products;
mod projects;
mod users;

/// Every slice that has mutations. The rows of a slice may refer to rows of the slices before it.
pub const SLICES: &[&Slice] = &[
    &users::SLICE,
    &organizations::SLICE,
    &projects::SLICE,
    &products::SLICE,
    &invoices::SLICE,
    &comments::SLICE,
];

/// What the tests need from one slice.
pub struct Slice {
    /// SQL that inserts the rows which the mutations change. A name in braces becomes the id of a new row: `{project}`
    /// and `{archived_project}` are projects, because a name ends with the name of an entity. Exceptions: `{owner}` is
    /// the tenant's owner, `{author}` the user who writes rows that belong to their author, `{unique}` a string of ten
    /// capital letters and digits that no other rows use, and `{slug}` the same string in lower case.
    pub rows: &'static str,
    /// The value of `Viewer.permissions` that allows the mutations.
    pub permission: &'static str,
    /// At least one sample of each mutation. An input contains every id that the input type allows.
    pub mutations: fn() -> Vec<Sample>,
    /// Mutations that are rejected, each with its errors.
    pub rejected: fn(&World) -> Vec<Rejected>,
    /// The rules that map violated constraints to user errors: a table, its rules, and the rules of references to it.
    pub rules: &'static [(
        &'static str,
        &'static [ConstraintRule],
        &'static [ConstraintRule],
    )],
    /// Constraints that no mutation can violate, each with the reason.
    pub inviolable: &'static [(&'static str, &'static str)],
    /// Values that the tests cannot derive from the catalogue: the table, the column, and an SQL expression
    /// over the number `n` of the row and the tenant's slug `canary`.
    pub values: &'static [(&'static str, &'static str, &'static str)],
    /// SQL that [`Tenant::fill`] runs as the owner after it has inserted its rows.
    pub after_fill: &'static [&'static str],
}

impl Slice {
    /// A slice without samples.
    pub const EMPTY: Self = Self {
        rows: "",
        permission: "",
        mutations: Vec::new,
        rejected: |_| Vec::new(),
        rules: &[],
        inviolable: &[],
        values: &[],
        after_fill: &[],
    };
}

/// The rows of one tenant on which every mutation can run once. A mutation may delete or change rows, so a test inserts
/// new ones for each mutation.
pub struct Rows {
    /// Ten capital letters and digits that no other rows have.
    pub unique: String,
    ids: BTreeMap<String, Uuid>,
}

impl Rows {
    /// Inserts the rows of all slices. The user with the role `author` writes the rows that belong to their author.
    pub async fn insert(tenant: &Tenant, sql: &mut TenantSql, author: UserRole) -> Self {
        let unique = unique();
        let owner = tenant.owner().user.uuid();
        let mut ids = BTreeMap::from([("tenant".to_owned(), tenant.id.uuid())]);
        ids.insert("owner".to_owned(), owner);
        ids.insert("author".to_owned(), tenant.caller(author).user.uuid());
        let set_context = |context: &str| format!("set local app.context = '{context}';\n");
        let as_owner = tenant.context(UserRole::Owner);
        let user = tenant.caller(author).user;
        let as_author = session_context(tenant.id, Some(user), Some(UserRole::Member));
        let mut script = "begin;".to_owned();
        for slice in SLICES {
            script += &set_context(&as_owner);
            let mut parts = slice.rows.split('{');
            script += parts.next().unwrap();
            for part in parts {
                let (name, rest) = part.split_once('}').unwrap();
                match name {
                    "unique" => script += &unique,
                    "slug" => script += &unique.to_lowercase(),
                    "as the author" => script += &set_context(&as_author),
                    name => {
                        let id = ids.entry(name.to_owned()).or_insert_with(Uuid::now_v7);
                        script += &id.to_string();
                    }
                }
                script += rest;
            }
        }
        script += "commit";
        let inserted = sqlx::raw_sql(sqlx::AssertSqlSafe(script.clone()));
        let inserted = inserted.execute(&mut sql.0).await;
        inserted.unwrap_or_else(|error| panic!("{script}: {error}"));
        Self { unique, ids }
    }

    /// Returns random ids instead of inserting rows.
    fn missing() -> Self {
        Self {
            unique: unique(),
            ids: BTreeMap::new(),
        }
    }

    pub fn uuid(&self, name: &str) -> Uuid {
        match self.ids.get(name) {
            Some(id) => *id,
            None if self.ids.is_empty() => Uuid::now_v7(),
            None => panic!("no slice inserts a row `{name}`"),
        }
    }

    /// The API's id of a row. `name` ends with the name of the row's entity.
    pub fn id(&self, name: &str) -> String {
        let type_name = type_of_row(name);
        let type_name = type_name.unwrap_or_else(|| panic!("`{name}` ends with no entity's name"));
        id_of(type_name, self.uuid(name))
    }

    /// The id of any row of an entity type.
    pub fn any_of(&self, type_name: &str) -> Option<Uuid> {
        let mut rows = self.ids.iter();
        let found = rows.find(|(name, _)| type_of_row(name) == Some(type_name));
        found.map(|(_, id)| *id)
    }

    /// A slug that no other row has.
    pub fn new_slug(&self) -> String {
        format!("new-{}", self.unique.to_lowercase())
    }

    /// An ASIN that no other row has.
    pub fn asin(&self, letter: char) -> String {
        format!("{letter}{}", &self.unique[1..])
    }
}

/// Ten capital letters and digits that no other rows have.
fn unique() -> String {
    format!("{:010X}", Uuid::new_v4().as_u128() % (1 << 40))
}

/// The entity type of a row's name: `Invoice` for `draft_invoice`.
fn type_of_row(name: &str) -> Option<&'static str> {
    if name == "owner" {
        return Some("User");
    }
    let types = ENTITIES.iter().map(|entity| entity.type_name);
    let mut types = types.filter(|of| {
        let start = name.strip_suffix(&snake_case(of));
        start.is_some_and(|start| start.is_empty() || start.ends_with('_'))
    });
    let found = types.next();
    assert!(types.next().is_none(), "`{name}` is of several entities");
    found
}

/// A tenant with a caller of each role, and rows of every slice.
pub struct World {
    pub tenant: Tenant,
    pub rows: Rows,
}

impl Fixture for World {
    async fn create() -> Self {
        let tenant = TestApp::shared().await.tenant().await;
        let mut sql = tenant.begin().await;
        let rows = Rows::insert(&tenant, &mut sql, UserRole::Owner).await;
        Self { tenant, rows }
    }
}

impl World {
    pub fn id(&self, name: &str) -> String {
        self.rows.id(name)
    }

    /// The id of the user with a role.
    pub fn caller_id(&self, role: UserRole) -> String {
        self.tenant.caller(role).user.to_string()
    }
}

/// The project of an audit log entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryProject {
    None,
    Project(Uuid),
    /// The changed row is the project.
    Itself,
}

/// The expected audit log entries: the action and the project of each.
pub type Entries = Vec<(&'static str, EntryProject)>;

/// One mutation with an input that an owner may send.
pub struct Sample {
    pub field: &'static str,
    /// The difference from the other samples of the same mutation.
    case: &'static str,
    pub input: fn(&Rows) -> Value,
    /// The audit log entries that the mutation writes, in any order.
    pub entries: fn(&Rows) -> Entries,
    /// The changed columns of the row whose ID is in the input of an `update…` mutation, each with its values before
    /// and after the mutation.
    pub changes: Option<fn(&Rows) -> Value>,
}

impl Sample {
    pub const fn new(
        field: &'static str,
        input: fn(&Rows) -> Value,
        entries: fn(&Rows) -> Entries,
    ) -> Self {
        Self {
            field,
            case: "",
            input,
            entries,
            changes: None,
        }
    }

    pub const fn case(self, case: &'static str) -> Self {
        Self { case, ..self }
    }

    pub const fn changing(self, changes: fn(&Rows) -> Value) -> Self {
        Self {
            changes: Some(changes),
            ..self
        }
    }

    /// The name of the mutation, followed by the case if the mutation has several samples.
    pub fn name(&self) -> String {
        format!("{} {}", self.field, self.case)
            .trim_end()
            .to_owned()
    }

    /// The first sample of a mutation.
    pub fn of(field: &str) -> Self {
        let mut samples = samples().into_iter();
        let found = samples.find(|sample| sample.field == field);
        found.unwrap_or_else(|| panic!("{field} has no sample"))
    }

    /// Whether the mutation changes or deletes existing rows of one of the entities. Their names are in `snake_case`.
    pub fn changes_rows_of(&self, entities: &BTreeSet<String>, rows: &Rows) -> bool {
        (self.entries)(rows).iter().any(|(action, _)| {
            let (entity, verb) = action.split_once('.').unwrap();
            entities.contains(entity) && verb != "created"
        })
    }
}

/// The samples of all slices. Panics if a mutation has no sample.
pub fn samples() -> Vec<Sample> {
    let samples: Vec<Sample> = SLICES
        .iter()
        .flat_map(|slice| (slice.mutations)())
        .collect();
    let with_sample: BTreeSet<&str> = samples.iter().map(|sample| sample.field).collect();
    let mutations = model().mutations().iter().map(|field| field.name.as_str());
    assert_eq!(
        with_sample,
        mutations.collect(),
        "each mutation has a sample in tests/it/samples"
    );
    samples
}

/// The input of a mutation's sample without its ids, and with other values for some fields.
pub fn input_with(field: &str, with: Value) -> Value {
    let mut input = (Sample::of(field).input)(&Rows::missing());
    for position in id_positions(model().mutation(field), &input) {
        let (object, id) = position.rsplit_once('/').unwrap();
        let object = input.pointer_mut(object).unwrap();
        object.as_object_mut().unwrap().remove(id);
    }
    let Value::Object(with) = with else {
        panic!("{with} is not an object");
    };
    input.as_object_mut().unwrap().extend(with);
    input
}

/// A mutation that is rejected: its caller, its name, its input and its errors, each with its field.
pub struct Rejected {
    pub role: UserRole,
    pub field: &'static str,
    pub input: Value,
    pub errors: Vec<(&'static str, String)>,
}

/// Creates a [`Rejected`]. The fields in `errors` are relative to the input.
pub fn rejected(
    role: UserRole,
    field: &'static str,
    input: Value,
    errors: &[(&'static str, &'static str)],
) -> Rejected {
    let path = |field: &str| match field {
        "" => String::new(),
        field => format!("input.{field}"),
    };
    let errors = errors.iter().map(|(code, field)| (*code, path(field)));
    Rejected {
        role,
        field,
        input,
        errors: errors.collect(),
    }
}

/// The field of a mutation's payload that returns the changed row.
pub fn payload_object(mutation: &Field) -> &'static Field {
    let mut fields = model().fields(&mutation.type_name).iter();
    let is_entity = |name: &str| ENTITIES.iter().any(|entity| entity.type_name == name);
    let found = fields.find(|field| is_entity(&field.type_name));
    found.unwrap_or_else(|| panic!("the payload of {} holds no row", mutation.name))
}

/// A random id of a type, which no row has.
pub fn missing(type_name: &str) -> String {
    id_of(type_name, Uuid::now_v7())
}

fn money(amount: &str) -> Value {
    json!({ "amount": amount, "currencyCode": "EUR" })
}

fn change(field: &str, before: impl Into<Value>, after: impl Into<Value>) -> Value {
    json!({ "field": field, "before": before.into(), "after": after.into() })
}

/// The change of a column that refers to another row.
fn moved(rows: &Rows, field: &str, before: &str, after: &str) -> Value {
    let uuid = |name: &str| rows.uuid(name).to_string();
    change(field, uuid(before), uuid(after))
}

/// The project that most rows belong to.
fn the_project(rows: &Rows) -> EntryProject {
    EntryProject::Project(rows.uuid("project"))
}

/// One audit log entry, for a row that does not belong to a project.
fn without_project(entry: &'static str) -> Entries {
    vec![(entry, EntryProject::None)]
}

/// The positions of the ids in a sample's input, as JSON pointers. The schema decides where ids are. Panics if the
/// sample leaves out an id that its input type allows.
pub fn id_positions(mutation: &Field, input: &Value) -> Vec<String> {
    let mut positions = Vec::new();
    collect_ids(mutation.input(), "", input, &mut positions);
    positions
}

fn collect_ids(of: &str, at: &str, value: &Value, positions: &mut Vec<String>) {
    let model = model();
    if let Value::Array(values) = value {
        assert!(!values.is_empty(), "{at}: a sample with an empty list");
        for (index, value) in values.iter().enumerate() {
            collect_ids(of, &format!("{at}/{index}"), value, positions);
        }
    } else if of == "ID" {
        assert!(value.is_string(), "{at}: a sample without this id: {value}");
        positions.push(at.to_owned());
    } else if model.kind(of) == Kind::Input {
        for field in model.fields(of) {
            // A sample may leave out a field that contains no id.
            if model.holds_id(&field.type_name) {
                let at = format!("{at}/{}", field.name);
                collect_ids(&field.type_name, &at, &value[&field.name], positions);
            }
        }
    }
}
