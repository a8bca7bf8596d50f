//! Closing a connection whose peer may still be sending, so that it gets to read what it was told last.
//!
//! The kernel resets a connection that is closed with bytes unread or bytes still to come, and the reset makes the peer's
//! kernel throw away what the peer has not read yet: our answer. So our half is closed first, the rest is read and thrown
//! away within [`Bounds`], and only then the connection is closed (RFC 9112 section 9.6).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How much of a peer that sends on is put up with.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// From the close of our half to the end.
    pub whole: Duration,
    /// Without a byte.
    pub silence: Duration,
    /// In bytes.
    pub bytes: usize,
}

/// Behind a refused handshake: some round trips to the other side of a region, and the first requests of a caller that has
/// finished before it was judged. Such a peer has proven nothing and gets no more.
pub const REFUSED_HANDSHAKE: Bounds =
    Bounds { whole: Duration::from_millis(500), silence: Duration::from_millis(500), bytes: 64 << 10 };

/// Behind an answer over HTTP/1.1. The times are those of nginx, within which a caller who writes 3 MB over 1 Mbit/s before
/// it reads is done. The bytes are what is on its way when the answer leaves, 10 Gbit/s for 10 ms and the kernel's largest
/// buffers at both ends, and more than callers who write all before they read have reason to send.
pub const ANSWERED_EARLY: Bounds =
    Bounds { whole: Duration::from_secs(30), silence: Duration::from_secs(5), bytes: 32 << 20 };

/// One lingering close under way.
#[derive(Debug)]
pub struct Linger {
    bounds: Bounds,
    left: usize,
    end: Instant,
    timer: Pin<Box<Sleep>>,
    half_closed: bool,
}

impl Linger {
    /// Begins now.
    pub fn within(bounds: Bounds) -> Self {
        let now = Instant::now();
        let timer = Box::pin(tokio::time::sleep_until(now + bounds.silence.min(bounds.whole)));
        Self { bounds, left: bounds.bytes, end: now + bounds.whole, timer, half_closed: false }
    }

    /// Closes our half of `io` and reads until the peer closes its own or a bound is reached; then `io` is to be dropped.
    ///
    /// # Errors
    /// When our half cannot be closed. A peer that breaks off after that has ended the connection, which is no error.
    pub fn poll<Io>(&mut self, io: &mut Io, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        if !self.half_closed
            && let Poll::Ready(closed) = Pin::new(&mut *io).poll_shutdown(cx)
        {
            closed?;
            self.half_closed = true;
        }
        let mut rest = [0; 8 << 10];
        while self.half_closed && self.left > 0 {
            let mut rest = ReadBuf::new(&mut rest);
            match Pin::new(&mut *io).poll_read(cx, &mut rest) {
                Poll::Pending => break,
                Poll::Ready(Err(_)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) if rest.filled().is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => {
                    self.left = self.left.saturating_sub(rest.filled().len());
                    let silent_at = Instant::now() + self.bounds.silence;
                    self.timer.as_mut().reset(silent_at.min(self.end));
                }
            }
        }
        if self.left > 0 {
            ready!(self.timer.as_mut().poll(cx));
        }
        // Whoever sends on, or does not close, has been told and is cut.
        Poll::Ready(Ok(()))
    }
}

/// Whether a connection of HTTP/1.1 ends with something unread: known to whoever reads its requests, asked by its stream
/// when the HTTP library closes it. Never set for HTTP/2, which stops one request and goes on with the others.
#[derive(Debug, Default)]
pub struct Leftover {
    unread: AtomicBool,
    /// The library waits until it can write, and not for the next request.
    blocked: AtomicBool,
    lingering: AtomicBool,
    handed_over: AtomicBool,
}

impl Leftover {
    /// A request has been taken up, with or without a body that has not been read yet.
    pub fn taken_up(&self, has_body: bool) {
        self.unread.store(has_body, Ordering::Relaxed);
    }

    /// The body of the request was read to its end.
    pub fn read_to_the_end(&self) {
        self.unread.store(false, Ordering::Relaxed);
    }

    /// The connection waits for its next request, none being under way. The library has then read by itself what was left
    /// of a body, or it would have closed the connection.
    pub fn idle(&self) {
        if !self.blocked.load(Ordering::Relaxed) {
            self.unread.store(false, Ordering::Relaxed);
        }
    }

    /// The connection becomes a tunnel: whoever closes its half means to read on.
    pub fn hand_over(&self) {
        self.handed_over.store(true, Ordering::Relaxed);
    }

    /// Whether the connection has been answered for the last time, and what still comes is thrown away.
    pub fn is_lingering(&self) -> bool {
        self.lingering.load(Ordering::Relaxed)
    }

    fn is_left(&self) -> bool {
        self.unread.load(Ordering::Relaxed) && !self.handed_over.load(Ordering::Relaxed)
    }
}

