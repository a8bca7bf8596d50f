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

use crate::request::bare_host;
use crate::text::Glob;

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
    /// The address that the caller wants to reach.
    Destination,
    /// The server name of the caller's handshake.
    ServerName,
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
            Self::Destination => "destination",
            Self::ServerName => "server_name",
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
    /// A header field or server name that is not there.
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
    Host(Text, Reading),
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
    /// Whether any segments may come before.
    pub(super) opens: bool,
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
    /// One that begins so.
    Starts(Box<str>),
    /// One that ends so.
    Ends(Box<str>),
    Glob(Glob),
}

impl Part {
    pub(super) fn matches(&self, segment: &str) -> bool {
        match self {
            Self::Word(word) => **word == *segment,
            Self::Words(words) => words.binary_search_by(|word| (**word).cmp(segment)).is_ok(),
            Self::One => !segment.is_empty(),
            Self::Any => true,
            Self::Starts(start) => segment.starts_with(&**start),
            Self::Ends(end) => segment.ends_with(&**end),
            Self::Glob(glob) => glob.matches(segment),
        }
    }

    /// The text that it begins or ends with, or a glob.
    pub(super) fn end(&self) -> Option<&str> {
        match self {
            Self::Starts(text) | Self::Ends(text) => Some(text),
            Self::Glob(glob) => Some(glob.as_str()),
            Self::Word(_) | Self::Words(_) | Self::One | Self::Any => None,
        }
    }

    /// The words that it names.
    pub(super) fn words(&self) -> &[Box<str>] {
        match self {
            Self::Word(word) => std::slice::from_ref(word),
            Self::Words(words) => words,
            Self::One | Self::Any | Self::Starts(_) | Self::Ends(_) | Self::Glob(_) => &[],
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

/// How a host is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Reading {
    /// Without its port and trailing dot.
    Bare,
    AsSent,
    /// In one of the two ways.
    Either,
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
            (Self::Host(pattern, reading), Value::Text(text)) => {
                let matches = |host: &str| pattern.matches(host) && !(pattern.how == How::Present && host.is_empty());
                match reading {
                    Reading::Bare => matches(bare_host(text)),
                    Reading::AsSent => matches(text),
                    Reading::Either => matches(text) || matches(bare_host(text)),
                }
            }
            (Self::Port(port), Value::Port(value)) => port == value,
            (Self::Network(network), Value::Address(address)) => network.contains(address),
            (Self::Until(end), Value::Moment(moment)) => moment < end,
            (
                Self::Segments(_) | Self::Text(_) | Self::Host(..) | Self::Port(_) | Self::Network(_) | Self::Until(_),
                _,
            ) => false,
        }
    }
}

impl Segments {
    pub(super) fn matches(&self, text: &str) -> bool {
        let Some(text) = text.strip_prefix(self.kind.prefix()) else { return false };
        let segments: Vec<&str> = text.split('/').collect();
        let Some(before) = segments.len().checked_sub(self.parts.len()) else { return false };
        let begins = 0..=if self.opens { before } else { 0 };
        begins.into_iter().any(|begin| {
            let mut left = segments.iter().skip(begin);
            let fits = self.parts.iter().all(|part| left.next().is_some_and(|segment| part.matches(segment)));
            fits && (self.continues || left.next().is_none())
        })
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segments(pattern) => f.write_str(&pattern.shown),
            Self::Text(Text { how, text, .. }) | Self::Host(Text { how, text, .. }, _) => match how {
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
