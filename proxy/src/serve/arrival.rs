//! An inbound connection from its accept to a verified identity: bounded in number and time, counted, and turned away with
//! a word that its caller gets to read.

use std::net::SocketAddr;
use std::time::Instant;

use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::limits::handshakes::Place;
use crate::limits::memory::OUT_OF_MEMORY;
use crate::sidecar::Sidecar;
use crate::telemetry::metrics::Direction;
use crate::tls::Alpn;
use crate::tls::handshake::{self, HandshakeError, Refused, Secured};

/// Shakes hands; `None` when the connection came to nothing, which has been told by then.
pub async fn shake_hands(
    sidecar: &Sidecar,
    stream: TcpStream,
    from: SocketAddr,
    alpn: Alpn,
) -> Option<Secured<TlsStream<TcpStream>>> {
    if sidecar.memory.refuses() {
        sidecar.telemetry.metrics.connection_closed(Direction::Inbound, OUT_OF_MEMORY);
        return None;
    }
    let Ok(place) = sidecar.handshakes.enter() else {
        refused(sidecar, from, &HandshakeError::TooMany);
        return None;
    };
    match counted(sidecar, stream, alpn, &place).await {
        Ok(secured) => Some(secured),
        Err(turned_away) => {
            refused(sidecar, from, &turned_away.error);
            place.refused();
            tokio::select! {
                // Whoever needs the place is worth more than a caller that reads why.
                () = place.displaced() => {}
                () = turned_away.close() => {}
            }
            None
        }
    }
}

async fn counted(
    sidecar: &Sidecar,
    stream: TcpStream,
    alpn: Alpn,
    place: &Place,
) -> Result<Secured<TlsStream<TcpStream>>, Refused> {
    stream.set_nodelay(true).map_err(HandshakeError::Closed)?;
    let counted = sidecar.telemetry.metrics.of(Direction::Inbound);
    counted.handshakes_in_flight.increment(1.0);
    let outcome = tokio::select! {
        biased;
        // Dropping the handshake half-way is the point.
        () = place.displaced() => Err(HandshakeError::Displaced.into()),
        outcome = handshake::accept(&sidecar.tls, stream, alpn, sidecar.timeouts.handshake, || place.heard()) => outcome,
    };
    counted.handshakes_in_flight.decrement(1.0);
    if let Ok(secured) = &outcome {
        counted.handshakes_ok.increment(1);
        counted.handshake_seconds.record(secured.took.as_secs_f64());
    }
    outcome
}

fn refused(sidecar: &Sidecar, from: SocketAddr, error: &HandshakeError) {
    if !matches!(error, HandshakeError::TooMany | HandshakeError::Displaced) {
        return sidecar.refused(from, error);
    }
    // Says nothing about this caller: one line for all of them.
    sidecar.telemetry.metrics.handshake_refused(Direction::Inbound, error.label());
    sidecar.telemetry.episodes.note(&sidecar.handshakes.episode, Instant::now());
}
