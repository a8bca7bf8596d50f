//! `RESULTS.md`: tables for people, and between them a place for a person's analysis, which a rerun keeps.
//!
//! There is no date in it and no path of this machine, so that a rerun changes figures only.

use std::fmt::Write as _;

use super::figure::{Figure, readable};
use super::peers::Peer;
use super::plots::Plot;
use super::results::{Cell, Results, RowResult};
use super::rows::{ROWS, Row, Theme};
use crate::outcome::Limit;

/// The document.
pub fn write(results: &Results, plots: &[Plot], analysis: &str) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = introduce(&mut text, results, analysis);
    for theme in Theme::ALL {
        let _ = chapter(&mut text, results, plots, theme);
    }
    let _ = absent(&mut text, results);
    text
}

/// The analysis in a document that is there already.
pub fn kept(document: &str) -> Option<&str> {
    let (_, rest) = document.split_once(BEGIN)?;
    let (analysis, _) = rest.split_once(END)?;
    Some(analysis.trim())
}

fn introduce(text: &mut String, results: &Results, analysis: &str) -> std::fmt::Result {
    writeln!(text, "# Portcullis beside other proxies\n")?;
    writeln!(text, "Written by `benches/compare`, all but the analysis, which a rerun keeps.\n")?;
    if cfg!(debug_assertions) {
        writeln!(text, "**Built without optimization: the figures say nothing.**\n")?;
    }
    writeln!(text, "## Analysis\n\n{BEGIN}\n{}\n{END}\n", if analysis.is_empty() { EMPTY } else { analysis })?;

    writeln!(text, "## How it was measured\n")?;
    let machine = &results.machine;
    let rows = [
        ("processor", machine.processor.clone()),
        ("cores", format!("{}: {}", machine.cores, machine.division)),
        ("system", format!("{}, Linux {}", machine.system, machine.kernel)),
        ("command", format!("`{}`", results.options)),
        ("rounds", format!("{} of {} s each, after a warm-up", results.rounds, readable(results.seconds))),
    ];
    writeln!(text, "| | |\n| --- | --- |")?;
    for (name, value) in rows {
        writeln!(text, "| {name} | {} |", cell_text(&value))?;
    }
    writeln!(text, "\n{METHOD}\n")?;

    writeln!(text, "## Who takes part, and what each verifies\n")?;
    writeln!(text, "| proxy | version | verifies |\n| --- | --- | --- |")?;
    for (peer, participant) in participants(results) {
        let version = match (&participant.version, &participant.missing) {
            (_, Some(missing)) => format!("missing: {missing}"),
            (Some(version), None) => version.clone(),
            (None, None) => "the generator straight to the application: what these two can do at most".to_owned(),
        };
        writeln!(text, "| {} | {} | {} |", peer.title(), cell_text(&version), cell_text(peer.verifies()))?;
    }
    writeln!(text)
}

fn chapter(text: &mut String, results: &Results, plots: &[Plot], theme: Theme) -> std::fmt::Result {
    let rows: Vec<(&Row, &RowResult)> = ROWS
        .iter()
        .filter(|row| row.theme == theme)
        .filter_map(|row| Some((row, results.rows.iter().find(|result| result.name == row.name)?)))
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(text, "## {}\n", theme.title())?;
    for plot in plots.iter().filter(|plot| plot.theme == theme) {
        writeln!(text, "![{}](results/{})\n", plot.title, plot.file)?;
    }
    for (row, result) in rows {
        table(text, row, result)?;
    }
    Ok(())
}

fn table(text: &mut String, row: &Row, result: &RowResult) -> std::fmt::Result {
    writeln!(text, "### {} (`{}`)\n", row.title, row.name)?;
    if !row.remark.is_empty() {
        writeln!(text, "{}.\n", row.remark)?;
    }
    let titles: Vec<&str> = row.figures.iter().map(|figure| figure.title()).collect();
    writeln!(text, "| proxy | {} | notes |", titles.join(" | "))?;
    writeln!(text, "| --- |{} --- |", " ---: |".repeat(titles.len()))?;
    for cell in &result.cells {
        let figures: Vec<String> = row.figures.iter().map(|figure| shown(*figure, cell)).collect();
        writeln!(text, "| {} | {} | {} |", title_of(&cell.peer), figures.join(" | "), cell_text(&notes(cell)))?;
    }
    writeln!(text)
}

/// Median, spread, and multiple of Portcullis.
fn shown(figure: Figure, cell: &Cell) -> String {
    let Some(summary) = cell.summaries.get(&figure) else { return "–".to_owned() };
    let mut text = readable(summary.median);
    if readable(summary.low) != readable(summary.high) {
        let _ = write!(text, " ({})", range(summary.low, summary.high));
    }
    if let Some(ratio) = cell.ratios.get(&figure).filter(|_| cell.peer != Peer::Portcullis.name()) {
        // Differences of one in a hundred are within the spread.
        let ratio = if *ratio < 10.0 { format!("{ratio:.2}") } else { readable(*ratio) };
        let _ = write!(text, " {ratio}×");
    }
    text
}

