//! Identity and trust of a workload: loaded from files, proven, watched, published.
//!
//! [`Watcher`] reads the workload's certificate and the trust bundles, proves them, and publishes a [`Snapshot`] that
//! any number of [`Credentials`] read. [`InboundVerifier`] and [`OutboundVerifier`] put that trust behind a TLS
//! handshake. What cannot be proven is never published, and what was published stays until something better is proven.
//!
//! This crate decides who somebody is, never what they may do, and it counts nothing: it tells an [`Observer`].
//!
//! Modules import downwards: each group uses the ones above it, and a line within a group those before it.

// Words and bytes: no files, no clock.
pub mod clock;
pub mod explain;
pub mod pem;
pub mod spiffe_bundle;

pub mod certificate;

pub mod svid;

// Files.
pub mod volume;

// What an agent delivers.
pub mod workload_api;

// Proofs: whom we believe, who a peer is, who we are.
pub mod trust;

pub mod peer_error;

pub mod peer;

mod chain;
pub mod material;

pub mod verifier;

// What is published.
pub mod snapshot;

// The loop that keeps it current.
mod intake;
mod sources;

mod problems;

mod supply;

mod notice;
mod watch;

pub use certificate::{CertificateName, Fingerprint};
pub use clock::{Clock, Timestamp, system_clock};
pub use explain::explain;
pub use intake::Pace;
pub use material::{Candidate, Material, MaterialError, Origin};
pub use notice::Notice;
pub use peer::{Peer, Role, verify_peer};
pub use peer_error::PeerError;
pub use snapshot::{Credentials, Event, NotReady, Observer, Outcome, Problem, Revision, Severity, Snapshot, Subject};
pub use sources::{Sources, TrustSource};
pub use trust::{Anchor, Bundle, Trust, TrustError};
pub use verifier::{InboundVerifier, OutboundVerifier, Verdict, expect_one_of};
pub use watch::Watcher;
pub use workload_api::WorkloadApi;

#[cfg(test)]
#[path = "../tests/it/messages.rs"]
mod messages;
#[cfg(test)]
#[path = "../tests/it/pki.rs"]
mod pki;
