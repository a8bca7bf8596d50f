//! Answers that come before the end of an upload: whoever sends on and reads afterwards gets them whole, the connection
//! ends, and nobody is waited for longer than for a while (RFC 9112 section 9.6, RFC 9113 section 8.1).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use portcullis::app::Stop;
use portcullis::http::upgrade::accept_of;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::backend::{Backend, Raw, nobody};
use crate::client::{Ask, Hello, Http, plain, secured};
use crate::eventually::{eventually, soon};
use crate::frames::*;
use crate::pki::{API, CALLER, OTHER, Pki};
use crate::sidecar::{Plan, Sidecar};
use crate::tcp::CALLER_ONLY;
use crate::websocket::UPGRADE;
use crate::wire::{Answer, Wire};

/// More than the buffers of both kernels take in before the answer leaves.
const UPLOAD: usize = 3_000_000;
/// How often each caller tries: a reset that overtakes an answer does so now and then.
const TRIES: usize = 50;

const WITH_A_LENGTH: &str = "PUT /early HTTP/1.1\r\nhost: a\r\ncontent-length: 3000000\r\n\r\n";
const IN_CHUNKS: &str = "PUT /early HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
/// A body of one chunk, which looks like the whole upload.
const CHUNK: &str = "2dc6c0\r\n";

/// The setting that keeps responses free of what only a table of earlier ones explains (RFC 7541 section 4.2).
const NO_TABLE: [u8; 6] = [0, 1, 0, 0, 0, 0];

/// A sidecar that denies what `OTHER` asks.
async fn denying(pki: &Pki, timeouts: &str) -> (Sidecar, Backend) {
    let backend = Backend::start().await;
    let plan = Plan::new(pki, API).policy(CALLER_ONLY).inbound("http", backend.address).timeouts(timeouts);
    (plan.ready().await, backend)
}

/// A sidecar whose destination is not there.
async fn unreachable(pki: &Pki, timeouts: &str) -> Sidecar {
    Plan::new(pki, CALLER).outbound("http", nobody().await, &[API]).timeouts(timeouts).ready().await
}

/// Writes all of it before it reads a byte.
async fn upload<Io: AsyncRead + AsyncWrite + Unpin>(mut wire: Wire<Io>, head: &str) -> Result<Answer, String> {
    let uploading = async {
        let first = if head == IN_CHUNKS { format!("{head}{CHUNK}") } else { head.to_owned() };
        wire.io.write_all(first.as_bytes()).await.map_err(|error| format!("the head: {error}"))?;
        let mut left = UPLOAD;
        while left > 0 {
            let count = left.min(50_000);
            let wrote = wire.io.write_all(&[b'x'; 50_000][..count]).await;
            wrote.map_err(|error| format!("{left} bytes before the end of the body: {error}"))?;
            left -= count;
        }
        if head == IN_CHUNKS {
            wire.io.write_all(b"\r\n0\r\n\r\n").await.map_err(|error| format!("the last chunk: {error}"))?;
        }
        wire.io.flush().await.map_err(|error| format!("the end: {error}"))?;
        let answer = wire.try_answer(true).await.map_err(|error| format!("the answer: {error}"))?;
        let mut more = Vec::new();
        wire.io.read_to_end(&mut more).await.map_err(|error| format!("behind the answer: {error}"))?;
        if more.is_empty() { Ok(answer) } else { Err(format!("{} bytes behind the answer", more.len())) }
    };
    soon("an upload and its answer", uploading).await
}

/// Shows that each of [`TRIES`] uploads gets `status` and the end of its connection.
async fn check<Io, Connecting>(status: u16, connect: impl Fn() -> Connecting)
where
    Io: AsyncRead + AsyncWrite + Unpin,
    Connecting: Future<Output = Wire<Io>>,
{
    for head in [WITH_A_LENGTH, IN_CHUNKS] {
        for number in 1..=TRIES / 2 {
            let answer = upload(connect().await, head).await;
            assert_eq!(answer.map(|answer| answer.status), Ok(status), "upload {number}: {head}");
        }
    }
}

