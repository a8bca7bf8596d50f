//! What hangs at the groups of callers: a trie for each, of targets first, and of paths below them.
//!
//! What hangs where a target ends is for the connection, and nothing more follows; what hangs at patterns below it is for
//! requests, whose path has one segment at least.

use super::entries::{Entry, is_of_use};
use super::identities::Group;
use super::trie::{Place, Step};
use super::words::small;
use super::writer::{Content, Writer};

/// Tries that are being made.
#[derive(Debug, Default)]
pub(super) struct RootsBuilder {
    hung: Vec<Hung>,
    paths: Vec<Vec<Step>>,
}

/// An entry with the way to it. The order is by caller, and then by the steps.
#[derive(Debug, Clone, Copy)]
struct Hung {
    caller: Group,
    target: Group,
    path: u32,
    entry: Entry,
}

impl RootsBuilder {
    /// A pattern that entries can hang at; without steps, for connections.
    pub(super) fn path(&mut self, steps: Vec<Step>) -> u32 {
        self.paths.push(steps);
        small(self.paths.len() - 1)
    }

    pub(super) fn hang(&mut self, (target, caller): (Group, Group), path: u32, entry: Entry) {
        self.hung.push(Hung { caller, target, path, entry });
    }

    /// How many segments paths can be told apart by.
    pub(super) fn deepest(&self) -> usize {
        let without_rest = |path: &Vec<Step>| path.len() - usize::from(path.last() == Some(&Step::Rest));
        self.paths.iter().map(without_rest).max().unwrap_or_default()
    }

    /// For this many groups.
    pub(super) fn sorted(self, groups: usize) -> Roots {
        let Self { mut hung, paths } = self;
        let steps = Steps(paths);
        hung.sort_unstable_by(|a, b| {
            let path = |hung: &Hung| steps.of(hung);
            (a.caller, a.target)
                .cmp(&(b.caller, b.target))
                .then_with(|| path(a).cmp(path(b)))
                .then(a.entry.cmp(&b.entry))
        });
        Roots { hung, steps, placed: vec![None; groups], awaited: Vec::new(), references: Vec::new() }
    }
}

/// Tries that are being written, each behind what refers to it first.
#[derive(Debug)]
pub(super) struct Roots {
    hung: Vec<Hung>,
    steps: Steps,
    placed: Vec<Option<Place>>,
    awaited: Vec<Group>,
    references: Vec<(usize, Group)>,
}

impl Roots {
    /// Four bytes there are to be the place of this group's trie.
    pub(super) fn refer(&mut self, at: usize, group: Group) {
        self.references.push((at, group));
        self.awaited.push(group);
    }

    /// Writes the tries that were referred to.
    pub(super) fn write_awaited(&mut self, writer: &mut Writer<'_>) {
        for group in std::mem::take(&mut self.awaited) {
            self.write(group, writer);
        }
    }

    /// Writes the trie of a group, if that was not done, and says where it is.
    pub(super) fn write(&mut self, group: Group, writer: &mut Writer<'_>) -> Place {
        if let Some(place) = self.placed.get(group as usize).copied().flatten() {
            return place;
        }
        let start = self.hung.partition_point(|hung| hung.caller < group);
        let end = self.hung.partition_point(|hung| hung.caller <= group);
        let place = writer.trie(&mut self.steps, self.hung.get(start..end).unwrap_or_default());
        if let Some(placed) = self.placed.get_mut(group as usize) {
            *placed = Some(place);
        }
        place
    }

    /// Fills in all places.
    pub(super) fn finish(mut self, writer: &mut Writer<'_>) {
        self.write_awaited(writer);
        for (at, group) in std::mem::take(&mut self.references) {
            let place = self.write(group, writer);
            writer.refer(at, place);
        }
    }
}

#[derive(Debug)]
struct Steps(Vec<Vec<Step>>);

impl Steps {
    fn of(&self, hung: &Hung) -> &[Step] {
        self.0.get(hung.path as usize).map(Vec::as_slice).unwrap_or_default()
    }
}

impl Content for Steps {
    type Part = Hung;

    fn step(&self, hung: &Hung, depth: usize) -> Option<Step> {
        match depth.checked_sub(1) {
            None => Some(Step::Number(hung.target)),
            Some(below) => self.of(hung).get(below).copied(),
        }
    }

    fn list(&mut self, hung: &[Hung]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut last: Option<&Entry> = None;
        for Hung { entry, .. } in hung {
            if last.is_none_or(|last| is_of_use(last, entry)) {
                bytes.extend(entry.to_bytes());
                last = Some(entry);
            }
        }
        bytes
    }

    fn written(&mut self, _: &[Hung], _: usize) {}

    fn behind(&mut self, _: &mut Writer<'_>) {}
}
