//! HTTP/1.1 framing: where a message ends is where everybody sees it end (RFC 9112 sections 2 to 7).

use tokio::io::AsyncWriteExt;

use crate::client::{plain, secured};
use crate::frames::{END_HEADERS, END_STREAM, HEADERS, frame};
use crate::pki::{API, CALLER, Pki};
use crate::rows::{BOTH, End, Recorder, Stage, Way, request_block};
use crate::sidecar::{Plan, answered, closed};

/// What is sent, and the request line and the body that the application heard of it.
struct Row {
    name: &'static str,
    sent: &'static str,
    end: End,
    heard: &'static [(&'static str, &'static str)],
    is_open: bool,
}

const fn row(
    name: &'static str,
    sent: &'static str,
    end: End,
    heard: &'static [(&'static str, &'static str)],
    is_open: bool,
) -> Row {
    Row { name, sent, end, heard, is_open }
}

/// Heard as it should be, on a connection that goes on.
const fn good(name: &'static str, sent: &'static str, heard: &'static [(&'static str, &'static str)]) -> Row {
    row(name, sent, OK, heard, true)
}

/// Refused, the connection closed, and nothing heard.
const fn bad(name: &'static str, sent: &'static str) -> Row {
    row(name, sent, End::Answered(400), &[], false)
}

const OK: End = End::Answered(200);
const POST: &str = "POST /a HTTP/1.1";
const GET: &str = "GET /a HTTP/1.1";

