//! The decision: may this caller make this connection, this request?
//!
//! Deny beats allow, and what nothing allows is denied. Nothing here allocates, locks, waits or fails. A path with
//! several readings is denied if one of them is, and allowed only if all are.

use crate::index::{Guarded, OnConnection, Parties, Presence, Scope, guard};
use crate::matchers::Doubt;
use crate::policy::{DefaultAction, Policy, RuleRef};
use crate::request::{Connection, Request};
use crate::rules::{Condition, ConnectionMatcher, Effect, IdentitySet, Matchers, Mode, RequestMatcher, Sense};

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// What holds.
    pub verdict: Verdict,
    /// What the policies in audit mode would have decided by themselves: the rule that matched, or the default where
    /// they have allow rules and none matched. It decides nothing. `None` when no audited policy has anything to say.
    pub audit: Option<Verdict>,
    /// The first rule that marks it; see [`Mode::Mark`].
    pub marked: Option<RuleRef>,
}

/// Allow or deny, and by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// This rule allows it and none denies it.
    Allow(RuleRef),
    /// No policy that is there to allow protects the workload, and
    /// [`DefaultAction::Allow`](crate::DefaultAction::Allow) was asked for.
    AllowByDefault,
    /// It is denied.
    Deny(Denial),
}

/// Why something is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// This rule denies it.
    Rule(RuleRef),
    /// No enforced policy protects the workload, so nothing may call it.
    NoPolicy,
    /// Policies protect the workload, and no rule of theirs allows it.
    NoRule,
    /// A server could take the path for something that is never allowed.
    PathInDoubt,
}

impl Denial {
    /// A fixed word for metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Rule(_) => "rule",
            Self::NoPolicy => "no_policy",
            Self::NoRule => "no_rule",
            Self::PathInDoubt => "path_in_doubt",
        }
    }
}

impl Verdict {
    /// The deciding rule; a default has none.
    #[must_use]
    pub fn rule(self) -> Option<RuleRef> {
        match self {
            Self::Allow(rule) | Self::Deny(Denial::Rule(rule)) => Some(rule),
            Self::AllowByDefault | Self::Deny(Denial::NoPolicy | Denial::NoRule | Denial::PathInDoubt) => None,
        }
    }

    /// Whether it is allowed.
    #[must_use]
    pub fn is_allow(self) -> bool {
        matches!(self, Self::Allow(_) | Self::AllowByDefault)
    }

    /// Of two readings of one request the denied one counts, and of two denials the one by a rule.
    fn stricter(self, other: Self) -> Self {
        match (self, other) {
            (Self::Deny(Denial::Rule(_)), _) => self,
            (Self::Deny(_), Self::Deny(Denial::Rule(_))) => other,
            (Self::Deny(_), _) => self,
            (Self::Allow(_) | Self::AllowByDefault, Self::Deny(_)) => other,
            (Self::Allow(_) | Self::AllowByDefault, Self::Allow(_) | Self::AllowByDefault) => self,
        }
    }
}

/// What can be said of an HTTP connection before its first request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// This rule allows every request, whatever it is; none denies one. Requests must still be decided where a path may
    /// be in doubt or audited policies are to be told of.
    Allow(RuleRef),
    /// Every request will be denied.
    Deny(Denial),
    /// It depends on the request.
    PerRequest,
}

impl Policy {
    /// Decides what can be decided of an HTTP connection.
    #[must_use]
    pub fn admit(&self, connection: &Connection<'_>) -> Admission {
        let matched = self.match_connection(connection);
        let may_allow = matched.possible(Mode::Enforce, Effect::Allow);
        let may_deny = matched.possible(Mode::Enforce, Effect::Deny);
        let (denied, allowed) = (
            matched.certain(Mode::Enforce, Effect::Deny).map(RuleRef::numbered),
            matched.certain(Mode::Enforce, Effect::Allow).map(RuleRef::numbered),
        );
        match (denied, may_allow, allowed, may_deny) {
            (Some(rule), ..) => Admission::Deny(Denial::Rule(rule)),
            (None, None, ..) if self.allows_by_default(matched.scope()) => Admission::PerRequest,
            (None, None, ..) => Admission::Deny(default_denial(matched.scope().enforced)),
            (None, Some(_), Some(rule), None) => Admission::Allow(rule),
            (None, Some(_), None, _) | (None, Some(_), Some(_), Some(_)) => Admission::PerRequest,
        }
    }

