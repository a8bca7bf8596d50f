//! Accepts on one listener and places each connection on the worker that has the fewest.
//!
//! The first worker accepts for all. A connection that stays there costs nothing more; one that goes elsewhere costs the
//! change of its event queue, once.

use std::future::Future;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;

use anyhow::Context;
use tokio::net::{TcpListener, TcpStream};

use crate::drain::Phase;
use crate::listen;
use crate::sidecar::Sidecar;
use crate::workers::Workers;

/// One listener with its part on each worker.
pub(super) struct Accepting<Part> {
    pub(super) listener: StdListener,
    /// Where accepting ends.
    pub(super) until: Phase,
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
        sidecar.tasks.spawn_on(&first, async move {
            if let Err(error) = self.run(&sidecar_of, serve).await {
                tracing::error!(%error, "a listener cannot be used");
            }
        });
        Ok(())
    }

    async fn run<F, Carrying>(self, sidecar: &Arc<Sidecar>, serve: F) -> std::io::Result<()>
    where
        F: Fn(Arc<Part>, TcpStream, SocketAddr) -> Carrying + Copy + Send + 'static,
        Carrying: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::from_std(self.listener)?;
        let mut until = std::pin::pin!(sidecar.tasks.reached(self.until));
        loop {
            let (stream, from) = tokio::select! {
                // Nothing is lost: a connection is either accepted or still in the kernel's queue.
                accepted = listen::accept(&listener, &sidecar.telemetry.metrics) => accepted,
                () = &mut until => return Ok(()),
            };
            let least = self.workers.all().iter().zip(&self.parts).min_by_key(|(worker, _)| worker.load());
            let Some((worker, part)) = least else { continue };
            let (placed, part) = (worker.place(), Arc::clone(part));
            if worker.index == 0 {
                sidecar.tasks.spawn_on(&worker.handle, async move {
                    serve(part, stream, from).await;
                    drop(placed);
                });
                continue;
            }
            let stream = match stream.into_std() {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::debug!(%error, "a connection could not be handed over");
                    continue;
                }
            };
            sidecar.tasks.spawn_on(&worker.handle, async move {
                match TcpStream::from_std(stream) {
                    Ok(stream) => serve(part, stream, from).await,
                    Err(error) => tracing::debug!(%error, "a connection could not be handed over"),
                }
                drop(placed);
            });
        }
    }
}
