//! What the documents read so far define and refer to, across files.
//!
//! Names may be used before they are defined, so references are numbers from the first mention on; what is still
//! undefined at the end is reported where it was mentioned.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Collected, DUPLICATE_NAME, UNKNOWN_SET, UNUSED_SET};
use crate::case::Case;
use crate::diagnostic::{Diagnostics, Severity, nearest, quoted};
use crate::identity::IdentityPattern;
use crate::rules::{Identities, IdentitySet, Origin, PolicyRules, SetRef};
use crate::source::{Position, Source};

/// All that has been read.
#[derive(Default)]
pub(super) struct Collector {
    pub(super) policies: Vec<PolicyRules>,
    pub(super) cases: Vec<Case>,
    file: usize,
    file_name: Option<Arc<str>>,
    files: usize,
    sets: Vec<Set>,
    set_numbers: HashMap<String, usize>,
    policy_names: HashMap<(Option<Arc<str>>, Arc<str>), Place>,
    duplicates: Vec<Duplicate>,
}

/// A place in one of the files.
#[derive(Clone, Copy)]
struct Place {
    file: usize,
    position: Position,
}

struct Set {
    set: IdentitySet,
    defined: Option<Place>,
    mentioned: Vec<Place>,
}

struct Duplicate {
    what: String,
    first: Place,
    second: Place,
}

impl Collector {
    /// Goes on to the next file.
    pub(super) fn enter(&mut self, source: &Source<'_>) {
        self.file = self.files;
        self.files += 1;
        self.file_name = Some(source.name().into());
    }

    /// A place in the current file, for records and explanations.
    pub(super) fn origin(&self, position: Position) -> Origin {
        let file = self.file_name.clone().unwrap_or_default();
        Origin { file, line: position.line, column: position.column }
    }

    /// Defines an identity set.
    pub(super) fn define_set(&mut self, name: &str, members: Vec<IdentityPattern>, position: Position) {
        let place = Place { file: self.file, position };
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
        let place = Place { file: self.file, position };
        let number = self.number(name);
        if let Some(set) = self.sets.get_mut(number) {
            set.mentioned.push(place);
        }
        SetRef(number)
    }

    /// Takes the name of a policy.
    pub(super) fn name_policy(&mut self, namespace: Option<&Arc<str>>, name: &Arc<str>, position: Position) {
        let second = Place { file: self.file, position };
        let first = *self.policy_names.entry((namespace.cloned(), name.clone())).or_insert(second);
        if first.file != second.file || first.position != second.position {
            let what = match namespace {
                Some(namespace) => format!("policy {} of namespace {}", quoted(name), quoted(namespace)),
                None => format!("policy {} without namespace", quoted(name)),
            };
            self.duplicates.push(Duplicate { what, first, second });
        }
    }

    /// Ends the collection; references are judged only if the files are `complete`.
    pub(super) fn finish(self, sources: &[Source<'_>], complete: bool, mut found: Diagnostics) -> Collected {
        let mut report = |severity, code, place: Place, message: String, help: String| {
            if let Some(source) = sources.get(place.file) {
                found.push(source.diagnostic(severity, code, place.position, message).help(help));
            }
        };
        for Duplicate { what, first, second } in self.duplicates {
            let file = sources.get(first.file).map(Source::name).unwrap_or_default();
            let help = format!("rename one of the two; the other is at {file}:{}", first.position.line);
            report(Severity::Error, DUPLICATE_NAME, second, format!("there is another {what}"), help);
        }
        for set in self.sets.iter().filter(|_| complete) {
            match set.defined {
                None => {
                    let known = self.sets.iter().filter(|other| other.defined.is_some());
                    let help = match nearest(&set.set.name, known.map(|other| other.set.name.as_str())) {
                        Some(name) => format!("did you mean `{name}`?"),
                        None => "define it with `kind: IdentitySet`".to_owned(),
                    };
                    for place in &set.mentioned {
                        let message = format!("no document defines the identity set {}", quoted(&set.set.name));
                        report(Severity::Error, UNKNOWN_SET, *place, message, help.clone());
                    }
                }
                Some(place) if set.mentioned.is_empty() => {
                    let message = format!("nothing names the identity set {}", quoted(&set.set.name));
                    report(Severity::Warning, UNUSED_SET, place, message, "remove it, or name it in a rule".to_owned());
                }
                Some(_) => {}
            }
        }
        let sets = self.sets.into_iter().map(|set| set.set).collect();
        Collected { policies: self.policies, sets, cases: self.cases, found }
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
