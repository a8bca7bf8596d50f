//! Opaque TCP: bytes both ways, half-close kept, bounded in how long nothing may move.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::connections::{Level, Signal};
use crate::metered::Metered;

/// How many bytes went which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// From downstream to upstream.
    pub up: u64,
    /// From upstream to downstream.
    pub down: u64,
}

/// How it ended.
#[derive(Debug)]
pub enum Ended {
    /// Both sides have closed.
    Closed,
    /// Nothing moved for `timeouts.tcpIdle`.
    Idle,
    /// The registry asked for it.
    Cut,
    /// One side broke.
    Broken(io::Error),
}

/// Carries bytes until both sides have closed, nothing moves for `idle` (zero: no limit), or the signal says cut.
pub async fn carry<Down, Up>(downstream: Down, upstream: Up, idle: Duration, signal: &Signal) -> (Carried, Ended)
where
    Down: AsyncRead + AsyncWrite + Unpin,
    Up: AsyncRead + AsyncWrite + Unpin,
{
    let (up, down) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let mut downstream = Metered::new(downstream, Arc::clone(&up));
    let mut upstream = Metered::new(upstream, Arc::clone(&down));
    let copying = tokio::io::copy_bidirectional_with_sizes(&mut downstream, &mut upstream, BUFFER, BUFFER);
    let ended = tokio::select! {
        copied = copying => match copied {
            Ok(_) => Ended::Closed,
            Err(error) => Ended::Broken(error),
        },
        // Both drop what is in flight, and that is what they are for.
        () = still(idle, &up, &down) => Ended::Idle,
        () = signal.reached(Level::Cut) => Ended::Cut,
    };
    (Carried { up: up.load(Ordering::Relaxed), down: down.load(Ordering::Relaxed) }, ended)
}

/// Resolves when neither counter has moved for `idle`. Looks four times in that time, so that bytes cost nothing.
async fn still(idle: Duration, up: &AtomicU64, down: &AtomicU64) {
    if idle.is_zero() {
        return std::future::pending().await;
    }
    let moved = || (up.load(Ordering::Relaxed), down.load(Ordering::Relaxed));
    let mut seen = moved();
    let mut quiet = 0;
    while quiet < 4 {
        tokio::time::sleep(idle / 4).await;
        let now = moved();
        quiet = if now == seen { quiet + 1 } else { 0 };
        seen = now;
    }
}

/// One TLS record each way.
const BUFFER: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn bytes_go_both_ways_and_a_half_close_is_kept() {
        let (mut client, downstream) = duplex(64);
        let (upstream, mut server) = duplex(64);
        let signal = Signal::default();
        let carrying = carry(downstream, upstream, Duration::ZERO, &signal);
        let talking = async {
            client.write_all(b"question").await.unwrap();
            client.shutdown().await.unwrap();
            let mut asked = Vec::new();
            server.read_to_end(&mut asked).await.unwrap();
            // The client has closed its half, and still gets the answer.
            server.write_all(b"the answer").await.unwrap();
            server.shutdown().await.unwrap();
            let mut answered = Vec::new();
            client.read_to_end(&mut answered).await.unwrap();
            (asked, answered)
        };
        let ((carried, ended), (asked, answered)) = tokio::join!(carrying, talking);
        assert_eq!((asked.as_slice(), answered.as_slice()), (&b"question"[..], &b"the answer"[..]));
        assert_eq!(carried, Carried { up: 8, down: 10 });
        assert!(matches!(ended, Ended::Closed), "{ended:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_on_which_nothing_moves_ends() {
        let (_client, downstream) = duplex(64);
        let (upstream, _server) = duplex(64);
        let started = tokio::time::Instant::now();
        let signal = Signal::default();
        let (_, ended) = carry(downstream, upstream, Duration::from_secs(60), &signal).await;
        assert!(matches!(ended, Ended::Idle), "{ended:?}");
        assert!(started.elapsed() >= Duration::from_secs(60));
    }

    #[tokio::test]
    async fn the_signal_cuts_what_is_open() {
        let (_client, downstream) = duplex(64);
        let (upstream, _server) = duplex(64);
        let signal = Signal::default();
        signal.raise(Level::Cut, "policy");
        let (_, ended) = carry(downstream, upstream, Duration::ZERO, &signal).await;
        assert!(matches!(ended, Ended::Cut), "{ended:?}");
    }
}
