//! Every metric of the sidecar, by name, and the handles that callers count with.
//!
//! Labels are enums or names from our own configuration and policy: nothing a peer sends can make a new series. The
//! recorder belongs to one sidecar, so that several in one process (tests, the demo) count apart.

mod names;

use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use self::names::*;
pub(super) use self::names::{ANCHOR_PEERS, CRL_NEXT_UPDATE, NOT_AFTER};
use super::inventory::Inventory;

/// Which way a connection or request goes: inbound is mesh to application, outbound is application to mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Mesh to application.
    Inbound,
    /// Application to mesh.
    Outbound,
}

impl Direction {
    /// The word used in labels and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// What was reloaded, for `portcullis_reload_total{kind}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// Our own certificate and key.
    Identity,
    /// A trust bundle; as a generation, all that trust depends on, lists included.
    Trust,
    /// The revocation lists of a trust domain.
    Crl,
    /// The deny list.
    DenyList,
    /// The policy documents.
    Policy,
    /// The copy of the policy in the state directory, which is read when the documents are broken at start.
    PolicyCopy,
}

impl Reloaded {
    fn label(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Trust => "trust",
            Self::Crl => "crl",
            Self::DenyList => "deny_list",
            Self::Policy => "policy",
            Self::PolicyCopy => "policy_copy",
        }
    }
}

/// The metrics of one sidecar.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    inbound: PerDirection,
    outbound: PerDirection,
    access_log_dropped: Counter,
    accept_pauses: Counter,
    inventory: Mutex<Inventory>,
}

/// Handles that exist once for each direction.
pub struct PerDirection {
    direction: Direction,
    /// Seconds from the first byte to a finished handshake.
    pub handshake_seconds: Histogram,
    /// Handshakes that ended well.
    pub handshakes_ok: Counter,
    /// Handshakes under way.
    pub handshakes_in_flight: Gauge,
    /// Open connections.
    pub connections: Gauge,
    /// Seconds from the request's head to the end of its response.
    pub request_seconds: Histogram,
    requests: Vec<OnceLock<Counter>>,
}

