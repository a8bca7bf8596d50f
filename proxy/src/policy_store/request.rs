//! Requests as policy sees them: while they are here, and kept for deciding them again.

use std::fmt;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method};
use portcullis_policy::path::{EncodedSlash, Path};
use portcullis_policy::{Connection, HeaderValues, Request};

use super::Loaded;

/// Lets policy look at header fields without copying them.
#[derive(Debug)]
pub struct Fields<'a>(pub &'a HeaderMap);

impl HeaderValues for Fields<'_> {
    fn visit(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        for value in self.0.get_all(name) {
            visit(value.as_bytes());
        }
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
    /// Whether the policy allows it, on this connection. Nothing is counted.
    pub fn is_allowed(&self, policy: &Loaded, connection: Connection<'_>) -> bool {
        // It was a path when it came; were it none, nothing would be allowed.
        let Ok(path) = Path::normalise(self.target.as_str().as_bytes(), EncodedSlash::Refuse) else { return false };
        let (method, host, headers) = (self.method.as_str(), &*self.host, &Fields(&self.headers));
        policy.policy.decide(&Request { connection, method, host, path: &path, headers }).verdict.is_allow()
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening").field("method", &self.method).field("host", &self.host).finish_non_exhaustive()
    }
}
