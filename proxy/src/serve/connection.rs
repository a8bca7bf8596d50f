//! Runs the server side of one HTTP connection: what it accepts, how long it waits, and how it ends.
//!
//! The HTTP library parses and frames; the deadlines are in `pace.rs`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::HttpService;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

pub use super::pace::{Activity, Bounds};
use super::pace::{IDLE, Pace, Paced};
use super::reader::{Readers, Reading};
use super::response::ResponseBody;
use crate::connections::{Entry, Level};
use crate::drain::Tasks;
use crate::http::fault::{self, Message};
use crate::http::flow::{CONNECTION_WINDOW, PING_INTERVAL, PING_TIMEOUT, SMALLEST_BUFFER, STREAM_WINDOW};
use crate::http::guard::watch::Violation;
use crate::http::guard::{FarEnd, Finding, Guard};
use crate::linger::Lingering;
use crate::metered::Metered;
use crate::telemetry::Telemetry;
use crate::tls::handshake::Negotiated;

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
                Paced::Ended(Ok(())) => return if pace.is_parting { Ended::TimedOut(IDLE) } else { Ended::Closed },
                Paced::Ended(Err(error)) => return Ended::Broken(error),
                Paced::TimedOut(label) => return Ended::TimedOut(label),
                Paced::Old | Paced::Idle => {
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

/// A service in the form that both directions have: a request in, a response out, never an error.
pub type Answer = Response<ResponseBody>;
/// What a connection's service is given.
pub type Asked = Request<Incoming>;

/// What one slow reader can make us hold of a response.
pub const SEND_BUFFER: usize = 256 << 10;
/// How long a connection that is new at the end may wait with its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(1);
