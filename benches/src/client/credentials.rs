//! Who calls, whom it trusts, and how it speaks TLS: files and choices made into configurations of rustls.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portcullis_certs_watcher::pem::{self, PemError};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, NamedGroup};
use rustls_pki_types::ServerName;
use thiserror::Error;
use webpki::anchor_from_trusted_cert;

use super::expected::Expected;
use super::verifier::Verifier;

/// What a configuration is made of.
#[derive(Debug, Clone)]
pub struct Choices {
    /// The client's certificate chain and key; `None` calls without a certificate, to see it refused.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Trust anchors of the target.
    pub ca: PathBuf,
    /// Who must answer.
    pub expected: Expected,
    /// The name to ask for; `None` sends no server name.
    pub sni: Option<ServerName<'static>>,
    /// Key exchange groups in order of preference; the first one's share is sent at once.
    pub groups: Vec<Group>,
    /// Version of TLS.
    pub version: Version,
    /// Application protocols to offer.
    pub alpn: Vec<Vec<u8>>,
    /// Whether sessions are kept and resumed.
    pub sessions: Sessions,
}

/// A way to agree on keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Group {
    /// RFC 7748.
    X25519,
    /// The hybrid of X25519 and ML-KEM-768, draft-ietf-tls-ecdhe-mlkem.
    X25519mlkem768,
    /// NIST P-256.
    Secp256r1,
    /// NIST P-384.
    Secp384r1,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Version {
    /// RFC 8446.
    #[value(name = "1.3")]
    Tls13,
    /// RFC 5246, for targets that know nothing better.
    #[value(name = "1.2")]
    Tls12,
}

/// What becomes of the sessions that a target offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sessions {
    /// Every handshake is a full one.
    Forget,
    /// A handshake resumes an earlier session where it can.
    Keep,
}

/// Credentials that cannot be used.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// A file cannot be read.
    #[error("`{}` cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("`{}` cannot be used", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: PemError,
    },
    /// A trust anchor is none.
    #[error("`{}` holds a certificate that cannot be a trust anchor: {why}", path.display())]
    Anchor {
        /// The file.
        path: PathBuf,
        /// What webpki said.
        why: webpki::Error,
    },
    /// Certificate and key do not fit, or cannot be used at all.
    #[error("`{}` and `{}` cannot be used together: is the key that of the certificate?", certificate.display(), key.display())]
    Identity {
        /// The chain.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// What rustls said.
        #[source]
        source: rustls::Error,
    },
    /// The choices do not go together.
    #[error("the TLS options do not go together")]
    Tls(#[source] rustls::Error),
}

impl Choices {
    /// The configuration of rustls.
    ///
    /// # Errors
    /// When a file cannot be read, or what is in it does not go together.
    pub fn config(&self) -> Result<Arc<ClientConfig>, CredentialsError> {
        let provider = self.provider();
        let verifier =
            Verifier::new(self.anchors()?, self.expected.clone(), provider.signature_verification_algorithms);
        let versions = match self.version {
            Version::Tls13 => [&rustls::version::TLS13],
            Version::Tls12 => [&rustls::version::TLS12],
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&versions)
            .map_err(CredentialsError::Tls)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &self.identity {
            Some((certificate, key)) => {
                let chain = pem::certificates(&read(certificate)?).map_err(|source| unusable(certificate, source))?;
                let secret = pem::private_key(&read(key)?).map_err(|source| unusable(key, source))?;
                builder.with_client_auth_cert(chain, secret).map_err(|source| CredentialsError::Identity {
                    certificate: certificate.clone(),
                    key: key.clone(),
                    source,
                })?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&self.alpn);
        config.enable_sni = self.sni.is_some();
        config.resumption = match self.sessions {
            Sessions::Forget => Resumption::disabled(),
            Sessions::Keep => Resumption::in_memory_sessions(KEPT_SESSIONS),
        };
        Ok(Arc::new(config))
    }

    /// The name under which rustls asks and keeps sessions; never verified, since [`Verifier`] knows who must answer.
    pub fn server_name(&self) -> ServerName<'static> {
        let nobody = ServerName::IpAddress(std::net::IpAddr::from([127, 0, 0, 1]).into());
        self.sni.clone().unwrap_or(nobody)
    }

    fn provider(&self) -> CryptoProvider {
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups = self
            .groups
            .iter()
            .filter_map(|group| {
                let name = group.name();
                aws_lc_rs::ALL_KX_GROUPS.iter().find(|offered| offered.name() == name).copied()
            })
            .collect();
        provider
    }

    fn anchors(&self) -> Result<Vec<rustls_pki_types::TrustAnchor<'static>>, CredentialsError> {
        let certificates = pem::certificates(&read(&self.ca)?).map_err(|source| unusable(&self.ca, source))?;
        let anchors = certificates.iter().map(|der| anchor_from_trusted_cert(der).map(|anchor| anchor.to_owned()));
        anchors.collect::<Result<_, _>>().map_err(|why| CredentialsError::Anchor { path: self.ca.clone(), why })
    }
}

impl Group {
    fn name(self) -> NamedGroup {
        match self {
            Self::X25519 => NamedGroup::X25519,
            Self::X25519mlkem768 => NamedGroup::X25519MLKEM768,
            Self::Secp256r1 => NamedGroup::secp256r1,
            Self::Secp384r1 => NamedGroup::secp384r1,
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    fs::read(path).map_err(|source| CredentialsError::Read { path: path.to_owned(), source })
}

fn unusable(path: &Path, source: PemError) -> CredentialsError {
    CredentialsError::Pem { path: path.to_owned(), source }
}

/// More than there are connections at once: a TLS 1.3 ticket is used once, and a target sends one or two a connection.
const KEPT_SESSIONS: usize = 16_384;
