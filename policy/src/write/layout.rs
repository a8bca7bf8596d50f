//! YAML text: quoting, wrapping, comments.
//!
//! A scalar stands bare only if every reader of YAML, of any version and in any place, takes it for the same string.
//! Whatever fits into a line is written in one.

use super::WriteError;
use crate::document::reads_as_text;

/// A value on its way to text.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// A string, quoted where it must be.
    Text(String),
    /// A number or a time, never quoted.
    Plain(String),
    List(Vec<Value>),
    /// Keys that fit into a line, if they do.
    Map(Vec<(Value, Value)>),
    /// Keys that each have a line of their own.
    Open(Vec<(&'static str, Value)>),
    /// A list of which each item begins a line, below its comment.
    Items(Vec<(Vec<String>, Value)>),
}

impl Value {
    pub(super) fn fitting(keys: Vec<(&'static str, Value)>) -> Self {
        Self::Map(keys.into_iter().map(|(key, value)| (Self::Text(key.to_owned()), value)).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Text(_) | Self::Plain(_) => false,
            Self::List(list) => list.is_empty(),
            Self::Map(keys) => keys.is_empty(),
            Self::Open(keys) => keys.is_empty(),
            Self::Items(items) => items.is_empty(),
        }
    }

    /// The value in one line; `None` where it must not be, or is longer than `room`.
    fn flow(&self, room: usize) -> Result<Option<String>, WriteError> {
        let (open, parts, close) = match self {
            Self::Text(text) => return scalar(text).map(Some),
            Self::Plain(text) => return Ok(Some(text.clone())),
            Self::List(list) => {
                let parts: Result<Vec<_>, _> = list.iter().map(|one| one.flow(room)).collect();
                ('[', parts?, ']')
            }
            Self::Map(keys) => {
                let part = |(key, value): &(Value, Value)| {
                    let both = key.flow(room)?.zip(value.flow(room)?);
                    Ok(both.map(|(key, value)| format!("{key}: {value}")))
                };
                let parts: Result<Vec<_>, WriteError> = keys.iter().map(part).collect();
                ('{', parts?, '}')
            }
            Self::Open(_) | Self::Items(_) => return Ok(None),
        };
        let parts: Option<Vec<String>> = parts.into_iter().collect();
        let line = parts.map(|parts| format!("{open}{}{close}", parts.join(", ")));
        Ok(line.filter(|line| line.chars().count() <= room))
    }
}

/// A document: keys at the margin.
pub(super) fn document(value: &Value, out: &mut String) -> Result<(), WriteError> {
    block(value, 0, out)
}

/// Each paragraph as comment lines. Whatever ends a line for some reader of YAML, or cannot be seen, is spelled out.
pub(super) fn comment(paragraphs: &[String], indent: usize, out: &mut String) {
    for paragraph in paragraphs {
        let mut line = String::new();
        let flush = |line: &mut String, out: &mut String| {
            out.push_str(&format!("{:indent$}#{line}\n", ""));
            line.clear();
        };
        for word in paragraph.split(' ').filter(|word| !word.is_empty()) {
            let word: String = word.chars().flat_map(spelled).collect();
            if !line.is_empty() && indent + line.chars().count() + word.chars().count() + 2 > WIDTH {
                flush(&mut line, out);
            }
            line.push(' ');
            line.push_str(&word);
        }
        flush(&mut line, out);
    }
}

fn spelled(c: char) -> Box<dyn Iterator<Item = char>> {
    if is_invisible(c) { Box::new(c.escape_unicode()) } else { Box::new(std::iter::once(c)) }
}

/// Writes what does not fit into the line that its key stands in, from the next line on.
fn block(value: &Value, indent: usize, out: &mut String) -> Result<(), WriteError> {
    match value {
        Value::Text(text) => out.push_str(&format!("{:indent$}{}\n", "", scalar(text)?)),
        Value::Plain(text) => out.push_str(&format!("{:indent$}{text}\n", "")),
        Value::List(list) => {
            for one in list {
                item(one, indent, out)?;
            }
        }
        Value::Items(items) => {
            for (above, one) in items {
                comment(above, indent, out);
                item(one, indent, out)?;
            }
        }
        Value::Map(keys) => {
            for (key, value) in keys {
                let Value::Text(key) = key else { continue };
                entry(&scalar(key)?, value, indent, out)?;
            }
        }
        Value::Open(keys) => {
            for (key, value) in keys {
                entry(key, value, indent, out)?;
            }
        }
    }
    Ok(())
}

fn entry(key: &str, value: &Value, indent: usize, out: &mut String) -> Result<(), WriteError> {
    let room = WIDTH.saturating_sub(indent + key.chars().count() + 2);
    match value.flow(room)? {
        Some(line) => out.push_str(&format!("{:indent$}{key}: {line}\n", "")),
        None => {
            out.push_str(&format!("{:indent$}{key}:\n", ""));
            block(value, indent + 2, out)?;
        }
    }
    Ok(())
}

fn item(value: &Value, indent: usize, out: &mut String) -> Result<(), WriteError> {
    let mut text = String::new();
    match value.flow(WIDTH.saturating_sub(indent + 2))? {
        Some(line) => text.push_str(&format!("{:width$}{line}\n", "", width = indent + 2)),
        None => block(value, indent + 2, &mut text)?,
    }
    // The dash takes the place of the first line's indentation.
    out.push_str(&format!("{:indent$}- {}", "", text.trim_start_matches(' ')));
    Ok(())
}

/// A string, bare or in double quotes.
fn scalar(text: &str) -> Result<String, WriteError> {
    if text.chars().any(is_invisible) {
        return Err(WriteError::Invisible(text.to_owned()));
    }
    if is_plain(text) {
        return Ok(text.to_owned());
    }
    Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// Whether it needs no quotes anywhere: it begins with a letter or a slash, holds nothing that is punctuation to YAML in
/// lists and mappings in one line, and is no boolean, number, time or null to any version.
fn is_plain(text: &str) -> bool {
    let begins_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b"/._~%+@- ".contains(&b);
    // A colon is punctuation only before a blank or an end; before a slash or a letter it never is.
    let mut following = text.bytes().skip(1).chain([b' ']);
    let inner = text.bytes().all(|b| {
        let next = following.next().unwrap_or(b' ');
        is_word(b) || (b == b':' && (next == b'/' || next.is_ascii_alphanumeric()))
    });
    begins_well && inner && !text.ends_with(' ') && !text.contains("  ") && reads_as_text(text)
}

/// What a reviewer cannot see, or what ends a line for some reader of YAML.
fn is_invisible(c: char) -> bool {
    let hidden = matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}' | '\u{e0000}'..='\u{e007f}');
    c.is_control() || hidden
}

/// What review tools show side by side, and what this repository keeps to.
const WIDTH: usize = 120;
