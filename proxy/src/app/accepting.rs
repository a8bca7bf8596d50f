//! Accepts on one listener and places each connection on the worker that has the fewest.
//!
//! The first worker accepts for all. A connection that stays there costs nothing more; one that goes elsewhere costs the
//! change of its event queue, once.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use tokio::net::{TcpListener, TcpStream};

use crate::drain::Phase;
use crate::keepalive;
use crate::listen::{self, Listening};
use crate::sidecar::Sidecar;
use crate::telemetry::metrics::Direction;
use crate::workers::Workers;

/// One listener with its part on each worker.
pub(super) struct Accepting<Part> {
    pub(super) listening: Listening,
    pub(super) direction: Direction,
    pub(super) workers: Arc<Workers>,
    /// One for each worker, in their order.
    pub(super) parts: Vec<Arc<Part>>,
}

impl<Part: Send + Sync + 'static> Accepting<Part> {
    /// Starts accepting; `serve` carries one connection.
    pub(super) fn spawn<F, Carrying>(self, sidecar: &Arc<Sidecar>, serve: F) -> anyhow::Result<()>
    where
        F: Fn(Arc<Part>, TcpStream, SocketAddr) -> Carrying + Copy + Send + 'static,
        Carrying: Future<Output = ()> + Send + 'static,
    {
        let first = self.workers.all().first().context("there is no worker")?.handle.clone();
        let sidecar_of = Arc::clone(sidecar);
        // Who may still accept counts as a connection about to come: the drain must not find nobody a moment too early.
        let accepting = sidecar.connections.arrive(self.direction);
        sidecar.tasks.spawn_on(&first, async move {
            if let Err(error) = self.run(&sidecar_of, serve).await {
                tracing::error!(%error, "a listener cannot be used");
            }
            drop(accepting);
        });
        Ok(())
    }

    async fn run<F, Carrying>(self, sidecar: &Arc<Sidecar>, serve: F) -> io::Result<()>
    where
        F: Fn(Arc<Part>, TcpStream, SocketAddr) -> Carrying + Copy + Send + 'static,
        Carrying: Future<Output = ()> + Send + 'static,
    {
        let Self { listening: Listening { socket, is_shared }, direction, workers, parts } = self;
        let (workers, parts) = (&*workers, &*parts);
        let place = move |stream, from| place(sidecar, direction, workers, parts, serve, stream, from);
        // Each of our own listeners closes when nobody needs it any more; see `app/shutdown.rs`.
        let until = match direction {
            Direction::Inbound => Phase::Draining,
            Direction::Outbound => Phase::Closing,
        };
        let listener = TcpListener::from_std(socket)?;
        let mut until = std::pin::pin!(sidecar.tasks.reached(until));
        loop {
            let (stream, from) = tokio::select! {
                // Nothing is lost: a connection is either accepted or still in the kernel's queue.
                accepted = listen::accept(&listener, &sidecar.telemetry.metrics) => accepted,
                () = &mut until => break,
            };
            place(stream, from);
        }
        if is_shared {
            return Ok(());
        }
        for stream in listen::waiting(&listener.into_std()?) {
            stream.set_nonblocking(true)?;
            let from = stream.peer_addr()?;
            place(TcpStream::from_std(stream)?, from);
        }
        Ok(())
    }
}

/// Hands a connection to the worker that has the fewest.
fn place<Part, F, Carrying>(
    sidecar: &Sidecar,
    direction: Direction,
    workers: &Workers,
    parts: &[Arc<Part>],
    serve: F,
    stream: TcpStream,
    from: SocketAddr,
) where
    Part: Send + Sync + 'static,
    F: Fn(Arc<Part>, TcpStream, SocketAddr) -> Carrying + Copy + Send + 'static,
    Carrying: Future<Output = ()> + Send + 'static,
{
    let least = workers.all().iter().zip(parts).min_by_key(|(worker, _)| worker.load());
    let Some((worker, part)) = least else { return };
    keepalive::enable(&stream);
    let (placed, part) = (worker.place(), Arc::clone(part));
    // The drain waits for it from here on, before it is known who it is.
    let arrived = sidecar.connections.arrive(direction);
    if worker.index == 0 {
        sidecar.tasks.spawn_on(&worker.handle, async move {
            serve(part, stream, from).await;
            drop((placed, arrived));
        });
        return;
    }
    let handed_over = stream.into_std();
    sidecar.tasks.spawn_on(&worker.handle, async move {
        match handed_over.and_then(TcpStream::from_std) {
            Ok(stream) => serve(part, stream, from).await,
            Err(error) => tracing::debug!(%error, "a connection could not be handed over"),
        }
        drop((placed, arrived));
    });
}
