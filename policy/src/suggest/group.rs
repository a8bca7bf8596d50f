//! From what each caller asked for to rules: sets of callers, ports, methods and paths of which every combination was
//! seen.
//!
//! Each step puts together what differs in one thing only and agrees in all others, so that no rule allows a
//! combination that nobody was seen with.

use std::collections::{BTreeMap, BTreeSet};

use spiffe::SpiffeId;

use super::shape::is_value;
use super::tree::{Branch, Step, Tree, Values};
use super::wording::example_path;
use super::{Call, Caller, Seen, Workload};

/// What is suggested for one workload.
#[derive(Debug)]
pub(super) struct Grouped {
    pub(super) rules: Vec<Group>,
    /// Opaque connections to ports that carry HTTP too.
    pub(super) opaque_on_http: u64,
}

/// One rule.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) callers: BTreeSet<SpiffeId>,
    pub(super) ports: BTreeSet<u16>,
    pub(super) to: To,
    pub(super) evidence: Evidence,
}

/// What a rule is about, ports aside.
#[derive(Debug)]
pub(super) enum To {
    Http { methods: BTreeSet<Box<str>>, paths: BTreeSet<Pattern>, except: BTreeSet<Pattern> },
    Grpc { services: BTreeSet<Box<str>>, methods: BTreeSet<Box<str>> },
    Tcp,
}

/// A path pattern.
pub(super) type Pattern = Vec<Step>;

/// What a rule rests on.
#[derive(Debug, Clone)]
pub(super) struct Evidence {
    pub(super) seen: Seen,
    pub(super) by_caller: BTreeMap<SpiffeId, u64>,
    pub(super) widened: BTreeMap<Pattern, Widened>,
    pub(super) examples: BTreeSet<Example>,
}

/// Why a pattern stands for any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Widened {
    pub(super) values: Vec<Values>,
    /// Paths that were seen as well and that it covers.
    pub(super) covers: BTreeSet<Pattern>,
}

/// One request or connection that the rule was made from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Example {
    pub(super) caller: SpiffeId,
    pub(super) port: u16,
    /// Method and path, but for opaque TCP.
    pub(super) request: Option<(Box<str>, Box<str>)>,
}

/// Puts together what can be; `None` when there is more than fits into a policy.
pub(super) fn group(callers: &Workload) -> Option<Grouped> {
    let (tcp, opaque_on_http) = opaque(callers);
    let mut rules = http(callers)?;
    rules.extend(grpc(callers));
    rules.extend(tcp);
    Some(Grouped { rules, opaque_on_http })
}

fn http(callers: &Workload) -> Option<Vec<Group>> {
    let mut asked: Vec<Asked<'_>> = Vec::new();
    for (caller, calls) in callers {
        for ((port, method), tree) in &calls.http {
            asked.push(Asked { caller, port: *port, method, tree, branches: tree.branches() });
        }
    }
    let count: usize = asked.iter().map(|one| one.branches.len()).sum();
    if count > MOST_PATTERNS {
        return None;
    }
    let others = Others::of(callers, &asked);
    let mut atoms = Vec::new();
    for one in &asked {
        for (pattern, evidence) in one.patterns() {
            let except = others.except(one, &pattern);
            let key = (one.port, pattern, except, one.caller.clone());
            atoms.push((key, Box::<str>::from(one.method), evidence));
        }
    }
    let methods = merge(atoms);
    let by_caller = methods.into_iter().map(|((port, pattern, except, caller), (methods, evidence))| {
        ((port, pattern, except, methods), caller, evidence)
    });
    let by_pattern = merge(by_caller).into_iter().map(|((port, pattern, except, methods), (callers, evidence))| {
        ((port, methods, except, callers), pattern, evidence)
    });
    let by_port = merge(by_pattern).into_iter().map(|((port, methods, except, callers), (paths, evidence))| {
        ((methods, except, callers, paths), port, evidence)
    });
    let groups = merge(by_port).into_iter().map(|((methods, except, callers, paths), (ports, evidence))| Group {
        callers,
        ports,
        to: To::Http { methods, paths, except },
        evidence,
    });
    Some(groups.collect())
}

