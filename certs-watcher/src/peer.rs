//! A peer whose identity has been proven; `verify.rs` is where that happens.

use std::sync::Arc;

use rustls_pki_types::{CertificateDer, UnixTime};
use spiffe::SpiffeId;

use crate::certificate::Fingerprint;
use crate::deny_list::CertificateKey;

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
    /// The certificates of the path, leaf first and anchor last.
    pub(crate) path: Arc<[CertificateKey]>,
}
