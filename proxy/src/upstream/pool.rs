//! The HTTP connections of one destination, for one worker.
//!
//! A pool belongs to one destination of the configuration, that is to one address and one set of expected identities, and
//! empties itself when our own identity or trust changes: no two destinations ever share a connection, and none is used
//! under credentials other than today's, or to a peer that may no longer answer. HTTP/2 connections are shared: the least loaded is taken, up to
//! [`Shape::shared`] are opened as concurrency asks for them. HTTP/1.1 connections are taken by one request at a time.
//! What is retired leaves the pool at once and closes when its last request has ended.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::UpstreamError;
use super::budget::Budget;
use super::lease::{Exclusive, Lease, Stream};
use super::open::{Opened, Opener, Route};
pub use super::stock::Choice;
use super::stock::{Found, Stock};
use crate::drain::{Phase, Tasks};
use crate::telemetry::metrics::Metrics;
use crate::tls::handshake::Negotiated;

/// How many connections a pool keeps, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// HTTP/2 connections that concurrency may open. Behind a Kubernetes ClusterIP it is these that spread over pods.
    pub shared: usize,
    /// Unused connections are closed after this, and a tenth of it sooner not used any more; zero: never.
    pub idle: Duration,
    /// No new request uses a connection that is older, give or take a tenth.
    pub age: Duration,
    /// How long a response's head may take from its first byte, where it comes over HTTP/2.
    pub head: Duration,
    /// Bytes of a response's head.
    pub head_bytes: usize,
    /// Fields of a response's head.
    pub head_fields: usize,
}

impl Shape {
    /// How long a connection that is used again may have been idle. The other end, which is as a rule a sidecar with the same
    /// `timeouts.idle`, must not be closing it at that moment.
    fn rest(&self) -> Option<Duration> {
        (!self.idle.is_zero()).then(|| self.idle.mul_f64(0.9))
    }
}

/// See the module.
#[derive(Debug)]
pub struct Pool {
    opener: Opener,
    shape: Shape,
    budget: Budget,
    /// Reused connections were found dead lately.
    distrusts: AtomicBool,
    stock: Mutex<Stock>,
}

impl Pool {
    /// An empty pool.
    pub fn new(route: Route, shape: Shape, tasks: Tasks) -> Arc<Self> {
        let speaks = match route {
            Route::ApplicationHttp1(_) => Some(Negotiated::Http1),
            Route::ApplicationHttp2(_) => Some(Negotiated::Http2),
            Route::Peer(_) => None,
        };
        let opener = Opener { route, shape, tasks };
        let stock = Mutex::new(Stock { speaks, ..Stock::default() });
        Arc::new(Self { opener, shape, budget: Budget::new(), distrusts: AtomicBool::new(false), stock })
    }

