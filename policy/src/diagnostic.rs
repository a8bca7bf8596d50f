//! What is wrong with a document, for people: a code that never changes, a place, the offending line, and what to do.
//!
//! Nothing here decides anything. User text passes through [`quoted`], so that a message can neither grow without bound
//! nor carry terminal control sequences into a build log.

use std::fmt;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The documents cannot be used.
    Error,
    /// The documents can be used, but someone should look.
    Warning,
    /// Worth knowing.
    Note,
}

impl Severity {
    /// The word for it, which is also the level of SARIF.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// One finding about one place in one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the documents can be used in spite of it.
    pub severity: Severity,
    /// A code that stays the same across versions, such as `P012`.
    pub code: &'static str,
    /// What is wrong, in one line.
    pub message: String,
    /// The file as the caller named it; empty when the finding is about the whole set of files.
    pub file: String,
    /// The line, from one; zero when the finding is about the whole set of files.
    pub line: usize,
    /// The column in characters, from one; zero when the finding is about the whole set of files.
    pub column: usize,
    /// What to do about it.
    pub help: Option<String>,
    pub(crate) excerpt: Excerpt,
}

impl Diagnostic {
    /// A finding about the whole set of files.
    #[must_use]
    pub fn of_all_files(severity: Severity, code: &'static str, message: impl Into<String>) -> Self {
        let excerpt = Excerpt { text: String::new(), caret: 0 };
        Self { severity, code, message: message.into(), file: String::new(), line: 0, column: 0, help: None, excerpt }
    }

    /// The same finding about a place in a file, without the line that stands there.
    #[must_use]
    pub fn at(mut self, file: &str, line: usize, column: usize) -> Self {
        file.clone_into(&mut self.file);
        (self.line, self.column) = (line, column);
        self
    }

    /// The same finding with advice.
    #[must_use]
    pub fn help(mut self, advice: impl Into<String>) -> Self {
        self.help = Some(advice.into());
        self
    }

    /// The line the finding points at, shortened to what a terminal shows; empty when there is none.
    #[must_use]
    pub fn line_text(&self) -> &str {
        &self.excerpt.text
    }

    /// How many characters of [`Self::line_text`] stand before the place.
    #[must_use]
    pub fn caret(&self) -> usize {
        self.excerpt.caret
    }
}

impl fmt::Display for Diagnostic {
    /// Renders `file:line:column: error[P012]: message`, the line, a caret, and the help.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        }
        writeln!(f, "{}[{}]: {}", self.severity.word(), self.code, self.message)?;
        if !self.excerpt.text.is_empty() {
            let gutter = self.line.to_string();
            let blank = " ".repeat(gutter.len());
            // Tabs stay tabs below the line, or the caret would stand elsewhere.
            let keep_tab = |c| if c == '\t' { '\t' } else { ' ' };
            let indent: String = self.excerpt.text.chars().take(self.excerpt.caret).map(keep_tab).collect();
            writeln!(f, " {gutter} | {}", self.excerpt.text)?;
            writeln!(f, " {blank} | {indent}^")?;
        }
        if let Some(help) = &self.help {
            writeln!(f, "  = help: {help}")?;
        }
        Ok(())
    }
}

/// The line around a column and the caret's place in it, kept short so that a thousand diagnostics stay small.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Excerpt {
    pub(crate) text: String,
    pub(crate) caret: usize,
}

/// The codes under which a language reports mistakes of form: `P…` in policy documents, `C…` in the proxy's
/// configuration, so that a code names one thing in one kind of file.
#[derive(Debug)]
#[expect(missing_docs, reason = "each field is the code of the mistake it is named after")]
pub struct Codes {
    pub encoding: &'static str,
    pub too_large: &'static str,
    pub hidden: &'static str,
    pub syntax: &'static str,
    pub too_deep: &'static str,
    pub refused_feature: &'static str,
    pub duplicate_key: &'static str,
    pub bad_key: &'static str,
    pub unknown_key: &'static str,
    pub missing_key: &'static str,
    pub wrong_kind: &'static str,
    pub empty: &'static str,
    pub ambiguous: &'static str,
    pub bad_value: &'static str,
}

/// Findings of one run, over all files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics {
    found: Vec<Diagnostic>,
    dropped: usize,
    errors: usize,
}

