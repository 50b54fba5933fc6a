//! The schema that the attacks are generated from, read from an introspection result or from SDL.

use std::collections::{BTreeMap, BTreeSet};

use async_graphql::parser::{
    parse_schema,
    types::{FieldDefinition, InputValueDefinition, TypeKind, TypeSystemDefinition},
};
use serde_json::Value;

/// The query that reads the schema from a service. Its lists are nested three deep, which the guard allows.
pub const INTROSPECTION: &str = "
    query Introspection { __schema {
        queryType { name } mutationType { name } subscriptionType { name }
        types {
            kind name
            fields(includeDeprecated: true) {
                name type { ...Of } args { name defaultValue type { ...Of } }
            }
            inputFields { name defaultValue type { ...Of } }
            enumValues(includeDeprecated: true) { name }
            possibleTypes { name }
        }
    } }
    fragment Of on __Type { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name } } } } }
";

/// The kind of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the kinds of the specification")]
pub enum Kind {
    Scalar,
    Enum,
    Object,
    Interface,
    Union,
    Input,
}

/// A type of the schema.
#[derive(Clone, Debug)]
pub struct Type {
    /// The name.
    pub name: String,
    /// The kind.
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
    /// The name.
    pub name: String,
    /// The name of the type without brackets and exclamation marks.
    pub type_name: String,
    /// The type as written in SDL, such as `[ID!]!`.
    pub type_text: String,
    /// Whether an argument or input field has a default value.
    pub has_default: bool,
    /// The names of the applied directives, which introspection does not return.
    pub directives: Vec<String>,
    /// The arguments of a field.
    pub args: Vec<Field>,
}

impl Field {
    /// The argument with this name.
    #[must_use]
    pub fn arg(&self, name: &str) -> Option<&Self> {
        self.args.iter().find(|arg| arg.name == name)
    }

    /// Whether the type is a list.
    #[must_use]
    pub fn is_list(&self) -> bool {
        self.type_text.starts_with('[')
    }

    /// Whether the value can be null.
    #[must_use]
    pub fn is_nullable(&self) -> bool {
        !self.type_text.ends_with('!')
    }

    /// Whether a client must give the argument or input field.
    #[must_use]
    pub fn is_required(&self) -> bool {
        !self.is_nullable() && !self.has_default
    }

    /// Whether the field returns a connection.
    #[must_use]
    pub fn is_connection(&self) -> bool {
        self.arg("first").is_some() && self.arg("after").is_some()
    }

    /// Whether the field can be selected without arguments.
    #[must_use]
    pub fn needs_no_argument(&self) -> bool {
        !self.args.iter().any(Self::is_required)
    }

    fn new(name: &str, type_text: String) -> Self {
        let is_bracket = |c: char| matches!(c, '[' | ']' | '!');
        Self {
            name: name.to_owned(),
            type_name: type_text.replace(is_bracket, ""),
            type_text,
            has_default: false,
            directives: Vec::new(),
            args: Vec::new(),
        }
    }

    fn of_input(input: &InputValueDefinition) -> Self {
        Self {
            has_default: input.default_value.is_some(),
            ..Self::new(&input.name.node, input.ty.node.to_string())
        }
    }

    fn of_object(field: &FieldDefinition) -> Self {
        let directives = field.directives.iter();
        let args = field.arguments.iter();
        Self {
            directives: directives
                .map(|one| one.node.name.node.to_string())
                .collect(),
            args: args.map(|arg| Self::of_input(&arg.node)).collect(),
            ..Self::new(&field.name.node, field.ty.node.to_string())
        }
    }

    fn of_introspection(field: &Value) -> Option<Self> {
        let args = field["args"].as_array().into_iter().flatten();
        Some(Self {
            has_default: !field["defaultValue"].is_null(),
            args: args.map(Self::of_introspection).collect::<Option<_>>()?,
            ..Self::new(field["name"].as_str()?, type_text(&field["type"])?)
        })
    }
}

/// The SDL notation of a type in an introspection result.
fn type_text(of: &Value) -> Option<String> {
    Some(match of["kind"].as_str()? {
        "NON_NULL" => format!("{}!", type_text(&of["ofType"])?),
        "LIST" => format!("[{}]", type_text(&of["ofType"])?),
        _ => of["name"].as_str()?.to_owned(),
    })
}

/// The reason why a schema cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SchemaError(String);

/// A schema.
#[derive(Clone, Debug)]
pub struct Schema {
    types: BTreeMap<String, Type>,
    query: String,
    mutation: Option<String>,
    subscription: Option<String>,
}

