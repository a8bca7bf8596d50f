//! Opens the HTTP connections of a pool, and runs each until it ends.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use spiffe::SpiffeId;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::UpstreamError;
use super::dial::{ToApplication, ToPeer};
use super::lease::{Exclusive, Lease, Link, Shared};
use super::overheard::{Alert, Overheard};
use super::pool::Shape;
use super::severed::{Cutter, Severable};
use crate::connections::{Generation, Level, Registered};
use crate::drain::Tasks;
use crate::http::fault::{self, Message};
use crate::http::flow::{CONNECTION_WINDOW, PING_INTERVAL, PING_TIMEOUT, SMALLEST_BUFFER, STREAM_WINDOW};
use crate::http::guard::{FarEnd, Finding, Guard};
use crate::http::upload::RequestBody;
use crate::metered::Metered;
use crate::telemetry::Telemetry;
use crate::telemetry::metrics::Direction;
use crate::tls::Alpn;
use crate::tls::handshake::{HandshakeError, Negotiated};

/// Where a pool's connections lead and what they speak.
#[derive(Clone, Debug)]
pub enum Route {
    /// To our application over HTTP/1.1.
    ApplicationHttp1(ToApplication),
    /// To our application over HTTP/2 with prior knowledge (RFC 9113 section 3.3).
    ApplicationHttp2(ToApplication),
    /// To a mesh peer, which chooses by ALPN.
    Peer(ToPeer),
}

/// Opens connections of one route.
#[derive(Debug)]
pub(super) struct Opener {
    pub(super) route: Route,
    pub(super) shape: Shape,
    pub(super) tasks: Tasks,
}

/// A connection that was opened.
pub(super) enum Opened {
    Exclusive(Box<Exclusive>),
    Shared(Arc<Shared>),
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exclusive(_) => "Exclusive",
            Self::Shared(_) => "Shared",
        })
    }
}

impl Opener {
    /// Opens an HTTP/1.1 connection for one request, which will turn it into a tunnel.
    ///
    /// # Errors
    /// When it cannot be opened, or the destination speaks HTTP/2 only.
    pub(super) async fn open_http1(&self) -> Result<Lease, UpstreamError> {
        let opened = match &self.route {
            Route::Peer(to) => self.open_to_peer(to, Alpn::Http1).await?,
            Route::ApplicationHttp1(_) => self.open().await?,
            Route::ApplicationHttp2(_) => return Err(UpstreamError::NoTunnels { target: Arc::clone(self.target()) }),
        };
        match opened {
            Opened::Exclusive(exclusive) => Ok(Lease::Exclusive(*exclusive)),
            Opened::Shared(_) => Err(UpstreamError::Protocol { target: Arc::clone(self.target()) }),
        }
    }

