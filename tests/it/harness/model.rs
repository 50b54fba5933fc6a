//! The schema of the service under test, read from the SDL that the service prints.

use std::{collections::BTreeSet, ops::Deref, sync::LazyLock};

use palisade::prove::schema::Schema;

pub use palisade::prove::schema::{Field, Kind, Type};

/// The schema.
pub fn model() -> &'static Model {
    static MODEL: LazyLock<Model> = LazyLock::new(|| Model::parse(&palisade::api::sdl()));
    &MODEL
}

/// The schema, with the conventions of this service. The built-in scalars are not among its types.
pub struct Model(Schema);

impl Deref for Model {
    type Target = Schema;

    fn deref(&self) -> &Schema {
        &self.0
    }
}

/// The conventions for fields. Each method panics for a field that is not of its kind.
pub trait FieldExt {
    /// The type of the rows of a connection.
    fn row(&self) -> &str;

    /// The filter input of a connection.
    fn filter(&self) -> &str;

    /// The order input of a connection.
    fn order(&self) -> &str;

    /// The input of a mutation, which is its only argument.
    fn input(&self) -> &str;

    /// Whether the value is null only if `errors` has an entry for it.
    fn is_semantic_non_null(&self) -> bool;
}

impl FieldExt for Field {
    fn row(&self) -> &str {
        self.type_name.strip_suffix("Connection").unwrap()
    }

    fn filter(&self) -> &str {
        &self.arg("filter").unwrap().type_name
    }

    fn order(&self) -> &str {
        &self.arg("orderBy").unwrap().type_name
    }

    fn input(&self) -> &str {
        let [input] = &self.args[..] else {
            panic!("{} has other arguments than its input", self.name);
        };
        assert_eq!(input.name, "input", "{}", self.name);
        &input.type_name
    }

    fn is_semantic_non_null(&self) -> bool {
        let mut directives = self.directives.iter();
        directives.any(|name| name == "semanticNonNull")
    }
}

impl Model {
    fn parse(sdl: &str) -> Self {
        let schema = Schema::from_sdl(sdl).unwrap();
        assert!(
            schema.subscriptions().is_empty(),
            "no test attacks the fields of subscriptions"
        );
        for field in schema.types().flat_map(|of| &of.fields) {
            let is_page = field.arg("first").is_some();
            assert_eq!(field.is_connection(), is_page, "{}", field.name);
        }
        Self(schema)
    }

    /// The type with this name. Panics for a built-in scalar.
    pub fn named(&self, name: &str) -> &Type {
        self.find(name)
            .unwrap_or_else(|| panic!("the schema has no type {name}"))
    }

    /// The fields of the type with this name. Panics if the schema does not have the type.
    pub fn fields(&self, of: &str) -> &[Field] {
        &self.named(of).fields
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

    /// A selection of everything in a type, to a depth: scalars, related rows, and the first two rows of each list.
    pub fn selection(&self, of: &str, depth: usize) -> String {
        self.0.selection(of, depth, Some(2))
    }

    /// Like [`Model::selection`], without the lists of the types in `hidden`.
    pub fn selection_without(&self, of: &str, depth: usize, hidden: &BTreeSet<&str>) -> String {
        let is_shown = |field: &Field| !field.is_connection() || !hidden.contains(field.row());
        let schema = self.0.clone().with_fields(is_shown);
        schema.selection(of, depth, Some(2))
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