fn notes(cell: &Cell) -> String {
    let mut notes = Vec::new();
    if let Some(reason) = &cell.unable {
        notes.push(reason.clone());
    }
    if let Some(reason) = &cell.failure {
        notes.push(format!("**failed** in round {}: {reason}", cell.samples.len() + 1));
    }
    match cell.held_by() {
        Some(Limit::Generator) => notes.push("**the generator held the rate**".to_owned()),
        Some(Limit::Backend) => notes.push("**the application held the rate**".to_owned()),
        Some(Limit::Rate | Limit::Target | Limit::Unknown) | None => {}
    }
    if let Some(yardstick) = cell.yardstick() {
        notes.push(format!("yardstick {} µs", range(yardstick.low, yardstick.high)));
    }
    if !cell.swung.is_empty() {
        let rounds: Vec<String> = cell.swung.iter().map(|round| (round + 1).to_string()).collect();
        notes.push(format!("**the machine swung** in round {}", rounds.join(", ")));
    }
    notes.join("; ")
}

/// From the smallest to the largest, or the one value that they share.
fn range(low: f64, high: f64) -> String {
    let (low, high) = (readable(low), readable(high));
    if low == high { low } else { format!("{low}–{high}") }
}

/// What is not there, so that nothing is skipped in silence.
fn absent(text: &mut String, results: &Results) -> std::fmt::Result {
    writeln!(text, "## What is not there\n")?;
    let mut lines = Vec::new();
    for (peer, participant) in participants(results) {
        if let Some(missing) = &participant.missing {
            lines.push(format!("{}: {missing}", peer.title()));
        }
    }
    for (peer, _) in participants(results) {
        let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
        for (row, reason) in gaps(results, peer) {
            match reasons.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, rows)) => rows.push(format!("`{row}`")),
                None => reasons.push((reason, vec![format!("`{row}`")])),
            }
        }
        lines.extend(reasons.iter().map(|(reason, rows)| format!("{}, {}: {reason}", peer.title(), rows.join(", "))));
    }
    for row in ROWS.iter().filter(|row| results.rows.iter().all(|result| result.name != row.name)) {
        lines.push(format!("`{}`: not run, the command above names other rows", row.name));
    }
    if lines.is_empty() {
        lines.push("Nothing: every peer ran every row".to_owned());
    }
    for line in lines {
        writeln!(text, "- {}", cell_text(&line))?;
    }
    Ok(())
}

/// The rows that a peer has no figures in, or not those of all rounds, and why.
fn gaps(results: &Results, peer: Peer) -> impl Iterator<Item = (&str, &str)> {
    results.rows.iter().filter_map(move |result| {
        let cell = result.cells.iter().find(|cell| cell.peer == peer.name())?;
        let reason = cell.unable.as_ref().or(cell.failure.as_ref())?;
        Some((result.name.as_str(), reason.as_str()))
    })
}

fn participants(results: &Results) -> impl Iterator<Item = (Peer, &super::results::Participant)> {
    results.peers.iter().filter_map(|participant| Some((peer_of(&participant.name)?, participant)))
}

fn peer_of(name: &str) -> Option<Peer> {
    Peer::ALL.into_iter().find(|peer| peer.name() == name)
}

fn title_of(name: &str) -> &str {
    peer_of(name).map_or(name, |peer| peer.title())
}

/// Text that cannot break out of the cell of a table.
fn cell_text(text: &str) -> String {
    text.replace('|', "\\|").lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

const BEGIN: &str = "<!-- analysis: kept by benches/compare, from here -->";
const END: &str = "<!-- analysis: to here -->";
const EMPTY: &str = "Nobody has written one yet.";

const METHOD: &str = "Every proxy has one worker on one core, all of them the same core, and writes no access log; TLS 1.3 \
only, client certificates required, no session is resumed. Certificates are the same for all: root, intermediate and \
leaf, P-256. The configurations, with the reason for each setting, are in [peers/](peers).

In each round of a row every proxy has one turn with fresh processes, and another one begins. A figure is the median over \
the rounds, in brackets the smallest and the largest, then its multiple of Portcullis' figure, paired round by round. CPU \
is the time that all processes of the proxies in the path used for one operation, user and system, and is what to compare: \
rates and latencies also depend on the generator, which has cores of its own, and where it or the application held the \
rate the notes say so. The yardstick is the time of one P-256 verification around each run; a round in which it was more \
than a tenth off the row's median is marked, because then the machine swung.";

#[cfg(test)]
mod tests;