fn grpc(callers: &Workload) -> Vec<Group> {
    let atoms = callers.iter().flat_map(|(caller, calls)| {
        calls.grpc.iter().map(move |(call, seen)| {
            let Call { port, service, method } = call.clone();
            let path = format!("/{service}/{method}");
            let evidence = Evidence::of(caller, port, Some(("POST".into(), path.into())), *seen);
            ((port, service, method), caller.clone(), evidence)
        })
    });
    let by_method = merge(atoms)
        .into_iter()
        .map(|((port, service, method), (callers, evidence))| ((port, service, callers), method, evidence));
    let by_service = merge(by_method)
        .into_iter()
        .map(|((port, service, callers), (methods, evidence))| ((port, callers, methods), service, evidence));
    let by_port = merge(by_service)
        .into_iter()
        .map(|((port, callers, methods), (services, evidence))| ((callers, methods, services), port, evidence));
    let groups = merge(by_port).into_iter().map(|((callers, methods, services), (ports, evidence))| Group {
        callers,
        ports,
        to: To::Grpc { services, methods },
        evidence,
    });
    groups.collect()
}

/// Opaque connections, and how many there were to ports that carry HTTP as well: a rule with nothing but ports allows
/// every request there.
fn opaque(callers: &Workload) -> (Vec<Group>, u64) {
    let http: BTreeSet<u16> = callers.values().flat_map(Caller::http_ports).collect();
    let (mut atoms, mut left_out) = (Vec::new(), 0_u64);
    for (caller, calls) in callers {
        for (port, seen) in &calls.tcp {
            match http.contains(port) {
                true => left_out += seen.count,
                false => atoms.push((caller.clone(), *port, Evidence::of(caller, *port, None, *seen))),
            }
        }
    }
    let by_caller = merge(atoms).into_iter().map(|(caller, (ports, evidence))| (ports, caller, evidence));
    let groups = merge(by_caller).into_iter();
    let groups = groups.map(|(ports, (callers, evidence))| Group { callers, ports, to: To::Tcp, evidence });
    (groups.collect(), left_out)
}

impl Caller {
    fn http_ports(&self) -> impl Iterator<Item = u16> {
        self.http.keys().map(|(port, _)| *port).chain(self.grpc.keys().map(|call| call.port))
    }
}

/// What one caller asked for with one method at one port.
struct Asked<'a> {
    caller: &'a SpiffeId,
    port: u16,
    method: &'a str,
    tree: &'a Tree,
    branches: Vec<Branch>,
}

impl Asked<'_> {
    /// Paths and patterns, without those that another of them covers.
    fn patterns(&self) -> BTreeMap<Pattern, Evidence> {
        let mut all: BTreeMap<Pattern, Evidence> = BTreeMap::new();
        for branch in &self.branches {
            // It covers itself, if nothing wider does.
            let Some(cover) = self.tree.cover(&branch.steps) else { continue };
            let evidence = self.evidence(branch, &cover);
            match all.get_mut(&cover) {
                Some(known) => known.add(evidence),
                None => drop(all.insert(cover, evidence)),
            }
        }
        all
    }

    fn evidence(&self, branch: &Branch, cover: &Pattern) -> Evidence {
        let path = example_path(&branch.steps, &branch.values);
        let mut evidence = Evidence::of(self.caller, self.port, Some((self.method.into(), path)), branch.seen);
        if branch.steps != *cover {
            evidence.examples.clear();
            let covers = BTreeSet::from([branch.steps.clone()]);
            evidence.widened.insert(cover.clone(), Widened { values: Vec::new(), covers });
        } else if cover.contains(&Step::Any) {
            let widened = Widened { values: branch.values.clone(), covers: BTreeSet::new() };
            evidence.widened.insert(cover.clone(), widened);
        }
        evidence
    }
}

/// What anybody asked a workload for, by port and number of segments: what a pattern must not let others reach.
struct Others(BTreeMap<(u16, usize), BTreeSet<Pattern>>);

