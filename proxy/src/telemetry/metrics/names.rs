//! What the metrics are called, and the help that stands beside each of them (Prometheus text format).

use metrics::{Recorder, Unit};
use metrics_exporter_prometheus::PrometheusRecorder;

use super::super::inventory::Family;

/// Tells the recorder the help of every metric.
pub(super) fn describe_all(recorder: &PrometheusRecorder) {
    for (name, unit, help) in DESCRIPTIONS {
        describe(recorder, name, *unit, help);
    }
}

fn describe(recorder: &PrometheusRecorder, name: &'static str, unit: Option<Unit>, help: &'static str) {
    if name.ends_with("_total") {
        recorder.describe_counter(name.into(), unit, help.into());
    } else if name.ends_with("_seconds") && !name.ends_with("timestamp_seconds") {
        recorder.describe_histogram(name.into(), unit, help.into());
    } else {
        recorder.describe_gauge(name.into(), unit, help.into());
    }
}

pub(super) const HANDSHAKES: &str = "portcullis_tls_handshakes_total";
pub(super) const HANDSHAKE_SECONDS: &str = "portcullis_tls_handshake_seconds";
pub(super) const HANDSHAKES_IN_FLIGHT: &str = "portcullis_tls_handshakes_in_flight";
pub(super) const CONNECTIONS: &str = "portcullis_connections_open";
pub(super) const CONNECTIONS_CLOSED: &str = "portcullis_connections_refused_total";
pub(super) const REQUESTS: &str = "portcullis_http_requests_total";
pub(super) const REQUEST_SECONDS: &str = "portcullis_http_request_seconds";
pub(super) const REQUESTS_REFUSED: &str = "portcullis_http_requests_refused_total";
pub(super) const UPSTREAM_RETRIES: &str = "portcullis_upstream_retries_total";
pub(super) const DECISIONS: &str = "portcullis_policy_decisions_total";
pub(super) const RELOADS: &str = "portcullis_reload_total";
pub(super) const MEMORY_USED: &str = "portcullis_memory_used_bytes";
pub(super) const MEMORY_LIMIT: &str = "portcullis_memory_limit_bytes";
pub(super) const MEMORY_REFUSING: &str = "portcullis_memory_refusing";
pub(super) const READY: &str = "portcullis_ready";
pub(super) const GENERATION: &str = "portcullis_generation";
pub(super) const GENERATION_SINCE: &str = "portcullis_generation_timestamp_seconds";
pub(super) const POLICY_TAKEN: &str = "portcullis_policy_taken_timestamp_seconds";
pub(super) const POLICY_FROM_STATE: &str = "portcullis_policy_from_state";
pub(super) const POLICY_OUTDATED: &str = "portcullis_policy_outdated";
pub(super) const ENCODED_SLASH: &str = "portcullis_encoded_slash_listeners";
pub(super) const POLICY_DEFAULT_ALLOW: &str = "portcullis_policy_default_allow";
pub(super) const POLICY_COPY_TAKEN: &str = "portcullis_policy_copy_taken_timestamp_seconds";
pub(super) const POLICY_COPIES: &str = "portcullis_policy_copies_total";
pub(super) const ACCESS_LOG_DROPPED: &str = "portcullis_access_log_dropped_total";
pub(super) const ACCEPT_PAUSES: &str = "portcullis_accept_pauses_total";

// What comes and goes, and is therefore published whole.
pub(in crate::telemetry) const NOT_AFTER: Family = Family {
    name: "portcullis_certificate_not_after_timestamp_seconds",
    help: "End of life of certificates in use, in seconds since 1970",
};
pub(in crate::telemetry) const CRL_NEXT_UPDATE: Family = Family {
    name: "portcullis_crl_next_update_timestamp_seconds",
    help: "When the newest revocation list of an issuer has to have a successor, in seconds since 1970",
};
pub(in crate::telemetry) const ANCHOR_PEERS: Family = Family {
    name: "portcullis_anchor_peers",
    help: "Peers whose certificate chains to an anchor: connected now, or within the last 24 hours (the least, where there are thousands)",
};

const DESCRIPTIONS: &[(&str, Option<Unit>, &str)] = &[
    (HANDSHAKES, None, "TLS handshakes by direction, result (ok, refused) and reason of a refusal"),
    (HANDSHAKE_SECONDS, Some(Unit::Seconds), "Time of TLS handshakes that ended well"),
    (HANDSHAKES_IN_FLIGHT, None, "TLS handshakes under way"),
    (CONNECTIONS, None, "Open connections"),
    (CONNECTIONS_CLOSED, None, "Connections refused, or cut while open, by cause"),
    (REQUESTS, None, "HTTP requests by direction and status"),
    (REQUEST_SECONDS, Some(Unit::Seconds), "Time from a request's head to the end of its response"),
    (REQUESTS_REFUSED, None, "HTTP requests answered by the sidecar itself, by reason"),
    (
        UPSTREAM_RETRIES,
        None,
        "Requests sent to their upstream again, by reason and result (answered, failed, or over_budget and not sent)",
    ),
    (DECISIONS, None, "Policy decisions by deciding policy and rule; mode audit decided nothing"),
    (
        RELOADS,
        None,
        "Reloads by kind (identity, trust, crl, deny_list, policy, policy_copy), result (success, refused) and reason of a refusal",
    ),
    (MEMORY_USED, Some(Unit::Bytes), "Memory charged to the cgroup, without file pages that are not in use"),
    (MEMORY_LIMIT, Some(Unit::Bytes), "The memory limit of the cgroup; absent where there is none"),
    (MEMORY_REFUSING, None, "1 while new work is refused because memory is nearly used up"),
    (READY, None, "1 while the sidecar is ready, 0 while it is not"),
    (GENERATION, None, "Number of the generation in force; crl and deny_list count with trust"),
    (GENERATION_SINCE, None, "When the generation in force was put in force, in seconds since 1970"),
    (
        POLICY_TAKEN,
        None,
        "When the documents of the policy in force were read from the policy directories, in seconds since 1970",
    ),
    (POLICY_FROM_STATE, None, "1 while the policy in force is the copy in the state directory"),
    (POLICY_OUTDATED, None, "1 while the policy in force is older than the documents on disk, which are refused"),
    (ENCODED_SLASH, None, "inbound listeners with `encodedSlash: decide`, also after its end"),
    (POLICY_DEFAULT_ALLOW, None, "1 while what no policy denies is allowed where none is there to allow"),
    (POLICY_COPY_TAKEN, None, "When the documents of the copy in the state directory were read, in seconds since 1970"),
    (
        POLICY_COPIES,
        None,
        "Copies of the policy in the state directory by result (success, failed) and reason of a failure",
    ),
    (ACCESS_LOG_DROPPED, None, "Access log lines dropped because the log could not be written fast enough"),
    (ACCEPT_PAUSES, None, "Pauses of accepting connections because no file descriptors were left"),
];
