//! What came of the operations of one thread, and of all threads together.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::tickets::{Moments, Pace};
use crate::client::failure::Failure;
use crate::measure::latency::Times;
use crate::outcome::Second;

/// A good operation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// Payload that it moved.
    pub bytes: u64,
    /// Parts of its time, by name.
    pub spans: [Option<(&'static str, Duration)>; 3],
    /// What it adds to one of the command's own counts.
    pub count: Option<&'static str>,
}

/// See the module.
#[derive(Debug)]
pub struct Tally {
    moments: Moments,
    pace: Pace,
    width: Duration,
    /// Operations that ended well within the measured window.
    pub done: u64,
    /// Their payload.
    pub bytes: u64,
    /// Their times.
    pub times: Times,
    /// Parts of their times.
    pub spans: BTreeMap<&'static str, Times>,
    /// The command's own counts, of the measured window.
    pub counts: BTreeMap<&'static str, u64>,
    /// Failures of the whole run, the warm-up included: a failure is one whenever it happens.
    pub failures: BTreeMap<Cow<'static, str>, u64>,
    /// The first few of them.
    pub examples: Vec<String>,
    stretches: Vec<Stretch>,
}

/// A second of the run, or more of a long one.
#[derive(Debug)]
struct Stretch {
    done: u64,
    bytes: u64,
    failures: u64,
    times: Times,
}

impl Tally {
    /// An empty one.
    pub fn new(moments: Moments, pace: Pace) -> Self {
        let length = moments.until - moments.from;
        Self {
            moments,
            pace,
            width: (length / MOST_STRETCHES).max(SECOND),
            done: 0,
            bytes: 0,
            times: Times::precise(),
            spans: BTreeMap::new(),
            counts: BTreeMap::new(),
            failures: BTreeMap::new(),
            examples: Vec::new(),
            stretches: Vec::new(),
        }
    }

    /// An operation that was due at one moment ended well at another.
    ///
    /// In a closed loop it counts if it ended within the measured window. In an open loop its time also counts if it was
    /// due within the window and ended after it: leaving those out would leave out the slowest.
    pub fn succeeded(&mut self, due: Instant, ended: Instant, done: &Done) {
        let is_inside = ended >= self.moments.from && ended < self.moments.until;
        let is_timed = match self.pace {
            Pace::Closed => is_inside,
            Pace::Open(_) => due >= self.moments.from,
        };
        let took = ended.saturating_duration_since(due);
        if is_timed {
            self.times.record(took);
            for (name, span) in done.spans.into_iter().flatten() {
                self.spans.entry(name).or_insert_with(Times::precise).record(span);
            }
        }
        if !is_inside {
            return;
        }
        self.done += 1;
        self.bytes += done.bytes;
        if let Some(count) = done.count {
            *self.counts.entry(count).or_default() += 1;
        }
        if let Some(stretch) = self.stretch(ended) {
            stretch.done += 1;
            stretch.bytes += done.bytes;
            stretch.times.record(took);
        }
    }

    /// Bytes were moved that are not an operation each.
    pub fn moved(&mut self, bytes: u64, at: Instant) {
        if at < self.moments.from {
            return;
        }
        self.bytes += bytes;
        if let Some(stretch) = self.stretch(at) {
            stretch.bytes += bytes;
        }
    }

    /// An operation failed.
    pub fn failed(&mut self, ended: Instant, failure: Failure) {
        *self.failures.entry(failure.kind).or_default() += 1;
        if self.examples.len() < MOST_EXAMPLES && !self.examples.contains(&failure.text) {
            self.examples.push(failure.text);
        }
        if let Some(stretch) = self.stretch(ended) {
            stretch.failures += 1;
        }
    }

    /// So many operations failed in the same way.
    pub fn all_failed(&mut self, kind: &'static str, number: u64, text: String) {
        if number > 0 {
            *self.failures.entry(Cow::Borrowed(kind)).or_default() += number;
            self.examples.push(text);
        }
    }

    /// Adds another thread's.
    pub fn merge(&mut self, other: Self) {
        self.done += other.done;
        self.bytes += other.bytes;
        self.times.merge(&other.times);
        for (name, times) in other.spans {
            self.spans.entry(name).or_insert_with(Times::precise).merge(&times);
        }
        for (name, count) in other.counts {
            *self.counts.entry(name).or_default() += count;
        }
        for (kind, count) in other.failures {
            *self.failures.entry(kind).or_default() += count;
        }
        for text in other.examples {
            if self.examples.len() < MOST_EXAMPLES && !self.examples.contains(&text) {
                self.examples.push(text);
            }
        }
        for (at, theirs) in other.stretches.into_iter().enumerate() {
            self.grow(at + 1);
            if let Some(ours) = self.stretches.get_mut(at) {
                ours.done += theirs.done;
                ours.bytes += theirs.bytes;
                ours.failures += theirs.failures;
                ours.times.merge(&theirs.times);
            }
        }
    }

    /// Second by second. `measured` is the length of the window; `per_byte` makes the rate one of bytes, in operations
    /// of so many bytes each.
    #[expect(clippy::cast_precision_loss, reason = "operations and bytes of a second are far below 2^53")]
    pub fn series(&self, measured: Duration, per_byte: Option<f64>) -> Vec<Second> {
        let width = self.width.as_secs_f64();
        let whole = measured.as_secs_f64();
        let mut from = 0.0;
        let mut seconds = Vec::with_capacity(self.stretches.len());
        for stretch in &self.stretches {
            let at = f64::min(from + width, whole);
            // The last one may have begun right at the end.
            let length = f64::max(at - from, 1e-3);
            let done = match per_byte {
                Some(bytes) => stretch.bytes as f64 / bytes,
                None => stretch.done as f64,
            };
            seconds.push(Second {
                at,
                rate: done / length,
                failures: stretch.failures,
                p50_us: stretch.times.quantile_us(0.5),
                p99_us: stretch.times.quantile_us(0.99),
            });
            from = at;
        }
        seconds
    }

    fn stretch(&mut self, at: Instant) -> Option<&mut Stretch> {
        if at < self.moments.from || at >= self.moments.until {
            return None;
        }
        let since = (at - self.moments.from).as_nanos();
        let number = usize::try_from(since / self.width.as_nanos().max(1)).ok()?;
        self.grow(number + 1);
        self.stretches.get_mut(number)
    }

    fn grow(&mut self, length: usize) {
        while self.stretches.len() < length {
            self.stretches.push(Stretch { done: 0, bytes: 0, failures: 0, times: Times::coarse() });
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);
/// Bounds the memory of a long run; a plot cannot show more.
const MOST_STRETCHES: u32 = 600;
const MOST_EXAMPLES: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn window(pace: Pace) -> (Moments, Tally) {
        let moments = Moments::new(Instant::now(), SECOND, SECOND * 10);
        (moments, Tally::new(moments, pace))
    }

    #[test]
    fn a_closed_loop_counts_what_ended_in_the_window() {
        let (moments, mut tally) = window(Pace::Closed);
        let done = Done { bytes: 10, ..Done::default() };
        tally.succeeded(moments.origin, moments.from - MILLI, &done);
        tally.succeeded(moments.origin, moments.from, &done);
        tally.succeeded(moments.from, moments.until - MILLI, &done);
        tally.succeeded(moments.from, moments.until, &done);
        assert_eq!((tally.done, tally.bytes, tally.times.count()), (2, 20, 2));
    }

    #[test]
    fn an_open_loop_counts_the_wait_of_what_was_due() {
        let (moments, mut tally) = window(Pace::Open(1.0));
        // Due in the window, and answered three seconds after its end.
        tally.succeeded(moments.until - MILLI, moments.until + 3 * SECOND, &Done::default());
        assert_eq!(tally.done, 0);
        assert!(tally.times.quantile_us(1.0) > 2_999_000.0);
    }

    #[test]
    fn failures_count_whenever_they_happen() {
        let (moments, mut tally) = window(Pace::Closed);
        for at in [moments.origin, moments.from, moments.until] {
            tally.failed(at, Failure::timeout("too late"));
        }
        assert_eq!(tally.failures.get("timeout"), Some(&3));
        assert_eq!(tally.examples, ["too late"]);
        assert_eq!(tally.series(SECOND * 10, None).iter().map(|second| second.failures).sum::<u64>(), 1);
    }

    #[test]
    fn threads_add_up_second_by_second() {
        let (moments, mut one) = window(Pace::Closed);
        let mut other = Tally::new(moments, Pace::Closed);
        one.succeeded(moments.from, moments.from + MILLI, &Done::default());
        other.succeeded(moments.from, moments.from + MILLI, &Done::default());
        other.succeeded(moments.from, moments.from + SECOND * 2 + MILLI, &Done::default());
        one.merge(other);
        let rates: Vec<f64> = one.series(SECOND * 10, None).iter().map(|second| second.rate).collect();
        assert_eq!(rates, [2.0, 0.0, 1.0]);
        assert_eq!(one.done, 3);
    }

    #[test]
    fn a_week_has_no_more_points_than_a_plot_can_show() {
        let moments = Moments::new(Instant::now(), Duration::ZERO, Duration::from_secs(604_800));
        let mut tally = Tally::new(moments, Pace::Closed);
        tally.succeeded(moments.from, moments.until - MILLI, &Done::default());
        assert!(tally.series(Duration::from_secs(604_800), None).len() <= 600);
    }
}
