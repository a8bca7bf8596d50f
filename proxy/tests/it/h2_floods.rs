//! HTTP/2 frame by frame: floods are ended, whoever sends them, and what legitimate peers do goes on.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use http_body::Frame;
use http_body_util::BodyExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::backend::{Backend, Raw};
use crate::client::{HOST, Hello, Http, flowing};
use crate::eventually::soon;
use crate::frames::*;
use crate::grpc::{call, message};
use crate::pki::{API, CALLER, OTHER, Pki};
use crate::sidecar::{Plan, answered, closed};

/// A flood: what is sent once, and what is sent again and again with the number of the time.
struct Flood {
    name: &'static str,
    /// What is counted; `None` where the HTTP library bounds it.
    cause: Option<&'static str>,
    /// The error code of the goodbye; either, where what was sent may reach the library or fill an allowance first.
    codes: &'static [u32],
    first: Vec<u8>,
    again: fn(u32) -> Vec<u8>,
}

fn floods() -> Vec<Flood> {
    let settings = frame(SETTINGS, 0, 0, &[]);
    let opened = [settings.clone(), request(1, END_STREAM)].concat();
    let uploading = [settings.clone(), request(1, 0)].concat();
    let flood = |name, cause, codes, first: &[u8], again| Flood { name, cause, codes, first: first.to_vec(), again };
    let calm: &[u32] = &[ENHANCE_YOUR_CALM];
    let (wrong, too_large): (&[u32], &[u32]) = (&[PROTOCOL_ERROR], &[FRAME_SIZE_ERROR]);
    vec![
        flood("PRIORITY", Some("http2_priority_flood"), calm, &settings, |_| frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1])),
        flood("unknown types", Some("http2_unknown_frame_flood"), calm, &settings, |_| frame(0xbe, 0, 0, &[0; 100])),
        flood("SETTINGS", Some("http2_settings_flood"), calm, &settings, |_| {
            frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])
        }),
        flood("unknown settings", Some("http2_settings_entries"), calm, &settings, |_| {
            frame(SETTINGS, 0, 0, &[0xbe; 6 * 1_000])
        }),
        flood("PING", Some("http2_ping_flood"), calm, &settings, |_| frame(PING, 0, 0, &[7; 8])),
        flood("pongs", Some("http2_ping_flood"), calm, &settings, |_| frame(PING, ACK, 0, &[7; 8])),
        flood("GOAWAY", Some("http2_goaway_flood"), calm, &uploading, |_| frame(GOAWAY, 0, 0, &[0; 8])),
        flood("WINDOW_UPDATE", Some("http2_window_update_flood"), calm, &settings, |_| {
            frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])
        }),
        flood("WINDOW_UPDATE of a stream", Some("http2_window_update_flood"), calm, &opened, |_| {
            frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])
        }),
        flood("RST_STREAM of one stream", Some("http2_reset_flood"), calm, &opened, |_| {
            frame(RST_STREAM, 0, 1, &[8; 4])
        }),
        flood("empty DATA", Some("http2_empty_data_flood"), calm, &uploading, |_| frame(DATA, 0, 1, &[])),
        flood("another first frame", Some("http2_first_frame"), wrong, &[], |_| frame(PING, 0, 0, &[7; 8])),
        flood("acknowledged first", Some("http2_first_frame"), wrong, &[], |_| frame(SETTINGS, ACK, 0, &[])),
        // What follows is bounded by the HTTP library, and has to stay so.
        flood("rapid reset", None, calm, &settings, |n| {
            [request(2 * n + 1, END_STREAM), frame(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8])].concat()
        }),
        flood("made you reset", None, calm, &settings, |n| {
            [request(2 * n + 1, 0), frame(WINDOW_UPDATE, 0, 2 * n + 1, &[0x7f, 0xff, 0xff, 0xff])].concat()
        }),
        flood("more streams than allowed", None, calm, &settings, |n| request(2 * n + 1, 0)),
        flood("CONTINUATION", None, calm, &[settings.clone(), frame(HEADERS, 0, 1, GET)].concat(), |_| {
            frame(CONTINUATION, 0, 1, &[])
        }),
        flood("acknowledgements", None, &[PROTOCOL_ERROR, ENHANCE_YOUR_CALM], &settings, |_| {
            frame(SETTINGS, ACK, 0, &[])
        }),
        flood("padding", None, calm, &uploading, |_| frame(DATA, PADDED, 1, &[0])),
        flood("too large a frame", None, too_large, &settings, |_| frame(0xbe, 0, 0, &[0; 16_385])),
        flood("a push", None, wrong, &opened, |_| frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82])),
    ]
}

