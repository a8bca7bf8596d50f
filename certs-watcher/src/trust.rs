//! Whom we believe: for each trust domain the anchors of its own bundle, never a pool of several.
//!
//! webpki takes an anchor's name and key and asks no further, so its validity, cA and key usage are judged here: the
//! last two when a bundle is loaded, validity whenever an anchor is used. An anchor may be an intermediate; then only
//! what that intermediate signed is believed, which is what keeps `dev` from speaking for `prod` under one root.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use spiffe::TrustDomain;
use thiserror::Error;

use crate::certificate::{Certificate, CertificateName, Fingerprint, IssuerFault, MalformedCertificate};
use crate::clock::Timestamp;
use crate::pem::{self, PemError};
use crate::spiffe_bundle::{SpiffeBundle, SpiffeBundleError};
use crate::volume::BundleFiles;

/// The bundles of every trust domain that is known. Without bundles it trusts nobody.
pub struct Trust {
    bundles: BTreeMap<TrustDomain, Arc<Bundle>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Trust {
    /// Trust in these bundles; of two for one trust domain the last counts.
    pub fn new(bundles: impl IntoIterator<Item = Arc<Bundle>>) -> Self {
        Self {
            bundles: bundles.into_iter().map(|bundle| (bundle.trust_domain.clone(), bundle)).collect(),
            algorithms: aws_lc_rs::default_provider().signature_verification_algorithms,
        }
    }

    /// The bundle of one trust domain.
    pub fn bundle(&self, trust_domain: &TrustDomain) -> Option<&Arc<Bundle>> {
        self.bundles.get(trust_domain)
    }

    /// Every bundle, by the name of its trust domain.
    pub fn bundles(&self) -> impl Iterator<Item = &Arc<Bundle>> {
        self.bundles.values()
    }

    /// The signature algorithms that are accepted in certificates and handshakes.
    pub(crate) fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.algorithms
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("bundles", &self.bundles).finish_non_exhaustive()
    }
}

/// The anchors of one trust domain.
#[derive(Debug)]
pub struct Bundle {
    trust_domain: TrustDomain,
    sequence: Option<u64>,
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
        let mut bundle = Self {
            trust_domain: trust_domain.clone(),
            sequence: None,
            anchors: Vec::new(),
            refused: Vec::new(),
            for_webpki: Vec::new(),
        };
        let mut meant_empty = false;
        for (path, text) in &files.files {
            let file = path.display().to_string();
            let certificates = if is_json(text) {
                let document =
                    SpiffeBundle::parse(text).map_err(|source| TrustError::Json { file: file.clone(), source })?;
                meant_empty |= document.anchors.is_empty();
                bundle.sequence = bundle.sequence.max(document.sequence);
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

    /// The trust domain for whose members this bundle speaks.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// `spiffe_sequence` of a SPIFFE bundle.
    pub fn sequence(&self) -> Option<u64> {
        self.sequence
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
        let fault = match (certificate.issuer_fault(), certificate.weak_rsa_bits()) {
            (Some(fault), _) => Some(AnchorFault::Issuer(fault)),
            (None, Some(bits)) => Some(AnchorFault::WeakKey { bits }),
            (None, None) => None,
        };
        if let Some(fault) = fault {
            self.refused.push(RefusedAnchor { name, fault });
            return Ok(());
        }
        let anchor = Anchor {
            name,
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
            fingerprint: certificate.fingerprint(),
        };
        if self.anchors.iter().any(|known| known.fingerprint == anchor.fingerprint) {
            return Ok(());
        }
        let for_webpki = webpki::anchor_from_trusted_cert(der).map_err(|_| MalformedCertificate::NotX509)?.to_owned();
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
}

impl Anchor {
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

/// Why a certificate cannot be an anchor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
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
mod tests;
