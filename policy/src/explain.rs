//! Why something was decided, in words, for the person who asks.
//!
//! Computed only when asked for: it allocates and looks at every rule of the workload. The decision it explains is the
//! one that [`crate::decide`] makes, never one of its own.

use std::fmt::{self, Display};

use crate::decide::{Decision, Denial, Verdict};
use crate::diagnostic::quoted;
use crate::policy::{Policy, RuleRef};
use crate::request::{Connection, Request, bare_host};
use crate::rules::{Condition, ConnectionMatcher, Effect, IdentitySet, Mode, RequestMatcher, Rule, Sense};

/// A decision with its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What was decided.
    pub decision: Decision,
    /// Why, in one line; for a default deny with the nearest miss.
    pub reason: String,
    /// Every rule of every policy that protects the workload, with what it failed on.
    pub candidates: Vec<Candidate>,
    /// Of a default denial the enforced allow rule that failed on the fewest matchers, as the reason names it.
    pub nearest: Option<RuleRef>,
}

/// A rule that could have decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The rule.
    pub rule: RuleRef,
    /// What it failed on; empty when it matches.
    pub misses: Vec<Miss>,
}

/// A matcher that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Miss {
    /// What kind of matcher: `caller`, `source`, `port`, `destination`, `server_name`, `host`, `method`, `path`, `grpc`,
    /// `header`, `expires` or `protocol`.
    pub matcher: &'static str,
    /// What was found and what was wanted.
    pub message: String,
}

impl Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.matcher, self.message)
    }
}

/// What a rule failed on among its matchers on the request.
type RequestMisses<'a> = dyn Fn(&[Condition<RequestMatcher>], &Rule) -> Vec<Miss> + 'a;

impl Policy {
    /// Explains the decision on a request.
    #[must_use]
    pub fn explain(&self, request: &Request<'_>) -> Explanation {
        let decision = self.decide(request);
        // With several readings, the one that decided is the one to explain.
        let readings: Vec<&str> = request.path.readings().into_iter().flatten().collect();
        let decides = |path: &&&str| self.decide_reading(request, path).verdict == decision.verdict;
        let path = readings.iter().find(decides).copied().unwrap_or(request.path.as_str());
        self.explained(decision, &request.connection, &|conditions, rule| {
            let failed = conditions.iter().filter(|condition| !condition.holds(request, path, rule.effect));
            failed.map(|condition| condition.miss(request, path)).collect()
        })
    }

    /// Explains the decision on an opaque TCP connection.
    #[must_use]
    pub fn explain_opaque(&self, connection: &Connection<'_>) -> Explanation {
        let decision = self.admit_opaque(connection);
        self.explained(decision, connection, &|conditions, rule| match rule.effect {
            Effect::Allow if !conditions.is_empty() => {
                vec![Miss { matcher: "protocol", message: "opaque TCP shows nothing of HTTP".to_owned() }]
            }
            Effect::Allow | Effect::Deny => Vec::new(),
        })
    }

    fn explained(
        &self,
        decision: Decision,
        connection: &Connection<'_>,
        on_request: &RequestMisses<'_>,
    ) -> Explanation {
        let rules = self.protections(connection.workload).flat_map(|policy| policy.deny.iter().chain(&policy.allow));
        let candidate = |reference: &RuleRef| {
            let (rule, matchers) = (self.rule(*reference)?, self.matchers(*reference)?);
            let expired = (!rule.in_force(connection.now))
                .then(|| Miss { matcher: "expires", message: "the rule has expired".to_owned() });
            let failed = matchers.connection.iter().filter(|condition| !condition.holds(connection, &self.sets));
            let mut misses: Vec<Miss> = expired.into_iter().collect();
            misses.extend(failed.map(|condition| condition.miss(connection, &self.sets)));
            misses.extend(on_request(&matchers.request, rule));
            Some(Candidate { rule: *reference, misses })
        };
        let candidates: Vec<Candidate> = rules.filter_map(candidate).collect();
        let nearest = match decision.verdict {
            Verdict::Deny(Denial::NoRule) => self.nearest_miss(&candidates),
            Verdict::Allow(_) | Verdict::AllowByDefault | Verdict::Deny(_) => None,
        };
        let reason = self.reason(decision.verdict, connection, nearest);
        let nearest = nearest.map(|candidate| candidate.rule);
        Explanation { decision, reason, candidates, nearest }
    }

    fn reason(&self, verdict: Verdict, connection: &Connection<'_>, nearest: Option<&Candidate>) -> String {
        match verdict {
            Verdict::Allow(rule) => format!("{} allows it", self.named(rule)),
            Verdict::Deny(Denial::Rule(rule)) => format!("{} denies it", self.named(rule)),
            Verdict::AllowByDefault => {
                "no policy that is there to allow protects the workload, and the default action is to allow".to_owned()
            }
            Verdict::Deny(Denial::NoPolicy) => format!("no policy protects `{}`", connection.workload),
            Verdict::Deny(Denial::PathInDoubt) => {
                "a server could take the path for one that is never allowed".to_owned()
            }
            Verdict::Deny(Denial::NoRule) => match nearest {
                None => "no rule allows it, and there is no allow rule".to_owned(),
                Some(Candidate { rule, misses }) => {
                    let only = if misses.len() == 1 { "only on" } else { "on" };
                    let misses: Vec<String> = misses.iter().map(Miss::to_string).collect();
                    format!("no rule allows it; {} failed {only} {}", self.named(*rule), misses.join("; and on "))
                }
            },
        }
    }

