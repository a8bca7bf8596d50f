//! Listening sockets: taken over or bound before anything starts, accepted from until the phase says stop.

mod inherited;

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

pub use self::inherited::{Inherited, InheritedError};
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

/// A socket that listens.
#[derive(Debug)]
pub struct Listening {
    /// The socket.
    pub socket: StdListener,
    /// Whether others may have it too: then what waits in its queue when we stop is theirs.
    pub is_shared: bool,
}

impl Listening {
    /// Takes what was handed over for this address, else binds.
    ///
    /// # Errors
    /// As [`bind`].
    pub fn at(role: &'static str, address: SocketAddr, inherited: &mut Inherited) -> Result<Self, BindError> {
        match inherited.take(address) {
            Some(socket) => Ok(Self { socket, is_shared: true }),
            None => Ok(Self { socket: bind(role, address)?, is_shared: false }),
        }
    }
}

/// Accepts one connection; when the process is out of file descriptors or memory it pauses instead of spinning.
pub async fn accept(listener: &TcpListener, metrics: &Metrics) -> (TcpStream, SocketAddr) {
    let mut pauses = 0_u64;
    loop {
        match listener.accept().await {
            Ok(accepted) => {
                if pauses > 0 {
                    tracing::warn!(listener = name_of(listener), pauses, "accepting goes on");
                }
                return accepted;
            }
            // The caller was gone before we came to it; the next one is not concerned.
            Err(error) if is_of_the_caller(&error) => tracing::debug!(%error, "a connection could not be accepted"),
            Err(error) => {
                metrics.accept_paused();
                if pauses == 0 {
                    let listener = name_of(listener);
                    tracing::warn!(
                        listener, %error,
                        "accepting pauses; if file descriptors are short, raise the limit (LimitNOFILE, ulimit -n) above \
                         `limits.connections` times two"
                    );
                }
                pauses += 1;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// What waits in the queue of a listener that is about to close, which would reset it (tcp(7)). Bounded by the queue.
pub fn waiting(listener: &StdListener) -> Vec<StdStream> {
    let accepted = std::iter::from_fn(|| listener.accept().ok());
    accepted.take(BACKLOG as usize).map(|(stream, _)| stream).collect()
}

fn name_of(listener: &TcpListener) -> String {
    listener.local_addr().map_or_else(|_| "unknown".to_owned(), |address| address.to_string())
}

/// Errors of one connection that came and went, and pending errors of the network, which accept(2) passes on. Everything else
/// is ours, and would come again at once.
fn is_of_the_caller(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    let came_and_went = matches!(
        error.kind(),
        Kind::ConnectionAborted
            | Kind::ConnectionReset
            | Kind::Interrupted
            | Kind::NetworkDown
            | Kind::NetworkUnreachable
            | Kind::HostUnreachable
    );
    // EPROTO, ENOPROTOOPT, EHOSTDOWN, ENONET as Linux numbers them.
    came_and_went || matches!(error.raw_os_error(), Some(71 | 92 | 112 | 64))
}

/// What the kernel queues while we are busy; it caps the number itself at net.core.somaxconn (4096 since Linux 5.4).
const BACKLOG: i32 = 4096;
/// Long enough to cost nothing, short enough that a caller hardly notices.
const PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_in_the_queue_is_not_forgotten() {
        let listener = bind("inbound", SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let callers: Vec<_> = (0..3).map(|_| StdStream::connect(address).unwrap()).collect();
        let mut waiting: Vec<_> = waiting(&listener).iter().map(|stream| stream.peer_addr().unwrap()).collect();
        waiting.sort_unstable();
        let mut from: Vec<_> = callers.iter().map(|caller| caller.local_addr().unwrap()).collect();
        from.sort_unstable();
        assert_eq!(waiting, from);
    }

    #[test]
    fn errors_of_ours_pause_and_those_of_callers_do_not() {
        // ECONNABORTED, ECONNRESET, EPROTO, EHOSTUNREACH; EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSPC, EINVAL, EPERM.
        assert!([103, 104, 71, 113].into_iter().all(|code| is_of_the_caller(&io::Error::from_raw_os_error(code))));
        let ours = [24, 23, 105, 12, 28, 22, 1];
        assert!(!ours.into_iter().any(|code| is_of_the_caller(&io::Error::from_raw_os_error(code))));
    }
}
