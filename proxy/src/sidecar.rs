//! What every connection of one sidecar shares.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use portcullis_certs_watcher::Peer;
use portcullis_policy::ServiceName;
use spiffe::SpiffeId;
use tokio::sync::Notify;

use crate::config::{Limits, Timeouts};
use crate::connections::{self, Connections, Entry, Generation, Level};
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
    /// Wakes the re-check: a connection was admitted by a trust or policy that is no longer the newest.
    pub doubt: Notify,
    /// Records.
    pub telemetry: Arc<Telemetry>,
    /// Spawns.
    pub tasks: Tasks,
}

impl Sidecar {
    /// Has open connections judged again if trust or policy moved on while one of them was being admitted.
    pub fn doubt_if_outdated(&self, admitted: Generation) {
        let trust = self.tls.generation().trust;
        let policy = self.policy.current().map_or(0, |loaded| loaded.number);
        if admitted.trust != trust || (admitted.policy != 0 && admitted.policy != policy) {
            self.doubt.notify_one();
        }
    }

    /// Ends a tunnel that was allowed when it was asked for and is not any more: the application may have taken its time
    /// with the answer. Whatever changes after this finds it in the registry.
    pub fn judge_tunnel(&self, own: &SpiffeId, entry: &Entry) {
        if connections::refused_by_policy(self.policy.current().as_deref(), own, entry).is_some() {
            self.telemetry.metrics.connection_closed(entry.opened.direction, "policy");
            entry.signal.raise(Level::Cut, "policy");
        }
    }

    /// The shape of a pool that may open so many HTTP/2 connections.
    pub fn shape(&self, shared: usize) -> Shape {
        Shape {
            shared,
            idle: self.timeouts.idle,
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
