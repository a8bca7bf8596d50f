//! TLS policy: TLS 1.3, both sides authenticated, a fresh verification for every handshake.
//!
//! Session resumption is off in both directions: a resumed session would carry an identity that the trust and policy of
//! today were never asked about. The configuration of a handshake is therefore built for that handshake from the
//! credentials of the moment; building it costs half a microsecond, verifying the peer's chain costs 110.

pub mod handshake;

use std::sync::Arc;

use portcullis_certs_watcher::{Credentials, InboundVerifier, Material, NotReady, OutboundVerifier, Trust, Verdict};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::UnixTime;
use spiffe::SpiffeId;

use crate::connections::Generation;

/// The application protocols that a handshake offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    /// `h2` and `http/1.1`.
    Http,
    /// `http/1.1` only, for upgrades.
    Http1,
    /// None: opaque TCP carries whatever it carries.
    Opaque,
}

impl Alpn {
    fn protocols(self) -> Vec<Vec<u8>> {
        match self {
            Self::Http => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Self::Http1 => vec![b"http/1.1".to_vec()],
            Self::Opaque => Vec::new(),
        }
    }
}

/// Makes the configuration of each handshake.
#[derive(Clone, Debug)]
pub struct Tls {
    credentials: Credentials,
    provider: Arc<CryptoProvider>,
}

/// What one handshake works with.
#[derive(Debug)]
pub struct Terms<Config> {
    /// The rustls configuration.
    pub config: Arc<Config>,
    /// Where the verified peer, or the reason of the refusal, will be.
    pub verdict: Verdict,
    /// What we present.
    pub own: Arc<Material>,
    /// The generation of what we present and whom we trust.
    pub generation: Generation,
}

/// No handshake is possible.
#[derive(Debug, thiserror::Error)]
pub enum Unable {
    /// Identity or trust is absent, or our certificate is not valid now.
    #[error("the sidecar is not ready for handshakes")]
    NotReady(#[source] NotReady),
    /// rustls refused the configuration.
    #[error("the TLS configuration was refused")]
    Config(#[source] rustls::Error),
}

impl Tls {
    /// Handshakes with the given credentials.
    pub fn new(credentials: Credentials) -> Self {
        Self::with_provider(credentials, provider())
    }

    /// The same with another choice of groups or cipher suites; start from [`provider`]. Whom we believe and who has to
    /// show a certificate does not depend on it.
    pub fn with_provider(credentials: Credentials, provider: CryptoProvider) -> Self {
        Self { credentials, provider: Arc::new(provider) }
    }

    /// The credentials of this moment.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The generation of this moment; pools compare it with that of their connections.
    pub fn generation(&self) -> Generation {
        let snapshot = self.credentials.snapshot();
        Generation { identity: snapshot.identity_generation, trust: snapshot.trust_generation, policy: 0 }
    }

    /// Terms for terminating one handshake.
    ///
    /// # Errors
    /// When there is no valid identity or no trust.
    pub fn server(&self, alpn: Alpn) -> Result<Terms<ServerConfig>, Unable> {
        let (own, trust, generation) = self.ready()?;
        let (verifier, verdict) = InboundVerifier::new(trust);
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(VERSIONS)
            .map_err(Unable::Config)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(resolver(&own));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = alpn.protocols();
        Ok(Terms { config: Arc::new(config), verdict, own, generation })
    }

    /// Terms for originating one handshake with a peer that must be one of `expected`.
    ///
    /// # Errors
    /// When there is no valid identity or no trust.
    pub fn client(&self, alpn: Alpn, expected: Arc<[SpiffeId]>) -> Result<Terms<ClientConfig>, Unable> {
        let (own, trust, generation) = self.ready()?;
        let (verifier, verdict) = OutboundVerifier::new(trust, expected);
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(VERSIONS)
            .map_err(Unable::Config)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(resolver(&own));
        config.resumption = Resumption::disabled();
        // A SPIFFE identity is no DNS name: there is nothing to put into SNI, and nothing to leak by it.
        config.enable_sni = false;
        config.alpn_protocols = alpn.protocols();
        Ok(Terms { config: Arc::new(config), verdict, own, generation })
    }

    fn ready(&self) -> Result<(Arc<Material>, Arc<Trust>, Generation), Unable> {
        let snapshot = self.credentials.snapshot();
        let own = Arc::clone(snapshot.ready(UnixTime::now()).map_err(Unable::NotReady)?);
        let generation =
            Generation { identity: snapshot.identity_generation, trust: snapshot.trust_generation, policy: 0 };
        Ok((own, Arc::clone(&snapshot.trust), generation))
    }
}

fn resolver(own: &Material) -> Arc<SingleCertAndKey> {
    let certified: &Arc<CertifiedKey> = own.certified_key();
    Arc::new(SingleCertAndKey::from(Arc::clone(certified)))
}

/// aws-lc-rs with what we accept: the hybrid post-quantum group first, then the two that every peer has.
pub fn provider() -> CryptoProvider {
    CryptoProvider {
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1],
        cipher_suites: vec![
            // AES-128 first: it costs a quarter less than AES-256 and its strength is that of the P-256 certificates.
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..default_provider()
    }
}

static VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
