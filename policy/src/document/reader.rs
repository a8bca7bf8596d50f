//! Converting a tree by hand, with every mistake collected.
//!
//! A method that finds a mistake reports it and answers `None`; the caller goes on with the next key, and at the end
//! the diagnostics say whether what was built may be used. The collector is behind a cell: nested items share it.

use std::cell::{RefCell, RefMut};
use std::ops::RangeInclusive;

use super::scalar::{Meaning, meaning};
use super::{Content, Entry, Node, Style};
use crate::diagnostic::{Codes, Diagnostic, Diagnostics, Severity, nearest, quoted};
use crate::source::{Position, Source};

/// Collects the mistakes of one file.
#[derive(Debug)]
pub struct Reader<'s> {
    source: &'s Source<'s>,
    codes: &'static Codes,
    found: RefCell<Diagnostics>,
}

impl<'s> Reader<'s> {
    /// A reader of `source` that reports mistakes of form under `codes`.
    #[must_use]
    pub fn new(source: &'s Source<'s>, codes: &'static Codes) -> Self {
        Self { source, codes, found: RefCell::default() }
    }

    /// The file.
    #[must_use]
    pub fn source(&self) -> &'s Source<'s> {
        self.source
    }

    /// The codes for mistakes of form.
    #[must_use]
    pub fn codes(&self) -> &'static Codes {
        self.codes
    }

    /// A root node as an item; `name` is what messages call it.
    #[must_use]
    pub fn item<'a>(&'a self, node: &'a Node, name: &'a str) -> Item<'a> {
        Item { reader: self, node, name }
    }

    /// Whether an error was reported so far.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.found.borrow().has_errors()
    }

    /// Reports an error; advice can be added to what it returns.
    pub fn error(&self, code: &'static str, at: Position, message: impl Into<String>) -> Reported<'_> {
        self.report(Severity::Error, code, at, message)
    }

    /// Reports a warning; advice can be added to what it returns.
    pub fn warning(&self, code: &'static str, at: Position, message: impl Into<String>) -> Reported<'_> {
        self.report(Severity::Warning, code, at, message)
    }

    /// All that was reported so far, while items of it are still in use.
    #[must_use]
    pub fn diagnostics(&self) -> Diagnostics {
        self.found.borrow().clone()
    }

    /// All that was reported.
    #[must_use]
    pub fn into_diagnostics(self) -> Diagnostics {
        self.found.into_inner()
    }

    fn report(&self, severity: Severity, code: &'static str, at: Position, message: impl Into<String>) -> Reported<'_> {
        let found = self.found.borrow_mut();
        let make = || self.source.diagnostic(severity, code, at, message);
        Reported(RefMut::filter_map(found, |found| found.push_with(severity, make)).ok())
    }
}

/// A finding that was just reported; `None` when it was one too many and only counted.
pub struct Reported<'a>(Option<RefMut<'a, Diagnostic>>);

impl Reported<'_> {
    /// Adds what to do about it.
    pub fn help(self, advice: impl Into<String>) {
        if let Some(mut found) = self.0 {
            found.help = Some(advice.into());
        }
    }
}

/// A node with the name that messages call it by: the key it stands under.
#[derive(Debug, Clone, Copy)]
pub struct Item<'a> {
    reader: &'a Reader<'a>,
    node: &'a Node,
    name: &'a str,
}

impl<'a> Item<'a> {
    /// Where it stands.
    #[must_use]
    pub fn position(&self) -> Position {
        self.node.position
    }

    /// The key it stands under.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Whether it is a list, for values that may be one or many.
    #[must_use]
    pub fn is_list(&self) -> bool {
        matches!(self.node.content, Content::Sequence(_))
    }

    /// Whether it is a mapping, for values that have a short form.
    #[must_use]
    pub fn is_mapping(&self) -> bool {
        matches!(self.node.content, Content::Mapping(_))
    }

    /// Whether it is a mapping without keys, for those that mean something in the languages of others.
    #[must_use]
    pub fn is_empty_mapping(&self) -> bool {
        matches!(&self.node.content, Content::Mapping(entries) if entries.is_empty())
    }

    /// Whether it is a list without items, for the same.
    #[must_use]
    pub fn is_empty_list(&self) -> bool {
        matches!(&self.node.content, Content::Sequence(list) if list.is_empty())
    }

    /// Whether it is bare and a number to some reader of YAML, for values that are a number or a name.
    #[must_use]
    pub fn is_number(&self) -> bool {
        let Content::Scalar(text, Style::Plain) = &self.node.content else { return false };
        matches!(meaning(text), Meaning::Integer | Meaning::Number)
    }

    /// Whether it is a string without characters, for the same.
    #[must_use]
    pub fn is_empty_text(&self) -> bool {
        matches!(&self.node.content, Content::Scalar(text, Style::Quoted) if text.is_empty())
    }