impl Metrics {
    /// Creates the recorder and describes every metric.
    pub fn new() -> Self {
        let builder =
            [HANDSHAKE_SECONDS, REQUEST_SECONDS].into_iter().fold(PrometheusBuilder::new(), |builder, name| {
                // The only error is an empty list of buckets, and ours is not empty.
                builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), &BUCKETS).unwrap_or_default()
            });
        let recorder = builder.build_recorder();
        describe_all(&recorder);
        Self {
            handle: recorder.handle(),
            inbound: PerDirection::new(&recorder, Direction::Inbound),
            outbound: PerDirection::new(&recorder, Direction::Outbound),
            access_log_dropped: recorder.register_counter(&Key::from_name(ACCESS_LOG_DROPPED), &METADATA),
            accept_pauses: recorder.register_counter(&Key::from_name(ACCEPT_PAUSES), &METADATA),
            inventory: Mutex::default(),
            recorder,
        }
    }

    /// The handles of one direction.
    pub fn of(&self, direction: Direction) -> &PerDirection {
        match direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
        }
    }

    /// The Prometheus text exposition of everything.
    pub fn render(&self) -> String {
        let inventory = self.inventory.lock().unwrap_or_else(PoisonError::into_inner).render();
        self.handle.render() + &inventory
    }

    /// Folds recorded samples into their histograms. Without a call every few seconds, samples pile up in memory until
    /// the next scrape, for ever if nobody scrapes.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// Counts a handshake that was refused; `reason` is a fixed word of ours.
    pub fn handshake_refused(&self, direction: Direction, reason: &'static str) {
        self.counter(HANDSHAKES, [("direction", direction.label()), ("result", "refused"), ("reason", reason)])
            .increment(1);
    }

    /// Counts a connection that was refused or cut for a cause of ours.
    pub fn connection_closed(&self, direction: Direction, cause: &'static str) {
        self.counter(CONNECTIONS_CLOSED, [("direction", direction.label()), ("cause", cause)]).increment(1);
    }

    /// Counts a request that got its answer from us instead of from upstream.
    pub fn request_refused(&self, direction: Direction, reason: &'static str) {
        self.counter(REQUESTS_REFUSED, [("direction", direction.label()), ("reason", reason)]).increment(1);
    }

    /// Counts a request that was sent again, or would have been; `reason` and `result` are fixed words of ours.
    pub fn upstream_retry(&self, reason: &'static str, result: &'static str) {
        self.counter(UPSTREAM_RETRIES, [("reason", reason), ("result", result)]).increment(1);
    }

    /// Counts a reload that took effect.
    pub fn reloaded(&self, kind: Reloaded) {
        self.reload(kind, "success", "");
    }

    /// Counts a reload that was refused; `reason` is a fixed word of ours.
    pub fn reload_refused(&self, kind: Reloaded, reason: &'static str) {
        self.reload(kind, "refused", reason);
    }

    fn reload(&self, kind: Reloaded, result: &'static str, reason: &'static str) {
        self.counter(RELOADS, [("kind", kind.label()), ("result", result), ("reason", reason)]).increment(1);
    }

    /// Counts lines that the access log could not take.
    pub fn access_log_dropped(&self, lines: u64) {
        self.access_log_dropped.increment(lines);
    }

    /// Counts a pause of accepting because the process has no file descriptors left.
    pub fn accept_paused(&self) {
        self.accept_pauses.increment(1);
    }

    /// The counter of one rule in one decision; created at policy load and kept beside the rule.
    pub fn decisions(&self, decision: &'static str, policy: &str, rule: &str, mode: &'static str) -> Counter {
        let labels = vec![
            Label::from_static_parts("decision", decision),
            Label::new("policy", policy.to_owned()),
            Label::new("rule", rule.to_owned()),
            Label::from_static_parts("mode", mode),
        ];
        self.recorder.register_counter(&Key::from_parts(DECISIONS, labels), &METADATA)
    }

    /// Replaces what there is of certificates, anchors and revocation lists.
    pub fn take_inventory(&self, inventory: Inventory) {
        *self.inventory.lock().unwrap_or_else(PoisonError::into_inner) = inventory;
    }

    /// Publishes how much memory is used, how much there may be, in bytes, and whether new work is refused for it: 1 or 0.
    pub fn memory(&self, used: f64, limit: f64, refusing: f64) {
        for (name, value) in [(MEMORY_USED, used), (MEMORY_LIMIT, limit), (MEMORY_REFUSING, refusing)] {
            self.gauge(name, value);
        }
    }

    /// Publishes whether the sidecar is ready: 1 or 0.
    pub fn ready(&self, ready: f64) {
        self.gauge(READY, ready);
    }

    /// Publishes the number of the generation in force, and since when it is.
    pub fn generation(&self, kind: Reloaded, number: u64, since: SystemTime) {
        let since = seconds(since);
        // Generations count reloads of one process: far below the 2^53 that a float holds exactly.
        for (name, value) in [(GENERATION, number as f64), (GENERATION_SINCE, since)] {
            let key = Key::from_parts(name, vec![Label::from_static_parts("kind", kind.label())]);
            self.recorder.register_gauge(&key, &METADATA).set(value);
        }
    }

    /// Publishes when the documents of the policy in force were read from the policy directories.
    pub fn policy_taken(&self, taken: SystemTime) {
        self.gauge(POLICY_TAKEN, seconds(taken));
    }

    /// Publishes whether the policy in force is the copy in the state directory: 1 or 0.
    pub fn policy_from_state(&self, from_state: f64) {
        self.gauge(POLICY_FROM_STATE, from_state);
    }

    /// Publishes whether the policy in force is older than the documents on disk, because those are refused: 1 or 0.
    pub fn policy_outdated(&self, outdated: f64) {
        self.gauge(POLICY_OUTDATED, outdated);
    }

    /// Publishes whether what no policy denies is allowed where none is there to allow: 1 or 0.
    pub fn policy_default_allow(&self, allows: f64) {
        self.gauge(POLICY_DEFAULT_ALLOW, allows);
    }

    /// Publishes how many listeners are configured to forward paths with `%2F`.
    pub fn encoded_slash_listeners(&self, count: f64) {
        self.gauge(ENCODED_SLASH, count);
    }

    /// Publishes when the documents of the copy in the state directory were read from the policy directories.
    pub fn policy_copy_taken(&self, taken: SystemTime) {
        self.gauge(POLICY_COPY_TAKEN, seconds(taken));
    }

    /// Counts a copy of the policy that was written.
    pub fn policy_copied(&self) {
        self.counter(POLICY_COPIES, [("result", "success"), ("reason", "")]).increment(1);
    }

    /// Counts a copy of the policy that could not be written; `reason` is a fixed word of ours.
    pub fn policy_not_copied(&self, reason: &'static str) {
        self.counter(POLICY_COPIES, [("result", "failed"), ("reason", reason)]).increment(1);
    }

    fn gauge(&self, name: &'static str, value: f64) {
        self.recorder.register_gauge(&Key::from_name(name), &METADATA).set(value);
    }

    fn counter<const N: usize>(&self, name: &'static str, labels: [(&'static str, &'static str); N]) -> Counter {
        let labels = labels.map(|(key, value)| Label::from_static_parts(key, value)).to_vec();
        self.recorder.register_counter(&Key::from_parts(name, labels), &METADATA)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl PerDirection {
    fn new(recorder: &PrometheusRecorder, direction: Direction) -> Self {
        let key = |name| Key::from_parts(name, vec![Label::from_static_parts("direction", direction.label())]);
        let ok = [("direction", direction.label()), ("result", "ok"), ("reason", "")];
        let ok = Key::from_parts(HANDSHAKES, ok.map(|(key, value)| Label::from_static_parts(key, value)).to_vec());
        Self {
            direction,
            handshake_seconds: recorder.register_histogram(&key(HANDSHAKE_SECONDS), &METADATA),
            handshakes_ok: recorder.register_counter(&ok, &METADATA),
            handshakes_in_flight: recorder.register_gauge(&key(HANDSHAKES_IN_FLIGHT), &METADATA),
            connections: recorder.register_gauge(&key(CONNECTIONS), &METADATA),
            request_seconds: recorder.register_histogram(&key(REQUEST_SECONDS), &METADATA),
            requests: (FIRST_STATUS..=LAST_STATUS).map(|_| OnceLock::new()).collect(),
        }
    }

    /// Counts a finished request by its status and records its duration.
    pub fn request(&self, metrics: &Metrics, status: u16, took: Duration) {
        self.request_seconds.record(took.as_secs_f64());
        // Status codes of three digits only: at most 900 series, each made when first seen.
        let slot = status.checked_sub(FIRST_STATUS).and_then(|index| self.requests.get(usize::from(index)));
        if let Some(slot) = slot {
            slot.get_or_init(|| self.requests_of(metrics, status)).increment(1);
        }
    }

    fn requests_of(&self, metrics: &Metrics, status: u16) -> Counter {
        let labels = vec![
            Label::from_static_parts("direction", self.direction.label()),
            Label::new("status", status.to_string()),
        ];
        metrics.recorder.register_counter(&Key::from_parts(REQUESTS, labels), &METADATA)
    }
}

impl fmt::Debug for PerDirection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerDirection").field("direction", &self.direction).finish_non_exhaustive()
    }
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}

