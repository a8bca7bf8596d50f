//! Listening sockets: bound before anything starts, accepted from until the phase says stop.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::telemetry::metrics::Metrics;

/// An address could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else listens there.
    #[error(
        "`{role}` cannot listen on {address}: the address is in use; stop the other process or choose another address"
    )]
    InUse {
        /// Which part of the configuration.
        role: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// The system refused for another reason.
    #[error("`{role}` cannot listen on {address}")]
    Refused {
        /// Which part of the configuration.
        role: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Binds and listens, without SO_REUSEPORT: with it a second sidecar of the same user would share the port in silence.
///
/// # Errors
/// When the address is in use or not ours.
pub fn bind(role: &'static str, address: SocketAddr) -> Result<StdListener, BindError> {
    let bound = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // A restart must not wait for connections of the last process to time out.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    bound().map_err(|source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { role, address },
        _ => BindError::Refused { role, address, source },
    })
}

/// Accepts one connection; when the process is out of file descriptors or memory it pauses instead of spinning.
pub async fn accept(listener: &TcpListener, metrics: &Metrics) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_exhausted(&error) => {
                metrics.accept_paused();
                tracing::debug!(%error, "accepting pauses");
                tokio::time::sleep(PAUSE).await;
            }
            // The caller was gone before we came to it; the next one is not concerned.
            Err(error) => tracing::debug!(%error, "a connection could not be accepted"),
        }
    }
}

fn is_exhausted(error: &io::Error) -> bool {
    // EMFILE, ENFILE, ENOBUFS, ENOMEM as Linux numbers them.
    matches!(error.raw_os_error(), Some(24 | 23 | 105 | 12))
}

/// What the kernel queues while we are busy; it caps the number itself at net.core.somaxconn (4096 since Linux 5.4).
const BACKLOG: i32 = 4096;
/// Long enough to cost nothing, short enough that a caller hardly notices.
const PAUSE: Duration = Duration::from_millis(50);
