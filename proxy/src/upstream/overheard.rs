//! Hears why a peer ends a TLS connection.
//!
//! In TLS 1.3 a client has finished before the server has judged its certificate. A refusal therefore arrives as an alert on
//! a connection that seems to stand, and the HTTP library makes it an error like any other. This stream keeps the alert.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use rustls::AlertDescription;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The alert with which a peer ended a connection, if it did.
#[derive(Clone, Debug, Default)]
pub struct Alert(Arc<OnceLock<AlertDescription>>);

impl Alert {
    /// What the peer said. A peer that had accepted us would have no reason to say any of these.
    pub fn heard(&self) -> Option<AlertDescription> {
        self.0.get().copied()
    }

    fn keep(&self, error: &io::Error) {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::AlertReceived(alert)) = tls {
            // The first one ends the connection; there is no second.
            let _ = self.0.set(*alert);
        }
    }
}

/// A stream whose alert is kept.
#[derive(Debug)]
pub struct Overheard<Io> {
    inner: Io,
    alert: Alert,
}

impl<Io> Overheard<Io> {
    /// Listens to `inner`.
    pub fn new(inner: Io, alert: Alert) -> Self {
        Self { inner, alert }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Overheard<Io> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.inner).poll_read(cx, buf));
        Poll::Ready(read.inspect_err(|error| self.alert.keep(error)))
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Overheard<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
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
