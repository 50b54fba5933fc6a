//! The guard: it refuses hostile documents before the engine sees them.
//!
//! The engine walks a document with its fragments expanded, several times, before it looks at its
//! own limits, so 743 bytes of fragments that spread each other twice cost it seconds. The one rule
//! kept here: **the work is linear in the length of the text, whatever the text says.** Text and
//! tokens are bounded before the parser runs, the parser runs once, and each fragment is counted
//! once, bottom-up; a spread adds the counts of its fragment instead of walking it again.
//!
//! What is counted, with fragments expanded: nodes (fields, spreads and inline fragments; an empty
//! bomb of spreads has no fields at all), depth in fields, levels of selection sets, aliases,
//! directives wherever they stand, root fields, and the cost. Every operation of the document and
//! every fragment is held to the limits, since the engine's walkers visit all operations. Root
//! fields and cost are those of the operation that will run.
//!
//! # Cost
//!
//! An estimate of the rows that an operation fetches, for most from above: no directive skips
//! anything, equal fields are not merged, and fields of different types of a union add up. Not in it
//! are counts, lists without pages (`currencies`), and lists in the input of a mutation that is no batch.
//!
//! | field | cost |
//! |---|---|
//! | without a selection | 0 |
//! | `__schema`, `__type`, … | 0 with everything below: introspection reads no rows |
//! | a connection with page size `n` | 1 + `n` × (1 + what is below); the 1 is the row read ahead |
//! | a list of `n` ids, a batch of `n` inputs | `n` × (1 + what is below) |
//! | `edges`, `nodes`, `node`, `pageInfo` without arguments | what is below |
//! | any other | 1 + what is below |
//!
//! `n` of a connection is its `first` or `last`, the larger if both stand there: a literal or the
//! variable's value, else the variable's default; absent or null is the default page. It is held to
//! `0..=max_page`, since a resolver refuses what is outside; what is not an integer counts as a full
//! page. `n` of a list of ids is its length, held to the same range; that of a batch is held to the
//! largest batch.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    convert::Infallible,
};

use async_graphql::{
    Name, Pos, Positioned, Value, Variables,
    parser::{
        self, parse_query,
        types::{
            DocumentOperations, ExecutableDocument, Field, FragmentDefinition, OperationDefinition,
            OperationType, Selection, SelectionSet,
        },
    },
};

use crate::error::Code;

/// The fields of a connection between it and its rows.
const WRAPPERS: [&str; 4] = ["edges", "nodes", "node", "pageInfo"];

/// The argument that holds the list of a field in [`Shape::id_lists`].
const ID_LIST: &str = "ids";

/// The longest batch that a resolver accepts.
const MAX_BATCH: u64 = 1_000;

/// The lists of the schema in a query about it (specification, 4.2); no field of the API has such a name.
const INTROSPECTED: [&str; 7] = [
    "types",
    "fields",
    "inputFields",
    "interfaces",
    "possibleTypes",
    "enumValues",
    "args",
];

/// Items of such a list, for the values of an answer: a mean, since there are a hundred types and
/// a few of all else.
const INTROSPECTED_ROWS: u64 = 10;

/// What [`Limits::nodes`] bounds, as a client reads it.
const NODES: &str = "fields and fragments, each spread counted in full";

/// Parse messages longer than this many characters are cut: they may quote the document.
const MESSAGE_CHARS: usize = 200;

/// The most that a request may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of query text.
    pub text_bytes: u64,
    /// Tokens in the text; commas and comments are none.
    pub tokens: u64,
    /// Braces, brackets and parentheses inside one another.
    pub nesting: u64,
    /// Fields, spreads and inline fragments of all operations, fragments expanded.
    pub nodes: u64,
    /// Fields inside one another, fragments expanded.
    pub depth: u64,
    /// Selection sets inside one another, those of fragments and inline fragments included.
    pub levels: u64,
    /// Aliases in one operation, fragments expanded.
    pub aliases: u64,
    /// Root fields of the operation that runs, fragments expanded.
    pub root_fields: u64,
    /// Directives in one operation, fragments expanded.
    pub directives: u64,
    /// Operations in the document.
    pub operations: u64,
    /// Variables that one operation defines.
    pub variables: u64,
    /// Fragment definitions in the document.
    pub fragments: u64,
    /// Rows that the operation may fetch.
    pub cost: u64,
    /// Values that the answer may hold: fields of rows, as often as their row may be there.
    pub values: u64,
    /// Lists of the schema inside one another, in a query about the schema.
    pub introspection: u64,
    /// Lists and objects inside one another in the variables.
    pub variable_depth: u64,
    /// Values in the variables, lists and objects included.
    pub variable_values: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Parsing costs up to 0.25 ms per KB, so this bounds it to 20 ms.
            text_bytes: 64 * 1024,
            // The standard introspection query has under 200.
            tokens: 10_000,
            // The parser's own limit for selection sets; it has none for lists and types.
            nesting: 64,
            // A hand-written page asks for hundreds.
            nodes: 5_000,
            // The standard introspection query, with nine `ofType`, needs exactly 15.
            depth: 15,
            // The engine's default `limit_recursive_depth`, counted the same way.
            levels: 32,
            // These three as published in the conventions of the API.
            aliases: 30,
            root_fields: 20,
            directives: 50,
            // One runs; the others ride along from a file with several.
            operations: 20,
            // Each wrong one is an error object in the answer.
            variables: 100,
            // Generated clients send about one per component.
            fragments: 200,
            // 28 times the headline query of the benchmarks.
            cost: 20_000,
            // Twelve for each of those rows. One takes some 120 bytes and 0.4 µs before it is JSON.
            values: 250_000,
            // The standard introspection query: the types, their fields, and the arguments of those.
            introspection: 3,
            // A filter of `and`, `or` and `not` needs two levels for each.
            variable_depth: 32,
            // A batch has at most 1,000 inputs, of up to six values each.
            variable_values: 10_000,
        }
    }
}

/// What the cost needs to know of the schema. Fields are told apart by name alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Names of fields whose type is a connection.
    pub connections: HashSet<String>,
    /// Names of fields that return one row for each item of their argument `ids`.
    pub id_lists: HashSet<String>,
    /// Names of mutations that answer one result for each item of a list in their `input`, with the
    /// name of that list.
    pub batches: HashMap<String, String>,
    /// The page size of a connection without `first` and `last`.
    pub default_page: u64,
    /// The largest page, and the longest list of ids, that a resolver accepts.
    pub max_page: u64,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            connections: HashSet::new(),
            id_lists: HashSet::new(),
            batches: HashMap::new(),
            default_page: 20,
            max_page: 100,
        }
    }
}

/// A document that may go on to the engine.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// The parsed document, for `Request::set_parsed_query`.
    pub document: ExecutableDocument,
    /// The kind of the operation that runs.
    pub operation: OperationType,
    /// The rows that it may fetch.
    pub cost: u64,
    /// The fields of its root selection in the order of the answer, each response key once.
    /// Directives are not evaluated, so `@skip` may leave some of them out.
    pub root_fields: Vec<RootField>,
    /// Nodes of the syntax tree that were visited.
    pub work: u64,
}

/// A field of the root selection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootField {
    /// Its key in the answer: the alias if it has one.
    pub key: Name,
    /// Its name in the schema.
    pub name: Name,
}

