//! Why a chain does not lead to an anchor, with the certificate at fault.

use rustls_pki_types::UnixTime;
use thiserror::Error;

use crate::certificate::{Certificate, CertificateName, IssuerFault, MalformedCertificate};
use crate::clock::Timestamp;
use crate::name_constraints::{UnreadableConstraints, Violation};
use crate::revocation::RevocationFault;

/// Why a chain leads to no anchor that counts. The fault is the sender's, but for [`PathError::IdleAnchor`].
#[derive(Clone, Debug, PartialEq, Error)]
pub enum PathError {
    /// A certificate cannot be parsed.
    #[error("certificate {position} cannot be parsed")]
    Malformed {
        /// Its place in the chain, from 1.
        position: usize,
        /// What is wrong with it.
        #[source]
        source: MalformedCertificate,
    },
    /// A certificate has ended.
    #[error("certificate {certificate} expired at {}, and it is {}: see why it was not renewed, or whether a clock is wrong", Timestamp(*not_after), Timestamp(*now))]
    Expired {
        /// The certificate.
        certificate: CertificateName,
        /// When it ended.
        not_after: UnixTime,
        /// The time of the check.
        now: UnixTime,
    },
    /// A certificate has not begun.
    #[error("certificate {certificate} is valid from {}, and it is only {}: see whether a clock is wrong", Timestamp(*not_before), Timestamp(*now))]
    NotYetValid {
        /// The certificate.
        certificate: CertificateName,
        /// When it begins.
        not_before: UnixTime,
        /// The time of the check.
        now: UnixTime,
    },
    /// The chain leads to no anchor of the bundle.
    #[error("it ends at {certificate}, whose issuer `{issuer}` is no anchor in the bundle of `{trust_domain}`")]
    UnknownIssuer {
        /// The last certificate of the chain.
        certificate: CertificateName,
        /// Who issued that one.
        issuer: String,
        /// Whose bundle it is.
        trust_domain: String,
    },
    /// The names lead to an issuer, the signature does not.
    #[error(
        "the signature of certificate {certificate} does not fit the issuer that it names: forged, or issued under an old or another key"
    )]
    BadSignature {
        /// The certificate.
        certificate: CertificateName,
    },
    /// The anchor that the chain leads to is not valid now.
    #[error("it leads to the anchor {anchor}, which {reason}: renew it in the bundle")]
    IdleAnchor {
        /// The anchor.
        anchor: CertificateName,
        /// Why it is not used.
        reason: String,
    },
    /// An issuer may not sign certificates.
    #[error("certificate {certificate} may not issue certificates")]
    BadIssuer {
        /// The issuer.
        certificate: CertificateName,
        /// Why not.
        #[source]
        fault: IssuerFault,
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
    /// There are more issuers below one than it allows.
    #[error("certificate {certificate} allows {allowed} issuers below it (path length), and there are {found}")]
    PathLength {
        /// The issuer.
        certificate: CertificateName,
        /// How many it allows.
        allowed: u32,
        /// How many there are.
        found: usize,
    },
    /// An issuer's extended key usage does not include what its leaves are used for here.
    #[error("the extended key usage of issuer {certificate} lacks `{usage}`")]
    Purpose {
        /// The issuer.
        certificate: CertificateName,
        /// What is missing.
        usage: &'static str,
    },
    /// An issuer's name constraints on URIs do not permit a name below it.
    #[error("issuer {issuer} may not vouch for {certificate} by its name constraints: {source}")]
    UriConstraints {
        /// The issuer.
        issuer: CertificateName,
        /// The certificate below it.
        certificate: CertificateName,
        /// Why not; boxed, since it would make every other result larger.
        source: Box<Violation>,
    },
    /// Name constraints that nobody can judge.
    #[error("certificate {certificate} cannot be an issuer")]
    UnreadableConstraints {
        /// The issuer.
        certificate: CertificateName,
        /// What is wrong with them.
        #[source]
        source: UnreadableConstraints,
    },
    /// Name constraints on names other than URIs do not permit a name, or are of a form that is not supported.
    #[error(
        "the name constraints of an issuer do not permit a name of {certificate} other than a URI, or are of a form that cannot be judged (only DNS names, IP addresses and URIs can)"
    )]
    NameConstraints {
        /// The certificate.
        certificate: CertificateName,
    },
    /// A revocation list stands against it.
    #[error(transparent)]
    Revocation(#[from] RevocationFault),
    /// The certificates can be combined in too many ways.
    #[error("its certificates can be combined in too many ways to judge them")]
    TooComplex,
    /// Another rule of path validation is broken.
    #[error("certificate {certificate} or one above it breaks a rule of path validation")]
    Invalid {
        /// The certificate.
        certificate: CertificateName,
        /// The rule; boxed, since it would make every other result larger.
        #[source]
        source: Box<webpki::Error>,
    },
    /// A path ended at an anchor that is not of the bundle.
    #[error("no path to an anchor of the bundle")]
    NoPath,
}

