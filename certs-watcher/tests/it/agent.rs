//! A Workload API for tests: an HTTP/2 server that plays what a test tells it to, on a Unix socket or on TCP.
//!
//! It shares nothing with the client under test but the h2 library. It insists on what the standard has a client send.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use h2::server::{self, SendResponse};
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What the agent does with the call that is open, and with each that comes, until it is told otherwise.
#[derive(Clone, Debug)]
pub enum Play {
    /// Sends this message and leaves the stream open.
    Deliver(Vec<u8>),
    /// Sends these bytes as they are and leaves the stream open.
    Raw(Vec<u8>),
    /// Sends this message and ends the stream well.
    DeliverAndClose(Vec<u8>),
    /// Sends this message again and again, as fast as it is taken.
    Flood(Vec<u8>),
    /// Sends frames without a byte in them, again and again.
    Drizzle,
    /// Ends the stream with this code and message.
    Refuse(u32, &'static str),
    /// Answers with this HTTP status and content type.
    Http(u16, &'static str),
    /// Begins an answer and sends no message.
    Nothing,
    /// Hangs up without a word, and on whoever calls.
    HangUp,
    /// Goes on holding connections, and reads no more from them.
    Freeze,
}

/// A running agent. It ends, with all its connections, when it is dropped.
pub struct Agent {
    pub endpoint: String,
    play: watch::Sender<Play>,
    counts: Arc<Counts>,
    socket: Option<PathBuf>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    calls: AtomicUsize,
}

impl Agent {
    pub fn on_unix(path: &Path, play: Play) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let (play, counts) = (watch::Sender::new(play), Arc::<Counts>::default());
        let mut tasks = JoinSet::new();
        let (told, counted) = (play.clone(), counts.clone());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                counted.connections.fetch_add(1, Ordering::SeqCst);
                connections.spawn(connection(socket, told.clone(), counted.clone()));
            }
        });
        let endpoint = format!("unix://{}", path.display());
        Self { endpoint, play, counts, socket: Some(path.to_owned()), _tasks: tasks }
    }

    pub async fn on_tcp(play: Play) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
        let (play, counts) = (watch::Sender::new(play), Arc::<Counts>::default());
        let mut tasks = JoinSet::new();
        let (told, counted) = (play.clone(), counts.clone());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                counted.connections.fetch_add(1, Ordering::SeqCst);
                connections.spawn(connection(socket, told.clone(), counted.clone()));
            }
        });
        Self { endpoint, play, counts, socket: None, _tasks: tasks }
    }

    /// Something on a Unix socket that is no agent: it writes these bytes to whoever connects, then the others again and
    /// again, if there are any, and holds the connection.
    pub fn impostor(path: &Path, bytes: &'static [u8], again: Vec<u8>) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let counts = Arc::<Counts>::default();
        let counted = counts.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut socket, _)) = listener.accept().await {
                counted.connections.fetch_add(1, Ordering::SeqCst);
                // A client that has already gone is no failure of the impostor.
                let _ = socket.write_all(bytes).await;
                while !again.is_empty() && socket.write_all(&again).await.is_ok() {}
                held.push(socket);
            }
        });
        let endpoint = format!("unix://{}", path.display());
        Self { endpoint, play: watch::Sender::new(Play::Nothing), counts, socket: Some(path.to_owned()), _tasks: tasks }
    }

    pub fn play(&self, play: Play) {
        self.play.send_replace(play);
    }

    /// How often somebody connected.
    pub fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::SeqCst)
    }

    /// How often the method was called.
    pub fn calls(&self) -> usize {
        self.counts.calls.load(Ordering::SeqCst)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(path) = &self.socket {
            std::fs::remove_file(path).unwrap();
        }
    }
}

async fn connection(socket: impl AsyncRead + AsyncWrite + Unpin, play: watch::Sender<Play>, counts: Arc<Counts>) {
    let Ok(mut connection) = server::handshake(socket).await else { return };
    let mut calls = JoinSet::new();
    let mut told = play.subscribe();
    loop {
        tokio::select! {
            freeze = hung_up(&mut told) => {
                if freeze {
                    std::future::pending::<()>().await;
                }
                return;
            }
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    counts.calls.fetch_add(1, Ordering::SeqCst);
                    calls.spawn(call(request, respond, play.subscribe()));
                }
                _ => return,
            },
        }
    }
}

