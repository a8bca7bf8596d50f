//! Why a peer was refused: for the log, for the metric, and for the TLS alert that goes out to it.

use std::sync::Arc;

use rustls::CertificateError;
use rustls_pki_types::{CertificateDer, UnixTime};
use spiffe::SpiffeId;
use thiserror::Error;

use crate::certificate::{Certificate, CertificateName, IssuerFault, MalformedCertificate};
use crate::clock::Timestamp;
use crate::svid::SvidError;

/// Why a peer's chain proves nothing. Each is the fault of the peer, but for [`PeerError::IdleAnchor`], which is ours.
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
    /// An RSA key is too small.
    #[error(
        "certificate {certificate} has an RSA key of {bits} bits; issue it with P-256, or RSA of 2048 bits or more"
    )]
    WeakKey {
        /// The certificate.
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
    /// A certificate of the chain has ended.
    #[error("certificate {certificate} in the chain of `{id}` expired at {}, and it is {}: see why it was not renewed, or whether a clock is wrong", Timestamp(*not_after), Timestamp(*now))]
    Expired {
        /// Who the peer says it is.
        id: SpiffeId,
        /// The certificate.
        certificate: CertificateName,
        /// When it ended.
        not_after: UnixTime,
        /// The time of the check.
        now: UnixTime,
    },
    /// A certificate of the chain has not begun.
    #[error("certificate {certificate} in the chain of `{id}` is valid from {}, and it is only {}: see whether a clock is wrong", Timestamp(*not_before), Timestamp(*now))]
    NotYetValid {
        /// Who the peer says it is.
        id: SpiffeId,
        /// The certificate.
        certificate: CertificateName,
        /// When it begins.
        not_before: UnixTime,
        /// The time of the check.
        now: UnixTime,
    },
    /// The chain leads to no anchor of its trust domain.
    #[error("the chain of `{id}` ends at {certificate}, whose issuer `{issuer}` is no anchor in the bundle of `{}`", id.trust_domain())]
    UnknownIssuer {
        /// Who the peer says it is.
        id: SpiffeId,
        /// The last certificate of the chain.
        certificate: CertificateName,
        /// Who issued that one.
        issuer: String,
    },
    /// The names lead to an anchor, the signatures do not.
    #[error("a signature in the chain of `{id}` (certificate {certificate}) does not fit its issuer in the bundle of `{}`: forged, or issued under an old or another key", id.trust_domain())]
    BadSignature {
        /// Who the peer says it is.
        id: SpiffeId,
        /// The leaf.
        certificate: CertificateName,
    },
    /// The anchor that the chain leads to is not valid now.
    #[error("the chain leads to the anchor {anchor}, which {reason}: renew it in the bundle")]
    IdleAnchor {
        /// The anchor.
        anchor: CertificateName,
        /// Why it is not used.
        reason: String,
    },
    /// An intermediate may not sign certificates.
    #[error("certificate {certificate} in the chain may not issue certificates")]
    BadIssuer {
        /// The intermediate.
        certificate: CertificateName,
        /// Why not.
        #[source]
        fault: IssuerFault,
    },
    /// An issuer's name constraints do not permit the identity, or are of a kind that cannot be judged.
    #[error("the name constraints of an issuer do not permit `{id}` (certificate {certificate}), or cannot be judged")]
    NameConstraints {
        /// Who the peer says it is.
        id: SpiffeId,
        /// The leaf.
        certificate: CertificateName,
    },
    /// The certificates can be combined in too many ways.
    #[error("the certificates of the chain can be combined in too many ways to judge them")]
    TooComplex,
    /// Another rule of path validation is broken.
    #[error("the chain of `{id}` (certificate {certificate}) breaks a rule of path validation")]
    InvalidChain {
        /// Who the peer says it is.
        id: SpiffeId,
        /// The leaf.
        certificate: CertificateName,
        /// The rule; boxed, since it would make every other result larger.
        #[source]
        source: Box<webpki::Error>,
    },
    /// A path ended at an anchor that is not of the bundle.
    #[error("no path to an anchor of the bundle")]
    NoPath,
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
            Self::Malformed { .. } => "malformed_certificate",
            Self::Svid { source, .. } => source.label(),
            Self::WeakKey { .. } => "weak_key",
            Self::ForeignTrustDomain { .. } => "foreign_trust_domain",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::UnknownIssuer { .. } | Self::NoPath => "unknown_issuer",
            Self::BadSignature { .. } => "bad_signature",
            Self::IdleAnchor { .. } => "anchor_not_valid",
            Self::BadIssuer { .. } => "bad_issuer",
            Self::NameConstraints { .. } => "name_constraints",
            Self::TooComplex => "chain_too_complex",
            Self::InvalidChain { .. } => "invalid_chain",
            Self::WrongIdentity { .. } => "wrong_identity",
        }
    }

    /// What rustls is told, so that the peer gets the alert that fits.
    pub fn certificate_error(&self) -> CertificateError {
        match self {
            Self::Expired { .. } => CertificateError::Expired,
            Self::NotYetValid { .. } => CertificateError::NotValidYet,
            Self::ForeignTrustDomain { .. } | Self::UnknownIssuer { .. } | Self::IdleAnchor { .. } | Self::NoPath => {
                CertificateError::UnknownIssuer
            }
            Self::BadSignature { .. } => CertificateError::BadSignature,
            Self::Svid { source: SvidError::NoClientAuth | SvidError::NoServerAuth | SvidError::NoAuth, .. } => {
                CertificateError::InvalidPurpose
            }
            Self::NameConstraints { .. } | Self::WrongIdentity { .. } => {
                CertificateError::ApplicationVerificationFailure
            }
            Self::NoCertificate
            | Self::TooManyCertificates { .. }
            | Self::ChainTooLarge { .. }
            | Self::Malformed { .. }
            | Self::Svid { .. }
            | Self::WeakKey { .. }
            | Self::BadIssuer { .. }
            | Self::TooComplex
            | Self::InvalidChain { .. } => CertificateError::BadEncoding,
        }
    }

    /// Puts what webpki found into words, with the certificate at fault.
    pub(crate) fn from_webpki(
        error: webpki::Error,
        id: &SpiffeId,
        chain: &[CertificateDer<'static>],
        now: UnixTime,
    ) -> Self {
        let parsed: Vec<_> = chain.iter().filter_map(|der| Certificate::parse(der).ok()).collect();
        let (Some(leaf), Some(last)) = (parsed.first(), parsed.last()) else { return Self::NoPath };
        let id = id.clone();
        // webpki reports the time and not the certificate; the first of the chain with that time is the one meant.
        let with = |matches: &dyn Fn(&Certificate<'_>) -> bool| {
            parsed.iter().find(|certificate| matches(certificate)).unwrap_or(leaf).name()
        };
        match error {
            webpki::Error::CertExpired { not_after, .. } => {
                Self::Expired { id, certificate: with(&|found| found.not_after() == not_after), not_after, now }
            }
            webpki::Error::CertNotValidYet { not_before, .. } => {
                Self::NotYetValid { id, certificate: with(&|found| found.not_before() == not_before), not_before, now }
            }
            webpki::Error::UnknownIssuer => Self::UnknownIssuer { id, certificate: last.name(), issuer: last.issuer() },
            webpki::Error::InvalidSignatureForPublicKey | webpki::Error::SignatureAlgorithmMismatch => {
                Self::BadSignature { id, certificate: leaf.name() }
            }
            webpki::Error::NameConstraintViolation | webpki::Error::MalformedNameConstraint => {
                Self::NameConstraints { id, certificate: leaf.name() }
            }
            webpki::Error::MaximumPathBuildCallsExceeded
            | webpki::Error::MaximumSignatureChecksExceeded
            | webpki::Error::MaximumNameConstraintComparisonsExceeded
            | webpki::Error::MaximumPathDepthExceeded => Self::TooComplex,
            source => Self::InvalidChain { id, certificate: leaf.name(), source: Box::new(source) },
        }
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
