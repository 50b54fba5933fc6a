//! Finds out from the selection sets of an operation which columns it needs.
//!
//! The invariant: **every executed field gets the columns that it needs.** The columns of an entity are the union over
//! the whole operation. A field counts as selected if it might be executed.

use std::collections::{HashMap, HashSet};

use async_graphql::{
    Name, Positioned, Value, Variables,
    parser::types::{
        Directive, ExecutableDocument, Field, OperationDefinition, OperationType, Selection,
        SelectionSet,
    },
    registry::{MetaType, Registry},
};
use async_graphql_value::Value as InputValue;

use super::{
    schema::{named_type, registry},
    variables::selected_operation,
};
use crate::{
    db::entity::{ColumnSet, Entity, EntityUse, NeededColumns},
    entities::entities,
    graphql::entity::Selectable,
};

/// The data that an operation selects.
#[derive(Clone, Debug)]
pub struct SelectedData {
    /// The columns that the fields of the operation need.
    pub columns: NeededColumns,
    /// Whether two root fields have the same response key, so that their values must merge.
    pub merges_root_fields: bool,
    /// Whether the selection depends on the variables: the condition of a `@skip` or `@include` is a variable.
    pub depends_on_variables: bool,
}

/// The types of the schema, with the columns that each field of an entity needs.
#[derive(Debug)]
pub struct SelectionTypes {
    types: HashMap<String, SelectionType>,
    query: String,
    mutation: String,
}

/// An object type, an interface or a union.
#[derive(Debug, Default)]
struct SelectionType {
    /// The table of an entity; `None` for other types.
    table: Option<&'static str>,
    /// The entities that an object of this type can be.
    entities: Vec<&'static str>,
    /// Whether the type is an interface or a union.
    is_abstract: bool,
    /// The table of the rows of a connection or an edge; `None` for other types.
    rows: Option<&'static str>,
    fields: HashMap<String, SelectionField>,
}

#[derive(Debug)]
struct SelectionField {
    /// The columns of the entity that the field needs.
    columns: ColumnSet,
    /// The type of the field, without list and non-null.
    type_name: String,
}

fn columns_of<E: Selectable>(field: &str) -> ColumnSet {
    if field == "id" {
        return ColumnSet::ID;
    }
    E::needed_columns(field).unwrap_or_else(|| {
        panic!(
            "BUG: neither entity! nor relations! has the field {field} of {}",
            E::TABLE
        )
    })
}

