//! One TLS handshake in each direction, with a deadline, ending in a verified peer or a reason that a person understands.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_certs_watcher::{Material, Peer, PeerError, Verdict};
use rustls::server::Acceptor;
use rustls::{AlertDescription, CommonState, Error as TlsError, InvalidMessage};
use rustls_pki_types::ServerName;
use spiffe::SpiffeId;
use tokio::net::TcpStream;
use tokio_rustls::{LazyConfigAcceptor, TlsConnector, client, server};

use super::{Alpn, Tls, Unable};
use crate::connections::Generation;
use crate::linger::{self, Linger};

/// A connection whose peer is known.
#[derive(Debug)]
pub struct Secured<Stream> {
    /// The decrypted stream.
    pub stream: Stream,
    /// Who is at the other end.
    pub peer: Arc<Peer>,
    /// What both sides agreed to speak.
    pub protocol: Negotiated,
    /// The server name that the client asked for, if any; outbound none is sent.
    pub server_name: Option<Arc<str>>,
    /// What we presented.
    pub own: Arc<Material>,
    /// Under which identity and trust it was made.
    pub generation: Generation,
    /// How long it took.
    pub took: Duration,
}

/// The outcome of ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Negotiated {
    /// `h2`.
    Http2,
    /// `http/1.1`, or nothing: a client that does not use ALPN and speaks HTTP speaks HTTP/1.1.
    Http1,
}

impl Negotiated {
    /// The word in the access log.
    pub fn label(self) -> &'static str {
        match self {
            Self::Http2 => "h2",
            Self::Http1 => "http/1.1",
        }
    }
}

/// Why a handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// Not finished within `timeouts.handshake`.
    #[error("not finished within {limit:?}; the other side is slow, or silent")]
    Timeout {
        /// The time allowed.
        limit: Duration,
    },
    /// The first bytes are no TLS record.
    #[error("the first bytes are no TLS record: the caller speaks plaintext to a port that takes mutual TLS only")]
    Plaintext,
    /// The client sent no certificate.
    #[error("the caller sent no certificate; mutual TLS needs one with a SPIFFE ID")]
    NoCertificate,
    /// The peer's certificate was refused.
    #[error("the peer's certificate was refused")]
    Peer(#[source] Box<PeerError>),
    /// The other side refused us, with this alert.
    #[error("the other side refused with the TLS alert `{}`", alert_name(*.0))]
    Alert(AlertDescription),
    /// The other side went away.
    #[error("the other side closed the connection during the handshake")]
    Closed(#[source] io::Error),
    /// No common protocol version, group, cipher suite or application protocol, or a broken message.
    #[error("no common ground for TLS 1.3")]
    Tls(#[source] TlsError),
    /// `limits.handshakes` are under way already.
    #[error("as many handshakes as `limits.handshakes` are under way already")]
    TooMany,
    /// No complete ClientHello had come when all of `limits.handshakes` were under way and another caller came.
    #[error("gave its place to another one before its first message was complete: `limits.handshakes` are under way")]
    Displaced,
    /// We cannot do handshakes at the moment.
    #[error(transparent)]
    Unable(#[from] Unable),
}

impl HandshakeError {
    /// The fixed word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Timeout { .. } => "timeout",
            Self::Plaintext => "plaintext",
            Self::NoCertificate => "no_certificate",
            Self::Peer(error) => error.label(),
            Self::Alert(_) => "refused_by_peer",
            Self::Closed(_) => "closed_by_peer",
            Self::Tls(_) => "tls",
            Self::TooMany => "too_many_handshakes",
            Self::Displaced => "displaced",
            Self::Unable(_) => "not_ready",
        }
    }

    /// The fixed word in the answer that our own application gets.
    pub fn upstream_label(&self) -> &'static str {
        match self {
            Self::Peer(error) if matches!(**error, PeerError::WrongIdentity { .. }) => "upstream_wrong_identity",
            Self::Peer(error) if matches!(**error, PeerError::Denied { .. }) => "upstream_denied",
            Self::Peer(_) | Self::NoCertificate => "upstream_untrusted",
            Self::Alert(_) => "upstream_refused_us",
            Self::Timeout { .. } => "upstream_handshake_timeout",
            Self::Plaintext | Self::Closed(_) | Self::Tls(_) => "upstream_handshake_failed",
            Self::Unable(_) | Self::TooMany | Self::Displaced => "not_ready",
        }
    }

    fn from_io(error: io::Error, verdict: Verdict) -> Self {
        // The verifier's own words say more than what rustls made of them.
        if let Some(Err(refused)) = verdict.take() {
            return Self::Peer(Box::new(refused));
        }
        Self::of_io(error)
    }

    fn of_io(error: io::Error) -> Self {
        let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) else {
            return Self::Closed(error);
        };
        match tls {
            TlsError::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
                Self::Plaintext
            }
            TlsError::NoCertificatesPresented => Self::NoCertificate,
            TlsError::AlertReceived(alert) => Self::Alert(*alert),
            other => Self::Tls(other.clone()),
        }
    }
}

