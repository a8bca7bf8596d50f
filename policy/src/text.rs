//! Text with a wildcard at one end, and texts with wildcards anywhere: what header values are matched with, and everything
//! in Istio's language.

use std::fmt;

/// A text, its beginning, its end, or any.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TextPattern {
    /// `abc`
    Exact(Box<str>),
    /// `abc*`
    Prefix(Box<str>),
    /// `*abc`
    Suffix(Box<str>),
    /// `*`: anything that is there.
    Present,
}

impl TextPattern {
    /// Parses a header value of our language: a `*` at one end stands for any characters, alone for any value.
    pub(crate) fn parse(text: &str) -> Result<Self, TextPatternError> {
        if text.trim_matches([' ', '\t']) != text || text.chars().any(char::is_control) {
            return Err(TextPatternError::NeverSent);
        }
        let pattern = Self::of_istio(text);
        match &pattern {
            Self::Exact(rest) | Self::Prefix(rest) | Self::Suffix(rest) if rest.contains('*') => {
                Err(TextPatternError::Wildcard)
            }
            Self::Exact(_) | Self::Prefix(_) | Self::Suffix(_) | Self::Present => Ok(pattern),
        }
    }

    /// Reads a text as Istio does: `*` alone is presence, a first or else a last `*` is a wildcard, any other is a
    /// character like the rest (Istio's reference of `AuthorizationPolicy`, "exact, prefix, suffix and presence match").
    pub(crate) fn of_istio(text: &str) -> Self {
        match (text, text.strip_prefix('*'), text.strip_suffix('*')) {
            ("*", ..) => Self::Present,
            (_, Some(suffix), _) => Self::Suffix(suffix.into()),
            (_, None, Some(prefix)) => Self::Prefix(prefix.into()),
            (_, None, None) => Self::Exact(text.into()),
        }
    }

    /// Whether a text matches. Nothing, the empty text, is not present.
    pub(crate) fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *text,
            Self::Prefix(prefix) => text.starts_with(&**prefix),
            Self::Suffix(suffix) => text.ends_with(&**suffix),
            Self::Present => !text.is_empty(),
        }
    }

    /// The same, for a reader that does not tell `A` from `a`.
    pub(crate) fn matches_ignoring_case(&self, text: &str) -> bool {
        let is =
            |part: Option<&[u8]>, wanted: &str| part.is_some_and(|part| part.eq_ignore_ascii_case(wanted.as_bytes()));
        let bytes = text.as_bytes();
        match self {
            Self::Exact(exact) => exact.eq_ignore_ascii_case(text),
            Self::Prefix(prefix) => is(bytes.get(..prefix.len()), prefix),
            Self::Suffix(suffix) => is(bytes.len().checked_sub(suffix.len()).and_then(|at| bytes.get(at..)), suffix),
            Self::Present => !text.is_empty(),
        }
    }
}

impl fmt::Display for TextPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(exact) => f.write_str(exact),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
            Self::Present => f.write_str("*"),
        }
    }
}

/// What is wrong with a header value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TextPatternError {
    #[error("a wildcard in a header value can stand only at one of its ends")]
    Wildcard,
    #[error("no header value has control characters or spaces at its ends")]
    NeverSent,
}

/// A text in which every `*` stands for any characters, or none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Glob(Box<str>);

impl Glob {
    /// A glob; every text is one.
    pub(crate) fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text with its wildcards.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, if there is no wildcard in it.
    pub(crate) fn literal(&self) -> Option<&str> {
        Some(&*self.0).filter(|text| !text.contains('*'))
    }

    /// Whether a text matches. Each piece is taken where it comes first, so that no text makes it start over.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let mut pieces = self.0.split('*');
        let Some(mut rest) = pieces.next().and_then(|first| text.strip_prefix(first)) else { return false };
        let Some(last) = pieces.next_back() else { return rest.is_empty() };
        for piece in pieces {
            let Some((_, after)) = rest.split_once(piece) else { return false };
            rest = after;
        }
        rest.ends_with(last)
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_values_have_one_wildcard_at_most() {
        for bad in ["*a*", "a*b", "**", "*/*"] {
            assert_eq!(TextPattern::parse(bad), Err(TextPatternError::Wildcard), "{bad}");
        }
        assert_eq!(TextPattern::parse(" a"), Err(TextPatternError::NeverSent));
    }

    #[test]
    fn texts_as_istio_reads_them() {
        let rows: &[(&str, &[&str], &[&str])] = &[
            ("a", &["a"], &["", "A", "ab"]),
            ("a*", &["a", "ab"], &["", "b", "ba"]),
            ("*a", &["a", "ba"], &["", "ab"]),
            ("*", &["a", "*"], &[""]),
            ("a*b", &["a*b"], &["ab", "axb"]),
            ("*a*", &["a*", "ba*"], &["a", "*a"]),
            ("**", &["*", "a*"], &["a", "*a"]),
        ];
        for (pattern, matching, others) in rows {
            let pattern = TextPattern::of_istio(pattern);
            for text in *matching {
                assert!(pattern.matches(text) && pattern.matches_ignoring_case(text), "{pattern} {text}");
            }
            for text in *others {
                assert!(!pattern.matches(text), "{pattern} {text}");
            }
        }
        let case = |pattern: &str, text: &str| TextPattern::of_istio(pattern).matches_ignoring_case(text);
        assert!(case("Ab*", "aBc") && case("*Bc", "abC") && case("AB", "ab"));
        assert!(!case("abc*", "ab") && !case("*\u{e4}", "\u{a4}"));
    }

    #[test]
    fn globs() {
        let rows: &[(&str, &[&str], &[&str])] = &[
            ("a", &["a"], &["", "ab", "ba"]),
            ("a*", &["a", "ab"], &["b", ""]),
            ("*a", &["a", "ba"], &["ab"]),
            ("*a*", &["a", "bab"], &["b"]),
            ("a*b*c", &["abc", "axbyc", "abbcc"], &["acb", "ab", "ac"]),
            ("a*a", &["aa", "aba"], &["a"]),
            ("*", &["", "a"], &[]),
            ("a**b", &["ab", "axb"], &["a"]),
        ];
        for (glob, matching, others) in rows {
            let glob = Glob::new(glob);
            for text in *matching {
                assert!(glob.matches(text), "{glob} {text}");
            }
            for text in *others {
                assert!(!glob.matches(text), "{glob} {text}");
            }
        }
        assert_eq!(Glob::new("a").literal(), Some("a"));
        assert_eq!(Glob::new("a*").literal(), None);
    }
}
