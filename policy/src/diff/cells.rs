//! The values of one axis that a set of terms can tell apart.
//!
//! One element stands for all values that match the same terms. Which terms those are is found by looking at the values
//! where a term begins or ends to match; it is asked of the terms themselves, so that none is taken for another.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::space::Space;
use super::term::{Axis, Case, How, Kind, Reading, Segments, Term, Text, Value};
use super::walk::Walk;
use crate::request::bare_host;

/// All values that match the same terms.
#[derive(Debug)]
pub(super) struct Element {
    /// One of them.
    pub(super) value: Value<'static>,
    /// The terms that it matches, in ascending order.
    pub(super) terms: Vec<u32>,
    /// It is a path with several readings, so that it cannot stand for others: they are decided by one.
    pub(super) is_doubtful: bool,
}

/// Every element of an axis, or those that matter.
#[derive(Debug, Default)]
pub(super) struct Universe {
    pub(super) elements: Vec<Element>,
    /// Whether there are values that no element stands for.
    pub(super) is_cut: bool,
    /// The terms that may match such a value.
    pub(super) cut: HashSet<u32>,
}

/// What is worth a look.
#[derive(Debug, Clone, Copy)]
pub(super) enum Focus<'a> {
    Everything,
    /// Values that one of these terms may match.
    On(&'a HashSet<u32>),
}

impl Focus<'_> {
    pub(super) fn is_on(self, mut terms: impl Iterator<Item = u32>) -> bool {
        match self {
            Self::Everything => true,
            Self::On(all) => terms.any(|term| all.contains(&term)),
        }
    }
}

/// How much more may be looked at.
#[derive(Debug)]
pub(super) struct Budget {
    left: usize,
}

/// Comparing them takes more than is worth it.
#[derive(Debug, Clone, Copy)]
pub(super) struct TooMuch;

impl Budget {
    pub(super) fn new(left: usize) -> Self {
        Self { left }
    }

    /// A budget for a part, at most what is left.
    pub(super) fn share(&self, most: usize) -> Self {
        Self { left: self.left.min(most) }
    }

    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// Takes off what a part has spent.
    pub(super) fn take(&mut self, steps: usize) {
        self.left = self.left.saturating_sub(steps);
    }

    pub(super) fn spend(&mut self, steps: usize) -> Result<(), TooMuch> {
        self.left = self.left.checked_sub(steps).ok_or(TooMuch)?;
        Ok(())
    }
}

impl Universe {
    /// The elements of an axis under these terms.
    pub(super) fn of(
        axis: &Axis,
        terms: &[u32],
        focus: Focus<'_>,
        (space, now): (&Space, i64),
        budget: &mut Budget,
    ) -> Result<Self, TooMuch> {
        let known: Vec<(u32, &Term)> = terms.iter().filter_map(|term| Some((*term, space.term_of(*term)?))).collect();
        budget.spend(known.len())?;
        match axis {
            Axis::Workload | Axis::Caller => Walk::new(Kind::Identity, segments(&known), focus).universe(budget),
            Axis::Path => Walk::new(Kind::Path, segments(&known), focus).universe(budget),
            Axis::Port => Self::by_value(&known, ports(&known), budget),
            Axis::Source | Axis::Destination => Self::by_value(&known, addresses(&known), budget),
            Axis::Time => Self::by_value(&known, moments(&known, now), budget),
            Axis::Method => Self::by_value(&known, texts(&known, &METHODS, None), budget),
            Axis::Host => Self::by_value(&known, hosts(&known), budget),
            Axis::Header(_) | Axis::ServerName => {
                Self::by_value(&known, texts(&known, &WORDS, Some(Value::Absent)), budget)
            }
        }
    }

    /// The elements that the candidates stand for; the first of each is kept.
    fn by_value(known: &[(u32, &Term)], candidates: Vec<Value<'static>>, budget: &mut Budget) -> Result<Self, TooMuch> {
        let exact = Lookup::of(known);
        let mut found = HashSet::new();
        let mut universe = Self::default();
        for value in candidates {
            budget.spend(1 + exact.others.len())?;
            let mut terms: Vec<u32> = exact.terms(&value);
            terms.sort_unstable();
            if found.insert(terms.clone()) {
                universe.elements.push(Element { value, terms, is_doubtful: false });
            }
        }
        Ok(universe)
    }
}

