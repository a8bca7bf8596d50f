//! `portcullis run` and `portcullis validate`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use portcullis_policy::diagnostic::{Diagnostics, Severity};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::app::{self, Stop};
use crate::config::{Checked, Config, Limits};
use crate::deny_file;
use crate::listen::Inherited;
use crate::telemetry::log::{self, Format};

/// Where the configuration is.
#[derive(Debug, Args)]
pub struct FileArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// Why a command ended without doing its work.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration is wrong; every mistake has been listed.
    #[error("`{}` has {mistakes} mistake{}", file.display(), if *.mistakes == 1 { "" } else { "s" })]
    Configuration {
        /// The file.
        file: PathBuf,
        /// How many mistakes.
        mistakes: usize,
    },
    /// The configuration cannot be read.
    #[error("`{}` cannot be read", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The sidecar could not start.
    #[error(transparent)]
    Start(#[from] anyhow::Error),
}

impl RunError {
    /// 64 (EX_USAGE) for a wrong configuration, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Configuration { .. } | Self::Unreadable { .. } => 64,
            Self::Start(_) => 1,
        }
    }
}

/// Runs the sidecar until SIGTERM or SIGINT.
///
/// # Errors
/// When the configuration is wrong or the sidecar cannot start.
pub fn run(args: &FileArgs, messages: &mut dyn Write) -> Result<(), RunError> {
    // Before there are threads: it takes variables out of the environment.
    let inherited =
        Inherited::from_environment().context("the listening sockets that were handed over cannot be used")?;
    let config = read(args, messages)?;
    log::install(config.logs.format, config.logs.level);
    // Before anything else runs, so that no signal is missed.
    let waiting = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let waiting = waiting.context("no event queue for signals")?;
    let mut signals = waiting.block_on(async { Signals::listen() }).context("signals cannot be listened to")?;
    raise_descriptor_limit(config.limits);
    let running = app::start_on(config, inherited)?;
    let stopper = running.stopper();
    waiting.block_on(async {
        signals.next().await;
        stopper.stop(Stop::Gracefully);
        tokio::select! {
            // Dropping the wait leaves the sidecar to end by itself, and its thread is waited for below.
            () = stopper.ended() => {}
            () = signals.next() => stopper.stop(Stop::AtOnce),
        }
    });
    running.wait();
    Ok(())
}

/// Checks the configuration, and the deny list that it names, without starting. A deny list that is not there yet is no
/// mistake: the machine that checks is rarely the one that runs.
///
/// # Errors
/// When one of them is wrong.
pub fn validate(args: &FileArgs, messages: &mut dyn Write) -> Result<(), RunError> {
    log::install(Format::Text, tracing::Level::WARN);
    let config = read(args, messages)?;
    if let Some(path) = &config.deny_list
        && let Err(found) = deny_file::check(path)
    {
        show(&found, messages);
        return Err(RunError::Configuration { file: path.clone(), mistakes: mistakes(&found) });
    }
    let file = args.config.display();
    let (inbound, outbound) = (config.inbound.len(), config.outbound.len());
    let _ = writeln!(messages, "{file}: valid, {inbound} inbound and {outbound} outbound listeners");
    Ok(())
}

fn read(args: &FileArgs, messages: &mut dyn Write) -> Result<Config, RunError> {
    let file = args.config.clone();
    let bytes = std::fs::read(&file).map_err(|source| RunError::Unreadable { file: file.clone(), source })?;
    let endpoint = std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT").ok().filter(|endpoint| !endpoint.is_empty());
    let (config, found) = match Config::read(&file.display().to_string(), &bytes, endpoint.as_deref()) {
        Ok(Checked { config, warnings }) => (Some(config), warnings),
        Err(found) => (None, found),
    };
    show(&found, messages);
    config.ok_or_else(|| RunError::Configuration { file, mistakes: mistakes(&found) })
}

fn show(found: &Diagnostics, messages: &mut dyn Write) {
    // Standard error may be closed; the exit code says the rest.
    let _ = write!(messages, "{found}");
}

fn mistakes(found: &Diagnostics) -> usize {
    found.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count()
}

/// Takes all descriptors that the system grants: the soft limit is 1,024 by convention, for programs that use `select`, and
/// `limits.connections` is far beyond. Says so where the hard limit is too low for the configuration.
fn raise_descriptor_limit(limits: Limits) {
    let mut granted = getrlimit(Resource::Nofile);
    if granted.current != granted.maximum {
        let hard = Rlimit { current: granted.maximum, maximum: granted.maximum };
        match setrlimit(Resource::Nofile, hard) {
            Ok(()) => granted = hard,
            Err(error) => tracing::warn!(%error, "the limit on file descriptors cannot be raised to its hard limit"),
        }
    }
    // One for the peer and one for the application.
    let needed = (limits.connections * 2 + limits.handshakes) as u64;
    if let Some(granted) = granted.current.filter(|granted| limits.connections != 0 && *granted < needed) {
        tracing::warn!(
            granted,
            needed,
            "fewer file descriptors than `limits.connections` times two and `limits.handshakes` need: accepting will pause \
             before those limits are reached; raise LimitNOFILE (ulimit -n), or lower the limits"
        );
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            // Both only wake; a signal that comes meanwhile is kept for the next call.
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
