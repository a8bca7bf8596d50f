//! What the documents read so far define and refer to, across files.
//!
//! Names may be used before they are defined, so references are numbers from the first mention on; what is still
//! undefined at the end is reported where it was mentioned.

use std::collections::HashMap;
use std::sync::Arc;

use super::service::{self, Declared};
use super::{Collected, DUPLICATE_NAME, UNKNOWN_SET, UNUSED_SET};
use crate::case::Case;
use crate::diagnostic::{Diagnostics, Severity, nearest, quoted};
use crate::identity::IdentityPattern;
use crate::istio::{Allowing, NOTHING_ALLOWS, Spread};
use crate::rules::{Identities, IdentitySet, Origin, PolicyRules, SetRef};
use crate::source::{Position, Source};

/// All that has been read.
#[derive(Default)]
pub(crate) struct Collector {
    pub(crate) policies: Vec<PolicyRules>,
    pub(super) cases: Vec<Case>,
    pub(super) services: Vec<Declared>,
    pub(crate) spread: Spread,
    file: usize,
    file_name: Option<Arc<str>>,
    files: usize,
    sets: Vec<Set>,
    set_numbers: HashMap<String, usize>,
    names: HashMap<Name, Place>,
    duplicates: Vec<Duplicate>,
    /// Policies, by number, that leave everything denied unless another one allows.
    expect_allow: Vec<(usize, Place)>,
}

/// The kind of a document, its namespace and its name.
type Name = (&'static str, Option<Box<str>>, Box<str>);

/// A place in one of the files.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    file: usize,
    position: Position,
}

/// An identity set, defined or only mentioned.
pub(super) struct Set {
    pub(super) set: IdentitySet,
    defined: Option<Place>,
    mentioned: Vec<Place>,
}

struct Duplicate {
    what: String,
    first: Place,
    second: Place,
}

/// What is found once all files have been read.
pub(super) struct Findings<'a, 's> {
    sources: &'a [Source<'s>],
    found: Diagnostics,
}

impl Findings<'_, '_> {
    /// Reports an error at a place in any of the files.
    pub(super) fn error(&mut self, code: &'static str, place: Place, message: String, help: impl Into<String>) {
        self.report(Severity::Error, code, place, message, help.into());
    }

    /// `file:line` of a place.
    pub(super) fn at(&self, place: Place) -> String {
        let file = self.sources.get(place.file).map(Source::name).unwrap_or_default();
        format!("{file}:{}", place.position.line)
    }

    fn report(&mut self, severity: Severity, code: &'static str, place: Place, message: String, help: String) {
        if let Some(source) = self.sources.get(place.file) {
            self.found.push(source.diagnostic(severity, code, place.position, message).help(help));
        }
    }
}

impl Collector {
    /// Goes on to the next file.
    pub(super) fn enter(&mut self, source: &Source<'_>) {
        self.file = self.files;
        self.files += 1;
        self.file_name = Some(source.name().into());
    }

    /// A place in the current file, for records and explanations.
    pub(crate) fn origin(&self, position: Position) -> Origin {
        let file = self.file_name.clone().unwrap_or_default();
        Origin { file, line: position.line, column: position.column }
    }

    /// A place in the current file, for what may turn out to be wrong with it later.
    pub(super) fn place(&self, position: Position) -> Place {
        Place { file: self.file, position }
    }

    /// Defines an identity set.
    pub(super) fn define_set(&mut self, name: &str, members: Vec<IdentityPattern>, position: Position) {
        let place = self.place(position);
        let number = self.number(name);
        let Some(set) = self.sets.get_mut(number) else { return };
        if let Some(first) = set.defined {
            let what = format!("identity set {}", quoted(name));
            self.duplicates.push(Duplicate { what, first, second: place });
            return;
        }
        set.defined = Some(place);
        set.set.members = Identities::new(members, Vec::new());
    }

