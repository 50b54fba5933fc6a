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

mod cost;
mod count;
mod lexer;
#[cfg(test)]
mod tests;

use async_graphql::{
    Name, Pos, Value, Variables,
    parser::{
        self, parse_query,
        types::{ExecutableDocument, OperationType},
    },
};

pub use self::cost::Shape;
use self::{count::Fold, lexer::Lexer};

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
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooComplex { .. } | Self::TooCostly { .. } => "QUERY_TOO_COMPLEX",
            Self::Parse { .. } => "GRAPHQL_PARSE_FAILED",
            Self::NoValue { .. } => "BAD_USER_INPUT",
            Self::Cycle { .. } | Self::UnknownOperation | Self::OperationNameRequired => {
                "GRAPHQL_VALIDATION_FAILED"
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
