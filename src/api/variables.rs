//! The rules for variables without a value (specification, 5.8.5 and 6.1.2): a required variable must have a value, and
//! an argument or a field whose value is an omitted variable is omitted too.
//!
//! The engine treats a variable without a value as null, even inside an input object. There the
//! difference matters: null clears a field, and an omitted field keeps its value.

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

use super::guard::{CheckedDocument, Reason};

/// The variables of an operation that have neither a value nor a default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OmittedVariables(Vec<Name>);

impl OmittedVariables {
    /// Whether the variable is omitted.
    pub fn contains(&self, name: &Name) -> bool {
        self.0.contains(name)
    }

    /// Whether every variable has a value or a default.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Checks that every required variable of the selected operation has a value, and finds the omitted ones.
pub fn check(checked: &CheckedDocument, variables: &Variables) -> Result<OmittedVariables, Reason> {
    let mut omitted = OmittedVariables::default();
    let name = checked.operation_name.as_ref();
    let Some(operation) = selected_operation(&checked.document.operations, name) else {
        return Ok(omitted);
    };
    for definition in &operation.node.variable_definitions {
        let definition = &definition.node;
        let name = &definition.name.node;
        let (value, declared) = (variables.get(name), &definition.var_type.node);
        let has_value = value.is_some_and(|value| *value != async_graphql::Value::Null);
        let has_default = value.is_none() && definition.default_value.is_some();
        if !declared.nullable && !has_value && !has_default {
            return Err(Reason::MissingVariable {
                variable: name.to_string(),
                declared: declared.to_string(),
            });
        }
        if value.is_none() && definition.default_value.is_none() {
            omitted.0.push(name.clone());
        }
    }
    Ok(omitted)
}

/// Removes the omitted variables and their definitions from the document. Also removes the other operations, and the
/// fragments that the selected operation does not spread: the engine does not execute them, and validation would find
/// undefined variables in them.
pub fn remove(
    document: &mut ExecutableDocument,
    selected: Option<&Name>,
    omitted: &OmittedVariables,
) {
    if omitted.is_empty() {
        return;
    }
    if let DocumentOperations::Multiple(operations) = &mut document.operations
        && operations.len() > 1
    {
        operations.retain(|name, _| Some(name) == selected);
        let sets = operations.values().map(|one| &one.node.selection_set.node);
        let spread = spread_fragments(sets.collect(), &document.fragments);
        document.fragments.retain(|name, _| spread.contains(name));
    }
    let mut remover = Remover {
        omitted,
        used: HashSet::new(),
    };
    for operation in operations_mut(&mut document.operations) {
        let operation = &mut operation.node;
        remove_from_directives(&mut operation.directives, &mut remover);
        remove_from_selections(&mut operation.selection_set.node, &mut remover);
    }
    for fragment in document.fragments.values_mut() {
        remove_from_directives(&mut fragment.node.directives, &mut remover);
        remove_from_selections(&mut fragment.node.selection_set.node, &mut remover);
    }
    // The definition of an unused variable stays, so that the engine reports the variable.
    for operation in operations_mut(&mut document.operations) {
        let definitions = &mut operation.node.variable_definitions;
        definitions.retain(|definition| !remover.used.contains(&definition.node.name.node));
    }
}

/// Finds the omitted variables in a document.
struct Remover<'o> {
    omitted: &'o OmittedVariables,
    /// The omitted variables that the document uses.
    used: HashSet<Name>,
}

impl Remover<'_> {
    /// Whether a value is an omitted variable. If so, records that the document uses the variable.
    fn matches(&mut self, value: &InputValue) -> bool {
        let InputValue::Variable(name) = value else {
            return false;
        };
        let is_omitted = self.omitted.contains(name);
        if is_omitted {
            self.used.insert(name.clone());
        }
        is_omitted
    }
}

/// The operation that the guard selected.
pub(super) fn selected_operation<'d>(
    operations: &'d DocumentOperations,
    name: Option<&Name>,
) -> Option<&'d Positioned<OperationDefinition>> {
    match operations {
        DocumentOperations::Single(operation) => Some(operation),
        DocumentOperations::Multiple(operations) => operations.get(name?),
    }
}

fn operations_mut(
    operations: &mut DocumentOperations,
) -> Vec<&mut Positioned<OperationDefinition>> {
    match operations {
        DocumentOperations::Single(operation) => vec![operation],
        DocumentOperations::Multiple(operations) => operations.values_mut().collect(),
    }
}

/// The fragments that these selection sets spread, directly or through other fragments.
fn spread_fragments<'d>(
    mut stack: Vec<&'d SelectionSet>,
    fragments: &'d HashMap<Name, Positioned<FragmentDefinition>>,
) -> HashSet<Name> {
    let mut found = HashSet::new();
    while let Some(set) = stack.pop() {
        for selection in &set.items {
            match &selection.node {
                Selection::Field(field) => stack.push(&field.node.selection_set.node),
                Selection::InlineFragment(inline) => stack.push(&inline.node.selection_set.node),
                Selection::FragmentSpread(spread) => {
                    let name = &spread.node.fragment_name.node;
                    if found.insert(name.clone())
                        && let Some(fragment) = fragments.get(name)
                    {
                        stack.push(&fragment.node.selection_set.node);
                    }
                }
            }
        }
    }
    found
}

fn remove_from_selections(set: &mut SelectionSet, remover: &mut Remover<'_>) {
    for selection in &mut set.items {
        match &mut selection.node {
            Selection::Field(field) => {
                let field = &mut field.node;
                remove_from_arguments(&mut field.arguments, remover);
                remove_from_directives(&mut field.directives, remover);
                remove_from_selections(&mut field.selection_set.node, remover);
            }
            Selection::InlineFragment(inline) => {
                remove_from_directives(&mut inline.node.directives, remover);
                remove_from_selections(&mut inline.node.selection_set.node, remover);
            }
            Selection::FragmentSpread(spread) => {
                remove_from_directives(&mut spread.node.directives, remover);
            }
        }
    }
}

fn remove_from_directives(directives: &mut [Positioned<Directive>], remover: &mut Remover<'_>) {
    for directive in directives {
        remove_from_arguments(&mut directive.node.arguments, remover);
    }
}

fn remove_from_arguments(
    arguments: &mut Vec<(Positioned<Name>, Positioned<InputValue>)>,
    remover: &mut Remover<'_>,
) {
    arguments.retain(|(_, value)| !remover.matches(&value.node));
    for (_, value) in arguments {
        remove_from_value(&mut value.node, remover);
    }
}

fn remove_from_value(value: &mut InputValue, remover: &mut Remover<'_>) {
    match value {
        InputValue::Object(fields) => {
            let given = std::mem::take(fields).into_iter();
            *fields = given
                .filter(|(_, value)| !remover.matches(value))
                .collect::<IndexMap<_, _>>();
            fields
                .values_mut()
                .for_each(|value| remove_from_value(value, remover));
        }
        InputValue::List(items) => {
            for item in items {
                // An item of a list cannot be omitted, so it becomes null.
                if remover.matches(item) {
                    *item = InputValue::Null;
                }
                remove_from_value(item, remover);
            }
        }
        _ => {}
    }
}
