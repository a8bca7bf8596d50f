//! What the sidecar says about itself: metrics, log, access log and trace spans.
//!
//! None of it may stall the data path: counters are atomics, access log lines go to a bounded buffer that a thread of
//! its own writes out, spans are exported by a thread of the SDK.

pub mod access_log;
pub mod episode;
pub mod inventory;
pub mod log;
pub mod metrics;
pub mod repeated;
pub mod spans;
pub mod trace_context;

use std::sync::Arc;

/// What records requests and connections.
#[derive(Debug)]
pub struct Telemetry {
    /// Counts.
    pub metrics: Arc<metrics::Metrics>,
    /// Lines.
    pub access_log: access_log::AccessLog,
    /// Spans.
    pub spans: spans::Spans,
    /// Keeps a failure that repeats from flooding the log.
    pub repeated: repeated::Repeated,
    /// The limits that are reached at this moment.
    pub episodes: episode::Episodes,
}
