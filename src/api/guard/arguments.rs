//! The bytes of the arguments: each literal and each variable counts once for each place where the expanded document
//! uses it.
//!
//! The engine copies a literal or a variable whenever it reads an argument that contains it. A short document can use a
//! long variable thousands of times.

use std::collections::HashMap;

use async_graphql::{
    Name, Positioned, Value, Variables,
    parser::types::{
        Directive, ExecutableDocument, OperationDefinition, OperationType, Selection, SelectionSet,
    },
};
use async_graphql_value::Value as InputValue;

use super::{Limits, Reason, check_limit, to_u64};

/// The bytes that a value counts in addition to those of its strings and names.
const VALUE_BYTES: u64 = 64;

/// The values in the arguments of the selected operation, with its fragments expanded. A fragment that the operation
/// does not spread counts once, because the engine validates its arguments too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArgumentUses {
    /// The bytes of the literals.
    literal_bytes: u64,
    /// The items of the lists in the literals.
    literal_items: u64,
    variables: Vec<VariableUse>,
}

/// How often the arguments contain a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
struct VariableUse {
    name: Name,
    times: u64,
    /// The bytes of the variable's default.
    default_bytes: u64,
    /// The items of the lists in the variable's default.
    default_items: u64,
}

impl ArgumentUses {
    /// The bytes of the arguments with the variables of a request.
    #[must_use]
    pub fn bytes(&self, variables: &Variables) -> u64 {
        let of_variables = self.variables.iter().map(|variable| {
            let given = variables.get(&variable.name);
            let bytes = given.map_or(variable.default_bytes, of_value);
            bytes.saturating_mul(variable.times)
        });
        of_variables.fold(self.literal_bytes, u64::saturating_add)
    }

    /// The items of all lists in the arguments, with the variables of a request.
    #[must_use]
    pub fn list_items(&self, variables: &Variables) -> u64 {
        let of_variables = self.variables.iter().map(|variable| {
            let given = variables.get(&variable.name);
            let items = given.map_or(variable.default_items, items_of);
            items.saturating_mul(variable.times)
        });
        of_variables.fold(self.literal_items, u64::saturating_add)
    }

    /// Checks the bytes of the arguments of an operation with the variables of a request.
    pub(super) fn check(
        &self,
        operation: OperationType,
        variables: &Variables,
        limits: &Limits,
    ) -> Result<(), Reason> {
        let (limit, what) = match operation {
            OperationType::Mutation => (
                limits.mutation_argument_bytes,
                "bytes of arguments in a mutation, where a variable counts each time it is used",
            ),
            _ => (
                limits.argument_bytes,
                "bytes of arguments, where a variable counts each time it is used",
            ),
        };
        check_limit(self.bytes(variables), limit, what)
    }

    /// The bytes that it takes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.variables.capacity() * size_of::<VariableUse>()
    }
}

/// Collects the uses of a document without fragment cycles.
pub(super) struct ArgumentCounter<'a> {
    literal_bytes: u64,
    literal_items: u64,
    variables: HashMap<&'a Name, u64>,
    /// How often the fragments are spread by the definitions that were visited.
    spreads: HashMap<&'a str, u64>,
    /// How often the visited definition occurs in the expanded operation.
    times: u64,
    /// The number of visited nodes of the syntax tree.
    pub(super) work: u64,
}

impl<'a> ArgumentCounter<'a> {
    pub(super) fn new() -> Self {
        Self {
            literal_bytes: 0,
            literal_items: 0,
            variables: HashMap::new(),
            spreads: HashMap::new(),
            times: 1,
            work: 0,
        }
    }