#[tokio::test]
async fn every_flood_is_ended_while_others_are_served() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let sidecar = Plan::new(&pki, API).inbound("http2", backend.address).ready().await;
    let leaf = pki.leaf(CALLER);
    let mut good = Http::two(sidecar.inbound(), &pki.leaf(OTHER)).await;
    let is_over = AtomicBool::new(false);
    let flooding = async {
        for flood in floods() {
            let before = flood.cause.map_or(0, |cause| sidecar.count(&closed("inbound", cause)));
            let stream = Hello::new(&leaf, &["h2"]).shake(sidecar.inbound()).await.unwrap();
            let code = soon(flood.name, flood_with(stream, &flood)).await;
            assert!(code.is_some_and(|code| flood.codes.contains(&code)), "{}: {code:?}", flood.name);
            if let Some(cause) = flood.cause {
                sidecar.eventually_counts(&closed("inbound", cause), before + 1).await;
            }
        }
        is_over.store(true, Ordering::Relaxed);
    };
    let serving = async {
        let mut served = 0;
        while !is_over.load(Ordering::Relaxed) {
            assert_eq!(good.get("/").await.status, 200);
            served += 1;
        }
        served
    };
    let ((), served) = tokio::join!(flooding, serving);
    assert!(served > 0, "somebody else was served meanwhile");
}

/// CVE-2023-44487 at a pace at which each request is taken up before it is given up, which the HTTP library does not bound.
#[tokio::test]
async fn requests_that_are_made_to_be_given_up_are_bounded() {
    const AT_ONCE: u32 = 10;
    let pki = Pki::new();
    let backend = Backend::start().await;
    let sidecar = Plan::new(&pki, API).inbound("http", backend.address).ready().await;
    let stream = Hello::new(&pki.leaf(CALLER), &["h2"]).shake(sidecar.inbound()).await.unwrap();
    let mut peer = Frames::over(stream);
    let never = [&b"\x82\x87\x04\x06/never\x01\x10"[..], HOST.as_bytes()].concat();
    peer.write.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
    let mut given_up = 0;
    let code = loop {
        let streams = (given_up..given_up + AT_ONCE).map(|number| 2 * number + 1);
        let asked = streams.clone().map(|id| frame(HEADERS, END_HEADERS | END_STREAM, id, &never)).collect::<Vec<_>>();
        peer.write.write_all(&asked.concat()).await.unwrap();
        peer.write.write_all(&frame(PING, 0, 0, &[7; 8])).await.unwrap();
        let answered = async {
            loop {
                let Arrived { kind, payload, .. } = peer.next().await.unwrap();
                match kind {
                    PING if payload == [7; 8] => return None,
                    GOAWAY => return Some(code_of(&payload)),
                    _ => {}
                }
            }
        };
        if let Some(code) = soon("a pong", answered).await {
            break code;
        }
        let resets = streams.map(|id| frame(RST_STREAM, 0, id, &[0, 0, 0, 8])).collect::<Vec<_>>();
        peer.write.write_all(&resets.concat()).await.unwrap();
        given_up += AT_ONCE;
        assert!(given_up < 100_000, "it does not end");
    };
    assert_eq!(code, ENHANCE_YOUR_CALM);
    assert!(given_up >= 1_000, "{given_up}");
    sidecar.eventually_counts(&closed("inbound", "http2_reset_flood"), 1).await;
}

