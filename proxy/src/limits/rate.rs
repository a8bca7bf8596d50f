//! `limits.ratePerIdentity`: requests a second and a burst for each SPIFFE ID, however many connections it has.
//!
//! A token bucket in the form of the generic cell rate algorithm (ITU-T I.371): one number for each identity, the moment at
//! which its bucket is full again, shared by all workers. A request costs one compare and swap; the map is asked once for a
//! connection. On opaque TCP a connection counts as a request.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use spiffe::SpiffeId;

use crate::config::Rate;
use crate::telemetry::episode::{Episode, Episodes};

/// The reason in metrics, log and answers.
pub const RATE_LIMITED: &str = "rate_limited";

/// The buckets of all identities that have called lately.
#[derive(Debug)]
pub struct Rates {
    /// `None` when it is off.
    terms: Option<Terms>,
    buckets: Mutex<Buckets>,
}

#[derive(Clone, Copy, Debug)]
struct Terms {
    started: Instant,
    /// Nanoseconds between two requests at the rate.
    interval: u64,
    /// Nanoseconds by which a caller may be ahead of its rate.
    tolerance: u64,
}

#[derive(Debug)]
struct Buckets {
    by_identity: HashMap<SpiffeId, Arc<Bucket>>,
    /// How many there may be before the full ones are looked for.
    sweep_at: usize,
}

#[derive(Debug)]
struct Bucket {
    /// When it is full again, in nanoseconds since the start.
    full_at: AtomicU64,
    episode: Arc<Episode>,
}

/// What one caller may ask for, to be kept with its connection.
#[derive(Debug)]
pub struct Allowance {
    terms: Terms,
    bucket: Arc<Bucket>,
}

/// The caller has asked for more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    /// When it may come again, in whole seconds, at least 1.
    pub retry_after: u64,
}

impl Rates {
    /// No bucket yet; `None` is no limit.
    pub fn new(rate: Option<Rate>) -> Self {
        let terms = rate.map(|rate| {
            let interval = SECOND / u64::from(rate.per_second.get());
            Terms { started: Instant::now(), interval, tolerance: interval * u64::from(rate.burst.get() - 1) }
        });
        Self { terms, buckets: Mutex::new(Buckets { by_identity: HashMap::new(), sweep_at: FIRST_SWEEP }) }
    }

    /// What `caller` may ask for; `None` when there is no limit.
    pub fn of(&self, caller: &SpiffeId) -> Option<Allowance> {
        let terms = self.terms?;
        let bucket = self.bucket(caller, terms.nanos(Instant::now()));
        Some(Allowance { terms, bucket })
    }

    fn bucket(&self, caller: &SpiffeId, now: u64) -> Arc<Bucket> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = buckets.by_identity.get(caller) {
            return Arc::clone(bucket);
        }
        if buckets.by_identity.len() >= buckets.sweep_at {
            // Whoever comes again finds a full bucket either way. Handles are made under this lock only, so that one that
            // nobody has cannot be taken meanwhile.
            buckets.by_identity.retain(|_, bucket| Arc::strong_count(bucket) > 1 || bucket.is_needed(now));
            if buckets.by_identity.len() >= MOST {
                // So many identities in debt at once need an issuer that makes them up; who is connected stays limited.
                buckets.by_identity.retain(|_, bucket| Arc::strong_count(bucket) > 1);
            }
            buckets.sweep_at = (buckets.by_identity.len() * 2).max(FIRST_SWEEP);
        }
        let episode = Episode::new("ratePerIdentity", caller.to_string());
        let bucket = Arc::new(Bucket { full_at: AtomicU64::new(0), episode });
        buckets.by_identity.insert(caller.clone(), Arc::clone(&bucket));
        bucket
    }
}

impl Allowance {
    /// Takes one request that came at `at`.
    ///
    /// # Errors
    /// When the caller is as far ahead of its rate as it may be.
    pub fn spend(&self, at: Instant, episodes: &Episodes) -> Result<(), Over> {
        let Terms { interval, tolerance, .. } = self.terms;
        let now = self.terms.nanos(at);
        let taken = self.bucket.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            let begun = full_at.max(now);
            (begun - now <= tolerance).then(|| begun.saturating_add(interval))
        });
        taken.map(drop).map_err(|full_at| {
            episodes.note(&self.bucket.episode, at);
            let wait = full_at.saturating_sub(now).saturating_sub(tolerance);
            Over { retry_after: wait.div_ceil(SECOND).max(1) }
        })
    }
}

