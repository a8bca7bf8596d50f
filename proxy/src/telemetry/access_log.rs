//! The access log: one JSON object a line for each request and each opaque TCP connection.
//!
//! Writers append to one buffer under a short lock; a thread writes it out in batches. When the buffer is full, because
//! the disk or the collector is slower than the traffic, lines are dropped and counted: the log never stalls a request.
//! The query of a request is not logged, because it may hold personal data.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::metrics::{Direction, Metrics};

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Standard output, the default.
    Stdout,
    /// Appended to a file, which is created with mode 0600 if it does not exist.
    File(PathBuf),
    /// Nowhere.
    Off,
}

/// One line. Absent fields are left out.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    /// When the request or connection began.
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    /// `inbound` or `outbound`.
    pub direction: &'static str,
    /// `http/1.1`, `h2`, `grpc` or `tcp`.
    pub protocol: &'static str,
    /// The verified SPIFFE ID of the caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<&'a str>,
    /// The SPIFFE ID of the workload that was called, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<&'a str>,
    /// The application's port.
    pub port: u16,
    /// The request method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<&'a str>,
    /// The host the caller asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<&'a str>,
    /// The path that was decided on and forwarded, without the query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<&'a str>,
    /// The status of the response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// `allow` or `deny`; absent outbound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<&'static str>,
    /// The policy that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<&'a str>,
    /// The rule that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<&'a str>,
    /// Why the sidecar answered itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    /// Microseconds from the head of the request to the end of the response.
    pub duration_us: u64,
    /// Bytes of request body, or received from downstream.
    pub bytes_in: u64,
    /// Bytes of response body, or sent to downstream.
    pub bytes_out: u64,
    /// The address that was connected to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<&'a str>,
    /// W3C trace ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<&'a str>,
    /// The `x-request-id` of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<&'a str>,
    /// The digest of the policy documents by which it was decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_revision: Option<&'a str>,
    /// The Git revision that the policy directory carried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_git_revision: Option<&'a str>,
    /// What the policies in audit mode would have decided; absent where they have nothing to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit_decision: Option<&'static str>,
    /// The policy that would have decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit_policy: Option<&'a str>,
    /// The rule that would have decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit_rule: Option<&'a str>,
    /// The policy whose action is to mark it, without deciding anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub marked_policy: Option<&'a str>,
    /// The rule that marked it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub marked_rule: Option<&'a str>,
}

impl Line<'_> {
    /// What a line about opaque TCP says in any case; `bytes` are those in and those out.
    pub fn tcp(direction: Direction, port: u16, time: SystemTime, took: Duration, bytes: (u64, u64)) -> Self {
        Self {
            time,
            direction: direction.label(),
            protocol: "tcp",
            caller: None,
            workload: None,
            port,
            method: None,
            host: None,
            path: None,
            status: None,
            decision: None,
            policy: None,
            rule: None,
            reason: None,
            duration_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            bytes_in: bytes.0,
            bytes_out: bytes.1,
            upstream: None,
            trace_id: None,
            request_id: None,
            policy_revision: None,
            policy_git_revision: None,
            audit_decision: None,
            audit_policy: None,
            audit_rule: None,
            marked_policy: None,
            marked_rule: None,
        }
    }
}

/// Takes lines. Cheap to clone; the last clone that goes does not flush, [`Writer::finish`] does.
#[derive(Clone, Debug)]
pub struct AccessLog {
    shared: Option<Arc<Shared>>,
}

/// The writing thread.
#[derive(Debug)]
pub struct Writer {
    shared: Option<Arc<Shared>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    buffer: Mutex<Buffer>,
    filled: Condvar,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    closed: bool,
}

/// Opens the destination and starts the writer.
///
/// # Errors
/// When the file cannot be opened or the thread cannot be started.
pub fn open(destination: &Destination, metrics: Arc<Metrics>) -> io::Result<(AccessLog, Writer)> {
    let sink: Box<dyn Write + Send> = match destination {
        Destination::Off => return Ok((AccessLog { shared: None }, Writer { shared: None, thread: None })),
        Destination::Stdout => Box::new(io::stdout()),
        Destination::File(path) => Box::new(append(path)?),
    };
    let shared = Arc::new(Shared { buffer: Mutex::default(), filled: Condvar::new(), metrics });
    let writing = Arc::clone(&shared);
    let thread = std::thread::Builder::new().name("access-log".to_owned()).spawn(move || write_out(&writing, sink))?;
    Ok((AccessLog { shared: Some(Arc::clone(&shared)) }, Writer { shared: Some(shared), thread: Some(thread) }))
}

impl AccessLog {
    /// Whether lines are wanted at all, so that callers need not build them otherwise.
    pub fn is_on(&self) -> bool {
        self.shared.is_some()
    }

