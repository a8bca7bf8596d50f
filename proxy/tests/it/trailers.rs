//! Trailers in both protocols: which of them arrive, and how many there may be (RFC 9110 section 6.5).

use crate::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, block, frame};
use crate::rows::{BOTH, End, Stage, request_block};

/// Names that must not arrive, and what a CGI-style application would read as the same names.
const FORBIDDEN: &[&str] = &[
    "authorization",
    "cache-control",
    "content-encoding",
    "content-length",
    "content_length",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "if-none-match",
    "l5d-client-id",
    "set-cookie",
    "set_cookie",
    "trailer",
    "traceparent",
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x-portcullis-reason",
    "x-request-id",
    "x_forwarded_for",
    "x_portcullis_caller",
    "x_request_id",
];
const ALLOWED: &[&str] = &["grpc-message", "grpc-status", "grpc-status-details-bin", "x-sum"];

fn names() -> Vec<&'static str> {
    [FORBIDDEN, ALLOWED].concat()
}

fn lines() -> String {
    names().iter().map(|name| format!("{name}: 7\r\n")).collect()
}

fn leaked(text: String) -> &'static [u8] {
    Box::leak(text.into_bytes().into_boxed_slice())
}

/// The names behind the last chunk.
fn trailing(body: &str) -> Vec<&str> {
    let (_, trailers) = body.rsplit_once("0\r\n").expect("a last chunk");
    trailers.lines().filter_map(|line| line.split_once(": ")).map(|(name, _)| name).collect()
}

#[tokio::test]
async fn trailers_of_requests_are_the_allowed_ones() {
    let list = names().join(", ");
    let http1 = format!(
        "POST /a HTTP/1.1\r\nhost: a.test\r\ntrailer: {list}\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n{}\r\n",
        lines()
    );
    let fields: Vec<(&str, &str)> = names().into_iter().map(|name| (name, "7")).collect();
    let http2 = [
        frame(HEADERS, END_HEADERS, 1, &request_block("POST", "/a", &[("trailer", &list)])),
        frame(DATA, 0, 1, b"hi"),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&fields)),
    ];
    for way in BOTH {
        let stage = Stage::new(way).await;
        for (speaks, outcome) in [("HTTP/1.1", stage.http1(&http1).await), ("HTTP/2", stage.http2(&http2).await)] {
            assert_eq!(outcome.end, End::Answered(200), "{way:?}, {speaks}");
            let (head, body) = outcome.heard[0].split_once("\r\n\r\n").unwrap();
            let mut arrived = trailing(body);
            arrived.sort_unstable();
            assert_eq!(arrived, ALLOWED, "{way:?}, {speaks}");
            // The whole value: identifiers that we make may begin with it.
            assert!(!head.lines().any(|line| line.ends_with(": 7")), "{way:?}, {speaks}: merged into the head: {head}");
        }
    }
}

#[tokio::test]
async fn trailers_of_answers_are_the_allowed_ones_and_only_for_who_takes_them() {
    let list = names().join(", ");
    let answer = leaked(format!(
        "HTTP/1.1 200 OK\r\ntrailer: {list}\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{}\r\n",
        lines()
    ));
    for way in BOTH {
        let stage = Stage::answering(way, answer).await;
        for (te, expected) in [("te: trailers\r\n", ALLOWED), ("", &[])] {
            let outcome = stage.http1(format!("GET /a HTTP/1.1\r\nhost: a.test\r\n{te}\r\n")).await;
            let got = outcome.answer.unwrap();
            assert_eq!(got.text(), "ok", "{way:?}");
            let mut arrived: Vec<&str> = got.trailers.iter().map(|(name, _)| name.as_str()).collect();
            arrived.sort_unstable();
            assert_eq!(arrived, expected, "{way:?}: {te}");
            assert!(got.headers.iter().all(|(_, value)| value != "7"), "{way:?}: {:?}", got.headers);
            assert!(outcome.is_open, "{way:?}: {te}");
        }
    }
}

#[tokio::test]
async fn trailers_are_bounded_by_the_limit_on_fields() {
    let fields = |count| (0..count).map(|number| (format!("x-{number}"), "1")).collect::<Vec<_>>();
    let list = |count| fields(count).into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
    for way in BOTH {
        let stage = Stage::planned(way, OK, |plan| plan.limits("headFields: 20")).await;
        for (count, is_good) in [(20, true), (21, false)] {
            let frames = [
                frame(HEADERS, END_HEADERS, 1, &request_block("POST", "/a", &[("trailer", &list(count))])),
                frame(DATA, 0, 1, b"hi"),
                frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&fields(count))),
            ];
            let outcome = stage.http2(&frames).await;
            assert_eq!(outcome.end == End::Answered(200), is_good, "{way:?}, {count}: {:?}", outcome.end);
            let whole = outcome.heard.iter().filter(|request| !request.starts_with("unfinished: ")).count();
            assert_eq!(whole, usize::from(is_good), "{way:?}, {count}: {:?}", outcome.heard);
        }
    }
}

#[tokio::test]
async fn an_answer_with_too_many_trailers_breaks_off() {
    let lines: String = (0..101).map(|number| format!("x-{number}: 1\r\n")).collect();
    let answer = leaked(format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{lines}\r\n"));
    for way in BOTH {
        let stage = Stage::answering(way, answer).await;
        let outcome = stage.http1("GET /a HTTP/1.1\r\nhost: a.test\r\nte: trailers\r\n\r\n").await;
        assert_eq!((outcome.end, outcome.is_open), (End::Closed, false), "{way:?}");
        assert!(!outcome.read.ends_with(b"0\r\n\r\n"), "{way:?}: not ended as if it were whole");
        let head = request_block("GET", "/a", &[]);
        let outcome = stage.http2(&[frame(HEADERS, END_HEADERS | END_STREAM, 1, &head)]).await;
        assert!(matches!(outcome.end, End::Reset(code) if code != 0), "{way:?}: {:?}", outcome.end);
    }
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
