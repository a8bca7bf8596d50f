//! `limits.inFlightPerDestination`: requests under way to one destination, over all workers, whatever connections they use.
//!
//! A request counts from the policy's decision to the end of its response, a WebSocket and a connection of opaque TCP for as
//! long as they last. So a destination that has become slow cannot take up everything that there is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::telemetry::episode::{Episode, Episodes};

/// The reason in metrics, log and answers.
pub const TOO_MANY_IN_FLIGHT: &str = "too_many_in_flight";

/// One destination: the `forward` of inbound listeners, or one outbound listener.
#[derive(Debug)]
pub struct Destination {
    /// 0 is no limit.
    most: usize,
    under_way: AtomicUsize,
    episode: Arc<Episode>,
}

/// One request under way; it counts until this is dropped. Nothing is counted where there is no limit.
#[derive(Debug, Default)]
pub struct InFlight {
    counted_at: Option<Arc<Destination>>,
}

/// As many requests as `limits.inFlightPerDestination` are under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

impl Destination {
    /// A destination called `name` in the log, with at most `most` requests under way (0: no limit).
    pub fn new(most: usize, name: impl Into<Box<str>>) -> Arc<Self> {
        let episode = Episode::new("inFlightPerDestination", name);
        Arc::new(Self { most, under_way: AtomicUsize::new(0), episode })
    }

    /// Counts one request in.
    ///
    /// # Errors
    /// When there are as many as there may be.
    pub fn enter(self: &Arc<Self>, episodes: &Episodes) -> Result<InFlight, TooMany> {
        if self.most == 0 {
            return Ok(InFlight::default());
        }
        let room = |under_way| (under_way < self.most).then_some(under_way + 1);
        if self.under_way.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_err() {
            episodes.note(&self.episode, Instant::now());
            return Err(TooMany);
        }
        Ok(InFlight { counted_at: Some(Arc::clone(self)) })
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(destination) = &self.counted_at {
            destination.under_way.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_more_than_the_limit_and_what_ends_makes_room() {
        let (destination, episodes) = (Destination::new(3, "127.0.0.1:8080"), Episodes::new());
        let mut kept: Vec<_> = (0..3).map(|_| destination.enter(&episodes).unwrap()).collect();
        for _ in 0..3 {
            assert_eq!(destination.enter(&episodes).err(), Some(TooMany));
            drop(kept.pop());
            kept.push(destination.enter(&episodes).unwrap());
        }
        kept.clear();
        assert_eq!(destination.under_way.load(Ordering::Relaxed), 0);
        assert!(destination.episode.is_open());
    }

    #[test]
    fn no_limit_counts_nothing() {
        let destination = Destination::new(0, "127.0.0.1:8080");
        let _kept: Vec<_> = (0..100).map(|_| destination.enter(&Episodes::new()).unwrap()).collect();
        assert_eq!(Arc::strong_count(&destination), 1);
    }
}
