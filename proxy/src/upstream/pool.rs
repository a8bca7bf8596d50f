//! The HTTP connections of one destination, for one worker.
//!
//! A pool belongs to one destination of the configuration, that is to one address and one set of expected identities, and
//! empties itself when our own identity or trust changes: no two destinations ever share a connection, and none is used
//! under credentials other than today's, or to a peer that may no longer answer. HTTP/2 connections are shared: the least loaded is taken, up to
//! [`Shape::shared`] are opened as concurrency asks for them. HTTP/1.1 connections are taken by one request at a time.
//! What is retired leaves the pool at once and closes when its last request has ended.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use spiffe::SpiffeId;
use tokio::sync::oneshot;

use super::UpstreamError;
use super::lease::{Exclusive, Lease, Link, Shared, Stream};
use super::open::{Opened, Opener, Route};
use crate::connections::Generation;
use crate::drain::Tasks;
use crate::tls::handshake::Negotiated;

/// How many connections a pool keeps, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// HTTP/2 connections that concurrency may open. Behind a Kubernetes ClusterIP it is these that spread over pods.
    pub shared: usize,
    /// Unused connections are closed after this.
    pub idle: Duration,
    /// How long a response's head may take from its first byte, where it comes over HTTP/2.
    pub head: Duration,
    /// Bytes of a response's head.
    pub head_bytes: usize,
    /// Fields of a response's head.
    pub head_fields: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Pool {
    opener: Opener,
    shape: Shape,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    generation: Generation,
    /// Who might answer when a request last asked for a connection.
    expected: Option<Arc<[SpiffeId]>>,
    speaks: Option<Negotiated>,
    exclusive: Vec<Idle>,
    shared: Vec<Arc<Shared>>,
    opening: usize,
    waiting: Vec<oneshot::Sender<Awaited>>,
}

#[derive(Debug)]
struct Idle {
    connection: Exclusive,
    since: Instant,
}

/// What comes of waiting: a connection to share, or, where each request takes one of its own, the word to look again.
type Awaited = Result<Option<Arc<Shared>>, UpstreamError>;

/// What a request finds when it asks for a connection.
enum Found {
    Ready(Lease),
    Wait(oneshot::Receiver<Awaited>),
    /// Its response has been read, its task has not yet said that it is ready for the next request.
    Settling(Exclusive),
    OpenExclusive,
}

impl Pool {
    /// An empty pool.
    pub fn new(route: Route, shape: Shape, tasks: Tasks) -> Arc<Self> {
        let speaks = match route {
            Route::ApplicationHttp1(_) => Some(Negotiated::Http1),
            Route::ApplicationHttp2(_) => Some(Negotiated::Http2),
            Route::Peer(_) => None,
        };
        let opener =
            Opener { route, head: shape.head, head_bytes: shape.head_bytes, head_fields: shape.head_fields, tasks };
        Arc::new(Self { opener, shape, state: Mutex::new(State { speaks, ..State::default() }) })
    }

    /// Takes a connection for one request, opening one if it must. `fresh` passes over idle ones, for the second try of a
    /// request whose reused connection turned out to be dead.
    ///
    /// # Errors
    /// When no connection can be opened.
    pub async fn take(self: &Arc<Self>, fresh: bool) -> Result<Lease, UpstreamError> {
        // A shared connection may be gone again before the woken request gets to it; a few rounds of that mean that the
        // upstream closes everything it accepts.
        let mut tries = TRIES;
        while tries > 0 {
            match self.find(fresh)? {
                Found::Ready(lease) => return Ok(lease),
                Found::Settling(connection) => {
                    if let Some(lease) = self.settle(connection).await {
                        return Ok(lease);
                    }
                }
                Found::OpenExclusive => return self.open_exclusive().await,
                Found::Wait(opened) => {
                    tries -= 1;
                    // The opening task is only ever dropped when the process ends.
                    // It may have been asked for before this request came, when others might answer.
                    if let Some(shared) = opened.await.unwrap_or_else(|_| Err(self.closed()))?
                        && shared.link.is_by(self.opener.expected()?.as_deref())
                    {
                        return Ok(Lease::Stream(Stream::take(shared)));
                    }
                }
            }
        }
        Err(self.closed())
    }

