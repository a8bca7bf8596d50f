//! `portcullis policy diff`: what a change of policies changes in what is allowed.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use portcullis_policy::diff::{Answer, Axis, Change, Diff, Extent, Traffic, Witness, compare};
use portcullis_policy::testing::Asked;
use portcullis_policy::{Compiled, Mode, Policy, Rule};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use self::lines::{Line, Policies, Token};
use self::revision::RevisionError;
use super::explain::parse_label;
use super::format::{self, Place, clean, print_json, workflow_command};
use super::{Error, Setting, files, parse_time};
use crate::cli::paint::{Colour, Count, Ink, Paint};
use crate::policy_store::directory::{self, Contents};
use crate::policy_store::unix_seconds;

mod lines;
mod markdown;
pub(super) mod revision;

/// Options of `policy diff`.
#[derive(Debug, Args)]
pub struct Options {
    /// Before the change: a directory, or a Git revision REV or REV:DIR with DIR from the top of the repository.
    base: String,
    /// After the change, likewise.
    head: String,
    /// Directory of a revision that is given without one; may be repeated. Otherwise that of the other side.
    #[arg(long, value_name = "DIR")]
    directory: Vec<PathBuf>,
    /// The repository that REV:DIR is looked up in.
    #[arg(long, value_name = "DIR", default_value = ".")]
    repository: PathBuf,
    /// How to print it; `markdown` is for a comment on a pull request, `github` for annotations of a workflow.
    #[arg(long, value_enum, default_value_t = DiffFormat::Human)]
    format: DiffFormat,
    /// End with 1 if there is a change of this kind, or if the comparison is incomplete; may be repeated.
    #[arg(long, value_enum, value_name = "KIND")]
    fail_on: Vec<FailOn>,
    #[command(flatten)]
    setting: Setting,
    /// A label of the workload, for policies that select workloads by label; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    labels: Vec<(String, String)>,
    /// Compare as of this time (RFC 3339, as in 2026-11-22T03:29:01Z) instead of now.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    at: Option<i64>,
    /// When to use colours; `auto` is on a terminal.
    #[arg(long, value_enum, default_value_t = Colour::Auto)]
    color: Colour,
}

/// How to print it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DiffFormat {
    Human,
    Markdown,
    Json,
    Github,
}

/// What to end with 1 for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FailOn {
    NewlyAllowed,
    NoLongerAllowed,
    Audit,
}

impl FailOn {
    fn is_met_by(self, change: &Change) -> bool {
        match self {
            Self::NewlyAllowed => change.is_newly_allowed(),
            Self::NoLongerAllowed => change.is_no_longer_allowed(),
            Self::Audit => change.mode == Mode::Audit,
        }
    }
}

pub(super) fn run(options: &Options, paint: Paint, out: &mut dyn Write) -> Result<(), Error> {
    let paint = options.color.paint(paint);
    let base = options.contents(&options.base, &options.head)?;
    let head = options.contents(&options.head, &options.base)?;
    let base = compiled(options, &options.base, &base, paint, out)?;
    let head = compiled(options, &options.head, &head, paint, out)?;
    let policies = Policies { base: &base, head: &head };
    let diff = compare(&base, &head, options.at.unwrap_or_else(unix_seconds));
    match options.format {
        DiffFormat::Human => out.write_all(human(&diff, policies, paint).as_bytes())?,
        DiffFormat::Markdown => out.write_all(markdown::page(&diff, policies).as_bytes())?,
        DiffFormat::Json => print_json(&as_json(options, &diff, policies), out)?,
        DiffFormat::Github => out.write_all(github(&diff, policies, &options.head).as_bytes())?,
    }
    let count = diff.changes.iter().filter(|change| options.fail_on.iter().any(|kind| kind.is_met_by(change))).count();
    match (count, diff.left_out.is_empty() || options.fail_on.is_empty()) {
        (0, true) => Ok(()),
        (0, false) => Err(Error::Incomplete),
        (count, _) => Err(Error::Changed { count }),
    }
}

