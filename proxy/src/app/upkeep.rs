//! What has to be done now and then: metrics folded, gauges set, idle connections closed.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use portcullis_certs_watcher::Snapshot;
use rustls_pki_types::UnixTime;

use crate::drain::{Phase, Tasks};
use crate::readiness::{self, PolicyNeed};
use crate::sidecar::Sidecar;
use crate::telemetry::metrics::Metrics;
use crate::upstream::pool::Pool;
use crate::workers::Workers;

/// Runs until the process ends.
pub(super) async fn run(sidecar: Arc<Sidecar>, need: PolicyNeed) {
    let mut credentials = sidecar.tls.credentials().changed();
    let metrics = &sidecar.telemetry.metrics;
    let mut told: Option<Vec<String>> = None;
    loop {
        metrics.upkeep();
        publish(metrics, &sidecar.tls.credentials().snapshot());
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
        tokio::select! {
            // Nothing is lost by dropping either.
            _ = credentials.changed() => {}
            () = tokio::time::sleep(INTERVAL) => {}
            () = sidecar.tasks.reached(Phase::Ended) => return,
        }
    }
}

fn publish(metrics: &Metrics, snapshot: &Snapshot) {
    let end = |not_after: UnixTime| SystemTime::UNIX_EPOCH + Duration::from_secs(not_after.as_secs());
    if let Some(own) = &snapshot.material {
        metrics.certificate_not_after("leaf", end(own.not_after()));
    }
    for bundle in snapshot.trust.bundles() {
        // Of several anchors the first to end is the one that somebody has to look after.
        if let Some(first) = bundle.anchors().iter().map(|anchor| anchor.not_after).min_by_key(UnixTime::as_secs) {
            metrics.certificate_not_after(&format!("anchor:{}", bundle.trust_domain()), end(first));
        }
    }
}

/// Sweeps the pools of each worker on that worker, `pools` being in the order of the workers.
pub(super) fn sweep_pools(pools: Vec<Vec<Arc<Pool>>>, workers: &Workers, tasks: &Tasks) {
    for (worker, pools) in workers.all().iter().zip(pools) {
        let ended = tasks.clone();
        tasks.spawn_on(&worker.handle, async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(SWEEP) => pools.iter().for_each(|pool| pool.sweep()),
                    () = ended.reached(Phase::Closing) => break,
                }
            }
            // Nobody asks for connections any more: those in use close with their last response.
            pools.iter().for_each(|pool| pool.empty());
        });
    }
}

/// Samples of histograms wait in memory this long.
const INTERVAL: Duration = Duration::from_secs(5);
/// A fraction of the idle time that it enforces.
const SWEEP: Duration = Duration::from_secs(15);
