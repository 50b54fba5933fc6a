//! The rules for variables and fragments across definitions: an operation uses the variables of every fragment that it
//! spreads (specification, 5.5.1.4 and 5.8).

use std::collections::{HashMap, HashSet};

use async_graphql::{
    Name, Pos, Positioned,
    parser::types::{BaseType, OperationDefinition, Type, VariableDefinition},
};

use super::{
    Errors,
    definitions::DocumentUses,
    values::{Location, item_type},
};

/// What one definition uses.
#[derive(Debug, Default)]
pub(super) struct DefinitionUses<'d> {
    /// The names of the spread fragments.
    pub(super) spreads: Vec<&'d str>,
    /// The variables in arguments.
    pub(super) variables: Vec<VariableUse<'d>>,
}

/// A variable in an argument.
#[derive(Clone, Copy, Debug)]
pub(super) struct VariableUse<'d> {
    pub(super) name: &'d Name,
    /// The position of the argument's value.
    pub(super) position: Pos,
    /// `None` if the argument or the input field does not exist.
    pub(super) location: Option<Location<'d>>,
}

/// Checks the variables and the fragments of a document.
pub(super) fn check(uses: &DocumentUses<'_>, errors: &mut Errors) {
    let mut used_fragments = HashSet::new();
    for (name, operation, of_operation) in &uses.operations {
        let spread = spread_fragments(of_operation, uses);
        let of_fragments = spread.iter().filter_map(|name| uses.fragments.get(name));
        let variables = of_fragments.flat_map(|(_, uses)| &uses.variables);
        let variables = of_operation.variables.iter().chain(variables);
        check_variables(*name, operation, variables, errors);
        used_fragments.extend(spread);
    }
    for (name, (position, _)) in &uses.fragments {
        if !used_fragments.contains(name) {
            let message = format!("the fragment {name} is never used");
            errors.add([*position], message);
        }
    }
}

/// The fragments that an operation spreads, directly or through other fragments.
fn spread_fragments<'d>(operation: &DefinitionUses<'d>, uses: &DocumentUses<'d>) -> Vec<&'d str> {
    let (mut found, mut order) = (HashSet::new(), Vec::new());
    let mut stack = operation.spreads.clone();
    while let Some(name) = stack.pop() {
        if found.insert(name)
            && let Some((_, of_fragment)) = uses.fragments.get(name)
        {
            order.push(name);
            stack.extend(&of_fragment.spreads);
        }
    }
    order
}

fn check_variables<'d>(
    name: Option<&Name>,
    operation: &'d Positioned<OperationDefinition>,
    variables: impl Iterator<Item = &'d VariableUse<'d>>,
    errors: &mut Errors,
) {
    let definitions = &operation.node.variable_definitions;
    let defined: HashMap<&Name, &Positioned<VariableDefinition>> = definitions
        .iter()
        .map(|definition| (&definition.node.name.node, definition))
        .collect();
    let shown = || name.map_or_else(String::new, |name| format!(" in the operation {name}"));
    let mut used = HashSet::new();
    for variable in variables {
        if errors.is_full() {
            return;
        }
        let Some(definition) = defined.get(variable.name) else {
            let message = format!("the variable ${} is not defined{}", variable.name, shown());
            errors.add([variable.position, operation.pos], message);
            continue;
        };
        used.insert(variable.name);
        let Some(location) = variable.location else {
            continue;
        };
        let declared = &definition.node.var_type.node;
        if !is_allowed(&definition.node, location) {
            let message = format!(
                "the variable ${} of the type {declared} cannot be used where the type {} is expected",
                variable.name, location.declared
            );
            errors.add([variable.position, definition.pos], message);
        } else if location.is_one_of && declared.nullable {
            let message = format!(
                "the variable ${} must have a type that is not null: exactly one field of the input object has a value",
                variable.name
            );
            errors.add([variable.position, definition.pos], message);
        }
    }
    for definition in definitions {
        let variable = &definition.node.name.node;
        if !used.contains(variable) {
            let message = format!("the variable ${variable} is never used{}", shown());
            errors.add([definition.pos], message);
        }
    }
}

/// Whether a variable can be used in a location (specification, `IsVariableUsageAllowed`).
fn is_allowed(definition: &VariableDefinition, location: Location<'_>) -> bool {
    let declared = &definition.var_type.node;
    let Some(nullable) = location.declared.strip_suffix('!') else {
        return is_compatible(declared, location.declared);
    };
    if !declared.nullable {
        return is_compatible(declared, location.declared);
    }
    let default = definition.default_value.as_ref();
    let has_default = default.is_some_and(|default| default.node != async_graphql::Value::Null);
    (has_default || location.has_default) && is_compatible(declared, nullable)
}

/// Whether every value of a variable's type is a value of the type of a location (specification, `AreTypesCompatible`).
fn is_compatible(declared: &Type, expected: &str) -> bool {
    let expected = match expected.strip_suffix('!') {
        Some(_) if declared.nullable => return false,
        Some(nullable) => nullable,
        None => expected,
    };
    match (&declared.base, item_type(expected)) {
        (BaseType::List(declared), Some(expected)) => is_compatible(declared, expected),
        (BaseType::Named(declared), None) => declared == expected,
        _ => false,
    }
}
