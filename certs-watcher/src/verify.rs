//! Who a peer is: from the chain that it sent to a proven identity, or to the reason why not.
//!
//! A chain is judged against the bundle of its own trust domain alone. The same function judges a handshake and, later,
//! an open connection. A chain that was proven under the same trust is not proven again as long as its path is valid;
//! that costs a hash instead of signatures. The deny list is asked each time.

use std::sync::Arc;

use rustls_pki_types::{CertificateDer, UnixTime};

use crate::cache::Key;
use crate::certificate::Certificate;
use crate::deny_list::Denied;
use crate::path::verify_path;
use crate::peer::{Peer, Proof};
use crate::peer_error::PeerError;
use crate::role::Role;
use crate::svid;
use crate::trust::Trust;

/// Proves who sent `chain` (leaf first), or says why that cannot be known.
///
/// To judge an open connection again, see [`prove_again`].
///
/// # Errors
/// If the chain is out of bounds or malformed, breaks a rule of X509-SVID, comes from a trust domain without a bundle,
/// does not lead to a valid anchor of that bundle, is revoked, or is denied.
pub fn verify_peer(
    trust: &Trust,
    role: Role,
    chain: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<Arc<Peer>, PeerError> {
    check_size(chain)?;
    let key = Key::of(role, chain);
    let peer = match trust.cache().find(&key, trust, now) {
        Some(peer) => peer,
        None => {
            let peer = Arc::new(prove(trust, role, chain, now)?);
            trust.cache().remember(key, Arc::clone(&peer));
            peer
        }
    };
    refuse_denied(trust, &peer, &peer.proof)?;
    Ok(peer)
}

/// Proves a peer of an open connection again, under the trust and at the time of now. `proof` is the last that there was; if
/// what it rests on is still in force, only the deny list is asked, which costs neither a signature nor a hash.
///
/// # Errors
/// As [`verify_peer`], of which this is the short way.
pub fn prove_again(
    trust: &Trust,
    role: Role,
    peer: &Peer,
    proof: &Arc<Proof>,
    now: UnixTime,
) -> Result<Arc<Proof>, PeerError> {
    if proof.holds(trust, &peer.id, now) {
        refuse_denied(trust, peer, proof)?;
        return Ok(Arc::clone(proof));
    }
    verify_peer(trust, role, &peer.chain, now).map(|peer| Arc::clone(&peer.proof))
}

fn prove(trust: &Trust, role: Role, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<Peer, PeerError> {
    // 1. Can its issuers be put in order in bounded time?
    let (first, intermediates) = chain.split_first().ok_or(PeerError::NoCertificate)?;
    refuse_mesh(intermediates)?;

    // 2. Is the leaf an SVID?
    let leaf = Certificate::parse(first).map_err(|source| PeerError::Malformed { position: 1, source })?;
    let id = svid::spiffe_id(&leaf).map_err(|source| PeerError::Svid { certificate: leaf.name(), source })?;
    if let Some(bits) = leaf.weak_rsa_bits() {
        return Err(PeerError::WeakKey { certificate: leaf.name(), bits });
    }

    // 3. Do we know its trust domain?
    let known = trust.bundle(id.trust_domain()).zip(trust.basis(id.trust_domain()));
    let Some((bundle, basis)) = known else {
        return Err(PeerError::ForeignTrustDomain { certificate: leaf.name(), id });
    };

    // 4. Does the chain lead to one of the anchors of that domain, and to no other's?
    let path = verify_path(trust, bundle, role, chain, now)
        .map_err(|source| PeerError::Path { id: id.clone(), source: Box::new(source) })?;

    let basis = basis.clone();
    let proof = Proof { basis, from: path.not_before, until: path.not_after, path: path.keys.into() };
    Ok(Peer {
        subject: leaf.subject(),
        serial: leaf.serial(),
        issuer: leaf.issuer(),
        not_before: leaf.not_before(),
        not_after: path.not_after,
        fingerprint: leaf.fingerprint(),
        id,
        anchor: path.anchor,
        chain: chain.iter().map(|certificate| certificate.clone().into_owned()).collect(),
        proof: Arc::new(proof),
    })
}

fn refuse_denied(trust: &Trust, peer: &Peer, proof: &Proof) -> Result<(), PeerError> {
    let Some(denied) = trust.deny_list().reason(&peer.id, &proof.path) else { return Ok(()) };
    let (what, reason) = match denied {
        Denied::Identity { reason } => ("the identity".to_owned(), reason),
        Denied::Certificate { position: 0, reason } => (format!("the certificate with serial {}", peer.serial), reason),
        Denied::Certificate { position, reason } => (format!("issuer {position} above the certificate"), reason),
    };
    Err(PeerError::Denied { id: peer.id.clone(), what, reason: reason.to_owned() })
}

fn check_size(chain: &[CertificateDer<'_>]) -> Result<(), PeerError> {
    if chain.is_empty() {
        return Err(PeerError::NoCertificate);
    }
    if chain.len() > MAX_CERTIFICATES {
        return Err(PeerError::TooManyCertificates { count: chain.len(), limit: MAX_CERTIFICATES });
    }
    let bytes = chain.iter().map(|certificate| certificate.len()).sum();
    if bytes > MAX_CHAIN_BYTES {
        return Err(PeerError::ChainTooLarge { bytes });
    }
    Ok(())
}

/// webpki tries every order of intermediates that share a name before it checks a signature, so a stranger could buy
/// a quarter of a million parsed certificates for one small message.
fn refuse_mesh(intermediates: &[CertificateDer<'_>]) -> Result<(), PeerError> {
    if intermediates.len() <= MAX_SAME_NAME {
        return Ok(());
    }
    let mut subjects: Vec<Vec<u8>> = Vec::with_capacity(intermediates.len());
    for (index, der) in intermediates.iter().enumerate() {
        let certificate =
            Certificate::parse(der).map_err(|source| PeerError::Malformed { position: index + 2, source })?;
        let subject = certificate.x509().subject().as_raw().to_vec();
        if subjects.iter().filter(|known| **known == subject).count() == MAX_SAME_NAME {
            return Err(PeerError::TooComplex);
        }
        subjects.push(subject);
    }
    Ok(())
}

/// A leaf, its intermediates, an expired one or a cross-signed one beside its renewal: real chains have up to five.
const MAX_CERTIFICATES: usize = 8;

/// An intermediate, its renewal, and a cross-signed one. At most 36 orders are left then, not thousands.
const MAX_SAME_NAME: usize = 3;

/// What rustls accepts as one handshake message.
const MAX_CHAIN_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests;
