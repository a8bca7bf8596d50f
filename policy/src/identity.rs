//! SPIFFE ID patterns, by whole path segment.
//!
//! `*` stands for one segment, a last `**` for the rest, at least one. The trust domain is never a pattern: who issues
//! an identity is not for a wildcard to say. Exact IDs keep the `spiffe` crate's type.

use std::fmt;

use spiffe::{SpiffeId, SpiffeIdError, TrustDomain};

use crate::diagnostic::quoted;
use crate::text::{Glob, TextPattern};

/// A SPIFFE ID, or a pattern of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IdentityPattern {
    /// Exactly this one.
    Exact(SpiffeId),
    /// All of one trust domain that match segment by segment.
    Segments {
        /// The trust domain, taken literally.
        trust_domain: TrustDomain,
        /// What each segment must be.
        segments: Vec<IdentitySegment>,
    },
    /// Istio's: a Kubernetes namespace of any trust domain, `/ns/<namespace>/…`.
    Namespace(Glob),
    /// Istio's: a service account of any trust domain, `/ns/<namespace>/sa/<account>`.
    ServiceAccount {
        /// The namespace.
        namespace: Box<str>,
        /// The account.
        account: Box<str>,
    },
    /// Istio's: everyone of a trust domain.
    TrustDomain(TextPattern),
    /// Istio's: the whole ID without `spiffe://`.
    Text(TextPattern),
}

/// A segment of a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IdentitySegment {
    /// This word.
    Literal(Box<str>),
    /// Any one segment: `*`.
    One,
    /// One or more segments; always the last: `**`.
    Rest,
}

impl IdentityPattern {
    /// Parses an ID or a pattern.
    ///
    /// # Errors
    /// When the trust domain is missing or a pattern, a wildcard is mixed with other characters, `**` is not last, or
    /// the rest is no SPIFFE ID that can name a workload.
    pub fn parse(text: &str) -> Result<Self, IdentityPatternError> {
        if text.len() > MAX_BYTES {
            return Err(IdentityPatternError::TooLong);
        }
        let Some(body) = text.strip_prefix(SCHEME) else { return Err(IdentityPatternError::Scheme) };
        let Some((trust_domain, path)) = body.split_once('/') else { return Err(IdentityPatternError::NoPath) };
        if trust_domain.contains(['*', '{']) {
            return Err(IdentityPatternError::TrustDomainPattern);
        }
        if trust_domain.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(IdentityPatternError::TrustDomainCase(trust_domain.to_ascii_lowercase()));
        }
        if !path.contains('*') {
            return SpiffeId::new(text).map(Self::Exact).map_err(|cause| describe(text, &cause));
        }
        let parts: Vec<&str> = path.split('/').collect();
        let last = parts.len() - 1;
        let segments = parts.iter().enumerate().map(|(index, part)| segment(part, index == last));
        let segments = segments.collect::<Result<Vec<_>, _>>()?;
        let trust_domain = TrustDomain::new(trust_domain).map_err(|cause| describe(text, &cause))?;
        // The literal segments must be segments of an ID; a wildcard stands in for any word.
        let words: Vec<&str> = parts.iter().map(|part| if part.contains('*') { "x" } else { part }).collect();
        SpiffeId::from_segments(trust_domain.clone(), &words).map_err(|cause| describe(text, &cause))?;
        Ok(Self::Segments { trust_domain, segments })
    }

    /// Whether `id` matches.
    #[must_use]
    pub fn matches(&self, id: &SpiffeId) -> bool {
        let (trust_domain, segments) = match self {
            Self::Exact(exact) => return exact == id,
            Self::Segments { trust_domain, segments } => (trust_domain, segments),
            Self::Namespace(glob) => return namespace_of(id).is_some_and(|namespace| glob.matches(namespace)),
            Self::ServiceAccount { namespace, account } => {
                return account_of(id).is_some_and(|of_id| of_id == (&**namespace, &**account));
            }
            Self::TrustDomain(text) => return text.matches(id.trust_domain_name()),
            Self::Text(text) => return text_matches(text, id.trust_domain_name(), id.path()),
        };
        let Some(path) = id.path().strip_prefix('/') else { return false };
        if id.trust_domain() != trust_domain {
            return false;
        }
        let mut rest = path.split('/');
        for segment in segments {
            let Some(actual) = rest.next() else { return false };
            match segment {
                IdentitySegment::Literal(literal) if **literal != *actual => return false,
                IdentitySegment::Literal(_) | IdentitySegment::One => {}
                IdentitySegment::Rest => return true,
            }
        }
        rest.next().is_none()
    }

    /// Whether some identity of Kubernetes namespace `namespace` (`/ns/<namespace>/…`) can match.
    #[must_use]
    pub fn reaches_namespace(&self, namespace: &str) -> bool {
        let segments = match self {
            Self::Exact(id) => return in_namespace(id, namespace),
            Self::Segments { segments, .. } => segments,
            Self::Namespace(glob) => return glob.matches(namespace),
            Self::ServiceAccount { namespace: other, .. } => return **other == *namespace,
            Self::TrustDomain(_) | Self::Text(_) => return true,
        };
        let mut expected = ["ns", namespace].into_iter();
        for segment in segments {
            match (segment, expected.next()) {
                (IdentitySegment::Rest, _) | (_, None) => return true,
                (IdentitySegment::Literal(literal), Some(word)) if **literal != *word => return false,
                (IdentitySegment::Literal(_) | IdentitySegment::One, Some(_)) => {}
            }
        }
        // An identity of a namespace has more segments than these two.
        false
    }
}

