//! Sets up a path: application, proxies, and the way in, all in a directory of their own.
//!
//! Ready means that an exchange through the whole path has succeeded, not that a port is open.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::NamedGroup;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::child::{Child, ChildError, Order};
use super::cores::{Cores, Place};
use super::peers::{Found, Peer, PeerError, Seat, Unable};
use super::pki::{Pki, PkiError};
use super::ports;
use super::probe::{Probe, ProbeError};
use super::stage::{Carries, Hops, Side, Stage};
use super::tool::Application;

/// What is there for all paths.
pub struct Surroundings<'a> {
    /// The certificates.
    pub pki: &'a Pki,
    /// The application behind the proxies.
    pub application: &'a Application,
    /// How the cores are divided.
    pub cores: &'a Cores,
    /// Where paths have their directories.
    pub scratch: &'a Path,
}

/// Which path.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Whose proxies.
    pub peer: Peer,
    /// Their program, unless there is no proxy.
    pub found: Option<&'a Found>,
    /// What they are to do.
    pub stage: Stage,
}

/// A path that answers.
pub struct Running {
    /// Where a caller connects to.
    pub port: u16,
    /// Whether it speaks mutual TLS there.
    pub secure: Secure,
    /// The certificate and key of the proxy beside the called service.
    pub identity: PathBuf,
    /// From the start of the first process to the end of the first exchange.
    pub start: Duration,
    proxies: Vec<Child>,
    directory: TempDir,
}

/// What a caller speaks to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secure {
    /// Mutual TLS.
    Mutual,
    /// Plaintext.
    Plain,
}

/// Why there is no path.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The peer cannot do this.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// No certificates.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// A process.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// The probe.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// A file or a port.
    #[error("files or ports of the path are not to be had")]
    Room(#[from] io::Error),
}

impl SetupError {
    /// That the peer cannot do it, if that is why.
    pub fn unable(&self) -> Option<&Unable> {
        match self {
            Self::Peer(PeerError::Unable(unable)) => Some(unable),
            Self::Peer(PeerError::Template(_)) | Self::Pki(_) | Self::Child(_) | Self::Probe(_) | Self::Room(_) => None,
        }
    }
}

/// Sets up a path through the proxies of a peer and waits until it answers.
///
/// # Errors
/// When the peer cannot do it, does not answer by the deadline, or ends by itself time and again.
pub async fn set_up(around: &Surroundings<'_>, wanted: &Wanted<'_>) -> Result<Running, SetupError> {
    // A port may be taken between its choice and its use, so what ended by itself is started again.
    for _ in 0..RETRIES {
        match attempt(around, wanted).await {
            Err(SetupError::Child(ChildError::Ended { .. })) => {}
            other => return other,
        }
    }
    attempt(around, wanted).await
}

async fn attempt(around: &Surroundings<'_>, wanted: &Wanted<'_>) -> Result<Running, SetupError> {
    let stage = wanted.stage;
    let directory = tempfile::Builder::new().prefix(wanted.peer.name()).tempdir_in(around.scratch)?;
    // 1. Files and command lines of every proxy, from the application outwards.
    let mut orders = Vec::new();
    let mut port = match stage.carries {
        Carries::Http1 | Carries::Http2 => around.application.http,
        Carries::Tcp => around.application.stream,
    };
    let sides: &[Side] = match stage.hops {
        Hops::One => &[Side::Inbound],
        Hops::Two => &[Side::Inbound, Side::Outbound],
    };
    for side in sides {
        let upstream = port;
        if let Some((order, listen)) = prepare(around, wanted, *side, upstream, directory.path())? {
            orders.push(order);
            port = listen;
        }
    }
    let secure = match (orders.is_empty(), stage.hops) {
        (false, Hops::One) => Secure::Mutual,
        (true, _) | (_, Hops::Two) => Secure::Plain,
    };
    let probe = match secure {
        Secure::Mutual => Probe::mutual(stage.carries, around.pki, NamedGroup::X25519)?,
        Secure::Plain => Probe::plain(stage.carries),
    };
    // 2. Start them, and ask until the whole path answers.
    let begun = Instant::now();
    let mut proxies = Vec::new();
    for order in &orders {
        proxies.push(Child::start(order, around.cores)?);
    }
    await_answer(&probe, port, &mut proxies).await?;
    let start = begun.elapsed();
    let identity = directory.path().join(name_of(Side::Inbound)).join(IDENTITY);
    let running = Running { port, secure, identity, start, proxies, directory };
    around.cores.hold(Place::Proxies, &running.pids()).map_err(ChildError::from)?;
    Ok(running)
}

/// Writes what one proxy needs. Nothing where there is no proxy.
fn prepare(
    around: &Surroundings<'_>,
    wanted: &Wanted<'_>,
    side: Side,
    upstream: u16,
    path: &Path,
) -> Result<Option<(Order, u16)>, SetupError> {
    let directory = path.join(name_of(side));
    let (identity, trust) = (directory.join(IDENTITY), around.pki.trust());
    let [listen, first, second, third] = ports::free()?;
    let seat = Seat {
        stage: wanted.stage,
        side,
        directory: &directory,
        identity: &identity,
        trust: &trust,
        listen,
        upstream,
        spare: [first, second, third],
    };
    let (Some(launch), Some(found)) = (wanted.peer.launch(&seat)?, wanted.found) else { return Ok(None) };
    fs::create_dir(&directory)?;
    seat.issue(around.pki)?;
    for (name, text) in &launch.files {
        let file = directory.join(name);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(file, text)?;
    }
    let order = Order {
        name: format!("{}-{}", wanted.peer.name(), name_of(side)),
        program: found.program.clone(),
        arguments: launch.arguments,
        directory,
        place: Place::Proxies,
    };
    Ok(Some((order, listen)))
}

async fn await_answer(probe: &Probe, port: u16, proxies: &mut [Child]) -> Result<(), SetupError> {
    let begun = Instant::now();
    loop {
        let Err(error) = probe.ask(port).await else { return Ok(()) };
        for proxy in &mut *proxies {
            proxy.still_runs()?;
        }
        if begun.elapsed() > READY {
            let last = portcullis::error_chain(&error);
            // The outermost one is what was asked; without proxies it is the application's fault, and said as it is.
            return match proxies.last() {
                Some(proxy) => Err(proxy.late("answer", READY, &last).into()),
                None => Err(error.into()),
            };
        }
        sleep(BETWEEN).await;
    }
}

impl Running {
    /// The process numbers of all proxies in the path, without their workers'.
    pub fn pids(&self) -> Vec<i32> {
        self.proxies.iter().map(Child::pid).collect()
    }

    /// A directory for output files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What the proxies said last, for a message.
    pub fn last_words(&self) -> String {
        let said: Vec<String> = self.proxies.iter().map(Child::last_words).filter(|text| !text.is_empty()).collect();
        said.join("\n")
    }

    /// Ends the proxies and removes the directory.
    pub async fn stop(self) {
        // The outermost first, so that none of them loses its upstream under way.
        for proxy in self.proxies.into_iter().rev() {
            proxy.stop().await;
        }
    }
}

fn name_of(side: Side) -> &'static str {
    match side {
        Side::Inbound => "inbound",
        Side::Outbound => "outbound",
    }
}

const IDENTITY: &str = "identity";

/// Beyond the first try. Two ports in a row are hardly taken by somebody else.
const RETRIES: usize = 2;

/// For a path to answer.
const READY: Duration = Duration::from_secs(20);

/// Between two tries: what the start is measured to.
const BETWEEN: Duration = Duration::from_millis(1);
