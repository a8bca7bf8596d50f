//! Signatures over certificates and CRLs, for the places where webpki does not check them for us.
//!
//! The algorithms are webpki's own list, and the check itself is webpki's: a pair of key and algorithm that it refuses in
//! a handshake is refused here.

use rustls_pki_types::{SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer};
use webpki::RawPublicKeyEntity;

use crate::der::{self, BIT_STRING, SEQUENCE};

/// What a certificate and a CRL have in common: bytes, an algorithm, and a signature over the bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signed<'a> {
    message: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    /// Takes a `SEQUENCE { what is signed, algorithm, signature }` apart.
    pub(crate) fn parse(der: &'a [u8]) -> Option<Self> {
        let outer = der::only(der, SEQUENCE)?;
        let parts = der::elements(outer.content)?;
        let [message, algorithm, signature] = parts.as_slice() else { return None };
        if algorithm.tag != SEQUENCE || signature.tag != BIT_STRING {
            return None;
        }
        // The first octet counts unused bits; no signature has any.
        let [0, signature @ ..] = signature.content else { return None };
        Some(Self { message: message.whole, algorithm: algorithm.content, signature })
    }

    /// Whether the owner of this public key (a whole SubjectPublicKeyInfo) has signed it.
    pub(crate) fn is_by(&self, public_key: &[u8], algorithms: &[&dyn SignatureVerificationAlgorithm]) -> bool {
        let public_key = SubjectPublicKeyInfoDer::from(public_key);
        let Ok(key) = RawPublicKeyEntity::try_from(&public_key) else { return false };
        algorithms
            .iter()
            .filter(|algorithm| algorithm.signature_alg_id().as_ref() == self.algorithm)
            .any(|algorithm| key.verify_signature(*algorithm, self.message, self.signature).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::Certificate;
    use crate::pki::prod;
    use crate::trust::algorithms;

    #[test]
    fn a_signature_counts_under_its_own_key_and_over_its_own_bytes() {
        let pki = prod();
        let leaf = pki.leaf.chain[0].to_vec();
        let key_of = |der: &[u8]| Certificate::parse(der).unwrap().public_key().to_vec();
        let by = |der: &[u8], key: &[u8]| Signed::parse(der).is_some_and(|signed| signed.is_by(key, algorithms().all));
        assert!(by(&leaf, &key_of(&pki.intermediate.der)));
        assert!(!by(&leaf, &key_of(&pki.root.der)));
        assert!(!by(&leaf, b"no key"));
        for position in (0..leaf.len()).step_by(7) {
            let mut forged = leaf.clone();
            forged[position] ^= 1;
            assert!(!by(&forged, &key_of(&pki.intermediate.der)), "byte {position}");
        }
    }
}
