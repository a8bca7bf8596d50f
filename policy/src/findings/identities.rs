//! Identities in the documents that no known workload has: mostly mistyped, or left over.

use super::{Inventory, Notes, UNKNOWN_IDENTITY};
use crate::diagnostic::{Severity, quoted};
use crate::document::{Item, Reader, parse};
use crate::identity::IdentityPattern;
use crate::istio;
use crate::native::CODES;
use crate::policy::Options;
use crate::source::{Position, Source};

/// Reads the documents again, because only their trees know where each identity stands. Cases of a `PolicyTest` are
/// left alone: a good one asks for a caller that must not exist.
pub(super) fn judge(notes: &mut Notes<'_>, inventory: &Inventory, options: &Options) {
    let speller = inventory.speller();
    for file in notes.files {
        let Ok(source) = Source::read(*file, &CODES) else { continue };
        let reader = Reader::new(&source, &CODES);
        for node in &parse(&reader) {
            let document = reader.item(node, "document");
            let version = document.peek("apiVersion").and_then(Item::text).unwrap_or_default();
            let named = if istio::is_version(version) { by_istio(document, options) } else { named_by(document) };
            for named in named.into_iter().filter(|named| !inventory.knows(&named.pattern)) {
                let found =
                    notes.diagnostic(Severity::Warning, UNKNOWN_IDENTITY, file.name, named.position, named.message);
                let known =
                    speller.suggest(&named.id).map(|known| known.strip_prefix(named.unwritten).unwrap_or(known));
                let found = match known {
                    Some(known) => found.help(format!("did you mean {}?", quoted(known))),
                    None => found.help("correct it, or add it to the inventory"),
                };
                notes.found.push(found);
            }
        }
    }
}

/// Somebody whom a document names.
struct Named {
    position: Position,
    pattern: IdentityPattern,
    /// What to say if no workload is meant.
    message: String,
    /// The whole ID.
    id: String,
    /// What the author does not write of it.
    unwritten: &'static str,
}

fn by_istio(document: Item<'_>, options: &Options) -> Vec<Named> {
    let named = istio::named_by(document, options).into_iter().map(|named| {
        let istio::Named { position, text, noun, pattern } = named;
        let verb = if text.contains('*') { "matches" } else { "has" };
        let message = format!("no known workload {verb} the {noun} {}", quoted(text));
        let id = if let IdentityPattern::Exact(id) = &pattern { id.to_string() } else { String::new() };
        Named { position, pattern, message, id, unwritten: "spiffe://" }
    });
    named.collect()
}

/// Every identity and pattern that a document names.
fn named_by(document: Item<'_>) -> Vec<Named> {
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
    let named = items.filter_map(|item| {
        let text = item.text()?;
        let pattern = IdentityPattern::parse(text).ok()?;
        let what = if matches!(pattern, IdentityPattern::Exact(_)) { "has the identity" } else { "matches" };
        let message = format!("no known workload {what} {}", quoted(text));
        Some(Named { position: item.position(), pattern, message, id: text.to_owned(), unwritten: "" })
    });
    named.collect()
}
