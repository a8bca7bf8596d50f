//! A socket that fails when too much comes through it without a message.
//!
//! HTTP/2 has frames that cost the sender nothing and that no library counts, PRIORITY and unknown ones among them. An
//! agent that sends them without end would keep a thread busy for as long as it likes; this ends it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A socket whose incoming bytes are counted.
pub(super) struct Metered<S> {
    socket: S,
    meter: Meter,
}

/// The count of one socket since the last message.
#[derive(Clone, Default)]
pub(super) struct Meter(Arc<AtomicU64>);

impl<S> Metered<S> {
    /// Counts what comes from this socket.
    pub(super) fn new(socket: S) -> (Self, Meter) {
        let meter = Meter::default();
        (Self { socket, meter: meter.clone() }, meter)
    }
}

impl Meter {
    /// A message came: what was read was worth it.
    pub(super) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn add(&self, bytes: u64) -> io::Result<()> {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > MAX_WITHOUT_MESSAGE {
            return Err(io::Error::other(format!("more than {MAX_WITHOUT_MESSAGE} bytes came without a message")));
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.socket).poll_read(context, buffer) {
            Poll::Ready(Ok(())) => Poll::Ready(self.meter.add((buffer.filled().len() - before) as u64)),
            other => other,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

/// Twice the largest message: the rest is for its framing in small pieces, and years of pings.
const MAX_WITHOUT_MESSAGE: u64 = 8 * 1024 * 1024;
