//! One MiB of opaque TCP through the sidecar's own copying, between ends in memory.
//!
//! No system calls: those are what `portcullis-bench stream` is for. What the copying itself costs is all that is here,
//! and what TLS adds to it.

use std::time::Duration;

use portcullis::connections::Signal;
use portcullis::tcp::{self, Carried, Ended};
use rustls::NamedGroup;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex, empty, join, sink};
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::handshake::Parties;
use super::{Failure, Work, counted};

/// What one run carries.
pub const BYTES: u64 = 1 << 20;

/// Plaintext in, plaintext out.
pub fn plain() -> Result<Work, Failure> {
    let runtime = runtime()?;
    let (mut client, mut downstream) = duplex(ROOM);
    Ok(Work::part(move || carry(&runtime, &mut client, &mut downstream)))
}

/// From a mesh peer to the application: TLS in, plaintext out.
pub fn from_tls() -> Result<Work, Failure> {
    let runtime = runtime()?;
    let (mut client, mut downstream) = runtime.block_on(shake_hands())?;
    Ok(Work::part(move || carry(&runtime, &mut client, &mut downstream)))
}

/// Carries what the client has written beforehand; the other direction stays silent.
fn carry<Client, Downstream>(
    runtime: &Runtime,
    client: &mut Client,
    downstream: &mut Downstream,
) -> Result<((), Duration), Failure>
where
    Client: AsyncWrite + Unpin,
    Downstream: AsyncRead + Unpin,
{
    runtime.block_on(async {
        client.write_all(&vec![b'x'; BYTES as usize]).await?;
        client.flush().await
    })?;
    let signal = Signal::default();
    let downstream = join(downstream.take(BYTES), sink());
    let carrying = tcp::carry(downstream, join(empty(), sink()), Duration::ZERO, &signal);
    let ((carried, ended), took) = counted(|| runtime.block_on(carrying));
    match (carried, ended) {
        (Carried { up: BYTES, down: 0 }, Ended::Closed) => Ok(((), took)),
        _ => Err(Failure::Wrong("not all bytes were carried")),
    }
}

async fn shake_hands() -> Result<(client::TlsStream<DuplexStream>, server::TlsStream<DuplexStream>), Failure> {
    let parties = Parties::new(NamedGroup::X25519)?;
    let (near, far) = duplex(ROOM);
    let nobody = ServerName::try_from("portcullis.invalid").map_err(|_| Failure::Wrong("the name is no name"))?;
    let connecting = TlsConnector::from(parties.client_terms()?.config).connect(nobody, near);
    let accepting = TlsAcceptor::from(parties.server_terms()?.config).accept(far);
    Ok(tokio::try_join!(connecting, accepting)?)
}

fn runtime() -> Result<Runtime, Failure> {
    Ok(Builder::new_current_thread().build()?)
}

/// All that one run carries, and what TLS adds to it.
const ROOM: usize = 2 << 20;
