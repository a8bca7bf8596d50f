//! The admin view on loopback: what is in force, as JSON. It shows no key and changes nothing.

use std::sync::Arc;
use std::time::SystemTime;

use http::StatusCode;
use portcullis_certs_watcher::{Material, Snapshot, Timestamp};
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};

use crate::config::Config;
use crate::connections::Entry;
use crate::readiness::{self, PolicyNeed};
use crate::sideband::{Document, Pages};
use crate::sidecar::Sidecar;

/// The pages of the admin listener.
pub fn pages(config: Arc<Config>, sidecar: Arc<Sidecar>, policy: PolicyNeed) -> Pages {
    Arc::new(move |path| match path {
        "/" => Document::text(StatusCode::OK, INDEX),
        "/config" => Document::json(&config.to_json()),
        "/identity" => Document::json(&identity(&sidecar.tls.credentials().snapshot())),
        "/trust" => Document::json(&trust(&sidecar.tls.credentials().snapshot())),
        "/policy" => Document::json(&policy_in_force(&sidecar)),
        "/connections" => Document::json(&connections(&sidecar)),
        "/ready" => Document::json(&json!({ "obstacles": readiness::obstacles(&sidecar, policy, UnixTime::now()) })),
        _ => Document::not_found(),
    })
}

fn identity(snapshot: &Snapshot) -> Value {
    json!({
        "generation": snapshot.identity_generation,
        "certificate": snapshot.material.as_ref().map(|own| material(own)),
        "problems": problems(snapshot, "identity"),
    })
}

fn material(own: &Material) -> Value {
    json!({
        "spiffeId": own.id().to_string(),
        "subject": own.subject(),
        "serial": own.serial(),
        "issuer": own.issuer(),
        "notBefore": Timestamp(own.not_before()).to_string(),
        "notAfter": Timestamp(own.not_after()).to_string(),
        "sha256": own.fingerprint().to_string(),
        "chainLength": own.chain().len(),
        "renewalOverdueFrom": Timestamp(own.overdue_from()).to_string(),
    })
}

fn trust(snapshot: &Snapshot) -> Value {
    let bundles: Vec<Value> = snapshot
        .trust
        .bundles()
        .map(|bundle| {
            let anchors: Vec<Value> = bundle
                .anchors()
                .iter()
                .map(|anchor| {
                    json!({
                        "certificate": anchor.name.to_string(),
                        "notAfter": Timestamp(anchor.not_after).to_string(),
                        "sha256": anchor.fingerprint.to_string(),
                        "notUsedBecause": anchor.idle_because(UnixTime::now()),
                    })
                })
                .collect();
            json!({
                "trustDomain": bundle.trust_domain().to_string(),
                "sequence": bundle.sequence(),
                "anchors": anchors,
            })
        })
        .collect();
    let awaited: Vec<String> = snapshot.awaited.iter().map(ToString::to_string).collect();
    json!({
        "generation": snapshot.trust_generation,
        "bundles": bundles,
        "awaited": awaited,
        "problems": problems(snapshot, "trust"),
    })
}

fn problems(snapshot: &Snapshot, kind: &str) -> Vec<Value> {
    let of_kind = snapshot.problems.iter().filter(|problem| problem.subject.kind() == kind);
    of_kind
        .map(|problem| {
            json!({
                "subject": problem.subject.to_string(),
                "label": problem.label,
                "message": problem.message,
                "since": Timestamp(problem.since).to_string(),
            })
        })
        .collect()
}

fn policy_in_force(sidecar: &Sidecar) -> Value {
    let problem = sidecar.policy.problem();
    let Some(loaded) = sidecar.policy.current() else {
        return json!({ "revision": null, "problem": problem.as_deref() });
    };
    json!({
        "revision": loaded.policy.revision(),
        "number": loaded.number,
        "since": at(loaded.since),
        "rules": loaded.policy.rules().count(),
        "warnings": loaded.warnings,
        "problem": problem.as_deref(),
    })
}

fn connections(sidecar: &Sidecar) -> Value {
    let open = sidecar.connections.snapshot();
    let shown: Vec<Value> = open.iter().take(SHOWN).map(|entry| connection(entry)).collect();
    json!({ "open": open.len(), "shown": shown.len(), "connections": shown })
}

fn connection(entry: &Entry) -> Value {
    let opened = &entry.opened;
    json!({
        "id": entry.id,
        "direction": opened.direction.label(),
        "carries": opened.carries.label(),
        "peer": opened.peer.as_ref().map(|peer| peer.id.to_string()),
        "serial": opened.peer.as_ref().map(|peer| &peer.serial),
        "certificateNotAfter": opened.peer.as_ref().map(|peer| Timestamp(peer.not_after).to_string()),
        "address": opened.address.to_string(),
        "port": opened.port,
        "since": at(entry.since),
        "generation": {
            "identity": opened.generation.identity,
            "trust": opened.generation.trust,
            "policy": opened.generation.policy,
        },
        "ending": entry.signal.cause(),
    })
}

fn at(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(UnixTime::since_unix_epoch(since)).to_string()
}

/// A page for people; the metrics have the number of all.
const SHOWN: usize = 1000;
const INDEX: &str = "portcullis admin\n\n/config       the configuration in force\n/identity     our own certificate\n\
                     /trust        the trust bundles\n/policy       the policy revision\n\
                     /connections  open connections\n/ready        what keeps the sidecar from being ready\n";
