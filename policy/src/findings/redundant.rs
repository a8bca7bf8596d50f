//! Rules that change no decision: shadowed, swallowed, written twice, or matching nothing.
//!
//! From the last rule to the first, each is held against those that are still there. So what is reported can be
//! removed one by one or all at once, and no decision changes.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use super::implication::{Subject, Subjects};
use crate::rules::{Effect, Mode};

/// A rule that changes nothing.
pub(super) struct Redundant<'a> {
    pub(super) subject: &'a Subject<'a>,
    pub(super) why: Why<'a>,
}

/// Why it changes nothing.
pub(super) enum Why<'a> {
    /// It matches nothing.
    Contradiction,
    /// This one is the same.
    Duplicate(&'a Subject<'a>),
    /// This one, of the same effect, matches all that it matches.
    Shadowed(&'a Subject<'a>),
    /// This one denies all that it allows.
    Swallowed(&'a Subject<'a>),
}

/// All of them among the rules in force at `now`.
pub(super) fn find<'a>(subjects: &'a Subjects<'a>, now: i64) -> Vec<Redundant<'a>> {
    let mut rules: Vec<&Subject<'_>> = subjects.rules.iter().filter(|subject| subject.rule.in_force(now)).collect();
    rules.sort_by(|a, b| a.place().cmp(&b.place()));
    let mut search = Search { subjects, index: Index::of(subjects, &rules), rules, gone: HashSet::new() };
    let mut found = Vec::new();
    for number in (0..search.rules.len()).rev() {
        let judged = search.judge(number);
        if !subjects.is_complete() {
            break;
        }
        let Some((subject, why)) = judged else { continue };
        search.gone.insert(number);
        found.push(Redundant { subject, why });
    }
    found
}

struct Search<'a> {
    subjects: &'a Subjects<'a>,
    /// In the order of places.
    rules: Vec<&'a Subject<'a>>,
    index: Index,
    /// What has been reported.
    gone: HashSet<usize>,
}

impl<'a> Search<'a> {
    fn judge(&self, number: usize) -> Option<(&'a Subject<'a>, Why<'a>)> {
        let subject = *self.rules.get(number)?;
        if self.is_part(number, subject) {
            return None;
        }
        if self.subjects.contradicts_itself(subject) {
            return Some((subject, Why::Contradiction));
        }
        if let Some(wide) = self.covering(number, subject, subject.rule.effect) {
            let same = wide.rule.expires == subject.rule.expires && self.subjects.covers(subject, wide);
            return Some((subject, if same { Why::Duplicate(wide) } else { Why::Shadowed(wide) }));
        }
        // What an audited policy would have decided is told even where it is the default: without its allow rules it
        // would have nothing to say.
        if subject.rule.effect == Effect::Deny || subject.rule.mode == Mode::Audit {
            return None;
        }
        let deny = self.covering(number, subject, Effect::Deny)?;
        Some((subject, Why::Swallowed(deny)))
    }

    /// Whether it was written together with others, as Istio's rules with several sources and operations are: by itself
    /// it cannot be removed, and what would be left of the rule could mean something else.
    fn is_part(&self, number: usize, subject: &Subject<'_>) -> bool {
        let neighbours = [number.checked_sub(1), number.checked_add(1)];
        let mut neighbours = neighbours.into_iter().flatten().filter_map(|number| self.rules.get(number));
        neighbours.any(|other| other.place() == subject.place())
    }

    /// A rule of an effect that is still there and covers this one.
    fn covering(&self, number: usize, subject: &Subject<'_>, effect: Effect) -> Option<&'a Subject<'a>> {
        let keys = keys(self.subjects, subject);
        let candidates = self.index.candidates(&keys, effect);
        let others = candidates.filter(|other| *other != number && !self.gone.contains(other));
        let mut others = others.filter_map(|other| self.rules.get(other).copied());
        others.find(|wide| self.subjects.covers(wide, subject))
    }
}

/// Finds the rules that could cover another, by what they ask of caller and path.
struct Index {
    hasher: RandomState,
    /// By a hash of the stems of a caller and of a path; two that share a hash are only compared in vain.
    buckets: HashMap<u64, Vec<usize>>,
}

impl Index {
    fn of(subjects: &Subjects<'_>, rules: &[&Subject<'_>]) -> Self {
        let mut index = Self { hasher: RandomState::new(), buckets: HashMap::new() };
        for (number, subject) in rules.iter().enumerate() {
            let callers = subject.callers().next().into_iter().flat_map(|names| subjects.patterns(names));
            let callers = stems(callers.map(|pattern| pattern.stem()));
            let paths = stems(subject.paths().next().into_iter().flatten().map(|pattern| pattern.stem()));
            for caller in &callers {
                for path in &paths {
                    let key = index.key(subject.rule.effect, caller.as_deref(), path.as_deref());
                    index.buckets.entry(key).or_default().push(number);
                }
            }
        }
        index
    }

    /// The rules of an effect that could cover `subject`; one may come twice.
    fn candidates<'s>(
        &'s self,
        keys: &'s [(Option<String>, Option<String>)],
        effect: Effect,
    ) -> impl Iterator<Item = usize> + 's {
        let bucket = move |(caller, path): &(Option<String>, Option<String>)| {
            self.buckets.get(&self.key(effect, caller.as_deref(), path.as_deref()))
        };
        keys.iter().filter_map(bucket).flatten().copied()
    }

    fn key(&self, effect: Effect, caller: Option<&str>, path: Option<&str>) -> u64 {
        self.hasher.hash_one((effect == Effect::Deny, caller, path))
    }
}

/// Under which stems of caller and path a rule that covers this one can stand.
fn keys(subjects: &Subjects<'_>, subject: &Subject<'_>) -> Vec<(Option<String>, Option<String>)> {
    // Each of its alternatives must be covered, so that the first is enough to look by.
    let callers = subject.callers().filter_map(|names| subjects.patterns(names).next());
    let callers: Vec<String> = callers.flat_map(|first| first.stems()).collect();
    let paths = subject.paths().filter_map(|patterns| patterns.first());
    let paths: Vec<String> = paths.flat_map(|first| first.stems()).collect();
    let or_any = |stems: &[String]| stems.iter().cloned().map(Some).chain([None]).collect::<Vec<_>>();
    let paths = or_any(&paths);
    let callers = or_any(&callers).into_iter();
    callers.flat_map(|caller| paths.iter().map(move |path| (caller.clone(), path.clone()))).collect()
}

/// Under which stems a rule is found; under none in particular when it has none, or more than pay off.
fn stems(all: impl Iterator<Item = String>) -> Vec<Option<String>> {
    let mut distinct = BTreeSet::new();
    for stem in all {
        distinct.insert(stem);
        if distinct.len() > MOST_STEMS {
            return vec![None];
        }
    }
    if distinct.is_empty() { vec![None] } else { distinct.into_iter().map(Some).collect() }
}

/// Of callers and of paths each: a rule stands in at most this many buckets squared.
const MOST_STEMS: usize = 32;
