//! The trust anchors of one trust domain.
//!
//! webpki takes an anchor's name and key and asks no further, so its validity, cA and key usage are judged here: the
//! last two when a bundle is loaded, validity whenever an anchor is used. An anchor may be an intermediate; then only
//! what that intermediate signed is believed, which is what keeps `dev` from speaking for `prod` under one root.

use std::time::Duration;

use rustls_pki_types::{CertificateDer, Der, TrustAnchor, UnixTime};
use spiffe::TrustDomain;
use thiserror::Error;

use crate::certificate::{Certificate, CertificateName, Fingerprint, IssuerFault, MalformedCertificate};
use crate::clock::Timestamp;
use crate::deny_list::CertificateKey;
use crate::name_constraints::{NameConstraints, UnreadableConstraints};
use crate::pem::{self, PemError};
use crate::role::Role;
use crate::spiffe_bundle::{SpiffeBundle, SpiffeBundleError};
use crate::volume::BundleFiles;

/// The anchors of one trust domain.
#[derive(Debug)]
pub struct Bundle {
    trust_domain: TrustDomain,
    sequence: Option<u64>,
    refresh_hint: Option<Duration>,
    anchors: Vec<Anchor>,
    refused: Vec<RefusedAnchor>,
    /// What webpki is given; the same order and length as `anchors`.
    for_webpki: Vec<TrustAnchor<'static>>,
}

impl Bundle {
    /// Builds the bundle from its files: each PEM, or one SPIFFE bundle in JSON.
    ///
    /// A certificate that may not sign others is left out and listed in [`Bundle::refused`]; one that cannot be parsed
    /// makes the whole bundle broken.
    ///
    /// # Errors
    /// If a file is broken, or holds no certificate that can be an anchor.
    pub fn load(trust_domain: &TrustDomain, files: &BundleFiles) -> Result<Self, TrustError> {
        let mut bundle = Self::empty(trust_domain);
        let mut meant_empty = false;
        for (path, text) in &files.files {
            let file = path.display().to_string();
            let certificates = if is_json(text) {
                let document =
                    SpiffeBundle::parse(text).map_err(|source| TrustError::Json { file: file.clone(), source })?;
                meant_empty |= document.anchors.is_empty();
                bundle.sequence = bundle.sequence.max(document.sequence);
                bundle.refresh_hint = [bundle.refresh_hint, document.refresh_hint].into_iter().flatten().min();
                document.anchors
            } else {
                pem::certificates(text).map_err(|source| TrustError::Pem { file: file.clone(), source })?
            };
            for (index, certificate) in certificates.iter().enumerate() {
                bundle.add(certificate).map_err(|source| TrustError::Certificate {
                    file: file.clone(),
                    position: index + 1,
                    source,
                })?;
            }
        }
        if bundle.anchors.is_empty() && !(meant_empty && bundle.refused.is_empty()) {
            return Err(TrustError::NoAnchor { refused: bundle.refused });
        }
        Ok(bundle)
    }

    /// Builds the bundle from certificates that came without a file, as the Workload API sends them. Without any it
    /// trusts nobody, and that is meant.
    ///
    /// # Errors
    /// If one cannot be parsed, or none of several can be an anchor.
    pub fn from_certificates(
        trust_domain: &TrustDomain,
        certificates: &[CertificateDer<'static>],
    ) -> Result<Self, TrustError> {
        let mut bundle = Self::empty(trust_domain);
        for (index, certificate) in certificates.iter().enumerate() {
            bundle.add(certificate).map_err(|source| TrustError::Certificate {
                file: format!("the bundle of {trust_domain}"),
                position: index + 1,
                source,
            })?;
        }
        if bundle.anchors.is_empty() && !certificates.is_empty() {
            return Err(TrustError::NoAnchor { refused: bundle.refused });
        }
        Ok(bundle)
    }

    fn empty(trust_domain: &TrustDomain) -> Self {
        Self {
            trust_domain: trust_domain.clone(),
            sequence: None,
            refresh_hint: None,
            anchors: Vec::new(),
            refused: Vec::new(),
            for_webpki: Vec::new(),
        }
    }

    /// The trust domain for whose members this bundle speaks.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// `spiffe_sequence` of a SPIFFE bundle.
    pub fn sequence(&self) -> Option<u64> {
        self.sequence
    }

    /// `spiffe_refresh_hint` of a SPIFFE bundle: how often whoever writes the file should look for a newer one.
    pub fn refresh_hint(&self) -> Option<Duration> {
        self.refresh_hint
    }

    /// The anchors; each is used only while it is valid.
    pub fn anchors(&self) -> &[Anchor] {
        &self.anchors
    }

    /// The certificates of the bundle that cannot be anchors, and why.
    pub fn refused(&self) -> &[RefusedAnchor] {
        &self.refused
    }

    pub(crate) fn for_webpki(&self) -> &[TrustAnchor<'static>] {
        &self.for_webpki
    }

    fn add(&mut self, der: &CertificateDer<'static>) -> Result<(), MalformedCertificate> {
        let certificate = Certificate::parse(der)?;
        let name = certificate.name();
        let constraints = match anchor_constraints(&certificate) {
            Ok(constraints) => constraints,
            Err(fault) => {
                self.refused.push(RefusedAnchor { name, fault });
                return Ok(());
            }
        };
        let anchor = Anchor {
            name,
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
            fingerprint: certificate.fingerprint(),
            key: certificate.key(),
            subject: certificate.x509().subject().as_raw().to_vec(),
            public_key: certificate.public_key().to_vec(),
            path_length: certificate.path_length(),
            serves_clients: certificate.serves(Role::Client),
            serves_servers: certificate.serves(Role::Server),
            signs_lists: certificate.signs_lists(),
            constraints,
        };
        if self.anchors.iter().any(|known| known.fingerprint == anchor.fingerprint) {
            return Ok(());
        }
        let mut for_webpki =
            webpki::anchor_from_trusted_cert(der).map_err(|_| MalformedCertificate::NotX509)?.to_owned();
        // Without the URI subtrees: `path.rs` judges those.
        let others = anchor.constraints.as_ref().and_then(NameConstraints::others);
        for_webpki.name_constraints = others.map(|content| Der::from(content.to_vec()));
        self.anchors.push(anchor);
        self.for_webpki.push(for_webpki);
        Ok(())
    }
}

/// A certificate that is believed without another one vouching for it.
#[derive(Debug)]
pub struct Anchor {
    /// Subject and serial number.
    pub name: CertificateName,
    /// The first instant at which it is used.
    pub not_before: UnixTime,
    /// The last instant at which it is used.
    pub not_after: UnixTime,
    /// SHA-256 of the certificate.
    pub fingerprint: Fingerprint,
    key: CertificateKey,
    subject: Vec<u8>,
    public_key: Vec<u8>,
    path_length: Option<u32>,
    serves_clients: bool,
    serves_servers: bool,
    signs_lists: bool,
    constraints: Option<NameConstraints>,
}

impl Anchor {
    pub(crate) fn key(&self) -> &CertificateKey {
        &self.key
    }