/// A request that may not go on. Its text is for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// Nodes of the syntax tree that were visited before the refusal.
    pub work: u64,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// A limit of [`Limits`] is crossed.
    #[error("the request has more than {limit} {what}")]
    TooComplex {
        /// What there is too much of, in the plural.
        what: &'static str,
        /// How much there may be.
        limit: u64,
    },
    /// The operation may fetch too many rows.
    #[error("the operation may fetch {cost} rows, of {limit} at most: ask for smaller pages")]
    TooCostly {
        /// The rows that it may fetch.
        cost: u64,
        /// The rows that it may at most fetch.
        limit: u64,
    },
    /// The text is not a GraphQL document.
    #[error("{message}")]
    Parse {
        /// What the parser expected.
        message: String,
        /// Where, the most important position first.
        positions: Vec<Pos>,
    },
    /// A fragment contains itself.
    #[error("the fragment {fragment} contains itself")]
    Cycle {
        /// Its name.
        fragment: String,
    },
    /// A variable that must have a value has none.
    #[error("the variable ${variable} of type {declared} has no value")]
    NoValue {
        /// Its name, without the `$`.
        variable: String,
        /// Its type as the document declares it.
        declared: String,
    },
    /// The request names an operation that the document does not have.
    #[error("the document has no operation of the given name")]
    UnknownOperation,
    /// The document has several operations and the request names none.
    #[error("the document has several operations, so the request must name one")]
    OperationNameRequired,
}

impl Reason {
    /// The stable `extensions.code`.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::TooComplex { .. } | Self::TooCostly { .. } => Code::QueryTooComplex,
            Self::Parse { .. } => Code::GraphqlParseFailed,
            Self::NoValue { .. } => Code::BadUserInput,
            Self::Cycle { .. } | Self::UnknownOperation | Self::OperationNameRequired => {
                Code::GraphqlValidationFailed
            }
        }
    }
}

impl From<parser::Error> for Reason {
    fn from(error: parser::Error) -> Self {
        // The parser draws the line of the document and an arrow; its last line is the message.
        let text = error.to_string();
        let last = text.lines().last().unwrap_or_default().trim_start();
        let message = last.strip_prefix("= ").unwrap_or(last);
        Self::Parse {
            message: message.chars().take(MESSAGE_CHARS).collect(),
            positions: error.positions().collect(),
        }
    }
}

/// The limits and the schema that requests are held against.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// The limits.
    pub limits: Limits,
    /// The schema.
    pub shape: Shape,
}

impl Guard {
    /// Parses `text` and checks it against the limits.
    ///
    /// The variables are read for page sizes and lists of ids only; see [`Self::check_variables`].
    pub fn admit(
        &self,
        text: &str,
        operation_name: Option<&str>,
        variables: &Variables,
    ) -> Result<Admitted, Refusal> {
        let document = self
            .parse(text)
            .map_err(|reason| Refusal { reason, work: 0 })?;
        let mut fold = Fold::new(self, &document);
        let chosen = match fold.check(operation_name, variables) {
            Ok(chosen) => chosen,
            Err(reason) => {
                return Err(Refusal {
                    reason,
                    work: fold.work,
                });
            }
        };
        let root_fields = fold.root_fields(&chosen.definition.selection_set.node);
        let (operation, cost, work) = (chosen.definition.ty, chosen.cost, fold.work);
        Ok(Admitted {
            document,
            operation,
            cost,
            root_fields,
            work,
        })
    }

    /// Checks that the variables are neither nested too deeply nor too many.
    ///
    /// Depth is counted in lists and objects; the map of the variables itself is none of them.
    pub fn check_variables(&self, variables: &Variables) -> Result<(), Refusal> {
        self.bound_variables(variables)
            .map_err(|reason| Refusal { reason, work: 0 })
    }

    fn bound_variables(&self, variables: &Variables) -> Result<(), Reason> {
        let (max_depth, max_values) = (self.limits.variable_depth, self.limits.variable_values);
        // Counted before they are put on the stack, so it never holds more than the limit.
        let mut values = 0_u64;
        let mut count = |more: usize| {
            values = values.saturating_add(len(more));
            within(values, max_values, "values in its variables")
        };
        count(variables.len())?;
        let mut open: Vec<(&Value, u64)> = variables.values().map(|value| (value, 1)).collect();
        while let Some((value, depth)) = open.pop() {
            if let Value::List(_) | Value::Object(_) = value {
                within(
                    depth,
                    max_depth,
                    "lists and objects inside one another in its variables",
                )?;
            }
            match value {
                Value::List(items) => {
                    count(items.len())?;
                    open.extend(items.iter().map(|item| (item, depth + 1)));
                }
                Value::Object(fields) => {
                    count(fields.len())?;
                    open.extend(fields.values().map(|field| (field, depth + 1)));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn parse(&self, text: &str) -> Result<ExecutableDocument, Reason> {
        within(
            len(text.len()),
            self.limits.text_bytes,
            "bytes of query text",
        )?;
        Lexer {
            text: text.as_bytes(),
            at: 0,
        }
        .check(&self.limits)?;
        Ok(parse_query(text)?)
    }
}

fn len(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn within(count: u64, limit: u64, what: &'static str) -> Result<(), Reason> {
    if count > limit {
        return Err(Reason::TooComplex { what, limit });
    }
    Ok(())
}

/// Counts the tokens of a text and the nesting of its brackets, and nothing else.
///
/// As far as the parser gets through a text, it meets no more brackets than are counted here, nor
/// more tokens, but for a keyword that touches its name (`queryA`). What is a string here must be
/// one there. So a string without an end is refused here: the parser would read `"""` as an empty
/// string and go on with what was inside.
struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
}

impl Lexer<'_> {
    fn check(&mut self, limits: &Limits) -> Result<(), Reason> {
        let (mut tokens, mut nesting) = (0_u64, 0_u64);
        while let Some(&byte) = self.text.get(self.at) {
            let start = self.at;
            self.at += 1;
            tokens += match byte {
                b' ' | b'\t' | b'\n' | b'\r' | b',' => 0,
                // The byte order mark is white space wherever it stands.
                0xEF if self.text[start..].starts_with(b"\xEF\xBB\xBF") => {
                    self.at += 2;
                    0
                }
                b'#' => {
                    self.skip(|byte| !matches!(byte, b'\n' | b'\r'));
                    0
                }
                b'"' => {
                    if !self.string() {
                        return Err(self.unterminated(start));
                    }
                    1
                }
                b'{' | b'[' | b'(' => {
                    nesting += 1;
                    within(nesting, limits.nesting, "brackets inside one another")?;
                    1
                }
                b'}' | b']' | b')' => {
                    nesting = nesting.saturating_sub(1);
                    1
                }
                b'.' => {
                    if self.text[self.at..].starts_with(b"..") {
                        self.at += 2;
                    }
                    1
                }
                b'-' | b'0'..=b'9' => {
                    self.number(byte);
                    1
                }
                b'_' | b'a'..=b'z' | b'A'..=b'Z' => {
                    self.skip(|byte| byte == b'_' || byte.is_ascii_alphanumeric());
                    names(&self.text[start..self.at])
                }
                // A punctuator, or what the parser stops at.
                _ => 1,
            };
            within(tokens, limits.tokens, "tokens")?;
        }
        Ok(())
    }

    fn skip(&mut self, more: impl Fn(u8) -> bool) {
        while self.text.get(self.at).is_some_and(|&byte| more(byte)) {
            self.at += 1;
        }
    }

    /// Skips the rest of a number. `007` is three numbers to the parser.
    fn number(&mut self, first: u8) {
        let mut first = Some(first);
        if first == Some(b'-') {
            first = self.text.get(self.at).copied().filter(u8::is_ascii_digit);
            self.at += usize::from(first.is_some());
        }
        if first != Some(b'0') {
            self.skip(|byte| byte.is_ascii_digit());
        }
        if let [b'.', b'0'..=b'9', ..] = self.text[self.at..] {
            self.at += 1;
            self.skip(|byte| byte.is_ascii_digit());
        }
        if let [b'e' | b'E', b'0'..=b'9', ..] | [b'e' | b'E', b'+' | b'-', b'0'..=b'9', ..] =
            self.text[self.at..]
        {
            self.at += 2;
            self.skip(|byte| byte.is_ascii_digit());
        }
    }

    /// Skips the rest of a string; false if it has no end.
    fn string(&mut self) -> bool {
        if self.text[self.at..].starts_with(b"\"\"") {
            self.at += 2;
            return self.block_string();
        }
        while let Some(&byte) = self.text.get(self.at) {
            self.at += 1;
            match byte {
                b'"' => return true,
                b'\n' | b'\r' => return false,
                b'\\' if !matches!(self.text.get(self.at), Some(b'\n' | b'\r')) => self.at += 1,
                _ => {}
            }
        }
        false
    }

    fn block_string(&mut self) -> bool {
        loop {
            match self.text.get(self.at..) {
                Some([b'\\', b'"', b'"', b'"', ..]) => self.at += 4,
                Some([b'"', b'"', b'"', ..]) => {
                    self.at += 3;
                    return true;
                }
                Some([_, ..]) => self.at += 1,
                Some([]) | None => return false,
            }
        }
    }

    fn unterminated(&self, start: usize) -> Reason {
        let before = String::from_utf8_lossy(&self.text[..start]);
        let line = before.matches('\n').count() + 1;
        let column = before
            .rsplit('\n')
            .next()
            .unwrap_or_default()
            .chars()
            .count()
            + 1;
        Reason::Parse {
            message: "expected the end of the string".to_owned(),
            positions: vec![Pos { line, column }],
        }
    }
}

/// How many names a word is. The parser ends `true`, `false` and `null` without looking at what
/// follows, so `[truetrue]` has two items; that a name like `nullable` counts twice does no harm.
fn names(word: &[u8]) -> u64 {
    let (mut rest, mut count) = (word, 0);
    loop {
        count += 1;
        let Some(after) = [&b"true"[..], b"false", b"null"]
            .iter()
            .find_map(|literal| rest.strip_prefix(*literal))
            .filter(|after| !after.is_empty())
        else {
            return count;
        };
        rest = after;
    }
}

/// What a selection set comes to with its fragments expanded. All sums saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    nodes: u64,
    depth: u64,
    levels: u64,
    aliases: u64,
    directives: u64,
    root_fields: u64,
    cost: u64,
    values: u64,
    introspection: u64,
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
struct Chosen<'a> {
    definition: &'a OperationDefinition,
    cost: u64,
}

/// One pass over a document.
struct Fold<'a> {
    guard: &'a Guard,
    document: &'a ExecutableDocument,
    /// The fragments that are counted already.
    done: HashMap<&'a str, Tally>,
    work: u64,
}

impl<'a> Fold<'a> {
    fn new(guard: &'a Guard, document: &'a ExecutableDocument) -> Self {
        Self {
            guard,
            document,
            done: HashMap::new(),
            work: 0,
        }
    }

