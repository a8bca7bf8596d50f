//! The paths that one caller asked for with one method, as a tree, with the places where enough values were seen to
//! speak of any.
//!
//! Merging goes on while paths come in, so that a million members cost what three do. The result does not depend on the
//! order in which paths come.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashSet};
use std::hash::{Hash, Hasher};

use super::Seen;
use super::shape::is_value;

/// A part of the tree: what follows a prefix.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// By the next segment.
    literals: BTreeMap<Box<str>, Tree>,
    /// How many of them look like values.
    values: usize,
    any: Option<Box<Any>>,
    /// Set if the prefix is a path that was asked for.
    seen: Option<Seen>,
}

/// Any segment, because many values were seen.
#[derive(Debug, Default)]
struct Any {
    rest: Tree,
    /// Of the values, as many as are told.
    hashes: HashSet<u64>,
    example: Box<str>,
}

/// What a segment of a pattern is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// Before the literals: a pattern that covers another comes before it.
    Any,
    Literal(Box<str>),
}

/// A path, or what became of many.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) steps: Vec<Step>,
    pub(super) seen: Seen,
    /// For each step that stands for any.
    pub(super) values: Vec<Values>,
}

/// What was seen where a pattern stands for any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Values {
    pub(super) distinct: usize,
    pub(super) example: Box<str>,
}

impl Tree {
    /// Takes a path in normal form. `enough` values in one place make any; without it every path is taken literally.
    /// Answers what was added, in bytes.
    pub(super) fn insert(&mut self, path: &str, seen: Seen, enough: Option<usize>) -> usize {
        let mut tree = self;
        let mut added = 0;
        for segment in path.split('/').skip(1) {
            tree = tree.place(segment, enough, &mut added);
        }
        tree.add(seen);
        added
    }

    /// Every path and pattern, those that cover others before them.
    pub(super) fn branches(&self) -> Vec<Branch> {
        let mut all = Vec::new();
        self.walk(&mut Vec::new(), &mut Vec::new(), &mut all);
        all
    }

    /// The widest of its patterns that matches all that `steps` matches, which may be the same.
    pub(super) fn cover(&self, steps: &[Step]) -> Option<Vec<Step>> {
        let mut taken = Vec::new();
        self.find_cover(steps, &mut taken).then_some(taken)
    }

    /// Whether a request that came in here may be one that `steps` matches: values became any, words did not.
    pub(super) fn may_hold(&self, steps: &[Step]) -> bool {
        let Some((first, rest)) = steps.split_first() else { return self.seen.is_some() };
        let any = self.any.iter().map(|any| &any.rest);
        match first {
            Step::Any => any.chain(self.literals.values()).any(|tree| tree.may_hold(rest)),
            Step::Literal(segment) => {
                let any = any.filter(|_| is_value(segment));
                any.chain(self.literals.get(segment)).any(|tree| tree.may_hold(rest))
            }
        }
    }

    fn find_cover(&self, steps: &[Step], taken: &mut Vec<Step>) -> bool {
        let Some((first, rest)) = steps.split_first() else { return self.seen.is_some() };
        let any = self.any.as_ref().filter(|_| !first.is_empty()).map(|any| (Step::Any, &any.rest));
        let same = match first {
            Step::Any => None,
            Step::Literal(segment) => self.literals.get(segment).map(|tree| (first.clone(), tree)),
        };
        for (step, tree) in [any, same].into_iter().flatten() {
            taken.push(step);
            if tree.find_cover(rest, taken) {
                return true;
            }
            taken.pop();
        }
        false
    }

    fn walk(&self, steps: &mut Vec<Step>, values: &mut Vec<Values>, all: &mut Vec<Branch>) {
        if let Some(seen) = self.seen {
            all.push(Branch { steps: steps.clone(), seen, values: values.clone() });
        }
        if let Some(any) = &self.any {
            steps.push(Step::Any);
            values.push(Values { distinct: any.hashes.len(), example: any.example.clone() });
            any.rest.walk(steps, values, all);
            values.pop();
            steps.pop();
        }
        for (segment, rest) in &self.literals {
            steps.push(Step::Literal(segment.clone()));
            rest.walk(steps, values, all);
            steps.pop();
        }
    }

    /// Where a segment leads to.
    fn place(&mut self, segment: &str, enough: Option<usize>, added: &mut usize) -> &mut Self {
        let is_value = enough.is_some() && is_value(segment);
        let is_new = !self.literals.contains_key(segment);
        if is_value && is_new && self.any.is_none() {
            self.values += 1;
            if enough.is_some_and(|enough| self.values >= enough) {
                self.merge_values(enough);
            }
        }
        match &mut self.any {
            Some(any) if is_value => {
                *added += any.note(segment);
                &mut any.rest
            }
            Some(_) | None => {
                *added += if is_new { NODE + segment.len() } else { 0 };
                self.literals.entry(segment.into()).or_default()
            }
        }
    }

    fn add(&mut self, seen: Seen) {
        match &mut self.seen {
            Some(mine) => mine.add(seen),
            None => self.seen = Some(seen),
        }
    }

    fn merge_values(&mut self, enough: Option<usize>) -> &mut Any {
        let literals = std::mem::take(&mut self.literals);
        let (values, words) = literals.into_iter().partition(|(segment, _)| is_value(segment));
        self.literals = words;
        let values: BTreeMap<Box<str>, Self> = values;
        let any = self.any.get_or_insert_default();
        for (segment, rest) in values {
            any.note(&segment);
            any.rest.absorb(rest, enough);
        }
        any
    }

    /// Takes in another tree of the same place. It goes no deeper than paths do.
    fn absorb(&mut self, other: Self, enough: Option<usize>) {
        if let Some(seen) = other.seen {
            self.add(seen);
        }
        if let Some(theirs) = other.any {
            let mine = self.merge_values(enough);
            mine.hashes.extend(theirs.hashes);
            mine.show(&theirs.example);
            mine.rest.absorb(theirs.rest, enough);
        }
        for (segment, rest) in other.literals {
            // What was counted when it came is not counted again.
            self.place(&segment, enough, &mut 0).absorb(rest, enough);
        }
    }
}

impl Any {
    /// Counts a value; answers what that takes, in bytes.
    fn note(&mut self, segment: &str) -> usize {
        self.show(segment);
        if self.hashes.len() >= MOST_TOLD {
            return 0;
        }
        let mut hasher = DefaultHasher::new();
        segment.hash(&mut hasher);
        if self.hashes.insert(hasher.finish()) { HASH } else { 0 }
    }

    /// The least is shown, so that the order in which paths come does not show.
    fn show(&mut self, segment: &str) {
        if self.example.is_empty() || *segment < *self.example {
            self.example = segment.into();
        }
    }
}

impl Step {
    fn is_empty(&self) -> bool {
        matches!(self, Self::Literal(segment) if segment.is_empty())
    }
}

/// Beyond it the number of values is told as "or more".
pub(super) const MOST_TOLD: usize = 100;
/// What an entry of a tree takes, about, besides its segment.
const NODE: usize = 200;
/// What a value takes, about, that is counted.
const HASH: usize = 16;
