//! The proxies that are compared. Each has a file here, and its configuration in `benches/peers/`.
//!
//! A peer finds its program, says what it cannot do, and turns a seat in the path into files and a command line. It starts
//! nothing: that is `setup`'s.

mod envoy;
mod haproxy;
mod hitch;
mod nginx;
mod portcullis;

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use super::pki::{Pki, Workload};
use super::stage::{Carries, Side, Stage};
use super::template::Unfilled;

/// A proxy, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// Generator and application without a proxy: what they can do at most.
    Direct,
    /// This project's.
    Portcullis,
    /// Envoy.
    Envoy,
    /// nginx.
    Nginx,
    /// HAProxy.
    Haproxy,
    /// hitch.
    Hitch,
}

/// A program that is on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The program itself, not what wraps it.
    pub program: PathBuf,
    /// Its version, and that of its TLS library if it says so.
    pub version: String,
}

/// Why there is no figure, as a phrase for a table: what is missing or what the peer cannot do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unable(pub String);

/// Why a peer has no command line.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// It cannot do this.
    #[error(transparent)]
    Unable(#[from] Unable),
    /// Its template and its code disagree.
    #[error(transparent)]
    Template(#[from] Unfilled),
}

/// A place in the path, to be taken by one proxy.
#[derive(Debug)]
pub struct Seat<'a> {
    /// What is set up.
    pub stage: Stage,
    /// Which proxy of the path this is.
    pub side: Side,
    /// An empty directory of its own.
    pub directory: &'a Path,
    /// Its certificate and key.
    pub identity: &'a Path,
    /// The trust anchor.
    pub trust: &'a Path,
    /// Where it listens.
    pub listen: u16,
    /// Where it forwards to.
    pub upstream: u16,
    /// Ports for whatever else it wants to listen on.
    pub spare: [u16; 3],
}

/// How a proxy takes its seat.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    /// Files by name, below the seat's directory.
    pub files: Vec<(String, String)>,
    /// The command line behind the program.
    pub arguments: Vec<String>,
}

/// How a peer notices a new certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// It watches the files.
    ByItself,
    /// It is told by a signal.
    Reload(Signal),
}

impl Peer {
    /// All, in the order of the tables.
    pub const ALL: [Self; 6] = [Self::Direct, Self::Portcullis, Self::Envoy, Self::Nginx, Self::Haproxy, Self::Hitch];

    /// Its name on the command line and in `results.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Portcullis => "portcullis",
            Self::Envoy => "envoy",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Hitch => "hitch",
        }
    }

    /// Its name for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Direct => "no proxy",
            Self::Portcullis => "Portcullis",
            Self::Envoy => "Envoy",
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::Hitch => "hitch",
        }
    }

    /// What it makes sure of, set up as here. Empty for none.
    pub fn verifies(self) -> &'static str {
        match self {
            Self::Direct => "",
            Self::Portcullis => portcullis::VERIFIES,
            Self::Envoy => envoy::VERIFIES,
            Self::Nginx => nginx::VERIFIES,
            Self::Haproxy => haproxy::VERIFIES,
            Self::Hitch => hitch::VERIFIES,
        }
    }

    /// Looks for its program. None for no proxy, which needs none.
    ///
    /// # Errors
    /// When it is not there or does not say its version.
    pub fn find(self) -> Result<Option<Found>, Unable> {
        match self {
            Self::Direct => Ok(None),
            Self::Portcullis => portcullis::find().map(Some),
            Self::Envoy => envoy::find().map(Some),
            Self::Nginx => nginx::find().map(Some),
            Self::Haproxy => haproxy::find().map(Some),
            Self::Hitch => hitch::find().map(Some),
        }
    }

    /// Takes a seat. Nothing for no proxy.
    ///
    /// # Errors
    /// When it cannot do what is asked.
    pub fn launch(self, seat: &Seat<'_>) -> Result<Option<Launch>, PeerError> {
        match self {
            Self::Direct => Ok(None),
            Self::Portcullis => portcullis::launch(seat).map(Some),
            Self::Envoy => envoy::launch(seat).map(Some),
            Self::Nginx => nginx::launch(seat).map(Some),
            Self::Haproxy => haproxy::launch(seat).map(Some),
            Self::Hitch => hitch::launch(seat).map(Some),
        }
    }

    /// How it notices a new certificate.
    pub fn renewal(self) -> Renewal {
        match self {
            Self::Direct | Self::Portcullis | Self::Envoy => Renewal::ByItself,
            Self::Nginx | Self::Hitch => Renewal::Reload(Signal::HUP),
            Self::Haproxy => Renewal::Reload(Signal::USR2),
        }
    }
}

impl Seat<'_> {
    /// Whose certificate the proxy in this seat has.
    pub fn workload(side: Side) -> Workload {
        match side {
            Side::Inbound => Workload::Server,
            Side::Outbound => Workload::Caller,
        }
    }

    /// Issues the certificate of the proxy in this seat.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn issue(&self, pki: &Pki) -> Result<(), super::pki::PkiError> {
        pki.issue(Self::workload(self.side), self.identity)
    }

    /// What every template may ask for.
    fn values(&self) -> Values {
        Values(vec![
            ("listen", self.listen.to_string()),
            ("upstream", self.upstream.to_string()),
            ("directory", self.directory.display().to_string()),
            ("identity", self.identity.display().to_string()),
            ("trust", self.trust.display().to_string()),
            ("server", Workload::Server.id().to_owned()),
            ("caller", Workload::Caller.id().to_owned()),
            ("expected", Workload::Server.id().to_owned()),
            ("expected_dns", Workload::Server.dns_name().to_owned()),
        ])
    }

    fn is_tcp(&self) -> bool {
        self.stage.carries == Carries::Tcp
    }
}

/// What is filled into templates.
struct Values(Vec<(&'static str, String)>);

impl Values {
    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.0.push((name, value.into()));
        self
    }

    fn fill(&self, template: &str) -> Result<String, Unfilled> {
        let values: Vec<(&str, &str)> = self.0.iter().map(|(name, value)| (*name, value.as_str())).collect();
        super::template::fill(template, &values)
    }
}

/// What a command prints, both streams together; nothing if it cannot be run.
fn ask(program: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// Where a program is, by PATH and the directories of system programs, which are not in everybody's PATH.
fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|directory| directory.join(name)).find(|program| program.is_file())
}

/// The word behind a mark in a text.
fn word_after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(mark)?;
    rest.split_whitespace().next()
}

#[cfg(test)]
mod tests;
