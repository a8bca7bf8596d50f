//! Both sets in one space, everything in it held once and known by number.
//!
//! Rules with the same meaning become the same entry whatever their names, places and policies are, so that comparing
//! what is left of two sets is comparing numbers.

use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;

use super::Side;
use super::lower::Consequence;
use super::term::{Axis, Term};
use crate::rules::Sense;

/// A condition or its `not…` twin, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Clause {
    pub(super) condition: u32,
    pub(super) sense: Sense,
}

/// One of these terms, own or of a set.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Terms {
    axis: u32,
    own: Vec<u32>,
    sets: Vec<u32>,
}

/// What a rule still asks for, beginning with the clauses of the first axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Tail(pub(super) u32);

impl Tail {
    /// Nothing is asked for any more.
    pub(super) const DONE: Self = Self(0);
}

/// Rules of one meaning.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) tail: Tail,
    pub(super) consequence: Consequence,
    /// The sides that have it, one bit each; see [`Side::bit`].
    pub(super) sides: u8,
}

/// Everything that the two sets mention.
#[derive(Debug, Default)]
pub(super) struct Space {
    terms: Interned<Term>,
    sets: Interned<Vec<u32>>,
    axes: Interned<Axis>,
    conditions: Interned<Terms>,
    tails: Interned<(Clause, Tail)>,
    entries: Vec<Entry>,
    /// Rules for workloads with other labels than were given, with the sides that have them.
    hidden: HashMap<(Labels, Consequence, Tail), u8>,
}

/// What a policy selects workloads by.
type Labels = Vec<(Box<str>, Box<str>)>;

impl Space {
    pub(super) fn term(&mut self, term: Term) -> u32 {
        self.terms.number(term)
    }

    /// A set by what is in it: its name does not count.
    pub(super) fn set(&mut self, terms: Vec<u32>) -> u32 {
        self.sets.number(sorted(terms))
    }

    pub(super) fn clause(&mut self, axis: Axis, own: Vec<u32>, sets: Vec<u32>, sense: Sense) -> Clause {
        let axis = self.axes.number(axis);
        Clause { condition: self.conditions.number(Terms { axis, own: sorted(own), sets: sorted(sets) }), sense }
    }

    pub(super) fn add(&mut self, consequence: Consequence, clauses: Vec<Clause>, side: Side) {
        let tail = self.tail(clauses);
        self.entries.push(Entry { tail, consequence, sides: side.bit() });
    }

    /// Adds a rule that is not looked at.
    pub(super) fn hide(&mut self, labels: Labels, rule: (Consequence, Vec<Clause>), side: Side) {
        let tail = self.tail(rule.1);
        *self.hidden.entry((labels, rule.0, tail)).or_default() |= side.bit();
    }

    /// Whether rules of the question at hand that are not looked at differ; the next one begins without any.
    pub(super) fn take_hidden_difference(&mut self) -> bool {
        self.hidden.drain().any(|(_, sides)| sides != Side::Base.bit() | Side::Head.bit())
    }

    fn tail(&mut self, mut clauses: Vec<Clause>) -> Tail {
        clauses.sort_unstable_by(|a, b| (self.axis_of(*a), a).cmp(&(self.axis_of(*b), b)));
        clauses.dedup();
        let mut tail = Tail::DONE;
        for clause in clauses.into_iter().rev() {
            tail = Tail(self.tails.number((clause, tail)) + 1);
        }
        tail
    }

    pub(super) fn take_entries(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.entries)
    }

    /// The first clause of a tail, and what is left after it.
    pub(super) fn first(&self, tail: Tail) -> Option<(Clause, Tail)> {
        let number = tail.0.checked_sub(1)?;
        self.tails.get(number).copied()
    }

    pub(super) fn axis_of(&self, clause: Clause) -> Option<&Axis> {
        self.conditions.get(clause.condition).and_then(|terms| self.axes.get(terms.axis))
    }

    /// The terms of a condition by number; one may come twice.
    pub(super) fn terms_of(&self, condition: u32) -> impl Iterator<Item = u32> {
        let terms = self.conditions.get(condition);
        let in_sets = terms.into_iter().flat_map(|terms| &terms.sets).filter_map(|set| self.sets.get(*set)).flatten();
        terms.into_iter().flat_map(|terms| &terms.own).chain(in_sets).copied()
    }

    pub(super) fn term_of(&self, number: u32) -> Option<&Term> {
        self.terms.get(number)
    }
}

/// Values by number, each held once.
#[derive(Debug)]
struct Interned<T> {
    numbers: HashMap<Rc<T>, u32>,
    values: Vec<Rc<T>>,
}

impl<T: Eq + Hash> Interned<T> {
    fn number(&mut self, value: T) -> u32 {
        if let Some(number) = self.numbers.get(&value) {
            return *number;
        }
        let next = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
        let value = Rc::new(value);
        self.values.push(Rc::clone(&value));
        self.numbers.insert(value, next);
        next
    }

    fn get(&self, number: u32) -> Option<&T> {
        self.values.get(number as usize).map(Rc::as_ref)
    }
}

impl<T> Default for Interned<T> {
    fn default() -> Self {
        Self { numbers: HashMap::new(), values: Vec::new() }
    }
}

fn sorted(mut numbers: Vec<u32>) -> Vec<u32> {
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}
