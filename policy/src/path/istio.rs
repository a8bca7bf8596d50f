//! Path patterns as Istio writes them: a text with a wildcard at one end, or a template of `{*}` and `{**}`.
//!
//! What means the same as a pattern by segment becomes one, so that it is found in the index like our own. Requests are
//! matched in their normal form, which is at least as strict as any of Istio's `pathNormalization`.

use super::pattern::{PathPattern, PathPatternError};
use crate::diagnostic::quoted;
use crate::text::TextPattern;

impl PathPattern {
    /// Reads a value of `paths` or `notPaths`.
    ///
    /// # Errors
    /// When it is a template that Istio does not take, or that no path in normal form could match.
    pub(crate) fn of_istio(text: &str) -> Result<Self, IstioPathError> {
        if text.contains("{*}") || text.contains("{**}") {
            return of_template(text);
        }
        let pattern = TextPattern::of_istio(text);
        let by_segment = match &pattern {
            TextPattern::Exact(exact) if is_plain(exact) => Self::parse(exact).ok(),
            TextPattern::Prefix(prefix) if is_plain(prefix) && prefix.ends_with('/') => {
                Self::parse(&format!("{prefix}**")).ok()
            }
            TextPattern::Exact(_) | TextPattern::Prefix(_) | TextPattern::Suffix(_) | TextPattern::Present => None,
        };
        Ok(by_segment.unwrap_or_else(|| Self::of_text(pattern)))
    }
}

/// Without characters that mean something in a pattern of ours and nothing in Istio's.
fn is_plain(text: &str) -> bool {
    !text.contains(['*', '{', '}'])
}

fn of_template(text: &str) -> Result<PathPattern, IstioPathError> {
    let Some(body) = text.strip_prefix('/') else { return Err(IstioPathError::NotAbsolute) };
    let mut ours = String::new();
    let mut parts = body.split('/').peekable();
    while let Some(part) = parts.next() {
        ours.push('/');
        match part {
            "{*}" => ours.push('*'),
            "{**}" if parts.peek().is_some() => return Err(IstioPathError::RestNotLast),
            "{**}" => ours.push_str("**"),
            // A slash at the end.
            "" if parts.peek().is_none() => {}
            literal if !literal.is_empty() && literal.bytes().all(is_literal) => ours.push_str(literal),
            other => return Err(IstioPathError::Segment(other.to_owned())),
        }
    }
    Ok(PathPattern::parse(&ours)?)
}

/// What Istio takes in a literal segment of a template.
fn is_literal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=".contains(&byte)
}

/// What is wrong with a path of Istio's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IstioPathError {
    #[error("a path template must begin with a slash")]
    NotAbsolute,
    #[error("`{{**}}` may stand only at the end of a path template")]
    RestNotLast,
    #[error("{} cannot be a segment of a path template", quoted(.0))]
    Segment(String),
    #[error("no request can match this template")]
    NeverMatches(#[from] PathPatternError),
}

impl IstioPathError {
    /// What to do about it.
    pub(crate) fn help(&self) -> String {
        match self {
            Self::NotAbsolute => "write `/` before it".to_owned(),
            Self::RestNotLast => "write `{*}` for one segment in the middle".to_owned(),
            Self::Segment(_) => {
                "write `{*}` for the whole segment, or letters, digits and -._~%!$&'()+,;:@=".to_owned()
            }
            Self::NeverMatches(error) => error.help(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_istio_does() {
        let rows: &[(&str, &[&str], &[&str])] = &[
            ("/a/b", &["/a/b"], &["/a/b/", "/a", "/a/bc"]),
            ("/a*", &["/a", "/ab", "/a/b"], &["/", "/b"]),
            ("/a/*", &["/a/", "/a/b/c"], &["/a", "/ab"]),
            ("*.html", &["/a.html", "/a/b.html"], &["/a.htm"]),
            ("*", &["/", "/a"], &[""]),
            ("/*", &["/", "/a/b"], &[""]),
            ("/a/*/b", &["/a/*/b"], &["/a/x/b"]),
            ("/{id}", &[], &["/a", "/%7Bid%7D"]),
            ("/a/{*}/b", &["/a/x/b", "/a/*/b", "/a/x*y/b"], &["/a//b", "/a/x/y/b", "/a/x"]),
            ("/a/{**}", &["/a/", "/a/x/y"], &["/a"]),
            ("/a/{*}/", &["/a/x/"], &["/a/x", "/a//", "/a/"]),
            ("/{*}/x/{**}", &["/a/x/", "/a/x/b"], &["/a/x", "/x/"]),
            ("/a//b", &[], &["/a/b"]),
        ];
        for (pattern, matching, others) in rows {
            let parsed = PathPattern::of_istio(pattern).unwrap();
            for path in *matching {
                assert!(parsed.matches(path), "{pattern} {path}");
            }
            for path in *others {
                assert!(!parsed.matches(path), "{pattern} {path}");
            }
        }
        for by_segment in ["/a/b", "/a/*", "/*", "/a/{*}"] {
            assert!(PathPattern::of_istio(by_segment).unwrap().segments().is_some(), "{by_segment}");
        }
    }

    #[test]
    fn refuses_templates_that_istio_refuses() {
        assert_eq!(PathPattern::of_istio("a/{*}"), Err(IstioPathError::NotAbsolute));
        assert_eq!(PathPattern::of_istio("/{**}/a"), Err(IstioPathError::RestNotLast));
        assert_eq!(PathPattern::of_istio("/{*}.txt"), Err(IstioPathError::Segment("{*}.txt".to_owned())));
        assert_eq!(PathPattern::of_istio("/{*}//a"), Err(IstioPathError::Segment(String::new())));
        assert_eq!(PathPattern::of_istio("/{*}/a*"), Err(IstioPathError::Segment("a*".to_owned())));
        assert!(matches!(PathPattern::of_istio("/%61/{*}"), Err(IstioPathError::NeverMatches(_))));
    }
}
