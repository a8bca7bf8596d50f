//! Where one rule hangs in the index: which of its conditions are ways through it, and which are left to check.
//!
//! A rule has one condition of each kind as its way: callers, ports, methods, paths or gRPC names. What is left is
//! guarded: checked for those rules only that a request comes upon.

use super::entries::{ANY_METHOD, ANY_PORT, guard};
use super::identities::is_spread;
use super::methods::Methods;
use super::trie::Step;
use super::words::{DEPTH, Word, Words};
use crate::matchers::GrpcMatcher;
use crate::path::{PathPattern, PathSegment};
use crate::rules::{Condition, ConnectionMatcher, Effect, Identities, Matchers, RequestMatcher, Sense};
use crate::text::TextPattern;

/// The ways to a rule.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// Absent: every caller.
    pub(super) callers: Option<&'a Identities>,
    pub(super) ports: Vec<u32>,
    pub(super) on_connection: u32,
    pub(super) request: RequestPlan,
}

/// The ways to a rule when there is a request.
#[derive(Debug)]
pub(super) struct RequestPlan {
    pub(super) ports: Vec<u32>,
    pub(super) methods: Vec<Word>,
    /// Each at most [`DEPTH`] long; one without steps is for every path.
    pub(super) paths: Vec<Vec<Step>>,
    pub(super) guards: u32,
}

impl RequestPlan {
    /// How many entries it takes.
    pub(super) fn weight(&self) -> usize {
        self.ports.len().saturating_mul(self.methods.len()).saturating_mul(self.paths.len())
    }
}

/// The numbers that words and methods have.
#[derive(Debug, Default)]
pub(super) struct Lexicon {
    pub(super) words: Words,
    pub(super) methods: Methods,
}

/// Plans one rule.
pub(super) fn plan<'a>(matchers: &'a Matchers, effect: Effect, lexicon: &mut Lexicon) -> Plan<'a> {
    let mut plan = Plan {
        callers: None,
        ports: vec![ANY_PORT],
        on_connection: 0,
        request: RequestPlan { ports: Vec::new(), methods: vec![ANY_METHOD], paths: vec![Vec::new()], guards: 0 },
    };
    let mut way_by_port = None;
    for (index, Condition { sense, matcher }) in matchers.connection.iter().enumerate() {
        match (sense, matcher) {
            (Sense::Is, ConnectionMatcher::Caller(callers)) if plan.callers.is_none() => plan.callers = Some(callers),
            (Sense::Is, ConnectionMatcher::Port(ports)) if way_by_port.is_none() => {
                way_by_port = Some(index);
                plan.ports = distinct(ports.iter().copied().map(u32::from));
            }
            (Sense::Is | Sense::IsNot, _) => plan.on_connection |= guard(index),
        }
    }
    plan.request.ports.clone_from(&plan.ports);
    plan.request.guards = plan.on_connection;
    plan.request.read(matchers, effect, lexicon);
    // The last to give way are the paths.
    let request = &mut plan.request;
    if let Some(index) = way_by_port.filter(|_| !is_spread(request.ports.len(), request.paths.len())) {
        request.ports = vec![ANY_PORT];
        request.guards |= guard(index);
    }
    plan
}

