//! Where constants are taken from matchers: every rule as clauses over axes, for both sets in one space.
//!
//! Exhaustive over the intermediate form: a new kind of matcher does not compile until it has an axis and a term here.

use ipnet::IpNet;
use spiffe::SpiffeId;

use super::space::{Clause, Space};
use super::term::{Axis, Case, How, Kind, Part, Reading, Segments, Term, Text};
use super::{Question, Side};
use crate::identity::{IdentityPattern, IdentitySegment};
use crate::matchers::{Doubt, GrpcMatcher, HeaderMatcher, HostPattern};
use crate::path::{PathPattern, PathSegment};
use crate::policy::{DefaultAction, Policy};
use crate::rules::{
    Condition, ConnectionMatcher, Effect, Identities, IdentitySet, Matchers, Mode, PolicyRules, RequestMatcher, Rule,
    Sense,
};
use crate::text::TextPattern;

/// What follows when all clauses hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Consequence {
    Deny,
    Allow,
    /// A policy is there to allow, and where it does not, that is a denial.
    Default,
    /// Where no policy is there to allow, everything is allowed.
    Open,
}

/// Adds what one set says to a question: its rules as lists of clauses that must all hold.
pub(super) fn lower(policy: &Policy, side: Side, question: Question, now: i64, space: &mut Space) {
    let set_by_content = |set: &IdentitySet| {
        let terms = own_terms(&set.members, space);
        space.set(terms)
    };
    let sets: Vec<u32> = policy.sets.iter().map(set_by_content).collect();
    let mut lowering = Lowering { sets: &sets, question, space };
    let is_open = question.mode() == Mode::Enforce && policy.default_action == DefaultAction::Allow;
    if is_open {
        lowering.space.add(Consequence::Open, Vec::new(), side);
    }
    for protection in policy.policies.iter().filter(|one| one.scope.mode == question.mode()) {
        let scope = lowering.scope(&protection.scope);
        let add = |consequence, clauses, space: &mut Space| match protection.selected {
            true => space.add(consequence, clauses, side),
            false => space.hide(protection.scope.selector.clone(), (consequence, clauses), side),
        };
        let rules = protection.deny.iter().chain(&protection.allow);
        for reference in rules {
            let (Some(rule), Some(matchers)) = (policy.rule(*reference), policy.matchers(*reference)) else { continue };
            if !rule.in_force(now) {
                continue;
            }
            let consequence = match rule.effect {
                Effect::Deny => Consequence::Deny,
                Effect::Allow => Consequence::Allow,
            };
            for mut clauses in lowering.rule(rule, matchers) {
                clauses.extend_from_slice(&scope);
                add(consequence, clauses, lowering.space);
            }
        }
        if protection.scope.allows && (is_open || question.mode() == Mode::Audit) {
            add(Consequence::Default, scope, lowering.space);
        }
    }
}

struct Lowering<'a> {
    /// The sets of this policy by their number there.
    sets: &'a [u32],
    question: Question,
    space: &'a mut Space,
}

