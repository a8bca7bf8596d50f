//! The command line of `portcullis-compare`, and what it chooses.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use super::effort::Effort;
use super::peers::Peer;
use super::rows::{ROWS, Row};
use crate::commands::options::parse_duration;

/// Compares Portcullis with every other proxy that is on this machine, and writes RESULTS.md.
#[derive(Debug, Clone, Parser)]
#[command(name = "compare", version, about, long_about = None)]
pub struct Options {
    /// All rows once, briefly: judges whether everything works and nothing else, and writes nothing without --out.
    #[arg(long, conflicts_with_all = ["rounds", "duration"])]
    pub quick: bool,
    /// How often each row is run; medians are over these.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub rounds: u16,
    /// The measured window of each run.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = window)]
    pub duration: Duration,
    /// Only these rows, separated by commas; needs --out.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub rows: Vec<String>,
    /// Only these peers, separated by commas; needs --out.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub peers: Vec<String>,
    /// Write RESULTS.md and results/ there.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// List the rows and the peers, and end.
    #[arg(long)]
    pub list: bool,
    /// The checkout whose benches/RESULTS.md is written.
    #[arg(long, value_name = "DIR", default_value = ".", hide = true)]
    pub repository: PathBuf,
}

/// What is wrong with the command line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// No such row.
    #[error("there is no row `{0}`: `--list` lists them")]
    Row(String),
    /// No such peer.
    #[error("there is no peer `{0}`: `--list` lists them")]
    Peer(String),
    /// A part would replace the whole.
    #[error("some rows or peers would replace the results of all: say with --out where they are to go")]
    Narrowed,
    /// Started somewhere else.
    #[error("`{}` is not a checkout of Portcullis: run benches/compare, or say with --out where results are to go", .0.display())]
    Checkout(PathBuf),
}

impl Options {
    /// The rows that were chosen, in their own order.
    ///
    /// # Errors
    /// When there is no such row.
    pub fn rows(&self) -> Result<Vec<&'static Row>, OptionsError> {
        let unknown = self.rows.iter().find(|name| ROWS.iter().all(|row| row.name != **name));
        if let Some(name) = unknown {
            return Err(OptionsError::Row(name.clone()));
        }
        let chosen = |row: &&Row| self.rows.is_empty() || self.rows.iter().any(|name| name == row.name);
        Ok(ROWS.iter().filter(chosen).collect())
    }

    /// The peers that were chosen, in their own order.
    ///
    /// # Errors
    /// When there is no such peer.
    pub fn peers(&self) -> Result<Vec<Peer>, OptionsError> {
        let unknown = self.peers.iter().find(|name| Peer::ALL.iter().all(|peer| peer.name() != **name));
        if let Some(name) = unknown {
            return Err(OptionsError::Peer(name.clone()));
        }
        let chosen = |peer: &Peer| self.peers.is_empty() || self.peers.iter().any(|name| name == peer.name());
        Ok(Peer::ALL.into_iter().filter(chosen).collect())
    }

    /// Where results go; nowhere for a quick run that was told no place.
    ///
    /// # Errors
    /// When a part of the comparison would replace the whole, or there is no checkout.
    pub fn place(&self) -> Result<Option<PathBuf>, OptionsError> {
        if self.out.is_some() || self.quick {
            return Ok(self.out.clone());
        }
        if !self.rows.is_empty() || !self.peers.is_empty() {
            return Err(OptionsError::Narrowed);
        }
        let benches = self.repository.join("benches");
        if !benches.join("Cargo.toml").is_file() {
            return Err(OptionsError::Checkout(self.repository.clone()));
        }
        Ok(Some(benches))
    }

    /// How much is done.
    pub fn effort(&self) -> Effort {
        if self.quick { Effort::smoke() } else { Effort::measuring(self.duration) }
    }

    /// How often.
    pub fn rounds(&self) -> usize {
        if self.quick { 1 } else { usize::from(self.rounds) }
    }

    /// The command line that does the same again, without places.
    pub fn again(&self) -> String {
        let mut words = vec!["benches/compare".to_owned()];
        if self.quick {
            words.push("--quick".to_owned());
        } else {
            words.push(format!("--rounds {} --duration {}ms", self.rounds, self.duration.as_millis()));
        }
        for (option, names) in [("--rows", &self.rows), ("--peers", &self.peers)] {
            if !names.is_empty() {
                words.push(format!("{option} {} --out DIR", names.join(",")));
            }
        }
        words.join(" ")
    }
}

/// A whole number with `ms` or `s`, from 100 ms to ten minutes.
fn window(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .ok()
        .filter(|duration| (Duration::from_millis(100)..=Duration::from_secs(600)).contains(duration))
        .ok_or_else(|| "write it as in 500ms or 5s, from 100ms to 600s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Options {
        Options::try_parse_from(std::iter::once("compare").chain(line.split_whitespace())).unwrap()
    }

    #[test]
    fn rows_and_peers_are_chosen_by_name_and_keep_their_order() {
        let options = parse("--rows tcp,http1 --peers envoy,portcullis --out x");
        let rows: Vec<_> = options.rows().unwrap().iter().map(|row| row.name).collect();
        assert_eq!(rows, ["http1", "tcp"]);
        assert_eq!(options.peers().unwrap(), [Peer::Portcullis, Peer::Envoy]);
        assert_eq!(parse("").rows().unwrap().len(), ROWS.len());
        assert_eq!(parse("--rows htpp1").rows().unwrap_err(), OptionsError::Row("htpp1".to_owned()));
        assert_eq!(parse("--peers enjoy").peers().unwrap_err(), OptionsError::Peer("enjoy".to_owned()));
    }

    #[test]
    fn the_repository_is_only_written_by_a_whole_measurement() {
        assert_eq!(parse("--quick").place(), Ok(None));
        assert_eq!(parse("--quick --out x").place(), Ok(Some("x".into())));
        assert_eq!(parse("--rows tcp").place(), Err(OptionsError::Narrowed));
        assert_eq!(parse("--peers envoy").place(), Err(OptionsError::Narrowed));
        assert!(matches!(parse("--repository /nonexistent").place(), Err(OptionsError::Checkout(_))));
        let repository = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let place = parse(&format!("--repository {repository}")).place().unwrap().unwrap();
        assert!(place.ends_with("benches"));
    }

    #[test]
    fn windows_have_units_and_bounds() {
        assert_eq!(window("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(window("500ms"), Ok(Duration::from_millis(500)));
        for wrong in ["5", "0s", "601s", "-1s", "s", ""] {
            assert!(window(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse("--rounds 3 --duration 2s").again(), "benches/compare --rounds 3 --duration 2000ms");
    }
}
