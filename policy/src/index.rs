//! The index of all rules: what a decision looks at does not depend on how many rules there are.
//!
//! From the workload to the targets it is in, from the caller to the groups it is in, and from each pair of them to the
//! rules that hang there: a trie of paths, with port and method at its ends. Whatever conditions are no ways through
//! that are guards, checked for the rules that were come upon. The index knows rules by number; the first of several
//! that match is the one with the lowest. Asking it neither allocates nor recurses.

mod entries;
mod few;
mod hash;
mod identities;
mod methods;
mod plan;
mod roots;
mod segments;
mod trie;
mod words;
mod writer;

pub(crate) use entries::guard;

use spiffe::SpiffeId;

use crate::request::Connection;
use crate::rules::{Effect, IdentitySet, Matchers, Mode, PolicyRules};
use entries::{ANY_METHOD, Entry, First, Key, LANES, Wanted, lane};
use few::Few;
use hash::Seed;
use identities::{EVERYONE, Group, Groups, GroupsBuilder, Value};
use methods::Methods;
use plan::{Lexicon, Plan, RequestPlan, plan};
use roots::RootsBuilder;
use segments::Segments;
use trie::{Node, Place, Step, Tries};
use words::small;
use writer::Writer;

/// All rules of a policy.
#[derive(Debug)]
pub(crate) struct Index {
    methods: Methods,
    /// By the group of workloads that they protect.
    targets: Vec<Scope>,
    workloads: Groups,
    callers: Groups,
    /// What hangs at the group of all callers.
    everyone: Place,
    tries: Tries,
    /// How many segments of a path patterns can tell apart.
    deepest: usize,
}

/// What can be said of the policies of both modes that protect a workload.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Scope {
    pub(crate) enforced: Presence,
    pub(crate) audited: Presence,
    /// A policy that marks protects the workload.
    marked: bool,
}

/// Whether there are policies of one mode.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Presence {
    /// A policy protects the workload.
    pub(crate) protected: bool,
    /// One of them has allow rules.
    pub(crate) allows: bool,
}

/// A rule with conditions that the index has not decided.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guarded {
    pub(crate) rule: usize,
    /// The conditions; see [`guard`].
    pub(crate) guards: u32,
}

/// Who calls whom, looked up once for all readings of a path.
#[derive(Debug)]
pub(crate) struct Parties<'a> {
    workload: &'a SpiffeId,
    caller: &'a SpiffeId,
    scope: Scope,
    /// Where the rules hang that a group of workloads has for a group of callers.
    nodes: Few<Node<'a>>,
}

/// The first matching rules of each kind, by their numbers.
#[derive(Debug)]
pub(crate) struct Matched {
    pub(crate) scope: Scope,
    first: First,
}

impl Index {
    pub(crate) fn parties<'a>(&'a self, connection: &Connection<'a>) -> Parties<'a> {
        let mut nodes = Few::default();
        let scope = self.meet(connection.workload, connection.caller, &mut |node| nodes.push(node));
        Parties { workload: connection.workload, caller: connection.caller, scope, nodes }
    }

    /// The rules whose conditions on the connection hold; `holds` checks what the index cannot.
    pub(crate) fn match_connection(
        &self,
        parties: &Parties<'_>,
        connection: &Connection<'_>,
        holds: impl Fn(Guarded) -> bool,
    ) -> OnConnection {
        let wanted = Wanted {
            lanes: 2 * LANES,
            port: u32::from(connection.port),
            methods: [ANY_METHOD; 2],
            now: before_never(connection.now),
        };
        let mut first = First::new();
        self.each_node(parties, &mut |node| {
            wanted.seek(node.end(), &mut first, &|entry| holds(guarded(entry)));
        });
        OnConnection(Matched { scope: parties.scope, first })
    }

    /// The rules whose conditions all hold for one reading of the path.
    pub(crate) fn match_request(
        &self,
        parties: &Parties<'_>,
        connection: &Connection<'_>,
        (method, path): (&str, &str),
        holds: impl Fn(Guarded) -> bool,
    ) -> Matched {
        let method = self.methods.find(method);
        let wanted = Wanted {
            lanes: LANES,
            port: u32::from(connection.port),
            methods: [method.folded, method.written],
            now: before_never(connection.now),
        };
        let segments = Segments::of(path, self.deepest);
        let mut first = First::new();
        let mut seek = |entries: &[u8]| wanted.seek(entries, &mut first, &|entry| holds(guarded(entry)));
        self.each_node(parties, &mut |node| self.tries.visit(node, &segments, &mut seek));
        Matched { scope: parties.scope, first }
    }