/// Terms by the one value they match, as far as they match one; there may be thousands.
struct Lookup<'a> {
    ports: HashMap<u16, Vec<u32>>,
    texts: HashMap<String, Vec<(u32, &'a Term)>>,
    others: Vec<(u32, &'a Term)>,
}

impl<'a> Lookup<'a> {
    fn of(known: &[(u32, &'a Term)]) -> Self {
        let mut lookup = Self { ports: HashMap::new(), texts: HashMap::new(), others: Vec::new() };
        for (number, term) in known {
            match term {
                Term::Port(port) => lookup.ports.entry(*port).or_default().push(*number),
                Term::Text(Text { how: How::Exact, text, .. }) => {
                    lookup.texts.entry(text.to_ascii_lowercase()).or_default().push((*number, term));
                }
                Term::Text(_) | Term::Host(..) | Term::Segments(_) | Term::Network(_) | Term::Until(_) => {
                    lookup.others.push((*number, term));
                }
            }
        }
        lookup
    }

    fn terms(&self, value: &Value<'_>) -> Vec<u32> {
        let exact = match value {
            Value::Text(text) => self.texts.get(&text.to_ascii_lowercase()).map(Vec::as_slice).unwrap_or_default(),
            Value::Absent | Value::Port(_) | Value::Address(_) | Value::Moment(_) => &[],
        };
        let tested =
            exact.iter().chain(&self.others).filter(|(_, term)| term.matches(value)).map(|(number, _)| *number);
        let ports = match value {
            Value::Port(port) => self.ports.get(port).map(Vec::as_slice).unwrap_or_default(),
            Value::Text(_) | Value::Absent | Value::Address(_) | Value::Moment(_) => &[],
        };
        tested.chain(ports.iter().copied()).collect()
    }
}

fn segments<'a>(known: &[(u32, &'a Term)]) -> HashMap<u32, &'a Segments> {
    let only = known.iter().filter_map(|(number, term)| match term {
        Term::Segments(pattern) => Some((*number, pattern)),
        Term::Text(_) | Term::Host(..) | Term::Port(_) | Term::Network(_) | Term::Until(_) => None,
    });
    only.collect()
}

/// Those that are named, and the first that is not.
fn ports(known: &[(u32, &Term)]) -> Vec<Value<'static>> {
    let mut named: Vec<u16> = known.iter().filter_map(|(_, term)| port(term)).collect();
    named.sort_unstable();
    named.dedup();
    let other = (8080..=u16::MAX).chain(1..8080).find(|port| named.binary_search(port).is_err());
    named.into_iter().chain(other).map(Value::Port).collect()
}

fn port(term: &Term) -> Option<u16> {
    match term {
        Term::Port(port) => Some(*port),
        Term::Segments(_) | Term::Text(_) | Term::Host(..) | Term::Network(_) | Term::Until(_) => None,
    }
}

/// Where a network begins and where it has ended: between two such places all addresses are alike.
fn addresses(known: &[(u32, &Term)]) -> Vec<Value<'static>> {
    let mut all = vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    for (_, term) in known {
        let Term::Network(network) = term else { continue };
        let after = match network.broadcast() {
            IpAddr::V4(last) => u32::from(last).checked_add(1).map(|next| IpAddr::V4(next.into())),
            IpAddr::V6(last) => u128::from(last).checked_add(1).map(|next| IpAddr::V6(next.into())),
        };
        all.push(network.network());
        all.extend(after);
    }
    // What is written as IPv6 for IPv4 is judged as IPv4.
    all.into_iter().map(|address| Value::Address(address.to_canonical())).collect()
}

fn moments(known: &[(u32, &Term)], now: i64) -> Vec<Value<'static>> {
    let mut ends: Vec<i64> = known
        .iter()
        .filter_map(|(_, term)| match term {
            Term::Until(end) => Some(*end),
            Term::Segments(_) | Term::Text(_) | Term::Host(..) | Term::Port(_) | Term::Network(_) => None,
        })
        .filter(|end| *end > now)
        .collect();
    ends.sort_unstable();
    ends.dedup();
    std::iter::once(now).chain(ends).map(Value::Moment).collect()
}

