//! What has to be done now and then: metrics folded, gauges set, idle connections closed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_certs_watcher::{Certificate, Fingerprint, Snapshot};
use rustls_pki_types::UnixTime;
use tokio::sync::watch;

use crate::connections::Census;
use crate::drain::Phase;
use crate::readiness::{self, PolicyNeed};
use crate::sidecar::Sidecar;
use crate::telemetry::inventory::{AnchorLabels, Ends, Inventory};
use crate::upstream::pool::Pool;
use crate::workers::Workers;

/// Runs until the process ends.
pub(super) async fn run(sidecar: Arc<Sidecar>, need: PolicyNeed) {
    let mut credentials = sidecar.tls.credentials().changed();
    let mut policy = sidecar.policy.changed();
    let metrics = &sidecar.telemetry.metrics;
    let mut told: Option<Vec<String>> = None;
    let mut undefined = Vec::new();
    loop {
        metrics.upkeep();
        sidecar.telemetry.episodes.tell_of_ended(Instant::now());
        metrics.take_inventory(inventory(&sidecar.tls.credentials().snapshot(), &sidecar.connections.census()));
        let obstacles = readiness::obstacles(&sidecar, need, UnixTime::now());
        metrics.ready(if obstacles.is_empty() { 1.0 } else { 0.0 });
        if told.as_ref() != Some(&obstacles) {
            if obstacles.is_empty() {
                tracing::info!("ready");
            } else {
                tracing::warn!(?obstacles, "not ready");
            }
            told = Some(obstacles);
        }
        let services = readiness::undefined_services(&sidecar);
        if services != undefined && !services.is_empty() {
            tracing::warn!(?services, "calls to Services that no policy document defines are refused");
        }
        undefined = services;
        tokio::select! {
            // Nothing is lost by dropping any of them.
            _ = credentials.changed() => {}
            Ok(()) = policy.changed() => {}
            () = tokio::time::sleep(INTERVAL) => {}
            () = sidecar.tasks.reached(Phase::Ended) => return,
        }
    }
}

/// What there is of certificates, anchors and revocation lists, and who hangs on which anchor.
fn inventory(snapshot: &Snapshot, census: &Census) -> Inventory {
    let mut inventory = Inventory::default();
    if let Some(own) = &snapshot.material {
        inventory.not_after(Ends::Leaf, own.not_after());
        let ends = own.chain().iter().skip(1).filter_map(|der| Some(Certificate::parse(der).ok()?.not_after()));
        if let Some(first) = ends.min_by_key(UnixTime::as_secs) {
            inventory.not_after(Ends::Intermediate, first);
        }
    }
    for bundle in snapshot.trust.bundles() {
        let trust_domain = bundle.trust_domain();
        for anchor in bundle.anchors() {
            let fingerprint = short(&anchor.fingerprint);
            let labels = AnchorLabels { trust_domain: trust_domain.as_str(), fingerprint: &fingerprint };
            let tally = census.of(trust_domain, &anchor.fingerprint);
            inventory.not_after(Ends::Anchor(labels), anchor.not_after);
            inventory.anchor_peers(labels, "now", tally.now);
            inventory.anchor_peers(labels, "24h", tally.day);
        }
        let mut due = BTreeMap::new();
        for list in snapshot.trust.revocation(trust_domain).into_iter().flat_map(|revocation| revocation.lists()) {
            // An older list may lie beside its successor; a verifier goes by the newest as well.
            let newest = due.entry(list.issuer()).or_insert_with(|| list.next_update());
            *newest = (*newest).max(list.next_update());
        }
        for (issuer, due) in due {
            inventory.crl_next_update(trust_domain.as_str(), issuer, due);
        }
    }
    inventory
}

/// The beginning of a fingerprint, as it stands in labels: 64 bits tell the anchors of a bundle apart.
fn short(fingerprint: &Fingerprint) -> String {
    fingerprint.to_string().chars().take(16).collect()
}

/// Sweeps the pools of each worker on that worker, `pools` being in the order of the workers. A change of our own
/// certificate or of trust is seen by a pool that nobody asks for connections, too.
pub(super) fn sweep_pools(pools: Vec<Vec<Arc<Pool>>>, workers: &Workers, sidecar: &Sidecar) {
    for (worker, pools) in workers.all().iter().zip(pools) {
        let tasks = sidecar.tasks.clone();
        let mut credentials = sidecar.tls.credentials().changed();
        sidecar.tasks.spawn_on(&worker.handle, async move {
            loop {
                tokio::select! {
                    // Nothing is lost by dropping any of them.
                    () = tokio::time::sleep(SWEEP) => {}
                    () = changed_a_moment_ago(&mut credentials) => {}
                    () = tasks.reached(Phase::Closing) => break,
                }
                pools.iter().for_each(|pool| pool.sweep());
            }
            // Nobody asks for connections any more but the last requests in hand.
            pools.iter().for_each(|pool| pool.close());
        });
    }
}

/// Resolves a moment after a change: the re-check goes first, and what it ends is counted and logged with its cause.
async fn changed_a_moment_ago<Revision>(credentials: &mut watch::Receiver<Revision>) {
    if credentials.changed().await.is_err() {
        // Nothing changes any more.
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(RECHECK_FIRST).await;
}

/// Samples of histograms wait in memory this long.
const INTERVAL: Duration = Duration::from_secs(5);
/// As long as the re-check of very many connections may take.
const RECHECK_FIRST: Duration = Duration::from_secs(1);
/// A fraction of the idle time that it enforces.
const SWEEP: Duration = Duration::from_secs(15);
