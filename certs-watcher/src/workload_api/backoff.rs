//! How long to wait before the Workload API is asked again.
//!
//! An agent that restarts is asked again at once, since every message missed is an identity that grows old; one that is
//! away, refuses, or hangs up whenever it is called is asked ever less often. No order of answers makes it a spin.

use std::time::Duration;

/// The waits of one source.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    /// How often the next wait is to be doubled, from 1; with 0 there is none.
    step: u32,
    /// How many streams delivered and soon ended, since the last steady one.
    short_streams: u32,
}

impl Backoff {
    /// After a stream that had delivered and ended: at once the first time, and whenever it had lived for [`STEADY`].
    pub(super) fn after_delivery(&mut self, lived: Duration) -> Duration {
        if lived >= STEADY {
            self.short_streams = 0;
        }
        self.step = self.short_streams;
        self.short_streams = (self.short_streams + 1).min(LAST_STEP);
        self.next()
    }

    /// After a call that brought nothing.
    pub(super) fn after_failure(&mut self) -> Duration {
        self.step = self.step.max(1);
        self.next()
    }

    /// After an answer that will be the same next time, such as InvalidArgument: as seldom as possible.
    pub(super) fn after_standing_error(&mut self) -> Duration {
        self.step = LAST_STEP;
        self.next()
    }

    fn next(&mut self) -> Duration {
        let step = self.step;
        self.step = (step + 1).min(LAST_STEP);
        match step.checked_sub(1) {
            None => Duration::ZERO,
            // Between half and all of it: a thousand sidecars whose agent is back must not come in one wave.
            Some(doublings) => (FIRST * 2_u32.pow(doublings)).min(CAP).mul_f64(fastrand::f64().mul_add(0.5, 0.5)),
        }
    }
}

/// The first wait, halved at most by chance. An agent that restarts is away for about as long.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait: an agent that is back is noticed within it.
const CAP: Duration = Duration::from_secs(10);
/// The step at which doubling has reached [`CAP`]: 100 ms · 2^7 is 12.8 s.
const LAST_STEP: u32 = 8;
/// A stream that lived this long was no part of the trouble before it. As long as the longest wait, so that a stream
/// that dies right after each delivery is asked for no more often than one that never comes up.
const STEADY: Duration = CAP;

#[cfg(test)]
mod tests {
    use super::*;

    fn within(wait: Duration, most: Duration) {
        assert!(wait <= most && wait >= most / 2, "{wait:?} is not between half and all of {most:?}");
    }

    #[test]
    fn failures_double_the_wait_up_to_the_cap() {
        let mut backoff = Backoff::default();
        for milliseconds in [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000] {
            within(backoff.after_failure(), Duration::from_millis(milliseconds));
        }
    }

    #[test]
    fn a_steady_stream_is_asked_for_again_at_once_and_forgets_the_failures() {
        let mut backoff = Backoff::default();
        for _ in 0..20 {
            backoff.after_failure();
        }
        assert_eq!(backoff.after_delivery(STEADY), Duration::ZERO);
        within(backoff.after_failure(), FIRST);
    }

    #[test]
    fn a_stream_that_dies_after_each_delivery_is_asked_for_ever_less_often() {
        let mut backoff = Backoff::default();
        backoff.after_failure();
        assert_eq!(backoff.after_delivery(Duration::ZERO), Duration::ZERO);
        for milliseconds in [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000] {
            within(backoff.after_delivery(Duration::ZERO), Duration::from_millis(milliseconds));
            // Failures between them forgive nothing.
            backoff.after_failure();
        }
    }

    #[test]
    fn a_standing_error_waits_as_long_as_possible() {
        let mut backoff = Backoff::default();
        within(backoff.after_standing_error(), CAP);
        within(backoff.after_failure(), CAP);
        assert_eq!(backoff.after_delivery(STEADY), Duration::ZERO);
    }
}
