//! An inbound connection from its accept to a verified identity: bounded in number and time, counted, and turned away with
//! a word that its caller gets to read.

use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

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
    match counted(sidecar, stream, alpn).await {
        Ok(secured) => Some(secured),
        Err(turned_away) => {
            sidecar.refused(from, &turned_away.error);
            turned_away.close().await;
            None
        }
    }
}

async fn counted(sidecar: &Sidecar, stream: TcpStream, alpn: Alpn) -> Result<Secured<TlsStream<TcpStream>>, Refused> {
    let counted = sidecar.telemetry.metrics.of(Direction::Inbound);
    let _permit = sidecar.handshakes.try_acquire().map_err(|_| HandshakeError::TooMany)?;
    stream.set_nodelay(true).map_err(HandshakeError::Closed)?;
    counted.handshakes_in_flight.increment(1.0);
    let outcome = handshake::accept(&sidecar.tls, stream, alpn, sidecar.timeouts.handshake).await;
    counted.handshakes_in_flight.decrement(1.0);
    if let Ok(secured) = &outcome {
        counted.handshakes_ok.increment(1);
        counted.handshake_seconds.record(secured.took.as_secs_f64());
    }
    outcome
}
