//! Runs the rows: in each round of a row every peer has one turn, and who begins changes from round to round.
//!
//! So a machine that becomes slower or faster under way does so for all of them. What fails for one peer does not stop the
//! others; that peer has no further turn in that row.

use std::io::{self, Write};

use super::effort::Effort;
use super::figure::readable;
use super::measure::{MeasureError, Sample, measure};
use super::peers::{Found, Peer};
use super::results::{Cell, RowResult};
use super::rows::Row;
use super::setup::{Surroundings, Wanted};
use super::tool::Tool;

/// All that a comparison needs.
pub struct Field<'a> {
    /// What is there for all paths.
    pub around: Surroundings<'a>,
    /// The generator.
    pub tool: &'a Tool,
    /// How much.
    pub effort: Effort,
    /// Which rows.
    pub rows: Vec<&'static Row>,
    /// Who is there.
    pub peers: Vec<(Peer, Option<Found>)>,
    /// How often.
    pub rounds: usize,
}

/// Runs all rows of the field, and tells how it goes.
///
/// # Errors
/// When progress cannot be told any more: somebody closed the terminal.
pub async fn run(field: &Field<'_>, progress: &mut dyn Write) -> io::Result<Vec<RowResult>> {
    let mut results = Vec::with_capacity(field.rows.len());
    for (number, row) in field.rows.iter().enumerate() {
        let mut cells: Vec<Cell> = field.peers.iter().map(|(peer, _)| Cell::of(*peer)).collect();
        for round in 0..field.rounds {
            for turn in turns(field.peers.len(), round) {
                let (Some((peer, found)), Some(cell)) = (field.peers.get(turn), cells.get_mut(turn)) else { continue };
                if cell.is_closed() {
                    continue;
                }
                let wanted = Wanted { peer: *peer, found: found.as_ref(), stage: row.stage };
                let measured = measure(&field.around, field.tool, &field.effort, row, &wanted).await;
                cell.take(round, measured);
                let place = format!("{} of {}, {}, round {}", number + 1, field.rows.len(), row.name, round + 1);
                writeln!(progress, "row {place}, {}: {}", peer.title(), told(row, cell))?;
            }
        }
        let mut result = RowResult { name: row.name.to_owned(), cells };
        result.conclude(Peer::Portcullis.name());
        results.push(result);
    }
    Ok(results)
}

/// The order of the peers in a round.
fn turns(peers: usize, round: usize) -> Vec<usize> {
    (0..peers).map(|turn| (turn + round) % peers).collect()
}

fn told(row: &Row, cell: &Cell) -> String {
    if let Some(reason) = &cell.unable {
        return format!("not possible, {reason}");
    }
    if let Some(reason) = &cell.failure {
        return format!("FAILED, {reason}");
    }
    let sample = cell.samples.last();
    let figures = row.figures.iter().filter_map(|figure| {
        let value = sample?.figures.get(figure)?;
        Some(format!("{} {}", figure.title(), readable(*value)))
    });
    figures.collect::<Vec<_>>().join("; ")
}

impl Cell {
    fn of(peer: Peer) -> Self {
        Self { peer: peer.name().to_owned(), ..Self::default() }
    }

    fn is_closed(&self) -> bool {
        self.unable.is_some() || self.failure.is_some()
    }

    fn take(&mut self, round: usize, measured: Result<Sample, MeasureError>) {
        match measured {
            Ok(sample) => self.samples.push(Sample { round, ..sample }),
            Err(error) => match error.unable() {
                Some(unable) => self.unable = Some(unable.to_string()),
                None => self.failure = Some(portcullis::error_chain(&error)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::peers::Unable;

    #[test]
    fn everybody_has_one_turn_in_a_round_and_begins_once() {
        assert_eq!(turns(3, 0), [0, 1, 2]);
        assert_eq!(turns(3, 1), [1, 2, 0]);
        assert_eq!(turns(3, 5), [2, 0, 1]);
        assert_eq!(turns(0, 5), [0_usize; 0]);
    }

    #[test]
    fn a_peer_that_cannot_is_not_one_that_failed() {
        let mut cell = Cell::of(Peer::Hitch);
        cell.take(0, Err(Unable("speaks no HTTP/2".to_owned()).into()));
        assert_eq!((cell.unable.as_deref(), cell.failure.as_deref()), (Some("speaks no HTTP/2"), None));
        let mut cell = Cell::of(Peer::Envoy);
        cell.take(0, Ok(Sample::default()));
        cell.take(1, Err(MeasureError::Nothing));
        assert!(cell.is_closed() && cell.samples.len() == 1);
        assert_eq!(cell.failure.as_deref(), Some("not a single operation was completed"));
    }
}