#[rustfmt::skip]
const REQUESTS: &[Row] = &[
    good("no body", "GET /a HTTP/1.1\r\nhost: a.test\r\n\r\n", &[(GET, "")]),
    good("a length", "POST /a HTTP/1.1\r\nhost: a.test\r\ncontent-length: 2\r\n\r\nhi", &[(POST, "hi")]),
    good("chunks", "POST /a HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n", &[(POST, "1\r\nh\r\n1\r\ni\r\n0\r\n\r\n")]),
    good("chunked in capitals", "POST /a HTTP/1.1\r\nhost: a.test\r\nTRANSFER-ENCODING: CHUNKED\r\n\r\n2\r\nhi\r\n0\r\n\r\n", &[(POST, "2\r\nhi\r\n0\r\n\r\n")]),
    good("a chunk's extension is not passed on", "POST /a HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n2;a=\"b\"\r\nhi\r\n0;c\r\n\r\n", &[(POST, "2\r\nhi\r\n0\r\n\r\n")]),
    good("zeros before a size", "POST /a HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n0002\r\nhi\r\n0\r\n\r\n", &[(POST, "2\r\nhi\r\n0\r\n\r\n")]),
    good("a body of GET", "GET /a HTTP/1.1\r\nhost: a.test\r\ncontent-length: 2\r\n\r\nhi", &[(GET, "hi")]),
    good("the same length twice is one", "POST /a HTTP/1.1\r\nhost: a.test\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nhi", &[(POST, "hi")]),
    good("bare line feeds end lines, and are none further on", "GET /a HTTP/1.1\nhost: a.test\nx-a: 1\n\n", &[(GET, "")]),
    good("empty lines before a request", "\r\n\r\nGET /a HTTP/1.1\r\nhost: a.test\r\n\r\n", &[(GET, "")]),
    // A length beside chunks is dropped, and the connection closes: RFC 9112 section 6.1.
    row("both, the length first", "POST /a HTTP/1.1\r\nhost: a.test\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", OK, &[(POST, "2\r\nhi\r\n0\r\n\r\n")], false),
    row("both, the coding first", "POST /a HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n2\r\nhi\r\n0\r\n\r\n", OK, &[(POST, "2\r\nhi\r\n0\r\n\r\n")], false),
    row("both, and the length hides a request", "POST /a HTTP/1.1\r\nhost: a.test\r\ncontent-length: 49\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /admin HTTP/1.1\r\nhost: a.test\r\n\r\n", OK, &[(POST, "0\r\n\r\n")], false),
    // Lengths.
    bad("two lengths", "POST /a HTTP/1.1\r\nhost: a.test\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nhi!"),
    bad("a list of lengths", "POST /a HTTP/1.1\r\nhost: a.test\r\ncontent-length: 2, 2\r\n\r\nhi"),
    bad("a length with a sign", "POST /a HTTP/1.1\r\nhost: a.test\r\ncontent-length: +2\r\n\r\nhi"),
    bad("a negative length", "POST /a HTTP/1.1\r\nhost: a.test\r\ncontent-length: -2\r\n\r\nhi"),
    bad("a length in hexadecimal", "POST /a HTTP/1.1\r\nhost: a.test\r\ncontent-length: 0x2\r\n\r\nhi"),
    bad("an empty length", "POST /a HTTP/1.1\r\nhost: a.test\r\ncontent-length: \r\n\r\nhi"),
    bad("a length with a point", "POST /a HTTP/1.1\r\nhost: a.test\r\ncontent-length: 2.0\r\n\r\nhi"),
    bad("a length beyond 64 bits", "POST /a HTTP/1.1\r\nhost: a.test\r\ncontent-length: 18446744073709551618\r\n\r\nhi"),
    // Codings.
    bad("another coding", "POST /a HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: gzip\r\n\r\nhi"),
    bad("identity", "POST /a HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: identity\r\ncontent-length: 2\r\n\r\nhi"),
    bad("a coding under chunked", "POST /a HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
    bad("chunked twice in a list", "POST /a HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
    bad("chunked twice", "POST /a HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
    bad("identity, then chunked", "POST /a HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: identity\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
    bad("chunked, then another", "POST /a HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\ntransfer-encoding: x\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
    bad("chunked with a parameter", "POST /a HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked;q=1\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
    bad("chunked in quotes", "POST /a HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: \"chunked\"\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
    bad("xchunked", "POST /a HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: xchunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
    bad("chunked behind a vertical tab", "POST /a HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: \x0bchunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
    bad("a coding in HTTP/1.0", "POST /a HTTP/1.0\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
    // Lines.
    bad("space before a colon", "GET /a HTTP/1.1\r\nhost: a.test\r\ncontent-length : 0\r\n\r\n"),
    bad("a folded line", "GET /a HTTP/1.1\r\nhost: a.test\r\nx-a: 1\r\n 2\r\n\r\n"),
    bad("a folded coding", "POST /a HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    bad("a first line that is folded", "GET /a HTTP/1.1\r\n x: 1\r\nhost: a.test\r\n\r\n"),
    bad("a line without colon", "GET /a HTTP/1.1\r\nhost: a.test\r\nx\r\n\r\n"),
    bad("a field without name", "GET /a HTTP/1.1\r\nhost: a.test\r\n: 1\r\n\r\n"),
    bad("NUL in a value", "GET /a HTTP/1.1\r\nhost: a.test\r\nx-a: 1\x002\r\n\r\n"),
    bad("NUL in a name", "GET /a HTTP/1.1\r\nhost: a.test\r\nx\x00a: 1\r\n\r\n"),
    bad("a bare CR in a value", "GET /a HTTP/1.1\r\nhost: a.test\r\nx-a: 1\r2\r\n\r\n"),
    bad("a bracket in a name", "GET /a HTTP/1.1\r\nhost: a.test\r\nx[a]: 1\r\n\r\n"),
    bad("DEL in a value", "GET /a HTTP/1.1\r\nhost: a.test\r\nx-a: \x7f\r\n\r\n"),
    bad("no version", "GET /a\r\nhost: a.test\r\n\r\n"),
    bad("another version", "GET /a HTTP/1.2\r\nhost: a.test\r\n\r\n"),
    bad("HTTP/2 in words", "GET /a HTTP/2.0\r\nhost: a.test\r\n\r\n"),
    bad("http in small letters", "GET /a http/1.1\r\nhost: a.test\r\n\r\n"),
    bad("two spaces behind the method", "GET  /a HTTP/1.1\r\nhost: a.test\r\n\r\n"),
    bad("a tab behind the method", "GET\t/a HTTP/1.1\r\nhost: a.test\r\n\r\n"),
    bad("space before the method", " GET /a HTTP/1.1\r\nhost: a.test\r\n\r\n"),
    bad("a method that is no token", "G(T /a HTTP/1.1\r\nhost: a.test\r\n\r\n"),
    bad("a space in the target", "GET /a b HTTP/1.1\r\nhost: a.test\r\n\r\n"),
];

fn line_and_body(request: &str) -> (&str, &str) {
    let (head, body) = request.split_once("\r\n\r\n").expect("a whole head");
    (head.lines().next().unwrap(), body)
}

#[tokio::test]
async fn requests_end_where_the_application_sees_them_end() {
    for way in BOTH {
        let stage = Stage::new(way).await;
        for Row { name, sent, end, heard, is_open } in REQUESTS {
            let outcome = stage.http1(sent).await;
            let got: Vec<_> = outcome.heard.iter().map(|request| line_and_body(request)).collect();
            assert_eq!((outcome.end, &got[..], outcome.is_open), (*end, *heard, *is_open), "{way:?}: {name}");
        }
        assert!(
            stage.sidecar.count(&closed(way.direction(), "malformed_request")) > 10,
            "those that the library refuses"
        );
        assert_eq!(stage.sidecar.count(&answered(way.direction(), "bad_framing")), 4, "those that we refuse");
    }
}

/// Chunks that are none: the head is good and has gone on, so the caller learns that its body is not, and no request is
/// ever whole for the application.
#[tokio::test]
async fn chunks_that_are_none_never_make_a_request() {
    for way in BOTH {
        let stage = Stage::new(way).await;
        for (name, body) in [
            ("a negative size", "-2\r\nhi\r\n0\r\n\r\n"),
            ("a sign", "+2\r\nhi\r\n0\r\n\r\n"),
            ("a prefix", "0x2\r\nhi\r\n0\r\n\r\n"),
            ("a size beyond 64 bits", "fffffffffffffffff2\r\nhi\r\n0\r\n\r\n"),
            ("an underscore", "0_2\r\nhi\r\n0\r\n\r\n"),
            ("no size", "\r\nhi\r\n0\r\n\r\n"),
            ("space before a size", " 2\r\nhi\r\n0\r\n\r\n"),
            ("a chunk that is longer than it says", "2\r\nhi!\r\n0\r\n\r\n"),
            ("a bare line feed behind a size", "2\nhi\r\n0\r\n\r\n"),
            ("a bare line feed behind a chunk", "2\r\nhi\n0\r\n\r\n"),
            ("a bare line feed in an extension", "2;a\nb\r\nhi\r\n0\r\n\r\n"),
        ] {
            let sent = format!("POST /a HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n{body}");
            let outcome = stage.http1(&sent).await;
            assert!(!matches!(outcome.end, End::Answered(200)), "{way:?}: {name}: {outcome:?}");
            assert!(!outcome.is_open, "{way:?}: {name}: {outcome:?}");
            let whole = outcome.heard.iter().filter(|request| !request.starts_with("unfinished: "));
            assert_eq!(whole.count(), 0, "{way:?}: {name}: {:?}", outcome.heard);
        }
    }
}

#[tokio::test]
async fn extensions_of_chunks_are_bounded() {
    for way in BOTH {
        let stage = Stage::new(way).await;
        let extension = "x".repeat(64 << 10);
        let outcome = stage
            .http1(format!(
                "POST /a HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n1;{extension}\r\na\r\n0\r\n\r\n"
            ))
            .await;
        assert!(!matches!(outcome.end, End::Answered(200)) && !outcome.is_open, "{way:?}: {:?}", outcome.end);
    }
}

#[tokio::test]
async fn heads_are_bounded_in_fields_and_bytes() {
    for way in BOTH {
        let stage = Stage::new(way).await;
        let fields = "x-a: 1\r\n".repeat(101);
        let long = format!("x-a: {}\r\n", "1".repeat(70_000));
        for (head, status) in [(fields, 431), (long, 431)] {
            let outcome = stage.http1(format!("GET /a HTTP/1.1\r\nhost: a.test\r\n{head}\r\n")).await;
            assert_eq!((outcome.end, outcome.is_open), (End::Answered(status), false), "{way:?}");
            assert_eq!(outcome.heard.len(), 0);
        }
        let outcome = stage.http1(format!("GET /{} HTTP/1.1\r\nhost: a.test\r\n\r\n", "a".repeat(17_000))).await;
        assert_eq!((outcome.end, outcome.heard.len()), (End::Answered(414), 0), "{way:?}");
    }
}

#[tokio::test]
async fn a_request_without_anything_unusual_passes_whatever_it_speaks() {
    for way in BOTH {
        let stage = Stage::new(way).await;
        let one = stage.http1("GET /a?b HTTP/1.1\r\nhost: eligibility.test\r\n\r\n").await;
        let two = stage.http2(&[frame(HEADERS, END_HEADERS | END_STREAM, 1, &request_block("GET", "/a?b", &[]))]).await;
        for outcome in [one, two] {
            assert_eq!((outcome.end, outcome.is_open), (OK, true), "{way:?}");
            assert!(outcome.heard[0].starts_with("GET /a?b HTTP/1.1\r\n"), "{:?}", outcome.heard);
            assert_eq!(outcome.heard.len(), 1);
        }
    }
}

#[tokio::test]
async fn a_length_that_is_repeated_over_http_2_does_not_become_two_lines() {
    for way in BOTH {
        let stage = Stage::new(way).await;
        let head = request_block("POST", "/a", &[("content-length", "2"), ("content-length", "2")]);
        let frames = [frame(HEADERS, END_HEADERS, 1, &head), frame(crate::frames::DATA, END_STREAM, 1, b"hi")];
        let outcome = stage.http2(&frames).await;
        assert_eq!((outcome.end, outcome.heard.len()), (End::Answered(400), 0), "{way:?}");
    }
}

#[tokio::test]
async fn a_refused_body_is_never_read_as_a_request() {
    const DENYING: &str = "
apiVersion: policy.portcullis.dev/v1
kind: AuthorizationPolicy
metadata: {name: some}
spec:
  allow: [{name: few, to: {paths: [/last]}}]
";
    let stage = Stage::planned(Way::Inbound, b"", |plan| plan.policy(DENYING)).await;
    let hidden = "GET /last HTTP/1.1\r\nhost: a.test\r\n\r\n";
    let chunked = format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len());
    for row in [
        format!("POST /denied HTTP/1.1\r\nhost: a.test\r\ncontent-length: {}\r\n\r\n{hidden}", hidden.len()),
        format!("POST /denied HTTP/1.1\r\nhost: a.test\r\ncontent-length: 10000000\r\n\r\n{hidden}"),
        format!("POST /denied HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n{chunked}"),
    ] {
        let outcome = stage.http1(&row).await;
        assert_eq!(outcome.end, End::Answered(403), "{row}");
        assert_eq!(outcome.heard, [""; 0], "{row}");
        let answers = outcome.read.windows(9).filter(|part| part == b"HTTP/1.1 ").count();
        assert_eq!(answers, 1, "{row}: one answer to one request");
    }
}

/// What an application answers, and what the caller gets of it.
#[rustfmt::skip]
const RESPONSES: &[(&str, &[u8], u16, &str)] = &[
    ("a length", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, "ok"),
    ("chunks", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, "ok"),
    ("extensions of chunks", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0;c\r\n\r\n", 200, "ok"),
    ("a length beside chunks", b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, "ok"),
    ("chunks beside a length", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 40\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, "ok"),
    ("the same length twice", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok", 502, ""),
    ("a list of lengths", b"HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nok", 502, ""),
    ("two lengths", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok", 502, ""),
    ("a length that is none", b"HTTP/1.1 200 OK\r\ncontent-length: 2x\r\n\r\nok", 502, ""),
    ("another coding", b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nok", 502, ""),
    ("a coding under chunked", b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 502, ""),
    ("chunked twice", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 502, ""),
    ("a coding in HTTP/1.0", b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 502, ""),
    ("a status of two digits", b"HTTP/1.1 20 OK\r\ncontent-length: 2\r\n\r\nok", 502, ""),
    ("status 000", b"HTTP/1.1 000 OK\r\ncontent-length: 2\r\n\r\nok", 502, ""),
    ("status 099", b"HTTP/1.1 099 OK\r\ncontent-length: 2\r\n\r\nok", 502, ""),
    ("status 600", b"HTTP/1.1 600 OK\r\ncontent-length: 2\r\n\r\nok", 502, ""),
    ("another version", b"HTTP/3.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 502, ""),
    ("a folded line", b"HTTP/1.1 200 OK\r\nx-a: 1\r\n 2\r\ncontent-length: 2\r\n\r\nok", 502, ""),
    ("space before a colon", b"HTTP/1.1 200 OK\r\ncontent-length : 2\r\n\r\nok", 502, ""),
    ("NUL in a value", b"HTTP/1.1 200 OK\r\nx-a: \0\r\ncontent-length: 2\r\n\r\nok", 502, ""),
    ("a bare CR in a value", b"HTTP/1.1 200 OK\r\nx-a: 1\rx-b: 2\r\ncontent-length: 2\r\n\r\nok", 502, ""),
    ("no response at all", b"hello\r\n\r\n", 502, ""),
    ("a switch that nobody asked for", b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", 502, ""),
    ("more of it behind", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad", 200, "ok"),
    ("a body that must not be", b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad", 204, ""),
    ("a body of 304", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 3\r\n\r\nbad", 304, ""),
    ("one that is not final comes first", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, "ok"),
];

#[tokio::test]
async fn responses_are_held_to_the_same_rules() {
    for way in BOTH {
        for (name, answer, status, body) in RESPONSES {
            let stage = Stage::answering(way, answer).await;
            // Twice: what is left of the first answer must not become the second.
            for time in ["first", "second"] {
                let outcome = stage.http1("GET /a HTTP/1.1\r\nhost: a.test\r\n\r\n").await;
                let got = outcome.answer.unwrap_or_else(|| panic!("{way:?}: {name}, {time}: {:?}", outcome.end));
                assert_eq!(got.status, *status, "{way:?}: {name}, {time}");
                if *status != 502 {
                    assert_eq!(got.text(), *body, "{way:?}: {name}, {time}");
                }
                let framed = [got.header("content-length"), got.header("transfer-encoding")];
                assert!(framed.iter().flatten().count() <= 1, "{way:?}: {name}: {framed:?}");
                let text = String::from_utf8_lossy(&outcome.read);
                assert!(!text.contains("\r\n\r\nbad") && !text.contains("hint"), "{way:?}: {name}, {time}: {text}");
            }
        }
    }
}

#[tokio::test]
async fn a_response_that_breaks_off_is_not_made_whole() {
    for way in BOTH {
        for answer in [
            &b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nok"[..],
            b"HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
        ] {
            let stage = Stage::cutting_off(way, answer).await;
            let outcome = stage.http1("GET /a HTTP/1.1\r\nhost: a.test\r\n\r\n").await;
            assert_eq!(outcome.end, End::Closed, "{way:?}");
            assert!(!outcome.read.ends_with(b"0\r\n\r\n"), "{way:?}: not ended as if it were whole");
            let head = request_block("GET", "/a", &[]);
            let outcome = stage.http2(&[frame(HEADERS, END_HEADERS | END_STREAM, 1, &head)]).await;
            assert!(matches!(outcome.end, End::Reset(code) if code != 0), "{way:?}: {:?}", outcome.end);
        }
    }
}

#[tokio::test]
async fn nobody_but_the_sidecar_gives_its_reasons() {
    let answer = b"HTTP/1.1 503 Service Unavailable\r\nx-portcullis-reason: forged\r\ncontent-length: 0\r\n\r\n";
    for way in BOTH {
        let stage = Stage::answering(way, answer).await;
        let outcome = stage.http1("GET /a HTTP/1.1\r\nhost: a.test\r\n\r\n").await;
        assert_eq!(outcome.end, End::Answered(503));
        assert_eq!(outcome.answer.unwrap().header("x-portcullis-reason"), None, "{way:?}");
    }
}

#[tokio::test]
async fn trailers_arrive_as_trailers_or_not_at_all() {
    const TRAILERS: &str = "x-sum: 42\r\ncontent-length: 5\r\nhost: evil.test\r\nauthorization: x\r\nx_forwarded_client_cert: x\r\ntransfer-encoding: x\r\n";
    let request = format!(
        "POST /a HTTP/1.1\r\nhost: a.test\r\nte: trailers\r\ntrailer: x-sum, content-length, host, authorization, x_forwarded_client_cert, transfer-encoding\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n{TRAILERS}\r\n"
    );
    let answer: &[u8] = b"HTTP/1.1 200 OK\r\ntrailer: x-sum, set-cookie, content-length\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 42\r\nset-cookie: a=b\r\ncontent-length: 5\r\n\r\n";
    for way in BOTH {
        let stage = Stage::answering(way, answer).await;
        let outcome = stage.http1(&request).await;
        assert_eq!(outcome.end, OK, "{way:?}");
        let (_, body) = line_and_body(&outcome.heard[0]);
        assert_eq!(body, "2\r\nhi\r\n0\r\nx-sum: 42\r\n\r\n", "{way:?}");
        let head = outcome.heard[0].split("\r\n\r\n").next().unwrap();
        for name in ["evil.test", "authorization: x", "x_forwarded_client_cert: x"] {
            assert!(!head.contains(name), "{way:?}: {name}");
        }
        let answer = outcome.answer.unwrap();
        assert_eq!(answer.trailers, [("x-sum".to_owned(), "42".to_owned())], "{way:?}");
        assert_eq!((answer.header("set-cookie"), answer.header("content-length")), (None, None));
    }
}

#[tokio::test]
async fn too_many_trailers_break_the_message_off() {
    let names: String = (0..101).map(|number| format!("x-{number}: 1\r\n")).collect();
    let listed = (0..101).map(|number| format!("x-{number}")).collect::<Vec<_>>().join(", ");
    for way in BOTH {
        let stage = Stage::new(way).await;
        let chunks = format!("2\r\nhi\r\n0\r\n{names}\r\n");
        let head =
            format!("POST /a HTTP/1.1\r\nhost: a.test\r\ntrailer: {listed}\r\ntransfer-encoding: chunked\r\n\r\n");
        let outcome = stage.http1(head + &chunks).await;
        assert_ne!(outcome.end, OK, "{way:?}");
        assert!(
            outcome.heard.iter().all(|request| request.starts_with("unfinished: ")),
            "{way:?}: {:?}",
            outcome.heard
        );
        let fields: Vec<(String, &str)> = (0..101).map(|number| (format!("x-{number}"), "1")).collect();
        let frames = [
            frame(HEADERS, END_HEADERS, 1, &request_block("POST", "/a", &[])),
            frame(crate::frames::DATA, 0, 1, b"hi"),
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &crate::frames::block(&fields)),
        ];
        let outcome = stage.http2(&frames).await;
        assert_ne!(outcome.end, OK, "{way:?}");
        assert!(
            outcome.heard.iter().all(|request| request.starts_with("unfinished: ")),
            "{way:?}: {:?}",
            outcome.heard
        );
    }
}

/// A whole second response behind the first is taken for the answer to the next request by a proxy that reads on.
#[tokio::test]
async fn surplus_bytes_never_answer_the_next_request() {
    let pki = Pki::new();
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged";
    let recorder = Recorder::start(answer, None).await;
    let sidecar = Plan::new(&pki, API).inbound("http", recorder.address).more("workers: 1").ready().await;
    let mut one = secured(sidecar.inbound(), &pki.leaf(CALLER)).await;
    let mut other = secured(sidecar.inbound(), &pki.leaf(CALLER)).await;
    for _ in 0..20 {
        assert_eq!(one.get("/a").await.text(), "ok");
        assert_eq!(other.get("/b").await.text(), "ok");
    }
}

/// What is read of a body behind its answer is bounded: see `linger.rs`.
#[tokio::test]
async fn a_large_body_that_is_refused_is_not_read_to_its_end() {
    let pki = Pki::new();
    let near = Plan::new(&pki, CALLER).outbound("http", crate::backend::nobody().await, &[API]).ready().await;
    let mut wire = plain(near.outbound()).await;
    wire.write("POST /a HTTP/1.1\r\nhost: a.test\r\ncontent-length: 1000000000\r\n\r\n").await;
    assert_eq!(wire.answer(true).await.status, 503);
    let mut written = 0_usize;
    let writing = async {
        while wire.io.write_all(&[b'x'; 64 << 10]).await.is_ok() {
            written += 64 << 10;
        }
    };
    crate::eventually::soon("the end of the connection", writing).await;
    assert!(written < 100 << 20, "{written}");
}