impl Lowering<'_> {
    fn scope(&mut self, policy: &PolicyRules) -> Vec<Clause> {
        let mut clauses = Vec::new();
        if let Some(namespace) = &policy.namespace {
            let word = |text: &str| Part::Word(text.into());
            let parts = Box::new([Part::One, word("ns"), word(namespace), Part::One]);
            let shown = format!("namespace {namespace}").into();
            let pattern = Segments { kind: Kind::Identity, parts, opens: false, continues: true, shown };
            let terms = vec![self.space.term(Term::Segments(pattern))];
            clauses.push(self.space.clause(Axis::Workload, terms, Vec::new(), Sense::Is));
        }
        if let Some(target) = &policy.target {
            clauses.push(self.identities(Axis::Workload, target, Sense::Is));
        }
        clauses
    }

    /// The rule as alternatives, each of them clauses that must all hold; none when it has no say in the question.
    fn rule(&mut self, rule: &Rule, matchers: &Matchers) -> Vec<Vec<Clause>> {
        // Opaque TCP is never allowed by a rule with matchers on the request, and always denied by one.
        if self.question.is_opaque() && rule.effect == Effect::Allow && !matchers.request.is_empty() {
            return Vec::new();
        }
        let mut common: Vec<Clause> = matchers.connection.iter().map(|one| self.on_connection(one)).collect();
        if let Some(end) = rule.expires {
            let terms = vec![self.space.term(Term::Until(end))];
            common.push(self.space.clause(Axis::Time, terms, Vec::new(), Sense::Is));
        }
        let mut alternatives = vec![common];
        if self.question.is_opaque() {
            return alternatives;
        }
        for condition in &matchers.request {
            let more = self.on_request(condition, rule.effect);
            alternatives = alternatives
                .into_iter()
                .flat_map(|clauses| more.iter().map(move |more| [clauses.as_slice(), more].concat()))
                .collect();
        }
        alternatives
    }

    fn on_connection(&mut self, Condition { sense, matcher }: &Condition<ConnectionMatcher>) -> Clause {
        match matcher {
            ConnectionMatcher::Caller(identities) => self.identities(Axis::Caller, identities, *sense),
            ConnectionMatcher::Source(networks) => self.networks(Axis::Source, networks, *sense),
            ConnectionMatcher::Destination(networks) => self.networks(Axis::Destination, networks, *sense),
            ConnectionMatcher::ServerName(names) => {
                let terms = names.iter().map(|name| Term::Text(text(name, Case::Ignored))).collect();
                self.listed(Axis::ServerName, terms, *sense)
            }
            ConnectionMatcher::Port(ports) => {
                let terms = ports.iter().map(|port| self.space.term(Term::Port(*port))).collect();
                self.space.clause(Axis::Port, terms, Vec::new(), *sense)
            }
        }
    }

    /// The alternatives of a condition: only the denial of what is no gRPC call has two.
    fn on_request(&mut self, condition: &Condition<RequestMatcher>, effect: Effect) -> Vec<Vec<Clause>> {
        let Condition { sense, matcher } = condition;
        let doubt = doubt(*sense, effect);
        let (axis, terms): (Axis, Vec<Term>) = match matcher {
            RequestMatcher::Host(hosts) => (Axis::Host, hosts.iter().map(|one| host(one, doubt)).collect()),
            RequestMatcher::Method(methods) => {
                (Axis::Method, methods.iter().map(|method| self::method(method, doubt)).collect())
            }
            RequestMatcher::Path(patterns) => (Axis::Path, patterns.iter().map(path).collect()),
            RequestMatcher::Header(HeaderMatcher { name, values }) => (
                Axis::Header(name.clone()),
                values.iter().map(|value| Term::Text(text(value, Case::Matters))).collect(),
            ),
            RequestMatcher::Grpc(grpc) => return self.grpc(grpc, *sense, doubt),
        };
        vec![vec![self.listed(axis, terms, *sense)]]
    }

    fn grpc(&mut self, grpc: &GrpcMatcher, sense: Sense, doubt: Doubt) -> Vec<Vec<Clause>> {
        let path = self.listed(Axis::Path, calls(grpc), sense);
        if doubt == Doubt::Matches {
            return vec![vec![path]];
        }
        let posted = self.listed(Axis::Method, vec![method(&TextPattern::Exact("POST".into()), Doubt::Misses)], sense);
        match sense {
            Sense::Is => vec![vec![path, posted]],
            Sense::IsNot => vec![vec![path], vec![posted]],
        }
    }

    fn networks(&mut self, axis: Axis, networks: &[IpNet], sense: Sense) -> Clause {
        self.listed(axis, networks.iter().map(|network| Term::Network(*network)).collect(), sense)
    }

    fn listed(&mut self, axis: Axis, terms: Vec<Term>, sense: Sense) -> Clause {
        let terms = terms.into_iter().map(|term| self.space.term(term)).collect();
        self.space.clause(axis, terms, Vec::new(), sense)
    }

    fn identities(&mut self, axis: Axis, identities: &Identities, sense: Sense) -> Clause {
        let terms = own_terms(identities, self.space);
        let sets = identities.sets.iter().filter_map(|set| self.sets.get(set.0).copied()).collect();
        self.space.clause(axis, terms, sets, sense)
    }
}