/// Whether an identity has the Kubernetes form `/ns/<namespace>/…` with this namespace.
pub(crate) fn in_namespace(id: &SpiffeId, namespace: &str) -> bool {
    namespace_of(id) == Some(namespace)
}

/// Whether a trust domain and the path after it, taken as one text, match.
fn text_matches(text: &TextPattern, trust_domain: &str, path: &str) -> bool {
    match text {
        TextPattern::Exact(exact) => exact.strip_prefix(trust_domain) == Some(path),
        TextPattern::Prefix(prefix) => {
            let beyond = || prefix.strip_prefix(trust_domain).is_some_and(|rest| path.starts_with(rest));
            trust_domain.starts_with(&**prefix) || beyond()
        }
        TextPattern::Suffix(suffix) => {
            let beyond = || suffix.strip_suffix(path).is_some_and(|rest| trust_domain.ends_with(rest));
            path.ends_with(&**suffix) || beyond()
        }
        TextPattern::Present => true,
    }
}

/// The namespace of an identity that has the Kubernetes form `/ns/<namespace>/…`.
pub(crate) fn namespace_of(id: &SpiffeId) -> Option<&str> {
    id.path().strip_prefix("/ns/")?.split_once('/').map(|(namespace, _)| namespace)
}

/// Namespace and service account of an identity of the form `/ns/<namespace>/sa/<account>`.
fn account_of(id: &SpiffeId) -> Option<(&str, &str)> {
    let (namespace, rest) = id.path().strip_prefix("/ns/")?.split_once('/')?;
    let account = rest.strip_prefix("sa/").filter(|account| !account.contains('/'))?;
    Some((namespace, account))
}

impl fmt::Display for IdentityPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trust_domain, segments) = match self {
            Self::Exact(id) => return write!(f, "{id}"),
            Self::Segments { trust_domain, segments } => (trust_domain, segments),
            Self::Namespace(glob) => return write!(f, "namespace {glob}"),
            Self::ServiceAccount { namespace, account } => return write!(f, "service account {namespace}/{account}"),
            Self::TrustDomain(text) => return write!(f, "trust domain {text}"),
            Self::Text(text) => return write!(f, "{text}"),
        };
        write!(f, "spiffe://{trust_domain}")?;
        for segment in segments {
            match segment {
                IdentitySegment::Literal(literal) => write!(f, "/{literal}")?,
                IdentitySegment::One => f.write_str("/*")?,
                IdentitySegment::Rest => f.write_str("/**")?,
            }
        }
        Ok(())
    }
}

/// What is wrong with an ID or pattern.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum IdentityPatternError {
    /// It does not begin with `spiffe://`.
    #[error("a SPIFFE ID begins with `spiffe://`")]
    Scheme,
    /// It is a trust domain alone.
    #[error("a workload's SPIFFE ID has a path, and this is a trust domain alone")]
    NoPath,
    /// The trust domain is a pattern.
    #[error("the trust domain cannot be a pattern")]
    TrustDomainPattern,
    /// The trust domain has upper-case letters; holds it in lower case.
    #[error("a trust domain is written in lower case")]
    TrustDomainCase(String),
    /// A wildcard and other characters in one segment.
    #[error("a wildcard must be a whole segment, which {} is not", quoted(.0))]
    PartOfSegment(String),
    /// `**` stands before the end.
    #[error("`**` may stand only at the end of a SPIFFE ID pattern")]
    RestNotLast,
    /// It is longer than the standard lets any ID be.
    #[error("a SPIFFE ID has at most {MAX_BYTES} bytes")]
    TooLong,
    /// It is no SPIFFE ID; the source is the standard's rule.
    #[error("{} is not a SPIFFE ID", quoted(text))]
    NotAnId {
        /// What was written.
        text: String,
        /// The rule it breaks.
        #[source]
        cause: SpiffeIdError,
    },
}

