//! A connection to the target, and how long each step to it took.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, HandshakeKind, NamedGroup, ProtocolVersion};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::failure::Failure;

/// Bytes in both directions, inside TLS or not.
pub type Stream = Either<TcpStream, TlsStream<TcpStream>>;

/// How to get to the target.
#[derive(Clone)]
pub struct Route {
    /// Where it listens.
    pub address: SocketAddr,
    /// TLS, unless it is spoken to in plaintext.
    pub tls: Option<Secure>,
}

/// How to speak TLS.
#[derive(Clone)]
pub struct Secure {
    /// Who calls, whom it trusts, what it offers.
    pub config: Arc<ClientConfig>,
    /// The name that is asked for.
    pub name: ServerName<'static>,
}

/// A connection that is ready for its first exchange.
pub struct Connected {
    /// The bytes.
    pub stream: Stream,
    /// Until TCP was connected.
    pub tcp: Duration,
    /// From there until the client had sent its last message of the handshake; zero without TLS.
    pub tls: Duration,
}

/// What a handshake agreed on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Agreed {
    /// Version of TLS.
    pub version: Option<ProtocolVersion>,
    /// Key exchange group.
    pub group: Option<NamedGroup>,
    /// Cipher suite.
    pub suite: Option<rustls::CipherSuite>,
    /// Application protocol.
    pub alpn: Option<Vec<u8>>,
    /// Whether an earlier session was resumed.
    pub resumed: Option<HandshakeKind>,
}

impl Route {
    /// Connects. The caller bounds the time.
    ///
    /// # Errors
    /// When there is no connection, or one side refuses the other.
    pub async fn connect(&self) -> Result<Connected, Failure> {
        let started = Instant::now();
        let tcp = TcpStream::connect(self.address).await.map_err(|error| Failure::connect(&error))?;
        // Without it the second half of an exchange waits for the acknowledgement of the first.
        tcp.set_nodelay(true).map_err(|error| Failure::connect(&error))?;
        let connected = started.elapsed();
        let Some(secure) = &self.tls else {
            return Ok(Connected { stream: Either::Left(tcp), tcp: connected, tls: Duration::ZERO });
        };
        let connector = TlsConnector::from(Arc::clone(&secure.config));
        let stream = connector.connect(secure.name.clone(), tcp).await;
        let stream = stream.map_err(|error| Failure::io(&error, "TLS handshake"))?;
        let tls = started.elapsed().saturating_sub(connected);
        Ok(Connected { stream: Either::Right(stream), tcp: connected, tls })
    }
}

impl Agreed {
    /// What the handshake of this connection agreed on; nothing in plaintext.
    pub fn of(stream: &Stream) -> Self {
        let Either::Right(tls) = stream else { return Self::default() };
        let (_, session) = tls.get_ref();
        Self {
            version: session.protocol_version(),
            group: session.negotiated_key_exchange_group().map(rustls::crypto::SupportedKxGroup::name),
            suite: session.negotiated_cipher_suite().map(|suite| suite.suite()),
            alpn: session.alpn_protocol().map(<[u8]>::to_vec),
            resumed: session.handshake_kind(),
        }
    }

    /// Whether an earlier session was resumed.
    pub fn is_resumed(&self) -> bool {
        self.resumed == Some(HandshakeKind::Resumed)
    }
}

/// The leaf that the target showed, in DER.
pub fn leaf_of(stream: &Stream) -> Option<&[u8]> {
    let Either::Right(tls) = stream else { return None };
    tls.get_ref().1.peer_certificates()?.first().map(AsRef::as_ref)
}