impl Options {
    /// The documents of one side: of a directory if there is one of that name, else of a revision.
    fn contents(&self, side: &str, other: &str) -> Result<Contents, Error> {
        if Path::new(side).is_dir() {
            return Ok(directory::read(&[PathBuf::from(side)])?);
        }
        if let Some((revision, directory)) = side.split_once(':') {
            let directory = revision::plain(Path::new(directory));
            return Ok(revision::read(&self.repository, revision, &[directory])?);
        }
        let directories = match (self.directory.as_slice(), Path::new(other)) {
            ([], other) if other.is_dir() => &[other.to_owned()],
            ([], _) => return Err(RevisionError::NoDirectory(side.to_owned()).into()),
            (given, _) => given,
        };
        let mut contents = Contents::default();
        for directory in directories {
            let (repository, directory) = revision::from_top(directory)?;
            contents.files.extend(revision::read(&repository, side, &[directory])?.files);
        }
        Ok(contents)
    }
}

fn compiled(
    options: &Options,
    side: &str,
    contents: &Contents,
    paint: Paint,
    out: &mut dyn Write,
) -> Result<Policy, Error> {
    let labels = options.labels.iter().cloned().collect();
    let found = match Policy::compile_with(&files(contents), &options.setting.options(labels)) {
        Ok(Compiled { policy, .. }) => return Ok(policy),
        Err(found) => found,
    };
    match options.format {
        DiffFormat::Human => format::print_mistakes(&found, format::Format::Human, paint, out)?,
        DiffFormat::Json => format::print_mistakes(&found, format::Format::Json, paint, out)?,
        DiffFormat::Github => format::print_mistakes(&found, format::Format::Github, paint, out)?,
        DiffFormat::Markdown => {
            out.write_all(markdown::mistakes(side, &format::human(&found, Paint::Plain)).as_bytes())?;
        }
    }
    Err(Error::do_not_load(&found))
}

/// `2 newly allowed, 1 no longer allowed`
fn summary(diff: &Diff) -> String {
    let count = |belongs: fn(&Change) -> bool| diff.changes.iter().filter(|change| belongs(change)).count();
    let (more, fewer) = (count(Change::is_newly_allowed), count(Change::is_no_longer_allowed));
    let audited = count(|change| change.mode == Mode::Audit);
    let audited = if audited > 0 { format!(", {audited} in audit mode") } else { String::new() };
    match diff.changes.is_empty() {
        true if diff.left_out.is_empty() => "No change in what is allowed".to_owned(),
        _ => format!("{more} newly allowed, {fewer} no longer allowed{audited}"),
    }
}

/// What is said of rules that only mark.
const MARKS: &str = "Rules that only mark (Istio's `AUDIT`) changed; they decide nothing and are not compared";

fn human(diff: &Diff, policies: Policies<'_>, paint: Paint) -> String {
    let text = |tokens: &[Token]| -> String {
        let words = tokens.iter().map(|token| match token {
            Token::Word(word) => word.clone(),
            Token::Code(text) => clean(text),
        });
        words.collect()
    };
    let mut lines = Vec::new();
    for change in &diff.changes {
        let sign = match (change.is_newly_allowed(), change.is_no_longer_allowed()) {
            (true, _) => paint.ink(Ink::Yellow, "+ newly allowed"),
            (_, true) => paint.ink(Ink::Red, "- no longer allowed"),
            _ => paint.ink(Ink::Cyan, "~ audited"),
        };
        let Line { caller, workload, call, rules } = Line::of(change, policies);
        lines.push(format!("{sign}: {} → {}: {}", text(&caller), text(&workload), text(&call)));
        lines.push(format!("    {}", text(&rules)));
    }
    for one in &diff.left_out {
        lines.push(format!("{}: not compared: {}", paint.ink(Ink::Yellow, "incomplete"), clean(one)));
    }
    if diff.marks_changed {
        lines.push(MARKS.to_owned());
    }
    lines.push(paint.ink(Ink::Bold, &summary(diff)));
    lines.into_iter().map(|line| line + "\n").collect()
}

fn as_json(options: &Options, diff: &Diff, policies: Policies<'_>) -> Value {
    let count = |belongs: fn(&Change) -> bool| diff.changes.iter().filter(|change| belongs(change)).count();
    json!({
        "base": options.base,
        "head": options.head,
        "complete": diff.left_out.is_empty(),
        "left_out": diff.left_out,
        "marks_changed": diff.marks_changed,
        "newly_allowed": count(Change::is_newly_allowed),
        "no_longer_allowed": count(Change::is_no_longer_allowed),
        "changes": diff.changes.iter().map(|change| change_as_json(change, policies)).collect::<Vec<_>>(),
    })
}

