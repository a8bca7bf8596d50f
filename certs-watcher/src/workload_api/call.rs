//! One call of `FetchX509SVID`: gRPC over HTTP/2 over a plain socket, read message by message until it ends.
//!
//! Nothing that the other side sends or leaves out makes it wait without end, grow, or spin: each message has a size and a
//! time, messages have a pace, and a peer that is connected and dead is found by pings. How a message is understood, and
//! when to call again, is the caller's concern.

use std::future::{pending, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use h2::{Ping, PingPong};
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::{Method, Request, Response, StatusCode, Version};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::endpoint::Endpoint;
use super::frames::{FrameError, Frames};
use super::meter::{Meter, Metered};
use super::status::{Code, Status};
use crate::certificate::printable;

/// Calls, hands each message to `take`, and says why it ended: it always does at some time.
pub(super) async fn call(endpoint: &Endpoint, take: impl FnMut(&[u8])) -> CallError {
    match endpoint {
        Endpoint::Unix(path) => match open(UnixStream::connect(path)).await {
            // The authority that gRPC libraries use for a Unix socket.
            Ok(socket) => converse(socket, "localhost", take).await,
            Err(error) => error,
        },
        Endpoint::Tcp(address) => match open(connect_tcp(*address)).await {
            Ok(socket) => converse(socket, &address.to_string(), take).await,
            Err(error) => error,
        },
    }
}

async fn connect_tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(address).await?;
    // HTTP/2 opens with several small writes, and each would wait for the other side to confirm the one before.
    socket.set_nodelay(true)?;
    Ok(socket)
}

async fn open<S>(connect: impl Future<Output = io::Result<S>>) -> Result<S, CallError> {
    match timeout(OPENING, connect).await {
        Ok(Ok(socket)) => Ok(socket),
        Ok(Err(source)) => Err(CallError::Unreachable(source)),
        Err(_) => Err(CallError::Silent),
    }
}

/// Drives the connection and the call on it by turns. Whatever of the call has arrived when the connection ends is still
/// read, since the reason of its end may be in it.
async fn converse<S>(socket: S, authority: &str, take: impl FnMut(&[u8])) -> CallError
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (socket, meter) = Metered::new(socket);
    let opened = client::Builder::new()
        .enable_push(false)
        .max_header_list_size(MAX_HEADER_LIST)
        // The request is sent before the server's settings are known, and one stream is always allowed.
        .initial_max_send_streams(1)
        .handshake::<_, Bytes>(socket);
    let (send, mut connection) = match timeout(OPENING, opened).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(source)) => return CallError::Lost(source),
        Err(_) => return CallError::Silent,
    };
    let ping_pong = connection.ping_pong();
    let mut conversation = pin!(async {
        tokio::select! {
            biased;
            // Dropping either half-way gives up the call, which is what its end means.
            error = listen(send, authority, &meter, take) => error,
            error = keep_alive(ping_pong) => error,
        }
    });
    let mut connection = Some(pin!(connection));
    poll_fn(|context| {
        if connection.as_mut().is_some_and(|running| running.as_mut().poll(context).is_ready()) {
            connection = None;
        }
        conversation.as_mut().poll(context)
    })
    .await
}

/// Asks, and reads until the answer ends.
async fn listen(send: SendRequest<Bytes>, authority: &str, meter: &Meter, mut take: impl FnMut(&[u8])) -> CallError {
    let begun = Instant::now();
    let response = match timeout(MESSAGE, ask(send, authority)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return error,
        Err(_) => return CallError::NoMessage,
    };
    if let Err(error) = check_grpc(&response) {
        return error;
    }
    // An answer without messages has its trailers in the place of its headers.
    if let Some(status) = Status::of(response.headers()) {
        return CallError::ended(status);
    }
    let mut frames = Frames::new(response.into_body());
    // The standard has the first message come without delay.
    let mut deadline = Some(begun + MESSAGE);
    let mut next_allowed = begun;
    loop {
        let message = match frames.next(deadline, MESSAGE).await {
            Ok(Some(message)) => message,
            Ok(None) => break,
            Err(error) => return CallError::from_frames(error),
        };
        // What comes faster waits in the windows of HTTP/2, and so with its sender.
        sleep_until(next_allowed).await;
        next_allowed = Instant::now() + PACE;
        deadline = None;
        meter.reset();
        take(&message);
    }
    match timeout(MESSAGE, frames.trailers()).await {
        Ok(Ok(trailers)) => Status::of(&trailers).map_or(CallError::Closed, CallError::ended),
        Ok(Err(source)) => CallError::Lost(source),
        Err(_) => CallError::Closed,
    }
}

async fn ask(send: SendRequest<Bytes>, authority: &str) -> Result<Response<h2::RecvStream>, CallError> {
    let request = Request::builder()
        .method(Method::POST)
        .version(Version::HTTP_2)
        .uri(format!("http://{authority}{METHOD}"))
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header(USER_AGENT, concat!("portcullis/", env!("CARGO_PKG_VERSION")))
        // SPIFFE Workload Endpoint 4: without it the server refuses, so that no forged web request can reach it.
        .header("workload.spiffe.io", "true")
        .body(())
        .map_err(|_| CallError::Closed)?;
    let mut send = send.ready().await.map_err(CallError::Lost)?;
    let (response, mut body) = send.send_request(request, false).map_err(CallError::Lost)?;
    // One empty message: not compressed, no bytes.
    body.send_data(Bytes::from_static(&[0; 5]), true).map_err(CallError::Lost)?;
    response.await.map_err(CallError::Lost)
}

