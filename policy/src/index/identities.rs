//! From an identity to the numbers of the groups that it is in: exact IDs by hash, patterns by trie.
//!
//! A group is one ID, one pattern, an identity set, or a long list. Rules hang at groups, so that a set of ten thousand
//! members costs each of its rules one entry, and each of its members one number.

use spiffe::SpiffeId;

use super::roots::Roots;
use super::segments::Segments;
use super::trie::{Place, Step, Tries};
use super::words::{DEPTH, Map, Words};
use super::writer::{Content, Writer};
use crate::identity::{IdentityPattern, IdentitySegment, in_namespace};
use crate::rules::{Identities, IdentitySet};
use crate::text::TextPattern;

/// The number of a group.
pub(super) type Group = u32;

/// The group of all identities.
pub(super) const EVERYONE: Group = 0;

/// Which groups an identity is in. Each is told as a value: for workloads its number, for callers the place of what
/// hangs at it.
#[derive(Debug)]
pub(super) struct Groups {
    /// The IDs, by trust domain and by the whole path.
    exact: Place,
    /// Patterns by trust domain, and by the segments of the path.
    patterns: Place,
    /// Patterns of any trust domain.
    anywhere: Place,
    deepest: usize,
    /// Patterns with more segments than the trie takes.
    deep: Vec<Deep>,
}

#[derive(Debug)]
struct Deep {
    namespace: Option<Box<str>>,
    pattern: IdentityPattern,
    /// The number of a group, and then its value.
    group: u32,
}

impl Groups {
    /// Shows `found` the value of every group of an identity but [`EVERYONE`]; some more than once.
    pub(super) fn visit(&self, id: &SpiffeId, tries: &Tries, found: &mut impl FnMut(u32)) {
        let mut list =
            |values: &[u8]| values.as_chunks().0.iter().copied().map(u32::from_le_bytes).for_each(&mut *found);
        let trust_domain = id.trust_domain_name().as_bytes();
        let of_domain = tries.step(tries.node(self.exact), trust_domain);
        if let Some(exact) = of_domain.and_then(|node| tries.step(node, id.path().as_bytes())) {
            list(exact.end());
        }
        if self.has_patterns() {
            let segments = Segments::of(id.path(), self.deepest);
            let of_domain = tries.step(tries.node(self.patterns), trust_domain);
            for node in of_domain.into_iter().chain([tries.node(self.anywhere)]) {
                tries.visit(node, &segments, &mut list);
            }
        }
        for deep in &self.deep {
            let in_scope = deep.namespace.as_ref().is_none_or(|namespace| in_namespace(id, namespace));
            if in_scope && deep.pattern.matches(id) {
                found(deep.group);
            }
        }
    }

    fn has_patterns(&self) -> bool {
        self.patterns != Place::default() || self.anywhere != Place::default()
    }
}

/// What makes a group.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Members {
    Exact(SpiffeId),
    Pattern(Vec<Step>),
    Deep(Option<Box<str>>, IdentityPattern),
    Namespace(Box<str>),
    Set(Option<Box<str>>, usize),
    List(Option<Box<str>>, Vec<SpiffeId>, Vec<IdentityPattern>),
}

/// Groups that are being made.
#[derive(Debug)]
pub(super) struct GroupsBuilder<'a> {
    sets: &'a [IdentitySet],
    groups: Map<Members, Group>,
    exact: Vec<(&'a SpiffeId, Group)>,
    patterns: Vec<Member>,
    deep: Vec<Deep>,
}

impl<'a> GroupsBuilder<'a> {
    pub(super) fn new(sets: &'a [IdentitySet]) -> Self {
        Self { sets, groups: Map::default(), exact: Vec::new(), patterns: Vec::new(), deep: Vec::new() }
    }

    /// The group of all workloads of a Kubernetes namespace.
    pub(super) fn of_namespace(&mut self, namespace: &str, words: &mut Words) -> Group {
        let (group, known) = self.number(Members::Namespace(namespace.into()));
        if !known {
            let steps = [Step::One, Step::Word(words.learn("ns")), Step::Word(words.learn(namespace)), Step::Rest];
            self.patterns.push(Member { steps: steps.to_vec(), group });
        }
        group
    }