/// From 100 µs, a local request without TLS work, to 60 s, the longest that anyone waits for.
const BUCKETS: [f64; 17] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];
const FIRST_STATUS: u16 = 100;
const LAST_STATUS: u16 = 999;
static METADATA: Metadata<'static> = Metadata::new("portcullis", Level::INFO, None);

#[cfg(test)]
mod tests {
    use rustls_pki_types::UnixTime;

    use super::*;
    use crate::telemetry::inventory::Ends;

    #[test]
    fn names_and_labels_that_dashboards_rely_on_are_exposed() {
        let metrics = Metrics::new();
        metrics.handshake_refused(Direction::Inbound, "plaintext");
        metrics.of(Direction::Inbound).handshakes_ok.increment(1);
        metrics.of(Direction::Inbound).handshake_seconds.record(0.002);
        metrics.of(Direction::Outbound).request(&metrics, 204, Duration::from_millis(3));
        metrics.reloaded(Reloaded::Policy);
        metrics.reload_refused(Reloaded::DenyList, "invalid");
        metrics.generation(Reloaded::Crl, 3, UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        metrics.decisions("allow", "eligibility-api", "adjudicator-reads", "enforce").increment(2);
        let text = metrics.render();
        for line in [
            r#"portcullis_tls_handshakes_total{direction="inbound",result="refused",reason="plaintext"} 1"#,
            r#"portcullis_tls_handshakes_total{direction="inbound",result="ok",reason=""} 1"#,
            r#"portcullis_tls_handshake_seconds_count{direction="inbound"} 1"#,
            r#"portcullis_http_requests_total{direction="outbound",status="204"} 1"#,
            r#"portcullis_reload_total{kind="policy",result="success",reason=""} 1"#,
            r#"portcullis_reload_total{kind="deny_list",result="refused",reason="invalid"} 1"#,
            r#"portcullis_generation{kind="crl"} 3"#,
            r#"portcullis_generation_timestamp_seconds{kind="crl"} 1800000000"#,
            r#"portcullis_policy_decisions_total{decision="allow",policy="eligibility-api",rule="adjudicator-reads",mode="enforce"} 2"#,
        ] {
            assert!(text.contains(line), "{line} is missing from:\n{text}");
        }
    }

    #[test]
    fn what_is_gone_from_the_inventory_is_gone_from_the_exposition() {
        let metrics = Metrics::new();
        let end = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
        let mut inventory = Inventory::default();
        inventory.not_after(Ends::Leaf, end);
        metrics.take_inventory(inventory);
        assert!(metrics.render().contains(r#"{role="leaf"} 1800000000"#));
        metrics.take_inventory(Inventory::default());
        assert!(!metrics.render().contains(NOT_AFTER.name));
    }

    #[test]
    fn a_status_outside_three_digits_makes_no_series() {
        let metrics = Metrics::new();
        metrics.of(Direction::Inbound).request(&metrics, 99, Duration::ZERO);
        metrics.of(Direction::Inbound).request(&metrics, 1000, Duration::ZERO);
        assert!(!metrics.render().contains("portcullis_http_requests_total{"));
    }
}
