//! Writes the copy of the policy in force, on a thread of its own: a slow or hanging disk delays nothing else.
//!
//! What cannot be written changes nothing about the policy in force. It is told once, counted each time, and tried again.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::state::{Copy, State};
use crate::telemetry::metrics::Metrics;

/// Takes copies; the thread ends when it is dropped.
#[derive(Debug)]
pub(super) struct Keeper {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    slot: Mutex<Slot>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Slot {
    /// The newest; one that was not written before the next one came is of no use any more.
    next: Option<Copy>,
    closed: bool,
}

impl Keeper {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives none.
    pub(super) fn start(state: State, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let writing = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("policy-copy".to_owned());
        // Nobody waits for it: what it was writing when the process ends is not yet the copy.
        drop(thread.spawn(move || writing.write_out(&state, &metrics))?);
        Ok(Self { shared })
    }

    /// Has this copy take the place of the one on disk.
    pub(super) fn keep(&self, copy: Copy) {
        self.shared.lock().next = Some(copy);
        self.shared.changed.notify_one();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn write_out(&self, state: &State, metrics: &Metrics) {
        let mut told: Option<String> = None;
        while let Some(copy) = self.next() {
            match state.write(&copy) {
                Ok(()) => {
                    metrics.policy_copied();
                    metrics.policy_copy_taken(copy.taken);
                    if told.take().is_some() {
                        tracing::info!(path = %state.path().display(), "the copy of the policy can be written again");
                    }
                }
                Err(error) => {
                    metrics.policy_not_copied(error.label());
                    let text = crate::error_chain(&error);
                    if told.as_ref() == Some(&text) {
                        tracing::debug!(error = text, "the copy of the policy cannot be written");
                    } else {
                        let message =
                            "the copy of the policy cannot be written: the next start has none to fall back to";
                        tracing::warn!(error = text, "{message}");
                        told = Some(text);
                    }
                    self.again(copy);
                }
            }
        }
    }

    /// The next copy to write; `None` when there will be none.
    fn next(&self) -> Option<Copy> {
        let mut slot = self.lock();
        loop {
            if slot.closed {
                return None;
            }
            if let Some(copy) = slot.next.take() {
                return Some(copy);
            }
            slot = self.changed.wait(slot).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Puts a copy back that could not be written, unless a newer one comes meanwhile.
    fn again(&self, copy: Copy) {
        let slot = self.lock();
        let idle = |slot: &mut Slot| slot.next.is_none() && !slot.closed;
        let waited = self.changed.wait_timeout_while(slot, RETRY, idle);
        let mut slot = waited.unwrap_or_else(PoisonError::into_inner).0;
        slot.next.get_or_insert(copy);
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        // Nothing panics under this lock; a poisoned slot is still a slot.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A disk that is full or read-only stays so for a while.
const RETRY: Duration = Duration::from_secs(60);
