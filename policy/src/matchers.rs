//! Matchers of HTTP requests: hosts, gRPC names, header fields.
//!
//! Where a request can be read in two ways, a deny rule is given every doubt and an allow rule none; a `not…` twin
//! turns that around. [`Doubt`] carries which of the two is asked for.

use std::fmt;
use std::net::Ipv6Addr;

use crate::request::{HeaderValues, bare_host};
use crate::text::TextPattern;

/// Whether a matcher holds when a request can be read in two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// It holds if one reading matches.
    Matches,
    /// It holds only if every reading matches.
    Misses,
}

/// A host, compared without case, port and trailing dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HostPattern {
    Exact(Box<str>),
    /// `*.example.com`: one label or more before the suffix, which is kept with its leading dot.
    Below(Box<str>),
    /// Istio's: compared without case with the host as it was sent.
    Text(TextPattern),
}

impl HostPattern {
    /// Parses a host or `*.` and a host.
    pub(crate) fn parse(text: &str) -> Result<Self, HostPatternError> {
        let name = text.strip_prefix("*.").unwrap_or(text);
        let bare = bare_host(name);
        let cut = name.strip_prefix(bare).unwrap_or_default();
        let is_port = cut.bytes().all(|b| b.is_ascii_digit() || b == b':' || b == b'.');
        if !cut.is_empty() && is_port && is_host(bare) {
            return Err(HostPatternError::Port { bare: text.strip_suffix(name).unwrap_or("").to_owned() + bare });
        }
        if name.contains('*') {
            return Err(HostPatternError::Wildcard);
        }
        let below_address = name.len() < text.len() && name.starts_with('[');
        if !is_host(name) || below_address {
            return Err(HostPatternError::NotAHost);
        }
        let lower = text.to_ascii_lowercase();
        Ok(match lower.strip_prefix('*') {
            Some(suffix) => Self::Below(suffix.into()),
            None => Self::Exact(lower.into()),
        })
    }

    /// Whether a host as sent matches. A text without a port would miss the host with one: in doubt both count.
    pub(crate) fn matches(&self, host: &str, doubt: Doubt) -> bool {
        match self {
            Self::Exact(exact) => is_same(exact, bare_host(host)),
            Self::Below(suffix) => {
                let host = bare_host(host);
                let at = host.len().checked_sub(suffix.len()).filter(|at| *at > 0);
                at.and_then(|at| host.get(at..)).is_some_and(|end| suffix.eq_ignore_ascii_case(end))
            }
            Self::Text(text) => {
                let bare = || text.matches_ignoring_case(bare_host(host));
                text.matches_ignoring_case(host) || (doubt == Doubt::Matches && bare())
            }
        }
    }
}

/// Names without case; an IPv6 address has many spellings and is one address in all of them.
fn is_same(exact: &str, host: &str) -> bool {
    exact.eq_ignore_ascii_case(host)
        || bracketed(exact).zip(bracketed(host)).is_some_and(|(exact, host)| {
            exact.parse::<Ipv6Addr>().is_ok_and(|exact| host.parse::<Ipv6Addr>().is_ok_and(|host| exact == host))
        })
}

fn bracketed(text: &str) -> Option<&str> {
    text.strip_prefix('[')?.strip_suffix(']')
}

/// A DNS name, or an address; an IPv6 one in brackets.
fn is_host(text: &str) -> bool {
    match bracketed(text) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => text.split('.').all(|label| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        }),
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(exact) => f.write_str(exact),
            Self::Below(suffix) => write!(f, "*{suffix}"),
            Self::Text(text) => write!(f, "{text}"),
        }
    }
}

/// What is wrong with a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HostPatternError {
    #[error("a host is matched without port and trailing dot")]
    Port { bare: String },
    #[error("a wildcard in a host can only be its whole first label")]
    Wildcard,
    #[error("this is not a host name or an address")]
    NotAHost,
}

impl HostPatternError {
    pub(crate) fn help(&self) -> String {
        match self {
            Self::Port { bare } => format!("write `{bare}`, and the port under `ports`"),
            Self::Wildcard => "write `*.example.com` for every host below example.com".to_owned(),
            Self::NotAHost => "write a DNS name, an IPv4 address, or an IPv6 address in brackets".to_owned(),
        }
    }
}

/// gRPC services and methods: the path `/service/method`, by POST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GrpcMatcher {
    /// Empty: every service.
    pub(crate) services: Vec<Box<str>>,
    /// Empty: every method.
    pub(crate) methods: Vec<Box<str>>,
}

