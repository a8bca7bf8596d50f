//! One HTTP connection in use by one request.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use portcullis_certs_watcher::Peer;
use spiffe::SpiffeId;
use tokio::sync::watch;

use super::overheard::Alert;
use super::pool::Pool;
use super::stock::is_rested;
use crate::connections::{Entry, Generation, Level};
use crate::http::target::NextHop;
use crate::http::upload::RequestBody;

/// What is known of a connection that we opened.
#[derive(Debug)]
pub struct Link {
    /// The address that was connected to, as it is logged.
    pub address: Arc<str>,
    /// The verified peer; `None` towards our own application.
    pub peer: Option<Arc<Peer>>,
    /// The peer's SPIFFE ID, as it is logged.
    pub peer_id: Option<Arc<str>>,
    /// The credentials it was opened under.
    pub generation: Generation,
    /// Why the peer ended it, if it said so.
    pub alert: Alert,
    /// When no new request may use it any more.
    pub retire_at: Instant,
    /// Its entry in the registry, which tells when it must end; connections to our own application have none.
    pub entry: Option<Arc<Entry>>,
}

/// An HTTP/2 connection that several requests share.
#[derive(Debug)]
pub struct Shared {
    /// Sends requests.
    pub sender: http2::SendRequest<RequestBody>,
    /// What it is.
    pub link: Link,
    /// Whether its peer takes extended CONNECT (RFC 8441 section 3); `None` until its SETTINGS are there.
    tunnels: watch::Receiver<Option<bool>>,
    in_flight: AtomicUsize,
    /// Whether a request was sent on it.
    carried: AtomicBool,
    opened: Instant,
    /// Milliseconds from `opened` to the end of the last request.
    used: AtomicU64,
}

/// A connection taken for one request. Dropping it without [`Lease::give_back`] closes an HTTP/1.1 connection.
#[derive(Debug)]
pub enum Lease {
    /// HTTP/1.1: ours alone.
    Exclusive(Exclusive),
    /// HTTP/2: one of several streams.
    Stream(Stream),
}

/// An HTTP/1.1 connection and the pool that it goes back to; `None` for one that is used once.
pub struct Exclusive {
    pub(super) sender: http1::SendRequest<RequestBody>,
    pub(super) link: Link,
    pub(super) pool: Option<Arc<Pool>>,
    /// When it was last given back, if it carried a request before.
    pub(super) idle_since: Option<Instant>,
    /// Bytes read from it.
    pub(super) read: Arc<AtomicU64>,
    /// How many of them before its request was sent.
    pub(super) read_before: u64,
}

/// One request's share of an HTTP/2 connection.
#[derive(Debug)]
pub struct Stream {
    shared: Arc<Shared>,
    is_first: bool,
}

/// A request that did not get its response, with the request itself where it is certain that nothing of it was sent.
#[derive(Debug)]
pub struct Unsent {
    /// What the HTTP library said.
    pub error: hyper::Error,
    /// The request, unsent.
    pub request: Option<Request<RequestBody>>,
}

impl Shared {
    /// A connection without requests.
    pub fn new(sender: http2::SendRequest<RequestBody>, link: Link, tunnels: watch::Receiver<Option<bool>>) -> Self {
        let (in_flight, used) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self { sender, link, tunnels, in_flight, carried: AtomicBool::new(false), opened: Instant::now(), used }
    }

    /// When it was opened.
    pub(super) fn opened(&self) -> Instant {
        self.opened
    }

    /// Requests in flight.
    pub fn load(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// When the last request ended.
    pub fn last_used(&self) -> Instant {
        self.opened + Duration::from_millis(self.used.load(Ordering::Relaxed))
    }

    /// Whether one more request would have to wait for another to end.
    pub fn is_full(&self) -> bool {
        self.load() >= STREAMS_ASSUMED
    }

    /// Whether new requests may use it; one that is without any must not be so for longer than `rest`.
    pub fn is_usable(&self, now: Instant, rest: Option<Duration>) -> bool {
        let is_rested = self.load() > 0 || is_rested(self.last_used(), now, rest);
        !self.sender.is_closed() && now < self.link.retire_at && self.link.is_wanted() && is_rested
    }
}

impl Link {
    /// A new connection to our own application.
    pub(super) fn to_application(address: SocketAddr, retire_after: Duration) -> Self {
        Self {
            address: address.to_string().into(),
            peer: None,
            peer_id: None,
            alert: Alert::default(),
            generation: Generation::default(),
            retire_at: Instant::now() + retire_after,
            entry: None,
        }
    }

    /// Whether its peer is one of `expected`; `None` expects nobody in particular.
    pub(super) fn is_by(&self, expected: Option<&[SpiffeId]>) -> bool {
        expected.is_none_or(|expected| self.peer.as_ref().is_some_and(|peer| expected.contains(&peer.id)))
    }

