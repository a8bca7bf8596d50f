//! Response bodies on their way downstream: counted, never buffered, and the end of an exchange.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::CONNECTION;
use http::{HeaderValue, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::connection::Answer;
use super::crumbs::{Crumbs, Piece};
use super::exchange::Exchange;
use super::reader;
use crate::connections::{Level, Signal};
use crate::http::{headers, trailers};
use crate::tls::handshake::Negotiated;
use crate::upstream::lease::Lease;
use crate::upstream::send::Sent;

/// Why a response breaks off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The upstream broke it off. Its reason is passed on, so nothing stands between it and who looks for it.
    #[error(transparent)]
    Upstream(#[from] hyper::Error),
    /// More trailer fields than `limits.headFields`.
    #[error("the response has too many trailer fields")]
    Trailers,
    /// What allowed the request no longer holds.
    #[error("the request is no longer allowed")]
    Revoked,
}

/// A response body on its way downstream, with the record of its exchange, which is written when the body ends or is
/// dropped, and the connection it comes from, which is given back when the body was read to its end.
#[derive(Debug)]
pub struct ResponseBody {
    source: Source,
    /// Left with [`reader`] while nobody asks for a frame. None for the 101 that opens a tunnel: there the tunnel holds the
    /// record.
    exchange: Option<Box<Exchange>>,
    crumbs: Crumbs,
}

#[derive(Debug)]
enum Source {
    /// Our own short answer.
    Own(Option<Bytes>),
    /// The upstream's.
    Upstream { body: Incoming, lease: Option<Lease>, most_trailers: usize },
}

impl Source {
    /// Why the peer that the response comes from may not be called any more; `None` as long as it may.
    fn condemned(&self) -> Option<&'static str> {
        match self {
            Self::Own(_) => None,
            Self::Upstream { lease, .. } => lease.as_ref().and_then(|lease| lease.link().condemned()),
        }
    }
}

impl ResponseBody {
    /// An answer of our own.
    pub fn own(text: Bytes, exchange: Box<Exchange>) -> Self {
        Self::waiting(Source::Own((!text.is_empty()).then_some(text)), exchange)
    }

    /// Nothing, and nothing to record.
    pub fn none() -> Self {
        Self { source: Source::Own(None), exchange: None, crumbs: Crumbs::default() }
    }

    /// The upstream's answer, which may end with so many trailer fields.
    pub fn upstream(body: Incoming, lease: Lease, most_trailers: usize, exchange: Box<Exchange>) -> Self {
        let mut lease = Some(lease);
        if body.is_end_stream() {
            give_back(&mut lease);
        }
        Self::waiting(Source::Upstream { body, lease, most_trailers }, exchange)
    }

    /// Also before the first frame is asked for: what an earlier response has left unread may stand before it.
    fn waiting(source: Source, exchange: Box<Exchange>) -> Self {
        let mut exchange = Some(exchange);
        reader::leave(&mut exchange);
        Self { source, exchange, crumbs: Crumbs::default() }
    }
}

impl Body for ResponseBody {
    type Data = Piece;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Piece>, BodyError>>> {
        let this = &mut *self;
        // The record stays with the reader, whose turn it is.
        ready!(this.crumbs.poll_room(cx));
        reader::take_back(&mut this.exchange);
        let frame = match &mut this.source {
            Source::Own(text) => text.take().map(|text| Ok(Frame::data(text))),
            Source::Upstream { body, lease, most_trailers } => {
                // Asked before each frame only when there is a doubt, and by whoever has to wait.
                if this.exchange.as_ref().is_some_and(|exchange| exchange.is_in_doubt())
                    && revoked(&mut this.exchange, cx)
                {
                    return Poll::Ready(Some(Err(BodyError::Revoked)));
                }
                let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) else {
                    let revoked = revoked(&mut this.exchange, cx);
                    return if revoked { Poll::Ready(Some(Err(BodyError::Revoked))) } else { Poll::Pending };
                };
                let frame =
                    frame.map(|frame| frame.map_err(BodyError::from).and_then(|frame| cleaned(frame, *most_trailers)));
                if frame.is_none() || body.is_end_stream() {
                    give_back(lease);
                }
                frame
            }
        };
        match (&frame, &mut this.exchange) {
            (Some(Ok(frame)), Some(exchange)) => {
                if let Some(data) = frame.data_ref() {
                    exchange.sent(data.remaining() as u64);
                }
            }
            (Some(Err(BodyError::Trailers)), Some(exchange)) => exchange.had_too_many_trailers(),
            (Some(Err(BodyError::Upstream(_) | BodyError::Revoked)), Some(exchange)) => {
                exchange.broke_off(this.source.condemned());
            }
            (None, _) | (_, None) => {}
        }
        let Some(frame) = frame else { return Poll::Ready(None) };
        reader::leave(&mut this.exchange);
        Poll::Ready(Some(frame.map(|frame| frame.map_data(|bytes| this.crumbs.hand_out(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Own(text) => text.is_none(),
            Source::Upstream { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Own(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Source::Upstream { body, .. } => body.size_hint(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        reader::take_back(&mut self.exchange);
    }
}

/// Passes an upstream's response on. While its connection is to end, an HTTP/1.1 caller is told with `connection: close`, and
/// so is one that has asked for a tunnel and gets none.
pub fn pass_on(sent: Sent, mut exchange: Box<Exchange>, signal: &Signal) -> Answer {
    let (mut head, body) = sent.response.into_parts();
    headers::strip_response(&mut head.headers);
    if exchange.is_last || (exchange.parties().protocol == Negotiated::Http1 && signal.is_at(Level::Goodbye)) {
        head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    // No tunnel comes of it.
    exchange.room = None;
    exchange.status = Some(head.status.as_u16());
    Response::from_parts(head, ResponseBody::upstream(body, sent.lease, sent.most_trailers, exchange))
}

/// Whether the response must end because its request is not allowed any more.
fn revoked(exchange: &mut Option<Box<Exchange>>, cx: &mut Context<'_>) -> bool {
    let Some(exchange) = exchange else { return false };
    let over = exchange.poll_revoked(cx).is_ready();
    if over {
        exchange.no_longer_allowed();
    }
    over
}

fn cleaned(mut frame: Frame<Bytes>, most: usize) -> Result<Frame<Bytes>, BodyError> {
    if trailers::clean(&mut frame, most) { Ok(frame) } else { Err(BodyError::Trailers) }
}

fn give_back(lease: &mut Option<Lease>) {
    if let Some(lease) = lease.take() {
        lease.give_back();
    }
}
