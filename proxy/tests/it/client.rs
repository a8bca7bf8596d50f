//! Callers: TLS with a leaf of the throw-away PKI, and HTTP over it.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis::ca::Leaf;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::eventually::soon;
use crate::wire::{Answer, Wire};

pub type Secured = TlsStream<TcpStream>;
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

pub static TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// The host that callers ask for.
pub const HOST: &str = "eligibility.test";

/// How a caller shakes hands.
pub struct Hello<'a> {
    pub leaf: Option<&'a Leaf>,
    pub alpn: &'a [&'a str],
    pub versions: &'a [&'static SupportedProtocolVersion],
}

impl<'a> Hello<'a> {
    pub fn new(leaf: &'a Leaf, alpn: &'a [&'a str]) -> Self {
        Self { leaf: Some(leaf), alpn, versions: TLS13 }
    }

    /// Shakes hands. In TLS 1.3 a client is done before the server has judged its certificate: see [`is_served`].
    pub async fn shake(&self, address: SocketAddr) -> io::Result<Secured> {
        let shown = self.leaf.map(|leaf| (leaf.chain.der(), leaf.key()));
        shake(address, shown, self.alpn, self.versions).await
    }

    /// Shakes hands on a connection that was opened before.
    pub async fn shake_on(&self, stream: TcpStream) -> io::Result<Secured> {
        let shown = self.leaf.map(|leaf| (leaf.chain.der(), leaf.key()));
        shake_on(stream, shown, self.alpn, self.versions).await
    }
}

/// Shakes hands with any chain and key, or none.
pub async fn shake(
    address: SocketAddr,
    shown: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    alpn: &[&str],
    versions: &[&'static SupportedProtocolVersion],
) -> io::Result<Secured> {
    shake_on(TcpStream::connect(address).await?, shown, alpn, versions).await
}

async fn shake_on(
    stream: TcpStream,
    shown: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    alpn: &[&str],
    versions: &[&'static SupportedProtocolVersion],
) -> io::Result<Secured> {
    let connector = connector(shown, alpn, versions);
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(HOST).unwrap();
    soon("a handshake", connector.connect(name, stream)).await
}

/// TLS with any chain and key, or none, that believes whoever answers and resumes a session where it is given the means.
pub fn connector(
    shown: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    alpn: &[&str],
    versions: &[&'static SupportedProtocolVersion],
) -> TlsConnector {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_protocol_versions(versions).unwrap().dangerous();
    let builder = builder.with_custom_certificate_verifier(Arc::new(Anybody));
    let mut config = match shown {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

/// Plaintext.
pub async fn plain(address: SocketAddr) -> Wire<TcpStream> {
    Wire::new(TcpStream::connect(address).await.unwrap())
}

/// mTLS, then HTTP/1.1 by hand.
pub async fn secured(address: SocketAddr, leaf: &Leaf) -> Wire<Secured> {
    Wire::new(Hello::new(leaf, &["http/1.1"]).shake(address).await.unwrap())
}

/// mTLS without ALPN.
pub async fn opaque(address: SocketAddr, leaf: &Leaf) -> Secured {
    Hello::new(leaf, &[]).shake(address).await.unwrap()
}

/// Whether a request over HTTP/1.1 is answered with 200 on a connection of its own.
pub async fn is_served(address: SocketAddr, leaf: &Leaf) -> Result<(), String> {
    let stream = Hello::new(leaf, &["http/1.1"]).shake(address).await.map_err(|error| error.to_string())?;
    let mut wire = Wire::new(stream);
    wire.write("GET / HTTP/1.1\r\nhost: eligibility.test\r\n\r\n").await;
    match soon("an answer or an alert", wire.try_answer(true)).await {
        Ok(answer) if answer.status == 200 => Ok(()),
        Ok(answer) => Err(format!("status {}", answer.status)),
        Err(error) => Err(error.to_string()),
    }
}

/// Waits for the other side to close or reset, without having sent a byte of application data.
pub async fn is_closed(io: &mut (impl AsyncRead + Unpin)) {
    let mut got = Vec::new();
    let _ = soon("the other side closes", io.read_to_end(&mut got)).await;
    assert_eq!(String::from_utf8_lossy(&got), "");
}

/// A request.
pub struct Ask {
    pub method: &'static str,
    pub path: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Body,
}

impl Ask {
    pub fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path)
    }

    pub fn new(method: &'static str, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: Vec::new(), body: Empty::new().boxed_unsync() }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn text(self, body: impl Into<Bytes>) -> Self {
        self.body(Full::new(body.into()).boxed_unsync())
    }

    pub fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    fn request(self, full_target: bool) -> Request<Body> {
        let target = if full_target { format!("https://{HOST}{}", self.path) } else { self.path };
        let mut builder = Request::builder().method(self.method).uri(target);
        if !full_target {
            builder = builder.header("host", HOST);
        }
        for (name, value) in self.headers {
            builder = builder.header(name, value);
        }
        builder.body(self.body).unwrap()
    }
}

/// A body whose frames are sent one at a time; dropping the sender ends it.
pub fn flowing() -> (mpsc::Sender<Frame<Bytes>>, Body) {
    let (sender, receiver) = mpsc::channel(1);
    let frames = futures_util::stream::unfold(receiver, |mut receiver: mpsc::Receiver<Frame<Bytes>>| async {
        let frame = receiver.recv().await?;
        Some((Ok(frame), receiver))
    });
    (sender, StreamBody::new(frames).boxed_unsync())
}

/// An HTTP connection of a library.
#[derive(Debug)]
pub enum Http {
    One(http1::SendRequest<Body>),
    Two(http2::SendRequest<Body>),
}

impl Http {
    /// HTTP/1.1 over mTLS.
    pub async fn one(address: SocketAddr, leaf: &Leaf) -> Self {
        Self::over_http1(Hello::new(leaf, &["http/1.1"]).shake(address).await.unwrap()).await
    }

    /// HTTP/2 over mTLS.
    pub async fn two(address: SocketAddr, leaf: &Leaf) -> Self {
        let stream = Hello::new(leaf, &["h2", "http/1.1"]).shake(address).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        Self::over_http2(stream).await
    }

    /// HTTP/1.1 in plaintext.
    pub async fn plain_one(address: SocketAddr) -> Self {
        Self::over_http1(TcpStream::connect(address).await.unwrap()).await
    }

    /// HTTP/2 in plaintext with prior knowledge.
    pub async fn plain_two(address: SocketAddr) -> Self {
        Self::over_http2(TcpStream::connect(address).await.unwrap()).await
    }

    pub async fn over_http1(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (sender, connection) = http1::handshake(TokioIo::new(io)).await.unwrap();
        tokio::spawn(connection);
        Self::One(sender)
    }

    pub async fn over_http2(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
        tokio::spawn(connection);
        Self::Two(sender)
    }

    /// Another handle to the same HTTP/2 connection.
    pub fn beside(&self) -> Self {
        match self {
            Self::One(_) => panic!("an HTTP/1.1 connection has one user"),
            Self::Two(sender) => Self::Two(sender.clone()),
        }
    }

    /// Whether it takes no more requests: it is closed, or has heard GOAWAY.
    pub fn is_over(&self) -> bool {
        match self {
            Self::One(sender) => sender.is_closed(),
            Self::Two(sender) => sender.is_closed(),
        }
    }

    /// Sends a request and waits for the head of the response.
    pub async fn open(&mut self, ask: Ask) -> hyper::Result<Response<Incoming>> {
        let sending = async {
            match self {
                Self::One(sender) => {
                    sender.ready().await?;
                    sender.send_request(ask.request(false)).await
                }
                Self::Two(sender) => {
                    sender.ready().await?;
                    sender.send_request(ask.request(true)).await
                }
            }
        };
        soon("the head of a response", sending).await
    }

    /// Sends a request and reads the whole response.
    pub async fn send(&mut self, ask: Ask) -> Answer {
        self.try_send(ask).await.unwrap()
    }

    pub async fn try_send(&mut self, ask: Ask) -> hyper::Result<Answer> {
        let response = self.open(ask).await?;
        whole(response).await
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.send(Ask::get(path)).await
    }
}

/// Reads a response to its end.
pub async fn whole(response: Response<Incoming>) -> hyper::Result<Answer> {
    let (head, body) = response.into_parts();
    let body = soon("the end of a body", body.collect()).await?;
    let trailers = body.trailers().map(fields).unwrap_or_default();
    Ok(Answer {
        status: head.status.as_u16(),
        headers: fields(&head.headers),
        body: body.to_bytes().to_vec(),
        trailers,
    })
}

/// Header fields as pairs.
pub fn fields(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

/// Believes every server: who it is, is not the question of these tests, or is asked separately.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}
