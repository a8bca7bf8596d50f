//! The threads of the data path: each a current-thread runtime with connections and upstream pools of its own.
//!
//! One acceptor hands each connection to the worker that has the fewest. The reasons and the figures against the
//! alternatives (SO_REUSEPORT listeners, one multi-thread runtime) stand in ARCHITECTURE.md. Admin, watchers and telemetry
//! run elsewhere, see `app.rs`.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};

use crate::drain::Tasks;

/// One thread of the data path.
#[derive(Debug)]
pub struct Worker {
    /// Its place among the workers.
    pub index: usize,
    /// Spawns on it.
    pub handle: Handle,
    connections: Arc<AtomicUsize>,
}

/// All threads of the data path.
#[derive(Debug)]
pub struct Workers {
    workers: Vec<Worker>,
    threads: Vec<JoinHandle<()>>,
}

/// Counts a connection on its worker for as long as it lives.
#[derive(Debug)]
pub struct Placed {
    connections: Arc<AtomicUsize>,
}

impl Workers {
    /// Starts `count` threads, which end with the process.
    ///
    /// # Errors
    /// When the system gives no thread or no event queue.
    pub fn start(count: NonZeroUsize, tasks: &Tasks) -> io::Result<Self> {
        let (mut workers, mut threads) = (Vec::new(), Vec::new());
        for index in 0..count.get() {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let handle = runtime.handle().clone();
            let tasks = tasks.clone();
            let run = move || runtime.block_on(tasks.ended(LAST_WORDS));
            threads.push(std::thread::Builder::new().name(format!("worker-{index}")).spawn(run)?);
            workers.push(Worker { index, handle, connections: Arc::default() });
        }
        Ok(Self { workers, threads })
    }

    /// The workers.
    pub fn all(&self) -> &[Worker] {
        &self.workers
    }

    /// Waits for the threads to end.
    pub fn join(self) {
        for thread in self.threads {
            // A panic has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

impl Worker {
    /// Counts one connection on it.
    pub fn place(&self) -> Placed {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Placed { connections: Arc::clone(&self.connections) }
    }

    /// Connections on it.
    pub fn load(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What connections that were cut get to write their records.
const LAST_WORDS: Duration = Duration::from_secs(1);
