//! The constants and patterns of two sets of policies in one form: what a value of one axis may be.
//!
//! An axis is one of the facts that a decision is made from. A term matches some of its values. Terms are what cells are
//! cut by and what a report names; the engine is asked with values, never with terms.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// One of the facts that a decision is made from, in the order in which the space is cut.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Axis {
    /// The identity of the workload that is called.
    Workload,
    /// The identity of the caller.
    Caller,
    /// The application's port.
    Port,
    /// The caller's address.
    Source,
    /// The path of the request.
    Path,
    /// Its method.
    Method,
    /// Its host.
    Host,
    /// One of its header fields, by name in lower case.
    Header(Box<str>),
    /// The moment of the call.
    Time,
}

impl Axis {
    /// A fixed word for it; that of a header field goes without its name.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Workload => "workload",
            Self::Caller => "caller",
            Self::Port => "port",
            Self::Source => "source",
            Self::Path => "path",
            Self::Method => "method",
            Self::Host => "host",
            Self::Header(_) => "header",
            Self::Time => "time",
        }
    }
}

/// A value of an axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Text(Cow<'a, str>),
    /// A header field that is not there.
    Absent,
    Port(u16),
    Address(IpAddr),
    /// Seconds since 1970.
    Moment(i64),
}

/// What a value may be.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Term {
    Segments(Segments),
    Text(Text),
    Port(u16),
    Network(IpNet),
    /// Before this moment.
    Until(i64),
}

/// An identity or a path, by segment; the trust domain is the first segment of an identity.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Segments {
    pub(super) kind: Kind,
    pub(super) parts: Box<[Part]>,
    /// Whether any segments may follow.
    pub(super) continues: bool,
    /// As the author wrote it.
    pub(super) shown: Box<str>,
}

/// What segments make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    Identity,
    Path,
}

impl Kind {
    /// What stands before the first segment.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Identity => "spiffe://",
            Self::Path => "/",
        }
    }
}

/// What one segment may be.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Part {
    Word(Box<str>),
    /// One of these; sorted.
    Words(Box<[Box<str>]>),
    /// Any that is not empty.
    One,
    Any,
}

impl Part {
    pub(super) fn matches(&self, segment: &str) -> bool {
        match self {
            Self::Word(word) => **word == *segment,
            Self::Words(words) => words.binary_search_by(|word| (**word).cmp(segment)).is_ok(),
            Self::One => !segment.is_empty(),
            Self::Any => true,
        }
    }

    /// The words that it names.
    pub(super) fn words(&self) -> &[Box<str>] {
        match self {
            Self::Word(word) => std::slice::from_ref(word),
            Self::Words(words) => words,
            Self::One | Self::Any => &[],
        }
    }
}

/// A text that is compared as a whole or at one end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Text {
    pub(super) how: How,
    pub(super) text: Box<str>,
    pub(super) case: Case,
}

/// Which part of a text is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum How {
    Exact,
    Prefix,
    Suffix,
    Present,
}

/// Whether letters in another case are others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Case {
    Matters,
    Ignored,
}

impl Text {
    fn matches(&self, value: &str) -> bool {
        let same = |part: &str| match self.case {
            Case::Matters => *self.text == *part,
            Case::Ignored => self.text.eq_ignore_ascii_case(part),
        };
        match self.how {
            How::Exact => same(value),
            How::Prefix => value.get(..self.text.len()).is_some_and(same),
            How::Suffix => {
                let at = value.len().checked_sub(self.text.len());
                at.and_then(|at| value.get(at..)).is_some_and(same)
            }
            How::Present => true,
        }
    }
}

impl Term {
    pub(super) fn matches(&self, value: &Value<'_>) -> bool {
        match (self, value) {
            (Self::Segments(pattern), Value::Text(text)) => pattern.matches(text),
            (Self::Text(pattern), Value::Text(text)) => pattern.matches(text),
            (Self::Port(port), Value::Port(value)) => port == value,
            (Self::Network(network), Value::Address(address)) => network.contains(address),
            (Self::Until(end), Value::Moment(moment)) => moment < end,
            (Self::Segments(_) | Self::Text(_) | Self::Port(_) | Self::Network(_) | Self::Until(_), _) => false,
        }
    }
}

impl Segments {
    pub(super) fn matches(&self, text: &str) -> bool {
        let Some(text) = text.strip_prefix(self.kind.prefix()) else { return false };
        let mut segments = text.split('/');
        let head = self.parts.iter().all(|part| segments.next().is_some_and(|segment| part.matches(segment)));
        head && (self.continues || segments.next().is_none())
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segments(pattern) => f.write_str(&pattern.shown),
            Self::Text(Text { how, text, .. }) => match how {
                How::Exact => f.write_str(text),
                How::Prefix => write!(f, "{text}*"),
                How::Suffix => write!(f, "*{text}"),
                How::Present => f.write_str("*"),
            },
            Self::Port(port) => write!(f, "{port}"),
            Self::Network(network) => write!(f, "{network}"),
            Self::Until(end) => f.write_str(&moment(*end)),
        }
    }
}

/// RFC 3339, or the seconds where the calendar ends.
pub(crate) fn moment(seconds: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok().and_then(|time| time.format(&Rfc3339).ok());
    time.unwrap_or_else(|| format!("{seconds} s since 1970"))
}
