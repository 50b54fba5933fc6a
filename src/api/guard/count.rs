//! The counts of a document, each fragment counted once.

use std::collections::{HashMap, HashSet};

use async_graphql::{
    Positioned, Variables,
    parser::types::{
        DocumentOperations, ExecutableDocument, Field, FragmentDefinition, OperationDefinition,
        Selection, SelectionSet,
    },
};

use super::{
    Guard, Limits, NODES, Reason, RootField,
    cost::{INTROSPECTED, Scope},
    len, within,
};

/// What a selection set comes to with its fragments expanded. All sums saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) nodes: u64,
    pub(super) depth: u64,
    pub(super) levels: u64,
    pub(super) aliases: u64,
    pub(super) directives: u64,
    pub(super) root_fields: u64,
    pub(super) cost: u64,
    pub(super) values: u64,
    pub(super) introspection: u64,
}

impl Tally {
    /// Takes `other` in beside what is here.
    fn add(&mut self, other: &Self) {
        self.nodes = self.nodes.saturating_add(other.nodes);
        self.depth = self.depth.max(other.depth);
        self.levels = self.levels.max(other.levels);
        self.aliases = self.aliases.saturating_add(other.aliases);
        self.directives = self.directives.saturating_add(other.directives);
        self.root_fields = self.root_fields.saturating_add(other.root_fields);
        self.cost = self.cost.saturating_add(other.cost);
        self.values = self.values.saturating_add(other.values);
        self.introspection = self.introspection.max(other.introspection);
    }

    /// One more node with its directives round what is here.
    fn wrap(mut self, directives: usize) -> Self {
        self.nodes = self.nodes.saturating_add(1);
        self.levels = self.levels.saturating_add(1);
        self.directives = self.directives.saturating_add(len(directives));
        self
    }

    fn check(&self, limits: &Limits) -> Result<(), Reason> {
        within(self.nodes, limits.nodes, NODES)?;
        within(self.depth, limits.depth, "levels of fields")?;
        within(self.levels, limits.levels, "levels of selection sets")?;
        let lists = "lists of the schema inside one another";
        within(self.introspection, limits.introspection, lists)?;
        within(self.aliases, limits.aliases, "aliases")?;
        within(self.directives, limits.directives, "directives")
    }
}

/// The operation that runs.
pub(super) struct Chosen<'a> {
    pub(super) definition: &'a OperationDefinition,
    pub(super) cost: u64,
}

/// One pass over a document.
pub(super) struct Fold<'a> {
    guard: &'a Guard,
    document: &'a ExecutableDocument,
    /// The fragments that are counted already.
    done: HashMap<&'a str, Tally>,
    pub(super) work: u64,
}

impl<'a> Fold<'a> {
    pub(super) fn new(guard: &'a Guard, document: &'a ExecutableDocument) -> Self {
        Self {
            guard,
            document,
            done: HashMap::new(),
            work: 0,
        }
    }

    pub(super) fn check(
        &mut self,
        operation_name: Option<&str>,
        variables: &Variables,
    ) -> Result<Chosen<'a>, Reason> {
        let (document, limits) = (self.document, &self.guard.limits);
        within(
            len(document.operations.iter().len()),
            limits.operations,
            "operations",
        )?;
        within(len(document.fragments.len()), limits.fragments, "fragments")?;
        let definition = choose(&document.operations, operation_name)?;
        let scope = Scope::new(&self.guard.shape, definition, variables);

        // In the order of the text, so that the same text is always refused for the same reason.
        let mut fragments: Vec<_> = document.fragments.iter().collect();
        fragments.sort_unstable_by_key(|(_, fragment)| fragment.pos);
        for (name, _) in fragments {
            self.fragment(name, &scope)?;
        }

