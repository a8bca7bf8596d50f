//! The comparison: Portcullis beside every other proxy that is on this machine.
//!
//! All get the same certificates, one core, one generator and one application, and are tuned as their experts would; the
//! rounds interleave. It starts nothing that it does not end, writes only where it is told, and leaves out nothing in
//! silence. Modules import downwards only, in this order.

pub mod figure;
pub mod rows;
pub mod stage;
pub mod statistics;
pub mod template;

pub mod cores;

pub mod child;
pub mod machine;
pub mod pki;
pub mod ports;

pub mod effort;
pub mod peers;
pub mod probe;

pub mod errand;
pub mod setup;
pub mod tool;

pub mod measure;
pub mod results;
pub mod rounds;

pub mod document;
pub mod options;
pub mod plots;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use self::cores::{Cores, CoresError};
use self::effort::Purpose;
use self::machine::Machine;
use self::options::{Options, OptionsError};
use self::peers::{Found, Peer};
use self::pki::{Pki, PkiError};
use self::results::{Participant, Results};
use self::rounds::Field;
use self::rows::ROWS;
use self::setup::Surroundings;
use self::tool::{Tool, ToolError};

/// How a comparison came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Every peer did what it can do.
    Complete,
    /// Something failed; it has been told what.
    Failures,
}

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The command line.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The cores.
    #[error(transparent)]
    Cores(#[from] CoresError),
    /// The certificates.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The generator or the application.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// A peer that was asked for.
    #[error("{peer} cannot take part: {reason}")]
    Missing {
        /// Who.
        peer: &'static str,
        /// Why.
        reason: String,
    },
    /// Results cannot be made machine-readable.
    #[error("the results cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    /// A file.
    #[error("`{}` cannot be read or written", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Progress cannot be told.
    #[error("progress cannot be told any more")]
    Told(#[from] io::Error),
}

/// Compares, and tells on `told` how it goes.
///
/// # Errors
/// When the comparison could not run. What failed within it is told, and is a verdict.
pub async fn compare(options: &Options, told: &mut dyn Write) -> Result<Verdict, CompareError> {
    // 1. What was asked for?
    if options.list {
        list(told)?;
        return Ok(Verdict::Complete);
    }
    let (rows, chosen, place) = (options.rows()?, options.peers()?, options.place()?);

    // 2. Who is there?
    let (participants, peers) = find(&chosen, options)?;
    for participant in &participants {
        let state = participant.missing.as_ref().map(|reason| format!("missing, {reason}"));
        let state = state.or_else(|| participant.version.clone()).unwrap_or_else(|| "as a reference".to_owned());
        writeln!(told, "{}: {state}", participant.name)?;
    }

    // 3. What do all of them need? From here on processes and files exist, and end with these values.
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let cores = Cores::divide()?;
    let tool = Tool::find(cores.clone())?;
    let scratch = tempfile::Builder::new().prefix("portcullis-compare").tempdir()?;
    let pki = Pki::make(&scratch.path().join("pki"))?;
    let application = tool.application(scratch.path()).await?;

    // 4. Measure.
    let around = Surroundings { pki: &pki, application: &application, cores: &cores, scratch: scratch.path() };
    let effort = options.effort();
    let field = Field { around, tool: &tool, effort, rows, peers, rounds: options.rounds() };
    let rows = rounds::run(&field, told).await?;
    drop(field);
    application.stop().await;

    // 5. Write down and judge.
    let results = Results {
        machine: Machine::look(count, cores.describe()),
        options: options.again(),
        rounds: options.rounds(),
        seconds: effort.duration.as_secs_f64(),
        peers: participants,
        rows,
    };
    if let Some(place) = place {
        write(&results, &place)?;
        writeln!(told, "written: {}", place.join(DOCUMENT).display())?;
    }
    judge(&results, effort.purpose, told)
}

fn list(told: &mut dyn Write) -> io::Result<()> {
    for row in ROWS {
        writeln!(told, "{:<18} {}: {}", row.name, row.theme.title(), row.title)?;
    }
    let names: Vec<&str> = Peer::ALL.iter().map(|peer| peer.name()).collect();
    writeln!(told, "peers: {}", names.join(", "))
}

type Peers = Vec<(Peer, Option<Found>)>;

/// Looks for the peers. Who is missing is named; who was asked for by name, and this project's own, must be there.
fn find(chosen: &[Peer], options: &Options) -> Result<(Vec<Participant>, Peers), CompareError> {
    let (mut participants, mut peers) = (Vec::new(), Vec::new());
    for peer in chosen {
        let name = peer.name().to_owned();
        match peer.find() {
            Ok(found) => {
                let version = found.as_ref().map(|found| found.version.clone());
                participants.push(Participant { name, version, missing: None });
                peers.push((*peer, found));
            }
            Err(unable) if *peer == Peer::Portcullis || !options.peers.is_empty() => {
                return Err(CompareError::Missing { peer: peer.title(), reason: unable.to_string() });
            }
            Err(unable) => participants.push(Participant { name, version: None, missing: Some(unable.to_string()) }),
        }
    }
    Ok((participants, peers))
}

fn write(results: &Results, place: &Path) -> Result<(), CompareError> {
    let document = place.join(DOCUMENT);
    let before = match fs::read_to_string(&document) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        // Whatever it is, an analysis may be in it.
        Err(source) => return Err(CompareError::File { path: document, source }),
    };
    let put = |path: PathBuf, text: &str| fs::write(&path, text).map_err(|source| CompareError::File { path, source });
    let directory = place.join("results");
    fs::create_dir_all(&directory).map_err(|source| CompareError::File { path: directory.clone(), source })?;
    let plots = plots::draw(results);
    for plot in &plots {
        put(directory.join(&plot.file), &plot.svg)?;
    }
    put(directory.join("results.json"), &(serde_json::to_string_pretty(results)? + "\n"))?;
    put(document, &document::write(results, &plots, document::kept(&before).unwrap_or_default()))
}

fn judge(results: &Results, purpose: Purpose, told: &mut dyn Write) -> Result<Verdict, CompareError> {
    let mut failures = Vec::new();
    for row in &results.rows {
        for cell in &row.cells {
            if let Some(reason) = &cell.failure {
                failures.push(format!("{} with {}: {reason}", row.name, cell.peer));
            }
        }
    }
    let ran: usize = results.rows.iter().flat_map(|row| &row.cells).filter(|cell| !cell.samples.is_empty()).count();
    if purpose == Purpose::Smoke {
        writeln!(told, "judged: whether it works, not how fast it is")?;
    }
    writeln!(told, "{ran} of {} rows and peers ran, {} failed", cells(results), failures.len())?;
    for failure in &failures {
        writeln!(told, "failed: {failure}")?;
    }
    Ok(if failures.is_empty() { Verdict::Complete } else { Verdict::Failures })
}

fn cells(results: &Results) -> usize {
    results.rows.iter().map(|row| row.cells.len()).sum()
}

const DOCUMENT: &str = "RESULTS.md";
