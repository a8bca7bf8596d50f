//! A limit that is reached is told of once when it begins and once when it is over, with what was refused meanwhile: a
//! storm makes two lines in the log, however hard it blows.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The refusals for one limit and one subject, such as a caller or a destination.
#[derive(Debug)]
pub struct Episode {
    limit: &'static str,
    of: Box<str>,
    open: AtomicBool,
    refused: AtomicU64,
    /// Milliseconds on the clock of [`Episodes`].
    last: AtomicU64,
}

/// The episodes under way.
#[derive(Debug)]
pub struct Episodes {
    started: Instant,
    open: Mutex<Vec<Open>>,
}

#[derive(Debug)]
struct Open {
    episode: Arc<Episode>,
    begun: u64,
}

/// An episode that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Over {
    refused: u64,
    lasted: Duration,
}

impl Episode {
    /// Refusals of `of` for `limit`, which is the key of the configuration or a fixed word.
    pub fn new(limit: &'static str, of: impl Into<Box<str>>) -> Arc<Self> {
        Arc::new(Self {
            limit,
            of: of.into(),
            open: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            last: AtomicU64::new(0),
        })
    }

    /// Whether refusals were told of and not yet that they are over.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }
}

impl Episodes {
    /// None under way.
    pub fn new() -> Self {
        Self { started: Instant::now(), open: Mutex::default() }
    }

    /// Notes one refusal. Two atomics, but for the first of an episode.
    pub fn note(&self, episode: &Arc<Episode>, now: Instant) {
        let now = self.millis(now);
        episode.last.store(now, Ordering::Relaxed);
        episode.refused.fetch_add(1, Ordering::Relaxed);
        if episode.is_open() || episode.open.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= MOST {
            // Told of when another one is over; the metric counts it in any case.
            episode.open.store(false, Ordering::Relaxed);
            return;
        }
        open.push(Open { episode: Arc::clone(episode), begun: now });
        drop(open);
        tracing::warn!(limit = episode.limit, of = &*episode.of, "a limit is reached: new work is refused");
    }

    /// Tells of those in which nothing was refused for a while. To be called every few seconds.
    pub fn tell_of_ended(&self, now: Instant) {
        for (episode, over) in self.ended(now) {
            let (refused, lasted) = (over.refused, over.lasted.as_secs_f64());
            tracing::warn!(
                limit = episode.limit,
                of = &*episode.of,
                refused,
                seconds = lasted,
                "a limit is not reached any more"
            );
        }
    }

    fn ended(&self, now: Instant) -> Vec<(Arc<Episode>, Over)> {
        let (now, mut ended) = (self.millis(now), Vec::new());
        self.open.lock().unwrap_or_else(PoisonError::into_inner).retain(|open| {
            let last = open.episode.last.load(Ordering::Relaxed);
            if now.saturating_sub(last) < QUIET {
                return true;
            }
            // What is refused between these two counts for the next one.
            let refused = open.episode.refused.swap(0, Ordering::Relaxed);
            open.episode.open.store(false, Ordering::Relaxed);
            let lasted = Duration::from_millis(last.saturating_sub(open.begun));
            ended.push((Arc::clone(&open.episode), Over { refused, lasted }));
            false
        });
        ended
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }
}

impl Default for Episodes {
    fn default() -> Self {
        Self::new()
    }
}

/// In milliseconds: an episode is over when nothing was refused for so long. A client that tries again every few seconds is
/// one episode.
const QUIET: u64 = 10_000;
/// A few hundred kilobytes at most.
const MOST: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_episode_begins_once_and_ends_once_with_its_count() {
        let (episodes, episode) = (Episodes::new(), Episode::new("ratePerIdentity", "spiffe://prod.test/a"));
        let start = episodes.started;
        for number in 0..5 {
            episodes.note(&episode, start + SECOND * number);
            assert!(episode.is_open());
            assert_eq!(episodes.open.lock().unwrap().len(), 1, "told of once");
        }
        assert!(episodes.ended(start + SECOND * 13).is_empty(), "nine seconds after the last refusal");
        let ended = episodes.ended(start + SECOND * 14);
        assert_eq!(ended.iter().map(|(_, over)| *over).collect::<Vec<_>>(), [Over { refused: 5, lasted: SECOND * 4 }]);
        assert!(!episode.is_open() && episodes.ended(start + SECOND * 60).is_empty());
        episodes.note(&episode, start + SECOND * 60);
        assert!(episode.is_open(), "another one");
    }

    #[test]
    fn memory_is_bounded_however_many_there_are() {
        let episodes = Episodes::new();
        let kept: Vec<_> = (0..2 * MOST).map(|number| Episode::new("ratePerIdentity", number.to_string())).collect();
        kept.iter().for_each(|episode| episodes.note(episode, episodes.started));
        assert_eq!(episodes.open.lock().unwrap().len(), MOST);
        assert_eq!(episodes.ended(episodes.started + SECOND * 10).len(), MOST);
    }
}
