//! Finds TCP peers that are gone without a word (a host that lost its power, a network that lost its path), also where
//! nothing is to be sent to them: without this, a response that stopped in its middle would be waited for without end.
//!
//! TCP_USER_TIMEOUT is left alone on purpose: Linux ends with it also a connection whose live peer does not read for so long,
//! and how long that may be is for `timeouts` to say. What is sent to a peer that is gone is bounded by those as well.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Has the kernel ask the peer whether it is there, once nothing has come from it for a while.
pub fn enable(stream: &TcpStream) {
    let asking = TcpKeepalive::new().with_time(QUIET).with_interval(BETWEEN).with_retries(UNANSWERED);
    // A socket that takes no options is already closed, which whoever reads from it is told.
    if let Err(error) = SockRef::from(stream).set_tcp_keepalive(&asking) {
        tracing::debug!(%error, "a connection goes without keepalive");
    }
}

/// As long as HTTP/2 waits with its PING, which it does only while streams are open.
const QUIET: Duration = Duration::from_secs(20);
const BETWEEN: Duration = Duration::from_secs(10);
/// Together 50 s: a path that is lost for half a minute, as in the move of a virtual machine, costs no connection.
const UNANSWERED: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_kernel_is_told_to_ask() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(!socket.keepalive().unwrap());
        enable(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), QUIET);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), BETWEEN);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), UNANSWERED);
    }
}
