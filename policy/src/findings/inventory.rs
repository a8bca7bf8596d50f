//! The identities that workloads are known to have: one SPIFFE ID a line, comments after `#`.

use std::collections::{HashMap, HashSet};

use spiffe::SpiffeId;

use super::INVENTORY_LINE;
use crate::diagnostic::{Diagnostic, Diagnostics, Severity, nearest, quoted};
use crate::identity::IdentityPattern;

/// What is known.
#[derive(Debug, Default)]
pub struct Inventory {
    identities: HashSet<SpiffeId>,
}

impl Inventory {
    /// Reads the text of an inventory file called `name`.
    ///
    /// # Errors
    /// Every line that is no SPIFFE ID. A file without any is one mistake: everything would be unknown.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, Diagnostics> {
        let mut found = Diagnostics::default();
        let mut inventory = Self::default();
        let mut report = |line, message: String| {
            let file = name.to_owned();
            let diagnostic = Diagnostic::of_all_files(Severity::Error, INVENTORY_LINE, message);
            let diagnostic = diagnostic.help("write one SPIFFE ID a line, comments after `#`");
            found.push(Diagnostic { file, line, column: usize::from(line > 0), ..diagnostic });
        };
        for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            let line = String::from_utf8_lossy(line);
            let text = line.split('#').next().unwrap_or_default().trim();
            if text.is_empty() {
                continue;
            }
            match IdentityPattern::parse(text) {
                Ok(IdentityPattern::Exact(id)) => drop(inventory.identities.insert(id)),
                Ok(_) => report(number, "an inventory has no patterns".to_owned()),
                Err(_) => report(number, format!("{} is not a SPIFFE ID", quoted(text))),
            }
        }
        if inventory.identities.is_empty() {
            report(0, format!("the inventory {} names no identity", quoted(name)));
        }
        if found.has_errors() { Err(found) } else { Ok(inventory) }
    }

    /// Whether a known workload has this identity, or one that matches.
    pub(super) fn knows(&self, pattern: &IdentityPattern) -> bool {
        if let IdentityPattern::Exact(id) = pattern {
            return self.identities.contains(id);
        }
        self.identities.iter().any(|id| pattern.matches(id))
    }

    /// Finds what a mistyped identity may have meant.
    pub(super) fn speller(&self) -> Speller {
        let mut by_rest: HashMap<String, Vec<String>> = HashMap::new();
        for id in self.identities.iter().map(ToString::to_string) {
            for rest in rests(&id) {
                by_rest.entry(rest).or_default().push(id.clone());
            }
        }
        for alike in by_rest.values_mut() {
            alike.sort_unstable();
        }
        Speller { by_rest }
    }
}

/// Known identities by all but one of their segments: who mistypes one has the others right, and comparing with each of
/// a hundred thousand would take seconds.
pub(super) struct Speller {
    by_rest: HashMap<String, Vec<String>>,
}

impl Speller {
    pub(super) fn suggest(&self, text: &str) -> Option<&str> {
        let alike = rests(text).filter_map(|rest| self.by_rest.get(&rest)).flatten();
        nearest(text, alike.map(String::as_str).take(MOST_COMPARED))
    }
}

/// An identity with each of its segments left out in turn.
fn rests(id: &str) -> impl Iterator<Item = String> {
    let segments: Vec<&str> = id.split('/').skip(2).collect();
    (0..segments.len()).map(move |left_out| {
        let kept = segments.iter().enumerate().map(|(at, segment)| if at == left_out { "" } else { segment });
        kept.collect::<Vec<_>>().join("/")
    })
}

/// Enough for every account of a namespace.
const MOST_COMPARED: usize = 2000;