/// As [`Condition::holds`] reads a request: a deny rule is given every doubt and an allow rule none.
fn doubt(sense: Sense, effect: Effect) -> Doubt {
    match (effect, sense) {
        (Effect::Deny, Sense::Is) | (Effect::Allow, Sense::IsNot) => Doubt::Matches,
        (Effect::Deny, Sense::IsNot) | (Effect::Allow, Sense::Is) => Doubt::Misses,
    }
}

fn own_terms(identities: &Identities, space: &mut Space) -> Vec<u32> {
    let exact = identities.exact.iter().map(exact_identity);
    exact.chain(identities.patterns.iter().map(identity)).map(|term| space.term(term)).collect()
}

fn exact_identity(id: &SpiffeId) -> Term {
    let segments = std::iter::once(id.trust_domain_name()).chain(id.path().split('/').skip(1));
    let parts = segments.map(|segment| Part::Word(segment.into())).collect();
    segments_of(Kind::Identity, parts, &id.to_string())
}

fn segments_of(kind: Kind, parts: Vec<Part>, shown: &str) -> Term {
    Term::Segments(Segments { kind, parts: parts.into(), opens: false, continues: false, shown: shown.into() })
}

fn continued(term: Term) -> Term {
    match term {
        Term::Segments(pattern) => Term::Segments(Segments { continues: true, ..pattern }),
        Term::Text(_) | Term::Host(..) | Term::Port(_) | Term::Network(_) | Term::Until(_) => term,
    }
}

pub(super) fn identity(pattern: &IdentityPattern) -> Term {
    let word = |text: &str| Part::Word(text.into());
    let shown = pattern.to_string();
    match pattern {
        IdentityPattern::Exact(id) => exact_identity(id),
        IdentityPattern::Segments { trust_domain, segments } => {
            let parts = segments.iter().map(|segment| match segment {
                IdentitySegment::Literal(word) => Part::Word(word.clone()),
                IdentitySegment::One | IdentitySegment::Rest => Part::One,
            });
            let parts = std::iter::once(word(trust_domain.as_str())).chain(parts).collect();
            let term = segments_of(Kind::Identity, parts, &shown);
            if segments.last() == Some(&IdentitySegment::Rest) { continued(term) } else { term }
        }
        IdentityPattern::Namespace(glob) => {
            let namespace = glob.literal().map_or_else(|| Part::Glob(glob.clone()), word);
            continued(segments_of(Kind::Identity, vec![Part::One, word("ns"), namespace, Part::One], &shown))
        }
        IdentityPattern::ServiceAccount { namespace, account } => {
            let parts = vec![Part::One, word("ns"), word(namespace), word("sa"), word(account)];
            segments_of(Kind::Identity, parts, &shown)
        }
        IdentityPattern::TrustDomain(text) => {
            let domain = match text {
                TextPattern::Exact(text) => word(text),
                TextPattern::Prefix(text) => Part::Starts(text.clone()),
                TextPattern::Suffix(text) => Part::Ends(text.clone()),
                TextPattern::Present => Part::One,
            };
            continued(segments_of(Kind::Identity, vec![domain, Part::One], &shown))
        }
        IdentityPattern::Text(text) => of_text(Kind::Identity, text),
    }
}

pub(super) fn path(pattern: &PathPattern) -> Term {
    let (segments, continues) = match (pattern.segments(), pattern.text()) {
        (Some(segments), _) => segments,
        (None, Some(text)) => return of_text(Kind::Path, text),
        (None, None) => return nothing(Kind::Path, &pattern.to_string()),
    };
    let parts = segments.iter().map(|segment| match segment {
        PathSegment::Literal(word) => Part::Word(word.clone()),
        PathSegment::One => Part::One,
    });
    let parts = parts.chain(continues.then_some(Part::Any)).collect();
    let term = segments_of(Kind::Path, parts, &pattern.to_string());
    if continues { continued(term) } else { term }
}

