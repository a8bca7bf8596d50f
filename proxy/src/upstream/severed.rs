//! Ends a connection below the HTTP library.
//!
//! Over HTTP/2 the library runs a connection in a task of its own, and whoever drops its handle only lets it end with its last
//! stream (hyper 1.12, `proto/h2/client.rs`, `ConnTask`). What was condemned would go on for as long as its streams. So the
//! stream of bytes itself breaks, and with it all that is in flight.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Breaks the [`Severable`] that it was made for.
#[derive(Clone, Debug, Default)]
pub struct Cutter(Arc<Cut>);

#[derive(Debug, Default)]
struct Cut {
    is_cut: AtomicBool,
    /// The one task that reads and writes.
    waiting: AtomicWaker,
}

impl Cutter {
    /// Has every read and write fail from here on, also those that wait.
    pub fn cut(&self) {
        self.0.is_cut.store(true, Ordering::Release);
        self.0.waiting.wake();
    }

    fn guard<T>(
        &self,
        cx: &mut Context<'_>,
        go: impl FnOnce(&mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let went = if self.is_cut() { Poll::Pending } else { go(cx) };
        if went.is_ready() {
            return went;
        }
        // Only whoever waits has to be woken. Registered before the second look, so that a cut in between is not missed.
        self.0.waiting.register(cx.waker());
        if self.is_cut() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cut by the sidecar")));
        }
        Poll::Pending
    }

    fn is_cut(&self) -> bool {
        self.0.is_cut.load(Ordering::Acquire)
    }
}

/// A stream that can be broken from outside.
#[derive(Debug)]
pub struct Severable<Io> {
    inner: Io,
    cutter: Cutter,
}

impl<Io> Severable<Io> {
    /// `inner`, until `cutter` cuts it.
    pub fn new(inner: Io, cutter: Cutter) -> Self {
        Self { inner, cutter }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Severable<Io> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.cutter.guard(cx, |cx| Pin::new(&mut this.inner).poll_read(cx, buf))
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Severable<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.cutter.guard(cx, |cx| Pin::new(&mut this.inner).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.cutter.guard(cx, |cx| Pin::new(&mut this.inner).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.cutter.guard(cx, |cx| Pin::new(&mut this.inner).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.cutter.guard(cx, |cx| Pin::new(&mut this.inner).poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn a_cut_ends_whoever_waits_and_whoever_comes_after() {
        let (mut far, near) = duplex(16);
        let cutter = Cutter::default();
        let mut stream = Severable::new(near, cutter.clone());
        far.write_all(b"before").await.unwrap();
        let mut got = [0; 6];
        stream.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"before");
        {
            let mut waiting = std::pin::pin!(stream.read_u8());
            assert!(futures_util::poll!(waiting.as_mut()).is_pending());
            cutter.cut();
            assert_eq!(waiting.await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        }
        far.write_all(b"after").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(stream.write_u8(1).await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }
}
