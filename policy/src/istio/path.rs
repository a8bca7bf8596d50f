//! Paths as Istio writes them, held against the one form in which requests are decided here.
//!
//! Istio leaves repeated slashes alone unless told otherwise, and most escapes. A value that is spelled so matches no
//! request here. Where that would open a door, in a deny, it is read in normal form.

use super::{INNER_ASTERISK, NOT_NORMAL};
use crate::diagnostic::quoted;
use crate::document::Item;
use crate::matchers::Doubt;
use crate::native::BAD_PATH;
use crate::path::{EncodedSlash, Path, PathError, PathPattern};
use crate::text::TextPattern;

/// Reads one value.
pub(super) fn read(item: Item<'_>, doubt: Doubt) -> Option<PathPattern> {
    let text = item.string()?;
    if text.contains("{*}") || text.contains("{**}") {
        return of_istio(item, text);
    }
    let pattern = TextPattern::of_istio(text);
    if let TextPattern::Exact(stem) | TextPattern::Prefix(stem) | TextPattern::Suffix(stem) = &pattern {
        let never = if stem.contains(['{', '}']) {
            Some(("braces stand in a path only as `{*}` and `{**}`, unlike in", TEMPLATES))
        } else if stem.contains(['?', '#']) {
            Some(("the query is no part of the path", "leave out everything from `?` on"))
        } else if !matches!(pattern, TextPattern::Suffix(_)) && !stem.starts_with('/') {
            Some(("no request has the path", "begin it with `/` or with `*`"))
        } else {
            None
        };
        if let Some((message, help)) = never {
            item.error(BAD_PATH, format!("{message} {}", quoted(text))).help(help);
            return None;
        }
        if stem.contains('*') {
            let message = format!("only a first or a last `*` is a wildcard, and {} has another", quoted(text));
            item.warning(INNER_ASTERISK, message).help(TEMPLATES);
        }
    }
    match (doubt, normal(item, &pattern)) {
        (Doubt::Matches, Some(normal)) => of_istio(item, &normal.to_string()),
        (Doubt::Matches, None) | (Doubt::Misses, _) => of_istio(item, text),
    }
}

/// Warns of a value that no request has; answers what such requests are decided as, if that can be said.
fn normal(item: Item<'_>, pattern: &TextPattern) -> Option<TextPattern> {
    // What is cut off is filled in, so that a part of a segment is not taken for a whole one. No hexadecimal digit.
    let (stem, lead, trail) = match pattern {
        TextPattern::Exact(stem) => (stem, "", ""),
        TextPattern::Prefix(stem) => (stem, "", "x"),
        TextPattern::Suffix(stem) => (stem, "/x", ""),
        TextPattern::Present => return None,
    };
    let probe = format!("{lead}{stem}{trail}");
    match Path::normalise(probe.as_bytes(), EncodedSlash::Decide) {
        Ok(path) if path.as_str() == probe => None,
        Ok(path) => {
            let normal = path.as_str().strip_prefix(lead).and_then(|normal| normal.strip_suffix(trail)).map(Box::from);
            let normal = normal.map(|normal| match pattern {
                TextPattern::Prefix(_) => TextPattern::Prefix(normal),
                TextPattern::Suffix(_) => TextPattern::Suffix(normal),
                TextPattern::Exact(_) | TextPattern::Present => TextPattern::Exact(normal),
            });
            let shown = quoted(&pattern.to_string());
            let message = format!("no request is decided with {shown}: paths are brought to normal form first");
            let reported = item.warning(NOT_NORMAL, message);
            match &normal {
                Some(normal) => reported.help(format!("write {}", quoted(&normal.to_string()))),
                None => reported.help("leave out `..`"),
            }
            normal
        }
        // A beginning may end within an escape.
        Err(PathError::BadEscape) if !trail.is_empty() => None,
        Err(error) => {
            let message = format!("requests with {} are answered with 400: {error}", quoted(&pattern.to_string()));
            item.warning(NOT_NORMAL, message).help("remove it");
            None
        }
    }
}

fn of_istio(item: Item<'_>, text: &str) -> Option<PathPattern> {
    PathPattern::of_istio(text).map_err(|error| item.error(BAD_PATH, error.to_string()).help(error.help())).ok()
}

const TEMPLATES: &str = "write `{*}` for one segment, a last `{**}` for the rest";