    /// The groups at which to hang `weight` entries so that these identities, as far as they are of the namespace, have
    /// them all.
    pub(super) fn of(
        &mut self,
        identities: &'a Identities,
        namespace: Option<&str>,
        weight: usize,
        words: &mut Words,
    ) -> Vec<Group> {
        let mut groups = Vec::new();
        if is_spread(identities.exact.len() + identities.patterns.len(), weight) {
            for id in identities.exact.iter().filter(|id| is_of(id, namespace)) {
                let (group, known) = self.number(Members::Exact(id.clone()));
                if !known {
                    self.exact.push((id, group));
                }
                groups.push(group);
            }
            for pattern in &identities.patterns {
                groups.extend(self.of_pattern(pattern, namespace, words));
            }
        } else {
            let (exact, patterns) = (identities.exact.clone(), identities.patterns.clone());
            groups.push(self.of_all(
                Members::List(namespace.map(Into::into), exact, patterns),
                identities,
                namespace,
                words,
            ));
        }
        let all_sets = self.sets;
        for set in &identities.sets {
            let Some(members) = all_sets.get(set.0).map(|set| &set.members) else { continue };
            groups.push(self.of_all(Members::Set(namespace.map(Into::into), set.0), members, namespace, words));
        }
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    /// How many groups there are, with [`EVERYONE`].
    pub(super) fn count(&self) -> usize {
        self.groups.len() + 1
    }

    /// All members in order.
    pub(super) fn sorted(self, words: &mut Words) -> Sorted {
        let exact = self.exact.into_iter().map(|(id, group)| {
            let steps = [id.trust_domain_name(), id.path()].map(|word| Step::Word(words.learn(word)));
            Member { steps: steps.to_vec(), group }
        });
        let mut exact: Vec<Member> = exact.collect();
        let (mut anywhere, mut patterns): (Vec<Member>, Vec<Member>) =
            self.patterns.into_iter().partition(|member| member.steps.first() == Some(&Step::One));
        for member in &mut anywhere {
            member.steps.remove(0);
        }
        for members in [&mut exact, &mut patterns, &mut anywhere] {
            members.sort_unstable();
            members.dedup();
        }
        Sorted { exact, patterns, anywhere, deep: self.deep }
    }

    fn number(&mut self, members: Members) -> (Group, bool) {
        let next = super::words::small(self.groups.len()).saturating_add(EVERYONE + 1);
        let group = *self.groups.entry(members).or_insert(next);
        (group, group != next)
    }

    /// One group for a list.
    fn of_all(
        &mut self,
        members: Members,
        identities: &'a Identities,
        namespace: Option<&str>,
        words: &mut Words,
    ) -> Group {
        let (group, known) = self.number(members);
        if known {
            return group;
        }
        self.exact.extend(identities.exact.iter().filter(|id| is_of(id, namespace)).map(|id| (id, group)));
        for pattern in &identities.patterns {
            match steps(pattern, namespace, words) {
                Some(Steps::Shallow(steps)) => self.patterns.push(Member { steps, group }),
                Some(Steps::Deep) => self.go_deep(pattern, namespace, group),
                None => {}
            }
        }
        group
    }

    fn of_pattern(&mut self, pattern: &IdentityPattern, namespace: Option<&str>, words: &mut Words) -> Option<Group> {
        match steps(pattern, namespace, words)? {
            Steps::Shallow(steps) => {
                let (group, known) = self.number(Members::Pattern(steps.clone()));
                if !known {
                    self.patterns.push(Member { steps, group });
                }
                Some(group)
            }
            Steps::Deep => {
                let (group, known) = self.number(Members::Deep(namespace.map(Into::into), pattern.clone()));
                if !known {
                    self.go_deep(pattern, namespace, group);
                }
                Some(group)
            }
        }
    }

    fn go_deep(&mut self, pattern: &IdentityPattern, namespace: Option<&str>, group: Group) {
        self.deep.push(Deep { namespace: namespace.map(Into::into), pattern: pattern.clone(), group });
    }
}

/// A pattern, or an ID, of a group.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Member {
    steps: Vec<Step>,
    group: Group,
}

/// What groups are to be written from.
#[derive(Debug)]
pub(super) struct Sorted {
    exact: Vec<Member>,
    patterns: Vec<Member>,
    anywhere: Vec<Member>,
    deep: Vec<Deep>,
}

impl Sorted {
    pub(super) fn write(self, mut value: Value<'_>, writer: &mut Writer<'_>) -> Groups {
        let Self { exact, patterns, anywhere, mut deep } = self;
        let deepest = patterns.iter().chain(&anywhere).map(|member| member.steps.len()).max();
        if let Value::Root(roots) = &mut value {
            for deep in &mut deep {
                deep.group = roots.write(deep.group, writer).0;
            }
        }
        let mut write = |members: &[Member]| writer.trie(&mut value, members);
        Groups {
            exact: write(&exact),
            patterns: write(&patterns),
            anywhere: write(&anywhere),
            deepest: deepest.unwrap_or_default(),
            deep,
        }
    }
}

