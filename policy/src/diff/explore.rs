//! Finds every point at which two sets decide differently, cell by cell.
//!
//! The space is cut axis by axis. At each axis the rules that are left are told apart by the values they match; for each
//! group of values that none of them tells apart the search goes on with the rules that match it. It ends where both
//! sides are left with rules of the same meaning, so that what has not changed is never looked at closely. A cell in
//! which only one answer is possible for each side is asked of both policies, and told only if they differ.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::cells::{Budget, Focus, TooMuch, Universe};
use super::extent::{Describer, Numbers};
use super::point::Point;
use super::space::{Clause, Entry, Space, Tail};
use super::term::Axis;
use super::{Question, Said, Side, Sides, Witness};
use crate::policy::Policy;
use crate::rules::Sense;

/// A part of the space in which the answers differ.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) key: Key,
    pub(super) witness: Witness,
}

/// What makes two cells one when they differ in one axis alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The axes in which it is not everything, the first last.
    pub(super) extents: Vec<(Axis, Numbers)>,
    pub(super) said: Sides<Said>,
}

/// What a search has found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) cells: Vec<Cell>,
    /// Workloads that were too much to look at.
    pub(super) left_out: Vec<Numbers>,
    /// Nothing can be said of any workload that is not told of.
    pub(super) gave_up: bool,
}

/// One search.
pub(super) struct Search<'a> {
    pub(super) space: &'a Space,
    pub(super) policies: Sides<&'a Policy>,
    pub(super) question: Question,
    pub(super) now: i64,
}

/// Entries that are left, with what the clauses on the axis at hand say of them.
struct Sorted {
    /// By the first condition that must hold.
    wanting: HashMap<u32, Vec<usize>>,
    /// No condition must hold.
    others: Vec<usize>,
    /// The clauses on this axis and what is left after them, for each entry.
    steps: Vec<(Vec<Clause>, Tail)>,
}

