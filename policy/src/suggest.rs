//! The least allow-list that covers traffic that was seen.
//!
//! Observations go in one by one, documents come out. Everything in an observation but the identities is what a caller
//! chose: it is bounded, normalised as the proxy does, and what cannot be said in a policy is left out and told. Paths
//! are widened only where one caller was seen with many values in one place; nothing that a caller does widens what
//! another may do.

mod group;
mod rules;
mod shape;
mod tree;
mod wording;

use std::collections::BTreeMap;

use spiffe::SpiffeId;

use crate::native::matching::{is_service, is_word};
use crate::path::{EncodedSlash, Path, PathPattern};
use crate::rules::Mode;
use crate::write::{Document, Names};

use tree::Tree;

/// How to suggest.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How many values in one place of a path make a pattern; `None` for paths as they were seen.
    pub enough: Option<usize>,
    /// The mode of the policies. In audit mode there are no tests: they would fail until the policies are enforced.
    pub mode: Mode,
}

impl Default for Options {
    fn default() -> Self {
        Self { enough: Some(3), mode: Mode::Enforce }
    }
}

/// One request or connection that was seen.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// Who called.
    pub caller: &'a SpiffeId,
    /// Who was called.
    pub workload: &'a SpiffeId,
    /// The application's port.
    pub port: u16,
    /// What was asked for.
    pub asked: Asked<'a>,
    /// When, in seconds since 1970.
    pub at: i64,
}

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub enum Asked<'a> {
    /// An opaque TCP connection.
    Connection,
    /// An HTTP request.
    Request {
        /// The method, as sent.
        method: &'a str,
        /// The path; a query is ignored.
        path: &'a str,
        /// Whether the caller spoke gRPC.
        grpc: bool,
    },
}

/// Why an observation is not covered by what is suggested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum LeftOut {
    /// The proxy answers it with 400 whatever the policy says.
    #[error("with paths that are answered with 400")]
    BadPath,
    /// Servers may take the path for several ones, or it holds what a pattern takes for a wildcard.
    #[error("with paths that no pattern can name, since servers differ about them")]
    DoubtfulPath,
    /// The path has more segments than any interface has.
    #[error("with paths of more than {MOST_SEGMENTS} segments")]
    DeepPath,
    /// The method cannot be written in a policy.
    #[error("with methods that no policy can name")]
    BadMethod,
    /// One caller asked one workload for more different things than anybody would review.
    #[error("of callers that asked one workload for too many different paths; see their rules")]
    Flood,
    /// There is more in all than anybody would review.
    #[error("beyond what is kept in memory; suggest from less at once")]
    TooMuch,
}

/// A workload was asked for more different paths than a policy file can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` was asked for more different paths than fit into a file of policy")]
pub struct TooManyPaths(
    /// The workload.
    pub SpiffeId,
);

/// Collects observations.
#[derive(Debug)]
pub struct Collector {
    options: Options,
    workloads: BTreeMap<SpiffeId, Workload>,
    spent: usize,
}

/// What one workload was asked for, by caller.
type Workload = BTreeMap<SpiffeId, Caller>;

/// What one caller asked one workload for.
#[derive(Debug, Default)]
struct Caller {
    http: BTreeMap<(u16, Box<str>), Tree>,
    grpc: BTreeMap<Call, Seen>,
    tcp: BTreeMap<u16, Seen>,
    spent: usize,
    flooded: u64,
}

/// A gRPC method at a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Call {
    port: u16,
    service: Box<str>,
    method: Box<str>,
}

/// How often, and from when to when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    count: u64,
    first: i64,
    last: i64,
}

/// What is suggested.
#[derive(Debug)]
pub struct Suggestion {
    /// One policy for each workload.
    pub policies: Vec<Document>,
    /// A test for each policy, with a case for each rule; none in audit mode.
    pub tests: Vec<Document>,
    /// Connections that are not covered, because their port carries HTTP as well: a rule for it would allow every
    /// request.
    pub opaque_on_http: u64,
}