/// A stream that lingers when it is shut down with something unread.
#[derive(Debug)]
pub struct Lingering<Io> {
    inner: Io,
    leftover: Arc<Leftover>,
    /// Whether the peer has closed its half, or the connection is broken: nothing more can come.
    ended: bool,
    linger: Option<Linger>,
}

impl<Io> Lingering<Io> {
    /// Goes by `leftover`.
    pub fn new(inner: Io, leftover: Arc<Leftover>) -> Self {
        Self { inner, leftover, ended: false, linger: None }
    }

    fn wrote<T>(&self, polled: Poll<T>) -> Poll<T> {
        self.leftover.blocked.store(polled.is_pending(), Ordering::Relaxed);
        polled
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Lingering<Io> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        if let Poll::Ready(outcome) = &polled {
            // A head that the library refuses by itself is left over too: it is taken up by nobody.
            self.leftover.unread.store(true, Ordering::Relaxed);
            self.ended = outcome.is_err() || (buf.filled().len() == before && buf.remaining() > 0);
        }
        polled
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.wrote(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_flush(cx);
        self.wrote(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            if this.ended || !this.leftover.is_left() {
                return Pin::new(&mut this.inner).poll_shutdown(cx);
            }
            this.leftover.lingering.store(true, Ordering::Relaxed);
        }
        let linger = this.linger.get_or_insert_with(|| Linger::within(ANSWERED_EARLY));
        linger.poll(&mut this.inner, cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const SHORT: Bounds = Bounds { whole: Duration::from_secs(30), silence: Duration::from_secs(5), bytes: 1000 };

    /// How long a peer that does `sending` is put up with.
    async fn lingered(sending: impl AsyncFnOnce(&mut DuplexStream)) -> Duration {
        let (mut ours, mut peer) = duplex(64);
        let started = Instant::now();
        let mut linger = Linger::within(SHORT);
        let lingering = async {
            std::future::poll_fn(|cx| linger.poll(&mut ours, cx)).await.unwrap();
            drop(ours);
            started.elapsed()
        };
        let talking = async {
            assert_eq!(peer.read(&mut [0]).await.unwrap(), 0, "our half is closed first");
            sending(&mut peer).await;
            peer
        };
        tokio::join!(lingering, talking).0
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_is_waited_for_within_bounds() {
        let closes = async |peer: &mut DuplexStream| {
            peer.write_all(&[0; 500]).await.unwrap();
            peer.shutdown().await.unwrap();
        };
        assert_eq!(lingered(closes).await, Duration::ZERO);
        let silent = async |_: &mut DuplexStream| {};
        assert_eq!(lingered(silent).await.as_secs(), 5);
        let drips = async |peer: &mut DuplexStream| {
            while peer.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        assert_eq!(lingered(drips).await.as_secs(), 30);
        let floods = async |peer: &mut DuplexStream| {
            let mut count = 0;
            while peer.write_all(&[0; 10]).await.is_ok() {
                count += 10;
            }
            assert!((1000..1200).contains(&count), "{count}");
        };
        assert_eq!(lingered(floods).await, Duration::ZERO);
    }

    /// What happens on a connection before it is shut down.
    type Does = fn(&Leftover);

    /// A stream of which a request with a body has been read.
    async fn left_over() -> (Lingering<DuplexStream>, DuplexStream, Arc<Leftover>) {
        let (ours, mut peer) = duplex(64);
        let leftover = Arc::<Leftover>::default();
        let mut stream = Lingering::new(ours, Arc::clone(&leftover));
        peer.write_all(b"head").await.unwrap();
        stream.read_exact(&mut [0; 4]).await.unwrap();
        leftover.taken_up(true);
        (stream, peer, leftover)
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_left_over_is_waited_for() {
        let rows: [(_, _, Does); 6] = [
            ("a body that is not read to its end", 5, |_| {}),
            ("one that is", 0, Leftover::read_to_the_end),
            ("none at all", 0, |leftover| leftover.taken_up(false)),
            ("the library read it", 0, Leftover::idle),
            ("a tunnel", 0, Leftover::hand_over),
            ("an answer that is not written yet", 5, |leftover| {
                leftover.blocked.store(true, Ordering::Relaxed);
                leftover.idle();
            }),
        ];
        for (name, seconds, does) in rows {
            let (mut stream, _peer, leftover) = left_over().await;
            does(&leftover);
            let started = Instant::now();
            stream.shutdown().await.unwrap();
            assert_eq!(started.elapsed().as_secs(), seconds, "{name}");
            assert_eq!(leftover.is_lingering(), seconds > 0, "{name}");
        }
        let (mut stream, peer, _) = left_over().await;
        drop(peer);
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        stream.shutdown().await.unwrap();
    }

    #[tokio::test]
    async fn an_answer_that_cannot_be_written_is_known_to_wait() {
        let (mut stream, _peer, leftover) = left_over().await;
        let writing = stream.write_all(&[0; 100]);
        assert!(futures_util::poll!(std::pin::pin!(writing)).is_pending());
        leftover.idle();
        assert!(leftover.is_left());
    }
}
