//! An application that sends for as long as somebody takes it, and reads nothing that it is sent.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;

use crate::client::Body;
use crate::eventually::eventually;

pub const PIECE: usize = 16 << 10;
/// Of a long head, more or less.
pub const HEAD: usize = 8 << 10;

/// What it answers goes by the path, see [`State::answer`].
#[derive(Clone)]
pub struct Application {
    pub address: SocketAddr,
    state: Arc<State>,
}

struct State {
    /// Bytes.
    sent: AtomicUsize,
    begun: AtomicUsize,
    ended: AtomicUsize,
    /// Long heads.
    answered: AtomicUsize,
    released: Semaphore,
}

/// Counts an answer that is over.
struct Going(Arc<State>);

impl Drop for Going {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

impl Application {
    pub fn start(protocol: &'static str) -> Self {
        let socket = small();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(100).unwrap();
        let address = listener.local_addr().unwrap();
        let [sent, begun, ended, answered] = [0; 4].map(AtomicUsize::new);
        let state = State { sent, begun, ended, answered, released: Semaphore::new(0) };
        let application = Self { address, state: Arc::new(state) };
        let state = Arc::clone(&application.state);
        tokio::spawn(async move {
            loop {
                let io = TokioIo::new(listener.accept().await.unwrap().0);
                let state = Arc::clone(&state);
                let service = service_fn(move |request| {
                    let state = Arc::clone(&state);
                    async move { Ok::<_, Infallible>(state.answer(request).await) }
                });
                tokio::spawn(async move {
                    // A connection that breaks is what the tests are about.
                    let _ = if protocol == "http2" {
                        let executor = TokioExecutor::new();
                        hyper::server::conn::http2::Builder::new(executor).serve_connection(io, service).await
                    } else {
                        hyper::server::conn::http1::Builder::new().serve_connection(io, service).await
                    };
                });
            }
        });
        application
    }

    /// Bytes of its long answers.
    pub fn sent(&self) -> usize {
        self.state.sent.load(Ordering::Relaxed)
    }

    /// Its answers that are a long head.
    pub fn answered(&self) -> usize {
        self.state.answered.load(Ordering::Relaxed)
    }

    /// Lets go the next piece of an answer that drips.
    pub fn release(&self) {
        self.state.released.add_permits(1);
    }

    pub async fn eventually_begun(&self, count: usize) {
        eventually("the application is asked", async || match self.state.begun.load(Ordering::Relaxed) {
            begun if begun >= count => Ok(()),
            begun => Err(begun),
        })
        .await;
    }

    pub async fn eventually_ended(&self, count: usize) {
        eventually("the application hears that it is over", async || match self.state.ended.load(Ordering::Relaxed) {
            ended if ended >= count => Ok(()),
            ended => Err(ended),
        })
        .await;
    }
}

impl State {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        if path == "/" {
            return Response::new(Full::new(Bytes::from_static(b"ok")).boxed_unsync());
        }
        if path == "/head" {
            self.answered.fetch_add(1, Ordering::Relaxed);
            let response = Response::builder().header("x-long", "x".repeat(HEAD));
            return response.body(Full::default().boxed_unsync()).unwrap();
        }
        self.begun.fetch_add(1, Ordering::Relaxed);
        let going = Going(Arc::clone(&self));
        if path == "/never" {
            // The body is kept as well, unread.
            let _kept = (request, going);
            return std::future::pending().await;
        }
        let waits = path == "/drip";
        let size = if path == "/crumbs" { 1 } else { PIECE };
        let frames = futures_util::stream::unfold((going, 0_usize), move |(going, count)| async move {
            if waits && count > 0 {
                going.0.released.acquire().await.unwrap().forget();
            }
            going.0.sent.fetch_add(size, Ordering::Relaxed);
            let piece = Bytes::from_static(&[b'x'; PIECE]).slice(..size);
            Some((Ok::<_, Infallible>(Frame::data(piece)), (going, count + 1)))
        });
        Response::new(StreamBody::new(frames).boxed_unsync())
    }
}

pub async fn narrow(address: SocketAddr) -> TcpStream {
    small().connect(address).await.unwrap()
}

/// What the kernel holds at either end is not what is measured.
fn small() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 << 10).unwrap();
    socket.set_send_buffer_size(64 << 10).unwrap();
    socket
}

/// Waits until a number stands still for a while, and says where.
pub async fn settled(what: &str, number: impl Fn() -> usize) -> usize {
    let mut last = (number(), Instant::now());
    eventually(what, async || {
        let now = number();
        if now != last.0 {
            last = (now, Instant::now());
        }
        if now > 0 && last.1.elapsed() > Duration::from_millis(500) { Ok(now) } else { Err(now) }
    })
    .await
}