        let mut operations: Vec<_> = document.operations.iter().collect();
        operations.sort_unstable_by_key(|(_, operation)| operation.pos);
        let (mut nodes, mut cost, mut values) = (0_u64, 0, 0);
        for (_, operation) in operations {
            let tally = self.operation(&operation.node, &scope)?;
            nodes = nodes.saturating_add(tally.nodes);
            within(nodes, limits.nodes, NODES)?;
            if std::ptr::eq(&raw const operation.node, definition) {
                within(tally.root_fields, limits.root_fields, "root fields")?;
                (cost, values) = (tally.cost, tally.values);
            }
        }
        if cost > limits.cost {
            return Err(Reason::TooCostly {
                cost,
                limit: limits.cost,
            });
        }
        within(values, limits.values, "values in its answer")?;
        Ok(Chosen { definition, cost })
    }

    fn operation(
        &mut self,
        operation: &'a OperationDefinition,
        scope: &Scope<'_>,
    ) -> Result<Tally, Reason> {
        let definitions = &operation.variable_definitions;
        within(
            len(definitions.len()),
            self.guard.limits.variables,
            "variables in one operation",
        )?;
        self.work += len(definitions.len());
        let mut tally = self.selection_set(&operation.selection_set.node, scope);
        for directives in definitions
            .iter()
            .map(|definition| definition.node.directives.len())
        {
            tally.directives = tally.directives.saturating_add(len(directives));
        }
        tally.directives = tally
            .directives
            .saturating_add(len(operation.directives.len()));
        tally.check(&self.guard.limits)?;
        Ok(tally)
    }

    /// Counts a fragment after those that it spreads. The stack is a list, because a chain of
    /// fragments may be as long as the document.
    fn fragment(&mut self, name: &'a str, scope: &Scope<'_>) -> Result<(), Reason> {
        let mut path = Vec::new();
        let mut open = HashSet::new();
        let mut next = Some(name);
        loop {
            if let Some(name) = next
                && !self.done.contains_key(name)
                && let Some(fragment) = self.document.fragments.get(name)
            {
                if !open.insert(name) {
                    return Err(Reason::Cycle {
                        fragment: name.to_owned(),
                    });
                }
                let mut spreads = Vec::new();
                self.spreads(&fragment.node.selection_set.node, &mut spreads);
                path.push((name, fragment, spreads));
            }
            let Some((_, _, spreads)) = path.last_mut() else {
                return Ok(());
            };
            next = spreads.pop();
            if next.is_none()
                && let Some((name, fragment, _)) = path.pop()
            {
                let tally = self.definition(&fragment.node, scope);
                tally.check(&self.guard.limits)?;
                open.remove(name);
                self.done.insert(name, tally);
            }
        }
    }

    /// The fragments that a selection set spreads. Like [`Self::selection_set`] it calls itself as
    /// deep as the text is nested, which lexer and parser bound to 64.
    fn spreads(&mut self, set: &'a SelectionSet, found: &mut Vec<&'a str>) {
        for selection in &set.items {
            self.work += 1;
            match &selection.node {
                Selection::Field(field) => {
                    self.spreads(&field.node.selection_set.node, found);
                }
                Selection::FragmentSpread(spread) => found.push(&spread.node.fragment_name.node),
                Selection::InlineFragment(inline) => {
                    self.spreads(&inline.node.selection_set.node, found);
                }
            }
        }
    }

    fn definition(&mut self, fragment: &'a FragmentDefinition, scope: &Scope<'_>) -> Tally {
        let mut tally = self.selection_set(&fragment.selection_set.node, scope);
        tally.directives = tally
            .directives
            .saturating_add(len(fragment.directives.len()));
        tally
    }

    pub(super) fn selection_set(&mut self, set: &'a SelectionSet, scope: &Scope<'_>) -> Tally {
        let mut tally = Tally::default();
        for selection in &set.items {
            self.work += 1;
            tally.add(&match &selection.node {
                Selection::Field(field) => self.field(&field.node, scope),
                Selection::FragmentSpread(spread) => {
                    // An unknown fragment is left to the engine's validation.
                    let spread = &spread.node;
                    let fragment = self.done.get(spread.fragment_name.node.as_str());
                    fragment
                        .copied()
                        .unwrap_or_default()
                        .wrap(spread.directives.len())
                }
                Selection::InlineFragment(inline) => {
                    let inline = &inline.node;
                    let below = self.selection_set(&inline.selection_set.node, scope);
                    below.wrap(inline.directives.len())
                }
            });
        }
        tally
    }

    fn field(&mut self, field: &'a Field, scope: &Scope<'_>) -> Tally {
        self.work += len(field.arguments.len());
        let set = &field.selection_set.node;
        let below = self.selection_set(set, scope);
        let mut tally = below.wrap(field.directives.len());
        tally.depth = tally.depth.saturating_add(1);
        tally.aliases = tally
            .aliases
            .saturating_add(u64::from(field.alias.is_some()));
        tally.root_fields = 1;
        tally.cost = scope.cost(field, below.cost);
        tally.values = scope.values(field, below.values);
        tally.introspection += u64::from(INTROSPECTED.contains(&field.name.node.as_str()));
        if set.items.is_empty() {
            tally.levels = 0;
        }
        tally
    }

    /// The fields of a selection set; each fragment is entered once, as the executor does.
    pub(super) fn root_fields(&mut self, set: &'a SelectionSet) -> Vec<RootField> {
        let mut fields = Vec::new();
        let mut seen = HashSet::new();
        let mut entered = HashSet::new();
        let mut open = vec![set.items.iter()];
        while let Some(items) = open.last_mut() {
            let Some(selection) = items.next() else {
                open.pop();
                continue;
            };
            self.work += 1;
            match &selection.node {
                Selection::Field(field) => {
                    let key = &field.node.response_key().node;
                    if seen.insert(key) {
                        let name = field.node.name.node.clone();
                        fields.push(RootField {
                            key: key.clone(),
                            name,
                        });
                    }
                }
                Selection::FragmentSpread(spread) => {
                    let name = &spread.node.fragment_name.node;
                    if let Some(fragment) = self.document.fragments.get(name)
                        && entered.insert(name)
                    {
                        open.push(fragment.node.selection_set.node.items.iter());
                    }
                }
                Selection::InlineFragment(inline) => {
                    open.push(inline.node.selection_set.node.items.iter());
                }
            }
        }
        fields
    }
}

/// The operation that runs, by the rules of the specification (`GetOperation`).
fn choose<'a>(
    operations: &'a DocumentOperations,
    name: Option<&str>,
) -> Result<&'a OperationDefinition, Reason> {
    let chosen: Option<&Positioned<OperationDefinition>> = match (operations, name) {
        (DocumentOperations::Single(operation), None) => Some(operation),
        (DocumentOperations::Single(_), Some(_)) => None,
        (DocumentOperations::Multiple(operations), Some(name)) => operations.get(name),
        (DocumentOperations::Multiple(operations), None) => {
            if operations.len() > 1 {
                return Err(Reason::OperationNameRequired);
            }
            operations.values().next()
        }
    };
    chosen
        .map(|operation| &operation.node)
        .ok_or(Reason::UnknownOperation)
}
