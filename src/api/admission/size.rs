//! Estimates the memory of an admitted document. A parsed document takes up to a hundred times the bytes of its text,
//! so the length of the text does not bound the memory.

use std::{collections::HashMap, mem::size_of};

use async_graphql::{
    Name, Positioned, Value,
    parser::types::{
        BaseType, Directive, ExecutableDocument, OperationDefinition, Selection, SelectionSet, Type,
    },
};
use async_graphql_value::Value as InputValue;

use super::{AdmittedDocument, DocumentKey};
use crate::api::{guard::RootField, variables::DeclaredVariable};

/// The bytes of the entries of the maps and lists that hold a document, and of its reference counts.
const ENTRY_OVERHEAD_BYTES: usize = 256;
/// The bytes that a name allocates in addition to its characters: reference counts and rounding.
const NAME_OVERHEAD_BYTES: usize = 24;

/// An upper estimate of the memory that an entry of the cache takes.
pub fn entry_bytes(key: &DocumentKey, document: &AdmittedDocument) -> u64 {
    let checked = &document.checked;
    let variables = document.variables.iter();
    let variables = variables.map(|variable| {
        size_of::<DeclaredVariable>() + NAME_OVERHEAD_BYTES + variable.declared.len()
    });
    let bytes = ENTRY_OVERHEAD_BYTES
        + key.text.len()
        + key.operation_name.as_ref().map_or(0, String::len)
        + size_of::<AdmittedDocument>()
        + of_document(&checked.document)
        + checked.root_fields.capacity() * size_of::<RootField>()
        + checked.arguments.heap_bytes()
        + variables.sum::<usize>()
        + document
            .selected
            .get()
            .map_or(0, |selected| selected.columns.heap_bytes());
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn of_document(document: &ExecutableDocument) -> usize {
    let operations = document.operations.iter().map(|(name, operation)| {
        let entry = size_of::<(Name, Positioned<OperationDefinition>)>();
        entry + name.map_or(0, of_name) + of_operation(&operation.node)
    });
    let fragments = document.fragments.iter().map(|(name, fragment)| {
        let fragment = &fragment.node;
        of_name(name)
            + of_name(&fragment.type_condition.node.on.node)
            + of_directives(&fragment.directives)
            + of_selection_set(&fragment.selection_set.node)
    });
    operations.sum::<usize>() + fragments.sum::<usize>() + of_table(&document.fragments)
}

fn of_operation(operation: &OperationDefinition) -> usize {
    let definitions = &operation.variable_definitions;
    let variables = definitions.iter().map(|definition| {
        let definition = &definition.node;
        let default = definition.default_value.as_ref();
        of_name(&definition.name.node)
            + of_type(&definition.var_type.node)
            + of_directives(&definition.directives)
            + default.map_or(0, |default| of_const_value(&default.node))
    });
    of_list(definitions)
        + variables.sum::<usize>()
        + of_directives(&operation.directives)
        + of_selection_set(&operation.selection_set.node)
}

fn of_selection_set(set: &SelectionSet) -> usize {
    let selections = set.items.iter().map(|selection| match &selection.node {
        Selection::Field(field) => {
            let field = &field.node;
            of_name(&field.name.node)
                + field.alias.as_ref().map_or(0, |alias| of_name(&alias.node))
                + of_arguments(&field.arguments)
                + of_directives(&field.directives)
                + of_selection_set(&field.selection_set.node)
        }
        Selection::FragmentSpread(spread) => {
            of_name(&spread.node.fragment_name.node) + of_directives(&spread.node.directives)
        }
        Selection::InlineFragment(inline) => {
            let inline = &inline.node;
            let condition = inline.type_condition.as_ref();
            condition.map_or(0, |condition| of_name(&condition.node.on.node))
                + of_directives(&inline.directives)
                + of_selection_set(&inline.selection_set.node)
        }
    });
    of_list(&set.items) + selections.sum::<usize>()
}

fn of_directives(directives: &Vec<Positioned<Directive>>) -> usize {
    let inner = directives.iter().map(|directive| {
        of_name(&directive.node.name.node) + of_arguments(&directive.node.arguments)
    });
    of_list(directives) + inner.sum::<usize>()
}

fn of_arguments(arguments: &Vec<(Positioned<Name>, Positioned<InputValue>)>) -> usize {
    let inner = arguments
        .iter()
        .map(|(name, value)| of_name(&name.node) + of_value(&value.node));
    of_list(arguments) + inner.sum::<usize>()
}

fn of_value(value: &InputValue) -> usize {
    match value {
        InputValue::Variable(name) | InputValue::Enum(name) => of_name(name),
        InputValue::String(text) => text.capacity(),
        InputValue::List(items) => of_list(items) + items.iter().map(of_value).sum::<usize>(),
        InputValue::Object(fields) => {
            let inner = fields
                .iter()
                .map(|(name, value)| of_name(name) + of_value(value));
            of_object::<InputValue>(fields.capacity()) + inner.sum::<usize>()
        }
        InputValue::Binary(bytes) => bytes.len(),
        InputValue::Null | InputValue::Number(_) | InputValue::Boolean(_) => 0,
    }
}

fn of_const_value(value: &Value) -> usize {
    match value {
        Value::Enum(name) => of_name(name),
        Value::String(text) => text.capacity(),
        Value::List(items) => of_list(items) + items.iter().map(of_const_value).sum::<usize>(),
        Value::Object(fields) => {
            let inner = fields
                .iter()
                .map(|(name, value)| of_name(name) + of_const_value(value));
            of_object::<Value>(fields.capacity()) + inner.sum::<usize>()
        }
        Value::Binary(bytes) => bytes.len(),
        Value::Null | Value::Number(_) | Value::Boolean(_) => 0,
    }
}

fn of_type(declared: &Type) -> usize {
    match &declared.base {
        BaseType::Named(name) => of_name(name),
        BaseType::List(inner) => size_of::<Type>() + of_type(inner),
    }
}

fn of_name(name: &Name) -> usize {
    name.len() + NAME_OVERHEAD_BYTES
}

fn of_list<T>(list: &Vec<T>) -> usize {
    list.capacity() * size_of::<T>()
}

/// An index map has a list of entries with their hashes, and a table of positions.
fn of_object<V>(capacity: usize) -> usize {
    capacity * (size_of::<(Name, V)>() + 3 * size_of::<usize>())
}

/// A hash table is at most twice as large as its capacity.
fn of_table<K, V>(table: &HashMap<K, V>) -> usize {
    table.capacity() * 2 * (size_of::<(K, V)>() + 1)
}