/// A text over all segments, as segments.
fn of_text(kind: Kind, pattern: &TextPattern) -> Term {
    let shown = pattern.to_string();
    // What stands before the first segment of a path is a slash, and nothing before that of an identity.
    let inside = |text: &str| match kind {
        Kind::Identity => Some(text.to_owned()),
        Kind::Path => text.strip_prefix('/').map(str::to_owned),
    };
    let words = |text: &str| text.split('/').map(|word| Part::Word(word.into())).collect::<Vec<_>>();
    match pattern {
        TextPattern::Present => continued(segments_of(kind, vec![Part::Any], &shown)),
        TextPattern::Exact(text) => match inside(text) {
            Some(text) => segments_of(kind, words(&text), &shown),
            None => nothing(kind, &shown),
        },
        TextPattern::Prefix(text) => match inside(text) {
            Some(text) => {
                let (head, last) = text.rsplit_once('/').map_or((None, &*text), |(head, last)| (Some(head), last));
                let mut parts = head.map(words).unwrap_or_default();
                parts.push(Part::Starts(last.into()));
                continued(segments_of(kind, parts, &shown))
            }
            None => nothing(kind, &shown),
        },
        TextPattern::Suffix(text) => {
            let (first, rest) = text.split_once('/').map_or((&**text, None), |(first, rest)| (first, Some(rest)));
            let is_first_slash = kind == Kind::Path && first.is_empty();
            let first = (!is_first_slash).then(|| Part::Ends(first.into()));
            let parts = first.into_iter().chain(rest.map(words).unwrap_or_default()).collect();
            Term::Segments(Segments { kind, parts, opens: true, continues: false, shown: shown.into() })
        }
    }
}

/// A pattern that no path and no identity matches.
fn nothing(kind: Kind, shown: &str) -> Term {
    segments_of(kind, vec![Part::Words(Box::default())], shown)
}

/// The paths of gRPC calls: one by one while they are few, since that reads best.
fn calls(GrpcMatcher { services, methods }: &GrpcMatcher) -> Vec<Term> {
    let call = |service: Part, method: Part| {
        let name = |part: &Part| match part.words() {
            [] => "*".to_owned(),
            [word] => word.to_string(),
            words => format!("({})", words.join("|")),
        };
        let shown = format!("/{}/{}", name(&service), name(&method));
        segments_of(Kind::Path, vec![service, method], &shown)
    };
    let each = |names: &[Box<str>]| match names {
        [] => vec![Part::One],
        names => names.iter().cloned().map(Part::Word).collect(),
    };
    if services.len().max(1) * methods.len().max(1) <= MOST_CALLS {
        let methods = each(methods);
        let services = each(services).into_iter();
        return services.flat_map(|service| methods.iter().map(move |m| call(service.clone(), m.clone()))).collect();
    }
    let all = |names: &[Box<str>]| {
        let mut names = names.to_vec();
        names.sort_unstable();
        if names.is_empty() { Part::One } else { Part::Words(names.into()) }
    };
    vec![call(all(services), all(methods))]
}

pub(super) fn host(pattern: &HostPattern, doubt: Doubt) -> Term {
    let exact = |how, text: &str| Text { how, text: text.into(), case: Case::Ignored };
    match pattern {
        HostPattern::Exact(text) => Term::Host(exact(How::Exact, text), Reading::Bare),
        HostPattern::Below(suffix) => Term::Host(exact(How::Suffix, suffix), Reading::Bare),
        HostPattern::Text(pattern) => {
            let reading = match doubt {
                Doubt::Matches => Reading::Either,
                Doubt::Misses => Reading::AsSent,
            };
            Term::Host(text(pattern, Case::Ignored), reading)
        }
    }
}

fn method(pattern: &TextPattern, doubt: Doubt) -> Term {
    let case = match doubt {
        Doubt::Matches => Case::Ignored,
        Doubt::Misses => Case::Matters,
    };
    Term::Text(text(pattern, case))
}

fn text(pattern: &TextPattern, case: Case) -> Text {
    let (how, text) = match pattern {
        TextPattern::Exact(text) => (How::Exact, text.clone()),
        TextPattern::Prefix(text) => (How::Prefix, text.clone()),
        TextPattern::Suffix(text) => (How::Suffix, text.clone()),
        TextPattern::Present => (How::Present, Box::default()),
    };
    Text { how, text, case }
}

/// With more, services and methods are told together.
const MOST_CALLS: usize = 64;
