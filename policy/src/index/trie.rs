//! Tries over segments, all in one piece of memory: what hangs at the patterns that match a sequence of segments.
//!
//! What is looked at together lies together, so that a decision waits for memory two or three times and not twenty times. A
//! node is followed by its only child, and a reference to a node is the place where it lies. `writer.rs` makes it.
//!
//! A segment leads on by its literal and by the wildcard for one segment, so several ways can be open at once. They wait
//! in an array with a place for each depth; no node is come to twice, so that no sequence of segments costs more than
//! looking at every pattern would.
//!
//! ```text
//! node     flags, [END: list], [REST: list], then by the flags
//!          LITERAL | ONE    place of the child by wildcard, name, child by that literal
//!          LITERAL          name, child
//!          TABLE | ONE      place of the child by wildcard, table
//!          TABLE            table
//!          ONE              child
//! list     length in bytes as a short number, bytes
//! name     length in bytes as a short number, bytes
//! table    length of the longest name as a short number, bits, slots from the next place on, 2^bits of them
//! slot     the lower half of the hash, place of a name with its child behind; no place: empty
//! short    one byte, or from 128 on several, of seven bits each
//! place    four bytes, in units of eight
//! ```

use super::hash::Seed;
use super::segments::Segments;
use super::words::{DEPTH, Word};

/// What a segment of a pattern must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Step {
    /// This word.
    Word(Word),
    /// This number, as a name of four bytes.
    Number(u32),
    /// Any one that is not empty.
    One,
    /// All that are left, at least one; always the last.
    Rest,
}

/// Finished tries.
#[derive(Debug)]
pub(super) struct Tries {
    pub(super) bytes: Vec<u8>,
    pub(super) seed: Seed,
}

/// Where a node lies: a byte of the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Node(usize);

/// Where a node lies that others refer to, in units of [`UNIT`]: 32 GiB are within reach, and no documents make that many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Place(pub(super) u32);

impl Place {
    pub(super) fn node(self) -> Node {
        Node(self.0 as usize * UNIT)
    }
}

impl Node {
    fn is_some(self) -> bool {
        self != NOWHERE
    }
}

impl Tries {
    /// The node that this literal leads to.
    pub(super) fn step(&self, node: Node, name: &[u8]) -> Option<Node> {
        let (flags, at) = (self.byte(node.0), self.behind_lists(node));
        Some(self.literal(flags, at + size_of_reference(flags), name)).filter(|next| next.is_some())
    }

    /// What hangs at the pattern that ends here.
    pub(super) fn end(&self, node: Node) -> &[u8] {
        if self.byte(node.0) & END == 0 { &[] } else { self.list(node.0 + 1).0 }
    }

    /// Shows `found` what hangs at every pattern that matches.
    pub(super) fn visit(&self, node: Node, segments: &Segments<'_>, found: &mut impl FnMut(&[u8])) {
        let mut waiting = [(Place(0), 0_u32); DEPTH];
        let mut count = 0;
        let (mut node, mut depth) = (node, 0);
        loop {
            let (literal, one) = match segments.get(depth as usize) {
                Some(segment) => self.pass(node, segment, found),
                None => {
                    self.stop(node, segments.more, found);
                    (NOWHERE, NOWHERE)
                }
            };
            depth += 1;
            if literal.is_some() {
                node = literal;
                if let Some(place) = waiting.get_mut(count).filter(|_| one.is_some()) {
                    *place = (Place(super::words::small(one.0 / UNIT)), depth);
                    count += 1;
                }
                continue;
            }
            if one.is_some() {
                node = one;
                continue;
            }
            let Some(last) = count.checked_sub(1) else { return };
            count = last;
            let (place, at) = waiting.get(last).copied().unwrap_or_default();
            (node, depth) = (place.node(), at);
        }
    }

    /// What is found where the segments end, or were cut off; no pattern goes on from there.
    fn stop(&self, node: Node, more: bool, found: &mut impl FnMut(&[u8])) {
        let (flags, mut at) = (self.byte(node.0), node.0 + 1);
        if flags & END != 0 {
            let (list, behind) = self.list(at);
            at = behind;
            if !more {
                found(list);
            }
        }
        if flags & REST != 0 && more {
            found(self.list(at).0);
        }
    }

