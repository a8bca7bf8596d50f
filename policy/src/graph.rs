//! Who may call whom, as a picture: callers and workloads, and the allow rules between them.
//!
//! It shows what is written, not what is decided: a deny rule that may narrow an edge is noted on it. Every format
//! escapes what policies name, and is bounded: what is too much to draw one by one is drawn by namespace, and what is
//! too much even so is counted.

use std::collections::{BTreeMap, BTreeSet};

use spiffe::SpiffeId;

use crate::identity::IdentityPattern;
use crate::policy::{Policy, Protection};
use crate::rules::{ConnectionMatcher, Effect, Identities, IdentitySet, Matchers, Mode, Rule, Sense};

mod dot;
mod html;
mod mermaid;
mod svg;
mod words;

/// What is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    /// Callers and workloads, in the order of their names.
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    /// The trust domain of all that are named, which is not repeated then.
    trust_domain: Option<String>,
    /// Whether identities are drawn by namespace, because one by one they are too many edges to read.
    pub is_grouped: bool,
    /// How many edges are not drawn.
    pub left_out: usize,
}

/// A caller, a workload, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    /// As its author wrote it.
    name: String,
    /// In few characters.
    short: String,
}

/// One may call the other.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Edge {
    from: usize,
    to: usize,
    mode: Mode,
    calls: Vec<Call>,
    /// Deny rules that may take something away.
    narrowed: BTreeSet<String>,
}

/// What one rule allows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Call {
    what: String,
    rule: String,
    origin: String,
}

/// What to draw of a set.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter<'a> {
    /// Only callers and workloads of this Kubernetes namespace, and what is at the other end.
    pub namespace: Option<&'a str>,
    /// Only what may call this workload.
    pub workload: Option<&'a SpiffeId>,
}

/// An end of an edge before it has a number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Identity(IdentityPattern),
    Set(String),
    Anyone,
    /// Any workload, of a namespace if there is one.
    Workloads(Option<String>),
    Namespace(String),
}

type Edges = BTreeMap<(End, End, bool), (Vec<Call>, BTreeSet<String>)>;

impl Graph {
    /// Draws the rules in force at `now`, in seconds since 1970. A policy that selects workloads by label is drawn if it
    /// selects the one that the set was compiled for.
    #[must_use]
    pub fn of(policy: &Policy, filter: Filter<'_>, now: i64) -> Self {
        let mut edges = Edges::new();
        for protection in policy.policies.iter().filter(|one| one.selected && one.scope.mode != Mode::Mark) {
            for reference in &protection.allow {
                let (Some(rule), Some(matchers)) = (policy.rule(*reference), policy.matchers(*reference)) else {
                    continue;
                };
                if rule.in_force(now) {
                    add(policy, protection, (rule, matchers), filter, now, &mut edges);
                }
            }
        }
        let is_grouped = edges.len() > MOST_EDGES;
        let edges = if is_grouped { by_namespace(edges) } else { edges };
        Self::numbered(edges, is_grouped)
    }

    fn numbered(edges: Edges, is_grouped: bool) -> Self {
        let left_out = edges.len().saturating_sub(MOST_EDGES);
        let edges: Vec<_> = edges.into_iter().take(MOST_EDGES).collect();
        let ends: BTreeSet<End> = edges.iter().flat_map(|((from, to, _), _)| [from.clone(), to.clone()]).collect();
        let ends: Vec<End> = ends.into_iter().collect();
        let mut trust_domains: Vec<&str> = ends.iter().filter_map(End::trust_domain).collect();
        trust_domains.sort_unstable();
        trust_domains.dedup();
        let common = if let [one] = trust_domains.as_slice() { Some((*one).to_owned()) } else { None };
        let number = |end: &End| ends.binary_search(end).unwrap_or_default();
        let edges = edges.iter().map(|((from, to, is_audited), (calls, narrowed))| Edge {
            from: number(from),
            to: number(to),
            mode: if *is_audited { Mode::Audit } else { Mode::Enforce },
            calls: calls.clone(),
            narrowed: narrowed.clone(),
        });
        let edges = edges.collect();
        let nodes = ends.iter().map(|end| Node { name: end.name(), short: end.short(common.as_deref()) }).collect();
        Self { nodes, edges, trust_domain: common, is_grouped, left_out }
    }

    fn node(&self, number: usize) -> (&str, &str) {
        self.nodes.get(number).map(|node| (node.name.as_str(), node.short.as_str())).unwrap_or_default()
    }

