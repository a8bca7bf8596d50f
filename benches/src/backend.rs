//! The application behind the target: HTTP and opaque bytes, on threads of its own, each with its own listeners.
//!
//! It is part of a benchmark and not a server for the world, yet what comes in is bounded all the same.

pub mod http1;
pub mod http2;
pub mod opaque;

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};

use crate::client::opaque::PATTERN;

/// Sockets that listen, a pair for each thread.
#[derive(Debug)]
pub struct Listeners {
    /// Where HTTP is served.
    pub http: SocketAddr,
    /// Where opaque bytes are served.
    pub stream: SocketAddr,
    pairs: Vec<(std::net::TcpListener, std::net::TcpListener)>,
}

/// The threads that serve. They end when this is dropped.
#[derive(Debug)]
pub struct Threads {
    stop: watch::Sender<bool>,
    handles: Vec<std::thread::JoinHandle<()>>,
}

impl Listeners {
    /// Listens on these addresses, once for each thread, between which the kernel shares out the connections.
    ///
    /// # Errors
    /// When an address is in use.
    pub fn bind(http: SocketAddr, stream: SocketAddr, threads: u16) -> io::Result<Self> {
        let (first_http, first_stream) = (listen(http)?, listen(stream)?);
        let (http, stream) = (first_http.local_addr()?, first_stream.local_addr()?);
        let mut pairs = vec![(first_http, first_stream)];
        for _ in 1..threads {
            pairs.push((listen(http)?, listen(stream)?));
        }
        Ok(Self { http, stream, pairs })
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        for handle in self.handles.drain(..) {
            // A thread that panicked has said so on standard error.
            let _ = handle.join();
        }
    }
}

/// Starts the threads.
///
/// # Errors
/// When a thread cannot be made.
pub fn serve(listeners: Listeners) -> io::Result<Threads> {
    let (stop, stopped) = watch::channel(false);
    let mut threads = Threads { stop, handles: Vec::new() };
    for (http, stream) in listeners.pairs {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut stopped = stopped.clone();
        let handle = std::thread::Builder::new().name("backend".to_owned()).spawn(move || {
            LocalSet::new().block_on(&runtime, async {
                tokio::select! {
                    // Everything under way ends with the process that asked for it.
                    _ = stopped.wait_for(|stop| *stop) => {}
                    () = accept(http, http1::serve) => {}
                    () = accept(stream, opaque::serve) => {}
                }
            });
        })?;
        threads.handles.push(handle);
    }
    Ok(threads)
}

/// Serves connections until a listener fails for good.
async fn accept<F: Future<Output = ()> + 'static>(listener: std::net::TcpListener, serve: impl Fn(TcpStream) -> F) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            // Accepting may be dropped half-way; the connection then waits in the queue.
            accepted = listener.accept() => match accepted {
                Ok((connection, _)) => {
                    let _ = connection.set_nodelay(true);
                    under_way.spawn_local(serve(connection));
                }
                // No descriptors, or the peer went away: the next one may do better.
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            },
            Some(_) = under_way.join_next() => {}
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// The pages of a connection: the one that was asked for last is kept, since most ask for the same again.
#[derive(Debug, Default)]
struct Pages {
    last: Option<(String, Bytes)>,
}

impl Pages {
    /// The page at a path: `/bytes/N` has N bytes, every other one two.
    fn at(&mut self, path: &str) -> Bytes {
        if let Some((_, page)) = self.last.as_ref().filter(|(last, _)| last == path) {
            return page.clone();
        }
        let asked = path.strip_prefix("/bytes/").and_then(|number| number.parse::<usize>().ok());
        let page = match asked.filter(|length| *length <= LONGEST_PAGE) {
            Some(length) => PATTERN.iter().copied().cycle().take(length).collect(),
            None => Bytes::from_static(b"ok"),
        };
        self.last = Some((path.to_owned(), page.clone()));
        page
    }
}

const LONGEST_PAGE: usize = 64 << 20;
