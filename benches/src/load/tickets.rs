//! When the next operation starts.
//!
//! Closed loop: as soon as somebody is free. Open loop: at fixed moments, whoever is free then, and if nobody is, as soon
//! as somebody is: the wait belongs to the operation's latency, so that a target that stalls cannot hide it
//! (coordinated omission).

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::alarm::Alarm;

/// How fast operations are started.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// One after the other.
    Closed,
    /// So many per second, evenly.
    Open(f64),
}

/// The moments of a run, the same for all threads.
#[derive(Debug, Clone, Copy)]
pub struct Moments {
    /// The load begins.
    pub origin: Instant,
    /// Operations count from here on.
    pub from: Instant,
    /// No operation starts any more.
    pub until: Instant,
}

/// The operations of one thread, of several that take turns.
pub struct Tickets {
    moments: Moments,
    pace: Pace,
    next: Cell<u64>,
    threads: u64,
    alarm: Alarm,
}

impl Moments {
    /// From `origin` on: first the warm-up, then what is measured.
    pub fn new(origin: Instant, warm_up: Duration, length: Duration) -> Self {
        Self { origin, from: origin + warm_up, until: origin + warm_up + length }
    }
}

impl Tickets {
    /// Those of thread number `thread` of `threads`.
    pub fn new(moments: Moments, pace: Pace, (thread, threads): (u64, u64), alarm: Alarm) -> Self {
        Self { moments, pace, next: Cell::new(thread), threads: threads.max(1), alarm }
    }

    /// Waits until the next operation is due and says since when; `None` when the load is over.
    pub async fn next(&self) -> Option<Instant> {
        let due = match self.pace {
            Pace::Closed => Instant::now(),
            Pace::Open(rate) => {
                let due = self.due(rate);
                self.next.set(self.next.get() + self.threads);
                due
            }
        };
        if due >= self.moments.until {
            return None;
        }
        if self.pace != Pace::Closed {
            self.alarm.at(due).await;
        }
        Some(due)
    }

    /// Operations that were due and that nobody has started.
    pub fn left_over(&self) -> u64 {
        let Pace::Open(rate) = self.pace else { return 0 };
        let mut left = 0;
        while self.due(rate) < self.moments.until {
            left += 1;
            self.next.set(self.next.get() + self.threads);
        }
        left
    }

    /// Wakes those who wait for their moment, for ever.
    pub async fn ring(&self) {
        // Without a timer nobody is woken, and the run reports that nothing was done.
        let _ = self.alarm.ring().await;
    }

    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 operations")]
    fn due(&self, rate: f64) -> Instant {
        self.moments.origin + Duration::from_secs_f64(self.next.get() as f64 / rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tickets(pace: Pace, turns: (u64, u64)) -> Tickets {
        let now = Instant::now();
        let moments = Moments::new(now, Duration::from_millis(5), Duration::from_millis(15));
        Tickets::new(moments, pace, turns, Alarm::new().unwrap())
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn threads_share_one_even_schedule() {
        run(async {
            let (first, second) = (tickets(Pace::Open(1000.0), (0, 2)), tickets(Pace::Open(1000.0), (1, 2)));
            let mut offsets = Vec::new();
            for tickets in [&first, &second] {
                // Who rings does so beside whoever waits; here one task is both.
                let take = async {
                    while let Some(due) = tickets.next().await {
                        offsets.push((due - tickets.moments.origin).as_micros());
                    }
                };
                tokio::select! { () = take => {}, () = tickets.ring() => {} }
            }
            offsets.sort_unstable();
            assert_eq!(offsets, (0..20).map(|turn| turn * 1000).collect::<Vec<_>>());
        });
    }

    #[test]
    fn what_nobody_started_is_known() {
        run(async {
            let tickets = tickets(Pace::Open(1000.0), (0, 1));
            assert!(tickets.next().await.is_some());
            assert_eq!(tickets.left_over(), 19);
            assert_eq!(tickets.next().await, None);
        });
    }
}