    /// Takes a connection for one request, opening one if it must.
    ///
    /// # Errors
    /// When no connection can be opened.
    pub async fn take(self: &Arc<Self>, choice: Choice) -> Result<Lease, UpstreamError> {
        // A shared connection may be gone again before the woken request gets to it; a few rounds of that mean that the
        // upstream closes everything it accepts.
        let mut tries = TRIES;
        while tries > 0 {
            match self.find(choice)? {
                Found::Ready(lease) => return Ok(lease),
                Found::Settling(connection) => {
                    if let Some(lease) = self.settle(connection).await {
                        return Ok(lease);
                    }
                }
                // On the heap: opening takes ten kilobytes, and every request would carry room for it.
                Found::OpenExclusive => return Box::pin(self.open_exclusive()).await,
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
            return Box::pin(self.opener.open_http1()).await;
        }
        let lease = match self.take(Choice::Unused).await? {
            // It lasts, and requests that found no stream left would have to wait for its end.
            Lease::Stream(stream) if stream.is_crowded() => match Box::pin(self.opener.open()).await? {
                Opened::Exclusive(exclusive) => Lease::Exclusive(*exclusive),
                Opened::Shared(alone) => Lease::Stream(Stream::take(alone)),
            },
            lease => lease,
        };
        match lease {
            Lease::Exclusive(exclusive) => Ok(Lease::Exclusive(Exclusive { pool: None, ..exclusive })),
            Lease::Stream(stream) if stream.may_tunnel().await => Ok(Lease::Stream(stream)),
            Lease::Stream(_) => Box::pin(self.opener.open_http1()).await,
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
        connection.idle_since = Some(now);
        self.lock().put_back(connection, now);
    }

    /// Lets go of every connection, and keeps none from now on: what is opened or given back later closes behind its request.
    pub fn close(&self) {
        let mut stock = self.lock();
        stock.is_closed = true;
        stock.clear();
    }

    /// Drops what is idle for too long, retired, closed, or was opened under other credentials. Called now and then and when
    /// those change, so that a destination without traffic holds no connections.
    pub fn sweep(&self) {
        let (generation, expected) = (self.opener.generation(), self.opener.expected());
        let mut stock = self.lock();
        match expected {
            Ok(expected) => stock.renew(generation, expected),
            // Nobody may answer.
            Err(_) => stock.clear(),
        }
        stock.sweep(Instant::now(), self.shape.rest());
    }

    fn find(self: &Arc<Self>, choice: Choice) -> Result<Found, UpstreamError> {
        let (generation, expected) = (self.opener.generation(), self.opener.expected()?);
        let mut stock = self.lock();
        stock.renew(generation, expected);
        stock.sweep(Instant::now(), self.shape.rest());
        if stock.speaks == Some(Negotiated::Http1) {
            return Ok(stock.find_exclusive(choice, self));
        }
        stock.shared.retain(|shared| choice.admits(shared.opened()) || shared.load() > 0);
        let fit = stock.shared.iter().filter(|shared| choice.admits(shared.opened()));
        let least = fit.min_by_key(|shared| shared.load()).cloned();
        if stock.wants_more(least.as_deref(), self.shape.shared) {
            stock.opening += 1;
            self.open_in_background();
        }
        if let Some(shared) = least {
            return Ok(Found::Ready(Lease::Stream(Stream::take(shared))));
        }
        let (sender, receiver) = oneshot::channel();
        stock.waiting.push(sender);
        Ok(Found::Wait(receiver))
    }

    /// Opens in a task of its own: the connection serves whoever waits, also when the request that asked for it is gone.
    fn open_in_background(self: &Arc<Self>) {
        let pool = Arc::clone(self);
        self.opener.tasks.spawn(async move {
            let opened = pool.opener.open().await;
            let mut stock = pool.lock();
            stock.opening -= 1;
            let outcome = opened.map(|opened| match opened {
                // Given to those who waited for it even if our credentials have changed meanwhile: it shows what was the newest
                // when its handshake ended, and when certificates change quickly the next would be late as well.
                Opened::Shared(shared) => {
                    stock.adopt(&shared);
                    Some(shared)
                }
                Opened::Exclusive(exclusive) => {
                    stock.adopt_exclusive(*exclusive, &pool);
                    None
                }
            });
            let waiting = std::mem::take(&mut stock.waiting);
            drop(stock);
            for waiter in waiting {
                // A waiter that has gone away needs no answer.
                let _ = waiter.send(outcome.clone());
            }
        });
    }

    /// What may be spent on repetitions.
    pub(super) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Where they are counted.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.opener.telemetry().metrics
    }

    /// Whether the process still carries requests.
    pub(super) fn is_serving(&self) -> bool {
        self.opener.tasks.phase() < Phase::Ended
    }

    /// Notes that a connection that was used again turned out to be dead.
    pub(super) fn found_dead(&self) {
        self.distrusts.store(true, Ordering::Relaxed);
    }

    /// Which connections a request may take that is sent for the first time. A peer that lets connections die as a habit
    /// would use up what there is for repetitions: until that has recovered, its connections are used once.
    pub(super) fn first_choice(&self) -> Choice {
        if !self.distrusts.load(Ordering::Relaxed) {
            return Choice::Any;
        }
        if self.budget.is_ample() {
            self.distrusts.store(false, Ordering::Relaxed);
        }
        if self.budget.is_low() { Choice::NewerThan(Instant::now()) } else { Choice::Any }
    }

    /// Opens connections outside the pool.
    pub(super) fn opener(&self) -> &Opener {
        &self.opener
    }

    fn closed(&self) -> UpstreamError {
        UpstreamError::Closed { target: Arc::clone(self.opener.target()) }
    }

    fn lock(&self) -> MutexGuard<'_, Stock> {
        // Nothing panics under this lock; a poisoned pool is still a list of connections.
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A shared connection is gone right after it was opened at most this often before its request gives up.
const TRIES: usize = 3;
/// On a worker's single thread one turn is enough for a task that was woken before.
const SETTLING_TURNS: usize = 3;
