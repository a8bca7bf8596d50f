//! Which requests without an answer may be sent again, and over which connection. This is the one place that decides it.
//!
//! A request is repeated when it is certain that its upstream has not processed it, whatever its method, or when the
//! connection that it shared or took over was dead and its method is idempotent (RFC 9110 section 9.2.2). Either way only
//! if its body can be sent again: one that is empty, or of which nothing was taken. A peer that refuses us, and one whose
//! answer has begun, is never asked again.

use std::error::Error;
use std::time::{Duration, Instant};

use super::UpstreamError;
use super::lease::{Lease, Unsent};
use super::pool::{Choice, Pool};
use crate::tls::handshake::HandshakeError;

/// Why a request may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// There was no connection to send it on.
    NotConnected,
    /// The connection ended before the request was written to it; the HTTP library gives it back.
    Unsent,
    /// Its stream was refused (RFC 9113 section 8.7: before any processing).
    Refused,
    /// GOAWAY names an earlier stream as the last (RFC 9113 section 6.8: the peer has not acted on later ones).
    GoneAway,
    /// The connection was found dead before a byte of the answer had come, and the method is idempotent.
    Died,
}

impl Cause {
    /// The fixed word for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::NotConnected => "not_connected",
            Self::Unsent => "unsent",
            Self::Refused => "stream_refused",
            Self::GoneAway => "goaway",
            Self::Died => "connection_died",
        }
    }

    /// Of an attempt to open a connection. Who was refused would be refused again, and who has waited for
    /// `timeouts.connect` or `timeouts.handshake` has waited long enough.
    fn of_opening(error: &UpstreamError) -> Option<Self> {
        match error {
            UpstreamError::Connect { .. } => Some(Self::NotConnected),
            UpstreamError::Handshake { source, .. } => {
                matches!(**source, HandshakeError::Closed(_)).then_some(Self::NotConnected)
            }
            UpstreamError::Resolve { .. }
            | UpstreamError::ConnectTimeout { .. }
            | UpstreamError::NotOfService { .. }
            | UpstreamError::NoSuchService(_)
            | UpstreamError::Full { .. }
            | UpstreamError::Exchange { .. }
            | UpstreamError::Closed { .. }
            | UpstreamError::Condemned { .. }
            | UpstreamError::ResponseTimeout { .. }
            | UpstreamError::Protocol { .. }
            | UpstreamError::NoTunnels { .. } => None,
        }
    }

    /// Of a request that was sent on `lease`.
    pub(super) fn of_sending(unsent: &Unsent, lease: &Lease, is_idempotent: bool) -> Option<Self> {
        if lease.link().alert.heard().is_some() {
            return None;
        }
        if unsent.request.is_some() {
            return Some(Self::Unsent);
        }
        let told = unsent.error.source().and_then(<dyn Error>::downcast_ref::<h2::Error>);
        if let Some(told) = told.filter(|told| told.is_remote()) {
            // The library gives a peer's GOAWAY only to streams above the last one that it names, and to requests that came
            // after it; the others get the end of the connection (h2's `recv_go_away` and `recv_eof`).
            return match told.reason() {
                _ if told.is_go_away() => Some(Self::GoneAway),
                Some(h2::Reason::REFUSED_STREAM) => Some(Self::Refused),
                // Any other reset is an answer of a kind.
                _ => None,
            };
        }
        // What the library found wrong with the peer's frames is an answer that came, a malformed one.
        let is_dead = told.is_none_or(h2::Error::is_io);
        (is_dead && is_idempotent && lease.is_reused() && !lease.is_answering()).then_some(Self::Died)
    }
}

/// The repetitions of one request.
pub(super) struct Repeats<'a> {
    pool: &'a Pool,
    left: u8,
    last: Option<Cause>,
    choice: Choice,
}

impl<'a> Repeats<'a> {
    /// Of a request that has not been sent yet.
    pub(super) fn new(pool: &'a Pool) -> Self {
        pool.budget().request();
        Self { pool, left: MOST, last: None, choice: pool.first_choice() }
    }

    /// Which connections it may take now.
    pub(super) fn choice(&self) -> Choice {
        self.choice
    }

    /// Whether to try again after no connection could be had; waits a moment if so.
    pub(super) async fn after_opening(&mut self, error: &UpstreamError) -> bool {
        // Once: what has failed twice in a row needs more time than a request has.
        let cause = Cause::of_opening(error).filter(|_| self.last != Some(Cause::NotConnected));
        if !self.may(cause) {
            return false;
        }
        pause().await;
        true
    }

    /// Whether to send again what could be sent again, after it had been sent on `lease`.
    pub(super) async fn after_sending(&mut self, cause: Option<Cause>, lease: &Lease) -> bool {
        if cause == Some(Cause::Died) {
            self.pool.found_dead();
        }
        if !self.may(cause) {
            return false;
        }
        if cause == Some(Cause::Refused) {
            pause().await;
        }
        self.choice = match self.left {
            // What has been there for longer than the dead one is likely dead as well. The last try takes no chances.
            0 => Choice::NewerThan(Instant::now()),
            _ => Choice::NewerThan(lease.since()),
        };
        true
    }

    /// Counts how it ended.
    pub(super) fn ended(&self, result: Outcome) {
        if let Some(cause) = self.last {
            self.pool.metrics().upstream_retry(cause.label(), result.label());
        }
    }

    fn may(&mut self, cause: Option<Cause>) -> bool {
        self.ended(Outcome::Failed);
        self.last = None;
        let Some(cause) = cause.filter(|_| self.left > 0 && self.pool.is_serving()) else { return false };
        // What never left costs the upstream nothing.
        if cause != Cause::Unsent && !self.pool.budget().spend() {
            self.pool.metrics().upstream_retry(cause.label(), Outcome::OverBudget.label());
            return false;
        }
        self.left -= 1;
        self.last = Some(cause);
        true
    }
}

/// What came of a repetition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The head of a response.
    Answered,
    /// It failed as well.
    Failed,
    /// It was not made.
    OverBudget,
}

impl Outcome {
    fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::OverBudget => "over_budget",
        }
    }
}

/// Long enough for a listener that is just being replaced, short enough that nobody notices; of random length, so that
/// callers that failed together do not come back together.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(fastrand::u64(10..=50))).await;
}

/// One for the race with a connection that is closing, one for its repetition.
const MOST: u8 = 2;