impl Search<'_> {
    /// Searches the whole space.
    pub(super) fn run(&self, entries: Vec<Entry>, budget: &mut Budget) -> Found {
        let mut found = Found::default();
        let entries = settle(entries);
        match self.next_axis(&entries) {
            None => found.cells = self.leaf(&entries, &mut Point::default()),
            Some(Axis::Workload) => {
                if self.workloads(&entries, budget, &mut found).is_err() {
                    found.gave_up = true;
                }
            }
            Some(axis) => match self.cut(&axis, &entries, &mut Point::default(), budget) {
                Ok(cells) => found.cells = cells,
                Err(TooMuch) => found.gave_up = true,
            },
        }
        found
    }

    /// Workload by workload, so that one that is too much to look at leaves the others.
    fn workloads(&self, entries: &[Entry], budget: &mut Budget, found: &mut Found) -> Result<(), TooMuch> {
        let axis = Axis::Workload;
        let sorted = self.sort(&axis, entries);
        let universe = self.universe(&axis, &sorted, entries, budget)?;
        let mut merged = Merged::default();
        let mut left_out = BTreeSet::new();
        for (conditions, elements) in self.groups(&sorted, &universe) {
            let mut share = budget.share(MOST_STEPS_OF_A_WORKLOAD);
            let before = share.left();
            let Some(value) = elements.first().and_then(|first| universe.elements.get(*first as usize)) else {
                continue;
            };
            let mut point = Point::default();
            point.push(axis.clone(), value.value.clone());
            let cells =
                share.spend(1).and_then(|()| self.descend(&sorted, entries, &conditions, &mut point, &mut share));
            budget.take(before - share.left());
            match cells {
                Ok(cells) => merged.add(cells, &elements),
                Err(TooMuch) => left_out.extend(elements),
            }
        }
        let describer = Describer::new(&universe);
        if !left_out.is_empty() {
            match describer.describe(&left_out) {
                Some(numbers) => found.left_out.push(numbers),
                None => found.gave_up = true,
            }
        }
        found.cells = merged.finish(&axis, &describer);
        Ok(())
    }

    fn cut(
        &self,
        axis: &Axis,
        entries: &[Entry],
        point: &mut Point,
        budget: &mut Budget,
    ) -> Result<Vec<Cell>, TooMuch> {
        if point.depth() > MOST_AXES {
            return Err(TooMuch);
        }
        budget.spend(STEPS_OF_A_NODE + entries.len())?;
        let sorted = self.sort(axis, entries);
        let universe = self.universe(axis, &sorted, entries, budget)?;
        let mut merged = Merged::default();
        for (conditions, elements) in self.groups(&sorted, &universe) {
            let Some(value) = elements.first().and_then(|first| universe.elements.get(*first as usize)) else {
                continue;
            };
            point.push(axis.clone(), value.value.clone());
            let cells = self.descend(&sorted, entries, &conditions, point, budget);
            point.pop();
            let cells = cells?;
            budget.spend(STEPS_OF_A_CELL * cells.len())?;
            merged.add(cells, &elements);
        }
        Ok(merged.finish(axis, &Describer::new(&universe)))
    }

    /// Goes on with the entries that match where exactly these conditions hold.
    fn descend(
        &self,
        sorted: &Sorted,
        entries: &[Entry],
        conditions: &HashSet<u32>,
        point: &mut Point,
        budget: &mut Budget,
    ) -> Result<Vec<Cell>, TooMuch> {
        let wanting = conditions.iter().filter_map(|condition| sorted.wanting.get(condition)).flatten();
        let candidates: Vec<usize> = wanting.chain(&sorted.others).copied().collect();
        budget.spend(candidates.len())?;
        let left = candidates.into_iter().filter_map(|index| {
            let ((clauses, tail), entry) = (sorted.steps.get(index)?, entries.get(index)?);
            let holds = |clause: &Clause| conditions.contains(&clause.condition) == (clause.sense == Sense::Is);
            clauses.iter().all(holds).then_some(Entry { tail: *tail, ..*entry })
        });
        let left = settle(left.collect());
        match self.next_axis(&left) {
            None => Ok(self.leaf(&left, point)),
            Some(axis) => self.cut(&axis, &left, point, budget),
        }
    }

    /// Asks both policies at a point that stands for a cell.
    fn leaf(&self, entries: &[Entry], point: &mut Point) -> Vec<Cell> {
        if is_same(entries) {
            return Vec::new();
        }
        let asked = point.ask(self.policies, self.question, self.now);
        let cell = asked.filter(|(said, _)| said.base.answer != said.head.answer);
        let key = |said| Key { extents: Vec::new(), said };
        cell.map(|(said, witness)| Cell { key: key(said), witness }).into_iter().collect()
    }

    /// The axis to cut next; `None` when nothing is left to tell apart.
    fn next_axis(&self, entries: &[Entry]) -> Option<Axis> {
        if is_same(entries) {
            return None;
        }
        let clauses = entries.iter().filter_map(|entry| self.space.first(entry.tail));
        clauses.filter_map(|(clause, _)| self.space.axis_of(clause)).min().cloned()
    }

    fn sort(&self, axis: &Axis, entries: &[Entry]) -> Sorted {
        let mut sorted = Sorted { wanting: HashMap::new(), others: Vec::new(), steps: Vec::new() };
        for (index, entry) in entries.iter().enumerate() {
            let (mut clauses, mut tail) = (Vec::new(), entry.tail);
            while let Some((clause, rest)) = self.space.first(tail) {
                if self.space.axis_of(clause) != Some(axis) {
                    break;
                }
                clauses.push(clause);
                tail = rest;
            }
            match clauses.iter().find(|clause| clause.sense == Sense::Is) {
                Some(clause) => sorted.wanting.entry(clause.condition).or_default().push(index),
                None => sorted.others.push(index),
            }
            sorted.steps.push((clauses, tail));
        }
        sorted
    }

    fn universe(
        &self,
        axis: &Axis,
        sorted: &Sorted,
        entries: &[Entry],
        budget: &mut Budget,
    ) -> Result<Universe, TooMuch> {
        let conditions: HashSet<u32> =
            sorted.steps.iter().flat_map(|(clauses, _)| clauses).map(|c| c.condition).collect();
        let mut terms: Vec<u32> = Vec::new();
        for condition in conditions {
            terms.extend(self.space.terms_of(condition));
            budget.spend(1)?;
        }
        terms.sort_unstable();
        terms.dedup();
        // Where no rule of one side alone can match, there is nothing to find.
        let focus = self.focus(sorted, entries);
        let focus = focus.as_ref().map_or(Focus::Everything, Focus::On);
        Universe::of(axis, &terms, focus, (self.space, self.now), budget)
    }

    /// The terms that rules of one side alone ask for; `None` when one of them asks for none.
    fn focus(&self, sorted: &Sorted, entries: &[Entry]) -> Option<HashSet<u32>> {
        let mut conditions = HashSet::new();
        for ((clauses, _), entry) in sorted.steps.iter().zip(entries).filter(|(_, entry)| entry.sides != BOTH) {
            debug_assert!(entry.sides != 0);
            conditions.insert(clauses.iter().find(|clause| clause.sense == Sense::Is)?.condition);
        }
        Some(conditions.into_iter().flat_map(|condition| self.space.terms_of(condition)).collect())
    }

    /// The elements by the conditions that hold for them.
    fn groups(&self, sorted: &Sorted, universe: &Universe) -> Vec<(HashSet<u32>, Vec<u32>)> {
        let mut conditions: Vec<u32> =
            sorted.steps.iter().flat_map(|(clauses, _)| clauses).map(|c| c.condition).collect();
        conditions.sort_unstable();
        conditions.dedup();
        let mut of_term: HashMap<u32, Vec<u32>> = HashMap::new();
        for condition in conditions {
            for term in self.space.terms_of(condition) {
                of_term.entry(term).or_default().push(condition);
            }
        }
        let mut numbers: HashMap<(Vec<u32>, Option<u32>), usize> = HashMap::new();
        let mut groups: Vec<(HashSet<u32>, Vec<u32>)> = Vec::new();
        for (number, element) in (0_u32..).zip(&universe.elements) {
            let mut hold: Vec<u32> =
                element.terms.iter().filter_map(|term| of_term.get(term)).flatten().copied().collect();
            hold.sort_unstable();
            hold.dedup();
            let alone = element.is_doubtful.then_some(number);
            let index = *numbers.entry((hold, alone)).or_insert_with_key(|(hold, _)| {
                groups.push((hold.iter().copied().collect(), Vec::new()));
                groups.len() - 1
            });
            if let Some((_, elements)) = groups.get_mut(index) {
                elements.push(number);
            }
        }
        groups
    }
}

