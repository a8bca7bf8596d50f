//! The hooks by which rustls asks `peer.rs` about a peer.
//!
//! A verifier is made for one handshake and holds the trust of that moment. Its [`Verdict`] keeps what rustls would
//! throw away: the proven peer, or the error in full. Neither verifier looks at a DNS name, and neither hints at the
//! roots it knows: a hint tells a stranger which environments exist, and lets no SVID be chosen better.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::ServerName;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use spiffe::SpiffeId;

use crate::peer::Peer;
use crate::peer_error::PeerError;
use crate::role::Role;
use crate::trust::Trust;
use crate::verify::verify_peer;

/// What came of verifying the peer of one handshake.
#[derive(Debug)]
pub struct Verdict {
    slot: Slot,
}

impl Verdict {
    /// Takes the outcome. `None` means that no chain was verified: the handshake ended before, or the session was
    /// resumed. Whoever gets `None` after a handshake that succeeded has to refuse the connection.
    pub fn take(self) -> Option<Result<Arc<Peer>, PeerError>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

type Slot = Arc<Mutex<Option<Result<Arc<Peer>, PeerError>>>>;

/// Verifies the client of one inbound handshake; its certificate is mandatory.
#[derive(Debug)]
pub struct InboundVerifier {
    trust: Arc<Trust>,
    slot: Slot,
}

impl InboundVerifier {
    /// A verifier for one handshake, and where to find what it found.
    pub fn new(trust: Arc<Trust>) -> (Arc<Self>, Verdict) {
        let slot = Slot::default();
        (Arc::new(Self { trust, slot: slot.clone() }), Verdict { slot })
    }
}

impl ClientCertVerifier for InboundVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let outcome = verify_peer(&self.trust, Role::Client, &together(end_entity, intermediates), now);
        record(&self.slot, outcome).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, self.trust.algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, self.trust.algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms().supported_schemes()
    }
}

/// Verifies the server of one outbound handshake: it has to be one of the expected identities.
#[derive(Debug)]
pub struct OutboundVerifier {
    trust: Arc<Trust>,
    expected: Arc<[SpiffeId]>,
    slot: Slot,
}

impl OutboundVerifier {
    /// A verifier for one handshake, and where to find what it found. With nobody expected, nobody is accepted.
    pub fn new(trust: Arc<Trust>, expected: Arc<[SpiffeId]>) -> (Arc<Self>, Verdict) {
        let slot = Slot::default();
        (Arc::new(Self { trust, expected, slot: slot.clone() }), Verdict { slot })
    }
}

impl ServerCertVerifier for OutboundVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let outcome = verify_peer(&self.trust, Role::Server, &together(end_entity, intermediates), now)
            .and_then(|peer| expect_one_of(&self.expected, peer));
        record(&self.slot, outcome).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, self.trust.algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, self.trust.algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms().supported_schemes()
    }
}

/// Passes the peer on if it is one of the expected.
///
/// # Errors
/// [`PeerError::WrongIdentity`] if it is not.
pub fn expect_one_of(expected: &Arc<[SpiffeId]>, peer: Arc<Peer>) -> Result<Arc<Peer>, PeerError> {
    if expected.contains(&peer.id) {
        return Ok(peer);
    }
    Err(PeerError::WrongIdentity { presented: peer.id.clone(), expected: expected.clone() })
}

/// The chain as it came; each certificate is borrowed, or copied where rustls had its own copy.
fn together<'c>(end_entity: &CertificateDer<'c>, intermediates: &[CertificateDer<'c>]) -> Vec<CertificateDer<'c>> {
    std::iter::once(end_entity).chain(intermediates).cloned().collect()
}

fn record(slot: &Slot, outcome: Result<Arc<Peer>, PeerError>) -> Result<(), Error> {
    let told = match &outcome {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::InvalidCertificate(error.certificate_error())),
    };
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    told
}

#[cfg(test)]
mod tests;