impl Schema {
    /// Reads a schema from SDL.
    pub fn from_sdl(sdl: &str) -> Result<Self, SchemaError> {
        let document = parse_schema(sdl);
        let document =
            document.map_err(|error| SchemaError(format!("the schema is not SDL: {error}")))?;
        let mut schema = Self {
            types: BTreeMap::new(),
            query: "Query".to_owned(),
            mutation: None,
            subscription: None,
        };
        let mut implementations = Vec::new();
        for definition in document.definitions {
            match definition {
                TypeSystemDefinition::Schema(definition) => {
                    let roots = definition.node;
                    let name = |root: Option<async_graphql::Positioned<async_graphql::Name>>| {
                        root.map(|root| root.node.to_string())
                    };
                    schema.query = name(roots.query).unwrap_or(schema.query);
                    schema.mutation = name(roots.mutation);
                    schema.subscription = name(roots.subscription);
                }
                TypeSystemDefinition::Directive(_) => {}
                TypeSystemDefinition::Type(definition) => {
                    let name = definition.node.name.node.to_string();
                    let (of, interfaces) = sdl_type(&name, definition.node.kind);
                    implementations.extend(interfaces.into_iter().map(|of| (of, name.clone())));
                    schema.types.insert(name, of);
                }
            }
        }
        for (interface, object) in implementations {
            if let Some(of) = schema.types.get_mut(&interface) {
                of.members.push(object);
            }
        }
        Ok(schema)
    }

    /// Reads a schema from the `data` of the response to [`INTROSPECTION`].
    pub fn from_introspection(data: &Value) -> Result<Self, SchemaError> {
        let incomplete = || SchemaError("the result of the introspection is incomplete".to_owned());
        let schema = &data["__schema"];
        let root = |name: &str| schema[name]["name"].as_str().map(str::to_owned);
        let types = schema["types"].as_array().ok_or_else(incomplete)?;
        let is_own = |of: &&Value| {
            !of["name"]
                .as_str()
                .is_some_and(|name| name.starts_with("__"))
        };
        let types = types.iter().filter(is_own).map(introspected_type);
        let types: Option<BTreeMap<_, _>> = types.collect();
        Ok(Self {
            types: types.ok_or_else(incomplete)?,
            query: root("queryType").ok_or_else(incomplete)?,
            mutation: root("mutationType"),
            subscription: root("subscriptionType"),
        })
    }

    /// The schema with only the fields that `is_kept` selects.
    #[must_use]
    pub fn with_fields(mut self, is_kept: impl Fn(&Field) -> bool) -> Self {
        for of in self.types.values_mut() {
            of.fields.retain(&is_kept);
        }
        self
    }

    /// The type with this name; `None` for a built-in scalar of a schema from SDL.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Type> {
        self.types.get(name)
    }

    /// The kind of a type. Unknown types are scalars.
    #[must_use]
    pub fn kind(&self, name: &str) -> Kind {
        self.find(name).map_or(Kind::Scalar, |of| of.kind)
    }

    /// Every type, by name.
    pub fn types(&self) -> impl Iterator<Item = &Type> {
        self.types.values()
    }

    /// The fields of a type.
    #[must_use]
    pub fn fields(&self, of: &str) -> &[Field] {
        self.find(of).map_or(&[], |of| &of.fields)
    }

    /// The root fields of queries.
    #[must_use]
    pub fn queries(&self) -> &[Field] {
        self.fields(&self.query)
    }

    /// The root fields of mutations.
    #[must_use]
    pub fn mutations(&self) -> &[Field] {
        self.mutation
            .as_deref()
            .map_or(&[], |name| self.fields(name))
    }

    /// The root fields of subscriptions.
    #[must_use]
    pub fn subscriptions(&self) -> &[Field] {
        self.subscription
            .as_deref()
            .map_or(&[], |name| self.fields(name))
    }

    /// Whether the type is that of the root fields of an operation.
    #[must_use]
    pub fn is_root(&self, name: &str) -> bool {
        name == self.query
            || [&self.mutation, &self.subscription]
                .into_iter()
                .any(|root| root.as_deref() == Some(name))
    }

    /// The object types whose rows have a global id.
    pub fn node_types(&self) -> impl Iterator<Item = &str> {
        let members = self.find("Node").map_or(&[][..], |of| &of.members);
        members.iter().map(String::as_str)
    }

    /// Whether fields of this type need a selection.
    #[must_use]
    pub fn is_composite(&self, name: &str) -> bool {
        matches!(
            self.kind(name),
            Kind::Object | Kind::Interface | Kind::Union
        )
    }

    /// The types that an operation can reach from a type through its fields.
    #[must_use]
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

    /// The type of the rows of a connection.
    #[must_use]
    pub fn row<'s>(&'s self, connection: &'s Field) -> &'s str {
        let nodes = self.fields(&connection.type_name).iter();
        let mut nodes = nodes.filter(|field| field.name == "nodes");
        nodes
            .next()
            .map_or(connection.type_name.as_str(), |nodes| &nodes.type_name)
    }

    /// A selection set of everything in a type, to a depth: scalars, related rows and, with `page`, the first rows of each
    /// list. Fields that need an argument are left out. Empty for a type without fields.
    #[must_use]
    pub fn selection_set(&self, of: &str, depth: usize, page: Option<usize>) -> String {
        if !self.is_composite(of) {
            return String::new();
        }
        format!("{{ {} }}", self.selection(of, depth, page))
    }

    /// A [`Schema::selection_set`] without its braces.
    #[must_use]
    pub fn selection(&self, of: &str, depth: usize, page: Option<usize>) -> String {
        let mut parts = vec!["__typename".to_owned()];
        if let Some(of) = self.find(of) {
            let ambiguous = self.ambiguous_fields(of);
            parts.extend(of.members.iter().map(|member| {
                let fields = self.fields_of(member, depth, page, &ambiguous);
                format!("... on {member} {{ __typename {fields} }}")
            }));
            if of.kind == Kind::Object {
                parts.push(self.fields_of(&of.name, depth, page, &ambiguous));
            }
        }
        parts.join(" ")
    }

    /// The names of the fields that do not have the same type in all members. They need different response keys
    /// (specification, 5.3.2).
    fn ambiguous_fields(&self, of: &Type) -> BTreeSet<&str> {
        let (mut types, mut ambiguous) = (BTreeMap::new(), BTreeSet::new());
        for field in of.members.iter().flat_map(|member| self.fields(member)) {
            let first = types.entry(&*field.name).or_insert(&*field.type_text);
            if *first != field.type_text {
                ambiguous.insert(&*field.name);
            }
        }
        ambiguous
    }

    fn fields_of(
        &self,
        object: &str,
        depth: usize,
        page: Option<usize>,
        ambiguous: &BTreeSet<&str>,
    ) -> String {
        let mut parts = Vec::new();
        for field in self.fields(object) {
            let (name, of) = (&field.name, &field.type_name);
            let key = if ambiguous.contains(&**name) {
                format!("{}: {name}", response_key(name, object))
            } else {
                name.clone()
            };
            if field.is_connection() {
                if let (Some(first), true) = (page, depth > 0) {
                    // A connection is not a level: its rows are.
                    let row = self.selection(self.row(field), depth - 1, page);
                    parts.push(format!(
                        "{key}(first: {first}) {{ totalCount edges {{ cursor }} nodes {{ {row} }} }}"
                    ));
                }
            } else if !field.needs_no_argument() {
                // The attack on the field itself gives the arguments.
            } else if !self.is_composite(of) {
                parts.push(key);
            } else if depth > 0 {
                let inner = self.selection(of, depth - 1, page);
                parts.push(format!("{key} {{ {inner} }}"));
            }
        }
        parts.join(" ")
    }
}

