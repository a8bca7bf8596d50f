//! Tells HTTP/2 with prior knowledge from HTTP/1.1 by the first bytes of a connection (RFC 9113 section 3.4).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::tls::handshake::Negotiated;

/// A stream whose first bytes were looked at; they are read again.
#[derive(Debug)]
pub struct Looked<Io> {
    seen: [u8; PREFACE.len()],
    from: usize,
    to: usize,
    inner: Io,
}

/// Reads until it is certain which protocol the stream begins with. An end of stream before that counts as HTTP/1.1,
/// whose reader then reports it.
///
/// # Errors
/// When the stream cannot be read.
pub async fn look<Io: AsyncRead + Unpin>(mut inner: Io) -> io::Result<(Negotiated, Looked<Io>)> {
    let mut seen = [0; PREFACE.len()];
    let mut to = 0;
    let protocol = loop {
        let (read, free) = seen.split_at_mut(to);
        if read == PREFACE {
            break Negotiated::Http2;
        }
        if !PREFACE.starts_with(read) {
            break Negotiated::Http1;
        }
        match inner.read(free).await? {
            0 => break Negotiated::Http1,
            count => to += count,
        }
    };
    Ok((protocol, Looked { seen, from: 0, to, inner }))
}

impl<Io: AsyncRead + Unpin> AsyncRead for Looked<Io> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let rest = this.seen.get(this.from..this.to).unwrap_or_default();
        if rest.is_empty() {
            return Pin::new(&mut this.inner).poll_read(cx, buf);
        }
        let count = rest.len().min(buf.remaining());
        buf.put_slice(rest.get(..count).unwrap_or_default());
        this.from += count;
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Looked<Io> {
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

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    async fn check(chunks: &[&[u8]], expected: Negotiated) {
        let (mut client, server) = duplex(64);
        let writing = async {
            for chunk in chunks {
                client.write_all(chunk).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(client);
        };
        let reading = async {
            let (protocol, mut looked) = look(server).await.unwrap();
            let mut all = Vec::new();
            looked.read_to_end(&mut all).await.unwrap();
            (protocol, all)
        };
        let ((), (protocol, all)) = tokio::join!(writing, reading);
        assert_eq!(protocol, expected, "{chunks:?}");
        assert_eq!(all, chunks.concat(), "no byte is lost");
    }

    #[tokio::test]
    async fn the_preface_is_known_however_it_is_cut() {
        check(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nrest"], Negotiated::Http2).await;
        check(&[b"P", b"RI * HTTP/2.0\r\n\r\nSM\r\n\r", b"\n"], Negotiated::Http2).await;
        check(&[b"GET / HTTP/1.1\r\n\r\n"], Negotiated::Http1).await;
        check(&[b"P", b"OST / HTTP/1.1\r\n\r\n"], Negotiated::Http1).await;
        check(&[b"PRI * HTTP/2.0\r\n\r\nXX"], Negotiated::Http1).await;
        check(&[b"PRI"], Negotiated::Http1).await;
        check(&[], Negotiated::Http1).await;
    }
}
