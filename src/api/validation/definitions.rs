//! The rules for a single definition: its fields, fragments, arguments, directives and variable definitions.

use std::collections::HashSet;

use async_graphql::{
    Name, Pos, Positioned,
    indexmap::IndexMap,
    parser::types::{
        BaseType, Directive, ExecutableDocument, Field, FragmentDefinition, OperationDefinition,
        OperationType, Selection, SelectionSet, Type, TypeCondition, VariableDefinition,
    },
    registry::{__DirectiveLocation as DirectiveLocation, MetaInputValue, MetaType, Registry},
};
use async_graphql_value::Value as Literal;

use super::{
    Errors,
    usages::DefinitionUses,
    values::{Location, Origin, ValueChecker},
};
use crate::api::schema::named_type;

/// The type of the field `__typename`, which every object, interface and union has.
pub(super) const TYPENAME_TYPE: &str = "String!";

/// What the definitions of a document use.
#[derive(Debug, Default)]
pub(super) struct DocumentUses<'d> {
    /// The operations and what they use, in the order of the document.
    pub(super) operations: Vec<(
        Option<&'d Name>,
        &'d Positioned<OperationDefinition>,
        DefinitionUses<'d>,
    )>,
    /// The fragments and what they use, in the order of the document.
    pub(super) fragments: IndexMap<&'d str, (Pos, DefinitionUses<'d>)>,
}

/// Visits each definition of a document once.
pub(super) struct Visitor<'d, 'e> {
    registry: &'d Registry,
    document: &'d ExecutableDocument,
    errors: &'e mut Errors,
    /// What the visited definition uses.
    uses: DefinitionUses<'d>,
}

/// The type of an operation's root object.
pub(super) fn root_type(registry: &Registry, operation: OperationType) -> Option<&MetaType> {
    let name = match operation {
        OperationType::Query => Some(&registry.query_type),
        OperationType::Mutation => registry.mutation_type.as_ref(),
        OperationType::Subscription => registry.subscription_type.as_ref(),
    };
    registry.types.get(name?)
}

impl<'d, 'e> Visitor<'d, 'e> {
    pub(super) fn new(
        registry: &'d Registry,
        document: &'d ExecutableDocument,
        errors: &'e mut Errors,
    ) -> Self {
        Self {
            registry,
            document,
            errors,
            uses: DefinitionUses::default(),
        }
    }