#[tokio::test]
async fn a_denied_uploader_over_mtls_gets_its_403() {
    let pki = Pki::new();
    let (sidecar, backend) = denying(&pki, "lameDuck: 0, drain: 1s").await;
    let leaf = pki.leaf(OTHER);
    check(403, || secured(sidecar.inbound(), &leaf)).await;
    assert_eq!(backend.connections(), 0);
    all_have_left(&sidecar).await;
}

#[tokio::test]
async fn an_uploader_in_plaintext_gets_the_503_of_an_upstream_that_is_not_there() {
    let pki = Pki::new();
    let sidecar = unreachable(&pki, "lameDuck: 0, drain: 1s").await;
    check(503, || plain(sidecar.outbound())).await;
    all_have_left(&sidecar).await;
}

#[tokio::test]
async fn an_uploader_gets_the_early_413_of_an_application_of_http2() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let far = Plan::new(&pki, API).inbound("http2", backend.address).ready().await;
    let leaf = pki.leaf(CALLER);
    check(413, || secured(far.inbound(), &leaf)).await;
    all_have_left(&far).await;
    let near = Plan::new(&pki, CALLER).outbound("http", far.inbound(), &[API]).ready().await;
    check(413, || plain(near.outbound())).await;
}

#[tokio::test]
async fn a_caller_whose_head_is_refused_by_the_library_gets_the_431() {
    let pki = Pki::new();
    let sidecar = unreachable(&pki, "lameDuck: 0, drain: 1s").await;
    let head = format!("GET / HTTP/1.1\r\nhost: a\r\nx-much: {}", "x".repeat(UPLOAD));
    for number in 1..=TRIES {
        let mut wire = plain(sidecar.outbound()).await;
        let answer = async {
            for piece in head.as_bytes().chunks(50_000) {
                wire.io.write_all(piece).await?;
            }
            wire.try_answer(true).await
        };
        let answer = soon("an answer", answer).await;
        assert_eq!(answer.map(|answer| answer.status).map_err(|error| error.to_string()), Ok(431), "head {number}");
    }
}

#[tokio::test]
async fn a_small_body_that_is_there_already_does_not_cost_the_connection() {
    let pki = Pki::new();
    let (sidecar, _) = denying(&pki, "lameDuck: 0, drain: 1s").await;
    let mut wire = secured(sidecar.inbound(), &pki.leaf(OTHER)).await;
    for _ in 0..3 {
        let answer = wire.ask("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello").await;
        assert_eq!((answer.status, answer.header("connection")), (403, None));
    }
}

/// A refusal whose body was read after all leaves nothing behind: the goodbye to an idle connection waits for nobody.
#[tokio::test]
async fn a_connection_that_ends_idle_does_not_wait_for_its_peer() {
    let pki = Pki::new();
    let (sidecar, _) = denying(&pki, "maxAge: 300ms, lameDuck: 0, drain: 1s").await;
    for leaf in [pki.leaf(OTHER), pki.leaf(CALLER)] {
        let mut wire = secured(sidecar.inbound(), &leaf).await;
        wire.ask("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello").await;
        assert_eq!(wire.rest().await, b"");
        does_not_linger(&sidecar).await;
        // Open until here.
        drop(wire);
    }
}

#[tokio::test]
async fn a_connection_that_ends_after_a_complete_exchange_does_not_wait_for_its_peer() {
    let pki = Pki::new();
    let (sidecar, _) = denying(&pki, "lameDuck: 0, drain: 1s").await;
    for fields in ["HTTP/1.1\r\nconnection: close", "HTTP/1.0"] {
        let mut wire = secured(sidecar.inbound(), &pki.leaf(CALLER)).await;
        let answer = wire.ask(&format!("PUT / {fields}\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello")).await;
        assert_eq!((answer.status, wire.rest().await.len()), (200, 0));
        does_not_linger(&sidecar).await;
        drop(wire);
    }
}

#[tokio::test]
async fn an_uploader_that_never_stops_is_cut() {
    let pki = Pki::new();
    let sidecar = unreachable(&pki, "lameDuck: 0, drain: 1s").await;
    let mut wire = plain(sidecar.outbound()).await;
    wire.write(WITH_A_LENGTH.replace("3000000", "1000000000000")).await;
    let uploading = async {
        let mut written = 0_u64;
        while wire.io.write_all(&[b'x'; 64 << 10]).await.is_ok() {
            written += 64 << 10;
        }
        written
    };
    let written = soon("the end of an endless upload", uploading).await;
    // What is read, and what the kernels hold.
    assert!((32 << 20..64 << 20).contains(&written), "{written}");
    all_have_left(&sidecar).await;
}

