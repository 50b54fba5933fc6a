//! Variables before anything runs (specification, 5.8.5 and 6.1.2): one that must have a value has one,
//! and what was left out is left out wherever it is used.
//!
//! The engine takes a variable without a value for null, in an input object as well. There a field that
//! is null is cleared and one that is left out stays as it is, so that is no small difference.

use std::collections::{HashMap, HashSet};

use async_graphql::{
    Name, Positioned, Variables,
    indexmap::IndexMap,
    parser::types::{
        Directive, DocumentOperations, ExecutableDocument, FragmentDefinition, OperationDefinition,
        Selection, SelectionSet,
    },
};
use async_graphql_value::Value as InputValue;

use super::guard::Reason;

/// Checks the variables of the operation that runs, and takes those that were left out of the document.
/// `operation_name` names an operation of the document, or there is but one.
pub fn settle(
    document: &mut ExecutableDocument,
    operation_name: Option<&str>,
    variables: &Variables,
) -> Result<(), Reason> {
    let Some(operation) = operation(&document.operations, operation_name) else {
        return Ok(());
    };
    let mut absent = Absent::default();
    for definition in &operation.node.variable_definitions {
        let definition = &definition.node;
        let name = &definition.name.node;
        let (value, declared) = (variables.get(name), &definition.var_type.node);
        let has_value = value.is_some_and(|value| *value != async_graphql::Value::Null);
        let has_default = value.is_none() && definition.default_value.is_some();
        if !declared.nullable && !has_value && !has_default {
            return Err(Reason::NoValue {
                variable: name.to_string(),
                declared: declared.to_string(),
            });
        }
        if value.is_none() && definition.default_value.is_none() {
            absent.names.insert(name.clone());
        }
    }
    if !absent.names.is_empty() {
        leave_out(document, operation_name, &mut absent);
    }
    Ok(())
}

/// Variables without a value.
#[derive(Default)]
struct Absent {
    names: HashSet<Name>,
    /// Those that stood somewhere.
    used: HashSet<Name>,
}

impl Absent {
    fn is(&mut self, value: &InputValue) -> bool {
        let InputValue::Variable(name) = value else {
            return false;
        };
        let is_absent = self.names.contains(name);
        if is_absent {
            self.used.insert(name.clone());
        }
        is_absent
    }
}

fn operation<'d>(
    operations: &'d DocumentOperations,
    name: Option<&str>,
) -> Option<&'d Positioned<OperationDefinition>> {
    match (operations, name) {
        (DocumentOperations::Single(operation), _) => Some(operation),
        (DocumentOperations::Multiple(operations), Some(name)) => operations.get(name),
        (DocumentOperations::Multiple(operations), None) => operations.values().next(),
    }
}

/// Takes variables without a value, and their definitions, out of the document. Other operations and the
/// fragments that only they spread go as well: they do not run, and could not be told apart from ones
/// that use what is gone.
fn leave_out(document: &mut ExecutableDocument, operation_name: Option<&str>, absent: &mut Absent) {
    if let DocumentOperations::Multiple(operations) = &mut document.operations
        && operations.len() > 1
    {
        operations.retain(|name, _| Some(name.as_str()) == operation_name);
        let sets = operations.values().map(|one| &one.node.selection_set.node);
        let needed = spread(sets.collect(), &document.fragments);
        document.fragments.retain(|name, _| needed.contains(name));
    }
    for operation in all(&mut document.operations) {
        let operation = &mut operation.node;
        of_directives(&mut operation.directives, absent);
        of_selections(&mut operation.selection_set.node, absent);
    }
    for fragment in document.fragments.values_mut() {
        of_directives(&mut fragment.node.directives, absent);
        of_selections(&mut fragment.node.selection_set.node, absent);
    }
    // One that nothing used is an error of the document, which the engine finds.
    for operation in all(&mut document.operations) {
        let definitions = &mut operation.node.variable_definitions;
        definitions.retain(|definition| !absent.used.contains(&definition.node.name.node));
    }
}

fn all(operations: &mut DocumentOperations) -> Vec<&mut Positioned<OperationDefinition>> {
    match operations {
        DocumentOperations::Single(operation) => vec![operation],
        DocumentOperations::Multiple(operations) => operations.values_mut().collect(),
    }
}

/// The fragments that selection sets spread, and those that these spread.
fn spread<'d>(
    mut open: Vec<&'d SelectionSet>,
    fragments: &'d HashMap<Name, Positioned<FragmentDefinition>>,
) -> HashSet<Name> {
    let mut found = HashSet::new();
    while let Some(set) = open.pop() {
        for selection in &set.items {
            match &selection.node {
                Selection::Field(field) => open.push(&field.node.selection_set.node),
                Selection::InlineFragment(inline) => open.push(&inline.node.selection_set.node),
                Selection::FragmentSpread(spread) => {
                    let name = &spread.node.fragment_name.node;
                    if found.insert(name.clone())
                        && let Some(fragment) = fragments.get(name)
                    {
                        open.push(&fragment.node.selection_set.node);
                    }
                }
            }
        }
    }
    found
}

fn of_selections(set: &mut SelectionSet, absent: &mut Absent) {
    for selection in &mut set.items {
        match &mut selection.node {
            Selection::Field(field) => {
                let field = &mut field.node;
                of_arguments(&mut field.arguments, absent);
                of_directives(&mut field.directives, absent);
                of_selections(&mut field.selection_set.node, absent);
            }
            Selection::InlineFragment(inline) => {
                of_directives(&mut inline.node.directives, absent);
                of_selections(&mut inline.node.selection_set.node, absent);
            }
            Selection::FragmentSpread(spread) => {
                of_directives(&mut spread.node.directives, absent);
            }
        }
    }
}

fn of_directives(directives: &mut [Positioned<Directive>], absent: &mut Absent) {
    for directive in directives {
        of_arguments(&mut directive.node.arguments, absent);
    }
}

fn of_arguments(
    arguments: &mut Vec<(Positioned<Name>, Positioned<InputValue>)>,
    absent: &mut Absent,
) {
    arguments.retain(|(_, value)| !absent.is(&value.node));
    for (_, value) in arguments {
        of_value(&mut value.node, absent);
    }
}

fn of_value(value: &mut InputValue, absent: &mut Absent) {
    match value {
        InputValue::Object(fields) => {
            let given = std::mem::take(fields).into_iter();
            *fields = given
                .filter(|(_, value)| !absent.is(value))
                .collect::<IndexMap<_, _>>();
            fields
                .values_mut()
                .for_each(|value| of_value(value, absent));
        }
        InputValue::List(items) => {
            for item in items {
                // An item cannot be left out: it is null.
                if absent.is(item) {
                    *item = InputValue::Null;
                }
                of_value(item, absent);
            }
        }
        _ => {}
    }
}