#[tokio::test]
async fn a_head_that_never_ends_is_given_up_over_http2_too() {
    let pki = Pki::new();
    let plan = Plan::new(&pki, API).inbound("http2", Backend::start().await.address);
    let sidecar = plan.timeouts("requestHead: 200ms, lameDuck: 0, drain: 1s").ready().await;
    let settings = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    let begun: [&[u8]; 4] = [
        &PREFACE[..10],
        &[&settings[..], &frame(HEADERS, 0, 1, GET)].concat(),
        &[&settings[..], &frame(HEADERS, END_HEADERS, 1, GET)[..12]].concat(),
        &[&settings[..], &frame(HEADERS, 0, 1, GET), &frame(CONTINUATION, 0, 1, &[])].concat(),
    ];
    for (number, begun) in (1..).zip(begun) {
        let stream = Hello::new(&pki.leaf(CALLER), &["h2"]).shake(sidecar.inbound()).await.unwrap();
        let mut peer = Frames::over(stream);
        peer.write.write_all(begun).await.unwrap();
        assert_eq!(soon("the end", peer.goodbye()).await, Some(ENHANCE_YOUR_CALM), "{number}");
        sidecar.eventually_counts(&closed("inbound", "request_head_timeout"), number).await;
    }
}

/// CVE-2026-49975 and CVE-2026-47774, the "HTTP/2 bomb": one byte for each of thousands of fields, by reference to one that was
/// sent before.
#[tokio::test]
async fn crumbs_of_cookies_and_fields_that_are_dropped_count_as_fields_and_as_bytes() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let sidecar = Plan::new(&pki, API).inbound("http", backend.address).ready().await;
    // Each is kept as the first entry of the dynamic table; then comes that entry again and again.
    let crumb = [0x60, 1, b'a'].to_vec();
    let dropped = [&[0x40, 23][..], b"x-forwarded-client-cert", &[1, b'a']].concat();
    let seen = "a; ".len() * 51 - "; ".len();
    for (number, (field, arrives)) in (1..).zip([(crumb, Some(seen)), (dropped, None)]) {
        for (times, outcome) in [(50, Ok(200)), (500, Ok(431)), (4_000, Ok(431)), (16_000, Err(ENHANCE_YOUR_CALM))] {
            let stream = Hello::new(&pki.leaf(CALLER), &["h2"]).shake(sidecar.inbound()).await.unwrap();
            let mut peer = Frames::over(stream);
            let block = [GET, &field, &vec![0xbe; times]].concat();
            let asked = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block);
            peer.write.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &asked].concat()).await.unwrap();
            assert_eq!(soon("an answer", peer.status_or_goodbye()).await, outcome, "{times}");
        }
        assert_eq!(backend.last().header("cookie").map(str::len), arrives, "joined for HTTP/1.1");
        assert_eq!(sidecar.count(&answered("inbound", "too_many_fields")), number, "the rest is refused before us");
    }
    assert_eq!(backend.seen().len(), 2);
}

#[tokio::test]
async fn our_own_application_is_bounded_on_both_sides_of_it() {
    let pki = Pki::new();
    // An application that answers with nothing but pings.
    let raving = Raw::start(|mut stream: TcpStream| async move {
        let pings = frame(PING, 0, 0, &[7; 8]).repeat(100);
        let (mut read, mut write) = stream.split();
        let mut heard = Vec::new();
        let reading = read.read_to_end(&mut heard);
        let writing = async {
            write.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
            while write.write_all(&pings).await.is_ok() {}
            Ok::<_, io::Error>(())
        };
        let _ = tokio::join!(reading, writing);
    })
    .await;
    let far = Plan::new(&pki, API).inbound("http2", raving.address).ready().await;
    let near = Plan::new(&pki, CALLER).outbound("http2", far.inbound(), &[API]).ready().await;
    let mut http = Http::plain_two(near.outbound()).await;
    assert_eq!(http.get("/").await.status, 502);
    far.eventually_counts(&closed("inbound", "http2_ping_flood"), 1).await;
    assert_eq!(http.get("/").await.status, 502, "the connection to the other sidecar goes on");

    let pings = Flood {
        name: "pings of the application",
        cause: None,
        codes: &[ENHANCE_YOUR_CALM],
        first: frame(SETTINGS, 0, 0, &[]),
        again: |_| frame(PING, 0, 0, &[7; 8]),
    };
    for protocol in ["http2", "auto"] {
        let near = Plan::new(&pki, CALLER).outbound(protocol, far.inbound(), &[API]).ready().await;
        let stream = TcpStream::connect(near.outbound()).await.unwrap();
        assert_eq!(soon(pings.name, flood_with(stream, &pings)).await, Some(ENHANCE_YOUR_CALM), "{protocol}");
        near.eventually_counts(&closed("outbound", "http2_ping_flood"), 1).await;
    }
}

