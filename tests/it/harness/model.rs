//! The schema as the tests use it, read from the SDL that the service prints.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::LazyLock,
};

use palisade::prove::schema::{self, Schema};

pub use palisade::prove::schema::Kind;

/// The schema.
pub fn model() -> &'static Model {
    static MODEL: LazyLock<Model> = LazyLock::new(|| Model::parse(&palisade::api::sdl()));
    &MODEL
}

/// The types of the schema by name. The built-in scalars are not among them.
pub struct Model(BTreeMap<String, Type>);

/// A type of the schema.
pub struct Type {
    pub name: String,
    pub kind: Kind,
    /// The fields of an object, an interface or an input.
    pub fields: Vec<Field>,
    /// The values of an enum.
    pub values: Vec<String>,
    /// The object types of an interface or a union.
    pub members: Vec<String>,
}

/// A field, an argument or an input field.
#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    /// The name of the type without brackets and exclamation marks.
    pub type_name: String,
    /// The type as written in the SDL, such as `[ID!]!`.
    pub type_text: String,
    pub is_nullable: bool,
    pub is_semantic_non_null: bool,
    pub args: Vec<Field>,
}

impl Field {
    pub fn arg(&self, name: &str) -> Option<&Self> {
        self.args.iter().find(|arg| arg.name == name)
    }

    /// Whether the field returns a connection.
    pub fn is_connection(&self) -> bool {
        self.arg("first").is_some()
    }

    /// The type of the rows of a connection.
    pub fn row(&self) -> &str {
        self.type_name.strip_suffix("Connection").unwrap()
    }

    /// The filter input of a connection.
    pub fn filter(&self) -> &str {
        &self.arg("filter").unwrap().type_name
    }

    /// The order input of a connection.
    pub fn order(&self) -> &str {
        &self.arg("orderBy").unwrap().type_name
    }

    /// The input of a mutation, which is its only argument.
    pub fn input(&self) -> &str {
        let [input] = &self.args[..] else {
            panic!("{} has other arguments than its input", self.name);
        };
        assert_eq!(input.name, "input", "{}", self.name);
        &input.type_name
    }

    fn new(field: &schema::Field) -> Self {
        Self {
            name: field.name.clone(),
            type_name: field.type_name.clone(),
            type_text: field.type_text.clone(),
            is_nullable: field.is_nullable(),
            is_semantic_non_null: field
                .directives
                .iter()
                .any(|name| name == "semanticNonNull"),
            args: field.args.iter().map(Self::new).collect(),
        }
    }
}

impl Model {
    fn parse(sdl: &str) -> Self {
        let schema = Schema::from_sdl(sdl).unwrap();
        assert!(
            schema.subscriptions().is_empty(),
            "no test attacks the fields of subscriptions"
        );
        let types = schema.types().map(|of| {
            let one = Type {
                name: of.name.clone(),
                kind: of.kind,
                fields: of.fields.iter().map(Field::new).collect(),
                values: of.values.clone(),
                members: of.members.clone(),
            };
            (of.name.clone(), one)
        });
        Self(types.collect())
    }

    pub fn find(&self, name: &str) -> Option<&Type> {
        self.0.get(name)
    }

    /// The type with this name. Panics for a built-in scalar.
    pub fn named(&self, name: &str) -> &Type {
        self.find(name)
            .unwrap_or_else(|| panic!("the schema has no type {name}"))
    }

    pub fn kind(&self, name: &str) -> Kind {
        self.find(name).map_or(Kind::Scalar, |of| of.kind)
    }

    pub fn types(&self) -> impl Iterator<Item = &Type> {
        self.0.values()
    }

    pub fn fields(&self, of: &str) -> &[Field] {
        &self.named(of).fields
    }

    pub fn queries(&self) -> &[Field] {
        self.fields("Query")
    }

    pub fn mutations(&self) -> &[Field] {
        self.fields("Mutation")
    }

    pub fn mutation(&self, name: &str) -> &Field {
        let mut mutations = self.mutations().iter();
        mutations.find(|mutation| mutation.name == name).unwrap()
    }

    /// The connections of `Query`, which list all rows of a type.
    pub fn root_lists(&self) -> impl Iterator<Item = &Field> {
        self.queries().iter().filter(|field| field.is_connection())
    }

