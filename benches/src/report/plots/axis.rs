//! Where a value lies on a plot, linear from zero or logarithmic, and which values get a tick.
//!
//! Invariant: every position lies within the axis, whatever the value.

/// Beyond these a value is drawn at the edge; what is written beside it is the value itself.
const LEAST: f64 = 1e-12;
const MOST: f64 = 1e18;

/// One direction of a plot.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

#[derive(Debug, Clone, Copy)]
enum Scale {
    Linear,
    Logarithmic,
}

impl Axis {
    /// Zero lies at the first pixel, and the last is a round number that is not below `high`.
    pub fn linear(high: f64, pixels: (f64, f64)) -> Self {
        let high = bounded(high);
        let step = step(high);
        Self::exact((high / step).ceil() * step, pixels)
    }

    /// Zero lies at the first pixel and `high` at the last.
    pub fn exact(high: f64, (from, to): (f64, f64)) -> Self {
        Self { scale: Scale::Linear, low: 0.0, high: bounded(high), from, to }
    }

    /// From the round number below the least of the values to that above the greatest; values from zero down and what
    /// is no number do not count.
    pub fn logarithmic(values: impl Iterator<Item = f64>, (from, to): (f64, f64)) -> Self {
        let (least, greatest) = values
            .filter(|value| value.is_finite() && *value > 0.0)
            .map(bounded)
            .fold((f64::INFINITY, 0.0_f64), |(least, greatest), value| (least.min(value), greatest.max(value)));
        if greatest == 0.0 {
            return Self { scale: Scale::Logarithmic, low: 1.0, high: 10.0, from, to };
        }
        let (low, high) = (round_below(least), round_above(greatest));
        let high = if high > low { high } else { round_above(low * 1.5) };
        Self { scale: Scale::Logarithmic, low, high, from, to }
    }

    /// The pixel of a value.
    pub fn at(&self, value: f64) -> f64 {
        let value = if value.is_nan() { self.low } else { value.clamp(self.low, self.high) };
        let share = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Logarithmic => (value / self.low).log10() / (self.high / self.low).log10(),
        };
        self.from + share * (self.to - self.from)
    }

    /// The values that get a line and a figure: about five.
    pub fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let step = step(self.high);
                // A hair more than the end, so that rounding does not lose the last tick.
                let last = (self.high / step + 1e-6).floor();
                (0..).map(f64::from).take_while(|n| *n <= last).map(|n| n * step).collect()
            }
            Scale::Logarithmic => self.logarithmic_ticks(),
        }
    }

    fn logarithmic_ticks(&self) -> Vec<f64> {
        let (first, last) = (decade(self.low), decade(self.high));
        let decades = last - first;
        let within = |tick: &f64| *tick >= self.low * 0.999 && *tick <= self.high * 1.001;
        if decades <= 3 {
            let leads: &[f64] = if decades <= 2 { &[1.0, 2.0, 5.0] } else { &[1.0, 3.0] };
            let all = (first..=last).flat_map(|exponent| leads.iter().map(move |lead| lead * 10_f64.powi(exponent)));
            return all.filter(within).collect();
        }
        let every = decades / 7 + 1;
        (first..=last).filter(|exponent| exponent % every == 0).map(|e| 10_f64.powi(e)).filter(within).collect()
    }
}

fn bounded(value: f64) -> f64 {
    if value.is_nan() { LEAST } else { value.clamp(LEAST, MOST) }
}

/// 1, 2 or 5 times a power of ten, so that about five of them reach `high`.
fn step(high: f64) -> f64 {
    let rough = high / 5.0;
    let power = 10_f64.powi(decade(rough));
    let lead = match rough / power {
        lead if lead <= 1.0 => 1.0,
        lead if lead <= 2.0 => 2.0,
        lead if lead <= 5.0 => 5.0,
        _ => 10.0,
    };
    lead * power
}

/// Within what `bounded` lets through this cannot overflow.
#[expect(clippy::cast_possible_truncation, reason = "the logarithm of a bounded value lies between -13 and 18")]
fn decade(value: f64) -> i32 {
    value.log10().floor() as i32
}

fn round_below(value: f64) -> f64 {
    let power = 10_f64.powi(decade(value));
    [5.0, 2.0].into_iter().map(|lead| lead * power).find(|round| *round <= value).unwrap_or(power)
}

fn round_above(value: f64) -> f64 {
    let power = 10_f64.powi(decade(value));
    [1.0, 2.0, 5.0].into_iter().map(|lead| lead * power).find(|round| *round >= value).unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIXELS: (f64, f64) = (100.0, 200.0);

    fn logarithmic(values: &[f64]) -> Axis {
        Axis::logarithmic(values.iter().copied(), PIXELS)
    }

    #[track_caller]
    fn check(axis: Axis, ends: (f64, f64), ticks: &[f64]) {
        assert_eq!((axis.at(ends.0), axis.at(ends.1)), PIXELS, "{axis:?}");
        let found = axis.ticks();
        assert_eq!(found.len(), ticks.len(), "{found:?}");
        for (found, expected) in found.iter().zip(ticks) {
            assert!((found - expected).abs() <= expected.abs() * 1e-9, "{found} is not {expected}");
        }
    }

    #[test]
    fn ends_and_ticks_are_round() {
        check(Axis::linear(9.3, PIXELS), (0.0, 10.0), &[0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        check(Axis::linear(12_345.0, PIXELS), (0.0, 15_000.0), &[0.0, 5_000.0, 10_000.0, 15_000.0]);
        check(Axis::exact(10.3, PIXELS), (0.0, 10.3), &[0.0, 5.0, 10.0]);
        check(logarithmic(&[130.0, 900.0]), (100.0, 1000.0), &[100.0, 200.0, 500.0, 1000.0]);
        check(logarithmic(&[100.0]), (100.0, 200.0), &[100.0, 200.0]);
        check(logarithmic(&[1.0, 1e5]), (1.0, 1e5), &[1.0, 10.0, 100.0, 1e3, 1e4, 1e5]);
    }

    #[test]
    fn no_value_leaves_the_axis() {
        let nasty = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, f64::MIN_POSITIVE, 1e12, f64::MAX];
        for high in nasty {
            for axis in
                [Axis::linear(high, PIXELS), Axis::exact(high, PIXELS), logarithmic(&[high]), logarithmic(&nasty)]
            {
                for value in nasty {
                    let at = axis.at(value);
                    assert!((99.999..=200.001).contains(&at), "{value} at {at} of {axis:?}");
                }
                let ticks = axis.ticks();
                assert!((1..=12).contains(&ticks.len()), "{ticks:?} of {axis:?}");
            }
        }
        assert!(!logarithmic(&[]).ticks().is_empty());
    }
}