    /// The whole subject Name.
    pub(crate) fn subject(&self) -> &[u8] {
        &self.subject
    }

    /// The whole SubjectPublicKeyInfo.
    pub(crate) fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    pub(crate) fn path_length(&self) -> Option<u32> {
        self.path_length
    }

    pub(crate) fn serves(&self, role: Role) -> bool {
        match role {
            Role::Client => self.serves_clients,
            Role::Server => self.serves_servers,
        }
    }

    pub(crate) fn signs_lists(&self) -> bool {
        self.signs_lists
    }

    /// Its name constraints, which bind everything below it.
    pub fn constraints(&self) -> Option<&NameConstraints> {
        self.constraints.as_ref()
    }

    /// Why this anchor is not used at `now`, if it is not.
    pub fn idle_because(&self, now: UnixTime) -> Option<String> {
        if now > self.not_after {
            return Some(format!("expired at {}", Timestamp(self.not_after)));
        }
        if now < self.not_before {
            return Some(format!("is not valid before {}", Timestamp(self.not_before)));
        }
        None
    }
}

/// A certificate of a bundle that cannot be an anchor.
#[derive(Debug)]
pub struct RefusedAnchor {
    /// Subject and serial number.
    pub name: CertificateName,
    /// Why it cannot.
    pub fault: AnchorFault,
}

/// The name constraints of a certificate that can be an anchor.
fn anchor_constraints(certificate: &Certificate<'_>) -> Result<Option<NameConstraints>, AnchorFault> {
    if let Some(fault) = certificate.issuer_fault() {
        return Err(AnchorFault::Issuer(fault));
    }
    if let Some(bits) = certificate.weak_rsa_bits() {
        return Err(AnchorFault::WeakKey { bits });
    }
    NameConstraints::of(certificate).map_err(AnchorFault::Constraints)
}

/// Why a certificate cannot be an anchor.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AnchorFault {
    /// It may not sign certificates.
    #[error(transparent)]
    Issuer(IssuerFault),
    /// Its RSA key is too small.
    #[error("its RSA key has {bits} bits, less than 2048")]
    WeakKey {
        /// The size of the modulus.
        bits: usize,
    },
    /// Its name constraints cannot be judged.
    #[error(transparent)]
    Constraints(UnreadableConstraints),
}

fn is_json(text: &[u8]) -> bool {
    text.trim_ascii_start().first() == Some(&b'{')
}

/// Why the files of a bundle are broken.
#[derive(Debug, Error)]
pub enum TrustError {
    /// The PEM text is empty or damaged, or holds no certificate.
    #[error("`{file}` is not a PEM bundle")]
    Pem {
        /// The file.
        file: String,
        /// What is wrong with it.
        #[source]
        source: PemError,
    },
    /// The JSON text is no SPIFFE bundle.
    #[error("`{file}` is not a SPIFFE bundle")]
    Json {
        /// The file.
        file: String,
        /// What is wrong with it.
        #[source]
        source: SpiffeBundleError,
    },
    /// A certificate cannot be parsed.
    #[error("certificate {position} of `{file}` cannot be parsed")]
    Certificate {
        /// The file.
        file: String,
        /// Its place in the file, from 1.
        position: usize,
        /// What is wrong with it.
        #[source]
        source: MalformedCertificate,
    },
    /// There are certificates, but none that may sign others.
    #[error("none of its {} certificates can be a trust anchor{}", refused.len(), first_fault(refused))]
    NoAnchor {
        /// Each with its reason.
        refused: Vec<RefusedAnchor>,
    },
}

impl TrustError {
    /// A fixed word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Pem { source, .. } => source.label(),
            Self::Json { source, .. } => source.label(),
            Self::Certificate { .. } => "malformed_certificate",
            Self::NoAnchor { .. } => "no_anchor",
        }
    }
}

fn first_fault(refused: &[RefusedAnchor]) -> String {
    refused.first().map(|first| format!(": {} cannot, because {}", first.name, first.fault)).unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests;