impl GrpcMatcher {
    /// A server that answers other methods than POST on a gRPC path is not known, and not ruled out: in doubt the path
    /// alone matches.
    pub(crate) fn matches(&self, method: &str, path: &str, doubt: Doubt) -> bool {
        let names = |list: &[Box<str>], name: &str| list.is_empty() || list.iter().any(|one| **one == *name);
        let Some((service, call)) = path.strip_prefix('/').and_then(|path| path.split_once('/')) else { return false };
        let is_call = !service.is_empty() && !call.is_empty() && !call.contains('/');
        let posted = doubt == Doubt::Matches || method == "POST";
        is_call && posted && names(&self.services, service) && names(&self.methods, call)
    }
}

/// A header field with the values it may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeaderMatcher {
    /// In lower case.
    pub(crate) name: Box<str>,
    pub(crate) values: Vec<TextPattern>,
}

impl HeaderMatcher {
    /// Whether the field matches. A repeated field has several readings: each of its values, and all of them joined by
    /// commas; in doubt one that matches is enough, otherwise every value must match, and there must be one.
    pub(crate) fn matches(&self, headers: &dyn HeaderValues, doubt: Doubt) -> bool {
        let (mut count, mut matching, mut bytes) = (0_usize, 0_usize, 0_usize);
        headers.visit(&self.name, &mut |value| {
            count += 1;
            bytes += value.len();
            matching += usize::from(self.values.iter().any(|pattern| value_matches(pattern, value)));
        });
        match doubt {
            Doubt::Misses => count > 0 && matching == count,
            Doubt::Matches if matching > 0 => true,
            Doubt::Matches if count < 2 => false,
            // Both ways to join are in use; RFC 9110 section 5.3 has the second.
            Doubt::Matches => [",", ", "].into_iter().any(|comma| {
                let joined = Joined { headers, name: &self.name, comma, length: bytes + (count - 1) * comma.len() };
                self.values.iter().any(|pattern| joined.matches(pattern))
            }),
        }
    }
}

/// A field with an empty value is there, as an empty text elsewhere is not.
fn value_matches(pattern: &TextPattern, value: &[u8]) -> bool {
    match pattern {
        TextPattern::Exact(exact) => exact.as_bytes() == value,
        TextPattern::Prefix(prefix) => value.starts_with(prefix.as_bytes()),
        TextPattern::Suffix(suffix) => value.ends_with(suffix.as_bytes()),
        TextPattern::Present => true,
    }
}

/// All values of a field joined, compared piece by piece so that nothing is copied.
struct Joined<'a> {
    headers: &'a dyn HeaderValues,
    name: &'a str,
    comma: &'static str,
    length: usize,
}

impl Joined<'_> {
    fn matches(&self, pattern: &TextPattern) -> bool {
        match pattern {
            TextPattern::Exact(exact) => exact.len() == self.length && self.holds_at(0, exact.as_bytes()),
            TextPattern::Prefix(prefix) => self.holds_at(0, prefix.as_bytes()),
            TextPattern::Suffix(suffix) => {
                self.length.checked_sub(suffix.len()).is_some_and(|at| self.holds_at(at, suffix.as_bytes()))
            }
            TextPattern::Present => true,
        }
    }

    /// Whether `wanted` stands at offset `at` of the joined value.
    fn holds_at(&self, at: usize, wanted: &[u8]) -> bool {
        let mut window = Window { skip: at, wanted, equal: true };
        let mut first = true;
        self.headers.visit(self.name, &mut |value| {
            if !std::mem::take(&mut first) {
                window.take(self.comma.as_bytes());
            }
            window.take(value);
        });
        window.equal && window.wanted.is_empty()
    }
}

/// A comparison that goes on from piece to piece.
struct Window<'a> {
    skip: usize,
    wanted: &'a [u8],
    equal: bool,
}