    /// Counts the arguments of an operation. In `fragments`, each fragment comes after those that it spreads.
    pub(super) fn count(
        &mut self,
        document: &'a ExecutableDocument,
        operation: &'a OperationDefinition,
        fragments: &[&'a str],
    ) -> ArgumentUses {
        self.directives(&operation.directives);
        self.selection_set(&operation.selection_set.node);
        for name in fragments.iter().rev() {
            if let Some(fragment) = document.fragments.get(*name) {
                self.times = self.spreads.get(name).copied().unwrap_or(1);
                self.directives(&fragment.node.directives);
                self.selection_set(&fragment.node.selection_set.node);
            }
        }
        let definitions = &operation.variable_definitions;
        let uses = self.variables.drain().map(|(name, times)| {
            let definition = definitions
                .iter()
                .find(|definition| definition.node.name.node == *name);
            let default = definition.and_then(|definition| definition.node.default_value.as_ref());
            VariableUse {
                name: name.clone(),
                times,
                default_bytes: default.map_or(0, |default| of_value(&default.node)),
                default_items: default.map_or(0, |default| items_of(&default.node)),
            }
        });
        ArgumentUses {
            variables: uses.collect(),
            literal_bytes: self.literal_bytes,
            literal_items: self.literal_items,
        }
    }

    fn selection_set(&mut self, set: &'a SelectionSet) {
        for selection in &set.items {
            self.work += 1;
            match &selection.node {
                Selection::Field(field) => {
                    let field = &field.node;
                    self.arguments(&field.arguments);
                    self.directives(&field.directives);
                    self.selection_set(&field.selection_set.node);
                }
                Selection::FragmentSpread(spread) => {
                    let name = spread.node.fragment_name.node.as_str();
                    let times = self.spreads.entry(name).or_default();
                    *times = times.saturating_add(self.times);
                    self.directives(&spread.node.directives);
                }
                Selection::InlineFragment(inline) => {
                    self.directives(&inline.node.directives);
                    self.selection_set(&inline.node.selection_set.node);
                }
            }
        }
    }

    fn directives(&mut self, directives: &'a [Positioned<Directive>]) {
        for directive in directives {
            self.arguments(&directive.node.arguments);
        }
    }

    fn arguments(&mut self, arguments: &'a [(Positioned<Name>, Positioned<InputValue>)]) {
        for (_, value) in arguments {
            self.value(&value.node);
        }
    }

    fn value(&mut self, value: &'a InputValue) {
        let content = match value {
            InputValue::Variable(name) => {
                let times = self.variables.entry(name).or_default();
                *times = times.saturating_add(self.times);
                return;
            }
            InputValue::List(items) => {
                let length = to_u64(items.len()).saturating_mul(self.times);
                self.literal_items = self.literal_items.saturating_add(length);
                for item in items {
                    self.value(item);
                }
                0
            }
            InputValue::Object(fields) => {
                for field in fields.values() {
                    self.value(field);
                }
                fields.keys().map(|name| name.len()).sum()
            }
            InputValue::String(text) => text.len(),
            InputValue::Enum(name) => name.len(),
            InputValue::Binary(bytes) => bytes.len(),
            InputValue::Null | InputValue::Number(_) | InputValue::Boolean(_) => 0,
        };
        let bytes = VALUE_BYTES.saturating_add(to_u64(content));
        let bytes = bytes.saturating_mul(self.times);
        self.literal_bytes = self.literal_bytes.saturating_add(bytes);
    }
}

/// The bytes of a value. Its nesting is limited, because it is the value of a variable.
fn of_value(value: &Value) -> u64 {
    let content = match value {
        Value::List(items) => items.iter().map(of_value).sum(),
        Value::Object(fields) => {
            let fields = fields.iter();
            fields
                .map(|(name, value)| to_u64(name.len()) + of_value(value))
                .sum()
        }
        Value::String(text) => to_u64(text.len()),
        Value::Enum(name) => to_u64(name.len()),
        Value::Binary(bytes) => to_u64(bytes.len()),
        Value::Null | Value::Number(_) | Value::Boolean(_) => 0,
    };
    VALUE_BYTES + content
}

/// The items of the lists in a value.
fn items_of(value: &Value) -> u64 {
    match value {
        Value::List(items) => to_u64(items.len()) + items.iter().map(items_of).sum::<u64>(),
        Value::Object(fields) => fields.values().map(items_of).sum(),
        _ => 0,
    }
}
