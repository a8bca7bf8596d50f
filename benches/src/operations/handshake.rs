//! One mutual TLS 1.3 handshake between two sidecars, in memory.
//!
//! Both sides use the configurations of `portcullis::tls`, built for each handshake as the sidecar does. Portcullis resumes
//! no sessions; the resumed handshake is rustls with tickets and all else equal: what resumption could save.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use portcullis::tls::{Alpn, Terms, Tls, provider};
use portcullis_certs_watcher::Verdict;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::ProducesTickets;
use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, HandshakeKind, NamedGroup, ServerConfig, ServerConnection,
};
use rustls_pki_types::ServerName;
use spiffe::SpiffeId;

use super::mesh::Mesh;
use super::{Failure, Work, counted};

/// Both sides, X25519 alone offered.
pub fn full_x25519() -> Result<Work, Failure> {
    let parties = Parties::new(NamedGroup::X25519)?;
    Ok(Work::whole(move || parties.shake_hands(Side::Both)))
}

/// Both sides, as between two sidecars.
pub fn full_x25519mlkem768() -> Result<Work, Failure> {
    let parties = Parties::new(NamedGroup::X25519MLKEM768)?;
    Ok(Work::whole(move || parties.shake_hands(Side::Both)))
}

/// The called side of the same.
pub fn server_x25519() -> Result<Work, Failure> {
    let parties = Parties::new(NamedGroup::X25519)?;
    Ok(Work::part(move || parties.shake_hands(Side::Server)))
}

/// The called side of the same.
pub fn server_x25519mlkem768() -> Result<Work, Failure> {
    let parties = Parties::new(NamedGroup::X25519MLKEM768)?;
    Ok(Work::part(move || parties.shake_hands(Side::Server)))
}

/// Both sides, with a ticket.
pub fn resumed_x25519() -> Result<Work, Failure> {
    let resuming = Resuming::new()?;
    Ok(Work::whole(move || resuming.shake_hands(HandshakeKind::Resumed, Side::Both)))
}

/// The called side of the same.
pub fn resumed_server_x25519() -> Result<Work, Failure> {
    let resuming = Resuming::new()?;
    Ok(Work::part(move || resuming.shake_hands(HandshakeKind::Resumed, Side::Server)))
}

/// Whose work counts.
#[derive(Clone, Copy, Debug)]
pub enum Side {
    /// That of both, which whoever runs the handshake counts.
    Both,
    /// That of the called side alone.
    Server,
}

impl Side {
    fn serving<T>(self, work: impl FnOnce() -> T) -> (T, Duration) {
        match self {
            Self::Both => (work(), Duration::ZERO),
            Self::Server => counted(work),
        }
    }
}

/// Both ends of a connection that is ready for data.
pub struct Connected {
    /// The caller's end.
    pub client: ClientConnection,
    /// The called workload's end.
    pub server: ServerConnection,
}

/// The sidecars of caller and called.
pub struct Parties {
    client: Tls,
    server: Tls,
    expected: Arc<[SpiffeId]>,
    group: NamedGroup,
}

impl Parties {
    /// The caller's sidecar offers this group alone, or X25519MLKEM768 before the others, as it does by default.
    pub fn new(group: NamedGroup) -> Result<Self, Failure> {
        let mesh = Mesh::new()?;
        let mut offered = provider();
        if group != NamedGroup::X25519MLKEM768 {
            offered.kx_groups.retain(|offer| offer.name() == group);
        }
        Ok(Self {
            client: Tls::with_provider(mesh.caller.credentials, offered),
            server: Tls::new(mesh.api.credentials),
            expected: Arc::new([mesh.api.id]),
            group,
        })
    }

    /// The terms of the caller's side of a connection.
    pub fn client_terms(&self) -> Result<Terms<ClientConfig>, Failure> {
        Ok(self.client.client(Alpn::Http, Arc::clone(&self.expected))?)
    }

    /// The terms of the called side of a connection.
    pub fn server_terms(&self) -> Result<Terms<ServerConfig>, Failure> {
        Ok(self.server.server(Alpn::Http)?)
    }

