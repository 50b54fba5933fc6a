//! The lexer: limits the tokens and the nesting of brackets before the parser runs.
//!
//! This lexer runs before the parser's own lexer, because the parser does not limit tokens, and limits the nesting of
//! selection sets only.

use async_graphql::Pos;

use super::{Limits, Reason, check_limit};

/// Checks the number of tokens and the nesting of brackets in a document.
pub(super) fn check(text: &str, limits: &Limits) -> Result<(), Reason> {
    let mut lexer = Lexer {
        text: text.as_bytes(),
        position: 0,
    };
    lexer.check(limits)
}

/// Counts the tokens of a document and the nesting of its brackets. Checks no other syntax, except the end of strings.
///
/// For the part of a document that the parser can read, this lexer counts at least as many brackets and tokens as the
/// parser reads. The only exception is a keyword that a name follows without a space (`queryA`). Strings must end at
/// the same position for both lexers: the parser would read an unterminated `"""` as an empty string and continue with
/// the content. So an unterminated string is an error here.
struct Lexer<'a> {
    text: &'a [u8],
    position: usize,
}

impl Lexer<'_> {
    fn check(&mut self, limits: &Limits) -> Result<(), Reason> {
        let (mut tokens, mut nesting) = (0_u64, 0_u64);
        while let Some(&byte) = self.text.get(self.position) {
            let start = self.position;
            self.position += 1;
            tokens += match byte {
                b' ' | b'\t' | b'\n' | b'\r' | b',' => 0,
                // The byte order mark is white space at any position.
                0xEF if self.text[start..].starts_with(b"\xEF\xBB\xBF") => {
                    self.position += 2;
                    0
                }
                b'#' => {
                    self.skip_while(|byte| !matches!(byte, b'\n' | b'\r'));
                    0
                }
                b'"' => {
                    if !self.skip_string() {
                        return Err(self.unterminated_string(start));
                    }
                    1
                }
                b'{' | b'[' | b'(' => {
                    nesting += 1;
                    check_limit(nesting, limits.nesting, "levels of nested brackets")?;
                    1
                }
                b'}' | b']' | b')' => {
                    nesting = nesting.saturating_sub(1);
                    1
                }
                b'.' => {
                    if self.text[self.position..].starts_with(b"..") {
                        self.position += 2;
                    }
                    1
                }
                b'-' | b'0'..=b'9' => {
                    self.skip_number(byte);
                    1
                }
                b'_' | b'a'..=b'z' | b'A'..=b'Z' => {
                    self.skip_while(|byte| byte == b'_' || byte.is_ascii_alphanumeric());
                    count_names(&self.text[start..self.position])
                }
                // A punctuator, or a byte that the parser rejects.
                _ => 1,
            };
            check_limit(tokens, limits.tokens, "tokens")?;
        }
        Ok(())
    }

    fn skip_while(&mut self, is_part: impl Fn(u8) -> bool) {
        while self.text.get(self.position).is_some_and(|&b| is_part(b)) {
            self.position += 1;
        }
    }

    /// Skips the rest of a number. For the parser, `007` is three numbers.
    fn skip_number(&mut self, first: u8) {
        let mut first = Some(first);
        if first == Some(b'-') {
            let next = self.text.get(self.position).copied();
            first = next.filter(u8::is_ascii_digit);
            self.position += usize::from(first.is_some());
        }
        if first != Some(b'0') {
            self.skip_while(|byte| byte.is_ascii_digit());
        }
        if let [b'.', b'0'..=b'9', ..] = self.text[self.position..] {
            self.position += 1;
            self.skip_while(|byte| byte.is_ascii_digit());
        }
        if let [b'e' | b'E', b'0'..=b'9', ..] | [b'e' | b'E', b'+' | b'-', b'0'..=b'9', ..] =
            self.text[self.position..]
        {
            self.position += 2;
            self.skip_while(|byte| byte.is_ascii_digit());
        }
    }

    /// Skips the rest of a string. Returns false if the string is not terminated.
    fn skip_string(&mut self) -> bool {
        if self.text[self.position..].starts_with(b"\"\"") {
            self.position += 2;
            return self.skip_block_string();
        }
        while let Some(&byte) = self.text.get(self.position) {
            self.position += 1;
            match byte {
                b'"' => return true,
                b'\n' | b'\r' => return false,
                b'\\' if !matches!(self.text.get(self.position), Some(b'\n' | b'\r')) => {
                    self.position += 1;
                }
                _ => {}
            }
        }
        false
    }

    fn skip_block_string(&mut self) -> bool {
        loop {
            match self.text.get(self.position..) {
                Some([b'\\', b'"', b'"', b'"', ..]) => self.position += 4,
                Some([b'"', b'"', b'"', ..]) => {
                    self.position += 3;
                    return true;
                }
                Some([_, ..]) => self.position += 1,
                Some([]) | None => return false,
            }
        }
    }

    fn unterminated_string(&self, start: usize) -> Reason {
        let before = String::from_utf8_lossy(&self.text[..start]);
        let line = before.matches('\n').count() + 1;
        let last_line = before.rsplit('\n').next().unwrap_or_default();
        let column = last_line.chars().count() + 1;
        Reason::Parse {
            message: format!("syntax error at {line}:{column}: the string does not end"),
            positions: vec![Pos { line, column }],
        }
    }
}

/// Counts the tokens in a word. The parser accepts `true`, `false` and `null` without looking at the
/// next character, so `[truetrue]` has two items. Counting a name like `nullable` as two tokens does
/// no harm.
fn count_names(word: &[u8]) -> u64 {
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
