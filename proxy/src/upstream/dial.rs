//! Single connections: TCP to the application, or TCP and a TLS handshake to a mesh peer.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_certs_watcher::{PeerError, Role, verify_peer};
use rustls::AlertDescription;
use rustls_pki_types::UnixTime;
use spiffe::SpiffeId;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::UpstreamError;
use crate::config::{Answerers, NoSuchService};
use crate::connections::{Carries, Connections, Generation, Level, Opened, Registered};
use crate::drain::Tasks;
use crate::keepalive;
use crate::policy_store::PolicyStore;
use crate::telemetry::Telemetry;
use crate::telemetry::metrics::Direction;
use crate::telemetry::repeated::Say;
use crate::tls::handshake::{self, HandshakeError, Secured};
use crate::tls::{Alpn, Tls};

/// A destination: `host:port`, resolved anew for each connection by the system's resolver, so that a name that moves is
/// followed at once.
#[derive(Clone, Debug)]
pub struct Target(pub Arc<str>);

/// Opens connections to our own application.
#[derive(Clone, Debug)]
pub struct ToApplication {
    /// Where it listens.
    pub target: Target,
    /// `timeouts.connect`.
    pub connect: Duration,
    /// Where it is counted what becomes of its connections.
    pub telemetry: Arc<Telemetry>,
}

/// Opens connections to a mesh peer.
#[derive(Clone, Debug)]
pub struct ToPeer {
    /// Where it is.
    pub target: Target,
    /// Who may answer.
    pub answerers: Answerers,
    /// The policy in force, which says who may answer for a Service.
    pub policy: Arc<PolicyStore>,
    /// Our credentials.
    pub tls: Tls,
    /// `timeouts.connect`.
    pub connect: Duration,
    /// `timeouts.handshake`.
    pub handshake: Duration,
    /// Where the connection is entered.
    pub connections: Arc<Connections>,
    /// How far the process has come on its way to its end.
    pub tasks: Tasks,
    /// Where the handshake is counted.
    pub telemetry: Arc<Telemetry>,
}

/// A connection to a mesh peer, entered in the registry.
#[derive(Debug)]
pub struct PeerConnection {
    /// The stream and who is at its other end.
    pub secured: Secured<TlsStream<TcpStream>>,
    /// What was connected to.
    pub address: SocketAddr,
    /// Its entry.
    pub registered: Registered,
}

/// Who may answer at some moment.
#[derive(Clone, Debug)]
pub struct Expected {
    /// They.
    pub identities: Arc<[SpiffeId]>,
    /// The number of the policy that says so; 0 where the configuration does.
    pub policy: u64,
}

impl Target {
    /// Opens a TCP connection, trying each address of the name in turn.
    ///
    /// # Errors
    /// When the name has no address, none accepts, or time runs out.
    pub async fn connect(&self, limit: Duration) -> Result<(TcpStream, SocketAddr), UpstreamError> {
        let target = || Arc::clone(&self.0);
        let connecting = async {
            let resolved = tokio::net::lookup_host(&*self.0).await;
            let addresses = resolved.map_err(|e| UpstreamError::Resolve { target: target(), source: Arc::new(e) })?;
            let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            for address in addresses {
                match TcpStream::connect(address).await {
                    Ok(stream) => return Ok((stream, address)),
                    Err(error) => failed = error,
                }
            }
            Err(UpstreamError::Connect { target: target(), source: Arc::new(failed) })
        };
        let timed = tokio::time::timeout(limit, connecting).await;
        let (stream, address) = timed.unwrap_or_else(|_| Err(UpstreamError::ConnectTimeout { target: target() }))?;
        keepalive::enable(&stream);
        // Requests and handshakes are written whole: waiting for more to send only delays them.
        if let Err(error) = stream.set_nodelay(true) {
            return Err(UpstreamError::Connect { target: target(), source: Arc::new(error) });
        }
        Ok((stream, address))
    }
}

impl ToApplication {
    /// Opens a connection.
    ///
    /// # Errors
    /// When the application does not accept it in time.
    pub async fn dial(&self) -> Result<(TcpStream, SocketAddr), UpstreamError> {
        self.target.connect(self.connect).await
    }
}

impl ToPeer {
    /// Opens a connection, proves the peer to be one of the expected, and enters it.
    ///
    /// What is shown on it is the newest that we had when the handshake ended, and not a byte of a request has left by then.
    /// So whoever exchanges a root in the right order (all believe the new one, all show it, the old one goes) has no request
    /// fail, however long a handshake takes.
    ///
    /// # Errors
    /// When nobody may answer, the peer cannot be reached or is not who it should be, or a limit is reached.
    pub async fn dial(&self, alpn: Alpn) -> Result<PeerConnection, UpstreamError> {
        let mut tries = TRIES;
        loop {
            tries -= 1;
            let Expected { identities, policy } = self.expected()?;
            let (stream, address) = self.target.connect(self.connect).await?;
            let begun = self.tls.generation();
            let shaken = handshake::connect(&self.tls, stream, alpn, identities, self.handshake).await;
            if let Ok(secured) = &shaken {
                let counted = self.telemetry.metrics.of(Direction::Outbound);
                counted.handshakes_ok.increment(1);
                counted.handshake_seconds.record(secured.took.as_secs_f64());
            }
            if tries > 0 && is_outdated(&shaken, begun, self.tls.generation()) {
                continue;
            }
            let secured = shaken.map_err(|error| self.refused(address, error))?;
            return self.enter(secured, address, alpn, policy);
        }
    }

