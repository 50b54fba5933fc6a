//! The cost of a field: the rows that it may fetch, and the values that it puts into the answer.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    convert::Infallible,
};

use async_graphql::{
    Name, Value, Variables,
    parser::types::{Field, OperationDefinition},
};

use super::len;

/// The fields of a connection between it and its rows.
const WRAPPERS: [&str; 4] = ["edges", "nodes", "node", "pageInfo"];

/// The argument that holds the list of a field in [`Shape::id_lists`].
const ID_LIST: &str = "ids";

/// The longest batch that a resolver accepts.
const MAX_BATCH: u64 = 1_000;

/// The lists of the schema in a query about it (specification, 4.2); no field of the API has such a name.
pub(super) const INTROSPECTED: [&str; 7] = [
    "types",
    "fields",
    "inputFields",
    "interfaces",
    "possibleTypes",
    "enumValues",
    "args",
];

/// Items of such a list, for the values of an answer: a mean, since there are a hundred types and
/// a few of all else.
const INTROSPECTED_ROWS: u64 = 10;

/// What the cost needs to know of the schema. Fields are told apart by name alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Names of fields whose type is a connection.
    pub connections: HashSet<String>,
    /// Names of fields that return one row for each item of their argument `ids`.
    pub id_lists: HashSet<String>,
    /// Names of mutations that answer one result for each item of a list in their `input`, with the
    /// name of that list.
    pub batches: HashMap<String, String>,
    /// The page size of a connection without `first` and `last`.
    pub default_page: u64,
    /// The largest page, and the longest list of ids, that a resolver accepts.
    pub max_page: u64,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            connections: HashSet::new(),
            id_lists: HashSet::new(),
            batches: HashMap::new(),
            default_page: 20,
            max_page: 100,
        }
    }
}

/// What arguments are resolved with: the schema, and the variables of the operation that runs.
pub(super) struct Scope<'a> {
    shape: &'a Shape,
    variables: &'a Variables,
    defaults: HashMap<&'a str, &'a Value>,
}

impl<'a> Scope<'a> {
    pub(super) fn new(
        shape: &'a Shape,
        operation: &'a OperationDefinition,
        variables: &'a Variables,
    ) -> Self {
        let definitions = operation
            .variable_definitions
            .iter()
            .map(|definition| &definition.node);
        let defaults = definitions
            .filter_map(|definition| {
                let default = definition.default_value.as_ref()?;
                Some((definition.name.node.as_str(), &default.node))
            })
            .collect();
        Self {
            shape,
            variables,
            defaults,
        }
    }

    pub(super) fn cost(&self, field: &Field, below: u64) -> u64 {
        let name = field.name.node.as_str();
        if field.selection_set.node.items.is_empty() || name.starts_with("__") {
            return 0;
        }
        let row = below.saturating_add(1);
        if self.shape.connections.contains(name) {
            return self.page(field).saturating_mul(row).saturating_add(1);
        }
        if self.shape.id_lists.contains(name)
            && let Some(rows) = self
                .arguments(field, &[ID_LIST])
                .map(|ids| self.ids(&ids))
                .max()
        {
            return rows.saturating_mul(row);
        }
        if let Some(list) = self.shape.batches.get(name) {
            return self.batch(field, list).saturating_mul(row);
        }
        if WRAPPERS.contains(&name) && field.arguments.is_empty() {
            return below;
        }
        row
    }

    /// The values that a field puts into the answer: its own and those below it, for each of its rows.
    pub(super) fn values(&self, field: &Field, below: u64) -> u64 {
        let name = field.name.node.as_str();
        let rows = if self.shape.connections.contains(name) {
            self.page(field)
        } else if self.shape.id_lists.contains(name) {
            let lists = self.arguments(field, &[ID_LIST]);
            lists.map(|ids| self.ids(&ids)).max().unwrap_or(1)
        } else if let Some(list) = self.shape.batches.get(name) {
            self.batch(field, list)
        } else if INTROSPECTED.contains(&name) {
            INTROSPECTED_ROWS
        } else {
            1
        };
        rows.max(1).saturating_mul(below.saturating_add(1))
    }

    /// The number of inputs of a batch.
    fn batch(&self, field: &Field, list: &str) -> u64 {
        let length = |value: &Value| match value {
            Value::List(items) => len(items.len()),
            Value::Number(length) => length.as_u64().unwrap_or(1),
            _ => 1,
        };
        // A variable is replaced by the length of its list, or of the list in it: it must not be copied.
        let of_variable = |name: Name| {
            let length = self.variable(&name).map(|value| match value {
                Value::Object(input) => input.get(list).map_or(0, length),
                value => length(value),
            });
            Ok::<_, Infallible>(Value::from(length.unwrap_or(0)))
        };
        let inputs = field
            .arguments
            .iter()
            .filter(|(name, _)| name.node == "input");
        let lengths = inputs.map(|(_, input)| {
            let Ok(input) = input.node.clone().into_const_with(of_variable);
            match &input {
                Value::Object(input) => input.get(list).map_or(0, length),
                other => length(other),
            }
        });
        lengths.max().unwrap_or(0).clamp(1, MAX_BATCH)
    }

    /// The page size of a connection.
    fn page(&self, field: &Field) -> u64 {
        let sizes = self
            .arguments(field, &["first", "last"])
            .filter_map(|size| self.size(&size));
        sizes.max().unwrap_or(self.shape.default_page)
    }

    /// A given page size; `None` if it is null.
    fn size(&self, value: &Value) -> Option<u64> {
        let max = self.shape.max_page;
        match value {
            Value::Null => None,
            Value::Number(size) => {
                let size = size.as_i64().map(|size| u64::try_from(size).unwrap_or(0));
                Some(size.map_or(max, |size| size.min(max)))
            }
            _ => Some(max),
        }
    }

    /// The length of a list of ids. A single value stands for a list of one.
    fn ids(&self, value: &Value) -> u64 {
        let length = match value {
            Value::Null => 0,
            Value::List(items) => len(items.len()),
            _ => 1,
        };
        length.min(self.shape.max_page)
    }

    /// The values of the arguments of these names; an absent variable is null.
    fn arguments<'f>(
        &'f self,
        field: &'f Field,
        names: &'f [&str],
    ) -> impl Iterator<Item = Cow<'f, Value>> {
        let wanted = field
            .arguments
            .iter()
            .filter(|(name, _)| names.contains(&name.node.as_str()));
        wanted.map(|(_, value)| {
            // No literal is binary, so that stands for a variable. A list in a variable must not be
            // copied: it does not come out of the text and may be named on every field.
            let mut variable = None;
            let literal = value.node.clone().into_const_with(|name| {
                variable = Some(name);
                Ok::<_, Infallible>(Value::Binary(Vec::new().into()))
            });
            match (literal, variable) {
                (Ok(Value::Binary(_)), Some(name)) => self
                    .variable(&name)
                    .map_or(Cow::Owned(Value::Null), Cow::Borrowed),
                (Ok(literal), _) => Cow::Owned(literal),
            }
        })
    }

    fn variable(&self, name: &str) -> Option<&Value> {
        self.variables
            .get(name)
            .or_else(|| self.defaults.get(name).copied())
    }
}
