//! Application to mesh: the way of a connection, and of each request on it, from top to bottom.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use spiffe::SpiffeId;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::config::{self, Protocol};
use crate::connections::{Carries, Generation, Level, Opened, Registered};
use crate::http::headers;
use crate::http::preface;
use crate::http::refusal::Refusal;
use crate::http::upgrade::Asked;
use crate::http::upload::RequestBody;
use crate::http::{fields, framing, target};
use crate::limits::in_flight::{Destination, TOO_MANY_IN_FLIGHT};
use crate::limits::memory::OUT_OF_MEMORY;
use crate::serve::connection::{self, Activity, Answer};
use crate::serve::exchange::{Exchange, Parties};
use crate::serve::opaque::OpaqueRecord;
use crate::serve::reply;
use crate::serve::response;
use crate::serve::tunnel::{Forwarded, Tunnel, sort};
use crate::sidecar::Sidecar;
use crate::tcp;
use crate::telemetry::metrics::Direction;
use crate::telemetry::trace_context::TRACEPARENT;
use crate::tls::Alpn;
use crate::tls::handshake::Negotiated;
use crate::upstream::dial::{Target, ToPeer};
use crate::upstream::open::Route;
use crate::upstream::overheard::{Alert, Overheard};
use crate::upstream::pool::Pool;
use crate::upstream::send::{self, Carriage, Outgoing};

/// One outbound listener, as one worker sees it.
#[derive(Debug)]
pub struct Outbound {
    sidecar: Arc<Sidecar>,
    protocol: Protocol,
    port: u16,
    peer: ToPeer,
    destination: Arc<Destination>,
    pool: Arc<Pool>,
}

/// One HTTP connection of our application, for the requests on it.
#[derive(Debug)]
struct HttpConnection {
    outbound: Arc<Outbound>,
    parties: Arc<Parties>,
    registered: Registered,
}

impl Outbound {
    /// The listener's part on one of `workers` workers, with a pool of its own.
    pub fn new(
        sidecar: Arc<Sidecar>,
        config: &config::Outbound,
        destination: Arc<Destination>,
        workers: usize,
    ) -> Arc<Self> {
        let peer = ToPeer {
            target: Target(Arc::clone(&config.connect)),
            answerers: config.answerers.clone(),
            policy: Arc::clone(&sidecar.policy),
            tls: sidecar.tls.clone(),
            connect: sidecar.timeouts.connect,
            handshake: sidecar.timeouts.handshake,
            connections: Arc::clone(&sidecar.connections),
            tasks: sidecar.tasks.clone(),
            telemetry: Arc::clone(&sidecar.telemetry),
        };
        let shape = sidecar.shape(PEER_SHARED.div_ceil(workers.max(1)));
        let pool = Pool::new(Route::Peer(peer.clone()), shape, sidecar.tasks.clone());
        Arc::new(Self { protocol: config.protocol, port: config.port, peer, destination, pool, sidecar })
    }

    /// The pool to sweep now and then.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    fn own_identity(&self) -> Option<SpiffeId> {
        self.sidecar.tls.credentials().snapshot().material.as_ref().map(|own| own.id().clone())
    }
}