impl Collector {
    /// With nothing seen.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { options, workloads: BTreeMap::new(), spent: 0 }
    }

    /// Takes an observation.
    ///
    /// # Errors
    /// When what is suggested will not cover it.
    pub fn take(&mut self, observed: &Observed<'_>) -> Result<(), LeftOut> {
        let seen = Seen { count: 1, first: observed.at, last: observed.at };
        let asked = match observed.asked {
            Asked::Connection => None,
            Asked::Request { method, path, grpc } => {
                let path = Path::normalise(path.as_bytes(), EncodedSlash::Refuse).map_err(|_| LeftOut::BadPath)?;
                Some(Nameable::of(method, &path, grpc, observed.port)?)
            }
        };
        if self.spent >= MOST_BYTES {
            return Err(LeftOut::TooMuch);
        }
        let known = self.workloads.get(observed.workload).is_some_and(|callers| callers.contains_key(observed.caller));
        self.spent += if known { 0 } else { ENTRY };
        let caller = self.workloads.entry(observed.workload.clone()).or_default();
        let caller = caller.entry(observed.caller.clone()).or_default();
        if caller.spent >= MOST_BYTES_OF_CALLER {
            caller.flooded += 1;
            return Err(LeftOut::Flood);
        }
        let added = caller.add(observed.port, asked, seen, self.options.enough);
        caller.spent += added;
        self.spent += added;
        Ok(())
    }

    /// Whether nothing was taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.workloads.is_empty()
    }

    /// What covers everything that was taken, but for opaque connections to ports that carry HTTP too.
    ///
    /// # Errors
    /// When a workload was asked for more than fits into a policy.
    pub fn finish(self) -> Result<Suggestion, TooManyPaths> {
        let mut suggestion = Suggestion { policies: Vec::new(), tests: Vec::new(), opaque_on_http: 0 };
        let mut names = Names::default();
        for (workload, callers) in &self.workloads {
            let grouped = group::group(callers).ok_or_else(|| TooManyPaths(workload.clone()))?;
            suggestion.opaque_on_http += grouped.opaque_on_http;
            if grouped.rules.is_empty() {
                continue;
            }
            let (policy, test) = rules::documents(workload, callers, &grouped, self.options.mode, &mut names);
            suggestion.policies.push(policy);
            suggestion.tests.extend(test);
        }
        Ok(suggestion)
    }
}

/// A request that a policy has words for.
enum Nameable<'a> {
    Http { method: &'a str, path: String },
    Grpc(Call),
}

impl<'a> Nameable<'a> {
    fn of(method: &'a str, path: &Path<'_>, grpc: bool, port: u16) -> Result<Self, LeftOut> {
        let text = path.as_str();
        if text.split('/').count() > MOST_SEGMENTS + 1 {
            return Err(LeftOut::DeepPath);
        }
        if !is_method(method) {
            return Err(LeftOut::BadMethod);
        }
        // Of a path with several readings each would have to be allowed, and so every path that reads like one.
        let only_reading = path.readings().is_some_and(|readings| readings.count() == 1);
        let is_literal = !text.contains(['*', '{', '}']) && PathPattern::parse(text).is_ok();
        if !only_reading || !is_literal {
            return Err(LeftOut::DoubtfulPath);
        }
        let call = text.strip_prefix('/').and_then(|text| text.split_once('/'));
        let call = call.filter(|(service, name)| is_service(service) && is_word(name));
        match call {
            Some((service, name)) if grpc && method == "POST" => {
                Ok(Self::Grpc(Call { port, service: service.into(), method: name.into() }))
            }
            Some(_) | None => Ok(Self::Http { method, path: text.to_owned() }),
        }
    }
}

impl Caller {
    /// Answers what was added, in bytes.
    fn add(&mut self, port: u16, asked: Option<Nameable<'_>>, seen: Seen, enough: Option<usize>) -> usize {
        match asked {
            None => {
                let added = if self.tcp.contains_key(&port) { 0 } else { ENTRY };
                self.tcp.entry(port).and_modify(|known| known.add(seen)).or_insert(seen);
                added
            }
            Some(Nameable::Http { method, path }) => {
                let key = (port, method.into());
                let added = if self.http.contains_key(&key) { 0 } else { ENTRY };
                added + self.http.entry(key).or_default().insert(&path, seen, enough)
            }
            Some(Nameable::Grpc(call)) => {
                let added =
                    if self.grpc.contains_key(&call) { 0 } else { ENTRY + call.service.len() + call.method.len() };
                self.grpc.entry(call).and_modify(|known| known.add(seen)).or_insert(seen);
                added
            }
        }
    }
}

impl Seen {
    fn add(&mut self, more: Self) {
        self.count = self.count.saturating_add(more.count);
        self.first = self.first.min(more.first);
        self.last = self.last.max(more.last);
    }
}

/// Upper case, as policies write methods.
fn is_method(method: &str) -> bool {
    let token = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b"!#$%&'+-.^_`|~".contains(&b);
    !method.is_empty() && method.len() <= LONGEST_METHOD && method.bytes().all(token)
}

/// Interfaces have ten or so; the index of policies knows patterns of half as many.
const MOST_SEGMENTS: usize = 64;
/// The longest that is registered has 17 characters (UPDATEREDIRECTREF).
const LONGEST_METHOD: usize = 32;
/// About ten thousand different paths of one caller at one workload, more than fit into a document.
const MOST_BYTES_OF_CALLER: usize = 2 << 20;
/// What a machine on which policies are written can spare.
const MOST_BYTES: usize = 256 << 20;
/// What an entry of a map takes, about, with two identities.
const ENTRY: usize = 500;

#[cfg(test)]
mod tests;
