//! The configuration in force as JSON, with every default filled in, in the words of the configuration file.

use std::time::Duration;

use portcullis_certs_watcher::{StaleList, UnknownStatus};
use serde_json::{Value, json};

use super::{Config, Limits, Timeouts, TrustBundle};
use crate::telemetry::access_log::Destination;
use crate::telemetry::log::Format;

impl Config {
    /// For the admin page. Nothing in a configuration is secret: keys are named by directory only.
    pub fn to_json(&self) -> Value {
        let trust: Vec<Value> = self.trust.iter().map(TrustBundle::to_json).collect();
        let inbound: Vec<Value> = self
            .inbound
            .iter()
            .map(|one| json!({ "listen": one.listen, "forward": one.forward, "protocol": one.protocol.label() }))
            .collect();
        let outbound: Vec<Value> = self
            .outbound
            .iter()
            .map(|one| {
                let identities: Vec<String> = one.identities.iter().map(ToString::to_string).collect();
                json!({
                    "listen": one.listen,
                    "connect": &*one.connect,
                    "protocol": one.protocol.label(),
                    "identities": identities,
                })
            })
            .collect();
        let spiffe_id = self.identity.spiffe_id.as_ref().map(ToString::to_string);
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
            "identity": { "directory": self.identity.directory, "spiffeId": spiffe_id },
            "trust": trust,
            "denyList": self.deny_list,
            "policy": { "directories": self.policy },
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

impl TrustBundle {
    fn to_json(&self) -> Value {
        let mut shown = json!({ "trustDomain": self.trust_domain.to_string(), "bundle": self.bundle });
        if let (Some(crl), Some(map)) = (&self.crl, shown.as_object_mut()) {
            map.insert("crl".to_owned(), json!(crl.path));
            map.insert("unknownStatus".to_owned(), json!(unknown_status_word(crl.policy.unknown)));
            map.insert("staleCrl".to_owned(), json!(stale_crl_word(crl.policy.stale)));
        }
        shown
    }
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
