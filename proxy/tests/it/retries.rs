//! What is sent again and what is not, with upstreams that misbehave exactly: byte by byte and frame by frame.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use portcullis::ca::Leaf;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::backend::{Raw, nobody};
use crate::client::{Ask, Http};
use crate::frames::{
    ACK, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, block, frame,
};
use crate::peer;
use crate::pki::{API, CALLER, Pki};
use crate::rows::{BOTH, Way};
use crate::sidecar::{Plan, Sidecar};
use crate::wire::Answer;

/// A connection of the sidecar to its upstream, in plaintext or behind TLS.
pub type Io = Pin<Box<dyn Duplex>>;

pub trait Duplex: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Duplex for T {}

/// A sidecar, and an upstream that does what the test says with each connection.
pub struct Stage {
    pub way: Way,
    pub sidecar: Sidecar,
    pub leaf: Leaf,
    pub pki: Pki,
    pub upstream: Raw,
}

/// What the upstream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    Http1,
    Http2,
}

impl Stage {
    /// `serve` gets each connection with its number, from 1.
    pub async fn new<Serving>(
        way: Way,
        speaks: Speaks,
        serve: impl Fn(Io, usize) -> Serving + Send + Sync + 'static,
    ) -> Self
    where
        Serving: Future<Output = ()> + Send + 'static,
    {
        Self::planned(way, speaks, |plan| plan, serve).await
    }

    /// The same, with more to say about the sidecar.
    pub async fn planned<Serving>(
        way: Way,
        speaks: Speaks,
        more: impl FnOnce(Plan) -> Plan,
        serve: impl Fn(Io, usize) -> Serving + Send + Sync + 'static,
    ) -> Self
    where
        Serving: Future<Output = ()> + Send + 'static,
    {
        let pki = Pki::new();
        let (protocol, alpn) = match speaks {
            Speaks::Http1 => ("http", "http/1.1"),
            Speaks::Http2 => ("http2", "h2"),
        };
        let acceptor = peer::acceptor(&pki.leaf(API), &[alpn]);
        let (serve, accepted) = (Arc::new(serve), Arc::<AtomicUsize>::default());
        let upstream = Raw::start(move |stream| {
            let (serve, acceptor) = (Arc::clone(&serve), acceptor.clone());
            let number = accepted.fetch_add(1, Ordering::Relaxed) + 1;
            async move {
                stream.set_nodelay(true).unwrap();
                match way {
                    Way::Inbound => serve(Box::pin(stream), number).await,
                    // A test may be over before a handshake is.
                    Way::Outbound => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            serve(Box::pin(stream), number).await;
                        }
                    }
                }
            }
        })
        .await;
        let plan = match way {
            Way::Inbound => Plan::new(&pki, API).inbound(protocol, upstream.address),
            Way::Outbound => Plan::new(&pki, CALLER).outbound("http", upstream.address, &[API]),
        };
        Self { way, sidecar: more(plan).ready().await, leaf: pki.leaf(CALLER), pki, upstream }
    }

    /// A caller of HTTP/1.1, whose requests go one after the other.
    pub async fn caller(&self) -> Http {
        match self.way {
            Way::Inbound => Http::one(self.sidecar.inbound(), &self.leaf).await,
            Way::Outbound => Http::plain_one(self.sidecar.outbound()).await,
        }
    }

    /// A caller of HTTP/2.
    pub async fn caller_of_http2(&self) -> Http {
        match self.way {
            Way::Inbound => Http::two(self.sidecar.inbound(), &self.leaf).await,
            Way::Outbound => Http::plain_two(self.sidecar.outbound()).await,
        }
    }

    fn retried(&self, reason: &str, result: &str) -> u64 {
        self.sidecar.count(&format!("portcullis_upstream_retries_total{{reason=\"{reason}\",result=\"{result}\"}}"))
    }
}

/// How often each request was heard, by its method and path.
#[derive(Clone, Default)]
pub struct Heard(Arc<Mutex<HashMap<String, usize>>>);

impl Heard {
    pub fn note(&self, request: &str) {
        *self.0.lock().unwrap().entry(request.to_owned()).or_default() += 1;
    }

    pub fn times(&self, request: &str) -> usize {
        self.0.lock().unwrap().get(request).copied().unwrap_or(0)
    }

    pub fn all(&self) -> usize {
        self.0.lock().unwrap().values().sum()
    }
}

/// Reads one request of HTTP/1.1 without a body: its method and path, or nothing when the connection ends.
pub async fn http1_request(io: &mut Io) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    Some(head.split(" HTTP/").next().unwrap().to_owned())
}

pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// The far end of an HTTP/2 connection.
pub struct Far {
    frames: Frames<Io>,
}

impl Far {
    pub async fn over(io: Io) -> Option<Self> {
        let mut frames = Frames::over(io);
        let mut preface = [0; PREFACE.len()];
        frames.read.read_exact(&mut preface).await.ok()?;
        let mut far = Self { frames };
        far.send(&[frame(SETTINGS, 0, 0, &[])]).await?;
        Some(far)
    }

    /// The stream of the next request, or nothing when the connection ends.
    pub async fn request(&mut self) -> Option<u32> {
        loop {
            let arrived = self.frames.next().await.ok()?;
            match arrived.kind {
                SETTINGS if arrived.flags & ACK == 0 => self.send(&[frame(SETTINGS, ACK, 0, &[])]).await?,
                PING if arrived.flags & ACK == 0 => self.send(&[frame(PING, ACK, 0, &arrived.payload)]).await?,
                HEADERS => return Some(arrived.stream),
                _ => {}
            }
        }
    }

    pub async fn send(&mut self, frames: &[Vec<u8>]) -> Option<()> {
        self.frames.write.write_all(&frames.concat()).await.ok()?;
        self.frames.write.flush().await.ok()
    }

    pub async fn answer(&mut self, stream: u32) -> Option<()> {
        let head = frame(HEADERS, END_HEADERS, stream, &block(&[(":status", "200"), ("content-length", "2")]));
        self.send(&[head, frame(DATA, END_STREAM, stream, b"ok")]).await
    }

    /// GOAWAY without an error, with the last stream that is processed.
    pub async fn goodbye(&mut self, last: u32) -> Option<()> {
        self.send(&[frame(GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat())]).await
    }

    pub async fn reset(&mut self, stream: u32, code: u32) -> Option<()> {
        self.send(&[frame(RST_STREAM, 0, stream, &code.to_be_bytes())]).await
    }
}

const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;

/// Answers the first request of a connection, and closes it when the second one has come.
async fn answers_once(io: Io, speaks: Speaks, heard: Heard) {
    match speaks {
        Speaks::Http1 => {
            let mut io = io;
            let Some(first) = http1_request(&mut io).await else { return };
            heard.note(&first);
            let _ = io.write_all(OK).await;
            let _ = io.flush().await;
            if let Some(second) = http1_request(&mut io).await {
                heard.note(&second);
            }
        }
        Speaks::Http2 => {
            let Some(mut far) = Far::over(io).await else { return };
            let Some(first) = far.request().await else { return };
            heard.note("a request");
            let _ = far.answer(first).await;
            if far.request().await.is_some() {
                heard.note("a request");
            }
        }
    }
}

#[tokio::test]
async fn a_connection_that_dies_under_its_second_request_costs_no_idempotent_one() {
    for way in BOTH {
        for speaks in [Speaks::Http1, Speaks::Http2] {
            let row = format!("{way:?}, {speaks:?}");
            let heard = Heard::default();
            let noting = heard.clone();
            let stage = Stage::new(way, speaks, move |io, _| answers_once(io, speaks, noting.clone())).await;
            let mut http = stage.caller().await;
            for number in 0..200 {
                let answer = http.get(&format!("/{number}")).await;
                assert_eq!((answer.status, answer.text()), (200, "ok"), "{row}: request {number}");
            }
            let again = stage.retried("connection_died", "answered");
            assert!(again > 0, "{row}: the connections did not die under any request");
            assert!(heard.all() <= 200 + 200 / 5 + 10, "{row}: {} requests for 200", heard.all());
            assert_eq!(stage.retried("connection_died", "failed"), 0, "{row}");
            assert_eq!(stage.retried("connection_died", "over_budget"), 0, "{row}");
        }
    }
}

#[tokio::test]
async fn what_may_have_been_processed_is_not_sent_again() {
    for way in BOTH {
        for speaks in [Speaks::Http1, Speaks::Http2] {
            for method in ["POST", "PATCH"] {
                let row = format!("{way:?}, {speaks:?}, {method}");
                let heard = Heard::default();
                let noting = heard.clone();
                let stage = Stage::new(way, speaks, move |io, _| answers_once(io, speaks, noting.clone())).await;
                let mut http = stage.caller().await;
                assert_eq!(http.get("/first").await.status, 200, "{row}");
                let answer = http.send(Ask::new(method, "/second")).await;
                assert_eq!(answer.status, 502, "{row}");
                assert_eq!(heard.all(), 2, "{row}");
                assert_eq!(http.get("/third").await.status, 200, "{row}: the next request has a connection of its own");
            }
        }
    }
}