impl Window<'_> {
    fn take(&mut self, piece: &[u8]) {
        let Some(piece) = piece.get(self.skip..) else {
            self.skip -= piece.len();
            return;
        };
        self.skip = 0;
        let length = piece.len().min(self.wanted.len());
        self.equal &= piece.get(..length) == self.wanted.get(..length);
        self.wanted = self.wanted.get(length..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let rows: &[(&str, &[&str], &[&str])] = &[
            ("a.example", &["a.example", "A.Example:443", "a.example."], &["b.a.example", "", "a.example.org"]),
            ("*.Example", &["a.example", "a.b.EXAMPLE:1"], &["example", ".example", "aexample", ""]),
            (
                "[::1]",
                &["[::1]:80", "[::1]", "[0:0::0:1]:80", "[0000::0001]"],
                &["::1", "[::2]", "[::ffff:0.0.0.1]", "[x]"],
            ),
            ("10.0.0.1", &["10.0.0.1:8080"], &["10.0.0.10"]),
        ];
        for (pattern, matching, others) in rows {
            let pattern = HostPattern::parse(pattern).unwrap();
            for host in *matching {
                assert!(pattern.matches(host, Doubt::Misses), "{pattern} {host}");
            }
            for host in *others {
                assert!(!pattern.matches(host, Doubt::Matches), "{pattern} {host}");
            }
        }
        let port = HostPatternError::Port { bare: "*.a.example".to_owned() };
        assert_eq!(HostPattern::parse("*.a.example:80"), Err(port));
        assert_eq!(HostPattern::parse("a.*.example"), Err(HostPatternError::Wildcard));
        for bad in ["a b", "http://a", "a..b", "[::1", "::1", "*.[::1]", "[x]", "a:b", "", ".", ":80"] {
            assert_eq!(HostPattern::parse(bad), Err(HostPatternError::NotAHost), "{bad}");
        }
        assert_eq!(HostPattern::parse("*"), Err(HostPatternError::Wildcard));
    }

    #[test]
    fn istio_hosts_are_read_with_and_without_port_only_where_that_denies() {
        // pattern, host, in doubt, without
        for (pattern, host, in_doubt, without) in [
            ("a.example", "A.example", true, true),
            ("a.example", "a.example:80", true, false),
            ("a.example:*", "a.example:80", true, true),
            ("a.example:*", "a.example", false, false),
            ("*.example", "b.a.EXAMPLE", true, true),
            ("*.example", "a.example:1", true, false),
            ("*", "a:1", true, true),
            ("*", "", false, false),
        ] {
            let pattern = HostPattern::Text(TextPattern::of_istio(pattern));
            assert_eq!(pattern.matches(host, Doubt::Matches), in_doubt, "{pattern} {host}");
            assert_eq!(pattern.matches(host, Doubt::Misses), without, "{pattern} {host}");
        }
    }

    #[test]
    fn grpc_names() {
        let name = |text: &str| vec![Box::from(text)];
        let one = GrpcMatcher { services: name("a.B"), methods: name("Get") };
        assert!(one.matches("POST", "/a.B/Get", Doubt::Misses));
        assert!(!one.matches("GET", "/a.B/Get", Doubt::Misses));
        assert!(one.matches("GET", "/a.B/Get", Doubt::Matches));
        for path in ["/a.B/Set", "/a.C/Get", "/a.B/Get/", "/a.B", "/", "//Get", "/a.B/"] {
            assert!(!one.matches("POST", path, Doubt::Matches), "{path}");
        }
        let any_method = GrpcMatcher { services: name("a.B"), methods: Vec::new() };
        assert!(any_method.matches("POST", "/a.B/Set", Doubt::Misses));
        assert!(!any_method.matches("POST", "/a.B/", Doubt::Misses));
    }

    fn field(values: &[&str]) -> Vec<(String, String)> {
        values.iter().map(|value| ("X-A".to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn repeated_header_fields_are_read_in_every_way() {
        // pattern, values, holds in doubt, holds without doubt
        let rows: &[(&str, &[&str], bool, bool)] = &[
            ("a", &[], false, false),
            ("a", &["a"], true, true),
            ("a", &["b"], false, false),
            ("a", &["a", "b"], true, false),
            ("a", &["a", "a"], true, true),
            ("a,b", &["a", "b"], true, false),
            ("a, b", &["a", "b"], true, false),
            ("a,b", &["b", "a"], false, false),
            ("a,b,c", &["a", "b"], false, false),
            ("a,b*", &["a", "bc"], true, false),
            ("*c,d", &["abc", "d"], true, false),
            ("*,d", &["abc", "d"], true, false),
            ("*x,d", &["abc", "d"], false, false),
            ("*", &[""], true, true),
            ("*", &[], false, false),
            ("a*", &["ab", "ac"], true, true),
            ("a,,b", &["a", "", "b"], true, false),
        ];
        for (pattern, values, in_doubt, without) in rows {
            let matcher = HeaderMatcher { name: "x-a".into(), values: vec![TextPattern::parse(pattern).unwrap()] };
            let headers = field(values);
            assert_eq!(matcher.matches(&headers, Doubt::Matches), *in_doubt, "{pattern} {values:?}");
            assert_eq!(matcher.matches(&headers, Doubt::Misses), *without, "{pattern} {values:?}");
        }
    }
}