/// Texts that are named, in lower case too where case is not what it seems; every beginning with every end; and another.
fn texts(known: &[(u32, &Term)], words: &[&str], special: Option<Value<'static>>) -> Vec<Value<'static>> {
    let patterns = || {
        known.iter().filter_map(|(_, term)| match term {
            Term::Text(pattern) | Term::Host(pattern, _) => Some(pattern),
            Term::Segments(_) | Term::Port(_) | Term::Network(_) | Term::Until(_) => None,
        })
    };
    let ending =
        |how: How| std::iter::once("").chain(patterns().filter(move |one| one.how == how).map(|one| &*one.text));
    let fresh = fresh(patterns(), words);
    let exact: Vec<&Text> = patterns().filter(|one| one.how == How::Exact).collect();
    let lower = exact.iter().filter(|one| one.case == Case::Ignored).map(|one| one.text.to_ascii_lowercase());
    let mut all: Vec<String> = exact.iter().map(|one| one.text.to_string()).chain(lower).collect();
    let (mut prefixes, mut suffixes): (Vec<&str>, Vec<&str>) =
        (ending(How::Prefix).collect(), ending(How::Suffix).collect());
    for ends in [&mut prefixes, &mut suffixes] {
        ends.sort_unstable();
        ends.dedup();
    }
    for prefix in prefixes {
        all.extend(suffixes.iter().map(|suffix| format!("{prefix}{fresh}{suffix}")));
    }
    all.into_iter().map(|text| Value::Text(text.into())).chain(special).collect()
}

/// Hosts that are named, with a port too where that makes a difference; another, and none.
fn hosts(known: &[(u32, &Term)]) -> Vec<Value<'static>> {
    let mut all = texts(known, &WORDS, None);
    let is_port_seen = known.iter().any(|(_, term)| matches!(term, Term::Host(_, Reading::AsSent | Reading::Either)));
    let named = known.iter().filter_map(|(_, term)| match term {
        Term::Host(pattern, _) => pattern.text.rsplit_once(':').map(|(_, port)| port),
        Term::Segments(_) | Term::Text(_) | Term::Port(_) | Term::Network(_) | Term::Until(_) => None,
    });
    let ports: BTreeSet<&str> = named.filter(|port| !port.is_empty()).take(MOST_PORTS).chain(["1"]).collect();
    let with_ports = |value: &Value<'static>| match value {
        Value::Text(host) if is_port_seen && bare_host(host) == host => {
            ports.iter().map(|port| Value::Text(format!("{host}:{port}").into())).collect()
        }
        Value::Text(_) | Value::Absent | Value::Port(_) | Value::Address(_) | Value::Moment(_) => Vec::new(),
    };
    let ported: Vec<Value<'static>> = all.iter().flat_map(with_ports).collect();
    all.extend(ported);
    all.push(Value::Text("".into()));
    all
}

fn fresh<'a>(patterns: impl Iterator<Item = &'a Text>, words: &[&str]) -> String {
    let (exact, ends): (Vec<&Text>, Vec<&Text>) = patterns.partition(|pattern| pattern.how == How::Exact);
    let texts = |all: Vec<&'a Text>| all.into_iter().map(|pattern| &*pattern.text).collect::<Vec<_>>();
    apart(&texts(exact), &texts(ends), words)
}

/// A text that is none of the exact ones, and makes no longer beginning or end match than the one it is set beside.
pub(super) fn apart(exact: &[&str], ends: &[&str], words: &[&str]) -> String {
    let is_apart = |word: &&&str| {
        let (first, last) = (word.chars().next(), word.chars().last());
        let same = |c: char| [first, last].iter().flatten().any(|end| end.eq_ignore_ascii_case(&c));
        ends.iter().all(|text| !text.chars().any(same))
    };
    let word = words.iter().find(is_apart).or(words.last()).copied().unwrap_or_default();
    let mut fresh = word.to_owned();
    while exact.iter().any(|text| text.eq_ignore_ascii_case(&fresh)) {
        fresh.push_str(word);
    }
    fresh
}

/// Words that begin and end with rare letters, for values that no pattern names.
pub(super) const WORDS: [&str; 6] = ["other", "zq", "q0q", "x9x", "7y7", "z6k2z"];
/// Ports in patterns of hosts; more than a few tell nothing apart.
const MOST_PORTS: usize = 16;
const METHODS: [&str; 4] = ["OTHER", "ZQ", "Q0Q", "X9X"];
