//! Verifies the target's certificate, without spending the generator's time on the same chain over and over.
//!
//! A chain that was proven stays proven for ten seconds as long as it comes byte for byte the same; the signature
//! of the handshake itself is verified every time. What this saves is the generator's work, not the target's.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use super::expected::Expected;

/// See the module.
#[derive(Debug)]
pub struct Verifier {
    anchors: Vec<TrustAnchor<'static>>,
    expected: Expected,
    algorithms: WebPkiSupportedAlgorithms,
    proven: Mutex<Option<Proven>>,
}

#[derive(Debug)]
struct Proven {
    chain: Vec<CertificateDer<'static>>,
    at: Instant,
}

/// Why a target's certificate was refused.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

impl Verifier {
    /// Takes chains that end at one of these anchors and are for this name.
    pub fn new(
        anchors: Vec<TrustAnchor<'static>>,
        expected: Expected,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Arc<Self> {
        Arc::new(Self { anchors, expected, algorithms, proven: Mutex::new(None) })
    }

    fn is_proven(&self, leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> bool {
        let proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(proven) = proven.as_ref().filter(|proven| proven.at.elapsed() < REMEMBERED) else { return false };
        let Some((first, rest)) = proven.chain.split_first() else { return false };
        first == leaf && rest == intermediates
    }

    fn prove(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let certificate = EndEntityCert::try_from(leaf).map_err(|error| refused(error.to_string()))?;
        certificate
            .verify_for_usage(
                self.algorithms.all,
                &self.anchors,
                intermediates,
                now,
                KeyUsage::server_auth(),
                None,
                None,
            )
            .map_err(|error| refused(error.to_string()))?;
        self.expected.check(leaf).map_err(refused)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.is_proven(leaf, intermediates) {
            self.prove(leaf, intermediates, now)?;
            let chain = std::iter::once(leaf).chain(intermediates).map(|der| der.clone().into_owned()).collect();
            let proven = Proven { chain, at: Instant::now() };
            *self.proven.lock().unwrap_or_else(PoisonError::into_inner) = Some(proven);
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, leaf, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn refused(why: impl Into<String>) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Refused(why.into())))))
}

/// Short beside the life of any certificate, long beside a handshake.
const REMEMBERED: Duration = Duration::from_secs(10);
