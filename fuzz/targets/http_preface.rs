//! The first bytes of a connection: the protocol is told, and no byte is lost, however they are cut.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use portcullis::http::preface::look;
use portcullis::tls::handshake::Negotiated;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::runtime::{Builder, Runtime};

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().build().expect("a runtime without drivers"));

fuzz_target!(|bytes: &[u8]| {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let piece = usize::from(*first).max(1);
    RUNTIME.block_on(async {
        let (mut client, server) = duplex(piece);
        let writing = async {
            client.write_all(bytes).await.expect("the reader reads to the end");
            drop(client);
        };
        let reading = async {
            let (protocol, mut looked) = look(server).await.expect("a stream that does not fail");
            let mut seen = Vec::new();
            looked.read_to_end(&mut seen).await.expect("a stream that does not fail");
            (protocol, seen)
        };
        let ((), (protocol, seen)) = tokio::join!(writing, reading);
        assert_eq!(seen, bytes);
        assert_eq!(protocol == Negotiated::Http2, bytes.starts_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    });
});
