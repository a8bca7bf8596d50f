//! Judges open connections again when trust or policy have changed, or a certificate has ended.
//!
//! The functions are those that let a connection in; what still holds is not touched.

use std::collections::HashMap;
use std::sync::Arc;

use portcullis_certs_watcher::{Peer, Role, Trust, verify_peer};
use portcullis_policy::Admission;
use rustls_pki_types::{CertificateDer, UnixTime};
use spiffe::SpiffeId;

use super::{Carries, Entry, Generation, source_of};
use crate::policy_store::{self, Loaded};
use crate::telemetry::metrics::Direction;

/// What connections are judged by.
#[derive(Clone, Debug)]
pub struct Grounds {
    /// Whom we believe.
    pub trust: Arc<Trust>,
    /// The policy; `None` refuses everything inbound.
    pub policy: Option<Arc<Loaded>>,
    /// Who we are.
    pub own: SpiffeId,
    /// The generation of all this.
    pub generation: Generation,
}

type Chain = Arc<[CertificateDer<'static>]>;

/// Judges many connections; the chains that several share are verified once.
#[derive(Debug)]
pub struct Judge {
    grounds: Grounds,
    verified: HashMap<(Chain, Direction), Option<&'static str>>,
}

impl Judge {
    /// A judge for one round.
    pub fn new(grounds: Grounds) -> Self {
        Self { grounds, verified: HashMap::new() }
    }

    /// Whether the certificate of the connection's peer, or one above it, has ended.
    pub fn expired(entry: &Entry, now: UnixTime) -> Option<&'static str> {
        let peer = entry.opened.peer.as_ref()?;
        (now > peer.not_after).then_some("certificate_expired")
    }

    /// Why this connection must not stay open; `None` when it may.
    pub fn objection(&mut self, entry: &Entry, now: UnixTime) -> Option<&'static str> {
        let opened = &entry.opened;
        let peer = opened.peer.as_ref()?;
        if let Some(label) = Self::expired(entry, now) {
            return Some(label);
        }
        // Verified under this very trust when it was admitted: only time could have changed that.
        if opened.generation.trust != self.grounds.generation.trust
            && let Some(label) = self.refused_by_trust(peer, opened.direction, now)
        {
            return Some(label);
        }
        match opened.direction {
            Direction::Outbound => {
                let expected = opened.expected.as_ref()?;
                (!expected.contains(&peer.id)).then_some("wrong_identity")
            }
            Direction::Inbound => self.refused_by_policy(entry, peer),
        }
    }

    fn refused_by_trust(&mut self, peer: &Peer, direction: Direction, now: UnixTime) -> Option<&'static str> {
        let role = match direction {
            Direction::Inbound => Role::Client,
            Direction::Outbound => Role::Server,
        };
        let trust = &self.grounds.trust;
        *self
            .verified
            .entry((Arc::clone(&peer.chain), direction))
            .or_insert_with(|| verify_peer(trust, role, &peer.chain, now).err().map(|error| error.label()))
    }

    fn refused_by_policy(&self, entry: &Entry, peer: &Peer) -> Option<&'static str> {
        let Some(policy) = &self.grounds.policy else { return Some("no_policy") };
        let opened = &entry.opened;
        let source = source_of(opened.address);
        let connection = policy_store::connection(&peer.id, &self.grounds.own, opened.port, source);
        let refused = match opened.carries {
            Carries::Tcp => !policy.policy.admit_opaque(&connection).verdict.is_allow(),
            Carries::Http | Carries::WebSocket => matches!(policy.admit(&connection), Admission::Deny(_)),
        };
        refused.then_some("policy")
    }
}
