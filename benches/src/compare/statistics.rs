//! Median and spread of a figure over the rounds, and how it compares with another's within the same rounds.
//!
//! Few rounds are run, so nothing is assumed about the distribution: the spread is the smallest and the largest value.

use serde::{Deserialize, Serialize};

/// A figure over the rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The smallest.
    pub low: f64,
    /// The largest.
    pub high: f64,
    /// Rounds that it is from.
    pub rounds: usize,
}

impl Summary {
    /// None without values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (sorted.first().copied()?, sorted.last().copied()?);
        let upper = sorted.get(sorted.len() / 2).copied()?;
        let lower = sorted.get((sorted.len() - 1) / 2).copied()?;
        Some(Self { median: f64::midpoint(lower, upper), low, high, rounds: sorted.len() })
    }
}

/// The median of the ratios of two figures, each taken within one round: what made the machine slow in that round
/// made both slow. The pairs are by round; a round that only one of them has does not count.
pub fn paired_ratio(values: &[(usize, f64)], reference: &[(usize, f64)]) -> Option<f64> {
    let ratios: Vec<f64> = values
        .iter()
        .filter_map(|(round, value)| {
            let (_, other) = reference.iter().find(|(other, _)| other == round)?;
            (*other != 0.0).then(|| value / other)
        })
        .collect();
    Summary::of(&ratios).map(|summary| summary.median)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_in_the_middle() {
        let of = |values: &[f64]| Summary::of(values).map(|summary| (summary.median, summary.low, summary.high));
        assert_eq!(of(&[3.0, 1.0, 10.0]), Some((3.0, 1.0, 10.0)));
        assert_eq!(of(&[4.0, 1.0, 2.0, 100.0]), Some((3.0, 1.0, 100.0)));
        assert_eq!(of(&[7.0]), Some((7.0, 7.0, 7.0)));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[f64::NAN, 2.0]), Some((2.0, 2.0, 2.0)));
    }

    #[test]
    fn a_ratio_pairs_what_was_measured_in_the_same_round() {
        // The machine was twice as slow in round 1: the ratio of the medians would be 1.5, and is 2 in each round.
        let ours = [(0, 10.0), (1, 20.0), (2, 10.0)];
        let theirs = [(0, 20.0), (1, 40.0)];
        assert_eq!(paired_ratio(&theirs, &ours), Some(2.0));
        assert_eq!(paired_ratio(&[(5, 1.0)], &ours), None);
        assert_eq!(paired_ratio(&[(0, 1.0)], &[(0, 0.0)]), None);
    }
}