#[tokio::test]
async fn a_new_connection_that_dies_is_no_race_and_its_request_is_not_sent_again() {
    for way in BOTH {
        let heard = Heard::default();
        let noting = heard.clone();
        let stage = Stage::new(way, Speaks::Http1, move |mut io, _| {
            let noting = noting.clone();
            async move {
                if let Some(request) = http1_request(&mut io).await {
                    noting.note(&request);
                }
            }
        })
        .await;
        assert_eq!(stage.caller().await.get("/once").await.status, 502, "{way:?}");
        assert_eq!(heard.times("GET /once"), 1, "{way:?}");
    }
}

#[tokio::test]
async fn an_answer_that_has_begun_is_not_asked_for_again() {
    for way in BOTH {
        for begun in ["H", "HTTP/1.1 20", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n"] {
            let heard = Heard::default();
            let noting = heard.clone();
            let stage = Stage::new(way, Speaks::Http1, move |mut io, _| {
                let noting = noting.clone();
                async move {
                    for answer in [OK, begun.as_bytes()] {
                        let Some(request) = http1_request(&mut io).await else { return };
                        noting.note(&request);
                        let _ = io.write_all(answer).await;
                        let _ = io.flush().await;
                    }
                }
            })
            .await;
            let mut http = stage.caller().await;
            assert_eq!(http.get("/whole").await.status, 200);
            assert_eq!(http.get("/half").await.status, 502, "{way:?}: {begun:?}");
            assert_eq!(heard.times("GET /half"), 1, "{way:?}: {begun:?}");
        }
    }
}

/// What an HTTP/2 upstream does with the first request of its first connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    /// REFUSED_STREAM.
    Refuses,
    /// GOAWAY that names no stream.
    SaysGoodbye,
    /// GOAWAY that names its stream, then the end.
    SaysGoodbyeAndCloses,
    /// Another reset.
    Cancels,
    /// The end.
    Closes,
}

async fn fails_first(io: Io, number: usize, first: First, heard: Heard) {
    let Some(mut far) = Far::over(io).await else { return };
    let mut is_first = number == 1;
    while let Some(stream) = far.request().await {
        heard.note("a request");
        let sent = if std::mem::take(&mut is_first) {
            match first {
                First::Refuses => far.reset(stream, REFUSED_STREAM).await,
                First::SaysGoodbye => far.goodbye(0).await,
                First::SaysGoodbyeAndCloses => far.goodbye(stream).await.filter(|()| false),
                First::Cancels => far.reset(stream, CANCEL).await,
                First::Closes => None,
            }
        } else {
            far.answer(stream).await
        };
        if sent.is_none() {
            return;
        }
    }
}

#[tokio::test]
async fn what_an_http2_upstream_says_that_it_has_not_processed_is_sent_again() {
    for way in BOTH {
        for (first, method, body, status, reason) in [
            (First::Refuses, "GET", "", 200, "stream_refused"),
            (First::Refuses, "POST", "", 200, "stream_refused"),
            (First::Refuses, "POST", "an order", 502, ""),
            (First::SaysGoodbye, "GET", "", 200, "goaway"),
            (First::SaysGoodbye, "POST", "", 200, "goaway"),
            (First::SaysGoodbye, "POST", "an order", 502, ""),
            (First::SaysGoodbyeAndCloses, "POST", "", 502, ""),
            (First::Cancels, "GET", "", 502, ""),
            (First::Cancels, "POST", "", 502, ""),
            // The connection was opened for this request: no race, and perhaps its fault.
            (First::Closes, "GET", "", 502, ""),
        ] {
            let row = format!("{way:?}, {first:?}, {method} {body:?}");
            let heard = Heard::default();
            let noting = heard.clone();
            let stage =
                Stage::new(way, Speaks::Http2, move |io, number| fails_first(io, number, first, noting.clone())).await;
            let ask = Ask::new(method, "/row");
            let ask = if body.is_empty() { ask } else { ask.text(body) };
            let answer = stage.caller().await.send(ask).await;
            assert_eq!(answer.status, status, "{row}");
            assert_eq!(heard.all(), if status == 200 { 2 } else { 1 }, "{row}");
            if !reason.is_empty() {
                assert_eq!(stage.retried(reason, "answered"), 1, "{row}");
            }
        }
    }
}

