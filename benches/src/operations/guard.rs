//! What the guard of HTTP/2 costs a request: its frames, over a stream that costs next to nothing.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use portcullis::http::guard::frames::flag::{END_HEADERS, END_STREAM};
use portcullis::http::guard::frames::kind::{DATA, HEADERS, SETTINGS, WINDOW_UPDATE};
use portcullis::http::guard::{Finding, Guard};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Failure, Work};

/// A caller's request with a body, the answer to it, and the answer's bytes given back to the stream and the connection;
/// each comes and goes as the HTTP library reads and writes it.
pub fn request() -> Result<Work, Failure> {
    let opening = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 6)].concat();
    let request = [frame(HEADERS, END_HEADERS, 180), frame(DATA, END_STREAM, 348)].concat();
    let given_back = frame(WINDOW_UPDATE, 0, 4).repeat(2);
    let (head, body) = (frame(HEADERS, END_HEADERS, 60), frame(DATA, END_STREAM, 400));
    let script = Script { opening: Some(opening), coming: [request, given_back], at: 0 };
    let mut guard = Guard::serving(script, 100, Duration::from_secs(10), Finding::default());
    read(&mut guard)?;
    write(&mut guard, &frame(SETTINGS, 0, 6))?;
    Ok(Work::whole(move || {
        read(&mut guard)?;
        write(&mut guard, &head)?;
        write(&mut guard, &body)?;
        read(&mut guard)
    }))
}

/// A peer that always has something to say and always listens.
struct Script {
    opening: Option<Vec<u8>>,
    coming: [Vec<u8>; 2],
    at: usize,
}

impl AsyncRead for Script {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(opening) = self.opening.take() {
            buf.put_slice(&opening);
            return Poll::Ready(Ok(()));
        }
        buf.put_slice(self.coming.get(self.at).map_or(&[], Vec::as_slice));
        self.at ^= 1;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn read(guard: &mut Guard<Script>) -> Result<(), Failure> {
    let mut room = [0; 1024];
    let mut buf = ReadBuf::new(&mut room);
    match Pin::new(guard).poll_read(&mut Context::from_waker(Waker::noop()), &mut buf) {
        Poll::Ready(Ok(())) if !buf.filled().is_empty() => Ok(()),
        Poll::Ready(Err(error)) => Err(error.into()),
        _ => Err(Failure::Wrong("there was nothing to read")),
    }
}

fn write(guard: &mut Guard<Script>, bytes: &[u8]) -> Result<(), Failure> {
    match Pin::new(guard).poll_write(&mut Context::from_waker(Waker::noop()), bytes) {
        Poll::Ready(Ok(count)) if count == bytes.len() => Ok(()),
        Poll::Ready(Err(error)) => Err(error.into()),
        _ => Err(Failure::Wrong("not all was written")),
    }
}

fn frame(kind: u8, flags: u8, payload: u16) -> Vec<u8> {
    let [high, low] = payload.to_be_bytes();
    let mut bytes = vec![0, high, low, kind, flags, 0, 0, 0, 1];
    bytes.resize(bytes.len() + usize::from(payload), 0xa5);
    bytes
}
