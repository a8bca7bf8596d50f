//! One change as others see it: which calls, what was said of them, and what is said.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use super::explore::Cell;
use super::extent::Numbers;
use super::space::Space;
use super::term::{Axis, Term, Value};
use super::{Answer, Question, Said, Sides, Witness};
use crate::request::{Connection, Request};
use crate::rules::Mode;

/// Calls that two sets answer differently, all in the same way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Whether policies that are enforced changed, or audited ones, which decide nothing.
    pub mode: Mode,
    /// What kind of call.
    pub traffic: Traffic,
    /// What is said of them.
    pub said: Sides<Said>,
    /// Which calls: an axis that is not here is not restricted.
    pub extents: BTreeMap<Axis, Extent>,
    /// One of them, of which both policies were asked.
    pub witness: Witness,
}

/// What is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Traffic {
    /// HTTP requests.
    Requests,
    /// Opaque TCP connections.
    Opaque,
    /// Opaque TCP connections, and every request on HTTP connections.
    Everything,
}

/// Part of an axis.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Extent {
    /// A value of any of them is meant.
    pub pieces: Vec<Piece>,
}

/// The values that all of some patterns match, and none of others.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Piece {
    all: Vec<Term>,
    except: Vec<Term>,
}

impl Piece {
    /// The patterns that must match, as their authors wrote them; without any, everything is meant. A moment is one
    /// until which it holds.
    #[must_use]
    pub fn patterns(&self) -> Vec<String> {
        self.all.iter().map(Term::to_string).collect()
    }

    /// The patterns that must not match. A moment is one from which on it holds.
    #[must_use]
    pub fn exceptions(&self) -> Vec<String> {
        self.except.iter().map(Term::to_string).collect()
    }

    fn matches(&self, value: &Value<'_>) -> bool {
        self.all.iter().all(|term| term.matches(value)) && !self.except.iter().any(|term| term.matches(value))
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, piece) in self.pieces.iter().enumerate() {
            let and = if index > 0 { ", " } else { "" };
            let all = if piece.all.is_empty() { "any".to_owned() } else { piece.patterns().join(" and ") };
            write!(f, "{and}{all}")?;
            if !piece.except.is_empty() {
                write!(f, " except {}", piece.exceptions().join(" and "))?;
            }
        }
        Ok(())
    }
}

impl Change {
    pub(super) fn new(cell: Cell, question: Question, space: &Space) -> Self {
        let traffic = if question.is_opaque() { Traffic::Opaque } else { Traffic::Requests };
        let extents = cell.key.extents.iter().map(|(axis, numbers)| (axis.clone(), extent(numbers, space)));
        let extents = extents.collect();
        Self { mode: question.mode(), traffic, said: cell.key.said, extents, witness: cell.witness }
    }

    /// Whether calls are allowed that were not.
    #[must_use]
    pub fn is_newly_allowed(&self) -> bool {
        self.mode == Mode::Enforce && self.said.head.answer == Answer::Allow
    }

    /// Whether calls are denied that were allowed.
    #[must_use]
    pub fn is_no_longer_allowed(&self) -> bool {
        self.mode == Mode::Enforce && self.said.base.answer == Answer::Allow
    }

    /// Whether the change is about an opaque TCP connection.
    #[must_use]
    pub fn covers_opaque(&self, connection: &Connection<'_>) -> bool {
        let is_meant = matches!(self.traffic, Traffic::Opaque | Traffic::Everything);
        is_meant && self.extents.iter().all(|(axis, extent)| extent.covers(&of_connection(axis, connection)))
    }

    /// Whether the change is about a request; of a path with several readings and a repeated header nothing is said.
    #[must_use]
    pub fn covers(&self, request: &Request<'_>) -> bool {
        let covers = |(axis, extent): (&Axis, &Extent)| match axis {
            Axis::Path => extent.covers(&Value::Text(request.path.as_str().into())),
            Axis::Method => extent.covers(&Value::Text(request.method.into())),
            Axis::Host => extent.covers(&Value::Text(request.host.into())),
            Axis::Header(name) => {
                let mut values = Vec::new();
                request.headers.visit(name, &mut |value| values.push(String::from_utf8_lossy(value).into_owned()));
                match values.as_slice() {
                    [] => extent.covers(&Value::Absent),
                    [one] => extent.covers(&Value::Text(one.into())),
                    _ => false,
                }
            }
            Axis::Workload
            | Axis::Caller
            | Axis::Port
            | Axis::Source
            | Axis::Destination
            | Axis::ServerName
            | Axis::Time => extent.covers(&of_connection(axis, &request.connection)),
        };
        matches!(self.traffic, Traffic::Requests | Traffic::Everything) && self.extents.iter().all(covers)
    }
}

impl Extent {
    fn covers(&self, value: &Value<'_>) -> bool {
        self.pieces.iter().any(|piece| piece.matches(value))
    }
}

fn of_connection<'a>(axis: &Axis, connection: &Connection<'_>) -> Value<'a> {
    match axis {
        Axis::Workload => Value::Text(connection.workload.to_string().into()),
        Axis::Caller => Value::Text(connection.caller.to_string().into()),
        Axis::Port => Value::Port(connection.port),
        Axis::Source => Value::Address(connection.source.to_canonical()),
        Axis::Destination => Value::Address(connection.destination.to_canonical()),
        Axis::ServerName => connection.server_name.map_or(Value::Absent, |name| Value::Text(name.to_owned().into())),
        Axis::Time => Value::Moment(connection.now),
        Axis::Path | Axis::Method | Axis::Host | Axis::Header(_) => Value::Absent,
    }
}

/// Numbers as the terms they stand for, in an order that does not depend on them.
pub(super) fn extent(numbers: &Numbers, space: &Space) -> Extent {
    let terms = |all: &[u32]| {
        let mut terms: Vec<Term> = all.iter().filter_map(|number| space.term_of(*number)).cloned().collect();
        terms.sort_unstable();
        terms
    };
    let pieces = numbers.pieces.iter().map(|piece| Piece { all: terms(&piece.all), except: terms(&piece.except) });
    let mut pieces: Vec<Piece> = pieces.collect();
    pieces.sort_unstable();
    Extent { pieces }
}

/// Adds changes to others; what is the same for opaque TCP and for every request becomes one.
pub(super) fn unite(changes: &mut Vec<Change>, more: Vec<Change>) {
    let key = |change: &Change| (change.mode, change.said, change.extents.clone());
    let requests = changes.iter().enumerate().filter(|(_, change)| change.traffic == Traffic::Requests);
    let requests: HashMap<_, usize> = requests.map(|(index, change)| (key(change), index)).collect();
    for change in more {
        let same = requests.get(&key(&change)).filter(|_| change.traffic == Traffic::Opaque);
        match same.and_then(|index| changes.get_mut(*index)) {
            Some(same) => same.traffic = Traffic::Everything,
            None => changes.push(change),
        }
    }
}

/// The order in which people read: what is enforced first, then by workload, caller and the rest.
pub(super) fn sort(changes: &mut [Change]) {
    changes.sort_by_cached_key(|change| {
        let words = change.extents.iter().map(|(axis, extent)| (axis.clone(), extent.to_string()));
        let words: Vec<(Axis, String)> = words.collect();
        (change.mode == Mode::Audit, change.is_no_longer_allowed(), words, change.traffic)
    });
}
