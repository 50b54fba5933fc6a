//! The rules that need the text of the document, because the parsed document does not show the errors.
//!
//! - Unique input field names (specification, 5.6.4): the parser keeps only the last of two equal fields.
//! - A list of variable definitions is not empty (2.10): the parser accepts `query ()`.

use std::collections::HashSet;

use async_graphql::Pos;

use super::Errors;

/// Checks the text of a document that the parser accepted.
pub(super) fn check(text: &str, errors: &mut Errors) {
    let mut scanner = Scanner {
        text,
        position: 0,
        brackets: Vec::new(),
    };
    while !errors.is_full() && scanner.next_token(errors) {}
}

/// An open bracket.
enum Bracket<'a> {
    SelectionSet,
    Arguments,
    List,
    /// An object, with the names of its fields so far.
    Object(HashSet<&'a str>),
}

struct Scanner<'a> {
    text: &'a str,
    position: usize,
    brackets: Vec<Bracket<'a>>,
}

impl<'a> Scanner<'a> {
    /// Reads the next token. Returns false at the end of the document.
    fn next_token(&mut self, errors: &mut Errors) -> bool {
        self.skip_ignored();
        let start = self.position;
        let Some(&byte) = self.text.as_bytes().get(start) else {
            return false;
        };
        self.position += 1;
        match byte {
            b'"' => self.skip_string(),
            b'(' => {
                self.brackets.push(Bracket::Arguments);
                self.skip_ignored();
                if self.rest().starts_with(')') {
                    let location = position_at(self.text, start);
                    errors.add(
                        [location],
                        "a list of variable definitions must not be empty",
                    );
                }
            }
            b'[' => self.brackets.push(Bracket::List),
            // Selection sets never occur inside parentheses, and objects occur only there.
            b'{' if self
                .brackets
                .iter()
                .any(|open| matches!(open, Bracket::Arguments)) =>
            {
                self.brackets.push(Bracket::Object(HashSet::new()));
            }
            b'{' => self.brackets.push(Bracket::SelectionSet),
            b'}' | b']' | b')' => drop(self.brackets.pop()),
            b'_' | b'a'..=b'z' | b'A'..=b'Z' => {
                self.skip_while(|byte| byte == b'_' || byte.is_ascii_alphanumeric());
                let name = &self.text[start..self.position];
                self.skip_ignored();
                if self.rest().starts_with(':')
                    && let Some(Bracket::Object(names)) = self.brackets.last_mut()
                    && !names.insert(name)
                {
                    let location = position_at(self.text, start);
                    let message = format!("the input object has several fields named `{name}`");
                    errors.add([location], message);
                }
            }
            _ => self.skip_while(|byte| !byte.is_ascii()),
        }
        true
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.position..).unwrap_or_default()
    }

    fn skip_while(&mut self, is_part: impl Fn(u8) -> bool) {
        let bytes = self.text.as_bytes();
        while bytes.get(self.position).is_some_and(|&byte| is_part(byte)) {
            self.position += 1;
        }
    }

    /// Skips white space, commas, comments and byte order marks.
    fn skip_ignored(&mut self) {
        loop {
            let before = self.position;
            self.skip_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b','));
            if self.rest().starts_with('#') {
                self.skip_while(|byte| !matches!(byte, b'\n' | b'\r'));
            }
            if self.rest().starts_with('\u{feff}') {
                self.position += '\u{feff}'.len_utf8();
            }
            if self.position == before {
                return;
            }
        }
    }

    /// Skips the rest of a string. The guard's lexer has checked that the string ends.
    fn skip_string(&mut self) {
        let block = self.rest().starts_with("\"\"");
        if block {
            self.position += 2;
        }
        let end = if block { "\"\"\"" } else { "\"" };
        while let Some(&byte) = self.text.as_bytes().get(self.position) {
            let rest = &self.text.as_bytes()[self.position..];
            if rest.starts_with(end.as_bytes()) {
                self.position += end.len();
                return;
            }
            self.position += match byte {
                b'\\' if block && rest.starts_with(br#"\""""#) => 4,
                b'\\' if !block => 2,
                _ => 1,
            };
        }
    }
}

fn position_at(text: &str, offset: usize) -> Pos {
    let before = &text[..offset];
    let line = before.matches('\n').count() + 1;
    let last_line = before.rsplit('\n').next().unwrap_or_default();
    let column = last_line.chars().count() + 1;
    Pos { line, column }
}
