//! The arguments that contain variables: whether the value of each one is valid for the type of the argument.
//!
//! This module repeats the engine's rule `ArgumentsOfCorrectType`, but only decides whether a value is valid. If a
//! value is invalid, the engine validates the document again and reports the error.

use async_graphql::{
    Name, Positioned, Value, Variables,
    indexmap::IndexMap,
    parser::types::{Directive, OperationType, Selection, SelectionSet},
    registry::{MetaInputValue, MetaType, MetaTypeName, Registry},
};
use async_graphql_value::Value as InputValue;

use super::super::{guard::CheckedDocument, variables::OmittedVariables};

/// An argument that contains a variable.
#[derive(Clone, Debug)]
pub struct VariableArgument {
    /// The type of the argument, as the schema writes it.
    declared: String,
    value: InputValue,
}

/// The argument contains a variable without a value, so the engine does not check the argument.
struct Unchecked;

impl VariableArgument {
    /// Whether the engine would accept the value of the argument.
    pub fn is_valid(
        &self,
        registry: &Registry,
        variables: &Variables,
        omitted: &OmittedVariables,
    ) -> bool {
        // Checked without a copy, because the variable may hold the rows of a bulk mutation.
        if let InputValue::Variable(name) = &self.value {
            return variables
                .get(name)
                .is_none_or(|value| is_valid(registry, &self.declared, value));
        }
        match substitute(&self.value, variables, omitted) {
            Ok(Some(value)) => is_valid(registry, &self.declared, &value),
            Ok(None) | Err(Unchecked) => true,
        }
    }

    /// The type of the argument, and its value as the document has it.
    pub fn parts(&self) -> (&str, &InputValue) {
        (&self.declared, &self.value)
    }
}

/// Replaces the variables in a value. In an object, a field whose value is an omitted variable is omitted. In a list,
/// an omitted variable becomes null (see `variables.rs`).
fn substitute(
    value: &InputValue,
    variables: &Variables,
    omitted: &OmittedVariables,
) -> Result<Option<Value>, Unchecked> {
    let value = match value {
        InputValue::Variable(name) => match variables.get(name) {
            Some(value) => value.clone(),
            None if omitted.contains(name) => return Ok(None),
            None => return Err(Unchecked),
        },
        InputValue::List(items) => {
            let items = items.iter().map(|item| {
                let item = substitute(item, variables, omitted)?;
                Ok(item.unwrap_or(Value::Null))
            });
            Value::List(items.collect::<Result<_, _>>()?)
        }
        InputValue::Object(fields) => {
            let mut given = IndexMap::with_capacity(fields.len());
            for (name, value) in fields {
                if let Some(value) = substitute(value, variables, omitted)? {
                    given.insert(name.clone(), value);
                }
            }
            Value::Object(given)
        }
        literal => literal.clone().into_const().ok_or(Unchecked)?,
    };
    Ok(Some(value))
}

/// Whether a value is valid for a type, as the engine's `is_valid_input_value` decides.
fn is_valid(registry: &Registry, declared: &str, value: &Value) -> bool {
    match MetaTypeName::create(declared) {
        MetaTypeName::NonNull(inner) => *value != Value::Null && is_valid(registry, inner, value),
        MetaTypeName::List(inner) => match value {
            Value::Null => true,
            Value::List(items) => items.iter().all(|item| is_valid(registry, inner, item)),
            single => is_valid(registry, inner, single),
        },
        MetaTypeName::Named(_) if *value == Value::Null => true,
        MetaTypeName::Named(name) => {
            let declared = registry.types.get(name);
            declared.is_some_and(|declared| is_valid_named(registry, declared, value))
        }
    }
}

fn is_valid_named(registry: &Registry, declared: &MetaType, value: &Value) -> bool {
    match declared {
        MetaType::Scalar { is_valid, .. } => is_valid.as_ref().is_none_or(|check| check(value)),
        MetaType::Enum { enum_values, .. } => match value {
            Value::Enum(name) => enum_values.contains_key(name.as_str()),
            Value::String(name) => enum_values.contains_key(name),
            _ => false,
        },
        MetaType::InputObject {
            input_fields,
            oneof,
            ..
        } => match value {
            Value::Object(given) => {
                (!oneof || (given.len() == 1 && given[0] != Value::Null))
                    && given
                        .keys()
                        .all(|name| input_fields.contains_key(name.as_str()))
                    && has_valid_fields(registry, input_fields, given)
            }
            // The validation of the engine accepts such a value. The engine rejects the value when it reads the
            // argument.
            _ => true,
        },
        _ => true,
    }
}

