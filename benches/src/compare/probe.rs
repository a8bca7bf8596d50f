//! One exchange through a path, by this program itself: whether it answers, and to the millisecond since when.
//!
//! The load is the generator's work. This is for what the generator cannot time: a proxy that is still starting.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, NamedGroup, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::pki::Pki;
use super::stage::Carries;
use crate::client::opaque::Direction;

/// A client of the path under test.
#[derive(Clone)]
pub struct Probe {
    tls: Option<TlsConnector>,
    question: Vec<u8>,
    answer: &'static [u8],
}

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The connection or what is in it.
    #[error("no exchange")]
    Connection(#[source] io::Error),
    /// Another answer.
    #[error("an answer that begins with `{0}`")]
    Answer(String),
    /// None within the deadline.
    #[error("no answer")]
    Silence,
    /// The caller's certificate cannot be used.
    #[error("the caller's certificate cannot be used")]
    Certificate(#[from] rustls::pki_types::pem::Error),
    /// rustls refuses these settings.
    #[error("the caller's TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

impl Probe {
    /// One that speaks plaintext.
    pub fn plain(carries: Carries) -> Self {
        let (question, answer): (Vec<u8>, &[u8]) = match carries {
            // A caller's HTTP/1.1 is understood by every path but that of HTTP/2 with prior knowledge.
            Carries::Http1 => (b"GET / HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n".to_vec(), b"HTTP/1.1 200"),
            // The preface and an empty SETTINGS frame; the server's SETTINGS are of any length, but of type 4.
            Carries::Http2 => (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(), b"\0\0"),
            Carries::Tcp => (Direction::Down.line(1).into_bytes(), b""),
        };
        Self { tls: None, question, answer }
    }

    /// One that speaks mutual TLS as the caller, with one group for the key exchange.
    ///
    /// # Errors
    /// When the certificate cannot be used.
    pub fn mutual(carries: Carries, pki: &Pki, group: NamedGroup) -> Result<Self, ProbeError> {
        // Behind TLS all of them also speak HTTP/1.1.
        let carries = if carries == Carries::Http2 { Carries::Http1 } else { carries };
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups = aws_lc_rs::ALL_KX_GROUPS.iter().copied().filter(|known| known.name() == group).collect();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(pki.trust())?)?;
        let chain = CertificateDer::pem_file_iter(pki.caller.join("tls.crt"))?.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(pki.caller.join("tls.key"))?;
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        Ok(Self { tls: Some(TlsConnector::from(Arc::new(config))), ..Self::plain(carries) })
    }

    /// Asks once.
    ///
    /// # Errors
    /// When no answer, or another one, came within two seconds.
    pub async fn ask(&self, port: u16) -> Result<(), ProbeError> {
        timeout(ONE_ANSWER, self.exchange(port)).await.map_err(|_| ProbeError::Silence)?
    }

    async fn exchange(&self, port: u16) -> Result<(), ProbeError> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect(address).await.map_err(ProbeError::Connection)?;
        let Some(tls) = &self.tls else { return self.talk(stream).await };
        // By address, so that no SNI is sent: hitch aborts on a name that it does not know.
        let name = ServerName::from(address.ip());
        self.talk(tls.connect(name, stream).await.map_err(ProbeError::Connection)?).await
    }

    async fn talk(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), ProbeError> {
        stream.write_all(&self.question).await.map_err(ProbeError::Connection)?;
        stream.flush().await.map_err(ProbeError::Connection)?;
        let mut answer = vec![0; self.answer.len().max(1)];
        stream.read_exact(&mut answer).await.map_err(ProbeError::Connection)?;
        if answer.starts_with(self.answer) {
            return Ok(());
        }
        Err(ProbeError::Answer(String::from_utf8_lossy(&answer).into_owned()))
    }
}

impl ProbeError {
    /// Whether the target refused the handshake for want of a common group.
    pub fn is_no_common_group(&self) -> bool {
        let Self::Connection(source) = self else { return false };
        let tls = source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        matches!(tls, Some(rustls::Error::AlertReceived(rustls::AlertDescription::HandshakeFailure)))
    }
}

/// Longer than anything on loopback takes, shorter than the wait for a start.
const ONE_ANSWER: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn ask(answer: &'static [u8]) -> Result<(), ProbeError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let server = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut question = [0; 16];
                stream.read_exact(&mut question).await.unwrap();
                stream.write_all(answer).await.unwrap();
            });
            let asked = Probe::plain(Carries::Http1).ask(port).await;
            server.await.unwrap();
            asked
        })
    }

    #[test]
    fn only_an_answer_that_says_200_counts() {
        ask(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        assert!(matches!(ask(b"HTTP/1.1 503 Service Unavailable\r\n\r\n"), Err(ProbeError::Answer(_))));
        assert!(matches!(ask(b""), Err(ProbeError::Connection(_))));
    }
}
