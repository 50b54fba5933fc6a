//! The guard: rejects hostile documents before the engine reads them.
//!
//! The engine walks a document several times, with its fragments expanded, before it checks its own limits. A document
//! of 743 bytes, in which each fragment spreads the next one twice, costs the engine seconds. The invariant here: **the
//! work is linear in the length of the document, whatever the document contains.** Bytes, tokens and brackets are
//! limited before the parser runs (`lexer.rs`), the parser runs once, and each fragment is counted once, after the
//! fragments that it spreads (`count.rs`). A spread adds the counts of its fragment instead of walking it again.
//!
//! The counts, with fragments expanded: nodes (fields, spreads and inline fragments, because spreads
//! alone can form a bomb without any field), depth in fields, levels of selection sets, aliases,
//! directives in every location, root fields, values in the response, the cost (`cost.rs`), and the bytes
//! of the arguments (`arguments.rs`). The limits apply to every operation and every fragment of the document,
//! because the engine validates all operations. Root fields, values, cost and arguments are those of the
//! selected operation.

mod arguments;
mod cost;
mod count;
mod lexer;
mod variables;

use async_graphql::{
    Name, Pos, Variables,
    parser::{
        self, parse_query,
        types::{ExecutableDocument, OperationType},
    },
};

pub(super) use self::cost::IDS_ARGUMENT;
#[cfg(test)]
pub(super) use self::cost::{CONNECTION_FIELDS, INTROSPECTION_LISTS};
use self::count::Counter;
pub use self::{arguments::ArgumentUses, cost::Shape};
use crate::error::Code;

/// Messages of the parser are cut to this length, because they may quote the document.
const MAX_PARSE_MESSAGE_CHARS: usize = 200;

/// The limits of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of query text.
    pub text_bytes: u64,
    /// Tokens in the query text; commas and comments do not count.
    pub tokens: u64,
    /// Levels of nested braces, brackets and parentheses.
    pub nesting: u64,
    /// Fields, spreads and inline fragments of all operations, with fragments expanded.
    pub nodes: u64,
    /// Levels of nested fields, with fragments expanded.
    pub depth: u64,
    /// Levels of nested selection sets, including those of fragments and inline fragments.
    pub levels: u64,
    /// Aliases in one operation, with fragments expanded.
    pub aliases: u64,
    /// Root fields of the selected operation, with fragments expanded.
    pub root_fields: u64,
    /// Directives in one operation, with fragments expanded.
    pub directives: u64,
    /// Operations in the document.
    pub operations: u64,
    /// Variables that one operation defines.
    pub variables: u64,
    /// Fragment definitions in the document.
    pub fragments: u64,
    /// Rows that the selected operation could fetch.
    pub cost: u64,
    /// Values that the response could have: each field counts once for each row of its object.
    pub values: u64,
    /// Levels of nested lists in an introspection query.
    pub introspection_depth: u64,
    /// Bytes of the literals and the variables in the arguments of the selected operation, with fragments expanded.
    /// A variable counts each time it is used.
    pub argument_bytes: u64,
    /// The same bytes for a mutation, which stores most of them.
    pub mutation_argument_bytes: u64,
    /// Levels of nested lists and objects in the variables.
    pub variable_depth: u64,
    /// Values in the variables, including lists and objects.
    pub variable_values: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Parsing takes up to 0.25 ms per KB, so this limit keeps the parser below 20 ms.
            text_bytes: 64 * 1024,
            // The standard introspection query has fewer than 200 tokens.
            tokens: 10_000,
            // The parser's own limit for selection sets. The parser has no limit for lists and types.
            nesting: 64,
            // A hand-written query for a whole page of an application needs hundreds.
            nodes: 5_000,
            // The standard introspection query, with nine `ofType`, needs exactly 15.
            depth: 15,
            // The engine's default `limit_recursive_depth`, counted in the same way.
            levels: 32,
            // `docs/api.md` publishes these three limits.
            aliases: 30,
            root_fields: 20,
            directives: 50,
            // Only one operation is executed, but a client may send a file that has several.
            operations: 20,
            // Each invalid variable adds an error to the response.
            variables: 100,
            // Generated clients send about one fragment per component of the user interface.
            fragments: 200,
            // 28 times the cost of the headline query of the benchmarks.
            cost: 20_000,
            // Twelve values for each of those rows. A value in a tree takes about 120 bytes and 0.4 µs.
            values: 250_000,
            // The standard introspection query needs three: the types, their fields, and the fields' arguments.
            introspection_depth: 3,
            // The longest body that the service accepts, used twice, with the overhead of its values.
            argument_bytes: 4 * 1024 * 1024,
            // The longest body, used once, with the overhead of its values.
            mutation_argument_bytes: 2 * 1024 * 1024,
            // A filter needs up to two levels for each nested `and`, `or` or `not`.
            variable_depth: 32,
            // A bulk mutation has at most 1,000 rows of up to six values each.
            variable_values: 10_000,
        }
    }
}