/// The response key of a field that has another type in another member of its union or interface.
pub(super) fn response_key(field: &str, object: &str) -> String {
    format!("{field}Of{object}")
}

/// A type of SDL, and the interfaces that it implements.
fn sdl_type(name: &str, kind: TypeKind) -> (Type, Vec<String>) {
    let mut of = Type {
        name: name.to_owned(),
        kind: Kind::Scalar,
        fields: Vec::new(),
        values: Vec::new(),
        members: Vec::new(),
    };
    let mut interfaces = Vec::new();
    let names = |names: Vec<async_graphql::Positioned<async_graphql::Name>>| {
        names.iter().map(|name| name.node.to_string()).collect()
    };
    match kind {
        TypeKind::Scalar => {}
        TypeKind::Object(object) => {
            of.kind = Kind::Object;
            let fields = object.fields.iter();
            of.fields = fields.map(|field| Field::of_object(&field.node)).collect();
            interfaces = names(object.implements);
        }
        TypeKind::Interface(interface) => {
            of.kind = Kind::Interface;
            let fields = interface.fields.iter();
            of.fields = fields.map(|field| Field::of_object(&field.node)).collect();
        }
        TypeKind::Union(union) => {
            of.kind = Kind::Union;
            of.members = names(union.members);
        }
        TypeKind::Enum(choice) => {
            of.kind = Kind::Enum;
            let values = choice.values.iter();
            of.values = values
                .map(|value| value.node.value.node.to_string())
                .collect();
        }
        TypeKind::InputObject(input) => {
            of.kind = Kind::Input;
            let fields = input.fields.iter();
            of.fields = fields.map(|field| Field::of_input(&field.node)).collect();
        }
    }
    (of, interfaces)
}

/// A type of an introspection result; `None` if a part of it is missing.
fn introspected_type(of: &Value) -> Option<(String, Type)> {
    let name = of["name"].as_str()?;
    let kind = match of["kind"].as_str()? {
        "SCALAR" => Kind::Scalar,
        "ENUM" => Kind::Enum,
        "OBJECT" => Kind::Object,
        "INTERFACE" => Kind::Interface,
        "UNION" => Kind::Union,
        "INPUT_OBJECT" => Kind::Input,
        _ => return None,
    };
    let items = |key: &str| of[key].as_array().map(Vec::as_slice).unwrap_or_default();
    let names = |key: &str| -> Option<Vec<String>> {
        let names = items(key).iter();
        names
            .map(|item| item["name"].as_str().map(str::to_owned))
            .collect()
    };
    let fields = items("fields").iter().chain(items("inputFields"));
    let of = Type {
        name: name.to_owned(),
        kind,
        fields: fields.map(Field::of_introspection).collect::<Option<_>>()?,
        values: names("enumValues")?,
        members: names("possibleTypes")?,
    };
    Some((name.to_owned(), of))
}
