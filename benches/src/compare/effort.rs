//! How long and how much: for figures, or for seeing that everything works.

use std::time::Duration;

/// Sizes of all that is done.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// What is judged.
    pub purpose: Purpose,
    /// The measured window of a run.
    pub duration: Duration,
    /// Before it.
    pub warm_up: Duration,
    /// Requests a second where the rate is fixed.
    pub rate: u32,
    /// Lanes on which new connections are made.
    pub lanes: u32,
    /// Open connections with HTTP/1.1 requests.
    pub connections: u32,
    /// What a stream sends and verifies in one go.
    pub piece: &'static str,
    /// Idle connections.
    pub idle: u32,
    /// How long they are held.
    pub hold: Duration,
    /// Starts in one round.
    pub starts: u32,
    /// Swaps of certificates in one round.
    pub swaps: u32,
    /// Between two swaps.
    pub interval: Duration,
}

/// What a comparison is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Figures.
    Measure,
    /// Whether every peer does what it can do, and nothing fails. Its figures say nothing.
    Smoke,
}

impl Effort {
    /// For figures.
    pub fn measuring(duration: Duration) -> Self {
        Self {
            purpose: Purpose::Measure,
            duration,
            warm_up: Duration::from_secs(1),
            rate: 5_000,
            // Enough to keep a core busy while some wait for the other side.
            lanes: 16,
            connections: 32,
            piece: "16MiB",
            // Below HAProxy's limit, and enough that the pages of allocators do not matter.
            idle: 2_000,
            hold: Duration::from_secs(3),
            starts: 20,
            swaps: 5,
            interval: Duration::from_secs(2),
        }
    }

    /// For seeing that everything works, also with slow builds on a busy machine.
    pub fn smoke() -> Self {
        Self {
            purpose: Purpose::Smoke,
            duration: Duration::from_millis(300),
            warm_up: Duration::from_millis(50),
            rate: 100,
            lanes: 2,
            connections: 4,
            piece: "64KiB",
            idle: 20,
            hold: Duration::from_millis(300),
            starts: 2,
            swaps: 1,
            interval: Duration::from_millis(1_500),
        }
    }
}
