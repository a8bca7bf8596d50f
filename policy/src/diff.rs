//! What two sets of policies decide differently: not their text, but who may do what.
//!
//! The space of all calls is cut into cells by the constants and patterns that the two sets mention, as far as they are
//! not the same rules (`diff/explore.rs`). Each change is a part of that space with a call in it that both policies
//! were asked about and answer differently. Together the changes are every call that they answer differently, unless the
//! report says what it left out. What it says of a path and a header holds for paths that have one reading and fields
//! that come once; in doubt a policy denies more.

use std::net::IpAddr;

use spiffe::SpiffeId;

mod cells;
mod change;
mod explore;
mod extent;
mod lower;
mod point;
mod space;
mod term;
mod walk;

pub use change::{Change, Extent, Piece, Traffic};
pub use term::Axis;
pub(crate) use term::moment;

use crate::case::Asked;
use crate::policy::{Policy, RuleRef};
use crate::request::Connection;
use crate::rules::Mode;

use self::cells::Budget;
use self::explore::{Found, Search};
use self::space::Space;

/// Everything that changes.
#[derive(Debug)]
pub struct Diff {
    /// The changes, in the order of workload, caller and what is asked for.
    pub changes: Vec<Change>,
    /// What was not compared, in words: it was too much, or labels are missing. Empty when the report is complete.
    pub left_out: Vec<String>,
    /// Whether rules that only mark changed. They decide nothing, so that nothing else is told of them.
    pub marks_changed: bool,
}

/// One thing for each of the two sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sides<T> {
    /// Of the set before the change.
    pub base: T,
    /// Of the set after it.
    pub head: T,
}

/// What one set says of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Said {
    /// Whether it allows it.
    pub answer: Answer,
    /// The rule that says so of the witness, in its own policy; a default has none. Elsewhere in the extents another rule
    /// that says the same may come first.
    pub rule: Option<RuleRef>,
}

/// Whether a call is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    /// It is allowed.
    Allow,
    /// It is denied.
    Deny,
    /// No audited policy has anything to say; of enforced ones there is always an answer.
    Nothing,
}

/// A call that shows a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// Who calls.
    pub caller: SpiffeId,
    /// Who is called.
    pub workload: SpiffeId,
    /// The application's port.
    pub port: u16,
    /// The caller's address.
    pub source: IpAddr,
    /// The address that is called.
    pub destination: IpAddr,
    /// The server name of the caller's handshake.
    pub server_name: Option<String>,
    /// When, in seconds since 1970.
    pub at: i64,
    /// What is asked for.
    pub asked: Asked,
}

impl Witness {
    /// The connection that it is about.
    #[must_use]
    pub fn connection(&self) -> Connection<'_> {
        Connection {
            caller: &self.caller,
            workload: &self.workload,
            port: self.port,
            source: self.source,
            destination: self.destination,
            server_name: self.server_name.as_deref(),
            now: self.at,
        }
    }
}

/// One of the two sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Base,
    Head,
}

impl Side {
    const fn bit(self) -> u8 {
        match self {
            Self::Base => 1,
            Self::Head => 2,
        }
    }
}

/// What is compared: each is a space of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Question {
    Request(Mode),
    Opaque(Mode),
}

impl Question {
    fn mode(self) -> Mode {
        match self {
            Self::Request(mode) | Self::Opaque(mode) => mode,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Request(Mode::Enforce) => "requests",
            Self::Opaque(Mode::Enforce) => "opaque TCP",
            Self::Request(Mode::Mark) => "requests, as marked",
            Self::Opaque(Mode::Mark) => "opaque TCP, as marked",
            Self::Request(Mode::Audit) => "requests, as audited",
            Self::Opaque(Mode::Audit) => "opaque TCP, as audited",
        }
    }

    fn is_opaque(self) -> bool {
        match self {
            Self::Request(_) => false,
            Self::Opaque(_) => true,
        }
    }
}

/// A set of a hundred thousand rules in which one wide rule adds to all of them stays below it, in 24 s and 1.7 GB.
const MOST_STEPS: usize = 300_000_000;

/// Compares two sets from `now` on, in seconds since 1970. A rule that expires counts until then.
#[must_use]
pub fn compare(base: &Policy, head: &Policy, now: i64) -> Diff {
    compare_within(MOST_STEPS, base, head, now)
}

/// The same with at most so many steps for all questions together. What they do not suffice for is told as left out.
#[must_use]
pub fn compare_within(steps: usize, base: &Policy, head: &Policy, now: i64) -> Diff {
    let policies = Sides { base, head };
    let mut diff = Diff { changes: Vec::new(), left_out: Vec::new(), marks_changed: false };
    let mut budget = Budget::new(steps);
    // What one question mentions most others mention too.
    let mut space = Space::default();
    for mode in [Mode::Enforce, Mode::Audit] {
        for question in [Question::Request(mode), Question::Opaque(mode)] {
            lower::lower(base, Side::Base, question, now, &mut space);
            lower::lower(head, Side::Head, question, now, &mut space);
            let entries = space.take_entries();
            let search = Search { space: &space, policies, question, now };
            let Found { cells, left_out, gave_up } = search.run(entries, &mut budget);
            let changes = cells.into_iter().map(|cell| Change::new(cell, question, &space));
            let changes: Vec<Change> = changes.collect();
            change::unite(&mut diff.changes, changes);
            let what = question.words();
            if space.take_hidden_difference() {
                diff.left_out
                    .push(format!("{what}: workloads with labels that were not given, of which rules changed"));
            }
            diff.left_out.extend(left_out.iter().map(|one| format!("{what}: {}", change::extent(one, &space))));
            if gave_up {
                diff.left_out.push(format!("{what}: every workload that is not told of"));
            }
        }
    }
    for (policy, side) in [(base, Side::Base), (head, Side::Head)] {
        lower::lower(policy, side, Question::Request(Mode::Mark), now, &mut space);
    }
    diff.marks_changed = explore::differ(space.take_entries()) || space.take_hidden_difference();
    change::sort(&mut diff.changes);
    diff
}

#[cfg(test)]
mod tests;