    /// What a reader must know to read the picture.
    fn remarks(&self) -> Vec<String> {
        let domain = self.trust_domain.as_ref().map(|domain| format!("trust domain {domain}"));
        let grouped =
            self.is_grouped.then(|| format!("drawn by namespace: one by one it has more than {MOST_EDGES} edges"));
        let left_out =
            (self.left_out > 0).then(|| format!("{} more edges are left out: draw one namespace", self.left_out));
        let audited = self.edges.iter().any(|edge| edge.mode == Mode::Audit);
        let audited = audited.then(|| "dashed: in audit mode, which decides nothing".to_owned());
        [domain, grouped, left_out, audited].into_iter().flatten().collect()
    }
}

fn add(
    policy: &Policy,
    protection: &Protection,
    (rule, matchers): (&Rule, &Matchers),
    filter: Filter<'_>,
    now: i64,
    edges: &mut Edges,
) {
    let scope = &protection.scope;
    if filter.workload.is_some_and(|workload| !scope.protects(workload, &policy.sets)) {
        return;
    }
    let targets = match &scope.target {
        None => vec![End::Workloads(scope.namespace.as_deref().map(str::to_owned))],
        Some(target) => ends(target, &policy.sets),
    };
    let callers = callers(matchers).map_or_else(|| vec![End::Anyone], |callers| ends(callers, &policy.sets));
    let denials = denials(policy, scope.mode, now);
    let what = words::of_rule(rule, matchers, &policy.sets);
    let call = Call { what, rule: format!("{} of {}", rule.name, rule.policy), origin: rule.origin.to_string() };
    for to in &targets {
        if filter.workload.is_some_and(|workload| !to.may_be(workload, &policy.sets)) {
            continue;
        }
        for from in &callers {
            let meant =
                filter.namespace.is_none_or(|name| from.reaches(name, &policy.sets) || to.reaches(name, &policy.sets));
            if !meant {
                continue;
            }
            let (calls, narrowed) = edges.entry((from.clone(), to.clone(), scope.mode == Mode::Audit)).or_default();
            calls.push(call.clone());
            let narrowing = denials.iter().filter(|denial| denial.may_concern(from, to, &policy.sets));
            narrowed.extend(narrowing.map(|denial| denial.name.clone()));
        }
    }
}

/// A deny rule by what it may concern.
struct Denial<'a> {
    name: String,
    protection: &'a Protection,
    callers: Option<&'a Identities>,
}

fn denials<'a>(policy: &'a Policy, mode: Mode, now: i64) -> Vec<Denial<'a>> {
    let of_mode = policy.policies.iter().filter(|one| one.selected && one.scope.mode == mode);
    let all = of_mode.flat_map(|protection| protection.deny.iter().map(move |reference| (protection, reference)));
    let denials = all.filter_map(|(protection, reference)| {
        let (rule, matchers) = (policy.rule(*reference)?, policy.matchers(*reference)?);
        debug_assert_eq!(rule.effect, Effect::Deny);
        let name = format!("{} of {}", rule.name, rule.policy);
        rule.in_force(now).then_some(Denial { name, protection, callers: callers(matchers) })
    });
    denials.collect()
}

impl Denial<'_> {
    fn may_concern(&self, from: &End, to: &End, sets: &[IdentitySet]) -> bool {
        let scope = &self.protection.scope;
        let in_namespace = scope.namespace.as_ref().is_none_or(|namespace| to.reaches(namespace, sets));
        let meets = |end: &End, identities: &Identities| ends(identities, sets).iter().any(|one| one.meets(end, sets));
        in_namespace
            && scope.target.as_ref().is_none_or(|target| meets(to, target))
            && self.callers.is_none_or(|callers| meets(from, callers))
    }
}

/// The callers that a rule names.
fn callers(matchers: &Matchers) -> Option<&Identities> {
    matchers.connection.iter().find_map(|condition| match (&condition.matcher, condition.sense) {
        (ConnectionMatcher::Caller(identities), Sense::Is) => Some(identities),
        (
            ConnectionMatcher::Caller(_)
            | ConnectionMatcher::Source(_)
            | ConnectionMatcher::Port(_)
            | ConnectionMatcher::Destination(_)
            | ConnectionMatcher::ServerName(_),
            _,
        ) => None,
    })
}

fn ends(identities: &Identities, sets: &[IdentitySet]) -> Vec<End> {
    let exact = identities.exact.iter().cloned().map(IdentityPattern::Exact);
    let patterns = exact.chain(identities.patterns.iter().cloned()).map(End::Identity);
    let named = identities.sets.iter().filter_map(|set| sets.get(set.0)).map(|set| End::Set(set.name.clone()));
    patterns.chain(named).collect()
}

impl End {
    fn name(&self) -> String {
        match self {
            Self::Identity(pattern) => pattern.to_string(),
            Self::Set(name) => format!("set {name}"),
            Self::Anyone => "anyone".to_owned(),
            Self::Workloads(None) => "any workload".to_owned(),
            Self::Workloads(Some(namespace)) => format!("any workload of {namespace}"),
            Self::Namespace(name) => format!("namespace {name}"),
        }
    }

