//! Request bodies on their way upstream: counted, never buffered, bounded in how long they may stall.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::trailers;
use crate::linger::Leftover;

/// A request body on its way upstream.
#[derive(Debug)]
pub struct RequestBody {
    inner: Option<Incoming>,
    upload: Arc<Upload>,
    stall: Stall,
    most_trailers: usize,
}

/// How a request's body is doing: it is read by the upstream connection's task, and asked about by the request's.
#[derive(Debug, Default)]
pub struct Upload {
    bytes: AtomicU64,
    failed: OnceLock<UploadFault>,
    /// Where the connection is told that nothing of it is left; `None` over HTTP/2 and without a body.
    leftover: Option<Arc<Leftover>>,
}

/// What went wrong with a request's body, always on the caller's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadFault {
    /// It broke off, or broke the rules of its protocol.
    Broken,
    /// It paused for longer than `timeouts.bodyStall`.
    Stalled,
}

impl Upload {
    /// A body that has just begun to arrive, on a connection that is to know when it was read to its end.
    pub fn leaving(leftover: Option<Arc<Leftover>>) -> Self {
        Self { leftover, ..Self::default() }
    }

    /// Counts bytes that arrived.
    pub fn count(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that have arrived.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// What went wrong with it.
    pub fn fault(&self) -> Option<UploadFault> {
        self.failed.get().copied()
    }
}

impl RequestBody {
    /// No body at all.
    pub fn empty() -> Self {
        Self { inner: None, upload: Arc::default(), stall: Stall::after(Duration::ZERO), most_trailers: 0 }
    }

    /// Passes `body` on, counts its bytes, and gives up when the sender pauses longer than `stall` (zero: never) or ends it
    /// with more than `most_trailers`.
    pub fn passing(body: Incoming, upload: &Arc<Upload>, stall: Duration, most_trailers: usize) -> Self {
        let inner = (!body.is_end_stream()).then_some(body);
        Self { inner, upload: Arc::clone(upload), stall: Stall::after(stall), most_trailers }
    }

    /// How it is doing.
    pub fn upload(&self) -> &Arc<Upload> {
        &self.upload
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.inner.is_none()
    }

    /// The same once more, where there is nothing to send.
    pub fn again(&self) -> Option<Self> {
        let (upload, stall) = (Arc::clone(&self.upload), Stall::after(Duration::ZERO));
        self.is_empty().then_some(Self { inner: None, upload, stall, most_trailers: 0 })
    }
}

/// A body that cannot be carried on.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The sender broke off or broke the rules of its protocol.
    #[error("the body broke off")]
    Broken(#[source] hyper::Error),
    /// The sender paused for longer than `timeouts.bodyStall`.
    #[error("the body stalled")]
    Stalled,
    /// More trailer fields than `limits.headFields`.
    #[error("the body has too many trailer fields")]
    Trailers,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        let Poll::Ready(mut frame) = Pin::new(&mut *inner).poll_frame(cx) else {
            ready!(this.stall.poll(cx));
            let _ = this.upload.failed.set(UploadFault::Stalled);
            return Poll::Ready(Some(Err(BodyError::Stalled)));
        };
        this.stall.moved();
        if let Some(Ok(frame)) = &mut frame
            && !trailers::clean(frame, this.most_trailers)
        {
            let _ = this.upload.failed.set(UploadFault::Broken);
            return Poll::Ready(Some(Err(BodyError::Trailers)));
        }
        match &frame {
            Some(Ok(frame)) => this.upload.count(frame.data_ref().map_or(0, |data| data.remaining() as u64)),
            Some(Err(_)) => drop(this.upload.failed.set(UploadFault::Broken)),
            None => {}
        }
        if let Some(leftover) = &this.upload.leftover
            && (frame.is_none() || Body::is_end_stream(inner))
        {
            leftover.read_to_the_end();
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Broken)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// A timer that is only armed while nothing comes: a body that flows pays nothing for it.
#[derive(Debug)]
struct Stall {
    limit: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
    armed: bool,
}

impl Stall {
    fn after(limit: Duration) -> Self {
        Self { limit, waiting: None, armed: false }
    }

    fn moved(&mut self) {
        self.armed = false;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.limit.is_zero() {
            return Poll::Pending;
        }
        let limit = self.limit;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if !self.armed {
            waiting.as_mut().reset(Instant::now() + limit);
            self.armed = true;
        }
        waiting.as_mut().poll(cx)
    }
}