impl Diagnostics {
    /// Adds one; beyond a thousand they are counted, not kept.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.push_with(diagnostic.severity, || diagnostic);
    }

    /// Adds what `make` makes, which is not asked when it would only be counted; answers the one that was kept.
    pub(crate) fn push_with(
        &mut self,
        severity: Severity,
        make: impl FnOnce() -> Diagnostic,
    ) -> Option<&mut Diagnostic> {
        let error = severity == Severity::Error;
        let first_error = error && !self.has_errors();
        self.errors += usize::from(error);
        if self.found.len() >= MAX_KEPT && !first_error {
            self.dropped += 1;
            return None;
        }
        self.found.push(make());
        self.found.last_mut()
    }

    /// Adds all of `other`.
    pub fn append(&mut self, other: Self) {
        self.dropped += other.dropped;
        for diagnostic in other.found {
            self.push(diagnostic);
        }
    }

    /// Whether at least one is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Whether there is none at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// How many were found beyond those that are kept.
    #[must_use]
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// All that are kept, in the order of [`Diagnostics::sort`] once that has run.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.found.iter()
    }

    /// Orders by file, line, column, code: the order of files given must not show in the output.
    pub fn sort(&mut self) {
        self.found.sort_by(|a, b| {
            (&a.file, a.line, a.column, a.code, &a.message).cmp(&(&b.file, b.line, b.column, b.code, &b.message))
        });
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for found in &self.found {
            write!(f, "{found}")?;
        }
        if self.dropped > 0 {
            writeln!(f, "and {} more", self.dropped)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// User text for a message: in backticks, control characters escaped, shortened beyond 80 characters.
#[must_use]
pub fn quoted(text: &str) -> String {
    const WIDTH: usize = 80; // a message stays one line
    let mut out = String::from("`");
    for (index, c) in text.chars().enumerate() {
        if index == WIDTH {
            out.push('…');
            break;
        }
        if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out.push('`');
    out
}

/// The known word that `given` most likely meant: at most a third of its letters differ, without case.
#[must_use]
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given: Vec<char> = given.chars().flat_map(char::to_lowercase).take(MAX_COMPARED + 1).collect();
    if given.len() > MAX_COMPARED {
        return None;
    }
    let limit = (given.len() / 3).max(1);
    let distances = known.into_iter().filter(|word| word.len() <= MAX_COMPARED * 2).map(|word| {
        let letters: Vec<char> = word.chars().flat_map(char::to_lowercase).collect();
        (distance(&given, &letters), word)
    });
    distances.filter(|(distance, _)| *distance <= limit).min().map(|(_, word)| word)
}

/// The Levenshtein distance, one row at a time.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b) {
            let best = (diagonal + usize::from(x != y)).min(left + 1).min(*cell + 1);
            diagonal = std::mem::replace(cell, best);
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(a.len())
}

/// A thousand findings are more than anyone reads; a hostile file of a megabyte could otherwise make half a million.
const MAX_KEPT: usize = 1000;

/// Longer words are no typing mistakes; the distance costs the product of both lengths.
const MAX_COMPARED: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::CODES;
    use crate::source::{File, Position, Source};

    #[test]
    fn renders_place_line_caret_and_help() {
        let source = Source::read(File { name: "a.yaml", bytes: b"spec:\n\tmethdos: [GET]\n" }, &CODES).unwrap();
        let at = Position { line: 2, column: 2 };
        let found = source.diagnostic(Severity::Error, "P009", at, "unknown key `methdos`");
        assert_eq!(
            found.help("did you mean `methods`?").to_string(),
            "a.yaml:2:2: error[P009]: unknown key `methdos`\n 2 | \tmethdos: [GET]\n\
             \x20  | \t^\n  = help: did you mean `methods`?\n"
        );
        let warning = Diagnostic::of_all_files(Severity::Warning, "P050", "nothing");
        assert_eq!(warning.to_string(), "warning[P050]: nothing\n");
    }

    #[test]
    fn long_lines_are_cut_around_the_caret() {
        let text = format!("{}HERE", " ".repeat(1000));
        let source = Source::read(File { name: "a.yaml", bytes: text.as_bytes() }, &CODES).unwrap();
        let found = source.diagnostic(Severity::Error, "P004", Position { line: 1, column: 1001 }, "x");
        assert_eq!(found.excerpt.text.chars().nth(found.excerpt.caret), Some('H'));
        assert!(found.excerpt.text.len() <= 160);
    }

    #[test]
    fn a_warning_never_hides_the_first_error() {
        let mut all = Diagnostics::default();
        for _ in 0..2000 {
            all.push(Diagnostic::of_all_files(Severity::Warning, "P050", "w"));
        }
        all.push(Diagnostic::of_all_files(Severity::Error, "P001", "e"));
        assert!(all.has_errors());
        assert_eq!(all.dropped(), 1000);
        assert!(all.to_string().ends_with("and 1000 more\n"));
    }

    #[test]
    fn quotes_without_control_characters() {
        assert_eq!(quoted("a\u{1b}[31mb"), "`a\\u{1b}[31mb`");
        assert_eq!(quoted(&"x".repeat(100)).chars().count(), 83);
    }

    #[test]
    fn suggests_the_nearest_word() {
        let known = ["methods", "notMethods", "paths"];
        assert_eq!(nearest("methdos", known), Some("methods"));
        assert_eq!(nearest("Paths", known), Some("paths"));
        assert_eq!(nearest("path", known), Some("paths"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("", ["a"]), Some("a"));
        assert_eq!(nearest(&"x".repeat(500), known), None);
    }
}
