//! Tries over segments, many roots in one: what hangs at the patterns that match a sequence of segments.
//!
//! A segment leads on by its literal and by the wildcard for one segment, so several ways can be open at once. They wait
//! in an array with a place for each depth; no node is come to twice, so that no sequence of segments costs more than
//! looking at every pattern would.

use super::words::{DEPTH, EMPTY, Map, Spelled, UNKNOWN, Word, small};

/// What a segment of a pattern must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Step {
    /// This word.
    Word(Word),
    /// Any one that is not empty.
    One,
    /// All that are left, at least one; always the last.
    Rest,
}

/// A finished trie.
#[derive(Debug)]
pub(super) struct Trie<T> {
    nodes: Vec<Node>,
    /// By node and word, the next node; of nodes with several literals only.
    edges: Map<(u32, Word), u32>,
    items: Vec<T>,
    deepest: usize,
}

/// Most nodes have one literal below them, which is held here so that following it needs no table.
#[derive(Debug, Clone, Copy)]
struct Node {
    literal: Word,
    next: u32,
    one: u32,
    end: Span,
    rest: Span,
}

/// Some items of a list.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Span {
    start: u32,
    length: u32,
}

impl Span {
    pub(super) fn new(start: usize, length: usize) -> Self {
        Self { start: small(start), length: small(length) }
    }

    pub(super) fn of<T>(self, items: &[T]) -> &[T] {
        let start = self.start as usize;
        items.get(start..start + self.length as usize).unwrap_or_default()
    }
}

impl<T> Trie<T> {
    /// How many segments patterns can tell apart.
    pub(super) fn deepest(&self) -> usize {
        self.deepest
    }

    /// What hangs at the pattern without segments.
    pub(super) fn at_root(&self, root: u32) -> &[T] {
        self.nodes.get(root as usize).map(|node| node.end.of(&self.items)).unwrap_or_default()
    }

    /// Shows `found` what hangs at every pattern with segments that matches.
    pub(super) fn visit(&self, root: u32, segments: &Spelled, found: &mut impl FnMut(&[T])) {
        let mut waiting = [(NOWHERE, 0_usize); DEPTH];
        let mut count = 0;
        let mut at = (root, 0);
        loop {
            let ways = self.nodes.get(at.0 as usize).map(|node| self.pass(at, node, segments, found));
            let (literal, one) = ways.unwrap_or((NOWHERE, NOWHERE));
            let next = match (literal, one) {
                (NOWHERE, one) => one,
                (literal, NOWHERE) => literal,
                (literal, one) => {
                    if let Some(place) = waiting.get_mut(count) {
                        *place = (one, at.1 + 1);
                        count += 1;
                    }
                    literal
                }
            };
            if next != NOWHERE {
                at = (next, at.1 + 1);
                continue;
            }
            let Some(last) = count.checked_sub(1) else { return };
            count = last;
            at = waiting.get(last).copied().unwrap_or_default();
        }
    }

    /// What is found at a node, and the nodes to go on to: by literal, and by wildcard.
    fn pass(&self, at: (u32, usize), node: &Node, segments: &Spelled, found: &mut impl FnMut(&[T])) -> (u32, u32) {
        let Some(word) = segments.get(at.1) else {
            // No pattern goes on from where the segments were cut off; what hangs at a root is not for patterns with segments.
            let span = match (segments.more, at.1) {
                (true, _) => node.rest,
                (false, 0) => Span::default(),
                (false, _) => node.end,
            };
            if span.length > 0 {
                found(span.of(&self.items));
            }
            return (NOWHERE, NOWHERE);
        };
        if node.rest.length > 0 {
            found(node.rest.of(&self.items));
        }
        let one = if word == EMPTY { NOWHERE } else { node.one };
        let literal = match node.literal {
            _ if word == UNKNOWN => NOWHERE,
            SEVERAL => self.edges.get(&(at.0, word)).copied().unwrap_or(NOWHERE),
            literal if literal == word => node.next,
            _ => NOWHERE,
        };
        (literal, one)
    }
}

