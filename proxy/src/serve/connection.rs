//! Runs the server side of one HTTP connection: what it accepts, how long it waits, and how it ends.
//!
//! The HTTP library parses and frames. Deadlines are kept here instead of there, because the library's own timer for
//! heads also runs while a kept-alive connection is idle, and costs an allocation for each request.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::HttpService;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};

use super::reader::{Readers, Reading};
use super::response::ResponseBody;
use crate::connections::{Entry, Level};
use crate::drain::Tasks;
use crate::http::fault::{self, Message};
use crate::http::flow::{CONNECTION_WINDOW, PING_INTERVAL, PING_TIMEOUT, SMALLEST_BUFFER, STREAM_WINDOW};
use crate::http::guard::watch::Violation;
use crate::http::guard::{FarEnd, Finding, Guard};
use crate::linger::{Leftover, Lingering};
use crate::metered::Metered;
use crate::telemetry::Telemetry;
use crate::tls::handshake::Negotiated;

/// How much a downstream connection may send and how long it may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// `timeouts.requestHead`.
    pub head: Duration,
    /// `timeouts.idle`.
    pub idle: Duration,
    /// `timeouts.maxAge`.
    pub max_age: Duration,
    /// `timeouts.bodyStall`.
    pub body_stall: Duration,
    /// `limits.headBytes`.
    pub head_bytes: usize,
    /// `limits.headFields`.
    pub head_fields: usize,
    /// `limits.streamsPerConnection`.
    pub streams: u32,
}

/// Requests under way on one connection, and how many there have been.
#[derive(Debug, Default)]
pub struct Activity {
    begun: AtomicU64,
    ended: AtomicU64,
    /// What a connection of HTTP/1.1 would leave unread if it ended now.
    pub leftover: Arc<Leftover>,
}

impl Activity {
    /// Counts a request in. Over HTTP/1.1 a body is left over until it was read to its end, which is to be told there.
    pub fn begin(&self, protocol: Negotiated, has_body: bool) -> Option<Arc<Leftover>> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.leftover.taken_up(has_body);
        (has_body && protocol == Negotiated::Http1).then(|| Arc::clone(&self.leftover))
    }

    /// Counts a request out, when its response has ended.
    pub fn end(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    fn note_idle(&self) {
        let (begun, ended) = self.counts();
        if begun == ended {
            self.leftover.idle();
        }
    }

    fn counts(&self) -> (u64, u64) {
        (self.begun.load(Ordering::Relaxed), self.ended.load(Ordering::Relaxed))
    }
}

