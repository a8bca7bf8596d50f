//! One helper for many rows: what a caller sends byte by byte, what becomes of it, and the exact bytes that the application
//! heard. Inbound the application is ours, outbound it is a peer behind TLS; it speaks HTTP/1.1 in both.

use std::sync::{Arc, Mutex};

use portcullis::ca::Leaf;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::client::Hello;
use crate::eventually::soon;
use crate::frames::{
    Arrived, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PREFACE, RST_STREAM, SETTINGS, block, code_of, frame,
    status,
};
use crate::peer;
use crate::pki::{API, CALLER, Pki};
use crate::sidecar::{Plan, Sidecar};
use crate::wire::{Answer, Wire};

/// Which side of the sidecar is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Inbound,
    Outbound,
}

impl Way {
    /// As metrics and logs name it.
    pub fn direction(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// What the application does with a connection behind an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behind {
    Stay,
    Close,
}

pub const BOTH: [Way; 2] = [Way::Inbound, Way::Outbound];

/// A caller, a sidecar, and an application that records.
pub struct Stage {
    pub way: Way,
    pub sidecar: Sidecar,
    pub recorder: Recorder,
    leaf: Leaf,
}

/// What became of one row.
#[derive(Debug)]
pub struct Outcome {
    pub end: End,
    /// The first answer, over HTTP/1.1.
    pub answer: Option<Answer>,
    /// Everything that came back over HTTP/1.1 for the row, byte by byte.
    pub read: Vec<u8>,
    /// The requests that the application heard of it, byte by byte.
    pub heard: Vec<String>,
    /// Whether the connection was good for another request.
    pub is_open: bool,
}

/// What the caller was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Answered(u16),
    /// RST_STREAM with this code.
    Reset(u32),
    /// GOAWAY with this code.
    Goodbye(u32),
    /// The connection closed without a word.
    Closed,
}

