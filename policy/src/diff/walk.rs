//! Values of an axis of segments, one for each way in which patterns can match: identities and paths.
//!
//! All patterns are read at once, segment by segment. What they have in common at a place (the words they name, and one
//! that none of them names) is all that can tell values apart there, and places with the same patterns left are the same.
//! So every combination of patterns that some value matches is found, once.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use super::cells::{Budget, Element, Focus, TooMuch, Universe, WORDS, apart};
use super::term::{Kind, Part, Segments, Value};
use crate::path::{EncodedSlash, Path};

/// A pattern and how many of its parts have been matched.
type Place = (u32, u16);

/// The patterns of an axis by number.
pub(super) struct Walk<'a> {
    kind: Kind,
    patterns: HashMap<u32, &'a Segments>,
    fresh: String,
    focus: Focus<'a>,
}

/// Segments so far, and where in which patterns they lead.
struct State {
    text: String,
    places: Vec<Place>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(kind: Kind, patterns: HashMap<u32, &'a Segments>, focus: Focus<'a>) -> Self {
        let parts = || patterns.values().flat_map(|pattern| &pattern.parts);
        let words: Vec<&str> = parts().flat_map(Part::words).map(|word| &**word).collect();
        let fresh = apart(&words, &parts().filter_map(Part::end).collect::<Vec<_>>(), &WORDS);
        Self { kind, patterns, fresh, focus }
    }

    /// Finds them all. What no term in focus can match is not gone into.
    pub(super) fn universe(&self, budget: &mut Budget) -> Result<Universe, TooMuch> {
        let mut universe = Universe::default();
        let mut found: HashSet<Vec<u32>> = HashSet::new();
        let mut seen: HashSet<Vec<Place>> = HashSet::new();
        let mut begin: Vec<Place> = self.patterns.keys().map(|number| (*number, 0)).collect();
        begin.sort_unstable();
        let mut queue = VecDeque::from([State { text: String::new(), places: begin }]);
        while let Some(state) = queue.pop_front() {
            let mut keep = |text: &str, matched: Vec<u32>, budget: &mut Budget| {
                budget.spend(1 + matched.len())?;
                if found.insert(matched.clone()) {
                    let text = format!("{}{text}", self.kind.prefix());
                    let is_doubtful = self.kind == Kind::Path && is_doubtful(&text);
                    universe.elements.push(Element { value: Value::Text(text.into()), terms: matched, is_doubtful });
                }
                Ok(())
            };
            for (segment, places) in self.steps(&state, budget)? {
                let text = if state.text.is_empty() { segment.clone() } else { format!("{}/{segment}", state.text) };
                if !self.focus.is_on(places.iter().map(|place| place.0)) {
                    universe.cut.extend(places.iter().map(|place| place.0));
                    universe.is_cut = true;
                    continue;
                }
                // A trust domain alone names no workload.
                let is_value = self.kind == Kind::Path || !state.text.is_empty();
                if is_value {
                    keep(&text, self.matched(&places), budget)?;
                }
                // Nothing follows an empty segment: repeated slashes are merged before anything is decided.
                let mut further: Vec<Place> = places;
                further.retain(|place| self.goes_on(*place));
                if segment.is_empty() || (is_value && further.is_empty()) || !seen.insert(further.clone()) {
                    continue;
                }
                queue.push_back(State { text, places: further });
            }
        }
        Ok(universe)
    }

    /// Every segment that makes a difference, with where it leads.
    fn steps(&self, state: &State, budget: &mut Budget) -> Result<Vec<(String, Vec<Place>)>, TooMuch> {
        let mut by_word: HashMap<&str, Vec<Place>> = HashMap::new();
        let mut wild: Vec<(Option<&Part>, Place)> = Vec::new();
        for (number, at) in &state.places {
            let Some(pattern) = self.patterns.get(number) else { continue };
            if pattern.opens && *at == 0 {
                wild.push((None, (*number, 0)));
            }
            match pattern.parts.get(usize::from(*at)) {
                Some(part @ (Part::Word(_) | Part::Words(_))) => {
                    for word in part.words() {
                        by_word.entry(word).or_default().push((*number, at + 1));
                    }
                }
                Some(part @ (Part::One | Part::Any | Part::Starts(_) | Part::Ends(_) | Part::Glob(_))) => {
                    wild.push((Some(part), (*number, at + 1)));
                }
                None => wild.push((None, (*number, *at))),
            }
        }
        let mut words: Vec<String> = by_word.keys().filter(|word| !word.is_empty()).map(ToString::to_string).collect();
        words.sort_unstable();
        words.extend(self.others(wild.iter().filter_map(|(part, _)| *part)));
        if self.kind == Kind::Path {
            words.push(String::new());
        }
        words.dedup();
        budget.spend(state.places.len() + words.len() * (1 + wild.len()))?;
        let step = |word: String| {
            let through = wild.iter().filter(|(part, _)| part.is_none_or(|part| part.matches(&word)));
            let mut places: Vec<Place> = through.map(|(_, place)| *place).collect();
            places.extend(by_word.get(word.as_str()).into_iter().flatten().copied());
            places.sort_unstable();
            places.dedup();
            (word, places)
        };
        Ok(words.into_iter().map(step).collect())
    }

    /// A segment that no pattern names, and those that only begin or end as some ask for.
    fn others<'p>(&self, parts: impl Iterator<Item = &'p Part>) -> Vec<String> {
        let (mut starts, mut ends, mut globs) = (BTreeSet::from([""]), BTreeSet::from([""]), BTreeSet::new());
        for part in parts {
            match part {
                Part::Starts(text) => drop(starts.insert(text)),
                Part::Ends(text) => drop(ends.insert(text)),
                Part::Glob(glob) => drop(globs.insert(glob.to_string())),
                Part::Word(_) | Part::Words(_) | Part::One | Part::Any => {}
            }
        }
        let mut words: Vec<String> = Vec::new();
        for start in starts {
            words.extend(ends.iter().map(|end| format!("{start}{}{end}", self.fresh)));
        }
        words.extend(globs.iter().flat_map(|glob| [glob.replace('*', ""), glob.replace('*', &self.fresh)]));
        words.retain(|word| !word.is_empty());
        words
    }

    fn matched(&self, places: &[Place]) -> Vec<u32> {
        let whole = |place: &&Place| {
            let pattern = self.patterns.get(&place.0);
            pattern.is_some_and(|pattern| pattern.parts.len() == usize::from(place.1))
        };
        places.iter().filter(whole).map(|place| place.0).collect()
    }

    fn goes_on(&self, (number, at): Place) -> bool {
        let pattern = self.patterns.get(&number);
        pattern.is_some_and(|pattern| pattern.continues || usize::from(at) < pattern.parts.len())
    }
}

/// Whether a server may take the path for another, or is sent another.
fn is_doubtful(text: &str) -> bool {
    match Path::normalise(text.as_bytes(), EncodedSlash::Refuse) {
        Ok(path) => path.as_str() != text || path.readings().is_none_or(|readings| readings.count() > 1),
        Err(_) => true,
    }
}
