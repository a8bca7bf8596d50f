//! Writes tries: sorted patterns in, the memory that `trie.rs` describes and reads out.

use super::hash::Seed;
use super::trie::{END, LITERAL, ONE, Place, REST, Step, TABLE, Tries, UNIT, first_slot, tag_of};
use super::words::small;

/// What a trie is made of. Its parts are sorted by their steps; those with the same steps are written as one list.
pub(super) trait Content {
    /// A pattern with something that hangs at it.
    type Part;

    /// What the part asks of the segment at a depth; `None` when it ends before.
    fn step(&self, part: &Self::Part, depth: usize) -> Option<Step>;

    /// The bytes of what hangs at one place.
    fn list(&mut self, parts: &[Self::Part]) -> Vec<u8>;

    /// A list was written, and here are its bytes.
    fn written(&mut self, parts: &[Self::Part], at: usize);

    /// A node without children was written: what will be looked at next can be written behind it.
    fn behind(&mut self, writer: &mut Writer<'_>);
}

/// Tries that are being written.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    bytes: Vec<u8>,
    texts: &'a [&'a str],
    seed: Seed,
}

impl<'a> Writer<'a> {
    /// `texts` are the words by their numbers.
    pub(super) fn new(texts: &'a [&'a str], seed: Seed) -> Self {
        // What stands for no node.
        Self { bytes: vec![0; UNIT], texts, seed }
    }

    /// Writes a trie, and says where its root is; the place of none if it is empty.
    pub(super) fn trie<C: Content>(&mut self, content: &mut C, parts: &[C::Part]) -> Place {
        if parts.is_empty() {
            return Place::default();
        }
        let root = self.place();
        self.node(content, parts, 0);
        root
    }

    /// Writes a place where zeroes were.
    pub(super) fn refer(&mut self, at: usize, place: Place) {
        if let Some(reference) = self.bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
            *reference = place.0.to_le_bytes();
        }
    }

    pub(super) fn finish(self) -> Tries {
        let Self { mut bytes, seed, .. } = self;
        bytes.shrink_to_fit();
        Tries { bytes, seed }
    }

    /// As deep as the longest pattern, which is bounded.
    fn node<C: Content>(&mut self, content: &mut C, parts: &[C::Part], depth: usize) {
        let is_at = |part: &C::Part, last: Option<Step>| content.step(part, depth) <= last;
        let (ends, parts) = parts.split_at(parts.partition_point(|part| is_at(part, None)));
        let (literals, parts) = parts.split_at(parts.partition_point(|part| is_at(part, Some(LAST_LITERAL))));
        let (one, rest) = parts.split_at(parts.partition_point(|part| is_at(part, Some(Step::One))));
        let named: Vec<&[C::Part]> =
            literals.chunk_by(|a, b| content.step(a, depth) == content.step(b, depth)).collect();

        let flag = |flag: u8, parts: &[C::Part]| if parts.is_empty() { 0 } else { flag };
        let by_name = match named.len() {
            0 => 0,
            1 => LITERAL,
            _ => TABLE,
        };
        self.bytes.push(flag(END, ends) | flag(REST, rest) | flag(ONE, one) | by_name);
        for list in [ends, rest].into_iter().filter(|list| !list.is_empty()) {
            self.list(content, list);
        }
        let reference = self.bytes.len();
        if !one.is_empty() && by_name != 0 {
            self.bytes.extend([0; size_of::<u32>()]);
        }
        match named.as_slice() {
            [] if one.is_empty() => content.behind(self),
            [] => self.node(content, one, depth + 1),
            [only] => self.child(content, only, depth),
            several => self.table(content, several, depth),
        }
        if !one.is_empty() && by_name != 0 {
            let place = self.place();
            self.refer(reference, place);
            self.node(content, one, depth + 1);
        }
    }

    fn child<C: Content>(&mut self, content: &mut C, parts: &[C::Part], depth: usize) {
        let name = self.name_of(content, parts, depth);
        self.short(name.len());
        self.bytes.extend(name);
        self.node(content, parts, depth + 1);
    }

    fn table<C: Content>(&mut self, content: &mut C, children: &[&[C::Part]], depth: usize) {
        let longest = children.iter().map(|parts| self.name_of(content, parts, depth).len()).max();
        self.short(longest.unwrap_or_default());
        // A third stays empty: looking for what is not there takes four looks then, nearly always in one line.
        let bits = (children.len() * 3 / 2).next_power_of_two().trailing_zeros();
        self.bytes.push(bits.to_le_bytes()[0]);
        let start = {
            self.place();
            self.bytes.len()
        };
        let slots = 1_usize << bits;
        self.bytes.resize(self.bytes.len() + slots * UNIT, 0);
        for parts in children {
            let hash = self.seed.hash(&self.name_of(content, parts, depth));
            let place = self.place();
            let slot = (0..slots).map(|step| (first_slot(hash, bits) + step) % slots);
            let mut free = slot.map(|slot| start + slot * UNIT).filter(|at| self.is_free(*at));
            if let Some(at) = free.next() {
                self.refer(at, Place(tag_of(hash)));
                self.refer(at + size_of::<u32>(), place);
            }
            self.child(content, parts, depth);
        }
    }

    fn list<C: Content>(&mut self, content: &mut C, parts: &[C::Part]) {
        let list = content.list(parts);
        self.short(list.len());
        let at = self.bytes.len();
        self.bytes.extend(list);
        content.written(parts, at);
    }

    /// The name of a literal step.
    fn name_of<C: Content>(&self, content: &C, parts: &[C::Part], depth: usize) -> Vec<u8> {
        let step = parts.first().and_then(|part| content.step(part, depth));
        match step {
            Some(Step::Word(word)) => self.texts.get(word as usize).map(|text| text.as_bytes().to_vec()),
            Some(Step::Number(number)) => Some(number.to_le_bytes().to_vec()),
            Some(Step::One | Step::Rest) | None => None,
        }
        .unwrap_or_default()
    }

    fn is_free(&self, slot: usize) -> bool {
        self.bytes.get(slot..slot + UNIT) == Some(&[0; UNIT])
    }

    fn short(&mut self, number: usize) {
        let mut left = number;
        while left >= 128 {
            self.bytes.push((left & 127) as u8 | 128);
            left >>= 7;
        }
        self.bytes.push(left as u8);
    }

    /// The next place that can be referred to.
    fn place(&mut self) -> Place {
        self.bytes.resize(self.bytes.len().next_multiple_of(UNIT), 0);
        Place(small(self.bytes.len() / UNIT))
    }
}

/// Behind all literals in order.
const LAST_LITERAL: Step = Step::Number(u32::MAX);