/// A document that passed the guard.
#[derive(Clone, Debug)]
pub struct CheckedDocument {
    /// The parsed document, for `Request::set_parsed_query`.
    pub document: ExecutableDocument,
    /// The name of the selected operation; `None` if it is anonymous.
    pub operation_name: Option<Name>,
    /// The type of the selected operation.
    pub operation_type: OperationType,
    /// The rows that the selected operation could fetch.
    pub cost: u64,
    /// The values that the response of the selected operation could have.
    pub values: u64,
    /// Whether the cost or the number of values depends on the variables of the request.
    pub depends_on_variables: bool,
    /// The literals and the variables in the arguments.
    pub arguments: ArgumentUses,
    /// The fields of the root selection set in the order of the response, one per response key.
    /// Directives are not evaluated, so `@skip` may remove some of them from the response.
    pub root_fields: Vec<RootField>,
    /// The number of visited nodes of the syntax tree.
    pub work: u64,
}

/// A field of the root selection set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootField {
    /// The response key: the alias, or the name if there is no alias.
    pub key: Name,
    /// The name of the field in the schema.
    pub name: Name,
}

/// The error of a request that the guard rejected. The message is for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct GuardError {
    /// The reason.
    pub reason: Reason,
    /// The number of nodes of the syntax tree that were visited before the rejection.
    pub work: u64,
}

/// The reason why the guard rejected a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The request exceeds one of the [`Limits`].
    #[error("the request has more than {limit} {what}")]
    LimitExceeded {
        /// The counted things, in the plural.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The operation could fetch too many rows.
    #[error(
        "the operation could fetch {cost} rows, and the limit is {limit}: request smaller pages"
    )]
    CostExceeded {
        /// The rows that the operation could fetch.
        cost: u64,
        /// The limit.
        limit: u64,
    },
    /// The query is not a valid GraphQL document.
    #[error("{message}")]
    Parse {
        /// What the parser expected.
        message: String,
        /// The positions of the error, the most important first.
        positions: Vec<Pos>,
    },
    /// A fragment spreads itself, directly or through other fragments.
    #[error("the fragment {fragment} contains itself")]
    FragmentCycle {
        /// The name of the fragment.
        fragment: String,
    },
    /// A required variable does not have a value.
    #[error("the variable ${variable} of type {declared} has no value")]
    MissingVariable {
        /// The name of the variable, without the `$`.
        variable: String,
        /// The type, as the document declares it.
        declared: String,
    },
    /// The document does not have an operation with the name in the request.
    #[error("the document does not have an operation with this `operationName`")]
    UnknownOperation,
    /// The document has several operations, and the request does not name one.
    #[error("the document has several operations: select one with `operationName`")]
    OperationNameRequired,
}

