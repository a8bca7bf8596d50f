//! Applications: one that records what it is asked over HTTP/1.1 and HTTP/2, and raw ones.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::client::{Body, fields, flowing};

/// One request as the application saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Number of the connection it came on, from 1.
    pub connection: usize,
    pub version: Version,
    pub method: String,
    /// Path and query as they came.
    pub target: String,
    /// The authority of an HTTP/2 request.
    pub authority: Option<String>,
    pub headers: HeaderMap,
    /// Empty for paths that stream it back.
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?.to_str().unwrap();
        assert_eq!(values.next(), None, "{name} is repeated");
        Some(value)
    }
}

/// A recording application. What it answers goes by the path, see [`State::answer`].
#[derive(Clone)]
pub struct Backend {
    pub address: SocketAddr,
    state: Arc<State>,
}

struct State {
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    released: Semaphore,
    abandoned: AtomicUsize,
    /// Whether it takes WebSockets over HTTP/2.
    takes_streams: bool,
}

/// Counts a request whose answer nobody waits for any more.
struct Abandoned<'a>(&'a State);

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        self.0.abandoned.fetch_add(1, Ordering::Relaxed);
    }
}

impl Backend {
    pub async fn start() -> Self {
        Self::launch(false).await
    }

    /// One that takes WebSockets over HTTP/2 too (RFC 8441).
    pub async fn taking_streams() -> Self {
        Self::launch(true).await
    }

    async fn launch(takes_streams: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
            released: Semaphore::new(0),
            abandoned: AtomicUsize::new(0),
            takes_streams,
        });
        let backend = Self { address, state };
        let serving = backend.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        backend
    }

    async fn serve(self, stream: TcpStream) {
        // `PRI * HTTP/2.0` is no request of HTTP/1.1.
        let mut first = [0; 3];
        while stream.peek(&mut first).await.is_ok_and(|seen| (1..3).contains(&seen)) {}
        self.speak(stream, if &first == b"PRI" { Version::HTTP_2 } else { Version::HTTP_11 }).await;
    }

    /// Serves one connection over whatever it comes.
    pub async fn speak(self, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, version: Version) {
        let connection = self.state.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let takes_streams = self.state.takes_streams;
        let service = service_fn(move |request| {
            let state = Arc::clone(&self.state);
            async move { Ok::<_, Infallible>(state.answer(connection, request).await) }
        });
        // A connection that breaks is what the test is about, or it fails for it.
        let io = TokioIo::new(io);
        if version == Version::HTTP_2 {
            let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            // Room for small frames that a test leaves unread: what is judged is the sidecar's room, not this one's.
            builder.initial_connection_window_size(16 << 20).initial_stream_window_size(64 << 10);
            if takes_streams {
                builder.enable_connect_protocol();
            }
            let _ = builder.serve_connection(io, service).await;
        } else {
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).with_upgrades().await;
        }
    }

    /// Everything that was asked so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    pub fn last(&self) -> Seen {
        self.seen().pop().expect("nothing was asked")
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// How many requests for `/never` were given up.
    pub fn abandoned(&self) -> usize {
        self.state.abandoned.load(Ordering::Relaxed)
    }

    /// Lets one request for `/hold` go on.
    pub fn release(&self) {
        self.state.released.add_permits(1);
    }
}

impl State {
    async fn answer(&self, connection: usize, mut request: Request<Incoming>) -> Response<Body> {
        let seen = Seen {
            connection,
            version: request.version(),
            method: request.method().to_string(),
            target: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
            authority: request.uri().authority().map(ToString::to_string),
            headers: request.headers().clone(),
            body: Vec::new(),
            trailers: Vec::new(),
        };
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let is_grpc = request.headers().get("content-type").is_some_and(|kind| kind == "application/grpc");
        if path == "/upgrade" {
            self.record(seen);
            return upgrade(&mut request);
        }
        let body = request.into_body();
        if path == "/echo" || is_grpc {
            self.record(seen);
            return echo(body, is_grpc);
        }
        if path == "/early" {
            self.record(seen);
            return respond(413, "too much");
        }
        if path == "/never" {
            self.record(seen);
            let _abandoned = Abandoned(self);
            return std::future::pending().await;
        }
        let Ok(body) = body.collect().await else { return respond(400, "broken") };
        let trailers = body.trailers().map(fields).unwrap_or_default();
        self.record(Seen { body: body.to_bytes().to_vec(), trailers, ..seen });
        match path.as_str() {
            "/hold" => {
                self.released.acquire().await.unwrap().forget();
                respond(200, "held")
            }
            "/hop" => {
                let mut response = respond(200, "hop");
                for (name, value) in [("connection", "x-hop"), ("x-hop", "1"), ("keep-alive", "timeout=5")] {
                    response.headers_mut().insert(name, value.parse().unwrap());
                }
                response
            }
            "/trailers" => trailers_after("summed"),
            path if path.starts_with("/status/") => respond(path[8..].parse().unwrap(), ""),
            _ if method == Method::HEAD => {
                // Over HTTP/2 the library would send a body that must not be there.
                let mut response = respond(200, "");
                response.headers_mut().insert("content-length", "2".parse().unwrap());
                response
            }
            _ => respond(200, "ok"),
        }
    }

