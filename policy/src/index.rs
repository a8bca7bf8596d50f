//! The index of all rules: what a decision looks at does not depend on how many rules there are.
//!
//! From the workload to the targets it is in, from the caller to the groups it is in, and from each pair of them to the
//! rules that hang there: a trie of paths, with port and method at its ends. Whatever conditions are no ways through
//! that are guards, checked for the rules that were come upon. The index knows rules by number; the first of several
//! that match is the one with the lowest. Asking it neither allocates nor recurses.

mod entries;
mod identities;
mod methods;
mod plan;
mod trie;
mod words;

pub(crate) use entries::guard;

use spiffe::SpiffeId;

use crate::request::Connection;
use crate::rules::{Effect, IdentitySet, Matchers, Mode, PolicyRules};
use entries::{ANY_METHOD, ANY_PORT, Entry, First, KEYS, Key, LANES_THAT_DECIDE, Wanted, is_of_use, lane};
use identities::{EVERYONE, Group, Groups, GroupsBuilder};
use plan::{Lexicon, Plan, RequestPlan, plan};
use trie::{Span, Trie, TrieBuilder, gather};
use words::{Map, Spelled, small};

/// All rules of a policy.
#[derive(Debug)]
pub(crate) struct Index {
    lexicon: Lexicon,
    workloads: Groups,
    callers: Groups,
    /// By the group of workloads that they protect.
    targets: Vec<Scope>,
    on_connection: Map<(Group, Group), Span>,
    entries: Vec<Entry>,
    /// The roots in `paths`.
    on_request: Map<(Group, Group), u32>,
    paths: Trie<Entry>,
    marks: bool,
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
    spelled_workload: Spelled,
    spelled_caller: Spelled,
}

/// The first matching rules of each kind, by their numbers.
#[derive(Debug)]
pub(crate) struct Matched {
    pub(crate) scope: Scope,
    first: First,
}