    /// What is found on the way, and the nodes to go on to: by literal, and by wildcard.
    fn pass(&self, node: Node, segment: &[u8], found: &mut impl FnMut(&[u8])) -> (Node, Node) {
        let (flags, mut at) = (self.byte(node.0), node.0 + 1);
        if flags & END != 0 {
            at = self.list(at).1;
        }
        if flags & REST != 0 {
            let (list, behind) = self.list(at);
            at = behind;
            found(list);
        }
        let mut one = NOWHERE;
        if flags & ONE != 0 && !segment.is_empty() {
            one = if flags & (LITERAL | TABLE) == 0 { Node(at) } else { Place(self.number(at)).node() };
        }
        (self.literal(flags, at + size_of_reference(flags), segment), one)
    }

    fn literal(&self, flags: u8, at: usize, name: &[u8]) -> Node {
        if flags & LITERAL != 0 {
            return self.behind_name(at, name);
        }
        if flags & TABLE != 0 { self.look_up(at, name) } else { NOWHERE }
    }

    /// The child behind a name, if it is this one.
    fn behind_name(&self, at: usize, name: &[u8]) -> Node {
        let (length, start) = self.short(at);
        let end = start + length;
        if length == name.len() && self.bytes.get(start..end) == Some(name) { Node(end) } else { NOWHERE }
    }

    fn look_up(&self, at: usize, name: &[u8]) -> Node {
        let (longest, at) = self.short(at);
        // So that hashing a segment of a request takes no longer than comparing it with what policies name.
        if name.len() > longest {
            return NOWHERE;
        }
        let (bits, start) = (u32::from(self.byte(at)), (at + 1).next_multiple_of(UNIT));
        let slots = self.bytes.get(start..start + (UNIT << bits)).map(|slots| slots.as_chunks::<UNIT>().0);
        let slots = slots.unwrap_or_default();
        let hash = self.seed.hash(name);
        let first = first_slot(hash, bits);
        for slot in slots.iter().cycle().skip(first).take(slots.len()) {
            let (tag, place) = read_slot(slot);
            if place == Place(0) {
                return NOWHERE;
            }
            if tag == tag_of(hash) {
                let child = self.behind_name(place.node().0, name);
                if child.is_some() {
                    return child;
                }
            }
        }
        NOWHERE
    }

    fn behind_lists(&self, node: Node) -> usize {
        let (flags, mut at) = (self.byte(node.0), node.0 + 1);
        for flag in [END, REST] {
            if flags & flag != 0 {
                at = self.list(at).1;
            }
        }
        at
    }

    fn list(&self, at: usize) -> (&[u8], usize) {
        let (length, start) = self.short(at);
        let end = start + length;
        (self.bytes.get(start..end).unwrap_or_default(), end)
    }

    fn short(&self, at: usize) -> (usize, usize) {
        let first = self.byte(at);
        if first < 128 {
            return (usize::from(first), at + 1);
        }
        let (mut number, mut at, mut shift) = (0, at, 0);
        loop {
            let byte = self.byte(at);
            number |= (usize::from(byte) & 127) << shift;
            at += 1;
            shift += 7;
            if byte < 128 || shift >= usize::BITS {
                return (number, at);
            }
        }
    }

    fn number(&self, at: usize) -> u32 {
        let bytes = self.bytes.get(at..).and_then(<[u8]>::first_chunk);
        bytes.copied().map(u32::from_le_bytes).unwrap_or_default()
    }

    fn byte(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or_default()
    }
}

fn size_of_reference(flags: u8) -> usize {
    if flags & ONE != 0 && flags & (LITERAL | TABLE) != 0 { size_of::<u32>() } else { 0 }
}

/// The upper bits choose where to begin, the lower half tells names apart.
pub(super) fn first_slot(hash: u64, bits: u32) -> usize {
    usize::try_from(hash >> (u64::BITS - bits)).unwrap_or_default()
}

pub(super) fn tag_of(hash: u64) -> u32 {
    (hash & u64::from(u32::MAX)) as u32
}

fn read_slot(slot: &[u8; UNIT]) -> (u32, Place) {
    let both = u64::from_le_bytes(*slot);
    (tag_of(both), Place(tag_of(both >> 32)))
}

/// What places count in, and a slot of a table: it never lies across two lines of a cache.
pub(super) const UNIT: usize = 8;

/// Something hangs at the pattern that ends here.
pub(super) const END: u8 = 1;
/// Something hangs at the pattern that takes all that are left here.
pub(super) const REST: u8 = 2;
/// There is a child by wildcard.
pub(super) const ONE: u8 = 4;
/// There is one child by literal.
pub(super) const LITERAL: u8 = 8;
/// There are several.
pub(super) const TABLE: u8 = 16;

/// The first bytes are no node: they read as one without anything.
const NOWHERE: Node = Node(0);