#[tokio::test]
async fn a_drain_does_not_wait_for_a_peer_that_sends_on() {
    let pki = Pki::new();
    let sidecar = unreachable(&pki, "lameDuck: 0, drain: 300ms").await;
    let stream = sends_on(sidecar.outbound()).await;
    sidecar.stop(Stop::Gracefully);
    sidecar.ended(Duration::from_secs(15)).await;
    stream.abort();
}

#[tokio::test]
async fn whoever_is_waited_for_counts_as_a_connection() {
    let pki = Pki::new();
    let plan = Plan::new(&pki, CALLER).outbound("http", nobody().await, &[API]).limits("connections: 1");
    let sidecar = plan.ready().await;
    let stream = sends_on(sidecar.outbound()).await;
    let mut late = plain(sidecar.outbound()).await;
    assert_eq!(late.rest().await, b"");
    stream.abort();
    eventually("there is room again", async || {
        let mut wire = plain(sidecar.outbound()).await;
        let _ = wire.io.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        wire.try_answer(true).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
}

#[tokio::test]
async fn a_tunnel_goes_on_when_the_application_closes_its_half() {
    let pki = Pki::new();
    let (heard, mut hearing) = tokio::sync::mpsc::channel(1);
    let application = Raw::start(move |mut stream| {
        let heard = heard.clone();
        async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
            let accept = accept_of(&key.parse().unwrap());
            let agreed = format!(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {}\r\n\r\nbye",
                accept.to_str().unwrap()
            );
            stream.write_all(agreed.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            heard.send(rest).await.unwrap();
        }
    })
    .await;
    let far = Plan::new(&pki, API).inbound("http", application.address).ready().await;
    let near = Plan::new(&pki, CALLER).outbound("http", far.inbound(), &[API]).ready().await;
    says_more(secured(far.inbound(), &pki.leaf(CALLER)).await).await;
    assert_eq!(soon("the caller's bytes", hearing.recv()).await.unwrap(), b"one two three", "to the far sidecar");
    says_more(plain(near.outbound()).await).await;
    assert_eq!(soon("the caller's bytes", hearing.recv()).await.unwrap(), b"one two three", "through both");
}

/// Opens a tunnel, hears its other side close, and goes on talking.
async fn says_more<Io: AsyncRead + AsyncWrite + Unpin>(mut wire: Wire<Io>) {
    // With bytes behind the head, which the library has read before there is a tunnel.
    wire.write(format!("{UPGRADE}one")).await;
    assert_eq!(wire.answer(true).await.status, 101);
    assert_eq!(wire.rest().await, b"bye");
    for word in [" two", " three"] {
        wire.write(word).await;
    }
    wire.io.shutdown().await.unwrap();
}

#[tokio::test]
async fn refused_uploads_over_http2_do_not_use_up_the_connection() {
    let pki = Pki::new();
    let (sidecar, backend) = denying(&pki, "lameDuck: 0, drain: 1s").await;
    let mut http = Http::two(sidecar.inbound(), &pki.leaf(OTHER)).await;
    for number in 1..=100 {
        let ask = Ask::new("PUT", "/early").text(vec![b'x'; 1_000_000]);
        assert_eq!(http.send(ask).await.status, 403, "upload {number}");
    }
    assert_eq!(backend.connections(), 0);

    let far = Plan::new(&pki, API).inbound("http2", backend.address).ready().await;
    let mut http = Http::two(far.inbound(), &pki.leaf(CALLER)).await;
    for number in 1..=100 {
        let ask = Ask::new("PUT", "/early").text(vec![b'x'; 1_000_000]);
        assert_eq!(http.send(ask).await.status, 413, "upload {number}");
    }
    assert_eq!(http.get("/").await.status, 200);
}

#[tokio::test]
async fn many_uploads_at_once_that_are_refused_over_http2_do_not_end_the_connection() {
    let pki = Pki::new();
    let (sidecar, _) = denying(&pki, "lameDuck: 0, drain: 1s").await;
    let http = Http::two(sidecar.inbound(), &pki.leaf(OTHER)).await;
    for round in 1..=20 {
        let uploads = (0..100).map(|_| {
            let mut http = http.beside();
            async move { http.try_send(Ask::new("PUT", "/").text(vec![b'x'; 1_000_000])).await }
        });
        for answer in futures_util::future::join_all(uploads).await {
            let answer = answer.map_err(|error| portcullis::error_chain(&error));
            assert_eq!(answer.map(|answer| answer.status), Ok(403), "round {round}");
        }
    }
}

/// Such a caller has filled the window of each stream before it hears that its upload is not wanted.
#[tokio::test]
async fn data_behind_a_refusal_over_http2_gives_the_connections_window_back() {
    let pki = Pki::new();
    let (sidecar, _) = denying(&pki, "lameDuck: 0, drain: 1s").await;
    let stream = Hello::new(&pki.leaf(OTHER), &["h2"]).shake(sidecar.inbound()).await.unwrap();
    let mut frames = Frames::over(stream);
    frames.write.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &NO_TABLE)].concat()).await.unwrap();
    let data = [0; 16 << 10];
    let mut window = 65_535_i64;
    for stream in (1..200).step_by(2) {
        frames.write.write_all(&frame(HEADERS, END_HEADERS, stream, POST)).await.unwrap();
        // Answered and stopped, and written on to regardless.
        let (mut status_of, mut stopped) = (None, false);
        while status_of.is_none() || !stopped {
            let arrived = soon("an answer and a stop", frames.next()).await.unwrap();
            match (arrived.kind, arrived.stream) {
                (HEADERS, of) if of == stream => status_of = Some(status_without_table(&arrived)),
                (RST_STREAM, of) if of == stream => stopped = true,
                _ => window += credit(&arrived),
            }
        }
        assert_eq!(status_of, Some(403), "stream {stream}");
        for _ in 0..15 {
            while window < data.len() as i64 {
                let arrived = soon("room on the connection", frames.next()).await.unwrap();
                window += credit(&arrived);
            }
            frames.write.write_all(&frame(DATA, 0, stream, &data)).await.unwrap();
            window -= data.len() as i64;
        }
    }
    frames.write.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 201, GET)).await.unwrap();
    loop {
        let arrived = soon("the last answer", frames.next()).await.unwrap();
        assert_ne!(arrived.kind, GOAWAY, "{}", String::from_utf8_lossy(&arrived.payload));
        if (arrived.kind, arrived.stream) == (HEADERS, 201) {
            break assert_eq!(status_without_table(&arrived), 403);
        }
    }
}