    /// Decides an opaque TCP connection. A rule with matchers on the request never allows one and always denies one,
    /// its other matchers given.
    #[must_use]
    pub fn admit_opaque(&self, connection: &Connection<'_>) -> Decision {
        let matched = self.match_connection(connection);
        self.decision(matched.scope(), |mode, effect| match effect {
            Effect::Deny => matched.possible(mode, effect),
            Effect::Allow => matched.certain(mode, effect),
        })
    }

    /// Decides a request.
    #[must_use]
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        let Some(readings) = request.path.readings() else {
            return IN_DOUBT;
        };
        let parties = self.index.parties(&request.connection);
        let decisions = readings.map(|path| self.decide_of(request, &parties, path));
        let decided = decisions.reduce(|a, b| Decision {
            verdict: a.verdict.stricter(b.verdict),
            audit: match (a.audit, b.audit) {
                (Some(a), Some(b)) => Some(a.stricter(b)),
                (a, b) => a.or(b),
            },
            marked: a.marked.or(b.marked),
        });
        // There is always one reading; were there none, nothing would be allowed.
        decided.unwrap_or(IN_DOUBT)
    }

    /// Decides on one reading of the path.
    pub(crate) fn decide_reading(&self, request: &Request<'_>, path: &str) -> Decision {
        self.decide_of(request, &self.index.parties(&request.connection), path)
    }

    fn decide_of(&self, request: &Request<'_>, parties: &Parties<'_>, path: &str) -> Decision {
        let connection = &request.connection;
        let matched = self.index.match_request(parties, connection, (request.method, path), |guarded| {
            self.guards_hold(guarded, connection, |condition, effect| condition.holds(request, path, effect))
        });
        self.decision(matched.scope, |mode, effect| matched.first(mode, effect))
    }

    fn match_connection(&self, connection: &Connection<'_>) -> OnConnection {
        let parties = self.index.parties(connection);
        let holds = |guarded| self.guards_hold(guarded, connection, |_, _| true);
        self.index.match_connection(&parties, connection, holds)
    }

    /// What follows from the first rules of each kind.
    fn decision(&self, scope: Scope, first: impl Fn(Mode, Effect) -> Option<usize>) -> Decision {
        let verdict = |mode, presence| match (first(mode, Effect::Deny), first(mode, Effect::Allow)) {
            (Some(rule), _) => Verdict::Deny(Denial::Rule(RuleRef::numbered(rule))),
            (None, Some(rule)) => Verdict::Allow(RuleRef::numbered(rule)),
            (None, None) if mode == Mode::Enforce && self.allows_by_default(scope) => Verdict::AllowByDefault,
            (None, None) => Verdict::Deny(default_denial(presence)),
        };
        let audited = verdict(Mode::Audit, scope.audited);
        let audit = (scope.audited.allows || audited.rule().is_some()).then_some(audited);
        // Rules that mark are lowered to deny rules, which in doubt match.
        let marked = first(Mode::Mark, Effect::Deny).map(RuleRef::numbered);
        Decision { verdict: verdict(Mode::Enforce, scope.enforced), audit, marked }
    }

    fn allows_by_default(&self, scope: Scope) -> bool {
        self.default_action == DefaultAction::Allow && !scope.enforced.allows
    }

    /// Whether those conditions of a rule hold that the index leaves to be checked.
    fn guards_hold(
        &self,
        Guarded { rule, guards }: Guarded,
        connection: &Connection<'_>,
        on_request: impl Fn(&Condition<RequestMatcher>, Effect) -> bool,
    ) -> bool {
        let reference = RuleRef::numbered(rule);
        let (Some(rule), Some(matchers)) = (self.rule(reference), self.matchers(reference)) else { return false };
        let is_guarded = |index: usize| guards & guard(index) != 0;
        let first = matchers.connection.len();
        let mut of_connection = matchers.connection.iter().enumerate().filter(|(index, _)| is_guarded(*index));
        let mut of_request = matchers.request.iter().enumerate().filter(|(index, _)| is_guarded(first + *index));
        of_connection.all(|(_, condition)| condition.holds(connection, &self.sets))
            && of_request.all(|(_, condition)| on_request(condition, rule.effect))
    }
}