    pub fn root_list(&self, name: &str) -> &Field {
        self.root_lists().find(|list| list.name == name).unwrap()
    }

    /// The connections of object types, each with its parent type.
    pub fn nested_lists(&self) -> impl Iterator<Item = (&Type, &Field)> {
        let parents = self.types().filter(|of| of.kind == Kind::Object);
        parents
            .filter(|of| of.name != "Query")
            .flat_map(|of| of.fields.iter().map(move |field| (of, field)))
            .filter(|(_, field)| field.is_connection())
    }

    /// The values by which a connection can be ordered.
    pub fn order_fields(&self, list: &Field) -> &[String] {
        let mut order = self.fields(list.order()).iter();
        let field = order.find(|input| input.name == "field").unwrap();
        &self.named(&field.type_name).values
    }

    /// Whether fields of this type need a selection.
    pub fn is_composite(&self, name: &str) -> bool {
        matches!(
            self.kind(name),
            Kind::Object | Kind::Interface | Kind::Union
        )
    }

    /// The types that an operation can reach from a type through its fields.
    pub fn reached_from(&self, root: &str) -> BTreeSet<String> {
        let mut reached = BTreeSet::new();
        let mut next = vec![root.to_owned()];
        while let Some(name) = next.pop() {
            if let Some(of) = self.find(&name) {
                next.extend(of.fields.iter().map(|field| field.type_name.clone()));
                next.extend(of.members.iter().cloned());
            }
            reached.insert(name);
            next.retain(|name| !reached.contains(name));
        }
        reached
    }

    /// A selection of everything in a type, to a depth: scalars, related rows, and the first two rows of each list.
    pub fn selection(&self, of: &str, depth: usize) -> String {
        self.selection_without(of, depth, &BTreeSet::new())
    }

    /// Like [`Model::selection`], without the lists of the types in `hidden`. A field of a member of a union or an
    /// interface has an alias if an earlier member has a field with this name and another type: such fields conflict.
    pub fn selection_without(&self, of: &str, depth: usize, hidden: &BTreeSet<&str>) -> String {
        let mut selection = "__typename".to_owned();
        let of = self.named(of);
        let mut types = BTreeMap::new();
        for member in &of.members {
            let fields = self.fields_of(member, depth, hidden, &mut types);
            write!(selection, " ... on {member} {{ {fields} }}").unwrap();
        }
        if of.kind == Kind::Object {
            let fields = self.fields_of(&of.name, depth, hidden, &mut types);
            write!(selection, " {fields}").unwrap();
        }
        selection
    }

    /// `types` are the types of the fields that are selected on other members, by name.
    fn fields_of<'m>(
        &'m self,
        object: &str,
        depth: usize,
        hidden: &BTreeSet<&str>,
        types: &mut BTreeMap<&'m str, &'m str>,
    ) -> String {
        let mut selection = String::new();
        for field in self.fields(object) {
            let name = &field.name;
            let is_hidden = field.is_connection() && hidden.contains(field.row());
            let is_composite = field.is_connection() || self.is_composite(&field.type_name);
            if is_hidden || (is_composite && depth == 0) {
                continue;
            }
            if *types.entry(name).or_insert(&field.type_text) != field.type_text {
                write!(selection, "{name}Of{object}: ").unwrap();
            }
            if field.is_connection() {
                // A connection does not count as a level: its rows do.
                let row = self.selection_without(field.row(), depth - 1, hidden);
                let page = format!("totalCount edges {{ cursor }} nodes {{ {row} }}");
                write!(selection, "{name}(first: 2) {{ {page} }} ").unwrap();
            } else if is_composite {
                let inner = self.selection_without(&field.type_name, depth - 1, hidden);
                write!(selection, "{name} {{ {inner} }} ").unwrap();
            } else {
                write!(selection, "{name} ").unwrap();
            }
        }
        selection
    }

    /// Whether an input type contains an id, at any depth.
    pub fn holds_id(&self, of: &str) -> bool {
        of == "ID"
            || self.kind(of) == Kind::Input
                && self
                    .fields(of)
                    .iter()
                    .any(|field| self.holds_id(&field.type_name))
    }
}