/// A trie that is being made.
#[derive(Debug)]
pub(super) struct TrieBuilder<T> {
    nodes: Vec<Node>,
    edges: Map<(u32, Word), u32>,
    /// Each with its node, and whether it is for all that is left there.
    items: Vec<((u32, bool), T)>,
    deepest: usize,
}

impl<T: Ord + Copy> TrieBuilder<T> {
    pub(super) fn new() -> Self {
        let mut builder = Self { nodes: Vec::new(), edges: Map::default(), items: Vec::new(), deepest: 0 };
        // The node that stands for none.
        builder.root();
        builder
    }

    /// A root of its own.
    pub(super) fn root(&mut self) -> u32 {
        let number = small(self.nodes.len());
        let none = Span::default();
        self.nodes.push(Node { literal: UNKNOWN, next: NOWHERE, one: NOWHERE, end: none, rest: none });
        number
    }

    /// Hangs an item at a pattern of at most [`DEPTH`] segments.
    pub(super) fn insert(&mut self, root: u32, pattern: &[Step], item: T) {
        let mut at = root;
        let mut rest = false;
        for (depth, step) in pattern.iter().enumerate() {
            match step {
                Step::Word(word) => at = self.literal(at, *word),
                Step::One => at = self.one(at),
                Step::Rest => {
                    rest = true;
                    break;
                }
            }
            self.deepest = self.deepest.max(depth + 1);
        }
        self.items.push(((at, rest), item));
    }

    fn literal(&mut self, at: u32, word: Word) -> u32 {
        if let Some(known) = self.edges.get(&(at, word)) {
            return *known;
        }
        let next = self.root();
        self.edges.insert((at, word), next);
        if let Some(node) = self.nodes.get_mut(at as usize) {
            node.literal = if node.literal == UNKNOWN { word } else { SEVERAL };
            node.next = next;
        }
        next
    }

    fn one(&mut self, at: u32) -> u32 {
        match self.nodes.get(at as usize).map(|node| node.one) {
            Some(known) if known != NOWHERE => known,
            _ => {
                let next = self.root();
                if let Some(node) = self.nodes.get_mut(at as usize) {
                    node.one = next;
                }
                next
            }
        }
    }

    /// The trie, each place's items in order. `keep` is given the one before at the same place, if there is one, and says
    /// whether the next is of use beside it.
    pub(super) fn finish(self, keep: impl Fn(&T, &T) -> bool) -> Trie<T> {
        let Self { mut nodes, mut edges, items, deepest } = self;
        let several = |at: u32| nodes.get(at as usize).is_some_and(|node| node.literal == SEVERAL);
        edges.retain(|(at, _), _| several(*at));
        edges.shrink_to_fit();
        let (spans, items) = gather(items, keep);
        for ((at, rest), span) in spans {
            let Some(node) = nodes.get_mut(at as usize) else { continue };
            if rest {
                node.rest = span;
            } else {
                node.end = span;
            }
        }
        nodes.shrink_to_fit();
        Trie { nodes, edges, items, deepest }
    }
}

/// Brings items of the same place together, in order, and leaves out those that are of no use.
pub(super) fn gather<P: Ord + Copy, T: Ord + Copy>(
    mut all: Vec<(P, T)>,
    keep: impl Fn(&T, &T) -> bool,
) -> (Vec<(P, Span)>, Vec<T>) {
    all.sort_unstable();
    let mut spans = Vec::new();
    let mut items: Vec<T> = Vec::new();
    for group in all.chunk_by(|a, b| a.0 == b.0) {
        let start = items.len();
        for (_, item) in group {
            let before = items.get(start..).and_then(<[T]>::last);
            if before.is_none_or(|before| keep(before, item)) {
                items.push(*item);
            }
        }
        if let Some((place, _)) = group.first() {
            spans.push((*place, Span::new(start, items.len() - start)));
        }
    }
    items.shrink_to_fit();
    (spans, items)
}

/// The first node is a root that nobody uses.
const NOWHERE: u32 = 0;

/// In place of a literal: there are several.
const SEVERAL: Word = Word::MAX;
