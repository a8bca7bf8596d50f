//! A change as text in parts: who, whom, what, by which rule. The words of policies are kept apart from ours, so that
//! each format can show them harmlessly.

use portcullis_policy::diff::{Answer, Axis, Change, Extent, Piece, Said, Traffic};
use portcullis_policy::{Mode, Policy, Rule};

/// A piece of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// Our own word.
    Word(String),
    /// What others wrote: an identity, a pattern, a name.
    Code(String),
}

/// A change in parts.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) caller: Vec<Token>,
    pub(super) workload: Vec<Token>,
    /// What is asked for, where and when.
    pub(super) call: Vec<Token>,
    /// The rules that make the difference.
    pub(super) rules: Vec<Token>,
}

/// The two sets that are compared.
#[derive(Clone, Copy)]
pub(super) struct Policies<'a> {
    pub(super) base: &'a Policy,
    pub(super) head: &'a Policy,
}

impl<'a> Policies<'a> {
    /// The rules that decide before and after.
    pub(super) fn rules(self, change: &Change) -> [Option<&'a Rule>; 2] {
        let find = |policy: &'a Policy, said: Said| said.rule.and_then(|rule| policy.rule(rule));
        [find(self.base, change.said.base), find(self.head, change.said.head)]
    }
}

impl Line {
    pub(super) fn of(change: &Change, policies: Policies<'_>) -> Self {
        let listed = |axis: Axis, any: &str| match change.extents.get(&axis) {
            None => vec![word(any)],
            Some(extent) => extent_tokens(extent),
        };
        Self {
            caller: listed(Axis::Caller, "anyone"),
            workload: listed(Axis::Workload, "any workload"),
            call: call(change),
            rules: rules(change, policies),
        }
    }
}

/// `GET, HEAD /v1/plans/** on port 8080 until …`
fn call(change: &Change) -> Vec<Token> {
    let mut tokens = match change.traffic {
        Traffic::Opaque => vec![word("opaque TCP")],
        Traffic::Everything => vec![word("opaque TCP and any request")],
        Traffic::Requests => {
            let part = |axis: Axis, any: &str| change.extents.get(&axis).map_or_else(|| vec![word(any)], extent_tokens);
            let method = part(Axis::Method, "any method");
            [method, vec![word(" ")], part(Axis::Path, "any path")].concat()
        }
    };
    for (axis, extent) in &change.extents {
        let before = match axis {
            Axis::Port => vec![word(" on port ")],
            Axis::Source => vec![word(" from ")],
            Axis::Destination => vec![word(" at ")],
            Axis::ServerName => vec![word(" for server name ")],
            Axis::Host => vec![word(" of host ")],
            Axis::Header(name) => vec![word(" with header "), Token::Code(name.to_string()), word(": ")],
            Axis::Time => {
                tokens.extend(times(extent));
                continue;
            }
            Axis::Workload | Axis::Caller | Axis::Path | Axis::Method => continue,
        };
        tokens.extend(before);
        tokens.extend(extent_tokens(extent));
    }
    tokens
}

fn rules(change: &Change, policies: Policies<'_>) -> Vec<Token> {
    let [before, after] = policies.rules(change);
    let mut tokens = Vec::new();
    if change.mode == Mode::Audit {
        let answer = |said: Said| match said.answer {
            Answer::Allow => "would have been allowed",
            Answer::Deny => "would have been denied",
            Answer::Nothing => "was not audited",
        };
        tokens.push(word(answer(change.said.base)));
        tokens.extend(before.into_iter().flat_map(|rule| [vec![word(" by ")], named(rule)].concat()));
        tokens.push(word(match change.said.head.answer {
            Answer::Allow => "; would be allowed",
            Answer::Deny => "; would be denied",
            Answer::Nothing => "; is not audited",
        }));
        tokens.extend(after.into_iter().flat_map(|rule| [vec![word(" by ")], named(rule)].concat()));
        return tokens;
    }
    let (verb, other) =
        if change.is_newly_allowed() { ("allowed by ", "was denied by ") } else { ("denied by ", "was allowed by ") };
    match after {
        Some(rule) => tokens.extend([vec![word(verb)], named(rule)].concat()),
        None => tokens.push(word("no rule allows it")),
    }
    if let Some(rule) = before {
        tokens.extend([vec![word("; "), word(other)], named(rule)].concat());
    }
    tokens
}

fn named(rule: &Rule) -> Vec<Token> {
    vec![
        Token::Code(rule.name.to_string()),
        word(" of "),
        Token::Code(rule.policy.to_string()),
        word(", "),
        Token::Code(rule.origin.to_string()),
    ]
}

/// A few of the pieces, and how many more there are.
fn extent_tokens(extent: &Extent) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (index, piece) in extent.pieces.iter().take(MOST_PIECES).enumerate() {
        if index > 0 {
            tokens.push(word(", "));
        }
        tokens.extend(piece_tokens(piece));
    }
    tokens.extend(more(extent.pieces.len()));
    tokens
}

fn piece_tokens(piece: &Piece) -> Vec<Token> {
    let (patterns, exceptions) = (piece.patterns(), piece.exceptions());
    // A field that not even `*` matches.
    if patterns.is_empty() && exceptions == ["*"] {
        return vec![word("none")];
    }
    let mut tokens = joined(patterns, " and ");
    if !exceptions.is_empty() {
        tokens.push(word(if tokens.is_empty() { "any but " } else { " except " }));
        let count = exceptions.len();
        tokens.extend(joined(exceptions.into_iter().take(MOST_PIECES).collect(), ", "));
        tokens.extend(more(count));
    }
    tokens
}

/// ` until …`, ` from … on`, or both.
fn times(extent: &Extent) -> Vec<Token> {
    let time = |piece: &Piece| {
        let from = piece.exceptions().into_iter().map(|moment| format!(" from {moment} on"));
        let until = piece.patterns().into_iter().map(|moment| format!(" until {moment}"));
        from.chain(until).map(Token::Word).collect::<Vec<_>>()
    };
    let mut tokens = Vec::new();
    for (index, piece) in extent.pieces.iter().take(MOST_PIECES).enumerate() {
        tokens.extend((index > 0).then(|| word(" and")));
        tokens.extend(time(piece));
    }
    tokens.extend(more(extent.pieces.len()));
    tokens
}

fn joined(all: Vec<String>, between: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for one in all {
        if !tokens.is_empty() {
            tokens.push(word(between));
        }
        tokens.push(Token::Code(one));
    }
    tokens
}

fn more(count: usize) -> Option<Token> {
    let more = count.checked_sub(MOST_PIECES).filter(|more| *more > 0)?;
    Some(Token::Word(format!(" and {more} more")))
}

fn word(text: &str) -> Token {
    Token::Word(text.to_owned())
}

/// More are not read in a line; `--format json` has all.
const MOST_PIECES: usize = 8;
