//! The issuers above a constrained one, up to an anchor: the part of a path that webpki is not shown.
//!
//! An issuer with name constraints on URIs is handed to webpki as an anchor without them (see `path.rs`), so all that
//! webpki would ask about it and about those above it is asked here: encoding and critical extensions (by webpki's own
//! parser), signature (by webpki's own algorithms), validity, cA, path length, key usage and extended key usage. Name
//! constraints and revocation are judged by the caller, for the whole path at once.

use std::cell::Cell;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::bundle::{Anchor, Bundle};
use crate::certificate::Certificate;
use crate::path_error::PathError;
use crate::role::Role;
use crate::signed::Signed;

/// What issuers are looked for among, and what they are judged by.
pub(crate) struct Issuers<'s, 'c> {
    pub(crate) bundle: &'s Bundle,
    pub(crate) algorithms: &'s WebPkiSupportedAlgorithms,
    pub(crate) role: Role,
    pub(crate) now: UnixTime,
    /// The chain as it was sent, and the same parsed; the leaf is 0.
    pub(crate) chain: &'c [CertificateDer<'c>],
    pub(crate) certificates: &'s [Certificate<'c>],
    /// How many more signatures may be checked for this chain.
    pub(crate) signatures: Cell<usize>,
}

impl<'s> Issuers<'s, '_> {
    /// The certificates from the issuer at `from` upwards, and the anchor that they end at. `below` issuers stand between
    /// `from` and the leaf.
    pub(crate) fn climb(&self, from: usize, below: usize) -> Result<(Vec<usize>, &'s Anchor), PathError> {
        self.step(&[from], below)
    }

    fn step(&self, climbed: &[usize], below: usize) -> Result<(Vec<usize>, &'s Anchor), PathError> {
        let at = climbed.last().copied().unwrap_or_default();
        let Some(current) = self.certificates.get(at) else { return Err(PathError::NoPath) };
        self.check_issuer(at, below)?;
        let issuer = current.x509().issuer().as_raw();
        let mut failure = PathError::UnknownIssuer {
            certificate: current.name(),
            issuer: current.issuer(),
            trust_domain: self.bundle.trust_domain().to_string(),
        };

        for anchor in self.bundle.anchors().iter().filter(|anchor| anchor.subject() == issuer) {
            if !self.signed_by(at, anchor.public_key())? {
                failure = failure.or(PathError::BadSignature { certificate: current.name() });
                continue;
            }
            match self.check_anchor(anchor, below + 1) {
                Ok(()) => return Ok((climbed.to_vec(), anchor)),
                Err(error) => failure = failure.or(error),
            }
        }
        for (index, candidate) in self.certificates.iter().enumerate().skip(1) {
            // Two certificates of one issuer, such as one and its renewal, never vouch for each other in one path.
            let is_new = !climbed.iter().any(|known| {
                self.certificates.get(*known).is_some_and(|known| {
                    known.x509().subject().as_raw() == candidate.x509().subject().as_raw()
                        && known.public_key() == candidate.public_key()
                })
            });
            if candidate.x509().subject().as_raw() != issuer || !is_new {
                continue;
            }
            if !self.signed_by(at, candidate.public_key())? {
                failure = failure.or(PathError::BadSignature { certificate: current.name() });
                continue;
            }
            let next: Vec<_> = climbed.iter().copied().chain([index]).collect();
            match self.step(&next, below + 1) {
                Ok(found) => return Ok(found),
                Err(error) => failure = failure.or(error),
            }
        }
        Err(failure)
    }

    fn signed_by(&self, at: usize, public_key: &[u8]) -> Result<bool, PathError> {
        let left = self.signatures.get().checked_sub(1).ok_or(PathError::TooComplex)?;
        self.signatures.set(left);
        let signed = self.chain.get(at).and_then(|der| Signed::parse(der));
        Ok(signed.is_some_and(|signed| signed.is_by(public_key, self.algorithms.all)))
    }

    /// What webpki asks about an issuer, but for its signature and the names below it.
    fn check_issuer(&self, at: usize, below: usize) -> Result<(), PathError> {
        let (Some(der), Some(certificate)) = (self.chain.get(at), self.certificates.get(at)) else {
            return Err(PathError::NoPath);
        };
        let name = || certificate.name();
        // Version, encoding, repeated and unknown critical extensions, and that both algorithm fields agree.
        webpki::EndEntityCert::try_from(der)
            .map_err(|source| PathError::Invalid { certificate: name(), source: Box::new(source) })?;
        let (not_before, not_after, now) = (certificate.not_before(), certificate.not_after(), self.now);
        if now > not_after {
            return Err(PathError::Expired { certificate: name(), not_after, now });
        }
        if now < not_before {
            return Err(PathError::NotYetValid { certificate: name(), not_before, now });
        }
        if let Some(fault) = certificate.issuer_fault() {
            return Err(PathError::BadIssuer { certificate: name(), fault });
        }
        if let Some(allowed) = certificate.path_length().filter(|allowed| below > *allowed as usize) {
            return Err(PathError::PathLength { certificate: name(), allowed, found: below });
        }
        if !certificate.serves(self.role) {
            return Err(PathError::Purpose { certificate: name(), usage: self.role.usage() });
        }
        Ok(())
    }

    /// What webpki never asks about an anchor. `below` issuers stand between it and the leaf.
    pub(crate) fn check_anchor(&self, anchor: &Anchor, below: usize) -> Result<(), PathError> {
        if let Some(reason) = anchor.idle_because(self.now) {
            return Err(PathError::IdleAnchor { anchor: anchor.name.clone(), reason });
        }
        if let Some(allowed) = anchor.path_length().filter(|allowed| below > *allowed as usize) {
            return Err(PathError::PathLength { certificate: anchor.name.clone(), allowed, found: below });
        }
        if !anchor.serves(self.role) {
            return Err(PathError::Purpose { certificate: anchor.name.clone(), usage: self.role.usage() });
        }
        Ok(())
    }
}

/// webpki's own bound is 100 for a whole path; the part above a constrained issuer has seven candidates at most.
pub(crate) const MAX_SIGNATURES: usize = 64;
