//! Path patterns, by whole segment.
//!
//! `*` and `{name}` stand for one segment that is not empty, a last `**` for the rest: `/a/**` matches `/a/` and all
//! below it, not `/a`. A trailing slash counts. A pattern must be in normal form, or it could never match a request.

use std::borrow::Cow;
use std::fmt;

use super::escape::{escape, hex_pair, is_path_byte, is_reserved_in_segment, is_unreserved};
use super::segments::resolve;
use crate::diagnostic::quoted;
use crate::text::TextPattern;

/// A pattern that paths in normal form are matched with.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathPattern(Form);

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Form {
    Segments(Vec<Segment>, Rest),
    /// Istio's patterns that do not end with a segment.
    Text(TextPattern),
}

/// What a segment must be.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Segment {
    Literal(Box<str>),
    /// Any one that is not empty.
    One,
}

/// What may follow the segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Rest {
    Nothing,
    Everything,
}

impl PathPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// When it does not start with a slash, mixes a wildcard with other characters in a segment, has `**` before its
    /// end, or is not in normal form.
    pub fn parse(text: &str) -> Result<Self, PathPatternError> {
        let Some(body) = text.strip_prefix('/') else { return Err(PathPatternError::NotAbsolute) };
        if text.contains('?') {
            return Err(PathPatternError::Query);
        }
        let mut segments = Vec::new();
        let mut parts = body.split('/').peekable();
        while let Some(part) = parts.next() {
            match part {
                "**" if parts.peek().is_none() => return Self::checked(text, segments, Rest::Everything),
                "**" => return Err(PathPatternError::RestNotLast),
                "*" => segments.push(Segment::One),
                name if is_placeholder(name) => segments.push(Segment::One),
                literal if literal.contains(['*', '{', '}']) => {
                    return Err(PathPatternError::PartOfSegment(literal.to_owned()));
                }
                literal => segments.push(Segment::Literal(literal.into())),
            }
        }
        Self::checked(text, segments, Rest::Nothing)
    }

    pub(super) fn of_text(text: TextPattern) -> Self {
        Self(Form::Text(text))
    }

    /// Whether a path in normal form matches.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let (segments, end) = match &self.0 {
            Form::Segments(segments, rest) => (segments, rest),
            Form::Text(text) => return text.matches(path),
        };
        let Some(mut rest) = path.strip_prefix('/').map(|path| path.split('/')) else { return false };
        for segment in segments {
            let matched = match (segment, rest.next()) {
                (Segment::Literal(literal), Some(actual)) => **literal == *actual,
                (Segment::One, Some(actual)) => !actual.is_empty(),
                (Segment::Literal(_) | Segment::One, None) => false,
            };
            if !matched {
                return false;
            }
        }
        match end {
            Rest::Nothing => rest.next().is_none(),
            Rest::Everything => rest.next().is_some(),
        }
    }

    /// The segments before a last `**`, and whether there is one; `None` for a pattern that is not by segment.
    pub(crate) fn segments(&self) -> Option<(&[Segment], bool)> {
        match &self.0 {
            Form::Segments(segments, rest) => Some((segments, *rest == Rest::Everything)),
            Form::Text(_) => None,
        }
    }

    /// The pattern as a text; `None` for one by segment.
    pub(crate) fn text(&self) -> Option<&TextPattern> {
        match &self.0 {
            Form::Segments(..) => None,
            Form::Text(text) => Some(text),
        }
    }

    fn checked(text: &str, mut segments: Vec<Segment>, rest: Rest) -> Result<Self, PathPatternError> {
        segments.shrink_to_fit();
        for segment in &segments {
            let Segment::Literal(literal) = segment else { continue };
            if let Some(found) = forbidden(literal) {
                return Err(found);
            }
        }
        let normal = resolve(Cow::Owned(text.split('/').map(spell).collect::<Vec<_>>().join("/")));
        if normal != text {
            return Err(PathPatternError::NotNormal { normal: normal.into_owned() });
        }
        Ok(Self(Form::Segments(segments, rest)))
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (segments, rest) = match &self.0 {
            Form::Segments(segments, rest) => (segments, rest),
            Form::Text(text) => return write!(f, "{text}"),
        };
        for segment in segments {
            match segment {
                Segment::Literal(literal) => write!(f, "/{literal}")?,
                Segment::One => f.write_str("/*")?,
            }
        }
        match rest {
            Rest::Nothing => Ok(()),
            Rest::Everything => f.write_str("/**"),
        }
    }
}

/// What is wrong with a path pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathPatternError {
    /// It does not begin with a slash.
    #[error("a path pattern must begin with a slash")]
    NotAbsolute,
    /// It has a query.
    #[error("a path pattern has no query: the query is never matched")]
    Query,
    /// `**` stands before the end.
    #[error("`**` may stand only at the end of a path pattern")]
    RestNotLast,
    /// A wildcard and other characters in one segment.
    #[error("a wildcard must be a whole segment, which {} is not", quoted(.0))]
    PartOfSegment(String),
    /// It holds what no request that is let through can hold.
    #[error("a path pattern cannot hold {0}: such requests are refused")]
    NeverForwarded(&'static str),
    /// It is spelled in another way than requests are.
    #[error("a path pattern must be in normal form")]
    NotNormal {
        /// The same pattern in normal form.
        normal: String,
    },
}

