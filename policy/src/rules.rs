//! The one form every policy language is lowered to, and what its matchers mean.
//!
//! A rule is a list of matchers that must all hold, those on the connection apart from those on the request, because a
//! connection is decided before there is a request. Each matcher can be turned into its `not…` twin.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;
use spiffe::SpiffeId;

use crate::identity::{IdentityPattern, in_namespace};
use crate::matchers::{GrpcMatcher, HeaderMatcher, HostPattern};
use crate::path::PathPattern;
use crate::text::TextPattern;

/// One policy: which workloads it protects, and its rules.
#[derive(Debug)]
pub(crate) struct PolicyRules {
    pub(crate) name: Arc<str>,
    pub(crate) namespace: Option<Arc<str>>,
    pub(crate) mode: Mode,
    /// Absent: every workload.
    pub(crate) target: Option<Identities>,
    /// Labels that the workload must have, by Istio's `selector`; a policy that is not selected is left out when
    /// documents are compiled.
    pub(crate) selector: Vec<(Box<str>, Box<str>)>,
    /// It is there to allow, so that what it does not allow is denied, even when it has no rule.
    pub(crate) allows: bool,
    pub(crate) rules: Vec<Lowered>,
}

/// A rule ready to be compiled.
#[derive(Debug)]
pub(crate) struct Lowered {
    pub(crate) rule: Rule,
    pub(crate) matchers: Matchers,
}

/// What is known of a rule apart from its matchers: what records, metrics and explanations show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The name of its policy.
    pub policy: Arc<str>,
    /// The namespace of its policy; without one the policy is for all.
    pub namespace: Option<Arc<str>>,
    /// Its own name, once in its policy.
    pub name: Arc<str>,
    /// Whether it allows or denies.
    pub effect: Effect,
    /// Whether its policy is enforced.
    pub mode: Mode,
    /// Where it is written.
    pub origin: Origin,
    /// The change it came with.
    pub ticket: Option<Arc<str>>,
    /// From this moment (seconds since 1970) on it is not in force.
    pub expires: Option<i64>,
}

impl Rule {
    /// Whether it counts at `now`, in seconds since 1970.
    #[must_use]
    pub fn in_force(&self, now: i64) -> bool {
        self.expires.is_none_or(|end| now < end)
    }
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The file as the caller named it.
    pub file: Arc<str>,
    /// The line, from one.
    pub line: usize,
    /// The column, from one.
    pub column: usize,
}

impl fmt::Display for Origin {
    /// `file:line`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// What a rule does when it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Lets the request through, unless a rule denies it.
    Allow,
    /// Refuses the request, whatever else allows it.
    Deny,
}

/// Whether a policy decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// It decides.
    Enforce,
    /// It decides nothing; what it would have decided is told.
    Audit,
    /// It decides nothing and would not: what its rules match is marked. Istio's action `AUDIT`.
    Mark,
}

impl Mode {
    /// A fixed word for metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
            Self::Mark => "mark",
        }
    }
}

/// All matchers of a rule; an empty list matches everything.
#[derive(Debug, Clone, Default)]
pub(crate) struct Matchers {
    pub(crate) connection: Vec<Condition<ConnectionMatcher>>,
    pub(crate) request: Vec<Condition<RequestMatcher>>,
}

/// A matcher or its `not…` twin.
#[derive(Debug, Clone)]
pub(crate) struct Condition<M> {
    pub(crate) sense: Sense,
    pub(crate) matcher: M,
}

/// Which way a matcher counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Sense {
    /// It must match.
    Is,
    /// It must not match.
    IsNot,
}

/// A matcher that needs no request.
#[derive(Debug, Clone)]
pub(crate) enum ConnectionMatcher {
    Caller(Identities),
    Source(Vec<IpNet>),
    Port(Vec<u16>),
    /// The address that the caller wants to reach.
    Destination(Vec<IpNet>),
    /// What the caller's handshake asks for; without a server name nothing matches.
    ServerName(Vec<TextPattern>),
}

