//! Small pieces of a response, which are bounded in number: what keeps them is larger than they are.
//!
//! The HTTP/2 library bounds what waits for a socket in bytes and not in frames, and a frame costs it about 130 bytes beside its
//! payload. A response in pieces of one byte, which its caller does not read, could so take a hundred times of what the bound
//! says (CVE-2020-8659, CVE-2020-12603). Each small piece is counted until the library lets go of it; larger ones do not cost
//! more than they hold and are not.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use futures_util::task::AtomicWaker;

/// A piece of a response's body, in the hands of the HTTP library.
#[derive(Debug)]
pub struct Piece {
    bytes: Bytes,
    /// Only held.
    _crumb: Option<Crumb>,
}

/// The small pieces of one response that have not been sent yet. The first one is not counted: a short response, or the one
/// message of a gRPC call, allocates nothing.
#[derive(Debug, Default)]
pub struct Crumbs {
    begun: bool,
    unsent: Option<Arc<Unsent>>,
}

#[derive(Debug)]
struct Crumb(Arc<Unsent>);

#[derive(Debug, Default)]
struct Unsent {
    count: AtomicUsize,
    freed: AtomicWaker,
}

impl Crumbs {
    /// Ready while another piece may be handed out.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(unsent) = self.unsent.as_ref().filter(|unsent| unsent.is_full()) else { return Poll::Ready(()) };
        unsent.freed.register(cx.waker());
        // One may have been sent before it was registered.
        if unsent.is_full() { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Counts a piece if it is small.
    pub fn hand_out(&mut self, bytes: Bytes) -> Piece {
        let is_counted = bytes.len() < SMALL && std::mem::replace(&mut self.begun, true);
        let crumb = is_counted.then(|| Crumb::new(self.unsent.get_or_insert_default()));
        Piece { bytes, _crumb: crumb }
    }
}

impl Unsent {
    fn is_full(&self) -> bool {
        self.count.load(Ordering::Acquire) >= MOST
    }
}

impl Crumb {
    fn new(unsent: &Arc<Unsent>) -> Self {
        unsent.count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(unsent))
    }
}

impl Drop for Crumb {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Release);
        self.0.freed.wake();
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        self.bytes.chunks_vectored(into)
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        self.bytes.copy_to_bytes(length)
    }
}

/// From here on a piece is as large as what keeps it.
const SMALL: usize = 128;
/// With [`SMALL`] the bytes that the library lets wait of one response, so that neither bound is reached much before the other.
const MOST: usize = super::connection::SEND_BUFFER / SMALL;

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn there_is_room_again_when_a_small_piece_has_been_sent() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut crumbs = Crumbs::default();
        let mut kept = Vec::new();
        while crumbs.poll_room(&mut cx).is_ready() {
            kept.push(crumbs.hand_out(Bytes::from_static(b"x")));
            assert!(kept.len() <= MOST + 1, "it never ends");
        }
        assert_eq!(kept.len(), MOST + 1, "all but the first are counted");
        kept.pop();
        assert!(crumbs.poll_room(&mut cx).is_ready());
    }

    #[test]
    fn pieces_that_are_as_large_as_what_keeps_them_are_not_counted() {
        let mut crumbs = Crumbs::default();
        let _kept: Vec<Piece> = (0..2 * MOST).map(|_| crumbs.hand_out(Bytes::from_static(&[b'x'; SMALL]))).collect();
        assert!(crumbs.poll_room(&mut Context::from_waker(Waker::noop())).is_ready());
    }
}
