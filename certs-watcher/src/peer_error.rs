//! Why a peer was refused: for the log, for the metric, and for the TLS alert that goes out to it.

use std::sync::Arc;

use rustls::CertificateError;
use spiffe::SpiffeId;
use thiserror::Error;

use crate::certificate::{CertificateName, MalformedCertificate};
use crate::path_error::PathError;
use crate::revocation::RevocationFault;
use crate::svid::SvidError;

/// Why a peer's chain proves nothing. Each is the fault of the peer, but for an anchor that is not valid, which is ours.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum PeerError {
    /// No certificate was sent.
    #[error("the peer sent no certificate; this port requires mutual TLS")]
    NoCertificate,
    /// More certificates than any real chain has.
    #[error("the chain has {count} certificates, more than {limit}")]
    TooManyCertificates {
        /// How many came.
        count: usize,
        /// How many are looked at.
        limit: usize,
    },
    /// More bytes than any real chain has.
    #[error("the chain has {bytes} bytes, more than a handshake can carry")]
    ChainTooLarge {
        /// How many came.
        bytes: usize,
    },
    /// Several issuers have the same name, so that they can be combined in too many ways.
    #[error("the certificates of the chain can be combined in too many ways to judge them")]
    TooComplex,
    /// A certificate cannot be parsed.
    #[error("certificate {position} of the chain cannot be parsed")]
    Malformed {
        /// Its place in the chain, from 1.
        position: usize,
        /// What is wrong with it.
        #[source]
        source: MalformedCertificate,
    },
    /// The leaf breaks a rule of X509-SVID.
    #[error("certificate {certificate} is no usable X509-SVID")]
    Svid {
        /// The leaf.
        certificate: CertificateName,
        /// The rule.
        #[source]
        source: SvidError,
    },
    /// The leaf's RSA key is too small.
    #[error(
        "certificate {certificate} has an RSA key of {bits} bits; issue it with P-256, or RSA of 2048 bits or more"
    )]
    WeakKey {
        /// The leaf.
        certificate: CertificateName,
        /// The size of the modulus.
        bits: usize,
    },
    /// There is no bundle for the trust domain that the peer names as its own.
    #[error("`{id}` (certificate {certificate}) is of a trust domain without a bundle here; if its workloads shall be believed, add `{}` to `trust`", id.trust_domain())]
    ForeignTrustDomain {
        /// Who the peer says it is.
        id: SpiffeId,
        /// The leaf.
        certificate: CertificateName,
    },
    /// The chain leads to no anchor of its trust domain that counts.
    #[error("the chain of `{id}` proves nothing")]
    Path {
        /// Who the peer says it is.
        id: SpiffeId,
        /// Why; boxed, since it would make every other result larger.
        #[source]
        source: Box<PathError>,
    },
    /// The deny list names the peer or a certificate that it depends on.
    #[error("`{id}` is refused by the deny list: {what} is denied ({reason})")]
    Denied {
        /// Who the peer is.
        id: SpiffeId,
        /// What of it is listed.
        what: String,
        /// The reason in the list.
        reason: String,
    },
    /// The peer has proven who it is, and it is somebody else.
    #[error(
        "`{presented}` answered where only {} may: check `identities` of this destination, and where its address leads",
        list(expected)
    )]
    WrongIdentity {
        /// Who the peer is.
        presented: SpiffeId,
        /// Who it may be.
        expected: Arc<[SpiffeId]>,
    },
}

impl PeerError {
    /// A fixed word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::TooManyCertificates { .. } => "too_many_certificates",
            Self::ChainTooLarge { .. } => "chain_too_large",
            Self::TooComplex => "chain_too_complex",
            Self::Malformed { .. } => "malformed_certificate",
            Self::Svid { source, .. } => source.label(),
            Self::WeakKey { .. } => "weak_key",
            Self::ForeignTrustDomain { .. } => "foreign_trust_domain",
            Self::Path { source, .. } => source.label(),
            Self::Denied { .. } => "denied",
            Self::WrongIdentity { .. } => "wrong_identity",
        }
    }

    /// What rustls is told, so that the peer gets the alert that fits.
    pub fn certificate_error(&self) -> CertificateError {
        match self {
            Self::ForeignTrustDomain { .. } => CertificateError::UnknownIssuer,
            Self::Svid { source: SvidError::NoClientAuth | SvidError::NoServerAuth | SvidError::NoAuth, .. } => {
                CertificateError::InvalidPurpose
            }
            Self::Path { source, .. } => of_path(source),
            Self::Denied { .. } | Self::WrongIdentity { .. } => CertificateError::ApplicationVerificationFailure,
            Self::NoCertificate
            | Self::TooManyCertificates { .. }
            | Self::ChainTooLarge { .. }
            | Self::TooComplex
            | Self::Malformed { .. }
            | Self::Svid { .. }
            | Self::WeakKey { .. } => CertificateError::BadEncoding,
        }
    }
}

fn of_path(error: &PathError) -> CertificateError {
    match error {
        PathError::Expired { .. } => CertificateError::Expired,
        PathError::NotYetValid { .. } => CertificateError::NotValidYet,
        PathError::UnknownIssuer { .. } | PathError::IdleAnchor { .. } | PathError::NoPath => {
            CertificateError::UnknownIssuer
        }
        PathError::BadSignature { .. } => CertificateError::BadSignature,
        PathError::Purpose { .. } => CertificateError::InvalidPurpose,
        PathError::Invalid { source, .. } if matches!(**source, webpki::Error::RequiredEkuNotFoundContext(_)) => {
            CertificateError::InvalidPurpose
        }
        PathError::Revocation(RevocationFault::Revoked { .. }) => CertificateError::Revoked,
        PathError::Revocation(RevocationFault::Unknown { .. } | RevocationFault::Stale { .. }) => {
            CertificateError::UnknownRevocationStatus
        }
        PathError::UriConstraints { .. }
        | PathError::NameConstraints { .. }
        | PathError::UnreadableConstraints { .. } => CertificateError::ApplicationVerificationFailure,
        PathError::Malformed { .. }
        | PathError::BadIssuer { .. }
        | PathError::WeakKey { .. }
        | PathError::PathLength { .. }
        | PathError::TooComplex
        | PathError::Invalid { .. } => CertificateError::BadEncoding,
    }
}

fn list(ids: &[SpiffeId]) -> String {
    if ids.is_empty() {
        return "nobody".to_owned();
    }
    let mut text: Vec<_> = ids.iter().take(MAX_LISTED).map(|id| format!("`{id}`")).collect();
    if ids.len() > MAX_LISTED {
        text.push(format!("{} more", ids.len() - MAX_LISTED));
    }
    text.join(", ")
}

/// Enough to see a pattern, short enough for a log line.
const MAX_LISTED: usize = 5;
