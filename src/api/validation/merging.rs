//! Overlapping fields can be merged (specification, 5.3.2), and a subscription has one root field (5.2.4.1).
//!
//! The specification compares each pair of fields. This module compares the fields of a response object in groups
//! instead, so the work is linear in the size of the expanded document, which the guard limits. All fields that are
//! merged into one value form a group, and their selection sets are merged into the next level:
//!
//! - The values of all fields with the same response key must have the same shape.
//! - Fields with the same response key that can occur in the same object must have the same name and the same
//!   arguments. Two fields can occur in the same object unless their parents are different object types.
//!
//! A group that was checked before is not checked again: fragments can lead to the same group in several ways. A field
//! of an interface can occur in the groups of several object types, so the number of compared fields is limited, too.

use std::collections::{HashMap, HashSet};

use async_graphql::{
    Positioned,
    indexmap::IndexMap,
    parser::types::{
        Directive, ExecutableDocument, Field, OperationDefinition, OperationType, Selection,
        SelectionSet,
    },
    registry::{MetaType, Registry},
};
use async_graphql_value::Value as Literal;

use super::{
    Errors,
    definitions::{TYPENAME_TYPE, root_type},
    values::item_type,
};
use crate::api::schema::named_type;

/// The maximum number of compared fields: twenty times the fields of the largest document that the guard accepts.
const MAX_WORK: u64 = 100_000;

/// A field and the type that it is selected on.
#[derive(Clone, Copy)]
struct SelectedField<'d> {
    parent: Option<&'d MetaType>,
    field: &'d Positioned<Field>,
}

/// The addresses of the fields of a group. A field of the document always has the same parent.
type GroupKey = Vec<usize>;

/// Compares the fields of a document.
pub(super) struct FieldMerger<'d, 'e> {
    registry: &'d Registry,
    document: &'d ExecutableDocument,
    errors: &'e mut Errors,
    same_shapes: HashSet<GroupKey>,
    same_fields: HashSet<GroupKey>,
    /// The number of compared fields.
    pub(super) work: u64,
    /// Whether the work has reached its limit.
    is_exhausted: bool,
}

impl<'d, 'e> FieldMerger<'d, 'e> {
    pub(super) fn new(
        registry: &'d Registry,
        document: &'d ExecutableDocument,
        errors: &'e mut Errors,
    ) -> Self {
        Self {
            registry,
            document,
            errors,
            same_shapes: HashSet::new(),
            same_fields: HashSet::new(),
            work: 0,
            is_exhausted: false,
        }
    }

    pub(super) fn check(&mut self) {
        let mut operations: Vec<_> = self.document.operations.iter().collect();
        operations.sort_unstable_by_key(|(_, operation)| operation.pos);
        for (_, operation) in operations {
            let root = root_type(self.registry, operation.node.ty);
            let fields = self.collect([(root, &operation.node.selection_set.node)]);
            if operation.node.ty == OperationType::Subscription {
                self.single_root_field(operation, &fields);
            }
            self.same_fields(&fields);
            // Otherwise, most conflicts would be reported twice.
            if self.errors.0.is_empty() {
                self.same_shapes(&fields);
            }
        }
    }

