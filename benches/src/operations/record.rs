//! One full TLS record each way, on a connection that is already there.

use std::io::{Read, Write};

use rustls::NamedGroup;

use super::handshake::{Parties, Side, receive, send};
use super::{Failure, Work, counted};

/// Payload of a full record (RFC 8446 section 5.1).
pub const BYTES: u64 = 16 << 10;

/// From plaintext to the record on the wire.
pub fn encrypt() -> Result<Work, Failure> {
    let (mut connected, _) = Parties::new(NamedGroup::X25519)?.shake_hands(Side::Both)?;
    let plain = [b'x'; BYTES as usize];
    let mut wire = Vec::new();
    Ok(Work::whole(move || {
        wire.clear();
        connected.client.writer().write_all(&plain)?;
        send(&mut connected.client, &mut wire)?;
        if wire.len() > plain.len() { Ok(()) } else { Err(Failure::Wrong("the record is too short")) }
    }))
}

/// From the record on the wire to plaintext.
pub fn decrypt() -> Result<Work, Failure> {
    let (mut connected, _) = Parties::new(NamedGroup::X25519)?.shake_hands(Side::Both)?;
    let plain = [b'x'; BYTES as usize];
    let mut wire = Vec::new();
    let mut read = vec![0; plain.len()];
    Ok(Work::part(move || {
        connected.client.writer().write_all(&plain)?;
        send(&mut connected.client, &mut wire)?;
        let (received, took) = counted(|| {
            receive(&mut connected.server, &mut wire)?;
            Ok::<_, Failure>(connected.server.reader().read_exact(&mut read)?)
        });
        received?;
        if read == plain { Ok(((), took)) } else { Err(Failure::Wrong("the record holds something else")) }
    }))
}