    fn check(
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

    fn selection_set(&mut self, set: &'a SelectionSet, scope: &Scope<'_>) -> Tally {
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
    fn root_fields(&mut self, set: &'a SelectionSet) -> Vec<RootField> {
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

/// What arguments are resolved with: the schema, and the variables of the operation that runs.
struct Scope<'a> {
    shape: &'a Shape,
    variables: &'a Variables,
    defaults: HashMap<&'a str, &'a Value>,
}

impl<'a> Scope<'a> {
    fn new(shape: &'a Shape, operation: &'a OperationDefinition, variables: &'a Variables) -> Self {
        let definitions = operation
            .variable_definitions
            .iter()
            .map(|definition| &definition.node);
        let defaults = definitions
            .filter_map(|definition| {
                let default = definition.default_value.as_ref()?;
                Some((definition.name.node.as_str(), &default.node))
            })
            .collect();
        Self {
            shape,
            variables,
            defaults,
        }
    }

    fn cost(&self, field: &Field, below: u64) -> u64 {
        let name = field.name.node.as_str();
        if field.selection_set.node.items.is_empty() || name.starts_with("__") {
            return 0;
        }
        let row = below.saturating_add(1);
        if self.shape.connections.contains(name) {
            return self.page(field).saturating_mul(row).saturating_add(1);
        }
        if self.shape.id_lists.contains(name)
            && let Some(rows) = self
                .arguments(field, &[ID_LIST])
                .map(|ids| self.ids(&ids))
                .max()
        {
            return rows.saturating_mul(row);
        }
        if let Some(list) = self.shape.batches.get(name) {
            return self.batch(field, list).saturating_mul(row);
        }
        if WRAPPERS.contains(&name) && field.arguments.is_empty() {
            return below;
        }
        row
    }

    /// The values that a field puts into the answer: its own and those below it, for each of its rows.
    fn values(&self, field: &Field, below: u64) -> u64 {
        let name = field.name.node.as_str();
        let rows = if self.shape.connections.contains(name) {
            self.page(field)
        } else if self.shape.id_lists.contains(name) {
            let lists = self.arguments(field, &[ID_LIST]);
            lists.map(|ids| self.ids(&ids)).max().unwrap_or(1)
        } else if let Some(list) = self.shape.batches.get(name) {
            self.batch(field, list)
        } else if INTROSPECTED.contains(&name) {
            INTROSPECTED_ROWS
        } else {
            1
        };
        rows.max(1).saturating_mul(below.saturating_add(1))
    }

    /// The number of inputs of a batch.
    fn batch(&self, field: &Field, list: &str) -> u64 {
        let length = |value: &Value| match value {
            Value::List(items) => len(items.len()),
            Value::Number(length) => length.as_u64().unwrap_or(1),
            _ => 1,
        };
        // A variable is replaced by the length of its list, or of the list in it: it must not be copied.
        let of_variable = |name: Name| {
            let length = self.variable(&name).map(|value| match value {
                Value::Object(input) => input.get(list).map_or(0, length),
                value => length(value),
            });
            Ok::<_, Infallible>(Value::from(length.unwrap_or(0)))
        };
        let inputs = field
            .arguments
            .iter()
            .filter(|(name, _)| name.node == "input");
        let lengths = inputs.map(|(_, input)| {
            let Ok(input) = input.node.clone().into_const_with(of_variable);
            match &input {
                Value::Object(input) => input.get(list).map_or(0, length),
                other => length(other),
            }
        });
        lengths.max().unwrap_or(0).clamp(1, MAX_BATCH)
    }

    /// The page size of a connection.
    fn page(&self, field: &Field) -> u64 {
        let sizes = self
            .arguments(field, &["first", "last"])
            .filter_map(|size| self.size(&size));
        sizes.max().unwrap_or(self.shape.default_page)
    }

    /// A given page size; `None` if it is null.
    fn size(&self, value: &Value) -> Option<u64> {
        let max = self.shape.max_page;
        match value {
            Value::Null => None,
            Value::Number(size) => {
                let size = size.as_i64().map(|size| u64::try_from(size).unwrap_or(0));
                Some(size.map_or(max, |size| size.min(max)))
            }
            _ => Some(max),
        }
    }

    /// The length of a list of ids. A single value stands for a list of one.
    fn ids(&self, value: &Value) -> u64 {
        let length = match value {
            Value::Null => 0,
            Value::List(items) => len(items.len()),
            _ => 1,
        };
        length.min(self.shape.max_page)
    }

    /// The values of the arguments of these names; an absent variable is null.
    fn arguments<'f>(
        &'f self,
        field: &'f Field,
        names: &'f [&str],
    ) -> impl Iterator<Item = Cow<'f, Value>> {
        let wanted = field
            .arguments
            .iter()
            .filter(|(name, _)| names.contains(&name.node.as_str()));
        wanted.map(|(_, value)| {
            // No literal is binary, so that stands for a variable. A list in a variable must not be
            // copied: it does not come out of the text and may be named on every field.
            let mut variable = None;
            let literal = value.node.clone().into_const_with(|name| {
                variable = Some(name);
                Ok::<_, Infallible>(Value::Binary(Vec::new().into()))
            });
            match (literal, variable) {
                (Ok(Value::Binary(_)), Some(name)) => self
                    .variable(&name)
                    .map_or(Cow::Owned(Value::Null), Cow::Borrowed),
                (Ok(literal), _) => Cow::Owned(literal),
            }
        })
    }

    fn variable(&self, name: &str) -> Option<&Value> {
        self.variables
            .get(name)
            .or_else(|| self.defaults.get(name).copied())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use async_graphql::value;

    use super::*;

    /// The response keys of the root selection.
    fn keys(admitted: &Admitted) -> Vec<Name> {
        admitted
            .root_fields
            .iter()
            .map(|field| field.key.clone())
            .collect()
    }

    /// As published with the graphql-js reference implementation, nine `ofType` deep.
    const INTROSPECTION: &str = "
        query IntrospectionQuery {
          __schema {
            description
            queryType { name kind }
            mutationType { name kind }
            subscriptionType { name kind }
            types { ...FullType }
            directives {
              name
              description
              isRepeatable
              locations
              args(includeDeprecated: true) { ...InputValue }
            }
          }
        }
        fragment FullType on __Type {
          kind
          name
          description
          specifiedByURL
          isOneOf
          fields(includeDeprecated: true) {
            name
            description
            args(includeDeprecated: true) { ...InputValue }
            type { ...TypeRef }
            isDeprecated
            deprecationReason
          }
          inputFields(includeDeprecated: true) { ...InputValue }
          interfaces { ...TypeRef }
          enumValues(includeDeprecated: true) {
            name
            description
            isDeprecated
            deprecationReason
          }
          possibleTypes { ...TypeRef }
        }
        fragment InputValue on __InputValue {
          name
          description
          type { ...TypeRef }
          defaultValue
          isDeprecated
          deprecationReason
        }
        fragment TypeRef on __Type {
          kind
          name
          ofType { kind name
            ofType { kind name
              ofType { kind name
                ofType { kind name
                  ofType { kind name
                    ofType { kind name
                      ofType { kind name
                        ofType { kind name
                          ofType { kind name }
                        }
                      }
                    }
                  }
                }
              }
            }
          }
        }";

    const HEADLINE: &str = "{
        projects(first: 20) { nodes {
          id name status
          organization { id name }
          owner { id email displayName }
          invoices(first: 5) { nodes { id number status total { amount currencyCode } } }
          auditLogs(first: 10) { nodes {
            id action occurredAt actor { ... on User { id email } }
          } }
        } } }";

    fn guard() -> Guard {
        let connections = ["projects", "invoices", "lineItems", "auditLogs"];
        Guard {
            limits: Limits::default(),
            shape: Shape {
                connections: connections.map(str::to_owned).into(),
                id_lists: HashSet::from(["nodes".to_owned()]),
                batches: HashMap::from([("importProducts".to_owned(), "rows".to_owned())]),
                ..Shape::default()
            },
        }
    }

    fn admit(text: &str) -> Result<Admitted, Refusal> {
        guard().admit(text, None, &Variables::default())
    }

    fn admit_named(text: &str, name: &str) -> Result<Admitted, Refusal> {
        guard().admit(text, Some(name), &Variables::default())
    }

    fn refused(text: &str) -> Refusal {
        admit(text).expect_err("refused")
    }

    /// What the request has too much of.
    fn excess(refusal: &Refusal) -> &'static str {
        match refusal.reason {
            Reason::TooComplex { what, .. } => what,
            ref other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_batch_costs_what_is_below_for_each_of_its_inputs() {
        let import = |input: &str, variables: &str| {
            let text = format!(
                "mutation($input: I, $rows: [R!]) {{
                     importProducts(input: {input}) {{ results {{ product {{ id }} }} }} }}"
            );
            let variables = Variables::from_json(serde_json::from_str(variables).unwrap());
            guard().admit(&text, None, &variables).unwrap().cost
        };
        let each = 3;
        assert_eq!(import("{ rows: [{}, {}, {}] }", "{}"), 3 * each);
        assert_eq!(
            import("{ rows: $rows }", r#"{ "rows": [{}, {}] }"#),
            2 * each
        );
        assert_eq!(
            import("$input", r#"{ "input": { "rows": [{}, {}] } }"#),
            2 * each
        );
        // At least one, and no more than a resolver takes.
        assert_eq!(import("$input", "{}"), each);
        assert_eq!(import("{ rows: [] }", "{}"), each);
        let many = format!(r#"{{ "rows": [{}1] }}"#, "1,".repeat(1_999));
        assert_eq!(import("{ rows: $rows }", &many), 1_000 * each);
    }

    /// `levels` fragments, each spreading the next `spreads` times; the last one is `last`.
    fn bomb(levels: usize, spreads: usize, last: &str) -> String {
        let mut text = "{ ...f0 }".to_owned();
        for level in 0..levels {
            let spread = format!(" ...f{}", level + 1).repeat(spreads);
            write!(text, " fragment f{level} on Query {{{spread} }}").unwrap();
        }
        write!(text, " fragment f{levels} on Query {{ {last} }}").unwrap();
        text
    }

    /// The selections of a bomb, counted without the guard.
    fn bomb_nodes(levels: u64, spreads: u64) -> u64 {
        1 + levels * spreads + 1
    }

    /// `count` items in a row.
    fn row(count: usize, item: impl Fn(usize) -> String) -> String {
        (0..count).map(item).collect::<Vec<_>>().concat()
    }

    fn aliases(count: usize) -> String {
        let fields = row(count, |n| format!("a{n}:__typename "));
        format!("{{{fields}}}")
    }

    fn nested(fields: usize) -> String {
        format!(
            "{{{}{}}}",
            "a{".repeat(fields - 1) + "a",
            "}".repeat(fields - 1)
        )
    }

    fn unlimited() -> Guard {
        let mut guard = guard();
        guard.limits = Limits {
            text_bytes: u64::MAX,
            tokens: u64::MAX,
            nesting: 64,
            nodes: u64::MAX,
            depth: u64::MAX,
            levels: u64::MAX,
            aliases: u64::MAX,
            root_fields: u64::MAX,
            directives: u64::MAX,
            operations: u64::MAX,
            variables: u64::MAX,
            fragments: u64::MAX,
            cost: u64::MAX,
            values: u64::MAX,
            introspection: u64::MAX,
            variable_depth: u64::MAX,
            variable_values: u64::MAX,
        };
        guard
    }

    // Bombs

    #[test]
    fn bombs_are_refused_with_linear_work() {
        for (levels, spreads) in [(25, 2), (31, 2), (31, 40), (9, 7)] {
            for last in ["__typename", "...unknown", "... { __typename }"] {
                let refusal = refused(&bomb(levels, spreads, last));
                assert_eq!(refusal.reason.code(), Code::QueryTooComplex);
                let nodes = bomb_nodes(levels as u64, spreads as u64) + 1;
                assert!(refusal.work <= 2 * nodes, "{} > 2 * {nodes}", refusal.work);
            }
        }
    }

    #[test]
    fn a_bomb_is_counted_in_full_without_limits() {
        let text = bomb(25, 2, "__typename");
        let guard = unlimited();
        let admitted = guard.admit(&text, None, &Variables::default()).unwrap();
        assert_eq!(keys(&admitted), ["__typename"]);
        // Two passes over the fragments, one over the operation, one for the keys.
        assert!(admitted.work <= 3 * bomb_nodes(25, 2), "{}", admitted.work);

        let saturated = bomb(100, 2, "projects { nodes { id } }");
        let admitted = guard
            .admit(&saturated, None, &Variables::default())
            .unwrap();
        assert_eq!(admitted.cost, u64::MAX);
    }

    #[test]
    fn a_bomb_of_spreads_without_fields_is_refused() {
        let refusal = refused(&bomb(14, 2, "...unknown"));
        assert_eq!(excess(&refusal), NODES);
    }

    #[test]
    fn a_bomb_in_another_operation_or_in_none_is_refused() {
        let bomb = bomb(14, 2, "__typename");
        let other = bomb.replacen("{ ...f0 }", "query A { a } query B { ...f0 }", 1);
        let unused = bomb.replacen("{ ...f0 }", "query A { a }", 1);
        for text in [other, unused] {
            let refusal = admit_named(&text, "A").unwrap_err();
            assert_eq!(excess(&refusal), NODES);
        }
    }

    #[test]
    fn the_operations_share_the_nodes() {
        let fields = "a ".repeat(300);
        let text = row(18, |n| format!("query Q{n} {{ a {{ {fields} }} }} "));
        let refusal = admit_named(&text, "Q0").unwrap_err();
        assert_eq!(excess(&refusal), NODES);
    }

    #[test]
    fn cycles_are_refused() {
        for text in [
            "{ ...a } fragment a on Q { ...a }",
            "{ ...a } fragment a on Q { x ...b } fragment b on Q { y { ... { ...a } } }",
            "{ x } fragment a on Q { ...b } fragment b on Q { ...c } fragment c on Q { ...b }",
        ] {
            let refusal = refused(text);
            assert!(
                matches!(refusal.reason, Reason::Cycle { .. }),
                "{refusal:?}"
            );
            assert!(refusal.work < 10);
        }
        assert_eq!(
            refused("{ ...a } fragment a on Q { ...a }").to_string(),
            "the fragment a contains itself"
        );
    }

    #[test]
    fn a_fragment_spread_twice_is_no_cycle() {
        let text = "{ ...a ...b ...a } fragment a on Q { ...b ...b } fragment b on Q { x }";
        assert_eq!(keys(&admit(text).unwrap()), ["x"]);
    }

    #[test]
    fn a_long_chain_of_fragments_does_not_use_the_stack() {
        let mut guard = unlimited();
        guard.limits.depth = 15;
        let inline = |inner: &str| format!("{}{inner}{}", "...{".repeat(50), "}".repeat(50));
        let mut text = "{ ...f0 }".to_owned();
        for n in 0..300 {
            let body = inline(&format!("...f{}", n + 1));
            write!(text, "fragment f{n} on Q {{ {body} }}").unwrap();
        }
        text += "fragment f300 on Q { a }";
        let run = move || {
            guard
                .admit(&text, None, &Variables::default())
                .map(|admitted| keys(&admitted))
        };
        let thread = std::thread::Builder::new()
            .stack_size(1024 * 1024)
            .spawn(run)
            .unwrap();
        assert_eq!(thread.join().unwrap().unwrap(), ["a"]);
        assert_eq!(
            excess(&refused(&bomb(32, 1, "a"))),
            "levels of selection sets"
        );
        admit(&bomb(31, 1, "a")).unwrap();
    }

    // Text, tokens, nesting

    #[test]
    fn fifty_thousand_aliases_meet_each_limit_in_turn() {
        let text = aliases(50_000);
        let mut guard = guard();
        let refusal = |guard: &Guard| guard.admit(&text, None, &Variables::default()).unwrap_err();
        assert_eq!(
            refusal(&guard).to_string(),
            "the request has more than 65536 bytes of query text"
        );
        guard.limits.text_bytes = u64::MAX;
        assert_eq!(
            refusal(&guard).to_string(),
            "the request has more than 10000 tokens"
        );
        guard.limits.tokens = u64::MAX;
        guard.limits.nodes = u64::MAX;
        assert_eq!(
            refusal(&guard).to_string(),
            "the request has more than 30 aliases"
        );
        assert!(refusal(&guard).work <= 50_000);
    }

    #[test]
    fn aliases_are_counted_in_each_spread() {
        admit(&aliases(20)).unwrap();
        let text = "{ a { ...x } b { ...x } } fragment x on Q { FIELDS }";
        let fields = |count| aliases(count).trim_matches(['{', '}']).to_owned();
        admit(&text.replace("FIELDS", &fields(15))).unwrap();
        assert_eq!(
            excess(&refused(&text.replace("FIELDS", &fields(16)))),
            "aliases"
        );
    }

    #[test]
    fn deep_nesting_is_refused_before_the_parser() {
        for (open, close) in [("{a", "}"), ("[", "]"), ("(", ")"), ("{a(b:{c:[", "]})}")] {
            let text = format!("{}{}", open.repeat(10_000), close.repeat(10_000));
            let mut guard = guard();
            guard.limits.text_bytes = u64::MAX;
            let refusal = guard.admit(&text, None, &Variables::default()).unwrap_err();
            assert_eq!(excess(&refusal), "brackets inside one another");
        }
        // The longest nesting that gets through has room on a small stack.
        let list = format!("{{ a(b: {}{}) }}", "[".repeat(62), "]".repeat(62));
        let types = format!("query($a: {}Int{}) {{ b }}", "[".repeat(63), "]".repeat(63));
        let object = format!("{{ a(b: {}1{}) }}", "{c:".repeat(62), "}".repeat(62));
        let sets = nested(64);
        let run = move || {
            for text in [list, types, object] {
                admit(&text).unwrap();
            }
            assert_eq!(excess(&refused(&sets)), "levels of fields");
            assert_eq!(excess(&refused(&nested(65))), "brackets inside one another");
        };
        let thread = std::thread::Builder::new()
            .stack_size(1024 * 1024)
            .spawn(run)
            .unwrap();
        thread.join().unwrap();
    }

    fn tokens(text: &str) -> u64 {
        let fits = |tokens| {
            let limits = Limits {
                tokens,
                nesting: 64,
                ..unlimited().limits
            };
            Lexer {
                text: text.as_bytes(),
                at: 0,
            }
            .check(&limits)
            .is_ok()
        };
        (0..1_000)
            .find(|&tokens| fits(tokens))
            .expect("fewer than 1,000 tokens")
    }

    #[test]
    fn tokens_are_counted_right() {
        for (text, expected) in [
            ("", 0),
            (" ,\t\r\n\u{feff}", 0),
            ("\u{feff}{ a }", 3),
            ("# {{{\n# \"\r# \"\"\"", 0),
            ("#{\r{", 1),
            ("{ a # } \n }", 3),
            ("a...b", 3),
            ("$a: [Int!]! = -1.5e-10 @b", 12),
            ("1.5 2e5 3E+7 0 -0 0.5 10", 7),
            ("007", 3),
            ("1-2-3", 3),
            (r#""a""b""#, 2),
            (r#""{[(" "\"{" "\\" "\u0041{""#, 4),
            (r##""#" a"##, 2),
            (r#""""{"#, 0),
            (r#""""{ "quoted" \""" { """ a"#, 2),
            (r#""""""" """""""#, 2),
            ("\"\"\"\n{\n\"\"\"", 1),
            ("truetrue nullfalsetrue nullable true", 2 + 3 + 2 + 1),
            ("größe", 6),
        ] {
            let result = Lexer {
                text: text.as_bytes(),
                at: 0,
            }
            .check(&unlimited().limits);
            if expected == 0 && result.is_err() {
                assert!(matches!(result, Err(Reason::Parse { .. })), "{text}");
            } else {
                assert_eq!(tokens(text), expected, "{text}");
            }
        }
    }

    #[test]
    fn brackets_in_strings_and_comments_do_not_nest() {
        let braces = "{[(".repeat(100);
        for text in [
            format!("{{ a(b: \"{braces}\") }}"),
            format!("{{ a(b: \"\"\"{braces}\n\\\"\"\" {braces} \"quoted\" \"\"\") }}"),
            format!("{{ a # {braces}\n }}"),
            format!("{{ a(b: \"\\\"{braces}\") }}"),
            format!("\u{feff}{{ a(b: \"ünï 🦀 {braces}\") }}"),
        ] {
            admit(&text).unwrap_or_else(|refusal| panic!("{text}: {refusal:?}"));
        }
    }

    #[test]
    fn a_string_without_end_is_a_parse_error() {
        for (text, line, column) in [
            ("{ a(b: \"c) }", 1, 8),
            ("{\n ü(b: \"c\n\") }", 2, 7),
            ("{ a(b: \"c\\\n\") }", 1, 8),
            ("{ a(b: \"c\\", 1, 8),
            ("{ a(b: \"c\\\") }", 1, 8),
            ("{ a(b: \"\"\"c\") }", 1, 8),
            ("{ a(b: \"\"\"c\\\"\"\" }", 1, 8),
            ("\"", 1, 1),
        ] {
            let Reason::Parse { positions, .. } = refused(text).reason else {
                panic!("{text}")
            };
            assert_eq!(positions, [Pos { line, column }], "{text}");
        }
        // The parser would read an empty string here, a second string, and then the brackets.
        let text = format!("{{ a(b: [\"\"\" \" {} ", "[".repeat(10_000));
        assert!(matches!(refused(&text).reason, Reason::Parse { .. }));
    }

    #[test]
    fn parse_errors_keep_position_and_message() {
        let refusal = refused("{ a\n  b( }");
        let Reason::Parse { message, positions } = &refusal.reason else {
            panic!("{refusal:?}")
        };
        assert_eq!(message, "expected name");
        assert_eq!(positions, &[Pos { line: 2, column: 6 }]);
        assert_eq!(refusal.reason.code(), Code::GraphqlParseFailed);
        let long = format!("query {} {{ a }}", "A".repeat(1_000));
        let Reason::Parse { message, positions } = refused(&long.repeat(2)).reason else {
            panic!()
        };
        assert!(message.chars().count() <= MESSAGE_CHARS);
        assert_eq!(positions.len(), 2);
        for text in [
            "",
            " ",
            "{",
            "}",
            "{}",
            "{ a }}",
            "\0",
            "{ a(b: 1a) }",
            "{ a(b: \"\\ud800\") }",
        ] {
            assert!(
                matches!(refused(text).reason, Reason::Parse { .. }),
                "{text}"
            );
        }
    }

    // Counts

    #[test]
    fn fields_count_as_often_as_their_row_may_be_there() {
        let wide = |fields: usize| {
            let fields = row(fields, |_| "name ".to_owned());
            format!(
                "{{ projects(first: 100) {{ nodes {{ invoices(first: 100) {{ nodes {{ {fields} }} }} }} }} }}"
            )
        };
        // 100 and the wrapper of 100, each with 100 and the fields of these.
        admit(&wide(20)).unwrap();
        assert_eq!(excess(&refused(&wide(25))), "values in its answer");
        // A row that leads back to itself multiplies without a row that is fetched anew.
        let back = "{ projects(first: 1) { nodes { invoices(first: 100) { nodes { subject {
            ... on Project { invoices(first: 100) { nodes { id id id id id id id id id id id id id
            id id id id id id id id id id id id id id } } } } } } } } }";
        assert_eq!(excess(&refused(back)), "values in its answer");
    }

    #[test]
    fn a_query_about_the_schema_that_goes_in_circles_is_refused() {
        let circles = |times: usize| {
            let open = "interfaces { possibleTypes { ".repeat(times);
            let close = "} } ".repeat(times);
            format!("{{ __schema {{ types {{ {open} kind {close} }} }} }}")
        };
        admit(&circles(1)).unwrap();
        let lists = "lists of the schema inside one another";
        assert_eq!(excess(&refused(&circles(2))), lists);
        let through_a_fragment = "{ __schema { types { ...T } } }
            fragment T on __Type { fields { type { fields { type { fields { name } } } } } }";
        assert_eq!(excess(&refused(through_a_fragment)), lists);
        let names = row(4_900, |_| "name ".to_owned());
        let wide = format!("{{ __schema {{ types {{ fields {{ {names} }} }} }} }}");
        assert_eq!(excess(&refused(&wide)), "values in its answer");
    }

    #[test]
    fn the_introspection_query_is_admitted_at_depth_fifteen() {
        let admitted = admit(INTROSPECTION).unwrap();
        assert_eq!(keys(&admitted), ["__schema"]);
        assert_eq!(admitted.cost, 0);
        let mut guard = guard();
        guard.limits.depth = 14;
        let refusal = guard
            .admit(INTROSPECTION, None, &Variables::default())
            .unwrap_err();
        assert_eq!(excess(&refusal), "levels of fields");
    }

    #[test]
    fn depth_is_counted_through_fragments() {
        admit(&nested(15)).unwrap();
        assert_eq!(excess(&refused(&nested(16))), "levels of fields");
        let through = |fields| {
            let inner = nested(fields);
            format!("{{ a {{ ... on A {{ b {{ ...f }} }} }} }} fragment f on B {inner}")
        };
        admit(&through(13)).unwrap();
        assert_eq!(excess(&refused(&through(14))), "levels of fields");
    }

    #[test]
    fn directives_are_counted_wherever_they_stand() {
        for place in [
            "{ a DIRECTIVES }",
            "{ ... DIRECTIVES { a } }",
            "{ ...f DIRECTIVES } fragment f on Q { a }",
            "{ ...f } fragment f on Q DIRECTIVES { a }",
            "query DIRECTIVES { a }",
            "query($v: Int DIRECTIVES) { a }",
        ] {
            let text = |count| place.replace("DIRECTIVES", &"@d ".repeat(count));
            admit(&text(50)).unwrap();
            assert_eq!(excess(&refused(&text(51))), "directives", "{place}");
        }
        let spread = |count| {
            let directives = "@d ".repeat(count);
            format!("{{ ...f ...f }} fragment f on Q {{ a {directives} }}")
        };
        admit(&spread(25)).unwrap();
        assert_eq!(excess(&refused(&spread(26))), "directives");
    }

    #[test]
    fn root_fields_are_counted_through_fragments() {
        let text = |fields: usize| {
            let fields = "a ".repeat(fields);
            format!("{{ ...f ... {{ ...f }} b }} fragment f on Q {{ {fields} }}")
        };
        admit(&text(9)).unwrap();
        assert_eq!(excess(&refused(&text(10))), "root fields");
        // Those of another operation are not fetched.
        let other = format!("query A {{ a }} query B {{ {} }}", "a ".repeat(30));
        admit_named(&other, "A").unwrap();
        let refusal = admit_named(&other, "B").unwrap_err();
        assert_eq!(excess(&refusal), "root fields");
    }

    #[test]
    fn definitions_are_counted() {
        let operations = |count| row(count, |n| format!("query Q{n} {{a}}"));
        admit_named(&operations(20), "Q0").unwrap();
        let refusal = admit_named(&operations(21), "Q0").unwrap_err();
        assert_eq!(excess(&refusal), "operations");

        let fragments = |count| {
            let all = row(count, |n| format!("fragment f{n} on Q {{a}}"));
            format!("{{ a }} {all}")
        };
        admit(&fragments(200)).unwrap();
        assert_eq!(excess(&refused(&fragments(201))), "fragments");

        let variables = |count| {
            let all = row(count, |n| format!("$v{n}: Int "));
            format!("query A {{ a }} query B({all}) {{ a }}")
        };
        admit_named(&variables(100), "A").unwrap();
        let refusal = admit_named(&variables(101), "A").unwrap_err();
        assert_eq!(excess(&refusal), "variables in one operation");
    }

    #[test]
    fn the_operation_is_chosen_by_the_specification() {
        let choose = |text: &str, name| {
            let admitted = guard().admit(text, name, &Variables::default());
            admitted
                .map(|admitted| admitted.operation)
                .map_err(|refusal| refusal.reason)
        };
        let two = "query A { a } mutation B { b }";
        assert_eq!(choose(two, Some("A")), Ok(OperationType::Query));
        assert_eq!(choose(two, Some("B")), Ok(OperationType::Mutation));
        assert_eq!(choose(two, Some("C")), Err(Reason::UnknownOperation));
        assert_eq!(choose(two, None), Err(Reason::OperationNameRequired));
        assert_eq!(
            choose("subscription S { a }", None),
            Ok(OperationType::Subscription)
        );
        assert_eq!(choose("{ a }", None), Ok(OperationType::Query));
        assert_eq!(choose("{ a }", Some("A")), Err(Reason::UnknownOperation));
    }

    #[test]
    fn root_keys_are_in_the_order_of_the_answer() {
        let text = "
            { b: a ...f a ... on Q { c ...g @include(if: true) } ...f b: a d ...unknown }
            fragment f on Q { e ...g a }
            fragment g on Q { x: y z }";
        assert_eq!(
            keys(&admit(text).unwrap()),
            ["b", "e", "x", "z", "a", "c", "d"]
        );
    }

    // Cost

    fn cost(text: &str, variables: Value) -> u64 {
        let mut guard = guard();
        guard.limits.cost = u64::MAX;
        guard
            .admit(text, None, &Variables::from_value(variables))
            .unwrap()
            .cost
    }

    #[test]
    fn the_headline_query_costs_701() {
        // organization 1, owner 1, invoices 1 + 5 * (1 + total 1) = 11,
        // auditLogs 1 + 10 * (1 + actor 1) = 21; projects 1 + 20 * (1 + 1 + 1 + 11 + 21).
        assert_eq!(admit(HEADLINE).unwrap().cost, 701);
    }

    #[test]
    fn pages_in_pages_are_refused() {
        let text = "{ projects(first:100) { nodes { invoices(first:100) { nodes {
            lineItems(first:100) { nodes { id } } } } } } }";
        // lineItems 1 + 100, invoices 1 + 100 * 102, projects 1 + 100 * 10,202.
        let reason = refused(text).reason;
        assert_eq!(
            reason,
            Reason::TooCostly {
                cost: 1_020_201,
                limit: 20_000
            }
        );
        assert_eq!(
            reason.to_string(),
            "the operation may fetch 1020201 rows, of 20000 at most: ask for smaller pages"
        );
        assert_eq!(reason.code(), Code::QueryTooComplex);
    }

    #[test]
    fn costs_by_field() {
        let none = value!({});
        for (text, expected) in [
            ("{ a b c }", 0),
            ("{ a { b } }", 1),
            ("{ a { b { c } d { e } } }", 3),
            ("{ __schema { types { fields { name } } } __typename }", 0),
            ("{ projects { totalCount } }", 21),
            ("{ projects { nodes { id } } }", 21),
            (
                "{ projects { edges { cursor node { id } } pageInfo { endCursor } } }",
                21,
            ),
            ("{ projects { nodes { a { b } } } }", 41),
            (
                "{ projects { nodes { a { b } } edges { node { a { b } } } } }",
                61,
            ),
            ("{ projects(first: 3) { nodes { id } } }", 4),
            ("{ projects(last: 3) { nodes { id } } }", 4),
            ("{ projects(first: 3, last: 5) { nodes { id } } }", 6),
            ("{ projects(first: 0) { nodes { id } } }", 1),
            ("{ projects(first: -5) { nodes { id } } }", 1),
            ("{ projects(first: 101) { nodes { id } } }", 101),
            (
                "{ projects(first: 99999999999999999999) { nodes { id } } }",
                101,
            ),
            ("{ projects(first: 1.5) { nodes { id } } }", 101),
            ("{ projects(first: \"1\") { nodes { id } } }", 101),
            ("{ projects(first: null) { nodes { id } } }", 21),
            ("{ projects(first: null, last: 2) { nodes { id } } }", 3),
            (
                "{ x: projects(first: 2) { nodes { id } } y: projects(first: 2) { nodes { id } } }",
                6,
            ),
            (
                "{ ...f ...f } fragment f on Q { projects(first: 2) { nodes { id } } }",
                6,
            ),
            ("{ projects(first: 2) @skip(if: true) { nodes { id } } }", 3),
            ("{ node(id: 1) { id } }", 1),
            ("{ node(id: 1) { a { b } } }", 2),
            ("{ nodes(ids: [1, 2, 3]) { id } }", 3),
            ("{ nodes(ids: [1, 2, 3]) { ... on A { b { c } } } }", 6),
            ("{ nodes(ids: 1) { id } }", 1),
            ("{ nodes(ids: []) { id } }", 0),
            ("{ nodes(ids: null) { id } }", 0),
        ] {
            assert_eq!(cost(text, none.clone()), expected, "{text}");
        }
        let ids = "1 ".repeat(150);
        assert_eq!(
            cost(&format!("{{ nodes(ids: [{ids}]) {{ id }} }}"), none),
            100
        );
    }

    #[test]
    fn costs_by_variable() {
        let page = "query($n: Int) { projects(first: $n) { nodes { id } } }";
        let default = page.replace("Int", "Int = 7");
        for (text, variables, expected) in [
            (page, value!({ "n": 50 }), 51),
            (page, value!({ "n": 500 }), 101),
            (page, value!({ "n": (-1) }), 1),
            (page, value!({ "n": "50" }), 101),
            (page, value!({ "n": null }), 21),
            (page, value!({}), 21),
            (&default, value!({}), 8),
            (&default, value!({ "n": 2 }), 3),
            (&default, value!({ "n": null }), 21),
            (
                "{ projects(first: $undefined) { nodes { id } } }",
                value!({}),
                21,
            ),
        ] {
            assert_eq!(
                cost(text, variables.clone()),
                expected,
                "{text} {variables}"
            );
        }
        let list = "query($ids: [ID!]! = [1, 2]) { nodes(ids: $ids) { id } }";
        assert_eq!(cost(list, value!({ "ids": [1, 2, 3] })), 3);
        assert_eq!(cost(list, value!({ "ids": "one" })), 1);
        assert_eq!(cost(list, value!({ "ids": null })), 0);
        assert_eq!(cost(list, value!({})), 2);
        let in_fragment =
            "query($n: Int = 4) { ...f } fragment f on Q { projects(first: $n) { totalCount } }";
        assert_eq!(cost(in_fragment, value!({})), 5);
    }

    #[test]
    fn the_default_is_that_of_the_operation_that_runs() {
        let text = "
            query A($n: Int = 1) { ...f }
            query B($n: Int = 9) { ...f }
            fragment f on Q { projects(first: $n) { nodes { id } } }";
        for (name, expected) in [("A", 2), ("B", 10)] {
            let admitted = admit_named(text, name).unwrap();
            assert_eq!(admitted.cost, expected);
        }
    }

    // Variables

    #[test]
    fn variables_are_bounded_in_depth_and_number() {
        let deep = |depth| {
            let nest = |value, _| Value::List(vec![value]);
            Variables::from_value(value!({ "a": ((0..depth).fold(Value::from(1), nest)) }))
        };
        guard().check_variables(&deep(32)).unwrap();
        let refusal = guard().check_variables(&deep(33)).unwrap_err();
        assert_eq!(
            excess(&refusal),
            "lists and objects inside one another in its variables"
        );

        let wide = |count| Variables::from_value(value!({ "a": { "b": (vec![1; count]) } }));
        guard().check_variables(&wide(9_998)).unwrap();
        let refusal = guard().check_variables(&wide(9_999)).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "the request has more than 10000 values in its variables"
        );

        guard().check_variables(&Variables::default()).unwrap();
        guard()
            .check_variables(&Variables::from_value(value!({ "a": "\0" })))
            .unwrap();
    }

    // The fold against a naive expansion

    /// Random documents: xorshift, so that a seed is a document.
    struct Random {
        state: u64,
        /// The tokens written so far.
        tokens: u64,
        text: String,
    }

    impl Random {
        fn new(seed: u64) -> Self {
            Self {
                state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
                tokens: 0,
                text: String::new(),
            }
        }

        fn below(&mut self, bound: u64) -> u64 {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            self.state % bound
        }

        fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
            let index = self.below(from.len() as u64);
            from[usize::try_from(index).unwrap()]
        }

        fn token(&mut self, token: &str) {
            self.tokens += 1;
            self.text.push_str(token);
            let ignored = [
                " ",
                " ",
                "\n",
                ", ",
                "\t",
                "\u{feff} ",
                " # } { \" \"\"\"\n",
                "\r\n",
            ];
            let ignored = self.pick(&ignored);
            self.text.push_str(ignored);
        }

        fn tokens(&mut self, tokens: &str) {
            for token in tokens.split(' ') {
                self.token(token);
            }
        }

        /// A type condition. The parser takes no comment within it.
        fn token_on(&mut self) {
            self.tokens += 1;
            self.text.push_str("on ");
            self.token("T");
        }

        fn directives(&mut self) {
            while self.below(6) == 0 {
                self.tokens("@ include ( if : true )");
            }
        }

        fn arguments(&mut self) {
            match self.below(8) {
                0 => self.tokens("( first : 3 )"),
                1 => self.tokens("( last : $ n )"),
                2 => self.tokens("( ids : [ 1 2 3 ] )"),
                3 => self.tokens("( x : { y : \"}{\" } first : $ m )"),
                4 => self.tokens("( x : \"\"\"{\"{\"\"\" y : -1.5e3 first : null )"),
                _ => {}
            }
        }

        /// A selection set that spreads only fragments from `from` on, so there are no cycles.
        fn set(&mut self, depth: u64, from: u64, fragments: u64) {
            self.token("{");
            for _ in 0..=self.below(3) {
                match self.below(if depth == 0 { 4 } else { 8 }) {
                    0 if from < fragments + 1 => {
                        // One beyond the last is unknown.
                        let fragment = from + self.below(fragments + 1 - from);
                        self.token("...");
                        self.token(&format!("f{fragment}"));
                        self.directives();
                    }
                    4 => {
                        self.token("...");
                        if self.below(2) == 0 {
                            self.token_on();
                        }
                        self.directives();
                        self.set(depth - 1, from, fragments);
                    }
                    kind => {
                        if self.below(4) == 0 {
                            self.tokens("alias :");
                        }
                        let names = [
                            "a", "projects", "invoices", "nodes", "edges", "node", "__type",
                        ];
                        let name = self.pick(&names);
                        self.token(name);
                        self.arguments();
                        self.directives();
                        if kind > 4 {
                            self.set(depth - 1, from, fragments);
                        }
                    }
                }
            }
            self.token("}");
        }

        fn document(&mut self) {
            let fragments = self.below(6);
            for operation in 0..=self.below(3) {
                self.token("query");
                self.token(&format!("Q{operation}"));
                self.tokens("( $ n : Int = 2 $ m : Int )");
                self.directives();
                self.set(3, 0, fragments);
            }
            for fragment in 0..fragments {
                self.token("fragment");
                self.token(&format!("f{fragment}"));
                self.token_on();
                self.directives();
                self.set(2, fragment + 1, fragments);
            }
        }
    }

    /// The counts of a selection set by the book: expand, and count what is there.
    struct Naive<'a> {
        document: &'a ExecutableDocument,
        sum: Tally,
    }

    impl Naive<'_> {
        /// `depth` and `levels` are those round the set.
        fn walk(&mut self, set: &SelectionSet, depth: u64, levels: u64) {
            self.sum.levels = self.sum.levels.max(levels);
            for selection in &set.items {
                self.sum.nodes += 1;
                self.sum.directives += selection.node.directives().len() as u64;
                match &selection.node {
                    Selection::Field(field) => {
                        let set = &field.node.selection_set.node;
                        self.sum.depth = self.sum.depth.max(depth + 1);
                        self.sum.aliases += u64::from(field.node.alias.is_some());
                        self.sum.root_fields += u64::from(depth == 0);
                        if !set.items.is_empty() {
                            self.walk(set, depth + 1, levels + 1);
                        }
                    }
                    Selection::FragmentSpread(spread) => {
                        self.sum.levels = self.sum.levels.max(levels + 1);
                        let name = spread.node.fragment_name.node.as_str();
                        if let Some(fragment) = self.document.fragments.get(name) {
                            self.sum.directives += fragment.node.directives.len() as u64;
                            self.walk(&fragment.node.selection_set.node, depth, levels + 1);
                        }
                    }
                    Selection::InlineFragment(inline) => {
                        self.walk(&inline.node.selection_set.node, depth, levels + 1);
                    }
                }
            }
        }

        /// The rows of a set that is fetched `times` times.
        fn rows(&self, set: &SelectionSet, times: u64) -> u64 {
            let rows = |selection: &Positioned<Selection>| match &selection.node {
                Selection::Field(field) => self.field_rows(&field.node, times),
                Selection::FragmentSpread(spread) => {
                    let fragment = self.document.fragments.get(&spread.node.fragment_name.node);
                    fragment.map_or(0, |known| self.rows(&known.node.selection_set.node, times))
                }
                Selection::InlineFragment(inline) => {
                    self.rows(&inline.node.selection_set.node, times)
                }
            };
            set.items.iter().map(rows).sum()
        }

        fn field_rows(&self, field: &Field, times: u64) -> u64 {
            let set = &field.selection_set.node;
            if set.items.is_empty() || field.name.node == "__type" {
                return 0;
            }
            let (page, own) = Self::page(field);
            times * own + self.rows(set, times * page)
        }

        /// The values of a set that is there `times` times.
        fn values(&self, set: &SelectionSet, times: u64) -> u64 {
            let values = |selection: &Positioned<Selection>| match &selection.node {
                Selection::Field(field) => {
                    let times = times * Self::page(&field.node).0;
                    times + self.values(&field.node.selection_set.node, times)
                }
                Selection::FragmentSpread(spread) => {
                    let fragment = self.document.fragments.get(&spread.node.fragment_name.node);
                    fragment.map_or(0, |known| {
                        self.values(&known.node.selection_set.node, times)
                    })
                }
                Selection::InlineFragment(inline) => {
                    self.values(&inline.node.selection_set.node, times)
                }
            };
            set.items.iter().map(values).sum()
        }

        /// How many rows a field has, and what it costs besides what is below.
        fn page(field: &Field) -> (u64, u64) {
            let argument = |name| field.get_argument(name).map(|value| value.node.to_string());
            let name = field.name.node.as_str();
            match (name, argument("first").or(argument("last")).as_deref()) {
                ("projects" | "invoices", Some("3")) => (3, 4),
                // The default of `n`.
                ("projects" | "invoices", Some("$n")) => (2, 3),
                // The value of `m`.
                ("projects" | "invoices", Some("$m")) => (5, 6),
                ("projects" | "invoices", _) => (20, 21),
                ("nodes", _) if argument("ids").is_some() => (3, 3),
                ("nodes" | "edges" | "node", _) if field.arguments.is_empty() => (1, 0),
                _ => (1, 1),
            }
        }
    }

    #[test]
    fn the_fold_equals_a_naive_expansion() {
        let guard = unlimited();
        let variables = Variables::from_value(value!({ "m": 5 }));
        let (mut with_fragments, mut costly) = (0, 0);
        for seed in 1..=1_000 {
            let mut random = Random::new(seed);
            random.document();
            let text = random.text.as_str();
            let document = guard
                .parse(text)
                .unwrap_or_else(|reason| panic!("{reason}: {text}"));
            let exact = Limits {
                tokens: random.tokens,
                ..guard.limits.clone()
            };
            assert_eq!(
                Lexer {
                    text: text.as_bytes(),
                    at: 0
                }
                .check(&exact),
                Ok(()),
                "{text}"
            );
            let less = Limits {
                tokens: random.tokens - 1,
                ..exact
            };
            assert!(
                Lexer {
                    text: text.as_bytes(),
                    at: 0
                }
                .check(&less)
                .is_err(),
                "{text}"
            );

            let mut fold = Fold::new(&guard, &document);
            let chosen = fold.check(Some("Q0"), &variables).unwrap();
            let scope = Scope::new(&guard.shape, chosen.definition, &variables);
            for (_, operation) in document.operations.iter() {
                let set = &operation.node.selection_set.node;
                let folded = fold.selection_set(set, &scope);
                let mut naive = Naive {
                    document: &document,
                    sum: Tally::default(),
                };
                naive.walk(set, 0, 0);
                naive.sum.cost = naive.rows(set, 1);
                naive.sum.values = naive.values(set, 1);
                assert_eq!(folded, naive.sum, "{text}");
                with_fragments += u64::from(naive.sum.nodes > fold.work);
                costly += u64::from(naive.sum.cost > 1_000);
            }
        }
        assert!(costly > 50, "{costly} of the documents are worth comparing");
        assert!(with_fragments > 0);
    }
}
