//! Names the path of an invalid ID in the error of its argument.
//!
//! The schema has one scalar for all IDs, so the validation accepts an ID of any type. The resolver rejects an ID of the
//! wrong type, and the engine's message says neither where the ID is nor what it is.

use async_graphql::{
    Name, Pos, Response, Value, Variables,
    parser::types::{ExecutableDocument, Selection, SelectionSet},
};
use async_graphql_value::Value as Literal;

use crate::{graphql::errors::MAX_ERRORS, ids::quote_id};

/// What every message about an invalid ID contains.
const PHRASE: &str = " is not an ID of the type ";

/// Replaces the messages of the engine for invalid IDs: `$input.organizationId is not an ID of the type Organization: …`.
///
/// The new messages do not quote the ID: the responses to an ID of another tenant and to an unknown ID must be equal.
pub fn name(response: &mut Response, document: &ExecutableDocument, variables: &Variables) {
    // The rest is removed from the response.
    for error in response.errors.iter_mut().take(MAX_ERRORS) {
        if let (Some(reason), Some(position)) = (reason(&error.message), error.locations.first())
            && let Some((_, rest)) = reason.rsplit_once(PHRASE)
        {
            let path = path(document, variables, *position, reason);
            let path = path.as_deref().unwrap_or("the value");
            error.message = format!("{path}{PHRASE}{rest}");
        }
    }
}

/// The part of the engine's message that describes an invalid ID: `Failed to parse "ID": … (occurred while parsing …)`.
fn reason(message: &str) -> Option<&str> {
    let (_, reason) = message
        .strip_prefix("Failed to parse \"")?
        .split_once("\": ")?;
    let is_about_id = reason.starts_with('"') && reason.contains(PHRASE);
    let reason = reason.split(" (occurred while parsing \"").next()?;
    is_about_id.then_some(reason)
}

/// The path of the first string that the reason quotes, in the argument whose value has this position.
fn path(
    document: &ExecutableDocument,
    variables: &Variables,
    position: Pos,
    reason: &str,
) -> Option<String> {
    let (name, value) = find_argument(document, position)?;
    let mut search = Search {
        variables,
        is_found: &|text| reason.starts_with(&quote_id(text)),
        path: name.to_string(),
    };
    search.literal(value).then_some(search.path)
}

fn find_argument(document: &ExecutableDocument, position: Pos) -> Option<(&Name, &Literal)> {
    fn find(set: &SelectionSet, position: Pos) -> Option<(&Name, &Literal)> {
        set.items
            .iter()
            .find_map(|selection| match &selection.node {
                Selection::Field(field) => {
                    let arguments = &field.node.arguments;
                    let found = arguments.iter().find(|(_, value)| value.pos == position);
                    found
                        .map(|(name, value)| (&name.node, &value.node))
                        .or_else(|| find(&field.node.selection_set.node, position))
                }
                Selection::InlineFragment(inline) => {
                    find(&inline.node.selection_set.node, position)
                }
                Selection::FragmentSpread(_) => None,
            })
    }
    let operations = document
        .operations
        .iter()
        .map(|(_, one)| &one.node.selection_set);
    let fragments = document
        .fragments
        .values()
        .map(|one| &one.node.selection_set);
    operations
        .chain(fragments)
        .find_map(|set| find(&set.node, position))
}

/// A search for a string in a value.
struct Search<'s> {
    variables: &'s Variables,
    is_found: &'s dyn Fn(&str) -> bool,
    /// The path of the visited value.
    path: String,
}

impl Search<'_> {
    /// Whether the value contains the string. If so, the path is that of the string.
    fn literal(&mut self, value: &Literal) -> bool {
        match value {
            Literal::String(text) => (self.is_found)(text),
            Literal::Variable(name) => {
                let value = self.variables.get(name);
                let outer = std::mem::replace(&mut self.path, format!("${name}"));
                let is_found = value.is_some_and(|value| self.constant(value));
                if !is_found {
                    self.path = outer;
                }
                is_found
            }
            Literal::List(items) => self.items(items, Self::literal),
            Literal::Object(fields) => self.fields(fields.iter(), Self::literal),
            _ => false,
        }
    }

    fn constant(&mut self, value: &Value) -> bool {
        match value {
            Value::String(text) => (self.is_found)(text),
            Value::List(items) => self.items(items, Self::constant),
            Value::Object(fields) => self.fields(fields.iter(), Self::constant),
            _ => false,
        }
    }

    fn items<V>(&mut self, items: &[V], visit: fn(&mut Self, &V) -> bool) -> bool {
        let length = self.path.len();
        items.iter().enumerate().any(|(index, item)| {
            self.path.truncate(length);
            self.path.push('[');
            self.path.push_str(&index.to_string());
            self.path.push(']');
            let is_found = visit(self, item);
            if !is_found {
                self.path.truncate(length);
            }
            is_found
        })
    }

    fn fields<'f, V: 'f>(
        &mut self,
        mut fields: impl Iterator<Item = (&'f Name, &'f V)>,
        visit: fn(&mut Self, &V) -> bool,
    ) -> bool {
        let length = self.path.len();
        fields.any(|(name, field)| {
            self.path.truncate(length);
            self.path.push('.');
            self.path.push_str(name);
            let is_found = visit(self, field);
            if !is_found {
                self.path.truncate(length);
            }
            is_found
        })
    }
}