/// Cells of several groups of values, those together that differ in nothing else.
#[derive(Default)]
struct Merged {
    numbers: HashMap<Key, usize>,
    cells: Vec<(Cell, BTreeSet<u32>)>,
}

impl Merged {
    fn add(&mut self, cells: Vec<Cell>, elements: &[u32]) {
        for cell in cells {
            let next = self.cells.len();
            let index = *self.numbers.entry(cell.key.clone()).or_insert(next);
            match self.cells.get_mut(index) {
                Some((_, all)) => all.extend(elements),
                None => self.cells.push((cell, elements.iter().copied().collect())),
            }
        }
    }

    fn finish(self, axis: &Axis, describer: &Describer<'_>) -> Vec<Cell> {
        let mut cells = Vec::new();
        for (mut cell, elements) in self.cells {
            if let Some(numbers) = describer.describe(&elements) {
                cell.key.extents.push((axis.clone(), numbers));
            }
            cells.push(cell);
        }
        cells
    }
}

/// What is left of both sides, once, without what can no longer make a difference.
fn settle(mut entries: Vec<Entry>) -> Vec<Entry> {
    for side in [Side::Base, Side::Head] {
        let bit = side.bit();
        let of_side = |entry: &&mut Entry| entry.sides & bit != 0;
        let done = entries.iter().filter(|entry| entry.sides & bit != 0 && entry.tail == Tail::DONE);
        // Of what is certain the strongest counts, and nothing that is weaker.
        let certain = done.map(|entry| entry.consequence).min();
        for entry in entries.iter_mut().filter(of_side) {
            let is_beaten = certain.is_some_and(|certain| {
                entry.consequence > certain || (entry.consequence == certain && entry.tail != Tail::DONE)
            });
            if is_beaten {
                entry.sides &= !bit;
            }
        }
    }
    entries.retain(|entry| entry.sides != 0);
    entries.sort_unstable_by_key(|entry| (entry.tail, entry.consequence));
    entries.dedup_by(|next, kept| {
        let same = (next.tail, next.consequence) == (kept.tail, kept.consequence);
        if same {
            kept.sides |= next.sides;
        }
        same
    });
    entries
}

/// Whether one side has rules of a meaning that the other has not.
pub(super) fn differ(entries: Vec<Entry>) -> bool {
    !is_same(&settle(entries))
}

/// Whether both sides are left with the same.
fn is_same(entries: &[Entry]) -> bool {
    entries.iter().all(|entry| entry.sides == BOTH)
}

const BOTH: u8 = Side::Base.bit() | Side::Head.bit();
/// Ten seconds or so. A workload that takes more has rules that cut each other in one axis after the other.
const MOST_STEPS_OF_A_WORKLOAD: usize = 100_000_000;
/// What sorting at one axis costs beside the entries.
const STEPS_OF_A_NODE: usize = 50;
/// What it costs to ask both policies, and to put cells together.
const STEPS_OF_A_CELL: usize = 50;
/// Header fields make the axes many; each is a level of recursion.
const MOST_AXES: usize = 64;