/// Waits until there is no more to say on any connection, and tells whether they are held for all that.
async fn hung_up(told: &mut watch::Receiver<Play>) -> bool {
    match told.wait_for(|play| matches!(play, Play::HangUp | Play::Freeze)).await {
        Ok(play) => matches!(*play, Play::Freeze),
        Err(_) => false,
    }
}

async fn call(request: Request<h2::RecvStream>, mut respond: SendResponse<Bytes>, mut told: watch::Receiver<Play>) {
    if let Some((code, message)) = fault(&request) {
        refuse(&mut respond, code, message);
        return;
    }
    let mut body = request.into_body();
    let mut asked = BytesMut::new();
    while let Some(Ok(chunk)) = body.data().await {
        asked.put(chunk);
    }
    if asked.as_ref() != [0; 5] {
        refuse(&mut respond, 3, "the request is no empty message");
        return;
    }

    let mut stream = None;
    loop {
        let play = told.borrow_and_update().clone();
        if let Play::Refuse(code, message) = play {
            match stream.as_mut() {
                None => refuse(&mut respond, code, message),
                Some(stream) => end(stream, code, message),
            }
            return;
        }
        if let Play::Http(status, content_type) = play {
            let response = Response::builder().status(status).header("content-type", content_type).body(()).unwrap();
            // A client that hangs up first is its right.
            let _ = respond.send_response(response, true);
            return;
        }
        if stream.is_none() {
            let response = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
            stream = respond.send_response(response, false).ok();
        }
        let Some(sender) = stream.as_mut() else { return };
        match play {
            Play::Deliver(message) => send(sender, frame(&message)),
            Play::Raw(bytes) => send(sender, bytes.into()),
            Play::DeliverAndClose(message) => {
                send(sender, frame(&message));
                end(sender, 0, "");
                return;
            }
            Play::Flood(message) => {
                let message = frame(&message);
                loop {
                    sender.reserve_capacity(message.len());
                    match std::future::poll_fn(|context| sender.poll_capacity(context)).await {
                        Some(Ok(capacity)) if capacity >= message.len() => send(sender, message.clone()),
                        Some(Ok(_)) => {}
                        _ => return,
                    }
                }
            }
            Play::Drizzle => {
                while sender.send_data(Bytes::new(), false).is_ok() {
                    tokio::task::yield_now().await;
                }
                return;
            }
            Play::Nothing | Play::HangUp | Play::Freeze | Play::Refuse(..) | Play::Http(..) => {}
        }
        if told.changed().await.is_err() {
            return;
        }
    }
}

/// What the standard forbids about this call.
fn fault(request: &Request<h2::RecvStream>) -> Option<(u32, &'static str)> {
    let header = |name: &str| request.headers().get(name).map(|value| value.as_bytes());
    if request.uri().path() != "/SpiffeWorkloadAPI/FetchX509SVID" || request.method() != "POST" {
        return Some((12, "unknown method"));
    }
    if header("workload.spiffe.io") != Some(b"true") {
        return Some((3, "security header missing from request"));
    }
    if header("content-type") != Some(b"application/grpc") || header("te") != Some(b"trailers") {
        return Some((3, "this is no gRPC call"));
    }
    None
}

pub fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap());
    frame.put_slice(message);
    frame.freeze()
}

fn send(sender: &mut h2::SendStream<Bytes>, bytes: Bytes) {
    // A client that has hung up is no failure of the agent.
    let _ = sender.send_data(bytes, false);
}

fn end(sender: &mut h2::SendStream<Bytes>, code: u32, message: &str) {
    let _ = sender.send_trailers(status(code, message));
}

/// An answer without messages: the status stands in its headers.
fn refuse(respond: &mut SendResponse<Bytes>, code: u32, message: &str) {
    let mut response = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    response.headers_mut().extend(status(code, message));
    let _ = respond.send_response(response, true);
}

fn status(code: u32, message: &str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", code.into());
    trailers.insert("grpc-message", message.parse().unwrap());
    trailers
}
