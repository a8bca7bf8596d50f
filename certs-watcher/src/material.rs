//! Our own identity, proven: what is published can be presented to anybody who shares our trust.
//!
//! A [`Material`] exists only if the key fits the leaf, the leaf is an SVID of the right workload, all of it is valid
//! now, and the chain leads to the bundle of our own trust domain. The private key inside can be used, not seen.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use rustls::InconsistentKeys;
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use spiffe::{SpiffeId, TrustDomain};
use thiserror::Error;

use crate::certificate::{Certificate, CertificateName, Fingerprint, MalformedCertificate};
use crate::chain;
use crate::peer_error::PeerError;
use crate::pem::{self, PemError};
use crate::role::Role;
use crate::svid::{self, SvidError};
use crate::trust::Trust;
use crate::verify::verify_peer;
use crate::volume::IdentityFiles;
use crate::workload_api::Svid;

/// A proven identity with its certificate chain and private key.
pub struct Material {
    certified_key: Arc<CertifiedKey>,
    chain: Arc<[CertificateDer<'static>]>,
    id: SpiffeId,
    subject: String,
    serial: String,
    issuer: String,
    not_before: UnixTime,
    not_after: UnixTime,
    fingerprint: Fingerprint,
    repair: Option<String>,
}

/// What an identity is proven against.
pub struct Demands<'a> {
    /// Whom we believe; the chain has to lead to the bundle of its own trust domain.
    pub trust: &'a Trust,
    /// Whose identity it has to be: the configured one, or the one published before.
    pub expected: Option<&'a SpiffeId>,
    /// The time of the proof.
    pub now: UnixTime,
}

/// A chain and a key that claim to be an identity. No `Debug`: it holds the private key.
pub struct Candidate<'a> {
    certificates: Cow<'a, [CertificateDer<'static>]>,
    key: PrivateKeyDer<'a>,
    origin: Origin,
}

/// Where a candidate comes from, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `tls.crt` and `tls.key`.
    Files,
    /// The SPIFFE Workload API.
    WorkloadApi,
}

impl Candidate<'static> {
    /// Takes the PEM texts of one generation of files apart.
    ///
    /// # Errors
    /// If one of them is no PEM file with what belongs there.
    pub fn read(files: &IdentityFiles) -> Result<Self, MaterialError> {
        let certificates = pem::certificates(&files.certificate).map_err(MaterialError::Certificate)?;
        let key = pem::private_key(&files.key).map_err(MaterialError::Key)?;
        Ok(Self { certificates: Cow::Owned(certificates), key, origin: Origin::Files })
    }
}

impl<'a> From<&'a Svid> for Candidate<'a> {
    fn from(svid: &'a Svid) -> Self {
        Self {
            certificates: Cow::Borrowed(&svid.chain),
            key: PrivateKeyDer::Pkcs8(svid.key.der()),
            origin: Origin::WorkloadApi,
        }
    }
}

impl Material {
    /// Proves the files of one generation.
    ///
    /// # Errors
    /// If anything of the proof fails; see [`MaterialError`].
    pub fn prove(files: &IdentityFiles, demands: &Demands<'_>) -> Result<Self, MaterialError> {
        Self::prove_candidate(&Candidate::read(files)?, demands)
    }

