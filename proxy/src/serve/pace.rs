//! How long a downstream HTTP connection may take, and what it is doing meanwhile.
//!
//! Deadlines are kept here instead of by the HTTP library, because the library's own timer for heads also runs while a
//! kept-alive connection is idle, and costs an allocation for each request.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::linger::Leftover;
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

    pub(super) fn note_idle(&self) {
        let (begun, ended) = self.counts();
        if begun == ended {
            self.leftover.idle();
        }
    }

    fn counts(&self) -> (u64, u64) {
        (self.begun.load(Ordering::Relaxed), self.ended.load(Ordering::Relaxed))
    }
}

/// Keeps the deadlines of a connection. Its timer is moved only when a deadline draws nearer than the one it is set to,
/// so that a busy connection does not touch it.
pub(super) struct Pace<'a> {
    bounds: Bounds,
    protocol: Negotiated,
    activity: &'a Activity,
    read: &'a AtomicU64,
    state: Waiting,
    seen: (u64, u64),
    read_when_idle: u64,
    deadline: Option<Instant>,
    old_at: Option<Instant>,
    /// It was idle for too long, and its peer is told.
    pub(super) is_parting: bool,
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

pub(super) enum Paced {
    Ended(hyper::Result<()>),
    TimedOut(&'static str),
    /// To be ended with a goodbye.
    Old,
    /// The same.
    Idle,
}

impl<'a> Pace<'a> {
    pub(super) fn new(bounds: Bounds, protocol: Negotiated, activity: &'a Activity, read: &'a AtomicU64) -> Self {
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
            is_parting: false,
            timer: Box::pin(tokio::time::sleep(FAR)),
        };
        pace.wait_for(Waiting::Idle, now);
        pace
    }

    /// `driven` is what the connection says, which has just been polled.
    pub(super) fn poll(
        &mut self,
        driven: Poll<Result<hyper::Result<()>, &'static str>>,
        cx: &mut Context<'_>,
    ) -> Poll<Paced> {
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
                // A request may be on its way at this moment: over HTTP/2 its sender can be told that it is not heard.
                if self.protocol == Negotiated::Http2 && !self.is_parting {
                    self.is_parting = true;
                    self.deadline = Some(now + PARTING);
                    return Poll::Ready(Paced::Idle);
                }
                return Poll::Ready(Paced::TimedOut(match self.state {
                    Waiting::Head => "request_head_timeout",
                    Waiting::Idle | Waiting::Busy => IDLE,
                }));
            }
            let next = self.next().unwrap_or(now + FAR);
            self.timer.as_mut().reset(next);
        }
        Poll::Pending
    }

    /// Whether nothing was asked yet over HTTP/1.1, where an end could lose the first request.
    pub(super) fn is_fresh(&self) -> bool {
        self.protocol == Negotiated::Http1 && self.activity.counts().0 == 0
    }

    pub(super) fn grow_old_within(&mut self, limit: Duration) {
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

/// How a connection that was idle for too long is counted.
pub(super) const IDLE: &str = "idle_timeout";
/// What a peer gets to answer a goodbye.
const PARTING: Duration = Duration::from_secs(5);
/// The timer's place while there is no deadline.
const FAR: Duration = Duration::from_secs(86_400);