impl Index {
    pub(crate) fn parties<'a>(&self, connection: &Connection<'a>) -> Parties<'a> {
        Parties {
            workload: connection.workload,
            caller: connection.caller,
            spelled_workload: self.workloads.spell(connection.workload, &self.lexicon.words),
            spelled_caller: self.callers.spell(connection.caller, &self.lexicon.words),
        }
    }

    /// The rules whose conditions on the connection hold; `holds` checks what the index cannot.
    pub(crate) fn match_connection(
        &self,
        parties: &Parties<'_>,
        connection: &Connection<'_>,
        holds: impl Fn(Guarded) -> bool,
    ) -> OnConnection {
        let port = u32::from(connection.port);
        let wanted = Wanted {
            used: self.used(4),
            keys: std::array::from_fn(|at| Key::new(at / 2, if at % 2 == 0 { port } else { ANY_PORT }, ANY_METHOD)),
            now: before_never(connection.now),
        };
        let mut first = First::new();
        let scope = self.each_pair(parties, |pair| {
            if let Some(span) = self.on_connection.get(&pair) {
                wanted.seek(span.of(&self.entries), &mut first, &|entry| holds(guarded(entry)));
            }
        });
        OnConnection(Matched { scope, first })
    }

    /// The rules whose conditions all hold for one reading of the path.
    pub(crate) fn match_request(
        &self,
        parties: &Parties<'_>,
        connection: &Connection<'_>,
        (method, path): (&str, &str),
        holds: impl Fn(Guarded) -> bool,
    ) -> Matched {
        let port = u32::from(connection.port);
        let method = self.lexicon.methods.find(method);
        let keys: [Key; KEYS] = std::array::from_fn(|at| {
            let lane = at / 4;
            let named = if lane % 2 == lane_of_allow() { method.written } else { method.folded };
            let port = if at % 4 < 2 { port } else { ANY_PORT };
            Key::new(lane, port, if at % 2 == 0 { ANY_METHOD } else { named })
        });
        let wanted = Wanted { keys, used: self.used(4), now: before_never(connection.now) };
        let segments = path.strip_prefix('/').into_iter().flat_map(|path| path.split('/'));
        let segments = self.lexicon.words.spell(segments, self.paths.deepest());
        let mut first = First::new();
        let scope = self.each_pair(parties, |pair| {
            if let Some(root) = self.on_request.get(&pair) {
                let mut seek = |entries: &[Entry]| wanted.seek(entries, &mut first, &|entry| holds(guarded(entry)));
                seek(self.paths.at_root(*root));
                self.paths.visit(*root, &segments, &mut seek);
            }
        });
        Matched { scope, first }
    }

    /// How many keys a question needs, of `each` lane.
    fn used(&self, each: usize) -> usize {
        if self.marks { KEYS } else { each * LANES_THAT_DECIDE }
    }

    /// Shows `found` each group of workloads with each group of callers, and says what protects the workload.
    fn each_pair(&self, parties: &Parties<'_>, mut found: impl FnMut((Group, Group))) -> Scope {
        let mut all = Scope::default();
        let mut target = |target: Group| {
            let Some(scope) = self.targets.get(target as usize).filter(|scope| scope.is_any()) else { return };
            all.add(scope);
            found((target, EVERYONE));
            self.callers.visit(parties.caller, &parties.spelled_caller, &mut |caller| found((target, caller)));
        };
        target(EVERYONE);
        self.workloads.visit(parties.workload, &parties.spelled_workload, &mut target);
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

fn lane_of_allow() -> usize {
    lane(Mode::Enforce, Effect::Allow)
}

/// The end of time is for rules that do not end.
fn before_never(now: i64) -> i64 {
    now.min(i64::MAX - 1)
}

/// An index that is being made.
#[derive(Debug)]
pub(crate) struct IndexBuilder<'a> {
    lexicon: Lexicon,
    workloads: GroupsBuilder<'a>,
    callers: GroupsBuilder<'a>,
    targets: Vec<Scope>,
    on_connection: Vec<((Group, Group), Entry)>,
    on_request: Map<(Group, Group), u32>,
    paths: TrieBuilder<Entry>,
    marks: bool,
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
    pub(crate) fn new(sets: &'a [IdentitySet]) -> Self {
        Self {
            lexicon: Lexicon::default(),
            workloads: GroupsBuilder::new(sets),
            callers: GroupsBuilder::new(sets),
            targets: Vec::new(),
            on_connection: Vec::new(),
            on_request: Map::default(),
            paths: TrieBuilder::new(),
            marks: false,
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
                    (scope.marked, self.marks) = (true, true);
                    continue;
                }
            };
            presence.protected = true;
            presence.allows |= policy.allows;
        }
        for (rule, plan) in planned {
            let callers = plan.callers.map_or(vec![EVERYONE], |callers| {
                self.callers.of(callers, None, plan.request.weight(), &mut self.lexicon.words)
            });
            for target in &targets {
                for caller in &callers {
                    self.hang((*target, *caller), lane(policy.mode, rule.effect), rule, &plan);
                }
            }
        }
    }

    /// The index.
    pub(crate) fn finish(self) -> Index {
        let (spans, entries) = gather(self.on_connection, is_of_use);
        Index {
            lexicon: self.lexicon,
            workloads: self.workloads.finish(),
            callers: self.callers.finish(),
            targets: self.targets,
            on_connection: spans.into_iter().collect(),
            entries,
            on_request: self.on_request,
            paths: self.paths.finish(is_of_use),
            marks: self.marks,
        }
    }

    fn targets_of(&mut self, policy: &'a PolicyRules, weight: usize) -> Vec<Group> {
        let (namespace, words) = (policy.namespace.as_deref(), &mut self.lexicon.words);
        match (&policy.target, namespace) {
            (None, None) => vec![EVERYONE],
            (None, Some(namespace)) => vec![self.workloads.of_namespace(namespace, words)],
            (Some(target), namespace) => self.workloads.of(target, namespace, weight, words),
        }
    }

    fn hang(&mut self, pair: (Group, Group), lane: usize, rule: Numbered<'_>, plan: &Plan<'_>) {
        let entry = |key: Key, guards: u32| Entry {
            key: if guards == 0 { key } else { key.guarded() },
            rule: small(rule.rule),
            expires: rule.expires.unwrap_or(i64::MAX),
            guards,
        };
        let needs_request = usize::from(!rule.matchers.request.is_empty());
        for port in &plan.ports {
            let key = Key::new(2 * lane + needs_request, *port, ANY_METHOD);
            self.on_connection.push((pair, entry(key, plan.on_connection)));
        }
        let RequestPlan { ports, methods, paths, guards } = &plan.request;
        let root = *self.on_request.entry(pair).or_insert_with(|| self.paths.root());
        for path in paths {
            for port in ports {
                for method in methods {
                    self.paths.insert(root, path, entry(Key::new(lane, *port, *method), *guards));
                }
            }
        }
    }
}
