//! Mesh to application: the way of a connection, and of each request on it, from top to bottom.

use std::borrow::Cow;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use http::{HeaderValue, Request, StatusCode, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use portcullis_certs_watcher::{Material, Peer};
use portcullis_policy::Request as Asking;
use portcullis_policy::path::Path;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::config::{self, Protocol};
use crate::connections::{Called, Carries, Generation, Level, Opened, Registered, source_of};
use crate::http::headers::{self, FORWARDED_CLIENT_CERT};
use crate::http::refusal::Refusal;
use crate::http::upgrade::Asked;
use crate::http::upload::RequestBody;
use crate::http::{fields, framing, target};
use crate::limits::in_flight::{Destination, TOO_MANY_IN_FLIGHT};
use crate::limits::rate::{Allowance, RATE_LIMITED};
use crate::policy_store::{self, Fields, Loaded, Opening, Verdict};
use crate::serve::arrival;
use crate::serve::connection::{self, Activity, Answer};
use crate::serve::exchange::{Exchange, Parties};
use crate::serve::opaque::OpaqueRecord;
use crate::serve::standing::{self, NO_LONGER_ALLOWED, Standing};
use crate::serve::tunnel::{Forwarded, Tunnel, sort};
use crate::serve::{reply, response};
use crate::sidecar::Sidecar;
use crate::tcp;
use crate::telemetry::metrics::Direction;
use crate::telemetry::trace_context::TRACEPARENT;
use crate::tls::Alpn;
use crate::tls::handshake::Secured;
use crate::upstream::dial::{Target, ToApplication};
use crate::upstream::open::Route;
use crate::upstream::pool::Pool;
use crate::upstream::send::{self, Carriage, Outgoing};

/// One inbound listener, as one worker sees it.
#[derive(Debug)]
pub struct Inbound {
    sidecar: Arc<Sidecar>,
    protocol: Protocol,
    /// Whose address and port are what policy knows as the destination.
    forward: SocketAddr,
    encoded_slash: Option<config::EncodedSlashes>,
    application: ToApplication,
    destination: Arc<Destination>,
    http1: Arc<Pool>,
    http2: Arc<Pool>,
}

/// One HTTP connection, for the requests on it.
#[derive(Debug)]
struct HttpConnection {
    inbound: Arc<Inbound>,
    parties: Arc<Parties>,
    registered: Registered,
    peer: Arc<Peer>,
    allowance: Option<Allowance>,
    own: Arc<Material>,
    source: IpAddr,
    server_name: Option<Arc<str>>,
    forwarded: Option<HeaderValue>,
}

impl Inbound {
    /// The listener's part on one worker, with pools of its own.
    pub fn new(sidecar: Arc<Sidecar>, config: &config::Inbound, destination: Arc<Destination>) -> Arc<Self> {
        let application = ToApplication {
            target: Target(config.forward.to_string().into()),
            connect: sidecar.timeouts.connect,
            telemetry: Arc::clone(&sidecar.telemetry),
        };
        let shape = sidecar.shape(APPLICATION_SHARED);
        let pool = |route| Pool::new(route, shape, sidecar.tasks.clone());
        Arc::new(Self {
            protocol: config.protocol,
            forward: config.forward,
            encoded_slash: config.encoded_slash.clone(),
            http1: pool(Route::ApplicationHttp1(application.clone())),
            http2: pool(Route::ApplicationHttp2(application.clone())),
            application,
            destination,
            sidecar,
        })
    }

    /// The pools to sweep now and then.
    pub fn pools(&self) -> [&Arc<Pool>; 2] {
        [&self.http1, &self.http2]
    }
}

/// Serves one connection from accept to close.
pub async fn serve(inbound: Arc<Inbound>, stream: TcpStream, from: SocketAddr) {
    let sidecar = Arc::clone(&inbound.sidecar);

    // 1. Who is it? A verified SPIFFE identity, or no connection.
    let alpn = if inbound.protocol == Protocol::Tcp { Alpn::Opaque } else { Alpn::Http };
    let Some(secured) = arrival::shake_hands(&sidecar, stream, from, alpn).await else { return };

    // 2. Is there a policy at all? Without one nothing is carried.
    let Some(policy) = sidecar.policy.current() else {
        return sidecar.closed(from, &secured.peer, "no_policy_loaded");
    };

    // 3. From here on drain and re-check can reach it.
    let generation = Generation { policy: policy.number, ..secured.generation };
    let opened = Opened {
        direction: Direction::Inbound,
        carries: if inbound.protocol == Protocol::Tcp { Carries::Tcp } else { Carries::Http },
        peer: Some(Arc::clone(&secured.peer)),
        address: from,
        port: inbound.forward.port(),
        called: Some(Called { application: inbound.forward, server_name: secured.server_name.clone() }),
        answerers: None,
        opening: None,
        own: Some(Arc::clone(&secured.own)),
        generation,
    };
    let registered = match sidecar.connections.enter(opened) {
        Ok(registered) => registered,
        Err(full) => return sidecar.closed(from, &secured.peer, full.label()),
    };
    sidecar.judge_if_outdated(registered.entry(), generation);
    if let Some(level) = Level::of_inbound(sidecar.tasks.phase()) {
        registered.entry().signal.raise(level, "draining");
    }

    // 4. Carry it. Opaque TCP is decided here, HTTP per request: its caller always gets an answer.
    match inbound.protocol {
        Protocol::Tcp => carry_tcp(&inbound, secured, from, registered, &policy).await,
        Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::Auto => {
            carry_http(inbound, secured, from, registered).await;
        }
    }
}

async fn carry_tcp(
    inbound: &Inbound,
    secured: Secured<TlsStream<TcpStream>>,
    from: SocketAddr,
    registered: Registered,
    policy: &Arc<Loaded>,
) {
    let sidecar = &inbound.sidecar;
    let Secured { stream, peer, own, server_name, .. } = secured;
    let mut record = OpaqueRecord::open(Arc::clone(&sidecar.telemetry), Direction::Inbound, inbound.forward.port());
    record.caller = Some(peer.id.to_string());
    record.workload = Some(own.id().to_string());
    if sidecar
        .rates
        .of(&peer.id)
        .is_some_and(|allowance| allowance.spend(Instant::now(), &sidecar.telemetry.episodes).is_err())
    {
        record.reason = Some(RATE_LIMITED);
        return sidecar.telemetry.metrics.connection_closed(Direction::Inbound, RATE_LIMITED);
    }
    let parties = [&peer.id, own.id()];
    let connection = policy_store::connection(parties, source_of(from), inbound.forward, server_name.as_deref());
    let verdict = policy.decide_opaque(&connection);
    let denied = verdict.denial();
    record.verdict = Some(verdict);
    if let Some(denial) = denied {
        record.reason = Some(denial);
        sidecar.telemetry.metrics.connection_closed(Direction::Inbound, "policy");
        return;
    }
    let Ok(_in_flight) = inbound.destination.enter(&sidecar.telemetry.episodes) else {
        record.reason = Some(TOO_MANY_IN_FLIGHT);
        return sidecar.telemetry.metrics.connection_closed(Direction::Inbound, TOO_MANY_IN_FLIGHT);
    };
    match inbound.application.dial().await {
        Ok((application, address)) => {
            record.upstream = Some(address.to_string());
            let signal = &registered.entry().signal;
            let (carried, ended) = tcp::carry(stream, application, sidecar.timeouts.tcp_idle, signal).await;
            record.ended(carried, &ended, signal.cause());
        }
        Err(error) => {
            tracing::warn!(error = error.chain(), "the application cannot be reached");
            record.reason = Some(error.label());
        }
    }
}

async fn carry_http(
    inbound: Arc<Inbound>,
    secured: Secured<TlsStream<TcpStream>>,
    from: SocketAddr,
    registered: Registered,
) {
    let sidecar = Arc::clone(&inbound.sidecar);
    let Secured { stream, peer, protocol, own, server_name, .. } = secured;
    let parties = Arc::new(Parties {
        direction: Direction::Inbound,
        protocol,
        caller: Some(peer.id.to_string().into()),
        workload: Some(own.id().to_string().into()),
        port: inbound.forward.port(),
        activity: Activity::default(),
        standing: Some(Standing {
            entry: Arc::clone(registered.entry()),
            policy: Arc::clone(&sidecar.policy),
            own: own.id().clone(),
            grace: sidecar.timeouts.recheck_grace,
            telemetry: Arc::clone(&sidecar.telemetry),
        }),
        telemetry: Arc::clone(&sidecar.telemetry),
    });
    let entry = Arc::clone(registered.entry());
    let forwarded = headers::forwarded_client_cert(own.id(), &peer.id, &peer.fingerprint.to_string());
    let source = source_of(from);
    let connection = Arc::new(HttpConnection {
        inbound,
        parties: Arc::clone(&parties),
        registered,
        allowance: sidecar.rates.of(&peer.id),
        peer,
        own,
        source,
        server_name,
        forwarded,
    });
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
    let inbound = &*connection.inbound;
    let sidecar = &*inbound.sidecar;

    // 2. Within its caller's rate and within bounds, and of one mind about what it asks for.
    exchange.take_up(&sidecar.memory, connection.allowance.as_ref())?;
    let asked = Asked::take(&mut request, &mut exchange.is_last)?;
    let asked_for = target::path_and_query(request.method(), request.uri(), sidecar.limits.uri_bytes)?;
    fields::checked(request.headers(), request.version(), sidecar.limits.head_fields)?;
    framing::request(request.headers())?;
    let host = target::host(request.uri(), request.headers(), request.version())?;

    // 3. What the application will not see must not be decided on either.
    headers::strip_request(request.headers_mut());
    if request.version() == Version::HTTP_2 {
        headers::join_cookies(request.headers_mut());
    }

    // 4. May it? Decided on the path that is forwarded.
    let path = Path::normalise(asked_for.as_str().as_bytes(), config::EncodedSlashes::now(&inbound.encoded_slash))
        .map_err(|error| Refusal::bad_request(error.label(), error.to_string()))?;
    let forwarded = match path.target() {
        Cow::Borrowed(_) => asked_for.clone(),
        Cow::Owned(normal) => PathAndQuery::try_from(normal).map_err(|_| target::malformed())?,
    };
    exchange.target = Some(forwarded.clone());
    standing::may_begin(connection.registered.entry())?;
    let verdict = decide(connection, &request, &host, &path, exchange)?;
    if matches!(path.target(), Cow::Owned(_)) {
        exchange.asked_for = Some(asked_for.clone());
    }
    exchange.host = Some(host);
    let denied = verdict.denial();
    exchange.verdict = Some(verdict);
    if let Some(reason) = denied {
        return Err(Refusal { status: StatusCode::FORBIDDEN, reason, text: "denied by policy".to_owned() });
    }

    // 5. The request as the application gets it.
    let pool = match inbound.protocol {
        Protocol::Http2 | Protocol::Grpc => &inbound.http2,
        Protocol::Auto if exchange.grpc => &inbound.http2,
        Protocol::Http | Protocol::Auto | Protocol::Tcp => &inbound.http1,
    };
    if asked.is_some() {
        exchange.opening = Some(Box::new(Opening {
            method: request.method().clone(),
            host: exchange.host.clone().unwrap_or_default(),
            target: asked_for,
            headers: request.headers().clone(),
        }));
    }
    let (mut head, body) = request.into_parts();
    // HTTP/1.0 may name no host; the application gets its own address then.
    let host = exchange.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(&inbound.application.target.0).into();
    if let Some(forwarded) = &connection.forwarded {
        head.headers.insert(FORWARDED_CLIENT_CERT, forwarded.clone());
    }
    head.headers.insert(TRACEPARENT, exchange.trace.header());

    // 6. To the application, if it has room.
    exchange.enter(&inbound.destination)?;
    exchange.keep_room(asked.as_ref(), &connection.registered)?;
    let stall = if exchange.grpc { Duration::ZERO } else { sidecar.timeouts.body_stall };
    let body = RequestBody::passing(body, exchange.upload(), stall, sidecar.limits.head_fields);
    let limit = if exchange.grpc { Duration::ZERO } else { sidecar.timeouts.response_head };
    let outgoing = Outgoing { head, body, host, target: forwarded, carriage: Carriage::of(asked.as_ref()) };
    let sent = tokio::select! {
        biased;
        sent = send::send(pool, outgoing, limit) => sent,
        // Dropping what was sent is the point: what allowed it no longer holds.
        () = exchange.revoked() => {
            let text = "the request is no longer allowed".to_owned();
            return Err(Refusal { status: StatusCode::FORBIDDEN, reason: NO_LONGER_ALLOWED, text });
        }
    };
    let sent = sent.map_err(|failed| reply::of_failure(failed, exchange.upload()))?;
    exchange.upstream = Some(Arc::clone(&sent.lease.link().address));
    sort(asked, sent)
}

fn decide(
    connection: &HttpConnection,
    request: &Request<Incoming>,
    host: &str,
    path: &Path<'_>,
    exchange: &mut Exchange,
) -> Result<Verdict, Refusal> {
    // A policy once in force is never withdrawn; should it be absent, nothing is allowed.
    let policy = connection.inbound.sidecar.policy.current().ok_or_else(|| Refusal {
        status: StatusCode::SERVICE_UNAVAILABLE,
        reason: "no_policy_loaded",
        text: "no policy is loaded".to_owned(),
    })?;
    let fields = Fields::of(request.headers());
    let asking = Asking {
        connection: policy_store::connection(
            [&connection.peer.id, connection.own.id()],
            connection.source,
            connection.inbound.forward,
            connection.server_name.as_deref(),
        ),
        method: request.method().as_str(),
        host,
        path,
        headers: &fields,
    };
    let verdict = policy.decide(&asking);
    if fields.were_looked_at() && verdict.denial().is_none() {
        exchange.decided_on = Some(Box::new(request.headers().clone()));
    }
    Ok(verdict)
}

/// Passes the application's consent on and joins the two halves.
fn switch(connection: &HttpConnection, asked: Asked, sent: send::Sent, mut exchange: Box<Exchange>) -> Answer {
    let sidecar = &connection.inbound.sidecar;
    let entry = connection.registered.entry();
    let opened = Opened {
        direction: Direction::Inbound,
        carries: Carries::WebSocket,
        peer: Some(Arc::clone(&connection.peer)),
        address: entry.opened.address,
        port: connection.inbound.forward.port(),
        called: entry.opened.called.clone(),
        answerers: None,
        opening: exchange.opening.take(),
        own: Some(Arc::clone(&connection.own)),
        generation: entry.opened.generation,
    };
    Tunnel::enter(sidecar, opened, asked, exchange).open(sent, sidecar)
}

/// The application is one process on this host: connections do not spread over anything, two keep head-of-line blocking
/// on one of them from stopping everything.
const APPLICATION_SHARED: usize = 2;
