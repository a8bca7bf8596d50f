//! The configuration in force as JSON, with every default filled in, in the words of the configuration file.

use std::time::Duration;

use portcullis_certs_watcher::workload_api::Choice;
use portcullis_certs_watcher::{BundleSource, IdentitySource, StaleList, TrustSource, UnknownStatus};
use portcullis_policy::Options;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{AllowByDefault, Answerers, Config, EncodedSlashes, Identity, Limits, Policy, Timeouts};
use crate::telemetry::access_log::Destination;
use crate::telemetry::log::Format;

impl Config {
    /// For the admin page. Nothing in a configuration is secret: keys are named by directory only.
    pub fn to_json(&self) -> Value {
        let trust: Vec<Value> = self.trust.iter().map(trust).collect();
        let inbound: Vec<Value> = self
            .inbound
            .iter()
            .map(|one| {
                json!({
                    "listen": one.listen,
                    "forward": one.forward,
                    "protocol": one.protocol.label(),
                    "paths": paths(one.encoded_slash.as_ref()),
                })
            })
            .collect();
        let outbound: Vec<Value> = self
            .outbound
            .iter()
            .map(|one| {
                let identities = match &one.answerers {
                    Answerers::Listed(identities) => {
                        Some(identities.iter().map(ToString::to_string).collect::<Vec<String>>())
                    }
                    Answerers::Service(_) => None,
                };
                let service = one
                    .answerers
                    .service()
                    .map(|service| json!({ "name": &*service.name, "namespace": service.namespace.as_deref() }));
                json!({
                    "listen": one.listen,
                    "connect": &*one.connect,
                    "protocol": one.protocol.label(),
                    "identities": identities,
                    "service": service,
                })
            })
            .collect();
        let access = match &self.logs.access {
            Destination::Stdout => json!("stdout"),
            Destination::Off => json!("off"),
            Destination::File(path) => json!(path),
        };
        let format = match self.logs.format {
            Format::Json => "json",
            Format::Text => "text",
        };
        json!({
            "identity": identity(&self.identity),
            "trust": trust,
            "denyList": self.deny_list,
            "policy": policy(&self.policy),
            "inbound": inbound,
            "outbound": outbound,
            "workers": self.workers,
            "timeouts": self.timeouts.to_json(),
            "limits": self.limits.to_json(),
            "admin": { "listen": self.admin },
            "metrics": { "listen": self.metrics },
            "health": { "listen": self.health },
            "logs": { "access": access, "format": format, "level": self.logs.level.as_str().to_ascii_lowercase() },
            "tracing": self.tracing.map(|export| {
                json!({ "endpoint": format!("http://{}", export.endpoint), "sampleRatio": export.sample_ratio })
            }),
        })
    }
}

fn identity(identity: &Identity) -> Value {
    let spiffe_id = identity.spiffe_id.as_ref().map(ToString::to_string);
    match &identity.source {
        IdentitySource::Directory(directory) => json!({ "directory": directory, "spiffeId": spiffe_id }),
        IdentitySource::WorkloadApi { endpoint, choice } => {
            let hint = match choice {
                Choice::Hint(hint) => Some(hint),
                Choice::First | Choice::Id(_) => None,
            };
            let api = json!({ "socket": endpoint.to_string(), "hint": hint });
            json!({ "workloadApi": api, "spiffeId": spiffe_id })
        }
    }
}

fn paths(slashes: Option<&EncodedSlashes>) -> Value {
    json!({
        "encodedSlash": if slashes.is_some() { "decide" } else { "refuse" },
        "reason": slashes.map(|slashes| &slashes.reason),
        "until": slashes.and_then(EncodedSlashes::until_written),
    })
}

fn policy(policy: &Policy) -> Value {
    let allow = policy.allow_by_default.as_ref();
    json!({
        "directories": policy.directories,
        "state": policy.state,
        "labels": policy.labels,
        "labelsFile": policy.labels_file,
        "rootNamespace": policy.root_namespace.as_deref().unwrap_or(&Options::default().root_namespace),
        "clusterLocal": policy.cluster_local.as_ref().map(ToString::to_string),
        "defaultAction": if allow.is_some() { "allow" } else { "deny" },
        "defaultActionReason": allow.and_then(|allow| allow.reason.as_deref()),
        "defaultActionUntil": allow.and_then(AllowByDefault::until_written),
    })
}

fn trust(source: &TrustSource) -> Value {
    let (bundle, from) = match &source.bundle {
        BundleSource::Path(path) => (Some(path), None),
        BundleSource::WorkloadApi(_) => (None, Some("workloadApi")),
    };
    json!({
        "trustDomain": source.trust_domain.to_string(),
        "bundle": bundle,
        "from": from,
        "crl": source.crl,
        "unknownStatus": unknown_status_word(source.revocation.unknown),
        "staleCrl": stale_crl_word(source.revocation.stale),
    })
}

/// The word of `unknownStatus`.
pub fn unknown_status_word(unknown: UnknownStatus) -> &'static str {
    match unknown {
        UnknownStatus::Allow => "allow",
        UnknownStatus::Refuse => "refuse",
    }
}

/// The word of `staleCrl`.
pub fn stale_crl_word(stale: StaleList) -> &'static str {
    match stale {
        StaleList::Warn => "warn",
        StaleList::Refuse => "refuse",
    }
}

impl AllowByDefault {
    /// When it ends, as the configuration has it.
    pub fn until_written(&self) -> Option<String> {
        OffsetDateTime::from_unix_timestamp(self.until?).ok()?.format(&Rfc3339).ok()
    }
}

impl Timeouts {
    fn to_json(self) -> Value {
        json!({
            "handshake": written(self.handshake),
            "requestHead": written(self.request_head),
            "responseHead": written(self.response_head),
            "connect": written(self.connect),
            "idle": written(self.idle),
            "bodyStall": written(self.body_stall),
            "tcpIdle": written(self.tcp_idle),
            "maxAge": written(self.max_age),
            "recheckGrace": written(self.recheck_grace),
            "lameDuck": written(self.lame_duck),
            "drain": written(self.drain),
        })
    }
}

impl Limits {
    fn to_json(self) -> Value {
        json!({
            "connections": self.connections,
            "connectionsPerIdentity": self.connections_per_identity,
            "handshakes": self.handshakes,
            "headBytes": self.head_bytes,
            "headFields": self.head_fields,
            "uriBytes": self.uri_bytes,
            "streamsPerConnection": self.streams_per_connection,
            "ratePerIdentity": self.rate_per_identity.map_or(json!(0), |rate| {
                json!({ "perSecond": rate.per_second, "burst": rate.burst })
            }),
            "inFlightPerDestination": self.in_flight_per_destination,
        })
    }
}

fn written(duration: Duration) -> String {
    match duration.as_millis() {
        0 => "0".to_owned(),
        millis if millis.is_multiple_of(1_000) => format!("{}s", millis / 1_000),
        millis => format!("{millis}ms"),
    }
}