fn change_as_json(change: &Change, policies: Policies<'_>) -> Value {
    let pieces = |extent: &Extent| -> Value {
        let piece =
            |piece: &portcullis_policy::diff::Piece| json!({ "all": piece.patterns(), "except": piece.exceptions() });
        extent.pieces.iter().map(piece).collect()
    };
    let (mut extents, mut headers) = (Map::new(), Map::new());
    for (axis, extent) in &change.extents {
        match axis {
            Axis::Header(name) => headers.insert(name.to_string(), pieces(extent)),
            other => extents.insert(other.label().to_owned(), pieces(extent)),
        };
    }
    if !headers.is_empty() {
        extents.insert("headers".to_owned(), Value::Object(headers));
    }
    let [before, after] = policies.rules(change);
    let side = |answer: Answer, rule: Option<&Rule>| {
        let rule = rule.map(|rule| {
            json!({ "policy": &*rule.policy, "namespace": rule.namespace.as_deref(), "rule": &*rule.name, "source": rule.origin.to_string() })
        });
        let answer = match answer {
            Answer::Allow => Some("allow"),
            Answer::Deny => Some("deny"),
            Answer::Nothing => None,
        };
        json!({ "decision": answer, "rule": rule })
    };
    json!({
        "mode": change.mode.label(),
        "traffic": match change.traffic {
            Traffic::Requests => "requests",
            Traffic::Opaque => "opaque",
            Traffic::Everything => "everything",
        },
        "where": extents,
        "before": side(change.said.base.answer, before),
        "after": side(change.said.head.answer, after),
        "example": example(&change.witness),
    })
}

/// What `policy explain` is asked with.
fn example(witness: &Witness) -> Value {
    let at = OffsetDateTime::from_unix_timestamp(witness.at).ok().and_then(|time| time.format(&Rfc3339).ok());
    let request = match &witness.asked {
        Asked::Connection => Value::Null,
        Asked::Request { method, host, target, headers } => {
            json!({ "method": method, "host": host, "path": target, "headers": headers })
        }
    };
    json!({
        "caller": witness.caller.to_string(),
        "workload": witness.workload.to_string(),
        "port": witness.port,
        "source": witness.source.to_string(),
        "destination": witness.destination.to_string(),
        "server_name": witness.server_name,
        "at": at,
        "request": request,
    })
}

/// Annotations at the rules of the new set; GitHub shows ten of a step.
fn github(diff: &Diff, policies: Policies<'_>, head: &str) -> String {
    let text = |tokens: Vec<Token>| -> String {
        let words = tokens.into_iter().map(|token| match token {
            Token::Word(text) | Token::Code(text) => text,
        });
        words.collect()
    };
    let revision = head.split(':').next().unwrap_or_default();
    let mut commands = String::new();
    for change in diff.changes.iter().take(MOST_ANNOTATIONS) {
        let [_, after] = policies.rules(change);
        let place = after.map(|rule| {
            let file = &*rule.origin.file;
            let of_revision = file.strip_prefix(revision).and_then(|rest| rest.strip_prefix(':'));
            Place { file: of_revision.unwrap_or(file), line: rule.origin.line, column: rule.origin.column }
        });
        let title = match (change.is_newly_allowed(), change.is_no_longer_allowed()) {
            (true, _) => "newly allowed",
            (_, true) => "no longer allowed",
            _ => "audited",
        };
        let Line { caller, workload, call, rules } = Line::of(change, policies);
        let message = format!("{} → {}: {}\n{}", text(caller), text(workload), text(call), text(rules));
        commands.push_str(&workflow_command("notice", place, title, &message));
    }
    if !diff.left_out.is_empty() {
        let message = format!("not compared:\n{}", diff.left_out.join("\n"));
        commands.push_str(&workflow_command("warning", None, "incomplete", &message));
    }
    if diff.marks_changed {
        commands.push_str(&workflow_command("notice", None, "marked", MARKS));
    }
    commands.push_str(&workflow_command("notice", None, "policy diff", &summary(diff)));
    commands
}

/// `1 change of the kinds that are not to be`
pub(super) fn changed(count: usize) -> String {
    format!("{} of a kind that --fail-on names", Count(count, "change"))
}

const MOST_ANNOTATIONS: usize = 50;

#[cfg(test)]
mod tests;