    /// The enforced allow rule that failed on the fewest matchers.
    fn nearest_miss<'a>(&self, candidates: &'a [Candidate]) -> Option<&'a Candidate> {
        let allows = |candidate: &&Candidate| {
            let rule = self.rule(candidate.rule);
            rule.is_some_and(|rule| rule.effect == Effect::Allow && rule.mode == Mode::Enforce)
        };
        candidates.iter().filter(allows).min_by_key(|candidate| candidate.misses.len())
    }

    fn named(&self, rule: RuleRef) -> String {
        self.rule(rule).map(|rule| format!("rule `{}` of `{}`", rule.name, rule.policy)).unwrap_or_default()
    }
}

impl Condition<ConnectionMatcher> {
    fn miss(&self, connection: &Connection<'_>, sets: &[IdentitySet]) -> Miss {
        let (matcher, actual, wanted) = match &self.matcher {
            ConnectionMatcher::Caller(identities) => {
                let exact = identities.exact.iter().map(ToString::to_string);
                let patterns = identities.patterns.iter().map(ToString::to_string);
                let sets = identities.sets.iter().filter_map(|set| sets.get(set.0));
                let sets = sets.map(|set| format!("in the set `{}`", set.name));
                ("caller", connection.caller.to_string(), exact.chain(patterns).chain(sets).collect())
            }
            ConnectionMatcher::Source(networks) => {
                ("source", connection.source.to_canonical().to_string(), words(networks))
            }
            ConnectionMatcher::Port(ports) => ("port", connection.port.to_string(), words(ports)),
            ConnectionMatcher::Destination(networks) => {
                ("destination", connection.destination.to_canonical().to_string(), words(networks))
            }
            ConnectionMatcher::ServerName(names) => {
                ("server_name", connection.server_name.unwrap_or_default().to_owned(), words(names))
            }
        };
        Miss { matcher, message: compare(&actual, self.sense, wanted) }
    }
}

impl Condition<RequestMatcher> {
    fn miss(&self, request: &Request<'_>, path: &str) -> Miss {
        let (matcher, actual, wanted) = match &self.matcher {
            RequestMatcher::Host(hosts) => ("host", bare_host(request.host).to_owned(), words(hosts)),
            RequestMatcher::Method(methods) => ("method", request.method.to_owned(), words(methods)),
            RequestMatcher::Path(patterns) => ("path", path.to_owned(), words(patterns)),
            RequestMatcher::Grpc(grpc) => {
                let any = |names: &[Box<str>]| if names.is_empty() { "any".to_owned() } else { listed(words(names)) };
                let wanted = format!("a call of {} in service {}", any(&grpc.methods), any(&grpc.services));
                ("grpc", format!("{} {path}", request.method), vec![wanted])
            }
            RequestMatcher::Header(header) => {
                let mut values = Vec::new();
                request.headers.visit(&header.name, &mut |value| {
                    values.push(quoted(&String::from_utf8_lossy(value)));
                });
                let actual = if values.is_empty() { "nothing".to_owned() } else { values.join(", ") };
                let message = format!("`{}` has {}", header.name, compare(&actual, self.sense, words(&header.values)));
                return Miss { matcher: "header", message };
            }
        };
        Miss { matcher, message: compare(&actual, self.sense, wanted) }
    }
}

/// `POST is not GET or HEAD`
fn compare(actual: &str, sense: Sense, wanted: Vec<String>) -> String {
    // What a caller sent goes to a terminal: without control characters, and bounded.
    let actual: String = actual.chars().take(MAX_SHOWN_CHARACTERS).flat_map(visible).collect();
    let actual = if actual.is_empty() { "nothing" } else { &actual };
    match sense {
        Sense::Is => format!("{actual} is not {}", listed(wanted)),
        Sense::IsNot => format!("{actual} is {}", listed(wanted)),
    }
}

fn visible(c: char) -> impl Iterator<Item = char> {
    let escaped = c.is_control().then(|| c.escape_default());
    let plain = (!c.is_control()).then_some(c);
    escaped.into_iter().flatten().chain(plain)
}

fn words<T: Display>(all: &[T]) -> Vec<String> {
    all.iter().map(ToString::to_string).collect()
}

/// `a, b or c`, at most [`MAX_LISTED`] of them.
fn listed(mut all: Vec<String>) -> String {
    let more = all.len().saturating_sub(MAX_LISTED);
    all.truncate(MAX_LISTED);
    if more > 0 {
        return format!("{} or {more} others", all.join(", "));
    }
    match all.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, before)) => format!("{} or {last}", before.join(", ")),
        None => String::new(),
    }
}

/// More are not read; the file has them all.
const MAX_LISTED: usize = 5;

/// A path can have 16 KiB.
const MAX_SHOWN_CHARACTERS: usize = 200;
