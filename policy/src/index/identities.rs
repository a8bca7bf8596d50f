//! From an identity to the numbers of the groups that it is in: exact IDs by hash, patterns by trie.
//!
//! A group is one ID, one pattern, an identity set, or a long list. Rules hang at groups, so that a set of ten thousand
//! members costs each of its rules one entry, and each of its members one number.

use spiffe::SpiffeId;

use super::trie::{Span, Step, Trie, TrieBuilder, gather};
use super::words::{DEPTH, Map, Spelled, Words};
use crate::identity::{IdentityPattern, IdentitySegment, in_namespace};
use crate::rules::{Identities, IdentitySet};
use crate::text::TextPattern;

/// The number of a group.
pub(super) type Group = u32;

/// The group of all identities.
pub(super) const EVERYONE: Group = 0;

/// Which groups an identity is in.
#[derive(Debug)]
pub(super) struct Groups {
    exact: Map<SpiffeId, Span>,
    of_exact: Vec<Group>,
    patterns: Trie<Group>,
    root: u32,
    /// Patterns with more segments than the trie takes.
    deep: Vec<Deep>,
}

#[derive(Debug)]
struct Deep {
    namespace: Option<Box<str>>,
    pattern: IdentityPattern,
    group: Group,
}

impl Groups {
    /// The segments that patterns tell apart, the trust domain first.
    pub(super) fn spell(&self, id: &SpiffeId, words: &Words) -> Spelled {
        let deepest = self.patterns.deepest();
        // Without patterns there is nothing to tell apart.
        let path = id.path().strip_prefix('/').filter(|_| deepest > 0);
        let segments = path.into_iter().flat_map(|path| path.split('/'));
        words.spell(std::iter::once(id.trust_domain_name()).chain(segments), deepest)
    }

    /// Shows `found` every group of an identity but [`EVERYONE`]; some more than once.
    pub(super) fn visit(&self, id: &SpiffeId, spelled: &Spelled, found: &mut impl FnMut(Group)) {
        if let Some(span) = self.exact.get(id) {
            span.of(&self.of_exact).iter().copied().for_each(&mut *found);
        }
        if self.patterns.deepest() > 0 {
            self.patterns.visit(self.root, spelled, &mut |groups| groups.iter().copied().for_each(&mut *found));
        }
        for deep in &self.deep {
            let in_scope = deep.namespace.as_ref().is_none_or(|namespace| in_namespace(id, namespace));
            if in_scope && deep.pattern.matches(id) {
                found(deep.group);
            }
        }
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
    patterns: TrieBuilder<Group>,
    root: u32,
    deep: Vec<Deep>,
}

impl<'a> GroupsBuilder<'a> {
    pub(super) fn new(sets: &'a [IdentitySet]) -> Self {
        let mut patterns = TrieBuilder::new();
        let root = patterns.root();
        Self { sets, groups: Map::default(), exact: Vec::new(), patterns, root, deep: Vec::new() }
    }

    /// The group of all workloads of a Kubernetes namespace.
    pub(super) fn of_namespace(&mut self, namespace: &str, words: &mut Words) -> Group {
        let (group, known) = self.number(Members::Namespace(namespace.into()));
        if !known {
            let steps = [Step::One, Step::Word(words.learn("ns")), Step::Word(words.learn(namespace)), Step::Rest];
            self.patterns.insert(self.root, &steps, group);
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

    pub(super) fn finish(self) -> Groups {
        let memberships = self.exact;
        let (spans, of_exact) = gather(memberships, |before, next| before != next);
        let exact = spans.into_iter().map(|(id, span)| (id.clone(), span)).collect();
        let patterns = self.patterns.finish(|before, next| before != next);
        Groups { exact, of_exact, patterns, root: self.root, deep: self.deep }
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
                Some(Steps::Shallow(steps)) => self.patterns.insert(self.root, &steps, group),
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
                    self.patterns.insert(self.root, &steps, group);
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
