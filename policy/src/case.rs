//! A case of a `PolicyTest`: facts, and what must be decided. [`crate::testing`] runs it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use spiffe::SpiffeId;

use crate::request::Connection;
use crate::rules::{Effect, Origin};

/// One case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The name of the test document.
    pub test: String,
    /// The name of the case.
    pub name: String,
    /// Where it is written.
    pub origin: Origin,
    /// Who calls.
    pub caller: SpiffeId,
    /// Who is called.
    pub workload: SpiffeId,
    /// The application's port.
    pub port: u16,
    /// The caller's address; 0.0.0.0 when the case names none.
    pub source: IpAddr,
    /// The address that is called; 0.0.0.0 when the case names none.
    pub destination: IpAddr,
    /// The server name of the caller's handshake, if the case names one.
    pub server_name: Option<String>,
    /// The labels of the workload, for [`crate::Options::labels`].
    pub labels: BTreeMap<String, String>,
    /// The time of the call, in seconds since 1970; the time of the run when the case names none.
    pub at: Option<i64>,
    /// What is asked for.
    pub asked: Asked,
    /// What must be decided.
    pub expect: Effect,
    /// The rule that must decide, if the case names one.
    pub rule: Option<String>,
}

impl Case {
    /// The connection that is asked about, with `now` where the case names no time.
    #[must_use]
    pub fn connection(&self, now: i64) -> Connection<'_> {
        Connection {
            caller: &self.caller,
            workload: &self.workload,
            port: self.port,
            source: self.source,
            destination: self.destination,
            server_name: self.server_name.as_deref(),
            now: self.at.unwrap_or(now),
        }
    }
}

/// What a case asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// An HTTP request.
    Request {
        /// The method.
        method: String,
        /// The host; empty for none.
        host: String,
        /// The path as a caller sends it; a query is ignored.
        target: String,
        /// Header fields in order.
        headers: Vec<(String, String)>,
    },
    /// An opaque TCP connection.
    Connection,
}
