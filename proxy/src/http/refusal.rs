//! Why the sidecar answers a request itself, in words for the caller, the log and the metrics.

use http::StatusCode;

/// Why the sidecar answers itself.
#[derive(Debug)]
pub struct Refusal {
    /// The status for an HTTP caller.
    pub status: StatusCode,
    /// The fixed word for metrics, log and `x-portcullis-reason`.
    pub reason: &'static str,
    /// What happened and what to do, for our own application.
    pub text: String,
}

impl Refusal {
    /// A request that is malformed or that we do not carry.
    pub fn bad_request(reason: &'static str, text: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, reason, text: text.into() }
    }
}
