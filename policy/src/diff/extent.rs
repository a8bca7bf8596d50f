//! Some elements of an axis in the words of the policies: these patterns, without those.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::cells::Universe;

/// Part of an axis: the values that one of the pieces matches.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Numbers {
    pub(super) pieces: Vec<PieceNumbers>,
}

/// What matches all of some terms and none of others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct PieceNumbers {
    /// None: everything.
    pub(super) all: Vec<u32>,
    pub(super) except: Vec<u32>,
}

/// A universe with its elements by term.
pub(super) struct Describer<'a> {
    universe: &'a Universe,
    members: HashMap<u32, Vec<u32>>,
}

impl<'a> Describer<'a> {
    pub(super) fn new(universe: &'a Universe) -> Self {
        let mut members: HashMap<u32, Vec<u32>> = HashMap::new();
        for (number, element) in (0_u32..).zip(&universe.elements) {
            for term in &element.terms {
                members.entry(*term).or_default().push(number);
            }
        }
        Self { universe, members }
    }

    /// The chosen elements and nothing else; `None` when they are all there is.
    pub(super) fn describe(&self, chosen: &BTreeSet<u32>) -> Option<Numbers> {
        if !self.universe.is_cut && chosen.len() == self.universe.elements.len() {
            return None;
        }
        let mut left = chosen.clone();
        let mut pieces: Vec<PieceNumbers> = Vec::new();
        let is_whole =
            |term| !self.universe.cut.contains(&term) && self.members(term).iter().all(|e| chosen.contains(e));
        for term in self.cover(chosen, is_whole) {
            self.members(term).iter().for_each(|element| {
                left.remove(element);
            });
            pieces.push(PieceNumbers { all: vec![term], except: Vec::new() });
        }
        let mut narrowed = BTreeSet::new();
        while let Some(element) = left.first().copied() {
            let (piece, covered) = self.narrowed(element, chosen);
            covered.iter().for_each(|one| {
                left.remove(one);
            });
            left.remove(&element);
            narrowed.extend(covered);
            pieces.push(piece);
        }
        // A wider pattern without its exceptions may have taken in what was named before it.
        let is_taken_in = |term: u32| self.members(term).iter().all(|one| narrowed.contains(one));
        pieces.retain(|piece| match (piece.all.as_slice(), piece.except.as_slice()) {
            ([term], []) => !is_taken_in(*term),
            _ => true,
        });
        Some(Numbers { pieces })
    }

    /// Few of the terms that may be used, the widest first, each matching some of the elements that no other matches.
    fn cover(&self, all: &BTreeSet<u32>, is_usable: impl Fn(u32) -> bool) -> Vec<u32> {
        let mut candidates: BTreeMap<u32, usize> = BTreeMap::new();
        for element in all {
            for term in self.terms(*element) {
                *candidates.entry(*term).or_default() += 1;
            }
        }
        let mut within: Vec<(u32, usize)> = candidates.into_iter().filter(|(term, _)| is_usable(*term)).collect();
        within.sort_by_key(|(term, count)| (std::cmp::Reverse(*count), *term));
        let mut covered: BTreeSet<u32> = BTreeSet::new();
        within.retain(|(term, _)| {
            let before = covered.len();
            covered.extend(self.members(*term).iter().filter(|element| all.contains(element)));
            covered.len() > before
        });
        within.into_iter().map(|(term, _)| term).collect()
    }

    /// A pattern that matches an element, without what is not chosen; and the chosen elements that it covers.
    fn narrowed(&self, element: u32, chosen: &BTreeSet<u32>) -> (PieceNumbers, BTreeSet<u32>) {
        let mut candidates: Vec<Option<u32>> = self.terms(element).iter().copied().map(Some).collect();
        candidates.retain(|term| term.is_none_or(|term| !self.universe.cut.contains(&term)));
        if !self.universe.is_cut {
            candidates.push(None);
        }
        let others = |term: &Option<u32>| -> BTreeSet<u32> {
            self.within(*term).filter(|element| !chosen.contains(element)).collect()
        };
        candidates.sort_by_cached_key(|term| (others(term).len(), term.is_none(), *term));
        for term in candidates {
            let others = others(&term);
            let inside: BTreeSet<u32> = self.within(term).collect();
            // An exception may reach out of the pattern, but must take nothing away that is chosen inside.
            let spares = |term| !self.members(term).iter().any(|one| inside.contains(one) && chosen.contains(one));
            let except = self.cover(&others, spares);
            // Thousands may be excepted, so that each is not held against each.
            let excepted: HashSet<u32> = except.iter().flat_map(|term| self.members(*term)).copied().collect();
            if others.iter().all(|one| excepted.contains(one)) {
                let covered = inside.intersection(chosen).copied().collect();
                return (PieceNumbers { all: term.into_iter().collect(), except }, covered);
            }
        }
        self.exactly(element)
    }

    /// One element by every term that it matches and those that others match beside them.
    fn exactly(&self, element: u32) -> (PieceNumbers, BTreeSet<u32>) {
        let mut all = self.terms(element).to_vec();
        let alike = |all: &[u32]| -> Vec<u32> {
            let everything = 0..u32::try_from(self.universe.elements.len()).unwrap_or(u32::MAX);
            let candidates: Vec<u32> = match all.first() {
                Some(term) => self.members(*term).to_vec(),
                None => everything.collect(),
            };
            candidates.into_iter().filter(|one| all.iter().all(|term| self.has(*one, *term))).collect()
        };
        let same = alike(&all);
        let mut index = 0;
        while all.len() > 1 && index < all.len() {
            let mut fewer = all.clone();
            fewer.remove(index);
            let stays_whole = !self.universe.is_cut || fewer.iter().any(|term| !self.universe.cut.contains(term));
            if stays_whole && alike(&fewer) == same { all = fewer } else { index += 1 }
        }
        let mut except: BTreeSet<u32> = BTreeSet::new();
        for other in same.into_iter().filter(|one| *one != element) {
            let extra = self.terms(other).iter().find(|term| !self.has(element, **term));
            if !except.iter().any(|term| self.has(other, *term)) {
                except.extend(extra);
            }
        }
        (PieceNumbers { all, except: except.into_iter().collect() }, BTreeSet::from([element]))
    }

    fn within(&self, term: Option<u32>) -> Box<dyn Iterator<Item = u32> + '_> {
        match term {
            Some(term) => Box::new(self.members(term).iter().copied()),
            None => Box::new((0_u32..).take(self.universe.elements.len())),
        }
    }

    fn members(&self, term: u32) -> &[u32] {
        self.members.get(&term).map(Vec::as_slice).unwrap_or_default()
    }

    fn terms(&self, element: u32) -> &[u32] {
        self.universe.elements.get(element as usize).map(|element| element.terms.as_slice()).unwrap_or_default()
    }

    fn has(&self, element: u32, term: u32) -> bool {
        self.terms(element).binary_search(&term).is_ok()
    }
}