    /// Appends a line, or drops and counts it when the buffer is full.
    pub fn write(&self, line: &Line<'_>) {
        let Some(shared) = &self.shared else { return };
        let mut buffer = shared.lock();
        if buffer.bytes.len() >= BUFFER_LIMIT || buffer.closed {
            drop(buffer);
            shared.metrics.access_log_dropped(1);
            return;
        }
        let was_empty = buffer.bytes.is_empty();
        let start = buffer.bytes.len();
        // Writing to a vector cannot fail and every field can be serialised; should that change, no half line stays.
        if serde_json::to_writer(&mut buffer.bytes, line).is_err() {
            buffer.bytes.truncate(start);
            return;
        }
        buffer.bytes.push(b'\n');
        drop(buffer);
        if was_empty {
            shared.filled.notify_one();
        }
    }
}

impl Writer {
    /// Writes what is buffered and ends the thread.
    pub fn finish(mut self) {
        self.close();
    }

    fn close(&mut self) {
        if let Some(shared) = &self.shared {
            shared.lock().closed = true;
            shared.filled.notify_one();
        }
        if let Some(thread) = self.thread.take() {
            // A panic of the writer has been reported by the panic hook; there is nothing left to flush.
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Buffer> {
        // Nothing panics under this lock; a poisoned buffer is still a buffer.
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn append(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

fn write_out(shared: &Shared, mut sink: Box<dyn Write + Send>) {
    let mut batch = Vec::new();
    loop {
        let mut buffer = shared.lock();
        while buffer.bytes.is_empty() && !buffer.closed {
            buffer = shared.filled.wait(buffer).unwrap_or_else(PoisonError::into_inner);
        }
        if !buffer.closed {
            // Let lines gather, so that a busy sidecar makes one system call for many of them.
            let gathered = shared.filled.wait_timeout_while(buffer, GATHER, |buffer| !buffer.closed);
            buffer = gathered.unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::swap(&mut batch, &mut buffer.bytes);
        let closed = buffer.closed;
        drop(buffer);
        if sink.write_all(&batch).and_then(|()| sink.flush()).is_err() {
            let lines = batch.iter().filter(|byte| **byte == b'\n').count();
            shared.metrics.access_log_dropped(u64::try_from(lines).unwrap_or(u64::MAX));
        }
        batch.clear();
        if closed {
            return;
        }
    }
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let time = OffsetDateTime::from(*time);
    // Microseconds are what durations are given in; more digits would only make lines longer.
    let micros = time.replace_nanosecond(time.microsecond().saturating_mul(1_000)).unwrap_or(time);
    serializer.serialize_str(&micros.format(&Rfc3339).unwrap_or_default())
}

/// Some 10,000 lines: a second of a busy sidecar, and memory that it can spare.
const BUFFER_LIMIT: usize = 4 << 20;
/// How long lines gather before they are written.
const GATHER: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    fn line(path: &str) -> Line<'_> {
        Line {
            time: SystemTime::UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789),
            direction: "inbound",
            protocol: "h2",
            caller: Some("spiffe://prod.health.internal/ns/claims/sa/adjudicator"),
            workload: None,
            port: 8080,
            method: Some("GET"),
            host: Some("eligibility"),
            path: Some(path),
            status: Some(200),
            decision: Some("allow"),
            policy: Some("eligibility-api"),
            rule: Some("adjudicator-reads"),
            reason: None,
            duration_us: 1234,
            bytes_in: 0,
            bytes_out: 17,
            upstream: None,
            trace_id: None,
            request_id: Some("r\"1"),
            policy_revision: None,
            policy_git_revision: None,
            audit_decision: None,
            audit_policy: None,
            audit_rule: None,
            marked_policy: None,
            marked_rule: None,
        }
    }

    #[test]
    fn lines_are_json_in_order_and_all_there_after_finish() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let (log, writer) = open(&Destination::File(path.clone()), Arc::new(Metrics::new())).unwrap();
        for number in 0..1000 {
            log.write(&line(&format!("/v1/members/{number}")));
        }
        writer.finish();
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 1000);
        assert_eq!(lines[999]["path"], "/v1/members/999");
        assert_eq!(lines[0]["time"], "2023-11-14T22:13:20.123456Z");
        assert_eq!(lines[0]["request_id"], "r\"1");
        assert!(lines[0].get("workload").is_none());
    }

    #[test]
    fn a_full_buffer_drops_and_counts() {
        let metrics = Arc::new(Metrics::new());
        let shared = Shared { buffer: Mutex::default(), filled: Condvar::new(), metrics: Arc::clone(&metrics) };
        shared.lock().bytes = vec![b'x'; BUFFER_LIMIT];
        AccessLog { shared: Some(Arc::new(shared)) }.write(&line("/"));
        assert!(metrics.render().contains("portcullis_access_log_dropped_total 1"), "{}", metrics.render());
    }
}
