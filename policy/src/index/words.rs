//! The words of all patterns as numbers, while the index is made: comparing and sorting patterns is then comparing numbers.
//! Deciding needs none of it.
//!
//! These tables hash with a function of their own, which is faster to load by. Who sends requests puts nothing into them.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A table of the index.
pub(super) type Map<K, V> = HashMap<K, V, BuildHasherDefault<Fold>>;

/// Multiplies for each eight bytes, and mixes at the end: tables use the lowest and the highest bits.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Fold(u64);

impl Fold {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(FACTOR);
    }
}

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        let (words, tail) = bytes.as_chunks::<8>();
        for word in words {
            self.add(u64::from_le_bytes(*word));
        }
        let tail = match (bytes.last_chunk::<8>(), bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
            (Some(last), ..) => u64::from_le_bytes(*last),
            (None, Some(first), Some(last)) => {
                (u64::from(u32::from_le_bytes(*first)) << 32) | u64::from(u32::from_le_bytes(*last))
            }
            _ => tail.iter().fold(0, |all, byte| (all << 8) | u64::from(*byte)),
        };
        self.add(tail ^ (bytes.len() as u64).wrapping_mul(FACTOR));
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.add(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(FACTOR);
        mixed ^ (mixed >> 29)
    }
}

/// The number of a word.
pub(super) type Word = u32;

/// Every segment that some pattern names.
#[derive(Debug, Default)]
pub(super) struct Words {
    numbers: Map<Box<str>, Word>,
}

impl Words {
    /// The number of a word of the policy.
    pub(super) fn learn(&mut self, word: &str) -> Word {
        if let Some(known) = self.numbers.get(word) {
            return *known;
        }
        let number = small(self.numbers.len());
        self.numbers.insert(word.into(), number);
        number
    }

    /// All of them, by number.
    pub(super) fn texts(&self) -> Vec<&str> {
        let mut texts = vec![""; self.numbers.len()];
        for (text, number) in &self.numbers {
            if let Some(place) = texts.get_mut(*number as usize) {
                *place = text;
            }
        }
        texts
    }
}

/// A number of something. Four thousand million of anything do not fit into memory.
pub(super) fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// How many segments of a pattern the index knows. What walks over them needs a place for each, on the stack.
pub(super) const DEPTH: usize = 32;

/// Odd, and without regularity: the fraction of the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::BuildHasher;

    use super::*;

    #[test]
    fn similar_words_have_different_hashes() {
        let hash = BuildHasherDefault::<Fold>::default();
        let words =
            (0..50_000).flat_map(|n| [format!("{n}"), format!("team-{n:05}"), format!("{n:020}"), "x".repeat(n / 50)]);
        let distinct: HashSet<String> = words.collect();
        for bits in [u64::MAX, u64::MAX >> 24] {
            let hashes: HashSet<u64> = distinct.iter().map(|word| hash.hash_one(word.as_str()) & bits).collect();
            assert!(hashes.len() + 2 >= distinct.len(), "{} of {}", hashes.len(), distinct.len());
        }
        let low: HashSet<u64> = distinct.iter().map(|word| hash.hash_one(word.as_str()) & 0xffff).collect();
        assert!(low.len() > 55_000, "{}", low.len());
    }
}
