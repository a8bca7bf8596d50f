//! Answers as they come and as they should not come, byte by byte.

use std::pin::Pin;
use std::task::{Context, Poll};

use proptest::prelude::*;
use tokio::io::ReadBuf;

use super::*;
use crate::client::response::Model;

/// What the client makes of these bytes as the answer to request 1, with the connection closed after them.
fn ask(answer: &[u8]) -> Result<(Vec<u8>, bool), Failure> {
    ask_in_pieces(answer, answer.len().max(1))
}

/// The same when they arrive so many at a time.
fn ask_in_pieces(answer: &[u8], most: usize) -> Result<(Vec<u8>, bool), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let near = Trickle { inner: near, most };
        far.write_all(answer).await.unwrap();
        let request =
            Request { method: http::Method::GET, path: "/".to_owned(), authority: "a".to_owned(), body: Bytes::new() };
        let mut client = Http1::new(near, &request);
        let mut sink = Sink::of(None);
        // The request fits in the pipe; only its other direction is closed.
        let (read, mut write) = tokio::io::split(far);
        write.shutdown().await.unwrap();
        let outcome = client.exchange(1, &mut sink).await;
        drop(read);
        outcome.map(|_| (sink.learned(), client.is_open()))
    })
}

/// Reads give no more than so many bytes.
struct Trickle {
    inner: tokio::io::DuplexStream,
    most: usize,
}

impl AsyncRead for Trickle {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let mut piece = vec![0; self.most.min(buffer.remaining())];
        let mut few = ReadBuf::new(&mut piece);
        let ready = Pin::new(&mut self.inner).poll_read(context, &mut few);
        buffer.put_slice(few.filled());
        ready
    }
}

impl AsyncWrite for Trickle {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

/// Pieces of answers, good and bad, in any order.
fn answers() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec![
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.0 200\r\n",
        "content-length: 3\r\n",
        "content-length: 18446744073709551615\r\n",
        "transfer-encoding: chunked\r\n",
        "connection: close\r\n",
        "\r\n",
        "3\r\nabc\r\n",
        "ffffffffffffffff\r\n",
        "0\r\n\r\n",
        "abc",
        "\n",
        "\0",
        "x-portcullis-bench: 0000000000000001\r\n",
    ]);
    let piece = prop_oneof![
        8 => words.prop_map(|word| word.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ];
    prop::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn whatever_comes_is_judged_the_same_however_it_is_cut(answer in answers(), most in 1_usize..20) {
        let (whole, cut) = (ask(&answer), ask_in_pieces(&answer, most));
        match (&whole, &cut) {
            (Ok(whole), Ok(cut)) => prop_assert_eq!(whole, cut),
            // What comes after an answer is seen only if it comes with it, and told by the next exchange otherwise.
            (Err(failure), Ok(_)) => prop_assert!(failure.text.starts_with("bytes after the answer"), "{:?}", failure),
            // How far a broken answer was read decides which of its mistakes is met first.
            (Err(_), Err(_)) => {}
            (Ok(_), Err(failure)) => prop_assert!(false, "{:?}", failure),
        }
    }
}

#[test]
fn bodies_end_where_their_framing_says() {
    for (answer, body, stays_open) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", "ok", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "", false),
        ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", "ok", false),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n3;x=y\r\nabc\r\n0\r\na: b\r\n\r\n",
            "okabc",
            true,
        ),
        ("HTTP/1.1 200 OK\r\n\r\nto the end", "to the end", false),
        ("HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx", "x", true),
    ] {
        assert_eq!(ask(answer.as_bytes()), Ok((body.as_bytes().to_vec(), stays_open)), "{answer}");
    }
}

#[test]
fn broken_answers_have_a_kind() {
    let endless_head = [b"HTTP/1.1 200 OK\r\na: ".to_vec(), vec![b'x'; 200_000]].concat();
    let endless_chunk =
        [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;".to_vec(), vec![b'x'; 200_000]].concat();
    for (answer, kind) in [
        (&b""[..], "closed"),
        (b"HTTP/1.1 200", "closed"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok", "closed"),
        (b"SSH-2.0-OpenSSH\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nok", "protocol"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nxyz\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nxy", "protocol"),
        (b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", "status_403"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "status_101"),
        (b"HTTP/1.1 200 OK\r\nx-portcullis-bench: 0000000000000002\r\ncontent-length: 0\r\n\r\n", "body_differs"),
        (&endless_head, "protocol"),
        (&endless_chunk, "protocol"),
    ] {
        let found = ask(answer).unwrap_err();
        assert_eq!(found.kind, kind, "{} {found:?}", shown(answer));
    }
}

#[test]
fn a_number_that_got_lost_is_a_failure() {
    let model = Model { body: Vec::new(), is_numbered: true };
    assert!(Sink::of(Some(&model)).head(1, None).is_err());
}
