//! The plots beside the tables: for each chapter, its rows' first figures as bars, one plot for each unit.

use super::figure::{Better, Figure};
use super::peers::Peer;
use super::results::{Results, RowResult};
use super::rows::{ROWS, Row, Theme};
use crate::report::plots::{self, Bar};

/// A plot, ready to be written to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plot {
    /// Its chapter.
    pub theme: Theme,
    /// What it shows.
    pub title: String,
    /// Its file, below `results/`.
    pub file: String,
    /// Its contents.
    pub svg: String,
}

/// Draws all plots. A chapter of which nothing was run has none.
pub fn draw(results: &Results) -> Vec<Plot> {
    let mut drawn = Vec::new();
    for theme in Theme::ALL {
        let mut shown: Vec<Figure> = Vec::new();
        for figure in ROWS.iter().filter(|row| row.theme == theme).filter_map(|row| row.figures.first()) {
            if !shown.contains(figure) {
                shown.push(*figure);
                drawn.extend(plot(results, theme, *figure));
            }
        }
    }
    drawn
}

fn plot(results: &Results, theme: Theme, figure: Figure) -> Option<Plot> {
    let rows = ROWS.iter().filter(|row| row.theme == theme && row.figures.first() == Some(&figure));
    let bars: Vec<Bar> = rows
        .filter_map(|row| Some((row, results.rows.iter().find(|result| result.name == row.name)?)))
        .flat_map(|(row, result)| bars(row, result, figure))
        .collect();
    if bars.is_empty() {
        return None;
    }
    let better = match figure.better() {
        Better::Lower => plots::Better::Lower,
        Better::Higher => plots::Better::Higher,
    };
    let svg = plots::bars(theme.title(), figure.title(), better, &bars);
    let title = format!("{}: {}", theme.title(), figure.title());
    Some(Plot { theme, title, file: format!("{}-{}.svg", theme.file(), figure.file()), svg })
}

/// A bar for each peer that has the figure. Who has none is named in the table.
fn bars(row: &Row, result: &RowResult, figure: Figure) -> Vec<Bar> {
    let bar = |cell: &super::results::Cell| {
        let summary = cell.summaries.get(&figure)?;
        let peer = Peer::ALL.into_iter().find(|peer| peer.name() == cell.peer)?;
        Some(Bar {
            group: row.title.to_owned(),
            label: peer.title().to_owned(),
            value: summary.median,
            low: summary.low,
            high: summary.high,
        })
    };
    result.cells.iter().filter_map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::super::machine::Machine;
    use super::super::measure::Sample;
    use super::super::results::Cell;
    use super::*;

    #[test]
    fn a_chapter_has_a_plot_for_each_unit_that_was_measured() {
        let cell = |peer: &str, figure, value| Cell {
            peer: peer.to_owned(),
            samples: vec![Sample { figures: [(figure, value)].into(), ..Sample::default() }],
            ..Cell::default()
        };
        let row = |name: &str, figure| {
            let cells = vec![cell("portcullis", figure, 10.0), cell("envoy", figure, 20.0), Cell::default()];
            let mut row = RowResult { name: name.to_owned(), cells };
            row.conclude("portcullis");
            row
        };
        let results = Results {
            machine: Machine::default(),
            options: String::new(),
            rounds: 1,
            seconds: 1.0,
            peers: Vec::new(),
            rows: vec![
                row("two-http1", Figure::CpuUs),
                row("two-connection", Figure::CpuUs),
                row("two-tcp", Figure::CpuSecondsPerGb),
            ],
        };
        let plots = draw(&results);
        let files: Vec<_> = plots.iter().map(|plot| plot.file.as_str()).collect();
        assert_eq!(files, ["two-sidecars-cpu.svg", "two-sidecars-cpu-per-gb.svg"]);
        assert!(plots.iter().all(|plot| plot.svg.contains("<svg") && plot.svg.contains("Envoy")));
        assert!(plots[0].svg.contains("New connection"));
    }
}