/// As what a group is told.
#[derive(Debug)]
pub(super) enum Value<'a> {
    /// By its number.
    Number,
    /// By the place of what hangs at it, which is written behind its first member.
    Root(&'a mut Roots),
}

impl Content for Value<'_> {
    type Part = Member;

    fn step(&self, member: &Member, depth: usize) -> Option<Step> {
        member.steps.get(depth).copied()
    }

    fn list(&mut self, members: &[Member]) -> Vec<u8> {
        members.iter().flat_map(|member| member.group.to_le_bytes()).collect()
    }

    fn written(&mut self, members: &[Member], at: usize) {
        let Self::Root(roots) = self else { return };
        for (index, member) in members.iter().enumerate() {
            roots.refer(at + index * size_of::<Group>(), member.group);
        }
    }

    fn behind(&mut self, writer: &mut Writer<'_>) {
        if let Self::Root(roots) = self {
            roots.write_awaited(writer);
        }
    }
}

fn is_of(id: &SpiffeId, namespace: Option<&str>) -> bool {
    namespace.is_none_or(|namespace| in_namespace(id, namespace))
}

enum Steps {
    Shallow(Vec<Step>),
    Deep,
}

/// A pattern, narrowed to a namespace; `None` when nothing of it is left.
fn steps(pattern: &IdentityPattern, namespace: Option<&str>, words: &mut Words) -> Option<Steps> {
    let (trust_domain, segments) = match pattern {
        IdentityPattern::Exact(_) => return None,
        IdentityPattern::Segments { segments, .. } if segments.len() >= DEPTH => return Some(Steps::Deep),
        IdentityPattern::Segments { trust_domain, segments } => (trust_domain, segments),
        IdentityPattern::Namespace(_)
        | IdentityPattern::ServiceAccount { .. }
        | IdentityPattern::TrustDomain(_)
        | IdentityPattern::Text(_) => return Some(steps_of_istio(pattern, namespace, words)),
    };
    let mut steps = vec![Step::Word(words.learn(trust_domain.as_str()))];
    let mut rest = segments.iter();
    for expected in namespace.into_iter().flat_map(|namespace| ["ns", namespace]) {
        match rest.as_slice().first()? {
            IdentitySegment::Literal(literal) if **literal != *expected => return None,
            IdentitySegment::Literal(_) | IdentitySegment::One => drop(rest.next()),
            // It stays for what follows: below a namespace there is always something.
            IdentitySegment::Rest => {}
        }
        steps.push(Step::Word(words.learn(expected)));
    }
    if namespace.is_some() && rest.as_slice().is_empty() {
        return None;
    }
    steps.extend(rest.map(|segment| match segment {
        IdentitySegment::Literal(literal) => Step::Word(words.learn(literal)),
        IdentitySegment::One => Step::One,
        IdentitySegment::Rest => Step::Rest,
    }));
    Some(Steps::Shallow(steps))
}

/// A pattern of Istio's, where it is one of segments.
fn steps_of_istio(pattern: &IdentityPattern, namespace: Option<&str>, words: &mut Words) -> Steps {
    let mut word = |word: &str| Step::Word(words.learn(word));
    let shallow = match pattern {
        // Istio has no pattern in a target, so that none is narrowed.
        _ if namespace.is_some() => None,
        IdentityPattern::Namespace(glob) => {
            glob.literal().map(|namespace| vec![Step::One, word("ns"), word(namespace), Step::Rest])
        }
        IdentityPattern::ServiceAccount { namespace, account } => {
            Some(vec![Step::One, word("ns"), word(namespace), word("sa"), word(account)])
        }
        IdentityPattern::TrustDomain(TextPattern::Exact(trust_domain)) => Some(vec![word(trust_domain), Step::Rest]),
        IdentityPattern::TrustDomain(TextPattern::Present) | IdentityPattern::Text(TextPattern::Present) => {
            Some(vec![Step::One, Step::Rest])
        }
        IdentityPattern::Exact(_)
        | IdentityPattern::Segments { .. }
        | IdentityPattern::TrustDomain(_)
        | IdentityPattern::Text(_) => None,
    };
    shallow.map_or(Steps::Deep, Steps::Shallow)
}

/// Whether so many things each go to so many places without growing much beyond their own number. What does not is
/// gathered into a group of its own, so that the index is never larger than the documents by more than this factor.
pub(super) fn is_spread(things: usize, places: usize) -> bool {
    things.saturating_mul(places) <= 8 * things.saturating_add(places) + 64
}
