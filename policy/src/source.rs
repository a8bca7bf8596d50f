//! One file as text with its line table, so that every later phase can point at what it talks about.
//!
//! It refuses what a person cannot review (bytes that are no UTF-8, control and bidirectional characters) before
//! anything is parsed. It opens no file: the bytes come from the caller.

use crate::diagnostic::{Codes, Diagnostic, Excerpt, Severity};

/// The largest file that is read: 1 MiB, because a Kubernetes `ConfigMap` cannot hold more, and because positions and
/// scalars of a larger one would let a single file decide the memory of the process.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;

/// A line and a column, both counted from one; the column counts characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line, from one.
    pub line: usize,
    /// The column in characters, from one.
    pub column: usize,
}

/// A file as its reader hands it over.
#[derive(Debug, Clone, Copy)]
pub struct File<'a> {
    /// What diagnostics and rules call it.
    pub name: &'a str,
    /// Its content, at most [`MAX_FILE_BYTES`].
    pub bytes: &'a [u8],
}

/// The reviewed text of one file.
#[derive(Debug)]
pub struct Source<'a> {
    name: &'a str,
    text: &'a str,
    line_starts: Vec<usize>,
}

impl<'a> Source<'a> {
    /// Takes the bytes of a file; a leading byte order mark is skipped.
    ///
    /// # Errors
    /// One diagnostic when the file is larger than [`MAX_FILE_BYTES`], is not UTF-8, or holds a character that a
    /// reviewer cannot see: a control character other than tab and line end, a carriage return alone, or one that turns
    /// the direction of writing.
    pub fn read(file: File<'a>, codes: &Codes) -> Result<Self, Box<Diagnostic>> {
        let File { name, bytes } = file;
        let start = Position { line: 1, column: 1 };
        if bytes.len() > MAX_FILE_BYTES {
            let message = format!("the file has {} bytes, more than the {MAX_FILE_BYTES} that are read", bytes.len());
            let empty = Self { name, text: "", line_starts: Vec::new() };
            let found = empty.diagnostic(Severity::Error, codes.too_large, start, message);
            return Err(Box::new(found.help("split it into several files")));
        }
        let (text, complete) = match std::str::from_utf8(bytes) {
            Ok(text) => (text, true),
            Err(error) => {
                let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
                (std::str::from_utf8(valid).unwrap_or_default(), false)
            }
        };
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let source = Self { name, text, line_starts };
        if !complete {
            let at = source.position(text.len());
            let found = source.diagnostic(Severity::Error, codes.encoding, at, "the file is not UTF-8 from here on");
            return Err(Box::new(found.help("save it as UTF-8")));
        }
        if let Some((at, hidden)) = hidden_character(text) {
            let message = format!("the file holds the invisible character U+{:04X}", u32::from(hidden));
            let found = source.diagnostic(Severity::Error, codes.hidden, source.position(at), message);
            return Err(Box::new(found.help("remove it; inside double quotes it can be written as an escape")));
        }
        Ok(source)
    }

    /// The name the file was given.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The text, without a byte order mark.
    #[must_use]
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// A diagnostic about `position`, with the line it stands in.
    pub fn diagnostic(
        &self,
        severity: Severity,
        code: &'static str,
        position: Position,
        message: impl Into<String>,
    ) -> Diagnostic {
        Diagnostic {
            severity,
            code,
            message: message.into(),
            file: self.name.to_owned(),
            line: position.line,
            column: position.column,
            excerpt: excerpt(self.line(position.line), position.column),
            help: None,
        }
    }

    fn line(&self, number: usize) -> &'a str {
        let start = self.line_starts.get(number.saturating_sub(1)).copied().unwrap_or(self.text.len());
        let end = self.line_starts.get(number).copied().unwrap_or(self.text.len());
        self.text.get(start..end).unwrap_or_default().trim_end_matches(['\n', '\r'])
    }

    fn position(&self, offset: usize) -> Position {
        let line = self.line_starts.partition_point(|start| *start <= offset).max(1);
        let start = self.line_starts.get(line - 1).copied().unwrap_or(0);
        let column = self.text.get(start..offset).unwrap_or_default().chars().count() + 1;
        Position { line, column }
    }
}

/// The part of a line around a column.
fn excerpt(line: &str, column: usize) -> Excerpt {
    const WIDTH: usize = 160; // what a review tool shows without wrapping, about
    let caret = column.saturating_sub(1);
    let skipped = if caret < WIDTH { 0 } else { caret - WIDTH / 2 };
    let visible = |c: char| match c {
        '\t' => c,
        // Shown as they are they would turn the line around, and the caret would stand elsewhere.
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        c if c.is_control() => ' ',
        c => c,
    };
    Excerpt { text: line.chars().skip(skipped).take(WIDTH).map(visible).collect(), caret: caret - skipped }
}

/// The first character that would let text read otherwise than it is: a carriage return alone ends a line for YAML but
/// not for every viewer, and the bidirectional controls reorder what a reviewer sees (CVE-2021-42574).
fn hidden_character(text: &str) -> Option<(usize, char)> {
    let mut rest = text.char_indices().peekable();
    while let Some((at, c)) = rest.next() {
        let hidden = match c {
            '\t' | '\n' => false,
            '\r' => rest.peek().is_none_or(|(_, next)| *next != '\n'),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => true,
            other => other.is_control(),
        };
        if hidden {
            return Some((at, c));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::CODES;

    fn refusal(bytes: &[u8]) -> (&'static str, usize, usize, String) {
        let found = Source::read(File { name: "a.yaml", bytes }, &CODES).unwrap_err();
        (found.code, found.line, found.column, found.message)
    }

    #[test]
    fn refuses_what_cannot_be_reviewed() {
        let row = |code, line, column, text: &str| (code, line, column, text.to_owned());
        assert_eq!(refusal(b"a: b\nc: \xff"), row("P001", 2, 4, "the file is not UTF-8 from here on"));
        let large = vec![b'#'; MAX_FILE_BYTES + 1];
        assert_eq!(
            refusal(&large),
            row("P002", 1, 1, "the file has 1048577 bytes, more than the 1048576 that are read")
        );
        assert_eq!(
            refusal("a: x\u{202e}y".as_bytes()),
            row("P003", 1, 5, "the file holds the invisible character U+202E")
        );
        assert_eq!(refusal(b"# a\rb: c\n"), row("P003", 1, 4, "the file holds the invisible character U+000D"));
    }

    #[test]
    fn shows_no_character_that_turns_the_direction() {
        let found =
            Source::read(File { name: "a.yaml", bytes: "a: x\u{202e}y\u{200f}".as_bytes() }, &CODES).unwrap_err();
        assert_eq!((found.line_text(), found.caret()), ("a: x\u{fffd}y\u{fffd}", 4));
    }

    #[test]
    fn skips_a_byte_order_mark_and_keeps_carriage_returns_before_line_feeds() {
        let source = Source::read(File { name: "a.yaml", bytes: "\u{feff}a: b\r\nc: d".as_bytes() }, &CODES).unwrap();
        assert_eq!(source.text(), "a: b\r\nc: d");
        assert_eq!(source.line(1), "a: b");
        assert_eq!(source.line(2), "c: d");
        assert_eq!(source.line(3), "");
    }
}
