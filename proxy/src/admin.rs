//! The admin view on loopback: what is in force, as JSON. It shows no key and changes nothing.

use std::sync::Arc;
use std::time::SystemTime;

use http::StatusCode;
use portcullis_certs_watcher::name_constraints::NameConstraints;
use portcullis_certs_watcher::{Anchor, Material, Revocation, Severity, Snapshot, Timestamp};
use portcullis_policy::DefaultAction;
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};

use crate::config::{self, Config};
use crate::connections::{Census, Entry, Tally};
use crate::readiness::{self, PolicyNeed};
use crate::sideband::{Document, Pages};
use crate::sidecar::Sidecar;

/// The pages of the admin listener.
pub fn pages(config: Arc<Config>, sidecar: Arc<Sidecar>, policy: PolicyNeed) -> Pages {
    Arc::new(move |path| match path {
        "/" => Document::text(StatusCode::OK, INDEX),
        "/config" => Document::json(&config.to_json()),
        "/identity" => Document::json(&identity(&sidecar.tls.credentials().snapshot())),
        "/trust" => {
            let (snapshot, census) = (sidecar.tls.credentials().snapshot(), sidecar.connections.census());
            Document::json(&trust(&snapshot, &census, UnixTime::now()))
        }
        "/policy" => Document::json(&policy_in_force(&sidecar)),
        "/connections" => Document::json(&connections(&sidecar)),
        "/ready" => Document::json(&json!({ "obstacles": readiness::obstacles(&sidecar, policy, UnixTime::now()) })),
        _ => Document::not_found(),
    })
}

fn identity(snapshot: &Snapshot) -> Value {
    json!({
        "generation": snapshot.identity_generation,
        "since": snapshot.identity_since.map(|since| Timestamp(since).to_string()),
        "certificate": snapshot.material.as_ref().map(|own| material(own)),
        "problems": problems(snapshot, &["identity"]),
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

fn trust(snapshot: &Snapshot, census: &Census, now: UnixTime) -> Value {
    let trust = &snapshot.trust;
    let bundles: Vec<Value> = trust
        .bundles()
        .map(|bundle| {
            let trust_domain = bundle.trust_domain();
            let anchors = bundle.anchors().iter().map(|one| {
                let tally = census.of(trust_domain, &one.fingerprint);
                anchor(one, &tally, now)
            });
            let refused = bundle.refused().iter().map(
                |refused| json!({ "certificate": refused.name.to_string(), "because": refused.fault.to_string() }),
            );
            json!({
                "trustDomain": trust_domain.to_string(),
                "sequence": bundle.sequence(),
                "refreshHintSeconds": bundle.refresh_hint().map(|hint| hint.as_secs()),
                "anchors": anchors.collect::<Vec<_>>(),
                "refusedAnchors": refused.collect::<Vec<_>>(),
                "revocation": trust.revocation(trust_domain).map(|revocation| revocation_lists(revocation, now)),
            })
        })
        .collect();
    let awaited: Vec<String> = snapshot.awaited.iter().map(ToString::to_string).collect();
    json!({
        "generation": snapshot.trust_generation,
        "since": snapshot.trust_since.map(|since| Timestamp(since).to_string()),
        "bundles": bundles,
        "denyList": { "entries": trust.deny_list().len() },
        "awaited": awaited,
        "problems": problems(snapshot, &["trust", "crl", "deny_list"]),
    })
}

fn anchor(anchor: &Anchor, tally: &Tally, now: UnixTime) -> Value {
    let uris = anchor.constraints().and_then(NameConstraints::uris);
    let sample: Vec<Value> = tally
        .sample
        .iter()
        .map(|(id, connected)| json!({ "spiffeId": id.to_string(), "connected": connected }))
        .collect();
    json!({
        "certificate": anchor.name.to_string(),
        "notBefore": Timestamp(anchor.not_before).to_string(),
        "notAfter": Timestamp(anchor.not_after).to_string(),
        "sha256": anchor.fingerprint.to_string(),
        "uriConstraints": uris.map(ToString::to_string),
        "notUsedBecause": anchor.idle_because(now),
        "peers": {
            "connected": tally.now,
            "last24Hours": tally.day,
            "last24HoursIsAtLeast": tally.at_least,
            "sample": sample,
        },
    })
}

fn revocation_lists(revocation: &Revocation, now: UnixTime) -> Value {
    let policy = revocation.policy();
    let lists: Vec<Value> = revocation
        .lists()
        .iter()
        .take(SHOWN)
        .map(|list| {
            json!({
                "issuer": list.issuer(),
                "number": list.number(),
                "thisUpdate": Timestamp(list.this_update()).to_string(),
                "nextUpdate": Timestamp(list.next_update()).to_string(),
                "isOverdue": now > list.next_update(),
                "revoked": list.revoked(),
            })
        })
        .collect();
    json!({
        "unknownStatus": config::unknown_status_word(policy.unknown),
        "staleCrl": config::stale_crl_word(policy.stale),
        "lists": lists,
    })
}

fn problems(snapshot: &Snapshot, kinds: &[&str]) -> Vec<Value> {
    let of_kinds = snapshot.problems.iter().filter(|problem| kinds.contains(&problem.subject.kind()));
    of_kinds
        .map(|problem| {
            json!({
                "subject": problem.subject.to_string(),
                "severity": match problem.severity {
                    Severity::Warning => "warning",
                    Severity::Alarm => "alarm",
                },
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
    let services = sidecar.services.iter().map(|name| {
        let service = loaded.policy.services().by_name(name);
        let identities = service.map(|service| service.identities().iter().take(SHOWN).map(ToString::to_string));
        json!({
            "name": name.to_string(),
            "source": service.map(|service| service.origin().to_string()),
            "identities": identities.map(Iterator::collect::<Vec<_>>),
        })
    });
    json!({
        "revision": loaded.policy.revision(),
        "gitRevision": loaded.git_revision,
        "number": loaded.number,
        "since": at(loaded.since),
        "source": loaded.source.label(),
        "defaultAction": match loaded.options.default_action {
            DefaultAction::Allow => "allow",
            DefaultAction::Deny => "deny",
        },
        "labels": loaded.options.labels,
        "taken": at(loaded.taken),
        "rules": loaded.policy.rules().count(),
        "services": services.collect::<Vec<_>>(),
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
                     /trust        trust bundles, who hangs on which anchor, revocation lists, deny list\n/policy       the policy revision\n\
                     /connections  open connections\n/ready        what keeps the sidecar from being ready\n";
