//! Whether what one rule matches is certainly matched by another.
//!
//! Sound, not complete. The doubt with which a request is matched (`matchers.rs`) only ever helps: an allow rule is given
//! none and a deny rule all of it, so what holds for an allow rule holds for a deny rule with the same matcher, and the
//! other way round for `not…`. Two rules of one effect are given the same.

use std::cell::Cell;

use ipnet::IpNet;

use super::pattern::Pattern;
use crate::matchers::{Doubt, GrpcMatcher, HeaderMatcher, HostPattern};
use crate::rules::{
    Condition, ConnectionMatcher, Effect, Identities, IdentitySet, Lowered, Matchers, PolicyRules, RequestMatcher,
    Rule, Sense, SetRef,
};
use crate::text::TextPattern;

/// A rule ready to be compared.
pub(super) struct Subject<'a> {
    pub(super) rule: &'a Rule,
    /// The number of its policy in [`Subjects::scopes`].
    scope: usize,
    pub(super) connection: Vec<Test<'a>>,
    pub(super) request: Vec<Test<'a>>,
}

/// A matcher or its `not…` twin.
pub(super) struct Test<'a> {
    pub(super) sense: Sense,
    pub(super) on: On<'a>,
}

/// What a matcher asks.
pub(super) enum On<'a> {
    Caller(Names),
    Source(&'a [IpNet]),
    Port(&'a [u16]),
    Destination(&'a [IpNet]),
    ServerName(&'a [TextPattern]),
    Host(&'a [HostPattern]),
    Method(&'a [TextPattern]),
    Path(Vec<Pattern>),
    Grpc(&'a GrpcMatcher),
    Header(&'a HeaderMatcher),
}

/// Identities, with the sets by number: a set may be named by a hundred thousand rules.
pub(super) struct Names {
    pub(super) own: Vec<Pattern>,
    sets: Vec<SetRef>,
}

/// Where a policy applies.
pub(super) struct Scope<'a> {
    policy: &'a PolicyRules,
    pub(super) target: Option<Names>,
}

/// All rules of a set of documents.
pub(super) struct Subjects<'a> {
    pub(super) rules: Vec<Subject<'a>>,
    pub(super) scopes: Vec<Scope<'a>>,
    sets: Vec<Vec<Pattern>>,
    /// How many more comparisons are made; beyond them nothing is known of any two rules.
    left: Cell<u64>,
}

impl<'a> Subjects<'a> {
    pub(super) fn of(policies: &'a [PolicyRules], sets: &[IdentitySet]) -> Self {
        let members = |set: &IdentitySet| Names::of(&set.members).own;
        let sets = sets.iter().map(members).collect();
        let scope = |policy: &'a PolicyRules| Scope { policy, target: policy.target.as_ref().map(Names::of) };
        let scopes = policies.iter().map(scope).collect();
        let rules = policies.iter().enumerate().flat_map(|(scope, policy)| {
            policy.rules.iter().map(move |Lowered { rule, matchers }| Subject::of(rule, scope, matchers))
        });
        Self { rules: rules.collect(), scopes, sets, left: Cell::new(MOST_COMPARISONS) }
    }

    /// Whether every comparison that was asked for has been made.
    pub(super) fn is_complete(&self) -> bool {
        self.left.get() > 0
    }

    /// Whether at any time, for any workload, whatever `narrow` matches is matched by `wide` too.
    pub(super) fn covers(&self, wide: &Subject<'_>, narrow: &Subject<'_>) -> bool {
        let lasts = wide.rule.expires.is_none_or(|end| narrow.rule.expires.is_some_and(|theirs| theirs <= end));
        let all = |wide: &[Test<'_>], narrow: &[Test<'_>]| {
            wide.iter().all(|wanted| narrow.iter().any(|given| self.implies(given, wanted)))
        };
        self.spend()
            && lasts
            && wide.rule.mode == narrow.rule.mode
            && all(&wide.request, &narrow.request)
            && all(&wide.connection, &narrow.connection)
            && self.scope_covers(wide.scope, narrow.scope)
    }

    /// Whether the rule matches nothing at all: it asks for something, and for its opposite.
    pub(super) fn contradicts_itself(&self, subject: &Subject<'_>) -> bool {
        let contradiction = |tests: &[Test<'_>]| {
            tests.iter().filter(|test| test.sense == Sense::Is).any(|is| {
                let not = tests.iter().filter(|test| test.sense == Sense::IsNot);
                not.into_iter().any(|not| self.holds_all(&not.on, &is.on))
            })
        };
        // A deny rule with matchers on the request denies opaque TCP without asking them.
        contradiction(&subject.connection) || (subject.rule.effect == Effect::Allow && contradiction(&subject.request))
    }

    /// All patterns of some identities.
    pub(super) fn patterns<'s>(&'s self, names: &'s Names) -> impl Iterator<Item = &'s Pattern> {
        let in_sets = names.sets.iter().filter_map(|set| self.sets.get(set.0)).flatten();
        names.own.iter().chain(in_sets)
    }

    /// The policy's target.
    pub(super) fn target(&self, subject: &Subject<'_>) -> Option<&Names> {
        self.scopes.get(subject.scope).and_then(|scope| scope.target.as_ref())
    }

    fn scope_covers(&self, wide: usize, narrow: usize) -> bool {
        if wide == narrow {
            return true;
        }
        let (Some(wide), Some(narrow)) = (self.scopes.get(wide), self.scopes.get(narrow)) else { return false };
        let same_namespace = wide.policy.namespace.is_none() || wide.policy.namespace == narrow.policy.namespace;
        // Who wears the labels of the narrower selector wears those of the wider.
        let same_selection = wide.policy.selector.iter().all(|label| narrow.policy.selector.contains(label));
        same_namespace
            && same_selection
            && match (&wide.target, &narrow.target) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(wide), Some(narrow)) => self.name_all(wide, narrow),
            }
    }

    fn implies(&self, given: &Test<'_>, wanted: &Test<'_>) -> bool {
        match (given.sense, wanted.sense) {
            (Sense::Is, Sense::Is) => self.holds_all(&wanted.on, &given.on),
            (Sense::IsNot, Sense::IsNot) => self.holds_all(&given.on, &wanted.on),
            (Sense::Is, Sense::IsNot) => self.holds_none(&given.on, &wanted.on),
            (Sense::IsNot, Sense::Is) => false,
        }
    }

    /// Whether `wide` matches whatever `narrow` matches.
    fn holds_all(&self, wide: &On<'_>, narrow: &On<'_>) -> bool {
        match (wide, narrow) {
            (On::Caller(wide), On::Caller(narrow)) => self.name_all(wide, narrow),
            (On::Source(wide), On::Source(narrow)) | (On::Destination(wide), On::Destination(narrow)) => {
                self.each(narrow, wide, |a, b| b.contains(a))
            }
            (On::Port(wide), On::Port(narrow)) => self.each(narrow, wide, |a, b| a == b),
            (On::Host(wide), On::Host(narrow)) => self.each(narrow, wide, |a, b| host_covers(b, a)),
            (On::Method(wide), On::Method(narrow)) | (On::ServerName(wide), On::ServerName(narrow)) => {
                self.each(narrow, wide, |a, b| text_covers(b, a))
            }
            (On::Path(wide), On::Path(narrow)) => self.each(narrow, wide, |a, b| b.covers(a)),
            (On::Grpc(wide), On::Grpc(narrow)) => {
                let within = |wide: &[Box<str>], narrow: &[Box<str>]| {
                    wide.is_empty() || (!narrow.is_empty() && self.each(narrow, wide, |a, b| a == b))
                };
                within(&wide.services, &narrow.services) && within(&wide.methods, &narrow.methods)
            }
            (On::Header(wide), On::Header(narrow)) => {
                wide.name == narrow.name && self.each(&narrow.values, &wide.values, |a, b| text_covers(b, a))
            }
            _ => false,
        }
    }

    /// Whether `given` matches nothing that `other` matches.
    fn holds_none(&self, given: &On<'_>, other: &On<'_>) -> bool {
        match (given, other) {
            (On::Caller(given), On::Caller(other)) => {
                let mut all = self.patterns(given);
                all.all(|a| self.patterns(other).all(|b| self.spend() && a.is_disjoint(b)))
            }
            (On::Source(given), On::Source(other)) | (On::Destination(given), On::Destination(other)) => {
                self.none(given, other, |a, b| !a.contains(b) && !b.contains(a))
            }
            (On::Port(given), On::Port(other)) => self.none(given, other, |a, b| a != b),
            (On::Host(given), On::Host(other)) => self.none(given, other, hosts_are_disjoint),
            (On::Method(given), On::Method(other)) => self.none(given, other, methods_are_disjoint),
            (On::Path(given), On::Path(other)) => self.none(given, other, Pattern::is_disjoint),
            // What a repeated header or a gRPC path can be read as is too much to be certain of here.
            _ => false,
        }
    }

    fn name_all(&self, wide: &Names, narrow: &Names) -> bool {
        let covered = |pattern: &Pattern| self.patterns(wide).any(|wide| self.spend() && wide.covers(pattern));
        let sets = narrow.sets.iter().filter(|set| !wide.sets.contains(set)).filter_map(|set| self.sets.get(set.0));
        narrow.own.iter().all(covered) && sets.flatten().all(covered)
    }

    /// Whether each of `all` has one of `those` with which `holds` is true.
    fn each<T, U>(&self, all: &[T], those: &[U], holds: impl Fn(&T, &U) -> bool) -> bool {
        all.iter().all(|a| those.iter().any(|b| self.spend() && holds(a, b)))
    }

    /// Whether `apart` is true of all pairs.
    fn none<T>(&self, all: &[T], those: &[T], apart: impl Fn(&T, &T) -> bool) -> bool {
        all.iter().all(|a| those.iter().all(|b| self.spend() && apart(a, b)))
    }

    fn spend(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left > 0
    }
}

impl<'a> Subject<'a> {
    fn of(rule: &'a Rule, scope: usize, matchers: &'a Matchers) -> Self {
        let connection = matchers.connection.iter().map(|Condition { sense, matcher }| {
            let on = match matcher {
                ConnectionMatcher::Caller(identities) => On::Caller(Names::of(identities)),
                ConnectionMatcher::Source(networks) => On::Source(networks),
                ConnectionMatcher::Port(ports) => On::Port(ports),
                ConnectionMatcher::Destination(networks) => On::Destination(networks),
                ConnectionMatcher::ServerName(names) => On::ServerName(names),
            };
            Test { sense: *sense, on }
        });
        let request = matchers.request.iter().map(|Condition { sense, matcher }| {
            let on = match matcher {
                RequestMatcher::Host(hosts) => On::Host(hosts),
                RequestMatcher::Method(methods) => On::Method(methods),
                RequestMatcher::Path(patterns) => On::Path(patterns.iter().map(Pattern::of_path).collect()),
                RequestMatcher::Grpc(grpc) => On::Grpc(grpc),
                RequestMatcher::Header(header) => On::Header(header),
            };
            Test { sense: *sense, on }
        });
        Self { rule, scope, connection: connection.collect(), request: request.collect() }
    }

    /// Where it is written, for an order that people see.
    pub(super) fn place(&self) -> (&str, usize, usize) {
        (&self.rule.origin.file, self.rule.origin.line, self.rule.origin.column)
    }

    /// The identities that it asks the caller to be one of.
    pub(super) fn callers(&self) -> impl Iterator<Item = &Names> {
        self.connection.iter().filter(|test| test.sense == Sense::Is).filter_map(|test| match &test.on {
            On::Caller(names) => Some(names),
            _ => None,
        })
    }

    /// The paths that it asks for.
    pub(super) fn paths(&self) -> impl Iterator<Item = &[Pattern]> {
        self.request.iter().filter(|test| test.sense == Sense::Is).filter_map(|test| match &test.on {
            On::Path(patterns) => Some(patterns.as_slice()),
            _ => None,
        })
    }

    /// The ports that it asks for.
    pub(super) fn ports(&self) -> impl Iterator<Item = &[u16]> {
        self.connection.iter().filter(|test| test.sense == Sense::Is).filter_map(|test| match test.on {
            On::Port(ports) => Some(ports),
            _ => None,
        })
    }
}

impl Names {
    fn of(identities: &Identities) -> Self {
        let exact = identities.exact.iter().map(Pattern::of_id);
        let own = exact.chain(identities.patterns.iter().map(Pattern::of_identity)).collect();
        Self { own, sets: identities.sets.clone() }
    }
}

fn host_covers(wide: &HostPattern, narrow: &HostPattern) -> bool {
    match (wide, narrow) {
        (HostPattern::Exact(a), HostPattern::Exact(b)) => a == b,
        (HostPattern::Below(_), HostPattern::Exact(host)) => wide.matches(host, Doubt::Misses),
        // Between texts and hosts without port nothing is certain.
        (HostPattern::Text(a), HostPattern::Text(b)) => a == b,
        (HostPattern::Text(_), _) | (_, HostPattern::Text(_)) => false,
        (HostPattern::Below(wide), HostPattern::Below(narrow)) => narrow.ends_with(&**wide),
        (HostPattern::Exact(_), HostPattern::Below(_)) => false,
    }
}

fn hosts_are_disjoint(a: &HostPattern, b: &HostPattern) -> bool {
    match (a, b) {
        (HostPattern::Text(_), _) | (_, HostPattern::Text(_)) => false,
        (HostPattern::Exact(a), HostPattern::Exact(b)) => a != b,
        (HostPattern::Exact(host), below) | (below, HostPattern::Exact(host)) => !below.matches(host, Doubt::Matches),
        (HostPattern::Below(a), HostPattern::Below(b)) => !a.ends_with(&**b) && !b.ends_with(&**a),
    }
}

fn text_covers(wide: &TextPattern, narrow: &TextPattern) -> bool {
    match (wide, narrow) {
        (TextPattern::Present, _) => true,
        (TextPattern::Exact(a), TextPattern::Exact(b)) => a == b,
        (TextPattern::Prefix(a), TextPattern::Exact(b) | TextPattern::Prefix(b)) => b.starts_with(&**a),
        (TextPattern::Suffix(a), TextPattern::Exact(b) | TextPattern::Suffix(b)) => b.ends_with(&**a),
        (TextPattern::Exact(_) | TextPattern::Prefix(_) | TextPattern::Suffix(_), _) => false,
    }
}

fn methods_are_disjoint(a: &TextPattern, b: &TextPattern) -> bool {
    match (a, b) {
        (TextPattern::Exact(a), TextPattern::Exact(b)) => !a.eq_ignore_ascii_case(b),
        _ => false,
    }
}

/// About a second. A set in which more rules could cover each other is compared in part, and the findings say so.
const MOST_COMPARISONS: u64 = 50_000_000;

/// The ports that matchers ask for.
pub(super) fn ports(matchers: &Matchers) -> Option<&[u16]> {
    matchers.connection.iter().find_map(|condition| match (&condition.matcher, condition.sense) {
        (ConnectionMatcher::Port(ports), Sense::Is) => Some(ports.as_slice()),
        _ => None,
    })
}