/// How a connection ended.
#[derive(Debug)]
pub enum Ended {
    /// The peer closed it, or it was drained.
    Closed,
    /// A deadline of ours passed: `request_head_timeout`, `idle_timeout`, or what [`Reading`] says.
    TimedOut(&'static str),
    /// The registry asked for it.
    Cut,
    /// The peer went further than the guard of HTTP/2 lets it.
    Violated(Violation),
    /// The peer broke the rules or the connection broke.
    Broken(hyper::Error),
}

impl Ended {
    /// Counts an end that was not the peer's own, and tells of a break to whoever looks closer.
    pub fn record(&self, telemetry: &Telemetry, entry: &Entry) {
        let direction = entry.opened.direction;
        match self {
            Self::Closed => {}
            Self::TimedOut(label) => telemetry.metrics.connection_closed(direction, label),
            // Whatever was condemned was counted then.
            Self::Cut if entry.signal.condemned().is_some() => {}
            Self::Cut => telemetry.metrics.connection_closed(direction, entry.signal.cause().unwrap_or("cut")),
            Self::Violated(violation) => far_end(entry).record(violation.label(), violation, telemetry),
            Self::Broken(error) => match fault::of(error, Message::Request) {
                Some(fault) => far_end(entry).record(fault, error, telemetry),
                None => {
                    let error = crate::error_chain(error);
                    tracing::debug!(direction = direction.label(), from = %entry.opened.address, error, "an HTTP connection broke");
                }
            },
        }
    }
}

fn far_end(entry: &Entry) -> FarEnd {
    let peer = entry.opened.peer.as_ref().map(|peer| peer.id.clone());
    FarEnd { direction: entry.opened.direction, address: entry.opened.address, peer }
}

/// Serves one connection until it ends. The entry's signal makes it say goodbye, finish, or end at once.
pub async fn serve<Io, S>(
    stream: Io,
    protocol: Negotiated,
    service: S,
    bounds: Bounds,
    activity: &Activity,
    entry: &Entry,
    tasks: Tasks,
) -> Ended
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService<Incoming, ResBody = ResponseBody, Error = std::convert::Infallible> + Send + 'static,
    S::Future: Send + 'static,
{
    let read = Arc::new(AtomicU64::new(0));
    let pace = Pace::new(bounds, protocol, activity, &read);
    match protocol {
        Negotiated::Http1 => {
            let mut reading = Reading::new(bounds.body_stall);
            let mut builder = http1::Builder::new();
            builder
                .timer(TokioTimer::new())
                .header_read_timeout(None)
                .max_headers(bounds.head_fields)
                .max_buf_size(bounds.head_bytes.max(SMALLEST_BUFFER))
                // The buffer may hold twice that before it is looked at.
                .max_header_size(bounds.head_bytes)
                .auto_date_header(false)
                // A caller that closes has given up, and what it asked for is given up too. Over TLS the two halves close
                // together, and an HTTP client that closes its half while it waits for an answer is not worth the
                // requests that would go on for nobody.
                .half_close(false);
            let stream = Lingering::new(stream, Arc::clone(&activity.leftover));
            let io = TokioIo::new(Metered::new(stream, Arc::clone(&read)));
            let connection = builder.serve_connection(io, service).with_upgrades();
            let drive = |connection: Pin<&mut _>, cx: &mut Context<'_>| reading.poll(connection, cx);
            let shut_down = |connection: Pin<&mut http1::UpgradeableConnection<_, _>>| {
                activity.note_idle();
                connection.graceful_shutdown();
            };
            supervise(connection, drive, shut_down, Level::Finish, pace, entry).await
        }
        Negotiated::Http2 => {
            let mut builder = http2::Builder::new(Readers::new(tasks, bounds.body_stall));
            builder
                .timer(TokioTimer::new())
                .max_concurrent_streams(bounds.streams)
                .max_header_list_size(u32::try_from(bounds.head_bytes).unwrap_or(u32::MAX))
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_send_buf_size(SEND_BUFFER)
                .auto_date_header(false)
                .enable_connect_protocol()
                .keep_alive_interval(PING_INTERVAL)
                .keep_alive_timeout(PING_TIMEOUT);
            let finding = Finding::default();
            let guard = Guard::serving(stream, bounds.streams, bounds.head, finding.clone());
            let connection = builder.serve_connection(TokioIo::new(guard), service);
            // Its streams are watched over one by one.
            let drive =
                |connection: Pin<&mut http2::Connection<_, _, _>>, cx: &mut Context<'_>| connection.poll(cx).map(Ok);
            let shut_down = http2::Connection::graceful_shutdown;
            let ended = supervise(connection, drive, shut_down, Level::Goodbye, pace, entry).await;
            match (ended, finding.get()) {
                (Ended::Broken(_) | Ended::Closed, Some(violation)) => Ended::Violated(violation),
                (ended, _) => ended,
            }
        }
    }
}

async fn supervise<C>(
    connection: C,
    mut drive: impl FnMut(Pin<&mut C>, &mut Context<'_>) -> Poll<Result<hyper::Result<()>, &'static str>>,
    shut_down: impl Fn(Pin<&mut C>),
    shut_down_at: Level,
    mut pace: Pace<'_>,
    entry: &Entry,
) -> Ended
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut connection = std::pin::pin!(connection);
    let mut going = false;
    loop {
        let next_level = if going { Level::Cut } else { shut_down_at };
        tokio::select! {
            biased;
            // Dropped half-way only when the connection is to end now.
            ended = std::future::poll_fn(|cx| pace.poll(drive(connection.as_mut(), cx), cx)) => match ended {
                Paced::Ended(Ok(())) => return Ended::Closed,
                Paced::Ended(Err(error)) => return Ended::Broken(error),
                Paced::TimedOut(label) => return Ended::TimedOut(label),
                Paced::Old => {
                    shut_down(connection.as_mut());
                    going = true;
                }
            },
            // Nothing is lost when this one is dropped: the level stays.
            () = entry.signal.reached(next_level) => {
                if next_level == Level::Cut {
                    return Ended::Cut;
                }
                going = true;
                if pace.is_fresh() {
                    // Whoever connects has something to ask, and is told with the answer that it is the last.
                    pace.grow_old_within(FIRST_REQUEST);
                } else {
                    shut_down(connection.as_mut());
                }
            }
        }
    }
}

/// Keeps the deadlines of a connection. Its timer is moved only when a deadline draws nearer than the one it is set to,
/// so that a busy connection does not touch it.
struct Pace<'a> {
    bounds: Bounds,
    protocol: Negotiated,
    activity: &'a Activity,
    read: &'a AtomicU64,
    state: Waiting,
    seen: (u64, u64),
    read_when_idle: u64,
    deadline: Option<Instant>,
    old_at: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

/// What a connection is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    /// Nothing: at least one request is under way.
    Busy,
    /// A request of which nothing has come yet.
    Idle,
    /// The rest of a head that has begun to come.
    Head,
}

