//! Names and comments of what is suggested.
//!
//! Values that were seen in paths may name people. Comments and tests show their form only: digits as 0, letters as a.

use std::collections::BTreeSet;

use spiffe::SpiffeId;

use super::group::{Evidence, Group, MOST_EXCEPTIONS, Pattern, To};
use super::tree::{MOST_TOLD, Step, Values};
use crate::diagnostic::quoted;
use crate::write::instant;

/// What people call a workload: namespace and account, or the end of its path.
pub(super) fn name(id: &SpiffeId) -> String {
    let path = id.path().trim_start_matches('/');
    let words: Vec<&str> = match path.split('/').collect::<Vec<_>>().as_slice() {
        ["ns", namespace, "sa", account] => vec![namespace, account],
        [.., before, last] => vec![before, last],
        other => other.to_vec(),
    };
    let name: String = words.join("-").chars().filter(char::is_ascii).take(LONGEST_NAME).collect();
    let name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    if name.is_empty() { "workload".to_owned() } else { name.to_owned() }
}

/// The namespace of a workload, if it has the form that Kubernetes gives it.
pub(super) fn namespace(id: &SpiffeId) -> Option<&str> {
    let (namespace, rest) = id.path().strip_prefix("/ns/")?.split_once('/')?;
    let is_label = namespace.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && namespace.len() <= 63
        && !namespace.starts_with('-')
        && !namespace.ends_with('-');
    (is_label && !namespace.is_empty() && !rest.is_empty()).then_some(namespace)
}

/// What a rule lets whom do.
pub(super) fn rule_name(group: &Group) -> String {
    let reads = |methods: &BTreeSet<Box<str>>| methods.iter().all(|one| matches!(&**one, "GET" | "HEAD" | "OPTIONS"));
    let verb = match &group.to {
        To::Http { methods, .. } if reads(methods) => "reads",
        To::Http { .. } => "writes",
        To::Grpc { .. } => "calls",
        To::Tcp => "connects",
    };
    let mut callers = group.callers.iter();
    match (callers.next(), callers.next()) {
        (Some(only), None) => format!("{}-{verb}", name(only)),
        _ => format!("shared-{verb}"),
    }
}

/// What a rule rests on, and what it gives away beyond that.
pub(super) fn comment(group: &Group) -> Vec<String> {
    let what = if matches!(group.to, To::Tcp) { "connection" } else { "request" };
    let Evidence { seen, by_caller, widened, .. } = &group.evidence;
    let mut first = format!("{}, from {} to {}", counted(seen.count, what), instant(seen.first), instant(seen.last));
    if by_caller.len() > 1 {
        let mut most: Vec<_> = by_caller.iter().collect();
        most.sort_by_key(|(caller, count)| (std::cmp::Reverse(**count), *caller));
        let told = most.iter().take(MOST_CALLERS).map(|(caller, count)| format!("{} {count}", name(caller)));
        first.push_str(&format!(": {}", told.collect::<Vec<_>>().join(", ")));
        if by_caller.len() > MOST_CALLERS {
            first.push_str(&format!(", and {} more callers", by_caller.len() - MOST_CALLERS));
        }
    }
    let mut all = vec![first + "."];
    for (pattern, why) in widened.iter().take(MOST_PATTERNS) {
        let values = why.values.iter().map(|one| {
            let more = if one.distinct >= MOST_TOLD { " or more" } else { "" };
            format!("{}{more} values such as {}", one.distinct, quoted(&form(&one.example)))
        });
        let mut line = format!("{}: {}.", quoted(&text(pattern)), values.collect::<Vec<_>>().join(", then "));
        if !why.covers.is_empty() {
            let covered: Vec<_> = why.covers.iter().take(MOST_CALLERS).map(|one| quoted(&text(one))).collect();
            line.push_str(&format!(" It also matches {}, which were seen as well.", covered.join(", ")));
        }
        all.push(line);
    }
    if widened.len() > MOST_PATTERNS {
        all.push(format!("And {} more patterns.", widened.len() - MOST_PATTERNS));
    }
    if let To::Http { except, .. } = &group.to {
        match except.len() {
            0 => {}
            number if number < MOST_EXCEPTIONS => {
                all.push("What `notPaths` lists, the patterns match, but only others were seen to ask for.".to_owned());
            }
            _ => all.push(format!(
                "The patterns match {MOST_EXCEPTIONS} paths or more that only others were seen to ask for; `notPaths` \
                 lists the first of them. Name the paths instead."
            )),
        }
    }
    all
}

/// A pattern as policies write it.
pub(super) fn text(pattern: &Pattern) -> String {
    let segment = |step: &Step| match step {
        Step::Any => "/{id}".to_owned(),
        Step::Literal(segment) => format!("/{segment}"),
    };
    pattern.iter().map(segment).collect()
}

/// A path that a pattern matches, with values of the form that was seen.
pub(super) fn example_path(pattern: &Pattern, values: &[Values]) -> Box<str> {
    let mut values = values.iter();
    let mut path = String::new();
    for step in pattern {
        path.push('/');
        match step {
            Step::Any => path.push_str(&values.next().map_or_else(|| "0".to_owned(), |one| form(&one.example))),
            Step::Literal(segment) => path.push_str(segment),
        }
    }
    path.into()
}

/// `1 request`, `2 requests`
pub(super) fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn form(value: &str) -> String {
    let of = |c: char| match c {
        '0'..='9' => '0',
        'a'..='z' => 'a',
        'A'..='Z' => 'A',
        other => other,
    };
    value.chars().map(of).collect()
}

/// Leaves room for what is put behind it: a name has at most 63 characters.
const LONGEST_NAME: usize = 44;
/// A comment is read; a list of a hundred callers is not.
const MOST_CALLERS: usize = 5;
/// As above.
const MOST_PATTERNS: usize = 20;
