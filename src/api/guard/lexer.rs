//! The lexer: bounds the tokens and brackets of a text before the parser reads it.

use async_graphql::Pos;

use super::{Limits, Reason, within};

/// Counts the tokens of a text and the nesting of its brackets, and nothing else.
///
/// As far as the parser gets through a text, it meets no more brackets than are counted here, nor
/// more tokens, but for a keyword that touches its name (`queryA`). What is a string here must be
/// one there. So a string without an end is refused here: the parser would read `"""` as an empty
/// string and go on with what was inside.
pub(super) struct Lexer<'a> {
    pub(super) text: &'a [u8],
    pub(super) at: usize,
}

impl Lexer<'_> {
    pub(super) fn check(&mut self, limits: &Limits) -> Result<(), Reason> {
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