impl Others {
    fn of(callers: &Workload, asked: &[Asked<'_>]) -> Self {
        let mut all: BTreeMap<(u16, usize), BTreeSet<Pattern>> = BTreeMap::new();
        for one in asked {
            for branch in &one.branches {
                all.entry((one.port, branch.steps.len())).or_default().insert(branch.steps.clone());
            }
        }
        for call in callers.values().flat_map(|calls| calls.grpc.keys()) {
            let steps = vec![Step::Literal(call.service.clone()), Step::Literal(call.method.clone())];
            all.entry((call.port, steps.len())).or_default().insert(steps);
        }
        Self(all)
    }

    /// What `pattern` covers by a word where it stands for any value, and this caller was not seen with.
    fn except(&self, asked: &Asked<'_>, pattern: &Pattern) -> BTreeSet<Pattern> {
        if !pattern.contains(&Step::Any) {
            return BTreeSet::new();
        }
        // What it covers begins as it does, and is in one place of the order of all.
        let prefix: Pattern = pattern.iter().take_while(|step| **step != Step::Any).cloned().collect();
        let length = prefix.len();
        let all = self.0.get(&(asked.port, pattern.len()));
        let candidates = all.into_iter().flat_map(|all| all.range(prefix.clone()..));
        let candidates = candidates.take_while(|other| other.get(..length) == Some(prefix.as_slice()));
        let foreign = candidates.filter(|other| covers_a_word(pattern, other) && !asked.tree.may_hold(other));
        foreign.take(MOST_EXCEPTIONS).cloned().collect()
    }
}

/// Whether all that `other` matches is matched by `pattern`, which has a word of it for a value.
fn covers_a_word(pattern: &[Step], other: &[Step]) -> bool {
    let mut by_word = false;
    let covers = pattern.iter().zip(other).all(|(step, other)| match (step, other) {
        (Step::Any, Step::Literal(segment)) => {
            by_word |= !is_value(segment);
            !segment.is_empty()
        }
        (Step::Any, Step::Any) => true,
        (Step::Literal(_), _) => step == other,
    });
    covers && by_word
}

impl Evidence {
    fn of(caller: &SpiffeId, port: u16, request: Option<(Box<str>, Box<str>)>, seen: Seen) -> Self {
        let example = Example { caller: caller.clone(), port, request };
        Self {
            seen,
            by_caller: BTreeMap::from([(caller.clone(), seen.count)]),
            widened: BTreeMap::new(),
            examples: BTreeSet::from([example]),
        }
    }

    fn add(&mut self, more: Self) {
        self.seen.add(more.seen);
        for (caller, count) in more.by_caller {
            *self.by_caller.entry(caller).or_default() += count;
        }
        for (pattern, widened) in more.widened {
            let known = self.widened.entry(pattern).or_insert_with(|| widened.clone());
            known.add(widened);
        }
        self.examples.extend(more.examples);
        while self.examples.len() > MOST_EXAMPLES {
            self.examples.pop_last();
        }
    }
}

impl Widened {
    /// Of two callers the one that was seen with more is told of.
    fn add(&mut self, more: Self) {
        let most = |values: &[Values]| values.iter().map(|one| one.distinct).max();
        if most(&more.values) > most(&self.values) {
            self.values = more.values;
        }
        self.covers.extend(more.covers);
    }
}

/// Of all that has the same key the values as a set, and the evidence of all.
fn merge<K: Ord, V: Ord>(all: impl IntoIterator<Item = (K, V, Evidence)>) -> BTreeMap<K, (BTreeSet<V>, Evidence)> {
    let mut merged: BTreeMap<K, (BTreeSet<V>, Evidence)> = BTreeMap::new();
    for (key, value, evidence) in all {
        match merged.get_mut(&key) {
            Some((values, known)) => {
                values.insert(value);
                known.add(evidence);
            }
            None => drop(merged.insert(key, (BTreeSet::from([value]), evidence))),
        }
    }
    merged
}

/// What fits into a file of policy, about, at twenty bytes a path.
const MOST_PATTERNS: usize = 50_000;
/// A rule with more of them is not reviewed; what is beyond them stays covered by the pattern, as words that nobody was
/// seen with are.
pub(super) const MOST_EXCEPTIONS: usize = 50;
/// One is shown in the test; others are there in case another rule decides that one.
const MOST_EXAMPLES: usize = 16;