    /// Why its peer may not be called any more; `None` as long as it may.
    pub fn condemned(&self) -> Option<&'static str> {
        self.entry.as_ref().and_then(|entry| entry.signal.condemned())
    }

    /// Whether the registry has not asked the connection to end.
    pub fn is_wanted(&self) -> bool {
        !self.entry.as_ref().is_some_and(|entry| entry.signal.is_at(Level::Goodbye))
    }
}

impl Stream {
    /// Counts the request in.
    pub fn take(shared: Arc<Shared>) -> Self {
        shared.in_flight.fetch_add(1, Ordering::Relaxed);
        let is_first = !shared.carried.load(Ordering::Relaxed);
        if is_first {
            shared.carried.store(true, Ordering::Relaxed);
        }
        Self { shared, is_first }
    }

    /// Whether half of its connection's streams are taken.
    pub(super) fn is_crowded(&self) -> bool {
        self.shared.load() > STREAMS_ASSUMED / 2
    }

    /// Whether one of its streams may become a tunnel. Waits for the peer's SETTINGS, which are the first that it sends.
    pub(super) async fn may_tunnel(&self) -> bool {
        let mut tunnels = self.shared.tunnels.clone();
        // An error means that the connection has ended before it could tell.
        tunnels.wait_for(Option::is_some).await.is_ok_and(|told| *told == Some(true))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.shared.in_flight.fetch_sub(1, Ordering::Relaxed) == 1 {
            let used = u64::try_from(self.shared.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.shared.used.store(used, Ordering::Relaxed);
        }
    }
}

impl Lease {
    /// Sends the request and waits for the response's head.
    ///
    /// # Errors
    /// When the connection broke; the request comes back if nothing of it was sent.
    pub async fn send(&mut self, request: Request<RequestBody>) -> Result<Response<Incoming>, Unsent> {
        let sent = match self {
            Self::Exclusive(exclusive) => {
                exclusive.read_before = exclusive.read.load(Ordering::Relaxed);
                exclusive.sender.try_send_request(request).await
            }
            Self::Stream(stream) => stream.shared.sender.clone().try_send_request(request).await,
        };
        sent.map_err(|mut failed| {
            let request = failed.take_message();
            Unsent { error: failed.into_error(), request }
        })
    }

    /// What is known of the connection.
    pub fn link(&self) -> &Link {
        match self {
            Self::Exclusive(exclusive) => &exclusive.link,
            Self::Stream(stream) => &stream.shared.link,
        }
    }

    /// Whether it is one stream of an HTTP/2 connection.
    pub fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_))
    }

    /// How requests on it are addressed.
    pub fn next_hop(&self) -> NextHop {
        match self {
            Self::Exclusive(_) => NextHop::Http1,
            Self::Stream(stream) if stream.shared.link.peer.is_some() => NextHop::Http2Tls,
            Self::Stream(_) => NextHop::Http2,
        }
    }

    /// Whether it carried a request before, so that its peer may have closed it meanwhile.
    pub fn is_reused(&self) -> bool {
        match self {
            Self::Exclusive(exclusive) => exclusive.idle_since.is_some(),
            Self::Stream(stream) => !stream.is_first,
        }
    }

    /// Whether anything has come over an HTTP/1.1 connection since its request was sent. Over HTTP/2 the library keeps a
    /// head that has not come whole to itself.
    pub(super) fn is_answering(&self) -> bool {
        match self {
            Self::Exclusive(exclusive) => exclusive.read.load(Ordering::Relaxed) > exclusive.read_before,
            Self::Stream(_) => false,
        }
    }

    /// Since when it has been waiting for requests: HTTP/1.1 for this one, HTTP/2 for its first.
    pub(super) fn since(&self) -> Instant {
        match self {
            Self::Exclusive(exclusive) => exclusive.idle_since.unwrap_or_else(Instant::now),
            Self::Stream(stream) => stream.shared.opened(),
        }
    }

    /// Has the connection carry no other request, if it is HTTP/1.1.
    pub fn use_once(&mut self) {
        if let Self::Exclusive(exclusive) = self {
            exclusive.pool = None;
        }
    }

    /// Returns an HTTP/1.1 connection, whose response was read to the end, to its pool.
    pub fn give_back(self) {
        if let Self::Exclusive(mut exclusive) = self
            && let Some(pool) = exclusive.pool.take()
        {
            pool.put_back(exclusive);
        }
    }
}

impl fmt::Debug for Exclusive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exclusive")
            .field("link", &self.link)
            .field("idle_since", &self.idle_since)
            .finish_non_exhaustive()
    }
}

/// What servers commonly allow at a time, ours among them; the HTTP library does not tell what this one allows.
const STREAMS_ASSUMED: usize = 100;