    /// Reports an error at this place.
    pub fn error(&self, code: &'static str, message: impl Into<String>) -> Reported<'a> {
        self.reader.error(code, self.node.position, message)
    }

    /// Reports an error at another place, such as the key of this value.
    pub fn error_at(&self, at: Position, code: &'static str, message: impl Into<String>) -> Reported<'a> {
        self.reader.error(code, at, message)
    }

    /// Reports a warning at this place.
    pub fn warning(&self, code: &'static str, message: impl Into<String>) -> Reported<'a> {
        self.reader.warning(code, self.node.position, message)
    }

    /// The value under `key` of a mapping, without judging anything: for looking before choosing how to read.
    #[must_use]
    pub fn peek(self, key: &'static str) -> Option<Self> {
        let Content::Mapping(entries) = &self.node.content else { return None };
        let entry = entries.iter().find(|entry| entry.key == key)?;
        Some(Item { node: &entry.value, name: key, ..self })
    }

    /// A mapping with no keys but `known`; an empty one is a mistake, an unknown key too.
    pub fn fields(self, known: &'static [&'static str]) -> Option<Fields<'a>> {
        let entries = self.entries()?;
        for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let message = format!("unknown key {} in `{}`", quoted(&entry.key), self.name);
            let reported = self.reader.error(self.reader.codes.unknown_key, entry.position, message);
            match nearest(&entry.key, known.iter().copied()) {
                Some(word) => reported.help(format!("did you mean `{word}`?")),
                None => reported.help(format!("the keys are {}", known.join(", "))),
            }
        }
        Some(Fields { item: self, entries, known })
    }

    /// A mapping with keys of the author's choice, such as header names; an empty one is a mistake.
    /// Each entry comes as the place of its key and its value, which is named after the key.
    pub fn pairs(self) -> Option<impl Iterator<Item = (Position, Item<'a>)>> {
        let reader = self.reader;
        let item = move |entry: &'a Entry| (entry.position, Item { reader, node: &entry.value, name: &entry.key });
        Some(self.entries()?.iter().map(item))
    }