    /// Takes a connection for a request that asks for a tunnel: a stream of a shared one, where the upstream takes extended
    /// CONNECT (RFC 8441) and the request can go that way, else an HTTP/1.1 connection that no other request uses. Where the
    /// shared ones are half full, it gets one for itself.
    ///
    /// # Errors
    /// When no connection can be opened, or the upstream has no way to take a tunnel.
    pub(super) async fn take_for_tunnel(self: &Arc<Self>, as_stream: bool) -> Result<Lease, UpstreamError> {
        if !as_stream {
            return self.opener.open_http1().await;
        }
        let lease = match self.take(true).await? {
            // It lasts, and requests that found no stream left would have to wait for its end.
            Lease::Stream(stream) if stream.is_crowded() => match self.opener.open().await? {
                Opened::Exclusive(exclusive) => Lease::Exclusive(*exclusive),
                Opened::Shared(alone) => Lease::Stream(Stream::take(alone)),
            },
            lease => lease,
        };
        match lease {
            Lease::Exclusive(exclusive) => Ok(Lease::Exclusive(Exclusive { pool: None, ..exclusive })),
            Lease::Stream(stream) if stream.may_tunnel().await => Ok(Lease::Stream(stream)),
            Lease::Stream(_) => self.opener.open_http1().await,
        }
    }

    async fn open_exclusive(self: &Arc<Self>) -> Result<Lease, UpstreamError> {
        match self.opener.open().await? {
            Opened::Exclusive(mut exclusive) => {
                exclusive.pool = Some(Arc::clone(self));
                Ok(Lease::Exclusive(*exclusive))
            }
            // The peer has changed its mind about the protocol: share what it offers.
            Opened::Shared(shared) => {
                self.lock().adopt(&shared);
                Ok(Lease::Stream(Stream::take(shared)))
            }
        }
    }

    /// Gives the task of a connection its turn. One that is still busy, with a request's body whose response came early,
    /// is let go: it closes when it is done.
    async fn settle(self: &Arc<Self>, mut connection: Exclusive) -> Option<Lease> {
        for _ in 0..SETTLING_TURNS {
            tokio::task::yield_now().await;
            if connection.sender.is_ready() {
                connection.pool = Some(Arc::clone(self));
                return Some(Lease::Exclusive(connection));
            }
        }
        None
    }

    /// Takes back an HTTP/1.1 connection whose response has been read.
    pub(super) fn put_back(self: &Arc<Self>, mut connection: Exclusive) {
        let now = Instant::now();
        if connection.sender.is_closed() || now >= connection.link.retire_at || !connection.link.is_wanted() {
            return;
        }
        connection.reused = true;
        let mut state = self.lock();
        if state.may_keep(&connection.link) {
            state.exclusive.push(Idle { connection, since: now });
        }
    }

    /// Lets go of every connection.
    pub fn empty(&self) {
        let mut state = self.lock();
        state.exclusive.clear();
        state.shared.clear();
    }

    /// Drops what is idle for too long, retired or closed. Called now and then, so that a destination without traffic
    /// holds no connections.
    pub fn sweep(&self) {
        let now = Instant::now();
        let idle = self.shape.idle;
        let mut state = self.lock();
        let keeps = |since: Instant| idle.is_zero() || now.duration_since(since) < idle;
        state.exclusive.retain(|entry| entry.is_usable(now) && keeps(entry.since));
        state.shared.retain(|shared| shared.is_usable(now) && (shared.load() > 0 || keeps(shared.last_used())));
    }

    fn find(self: &Arc<Self>, fresh: bool) -> Result<Found, UpstreamError> {
        let now = Instant::now();
        let (generation, expected) = (self.opener.generation(), self.opener.expected()?);
        let mut state = self.lock();
        state.renew(generation, expected);
        if state.speaks == Some(Negotiated::Http1) {
            return Ok(state.find_exclusive(now, fresh, self));
        }
        state.shared.retain(|shared| shared.is_usable(now));
        let least = state.shared.iter().min_by_key(|shared| shared.load()).cloned();
        if state.wants_more(least.as_deref(), self.shape.shared) {
            state.opening += 1;
            self.open_in_background();
        }
        if let Some(shared) = least {
            return Ok(Found::Ready(Lease::Stream(Stream::take(shared))));
        }
        let (sender, receiver) = oneshot::channel();
        state.waiting.push(sender);
        Ok(Found::Wait(receiver))
    }

