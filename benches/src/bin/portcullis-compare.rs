//! The `portcullis-compare` program, which `benches/compare` builds and runs.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use portcullis_benches::compare::options::Options;
use portcullis_benches::compare::{CompareError, Verdict, compare};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(help) => {
            // Standard output may be closed; there is nobody to tell then.
            let _ = help.print();
            return if help.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let compared = match runtime {
        Ok(runtime) => runtime.block_on(until_interrupted(&options)),
        Err(error) => Err(error.into()),
    };
    match compared {
        Ok(Some(Verdict::Complete)) => ExitCode::SUCCESS,
        Ok(Some(Verdict::Failures)) => ExitCode::from(1),
        Ok(None) => {
            let _ = writeln!(std::io::stderr(), "portcullis-compare: interrupted");
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "portcullis-compare: {}", portcullis::error_chain(&error));
            ExitCode::from(if matches!(error, CompareError::Options(_)) { USAGE } else { 2 })
        }
    }
}

/// Nothing if a signal came first. What runs ends with the future that is dropped then.
async fn until_interrupted(options: &Options) -> Result<Option<Verdict>, CompareError> {
    let mut signals =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    let mut told = std::io::stdout();
    tokio::select! {
        verdict = compare(options, &mut told) => verdict.map(Some),
        _ = signals.0.recv() => Ok(None),
        _ = signals.1.recv() => Ok(None),
        _ = signals.2.recv() => Ok(None),
    }
}

/// `EX_USAGE` of sysexits.h.
const USAGE: u8 = 64;

/// What shells report for SIGINT.
const INTERRUPTED: u8 = 130;