/// Small messages as a receiver takes them that gives every one back at once, and measures its bandwidth by a ping for each.
#[tokio::test]
async fn ten_thousand_small_messages_with_window_updates_and_pings_pass() {
    const MESSAGES: usize = 10_000;
    let pki = Pki::new();
    let backend = Backend::start().await;
    let sidecar = Plan::new(&pki, API).inbound("grpc", backend.address).ready().await;
    let stream = Hello::new(&pki.leaf(CALLER), &["h2"]).shake(sidecar.inbound()).await.unwrap();
    let mut peer = Frames::over(stream);
    let head = [POST, &[0x0f, 0x10, 16], b"application/grpc"].concat();
    let opening = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(HEADERS, END_HEADERS, 1, &head)].concat();
    peer.write.write_all(&opening).await.unwrap();
    let one = frame(DATA, 0, 1, &message("m"));
    let size = one.len() - 9;
    let increment = u32::try_from(size).unwrap().to_be_bytes();
    let given_back =
        [frame(WINDOW_UPDATE, 0, 0, &increment), frame(WINDOW_UPDATE, 0, 1, &increment), frame(PING, 0, 0, &[7; 8])]
            .concat();
    let mut received = 0;
    let conversing = async {
        // Ahead by a few, as a stream is.
        peer.write.write_all(&one.repeat(16)).await.unwrap();
        let mut sent = 16;
        while received < MESSAGES * size {
            let Arrived { kind, payload, .. } = peer.next().await.unwrap();
            assert_ne!(kind, GOAWAY);
            if kind == DATA {
                received += payload.len();
                let mut bytes = given_back.clone();
                while sent < MESSAGES && sent * size < received + 16 * size {
                    bytes.extend_from_slice(&one);
                    sent += 1;
                }
                peer.write.write_all(&bytes).await.unwrap();
            }
        }
    };
    soon("the last message", conversing).await;
    assert_eq!(received, MESSAGES * size);
}

#[tokio::test]
async fn thousands_of_requests_at_once_pass() {
    const STREAMS: usize = 100;
    const REQUESTS: usize = 30;
    let pki = Pki::new();
    let backend = Backend::start().await;
    let sidecar = Plan::new(&pki, API).inbound("http2", backend.address).ready().await;
    let http = Http::two(sidecar.inbound(), &pki.leaf(CALLER)).await;
    let asking = (0..STREAMS).map(|_| {
        let mut http = http.beside();
        async move {
            for _ in 0..REQUESTS {
                assert_eq!(http.get("/").await.status, 200);
            }
        }
    });
    futures_util::future::join_all(asking).await;
    assert!(!http.is_over());
    assert_eq!(backend.seen().len(), STREAMS * REQUESTS);
}

#[tokio::test]
async fn callers_that_give_up_in_numbers_keep_their_connection() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let sidecar = Plan::new(&pki, API).inbound("grpc", backend.address).ready().await;
    let mut http = Http::two(sidecar.inbound(), &pki.leaf(CALLER)).await;
    for _ in 0..500 {
        // Answered in part, and then no longer wanted, as a deadline does it.
        let (sender, body) = flowing();
        let mut response = http.open(call("/test.Echo/Stream").body(body)).await.unwrap();
        sender.send(Frame::data(message("m"))).await.unwrap();
        soon("the echo", response.body_mut().frame()).await.unwrap().unwrap();
        drop((sender, response));
    }
    assert_eq!(http.send(call("/test.Echo/Unary").text(message("m"))).await.status, 200);
}

/// Sends a flood until the other side ends the connection, and returns the error code of its GOAWAY.
async fn flood_with<Io: AsyncRead + AsyncWrite + Unpin>(io: Io, flood: &Flood) -> Option<u32> {
    let mut peer = Frames::over(io);
    let Frames { read, write } = &mut peer;
    let writing = async {
        write.write_all(&[PREFACE, &flood.first].concat()).await?;
        for number in 1..1_000_000 {
            write.write_all(&(flood.again)(number)).await?;
        }
        Ok::<_, io::Error>(())
    };
    let sent = async {
        match writing.await {
            Ok(()) => panic!("{}: all of it was taken", flood.name),
            Err(_) => std::future::pending::<()>().await,
        }
    };
    tokio::select! { code = goodbye(read) => code, () = sent => unreachable!() }
}