    fn each_node<'a>(&'a self, parties: &Parties<'a>, found: &mut impl FnMut(Node<'a>)) {
        match parties.nodes.all() {
            Some(nodes) => nodes.iter().copied().for_each(found),
            None => drop(self.meet(parties.workload, parties.caller, found)),
        }
    }

    /// Shows `found` what hangs at each group of workloads with each group of callers, and says what protects the
    /// workload.
    fn meet<'a>(&'a self, workload: &SpiffeId, caller: &SpiffeId, found: &mut impl FnMut(Node<'a>)) -> Scope {
        let mut roots = Few::default();
        roots.push(self.everyone);
        self.callers.visit(caller, &self.tries, &mut |root| roots.push(Place(root)));
        let mut all = Scope::default();
        let mut target = |target: Group| {
            let Some(scope) = self.targets.get(target as usize).filter(|scope| scope.is_any()) else { return };
            all.add(scope);
            let name = target.to_le_bytes();
            let mut meet =
                |root: Place| self.tries.step(self.tries.node(root), &name).into_iter().for_each(&mut *found);
            match roots.all() {
                Some(roots) => roots.iter().copied().for_each(meet),
                None => {
                    meet(self.everyone);
                    self.callers.visit(caller, &self.tries, &mut |root| meet(Place(root)));
                }
            }
        };
        target(EVERYONE);
        self.workloads.visit(workload, &self.tries, &mut target);
        all
    }
}

/// What [`Index::match_connection`] has found: of each kind the first rule that needs no request, and the first that
/// asks for something of it.
#[derive(Debug)]
pub(crate) struct OnConnection(Matched);

impl OnConnection {
    pub(crate) fn scope(&self) -> Scope {
        self.0.scope
    }

    /// Whatever the request.
    pub(crate) fn certain(&self, mode: Mode, effect: Effect) -> Option<usize> {
        self.0.first.of(2 * lane(mode, effect))
    }

    /// Depending on the request, or whatever it is.
    pub(crate) fn possible(&self, mode: Mode, effect: Effect) -> Option<usize> {
        let depending = self.0.first.of(2 * lane(mode, effect) + 1);
        self.certain(mode, effect).into_iter().chain(depending).min()
    }
}

impl Matched {
    pub(crate) fn first(&self, mode: Mode, effect: Effect) -> Option<usize> {
        self.first.of(lane(mode, effect))
    }
}

impl Scope {
    fn is_any(&self) -> bool {
        self.enforced.protected || self.audited.protected || self.marked
    }

    fn add(&mut self, other: &Self) {
        for (mine, theirs) in [(&mut self.enforced, other.enforced), (&mut self.audited, other.audited)] {
            mine.protected |= theirs.protected;
            mine.allows |= theirs.allows;
        }
        self.marked |= other.marked;
    }
}

fn guarded(entry: &Entry) -> Guarded {
    Guarded { rule: entry.rule as usize, guards: entry.guards }
}

/// The end of time is for rules that do not end.
fn before_never(now: i64) -> i64 {
    now.min(i64::MAX - 1)
}

/// An index that is being made.
#[derive(Debug)]
pub(crate) struct IndexBuilder<'a> {
    seed: Seed,
    lexicon: Lexicon,
    workloads: GroupsBuilder<'a>,
    callers: GroupsBuilder<'a>,
    targets: Vec<Scope>,
    roots: RootsBuilder,
    /// The pattern of what is for connections, and that of what is for every path.
    on_connection: u32,
    any_path: u32,
}

/// A rule with its number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbered<'a> {
    pub(crate) rule: usize,
    pub(crate) effect: Effect,
    pub(crate) expires: Option<i64>,
    pub(crate) matchers: &'a Matchers,
}