/// The status, behind the word that the table is empty.
fn status_without_table(arrived: &Arrived) -> u16 {
    status(arrived.payload.strip_prefix(&[0x20]).unwrap_or(&arrived.payload))
}

/// What a frame gives back of the connection's window.
fn credit(arrived: &Arrived) -> i64 {
    assert_ne!(arrived.kind, GOAWAY, "{}", String::from_utf8_lossy(&arrived.payload));
    match (arrived.kind, arrived.stream) {
        (WINDOW_UPDATE, 0) => i64::from(u32::from_be_bytes(arrived.payload[..4].try_into().unwrap())),
        _ => 0,
    }
}

/// An uploader that has its answer and sends on, slowly, until it is aborted.
async fn sends_on(address: SocketAddr) -> tokio::task::JoinHandle<()> {
    let mut wire = plain(address).await;
    wire.write(WITH_A_LENGTH).await;
    assert_eq!(wire.answer(true).await.status, 503);
    assert_eq!(wire.rest().await, b"", "our half is closed at once");
    tokio::spawn(async move {
        while wire.io.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
}

async fn all_have_left(sidecar: &Sidecar) {
    eventually("every connection is closed", async || {
        let open = sidecar.admin("/connections").await;
        if open["open"] == 0 { Ok(()) } else { Err(open) }
    })
    .await;
}

/// Shows that a connection of which the peer has not closed its half is over.
async fn does_not_linger(sidecar: &Sidecar) {
    let since = Instant::now();
    all_have_left(sidecar).await;
    assert!(since.elapsed() < Duration::from_secs(4), "waited {:?}", since.elapsed());
}
