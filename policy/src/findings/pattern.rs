//! Which patterns cover which, and which have nothing in common: for paths and for SPIFFE IDs alike.
//!
//! Both questions are answered with certainty or with no: `false` from either only means that it is not known.

use spiffe::SpiffeId;

use crate::identity::{IdentityPattern, IdentitySegment};
use crate::path::PathPattern;

/// A pattern by segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    /// The trust domain; empty for a path.
    head: Box<str>,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(Box<str>),
    /// One segment that is not empty.
    One,
    /// One segment or more, which may be empty; always the last.
    Rest,
    /// A pattern that is not by segment, as it is written: it covers itself, and of others nothing is known.
    Opaque(Box<str>),
}

impl Pattern {
    pub(super) fn of_path(pattern: &PathPattern) -> Self {
        // What it displays is its canonical text; a literal segment never holds an asterisk.
        let text = pattern.to_string();
        if pattern.segments().is_none() {
            return Self::opaque(text);
        }
        let parts = text.split('/').skip(1).map(|segment| match segment {
            "*" => Part::One,
            "**" => Part::Rest,
            literal => Part::Literal(literal.into()),
        });
        Self { head: Box::default(), parts: parts.collect() }
    }

    pub(super) fn of_id(id: &SpiffeId) -> Self {
        let segments = id.path().split('/').skip(1);
        let parts = segments.map(|segment| Part::Literal(segment.into())).collect();
        Self { head: id.trust_domain().as_str().into(), parts }
    }

    pub(super) fn of_identity(pattern: &IdentityPattern) -> Self {
        let (trust_domain, segments) = match pattern {
            IdentityPattern::Exact(id) => return Self::of_id(id),
            IdentityPattern::Segments { trust_domain, segments } => (trust_domain, segments),
            IdentityPattern::Namespace(_)
            | IdentityPattern::ServiceAccount { .. }
            | IdentityPattern::TrustDomain(_)
            | IdentityPattern::Text(_) => return Self::opaque(pattern.to_string()),
        };
        let parts = segments.iter().map(|segment| match segment {
            IdentitySegment::Literal(literal) => Part::Literal(literal.clone()),
            IdentitySegment::One => Part::One,
            IdentitySegment::Rest => Part::Rest,
        });
        Self { head: trust_domain.as_str().into(), parts: parts.collect() }
    }

    fn opaque(text: String) -> Self {
        Self { head: Box::default(), parts: vec![Part::Opaque(text.into())] }
    }

    /// Whether nothing is known of it but its text.
    pub(super) fn is_opaque(&self) -> bool {
        matches!(self.parts.as_slice(), [Part::Opaque(_)])
    }

    /// The trust domain; empty for a path, and for an identity that is opaque.
    pub(super) fn head(&self) -> &str {
        &self.head
    }

    /// Whether it is `**` alone: everything.
    pub(super) fn is_everything(&self) -> bool {
        self.parts == [Part::Rest]
    }

    /// Whether everything that `narrow` matches is certainly matched.
    pub(super) fn covers(&self, narrow: &Self) -> bool {
        if self.head != narrow.head {
            return false;
        }
        let mut theirs = narrow.parts.iter();
        for part in &self.parts {
            let covered = match (part, theirs.next()) {
                (Part::Rest, Some(Part::Opaque(_))) => false,
                (Part::Rest, Some(_)) => return true,
                (Part::Literal(wide), Some(Part::Literal(narrow)))
                | (Part::Opaque(wide), Some(Part::Opaque(narrow))) => wide == narrow,
                (Part::One, Some(Part::Literal(narrow))) => !narrow.is_empty(),
                (Part::One, Some(Part::One)) => true,
                (_, None)
                | (Part::Literal(_), Some(Part::One | Part::Rest))
                | (Part::One, Some(Part::Rest))
                | (Part::Opaque(_), Some(_))
                | (_, Some(Part::Opaque(_))) => false,
            };
            if !covered {
                return false;
            }
        }
        theirs.next().is_none()
    }

