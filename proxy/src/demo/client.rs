//! A plain HTTP/1.1 connection, as an application opens it to its own sidecar. It never opens a second one in secret.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::error::DemoError;
use crate::drain::{Phase, Tasks};
use crate::http::headers::{REASON, REQUEST_ID};

/// One open connection.
pub(super) struct Caller {
    to: SocketAddr,
    from: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
}

/// What is asked for.
pub(super) struct Ask<'a> {
    pub method: Method,
    pub path: &'a str,
    pub request_id: &'a str,
    pub body: Bytes,
}

impl<'a> Ask<'a> {
    pub(super) fn get(path: &'a str, request_id: &'a str) -> Self {
        Self { method: Method::GET, path, request_id, body: Bytes::new() }
    }
}

/// The answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub status: u16,
    /// Why the sidecar answered in the service's place.
    pub reason: Option<String>,
    pub body: Bytes,
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No connection.
    #[error("no connection")]
    Connect(#[source] std::io::Error),
    /// The request cannot be written down.
    #[error("the request is malformed")]
    Malformed(#[source] http::Error),
    /// The exchange broke.
    #[error("the exchange broke off")]
    Broke(#[source] hyper::Error),
    /// No answer in time.
    #[error("no answer within {LIMIT:?}")]
    Late,
}

impl Caller {
    pub(super) async fn connect(to: SocketAddr, tasks: &Tasks) -> Result<Self, DemoError> {
        let connecting = async {
            let stream = TcpStream::connect(to).await.map_err(CallError::Connect)?;
            stream.set_nodelay(true).map_err(CallError::Connect)?;
            let from = stream.local_addr().map_err(CallError::Connect)?;
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(CallError::Broke)?;
            Ok((from, sender, connection))
        };
        let timed = tokio::time::timeout(LIMIT, connecting).await;
        let connected = timed.unwrap_or(Err(CallError::Late));
        let (from, sender, connection) = connected.map_err(|source| DemoError::Call { to, source })?;
        let ended = tasks.clone();
        tasks.spawn(async move {
            tokio::select! {
                // Whoever waits for an answer hears of it.
                _ = connection => {}
                () = ended.reached(Phase::Ended) => {}
            }
        });
        Ok(Self { to, from, sender })
    }

    /// This end of the connection: what tells it from every other one.
    pub(super) fn from(&self) -> SocketAddr {
        self.from
    }

    pub(super) async fn call(&mut self, ask: Ask<'_>) -> Result<Reply, DemoError> {
        let timed = tokio::time::timeout(LIMIT, self.exchange(ask)).await;
        timed.unwrap_or(Err(CallError::Late)).map_err(|source| DemoError::Call { to: self.to, source })
    }

    async fn exchange(&mut self, ask: Ask<'_>) -> Result<Reply, CallError> {
        let request = Request::builder()
            .method(ask.method)
            .uri(ask.path)
            .header(header::HOST, self.to.to_string())
            .header(REQUEST_ID, ask.request_id)
            .body(Full::new(ask.body))
            .map_err(CallError::Malformed)?;
        self.sender.ready().await.map_err(CallError::Broke)?;
        let response = self.sender.send_request(request).await.map_err(CallError::Broke)?;
        let (head, body) = response.into_parts();
        let text = |name: HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (status, reason) = (head.status.as_u16(), text(REASON));
        let body = body.collect().await.map_err(CallError::Broke)?.to_bytes();
        Ok(Reply { status, reason, body })
    }
}

/// A call within one machine takes milliseconds.
const LIMIT: Duration = Duration::from_secs(10);