impl<'a> IndexBuilder<'a> {
    /// The digest is that of all documents.
    pub(crate) fn new(sets: &'a [IdentitySet], digest: &str) -> Self {
        let mut roots = RootsBuilder::default();
        Self {
            seed: Seed::of(digest),
            lexicon: Lexicon::default(),
            workloads: GroupsBuilder::new(sets),
            callers: GroupsBuilder::new(sets),
            targets: Vec::new(),
            on_connection: roots.path(Vec::new()),
            any_path: roots.path(vec![Step::Rest]),
            roots,
        }
    }

    /// Adds a policy with its rules.
    pub(crate) fn add(&mut self, policy: &'a PolicyRules, rules: impl Iterator<Item = Numbered<'a>>) {
        let planned: Vec<(Numbered<'a>, Plan<'a>)> =
            rules.map(|rule| (rule, plan(rule.matchers, rule.effect, &mut self.lexicon))).collect();
        let weight = planned.iter().map(|(_, plan)| plan.request.weight()).sum();
        let targets = self.targets_of(policy, weight);
        for target in &targets {
            let at = *target as usize;
            if self.targets.len() <= at {
                self.targets.resize(at + 1, Scope::default());
            }
            let Some(scope) = self.targets.get_mut(at) else { continue };
            let presence = match policy.mode {
                Mode::Enforce => &mut scope.enforced,
                Mode::Audit => &mut scope.audited,
                Mode::Mark => {
                    scope.marked = true;
                    continue;
                }
            };
            presence.protected = true;
            presence.allows |= policy.allows;
        }
        for (rule, mut plan) in planned {
            let callers = plan.callers.map_or(vec![EVERYONE], |callers| {
                self.callers.of(callers, None, plan.request.weight(), &mut self.lexicon.words)
            });
            let paths = std::mem::take(&mut plan.request.paths).into_iter();
            // A path has one segment at least.
            let paths = paths.map(|steps| if steps.is_empty() { self.any_path } else { self.roots.path(steps) });
            let paths: Vec<u32> = paths.collect();
            for target in &targets {
                for caller in &callers {
                    self.hang((*target, *caller), lane(policy.mode, rule.effect), rule, &plan, &paths);
                }
            }
        }
    }

    /// The index.
    pub(crate) fn finish(self) -> Index {
        let Self { mut lexicon, targets, .. } = self;
        let deepest = self.roots.deepest();
        let mut roots = self.roots.sorted(self.callers.count());
        let callers = self.callers.sorted(&mut lexicon.words);
        let workloads = self.workloads.sorted(&mut lexicon.words);
        let texts = lexicon.words.texts();
        let mut writer = Writer::new(&texts, self.seed);
        let workloads = workloads.write(Value::Number, &mut writer);
        let everyone = roots.write(EVERYONE, &mut writer);
        let callers = callers.write(Value::Root(&mut roots), &mut writer);
        roots.finish(&mut writer);
        Index { targets, workloads, callers, everyone, tries: writer.finish(), deepest, methods: lexicon.methods }
    }

    fn targets_of(&mut self, policy: &'a PolicyRules, weight: usize) -> Vec<Group> {
        let (namespace, words) = (policy.namespace.as_deref(), &mut self.lexicon.words);
        match (&policy.target, namespace) {
            (None, None) => vec![EVERYONE],
            (None, Some(namespace)) => vec![self.workloads.of_namespace(namespace, words)],
            (Some(target), namespace) => self.workloads.of(target, namespace, weight, words),
        }
    }

    fn hang(&mut self, pair: (Group, Group), lane: usize, rule: Numbered<'_>, plan: &Plan<'_>, paths: &[u32]) {
        let entry = |key: Key, guards: u32| Entry {
            key: if guards == 0 { key } else { key.guarded() },
            rule: small(rule.rule),
            expires: rule.expires.unwrap_or(i64::MAX),
            guards,
        };
        let needs_request = usize::from(!rule.matchers.request.is_empty());
        for port in &plan.ports {
            let key = Key::new(2 * lane + needs_request, *port, ANY_METHOD);
            self.roots.hang(pair, self.on_connection, entry(key, plan.on_connection));
        }
        let RequestPlan { ports, methods, guards, .. } = &plan.request;
        for path in paths {
            for port in ports {
                for method in methods {
                    self.roots.hang(pair, *path, entry(Key::new(lane, *port, *method), *guards));
                }
            }
        }
    }
}