    /// One handshake, and the time of what counts of it.
    pub fn shake_hands(&self, side: Side) -> Result<(Connected, Duration), Failure> {
        let Terms { config, verdict, .. } = self.client_terms()?;
        let (connected, seen, took) = shake_hands(&config, || self.server_terms(), side)?;
        let group = connected.server.negotiated_key_exchange_group().map(|group| group.name());
        if group != Some(self.group) || connected.server.handshake_kind() != Some(HandshakeKind::Full) {
            return Err(Failure::Wrong("another group, or no full handshake"));
        }
        for verdict in [seen, verdict] {
            verdict.take().ok_or(Failure::Wrong("nobody was verified"))??;
        }
        Ok((connected, took))
    }
}

/// The same parties with tickets.
struct Resuming {
    parties: Parties,
    /// One for all handshakes: rustls resumes a session only under the verifier and the identity that began it.
    client: Arc<ClientConfig>,
    tickets: Arc<dyn ProducesTickets>,
}

impl Resuming {
    fn new() -> Result<Self, Failure> {
        let parties = Parties::new(NamedGroup::X25519)?;
        let mut client = parties.client_terms()?.config;
        Arc::make_mut(&mut client).resumption = Resumption::in_memory_sessions(1);
        let resuming = Self { parties, client, tickets: Ticketer::new()? };
        // The first has no ticket; each leaves one for the next.
        resuming.shake_hands(HandshakeKind::Full, Side::Both)?;
        Ok(resuming)
    }

    fn shake_hands(&self, kind: HandshakeKind, side: Side) -> Result<(Connected, Duration), Failure> {
        let terms = || {
            let mut terms = self.parties.server_terms()?;
            let config = Arc::make_mut(&mut terms.config);
            config.ticketer = Arc::clone(&self.tickets);
            config.send_tls13_tickets = 1;
            Ok(terms)
        };
        let (connected, _, took) = shake_hands(&self.client, terms, side)?;
        let kinds = (connected.client.handshake_kind(), connected.server.handshake_kind());
        if kinds != (Some(kind), Some(kind)) {
            return Err(Failure::Wrong("a full handshake where a session should have been resumed, or the reverse"));
        }
        Ok((connected, took))
    }
}

fn shake_hands(
    config: &Arc<ClientConfig>,
    terms: impl FnOnce() -> Result<Terms<ServerConfig>, Failure>,
    side: Side,
) -> Result<(Connected, Verdict, Duration), Failure> {
    let mut wire = Vec::new();

    // 1. The client's hello.
    let nobody = ServerName::try_from("portcullis.invalid").map_err(|_| Failure::Wrong("the name is no name"))?;
    let mut client = ClientConnection::new(Arc::clone(config), nobody)?;
    send(&mut client, &mut wire)?;

    // 2. The server's flight.
    let (answered, first) = side.serving(|| {
        let Terms { config, verdict, .. } = terms()?;
        let mut server = ServerConnection::new(config)?;
        receive(&mut server, &mut wire)?;
        send(&mut server, &mut wire)?;
        Ok::<_, Failure>((server, verdict))
    });
    let (mut server, verdict) = answered?;

    // 3. The client judges the server, and shows who it is.
    receive(&mut client, &mut wire)?;
    send(&mut client, &mut wire)?;

    // 4. The server judges the client, and may send tickets.
    let (judged, second) = side.serving(|| {
        receive(&mut server, &mut wire)?;
        send(&mut server, &mut wire)
    });
    judged?;

    // 5. The client takes the tickets.
    receive(&mut client, &mut wire)?;
    if client.is_handshaking() || server.is_handshaking() {
        return Err(Failure::Wrong("the handshake did not come to its end"));
    }
    Ok((Connected { client, server }, verdict, first + second))
}

/// Puts what a connection has to say onto the wire.
pub fn send<Side>(from: &mut ConnectionCommon<Side>, wire: &mut Vec<u8>) -> Result<(), Failure> {
    while from.wants_write() {
        from.write_tls(wire)?;
    }
    Ok(())
}

/// Gives a connection all that is on the wire.
pub fn receive<Side: rustls::SideData>(to: &mut ConnectionCommon<Side>, wire: &mut Vec<u8>) -> Result<(), Failure> {
    let mut rest = wire.as_slice();
    while !rest.is_empty() {
        if to.read_tls(&mut rest)? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        to.process_new_packets()?;
    }
    wire.clear();
    Ok(())
}