#[tokio::test]
async fn a_goodbye_between_requests_costs_none_of_them() {
    for way in BOTH {
        let stage = Stage::new(way, Speaks::Http2, |io, _| async move {
            let Some(mut far) = Far::over(io).await else { return };
            while let Some(stream) = far.request().await {
                // The second GOAWAY is the one that lets the connection end.
                let _ = far.answer(stream).await;
                let _ = far.goodbye(stream).await;
            }
        })
        .await;
        let mut http = stage.caller().await;
        for number in 0..20 {
            let answer = http.send(Ask::new("POST", "/orders").text("an order")).await;
            assert_eq!(answer.status, 200, "{way:?}: request {number}");
        }
        assert_eq!(stage.upstream.accepted(), 20, "{way:?}: a connection that said goodbye is not used again");
    }
}

#[tokio::test]
async fn a_connection_that_cannot_be_had_is_asked_for_once_more() {
    // Outbound, the first connection ends in the middle of its handshake.
    let pki = Pki::new();
    let acceptor = peer::acceptor(&pki.leaf(API), &["http/1.1"]);
    let accepted = Arc::<AtomicUsize>::default();
    let upstream = Raw::start(move |stream| {
        let (acceptor, number) = (acceptor.clone(), accepted.fetch_add(1, Ordering::Relaxed));
        async move {
            if number == 0 {
                return;
            }
            let mut io: Io = Box::pin(acceptor.accept(stream).await.unwrap());
            while http1_request(&mut io).await.is_some() {
                let _ = io.write_all(OK).await;
                let _ = io.flush().await;
            }
        }
    })
    .await;
    let near = Plan::new(&pki, CALLER).outbound("http", upstream.address, &[API]).ready().await;
    let answer = Http::plain_one(near.outbound()).await.send(Ask::new("POST", "/orders")).await;
    assert_eq!((answer.status, upstream.accepted()), (200, 2), "{}", answer.text());
    assert_eq!(near.count("portcullis_upstream_retries_total{reason=\"not_connected\",result=\"answered\"}"), 1);

    // Nobody listens: twice is enough.
    let near = Plan::new(&pki, CALLER).outbound("http", nobody().await, &[API]).ready().await;
    let answer = Http::plain_one(near.outbound()).await.get("/").await;
    assert_eq!((answer.status, answer.header("x-portcullis-reason")), (503, Some("upstream_unreachable")));
    assert_eq!(near.count("portcullis_upstream_retries_total{reason=\"not_connected\",result=\"failed\"}"), 1);
}

#[tokio::test]
async fn a_peer_that_refuses_us_is_asked_once() {
    let pki = Pki::new();
    let upstream = Raw::start({
        let acceptor = peer::acceptor(&pki.leaf(CALLER), &["h2"]);
        move |stream| {
            let acceptor = acceptor.clone();
            async move { drop(acceptor.accept(stream).await) }
        }
    })
    .await;
    let near = Plan::new(&pki, CALLER).outbound("http", upstream.address, &[API]).ready().await;
    let answer = Http::plain_one(near.outbound()).await.get("/").await;
    assert_eq!((answer.status, answer.header("x-portcullis-reason")), (503, Some("upstream_wrong_identity")));
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn a_storm_on_a_dying_peer_costs_it_a_fifth_more_at_the_most() {
    const STORM: usize = 400;
    for way in BOTH {
        let heard = Heard::default();
        let noting = heard.clone();
        let stage = Stage::new(way, Speaks::Http2, move |io, _| {
            let noting = noting.clone();
            async move {
                let Some(mut far) = Far::over(io).await else { return };
                while let Some(stream) = far.request().await {
                    noting.note("a request");
                    let _ = far.reset(stream, REFUSED_STREAM).await;
                }
            }
        })
        .await;
        let http = stage.caller_of_http2().await;
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let mut http = http.beside();
            asking.spawn(async move {
                let mut answers: Vec<Answer> = Vec::new();
                for _ in 0..STORM / 8 {
                    answers.push(http.get("/storm").await);
                }
                answers
            });
        }
        let answers = asking.join_all().await.concat();
        assert_eq!(answers.len(), STORM);
        assert!(answers.iter().all(|answer| answer.status == 502), "{way:?}");
        let (most, all) = (STORM + STORM / 5 + 10, heard.all());
        assert!((STORM + 11..=most).contains(&all), "{way:?}: {all} requests for {STORM}, {most} at the most");
        assert!(stage.retried("stream_refused", "over_budget") > 0, "{way:?}");
        assert_eq!(stage.retried("stream_refused", "failed") as usize, all - STORM, "{way:?}");
    }
}
