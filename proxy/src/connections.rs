//! The registry of open connections, inbound and outbound: who, since when, under which generation.
//!
//! Everything that must reach a connection after it was admitted goes through here: the drain, the admin view, and the
//! re-check when policy or trust change. An entry leaves when its guard is dropped, so the registry cannot leak.

mod anchors;
mod recheck;
mod room;
mod signal;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwapOption;
use portcullis_certs_watcher::{Material, Peer, Proof};
use spiffe::SpiffeId;
use tokio::sync::Notify;

use self::anchors::Anchors;
pub use self::anchors::{Census, Tally};
pub use self::recheck::{Grounds, Judge, OWN_EXPIRED, Objection, connection_of};
pub use self::room::{Full, Place, Room};
pub use self::signal::{Level, Signal};
use crate::config::Answerers;
use crate::policy_store::Opening;
use crate::telemetry::metrics::{Direction, Metrics};

/// Generation numbers that a connection was admitted under.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Generation {
    /// Of our own certificate.
    pub identity: u64,
    /// Of the trust bundles.
    pub trust: u64,
    /// Of the policy; 0 outbound, unless the peer answers for a Service.
    pub policy: u64,
}

/// What a connection is, for the record and for judging it again.
#[derive(Debug)]
pub struct Opened {
    /// Which way it goes.
    pub direction: Direction,
    /// What runs over it.
    pub carries: Carries,
    /// The verified peer: the caller inbound, the called workload outbound. `None` is our own application outbound.
    pub peer: Option<Arc<Peer>>,
    /// Where it came from, or what was connected to.
    pub address: SocketAddr,
    /// The application's port inbound; the destination's port outbound.
    pub port: u16,
    /// What an inbound caller asked for; `None` outbound.
    pub called: Option<Called>,
    /// Who may answer, for a connection to a mesh peer.
    pub answerers: Option<Answerers>,
    /// The request that opened it, for a WebSocket from the mesh.
    pub opening: Option<Box<Opening>>,
    /// What we have shown on it, which must not end before it does; `None` towards our own application.
    pub own: Option<Arc<Material>>,
    /// What it was admitted under.
    pub generation: Generation,
}

/// What a caller asked for before its first request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Called {
    /// The application.
    pub application: SocketAddr,
    /// The server name of the handshake.
    pub server_name: Option<Arc<str>>,
}

/// What runs over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    /// Opaque bytes, decided on once.
    Tcp,
    /// HTTP of either version, decided on for each request.
    Http,
    /// A WebSocket, decided on by the request that opened it.
    WebSocket,
}

impl Carries {
    /// The word in logs and the admin view.
    pub fn label(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::WebSocket => "websocket",
        }
    }
}

/// One open connection.
#[derive(Debug)]
pub struct Entry {
    /// Unique in this process.
    pub id: u64,
    /// What it is.
    pub opened: Opened,
    /// When it was entered.
    pub since: SystemTime,
    /// What proves its peer: at first what has let it in, then the last that the re-check has found.
    pub(crate) proof: ArcSwapOption<Proof>,
    /// Tells the connection's task to end.
    pub signal: Signal,
}

/// Keeps an entry in the registry for as long as it lives.
#[derive(Debug)]
pub struct Registered {
    entry: Arc<Entry>,
    connections: Arc<Connections>,
}

/// Counts a connection that was accepted for as long as it is served, also while it is not known yet who it is; or a listener
/// for as long as it accepts.
#[derive(Debug)]
pub struct Arrived {
    direction: Direction,
    connections: Arc<Connections>,
}

/// The registry.
#[derive(Debug)]
pub struct Connections {
    table: Mutex<Table>,
    anchors: Anchors,
    next_id: AtomicU64,
    left: Notify,
    arrived: [AtomicUsize; 2],
    limit: usize,
    limit_per_identity: usize,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Table {
    open: HashMap<u64, Arc<Entry>>,
    /// These three count those that room is kept for as well.
    inbound: usize,
    outbound: usize,
    by_caller: HashMap<SpiffeId, usize>,
}

impl Connections {
    /// An empty registry with the limits of the configuration; 0 is no limit.
    pub fn new(limit: usize, limit_per_identity: usize, metrics: Arc<Metrics>) -> Self {
        Self {
            table: Mutex::default(),
            anchors: Anchors::default(),
            next_id: AtomicU64::new(1),
            left: Notify::new(),
            arrived: Default::default(),
            limit,
            limit_per_identity,
            metrics,
        }
    }