impl PathPatternError {
    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::NotAbsolute => "write `/` before it".to_owned(),
            Self::Query => "leave out everything from `?` on".to_owned(),
            Self::RestNotLast => "write `*` for one segment in the middle".to_owned(),
            Self::PartOfSegment(_) => "write `*` or `{name}` for the whole segment".to_owned(),
            Self::NeverForwarded(_) => "leave it out".to_owned(),
            Self::NotNormal { normal } => format!("write {}", quoted(normal)),
        }
    }
}

/// `{name}`: documentation of what the segment holds, matched like `*`.
fn is_placeholder(segment: &str) -> bool {
    let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    name.is_some_and(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b)))
}

/// What a literal holds that no forwarded path can hold.
fn forbidden(literal: &str) -> Option<PathPatternError> {
    let decoded = literal.match_indices('%').filter_map(|(at, _)| literal.as_bytes().get(at + 1..).and_then(hex_pair));
    let found = literal.bytes().chain(decoded).find_map(|byte| match byte {
        b'\\' => Some("a backslash"),
        b if b.is_ascii_control() => Some("a control character"),
        _ => None,
    });
    found.map(PathPatternError::NeverForwarded)
}

/// A segment of a pattern in normal form. Unlike a request's, an escape of a character that may stand raw is decoded
/// too: the raw one is a reading of every request that escapes it, so that is the spelling that matches both.
fn spell(segment: &str) -> String {
    if segment == "**" || segment == "*" || is_placeholder(segment) {
        return segment.to_owned();
    }
    let mut out = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (*first, hex_pair(after)) {
            (b'%', Some(byte)) => {
                rest = after.get(2..).unwrap_or_default();
                let raw = is_unreserved(byte) || is_reserved_in_segment(byte);
                if raw { out.push(byte) } else { out.extend(escape(byte)) }
            }
            (byte, _) if is_path_byte(byte) => out.push(byte),
            (byte, _) => out.extend(escape(byte)),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_by_whole_segments() {
        let rows: &[(&str, &[&str], &[&str])] = &[
            ("/", &["/"], &["/a", ""]),
            ("/a", &["/a"], &["/a/", "/", "/ab", "/a/b"]),
            ("/a/", &["/a/"], &["/a", "/a/b"]),
            ("/**", &["/", "/a", "/a/b/"], &[""]),
            ("/a/**", &["/a/", "/a/b", "/a/b/c/"], &["/a", "/ab", "/b/a/"]),
            ("/a/*", &["/a/b", "/a/*", "/a/x*y"], &["/a", "/a/", "/a/b/", "/a/b/c"]),
            ("/v1/{id}/x", &["/v1/42/x", "/v1/a.b/x"], &["/v1//x", "/v1/x", "/v1/42/y"]),
            ("/*/**", &["/a/", "/a/b"], &["/a", "/"]),
            ("/v1/x:cancel", &["/v1/x:cancel"], &["/v1/x"]),
            ("/100%25", &["/100%25"], &["/100"]),
        ];
        for (pattern, matching, others) in rows {
            let pattern = PathPattern::parse(pattern).unwrap();
            for path in *matching {
                assert!(pattern.matches(path), "{pattern} {path}");
            }
            for path in *others {
                assert!(!pattern.matches(path), "{pattern} {path}");
            }
        }
    }

    #[test]
    fn refuses_what_could_never_match() {
        let normal = |normal: &str| PathPatternError::NotNormal { normal: normal.to_owned() };
        let rows: &[(&str, PathPatternError)] = &[
            ("a", PathPatternError::NotAbsolute),
            ("", PathPatternError::NotAbsolute),
            ("/a?b", PathPatternError::Query),
            ("/a/**/b", PathPatternError::RestNotLast),
            ("/a*", PathPatternError::PartOfSegment("a*".to_owned())),
            ("/{id}.json", PathPatternError::PartOfSegment("{id}.json".to_owned())),
            ("/{}", PathPatternError::PartOfSegment("{}".to_owned())),
            ("/a%5cb", PathPatternError::NeverForwarded("a backslash")),
            ("/a%00", PathPatternError::NeverForwarded("a control character")),
            ("/a//b", normal("/a/b")),
            ("/a/./b", normal("/a/b")),
            ("/a/../b/**", normal("/b/**")),
            ("/%61", normal("/a")),
            ("/%c3%a4", normal("/%C3%A4")),
            ("/ä b", normal("/%C3%A4%20b")),
            ("/100%", normal("/100%25")),
            ("/x%3Acancel", normal("/x:cancel")),
            ("/a%3bb", normal("/a;b")),
        ];
        for (pattern, expected) in rows {
            assert_eq!(PathPattern::parse(pattern).as_ref(), Err(expected), "{pattern}");
        }
    }
}