    /// Whether certainly nothing is matched by both.
    pub(super) fn is_disjoint(&self, other: &Self) -> bool {
        if self.is_opaque() || other.is_opaque() {
            return false;
        }
        if self.head != other.head {
            return true;
        }
        let (mut ours, mut theirs) = (self.parts.iter(), other.parts.iter());
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) | (Some(Part::Rest), Some(_)) | (Some(_), Some(Part::Rest)) => return false,
                (None, Some(_)) | (Some(_), None) => return true,
                (Some(Part::Literal(a)), Some(Part::Literal(b))) if a != b => return true,
                (Some(Part::One), Some(Part::Literal(literal))) | (Some(Part::Literal(literal)), Some(Part::One))
                    if literal.is_empty() =>
                {
                    return true;
                }
                (
                    Some(Part::Literal(_) | Part::One | Part::Opaque(_)),
                    Some(Part::Literal(_) | Part::One | Part::Opaque(_)),
                ) => {}
            }
        }
    }

    /// What every pattern that covers this one begins with, the shortest first: its [`Self::stem`] is among them.
    pub(super) fn stems(&self) -> impl Iterator<Item = String> {
        let literals = self.parts.iter().take(MAX_STEM).map_while(|part| match part {
            Part::Literal(literal) => Some(literal),
            Part::One | Part::Rest | Part::Opaque(_) => None,
        });
        let grown = literals.scan(self.head.to_string(), |stem, literal| {
            stem.push('/');
            stem.push_str(literal);
            Some(stem.clone())
        });
        std::iter::once(self.head.to_string()).chain(grown)
    }

    /// The segments before the first wildcard, as far as stems go.
    pub(super) fn stem(&self) -> String {
        self.stems().last().unwrap_or_default()
    }
}

/// Deeper segments tell hardly any two rules apart, and each costs a look-up.
const MAX_STEM: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        if text.starts_with('/') {
            return Pattern::of_path(&PathPattern::parse(text).unwrap());
        }
        Pattern::of_identity(&IdentityPattern::parse(text).unwrap())
    }

    #[test]
    fn covering_and_disjoint() {
        // wide, narrow, covers, disjoint
        for (wide, narrow, covers, disjoint) in [
            ("/a", "/a", true, false),
            ("/a", "/b", false, true),
            ("/**", "/", true, false),
            ("/**", "/a/**", true, false),
            ("/a/**", "/**", false, false),
            ("/a/**", "/a", false, true),
            ("/a/**", "/a/", true, false),
            ("/a/**", "/a/*/c", true, false),
            ("/a/*", "/a/{id}", true, false),
            ("/a/*", "/a/", false, true),
            ("/a/*", "/a/**", false, false),
            ("/a/*", "/a/b/c", false, true),
            ("/*/b", "/a/*", false, false),
            ("/*/b", "/a/c", false, true),
            ("/a/**", "/b/**", false, true),
            ("spiffe://t/**", "spiffe://t/a", true, false),
            ("spiffe://t/**", "spiffe://u/a", false, true),
            ("spiffe://t/ns/*/sa/x", "spiffe://t/ns/y/sa/x", true, false),
            ("spiffe://t/ns/y/sa/x", "spiffe://t/ns/*/sa/x", false, false),
            ("spiffe://t/ns/*/sa/x", "spiffe://t/ns/y/sa/z", false, true),
            ("spiffe://t/ns/y/**", "spiffe://t/ns/y", false, true),
        ] {
            let (a, b) = (pattern(wide), pattern(narrow));
            assert_eq!(a.covers(&b), covers, "{wide} covers {narrow}");
            assert_eq!(a.is_disjoint(&b), disjoint, "{wide} and {narrow}");
            assert_eq!(b.is_disjoint(&a), disjoint, "{narrow} and {wide}");
            if covers {
                assert!(b.stems().any(|stem| stem == a.stem()), "{wide} is found from {narrow}");
            }
        }
    }
}
