//! Why the demo could not go on.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::client::CallError;
use crate::ca;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The directory to keep has something in it.
    #[error("`{}` is not empty; name a directory that is missing or empty", .0.display())]
    Occupied(PathBuf),
    /// A file or directory of the demo could not be used.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The path of the directory cannot be written into a configuration file.
    #[error("`{}` is no UTF-8; name another directory", .0.display())]
    PathNotText(PathBuf),
    /// The authority failed.
    #[error("the certificate authority of the demo failed")]
    Authority(#[from] ca::Error),
    /// A SPIFFE ID of the demo is none.
    #[error("a SPIFFE ID of the demo is none")]
    Identity(#[from] spiffe::SpiffeIdError),
    /// A configuration that the demo wrote is wrong.
    #[error("the configuration `{}` is wrong: {mistakes}", file.display())]
    Config {
        /// The file.
        file: PathBuf,
        /// What `validate` says of it.
        mistakes: String,
    },
    /// A sidecar could not be started.
    #[error("the sidecar of {name} could not be started")]
    Start {
        /// Whose.
        name: &'static str,
        /// Why.
        #[source]
        source: anyhow::Error,
    },
    /// A thread or its event queue could not be made, or a listener could not be bound.
    #[error("{name} could not be started")]
    Thread {
        /// Which.
        name: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A call did not end as an HTTP exchange.
    #[error("the call to {to} failed")]
    Call {
        /// What was called.
        to: SocketAddr,
        /// Why.
        #[source]
        source: CallError,
    },
    /// An answer was not what it must be.
    #[error("{0} is not what it should be")]
    Answer(String),
    /// Something that should happen did not.
    #[error("waited {limit:?} for {what}, last seen: {seen}")]
    Waited {
        /// For what.
        what: &'static str,
        /// How long.
        limit: Duration,
        /// What was there instead.
        seen: String,
    },
    /// Everything was shown, and something was not as promised.
    #[error("{broken} of what was promised {} not seen", if *.broken == 1 { "was" } else { "were" })]
    Broken {
        /// How many promises.
        broken: usize,
    },
}
