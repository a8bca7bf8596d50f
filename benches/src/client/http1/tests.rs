//! Answers as they come and as they should not come, byte by byte.

use super::*;
use crate::client::response::Model;

/// What the client makes of these bytes as the answer to request 1, with the connection closed after them.
fn ask(answer: &[u8]) -> Result<(Vec<u8>, bool), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (near, mut far) = tokio::io::duplex(1 << 20);
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
