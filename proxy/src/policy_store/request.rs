//! Requests as policy sees them: while they are here, and kept for deciding them again.

use std::cell::Cell;
use std::fmt;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method};
use portcullis_policy::path::{EncodedSlash, Path};
use portcullis_policy::{Connection, HeaderValues, Request};

use super::{Loaded, Refused, Verdict};

/// Lets policy look at header fields without copying them, and remembers whether it did.
#[derive(Debug)]
pub struct Fields<'a> {
    all: Option<&'a HeaderMap>,
    looked_at: Cell<bool>,
}

impl<'a> Fields<'a> {
    /// Of a request that has them.
    pub fn of(all: &'a HeaderMap) -> Self {
        Self { all: Some(all), looked_at: Cell::new(false) }
    }

    /// Whether the decision depends on any of them.
    pub fn were_looked_at(&self) -> bool {
        self.looked_at.get()
    }
}

impl HeaderValues for Fields<'_> {
    fn visit(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        self.looked_at.set(true);
        for value in self.all.into_iter().flat_map(|all| all.get_all(name)) {
            visit(value.as_bytes());
        }
    }
}

/// A request that was allowed and whose head has gone on, as far as it is still known.
///
/// Its header fields may hold secrets of the caller, so they are never shown.
#[derive(Clone, Copy)]
pub struct Gone<'a> {
    /// The method.
    pub method: &'a Method,
    /// The host that was asked for.
    pub host: &'a str,
    /// The target as it came.
    pub target: &'a PathAndQuery,
    /// The fields that were decided on; `None` if nobody looked at them then.
    pub headers: Option<&'a HeaderMap>,
    /// What has allowed it.
    pub allowed: Option<&'a Verdict>,
}

impl Gone<'_> {
    /// Why the policy refuses it, on this connection; `None` if it allows it. Nothing is counted. What can only be told from
    /// header fields that are not known any more is not allowed.
    pub fn refusal(&self, policy: &Loaded, connection: Connection<'_>) -> Option<Refused> {
        let because = |why| Some(Refused { why, rule: None });
        // It was a path when it came; were it none, nothing would be allowed. One with `%2F` came where that is decided on.
        let Ok(path) = Path::normalise(self.target.as_str().as_bytes(), EncodedSlash::Decide) else {
            return because("its target is no path");
        };
        let headers = Fields { all: self.headers, looked_at: Cell::new(false) };
        let request =
            Request { connection, method: self.method.as_str(), host: self.host, path: &path, headers: &headers };
        let refused = policy.refusal(policy.policy.decide(&request).verdict);
        if refused.is_none() && self.headers.is_none() && headers.were_looked_at() {
            return because("it depends on header fields that nobody had looked at when it came");
        }
        refused
    }
}

impl fmt::Debug for Gone<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gone").field("method", &self.method).field("host", &self.host).finish_non_exhaustive()
    }
}

/// The request that opened a tunnel, kept for as long as the tunnel: what allowed it may cease to hold.
///
/// Its header fields may hold secrets of the caller, so they are never shown.
pub struct Opening {
    /// The method.
    pub method: Method,
    /// The host that was asked for.
    pub host: Box<str>,
    /// The target as it came.
    pub target: PathAndQuery,
    /// The fields that were decided on.
    pub headers: HeaderMap,
}

impl Opening {
    /// Why the policy refuses it, on this connection; `None` if it allows it. Nothing is counted.
    pub fn refusal(&self, policy: &Loaded, connection: Connection<'_>) -> Option<Refused> {
        let (method, host, target, headers) = (&self.method, &*self.host, &self.target, Some(&self.headers));
        Gone { method, host, target, headers, allowed: None }.refusal(policy, connection)
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening").field("method", &self.method).field("host", &self.host).finish_non_exhaustive()
    }
}
