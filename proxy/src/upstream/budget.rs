//! How many requests a pool may send twice: a fifth of those that it is asked to send, and a few more.
//!
//! A peer that fails must not be asked more often because it fails. Without a budget every caller would double its load at
//! the moment when the peer can bear it least.

use std::sync::atomic::{AtomicU32, Ordering};

/// What may be spent on repetitions. Each request pays in, each repetition takes five times as much out.
#[derive(Debug)]
pub struct Budget(AtomicU32);

impl Budget {
    /// With [`FLOOR`] to begin with, for a destination that is seldom called.
    pub fn new() -> Self {
        Self(AtomicU32::new(FLOOR * PRICE))
    }

    /// Pays a request in.
    pub fn request(&self) {
        // Two that pay at once may both see the last free place: the most is no exact number.
        if self.0.load(Ordering::Relaxed) < MOST * PRICE {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether so little is left that requests under way could use it up.
    pub fn is_low(&self) -> bool {
        self.0.load(Ordering::Relaxed) < FLOOR / 2 * PRICE
    }

    /// Whether there is as much as at the beginning.
    pub fn is_ample(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= FLOOR * PRICE
    }

    /// Pays for one repetition, if there is enough.
    pub fn spend(&self) -> bool {
        let spend = |credit: u32| credit.checked_sub(PRICE);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_ok()
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new()
    }
}

/// A fifth of the requests.
const PRICE: u32 = 5;
/// Without it, the first request to a peer that has just been restarted could not be repeated.
pub const FLOOR: u32 = 10;
/// What an hour of good service can save up: enough for all streams of a connection that says goodbye.
const MOST: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(budget: &Budget) -> u32 {
        (0..10_000).take_while(|_| budget.spend()).count().try_into().unwrap()
    }

    #[test]
    fn a_fifth_of_the_requests_and_a_few_more_may_be_repeated() {
        let budget = Budget::new();
        assert_eq!(spent(&budget), FLOOR);
        assert!(budget.is_low() && !budget.is_ample());
        for _ in 0..100 {
            budget.request();
        }
        assert!(budget.is_ample() && !budget.is_low());
        assert_eq!(spent(&budget), 20);
    }

    #[test]
    fn what_is_saved_up_is_bounded() {
        let budget = Budget::new();
        for _ in 0..1_000_000 {
            budget.request();
        }
        assert_eq!(spent(&budget), MOST);
    }
}
