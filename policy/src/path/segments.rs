//! Dot segments and repeated slashes.
//!
//! Dot segments are removed first (RFC 3986 section 5.2.4), then slashes merged. Servers that merge first make another
//! path of `/a//../b`; for what we forward that cannot matter, for readings both orders are tried.

use std::borrow::Cow;

/// The path without dot segments and repeated slashes; borrowed when it has none.
pub(super) fn resolve(path: Cow<'_, str>) -> Cow<'_, str> {
    if is_resolved(&path) { path } else { Cow::Owned(merge(&remove_dots(&path))) }
}

/// The same, with slashes merged first.
pub(super) fn resolve_merged_first(path: &str) -> String {
    remove_dots(&merge(path))
}

fn is_resolved(path: &str) -> bool {
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let inner = segments.peek().is_some();
        if segment == "." || segment == ".." || (inner && segment.is_empty()) {
            return false;
        }
    }
    true
}

fn remove_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
        // A trailing dot segment names a directory: its slash stays.
        if last && (segment == "." || segment == "..") {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

fn merge(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !out.ends_with('/') {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolves() {
        let rows: &[(&str, &str, &str)] = &[
            ("/", "/", "/"),
            ("//", "/", "/"),
            ("/a/b", "/a/b", "/a/b"),
            ("/a/./b", "/a/b", "/a/b"),
            ("/a/../b", "/b", "/b"),
            ("/a/b/..", "/a/", "/a/"),
            ("/a/.", "/a/", "/a/"),
            ("/..", "/", "/"),
            ("/../../a", "/a", "/a"),
            ("/a//b/", "/a/b/", "/a/b/"),
            ("/a/...", "/a/...", "/a/..."),
            ("/a//../b", "/a/b", "/b"),
            ("/..//a", "/a", "/a"),
        ];
        for (path, dots_first, merged_first) in rows {
            assert_eq!(resolve(Cow::Borrowed(path)), *dots_first, "{path}");
            assert_eq!(resolve_merged_first(path), *merged_first, "{path}");
        }
    }
}