enum Paced {
    Ended(hyper::Result<()>),
    TimedOut(&'static str),
    Old,
}

impl<'a> Pace<'a> {
    fn new(bounds: Bounds, protocol: Negotiated, activity: &'a Activity, read: &'a AtomicU64) -> Self {
        let now = Instant::now();
        // A tenth either way, so that the connections of a fleet that started together do not end together.
        let max_age = bounds.max_age.mul_f64(fastrand::f64().mul_add(0.2, 0.9));
        let old_at = (!max_age.is_zero()).then(|| now + max_age);
        let mut pace = Self {
            bounds,
            protocol,
            activity,
            read,
            state: Waiting::Idle,
            seen: (0, 0),
            read_when_idle: 0,
            deadline: None,
            old_at,
            timer: Box::pin(tokio::time::sleep(FAR)),
        };
        pace.wait_for(Waiting::Idle, now);
        pace
    }

    /// `driven` is what the connection says, which has just been polled.
    fn poll(&mut self, driven: Poll<Result<hyper::Result<()>, &'static str>>, cx: &mut Context<'_>) -> Poll<Paced> {
        match driven {
            Poll::Ready(Ok(ended)) => return Poll::Ready(Paced::Ended(ended)),
            Poll::Ready(Err(label)) => return Poll::Ready(Paced::TimedOut(label)),
            Poll::Pending => {}
        }
        self.observe();
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if self.old_at.is_some_and(|at| at <= now) {
                self.old_at = None;
                return Poll::Ready(Paced::Old);
            }
            if self.deadline.is_some_and(|at| at <= now) {
                return Poll::Ready(Paced::TimedOut(match self.state {
                    Waiting::Head => "request_head_timeout",
                    Waiting::Idle | Waiting::Busy => "idle_timeout",
                }));
            }
            let next = self.next().unwrap_or(now + FAR);
            self.timer.as_mut().reset(next);
        }
        Poll::Pending
    }

    /// Whether nothing was asked yet over HTTP/1.1, where an end could lose the first request.
    fn is_fresh(&self) -> bool {
        self.protocol == Negotiated::Http1 && self.activity.counts().0 == 0
    }

    fn grow_old_within(&mut self, limit: Duration) {
        let at = Instant::now() + limit;
        self.old_at = Some(self.old_at.map_or(at, |old_at| old_at.min(at)));
        let next = self.next().unwrap_or(at);
        self.timer.as_mut().reset(next);
    }

    fn observe(&mut self) {
        let seen = self.activity.counts();
        let busy = seen.0 != seen.1;
        let state = if busy {
            Waiting::Busy
        } else if self.protocol == Negotiated::Http1 && self.has_begun(seen) {
            Waiting::Head
        } else {
            Waiting::Idle
        };
        // A request that came and went between two looks begins a new wait as well.
        if state != self.state || seen != self.seen {
            self.seen = seen;
            self.wait_for(state, Instant::now());
        }
    }

    fn has_begun(&self, seen: (u64, u64)) -> bool {
        seen == self.seen
            && self.state != Waiting::Busy
            && self.read.load(Ordering::Relaxed) > self.read_when_idle
            && !self.activity.leftover.is_lingering()
    }

    fn wait_for(&mut self, state: Waiting, now: Instant) {
        self.state = state;
        let limit = match state {
            Waiting::Busy => Duration::ZERO,
            Waiting::Idle => {
                self.read_when_idle = self.read.load(Ordering::Relaxed);
                self.bounds.idle
            }
            Waiting::Head => self.bounds.head,
        };
        self.deadline = (!limit.is_zero()).then(|| now + limit);
        if let Some(next) = self.next()
            && next < self.timer.deadline()
        {
            self.timer.as_mut().reset(next);
        }
    }

    fn next(&self) -> Option<Instant> {
        match (self.deadline, self.old_at) {
            (Some(deadline), Some(old_at)) => Some(deadline.min(old_at)),
            (deadline, old_at) => deadline.or(old_at),
        }
    }
}

/// A service in the form that both directions have: a request in, a response out, never an error.
pub type Answer = Response<ResponseBody>;
/// What a connection's service is given.
pub type Asked = Request<Incoming>;

/// What one slow reader can make us hold of a response.
pub const SEND_BUFFER: usize = 256 << 10;
/// How long a connection that is new at the end may wait with its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(1);
/// The timer's place while there is no deadline.
const FAR: Duration = Duration::from_secs(86_400);