fn check_grpc(response: &Response<h2::RecvStream>) -> Result<(), CallError> {
    let content_type = response.headers().get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let grpc = content_type.as_ref().is_some_and(|value| value.starts_with("application/grpc"));
    if response.status() == StatusCode::OK && grpc {
        return Ok(());
    }
    Err(CallError::NotGrpc {
        status: response.status().as_u16(),
        content_type: content_type.map_or_else(|| "none".to_owned(), |value| printable(&value)),
    })
}

/// Ends when a ping is not answered. The first is sent at once: a socket may accept while nobody reads from it.
async fn keep_alive(ping_pong: Option<PingPong>) -> CallError {
    let Some(mut ping_pong) = ping_pong else { return pending().await };
    let mut unanswered = CallError::Silent;
    loop {
        match timeout(OPENING, ping_pong.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            // The connection has ended, and whoever reads from it knows better why.
            Ok(Err(_)) => return pending().await,
            Err(_) => return unanswered,
        }
        unanswered = CallError::Dead;
        sleep(KEEP_ALIVE).await;
    }
}

/// The path of the one method that is called.
const METHOD: &str = "/SpiffeWorkloadAPI/FetchX509SVID";

/// For each step until the other side is known to speak HTTP/2, and for each ping. It is a process on the same machine.
const OPENING: Duration = Duration::from_secs(10);

/// For the first message, which the standard wants at once, and for the rest of any message that has begun.
const MESSAGE: Duration = Duration::from_secs(30);

/// The least time between two messages. Each costs some milliseconds to parse and prove, and an agent that is well sends
/// one in minutes.
const PACE: Duration = Duration::from_millis(100);

/// gRPC servers hang up on a client that pings more often than every five minutes while nothing is sent, which is their
/// default (`too_many_pings`) and an agent's ordinary state. An agent that has died closes its socket and is noticed at
/// once; this finds the one that is stopped.
const KEEP_ALIVE: Duration = Duration::from_secs(330);

/// The headers and trailers of a gRPC answer take a few hundred bytes, unless the status message is long.
const MAX_HEADER_LIST: u32 = 16 * 1024;

/// Why a call ended. The fault is the agent's, or of what lies between.
#[derive(Debug, Error)]
pub enum CallError {
    /// There is nobody to connect to.
    #[error("the socket cannot be reached; is the agent running, and its socket mounted here?")]
    Unreachable(#[source] io::Error),
    /// Something accepts the connection and then says nothing.
    #[error("the socket accepts connections, but nothing answers HTTP/2 on it within {OPENING:?}")]
    Silent,
    /// The agent was there and does not answer any more.
    #[error("the agent does not answer pings within {OPENING:?}; is it stopped?")]
    Dead,
    /// The connection broke, or what was said on it is not HTTP/2.
    #[error("the connection to the agent was lost")]
    Lost(#[source] h2::Error),
    /// Another kind of server is there.
    #[error("what answers is no gRPC server: status {status}, content type `{content_type}`")]
    NotGrpc {
        /// The HTTP status.
        status: u16,
        /// The content type, cut short.
        content_type: String,
    },
    /// The first message did not come.
    #[error("no first message came within {MESSAGE:?}")]
    NoMessage,
    /// The messages are not framed as gRPC does, or not within bounds.
    #[error("the answer is no stream of gRPC messages that can be taken")]
    Frame(#[source] FrameError),
    /// The agent answered with an error.
    #[error("the agent answers {status}")]
    Refused {
        /// Its answer.
        status: Status,
    },
    /// The agent ended the stream without an error.
    #[error("the agent closed the stream")]
    Closed,
}

impl CallError {
    fn ended(status: Status) -> Self {
        if status.code == Code::OK { Self::Closed } else { Self::Refused { status } }
    }

    fn from_frames(error: FrameError) -> Self {
        match error {
            FrameError::Lost(source) => Self::Lost(source),
            FrameError::Late { begun: false } => Self::NoMessage,
            error => Self::Frame(error),
        }
    }

    /// A fixed word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Silent => "silent",
            Self::Dead => "dead",
            Self::Lost(source) if source.is_io() => "connection_lost",
            Self::Lost(_) => "http2_error",
            Self::NotGrpc { .. } => "not_grpc",
            Self::NoMessage => "no_message",
            Self::Frame(source) => source.label(),
            Self::Refused { status } => status.code.label(),
            Self::Closed => "closed",
        }
    }

    /// Whether the agent says that we are entitled to no identity, so that all we had are withdrawn.
    pub(super) fn withdraws_identity(&self) -> bool {
        matches!(self, Self::Refused { status } if status.code == Code::PERMISSION_DENIED)
    }

    /// Whether asking again cannot help until somebody changes something.
    pub(super) fn is_standing(&self) -> bool {
        match self {
            Self::Refused { status } => [Code::INVALID_ARGUMENT, Code::UNIMPLEMENTED].contains(&status.code),
            Self::NotGrpc { .. } => true,
            Self::Unreachable(_)
            | Self::Silent
            | Self::Dead
            | Self::Lost(_)
            | Self::NoMessage
            | Self::Frame(_)
            | Self::Closed => false,
        }
    }
}
