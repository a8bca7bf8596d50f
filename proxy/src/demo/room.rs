//! A thread with an event queue of its own, so that the services and their callers share none with what they show.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Handle};

use super::error::DemoError;
use crate::drain::{Drain, Phase, Tasks};

/// See the module. Its tasks end when it is dropped.
pub(super) struct Room {
    name: &'static str,
    handle: Handle,
    drain: Drain,
    thread: Option<JoinHandle<()>>,
}

impl Room {
    pub(super) fn open(name: &'static str) -> Result<Self, DemoError> {
        let failed = |source| DemoError::Thread { name, source };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (handle, drain) = (runtime.handle().clone(), Drain::new());
        let tasks = drain.tasks();
        let run = move || {
            runtime.block_on(tasks.reached(Phase::Ended));
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(failed)?;
        Ok(Self { name, handle, drain, thread: Some(thread) })
    }

    pub(super) fn tasks(&self) -> Tasks {
        self.drain.tasks()
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.drain.tasks().spawn_on(&self.handle, task);
    }

    /// Listens on a free port of loopback and serves every connection in a task of its own.
    pub(super) fn listen<F>(&self, serve: impl Fn(TcpStream) -> F + Send + 'static) -> Result<SocketAddr, DemoError>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let bind = || {
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            let _inside = self.handle.enter();
            Ok((TcpListener::from_std(listener)?, address))
        };
        let (listener, address) = bind().map_err(|source| DemoError::Thread { name: self.name, source })?;
        let tasks = self.drain.tasks();
        self.spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => tasks.spawn(serve(stream)),
                    // The caller has gone again, or no file descriptor is left: the latter must not spin.
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        });
        Ok(address)
    }

    /// Tells the tasks that they should end; true if all did so in time.
    pub(super) async fn finish(&self, limit: Duration) -> bool {
        self.drain.advance(Phase::Draining);
        self.drain.finished(limit).await
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.drain.advance(Phase::Ended);
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}