impl Stage {
    /// With an application that answers 200 with `ok`.
    pub async fn new(way: Way) -> Self {
        Self::answering(way, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await
    }

    /// With an application that answers each request but the last one of a row with these bytes.
    pub async fn answering(way: Way, answer: &'static [u8]) -> Self {
        Self::planned(way, answer, |plan| plan).await
    }

    /// With an application that closes the connection behind each answer.
    pub async fn cutting_off(way: Way, answer: &'static [u8]) -> Self {
        Self::staged(way, answer, Behind::Close, |plan| plan).await
    }

    /// The same, with more to say about the sidecar.
    pub async fn planned(way: Way, answer: &'static [u8], more: impl FnOnce(Plan) -> Plan) -> Self {
        Self::staged(way, answer, Behind::Stay, more).await
    }

    async fn staged(way: Way, answer: &'static [u8], behind: Behind, more: impl FnOnce(Plan) -> Plan) -> Self {
        let pki = Pki::new();
        let (plan, recorder) = match way {
            Way::Inbound => {
                let recorder = Recorder::behind(answer, behind, None).await;
                (Plan::new(&pki, API).inbound("http", recorder.address), recorder)
            }
            Way::Outbound => {
                let recorder = Recorder::behind(answer, behind, Some(&pki.leaf(API))).await;
                (Plan::new(&pki, CALLER).outbound("http", recorder.address, &[API]), recorder)
            }
        };
        Self { way, sidecar: more(plan).ready().await, recorder, leaf: pki.leaf(CALLER) }
    }

    /// Sends these bytes on an HTTP/1.1 connection of their own, and reads the answer to the first request in them.
    pub async fn http1(&self, row: impl AsRef<[u8]>) -> Outcome {
        let row = row.as_ref();
        match self.way {
            Way::Inbound => {
                let stream = Hello::new(&self.leaf, &["http/1.1"]).shake(self.sidecar.inbound()).await.unwrap();
                self.http1_over(stream, row).await
            }
            Way::Outbound => {
                let stream = TcpStream::connect(self.sidecar.outbound()).await.unwrap();
                self.http1_over(stream, row).await
            }
        }
    }

    async fn http1_over(&self, io: impl AsyncRead + AsyncWrite + Unpin, row: &[u8]) -> Outcome {
        let mut wire = Wire::new(io);
        // One that is refused early may be closed before all of it is written.
        let _ = wire.io.write_all(row).await;
        let _ = wire.io.flush().await;
        let answer = soon("an answer or the end", wire.try_answer(!row.starts_with(b"HEAD "))).await.ok();
        let read = wire.read.clone();
        let _ = wire.io.write_all(LAST.as_bytes()).await;
        let rest = wire.rest().await;
        let heard = self.recorder.take();
        let is_open = heard.iter().any(|request| is_last(request));
        // What comes after the first answer belongs to the row as long as it is not the answer to the last request.
        let read = if is_open { read } else { [read, rest].concat() };
        Outcome {
            end: answer.as_ref().map_or(End::Closed, |answer| End::Answered(answer.status)),
            answer,
            read,
            heard: heard.into_iter().filter(|request| !is_last(request)).collect(),
            is_open,
        }
    }

    /// Sends these frames, of stream 1, on an HTTP/2 connection of their own, and waits for what becomes of the stream.
    pub async fn http2(&self, frames: &[Vec<u8>]) -> Outcome {
        match self.way {
            Way::Inbound => {
                let stream = Hello::new(&self.leaf, &["h2"]).shake(self.sidecar.inbound()).await.unwrap();
                self.http2_over(stream, frames).await
            }
            Way::Outbound => {
                let stream = TcpStream::connect(self.sidecar.outbound()).await.unwrap();
                self.http2_over(stream, frames).await
            }
        }
    }

    async fn http2_over(&self, io: impl AsyncRead + AsyncWrite + Unpin, frames: &[Vec<u8>]) -> Outcome {
        let mut peer = Frames::over(io);
        let opening = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frames.concat()].concat();
        let _ = peer.write.write_all(&opening).await;
        let _ = peer.write.flush().await;
        let end = soon("the end of the stream", end_of(&mut peer, 1)).await;
        let _ = peer
            .write
            .write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 3, &request_block("GET", LAST_PATH, &[])))
            .await;
        let is_open = soon("the end of the last stream", end_of(&mut peer, 3)).await == End::Answered(200);
        let heard = self.recorder.take();
        Outcome {
            end,
            answer: None,
            read: Vec::new(),
            heard: heard.into_iter().filter(|request| !is_last(request)).collect(),
            is_open,
        }
    }
}

/// What becomes of a stream: its answer, when that has ended, or what was said in its place.
async fn end_of<Io: AsyncRead + AsyncWrite + Unpin>(peer: &mut Frames<Io>, id: u32) -> End {
    let mut answered = None;
    loop {
        let Ok(Arrived { kind, flags, stream, payload }) = peer.next().await else { return End::Closed };
        match kind {
            GOAWAY if code_of(&payload) != 0 => return End::Goodbye(code_of(&payload)),
            // What ends after its answer has been answered.
            RST_STREAM if stream == id => {
                let code = u32::from_be_bytes(payload.try_into().unwrap());
                return answered.filter(|_| code == 0).map_or(End::Reset(code), End::Answered);
            }
            HEADERS if stream == id && answered.is_none() => answered = Some(status(&payload)),
            _ => {}
        }
        if stream == id && flags & END_STREAM != 0 && matches!(kind, HEADERS | crate::frames::DATA) {
            return answered.map_or(End::Closed, End::Answered);
        }
    }
}

/// The head of a request over HTTP/2, with further fields; see [`block`] for one that is wrong in its pseudo-header fields.
pub fn request_block(method: &str, path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let host = crate::client::HOST;
    let pseudo = [(":method", method), (":scheme", "https"), (":authority", host), (":path", path)];
    block(&[&pseudo, fields].concat())
}

/// An application that writes down what it hears, request by request, and is strict about what a request is.
#[derive(Clone)]
pub struct Recorder {
    pub address: std::net::SocketAddr,
    answer: &'static [u8],
    behind: Behind,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    /// Listens; behind TLS when it has a leaf.
    pub async fn start(answer: &'static [u8], leaf: Option<&Leaf>) -> Self {
        Self::behind(answer, Behind::Stay, leaf).await
    }

