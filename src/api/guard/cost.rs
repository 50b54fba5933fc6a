//! The cost of an operation: an estimate of the rows that it fetches.
//!
//! The estimate is an upper bound for most operations: directives do not skip anything, equal fields are not merged,
//! and the fields of all types of a union are added up. It does not include the rows of counts (`totalCount`), of lists
//! without pages (`currencies`) and of lists in the input of a mutation that is not a bulk mutation.
//!
//! | field | cost |
//! |---|---|
//! | without a selection set | 0 |
//! | `__schema`, `__type`, … | 0, including everything below: introspection does not read rows |
//! | a connection with page size `n` | 1 + `n` × (1 + the cost below); the first 1 is the row after the page |
//! | a list of `n` ids, a bulk mutation of `n` rows | `n` × (1 + the cost below) |
//! | `edges`, `nodes`, `node`, `pageInfo` without arguments | the cost below |
//! | an object that is not a row, such as `Money` | the cost below |
//! | any other | 1 + the cost below |
//!
//! For a connection, `n` is `first` or `last`, or the larger if both are given: a literal, the value of the variable,
//! or else the variable's default. Absent or null means the default page size. `n` is clamped to `0..=max_page`,
//! because the resolver rejects other values; a value that is not an integer counts as a full page. For a list of ids,
//! `n` is its length, clamped in the same way. For a bulk mutation, `n` is the length of the list, clamped to
//! `1..=1000`.
//!
//! Fields are identified by name only, without their type. A test checks that no type has a field whose name
//! leads to a wrong cost.

use std::{
    borrow::Cow,
    cell::Cell,
    collections::{HashMap, HashSet},
    convert::Infallible,
};

use async_graphql::{
    Name, Value, Variables,
    parser::types::{Field, OperationDefinition},
};

use super::to_u64;

/// The fields of connections and edges that fetch no rows of their own.
pub(in crate::api) const CONNECTION_FIELDS: [&str; 4] = ["edges", "nodes", "node", "pageInfo"];

/// The argument that holds the IDs, for the fields in [`Shape::id_lists`].
pub(in crate::api) const IDS_ARGUMENT: &str = "ids";

/// The largest number of rows that a bulk mutation accepts.
const MAX_BULK_ROWS: u64 = 1_000;

/// The lists of the introspection types (specification, 4.2).
pub(in crate::api) const INTROSPECTION_LISTS: [&str; 7] = [
    "types",
    "fields",
    "inputFields",
    "interfaces",
    "possibleTypes",
    "enumValues",
    "args",
];

/// The assumed length of an introspection list, to estimate the values of a response. It is a mean: the schema has more
/// than a hundred types, and the other lists are short.
const INTROSPECTION_LIST_LENGTH: u64 = 10;

/// The properties of the schema that the estimates depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The names of fields that return a connection.
    pub connections: HashSet<String>,
    /// The names of fields that return one row for each item of their argument `ids`.
    pub id_lists: HashSet<String>,
    /// The names of fields that return an object that is not a row: the fields of the object come from its parent.
    pub values: HashSet<String>,
    /// The names of bulk mutations, with the name of the field of their `input` that lists the rows.
    pub bulk_mutations: HashMap<String, String>,
    /// The page size of a connection without `first` and `last`.
    pub default_page: u64,
    /// The largest page size and the longest list of ids that a resolver accepts.
    pub max_page: u64,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            connections: HashSet::new(),
            id_lists: HashSet::new(),
            values: HashSet::new(),
            bulk_mutations: HashMap::new(),
            default_page: 20,
            max_page: 100,
        }
    }
}

/// Estimates the cost and the values of fields, with the variables of the selected operation.
pub(super) struct Estimator<'a> {
    shape: &'a Shape,
    variables: &'a Variables,
    defaults: HashMap<&'a str, &'a Value>,
    has_read_variables: Cell<bool>,
}

impl<'a> Estimator<'a> {
    pub(super) fn new(
        shape: &'a Shape,
        operation: &'a OperationDefinition,
        variables: &'a Variables,
    ) -> Self {
        let definitions = operation.variable_definitions.iter();
        let defaults = definitions
            .filter_map(|definition| {
                let definition = &definition.node;
                let default = definition.default_value.as_ref()?;
                Some((definition.name.node.as_str(), &default.node))
            })
            .collect();
        Self {
            shape,
            variables,
            defaults,
            has_read_variables: Cell::new(false),
        }
    }