    /// Proves a chain and a key, wherever they come from.
    ///
    /// # Errors
    /// If anything of the proof fails; see [`MaterialError`].
    pub fn prove_candidate(candidate: &Candidate<'_>, demands: &Demands<'_>) -> Result<Self, MaterialError> {
        // 1. The chain, in order, and its leaf an SVID.
        let ordered = chain::order(&candidate.certificates)
            .map_err(|(position, source)| MaterialError::Malformed { position, source })?;
        let chain: Arc<[CertificateDer<'static>]> = ordered.chain.into();
        let first = chain.first().ok_or(MaterialError::Certificate(PemError::NoCertificate))?;
        let leaf = Certificate::parse(first).map_err(|source| MaterialError::Malformed { position: 1, source })?;
        let id = svid::spiffe_id(&leaf).map_err(|source| MaterialError::Svid { certificate: leaf.name(), source })?;

        // 2. The key, and that it fits. Before the rest: a mismatch is the sign of a half-written generation.
        let certified_key = certified_key(candidate, &chain, &leaf)?;

        // 3. The right workload.
        if let Some(expected) = demands.expected.filter(|expected| **expected != id) {
            return Err(MaterialError::WrongIdentity { presented: id, expected: expected.clone() });
        }

        // 4. What a peer with our trust would say, time included.
        if demands.trust.bundle(id.trust_domain()).is_none() {
            return Err(MaterialError::NoBundle { trust_domain: id.trust_domain().clone() });
        }
        for role in [Role::Client, Role::Server] {
            verify_peer(demands.trust, role, &chain, demands.now).map_err(MaterialError::Chain)?;
        }

        Ok(Self {
            certified_key: Arc::new(certified_key),
            subject: leaf.subject(),
            serial: leaf.serial(),
            issuer: leaf.issuer(),
            not_before: leaf.not_before(),
            not_after: leaf.not_after(),
            fingerprint: leaf.fingerprint(),
            repair: ordered.repair,
            id,
            chain,
        })
    }

    /// Proves again that the chain leads to a valid anchor, after trust or time have moved on.
    ///
    /// # Errors
    /// If a peer with this trust would refuse it.
    pub fn prove_again(&self, trust: &Trust, now: UnixTime) -> Result<(), PeerError> {
        verify_peer(trust, Role::Client, &self.chain, now).map(|_| ())
    }

    /// The chain and the key, as rustls wants them.
    pub fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.certified_key
    }

    /// The chain, leaf first.
    pub fn chain(&self) -> &Arc<[CertificateDer<'static>]> {
        &self.chain
    }

    /// Who we are.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The distinguished name of the leaf's subject; may be the text `(empty name)`.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The leaf's serial number in lower-case hex.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// The distinguished name of the leaf's issuer.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The first instant at which the leaf is valid.
    pub fn not_before(&self) -> UnixTime {
        self.not_before
    }

    /// The last instant at which the leaf is valid.
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// SHA-256 of the leaf.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// What had to be repaired in the order of the file, in words, if anything.
    pub fn repair(&self) -> Option<&str> {
        self.repair.as_deref()
    }

    /// When three quarters of the leaf's life are over. Renewal is due at two thirds, so from here on it is late.
    pub fn overdue_from(&self) -> UnixTime {
        let (begin, end) = (self.not_before.as_secs(), self.not_after.as_secs());
        let life = end.saturating_sub(begin);
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(end.saturating_sub(life / 4)))
    }
}

// By hand, so that no key can slip in when a field is added.
impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material")
            .field("id", &self.id.to_string())
            .field("serial", &self.serial)
            .field("issuer", &self.issuer)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl Origin {
    fn key(self) -> &'static str {
        match self {
            Self::Files => "tls.key",
            Self::WorkloadApi => "the private key that the Workload API delivered",
        }
    }

    fn holder_of_key(self) -> &'static str {
        match self {
            Self::Files => "tls.key",
            Self::WorkloadApi => "the SVID that the Workload API delivered",
        }
    }

    fn reason_of_mismatch(self) -> &'static str {
        match self {
            Self::Files => "the two files are not of one generation",
            Self::WorkloadApi => "its agent has mixed up two SVIDs",
        }
    }
}