    /// Opens in a task of its own: the connection serves whoever waits, also when the request that asked for it is gone.
    fn open_in_background(self: &Arc<Self>) {
        let pool = Arc::clone(self);
        self.opener.tasks.spawn(async move {
            let opened = pool.opener.open().await;
            let mut state = pool.lock();
            state.opening -= 1;
            let outcome = opened.map(|opened| match opened {
                // Given to those who waited for it even if our credentials have changed meanwhile: it shows what was the newest
                // when its handshake ended, and when certificates change quickly the next would be late as well.
                Opened::Shared(shared) => {
                    state.adopt(&shared);
                    Some(shared)
                }
                Opened::Exclusive(exclusive) => {
                    state.adopt_exclusive(*exclusive, &pool);
                    None
                }
            });
            let waiting = std::mem::take(&mut state.waiting);
            drop(state);
            for waiter in waiting {
                // A waiter that has gone away needs no answer.
                let _ = waiter.send(outcome.clone());
            }
        });
    }

    /// Opens connections outside the pool.
    pub(super) fn opener(&self) -> &Opener {
        &self.opener
    }

    fn closed(&self) -> UpstreamError {
        UpstreamError::Closed { target: Arc::clone(self.opener.target()) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under this lock; a poisoned pool is still a list of connections.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Lets go of everything that was opened under other credentials, and of peers that may no longer answer.
    fn renew(&mut self, generation: Generation, expected: Option<Arc<[SpiffeId]>>) {
        if self.generation != generation {
            self.generation = generation;
            self.exclusive.clear();
            self.shared.clear();
        }
        let is_same = match (&self.expected, &expected) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !is_same {
            self.exclusive.retain(|idle| idle.connection.link.is_by(expected.as_deref()));
            self.shared.retain(|shared| shared.link.is_by(expected.as_deref()));
            self.expected = expected;
        }
    }

    /// Whether others may use a connection: what was opened earlier serves whoever holds it, and nobody after.
    fn may_keep(&self, link: &Link) -> bool {
        link.generation == self.generation && link.is_by(self.expected.as_deref())
    }

    fn find_exclusive(&mut self, now: Instant, fresh: bool, pool: &Arc<Pool>) -> Found {
        if fresh {
            self.exclusive.clear();
        }
        self.exclusive.retain(|idle| idle.is_usable(now));
        // The most recently used first: the others get to be idle long enough to be closed.
        let ready = self.exclusive.iter().rposition(|idle| idle.connection.sender.is_ready());
        if let Some(index) = ready {
            let mut connection = self.exclusive.remove(index).connection;
            connection.pool = Some(Arc::clone(pool));
            return Found::Ready(Lease::Exclusive(connection));
        }
        match self.exclusive.pop() {
            Some(idle) => Found::Settling(idle.connection),
            None => Found::OpenExclusive,
        }
    }

    fn wants_more(&self, least: Option<&Shared>, most: usize) -> bool {
        let open = self.shared.len() + self.opening;
        match least {
            // Whoever comes while one is being opened waits for that one; only its failure or load opens the next.
            None => self.opening == 0,
            Some(shared) if shared.load() == 0 => false,
            Some(shared) => open < most || (shared.is_full() && self.opening == 0 && open < MOST_SHARED),
        }
    }

    fn adopt(&mut self, shared: &Arc<Shared>) {
        self.speaks = Some(Negotiated::Http2);
        if self.may_keep(&shared.link) {
            self.shared.push(Arc::clone(shared));
        }
    }

    fn adopt_exclusive(&mut self, mut connection: Exclusive, pool: &Arc<Pool>) {
        self.speaks = Some(Negotiated::Http1);
        connection.pool = Some(Arc::clone(pool));
        if self.may_keep(&connection.link) {
            self.exclusive.push(Idle { connection, since: Instant::now() });
        }
    }
}

impl Idle {
    fn is_usable(&self, now: Instant) -> bool {
        let link = &self.connection.link;
        !self.connection.sender.is_closed() && now < link.retire_at && link.is_wanted()
    }
}

/// A shared connection is gone right after it was opened at most this often before its request gives up.
const TRIES: usize = 3;
/// On a worker's single thread one turn is enough for a task that was woken before.
const SETTLING_TURNS: usize = 3;
/// Beyond `Shape::shared` further connections are opened only when all are full of streams; this is where that ends.
const MOST_SHARED: usize = 64;