    /// Whether an estimate has used a variable.
    pub(super) fn has_read_variables(&self) -> bool {
        self.has_read_variables.get()
    }

    /// The rows that a field fetches; `below` is the cost of its selection set for one row.
    pub(super) fn cost(&self, field: &Field, below: u64) -> u64 {
        let name = field.name.node.as_str();
        if field.selection_set.node.items.is_empty() || name.starts_with("__") {
            return 0;
        }
        let row = below.saturating_add(1);
        if self.shape.connections.contains(name) {
            return self.page_size(field).saturating_mul(row).saturating_add(1);
        }
        if self.shape.id_lists.contains(name)
            && let Some(rows) = self.id_list_length(field)
        {
            return rows.saturating_mul(row);
        }
        if let Some(list) = self.shape.bulk_mutations.get(name) {
            return self.bulk_rows(field, list).saturating_mul(row);
        }
        let is_part = CONNECTION_FIELDS.contains(&name) && field.arguments.is_empty();
        if is_part || self.shape.values.contains(name) {
            return below;
        }
        row
    }

    /// The values that a field adds to the response: its own value and those below, for each row.
    pub(super) fn values(&self, field: &Field, below: u64) -> u64 {
        let name = field.name.node.as_str();
        let rows = if self.shape.connections.contains(name) {
            self.page_size(field)
        } else if self.shape.id_lists.contains(name) {
            self.id_list_length(field).unwrap_or(1)
        } else if let Some(list) = self.shape.bulk_mutations.get(name) {
            self.bulk_rows(field, list)
        } else if INTROSPECTION_LISTS.contains(&name) {
            INTROSPECTION_LIST_LENGTH
        } else {
            1
        };
        rows.max(1).saturating_mul(below.saturating_add(1))
    }

    /// The number of rows in the input of a bulk mutation.
    fn bulk_rows(&self, field: &Field, list: &str) -> u64 {
        let length = |value: &Value| match value {
            Value::List(items) => to_u64(items.len()),
            Value::Number(length) => length.as_u64().unwrap_or(1),
            _ => 1,
        };
        // A variable is replaced by the length of its list, or of the list in its object, because copying the list for
        // each field would take more than linear time.
        let length_of_variable = |name: Name| {
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
            let Ok(input) = input.node.clone().into_const_with(length_of_variable);
            match &input {
                Value::Object(input) => input.get(list).map_or(0, length),
                other => length(other),
            }
        });
        lengths.max().unwrap_or(0).clamp(1, MAX_BULK_ROWS)
    }

    /// The page size of a connection.
    fn page_size(&self, field: &Field) -> u64 {
        let sizes = self
            .arguments(field, &["first", "last"])
            .filter_map(|size| self.given_page_size(&size));
        sizes.max().unwrap_or(self.shape.default_page)
    }

    /// The page size in an argument; `None` if the argument is null.
    fn given_page_size(&self, value: &Value) -> Option<u64> {
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

    /// The length of a list of ids; `None` if the field does not have the argument. A single value is a
    /// list of one.
    fn id_list_length(&self, field: &Field) -> Option<u64> {
        let lists = self.arguments(field, &[IDS_ARGUMENT]);
        let lengths = lists.map(|ids| match ids.as_ref() {
            Value::Null => 0,
            Value::List(items) => to_u64(items.len()),
            _ => 1,
        });
        lengths.max().map(|length| length.min(self.shape.max_page))
    }

    /// The values of the arguments with these names; an absent variable is null.
    fn arguments<'f>(
        &'f self,
        field: &'f Field,
        names: &'f [&str],
    ) -> impl Iterator<Item = Cow<'f, Value>> {
        let selected = field
            .arguments
            .iter()
            .filter(|(name, _)| names.contains(&name.node.as_str()));
        selected.map(|(_, value)| {
            // A literal is never binary, so a binary value marks a variable. The value of a variable is borrowed and
            // not copied: it can be long, and every field may use it.
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
        self.has_read_variables.set(true);
        self.variables
            .get(name)
            .or_else(|| self.defaults.get(name).copied())
    }
}