    /// The fields of several selection sets of one object, with fragments expanded, in the order of the document.
    fn collect(
        &self,
        sets: impl IntoIterator<Item = (Option<&'d MetaType>, &'d SelectionSet)>,
    ) -> Vec<SelectedField<'d>> {
        let (mut found, mut spread) = (Vec::new(), HashSet::new());
        let mut stack: Vec<_> = sets.into_iter().collect();
        while let Some((parent, set)) = stack.pop() {
            for selection in &set.items {
                match &selection.node {
                    Selection::Field(field) => found.push(SelectedField { parent, field }),
                    Selection::InlineFragment(inline) => {
                        let on = match &inline.node.type_condition {
                            Some(on) => self.registry.types.get(on.node.on.node.as_str()),
                            None => parent,
                        };
                        stack.push((on, &inline.node.selection_set.node));
                    }
                    Selection::FragmentSpread(one) => {
                        let name = &one.node.fragment_name.node;
                        if let Some(fragment) = self.document.fragments.get(name)
                            && spread.insert(name)
                        {
                            let on = fragment.node.type_condition.node.on.node.as_str();
                            let on = self.registry.types.get(on);
                            stack.push((on, &fragment.node.selection_set.node));
                        }
                    }
                }
            }
        }
        found.sort_by_key(|selected| selected.field.pos);
        found
    }

    /// The fields in the selection sets of these fields.
    fn collect_below(&self, fields: &[SelectedField<'d>]) -> Vec<SelectedField<'d>> {
        let sets = fields.iter().map(|selected| {
            let of = declared_type(selected);
            let of = of.and_then(|of| self.registry.types.get(named_type(of)));
            (of, &selected.field.node.selection_set.node)
        });
        self.collect(sets)
    }

    fn same_shapes(&mut self, fields: &[SelectedField<'d>]) {
        for (key, group) in by_response_key(fields) {
            if !self.same_shapes.insert(group_key(&group)) || !self.count(&group) {
                continue;
            }
            let mut known = group
                .iter()
                .filter_map(|one| Some((one, declared_type(one)?)));
            let first = known.next();
            let other = first.and_then(|(_, first)| {
                known.find(|(_, other)| !self.have_same_shape(first, other))
            });
            if let (Some((first, first_type)), Some((other, other_type))) = (first, other) {
                let message = format!(
                    "the fields with the response key `{key}` conflict: their types are {first_type} and {other_type}. Use different aliases"
                );
                self.errors.add([first.field.pos, other.field.pos], message);
                continue;
            }
            let below = self.collect_below(&group);
            if !below.is_empty() {
                self.same_shapes(&below);
            }
        }
    }

    /// Counts the fields of a group. Returns false if no more fields should be compared.
    fn count(&mut self, group: &[SelectedField<'d>]) -> bool {
        self.work += group.len() as u64;
        if self.work > MAX_WORK && !self.errors.is_full() && !self.is_exhausted {
            self.is_exhausted = true;
            let position = group.first().map(|first| first.field.pos);
            let message = "the fields of the document overlap in too many ways";
            self.errors.add(Vec::from_iter(position), message);
        }
        !self.errors.is_full() && !self.is_exhausted
    }

    /// Whether the values of two types can be merged, apart from their fields.
    fn have_same_shape(&self, one: &str, other: &str) -> bool {
        let (one_nullable, other_nullable) =
            (one.trim_end_matches('!'), other.trim_end_matches('!'));
        if (one_nullable == one) != (other_nullable == other) {
            return false;
        }
        match (item_type(one_nullable), item_type(other_nullable)) {
            (Some(one), Some(other)) => self.have_same_shape(one, other),
            (None, None) if one_nullable == other_nullable => true,
            (None, None) => [one_nullable, other_nullable].iter().all(|name| {
                let of = self.registry.types.get(*name);
                of.is_some_and(MetaType::is_composite)
            }),
            _ => false,
        }
    }

    fn same_fields(&mut self, fields: &[SelectedField<'d>]) {
        for (key, group) in by_response_key(fields) {
            for group in by_object_type(&group) {
                if !self.same_fields.insert(group_key(&group)) || !self.count(&group) {
                    continue;
                }
                let [first, others @ ..] = &group[..] else {
                    continue;
                };
                let conflict = others.iter().find_map(|other| {
                    Some((other, conflict(&first.field.node, &other.field.node)?))
                });
                if let Some((other, reason)) = conflict {
                    let message = format!(
                        "the fields with the response key `{key}` conflict: {reason}. Use different aliases"
                    );
                    self.errors.add([first.field.pos, other.field.pos], message);
                    continue;
                }
                let below = self.collect_below(&group);
                if !below.is_empty() {
                    self.same_fields(&below);
                }
            }
        }
    }

    /// A subscription has exactly one root field, which is not an introspection field, and whose presence does not
    /// depend on a variable.
    fn single_root_field(
        &mut self,
        operation: &'d Positioned<OperationDefinition>,
        fields: &[SelectedField<'d>],
    ) {
        let is_conditional = |directives: &[Positioned<Directive>]| {
            let mut names = directives.iter().map(|one| one.node.name.node.as_str());
            names.any(|name| name == "skip" || name == "include")
        };
        let message = if by_response_key(fields).len() != 1 {
            "a subscription must have exactly one root field"
        } else if fields[0].field.node.name.node.starts_with("__") {
            "the root field of a subscription must not be an introspection field"
        } else if fields
            .iter()
            .any(|one| is_conditional(&one.field.node.directives))
        {
            "the root field of a subscription must not have `@skip` or `@include`"
        } else {
            return;
        };
        self.errors.add([operation.pos], message);
    }
}

/// The type of a field; `None` if the field does not exist.
fn declared_type<'d>(selected: &SelectedField<'d>) -> Option<&'d str> {
    let name = selected.field.node.name.node.as_str();
    if name == "__typename" {
        return Some(TYPENAME_TYPE);
    }
    let declared = selected.parent?.field_by_name(name)?;
    Some(&declared.ty)
}

fn group_key(fields: &[SelectedField<'_>]) -> GroupKey {
    let fields = fields.iter();
    let mut key: GroupKey = fields
        .map(|selected| std::ptr::from_ref(selected.field).addr())
        .collect();
    key.sort_unstable();
    key.dedup();
    key
}

fn by_response_key<'d>(fields: &[SelectedField<'d>]) -> IndexMap<&'d str, Vec<SelectedField<'d>>> {
    let mut groups: IndexMap<&str, Vec<_>> = IndexMap::new();
    for selected in fields {
        let key = selected.field.node.response_key().node.as_str();
        groups.entry(key).or_default().push(*selected);
    }
    groups
}

/// The fields that can occur in the same object, for each object type that a field is selected on.
fn by_object_type<'d>(fields: &[SelectedField<'d>]) -> Vec<Vec<SelectedField<'d>>> {
    let mut of_objects: IndexMap<&str, Vec<_>> = IndexMap::new();
    let mut of_any_object = Vec::new();
    for selected in fields {
        match selected.parent {
            Some(parent @ MetaType::Object { .. }) => {
                of_objects.entry(parent.name()).or_default().push(*selected);
            }
            _ => of_any_object.push(*selected),
        }
    }
    if of_objects.is_empty() {
        return vec![of_any_object];
    }
    let groups = of_objects.into_values();
    groups
        .map(|mut group| {
            group.extend(&of_any_object);
            group
        })
        .collect()
}

/// Why two fields cannot be merged.
fn conflict(one: &Field, other: &Field) -> Option<String> {
    if one.name.node != other.name.node {
        let (one, other) = (&one.name.node, &other.name.node);
        return Some(format!("`{one}` and `{other}` are different fields"));
    }
    let others = other.arguments.iter();
    let others: HashMap<&str, &Literal> = others
        .map(|(name, value)| (name.node.as_str(), &value.node))
        .collect();
    let is_same = one.arguments.len() == other.arguments.len()
        && one
            .arguments
            .iter()
            .all(|(name, value)| others.get(name.node.as_str()) == Some(&&value.node));
    (!is_same).then(|| "they have different arguments".to_owned())
}