impl PathError {
    /// A fixed word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed_certificate",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::UnknownIssuer { .. } | Self::NoPath => "unknown_issuer",
            Self::BadSignature { .. } => "bad_signature",
            Self::IdleAnchor { .. } => "anchor_not_valid",
            Self::BadIssuer { .. } => "bad_issuer",
            Self::WeakKey { .. } => "weak_key",
            Self::PathLength { .. } => "path_length",
            Self::Purpose { .. } => "issuer_purpose",
            Self::UriConstraints { .. } | Self::UnreadableConstraints { .. } | Self::NameConstraints { .. } => {
                "name_constraints"
            }
            Self::Revocation(fault) => fault.label(),
            Self::TooComplex => "chain_too_complex",
            Self::Invalid { .. } => "invalid_chain",
        }
    }

    /// Of two failures of one search the one that says more: that a way leads nowhere is the least.
    pub(crate) fn or(self, other: Self) -> Self {
        if matches!(other, Self::UnknownIssuer { .. } | Self::NoPath) { self } else { other }
    }

    /// The certificate at fault, as far as it is known.
    pub fn certificate(&self) -> Option<&CertificateName> {
        match self {
            Self::Expired { certificate, .. }
            | Self::NotYetValid { certificate, .. }
            | Self::UnknownIssuer { certificate, .. }
            | Self::BadSignature { certificate }
            | Self::IdleAnchor { anchor: certificate, .. }
            | Self::BadIssuer { certificate, .. }
            | Self::WeakKey { certificate, .. }
            | Self::PathLength { certificate, .. }
            | Self::Purpose { certificate, .. }
            | Self::UriConstraints { issuer: certificate, .. }
            | Self::UnreadableConstraints { certificate, .. }
            | Self::NameConstraints { certificate }
            | Self::Revocation(
                RevocationFault::Revoked { certificate, .. }
                | RevocationFault::Unknown { certificate }
                | RevocationFault::Stale { certificate, .. },
            )
            | Self::Invalid { certificate, .. } => Some(certificate),
            Self::Malformed { .. } | Self::TooComplex | Self::NoPath => None,
        }
    }

    /// Puts what webpki found into words, with the certificate at fault as far as it tells.
    pub(crate) fn from_webpki(
        error: webpki::Error,
        chain: &[Certificate<'_>],
        trust_domain: &str,
        now: UnixTime,
    ) -> Self {
        let (Some(leaf), Some(last)) = (chain.first(), chain.last()) else { return Self::NoPath };
        let with = |wanted: &dyn Fn(&Certificate<'_>) -> bool| {
            chain.iter().find(|certificate| wanted(certificate)).unwrap_or(leaf).name()
        };
        match error {
            webpki::Error::CertExpired { not_after, .. } => {
                Self::Expired { certificate: with(&|found| found.not_after() == not_after), not_after, now }
            }
            webpki::Error::CertNotValidYet { not_before, .. } => {
                Self::NotYetValid { certificate: with(&|found| found.not_before() == not_before), not_before, now }
            }
            webpki::Error::UnknownIssuer => Self::UnknownIssuer {
                certificate: last.name(),
                issuer: last.issuer(),
                trust_domain: trust_domain.to_owned(),
            },
            webpki::Error::InvalidSignatureForPublicKey | webpki::Error::SignatureAlgorithmMismatch => {
                Self::BadSignature { certificate: leaf.name() }
            }
            webpki::Error::NameConstraintViolation | webpki::Error::MalformedNameConstraint => {
                Self::NameConstraints { certificate: leaf.name() }
            }
            webpki::Error::MaximumPathBuildCallsExceeded
            | webpki::Error::MaximumSignatureChecksExceeded
            | webpki::Error::MaximumNameConstraintComparisonsExceeded
            | webpki::Error::MaximumPathDepthExceeded => Self::TooComplex,
            source => Self::Invalid { certificate: leaf.name(), source: Box::new(source) },
        }
    }
}