impl IdentityPatternError {
    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::Scheme | Self::NotAnId { .. } => {
                "write it as spiffe://trust.domain/ns/namespace/sa/account, `*` standing for one segment".to_owned()
            }
            Self::NoPath => "write `/**` after it if every workload of the trust domain is meant".to_owned(),
            Self::TrustDomainPattern => "name each trust domain in an entry of its own".to_owned(),
            Self::TrustDomainCase(lower) => format!("write {}", quoted(lower)),
            Self::PartOfSegment(_) => "write `*` for the whole segment, or name each identity".to_owned(),
            Self::RestNotLast => "write `*` for one segment in the middle".to_owned(),
            Self::TooLong => "shorten it".to_owned(),
        }
    }
}

fn segment(part: &str, last: bool) -> Result<IdentitySegment, IdentityPatternError> {
    match part {
        "*" => Ok(IdentitySegment::One),
        "**" if last => Ok(IdentitySegment::Rest),
        "**" => Err(IdentityPatternError::RestNotLast),
        mixed if mixed.contains('*') => Err(IdentityPatternError::PartOfSegment(mixed.to_owned())),
        literal => Ok(IdentitySegment::Literal(literal.into())),
    }
}

fn describe(text: &str, cause: &SpiffeIdError) -> IdentityPatternError {
    IdentityPatternError::NotAnId { text: text.to_owned(), cause: cause.clone() }
}

const SCHEME: &str = "spiffe://";