    /// Visits all definitions. Returns what they use.
    pub(super) fn visit(mut self) -> DocumentUses<'d> {
        let document = self.document;
        let mut uses = DocumentUses::default();
        let mut fragments: Vec<_> = document.fragments.iter().collect();
        fragments.sort_unstable_by_key(|(_, fragment)| fragment.pos);
        for (name, fragment) in fragments {
            self.fragment(name, fragment);
            let of_fragment = (fragment.pos, std::mem::take(&mut self.uses));
            uses.fragments.insert(name.as_str(), of_fragment);
        }
        let mut operations: Vec<_> = document.operations.iter().collect();
        operations.sort_unstable_by_key(|(_, operation)| operation.pos);
        for (name, operation) in operations {
            self.operation(operation);
            let of_operation = std::mem::take(&mut self.uses);
            uses.operations.push((name, operation, of_operation));
        }
        uses
    }

    fn operation(&mut self, operation: &'d Positioned<OperationDefinition>) {
        let (position, operation) = (operation.pos, &operation.node);
        let root = root_type(self.registry, operation.ty);
        if root.is_none() {
            let message = format!("this API does not have {}", plural(operation.ty));
            self.errors.add([position], message);
        }
        let mut names = HashSet::new();
        for definition in &operation.variable_definitions {
            self.variable_definition(definition);
            let name = &definition.node.name;
            if !names.insert(&name.node) {
                let message = format!("the variable ${} is defined several times", name.node);
                self.errors.add([definition.pos], message);
            }
        }
        let location = match operation.ty {
            OperationType::Query => DirectiveLocation::QUERY,
            OperationType::Mutation => DirectiveLocation::MUTATION,
            OperationType::Subscription => DirectiveLocation::SUBSCRIPTION,
        };
        self.directives(&operation.directives, location);
        self.selection_set(root, &operation.selection_set.node);
    }

    fn variable_definition(&mut self, definition: &'d Positioned<VariableDefinition>) {
        let definition = &definition.node;
        self.directives(
            &definition.directives,
            DirectiveLocation::VARIABLE_DEFINITION,
        );
        let (name, declared) = (&definition.name.node, &definition.var_type);
        match self.registry.types.get(base_name(&declared.node)) {
            None => {
                let message = format!("the type {} does not exist", base_name(&declared.node));
                self.errors.add([declared.pos], message);
            }
            Some(of) if !of.is_input() => {
                let message = format!(
                    "the variable ${name} cannot have the type {}, which is an output type",
                    declared.node
                );
                self.errors.add([declared.pos], message);
            }
            Some(_) => {
                if let Some(default) = &definition.default_value {
                    let declared = declared.node.to_string();
                    let mut checker = ValueChecker::new(
                        self.registry,
                        Origin::Document,
                        name,
                        default.pos,
                        self.errors,
                    );
                    checker.check(Some(Location::of(&declared)), &default.node);
                }
            }
        }
    }

    fn fragment(&mut self, name: &Name, fragment: &'d Positioned<FragmentDefinition>) {
        if name == "on" {
            self.errors
                .add([fragment.pos], "a fragment cannot have the name `on`");
        }
        let fragment = &fragment.node;
        let on = self.type_condition(&fragment.type_condition);
        self.directives(&fragment.directives, DirectiveLocation::FRAGMENT_DEFINITION);
        self.selection_set(on, &fragment.selection_set.node);
    }

    /// Returns the type of a fragment's type condition, if it is a type with fields.
    fn type_condition(&mut self, condition: &Positioned<TypeCondition>) -> Option<&'d MetaType> {
        let on = &condition.node.on;
        let of = self.registry.types.get(on.node.as_str());
        let message = match of {
            None => format!("the type {} does not exist", on.node),
            Some(of) if !of.is_composite() => {
                format!(
                    "a fragment cannot be on the type {}, which does not have fields",
                    on.node
                )
            }
            Some(_) => return of,
        };
        self.errors.add([on.pos], message);
        None
    }

    fn selection_set(&mut self, parent: Option<&'d MetaType>, set: &'d SelectionSet) {
        for selection in &set.items {
            match &selection.node {
                Selection::Field(field) => self.field(parent, field),
                Selection::InlineFragment(inline) => {
                    let (position, inline) = (inline.pos, &inline.node);
                    self.directives(&inline.directives, DirectiveLocation::INLINE_FRAGMENT);
                    let on = match &inline.type_condition {
                        Some(condition) => self.type_condition(condition),
                        None => parent,
                    };
                    self.possible_spread(parent, on, position, "the fragment");
                    self.selection_set(on, &inline.selection_set.node);
                }
                Selection::FragmentSpread(spread) => {
                    let (position, spread) = (spread.pos, &spread.node);
                    let name = &spread.fragment_name;
                    self.directives(&spread.directives, DirectiveLocation::FRAGMENT_SPREAD);
                    self.uses.spreads.push(name.node.as_str());
                    let Some(fragment) = self.document.fragments.get(&name.node) else {
                        let message = format!("the fragment {} is not defined", name.node);
                        self.errors.add([name.pos], message);
                        continue;
                    };
                    let on = fragment.node.type_condition.node.on.node.as_str();
                    let on = self.registry.types.get(on).filter(|of| of.is_composite());
                    let shown = format!("the fragment {}", name.node);
                    self.possible_spread(parent, on, position, &shown);
                }
            }
        }
    }

    fn possible_spread(
        &mut self,
        parent: Option<&MetaType>,
        on: Option<&MetaType>,
        position: Pos,
        fragment: &str,
    ) {
        if let (Some(parent), Some(on)) = (parent, on)
            && !parent.type_overlap(on)
        {
            let (parent, on) = (parent.name(), on.name());
            let message = format!("{fragment} is on {on}, which {parent} can never be");
            self.errors.add([position], message);
        }
    }

    fn field(&mut self, parent: Option<&'d MetaType>, field: &'d Positioned<Field>) {
        let (position, field) = (field.pos, &field.node);
        let name = field.name.node.as_str();
        let is_typename = name == "__typename";
        let declared = parent.and_then(|parent| parent.field_by_name(name));
        if let Some(parent) = parent
            && declared.is_none()
            && !is_typename
        {
            let message = format!("the type {} does not have a field `{name}`", parent.name());
            self.errors.add([position], message);
        }
        let shown = || format!("the field `{name}`");
        let arguments = declared.map(|declared| &declared.args);
        self.arguments(arguments, &field.arguments, position, shown);
        if is_typename && parent.is_some() {
            self.unknown_arguments(&IndexMap::new(), &field.arguments, shown);
        }
        self.directives(&field.directives, DirectiveLocation::FIELD);
        let of = match declared {
            Some(declared) => self.registry.types.get(named_type(&declared.ty)),
            None if is_typename => self.registry.types.get(named_type(TYPENAME_TYPE)),
            None => None,
        };
        let set = &field.selection_set.node;
        if let (Some(of), Some(_)) = (of, parent) {
            if of.is_leaf() && !set.items.is_empty() {
                let message = format!(
                    "the field `{name}` must not have a selection set: {} does not have fields",
                    of.name()
                );
                self.errors.add([position], message);
            } else if !of.is_leaf() && set.items.is_empty() {
                let message = format!(
                    "the field `{name}` must have a selection set: {} has fields",
                    of.name()
                );
                self.errors.add([position], message);
            }
        }
        self.selection_set(of.filter(|of| of.is_composite()), set);
    }

    fn directives(&mut self, directives: &'d [Positioned<Directive>], location: DirectiveLocation) {
        let mut names = HashSet::new();
        for directive in directives {
            let (position, directive) = (directive.pos, &directive.node);
            let name = directive.name.node.as_str();
            let declared = self.registry.directives.get(name);
            match declared {
                None => {
                    let message = format!("the directive @{name} does not exist");
                    self.errors.add([position], message);
                }
                Some(declared) if !declared.locations.contains(&location) => {
                    let message = format!(
                        "the directive @{name} cannot be used on {}",
                        described(location)
                    );
                    self.errors.add([position], message);
                }
                Some(_) => {}
            }
            if declared.is_some_and(|declared| !declared.is_repeatable) && !names.insert(name) {
                let message = format!("the directive @{name} can be used only once here");
                self.errors.add([position], message);
            }
            let arguments = declared.map(|declared| &declared.args);
            let shown = || format!("the directive @{name}");
            self.arguments(arguments, &directive.arguments, position, shown);
        }
    }

    /// Checks the arguments of a field or a directive. `declared` is `None` if the field or directive does not exist.
    fn arguments(
        &mut self,
        declared: Option<&'d IndexMap<String, MetaInputValue>>,
        given: &'d [(Positioned<Name>, Positioned<Literal>)],
        position: Pos,
        shown: impl Fn() -> String,
    ) {
        let mut names = HashSet::new();
        for (name, value) in given {
            if !names.insert(name.node.as_str()) {
                let message = format!("{} has several arguments named `{}`", shown(), name.node);
                self.errors.add([name.pos], message);
            }
            let argument = declared.and_then(|declared| declared.get(name.node.as_str()));
            let location = argument.map(Location::input);
            let mut checker = ValueChecker::new(
                self.registry,
                Origin::Document,
                &name.node,
                value.pos,
                self.errors,
            );
            checker.check(location, &value.node);
            self.uses.variables.append(&mut checker.variables);
        }
        let Some(declared) = declared else {
            return;
        };
        self.unknown_arguments(declared, given, &shown);
        for argument in declared.values() {
            if Location::input(argument).is_required() && !names.contains(argument.name.as_str()) {
                let message = format!("{} requires the argument `{}`", shown(), argument.name);
                self.errors.add([position], message);
            }
        }
    }

    fn unknown_arguments(
        &mut self,
        declared: &IndexMap<String, MetaInputValue>,
        given: &[(Positioned<Name>, Positioned<Literal>)],
        shown: impl Fn() -> String,
    ) {
        for (name, _) in given {
            if !declared.contains_key(name.node.as_str()) {
                let message = format!("{} does not have an argument `{}`", shown(), name.node);
                self.errors.add([name.pos], message);
            }
        }
    }
}

fn base_name(declared: &Type) -> &str {
    let mut base = &declared.base;
    loop {
        match base {
            BaseType::Named(name) => return name,
            BaseType::List(inner) => base = &inner.base,
        }
    }
}

fn plural(operation: OperationType) -> &'static str {
    match operation {
        OperationType::Query => "queries",
        OperationType::Mutation => "mutations",
        OperationType::Subscription => "subscriptions",
    }
}

fn described(location: DirectiveLocation) -> &'static str {
    match location {
        DirectiveLocation::QUERY => "a query",
        DirectiveLocation::MUTATION => "a mutation",
        DirectiveLocation::SUBSCRIPTION => "a subscription",
        DirectiveLocation::FIELD => "a field",
        DirectiveLocation::FRAGMENT_DEFINITION => "a fragment",
        DirectiveLocation::FRAGMENT_SPREAD => "a fragment spread",
        DirectiveLocation::INLINE_FRAGMENT => "an inline fragment",
        DirectiveLocation::VARIABLE_DEFINITION => "a variable definition",
        _ => "a definition of the schema",
    }
}