fn has_valid_fields(
    registry: &Registry,
    fields: &IndexMap<String, MetaInputValue>,
    given: &IndexMap<Name, Value>,
) -> bool {
    fields.values().all(|field| match given.get(&*field.name) {
        Some(value) => is_valid(registry, &field.ty, value),
        None => !field.ty.ends_with('!') || field.default_value.is_some(),
    })
}

/// Collects the arguments that contain variables from the selected operation and from all fragments. The engine does
/// not check the arguments of other operations.
pub fn collect(registry: &Registry, checked: &CheckedDocument) -> Vec<VariableArgument> {
    let mut collector = Collector {
        registry,
        found: Vec::new(),
    };
    let document = &checked.document;
    for fragment in document.fragments.values() {
        let fragment = &fragment.node;
        let on = fragment.type_condition.node.on.node.as_str();
        collector.directives(&fragment.directives);
        collector.selection_set(registry.types.get(on), &fragment.selection_set.node);
    }
    for (name, operation) in document.operations.iter() {
        if name == checked.operation_name.as_ref() {
            let operation = &operation.node;
            let root = match operation.ty {
                OperationType::Query => Some(&registry.query_type),
                OperationType::Mutation => registry.mutation_type.as_ref(),
                OperationType::Subscription => registry.subscription_type.as_ref(),
            };
            let root = root.and_then(|root| registry.types.get(root));
            collector.directives(&operation.directives);
            collector.selection_set(root, &operation.selection_set.node);
        }
    }
    collector.found.shrink_to_fit();
    collector.found
}

struct Collector<'r> {
    registry: &'r Registry,
    found: Vec<VariableArgument>,
}

impl<'r> Collector<'r> {
    fn selection_set(&mut self, parent: Option<&'r MetaType>, set: &SelectionSet) {
        for selection in &set.items {
            match &selection.node {
                Selection::Field(field) => {
                    let field = &field.node;
                    let declared = parent.and_then(|of| of.field_by_name(&field.name.node));
                    self.arguments(declared.map(|field| &field.args), &field.arguments);
                    self.directives(&field.directives);
                    let inner =
                        declared.and_then(|field| self.registry.concrete_type_by_name(&field.ty));
                    self.selection_set(inner, &field.selection_set.node);
                }
                Selection::InlineFragment(inline) => {
                    let inline = &inline.node;
                    let of = match &inline.type_condition {
                        Some(condition) => self.registry.types.get(condition.node.on.node.as_str()),
                        None => parent,
                    };
                    self.directives(&inline.directives);
                    self.selection_set(of, &inline.selection_set.node);
                }
                Selection::FragmentSpread(spread) => self.directives(&spread.node.directives),
            }
        }
    }

    fn directives(&mut self, directives: &[Positioned<Directive>]) {
        for directive in directives {
            let directive = &directive.node;
            let declared = self.registry.directives.get(directive.name.node.as_str());
            self.arguments(declared.map(|one| &one.args), &directive.arguments);
        }
    }

    fn arguments(
        &mut self,
        declared: Option<&IndexMap<String, MetaInputValue>>,
        given: &[(Positioned<Name>, Positioned<InputValue>)],
    ) {
        for (name, value) in given {
            let declared = declared.and_then(|declared| declared.get(name.node.as_str()));
            if let Some(declared) = declared
                && contains_variable(&value.node)
            {
                self.found.push(VariableArgument {
                    declared: declared.ty.clone(),
                    value: value.node.clone(),
                });
            }
        }
    }
}

fn contains_variable(value: &InputValue) -> bool {
    match value {
        InputValue::Variable(_) => true,
        InputValue::List(items) => items.iter().any(contains_variable),
        InputValue::Object(fields) => fields.values().any(contains_variable),
        _ => false,
    }
}
