//! Sends one request over a pool's connections, and again where that cannot do harm.

use std::sync::Arc;
use std::time::Duration;

use http::header::TRANSFER_ENCODING;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;

use super::UpstreamError;
use super::lease::Lease;
use super::pool::Pool;
use super::repeat::{Cause, Outcome, Repeats};
use crate::http::framing;
use crate::http::refusal::Refusal;
use crate::http::target::{NextHop, put};
use crate::http::upgrade::{Asked, Handshake};
use crate::http::upload::RequestBody;

/// A request that is ready but for the form that the next hop wants.
#[derive(Debug)]
pub struct Outgoing {
    /// Its head; where it goes is said below.
    pub head: Parts,
    /// Its body.
    pub body: RequestBody,
    /// The host that it asks for.
    pub host: Box<str>,
    /// The target that it asks for.
    pub target: PathAndQuery,
    /// Whether it asks to switch protocols.
    pub carriage: Carriage,
}

/// What becomes of the connection that carries a request.
#[derive(Debug)]
pub enum Carriage {
    /// It carries others after it.
    Request,
    /// It becomes a tunnel, or one of its streams does.
    Upgrade(Handshake),
}

impl Carriage {
    /// Of a request that asks for an upgrade, or does not.
    pub fn of(asked: Option<&Asked>) -> Self {
        asked.map_or(Self::Request, |asked| Self::Upgrade(asked.handshake.clone()))
    }
}

/// A response's head, and the connection that its body comes over.
#[derive(Debug)]
pub struct Sent {
    /// The response.
    pub response: Response<Incoming>,
    /// To be given back when the body has been read.
    pub lease: Lease,
    /// How many trailer fields it may end with.
    pub most_trailers: usize,
}

/// Why there is no response.
#[derive(Debug)]
pub enum Failed {
    /// The request cannot be put into the form that the next hop wants.
    Malformed(Refusal),
    /// The response is none that may be passed on.
    Answer(Refusal),
    /// The upstream failed.
    Upstream(UpstreamError),
}

/// Sends a request and waits for the head of its response, at most `limit` (zero: without end) once nothing of the request moves
/// any more. What may be sent again is: see [`repeat`](super::repeat).
///
/// # Errors
/// When no connection can be had, the exchange breaks, or time runs out.
pub async fn send(pool: &Arc<Pool>, outgoing: Outgoing, limit: Duration) -> Result<Sent, Failed> {
    if limit.is_zero() {
        return exchange(pool, outgoing).await;
    }
    let upload = Arc::clone(outgoing.body.upload());
    let mut exchanging = std::pin::pin!(exchange(pool, outgoing));
    loop {
        let uploaded = upload.bytes();
        match tokio::time::timeout(limit, exchanging.as_mut()).await {
            Ok(sent) => return sent,
            // The upstream need not answer before it has the whole of a request; one that stops coming is ended by its body.
            Err(_) if upload.bytes() > uploaded => {}
            Err(_) => {
                let target = Arc::clone(pool.opener().target());
                return Err(Failed::Upstream(UpstreamError::ResponseTimeout { target }));
            }
        }
    }
}

async fn exchange(pool: &Arc<Pool>, outgoing: Outgoing) -> Result<Sent, Failed> {
    let Outgoing { head, body, host, target, carriage } = outgoing;
    let mut request = Request::from_parts(head, body);
    let mut repeats = Repeats::new(pool);
    loop {
        let taken = match &carriage {
            Carriage::Request => pool.take(repeats.choice()).await,
            Carriage::Upgrade(handshake) => pool.take_for_tunnel(handshake.fits_stream()).await,
        };
        let mut lease = match taken {
            Ok(lease) => lease,
            Err(error) if repeats.after_opening(&error).await => continue,
            Err(error) => return Err(Failed::Upstream(error)),
        };
        let (mut head, body) = request.into_parts();
        put(&mut head, &host, target.clone(), lease.next_hop()).map_err(Failed::Malformed)?;
        if let Carriage::Upgrade(handshake) = &carriage {
            handshake.put(&mut head, lease.next_hop());
        }
        if lease.next_hop() == NextHop::Http1 {
            announce_body(&mut head, &body);
        }
        request = Request::from_parts(head, body);
        let is_idempotent = request.method().is_idempotent();
        let spare = spare_copy(&lease, &request);
        let unsent = match lease.send(request).await {
            Ok(response) => {
                repeats.ended(Outcome::Answered);
                return accept(response, lease, pool.opener().shape.head_fields);
            }
            Err(unsent) => unsent,
        };
        let cause = Cause::of_sending(&unsent, &lease, is_idempotent);
        request = match unsent.request.or(spare) {
            Some(again) if repeats.after_sending(cause, &lease).await => again,
            Some(_) | None => return Err(Failed::Upstream(pool.opener().broke_on(lease.link(), unsent.error))),
        };
    }
}

/// Takes a response whose end is beyond doubt.
fn accept(mut response: Response<Incoming>, mut lease: Lease, most: usize) -> Result<Sent, Failed> {
    match framing::response(&mut response, most).map_err(Failed::Answer)? {
        framing::Connection::Keep => {}
        framing::Connection::Close => lease.use_once(),
    }
    Ok(Sent { response, lease, most_trailers: most })
}

/// Says in the head that a body of unknown length follows (RFC 9112 section 6.3): with GET, HEAD and CONNECT the library
/// drops a body that the head does not announce.
fn announce_body(head: &mut Parts, body: &RequestBody) {
    if matches!(head.method, Method::GET | Method::HEAD) && body.size_hint().exact().is_none() {
        head.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// A copy of a request that may have to be sent twice: one without a body, on a connection that was used before, where a
/// peer may have closed it, or of HTTP/2, where a peer may say that it has not processed it. Others are not copied.
fn spare_copy(lease: &Lease, request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let may_die = lease.is_reused() && request.method().is_idempotent();
    if !(lease.is_stream() || may_die) {
        return None;
    }
    let mut copy = Request::new(request.body().again()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}