    /// Counts a connection that was accepted, or a listener that may still accept: the drain waits for both.
    pub fn arrive(self: &Arc<Self>, direction: Direction) -> Arrived {
        self.arrived_of(direction).fetch_add(1, Ordering::AcqRel);
        Arrived { direction, connections: Arc::clone(self) }
    }

    fn arrived_of(&self, direction: Direction) -> &AtomicUsize {
        let [inbound, outbound] = &self.arrived;
        match direction {
            Direction::Inbound => inbound,
            Direction::Outbound => outbound,
        }
    }

    /// Enters a connection.
    ///
    /// # Errors
    /// When a limit is reached. Only inbound connections count against the limit of their caller.
    pub fn enter(self: &Arc<Self>, opened: Opened) -> Result<Registered, Full> {
        let room = self.reserve(opened.direction, opened.peer.as_ref())?;
        Ok(room.enter(opened))
    }

    /// The entries of this moment, oldest first.
    pub fn snapshot(&self) -> Vec<Arc<Entry>> {
        let mut entries: Vec<_> = self.lock().open.values().cloned().collect();
        entries.sort_unstable_by_key(|entry| entry.id);
        entries
    }

    /// How many connections are open or have room kept for them, of one direction.
    pub fn count(&self, direction: Direction) -> usize {
        *self.lock().of(direction)
    }

    /// Raises the signal of every open connection of one direction.
    pub fn signal(&self, direction: Direction, level: Level, cause: &'static str) {
        for entry in self.snapshot() {
            if entry.opened.direction == direction {
                entry.signal.raise(level, cause);
            }
        }
    }

    /// Resolves once no connection of this direction is open or about to be.
    pub async fn emptied(&self, direction: Direction) {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            // Registered before the count is read, so that a connection ending in between is not missed.
            left.as_mut().enable();
            if self.count(direction) == 0 && self.arrived_of(direction).load(Ordering::Acquire) == 0 {
                return;
            }
            left.await;
        }
    }

    /// Who chains to which anchor, at this moment and within the last day.
    pub fn census(&self) -> Census {
        self.anchors.census(&self.snapshot(), Instant::now())
    }

    fn note(&self, entry: &Entry) {
        if let Some(peer) = &entry.opened.peer {
            self.anchors.note(peer, Instant::now());
        }
    }

    fn leave(&self, entry: &Entry) {
        let Opened { direction, ref peer, .. } = entry.opened;
        let mut table = self.lock();
        table.open.remove(&entry.id);
        table.give_back(direction, peer.as_ref().filter(|_| direction == Direction::Inbound));
        drop(table);
        self.note(entry);
        self.metrics.of(entry.opened.direction).connections.decrement(1.0);
        self.left.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing panics under this lock; should it, the table is still consistent enough to drain by.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registered {
    /// The entry.
    pub fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.connections.leave(&self.entry);
    }
}

impl Drop for Arrived {
    fn drop(&mut self) {
        self.connections.arrived_of(self.direction).fetch_sub(1, Ordering::AcqRel);
        self.connections.left.notify_waiters();
    }
}

impl Entry {
    /// A connection that is entered now.
    fn new(id: u64, opened: Opened) -> Self {
        let proof = ArcSwapOption::new(opened.peer.as_ref().map(|peer| Arc::clone(&peer.proof)));
        Self { id, opened, since: SystemTime::now(), proof, signal: Signal::default() }
    }

    /// Whether it can still be told to go elsewhere: opaque bytes cannot, and nobody is told twice.
    pub fn takes_goodbye(&self) -> bool {
        self.opened.carries == Carries::Http && !self.signal.is_at(Level::Goodbye)
    }

    /// How long it has been open.
    pub fn age(&self) -> std::time::Duration {
        // The wall clock may have been set back meanwhile; the age is for people to read.
        self.since.elapsed().unwrap_or_default()
    }
}

/// The address without the port, which is what policy sees as the source.
pub fn source_of(address: SocketAddr) -> IpAddr {
    // A dual-stack listener shows IPv4 callers as ::ffff:a.b.c.d; policy authors write a.b.c.d.
    address.ip().to_canonical()
}

/// A deadline `after` from now; `None` when that is switched off by zero.
pub fn deadline(after: std::time::Duration) -> Option<Instant> {
    if after.is_zero() { None } else { Instant::now().checked_add(after) }
}
