//! The values of variables (specification, 5.8.5 and 6.1.2): a required variable must have a value, each value must have
//! the type of its variable, and an argument or a field whose value is an omitted variable is omitted too.
//!
//! The engine treats a variable without a value as null, even inside an input object. There the
//! difference matters: null clears a field, and an omitted field keeps its value.

use async_graphql::{
    Name, Pos, Positioned, Value, Variables,
    indexmap::IndexMap,
    parser::types::{
        Directive, DocumentOperations, ExecutableDocument, OperationDefinition, Selection,
        SelectionSet,
    },
    registry::Registry,
};
use async_graphql_value::Value as InputValue;

use super::{
    guard::CheckedDocument,
    validation::{DocumentError, MAX_ERRORS, values::check_variable},
};

/// The variables of an operation that have neither a value nor a default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OmittedVariables(Vec<Name>);

impl OmittedVariables {
    fn contains(&self, name: &Name) -> bool {
        self.0.contains(name)
    }

    fn matches(&self, value: &InputValue) -> bool {
        matches!(value, InputValue::Variable(name) if self.contains(name))
    }

    /// Whether every variable has a value or a default.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A variable that the selected operation defines.
#[derive(Clone, Debug)]
pub struct DeclaredVariable {
    name: Name,
    /// The type, as the document writes it.
    pub declared: String,
    position: Pos,
    is_nullable: bool,
    has_default: bool,
}

/// The variables that the selected operation of a document defines.
pub fn declared(checked: &CheckedDocument) -> Box<[DeclaredVariable]> {
    let name = checked.operation_name.as_ref();
    let operation = selected_operation(&checked.document.operations, name);
    let definitions = operation.map(|operation| &operation.node.variable_definitions);
    let definitions = definitions.into_iter().flatten();
    definitions
        .map(|definition| {
            let (position, definition) = (definition.pos, &definition.node);
            DeclaredVariable {
                name: definition.name.node.clone(),
                declared: definition.var_type.node.to_string(),
                position,
                is_nullable: definition.var_type.node.nullable,
                has_default: definition.default_value.is_some(),
            }
        })
        .collect()
}

/// Checks that every required variable has a value, and that the values have the types of their variables. Finds the
/// omitted variables.
pub fn check(
    registry: &Registry,
    declared: &[DeclaredVariable],
    variables: &Variables,
) -> Result<OmittedVariables, Vec<DocumentError>> {
    let mut omitted = OmittedVariables::default();
    let mut errors = Vec::new();
    for variable in declared {
        let value = variables.get(&variable.name);
        match value {
            Some(Value::Null) | None => {
                let has_default = value.is_none() && variable.has_default;
                if !variable.is_nullable && !has_default {
                    errors.push(variable.missing());
                } else if value.is_none() && !has_default {
                    omitted.0.push(variable.name.clone());
                }
            }
            Some(value) => {
                let DeclaredVariable {
                    name,
                    declared,
                    position,
                    ..
                } = variable;
                errors.extend(check_variable(registry, name, declared, *position, value));
            }
        }
    }
    errors.truncate(MAX_ERRORS);
    if errors.is_empty() {
        Ok(omitted)
    } else {
        Err(errors)
    }
}

impl DeclaredVariable {
    fn missing(&self) -> DocumentError {
        let Self { name, declared, .. } = self;
        DocumentError {
            message: format!("the variable ${name} of type {declared} has no value"),
            locations: vec![self.position],
        }
    }
}

/// Removes the omitted variables from the arguments of a valid document.
pub fn remove(document: &mut ExecutableDocument, omitted: &OmittedVariables) {
    if omitted.is_empty() {
        return;
    }
    for operation in operations_mut(&mut document.operations) {
        let operation = &mut operation.node;
        remove_from_directives(&mut operation.directives, omitted);
        remove_from_selections(&mut operation.selection_set.node, omitted);
    }
    for fragment in document.fragments.values_mut() {
        remove_from_directives(&mut fragment.node.directives, omitted);
        remove_from_selections(&mut fragment.node.selection_set.node, omitted);
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

fn remove_from_selections(set: &mut SelectionSet, omitted: &OmittedVariables) {
    for selection in &mut set.items {
        match &mut selection.node {
            Selection::Field(field) => {
                let field = &mut field.node;
                remove_from_arguments(&mut field.arguments, omitted);
                remove_from_directives(&mut field.directives, omitted);
                remove_from_selections(&mut field.selection_set.node, omitted);
            }
            Selection::InlineFragment(inline) => {
                remove_from_directives(&mut inline.node.directives, omitted);
                remove_from_selections(&mut inline.node.selection_set.node, omitted);
            }
            Selection::FragmentSpread(spread) => {
                remove_from_directives(&mut spread.node.directives, omitted);
            }
        }
    }
}

fn remove_from_directives(directives: &mut [Positioned<Directive>], omitted: &OmittedVariables) {
    for directive in directives {
        remove_from_arguments(&mut directive.node.arguments, omitted);
    }
}

fn remove_from_arguments(
    arguments: &mut Vec<(Positioned<Name>, Positioned<InputValue>)>,
    omitted: &OmittedVariables,
) {
    arguments.retain(|(_, value)| !omitted.matches(&value.node));
    for (_, value) in arguments {
        remove_from_value(&mut value.node, omitted);
    }
}

fn remove_from_value(value: &mut InputValue, omitted: &OmittedVariables) {
    match value {
        InputValue::Object(fields) => {
            let given = std::mem::take(fields).into_iter();
            *fields = given
                .filter(|(_, value)| !omitted.matches(value))
                .collect::<IndexMap<_, _>>();
            fields
                .values_mut()
                .for_each(|value| remove_from_value(value, omitted));
        }
        InputValue::List(items) => {
            for item in items {
                // An item of a list cannot be omitted, so it becomes null.
                if omitted.matches(item) {
                    *item = InputValue::Null;
                }
                remove_from_value(item, omitted);
            }
        }
        _ => {}
    }
}