    async fn behind(answer: &'static [u8], behind: Behind, leaf: Option<&Leaf>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let recorder = Self { address: listener.local_addr().unwrap(), answer, behind, heard: Arc::default() };
        let (serving, acceptor) = (recorder.clone(), leaf.map(|leaf| peer::acceptor(leaf, &["http/1.1"])));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let (serving, acceptor) = (serving.clone(), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => serving.serve(stream).await,
                        Some(acceptor) => match acceptor.accept(stream).await {
                            Ok(stream) => serving.serve(stream).await,
                            Err(error) => panic!("a handshake of the peer: {error}"),
                        },
                    }
                });
            }
        });
        recorder
    }

    /// The requests since the last time.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.heard.lock().unwrap())
    }

    async fn serve(self, mut io: impl AsyncRead + AsyncWrite + Unpin) {
        let mut buffer = Vec::new();
        loop {
            while let Some(length) = request_length(&buffer) {
                let request: Vec<u8> = buffer.drain(..length).collect();
                let request = String::from_utf8_lossy(&request).into_owned();
                let answer = if is_last(&request) { OK } else { self.answer };
                self.heard.lock().unwrap().push(request);
                if io.write_all(answer).await.is_err() {
                    return;
                }
                if self.behind == Behind::Close && answer != OK {
                    let _ = io.shutdown().await;
                    return;
                }
            }
            if !matches!(io.read_buf(&mut buffer).await, Ok(1..)) {
                break;
            }
        }
        if !buffer.is_empty() {
            self.heard.lock().unwrap().push(format!("unfinished: {}", String::from_utf8_lossy(&buffer)));
        }
        let _ = io.shutdown().await;
    }
}

/// The length of the request at the front of `bytes`, if it is whole. One that two readers could read as two different
/// requests is a fault of the sidecar, whatever the row is about.
fn request_length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).expect("heads are ASCII in these tests");
    let lines: Vec<&str> = text.trim_end().split("\r\n").collect();
    let is_clean = |line: &&str| !line.contains(['\r', '\n', '\0']) && !line.starts_with([' ', '\t']);
    assert!(lines.iter().all(is_clean), "a line that is none: {text:?}");
    let values = |name: &str| -> Vec<&str> {
        let fields = lines[1..].iter().filter_map(|line| line.split_once(": "));
        fields.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    };
    match (&values("content-length")[..], &values("transfer-encoding")[..]) {
        ([], []) => Some(head),
        ([length], []) => {
            let length: usize = length.parse().expect("a length");
            (bytes.len() >= head + length).then_some(head + length)
        }
        ([], ["chunked"]) => chunked_length(&bytes[head..]).map(|length| head + length),
        (lengths, codings) => panic!("framed in two ways: {lengths:?} {codings:?}"),
    }
}

/// The length of a chunked body with its trailers, without extensions.
fn chunked_length(bytes: &[u8]) -> Option<usize> {
    let line = |from: usize| {
        let rest = bytes.get(from..)?;
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        Some((std::str::from_utf8(&rest[..end]).unwrap(), from + end + 2))
    };
    let mut at = 0;
    loop {
        let (size, next) = line(at)?;
        let size = usize::from_str_radix(size, 16).expect("a chunk's size and nothing else");
        if size == 0 {
            at = next;
            break;
        }
        at = next + size + 2;
        assert!(bytes.get(at - 2..at).is_none_or(|end| end == b"\r\n"), "a chunk ends where it says");
    }
    loop {
        let (field, next) = line(at)?;
        at = next;
        if field.is_empty() {
            return Some(at);
        }
    }
}

fn is_last(request: &str) -> bool {
    request.starts_with(&format!("GET {LAST_PATH} "))
}

/// The request that shows whether a connection is still good.
const LAST_PATH: &str = "/last";
const LAST: &str = "GET /last HTTP/1.1\r\nhost: eligibility.test\r\nconnection: close\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
