//! Bounds what the HTTP/2 library does not: frames that cost the peer nothing, us little, and come without end.
//!
//! The guard lies below the library, and looks at the frame headers only, of what is read and of what is written. It
//! copies nothing, allocates nothing while nothing is wrong, and reads the clock only when an allowance is spent. What the
//! library bounds itself (streams, windows, bytes of a head, CONTINUATION) is left to it; SECURITY.md has the whole table.

pub mod frames;
pub mod rules;
pub mod watch;

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use spiffe::SpiffeId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

use self::frames::kind;
use self::watch::{Violation, Watch};
use crate::telemetry::Telemetry;
use crate::telemetry::metrics::Direction;
use crate::telemetry::repeated::Say;

/// The stream of an HTTP/2 connection, which ends with GOAWAY when its peer goes too far.
#[derive(Debug)]
pub struct Guard<Io> {
    inner: Io,
    watch: Watch,
    finding: Finding,
    /// How long a head may take from its first byte.
    head_limit: Duration,
    head_timer: Option<HeadTimer>,
    has_opened: bool,
}

/// Armed when a head has begun to come and the rest is not there yet, which is rare.
#[derive(Debug)]
struct HeadTimer {
    head: u64,
    sleep: Pin<Box<Sleep>>,
}

/// What a guard has found, for whoever runs the connection: the library passes an error's text on, not its type.
#[derive(Clone, Debug, Default)]
pub struct Finding(Arc<Found>);

#[derive(Debug, Default)]
struct Found {
    violation: OnceLock<Violation>,
    opened: Notify,
}

impl Finding {
    /// The violation for which the connection was ended.
    pub fn get(&self) -> Option<Violation> {
        self.0.violation.get().copied()
    }

    /// Resolves, for one who waits, when the peer's first SETTINGS have been read.
    pub async fn opened(&self) {
        self.0.opened.notified().await;
    }
}

/// Who the end of a connection is recorded of.
#[derive(Clone, Debug)]
pub struct FarEnd {
    /// Which way the requests of the connection go.
    pub direction: Direction,
    /// The other end's address.
    pub address: SocketAddr,
    /// Its identity, unless it is our own application.
    pub peer: Option<SpiffeId>,
}

impl FarEnd {
    /// Counts the end of the connection for `reason`, and tells of it once in a while for each address.
    pub fn record(&self, reason: &'static str, error: &dyn std::error::Error, telemetry: &Telemetry) {
        let (direction, from, error) = (self.direction.label(), self.address, crate::error_chain(error));
        telemetry.metrics.connection_closed(self.direction, reason);
        let peer = self.peer.as_ref().map(tracing::field::display);
        match telemetry.repeated.note(reason, from.ip(), std::time::Instant::now()) {
            Say::Aloud { left_out } => {
                tracing::warn!(direction, %from, peer, reason, error, left_out, "an HTTP connection was ended");
            }
            Say::Quietly => {
                tracing::debug!(direction, %from, peer, reason, error, "an HTTP connection was ended");
            }
        }
    }
}

impl<Io> Guard<Io> {
    /// Guards a connection on which we serve, with at most `streams` open at a time.
    pub fn serving(inner: Io, streams: u32, head_limit: Duration, finding: Finding) -> Self {
        Self { inner, watch: Watch::serving(streams), finding, head_limit, head_timer: None, has_opened: false }
    }

    /// Guards a connection on which we call.
    pub fn calling(inner: Io, head_limit: Duration, finding: Finding) -> Self {
        Self { inner, watch: Watch::calling(), finding, head_limit, head_timer: None, has_opened: false }
    }

    fn sent(&mut self, bytes: &[u8]) {
        if let Err(violation) = self.watch.sent(bytes) {
            // Ends the connection at its next read, which is never far: it is the peer's frames that led to this one.
            let _ = self.finding.0.violation.set(violation);
        }
    }

    /// Tells once that the peer's SETTINGS are there.
    fn look_for_settings(&mut self) {
        if !self.has_opened && self.watch.has_opened() {
            self.has_opened = true;
            self.finding.0.opened.notify_one();
        }
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Guard<Io> {
    /// Waits with a head that is under way until its deadline.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(head) = self.watch.head_under_way() else {
            self.head_timer = None;
            return Poll::Pending;
        };
        let limit = self.head_limit;
        let timer = match &mut self.head_timer {
            Some(timer) if timer.head == head => timer,
            Some(timer) => {
                timer.head = head;
                timer.sleep.as_mut().reset(Instant::now() + limit);
                timer
            }
            none => none.insert(HeadTimer { head, sleep: Box::pin(tokio::time::sleep(limit)) }),
        };
        timer.sleep.as_mut().poll(cx)
    }

    /// Says goodbye as far as that can be done at once: a peer that does not read gets none.
    fn end(&mut self, violation: Violation, cx: &mut Context<'_>) -> io::Error {
        let _ = self.finding.0.violation.set(violation);
        if self.watch.is_between_frames() {
            // Whatever comes of them, the connection is over.
            let _ = Pin::new(&mut self.inner).poll_write(cx, &goaway(violation.code()));
            let _ = Pin::new(&mut self.inner).poll_shutdown(cx);
        }
        io::Error::new(io::ErrorKind::InvalidData, violation)
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guard<Io> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let polled = match Pin::new(&mut this.inner).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => this.watch.received(buf.filled().get(before..).unwrap_or_default()),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {
                ready!(this.poll_head(cx));
                Err(Violation::HeadTimeout)
            }
        };
        match polled.err().or_else(|| this.finding.get()) {
            None => {
                this.look_for_settings();
                Poll::Ready(Ok(()))
            }
            Some(violation) => {
                buf.set_filled(before);
                Poll::Ready(Err(this.end(violation, cx)))
            }
        }
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Guard<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = polled {
            self.sent(buf.get(..count).unwrap_or(buf));
        }
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(mut rest)) = polled {
            for buf in bufs {
                let (written, _) = buf.split_at(rest.min(buf.len()));
                rest -= written.len();
                self.sent(written);
            }
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// A GOAWAY frame of this error code (RFC 9113 section 6.8). It names the highest stream that there can be: whether any of
/// them was processed is not known here, so none may be taken for one that was not.
fn goaway(code: u32) -> [u8; 17] {
    let [c0, c1, c2, c3] = code.to_be_bytes();
    [0, 0, 8, kind::GOAWAY, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, c0, c1, c2, c3]
}

#[cfg(test)]
mod tests;
