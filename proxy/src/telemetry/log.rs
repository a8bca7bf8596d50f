//! The process's log on standard error: one subscriber, installed once by the command line.

use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line: the default of `run`.
    Json,
    /// For people: the default of everything else.
    Text,
}

/// Installs the subscriber and a panic hook that logs; later calls change nothing.
pub fn install(format: Format, level: Level) {
    // Libraries say little that an operator can use: warnings only.
    let targets = Targets::new()
        .with_default(level.min(Level::WARN))
        // It warns of what peers send, in their words and each time.
        .with_target("h2", level.min(Level::ERROR))
        .with_target("portcullis", level)
        .with_target("portcullis_certs_watcher", level)
        .with_target("portcullis_policy", level);
    let stderr = std::io::stderr;
    let layer = match format {
        Format::Json => fmt::layer().json().flatten_event(true).with_writer(stderr).boxed(),
        Format::Text => fmt::layer().with_ansi(stderr().is_terminal()).with_target(false).with_writer(stderr).boxed(),
    };
    if tracing_subscriber::registry().with(layer.with_filter(targets)).try_init().is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            // The payload may quote data of a peer or a secret: the place is enough to find the bug.
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            tracing::error!(place, "internal error: a task panicked; please report this place");
        }));
    }
}
