//! The messages of the parser's errors, in the words of GraphQL instead of the names of the parser's rules.

use async_graphql::{Pos, parser};

use super::Reason;

/// Messages are cut to this length, because they may quote the document.
pub(super) const MAX_PARSE_MESSAGE_CHARS: usize = 200;

/// The reason for an error of the parser.
pub(super) fn reason(text: &str, error: &parser::Error) -> Reason {
    let message = match error {
        parser::Error::Syntax { message, start, .. } => {
            let found = found_at(text, *start);
            let expected = expected(message, text_before(text, *start));
            format!(
                "syntax error at {}:{}: {expected}, found {found}",
                start.line, start.column
            )
        }
        parser::Error::MultipleOperations { .. } => {
            "the document has an anonymous operation and another one: give each a name".to_owned()
        }
        parser::Error::OperationDuplicated { operation, .. } => {
            format!("the document has several operations named {operation}")
        }
        parser::Error::FragmentDuplicated { fragment, .. } => {
            format!("the document has several fragments named {fragment}")
        }
        parser::Error::MissingOperation => "the document does not have an operation".to_owned(),
        parser::Error::RecursionLimitExceeded => "the document is nested too deeply".to_owned(),
        // The other errors are about schemas.
        other => other.to_string(),
    };
    Reason::Parse {
        message: message.chars().take(MAX_PARSE_MESSAGE_CHARS).collect(),
        positions: error.positions().collect(),
    }
}

/// The part of a document before a position.
fn text_before(text: &str, position: Pos) -> &str {
    let mut line_start = 0;
    for _ in 1..position.line {
        let rest = text.get(line_start..).unwrap_or_default();
        line_start += rest.find('\n').map_or(rest.len(), |end| end + 1);
    }
    let line = text.get(line_start..).unwrap_or_default();
    let column = line.char_indices().nth(position.column.saturating_sub(1));
    let end = column.map_or(text.len(), |(offset, _)| line_start + offset);
    text.get(..end).unwrap_or(text)
}

/// The token at a position.
fn found_at(text: &str, position: Pos) -> String {
    let rest = &text[text_before(text, position).len()..];
    let rest = rest.trim_start_matches([' ', '\t', '\r', '\n', ',', '\u{feff}']);
    let is_name = |char: char| char == '_' || char.is_ascii_alphanumeric();
    let length = match rest.chars().next() {
        None => return "the end of the document".to_owned(),
        Some('.') if rest.starts_with("...") => 3,
        Some(first) if is_name(first) => rest.find(|char| !is_name(char)).unwrap_or(rest.len()),
        Some(first) => first.len_utf8(),
    };
    format!("`{}`", &rest[..length])
}

/// What the parser expected. Its message is framed by the line of the document, and lists the names of rules:
/// `expected a`, `expected a or b`, `expected a, b, or c`.
fn expected(message: &str, before: &str) -> String {
    let last = message.lines().last().unwrap_or_default().trim_start();
    let last = last.strip_prefix("= ").unwrap_or(last);
    let Some(rules) = last.strip_prefix("expected ") else {
        return last.to_owned();
    };
    let mut names: Vec<String> = Vec::new();
    for rule in rules.split([',', ' ']) {
        if matches!(rule, "" | "or") {
            continue;
        }
        let name = described(rule);
        if !names.contains(&name) {
            names.push(name);
        }
        // A selection set with at least one selection can end.
        if rule == "selection" && !before.trim_end().ends_with('{') {
            names.push("`}`".to_owned());
        }
    }
    match names.split_last() {
        Some((last, [])) => format!("expected {last}"),
        Some((last, others)) => format!("expected {} or {last}", others.join(", ")),
        None => "unexpected token".to_owned(),
    }
}

/// A rule of the parser in words.
fn described(rule: &str) -> String {
    let words = match rule {
        "EOI" => "the end of the document",
        "executable_definition" => "a query, a mutation or a fragment",
        "selection" | "field" => "a field",
        "selection_set" => "a selection set",
        "name" => "a name",
        "type_" => "a type",
        "type_condition" => "a type condition",
        "value" | "const_value" => "a value",
        "variable" | "variable_definition" => "a variable",
        "argument" | "const_argument" => "an argument",
        "arguments" | "const_arguments" => "arguments",
        "directive" | "const_directive" | "directives" => "a directive",
        "object_field" | "const_object_field" => "a field of an object",
        "fragment_spread" | "inline_fragment" => "a fragment",
        "variable_definitions" => "variable definitions",
        "default_value" => "a default value",
        "string" | "string_content" | "string_character" => "a string",
        "number" | "int" | "float" => "a number",
        other => return other.replace('_', " ").trim().to_owned(),
    };
    words.to_owned()
}