    fn record(&self, seen: Seen) {
        self.seen.lock().unwrap().push(seen);
    }
}

fn respond(status: u16, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response.headers_mut().insert("etag", "\"1\"".parse().unwrap());
    response
}

/// Sends every frame back as it comes; to gRPC callers with a status at the end.
fn echo(mut body: Incoming, is_grpc: bool) -> Response<Body> {
    let (frames, echoed) = flowing();
    tokio::spawn(async move {
        while let Some(Ok(frame)) = body.frame().await {
            let Ok(data) = frame.into_data() else { continue };
            if frames.send(Frame::data(data)).await.is_err() {
                return;
            }
        }
        if is_grpc {
            let trailers = [("grpc-status", "0"), ("grpc-message", "done")];
            let trailers = trailers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            let _ = frames.send(Frame::trailers(trailers.into_iter().collect())).await;
        }
    });
    let mut response = Response::new(echoed);
    if is_grpc {
        response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    }
    response
}

fn trailers_after(text: &'static str) -> Response<Body> {
    let trailers: HeaderMap = [("x-sum".parse().unwrap(), "42".parse().unwrap())].into_iter().collect();
    let frames = [Frame::data(Bytes::from_static(text.as_bytes())), Frame::trailers(trailers)];
    let frames = futures_util::stream::iter(frames.map(Ok::<_, Infallible>));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert("trailer", "x-sum".parse().unwrap());
    response
}

/// Switches protocols and sends every byte back, after a word of its own.
fn upgrade(request: &mut Request<Incoming>) -> Response<Body> {
    let is_stream = request.method() == Method::CONNECT;
    if !is_stream && request.headers().get("upgrade").is_none_or(|value| value != "websocket") {
        return respond(426, "");
    }
    let accept = request.headers().get("sec-websocket-key").map(accept_of);
    let spoken = request.headers().get("sec-websocket-protocol").cloned();
    let upgraded = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let mut io = TokioIo::new(upgraded.await.unwrap());
        io.write_all(b"welcome").await.unwrap();
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = io.read(&mut buffer).await {
            if io.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
        let _ = io.shutdown().await;
    });
    let mut response = Response::new(Empty::new().boxed_unsync());
    if let Some(spoken) = spoken {
        response.headers_mut().insert("sec-websocket-protocol", spoken);
    }
    if is_stream {
        return response;
    }
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in [("connection", "upgrade"), ("upgrade", "websocket")] {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    if let Some(accept) = accept {
        response.headers_mut().insert("sec-websocket-accept", accept.parse().unwrap());
    }
    response
}

/// RFC 6455 section 4.2.2; the sidecar's own is held against the vector of the RFC.
fn accept_of(key: &http::HeaderValue) -> String {
    portcullis::http::upgrade::accept_of(key).to_str().unwrap().to_owned()
}

/// An application that does what the test says with each connection.
pub struct Raw {
    pub address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Raw {
    pub async fn start<Serving>(serve: impl Fn(TcpStream) -> Serving + Send + 'static) -> Self
    where
        Serving: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&accepted);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream));
            }
        });
        Self { address, accepted }
    }

    /// Sends every byte back.
    pub async fn echo() -> Self {
        Self::start(|mut stream| async move {
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
            let _ = write.shutdown().await;
        })
        .await
    }

    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

/// An address at which nobody listens.
pub async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}