/// The length every implementation must support (SPIFFE-ID section 2.3); none needs to support more.
const MAX_BYTES: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn istio_sources() {
        let text = |text| IdentityPattern::Text(TextPattern::of_istio(text));
        let rows: Vec<(IdentityPattern, &[&str], &[&str])> = vec![
            (
                IdentityPattern::Namespace(Glob::new("a")),
                &["t/ns/a/sa/x", "u/ns/a/x"],
                &["t/ns/ab/sa/x", "t/x/ns/a/sa/x", "t/ns/a"],
            ),
            (IdentityPattern::Namespace(Glob::new("a*")), &["t/ns/a/x", "t/ns/ab/x"], &["t/ns/b/ns/a/x", "t/ns/ba/x"]),
            (
                IdentityPattern::ServiceAccount { namespace: "a".into(), account: "x".into() },
                &["t/ns/a/sa/x", "u/ns/a/sa/x"],
                &["t/ns/a/sa/y", "t/ns/a/sa/x/y", "t/ns/b/sa/x", "t/ns/a/x"],
            ),
            (
                IdentityPattern::ServiceAccount { namespace: "a".into(), account: "x.io".into() },
                &["t/ns/a/sa/x.io"],
                &["t/ns/a/sa/x-io", "t/ns/a/sa/xyio"],
            ),
            (IdentityPattern::TrustDomain(TextPattern::of_istio("t*")), &["t/x", "tu/x"], &["u/x"]),
            (text("t/ns/a/sa/x"), &["t/ns/a/sa/x"], &["t/ns/a/sa/xy", "u/ns/a/sa/x"]),
            (text("t/ns/a*"), &["t/ns/a/x", "t/ns/ab"], &["t/ns/b", "tt/ns/a/x"]),
            (text("t*"), &["t/x", "tt/x"], &["u/t"]),
            (text("*/sa/x"), &["t/ns/a/sa/x"], &["t/ns/a/sa/y"]),
            (text("*t/x"), &["t/x", "at/x", "t/t/x"], &["u/x"]),
            (text("*"), &["t/x"], &[]),
        ];
        for (pattern, matching, others) in rows {
            let id = |text: &&str| SpiffeId::new(format!("spiffe://{text}")).unwrap();
            for text in matching {
                assert!(pattern.matches(&id(text)), "{pattern} {text}");
            }
            for text in others {
                assert!(!pattern.matches(&id(text)), "{pattern} {text}");
            }
        }
    }

    #[test]
    fn matches_by_whole_segments() {
        let rows: &[(&str, &[&str], &[&str])] = &[
            (
                "spiffe://a.b/ns/x/sa/y",
                &["spiffe://a.b/ns/x/sa/y"],
                &["spiffe://a.b/ns/x/sa/Y", "spiffe://c/ns/x/sa/y"],
            ),
            (
                "spiffe://a.b/ns/x/sa/*",
                &["spiffe://a.b/ns/x/sa/y"],
                &["spiffe://a.b/ns/x/sa", "spiffe://a.b/ns/x/sa/y/z"],
            ),
            ("spiffe://a.b/ns/*/sa/y", &["spiffe://a.b/ns/q/sa/y"], &["spiffe://a.b/ns/q/r/sa/y"]),
            (
                "spiffe://a.b/ns/x/**",
                &["spiffe://a.b/ns/x/y", "spiffe://a.b/ns/x/y/z"],
                &["spiffe://a.b/ns/x", "spiffe://a.b/ns/xy/z"],
            ),
            ("spiffe://a.b/**", &["spiffe://a.b/x"], &["spiffe://a.b", "spiffe://a.b.c/x"]),
        ];
        for (pattern, matching, others) in rows {
            let parsed = IdentityPattern::parse(pattern).unwrap();
            assert_eq!(parsed.to_string(), *pattern);
            for id in *matching {
                assert!(parsed.matches(&SpiffeId::new(id).unwrap()), "{pattern} {id}");
            }
            for id in *others {
                assert!(!parsed.matches(&SpiffeId::new(id).unwrap()), "{pattern} {id}");
            }
        }
    }

    #[test]
    fn refuses_what_is_no_pattern() {
        let rows: &[(&str, &str)] = &[
            ("a.b/ns/x", "a SPIFFE ID begins with `spiffe://`"),
            ("spiffe://a.b", "a workload's SPIFFE ID has a path, and this is a trust domain alone"),
            ("spiffe://*/ns/x", "the trust domain cannot be a pattern"),
            ("spiffe://*.b/ns/x", "the trust domain cannot be a pattern"),
            ("spiffe://A.b/ns/x", "a trust domain is written in lower case"),
            ("spiffe://a.b/ns/x*", "a wildcard must be a whole segment, which `x*` is not"),
            ("spiffe://a.b/**/x", "`**` may stand only at the end of a SPIFFE ID pattern"),
            ("spiffe://a.b/", "`spiffe://a.b/` is not a SPIFFE ID: path cannot have a trailing slash"),
            ("spiffe://a.b/x/", "`spiffe://a.b/x/` is not a SPIFFE ID: path cannot have a trailing slash"),
            ("spiffe://a.b/*/", "`spiffe://a.b/*/` is not a SPIFFE ID: path cannot contain empty segments"),
            (
                "spiffe://a.b/%41/*",
                "`spiffe://a.b/%41/*` is not a SPIFFE ID: path segment characters are limited to letters, numbers, \
                 dots, dashes, and underscores",
            ),
            ("spiffe:///x", "`spiffe:///x` is not a SPIFFE ID: trust domain is missing"),
        ];
        for (text, expected) in rows {
            let error = IdentityPattern::parse(text).unwrap_err();
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            assert_eq!(format!("{error}{cause}"), *expected, "{text}");
        }
        let long = format!("spiffe://a.b/{}", "x".repeat(2048));
        assert_eq!(IdentityPattern::parse(&long), Err(IdentityPatternError::TooLong));
    }

    #[test]
    fn knows_which_namespaces_it_reaches() {
        let rows: &[(&str, bool)] = &[
            ("spiffe://a/ns/x/sa/y", true),
            ("spiffe://a/ns/z/sa/y", false),
            ("spiffe://a/ns/xy/sa/y", false),
            ("spiffe://a/ns/x", false),
            ("spiffe://a/ns/*", false),
            ("spiffe://a/ns/*/sa/y", true),
            ("spiffe://a/**", true),
            ("spiffe://a/*/**", true),
            ("spiffe://a/vm/*/**", false),
        ];
        for (pattern, expected) in rows {
            assert_eq!(IdentityPattern::parse(pattern).unwrap().reaches_namespace("x"), *expected, "{pattern}");
        }
    }
}