    /// Enters a connection whose peer was found to be one of those that the policy of this number expects.
    fn enter(
        &self,
        secured: Secured<TlsStream<TcpStream>>,
        address: SocketAddr,
        alpn: Alpn,
        policy: u64,
    ) -> Result<PeerConnection, UpstreamError> {
        let opened = Opened {
            direction: Direction::Outbound,
            carries: match alpn {
                Alpn::Http | Alpn::Http1 => Carries::Http,
                Alpn::Opaque => Carries::Tcp,
            },
            peer: Some(Arc::clone(&secured.peer)),
            address,
            port: address.port(),
            called: None,
            answerers: Some(self.answerers.clone()),
            opening: None,
            own: Some(Arc::clone(&secured.own)),
            generation: Generation { policy, ..secured.generation },
        };
        let registered = self
            .connections
            .enter(opened)
            .map_err(|full| UpstreamError::Full { target: Arc::clone(&self.target.0), source: full })?;
        if let Some(level) = Level::of_outbound(self.tasks.phase()) {
            registered.entry().signal.raise(level, "draining");
        }
        // Entered first: another policy or trust either comes into force before this look, or after it and has the re-check
        // find the entry.
        let Expected { identities, policy: newest } = self.expected()?;
        if newest != policy && !identities.contains(&secured.peer.id) {
            let presented = secured.peer.id.clone();
            let error = PeerError::WrongIdentity { presented, expected: identities };
            return Err(self.refused(address, HandshakeError::Peer(Box::new(error))));
        }
        let snapshot = self.tls.credentials().snapshot();
        if snapshot.trust_generation != secured.generation.trust {
            verify_peer(&snapshot.trust, Role::Server, &secured.peer.chain, UnixTime::now())
                .map_err(|error| self.refused(address, HandshakeError::Peer(Box::new(error))))?;
        }
        Ok(PeerConnection { secured, address, registered })
    }

    /// Who may answer at this moment.
    ///
    /// # Errors
    /// When nobody says so.
    pub fn expected(&self) -> Result<Expected, NoSuchService> {
        let loaded = self.answerers.service().and_then(|_| self.policy.current());
        let identities = self.answerers.under(loaded.as_ref().map(|loaded| &loaded.policy))?;
        Ok(Expected { identities, policy: loaded.map_or(0, |loaded| loaded.number) })
    }

    /// Tells of a peer that refused us after our side of the handshake had finished.
    pub fn refused_by_peer(&self, address: SocketAddr, alert: AlertDescription) -> UpstreamError {
        self.refused(address, HandshakeError::Alert(alert))
    }

    fn refused(&self, address: SocketAddr, error: HandshakeError) -> UpstreamError {
        let label = error.label();
        self.telemetry.metrics.handshake_refused(Direction::Outbound, label);
        let is_other =
            matches!(&error, HandshakeError::Peer(peer) if matches!(**peer, PeerError::WrongIdentity { .. }));
        let (target, source) = (Arc::clone(&self.target.0), Arc::new(error));
        let failed = match self.answerers.service().filter(|_| is_other) {
            Some(service) => UpstreamError::NotOfService { target, service: service.clone(), source },
            None => UpstreamError::Handshake { target, source },
        };
        let chain = failed.chain();
        match self.telemetry.repeated.note(label, address.ip(), Instant::now()) {
            Say::Aloud { left_out } => {
                tracing::warn!(%address, reason = label, error = chain, left_out, "a call to a peer failed");
            }
            Say::Quietly => tracing::debug!(%address, reason = label, error = chain, "a call to a peer failed"),
        }
        failed
    }
}

/// Whether a handshake showed a leaf, or refused by a trust, that was no longer in force at its end.
fn is_outdated<Stream>(shaken: &Result<Secured<Stream>, HandshakeError>, begun: Generation, ended: Generation) -> bool {
    match shaken {
        Ok(_) | Err(HandshakeError::Alert(_)) => begun.identity != ended.identity,
        Err(HandshakeError::Peer(_)) => begun.trust != ended.trust,
        Err(
            HandshakeError::Timeout { .. }
            | HandshakeError::Plaintext
            | HandshakeError::NoCertificate
            | HandshakeError::Closed(_)
            | HandshakeError::Tls(_)
            | HandshakeError::TooMany
            | HandshakeError::Displaced
            | HandshakeError::Unable(_),
        ) => false,
    }
}

/// A leaf lasts minutes at least: a handshake that meets a second renewal has taken far too long already.
const TRIES: usize = 3;
