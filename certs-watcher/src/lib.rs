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

mod der;

pub mod deny_list;
pub mod role;

pub mod certificate;

pub mod name_constraints;
mod signatures;
mod signed;
pub mod svid;

pub mod revocation;

// Files.
mod volume_error;

pub mod volume;

// What an agent delivers.
pub mod workload_api;

// Proofs: whom we believe, who a peer is, who we are.
pub mod bundle;

pub mod peer;

mod cache;

pub mod trust;

pub mod path_error;

mod ca_path;

pub mod path;

pub mod peer_error;

pub mod verify;

mod chain;
pub mod material;

pub mod verifier;

// What people ask: what is in a file, what is wrong with it.
pub mod inspect;

pub mod findings;

pub mod examine;

// What is published.
pub mod change;
pub mod snapshot;

// The loop that keeps it current.
mod intake;
mod sources;

mod feed;

mod agents;
mod feeds;

mod problems;

mod supply;

mod notice;
mod watch;

pub use bundle::{Anchor, Bundle, TrustError};
pub use certificate::{Certificate, CertificateName, Fingerprint};
pub use change::{AnchorName, Change, ListName};
pub use clock::{Clock, Timestamp, system_clock};
pub use deny_list::{CertificateKey, DenyList};
pub use explain::explain;
pub use intake::Pace;
pub use material::{Candidate, Material, MaterialError, Origin};
pub use notice::Notice;
pub use path::{Path, verify_path};
pub use path_error::PathError;
pub use peer::{Peer, Proof};
pub use peer_error::PeerError;
pub use revocation::{Crl, Revocation, RevocationPolicy, StaleList, UnknownStatus};
pub use role::Role;
pub use snapshot::{Credentials, Event, NotReady, Observer, Outcome, Problem, Revision, Severity, Snapshot, Subject};
pub use sources::{BundleSource, DenyListSource, IdentitySource, Sources, TrustSource};
pub use trust::Trust;
pub use verifier::{InboundVerifier, OutboundVerifier, Verdict, expect_one_of};
pub use verify::{prove_again, verify_peer};
pub use watch::Watcher;
pub use workload_api::WorkloadApi;

#[cfg(test)]
#[path = "../tests/it/messages.rs"]
mod messages;
#[cfg(test)]
#[path = "../tests/it/pki.rs"]
mod pki;