    /// A list; an empty one is a mistake.
    pub fn list(self) -> Option<impl Iterator<Item = Item<'a>>> {
        let list = match &self.node.content {
            Content::Sequence(list) if list.is_empty() => return self.empty("an empty list"),
            Content::Sequence(list) => list,
            Content::Scalar(..) | Content::Mapping(_) | Content::Refused => return self.wrong_kind("a list"),
        };
        Some(list.iter().map(move |node| Item { node, ..self }))
    }

    /// A list of which every item converts; `None` when one does not.
    pub fn each<T>(self, mut convert: impl FnMut(Item<'a>) -> Option<T>) -> Option<Vec<T>> {
        let items: Vec<Option<T>> = self.list()?.map(&mut convert).collect();
        items.into_iter().collect()
    }

    /// A string that every reader of YAML takes for one, and that is not empty.
    pub fn string(self) -> Option<&'a str> {
        let (text, style) = self.scalar("a string")?;
        let taken_for = match (style, meaning(text)) {
            (Style::Quoted, _) | (Style::Plain, Meaning::Text) => return Some(text),
            (Style::Plain, Meaning::Boolean(_) | Meaning::OldBoolean) => "a boolean",
            (Style::Plain, Meaning::Integer | Meaning::Number) => "a number",
            (Style::Plain, Meaning::Null) => return None, // `scalar` has reported it
        };
        let message = format!("`{}` must be a string, but YAML can take {} for {taken_for}", self.name, quoted(text));
        self.error(self.reader.codes.ambiguous, message).help(format!("write it in quotes: \"{text}\""));
        None
    }

    /// The characters of a scalar, bare or quoted, whatever YAML takes them for, for values with a syntax of their own
    /// such as times and sizes. Not empty.
    pub fn text(self) -> Option<&'a str> {
        self.scalar("a single value").map(|(text, _)| text)
    }

    /// A string with a syntax of its own; what `convert` finds wrong is reported under `code`.
    pub fn parsed<T, E: std::fmt::Display>(
        self,
        code: &'static str,
        convert: impl FnOnce(&'a str) -> Result<T, E>,
    ) -> Option<T> {
        convert(self.string()?).map_err(|error| self.error(code, error.to_string())).ok()
    }

    /// A whole number in decimal, bare, within `bounds`.
    pub fn integer(self, bounds: RangeInclusive<u64>) -> Option<u64> {
        let (text, style) = self.scalar("a whole number")?;
        let (low, high) = (bounds.start(), bounds.end());
        match (style, meaning(text)) {
            (Style::Plain, Meaning::Integer) => {
                let number = text.parse().ok().filter(|number| bounds.contains(number));
                if number.is_none() {
                    let message = format!("`{}` is {}, which is not within {low} to {high}", self.name, quoted(text));
                    self.error(self.reader.codes.bad_value, message);
                }
                return number;
            }
            (Style::Plain, Meaning::Number) => {
                let message = format!("readers of YAML disagree about the number {}", quoted(text));
                let reported = self.error(self.reader.codes.ambiguous, message);
                reported.help("write it in decimal, without leading zeros, signs or underscores");
            }
            (Style::Quoted, Meaning::Integer) => {
                let message = format!("`{}` must be a number, and {} in quotes is a string", self.name, quoted(text));
                self.error(self.reader.codes.wrong_kind, message).help("write it without quotes");
            }
            (Style::Plain | Style::Quoted, _) => {
                let message = format!("`{}` must be a number, not {}", self.name, quoted(text));
                let reported = self.error(self.reader.codes.wrong_kind, message);
                reported.help(format!("write a whole number from {low} to {high}"));
            }
        }
        None
    }

    /// `true` or `false`, bare.
    pub fn boolean(self) -> Option<bool> {
        let (text, style) = self.scalar("`true` or `false`")?;
        match (style, meaning(text)) {
            (Style::Plain, Meaning::Boolean(value)) => return Some(value),
            (Style::Plain, Meaning::OldBoolean) => {
                let message = format!("{} is a boolean to some readers of YAML only", quoted(text));
                self.error(self.reader.codes.ambiguous, message).help("write `true` or `false`");
            }
            (Style::Plain | Style::Quoted, _) => {
                let message = format!("`{}` must be `true` or `false`, not {}", self.name, quoted(text));
                self.error(self.reader.codes.wrong_kind, message).help("write `true` or `false`, without quotes");
            }
        }
        None
    }

    /// One of a few words, each standing for a value.
    pub fn choice<T: Copy>(self, words: &[(&'static str, T)]) -> Option<T> {
        let text = self.string()?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let reported = self.error(self.reader.codes.bad_value, format!("`{}` cannot be {}", self.name, quoted(text)));
        match nearest(text, names.iter().copied()) {
            Some(word) => reported.help(format!("did you mean `{word}`?")),
            None => reported.help(format!("write one of {}", names.join(", "))),
        }
        None
    }

    fn entries(self) -> Option<&'a [Entry]> {
        match &self.node.content {
            Content::Mapping(entries) if entries.is_empty() => self.empty("an empty mapping"),
            Content::Mapping(entries) => Some(entries),
            Content::Scalar(..) | Content::Sequence(_) | Content::Refused => self.wrong_kind("a mapping"),
        }
    }

    fn scalar(self, expected: &str) -> Option<(&'a str, Style)> {
        let Content::Scalar(text, style) = &self.node.content else { return self.wrong_kind(expected) };
        match (style, meaning(text)) {
            (Style::Plain, Meaning::Null) => self.empty("nothing (null)"),
            (Style::Quoted, _) if text.is_empty() => self.empty("an empty string"),
            (Style::Plain | Style::Quoted, _) => Some((text, *style)),
        }
    }

    fn wrong_kind<T>(self, expected: &str) -> Option<T> {
        let actual = match &self.node.content {
            Content::Scalar(text, Style::Plain) if meaning(text) == Meaning::Null => {
                return self.empty("nothing (null)");
            }
            Content::Scalar(..) => "a single value",
            Content::Sequence(_) => "a list",
            Content::Mapping(_) => "a mapping",
            Content::Refused => return None,
        };
        let reported =
            self.error(self.reader.codes.wrong_kind, format!("`{}` must be {expected}, not {actual}", self.name));
        if expected == "a list" {
            reported.help("write it as a list, even if it has one item: [item]");
        }
        None
    }

    fn empty<T>(self, actual: &str) -> Option<T> {
        let reported = self.error(self.reader.codes.empty, format!("`{}` is {actual}", self.name));
        reported.help("give it a value; a key that is not needed is left out");
        None
    }
}

/// A mapping with known keys, all others reported.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    item: Item<'a>,
    entries: &'a [Entry],
    known: &'static [&'static str],
}

impl<'a> Fields<'a> {
    /// Whether no other keys were written. One that was may be one of these, mistyped.
    #[must_use]
    pub fn are_known(&self) -> bool {
        self.entries.iter().all(|entry| self.known.contains(&entry.key.as_str()))
    }

    /// The mapping itself.
    #[must_use]
    pub fn item(&self) -> Item<'a> {
        self.item
    }

    /// The value under `key`, if the key is there. `key` must be one of the known ones.
    #[must_use]
    pub fn optional(&self, key: &'static str) -> Option<Item<'a>> {
        debug_assert!(self.known.contains(&key), "{key} is not among the keys of {}", self.item.name);
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        Some(Item { reader: self.item.reader, node: &entry.value, name: key })
    }

    /// The value under `key`; its absence is a mistake.
    #[must_use]
    pub fn required(&self, key: &'static str) -> Option<Item<'a>> {
        let value = self.optional(key);
        if value.is_none() {
            let reported = self
                .item
                .error(self.item.reader.codes.missing_key, format!("`{}` lacks the key `{key}`", self.item.name));
            reported.help(format!("add `{key}: …`"));
        }
        value
    }
}

#[cfg(test)]
mod tests;