impl RequestPlan {
    fn read(&mut self, matchers: &Matchers, effect: Effect, lexicon: &mut Lexicon) {
        let first = matchers.connection.len();
        let conditions =
            || matchers.request.iter().enumerate().map(|(index, condition)| (guard(first + index), condition));
        let is = |condition: &Condition<RequestMatcher>| condition.sense == Sense::Is;
        let by_path = conditions().find(|(_, one)| is(one) && matches!(one.matcher, RequestMatcher::Path(_)));
        let by_grpc = conditions().find(|(_, one)| is(one) && matches!(one.matcher, RequestMatcher::Grpc(_)));
        let by_method = conditions().find(|(_, one)| is(one) && matches!(one.matcher, RequestMatcher::Method(_)));
        let mut ways = 0;
        match (by_path, by_grpc) {
            (Some((bit, Condition { matcher: RequestMatcher::Path(patterns), .. })), _) => {
                self.paths = distinct(patterns.iter().map(|pattern| steps(pattern, &mut lexicon.words)));
                // A pattern that was cut short finds more than it matches, and so does the way to a text.
                let is_whole = |pattern: &PathPattern| pattern.segments().is_some_and(|(all, _)| all.len() <= DEPTH);
                ways |= if patterns.iter().all(is_whole) { bit } else { 0 };
            }
            (None, Some((_, Condition { matcher: RequestMatcher::Grpc(grpc), .. }))) => {
                // Guarded as well: a call is more than its path.
                self.paths = calls(grpc, &mut lexicon.words);
            }
            _ => {}
        }
        if let Some((bit, Condition { matcher: RequestMatcher::Method(methods), .. })) = by_method
            && let Some(methods) = written(methods)
            && is_spread(methods.len().saturating_mul(self.ports.len()), self.paths.len())
        {
            let numbers = methods.into_iter().map(|method| lexicon.methods.learn(method));
            self.methods = distinct(numbers.map(|number| match effect {
                Effect::Deny => number.folded,
                Effect::Allow => number.written,
            }));
            ways |= bit;
        }
        for (bit, _) in conditions() {
            // The last bit stands for several conditions, of which not all are ways.
            if bit & ways == 0 || bit == guard(usize::MAX) {
                self.guards |= bit;
            }
        }
    }
}

/// The methods, if there is no wildcard among them.
fn written(methods: &[TextPattern]) -> Option<Vec<&str>> {
    let exact = methods.iter().map(|method| match method {
        TextPattern::Exact(method) => Some(&**method),
        TextPattern::Prefix(_) | TextPattern::Suffix(_) | TextPattern::Present => None,
    });
    exact.collect()
}

/// A way on which a pattern is found, be it on the way of others too.
fn steps(pattern: &PathPattern, words: &mut Words) -> Vec<Step> {
    let Some((segments, has_rest)) = pattern.segments() else { return steps_to_text(pattern, words) };
    let mut steps: Vec<Step> = segments
        .iter()
        .take(DEPTH)
        .map(|segment| match segment {
            PathSegment::Literal(literal) => Step::Word(words.learn(literal)),
            PathSegment::One => Step::One,
        })
        .collect();
    if segments.len() > DEPTH || has_rest {
        steps.push(Step::Rest);
    }
    steps
}

/// The segments that a text certainly begins with, and whatever follows.
fn steps_to_text(pattern: &PathPattern, words: &mut Words) -> Vec<Step> {
    let begin = match pattern.text() {
        Some(TextPattern::Exact(text) | TextPattern::Prefix(text)) => text.strip_prefix('/').unwrap_or_default(),
        Some(TextPattern::Suffix(_) | TextPattern::Present) | None => "",
    };
    let whole = begin.rsplit_once('/').map(|(whole, _)| whole.split('/')).into_iter().flatten();
    let mut steps: Vec<Step> = whole.take(DEPTH).map(|segment| Step::Word(words.learn(segment))).collect();
    steps.push(Step::Rest);
    steps
}

/// The paths of gRPC calls. When there are too many, by service alone.
fn calls(grpc: &GrpcMatcher, words: &mut Words) -> Vec<Vec<Step>> {
    let mut part = |names: &[Box<str>]| match names {
        [] => vec![Step::One],
        names => names.iter().map(|name| Step::Word(words.learn(name))).collect(),
    };
    let services = part(&grpc.services);
    let methods =
        if is_spread(grpc.services.len(), grpc.methods.len()) { part(&grpc.methods) } else { vec![Step::One] };
    distinct(services.iter().flat_map(|service| methods.iter().map(|method| vec![*service, *method])))
}

fn distinct<T: Ord>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut all: Vec<T> = all.collect();
    all.sort_unstable();
    all.dedup();
    all
}