/// Serves one connection of our application from accept to close.
pub async fn serve(outbound: Arc<Outbound>, stream: TcpStream, from: SocketAddr) {
    let sidecar = Arc::clone(&outbound.sidecar);

    // 1. From here on drain can reach it.
    let opened = Opened {
        direction: Direction::Outbound,
        carries: if outbound.protocol == Protocol::Tcp { Carries::Tcp } else { Carries::Http },
        peer: None,
        address: from,
        port: outbound.port,
        called: None,
        answerers: None,
        opening: None,
        own: None,
        generation: Generation::default(),
    };
    let registered = match sidecar.connections.enter(opened) {
        Ok(registered) => registered,
        Err(full) => return sidecar.telemetry.metrics.connection_closed(Direction::Outbound, full.label()),
    };
    if let Some(level) = Level::of_outbound(sidecar.tasks.phase()) {
        registered.entry().signal.raise(level, "draining");
    }
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%from, %error, "an outbound connection broke");
        return;
    }

    // 2. Carry it. Opaque TCP connects to its peer now, HTTP for each request.
    match outbound.protocol {
        Protocol::Tcp => carry_tcp(&outbound, stream).await,
        Protocol::Http2 | Protocol::Grpc => carry_http(outbound, stream, Negotiated::Http2, registered).await,
        Protocol::Http | Protocol::Auto => {
            // An application that opens a connection ahead of need may stay silent as long as an idle one.
            let limit = if sidecar.timeouts.idle.is_zero() { FOREVER } else { sidecar.timeouts.idle };
            let looked = tokio::select! {
                biased;
                looked = tokio::time::timeout(limit, preface::look(stream)) => looked,
                // It has asked for nothing, so nothing is lost, and the end does not wait for it.
                () = registered.entry().signal.reached(Level::Finish) => return,
            };
            match looked {
                Ok(Ok((protocol, stream))) => carry_http(outbound, stream, protocol, registered).await,
                Ok(Err(error)) => tracing::debug!(%from, %error, "an outbound connection broke"),
                Err(_) => sidecar.telemetry.metrics.connection_closed(Direction::Outbound, "idle_timeout"),
            }
        }
    }
}

async fn carry_tcp(outbound: &Outbound, stream: TcpStream) {
    let sidecar = &outbound.sidecar;
    let mut record = OpaqueRecord::open(Arc::clone(&sidecar.telemetry), Direction::Outbound, outbound.port);
    record.caller = outbound.own_identity().map(|own| own.to_string());
    if sidecar.memory.refuses() {
        record.reason = Some(OUT_OF_MEMORY);
        return sidecar.telemetry.metrics.connection_closed(Direction::Outbound, OUT_OF_MEMORY);
    }
    let Ok(_in_flight) = outbound.destination.enter(&sidecar.telemetry.episodes) else {
        record.reason = Some(TOO_MANY_IN_FLIGHT);
        return sidecar.telemetry.metrics.connection_closed(Direction::Outbound, TOO_MANY_IN_FLIGHT);
    };
    match outbound.peer.dial(Alpn::Opaque).await {
        Ok(connection) => {
            record.upstream = Some(connection.address.to_string());
            record.workload = Some(connection.secured.peer.id.to_string());
            // The drain signals both entries, the re-check the peer's.
            let signal = &connection.registered.entry().signal;
            let alert = Alert::default();
            let peer = Overheard::new(connection.secured.stream, alert.clone());
            let (carried, ended) = tcp::carry(stream, peer, sidecar.timeouts.tcp_idle, signal).await;
            record.ended(carried, &ended, signal.cause());
            if let Some(alert) = alert.heard() {
                record.reason = Some(outbound.peer.refused_by_peer(connection.address, alert).label());
            }
        }
        Err(error) => {
            sidecar.telemetry.metrics.connection_closed(Direction::Outbound, error.label());
            record.reason = Some(error.label());
        }
    }
}

async fn carry_http<Io>(outbound: Arc<Outbound>, stream: Io, protocol: Negotiated, registered: Registered)
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let sidecar = Arc::clone(&outbound.sidecar);
    let parties = Arc::new(Parties {
        direction: Direction::Outbound,
        protocol,
        caller: outbound.own_identity().map(|own| own.to_string().into()),
        workload: None,
        port: outbound.port,
        activity: Activity::default(),
        standing: None,
        telemetry: Arc::clone(&sidecar.telemetry),
    });
    let entry = Arc::clone(registered.entry());
    let connection = Arc::new(HttpConnection { outbound, parties: Arc::clone(&parties), registered });
    let service = service_fn(move |request| {
        let connection = Arc::clone(&connection);
        async move { Ok::<_, Infallible>(answer(&connection, request).await) }
    });
    let tasks = sidecar.tasks.clone();
    let ended = connection::serve(stream, protocol, service, sidecar.bounds(), &parties.activity, &entry, tasks).await;
    ended.record(&sidecar.telemetry, &entry);
}

