//! Peers that are no sidecar of ours: a TLS server with whatever certificate the test gives it.

use std::net::SocketAddr;
use std::sync::Arc;

use http::Version;
use portcullis::ca::Leaf;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::backend::Backend;

/// Serves `backend` over TLS, without asking who calls.
pub async fn serve(leaf: &Leaf, alpn: &[&str], backend: &Backend) -> SocketAddr {
    serve_after(leaf, alpn, backend, || std::future::ready(())).await
}

/// The same, with something to wait for between each accept and its handshake.
pub async fn serve_after<Wait>(
    leaf: &Leaf,
    alpn: &[&str],
    backend: &Backend,
    before: impl Fn() -> Wait + Send + 'static,
) -> SocketAddr
where
    Wait: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = acceptor(leaf, alpn);
    let backend = backend.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            before().await;
            let (acceptor, backend) = (acceptor.clone(), backend.clone());
            tokio::spawn(async move {
                // A caller that refuses the certificate is what some tests are about.
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let is_h2 = stream.get_ref().1.alpn_protocol() == Some(&b"h2"[..]);
                backend.speak(stream, if is_h2 { Version::HTTP_2 } else { Version::HTTP_11 }).await;
            });
        }
    });
    address
}

/// TLS as `leaf`, without asking who calls.
pub fn acceptor(leaf: &Leaf, alpn: &[&str]) -> TlsAcceptor {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(leaf.chain.der(), leaf.key())
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}