    /// Refers to an identity set, which may be defined later.
    pub(super) fn refer_to_set(&mut self, name: &str, position: Position) -> SetRef {
        let place = self.place(position);
        let number = self.number(name);
        if let Some(set) = self.sets.get_mut(number) {
            set.mentioned.push(place);
        }
        SetRef(number)
    }

    /// Takes the name of a document of some kind.
    pub(crate) fn take_name(&mut self, kind: &'static str, namespace: Option<&str>, name: &str, position: Position) {
        let second = self.place(position);
        let first = *self.names.entry((kind, namespace.map(Into::into), name.into())).or_insert(second);
        if first != second {
            let what = match namespace {
                Some(namespace) => format!("{kind} {} of namespace {}", quoted(name), quoted(namespace)),
                None => format!("{kind} {} without namespace", quoted(name)),
            };
            self.duplicates.push(Duplicate { what, first, second });
        }
    }

    /// Notes that the policy read last allows nothing, though in its language what it does not deny is allowed.
    pub(crate) fn expect_allow(&mut self, position: Position) {
        let place = Place { file: self.file, position };
        self.expect_allow.extend(self.policies.len().checked_sub(1).map(|number| (number, place)));
    }

    /// Ends the collection; references are judged only if the files are `complete`.
    pub(super) fn finish(self, sources: &[Source<'_>], complete: bool, found: Diagnostics) -> Collected {
        // What could not be read may allow.
        let sound = complete && !found.has_errors();
        let mut findings = Findings { sources, found };
        for Duplicate { what, first, second } in self.duplicates {
            let help = format!("rename one of the two; the other is at {}", findings.at(first));
            findings.error(DUPLICATE_NAME, second, format!("there is another {what}"), help);
        }
        if complete {
            judge_sets(&self.sets, &mut findings);
        }
        let services = service::finish(self.services, &self.sets, &mut findings);
        let allowing = Allowing::of(&self.policies);
        let alone = self.expect_allow.iter().filter(|(number, _)| {
            sound && self.policies.get(*number).is_some_and(|policy| !allowing.may_protect(policy))
        });
        for (_, place) in alone {
            let message =
                "nothing allows what this policy does not deny: it is denied, and in Istio it would be allowed";
            let help =
                "add an ALLOW policy for the same workloads; `policy: {defaultAction: allow}` would be Istio's default";
            findings.report(Severity::Warning, NOTHING_ALLOWS, *place, message.to_owned(), help.to_owned());
        }
        let sets = self.sets.into_iter().map(|set| set.set).collect();
        Collected { policies: self.policies, sets, cases: self.cases, services, found: findings.found }
    }

    fn number(&mut self, name: &str) -> usize {
        if let Some(number) = self.set_numbers.get(name) {
            return *number;
        }
        let number = self.sets.len();
        let set = IdentitySet { name: name.to_owned(), members: Identities::default() };
        self.sets.push(Set { set, defined: None, mentioned: Vec::new() });
        self.set_numbers.insert(name.to_owned(), number);
        number
    }
}

/// Reports sets that nobody defines, and those that nobody names.
fn judge_sets(sets: &[Set], findings: &mut Findings<'_, '_>) {
    for set in sets {
        match set.defined {
            None => {
                let known = sets.iter().filter(|other| other.defined.is_some());
                let help = match nearest(&set.set.name, known.map(|other| other.set.name.as_str())) {
                    Some(name) => format!("did you mean `{name}`?"),
                    None => "define it with `kind: IdentitySet`".to_owned(),
                };
                for place in &set.mentioned {
                    let message = format!("no document defines the identity set {}", quoted(&set.set.name));
                    findings.error(UNKNOWN_SET, *place, message, help.clone());
                }
            }
            Some(place) if set.mentioned.is_empty() => {
                let message = format!("nothing names the identity set {}", quoted(&set.set.name));
                let help = "remove it, or name it in a rule".to_owned();
                findings.report(Severity::Warning, UNUSED_SET, place, message, help);
            }
            Some(_) => {}
        }
    }
}
