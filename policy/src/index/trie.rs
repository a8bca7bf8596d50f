//! Tries over segments, all in one piece of memory: what hangs at the patterns that match a sequence of segments.
//!
//! What is looked at together lies together, so that a decision waits for memory two or three times and not twenty times. A
//! node is followed by its only child, and a reference to a node is the place where it lies. `writer.rs` makes it.
//!
//! The small functions that take it apart are inlined: as calls, with what they return in memory, they added a
//! quarter to the instructions of a decision.
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

/// A node, and all that lies behind it. Without bytes it leads nowhere.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Node<'a>(&'a [u8]);

/// Where a node lies that others refer to, in units of [`UNIT`]: 32 GiB are within reach, and no documents make that many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Place(pub(super) u32);

impl Tries {
    /// The node at a place.
    pub(super) fn node(&self, place: Place) -> Node<'_> {
        Node(self.bytes.get(place.0 as usize * UNIT..).unwrap_or_default())
    }

    /// The node that this literal leads to.
    pub(super) fn step<'a>(&'a self, node: Node<'a>, name: &[u8]) -> Option<Node<'a>> {
        let Parts { flags, behind, .. } = Parts::of(node)?;
        self.literal(flags, behind, name)
    }

    /// Shows `found` what hangs at every pattern that matches.
    pub(super) fn visit<'a>(&'a self, node: Node<'a>, segments: &Segments<'_>, found: &mut impl FnMut(&[u8])) {
        let mut waiting = [(Place(0), 0_u32); DEPTH];
        let mut count = 0;
        let (mut node, mut depth) = (node, 0);
        loop {
            let ways = match segments.get(depth as usize) {
                Some(segment) => self.pass(node, segment, found),
                None => {
                    stop(node, segments.more, found);
                    Ways::NONE
                }
            };
            depth += 1;
            if let Some(next) = ways.only {
                if let Some(place) = waiting.get_mut(count).filter(|_| ways.other != Place(0)) {
                    *place = (ways.other, depth);
                    count += 1;
                }
                node = next;
                continue;
            }
            if ways.other != Place(0) {
                node = self.node(ways.other);
                continue;
            }
            let Some(last) = count.checked_sub(1) else { return };
            count = last;
            let (place, at) = waiting.get(last).copied().unwrap_or_default();
            (node, depth) = (self.node(place), at);
        }
    }

    /// What is found on the way, and the ways to go on.
    fn pass<'a>(&'a self, node: Node<'a>, segment: &[u8], found: &mut impl FnMut(&[u8])) -> Ways<'a> {
        let Some(Parts { flags, rest, one, behind, .. }) = Parts::of(node) else { return Ways::NONE };
        if flags & REST != 0 {
            found(rest);
        }
        if flags & (LITERAL | TABLE) != 0 {
            let other = if segment.is_empty() { Place(0) } else { one };
            return Ways { only: self.literal(flags, behind, segment), other };
        }
        let only = Some(Node(behind)).filter(|_| flags & ONE != 0 && !segment.is_empty());
        Ways { only, other: Place(0) }
    }

    #[inline(always)]
    fn literal<'a>(&'a self, flags: u8, behind: &'a [u8], name: &[u8]) -> Option<Node<'a>> {
        if flags & LITERAL != 0 {
            return behind_name(behind, name);
        }
        if flags & TABLE != 0 { self.look_up(behind, name) } else { None }
    }

    fn look_up<'a>(&'a self, table: &'a [u8], name: &[u8]) -> Option<Node<'a>> {
        let (longest, table) = short(table)?;
        // So that hashing a segment of a request takes no longer than comparing it with what policies name.
        if name.len() > longest {
            return None;
        }
        let (bits, table) = table.split_first()?;
        let start = (self.bytes.len() - table.len()).next_multiple_of(UNIT);
        let slots = self.bytes.get(start..start + (UNIT << bits))?.as_chunks::<UNIT>().0;
        let hash = self.seed.hash(name);
        let mut at = first_slot(hash, u32::from(*bits));
        // A third of the slots is empty.
        for _ in 0..slots.len() {
            let (tag, place) = read_slot(slots.get(at)?);
            if place == Place(0) {
                return None;
            }
            if tag == tag_of(hash)
                && let Some(child) = behind_name(self.node(place).0, name)
            {
                return Some(child);
            }
            at = (at + 1) % slots.len();
        }
        None
    }
}

impl<'a> Node<'a> {
    /// What hangs at the pattern that ends here.
    pub(super) fn end(self) -> &'a [u8] {
        Parts::of(self).map(|parts| parts.end).unwrap_or_default()
    }
}

/// The ways on from a node.
struct Ways<'a> {
    /// By literal, or by wildcard if that is the only way.
    only: Option<Node<'a>>,
    /// By wildcard beside literals.
    other: Place,
}

impl Ways<'_> {
    const NONE: Self = Self { only: None, other: Place(0) };
}

/// A node, taken apart.
struct Parts<'a> {
    flags: u8,
    end: &'a [u8],
    rest: &'a [u8],
    one: Place,
    /// The name, the table or the child.
    behind: &'a [u8],
}

impl<'a> Parts<'a> {
    #[inline(always)]
    fn of(Node(bytes): Node<'a>) -> Option<Self> {
        let (flags, bytes) = bytes.split_first()?;
        let mut parts = Self { flags: *flags, end: &[], rest: &[], one: Place(0), behind: bytes };
        if flags & END != 0 {
            (parts.end, parts.behind) = list(parts.behind)?;
        }
        if flags & REST != 0 {
            (parts.rest, parts.behind) = list(parts.behind)?;
        }
        if flags & ONE != 0 && flags & (LITERAL | TABLE) != 0 {
            let (place, behind) = parts.behind.split_first_chunk()?;
            (parts.one, parts.behind) = (Place(u32::from_le_bytes(*place)), behind);
        }
        Some(parts)
    }
}

/// What is found where the segments end, or were cut off; no pattern goes on from there.
fn stop(node: Node<'_>, more: bool, found: &mut impl FnMut(&[u8])) {
    let Some(Parts { flags, end, rest, .. }) = Parts::of(node) else { return };
    if more && flags & REST != 0 {
        found(rest);
    }
    if !more && flags & END != 0 {
        found(end);
    }
}

/// The child behind a name, if it is this one.
#[inline(always)]
fn behind_name<'a>(bytes: &'a [u8], name: &[u8]) -> Option<Node<'a>> {
    let (length, bytes) = short(bytes)?;
    if length != name.len() {
        return None;
    }
    let (found, child) = bytes.split_at_checked(length)?;
    (found == name).then_some(Node(child))
}

#[inline(always)]
fn list(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, bytes) = short(bytes)?;
    bytes.split_at_checked(length)
}

#[inline(always)]
fn short(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (first, mut bytes) = bytes.split_first()?;
    if *first < 128 {
        return Some((usize::from(*first), bytes));
    }
    let mut number = usize::from(first & 127);
    let (mut last, mut shift) = (first, 7);
    while last & 128 != 0 && shift < usize::BITS {
        (last, bytes) = bytes.split_first()?;
        number |= usize::from(last & 127) << shift;
        shift += 7;
    }
    Some((number, bytes))
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
