//! Who a peer is: from the chain that it sent to a proven identity, or to the reason why not.
//!
//! webpki builds the path and checks signatures, validity, basic constraints, path lengths and extended key usage.
//! What it never looks at is checked here: key usage, RSA sizes, the validity of anchors. A chain is judged against
//! the bundle of its own trust domain alone. The same function judges a handshake and, later, an open connection.

use std::cell::RefCell;
use std::sync::Arc;

use rustls_pki_types::{CertificateDer, UnixTime};
use spiffe::SpiffeId;
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use crate::certificate::{Certificate, Fingerprint};
use crate::peer_error::PeerError;
use crate::svid;
use crate::trust::{Bundle, Trust};

/// On which side of the connection the peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It called us: `client auth` is needed.
    Client,
    /// We called it: `server auth` is needed.
    Server,
}

/// A peer whose identity has been proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its SPIFFE ID.
    pub id: SpiffeId,
    /// The distinguished name of the leaf's subject; may be the text `(empty name)`.
    pub subject: String,
    /// The leaf's serial number in lower-case hex.
    pub serial: String,
    /// The distinguished name of the leaf's issuer.
    pub issuer: String,
    /// The first instant at which the leaf is valid.
    pub not_before: UnixTime,
    /// The soonest end in the path that proved it: of the leaf, an intermediate or the anchor.
    pub not_after: UnixTime,
    /// SHA-256 of the leaf.
    pub fingerprint: Fingerprint,
    /// SHA-256 of the anchor that the path ended at.
    pub anchor: Fingerprint,
    /// The chain as it was sent, leaf first, so that it can be judged again.
    pub chain: Arc<[CertificateDer<'static>]>,
}

/// Proves who sent `chain` (leaf first), or says why that cannot be known.
///
/// To judge an open connection again, pass its [`Peer::chain`] with the trust and the time of now.
///
/// # Errors
/// If the chain is out of bounds or malformed, breaks a rule of X509-SVID, comes from a trust domain without a bundle,
/// or does not lead to a valid anchor of that bundle.
pub fn verify_peer(
    trust: &Trust,
    role: Role,
    chain: Arc<[CertificateDer<'static>]>,
    now: UnixTime,
) -> Result<Peer, PeerError> {
    // 1. Is it of a size that can be worked on in bounded time?
    let (first, intermediates) = bounded(&chain)?;

    // 2. Is the leaf an SVID?
    let leaf = Certificate::parse(first).map_err(|source| PeerError::Malformed { position: 1, source })?;
    let id = svid::spiffe_id(&leaf).map_err(|source| PeerError::Svid { certificate: leaf.name(), source })?;
    if let Some(bits) = leaf.weak_rsa_bits() {
        return Err(PeerError::WeakKey { certificate: leaf.name(), bits });
    }

    // 3. Do we know its trust domain?
    let Some(bundle) = trust.bundle(id.trust_domain()) else {
        return Err(PeerError::ForeignTrustDomain { certificate: leaf.name(), id });
    };

    // 4. Does the chain lead to one of the anchors of that domain, and to no other's?
    let path = find_path(trust, bundle, role, first, intermediates, now).map_err(|failure| match failure {
        PathFailure::Judged(error) => error,
        PathFailure::NotFound(error) => PeerError::from_webpki(error, &id, &chain, now),
    })?;

    let not_after = path.not_after.min(leaf.not_after());
    Ok(Peer {
        subject: leaf.subject(),
        serial: leaf.serial(),
        issuer: leaf.issuer(),
        not_before: leaf.not_before(),
        fingerprint: leaf.fingerprint(),
        id,
        not_after,
        anchor: path.anchor,
        chain,
    })
}

fn bounded<'c>(
    chain: &'c [CertificateDer<'static>],
) -> Result<(&'c CertificateDer<'static>, &'c [CertificateDer<'static>]), PeerError> {
    let Some((first, intermediates)) = chain.split_first() else { return Err(PeerError::NoCertificate) };
    if chain.len() > MAX_CERTIFICATES {
        return Err(PeerError::TooManyCertificates { count: chain.len(), limit: MAX_CERTIFICATES });
    }
    let bytes = chain.iter().map(|certificate| certificate.len()).sum();
    if bytes > MAX_CHAIN_BYTES {
        return Err(PeerError::ChainTooLarge { bytes });
    }
    refuse_mesh(intermediates)?;
    Ok((first, intermediates))
}

