//! Condemned connections and when they are cut: the grace of `timeouts.recheckGrace`.
//!
//! One queue for all of them, so that ten thousand cost no tasks, and so that nothing of it outlives the process's end. All have
//! the same grace, so the first in it is the first to be due.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::connections::{Entry, Level};

/// Who is to be cut, and when.
#[derive(Debug)]
pub(super) struct Sentences {
    grace: Duration,
    pending: VecDeque<(Instant, Arc<Entry>)>,
}

impl Sentences {
    /// Nobody yet.
    pub(super) fn new(grace: Duration) -> Self {
        Self { grace, pending: VecDeque::new() }
    }

    /// Cuts a condemned connection when the grace is over, which it is at once if there is none.
    pub(super) fn pass(&mut self, entry: &Arc<Entry>) {
        if self.grace.is_zero() {
            return cut(entry);
        }
        self.pending.push_back((Instant::now() + self.grace, Arc::clone(entry)));
    }

    /// Cuts those whose grace is over.
    pub(super) fn carry_out(&mut self) {
        let now = Instant::now();
        while let Some((_, entry)) = self.pending.pop_front_if(|(due, _)| *due <= now) {
            cut(&entry);
        }
    }

    /// Resolves when the first is due; never while there is nobody.
    pub(super) async fn due(&self) {
        match self.pending.front() {
            Some((due, _)) => tokio::time::sleep_until(*due).await,
            None => std::future::pending().await,
        }
    }
}

fn cut(entry: &Entry) {
    entry.signal.raise(Level::Cut, entry.signal.condemned().unwrap_or("condemned"));
}