/// Terminates one handshake: the client must prove an identity of a trust domain that we have a bundle for. `heard` is called
/// when its first message is complete.
///
/// # Errors
/// Every way in which that fails, after the fitting alert was sent.
pub async fn accept(
    tls: &Tls,
    stream: TcpStream,
    alpn: Alpn,
    limit: Duration,
    heard: impl FnOnce(),
) -> Result<Secured<server::TlsStream<TcpStream>>, Refused> {
    let started = Instant::now();
    let shaking = async {
        let mut hearing = LazyConfigAcceptor::new(Acceptor::default(), stream);
        let hello = match (&mut hearing).await {
            Ok(hello) => hello,
            Err(error) => return Err(Refused { error: HandshakeError::of_io(error), stream: hearing.take_io() }),
        };
        heard();
        // Who has spoken has chosen what to show. Our trust is taken after that, or one that was opened before a new root
        // came and used after it would be refused for a leaf that everybody believes.
        let terms = tls.server(alpn)?;
        let accepting = hello.into_stream(Arc::clone(&terms.config)).into_fallible();
        Ok((terms, accepting.await))
    };
    let (terms, outcome) = within(limit, shaking).await??;
    match outcome {
        Ok(stream) => {
            let session = stream.get_ref().1;
            let (protocol, server_name) = (negotiated(session), session.server_name().map(Arc::from));
            let secured = secured(stream, protocol, terms.verdict, terms.own, terms.generation, started)?;
            Ok(Secured { server_name, ..secured })
        }
        Err((error, stream)) => {
            Err(Refused { error: HandshakeError::from_io(error, terms.verdict), stream: Some(stream) })
        }
    }
}

/// An inbound handshake that came to nothing.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub error: HandshakeError,
    /// What is left to close.
    stream: Option<TcpStream>,
}

impl Refused {
    /// Closes the connection so that the caller gets to read why: a TLS 1.3 client has sent its first request by then, and
    /// the kernel's reset for that would overtake the alert.
    pub async fn close(self) {
        let Some(mut stream) = self.stream else { return };
        let mut linger = Linger::within(linger::REFUSED_HANDSHAKE);
        // A connection that broke meanwhile needs no close.
        let _ = std::future::poll_fn(|cx| linger.poll(&mut stream, cx)).await;
    }
}

impl<E: Into<HandshakeError>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self { error: error.into(), stream: None }
    }
}

/// Originates one handshake: the server must prove to be one of `expected`.
///
/// # Errors
/// Every way in which that fails.
pub async fn connect(
    tls: &Tls,
    stream: TcpStream,
    alpn: Alpn,
    expected: Arc<[SpiffeId]>,
    limit: Duration,
) -> Result<Secured<client::TlsStream<TcpStream>>, HandshakeError> {
    let started = Instant::now();
    let terms = tls.client(alpn, expected)?;
    // Never sent (no SNI) and never compared: the verifier goes by the SPIFFE ID alone.
    let nobody = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::UNSPECIFIED).into());
    let connecting = TlsConnector::from(terms.config).connect(nobody, stream);
    match within(limit, connecting).await? {
        Ok(stream) => {
            let protocol = negotiated(stream.get_ref().1);
            secured(stream, protocol, terms.verdict, terms.own, terms.generation, started)
        }
        Err(error) => Err(HandshakeError::from_io(error, terms.verdict)),
    }
}

async fn within<T>(limit: Duration, handshake: impl Future<Output = T>) -> Result<T, HandshakeError> {
    tokio::time::timeout(limit, handshake).await.map_err(|_| HandshakeError::Timeout { limit })
}

fn secured<Stream>(
    stream: Stream,
    protocol: Negotiated,
    verdict: Verdict,
    own: Arc<Material>,
    generation: Generation,
    started: Instant,
) -> Result<Secured<Stream>, HandshakeError> {
    match verdict.take() {
        Some(Ok(peer)) => {
            Ok(Secured { stream, peer, protocol, server_name: None, own, generation, took: started.elapsed() })
        }
        Some(Err(refused)) => Err(HandshakeError::Peer(Box::new(refused))),
        // A handshake that succeeded without asking the verifier must never count as authenticated.
        None => Err(HandshakeError::NoCertificate),
    }
}

fn negotiated(session: &CommonState) -> Negotiated {
    match session.alpn_protocol() {
        Some(b"h2") => Negotiated::Http2,
        _ => Negotiated::Http1,
    }
}

fn alert_name(alert: AlertDescription) -> String {
    // Alerts are named in RFC 8446 section 6 in snake case.
    let camel = format!("{alert:?}");
    camel.chars().enumerate().fold(String::new(), |mut name, (index, letter)| {
        if letter.is_ascii_uppercase() && index > 0 {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
        name
    })
}