/// Proves that a PEM text holds one plain key that can be used, and that it is the leaf's.
pub(crate) fn check_key(
    text: &[u8],
    chain: &[CertificateDer<'static>],
    leaf: &Certificate<'_>,
) -> Result<(), MaterialError> {
    let key = pem::private_key(text).map_err(MaterialError::Key)?;
    let candidate = Candidate { certificates: Cow::Borrowed(chain), key, origin: Origin::Files };
    certified_key(&candidate, chain, leaf).map(drop)
}

fn certified_key(
    candidate: &Candidate<'_>,
    chain: &[CertificateDer<'static>],
    leaf: &Certificate<'_>,
) -> Result<CertifiedKey, MaterialError> {
    // aws-lc refuses a small RSA key too, but does not say why.
    if let Some(bits) = leaf.weak_rsa_bits() {
        return Err(MaterialError::WeakKey { certificate: leaf.name(), bits });
    }
    let origin = candidate.origin;
    let unusable = |source| MaterialError::UnusableKey { origin, source };
    let key = aws_lc_rs::sign::any_supported_type(&candidate.key).map_err(unusable)?;
    let certified_key = CertifiedKey::new(chain.to_vec(), key);
    match certified_key.keys_match() {
        Ok(()) => Ok(certified_key),
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err(MaterialError::KeyMismatch { origin, certificate: leaf.name() })
        }
        Err(error) => Err(unusable(error)),
    }
}

/// Why an identity was not published. The fault is on our side: of the issuer, the Secret, or the configuration.
#[derive(Debug, Error)]
pub enum MaterialError {
    /// `tls.crt` is no PEM file with certificates.
    #[error("tls.crt holds no usable certificates")]
    Certificate(#[source] PemError),
    /// `tls.key` is no PEM file with one plain key.
    #[error("tls.key holds no usable private key")]
    Key(#[source] PemError),
    /// A certificate cannot be parsed.
    #[error("certificate {position} of tls.crt cannot be parsed")]
    Malformed {
        /// Its place in the file, from 1.
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
    /// The RSA key is too small.
    #[error(
        "certificate {certificate} has an RSA key of {bits} bits; issue it with P-256, or RSA of 2048 bits or more"
    )]
    WeakKey {
        /// The leaf.
        certificate: CertificateName,
        /// The size of the modulus.
        bits: usize,
    },
    /// The key is of a kind that cannot sign handshakes.
    #[error("the private key of {} cannot be used", origin.holder_of_key())]
    UnusableKey {
        /// Where it comes from.
        origin: Origin,
        /// What is wrong with it.
        #[source]
        source: rustls::Error,
    },
    /// Key and certificate are of two generations, or of two workloads.
    #[error("{} is not the key of certificate {certificate}: {}", origin.key(), origin.reason_of_mismatch())]
    KeyMismatch {
        /// Where both come from.
        origin: Origin,
        /// The leaf.
        certificate: CertificateName,
    },
    /// The certificate is for somebody else.
    #[error(
        "the certificate is for `{presented}`, this workload is `{expected}`; a change of identity takes a restart"
    )]
    WrongIdentity {
        /// Whose it is.
        presented: SpiffeId,
        /// Who we are.
        expected: SpiffeId,
    },
    /// There is nothing to prove the chain against.
    #[error(
        "the trust bundle of our own trust domain `{trust_domain}` is not loaded, so the certificate cannot be proven; is it configured under `trust`?"
    )]
    NoBundle {
        /// Our trust domain.
        trust_domain: TrustDomain,
    },
    /// A peer with our trust would refuse the chain.
    #[error(
        "the certificate would be refused by any peer that shares our trust; it is kept aside and tried again when it or the bundle changes"
    )]
    Chain(#[source] PeerError),
}

impl MaterialError {
    /// A fixed word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Certificate(source) | Self::Key(source) => source.label(),
            Self::Malformed { .. } => "malformed_certificate",
            Self::Svid { source, .. } => source.label(),
            Self::WeakKey { .. } => "weak_key",
            Self::UnusableKey { .. } => "unusable_key",
            Self::KeyMismatch { .. } => "key_mismatch",
            Self::WrongIdentity { .. } => "wrong_identity",
            Self::NoBundle { .. } => "no_bundle",
            Self::Chain(source) => source.label(),
        }
    }
}

#[cfg(test)]
mod tests;
