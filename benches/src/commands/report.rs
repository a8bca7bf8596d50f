//! `report`: a page with plots of runs that were made earlier, side by side.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;

use super::error::CommandError;
use crate::outcome::Outcome;
use crate::report;

/// Compare runs: write a page with plots of several results that `--json` printed.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Where the page and its plots go.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Results, one in each file.
    #[arg(required = true, value_name = "FILE", num_args = 1..=MOST)]
    files: Vec<PathBuf>,
}

/// Runs the command and returns what to print.
///
/// # Errors
/// When a result cannot be read, or the page cannot be written.
pub fn run(args: &ReportArgs) -> Result<String, CommandError> {
    let outcomes = args.files.iter().map(|file| read(file)).collect::<Result<Vec<_>, _>>()?;
    let page = report::write(&args.out, &outcomes)?;
    Ok(format!("The plots are in {}.", page.display()))
}

fn read(path: &Path) -> Result<Outcome, CommandError> {
    let reading = || CommandError::io(format!("read `{}`", path.display()));
    let mut text = Vec::new();
    File::open(path).map_err(reading())?.take(LONGEST).read_to_end(&mut text).map_err(reading())?;
    serde_json::from_slice(&text).map_err(|source| CommandError::Outcome { path: path.to_owned(), source })
}

/// More curves than anybody can tell apart.
const MOST: usize = 100;
/// A result of 600 points and five distributions has some 100 KiB.
const LONGEST: u64 = 16 << 20;
