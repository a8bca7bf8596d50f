//! `backend`: the application behind the target. Its answers can be verified, and it costs as little as possible.

use std::io::Write;
use std::net::SocketAddr;

use clap::Args;

use super::error::CommandError;
use crate::backend::{self, Listeners};

/// An application to put behind a target: plain HTTP/1.1 and HTTP/2 on one port, and opaque bytes on another.
///
/// `GET /` answers 2 bytes, `GET /bytes/N` N bytes; a body is read and dropped. The number of a request is sent back with
/// its answer. Prints its addresses as one line of JSON and serves until its standard input ends.
#[derive(Debug, Args)]
pub struct BackendArgs {
    /// Where to serve HTTP; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    http: SocketAddr,
    /// Where to serve opaque bytes; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    stream: SocketAddr,
    /// Threads.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
}

/// Serves until standard input ends.
///
/// # Errors
/// When a port is taken.
pub fn run(args: &BackendArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let listeners = Listeners::bind(args.http, args.stream, args.threads).map_err(CommandError::io("listen"))?;
    let line = serde_json::json!({ "http": listeners.http.to_string(), "stream": listeners.stream.to_string() });
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(CommandError::io("say where it listens"))?;
    let threads = backend::serve(listeners).map_err(CommandError::io("serve"))?;
    // Whoever started it holds the other end, so that it never outlives them.
    let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
    drop(threads);
    Ok(())
}
