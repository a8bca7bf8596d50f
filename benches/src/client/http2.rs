//! A client of HTTP/2: many requests at once on one connection, through the h2 crate.

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use tokio::io::{AsyncRead, AsyncWrite};

use super::failure::Failure;
use super::http1::{Answer, Request};
use super::response::{NUMBER, STATUS, Sink, number_text};

/// A connection that speaks HTTP/2. Cheap to clone; all clones share the connection.
#[derive(Clone)]
pub struct Http2 {
    sender: SendRequest<Bytes>,
    request: http::Request<()>,
    body: Bytes,
}

/// A request that HTTP/2 cannot carry.
#[derive(Debug, thiserror::Error)]
#[error("the request cannot be sent")]
pub struct RequestError(#[from] http::Error);

impl Http2 {
    /// Speaks first over a connection that was just made. The second value has to be polled for anything to happen.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn start<S: AsyncRead + AsyncWrite + Unpin>(
        stream: S,
        request: &http::Request<()>,
        body: Bytes,
    ) -> Result<(Self, Connection<S, Bytes>), Failure> {
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(LONGEST_HEAD)
            .enable_push(false)
            .handshake(stream)
            .await
            .map_err(|error| failed(&error, "starting HTTP/2"))?;
        Ok((Self { sender, request: request.clone(), body }, connection))
    }

    /// One request and its answer.
    ///
    /// # Errors
    /// When no good answer came.
    pub async fn exchange(&mut self, number: u64, sink: &mut Sink<'_>) -> Result<Answer, Failure> {
        let mut request = self.request.clone();
        let text = http::HeaderValue::from_bytes(&number_text(number));
        request.headers_mut().insert(NUMBER, text.map_err(|error| Failure::protocol(error.to_string()))?);
        std::future::poll_fn(|context| self.sender.poll_ready(context))
            .await
            .map_err(|error| failed(&error, "waiting for a free stream"))?;
        let has_body = !self.body.is_empty();
        let sent = self.sender.send_request(request, !has_body);
        let (response, mut upload) = sent.map_err(|error| failed(&error, "sending the request"))?;
        if has_body {
            upload.send_data(self.body.clone(), true).map_err(|error| failed(&error, "sending the request"))?;
        }
        let response = response.await.map_err(|error| failed(&error, "reading the answer"))?;
        let (head, mut body) = response.into_parts();
        if head.status != STATUS {
            return Err(Failure::status(head.status.as_u16(), STATUS, ""));
        }
        let answered = head.headers.get(NUMBER).map(http::HeaderValue::as_bytes);
        sink.head(number, answered)?;
        while let Some(piece) = body.data().await {
            let piece = piece.map_err(|error| failed(&error, "reading the answer"))?;
            sink.body(&piece)?;
            // Without it the target would stop after one window.
            body.flow_control().release_capacity(piece.len()).map_err(|error| failed(&error, "reading the answer"))?;
        }
        Ok(Answer { bytes: sink.end()?, is_numbered: answered.is_some() })
    }
}

/// The request in the form that HTTP/2 carries; `secure` chooses the scheme.
///
/// # Errors
/// When path or authority are not what a URI can hold.
pub fn request(asked: &Request, scheme: http::uri::Scheme) -> Result<http::Request<()>, RequestError> {
    let uri = http::Uri::builder()
        .scheme(scheme)
        .authority(asked.authority.as_str())
        .path_and_query(asked.path.as_str())
        .build()?;
    let mut builder = http::Request::builder().method(asked.method.clone()).uri(uri);
    builder = builder.header(http::header::USER_AGENT, "portcullis-bench");
    if !asked.body.is_empty() {
        builder = builder.header(http::header::CONTENT_LENGTH, asked.body.len());
    }
    Ok(builder.body(())?)
}

fn failed(error: &h2::Error, during: &str) -> Failure {
    if let Some(io) = error.get_io() {
        return Failure::io(io, during);
    }
    match error.reason() {
        // The word is one of a fixed list, except that a peer may send any number.
        Some(reason) if error.is_remote() => {
            Failure::new("http2_reset", format!("{during}: the target ended it: {reason:?}"))
        }
        _ => Failure::protocol(format!("{during}: {error}")),
    }
}

/// Large enough that flow control never holds a benchmark up on loopback.
const WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;
const LONGEST_HEAD: u32 = 64 << 10;
