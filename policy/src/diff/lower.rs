//! Where constants are taken from matchers: every rule as clauses over axes, for both sets in one space.
//!
//! Exhaustive over the intermediate form: a new kind of matcher does not compile until it has an axis and a term here.

use ipnet::IpNet;
use spiffe::SpiffeId;

use super::space::{Clause, Space};
use super::term::{Axis, Case, How, Kind, Part, Segments, Term, Text};
use super::{Question, Side};
use crate::identity::{IdentityPattern, IdentitySegment};
use crate::matchers::{Doubt, GrpcMatcher, HeaderMatcher, HostPattern, ValuePattern};
use crate::path::{PathPattern, PathSegment};
use crate::policy::Policy;
use crate::rules::{
    Condition, ConnectionMatcher, Effect, Identities, IdentitySet, Matchers, Mode, PolicyRules, RequestMatcher, Rule,
    Sense,
};

/// What follows when all clauses hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Consequence {
    Deny,
    Allow,
    /// An audited policy with allow rules, none of which matches, would deny.
    Default,
}

/// Adds what one set says to a question: its rules as lists of clauses that must all hold.
pub(super) fn lower(policy: &Policy, side: Side, question: Question, now: i64, space: &mut Space) {
    let set_by_content = |set: &IdentitySet| {
        let terms = own_terms(&set.members, space);
        space.set(terms)
    };
    let sets: Vec<u32> = policy.sets.iter().map(set_by_content).collect();
    let mut lowering = Lowering { sets: &sets, question, space };
    for protection in policy.policies.iter().filter(|one| one.scope.mode == question.mode()) {
        let scope = lowering.scope(&protection.scope);
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
                lowering.space.add(consequence, clauses, side);
            }
        }
        if question.mode() == Mode::Audit && !protection.allow.is_empty() {
            lowering.space.add(Consequence::Default, scope, side);
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
            let pattern = Segments { kind: Kind::Identity, parts, continues: true, shown };
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
        let mut common: Vec<Clause> = matchers.connection.iter().map(|one| self.on_connection(one)).collect();
        if let Some(end) = rule.expires {
            let terms = vec![self.space.term(Term::Until(end))];
            common.push(self.space.clause(Axis::Time, terms, Vec::new(), Sense::Is));
        }
        match (self.question.is_opaque(), rule.effect) {
            // Opaque TCP is never allowed by a rule with matchers on the request, and always denied by one.
            (true, Effect::Allow) if !matchers.request.is_empty() => Vec::new(),
            (true, Effect::Allow | Effect::Deny) => vec![common],
            (false, effect) => {
                let mut alternatives = vec![common];
                for condition in &matchers.request {
                    let more = self.on_request(condition, effect);
                    alternatives = alternatives
                        .into_iter()
                        .flat_map(|clauses| more.iter().map(move |more| [clauses.as_slice(), more].concat()))
                        .collect();
                }
                alternatives
            }
        }
    }

    fn on_connection(&mut self, Condition { sense, matcher }: &Condition<ConnectionMatcher>) -> Clause {
        match matcher {
            ConnectionMatcher::Caller(identities) => self.identities(Axis::Caller, identities, *sense),
            ConnectionMatcher::Source(networks) => self.networks(Axis::Source, networks, *sense),
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
            RequestMatcher::Host(hosts) => (Axis::Host, hosts.iter().map(host).collect()),
            RequestMatcher::Method(methods) => {
                (Axis::Method, methods.iter().map(|method| self::method(method, doubt)).collect())
            }
            RequestMatcher::Path(patterns) => (Axis::Path, patterns.iter().map(path).collect()),
            RequestMatcher::Header(HeaderMatcher { name, values }) => {
                (Axis::Header(name.clone()), values.iter().map(header_value).collect())
            }
            RequestMatcher::Grpc(grpc) => return self.grpc(grpc, *sense, doubt),
        };
        vec![vec![self.listed(axis, terms, *sense)]]
    }

    fn grpc(&mut self, grpc: &GrpcMatcher, sense: Sense, doubt: Doubt) -> Vec<Vec<Clause>> {
        let path = self.listed(Axis::Path, calls(grpc), sense);
        if doubt == Doubt::Matches {
            return vec![vec![path]];
        }
        let posted = self.listed(Axis::Method, vec![method("POST", Doubt::Misses)], sense);
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
    Term::Segments(Segments { kind: Kind::Identity, parts, continues: false, shown: id.to_string().into() })
}

fn identity(pattern: &IdentityPattern) -> Term {
    let (trust_domain, segments) = match pattern {
        IdentityPattern::Exact(id) => return exact_identity(id),
        IdentityPattern::Segments { trust_domain, segments } => (trust_domain, segments),
    };
    let parts = segments.iter().map(|segment| match segment {
        IdentitySegment::Literal(word) => Part::Word(word.clone()),
        IdentitySegment::One | IdentitySegment::Rest => Part::One,
    });
    let parts = std::iter::once(Part::Word(trust_domain.as_str().into())).chain(parts).collect();
    let continues = segments.last() == Some(&IdentitySegment::Rest);
    Term::Segments(Segments { kind: Kind::Identity, parts, continues, shown: pattern.to_string().into() })
}

fn path(pattern: &PathPattern) -> Term {
    let parts = pattern.segments().iter().map(|segment| match segment {
        PathSegment::Literal(word) => Part::Word(word.clone()),
        PathSegment::One => Part::One,
    });
    let continues = pattern.has_rest();
    let parts = parts.chain(continues.then_some(Part::Any)).collect();
    Term::Segments(Segments { kind: Kind::Path, parts, continues, shown: pattern.to_string().into() })
}

/// The paths of gRPC calls: one by one while they are few, since that reads best.
fn calls(GrpcMatcher { services, methods }: &GrpcMatcher) -> Vec<Term> {
    let call = |service: Part, method: Part| {
        let name = |part: &Part| match part.words() {
            [] => "*".to_owned(),
            [word] => word.to_string(),
            words => format!("({})", words.join("|")),
        };
        let shown = format!("/{}/{}", name(&service), name(&method)).into();
        Term::Segments(Segments { kind: Kind::Path, parts: Box::new([service, method]), continues: false, shown })
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

fn host(pattern: &HostPattern) -> Term {
    let (how, text) = match pattern {
        HostPattern::Exact(text) => (How::Exact, text),
        HostPattern::Below(suffix) => (How::Suffix, suffix),
    };
    Term::Text(Text { how, text: text.clone(), case: Case::Ignored })
}

fn method(text: &str, doubt: Doubt) -> Term {
    let case = match doubt {
        Doubt::Matches => Case::Ignored,
        Doubt::Misses => Case::Matters,
    };
    Term::Text(Text { how: How::Exact, text: text.into(), case })
}

fn header_value(pattern: &ValuePattern) -> Term {
    let (how, text) = match pattern {
        ValuePattern::Exact(text) => (How::Exact, text.clone()),
        ValuePattern::Prefix(text) => (How::Prefix, text.clone()),
        ValuePattern::Suffix(text) => (How::Suffix, text.clone()),
        ValuePattern::Present => (How::Present, Box::default()),
    };
    Term::Text(Text { how, text, case: Case::Matters })
}

/// With more, services and methods are told together.
const MOST_CALLS: usize = 64;
