//! The end of a sidecar, in the order in which its callers learn of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::connections::Level;
use crate::drain::{Drain, Phase};
use crate::sidecar::Sidecar;
use crate::telemetry::access_log::Writer;
use crate::telemetry::metrics::Direction;
use crate::workers::Workers;

/// Whether to stop, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Serve on.
    No,
    /// Lame duck, drain, end: SIGTERM.
    Gracefully,
    /// End now: a second signal.
    AtOnce,
}

/// What the end needs.
pub(super) struct Ending {
    pub(super) drain: Drain,
    pub(super) sidecar: Arc<Sidecar>,
    pub(super) workers: Arc<Workers>,
    pub(super) log_writer: Writer,
    pub(super) stopped: watch::Receiver<Stop>,
}

impl Ending {
    /// Serves until told to stop, then ends everything in order.
    pub(super) async fn run(mut self) {
        // An error means that the handle of the sidecar was dropped: nobody could stop it later.
        let _ = self.stopped.wait_for(|stop| *stop >= Stop::Gracefully).await;
        let mut at_once = self.stopped.clone();
        tokio::select! {
            () = self.gracefully() => {}
            // Whatever phase the graceful end has reached, it goes on from there to the end.
            _ = at_once.wait_for(|stop| *stop == Stop::AtOnce) => tracing::warn!("stopping at once"),
        }
        for direction in [Direction::Inbound, Direction::Outbound] {
            self.sidecar.connections.signal(direction, Level::Cut, "draining");
        }
        self.drain.advance(Phase::Ended);
        if !self.drain.finished(LAST_TASKS).await {
            tracing::warn!("some tasks did not end in time");
        }
        // The exporter's thread sends over this runtime, which must therefore go on meanwhile.
        let telemetry = Arc::clone(&self.sidecar.telemetry);
        if tokio::task::spawn_blocking(move || telemetry.spans.finish()).await.is_err() {
            tracing::warn!("the last spans were not exported");
        }
        if let Ok(workers) = Arc::try_unwrap(self.workers) {
            workers.join();
        }
        self.log_writer.finish();
        tracing::info!("portcullis has ended");
    }

    async fn gracefully(&self) {
        let (timeouts, connections) = (self.sidecar.timeouts, &self.sidecar.connections);

        // 1. Not ready, still accepting: callers learn late, and hear goodbye with each answer.
        tracing::info!(inbound = connections.count(Direction::Inbound), "stopping: lame duck");
        self.drain.advance(Phase::LameDuck);
        connections.signal(Direction::Inbound, Level::Goodbye, "draining");
        tokio::time::sleep(timeouts.lame_duck).await;

        // 2. No new inbound connections; what is in flight may finish, and may call out meanwhile.
        self.drain.advance(Phase::Draining);
        connections.signal(Direction::Inbound, Level::Finish, "draining");
        let finished = async {
            connections.emptied(Direction::Inbound).await;
            // 3. Nobody needs the way out any more.
            self.drain.advance(Phase::Closing);
            connections.signal(Direction::Outbound, Level::Finish, "draining");
            connections.emptied(Direction::Outbound).await;
        };
        if tokio::time::timeout(timeouts.drain, finished).await.is_err() {
            let (inbound, outbound) = (connections.count(Direction::Inbound), connections.count(Direction::Outbound));
            tracing::warn!(inbound, outbound, "`timeouts.drain` is over: what is still open is cut");
        }
    }
}

/// What tasks that were told to end get for it.
const LAST_TASKS: Duration = Duration::from_secs(2);