impl Reason {
    /// The stable `extensions.code`.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::LimitExceeded { .. } | Self::CostExceeded { .. } => Code::QueryTooComplex,
            Self::Parse { .. } => Code::GraphqlParseFailed,
            Self::MissingVariable { .. } => Code::BadUserInput,
            Self::FragmentCycle { .. } | Self::UnknownOperation | Self::OperationNameRequired => {
                Code::GraphqlValidationFailed
            }
        }
    }
}

impl From<parser::Error> for Reason {
    fn from(error: parser::Error) -> Self {
        // The parser's error shows the line of the document and an arrow. The last line of the error is the message.
        let text = error.to_string();
        let last = text.lines().last().unwrap_or_default().trim_start();
        let message = last.strip_prefix("= ").unwrap_or(last);
        Self::Parse {
            message: message.chars().take(MAX_PARSE_MESSAGE_CHARS).collect(),
            positions: error.positions().collect(),
        }
    }
}

/// The guard: checks requests against limits and the shape of the schema.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// The limits.
    pub limits: Limits,
    /// The shape of the schema.
    pub shape: Shape,
}

impl Guard {
    /// Parses a document, checks it against the limits, and selects the operation to execute.
    ///
    /// The variables are read for page sizes, lengths of lists and the bytes of arguments only;
    /// [`Self::check_variables`], which must be called first, checks their nesting.
    pub fn check(
        &self,
        text: &str,
        operation_name: Option<&str>,
        variables: &Variables,
    ) -> Result<CheckedDocument, GuardError> {
        let document = self
            .parse(text)
            .map_err(|reason| GuardError { reason, work: 0 })?;
        let mut counter = Counter::new(self, &document);
        let selected = match counter.check(operation_name, variables) {
            Ok(selected) => selected,
            Err(reason) => {
                return Err(GuardError {
                    reason,
                    work: counter.work,
                });
            }
        };
        let root_fields = counter.root_fields(&selected.definition.selection_set.node);
        let arguments = counter.arguments(selected.definition);
        if let Err(reason) = arguments.check(selected.definition.ty, variables, &self.limits) {
            let work = counter.work;
            return Err(GuardError { reason, work });
        }
        Ok(CheckedDocument {
            operation_name: selected.name.cloned(),
            operation_type: selected.definition.ty,
            cost: selected.cost,
            values: selected.values,
            depends_on_variables: selected.depends_on_variables,
            arguments,
            root_fields,
            work: counter.work,
            document,
        })
    }

    /// Returns the cost and the number of values of a document that passed [`Self::check`], for the variables of another
    /// request. Also checks the bytes of the arguments again. The other counts do not depend on the variables.
    pub fn cost(
        &self,
        checked: &CheckedDocument,
        variables: &Variables,
    ) -> Result<(u64, u64), GuardError> {
        let mut work = 0;
        let mut cost = || {
            let mut cost = (checked.cost, checked.values);
            if checked.depends_on_variables {
                let mut counter = Counter::new(self, &checked.document);
                let selected = counter.check(checked.operation_name.as_deref(), variables);
                work = counter.work;
                let selected = selected?;
                cost = (selected.cost, selected.values);
            }
            let arguments = &checked.arguments;
            arguments.check(checked.operation_type, variables, &self.limits)?;
            Ok(cost)
        };
        cost().map_err(|reason| GuardError { reason, work })
    }

    /// Checks the nesting of the variables and the number of their values.
    pub fn check_variables(&self, variables: &Variables) -> Result<(), GuardError> {
        variables::check(variables, &self.limits).map_err(|reason| GuardError { reason, work: 0 })
    }

    fn parse(&self, text: &str) -> Result<ExecutableDocument, Reason> {
        check_limit(
            to_u64(text.len()),
            self.limits.text_bytes,
            "bytes of query text",
        )?;
        lexer::check(text, &self.limits)?;
        Ok(parse_query(text)?)
    }
}

fn to_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn check_limit(count: u64, limit: u64, what: &'static str) -> Result<(), Reason> {
    if count > limit {
        return Err(Reason::LimitExceeded { what, limit });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
