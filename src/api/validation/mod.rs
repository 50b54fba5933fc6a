//! Validates documents and the values of variables (GraphQL specification, sections 5 and 6.1.2).
//!
//! The engine's own validation is not used: it accepts documents that the specification forbids, such as a variable
//! of the wrong type in an input object, and rejects valid ones, such as a variable of the type `[ID!]!` for an argument
//! of the type `[ID!]`. Every rule of the specification is checked by the first component that can detect the error:
//!
//! | rules | checked by |
//! |---|---|
//! | unique operation and fragment names, lone anonymous operation, executable definitions | the parser |
//! | no fragment cycles | the guard |
//! | unique input field names | [`literals`]: the parser keeps only the last of two equal fields |
//! | fields, arguments, directives, type conditions, leaf fields, types of variables | [`definitions`] |
//! | values of the correct type | [`values`] |
//! | variables and fragments across definitions | [`usages`] |
//! | overlapping fields can be merged | [`merging`] |
//!
//! The work is bounded by the limits of the guard, which must have accepted the document before. Each definition is
//! visited once. The variables of a fragment are checked once for each operation that uses the fragment. Overlapping
//! fields are compared in the document with its fragments expanded. `tests/graphql-rules` compares the results with
//! those of graphql-js.

mod definitions;
mod literals;
mod merging;
mod usages;
pub(super) mod values;

use async_graphql::{Pos, parser::types::ExecutableDocument, registry::Registry};

use self::{definitions::Visitor, merging::FieldMerger};

/// The maximum number of errors that the validation reports. The response does not contain more.
pub(super) const MAX_ERRORS: usize = 25;

/// An error in a document or in the value of a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentError {
    /// The message for the client.
    pub message: String,
    /// The positions in the document.
    pub locations: Vec<Pos>,
}

/// The errors found so far, up to [`MAX_ERRORS`].
#[derive(Debug, Default)]
struct Errors(Vec<DocumentError>);

impl Errors {
    fn add(&mut self, locations: impl Into<Vec<Pos>>, message: impl Into<String>) {
        if !self.is_full() {
            self.0.push(DocumentError {
                message: message.into(),
                locations: locations.into(),
            });
        }
    }

    fn is_full(&self) -> bool {
        self.0.len() >= MAX_ERRORS
    }
}

/// Validates a document that the guard accepted. Returns the errors in the order of their positions.
pub fn validate(
    registry: &Registry,
    document: &ExecutableDocument,
    text: &str,
) -> Vec<DocumentError> {
    let mut errors = Errors::default();
    literals::check(text, &mut errors);
    let uses = Visitor::new(registry, document, &mut errors).visit();
    usages::check(&uses, &mut errors);
    // Fields of unknown types cannot be compared.
    if errors.0.is_empty() {
        FieldMerger::new(registry, document, &mut errors).check();
    }
    let Errors(mut errors) = errors;
    errors.sort_by_key(|error| error.locations.first().copied());
    errors
}

#[cfg(test)]
mod tests;
