//! The connections that a pool holds, and which of them a request gets. What is asked of it is answered at once: nothing
//! here waits, or opens anything.

use std::sync::Arc;
use std::time::{Duration, Instant};

use spiffe::SpiffeId;
use tokio::sync::oneshot;

use super::UpstreamError;
use super::lease::{Exclusive, Lease, Link, Shared};
use super::pool::Pool;
use crate::connections::Generation;
use crate::tls::handshake::Negotiated;

#[derive(Debug, Default)]
pub(super) struct Stock {
    pub(super) generation: Generation,
    /// Who might answer when a request last asked for a connection.
    pub(super) expected: Option<Arc<[SpiffeId]>>,
    pub(super) speaks: Option<Negotiated>,
    pub(super) exclusive: Vec<Idle>,
    pub(super) shared: Vec<Arc<Shared>>,
    pub(super) opening: usize,
    pub(super) waiting: Vec<oneshot::Sender<Awaited>>,
    /// Nothing is kept any more.
    pub(super) is_closed: bool,
}

#[derive(Debug)]
pub(super) struct Idle {
    pub(super) connection: Exclusive,
    pub(super) since: Instant,
}

/// Which connections a request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Any.
    Any,
    /// Over HTTP/1.1 one that carried nothing before, over HTTP/2 any.
    Unused,
    /// One that was opened, or given back, after this moment.
    NewerThan(Instant),
}

/// What comes of waiting: a connection to share, or, where each request takes one of its own, the word to look again.
pub(super) type Awaited = Result<Option<Arc<Shared>>, UpstreamError>;

/// What a request finds when it asks for a connection.
pub(super) enum Found {
    Ready(Lease),
    Wait(oneshot::Receiver<Awaited>),
    /// Its response has been read, its task has not yet said that it is ready for the next request.
    Settling(Exclusive),
    OpenExclusive,
}

impl Stock {
    /// Lets go of everything that was opened under other credentials, and of peers that may no longer answer.
    pub(super) fn renew(&mut self, generation: Generation, expected: Option<Arc<[SpiffeId]>>) {
        if self.generation != generation {
            self.generation = generation;
            self.clear();
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

    /// Lets go of everything; what is in use closes with its last response.
    pub(super) fn clear(&mut self) {
        self.exclusive.clear();
        self.shared.clear();
    }

    /// Drops what is closed, retired, or idle for longer than `rest`.
    pub(super) fn sweep(&mut self, now: Instant, rest: Option<Duration>) {
        self.exclusive.retain(|idle| idle.is_usable(now, rest));
        self.shared.retain(|shared| shared.is_usable(now, rest));
    }

    /// Whether others may use a connection: what was opened earlier serves whoever holds it, and nobody after.
    fn may_keep(&self, link: &Link) -> bool {
        !self.is_closed && link.generation == self.generation && link.is_by(self.expected.as_deref())
    }

    pub(super) fn find_exclusive(&mut self, choice: Choice, pool: &Arc<Pool>) -> Found {
        if choice == Choice::Unused {
            return Found::OpenExclusive;
        }
        // The most recently used first: the others get to be idle long enough to be closed. What the choice passes over
        // stays: it may be alive all the same, and if it is not, its own task finds out.
        let fits = |idle: &Idle| choice.admits(idle.since);
        let ready = self.exclusive.iter().rposition(|idle| fits(idle) && idle.connection.sender.is_ready());
        if let Some(index) = ready {
            let mut connection = self.exclusive.remove(index).connection;
            connection.pool = Some(Arc::clone(pool));
            return Found::Ready(Lease::Exclusive(connection));
        }
        match self.exclusive.pop_if(|idle| fits(idle)) {
            Some(idle) => Found::Settling(idle.connection),
            None => Found::OpenExclusive,
        }
    }

    pub(super) fn wants_more(&self, least: Option<&Shared>, most: usize) -> bool {
        let open = self.shared.len() + self.opening;
        match least {
            // Whoever comes while one is being opened waits for that one; only its failure or load opens the next.
            None => self.opening == 0,
            Some(shared) if shared.load() == 0 => false,
            Some(shared) => open < most || (shared.is_full() && self.opening == 0 && open < MOST_SHARED),
        }
    }

    /// Takes back a connection whose response has been read at `now`.
    pub(super) fn put_back(&mut self, connection: Exclusive, now: Instant) {
        if !self.may_keep(&connection.link) {
            return;
        }
        if self.exclusive.len() >= MOST_IDLE {
            // The one that is idle for longest is the next to be closed by its other end.
            self.exclusive.remove(0);
        }
        self.exclusive.push(Idle { connection, since: now });
    }

    pub(super) fn adopt(&mut self, shared: &Arc<Shared>) {
        self.speaks = Some(Negotiated::Http2);
        if self.may_keep(&shared.link) {
            self.shared.push(Arc::clone(shared));
        }
    }

    pub(super) fn adopt_exclusive(&mut self, mut connection: Exclusive, pool: &Arc<Pool>) {
        self.speaks = Some(Negotiated::Http1);
        connection.pool = Some(Arc::clone(pool));
        self.put_back(connection, Instant::now());
    }
}

impl Choice {
    pub(super) fn admits(self, since: Instant) -> bool {
        match self {
            Self::Any | Self::Unused => true,
            Self::NewerThan(moment) => since > moment,
        }
    }
}

impl Idle {
    fn is_usable(&self, now: Instant, rest: Option<Duration>) -> bool {
        let link = &self.connection.link;
        !self.connection.sender.is_closed()
            && now < link.retire_at
            && link.is_wanted()
            && is_rested(self.since, now, rest)
    }
}

/// Whether what is idle since then may be used.
pub(super) fn is_rested(since: Instant, now: Instant, rest: Option<Duration>) -> bool {
    rest.is_none_or(|rest| now.duration_since(since) < rest)
}

/// HTTP/1.1 connections that wait for requests. An application on this host opens a new one in less time than a request
/// takes, and each costs both sides a file descriptor.
const MOST_IDLE: usize = 64;
/// Beyond `Shape::shared` further connections are opened only when all are full of streams; this is where that ends.
const MOST_SHARED: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_idle_for_too_long_is_not_used() {
        let since = Instant::now();
        let after = |millis| since + Duration::from_millis(millis);
        for (rest, millis, usable) in
            [(Some(900), 0, true), (Some(900), 899, true), (Some(900), 900, false), (None, 1_000_000, true)]
        {
            assert_eq!(is_rested(since, after(millis), rest.map(Duration::from_millis)), usable, "{rest:?} {millis}");
        }
    }

    #[test]
    fn a_choice_is_between_what_is_there() {
        let moment = Instant::now();
        let later = moment + Duration::from_millis(1);
        assert!(Choice::Any.admits(moment) && Choice::Unused.admits(moment));
        assert!(Choice::NewerThan(moment).admits(later));
        assert!(!Choice::NewerThan(moment).admits(moment) && !Choice::NewerThan(later).admits(moment));
    }
}
