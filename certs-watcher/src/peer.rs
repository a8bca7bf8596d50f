//! A peer whose identity has been proven, and what the proof rests on; `verify.rs` is where that happens.

use std::sync::Arc;

use rustls_pki_types::{CertificateDer, UnixTime};
use spiffe::SpiffeId;

use crate::certificate::Fingerprint;
use crate::deny_list::CertificateKey;
use crate::trust::{Basis, Trust};

/// A peer whose identity has been proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its SPIFFE ID.
    pub id: SpiffeId,
    /// The distinguished name of the leaf's subject; may be the text `(empty name)`.
    pub subject: String,
    /// The leaf's serial number in lower-case hex.
    pub serial: String,
    /// The distinguished name of the leaf's issuer.
    pub issuer: String,
    /// The first instant at which the leaf is valid.
    pub not_before: UnixTime,
    /// The soonest end in the path that proved it: of the leaf, an intermediate or the anchor.
    pub not_after: UnixTime,
    /// SHA-256 of the leaf.
    pub fingerprint: Fingerprint,
    /// SHA-256 of the anchor that the path ended at.
    pub anchor: Fingerprint,
    /// The chain as it was sent, leaf first, so that it can be judged again.
    pub chain: Arc<[CertificateDer<'static>]>,
    /// What proved it.
    pub proof: Arc<Proof>,
}

/// A path that led from a peer to an anchor, and under what: as long as that is in force, nobody need look for one again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The bundle and revocation lists of the peer's trust domain.
    pub(crate) basis: Basis,
    /// When all of the path is valid.
    pub(crate) from: UnixTime,
    pub(crate) until: UnixTime,
    /// The certificates of the path, leaf first and anchor last.
    pub(crate) path: Arc<[CertificateKey]>,
}

impl Proof {
    /// The last instant at which it holds: the soonest end in its path, or of a revocation list without which it is worth
    /// nothing.
    pub fn until(&self) -> UnixTime {
        self.until
    }

    /// Whether it holds under this trust at `now`, for the peer that it is of. The deny list is another question.
    pub fn holds(&self, trust: &Trust, id: &SpiffeId, now: UnixTime) -> bool {
        self.from <= now && now <= self.until && trust.basis(id.trust_domain()) == Some(&self.basis)
    }

    #[cfg(test)]
    pub(crate) fn within(&self, from: UnixTime, until: UnixTime) -> Self {
        Self { from, until, ..self.clone() }
    }
}
