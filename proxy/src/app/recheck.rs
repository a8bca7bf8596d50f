//! Watches for what may take an admission back, and judges the open connections.

use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::UnixTime;

use crate::connections::{Entry, Generation, Grounds, Judge, Level};
use crate::drain::Phase;
use crate::policy_store::unix_seconds;
use crate::sidecar::Sidecar;

/// Runs until the process ends.
pub(super) async fn run(sidecar: Arc<Sidecar>) {
    let mut credentials = sidecar.tls.credentials().changed();
    let mut policy = sidecar.policy.changed();
    let mut trust_seen = sidecar.tls.generation().trust;
    loop {
        let round = tokio::select! {
            // Nothing is lost by dropping any of these: each only says that something is newer than what was seen.
            Ok(()) = credentials.changed() => {
                let trust = sidecar.tls.generation().trust;
                // A renewed leaf, or a new problem, takes no admission back.
                let changed = trust != trust_seen;
                trust_seen = trust;
                if changed { Round::Everything } else { Round::Expiry }
            }
            Ok(()) = policy.changed() => Round::Everything,
            () = sidecar.doubt.notified() => Round::Everything,
            () = rule_expires(&sidecar) => Round::Everything,
            () = tokio::time::sleep(TICK) => Round::Expiry,
            () = sidecar.tasks.reached(Phase::Ended) => return,
        };
        judge_all(&sidecar, round).await;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// Only what time has changed: certificates that have ended.
    Expiry,
    /// Trust and policy as well.
    Everything,
}

async fn judge_all(sidecar: &Arc<Sidecar>, round: Round) {
    let snapshot = sidecar.tls.credentials().snapshot();
    let Some(own) = &snapshot.material else { return };
    let policy = sidecar.policy.current();
    let generation = Generation {
        identity: snapshot.identity_generation,
        trust: snapshot.trust_generation,
        policy: policy.as_ref().map_or(0, |loaded| loaded.number),
    };
    let grounds = Grounds { trust: Arc::clone(&snapshot.trust), policy, own: own.id().clone(), generation };
    let mut judge = Judge::new(grounds);
    let now = UnixTime::now();
    for some in sidecar.connections.snapshot().chunks(CHUNK) {
        for entry in some {
            let objection = match round {
                Round::Expiry => judge.ended(entry, now),
                Round::Everything => judge.objection(entry, now),
            };
            if let Some(cause) = objection {
                close(sidecar, entry, cause);
            }
        }
        // The admin page and the watchers share this thread.
        tokio::task::yield_now().await;
    }
}

/// Lets the requests in flight finish, for a grace, and then cuts.
fn close(sidecar: &Arc<Sidecar>, entry: &Arc<Entry>, cause: &'static str) {
    if entry.signal.is_at(Level::Finish) {
        return;
    }
    let opened = &entry.opened;
    sidecar.telemetry.metrics.connection_closed(opened.direction, cause);
    let peer = opened.peer.as_ref();
    tracing::warn!(
        direction = opened.direction.label(),
        carries = opened.carries.label(),
        peer = peer.map(|peer| peer.id.to_string()),
        serial = peer.map(|peer| peer.serial.as_str()),
        address = %opened.address,
        cause,
        "an open connection must end: what allowed it no longer holds"
    );
    entry.signal.raise(Level::Finish, cause);
    let entry = Arc::clone(entry);
    sidecar.tasks.spawn(async move {
        tokio::time::sleep(GRACE).await;
        entry.signal.raise(Level::Cut, cause);
    });
}

/// Resolves when a rule of the policy in force ceases to be in force.
async fn rule_expires(sidecar: &Sidecar) {
    let now = unix_seconds();
    let next = sidecar.policy.current().and_then(|loaded| loaded.policy.next_expiry(now));
    match next.and_then(|end| u64::try_from(end - now).ok()) {
        Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
        None => std::future::pending().await,
    }
}

/// How late the end of a certificate may be noticed.
const TICK: Duration = Duration::from_secs(1);
/// Connections judged between two looks at what else there is to do.
const CHUNK: usize = 64;
/// What requests in flight get to finish.
const GRACE: Duration = Duration::from_secs(5);
