//! Diagnostics in each form that the commands print them in.
//!
//! Names of files and of cases are what others wrote: on a terminal they are shown without control characters, and in
//! the commands of a GitHub workflow everything that could end one or begin another is escaped.

use std::io::Write;

use clap::ValueEnum;
use portcullis_policy::codes;
use portcullis_policy::diagnostic::{Diagnostic, Diagnostics, Severity};
use serde_json::{Value, json};

use super::Error;
use crate::cli::paint::{Count, Ink, Paint};
use crate::cli::sarif;

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Human,
    Json,
    Sarif,
    Github,
}

/// Prints diagnostics and nothing else. `json` is made around them by the caller.
pub(super) fn print(
    found: &Diagnostics,
    format: Format,
    paint: Paint,
    json: impl FnOnce(Vec<Value>) -> Value,
    out: &mut dyn Write,
) -> Result<(), Error> {
    match format {
        Format::Human => out.write_all(human(found, paint).as_bytes())?,
        Format::Json => print_json(&json(found.iter().map(as_json).collect()), out)?,
        Format::Sarif => print_json(&as_sarif(found), out)?,
        Format::Github => out.write_all(github(found).as_bytes())?,
    }
    Ok(())
}

/// What keeps the documents from loading, in place of the answer.
pub(super) fn print_mistakes(
    found: &Diagnostics,
    format: Format,
    paint: Paint,
    out: &mut dyn Write,
) -> Result<(), Error> {
    print(found, format, paint, |found| json!({ "findings": found }), out)
}

pub(super) fn print_json(value: &Value, out: &mut dyn Write) -> Result<(), Error> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)?;
    Ok(())
}

/// Every diagnostic with its line and caret, and how many there are.
pub(super) fn human(found: &Diagnostics, paint: Paint) -> String {
    let mut text: String = found.iter().map(|one| diagnostic(one, paint)).collect();
    if found.dropped() > 0 {
        text.push_str(&format!("and {} more\n", found.dropped()));
    }
    text
}

/// `1 error, 2 warnings`, or what says that there is nothing.
pub(super) fn summary(found: &Diagnostics, paint: Paint) -> String {
    let counted = [Severity::Error, Severity::Warning, Severity::Note]
        .map(|severity| Count(found.iter().filter(|one| one.severity == severity).count(), severity.word()));
    let counted: Vec<_> = counted.iter().filter(|count| count.0 > 0).map(ToString::to_string).collect();
    if counted.is_empty() { paint.ink(Ink::Green, "nothing found") } else { paint.ink(Ink::Bold, &counted.join(", ")) }
}

fn diagnostic(one: &Diagnostic, paint: Paint) -> String {
    let ink = match one.severity {
        Severity::Error => Ink::Red,
        Severity::Warning => Ink::Yellow,
        Severity::Note => Ink::Cyan,
    };
    let word = paint.ink(ink, &format!("{}[{}]", one.severity.word(), one.code));
    let mut text =
        if one.line > 0 { format!("{}:{}:{}: ", clean(&one.file), one.line, one.column) } else { String::new() };
    text.push_str(&format!("{word}: {}\n", clean(&one.message)));
    if !one.line_text().is_empty() {
        let gutter = one.line.to_string();
        let blank = " ".repeat(gutter.len());
        // Tabs stay tabs below the line, or the caret would stand elsewhere.
        let indent = one.line_text().chars().take(one.caret()).map(|c| if c == '\t' { '\t' } else { ' ' });
        let caret = paint.ink(ink, "^");
        text.push_str(&format!(" {gutter} | {}\n", one.line_text()));
        text.push_str(&format!(" {blank} | {}{caret}\n", indent.collect::<String>()));
    }
    if let Some(help) = &one.help {
        text.push_str(&format!("  = help: {}\n", clean(help)));
    }
    text
}

/// Text for a terminal: what could move its cursor, colour it or turn its direction is spelled out.
pub(super) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

fn as_json(one: &Diagnostic) -> Value {
    let place = |number: usize| (number > 0).then_some(number);
    json!({
        "severity": one.severity.word(),
        "code": one.code,
        "message": one.message,
        "file": (!one.file.is_empty()).then_some(&one.file),
        "line": place(one.line),
        "column": place(one.column),
        "help": one.help,
    })
}

pub(super) fn as_sarif(found: &Diagnostics) -> Value {
    let mut known: Vec<&str> = found.iter().map(|one| one.code).collect();
    known.sort_unstable();
    known.dedup();
    let rules = known.into_iter().filter_map(codes::find).map(|code| sarif::Rule {
        code: code.code,
        name: code.title,
        title: code.title,
        remedy: code.remedy,
    });
    let entries = found.iter().map(|one| sarif::Entry {
        code: one.code,
        level: one.severity.word(),
        message: match &one.help {
            Some(help) => format!("{}; {help}", one.message),
            None => one.message.clone(),
        },
        path: one.file.clone(),
        line: Some(one.line).filter(|line| *line > 0),
        column: Some(one.column).filter(|column| *column > 0),
    });
    sarif::log(&rules.collect::<Vec<_>>(), &entries.collect::<Vec<_>>())
}

pub(super) fn github(found: &Diagnostics) -> String {
    let command = |one: &Diagnostic| {
        let level = match one.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "notice",
        };
        let help = one.help.as_ref().map(|help| format!("\n{help}")).unwrap_or_default();
        let place = (one.line > 0).then_some(Place { file: &one.file, line: one.line, column: one.column });
        workflow_command(level, place, one.code, &format!("{}{help}", one.message))
    };
    found.iter().map(command).collect()
}

/// Where a workflow command points at.
pub(super) struct Place<'a> {
    pub(super) file: &'a str,
    pub(super) line: usize,
    pub(super) column: usize,
}

/// `::error file=…,line=…,col=…,title=…::message`
pub(super) fn workflow_command(level: &str, place: Option<Place<'_>>, title: &str, message: &str) -> String {
    let place = place.map(|Place { file, line, column }| format!("file={},line={line},col={column},", property(file)));
    format!("::{level} {}title={}::{}\n", place.unwrap_or_default(), property(title), data(message))
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// The log shows it on a terminal too, so that only line ends survive, as escapes.
fn data(text: &str) -> String {
    let lines: Vec<_> = text.split('\n').map(clean).collect();
    lines.join("\n").replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}
