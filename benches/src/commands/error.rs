//! Why a command could not run at all. What went wrong during a run is part of its outcome.

use std::path::PathBuf;

use thiserror::Error;

use crate::client::credentials::CredentialsError;
use crate::client::http2::RequestError;
use crate::client::target::TargetError;
use crate::load::crew::RunError;
use crate::measure::processes::WatchError;
use crate::measure::yardstick::YardstickError;
use crate::report::ReportError;

/// See the module.
#[derive(Debug, Error)]
pub enum CommandError {
    /// The target has no address.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Certificates, keys or TLS options cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A TLS target without trust anchors.
    #[error("the target speaks TLS: name the certificates that its chain may end at with --ca FILE")]
    NoCa,
    /// The command cannot do anything with this kind of target.
    #[error("`{command}` needs {needs}, and `{target}` is none")]
    Scheme {
        /// The command.
        command: &'static str,
        /// What it takes.
        needs: &'static str,
        /// What it was given.
        target: String,
    },
    /// A name that cannot be asked for.
    #[error("`{0}` cannot be asked for as a server name: give a DNS name, or `none`")]
    Sni(String),
    /// The host is not a name that a certificate carries.
    #[error("say with --expect who must answer: `{0}` is not a name that a certificate carries")]
    Expect(String),
    /// More connections than the process may have descriptors.
    #[error(
        "{wanted} connections need more open files than this process may have ({allowed}): raise the limit (ulimit -n)"
    )]
    TooManyFiles {
        /// Connections.
        wanted: u64,
        /// The hard limit.
        allowed: u64,
    },
    /// The request cannot be sent.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The run did not come about.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A process cannot be watched.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// The yardstick cannot be taken.
    #[error(transparent)]
    Yardstick(#[from] YardstickError),
    /// The target offers no sessions to resume.
    #[error("the target offers no session resumption: of {tries} connections after the first none was resumed")]
    NoResumption {
        /// Connections that were tried.
        tries: u32,
    },
    /// `idle` has nothing to measure.
    #[error("memory can only be measured of a process on this machine: name it with --pid")]
    NoPid,
    /// No runtime, listener or file.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The certificate authority refused.
    #[error("no new certificate could be made")]
    Ca(#[from] portcullis::ca::Error),
    /// The command to reload the target failed.
    #[error("`{command}` did not work: {why}")]
    Reload {
        /// As it was given.
        command: String,
        /// Exit status or error.
        why: String,
    },
    /// The policy set was written and the target does not follow it.
    #[error("`{}` was written, and the target does not follow it: {why}", path.display())]
    PolicyNotInForce {
        /// The file.
        path: PathBuf,
        /// What was asked and answered.
        why: String,
    },
    /// A file holds no result.
    #[error("`{}` holds no result of `portcullis-bench --json`", path.display())]
    Outcome {
        /// The file.
        path: PathBuf,
        /// Where it is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// Plots could not be written.
    #[error(transparent)]
    Report(#[from] ReportError),
}

impl CommandError {
    /// A file or socket operation failed.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        |source| Self::Io { what, source }
    }
}
