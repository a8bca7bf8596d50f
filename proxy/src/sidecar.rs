//! What every connection of one sidecar shares.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use portcullis_certs_watcher::Peer;
use portcullis_policy::ServiceName;
use rustls_pki_types::UnixTime;

use crate::config::{Limits, Timeouts};
use crate::connections::{Connections, Entry, Generation, Grounds, Judge, Level, Objection};
use crate::drain::Tasks;
use crate::limits::handshakes::Handshakes;
use crate::limits::memory::Memory;
use crate::limits::rate::Rates;
use crate::policy_store::PolicyStore;
use crate::serve::connection::Bounds;
use crate::telemetry::Telemetry;
use crate::telemetry::metrics::Direction;
use crate::telemetry::repeated::Say;
use crate::tls::Tls;
use crate::tls::handshake::HandshakeError;
use crate::upstream::pool::Shape;

/// See the module. Built once by `app.rs`, read by all.
#[derive(Debug)]
pub struct Sidecar {
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How much there may be.
    pub limits: Limits,
    /// Makes handshakes.
    pub tls: Tls,
    /// The policy in force.
    pub policy: Arc<PolicyStore>,
    /// The Services that outbound listeners name, each once.
    pub services: Vec<ServiceName>,
    /// A policy that defined all of them has been in force.
    pub services_were_defined: AtomicBool,
    /// What is open.
    pub connections: Arc<Connections>,
    /// A place for each inbound handshake under way.
    pub handshakes: Arc<Handshakes>,
    /// Whether there is memory for new work.
    pub memory: Arc<Memory>,
    /// What each caller may ask for.
    pub rates: Rates,
    /// Records.
    pub telemetry: Arc<Telemetry>,
    /// Spawns.
    pub tasks: Tasks,
}

impl Sidecar {
    /// What open connections are judged by at this moment; `None` without an identity, where there are none.
    pub fn grounds(&self) -> Option<Grounds> {
        let snapshot = self.tls.credentials().snapshot();
        let own = snapshot.material.as_ref()?.id().clone();
        Some(Grounds { trust: Arc::clone(&snapshot.trust), policy: self.policy.current(), own })
    }

    /// Judges a connection that has just been entered, if trust or policy moved on while it was being admitted.
    pub fn judge_if_outdated(&self, entry: &Entry, admitted: Generation) {
        let trust = self.tls.generation().trust;
        let policy = self.policy.current().map_or(0, |loaded| loaded.number);
        if admitted.trust != trust || (admitted.policy != 0 && admitted.policy != policy) {
            self.judge_entered(entry);
        }
    }

    /// Ends a connection that was allowed when it was asked for and is not any more: whoever had to agree to it may have taken
    /// its time. It is in the registry by then, so whatever changes after this finds it there.
    pub fn judge_entered(&self, entry: &Entry) {
        let objection = self.grounds().and_then(|grounds| Judge::new(grounds).objection(entry, UnixTime::now()));
        if let Some(objection) = objection {
            self.condemn(entry, &objection);
            // Nothing is in flight on it that could be given time.
            entry.signal.raise(Level::Cut, objection.cause);
        }
    }

    /// Has a connection take nothing new, counts it and says why; `true` the first time. Whoever calls this cuts it, too.
    pub fn condemn(&self, entry: &Entry, objection: &Objection) -> bool {
        let foretold = entry.signal.cause() == Some(objection.cause);
        let first = entry.signal.condemn(objection.cause);
        if first {
            if !foretold {
                self.telemetry.metrics.connection_closed(entry.opened.direction, objection.cause);
            }
            self.tell_of(entry, objection, "an open connection must end: what allowed it no longer holds");
        }
        first
    }

    /// Has an HTTP connection say goodbye because what allows it is about to end. Its caller goes on elsewhere and loses
    /// nothing, while a request that is on its way when the end has come would be refused.
    pub fn foretell(&self, entry: &Entry, objection: &Objection) {
        self.telemetry.metrics.connection_closed(entry.opened.direction, objection.cause);
        self.tell_of(entry, objection, "an open connection ends within seconds: so does what allows it");
        entry.signal.raise(Level::Goodbye, objection.cause);
    }

    fn tell_of(&self, entry: &Entry, objection: &Objection, message: &'static str) {
        let opened = &entry.opened;
        let peer = opened.peer.as_ref();
        let policy = self.policy.current().filter(|_| opened.direction == Direction::Inbound);
        tracing::warn!(
            direction = opened.direction.label(),
            carries = opened.carries.label(),
            peer = peer.map(|peer| peer.id.to_string()),
            serial = peer.map(|peer| peer.serial.as_str()),
            issuer = peer.map(|peer| peer.issuer.as_str()),
            address = %opened.address,
            port = opened.port,
            cause = objection.cause,
            why = &*objection.why,
            policy = objection.rule.as_ref().map(|(policy, _)| &**policy),
            rule = objection.rule.as_ref().map(|(_, rule)| &**rule),
            policy_revision = policy.as_ref().map(|loaded| loaded.policy.revision()),
            policy_git_revision = policy.as_ref().and_then(|loaded| loaded.git_revision.as_deref()),
            "{message}"
        );
    }

    /// The shape of a pool that may open so many HTTP/2 connections.
    pub fn shape(&self, shared: usize) -> Shape {
        Shape {
            shared,
            idle: self.timeouts.idle,
            age: UPSTREAM_AGE,
            head: self.timeouts.request_head,
            head_bytes: self.limits.head_bytes,
            head_fields: self.limits.head_fields,
        }
    }

    /// Tells of an inbound handshake that came to nothing.
    pub fn refused(&self, from: SocketAddr, error: &HandshakeError) {
        let label = error.label();
        self.telemetry.metrics.handshake_refused(Direction::Inbound, label);
        let chain = crate::error_chain(error);
        match self.telemetry.repeated.note(label, from.ip(), Instant::now()) {
            Say::Aloud { left_out } => {
                tracing::warn!(%from, reason = label, error = chain, left_out, "an inbound connection was refused");
            }
            Say::Quietly => tracing::debug!(%from, reason = label, error = chain, "an inbound connection was refused"),
        }
    }

    /// Tells of an inbound connection of a proven peer that is not carried.
    pub fn closed(&self, from: SocketAddr, peer: &Peer, label: &'static str) {
        self.telemetry.metrics.connection_closed(Direction::Inbound, label);
        match self.telemetry.repeated.note(label, from.ip(), Instant::now()) {
            Say::Aloud { left_out } => {
                tracing::warn!(%from, peer = %peer.id, reason = label, left_out, "an inbound connection was closed");
            }
            Say::Quietly => tracing::debug!(%from, peer = %peer.id, reason = label, "an inbound connection was closed"),
        }
    }

    /// The bounds of a downstream HTTP connection.
    pub fn bounds(&self) -> Bounds {
        Bounds {
            head: self.timeouts.request_head,
            idle: self.timeouts.idle,
            max_age: self.timeouts.max_age,
            body_stall: self.timeouts.body_stall,
            head_bytes: self.limits.head_bytes,
            head_fields: self.limits.head_fields,
            streams: self.limits.streams_per_connection,
        }
    }
}

/// The kernel's choice of pod behind a ClusterIP is made anew often enough to even out.
const UPSTREAM_AGE: Duration = Duration::from_secs(300);
