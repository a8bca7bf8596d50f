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

impl Entry {
    /// How it lies in memory, for [`Wanted::seek`].
    pub(super) fn to_bytes(self) -> [u8; SIZE] {
        let others = u64::from(self.rule) | (u64::from(self.guards) << 32);
        let parts = [self.key.0, self.expires.cast_unsigned(), others].map(u64::to_le_bytes);
        let mut bytes = parts.as_flattened().iter().copied();
        std::array::from_fn(|_| bytes.next().unwrap_or_default())
    }

    fn read(bytes: &[u8; SIZE]) -> Self {
        let part = |at: usize| bytes.as_chunks::<8>().0.get(at).copied().map(u64::from_le_bytes).unwrap_or_default();
        let others = part(2);
        Self {
            key: Key(part(0)),
            rule: (others & u64::from(u32::MAX)) as u32,
            expires: part(1).cast_signed(),
            guards: (others >> 32) as u32,
        }
    }
}

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

    fn port(self) -> u32 {
        (self.0 >> 33) as u32 & (ANY_PORT | (ANY_PORT - 1))
    }

    fn method(self) -> Word {
        (self.0 >> 1) as u32
    }
}

/// Rules that are sought apart: by mode and effect.
pub(super) fn lane(mode: Mode, effect: Effect) -> usize {
    let mode = match mode {
        Mode::Enforce => 0,
        Mode::Audit => 2,
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

/// What is asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    /// How many lanes are looked at.
    pub(super) lanes: usize,
    pub(super) port: u32,
    /// By the last bit of the lane.
    pub(super) methods: [Word; 2],
    pub(super) now: i64,
}

impl Wanted {
    /// Looks through the entries of one place; `holds` checks the guards of a rule.
    pub(super) fn seek(&self, place: &[u8], first: &mut First, holds: &impl Fn(&Entry) -> bool) {
        let entries = place.as_chunks::<SIZE>().0;
        if entries.len() > FEW {
            return self.halve(entries, first, holds);
        }
        for entry in entries.iter().map(Entry::read) {
            let lane = entry.key.lane();
            if self.asks_for(entry.key)
                && entry.expires > self.now
                && !first.is_before(lane, entry.rule)
                && (!entry.key.is_guarded() || holds(&entry))
            {
                first.offer(lane, entry.rule);
            }
        }
    }

    fn asks_for(&self, key: Key) -> bool {
        let [even, odd] = self.methods;
        let method = if key.lane().is_multiple_of(2) { even } else { odd };
        (key.port() == self.port || key.port() == ANY_PORT) && (key.method() == method || key.method() == ANY_METHOD)
    }

    /// Finds the keys that are asked for, instead of asking whether each is.
    fn halve(&self, mut entries: &[[u8; SIZE]], first: &mut First, holds: &impl Fn(&Entry) -> bool) {
        let keys = (0..self.lanes).flat_map(|lane| {
            let methods = [ANY_METHOD, self.methods.get(lane % 2).copied().unwrap_or(ANY_METHOD)];
            [self.port, ANY_PORT].into_iter().flat_map(move |port| methods.map(|method| Key::new(lane, port, method)))
        });
        for key in keys {
            let Some(next) = entries.first().map(Entry::read) else { return };
            if next.key > key.guarded() {
                continue;
            }
            let passed = entries.partition_point(|entry| {
                let entry = Entry::read(entry);
                (entry.key, entry.expires) <= (key, self.now)
            });
            entries = entries.get(passed..).unwrap_or_default();
            if let Some(entry) = entries.first().map(Entry::read).filter(|entry| entry.key == key) {
                first.offer(key.lane(), entry.rule);
                let passed = entries.partition_point(|entry| Entry::read(entry).key <= key);
                entries = entries.get(passed..).unwrap_or_default();
            }
            for entry in entries.iter().map(Entry::read).take_while(|entry| entry.key == key.guarded()) {
                if first.is_before(key.lane(), entry.rule) {
                    break;
                }
                if entry.expires > self.now && holds(&entry) {
                    first.offer(key.lane(), entry.rule);
                    break;
                }
            }
        }
    }
}

/// Of so many entries each is looked at.
const FEW: usize = 8;

const SIZE: usize = 24;

/// No rule.
const NONE: u32 = u32::MAX;