    /// Opens a connection that speaks what the destination prefers.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(super) async fn open(&self) -> Result<Opened, UpstreamError> {
        match &self.route {
            Route::ApplicationHttp1(to) => {
                let (stream, address) = to.dial().await?;
                self.exclusive(stream, Link::to_application(address, self.retire_after()), None).await
            }
            Route::ApplicationHttp2(to) => {
                let (stream, address) = to.dial().await?;
                let far = FarEnd { direction: Direction::Inbound, address, peer: None };
                self.shared(stream, Link::to_application(address, self.retire_after()), far, None).await
            }
            Route::Peer(to) => self.open_to_peer(to, Alpn::Http).await,
        }
    }

    async fn open_to_peer(&self, to: &ToPeer, alpn: Alpn) -> Result<Opened, UpstreamError> {
        let connection = to.dial(alpn).await?;
        let peer = connection.secured.peer;
        let alert = Alert::default();
        let far = FarEnd { direction: Direction::Outbound, address: connection.address, peer: Some(peer.id.clone()) };
        let link = Link {
            address: connection.address.to_string().into(),
            peer_id: Some(peer.id.to_string().into()),
            peer: Some(peer),
            alert: alert.clone(),
            generation: connection.secured.generation,
            retire_at: Instant::now() + self.retire_after(),
            entry: Some(Arc::clone(connection.registered.entry())),
        };
        let cutter = Cutter::default();
        let stream = Overheard::new(Severable::new(connection.secured.stream, cutter.clone()), alert.clone());
        let driven = Some(Driven { registered: connection.registered, alert, cutter, to: to.clone() });
        match connection.secured.protocol {
            Negotiated::Http1 => self.exclusive(stream, link, driven).await,
            Negotiated::Http2 => self.shared(stream, link, far, driven).await,
        }
    }

    async fn exclusive<Io>(&self, stream: Io, link: Link, driven: Option<Driven>) -> Result<Opened, UpstreamError>
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let read = Arc::<AtomicU64>::default();
        let stream = Metered::new(stream, Arc::clone(&read));
        let mut builder = http1::Builder::new();
        builder
            .max_buf_size(self.shape.head_bytes.max(SMALLEST_BUFFER))
            // The buffer may hold twice that before it is looked at.
            .max_header_size(self.shape.head_bytes)
            .max_headers(self.shape.head_fields);
        let shaken = builder.handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|error| self.broken(error))?;
        self.tasks.spawn(async move {
            // A response that is none is told with its request.
            let _ = drive(connection.with_upgrades(), driven).await;
        });
        let exclusive = Exclusive { sender, link, pool: None, idle_since: None, read, read_before: 0 };
        Ok(Opened::Exclusive(Box::new(exclusive)))
    }

    async fn shared<Io>(
        &self,
        stream: Io,
        link: Link,
        far: FarEnd,
        driven: Option<Driven>,
    ) -> Result<Opened, UpstreamError>
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = http2::Builder::new(self.tasks.clone());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(self.shape.head_bytes).unwrap_or(u32::MAX))
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT);
        let finding = Finding::default();
        let guard = Guard::calling(stream, self.shape.head, finding.clone());
        let shaken = builder.handshake(TokioIo::new(guard)).await;
        let (sender, connection) = shaken.map_err(|error| self.broken(error))?;
        let telemetry = Arc::clone(self.telemetry());
        let (tell, tunnels) = watch::channel(None);
        self.tasks.spawn(async move {
            let outcome = drive(learn(connection, &finding, tell), driven).await;
            match (finding.get(), outcome) {
                (Some(violation), _) => far.record(violation.label(), &violation, &telemetry),
                (None, Err(error)) => {
                    if let Some(fault) = fault::of(&error, Message::Response) {
                        far.record(fault, &error, &telemetry);
                    }
                }
                (None, Ok(())) => {}
            }
        });
        Ok(Opened::Shared(Arc::new(Shared::new(sender, link, tunnels))))
    }

    /// A tenth either way, so that the connections of a fleet do not all move at once.
    fn retire_after(&self) -> Duration {
        self.shape.age.mul_f64(fastrand::f64().mul_add(0.2, 0.9))
    }

    /// The credentials under which a connection would be opened now.
    pub(super) fn generation(&self) -> Generation {
        match &self.route {
            Route::ApplicationHttp1(_) | Route::ApplicationHttp2(_) => Generation::default(),
            Route::Peer(to) => to.tls.generation(),
        }
    }

    /// Who may answer at this moment; anybody at the address of our own application.
    ///
    /// # Errors
    /// When nobody says so.
    pub(super) fn expected(&self) -> Result<Option<Arc<[SpiffeId]>>, UpstreamError> {
        match &self.route {
            Route::ApplicationHttp1(_) | Route::ApplicationHttp2(_) => Ok(None),
            Route::Peer(to) => Ok(Some(to.expected()?.identities)),
        }
    }

    /// The destination as configured.
    pub(super) fn target(&self) -> &Arc<str> {
        match &self.route {
            Route::ApplicationHttp1(to) | Route::ApplicationHttp2(to) => &to.target.0,
            Route::Peer(to) => &to.target.0,
        }
    }

    pub(super) fn telemetry(&self) -> &Arc<Telemetry> {
        match &self.route {
            Route::ApplicationHttp1(to) | Route::ApplicationHttp2(to) => &to.telemetry,
            Route::Peer(to) => &to.telemetry,
        }
    }

    /// The error of an exchange that broke on this connection.
    pub(super) fn broke_on(&self, link: &Link, error: hyper::Error) -> UpstreamError {
        let target = || Arc::clone(self.target());
        match (link.alert.heard(), link.condemned()) {
            // Nothing was processed: the peer never took us for who we are.
            (Some(alert), _) => {
                UpstreamError::Handshake { target: target(), source: Arc::new(HandshakeError::Alert(alert)) }
            }
            // It was we who broke it off.
            (None, Some(cause)) => UpstreamError::Condemned { target: target(), cause },
            (None, None) => self.broken(error),
        }
    }

    fn broken(&self, error: hyper::Error) -> UpstreamError {
        UpstreamError::Exchange { target: Arc::clone(self.target()), source: Arc::new(error) }
    }
}

/// Runs an HTTP/2 connection, and tells once its peer's SETTINGS are there whether it takes extended CONNECT (RFC 8441
/// section 3).
async fn learn<Io>(
    mut connection: http2::Connection<Io, RequestBody, Tasks>,
    finding: &Finding,
    tell: watch::Sender<Option<bool>>,
) -> hyper::Result<()>
where
    Io: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    tokio::select! {
        ended = &mut connection => return ended,
        () = finding.opened() => {}
    }
    // The guard has seen them; the library, which runs on this thread too, takes them up in the same turn.
    tokio::task::yield_now().await;
    tell.send_replace(Some(connection.is_extended_connect_protocol_enabled()));
    connection.await
}

/// What is kept beside a connection to a peer while it runs.
struct Driven {
    registered: Registered,
    alert: Alert,
    cutter: Cutter,
    to: ToPeer,
}

/// Runs a connection until it ends or the registry cuts it, and tells of a peer that refused us.
async fn drive<C: Future<Output = hyper::Result<()>>>(connection: C, driven: Option<Driven>) -> hyper::Result<()> {
    let outcome = match &driven {
        None => connection.await,
        Some(driven) => {
            let entry = driven.registered.entry();
            tokio::select! {
                outcome = connection => outcome,
                // Dropping the connection half-way is the point: whatever is in flight on it must end.
                () = entry.signal.reached(Level::Cut) => {
                    driven.cutter.cut();
                    Ok(())
                }
            }
        }
    };
    if let Some(driven) = &driven
        && let Some(alert) = driven.alert.heard()
    {
        // Told here once for the connection; the requests on it get the same error each.
        drop(driven.to.refused_by_peer(driven.registered.entry().opened.address, alert));
    }
    if let Err(error) = &outcome {
        // The request in flight has got its own error; this is for who looks closer.
        tracing::debug!(error = crate::error_chain(error), "an upstream connection broke");
    }
    outcome
}
