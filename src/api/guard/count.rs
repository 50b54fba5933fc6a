//! Counts the fields, the depth, the cost and so on of a document. Each fragment is counted once.

use std::collections::{HashMap, HashSet};

use async_graphql::{
    Name, Positioned, Variables,
    parser::types::{
        DocumentOperations, ExecutableDocument, Field, FragmentDefinition, OperationDefinition,
        Selection, SelectionSet,
    },
};

use super::{
    ArgumentUses, Guard, Limits, Reason, RootField,
    arguments::ArgumentCounter,
    check_limit,
    cost::{Estimator, INTROSPECTION_LISTS},
    to_u64,
};

/// The description of [`Limits::nodes`] in an error message.
pub(super) const NODES: &str = "fields and fragments, with fragments expanded";

/// The counts of a selection set with its fragments expanded. All sums saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) nodes: u64,
    pub(super) depth: u64,
    pub(super) levels: u64,
    pub(super) aliases: u64,
    pub(super) directives: u64,
    pub(super) root_fields: u64,
    pub(super) cost: u64,
    pub(super) values: u64,
    pub(super) introspection_depth: u64,
}

impl Counts {
    /// Adds the counts of a sibling.
    fn add(&mut self, sibling: &Self) {
        self.nodes = self.nodes.saturating_add(sibling.nodes);
        self.depth = self.depth.max(sibling.depth);
        self.levels = self.levels.max(sibling.levels);
        self.aliases = self.aliases.saturating_add(sibling.aliases);
        self.directives = self.directives.saturating_add(sibling.directives);
        self.root_fields = self.root_fields.saturating_add(sibling.root_fields);
        self.cost = self.cost.saturating_add(sibling.cost);
        self.values = self.values.saturating_add(sibling.values);
        self.introspection_depth = self.introspection_depth.max(sibling.introspection_depth);
    }

    /// Returns the counts of the node whose content has these counts. `directives` is the number of directives of the
    /// node.
    fn with_parent(mut self, directives: usize) -> Self {
        self.nodes = self.nodes.saturating_add(1);
        self.levels = self.levels.saturating_add(1);
        self.directives = self.directives.saturating_add(to_u64(directives));
        self
    }

    fn check(&self, limits: &Limits) -> Result<(), Reason> {
        check_limit(self.nodes, limits.nodes, NODES)?;
        check_limit(self.depth, limits.depth, "levels of nested fields")?;
        check_limit(
            self.levels,
            limits.levels,
            "levels of nested selection sets",
        )?;
        check_limit(
            self.introspection_depth,
            limits.introspection_depth,
            "levels of nested introspection lists",
        )?;
        check_limit(self.aliases, limits.aliases, "aliases")?;
        check_limit(self.directives, limits.directives, "directives")
    }
}

/// The operation that will be executed.
pub(super) struct SelectedOperation<'a> {
    pub(super) name: Option<&'a Name>,
    pub(super) definition: &'a OperationDefinition,
    pub(super) cost: u64,
    pub(super) values: u64,
    /// Whether the cost or the number of values depends on the variables of the request.
    pub(super) depends_on_variables: bool,
}

/// Counts a document. Visits each node of the syntax tree a fixed number of times.
pub(super) struct Counter<'a> {
    guard: &'a Guard,
    document: &'a ExecutableDocument,
    /// The counts of the fragments that have been visited.
    fragments: HashMap<&'a str, Counts>,
    /// The names of these fragments, each after those that it spreads.
    fragment_order: Vec<&'a str>,
    /// The number of visited nodes of the syntax tree.
    pub(super) work: u64,
}

impl<'a> Counter<'a> {
    pub(super) fn new(guard: &'a Guard, document: &'a ExecutableDocument) -> Self {
        Self {
            guard,
            document,
            fragments: HashMap::new(),
            fragment_order: Vec::new(),
            work: 0,
        }
    }

    /// Selects the operation to execute, and checks all operations and fragments against the limits.
    pub(super) fn check(
        &mut self,
        operation_name: Option<&str>,
        variables: &Variables,
    ) -> Result<SelectedOperation<'a>, Reason> {
        let (document, limits) = (self.document, &self.guard.limits);
        check_limit(
            to_u64(document.operations.iter().len()),
            limits.operations,
            "operations",
        )?;
        check_limit(
            to_u64(document.fragments.len()),
            limits.fragments,
            "fragments",
        )?;
        let (name, definition) = select_operation(&document.operations, operation_name)?;
        let estimator = Estimator::new(&self.guard.shape, definition, variables);

