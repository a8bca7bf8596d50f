//! Times of operations: a histogram of fixed size however many there are.
//!
//! Every value is kept with three significant digits from one nanosecond to one hour, so a percentile is never further
//! off than 0.1 %. Longer times count as an hour.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::outcome::Latency;

/// Times that are still coming in.
#[derive(Debug)]
pub struct Times(Option<Histogram<u64>>);

impl Times {
    /// Three digits: what a percentile needs.
    pub fn precise() -> Self {
        Self::with_digits(3)
    }

    /// Two digits in an eighth of the memory: for the many short stretches of a run.
    pub fn coarse() -> Self {
        Self::with_digits(2)
    }

    fn with_digits(digits: u8) -> Self {
        // The bounds are constants that the library takes; without a histogram nothing would be recorded.
        let made = Histogram::new_with_bounds(1, NANOS_PER_HOUR, digits);
        debug_assert!(made.is_ok(), "the bounds are valid");
        Self(made.ok())
    }

    /// Adds one time.
    pub fn record(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(NANOS_PER_HOUR);
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(nanos.max(1));
        }
    }

    /// Adds all times of another one of the same precision.
    pub fn merge(&mut self, other: &Self) {
        if let (Some(ours), Some(theirs)) = (&mut self.0, &other.0) {
            // Bounds are the same everywhere, so nothing can be out of range.
            let _ = ours.add(theirs);
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::len)
    }

    /// The time that this share of all times does not exceed, in microseconds; 0 when there are none.
    pub fn quantile_us(&self, quantile: f64) -> f64 {
        self.0.as_ref().map_or(0.0, |histogram| micros(histogram.value_at_quantile(quantile)))
    }

    /// The whole distribution; `None` when there are no times.
    pub fn latency(&self) -> Option<Latency> {
        let histogram = self.0.as_ref().filter(|histogram| !histogram.is_empty())?;
        let steps = histogram.iter_quantiles(STEPS_PER_HALVING);
        let quantiles = steps.map(|step| (step.quantile_iterated_to(), micros(step.value_iterated_to()))).collect();
        Some(Latency {
            count: histogram.len(),
            min_us: micros(histogram.min()),
            mean_us: histogram.mean() / 1000.0,
            p50_us: self.quantile_us(0.5),
            p90_us: self.quantile_us(0.9),
            p99_us: self.quantile_us(0.99),
            p999_us: self.quantile_us(0.999),
            max_us: micros(histogram.max()),
            quantiles,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "an hour in nanoseconds is far below 2^53")]
fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1000.0
}

const NANOS_PER_HOUR: u64 = 3_600_000_000_000;
/// Points of the distribution between 50 % and 75 %, between 75 % and 87.5 % and so on: a smooth curve of some 100 points.
const STEPS_PER_HALVING: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_sorted_times() {
        let mut times = Times::precise();
        for micros in 1..=10_000 {
            times.record(Duration::from_micros(micros));
        }
        let latency = times.latency().unwrap();
        for (found, expected) in [
            (latency.p50_us, 5_000.0),
            (latency.p90_us, 9_000.0),
            (latency.p99_us, 9_900.0),
            (latency.p999_us, 9_990.0),
            (latency.max_us, 10_000.0),
            (latency.mean_us, 5_000.5),
        ] {
            assert!((found / expected - 1.0).abs() < 0.002, "{found} instead of {expected}");
        }
        assert_eq!(latency.count, 10_000);
        assert!(latency.quantiles.is_sorted_by(|one, next| one.0 <= next.0 && one.1 <= next.1));
    }

    #[test]
    fn two_halves_make_the_whole() {
        let (mut whole, mut odd, mut even) = (Times::coarse(), Times::coarse(), Times::coarse());
        for micros in 1..=1_000_u64 {
            let time = Duration::from_micros(micros * micros);
            whole.record(time);
            if micros.is_multiple_of(2) { &mut even } else { &mut odd }.record(time);
        }
        odd.merge(&even);
        assert_eq!(odd.latency(), whole.latency());
    }

    #[test]
    fn nothing_has_no_distribution_and_a_day_counts_as_an_hour() {
        let mut times = Times::precise();
        assert_eq!(times.latency(), None);
        times.record(Duration::from_secs(86_400));
        assert!(times.quantile_us(1.0) < 3_700_000_000.0);
    }
}