/// A matcher on the request.
#[derive(Debug, Clone)]
pub(crate) enum RequestMatcher {
    Host(Vec<HostPattern>),
    Method(Vec<TextPattern>),
    Path(Vec<PathPattern>),
    Grpc(GrpcMatcher),
    Header(HeaderMatcher),
}

/// Identities named one by one, by pattern, and through identity sets.
#[derive(Debug, Clone, Default)]
pub(crate) struct Identities {
    /// Sorted, for binary search.
    pub(crate) exact: Vec<SpiffeId>,
    pub(crate) patterns: Vec<IdentityPattern>,
    /// The sets it takes in; each is held once, however many rules name it.
    pub(crate) sets: Vec<SetRef>,
}

/// An identity set by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SetRef(pub(crate) usize);

/// The members of a set. Sets do not hold sets.
#[derive(Debug, Default)]
pub(crate) struct IdentitySet {
    pub(crate) name: String,
    pub(crate) members: Identities,
}

impl Matchers {
    /// Gives back what its lists have left over from being read; there may be a hundred thousand of them.
    pub(crate) fn shrink(&mut self) {
        self.connection.shrink_to_fit();
        self.request.shrink_to_fit();
        for condition in &mut self.connection {
            match &mut condition.matcher {
                ConnectionMatcher::Caller(callers) => {
                    callers.exact.shrink_to_fit();
                    callers.patterns.shrink_to_fit();
                    callers.sets.shrink_to_fit();
                }
                ConnectionMatcher::Source(networks) | ConnectionMatcher::Destination(networks) => {
                    networks.shrink_to_fit();
                }
                ConnectionMatcher::ServerName(names) => names.shrink_to_fit(),
                ConnectionMatcher::Port(ports) => ports.shrink_to_fit(),
            }
        }
        for condition in &mut self.request {
            match &mut condition.matcher {
                RequestMatcher::Host(hosts) => hosts.shrink_to_fit(),
                RequestMatcher::Method(methods) => methods.shrink_to_fit(),
                RequestMatcher::Path(patterns) => patterns.shrink_to_fit(),
                RequestMatcher::Grpc(GrpcMatcher { services, methods }) => {
                    services.shrink_to_fit();
                    methods.shrink_to_fit();
                }
                RequestMatcher::Header(header) => header.values.shrink_to_fit(),
            }
        }
    }
}

impl Identities {
    pub(crate) fn new(all: Vec<IdentityPattern>, sets: Vec<SetRef>) -> Self {
        let (mut exact, mut patterns) = (Vec::new(), Vec::new());
        for one in all {
            match one {
                IdentityPattern::Exact(id) => exact.push(id),
                IdentityPattern::Segments { .. }
                | IdentityPattern::Namespace(_)
                | IdentityPattern::ServiceAccount { .. }
                | IdentityPattern::TrustDomain(_)
                | IdentityPattern::Text(_) => patterns.push(one),
            }
        }
        exact.sort_unstable();
        exact.dedup();
        Self { exact, patterns, sets }
    }

    pub(crate) fn contain(&self, id: &SpiffeId, sets: &[IdentitySet]) -> bool {
        self.exact.binary_search(id).is_ok()
            || self.patterns.iter().any(|pattern| pattern.matches(id))
            || self.sets.iter().filter_map(|set| sets.get(set.0)).any(|set| set.members.contain(id, sets))
    }
}

impl PolicyRules {
    /// Whether a workload with these labels is selected.
    pub(crate) fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.selector.iter().all(|(key, value)| labels.get(&**key).is_some_and(|actual| **value == **actual))
    }

    pub(crate) fn protects(&self, workload: &SpiffeId, sets: &[IdentitySet]) -> bool {
        let in_scope = self.namespace.as_ref().is_none_or(|namespace| in_namespace(workload, namespace));
        in_scope && self.target.as_ref().is_none_or(|target| target.contain(workload, sets))
    }
}