    /// `namespace/account` where it has that form, without the trust domain that all share.
    fn short(&self, common: Option<&str>) -> String {
        let name = self.name();
        let Some(rest) = name.strip_prefix("spiffe://") else { return name };
        let (domain, path) = rest.split_once('/').unwrap_or((rest, ""));
        let account = match path.split('/').collect::<Vec<_>>().as_slice() {
            ["ns", namespace, "sa", account] => format!("{namespace}/{account}"),
            _ => path.to_owned(),
        };
        if common == Some(domain) { account } else { format!("{account} ({domain})") }
    }

    fn trust_domain(&self) -> Option<&str> {
        match self {
            Self::Identity(IdentityPattern::Exact(id)) => Some(id.trust_domain_name()),
            Self::Identity(IdentityPattern::Segments { trust_domain, .. }) => Some(trust_domain.as_str()),
            Self::Identity(
                IdentityPattern::Namespace(_)
                | IdentityPattern::ServiceAccount { .. }
                | IdentityPattern::TrustDomain(_)
                | IdentityPattern::Text(_),
            )
            | Self::Set(_)
            | Self::Anyone
            | Self::Workloads(_)
            | Self::Namespace(_) => None,
        }
    }

    fn reaches(&self, namespace: &str, sets: &[IdentitySet]) -> bool {
        match self {
            Self::Identity(pattern) => pattern.reaches_namespace(namespace),
            Self::Set(name) => members(name, sets).iter().any(|end| end.reaches(namespace, sets)),
            Self::Anyone | Self::Workloads(None) => true,
            Self::Workloads(Some(name)) | Self::Namespace(name) => *name == *namespace,
        }
    }

    fn may_be(&self, id: &SpiffeId, sets: &[IdentitySet]) -> bool {
        match self {
            Self::Identity(pattern) => pattern.matches(id),
            Self::Set(name) => members(name, sets).iter().any(|end| end.may_be(id, sets)),
            Self::Anyone | Self::Workloads(_) | Self::Namespace(_) => true,
        }
    }

    /// Whether there may be somebody who is both. Two patterns may meet unless they name different words at one place: a
    /// note too many does no harm.
    fn meets(&self, other: &Self, sets: &[IdentitySet]) -> bool {
        match (self, other) {
            (Self::Identity(IdentityPattern::Exact(id)), end) | (end, Self::Identity(IdentityPattern::Exact(id))) => {
                end.may_be(id, sets)
            }
            (Self::Set(name), end) | (end, Self::Set(name)) => {
                members(name, sets).iter().any(|member| member.meets(end, sets))
            }
            (Self::Identity(one), Self::Identity(another)) => {
                let (one, another) = (one.to_string(), another.to_string());
                // Texts that are compared at one end only cannot be told apart place by place.
                let by_segment = one.starts_with("spiffe://") && another.starts_with("spiffe://");
                let differ = |(a, b): (&str, &str)| a != b && !a.contains('*') && !b.contains('*');
                !by_segment || !one.split('/').zip(another.split('/')).any(differ)
            }
            (Self::Identity(_) | Self::Anyone | Self::Workloads(_) | Self::Namespace(_), _) => true,
        }
    }
}

fn members(name: &str, sets: &[IdentitySet]) -> Vec<End> {
    let set = sets.iter().find(|set| *set.name == *name);
    set.map(|set| ends(&set.members, sets)).unwrap_or_default()
}

/// The same edges between namespaces.
fn by_namespace(edges: Edges) -> Edges {
    let mut grouped: BTreeMap<(End, End, bool), usize> = BTreeMap::new();
    for ((from, to, is_audited), (calls, _)) in edges {
        *grouped.entry((from.grouped(), to.grouped(), is_audited)).or_default() += calls.len();
    }
    let counted = grouped.into_iter().map(|(key, count)| {
        let what = if count == 1 { "1 rule".to_owned() } else { format!("{count} rules") };
        (key, (vec![Call { what, rule: String::new(), origin: String::new() }], BTreeSet::new()))
    });
    counted.collect()
}

impl End {
    fn grouped(self) -> Self {
        let Self::Identity(pattern) = &self else { return self };
        let text = pattern.to_string();
        let mut parts = text.split('/').skip(3);
        match (parts.next(), parts.next()) {
            (Some("ns"), Some(name)) if !name.contains('*') => Self::Namespace(name.to_owned()),
            _ => self,
        }
    }
}

/// More cannot be read; Mermaid draws 500 at most.
const MOST_EDGES: usize = 400;

#[cfg(test)]
mod tests;