/// The table of an entity, and the function that returns the columns that a field of the entity needs.
type EntityColumns = (&'static str, fn(&str) -> ColumnSet);

macro_rules! entity_columns {
    (audited { $($audited:tt)+ } unaudited { $($unaudited:tt)+ }) => {
        entity_columns! { @each $($audited)+ $($unaudited)+ }
    };
    (@each $($(#[$doc:meta])* $row:ident: $id:ident = $prefix:literal in $table:literal of $slice:ident;)+) => {
        fn entity_columns(type_name: &str) -> Option<EntityColumns> {
            match type_name {
                $(stringify!($row) => {
                    Some((<crate::$slice::$row as Entity>::TABLE, columns_of::<crate::$slice::$row>))
                })+
                _ => None,
            }
        }
    };
}
entities!(entity_columns);

impl SelectionTypes {
    /// Reads the schema.
    #[must_use]
    pub fn new() -> Self {
        let registry = registry();
        let types = registry.types.iter();
        let types = types.map(|(name, of)| (name.clone(), selection_type(&registry, name, of)));
        Self {
            types: types.collect(),
            query: registry.query_type.clone(),
            mutation: registry.mutation_type.clone().unwrap_or_default(),
        }
    }

    /// Returns what the named operation of a document selects with these variables.
    #[must_use]
    pub fn select(
        &self,
        document: &ExecutableDocument,
        name: Option<&Name>,
        variables: &Variables,
    ) -> SelectedData {
        let Some(operation) = selected_operation(&document.operations, name) else {
            return SelectedData {
                columns: NeededColumns::ALL,
                merges_root_fields: true,
                depends_on_variables: false,
            };
        };
        let operation = &operation.node;
        let mut visitor = Visitor {
            types: &self.types,
            document,
            operation,
            variables,
            uses: HashMap::new(),
            root_keys: HashSet::new(),
            merges_root_fields: false,
            depends_on_variables: false,
        };
        let root = match operation.ty {
            OperationType::Mutation => &self.mutation,
            _ => &self.query,
        };
        visitor.set(root, None, &operation.selection_set.node, true);
        // A mutation fetches all columns, because its code may read every column of the rows that it writes.
        let columns = match operation.ty {
            OperationType::Mutation => NeededColumns::ALL,
            _ => NeededColumns::of(visitor.uses),
        };
        SelectedData {
            columns,
            merges_root_fields: visitor.merges_root_fields,
            depends_on_variables: visitor.depends_on_variables,
        }
    }
}

fn selection_type(registry: &Registry, name: &str, of: &MetaType) -> SelectionType {
    let entity = entity_columns(name);
    let table = |name: &str| entity_columns(name).map(|(table, _)| table);
    let fields = || of.fields().into_iter().flatten();
    let node = fields().find(|(name, _)| ["nodes", "node"].contains(&name.as_str()));
    let is_list = of.field_by_name("pageInfo").is_some() || of.field_by_name("cursor").is_some();
    let mut entities: Vec<_> = registry
        .types
        .keys()
        .filter(|member| of.is_possible_type(member))
        .filter_map(|member| table(member))
        .collect();
    entities.extend(table(name).filter(|table| !entities.contains(table)));
    SelectionType {
        table: table(name),
        entities,
        is_abstract: matches!(of, MetaType::Interface { .. } | MetaType::Union { .. }),
        rows: node
            .filter(|_| is_list)
            .and_then(|(_, field)| table(named_type(&field.ty))),
        fields: fields()
            .map(|(name, field)| {
                let columns = entity.map_or(ColumnSet::ID, |(_, columns)| columns(name));
                let type_name = named_type(&field.ty).to_owned();
                (name.clone(), SelectionField { columns, type_name })
            })
            .collect(),
    }
}

/// Walks the selection sets of an operation, with fragments expanded.
struct Visitor<'d> {
    types: &'d HashMap<String, SelectionType>,
    document: &'d ExecutableDocument,
    operation: &'d OperationDefinition,
    variables: &'d Variables,
    uses: HashMap<&'static str, EntityUse>,
    root_keys: HashSet<&'d Name>,
    merges_root_fields: bool,
    depends_on_variables: bool,
}

impl<'d> Visitor<'d> {
    /// Visits a selection set of a type. `rows` is the table of the list that a `pageInfo` belongs to.
    fn set(
        &mut self,
        type_name: &'d str,
        rows: Option<&'static str>,
        set: &'d SelectionSet,
        is_root: bool,
    ) {
        // The validation, which runs later, rejects unknown types and fields.
        let Some(of) = self.types.get(type_name) else {
            return;
        };
        for selection in &set.items {
            if self.is_skipped(selection.node.directives()) {
                continue;
            }
            match &selection.node {
                Selection::Field(field) => {
                    let key = &field.node.response_key().node;
                    if is_root && !self.root_keys.insert(key) {
                        self.merges_root_fields = true;
                    }
                    self.field(of, rows, &field.node);
                }
                Selection::InlineFragment(inline) => {
                    let condition = inline.node.type_condition.as_ref();
                    let on = condition.map_or(type_name, |on| on.node.on.node.as_str());
                    let on = self.narrow(type_name, on);
                    self.set(on, rows, &inline.node.selection_set.node, is_root);
                }
                Selection::FragmentSpread(spread) => {
                    let name = &spread.node.fragment_name.node;
                    if let Some(fragment) = self.document.fragments.get(name) {
                        let on = fragment.node.type_condition.node.on.node.as_str();
                        let on = self.narrow(type_name, on);
                        self.set(on, rows, &fragment.node.selection_set.node, is_root);
                    }
                }
            }
        }
    }

    /// The type of the objects in a fragment. An object type stays the same if the type condition is an interface or a
    /// union.
    fn narrow(&self, type_name: &'d str, on: &'d str) -> &'d str {
        let is_abstract = |name: &str| self.types.get(name).is_some_and(|of| of.is_abstract);
        if is_abstract(on) && !is_abstract(type_name) {
            type_name
        } else {
            on
        }
    }

    fn field(&mut self, of: &'d SelectionType, rows: Option<&'static str>, field: &'d Field) {
        let name = field.name.node.as_str();
        let Some(known) = of.fields.get(name) else {
            return;
        };
        if let Some(table) = of.table {
            self.entity(table).columns.extend(known.columns);
        }
        if let Some(table) = of.rows.or(rows)
            && ["cursor", "startCursor", "endCursor"].contains(&name)
        {
            self.entity(table).has_cursors = true;
        }
        if let Some(below) = self.types.get(&known.type_name) {
            for table in &below.entities {
                self.entity(table).loads_by_id |= of.rows.is_none();
            }
            self.set(&known.type_name, of.rows, &field.selection_set.node, false);
        }
    }

    fn entity(&mut self, table: &'static str) -> &mut EntityUse {
        self.uses.entry(table).or_insert(EntityUse {
            columns: ColumnSet::ID,
            has_cursors: false,
            loads_by_id: false,
        })
    }

    /// Whether `@skip` or `@include` removes a selection.
    fn is_skipped(&mut self, directives: &[Positioned<Directive>]) -> bool {
        directives.iter().any(|directive| {
            let skips = match directive.node.name.node.as_str() {
                "skip" => true,
                "include" => false,
                _ => return false,
            };
            let condition = directive.node.get_argument("if").map(|value| &value.node);
            let is_met = match condition {
                Some(InputValue::Variable(name)) => {
                    self.depends_on_variables = true;
                    self.variable(name)
                }
                Some(InputValue::Boolean(value)) => Some(*value),
                _ => None,
            };
            is_met == Some(skips)
        })
    }

    fn variable(&self, name: &Name) -> Option<bool> {
        let mut definitions = self.operation.variable_definitions.iter();
        let given = self.variables.get(name);
        let value = given.or_else(|| {
            let definition = definitions.find(|definition| definition.node.name.node == *name)?;
            definition
                .node
                .default_value
                .as_ref()
                .map(|value| &value.node)
        });
        match value {
            Some(Value::Boolean(value)) => Some(*value),
            _ => None,
        }
    }
}