/// webpki tries every order of intermediates that share a name before it checks a signature, so a stranger could buy
/// a quarter of a million parsed certificates for one small message.
fn refuse_mesh(intermediates: &[CertificateDer<'static>]) -> Result<(), PeerError> {
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

/// What a path that holds says beyond its leaf.
struct Path {
    not_after: UnixTime,
    anchor: Fingerprint,
}

enum PathFailure {
    /// webpki found no path.
    NotFound(webpki::Error),
    /// webpki found a path, and we do not accept it.
    Judged(PeerError),
}

fn find_path(
    trust: &Trust,
    bundle: &Bundle,
    role: Role,
    leaf: &CertificateDer<'static>,
    intermediates: &[CertificateDer<'static>],
    now: UnixTime,
) -> Result<Path, PathFailure> {
    let usage = match role {
        Role::Client => KeyUsage::client_auth(),
        Role::Server => KeyUsage::server_auth(),
    };
    let end_entity = EndEntityCert::try_from(leaf).map_err(PathFailure::NotFound)?;
    // webpki goes on to the next path when we refuse one, and reports only an error of its own kind.
    let judged = RefCell::new(None);
    let judge = |path: &VerifiedPath<'_>| {
        let judgement = judge_path(bundle, path, now);
        let accepted = judgement.is_ok();
        judged.replace(Some(judgement));
        if accepted { Ok(()) } else { Err(webpki::Error::UnknownIssuer) }
    };
    let found = end_entity
        .verify_for_usage(trust.algorithms().all, bundle.for_webpki(), intermediates, now, usage, None, Some(&judge))
        .map(|_| ());
    match (found, judged.take()) {
        (Ok(()), Some(Ok(path))) => Ok(path),
        (_, Some(Err(error))) => Err(PathFailure::Judged(error)),
        (Err(error), _) => Err(PathFailure::NotFound(error)),
        // webpki asks about every path before it accepts one. Should it ever not, that is no reason to believe it.
        (Ok(()), None) => Err(PathFailure::NotFound(webpki::Error::UnknownIssuer)),
    }
}

/// The checks that webpki leaves out, on a path that holds in its eyes.
fn judge_path(bundle: &Bundle, path: &VerifiedPath<'_>, now: UnixTime) -> Result<Path, PeerError> {
    let position = bundle.for_webpki().iter().position(|candidate| std::ptr::eq(candidate, path.anchor()));
    let anchor = position.and_then(|position| bundle.anchors().get(position)).ok_or(PeerError::NoPath)?;
    if let Some(reason) = anchor.idle_because(now) {
        return Err(PeerError::IdleAnchor { anchor: anchor.name.clone(), reason });
    }
    let mut not_after = anchor.not_after;
    for (index, intermediate) in path.intermediate_certificates().enumerate() {
        let der = intermediate.der();
        let certificate =
            Certificate::parse(&der).map_err(|source| PeerError::Malformed { position: index + 2, source })?;
        if let Some(fault) = certificate.issuer_fault() {
            return Err(PeerError::BadIssuer { certificate: certificate.name(), fault });
        }
        if let Some(bits) = certificate.weak_rsa_bits() {
            return Err(PeerError::WeakKey { certificate: certificate.name(), bits });
        }
        not_after = not_after.min(certificate.not_after());
    }
    Ok(Path { not_after, anchor: anchor.fingerprint })
}

/// A leaf, its intermediates, an expired one or a cross-signed one beside its renewal: real chains have up to five.
const MAX_CERTIFICATES: usize = 8;

/// An intermediate, its renewal, and a cross-signed one. At most 36 orders are left then, not thousands.
const MAX_SAME_NAME: usize = 3;

/// What rustls accepts as one handshake message.
const MAX_CHAIN_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests;
