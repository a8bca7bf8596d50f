//! What is exchanged over a connection that was just made, whichever protocol it speaks, and the first such exchange,
//! before there is any load: it shows what every later answer must be, and fails with a clear message.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::error::CommandError;
use super::options::{Protocol, TargetArgs};
use crate::client::connect::{Agreed, Connected, Route, Stream};
use crate::client::failure::Failure;
use crate::client::http1::{Answer, Http1, Request};
use crate::client::http2::{self, Http2};
use crate::client::opaque::{self, Opening};
use crate::client::response::{Model, Sink};
use crate::load::crew::RunError;

/// What is asked over each connection.
#[derive(Debug, Clone)]
pub enum Question {
    /// HTTP/1.1.
    Http1(Arc<Request>),
    /// HTTP/2.
    Http2(Arc<Request>, Arc<http::Request<()>>),
    /// One byte there and back.
    Opaque,
}

/// A connection that speaks the protocol of its question.
pub enum Conversation {
    /// HTTP/1.1.
    Http1(Box<Http1<Stream>>),
    /// HTTP/2, and the task that moves it.
    Http2(Box<Http2>, JoinHandle<()>),
    /// Opaque bytes.
    Opaque(Box<Stream>, Opening),
}

impl Question {
    /// The question that these options ask.
    ///
    /// # Errors
    /// When the request cannot be sent.
    pub fn new(args: &TargetArgs, method: http::Method, body: bytes::Bytes) -> Result<Self, CommandError> {
        if !args.target.scheme.is_http() {
            return Ok(Self::Opaque);
        }
        let request = Request { method, path: args.target.path.clone(), authority: args.target.authority(), body };
        let request = Arc::new(request);
        Ok(match args.protocol {
            Protocol::Http1 => Self::Http1(request),
            Protocol::Http2 => {
                let secure = args.target.scheme.is_secure();
                let scheme = if secure { http::uri::Scheme::HTTPS } else { http::uri::Scheme::HTTP };
                let prepared = http2::request(&request, scheme)?;
                Self::Http2(request, Arc::new(prepared))
            }
        })
    }

    /// Begins to speak over a connection. Needs a local task set.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn begin(&self, stream: Stream) -> Result<Conversation, Failure> {
        Ok(match self {
            Self::Http1(request) => Conversation::Http1(Box::new(Http1::new(stream, request))),
            Self::Http2(request, prepared) => {
                let (client, connection) = Http2::start(stream, prepared, request.body.clone()).await?;
                // What ends a connection fails the requests on it, and is told there.
                let moving = tokio::task::spawn_local(async { drop(connection.await) });
                Conversation::Http2(Box::new(client), moving)
            }
            Self::Opaque => Conversation::Opaque(Box::new(stream), Opening::First),
        })
    }
}

impl Conversation {
    /// One exchange.
    ///
    /// # Errors
    /// When no good answer came.
    pub async fn exchange(&mut self, number: u64, sink: &mut Sink<'_>) -> Result<Answer, Failure> {
        match self {
            Self::Http1(client) => client.exchange(number, sink).await,
            Self::Http2(client, _) => client.exchange(number, sink).await,
            Self::Opaque(stream, opening) => {
                let turn = number.to_le_bytes()[0];
                opaque::ping(stream.as_mut(), turn, *opening).await?;
                *opening = Opening::Later;
                Ok(Answer { bytes: 1, is_numbered: true })
            }
        }
    }

    /// Whether another exchange may follow.
    pub fn is_open(&self) -> bool {
        match self {
            Self::Http1(client) => client.is_open(),
            Self::Http2(_, moving) => !moving.is_finished(),
            Self::Opaque(..) => true,
        }
    }

    /// Says goodbye as the protocol wants it. What goes wrong then does not matter any more.
    pub async fn close(self) {
        match self {
            Self::Http1(client) => drop(client.into_stream().shutdown().await),
            Self::Http2(client, moving) => {
                // The connection ends by itself once nobody can ask anything.
                drop(client);
                let _ = timeout(GOODBYE, moving).await;
            }
            Self::Opaque(mut stream, _) => drop(stream.shutdown().await),
        }
    }
}

/// What the first exchange showed.
#[derive(Debug, Clone)]
pub struct Contact {
    /// What every answer must equal.
    pub model: Arc<Model>,
    /// What the handshake agreed on.
    pub agreed: Agreed,
}

/// Connects once, asks once, and closes. Needs a local task set.
///
/// # Errors
/// When the target does not answer as it should.
pub async fn first_contact(route: &Route, question: &Question, limit: Duration) -> Result<Contact, CommandError> {
    let attempt = async {
        let Connected { stream, .. } = route.connect().await?;
        let agreed = Agreed::of(&stream);
        if let Question::Http2(..) = question
            && route.tls.is_some()
            && agreed.alpn.as_deref() != Some(b"h2")
        {
            return Err(Failure::protocol("it does not speak HTTP/2: the handshake did not agree on h2"));
        }
        let mut conversation = question.begin(stream).await?;
        let mut sink = Sink::of(None);
        let answer = conversation.exchange(0, &mut sink).await?;
        conversation.close().await;
        Ok(Contact { model: Arc::new(Model { body: sink.learned(), is_numbered: answer.is_numbered }), agreed })
    };
    let outcome = timeout(limit, attempt).await;
    let outcome = outcome.unwrap_or_else(|_| Err(Failure::timeout("no answer within the time limit")));
    outcome.map_err(|failure| CommandError::Run(RunError::NotReady(failure)))
}

const GOODBYE: Duration = Duration::from_secs(1);
