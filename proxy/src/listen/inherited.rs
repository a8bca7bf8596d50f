//! Sockets that listen already when the process starts: socket activation by systemd or another parent (sd_listen_fds(3)).
//!
//! With them a restart loses nobody: who comes while the old process ends and the new one starts waits in the queue of a
//! socket that both have.

use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use socket2::SockRef;

/// Sockets that were handed over and are not in use yet.
#[derive(Debug, Default)]
pub struct Inherited {
    left: Vec<(SocketAddr, TcpListener)>,
}

/// A socket was handed over that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InheritedError {
    /// It is no TCP socket that listens.
    #[error("socket {number} of LISTEN_FDS is none that listens for TCP; look at `ListenStream` of the socket unit")]
    NotListening {
        /// Its place, from 1.
        number: usize,
        /// What the system said, where it said anything.
        #[source]
        source: Option<io::Error>,
    },
    /// Nothing in the configuration has its address.
    #[error(
        "LISTEN_FDS hands over a socket on {address}, and no listener of the configuration has this address; give one \
         `listen: {address}`, or take it out of the socket unit"
    )]
    Unknown {
        /// The address.
        address: SocketAddr,
    },
}

impl Inherited {
    /// Takes the sockets of `LISTEN_FDS` if they are meant for this process (`LISTEN_PID`), and removes both from the
    /// environment. To be called before there are threads.
    ///
    /// # Errors
    /// When one of them is no TCP socket that listens.
    pub fn from_environment() -> Result<Self, InheritedError> {
        let mut handed_over = ListenFd::from_env();
        let mut left = Vec::with_capacity(handed_over.len());
        for index in 0..handed_over.len() {
            let not_listening = |source| InheritedError::NotListening { number: index + 1, source };
            let socket = handed_over.take_tcp_listener(index).map_err(|error| not_listening(Some(error)))?;
            let socket = socket.ok_or_else(|| not_listening(None))?;
            left.push(usable(socket).map_err(not_listening)?);
        }
        Ok(Self { left })
    }

    /// The socket of exactly this address, once.
    pub(super) fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let at = self.left.iter().position(|(known, _)| *known == address)?;
        Some(self.left.swap_remove(at).1)
    }

    /// Makes sure that none is left: nobody would accept from it, and callers would wait for ever.
    ///
    /// # Errors
    /// Names the first that is.
    pub fn all_taken(&self) -> Result<(), InheritedError> {
        match self.left.first() {
            Some((address, _)) => Err(InheritedError::Unknown { address: *address }),
            None => Ok(()),
        }
    }
}

fn usable(socket: TcpListener) -> Result<(SocketAddr, TcpListener), Option<io::Error>> {
    if !SockRef::from(&socket).is_listener().map_err(Some)? {
        return Err(None);
    }
    socket.set_nonblocking(true).map_err(Some)?;
    Ok((socket.local_addr().map_err(Some)?, socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_goes_to_its_address_once_and_a_stranger_is_named() {
        let socket = || usable(TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
        let (ours, other) = (socket(), socket());
        let (address, stranger) = (ours.0, other.0);
        let mut inherited = Inherited { left: vec![ours, other] };
        assert_eq!(inherited.take(address).unwrap().local_addr().unwrap(), address);
        assert!(inherited.take(address).is_none());
        let error = inherited.all_taken().unwrap_err().to_string();
        assert!(error.contains(&format!("a socket on {stranger}, and no listener")), "{error}");
        assert!(inherited.take(stranger).is_some() && inherited.all_taken().is_ok());
    }

    #[test]
    fn a_socket_that_does_not_listen_is_refused() {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        assert!(matches!(usable(socket.into()), Err(None)));
    }
}
