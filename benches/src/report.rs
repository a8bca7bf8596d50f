//! What people read of a run: a table for the terminal, and a page with plots.
//!
//! Outcomes come from files and from peers, so every text in them is taken as hostile, and every number as possibly
//! none. Nothing here measures or judges; `limited_by` and the failures are taken as they are.

mod facts;
mod figures;
mod page;
pub mod plots;
mod terminal;
#[cfg(test)]
mod tests;
mod text;
mod verdict;

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

pub use terminal::table;

use self::plots::{Bar, Better};
use crate::outcome::{Cost, Latency, Outcome};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The directory is not there and cannot be made.
    #[error("cannot make the directory `{}` for the report: choose one that may be written", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the report cannot be written or put in its place.
    #[error("cannot write `{}` of the report: check the space and the permissions there", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// One plot of a report.
struct Plot {
    /// The index of what it shows, or all outcomes.
    outcome: Option<usize>,
    file: String,
    svg: String,
}

/// Writes `index.html`, which needs none of the other files, and each plot as a file of its own, for use elsewhere:
/// `run-1-latency.svg`, `run-1-over-time.svg`, `run-1-cpu.svg` and so on, and of several runs together `latency.svg`,
/// `cpu.svg` and `rate.svg`.
/// Makes the directory if need be, replaces files of those names, and touches no other; what an earlier, longer report
/// left there stays. Returns the path of the page, which is replaced last.
///
/// # Errors
/// When the directory cannot be made, or a file in it cannot be written.
pub fn write(dir: &Path, outcomes: &[Outcome]) -> Result<PathBuf, ReportError> {
    fs::create_dir_all(dir).map_err(|source| ReportError::Directory { path: dir.to_owned(), source })?;
    let plots = draw(outcomes);
    for plot in &plots {
        replace(&dir.join(&plot.file), &plot.svg)?;
    }
    let index = dir.join("index.html");
    replace(&index, &page::page(outcomes, &plots))?;
    Ok(index)
}

fn draw(outcomes: &[Outcome]) -> Vec<Plot> {
    let mut plots = Vec::new();
    let labels: Vec<String> =
        outcomes.iter().enumerate().map(|(index, o)| format!("{}. {} {}", index + 1, o.command, o.target)).collect();
    let labelled = outcomes.iter().zip(&labels);
    let all: Vec<(&str, &Latency)> =
        labelled.filter_map(|(outcome, label)| Some((label.as_str(), facts::measured(outcome)?))).collect();
    if all.len() > 1 {
        let svg = plots::distribution("Latency of all runs", &all);
        plots.push(Plot { outcome: None, file: "latency.svg".to_owned(), svg });
    }
    if outcomes.len() > 1 {
        plots.extend(comparisons(outcomes, &labels));
    }
    for (index, outcome) in outcomes.iter().enumerate() {
        let name = format!("{} {}", outcome.command, outcome.target);
        let mut add = |kind: &str, svg: String| {
            plots.push(Plot { outcome: Some(index), file: format!("run-{}-{kind}.svg", index + 1), svg });
        };
        // The spans are parts of the same operations: beside the whole they show where its time went.
        let spans = outcome.spans.iter().filter(|(_, span)| span.count > 0).map(|(name, span)| (name.as_str(), span));
        let curves: Vec<(&str, &Latency)> =
            facts::measured(outcome).map(|latency| ("latency", latency)).into_iter().chain(spans).collect();
        if !curves.is_empty() {
            add("latency", plots::distribution(&format!("Latency: {name}"), &curves));
        }
        if !outcome.series.is_empty() {
            add("over-time", plots::over_time(&format!("Over time: {name}"), outcome));
        }
        let parts = facts::parts(outcome);
        if parts.iter().any(|(_, cost)| cost.us_per_operation() > 0.0) {
            add("cpu", plots::costs(&format!("CPU: {name}"), &outcome.unit, &parts));
        }
    }
    plots
}

/// Bars of several runs side by side: what an operation cost the target, and how many there were.
fn comparisons(outcomes: &[Outcome], labels: &[String]) -> Vec<Plot> {
    let bars_of = |figure: &dyn Fn(&Outcome) -> Option<f64>| -> Vec<Bar> {
        let measured = outcomes.iter().zip(labels).filter_map(|(outcome, label)| {
            let value = figure(outcome).filter(|value| *value > 0.0)?;
            let group = format!("one {}", outcome.unit);
            Some(Bar { group, label: label.clone(), value, low: value, high: value })
        });
        measured.collect()
    };
    let cost = bars_of(&|outcome| outcome.costs.get("target").map(Cost::us_per_operation));
    let rate = bars_of(&|outcome| Some(outcome.rate));
    let plot = |file: &str, svg| Plot { outcome: None, file: file.to_owned(), svg };
    let mut plots = Vec::new();
    if !cost.is_empty() {
        let svg = plots::bars("CPU of the target", "microseconds for one operation", Better::Lower, &cost);
        plots.push(plot("cpu.svg", svg));
    }
    if !rate.is_empty() {
        plots.push(plot("rate.svg", plots::bars("Rate", "operations per second", Better::Higher, &rate)));
    }
    plots
}

/// Writes beside the file and then renames, so that a reader sees the old one or the new one.
fn replace(path: &Path, content: &str) -> Result<(), ReportError> {
    let failed = |source| ReportError::File { path: path.to_owned(), source };
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    // What a report that was cut off left there. It is removed and made anew, since a link might lead elsewhere.
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(&partial).map_err(failed)?;
    file.write_all(content.as_bytes()).map_err(failed)?;
    drop(file);
    fs::rename(&partial, path).map_err(failed)
}
