//! The only place that spawns: every task of the process is tracked here and told when the process ends.
//!
//! Shutdown is a one-way walk through [`Phase`]. What each phase means for listeners is in `app/shutdown.rs`, for
//! connections in `connections.rs`.

use std::future::Future;
use std::time::Duration;

use hyper::rt::Executor;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// How far the process has come on its way from serving to its end. Phases only ever advance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Everything is accepted.
    Serving,
    /// Not ready any more, still accepting, saying goodbye with every answer.
    LameDuck,
    /// Inbound listeners are closed; requests in flight may finish, and may still call out.
    Draining,
    /// No inbound request is left, outbound listeners are closed too.
    Closing,
    /// The deadline has passed, or nothing is left: everything ends.
    Ended,
}

/// The one writer of the phase, and the tracker that waits for the tasks.
#[derive(Debug)]
pub struct Drain {
    phase: watch::Sender<Phase>,
    tasks: Tasks,
}

/// Spawns tasks and sees the phase. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tasks {
    tracker: TaskTracker,
    phase: watch::Receiver<Phase>,
}

impl Drain {
    /// Starts in [`Phase::Serving`] without any task.
    pub fn new() -> Self {
        let (phase, seen) = watch::channel(Phase::Serving);
        Self { phase, tasks: Tasks { tracker: TaskTracker::new(), phase: seen } }
    }

    /// The spawning half, for everyone else.
    pub fn tasks(&self) -> Tasks {
        self.tasks.clone()
    }

    /// Moves on to `phase`; a phase that has passed already is left alone.
    pub fn advance(&self, phase: Phase) {
        self.phase.send_if_modified(|current| {
            let moved = phase > *current;
            *current = phase.max(*current);
            moved
        });
    }

    /// Waits until every task has ended, for at most `limit`; `false` when some are still running.
    pub async fn finished(&self, limit: Duration) -> bool {
        self.tasks.tracker.close();
        tokio::time::timeout(limit, self.tasks.tracker.wait()).await.is_ok()
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

impl Tasks {
    /// Spawns on the current runtime.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn_on(&Handle::current(), task);
    }

    /// Spawns on another runtime: the way a connection reaches its worker.
    pub fn spawn_on(&self, runtime: &Handle, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.tracker.spawn_on(task, runtime));
    }

    /// The phase at this moment.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Resolves once the process has ended and its tasks with it, or `grace` later.
    pub async fn ended(&self, grace: Duration) {
        self.reached(Phase::Ended).await;
        // A task that has not ended by then is dropped with its runtime.
        let _ = tokio::time::timeout(grace, self.tracker.wait()).await;
    }

    /// Resolves once `phase` is reached, or when the process is ending without saying so.
    pub async fn reached(&self, phase: Phase) {
        let mut seen = self.phase.clone();
        // An error means that the writer is gone, which is the end too.
        let _ = seen.wait_for(|current| *current >= phase).await;
    }
}

/// Lets the HTTP library spawn its streams as tracked tasks.
impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        self.spawn(async move {
            future.await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn phases_only_advance_and_wake_those_who_wait() {
        let drain = Drain::new();
        let tasks = drain.tasks();
        let (ended, seen) = tokio::sync::oneshot::channel();
        let waiting = tasks.clone();
        tasks.spawn(async move {
            waiting.reached(Phase::Draining).await;
            let _ = ended.send(waiting.phase());
        });
        drain.advance(Phase::LameDuck);
        drain.advance(Phase::Serving);
        assert_eq!(tasks.phase(), Phase::LameDuck);
        drain.advance(Phase::Draining);
        assert_eq!(seen.await.unwrap(), Phase::Draining);
        assert!(drain.finished(Duration::from_secs(5)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_end_is_reported() {
        let drain = Drain::new();
        drain.tasks().spawn(std::future::pending());
        assert!(!drain.finished(Duration::from_secs(1)).await);
    }
}
