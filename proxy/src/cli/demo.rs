//! `portcullis demo`.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::demo::{self, DemoError, Place, Progress, Style, Telling};
use crate::telemetry::log::{self, Format};

/// Options of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Leave certificates, configuration, policy and logs in DIR, which must be missing or empty.
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Show what the sidecars log.
    #[arg(long)]
    pub verbose: bool,
}

/// Shows everything.
///
/// # Errors
/// When the set-up fails, or when anything was not as promised.
pub fn run(args: &DemoArgs, out: &mut dyn Write) -> Result<(), DemoError> {
    log::install(Format::Text, if args.verbose { tracing::Level::INFO } else { tracing::Level::ERROR });
    let place = Arc::new(args.keep.as_deref().map_or_else(Place::temporary, Place::kept)?);
    remove_on_signal(Arc::clone(&place))?;
    let is_terminal = std::io::stdout().is_terminal();
    let telling = Telling {
        style: if is_terminal { Style::Coloured } else { Style::Plain },
        // Log lines would tear a bar apart.
        progress: if is_terminal && std::io::stderr().is_terminal() && !args.verbose {
            Progress::Bar
        } else {
            Progress::Line
        },
        program: std::env::args().next().unwrap_or_else(|| "portcullis".to_owned()),
    };
    let shown = demo::run(&place, &telling, out);
    // The thread that waits for signals holds it as well.
    place.remove();
    shown
}

/// Keys must not stay behind when somebody has seen enough.
fn remove_on_signal(place: Arc<Place>) -> Result<(), DemoError> {
    let failed = |source| DemoError::Thread { name: "the wait for signals", source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        let (interrupt, terminate) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
        (interrupt.map_err(failed)?, terminate.map_err(failed)?)
    };
    let wait = move || {
        let number = runtime.block_on(async {
            tokio::select! {
                // Either ends the process; what the other had received does not matter.
                _ = interrupt.recv() => 2,
                _ = terminate.recv() => 15,
            }
        });
        place.remove();
        std::process::exit(128 + number);
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop).map_err(failed)
}
