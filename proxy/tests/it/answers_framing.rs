//! Answers of HTTP/1.1: their lengths, their sizes, and what a connection is told of that breaks the rules (RFC 9110
//! section 8.6, RFC 9112 sections 6 and 7).

use tokio::io::AsyncWriteExt;

use crate::client::plain;
use crate::eventually::eventually;
use crate::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, PROTOCOL_ERROR, SETTINGS, frame};
use crate::rows::{BOTH, End, Stage, Way, request_block};
use crate::sidecar::{Sidecar, answered, closed};

const GET: &str = "GET /a HTTP/1.1\r\nhost: a.test\r\n\r\n";
const HEAD: &str = "HEAD /a HTTP/1.1\r\nhost: a.test\r\n\r\n";

/// What an application answers to which request, and the status that the caller gets.
#[rustfmt::skip]
const LENGTHS: &[(&str, &str, &[u8], u16)] = &[
    ("a list of one length", GET, b"HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nok", 502),
    ("a length that repeats", GET, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok", 502),
    ("a sign", GET, b"HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok", 502),
    ("no digits", GET, b"HTTP/1.1 200 OK\r\ncontent-length: \r\n\r\nok", 502),
    ("beyond a signed integer", GET, b"HTTP/1.1 200 OK\r\ncontent-length: 9999999999999999999\r\n\r\nok", 502),
    ("HEAD and a length that is none", HEAD, b"HTTP/1.1 200 OK\r\ncontent-length: 2x\r\n\r\n", 502),
    ("HEAD and two lengths", HEAD, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n", 502),
    ("HEAD and a list", HEAD, b"HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\n", 502),
    ("304 and a length that is none", GET, b"HTTP/1.1 304 Not Modified\r\ncontent-length: 2x\r\n\r\n", 502),
    ("a name with a bracket", GET, b"HTTP/1.1 200 OK\r\nx[a]: 1\r\ncontent-length: 2\r\n\r\nok", 502),
    ("a field without name", GET, b"HTTP/1.1 200 OK\r\n: 1\r\ncontent-length: 2\r\n\r\nok", 502),
    ("HEAD and a body", HEAD, b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad", 200),
    ("HEAD and a length", HEAD, b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", 200),
];

#[tokio::test]
async fn a_length_is_one_number_or_no_answer() {
    for way in BOTH {
        for (name, asked, answer, status) in LENGTHS {
            let stage = Stage::answering(way, answer).await;
            for time in ["first", "second"] {
                let outcome = stage.http1(asked).await;
                assert_eq!(outcome.end, End::Answered(*status), "{way:?}: {name}, {time}");
                let text = String::from_utf8_lossy(&outcome.read);
                assert!(!text.contains("\r\n\r\nbad"), "{way:?}: {name}, {time}: {text}");
            }
        }
    }
}

/// An HTTP/1.1 application would get both lines.
#[tokio::test]
async fn a_request_of_http2_has_one_length() {
    for way in BOTH {
        let stage = Stage::new(way).await;
        let fields = [("content-length", "2"), ("content-length", "2")];
        let frames =
            [frame(HEADERS, END_HEADERS, 1, &request_block("POST", "/a", &fields)), frame(DATA, END_STREAM, 1, b"hi")];
        let outcome = stage.http2(&frames).await;
        assert_eq!((outcome.end, outcome.heard.len()), (End::Answered(400), 0), "{way:?}: {:?}", outcome.heard);
        assert!(outcome.is_open, "{way:?}: one stream's fault");
    }
}

fn answering_with(fields: &str) -> &'static [u8] {
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{fields}\r\nok");
    Box::leak(answer.into_bytes().into_boxed_slice())
}

#[tokio::test]
async fn heads_of_answers_are_bounded_in_fields_and_bytes() {
    let long = |bytes| format!("x-a: {}\r\n", "1".repeat(bytes));
    for way in BOTH {
        for (fields, status) in [
            ("x-a: 1\r\n".repeat(19), 200),
            ("x-a: 1\r\n".repeat(20), 502),
            (long(8000), 200),
            (long(9000), 502),
            (long(70_000), 502),
        ] {
            let answer = answering_with(&fields);
            let stage = Stage::planned(way, answer, |plan| plan.limits("headFields: 20, headBytes: 8KiB")).await;
            let outcome = stage.http1(GET).await;
            assert_eq!(outcome.end, End::Answered(status), "{way:?}: {} bytes", fields.len());
        }
    }
}

/// A buffer that grows with what comes may hold more than the limit.
#[tokio::test]
async fn large_heads_of_answers_are_bounded_too() {
    for way in BOTH {
        for (bytes, status) in [(60_000, 200), (66_000, 502), (120_000, 502)] {
            let stage = Stage::answering(way, answering_with(&format!("x-a: {}\r\n", "1".repeat(bytes)))).await;
            for time in ["first", "second"] {
                let outcome = stage.http1(GET).await;
                assert_eq!(outcome.end, End::Answered(status), "{way:?}: {bytes} bytes, {time}");
            }
        }
    }
}

#[tokio::test]
async fn small_extensions_of_many_chunks_are_bounded_together() {
    let many = format!("1;{}\r\na\r\n", "x".repeat(100)).repeat(1000);
    let sent = format!("POST /a HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n{many}0\r\n\r\n");
    for way in BOTH {
        let stage = Stage::new(way).await;
        let outcome = stage.http1(&sent).await;
        assert!(!matches!(outcome.end, End::Answered(200)) && !outcome.is_open, "{way:?}: {:?}", outcome.end);
        assert!(outcome.heard.iter().all(|request| request.starts_with("unfinished: ")), "{way:?}");
        assert_eq!(stage.sidecar.count(&answered(direction(way), "request_body_broken")), 1, "{way:?}");
    }
}

#[tokio::test]
async fn what_the_library_ends_is_counted_by_its_protocol() {
    for way in BOTH {
        let stage = Stage::new(way).await;
        let outcome = stage.http2(&[frame(DATA, 0, 0, b"x")]).await;
        assert_eq!(outcome.end, End::Goodbye(PROTOCOL_ERROR), "{way:?}");
        let series = closed(direction(way), "http2_protocol_error");
        eventually("it is counted", async || match stage.sidecar.count(&series) {
            1 => Ok(()),
            other => Err(other),
        })
        .await;
        assert_eq!(stage.sidecar.count(&closed(direction(way), "malformed_request")), 0, "{way:?}");
    }
}

/// Whoever goes away in the middle of a message has broken no rule.
#[tokio::test]
async fn who_goes_away_is_not_counted_as_malformed() {
    let stage = Stage::new(Way::Outbound).await;
    let opening = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(HEADERS, 0, 1, &[])[..9]].concat();
    let rows: [&[u8]; 4] = [
        b"GET /a HT",
        b"POST /a HTTP/1.1\r\nhost: a.test\r\ncontent-length: 9\r\n\r\nhi",
        b"POST /a HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhi",
        &opening,
    ];
    for row in rows {
        let mut wire = plain(stage.sidecar.outbound()).await;
        wire.write(row).await;
        let _ = wire.io.shutdown().await;
        drop(wire);
    }
    all_have_left(&stage.sidecar).await;
    for cause in ["malformed_request", "http2_protocol_error"] {
        assert_eq!(stage.sidecar.count(&closed("outbound", cause)), 0, "{cause}");
    }
}

async fn all_have_left(sidecar: &Sidecar) {
    eventually("every connection is closed", async || {
        let open = sidecar.admin("/connections").await;
        if open["open"] == 0 { Ok(()) } else { Err(open) }
    })
    .await;
}

fn direction(way: Way) -> &'static str {
    match way {
        Way::Inbound => "inbound",
        Way::Outbound => "outbound",
    }
}