const IN_DOUBT: Decision = Decision { verdict: Verdict::Deny(Denial::PathInDoubt), audit: None, marked: None };

fn default_denial(presence: Presence) -> Denial {
    if presence.protected { Denial::NoRule } else { Denial::NoPolicy }
}

impl Condition<ConnectionMatcher> {
    pub(crate) fn holds(&self, connection: &Connection<'_>, sets: &[IdentitySet]) -> bool {
        let matched = match &self.matcher {
            ConnectionMatcher::Caller(identities) => identities.contain(connection.caller, sets),
            ConnectionMatcher::Source(networks) => {
                // A listener for both families reports IPv4 callers as ::ffff:a.b.c.d.
                let source = connection.source.to_canonical();
                networks.iter().any(|network| network.contains(&source))
            }
            ConnectionMatcher::Port(ports) => ports.contains(&connection.port),
            ConnectionMatcher::Destination(networks) => {
                let destination = connection.destination.to_canonical();
                networks.iter().any(|network| network.contains(&destination))
            }
            ConnectionMatcher::ServerName(names) => {
                let asked = connection.server_name.unwrap_or_default();
                names.iter().any(|name| name.matches_ignoring_case(asked))
            }
        };
        matched == (self.sense == Sense::Is)
    }
}

impl Condition<RequestMatcher> {
    /// Whether the condition of a rule with this effect holds for one reading of the path.
    pub(crate) fn holds(&self, request: &Request<'_>, path: &str, effect: Effect) -> bool {
        let doubt = match (effect, self.sense) {
            (Effect::Deny, Sense::Is) | (Effect::Allow, Sense::IsNot) => Doubt::Matches,
            (Effect::Deny, Sense::IsNot) | (Effect::Allow, Sense::Is) => Doubt::Misses,
        };
        let matched = match &self.matcher {
            RequestMatcher::Host(hosts) => hosts.iter().any(|host| host.matches(request.host, doubt)),
            // Methods are case-sensitive (RFC 9110 section 9.1), but not every server keeps to it.
            RequestMatcher::Method(methods) => methods.iter().any(|method| match doubt {
                Doubt::Matches => method.matches_ignoring_case(request.method),
                Doubt::Misses => method.matches(request.method),
            }),
            RequestMatcher::Path(patterns) => patterns.iter().any(|pattern| pattern.matches(path)),
            RequestMatcher::Grpc(grpc) => grpc.matches(request.method, path, doubt),
            RequestMatcher::Header(header) => header.matches(request.headers, doubt),
        };
        matched == (self.sense == Sense::Is)
    }
}

impl Matchers {
    /// Whether the rule lists this port.
    pub(crate) fn name_port(&self, port: u16) -> bool {
        self.connection.iter().any(|condition| match &condition.matcher {
            ConnectionMatcher::Port(ports) => condition.sense == Sense::Is && ports.contains(&port),
            ConnectionMatcher::Caller(_)
            | ConnectionMatcher::Source(_)
            | ConnectionMatcher::Destination(_)
            | ConnectionMatcher::ServerName(_) => false,
        })
    }
}
