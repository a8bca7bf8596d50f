//! What a comparison found: the shape of `results.json`, and what the document and the plots are drawn from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::figure::Figure;
use super::machine::Machine;
use super::measure::Sample;
use super::statistics::{Summary, paired_ratio};
use crate::outcome::Limit;

/// A whole comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Where.
    pub machine: Machine,
    /// The options that it was run with.
    pub options: String,
    /// Rounds of each row.
    pub rounds: usize,
    /// The measured window of a run, in seconds.
    pub seconds: f64,
    /// Who took part, and who did not.
    pub peers: Vec<Participant>,
    /// The rows that were run.
    pub rows: Vec<RowResult>,
}

/// One of the peers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Participant {
    /// Its name.
    pub name: String,
    /// Its version, if it has one and is there.
    pub version: Option<String>,
    /// Why it did not take part.
    pub missing: Option<String>,
}

/// One row.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RowResult {
    /// Its name.
    pub name: String,
    /// Its cells, in the order of the peers.
    pub cells: Vec<Cell>,
}

/// One peer in one row.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The peer's name.
    pub peer: String,
    /// What the rounds found.
    pub samples: Vec<Sample>,
    /// Over the rounds.
    pub summaries: BTreeMap<Figure, Summary>,
    /// As a multiple of Portcullis' figure in the same round; the median over the rounds.
    pub ratios: BTreeMap<Figure, f64>,
    /// Why the peer cannot do it.
    pub unable: Option<String>,
    /// What failed.
    pub failure: Option<String>,
    /// Rounds in which the machine was more than a tenth faster or slower than it was in the middle of the row.
    pub swung: Vec<usize>,
}

impl RowResult {
    /// Computes medians, ratios and swings from the samples.
    pub fn conclude(&mut self, reference: &str) {
        let speeds: Vec<f64> = self.cells.iter().flat_map(|cell| &cell.samples).filter_map(speed).collect();
        let usual = Summary::of(&speeds).map(|summary| summary.median);
        let other = self.cells.iter().find(|cell| cell.peer == reference).map(|cell| cell.samples.clone());
        for cell in &mut self.cells {
            cell.conclude(other.as_deref().unwrap_or_default());
            cell.swung = cell
                .samples
                .iter()
                .filter(|sample| usual.zip(speed(sample)).is_some_and(|(usual, speed)| swings(usual, speed)))
                .map(|sample| sample.round)
                .collect();
        }
    }
}

impl Cell {
    /// What held the rate in most rounds, if that was not what was to be measured.
    pub fn held_by(&self) -> Option<Limit> {
        [Limit::Generator, Limit::Backend].into_iter().find(|limit| {
            let held = self.samples.iter().filter(|sample| sample.limited_by == Some(*limit)).count();
            held > 0 && held * 2 >= self.samples.len()
        })
    }

    /// Its yardstick over the rounds, in microseconds.
    pub fn yardstick(&self) -> Option<Summary> {
        Summary::of(&self.samples.iter().filter_map(speed).collect::<Vec<_>>())
    }

    fn conclude(&mut self, reference: &[Sample]) {
        let figures: Vec<Figure> = self.samples.iter().flat_map(|sample| sample.figures.keys().copied()).collect();
        for figure in figures {
            let ours = by_round(&self.samples, figure);
            let values: Vec<f64> = ours.iter().map(|(_, value)| *value).collect();
            if let Some(summary) = Summary::of(&values) {
                self.summaries.insert(figure, summary);
            }
            if let Some(ratio) = paired_ratio(&ours, &by_round(reference, figure)) {
                self.ratios.insert(figure, ratio);
            }
        }
    }
}

fn by_round(samples: &[Sample], figure: Figure) -> Vec<(usize, f64)> {
    samples.iter().filter_map(|sample| Some((sample.round, *sample.figures.get(&figure)?))).collect()
}

/// The time of one P-256 verification around a sample.
fn speed(sample: &Sample) -> Option<f64> {
    let yardstick = sample.yardstick?;
    Some(f64::midpoint(yardstick.before_us, yardstick.after_us)).filter(|speed| *speed > 0.0)
}

fn swings(usual: f64, speed: f64) -> bool {
    (speed / usual - 1.0).abs() > SWING
}

/// Differences between proxies that matter are larger, and a quiet machine stays well within it.
const SWING: f64 = 0.1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Yardstick;

    fn sample(round: usize, cpu: f64, speed: f64, limited_by: Limit) -> Sample {
        Sample {
            round,
            figures: [(Figure::CpuUs, cpu)].into(),
            limited_by: Some(limited_by),
            yardstick: Some(Yardstick { before_us: speed, after_us: speed }),
        }
    }

    fn cell(peer: &str, samples: Vec<Sample>) -> Cell {
        Cell { peer: peer.to_owned(), samples, ..Cell::default() }
    }

    #[test]
    fn ratios_are_to_portcullis_and_swings_to_the_row() {
        let ours = [10.0, 20.0, 10.0].into_iter().zip([90.0, 180.0, 91.0]).enumerate();
        let ours = ours.map(|(round, (cpu, speed))| sample(round, cpu, speed, Limit::Target)).collect();
        let theirs = [20.0, 40.0, 30.0].into_iter().enumerate();
        let theirs = theirs.map(|(round, cpu)| sample(round, cpu, 90.0, Limit::Generator)).collect();
        let mut row =
            RowResult { name: "row".to_owned(), cells: vec![cell("portcullis", ours), cell("envoy", theirs)] };
        row.conclude("portcullis");
        assert_eq!(row.cells[0].ratios[&Figure::CpuUs], 1.0);
        assert_eq!(row.cells[1].ratios[&Figure::CpuUs], 2.0);
        assert_eq!(row.cells[1].summaries[&Figure::CpuUs].median, 30.0);
        assert_eq!((row.cells[0].swung.clone(), row.cells[1].swung.clone()), (vec![1], vec![]));
        assert_eq!((row.cells[0].held_by(), row.cells[1].held_by()), (None, Some(Limit::Generator)));
    }

    #[test]
    fn without_portcullis_there_are_no_ratios() {
        let mut row =
            RowResult { name: "row".to_owned(), cells: vec![cell("envoy", vec![sample(0, 1.0, 90.0, Limit::Target)])] };
        row.conclude("portcullis");
        assert!(row.cells[0].ratios.is_empty() && row.cells[0].summaries.len() == 1);
    }
}
