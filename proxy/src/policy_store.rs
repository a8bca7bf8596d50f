//! The policy in force: loaded from its directories, watched, swapped whole; the last good one stays.
//!
//! A decision is made by one loaded set and recorded with it, so that a record never names a rule of another revision.

pub mod directory;
pub mod git_revision;
mod keeper;
pub mod labels_file;
mod loaded;
mod loader;
mod request;
pub mod state;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use portcullis_policy::Connection;
use spiffe::SpiffeId;
use tokio::sync::watch;

pub use self::loaded::{Loaded, Recorded, Refused, Source, Verdict};
pub use self::loader::{LoadError, Loader, PolicySources};
pub use self::request::{Fields, Gone, Opening};

/// The policy in force and what is wrong with the one on disk. Cheap readers.
#[derive(Debug)]
pub struct PolicyStore {
    current: ArcSwapOption<Loaded>,
    problem: ArcSwapOption<String>,
    changed: watch::Sender<u64>,
}

impl PolicyStore {
    fn new() -> Self {
        Self { current: ArcSwapOption::empty(), problem: ArcSwapOption::empty(), changed: watch::Sender::new(0) }
    }

    /// The policy in force; `None` until a first one could be loaded.
    pub fn current(&self) -> Option<Arc<Loaded>> {
        self.current.load_full()
    }

    /// What is wrong with the documents on disk; the policy in force is then older than they are.
    pub fn problem(&self) -> Option<Arc<String>> {
        self.problem.load_full()
    }

    /// Wakes when another policy is put in force.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// The facts of a connection, for policy; time comes from the clock of now.
pub fn connection<'a>(
    [caller, workload]: [&'a SpiffeId; 2],
    source: IpAddr,
    application: SocketAddr,
    server_name: Option<&'a str>,
) -> Connection<'a> {
    let (port, destination) = (application.port(), application.ip());
    Connection { caller, workload, port, source, destination, server_name, now: unix_seconds() }
}

/// Seconds since 1970.
pub fn unix_seconds() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}
