//! How a connection's task is told to end: a level that only rises, and a cause.
//!
//! A drain and the re-check raise the same level, but they are not the same: a drain lets what is in flight take its time, and
//! what was condemned by the re-check meanwhile must not hide behind that.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;
use tokio::sync::futures::{Notified, OwnedNotified};

use crate::drain::Phase;

/// How urgently a connection must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Tell the peer to go elsewhere: GOAWAY on HTTP/2, `connection: close` with the next response on HTTP/1.1. Idle
    /// HTTP/1.1 connections and opaque TCP stay, because closing them could lose a request that is on its way.
    Goodbye = 1,
    /// Take nothing new: as `Goodbye`, and idle HTTP/1.1 connections close.
    Finish = 2,
    /// End now, whatever is in flight.
    Cut = 3,
}

impl Level {
    /// What an inbound connection that is admitted in this phase must be told at once.
    pub fn of_inbound(phase: Phase) -> Option<Self> {
        match phase {
            Phase::Serving => None,
            Phase::LameDuck => Some(Self::Goodbye),
            Phase::Draining | Phase::Closing => Some(Self::Finish),
            Phase::Ended => Some(Self::Cut),
        }
    }

    /// The same for a connection of our own application, which may call out for as long as inbound requests last.
    pub fn of_outbound(phase: Phase) -> Option<Self> {
        match phase {
            Phase::Serving | Phase::LameDuck | Phase::Draining => None,
            Phase::Closing => Some(Self::Finish),
            Phase::Ended => Some(Self::Cut),
        }
    }
}

/// One per connection.
#[derive(Debug, Default)]
pub struct Signal {
    level: AtomicU8,
    cause: OnceLock<&'static str>,
    /// Why what allowed the connection no longer holds.
    condemned: OnceLock<&'static str>,
    raised: Notify,
    doubts: AtomicU64,
    doubted: Arc<Notify>,
}

impl Signal {
    /// Raises the level; a lower one than was reached already changes nothing. The first cause stays.
    pub fn raise(&self, level: Level, cause: &'static str) {
        let _ = self.cause.set(cause);
        if self.level.fetch_max(level as u8, Ordering::AcqRel) < level as u8 {
            self.raised.notify_waiters();
        }
    }

    /// Has the connection take nothing new because what allowed it no longer holds, whatever it was told before. `true` the
    /// first time: whoever condemned it must see that it is cut.
    pub fn condemn(&self, cause: &'static str) -> bool {
        let first = self.condemned.set(cause).is_ok();
        self.raise(Level::Finish, cause);
        first
    }

    /// Why what allowed the connection no longer holds; `None` as long as it does, also during a drain.
    pub fn condemned(&self) -> Option<&'static str> {
        self.condemned.get().copied()
    }

    /// Whether this level is reached.
    pub fn is_at(&self, level: Level) -> bool {
        self.level.load(Ordering::Acquire) >= level as u8
    }

    /// Why it was raised. That it was condemned counts for more than that it was drained.
    pub fn cause(&self) -> Option<&'static str> {
        self.condemned().or_else(|| self.cause.get().copied())
    }

    /// Has what is in flight on the connection decided again, each request for itself; the connection itself may stay.
    pub fn doubt(&self) {
        self.doubts.fetch_add(1, Ordering::AcqRel);
        self.doubted.notify_waiters();
    }

    /// How often that was asked for.
    pub fn doubts(&self) -> u64 {
        self.doubts.load(Ordering::Acquire)
    }

    /// Resolves at the next doubt that is raised after this call.
    pub fn doubt_raised(&self) -> Notified<'_> {
        self.doubted.notified()
    }

    /// The same, to be kept.
    pub fn doubted(&self) -> OwnedNotified {
        Arc::clone(&self.doubted).notified_owned()
    }

    /// Resolves once this level is reached.
    pub async fn reached(&self, level: Level) {
        loop {
            let raised = self.raised.notified();
            tokio::pin!(raised);
            // Registered before the level is read, so that a rise in between is not missed.
            raised.as_mut().enable();
            if self.is_at(level) {
                return;
            }
            raised.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn levels_rise_wake_and_never_fall() {
        let signal = Arc::new(Signal::default());
        let seen = Arc::clone(&signal);
        let mut waiting = std::pin::pin!(seen.reached(Level::Finish));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        signal.raise(Level::Goodbye, "draining");
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        signal.raise(Level::Cut, "policy");
        assert!(futures_util::poll!(waiting.as_mut()).is_ready());
        signal.raise(Level::Finish, "draining");
        assert!(signal.is_at(Level::Cut));
        assert_eq!(signal.cause(), Some("draining"));
    }

    #[test]
    fn a_drain_hides_no_condemnation() {
        let signal = Signal::default();
        signal.raise(Level::Finish, "draining");
        assert_eq!((signal.condemned(), signal.cause()), (None, Some("draining")));
        assert!(signal.condemn("revoked"), "the first time");
        assert!(!signal.condemn("certificate_expired"), "once is enough");
        assert_eq!((signal.condemned(), signal.cause()), (Some("revoked"), Some("revoked")));
        assert!(signal.is_at(Level::Finish) && !signal.is_at(Level::Cut));
    }

    #[test]
    fn a_connection_admitted_during_a_drain_is_told_how_far_it_has_come() {
        use Level::{Cut, Finish, Goodbye};
        for (phase, inbound, outbound) in [
            (Phase::Serving, None, None),
            (Phase::LameDuck, Some(Goodbye), None),
            (Phase::Draining, Some(Finish), None),
            (Phase::Closing, Some(Finish), Some(Finish)),
            (Phase::Ended, Some(Cut), Some(Cut)),
        ] {
            assert_eq!((Level::of_inbound(phase), Level::of_outbound(phase)), (inbound, outbound), "{phase:?}");
        }
    }
}