/// Answers one request.
async fn answer(connection: &Arc<HttpConnection>, mut request: Request<Incoming>) -> Answer {
    // 1. On record before anything can go wrong with it.
    let mut exchange = Exchange::open(Arc::clone(&connection.parties), &mut request);

    match forward(connection, request, &mut exchange).await {
        Ok(Forwarded::Response(sent)) => response::pass_on(sent, exchange, &connection.registered.entry().signal),
        Ok(Forwarded::Upgrade(asked, sent)) => switch(connection, asked, sent, exchange),
        Err(refusal) => reply::refuse(exchange, &refusal),
    }
}

/// From the head of a request to the head of its response.
async fn forward(
    connection: &Arc<HttpConnection>,
    mut request: Request<Incoming>,
    exchange: &mut Exchange,
) -> Result<Forwarded, Refusal> {
    let outbound = &*connection.outbound;
    let sidecar = &*outbound.sidecar;

    // 2. Within bounds, while there is memory, and of one mind about what it asks for. The target passes unchanged: the peer decides on it.
    exchange.take_up(&sidecar.memory, None)?;
    let asked = Asked::take(&mut request, &mut exchange.is_last)?;
    let target = target::path_and_query(request.method(), request.uri(), sidecar.limits.uri_bytes)?;
    exchange.target = Some(target.clone());
    fields::checked(request.headers(), request.version(), sidecar.limits.head_fields)?;
    framing::request(request.headers())?;
    let host = target::host(request.uri(), request.headers(), request.version())?;

    // 3. What belongs to this hop stays here; nobody but a sidecar says who calls.
    headers::strip_request(request.headers_mut());
    if request.version() == Version::HTTP_2 {
        headers::join_cookies(request.headers_mut());
    }
    let (mut head, body) = request.into_parts();
    head.headers.insert(TRACEPARENT, exchange.trace.header());

    // 4. To the peer, if it has room, which proves its identity before a byte of the request leaves.
    exchange.enter(&outbound.destination)?;
    exchange.keep_room(asked.as_ref(), &connection.registered)?;
    let host: Box<str> = if host.is_empty() { (&*outbound.peer.target.0).into() } else { host };
    let stall = if exchange.grpc { Duration::ZERO } else { sidecar.timeouts.body_stall };
    let limit = if exchange.grpc { Duration::ZERO } else { sidecar.timeouts.response_head };
    let body = RequestBody::passing(body, exchange.upload(), stall, sidecar.limits.head_fields);
    let carriage = Carriage::of(asked.as_ref());
    exchange.host = Some(host.clone());
    let sent = send::send(&outbound.pool, Outgoing { head, body, host, target, carriage }, limit).await;
    let sent = sent.map_err(|failed| reply::of_failure(failed, exchange.upload()))?;
    let link = sent.lease.link();
    exchange.upstream = Some(Arc::clone(&link.address));
    exchange.answered_by = link.peer_id.clone();
    sort(asked, sent)
}

/// Passes the peer's consent on and joins the two halves.
fn switch(connection: &HttpConnection, asked: Asked, sent: send::Sent, exchange: Box<Exchange>) -> Answer {
    let sidecar = &connection.outbound.sidecar;
    let link = sent.lease.link();
    let opened = Opened {
        direction: Direction::Outbound,
        carries: Carries::WebSocket,
        peer: link.peer.clone(),
        address: connection.registered.entry().opened.address,
        port: connection.outbound.port,
        called: None,
        answerers: Some(connection.outbound.peer.answerers.clone()),
        opening: None,
        own: link.entry.as_ref().and_then(|entry| entry.opened.own.clone()),
        generation: link.entry.as_ref().map_or(link.generation, |entry| entry.opened.generation),
    };
    Tunnel::enter(sidecar, opened, asked, exchange).open(sent, sidecar)
}

/// Behind a Kubernetes ClusterIP the kernel balances connections, not requests: this many spread a caller's requests over
/// pods. Shared out over the workers.
const PEER_SHARED: usize = 4;
/// Where a timeout is switched off: longer than any process lives.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 86_400);
