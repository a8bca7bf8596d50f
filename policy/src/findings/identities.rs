//! Identities in the documents that no known workload has: mostly mistyped, or left over.

use super::{Inventory, Notes, UNKNOWN_IDENTITY};
use crate::diagnostic::{Severity, quoted};
use crate::document::{Item, Reader, parse};
use crate::identity::IdentityPattern;
use crate::native::CODES;
use crate::source::{Position, Source};

/// Reads the documents again, because only their trees know where each identity stands. Cases of a `PolicyTest` are
/// left alone: a good one asks for a caller that must not exist.
pub(super) fn judge(notes: &mut Notes<'_>, inventory: &Inventory) {
    let speller = inventory.speller();
    for file in notes.files {
        let Ok(source) = Source::read(*file, &CODES) else { continue };
        let reader = Reader::new(&source, &CODES);
        let nodes = parse(&reader);
        for (position, text) in nodes.iter().flat_map(|node| named_by(reader.item(node, "document"))) {
            let Ok(pattern) = IdentityPattern::parse(text) else { continue };
            if inventory.knows(&pattern) {
                continue;
            }
            let what = if matches!(pattern, IdentityPattern::Exact(_)) { "has the identity" } else { "matches" };
            let message = format!("no known workload {what} {}", quoted(text));
            let found = notes.diagnostic(Severity::Warning, UNKNOWN_IDENTITY, file.name, position, message);
            let found = match speller.suggest(text) {
                Some(known) => found.help(format!("did you mean {}?", quoted(known))),
                None => found.help("correct it, or add it to the inventory"),
            };
            notes.found.push(found);
        }
    }
}

/// Every identity and pattern that a document names.
fn named_by(document: Item<'_>) -> Vec<(Position, &str)> {
    let Some(spec) = document.peek("spec") else { return Vec::new() };
    let mut lists = Vec::new();
    match document.peek("kind").and_then(Item::text) {
        Some("IdentitySet" | "Service") => lists.extend(spec.peek("identities")),
        Some("AuthorizationPolicy") => {
            lists.extend(spec.peek("target").and_then(|target| target.peek("identities")));
            let rules = ["allow", "deny"].into_iter().filter_map(|key| spec.peek(key)).filter_map(Item::list).flatten();
            let callers = rules.filter_map(|rule| rule.peek("from"));
            lists.extend(callers.flat_map(|from| [from.peek("identities"), from.peek("notIdentities")]).flatten());
        }
        _ => {}
    }
    let items = lists.into_iter().filter_map(Item::list).flatten();
    items.filter_map(|item| Some((item.position(), item.text()?))).collect()
}