impl Bucket {
    fn is_needed(&self, now: u64) -> bool {
        self.full_at.load(Ordering::Relaxed) > now || self.episode.is_open()
    }
}

impl Terms {
    fn nanos(&self, at: Instant) -> u64 {
        // 584 years from the start.
        u64::try_from(at.duration_since(self.started).as_nanos()).unwrap_or(u64::MAX)
    }
}

const SECOND: u64 = 1_000_000_000;
/// Fewer are not worth a look.
const FIRST_SWEEP: usize = 256;
/// About 20 MB: SPIFFE IDs are some 70 bytes, and may be 2 KiB.
const MOST: usize = 65_536;

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;

    fn rates(per_second: u32, burst: u32) -> Rates {
        let number = |number| NonZeroU32::new(number).unwrap();
        Rates::new(Some(Rate { per_second: number(per_second), burst: number(burst) }))
    }

    fn id(name: impl std::fmt::Display) -> SpiffeId {
        SpiffeId::new(format!("spiffe://prod.test/{name}")).unwrap()
    }

    /// How many of `asked` requests at this moment are taken.
    fn taken(allowance: &Allowance, asked: usize, millis: u64) -> usize {
        let at = allowance.terms.started + Duration::from_millis(millis);
        (0..asked).filter(|_| allowance.spend(at, &Episodes::new()).is_ok()).count()
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_does() {
        let rates = rates(10, 25);
        let allowance = rates.of(&id("a")).unwrap();
        for (millis, expected) in [(0, 25), (0, 0), (99, 0), (100, 1), (1_000, 9), (3_600_000, 25), (3_600_100, 1)] {
            assert_eq!(taken(&allowance, 100, millis), expected, "after {millis} ms");
        }
        assert_eq!(taken(&rates.of(&id("b")).unwrap(), 100, 0), 25, "another one has a bucket of its own");
        assert!(Rates::new(None).of(&id("a")).is_none());
    }

    #[test]
    fn whoever_is_refused_learns_when_to_come_again() {
        for (per_second, burst, seconds) in [(1_000, 1, 1), (1, 1, 1), (1, 5, 1)] {
            let allowance = rates(per_second, burst).of(&id("a")).unwrap();
            taken(&allowance, burst as usize, 0);
            let refused = allowance.spend(allowance.terms.started, &Episodes::new());
            assert_eq!(refused, Err(Over { retry_after: seconds }), "{per_second} a second, {burst} at once");
            assert_eq!(taken(&allowance, 1, seconds * 1_000), 1);
        }
    }

    #[test]
    fn all_connections_of_a_caller_share_one_bucket() {
        let rates = Arc::new(rates(1, 1_000));
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let rates = Arc::clone(&rates);
                std::thread::spawn(move || taken(&rates.of(&id("a")).unwrap(), 500, 0))
            })
            .collect();
        let all: usize = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
        assert_eq!(all, 1_000);
    }

    #[test]
    fn full_buckets_go_and_those_in_use_or_in_debt_stay() {
        let rates = rates(1, 10);
        let terms = rates.terms.unwrap();
        let kept = rates.of(&id("kept")).unwrap();
        let in_debt = rates.of(&id("in-debt")).unwrap();
        assert_eq!(taken(&in_debt, 10, 0), 10);
        drop(in_debt);
        let second = 1_000_000_000;
        for number in 0..10_000 {
            rates.bucket(&id(number), second);
            assert!(rates.buckets.lock().unwrap().by_identity.len() <= FIRST_SWEEP);
        }
        assert_eq!(taken(&rates.of(&id("in-debt")).unwrap(), 10, 0), 0, "going away pays no debt");
        assert_eq!(taken(&kept, 100, 0) + taken(&rates.of(&id("kept")).unwrap(), 100, 0), 10);
        assert_eq!(terms.interval, second);
    }

    #[test]
    fn memory_is_bounded_whoever_calls() {
        let rates = rates(1, 1_000_000);
        for number in 0..3 * MOST {
            let bucket = rates.bucket(&id(number), 0);
            bucket.full_at.store(u64::MAX, Ordering::Relaxed);
        }
        assert!(rates.buckets.lock().unwrap().by_identity.len() <= 2 * MOST);
    }
}