        // In the order of the document, so that the same document always gets the same error.
        let mut fragments: Vec<_> = document.fragments.iter().collect();
        fragments.sort_unstable_by_key(|(_, fragment)| fragment.pos);
        for (name, _) in fragments {
            self.fragment(name, &estimator)?;
        }

        let mut operations: Vec<_> = document.operations.iter().collect();
        operations.sort_unstable_by_key(|(_, operation)| operation.pos);
        let (mut nodes, mut cost, mut values) = (0_u64, 0, 0);
        for (_, operation) in operations {
            let counts = self.operation(&operation.node, &estimator)?;
            nodes = nodes.saturating_add(counts.nodes);
            check_limit(nodes, limits.nodes, NODES)?;
            if std::ptr::eq(&raw const operation.node, definition) {
                check_limit(counts.root_fields, limits.root_fields, "root fields")?;
                (cost, values) = (counts.cost, counts.values);
            }
        }
        if cost > limits.cost {
            return Err(Reason::CostExceeded {
                cost,
                limit: limits.cost,
            });
        }
        check_limit(values, limits.values, "values in its response")?;
        Ok(SelectedOperation {
            name,
            definition,
            cost,
            values,
            depends_on_variables: estimator.has_read_variables(),
        })
    }

    fn operation(
        &mut self,
        operation: &'a OperationDefinition,
        estimator: &Estimator<'_>,
    ) -> Result<Counts, Reason> {
        let variables = &operation.variable_definitions;
        check_limit(
            to_u64(variables.len()),
            self.guard.limits.variables,
            "variables in one operation",
        )?;
        self.work += to_u64(variables.len());
        let mut counts = self.selection_set(&operation.selection_set.node, estimator);
        let of_variables = variables.iter().map(|one| one.node.directives.len());
        for directives in of_variables.chain([operation.directives.len()]) {
            counts.directives = counts.directives.saturating_add(to_u64(directives));
        }
        counts.check(&self.guard.limits)?;
        Ok(counts)
    }

    /// Counts a fragment after the fragments that it spreads. Keeps its own stack instead of recursing, because a chain
    /// of fragments may be as long as the document.
    fn fragment(&mut self, name: &'a str, estimator: &Estimator<'_>) -> Result<(), Reason> {
        let mut path = Vec::new();
        let mut names_on_path = HashSet::new();
        let mut next = Some(name);
        loop {
            if let Some(name) = next
                && !self.fragments.contains_key(name)
                && let Some(fragment) = self.document.fragments.get(name)
            {
                if !names_on_path.insert(name) {
                    return Err(Reason::FragmentCycle {
                        fragment: name.to_owned(),
                    });
                }
                let mut spreads = Vec::new();
                self.collect_spreads(&fragment.node.selection_set.node, &mut spreads);
                path.push((name, fragment, spreads));
            }
            let Some((_, _, spreads)) = path.last_mut() else {
                return Ok(());
            };
            next = spreads.pop();
            if next.is_none()
                && let Some((name, fragment, _)) = path.pop()
            {
                let counts = self.fragment_definition(&fragment.node, estimator);
                counts.check(&self.guard.limits)?;
                names_on_path.remove(name);
                self.fragments.insert(name, counts);
                self.fragment_order.push(name);
            }
        }
    }

    /// Collects the names of the fragments that a selection set spreads. Like [`Self::selection_set`],
    /// this function recurses once per level of nesting. The lexer and the parser allow at most 64 levels.
    fn collect_spreads(&mut self, set: &'a SelectionSet, names: &mut Vec<&'a str>) {
        for selection in &set.items {
            self.work += 1;
            match &selection.node {
                Selection::Field(field) => {
                    self.collect_spreads(&field.node.selection_set.node, names);
                }
                Selection::FragmentSpread(spread) => names.push(&spread.node.fragment_name.node),
                Selection::InlineFragment(inline) => {
                    self.collect_spreads(&inline.node.selection_set.node, names);
                }
            }
        }
    }

    fn fragment_definition(
        &mut self,
        fragment: &'a FragmentDefinition,
        estimator: &Estimator<'_>,
    ) -> Counts {
        let mut counts = self.selection_set(&fragment.selection_set.node, estimator);
        let directives = to_u64(fragment.directives.len());
        counts.directives = counts.directives.saturating_add(directives);
        counts
    }

    pub(super) fn selection_set(
        &mut self,
        set: &'a SelectionSet,
        estimator: &Estimator<'_>,
    ) -> Counts {
        let mut counts = Counts::default();
        for selection in &set.items {
            self.work += 1;
            counts.add(&match &selection.node {
                Selection::Field(field) => self.field(&field.node, estimator),
                Selection::FragmentSpread(spread) => {
                    // The engine's validation reports an unknown fragment.
                    let spread = &spread.node;
                    let fragment = self.fragments.get(spread.fragment_name.node.as_str());
                    let below = fragment.copied().unwrap_or_default();
                    below.with_parent(spread.directives.len())
                }
                Selection::InlineFragment(inline) => {
                    let inline = &inline.node;
                    let below = self.selection_set(&inline.selection_set.node, estimator);
                    below.with_parent(inline.directives.len())
                }
            });
        }
        counts
    }

    fn field(&mut self, field: &'a Field, estimator: &Estimator<'_>) -> Counts {
        self.work += to_u64(field.arguments.len());
        let set = &field.selection_set.node;
        let below = self.selection_set(set, estimator);
        let mut counts = below.with_parent(field.directives.len());
        counts.depth = counts.depth.saturating_add(1);
        let aliases = u64::from(field.alias.is_some());
        counts.aliases = counts.aliases.saturating_add(aliases);
        counts.root_fields = 1;
        counts.cost = estimator.cost(field, below.cost);
        counts.values = estimator.values(field, below.values);
        let is_list = INTROSPECTION_LISTS.contains(&field.name.node.as_str());
        counts.introspection_depth += u64::from(is_list);
        if set.items.is_empty() {
            counts.levels = 0;
        }
        counts
    }

    /// Counts the arguments of the selected operation. Must be called after [`Self::check`].
    pub(super) fn arguments(&mut self, operation: &'a OperationDefinition) -> ArgumentUses {
        let mut counter = ArgumentCounter::new();
        let uses = counter.count(self.document, operation, &self.fragment_order);
        self.work += counter.work;
        uses
    }

    /// The fields of a root selection set. Each fragment is visited once, as in the executor.
    pub(super) fn root_fields(&mut self, set: &'a SelectionSet) -> Vec<RootField> {
        let mut fields = Vec::new();
        let mut keys = HashSet::new();
        let mut visited_fragments = HashSet::new();
        let mut stack = vec![set.items.iter()];
        while let Some(items) = stack.last_mut() {
            let Some(selection) = items.next() else {
                stack.pop();
                continue;
            };
            self.work += 1;
            match &selection.node {
                Selection::Field(field) => {
                    let key = &field.node.response_key().node;
                    if keys.insert(key) {
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
                        && visited_fragments.insert(name)
                    {
                        stack.push(fragment.node.selection_set.node.items.iter());
                    }
                }
                Selection::InlineFragment(inline) => {
                    stack.push(inline.node.selection_set.node.items.iter());
                }
            }
        }
        fields
    }
}

/// Selects the operation to execute, and its name (specification, `GetOperation`).
fn select_operation<'a>(
    operations: &'a DocumentOperations,
    name: Option<&str>,
) -> Result<(Option<&'a Name>, &'a OperationDefinition), Reason> {
    let selected: Option<(Option<&Name>, &Positioned<OperationDefinition>)> =
        match (operations, name) {
            (DocumentOperations::Single(operation), None) => Some((None, operation)),
            (DocumentOperations::Single(_), Some(_)) => None,
            (DocumentOperations::Multiple(operations), Some(name)) => operations
                .get_key_value(name)
                .map(|(name, operation)| (Some(name), operation)),
            (DocumentOperations::Multiple(operations), None) => {
                if operations.len() > 1 {
                    return Err(Reason::OperationNameRequired);
                }
                let mut operations = operations.iter();
                operations.next().map(|(name, one)| (Some(name), one))
            }
        };
    selected
        .map(|(name, operation)| (name, &operation.node))
        .ok_or(Reason::UnknownOperation)
}
