//! Runs the passes: at once when a change is announced, and every few seconds in any case.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::debug;

use crate::agents::{self, Agents};
use crate::clock::Clock;
use crate::intake::Pace;
use crate::notice::Notice;
use crate::snapshot::{Credentials, Observer};
use crate::sources::Sources;
use crate::supply::Supply;
use crate::workload_api::WorkloadApi;

/// Keeps identity and trust current. The one writer; [`Credentials`] are the readers.
pub struct Watcher {
    supply: Supply,
    clients: Vec<WorkloadApi>,
}

impl Watcher {
    /// Loads everything once, so that the first snapshot is already in place. What is absent or broken is no error:
    /// the snapshot says so, and [`Watcher::run`] goes on trying. A Workload API is first called there.
    pub fn new(sources: Sources, pace: Pace, clock: Clock, observer: Observer) -> (Self, Credentials) {
        let (agents, clients) = Agents::new(&sources);
        let (supply, credentials) = Supply::new(sources, agents, pace, clock, observer);
        (Self { supply, clients }, credentials)
    }

    /// Watches until `stop` completes.
    ///
    /// Files are read and proven on the calling task, which takes well under a millisecond for a real volume: run it
    /// where a slow disk stalls nobody, not among connections.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let mut supply = self.supply;
        let mut stop = pin!(stop);
        let mut clients = pin!(agents::run(self.clients));
        let mut notice = Notice::new(supply.sources().paths());
        loop {
            // Armed before the pass, so that a change during it is announced; and after it, since the pass may have been
            // woken by a directory that has just appeared and was not yet watched while it was filled.
            notice.arm();
            let mut wait = supply.pass(Instant::now());
            if notice.arm() {
                wait = Duration::ZERO;
            } else if notice.is_blind() {
                wait = wait.min(BLIND_POLL);
            }
            tokio::select! {
                biased;
                () = &mut stop => {
                    debug!("watcher stopped");
                    return;
                }
                // Not dropped, only left for the length of a pass; first, so that busy files cannot starve it.
                never = &mut clients => match never {},
                // Dropping any of these half-way loses nothing: an announcement that was not taken stays.
                () = notice.changed() => {}
                () = supply.told() => {}
                () = sleep(wait) => {}
            }
        }
    }
}

/// How often to look where nothing is announced: soon enough for a rotation drill, rare enough to cost nothing.
const BLIND_POLL: Duration = Duration::from_secs(1);
