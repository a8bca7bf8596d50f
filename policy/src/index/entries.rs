//! What hangs in the index: for each place the rules, by kind, port and method, of which the first in force is sought.
//!
//! A rule that needs no further check and lasts no longer than one before it can never be the first. Without those, the
//! rules of one key end later and later, and the first in force is found by halving, however many there are.

use super::words::Word;
use crate::rules::{Effect, Mode};

/// A rule at one place. The order is by key, then by rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) rule: u32,
    /// From then on it is not in force; [`i64::MAX`] is never.
    pub(super) expires: i64,
    /// Which of its conditions are still to be checked; see [`guard`].
    pub(super) guards: u32,
}

/// Kind, port, method and whether there are guards, from the highest bits to the lowest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Key(u64);

impl Key {
    pub(super) fn new(lane: usize, port: u32, method: Word) -> Self {
        Self(((lane as u64) << 50) | (u64::from(port) << 33) | (u64::from(method) << 1))
    }

    pub(super) fn guarded(self) -> Self {
        Self(self.0 | 1)
    }

    fn is_guarded(self) -> bool {
        self.0 & 1 == 1
    }

    fn lane(self) -> usize {
        usize::try_from(self.0 >> 50).unwrap_or(usize::MAX)
    }
}

/// Rules that are sought apart: by mode and effect.
pub(super) fn lane(mode: Mode, effect: Effect) -> usize {
    let mode = match mode {
        Mode::Enforce => 0,
        Mode::Audit => 2,
        // The last, so that the keys can end before it where nothing marks.
        Mode::Mark => 4,
    };
    let effect = match effect {
        Effect::Deny => 0,
        Effect::Allow => 1,
    };
    mode + effect
}

/// How many lanes there are for requests. For connections each is twice: rules that need no request, and the others.
pub(super) const LANES: usize = 6;

/// How many there are when nothing marks.
pub(super) const LANES_THAT_DECIDE: usize = 4;

/// In place of a port, for rules that name none; behind every port.
pub(super) const ANY_PORT: u32 = 1 << 16;

/// In place of a method, for rules that name none; before every method.
pub(super) const ANY_METHOD: Word = 0;

/// The bit of a condition, counting those on the connection first. The last bit is for all that come after.
pub(crate) fn guard(condition: usize) -> u32 {
    1 << condition.min(31)
}

/// Whether the next entry in order is of use beside the one before.
pub(super) fn is_of_use(before: &Entry, next: &Entry) -> bool {
    if before.key != next.key {
        return true;
    }
    if next.key.is_guarded() { before != next } else { next.expires > before.expires }
}

/// The first rule of each lane, of those that were come upon.
#[derive(Debug)]
pub(super) struct First([u32; 2 * LANES]);

impl First {
    pub(super) fn new() -> Self {
        Self([NONE; 2 * LANES])
    }

    pub(super) fn of(&self, lane: usize) -> Option<usize> {
        self.0.get(lane).filter(|rule| **rule != NONE).map(|rule| *rule as usize)
    }

    fn offer(&mut self, lane: usize, rule: u32) {
        if let Some(first) = self.0.get_mut(lane) {
            *first = rule.min(*first);
        }
    }

    fn is_before(&self, lane: usize, rule: u32) -> bool {
        self.0.get(lane).is_some_and(|first| *first < rule)
    }
}

/// The keys that answer a question, in order.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) keys: [Key; KEYS],
    /// How many of them there is something for.
    pub(super) used: usize,
    pub(super) now: i64,
}

pub(super) const KEYS: usize = 4 * LANES;

impl Wanted {
    /// Looks through the entries of one place; `holds` checks the guards of a rule.
    pub(super) fn seek(&self, mut entries: &[Entry], first: &mut First, holds: &impl Fn(&Entry) -> bool) {
        for key in self.keys.into_iter().take(self.used) {
            let Some(next) = entries.first() else { return };
            if next.key > key.guarded() {
                continue;
            }
            let passed = entries.partition_point(|entry| (entry.key, entry.expires) <= (key, self.now));
            entries = entries.get(passed..).unwrap_or_default();
            if let Some(entry) = entries.first().filter(|entry| entry.key == key) {
                first.offer(key.lane(), entry.rule);
                let passed = entries.partition_point(|entry| entry.key <= key);
                entries = entries.get(passed..).unwrap_or_default();
            }
            for entry in entries.iter().take_while(|entry| entry.key == key.guarded()) {
                if first.is_before(key.lane(), entry.rule) {
                    break;
                }
                if entry.expires > self.now && holds(entry) {
                    first.offer(key.lane(), entry.rule);
                    break;
                }
            }
        }
    }
}

/// No rule.
const NONE: u32 = u32::MAX;
