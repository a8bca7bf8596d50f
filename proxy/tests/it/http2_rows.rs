//! HTTP/2 row by row: what RFC 9113 calls malformed ends its stream, and our application hears nothing of it, or exactly the
//! clean bytes that stand here.

use crate::client::HOST;
use crate::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, block, frame};
use crate::rows::{BOTH, End, Outcome, Stage, request_block};

/// One row: the frames of stream 1, and what the caller is told.
struct Row {
    name: &'static str,
    frames: Vec<Vec<u8>>,
    told: End,
}

/// A stream error: the streams beside it go on.
const WRONG: End = End::Reset(1);
const REFUSED: End = End::Answered(400);
/// What cannot be a field at all ends the connection: the library makes a connection error of it, as section 5.4 lets it.
const GONE: End = End::Goodbye(1);

/// A head that ends its stream.
fn ends(block: &[u8]) -> Vec<Vec<u8>> {
    vec![frame(HEADERS, END_HEADERS | END_STREAM, 1, block)]
}

/// A head, then these DATA frames, the last of which ends the stream.
fn uploads(fields: &[(&str, &str)], data: &[&str]) -> Vec<Vec<u8>> {
    let head = frame(HEADERS, END_HEADERS, 1, &request_block("POST", "/row", fields));
    let flags = |index| if index + 1 == data.len() { END_STREAM } else { 0 };
    let data = data.iter().enumerate().map(|(index, text)| frame(DATA, flags(index), 1, text.as_bytes()));
    [head].into_iter().chain(data).collect()
}

/// A whole request head, with these fields behind its pseudo-header fields.
fn fields(name: &'static str, fields: &[(&str, &str)], told: End) -> Row {
    Row { name, frames: ends(&request_block("GET", "/row", fields)), told }
}

/// A head of these fields and no others.
fn head(name: &'static str, fields: &[(&str, &str)], told: End) -> Row {
    Row { name, frames: ends(&block(fields)), told }
}

const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "https");
const AUTHORITY: (&str, &str) = (":authority", HOST);
const PATH: (&str, &str) = (":path", "/row");

/// Runs rows and says of all of them at once which went otherwise.
async fn check(rows: impl Fn() -> Vec<Row>, heard: impl Fn(&Row, &Outcome) -> bool) {
    for way in BOTH {
        let stage = Stage::new(way).await;
        let mut wrong = Vec::new();
        for row in rows() {
            let outcome = stage.http2(&row.frames).await;
            // One bad stream is no reason to end the others, unless the compression is out of step.
            let is_open = matches!(row.told, End::Answered(_) | End::Reset(_));
            if outcome.end != row.told || outcome.is_open != is_open || !heard(&row, &outcome) {
                wrong.push(format!("{}: {outcome:?}", row.name));
            }
        }
        assert!(wrong.is_empty(), "{way:?}:\n{}", wrong.join("\n"));
    }
}

/// RFC 9113 section 8.2.1.
fn names_and_values() -> Vec<Row> {
    vec![
        fields("CR in a value", &[("x-a", "1\r2")], GONE),
        fields("LF in a value", &[("x-a", "1\n2")], GONE),
        fields("CRLF and a field in a value", &[("x-a", "1\r\nx-evil: 2")], GONE),
        fields("a whole request in a value", &[("x-a", "1\r\n\r\nGET /evil HTTP/1.1\r\nhost: a\r\n\r\n")], GONE),
        fields("NUL in a value", &[("x-a", "1\x002")], GONE),
        fields("DEL in a value", &[("x-a", "1\x7f2")], GONE),
        fields("ESC in a value", &[("x-a", "\x1b[2J")], GONE),
        fields("CR in a cookie", &[("cookie", "a=1\r\nx-evil: 2")], GONE),
        fields("CR in a name", &[("x-a\r", "1")], GONE),
        fields("LF in a name", &[("x-a\nx-evil", "1")], GONE),
        fields("CRLF in a name", &[("x-a: 1\r\nx-evil", "1")], GONE),
        fields("NUL in a name", &[("x-a\0", "1")], GONE),
        fields("a space in a name", &[("x a", "1")], GONE),
        fields("a space behind a name", &[("transfer-encoding ", "chunked")], GONE),
        fields("a space before a name", &[(" x-a", "1")], GONE),
        fields("a tab in a name", &[("x\ta", "1")], GONE),
        fields("a colon in a name", &[("x-a:", "1")], GONE),
        fields("a colon in the middle of a name", &[("host:x", "1")], GONE),
        fields("an empty name", &[("", "1")], GONE),
        fields("uppercase", &[("X-A", "1")], GONE),
        fields("one letter of uppercase", &[("content-Length", "0")], GONE),
        fields("a name outside ASCII", &[("x-é", "1")], GONE),
        fields("space before a value", &[("x-a", " 1")], REFUSED),
        fields("space behind a value", &[("x-a", "1 ")], REFUSED),
        fields("a tab before a value", &[("x-a", "\t1")], REFUSED),
        fields("a value of nothing but space", &[("x-a", " ")], REFUSED),
        fields("space around the second of two values", &[("x-a", "1"), ("x-a", "2\t")], REFUSED),
        fields("space before a length", &[("content-length", " 0")], WRONG),
        fields("space before a crumb", &[("cookie", "a=1"), ("cookie", " b=2")], REFUSED),
        fields("a parenthesis in a name", &[("x(a)", "1")], GONE),
    ]
}

/// RFC 9113 section 8.2.2.
fn of_one_connection() -> Vec<Row> {
    vec![
        fields("connection", &[("connection", "close")], WRONG),
        fields("connection, empty", &[("connection", "")], WRONG),
        fields("keep-alive", &[("keep-alive", "timeout=5")], WRONG),
        fields("proxy-connection", &[("proxy-connection", "keep-alive")], WRONG),
        fields("transfer-encoding", &[("transfer-encoding", "chunked")], WRONG),
        fields("transfer-encoding, identity", &[("transfer-encoding", "identity")], WRONG),
        fields(
            "transfer-encoding beside a length",
            &[("content-length", "0"), ("transfer-encoding", "chunked")],
            WRONG,
        ),
        fields("upgrade", &[("upgrade", "websocket")], WRONG),
        fields("upgrade to h2c", &[("upgrade", "h2c")], WRONG),
        fields("te of another kind", &[("te", "gzip")], WRONG),
        fields("te of two kinds", &[("te", "trailers, gzip")], WRONG),
        Row {
            name: "transfer-encoding with chunks in DATA",
            frames: uploads(&[("transfer-encoding", "chunked")], &["0\r\n\r\nGET /evil HTTP/1.1\r\nhost: a\r\n\r\n"]),
            told: WRONG,
        },
    ]
}

/// RFC 9113 section 8.3.
fn pseudo() -> Vec<Row> {
    let evil = "/row HTTP/1.1\r\nx-evil: 1\r\n\r\nGET /evil";
    vec![
        head("no :method", &[SCHEME, AUTHORITY, PATH], WRONG),
        head("no :scheme", &[METHOD, AUTHORITY, PATH], WRONG),
        head("no :path", &[METHOD, SCHEME, AUTHORITY], WRONG),
        head("nothing at all", &[], WRONG),
        head("two :method", &[METHOD, (":method", "POST"), SCHEME, AUTHORITY, PATH], WRONG),
        head("two :scheme", &[METHOD, SCHEME, SCHEME, AUTHORITY, PATH], WRONG),
        head("two :authority", &[METHOD, SCHEME, AUTHORITY, (":authority", "b"), PATH], WRONG),
        head("two :path", &[METHOD, SCHEME, AUTHORITY, PATH, (":path", "/evil")], WRONG),
        head("an unknown one", &[METHOD, SCHEME, AUTHORITY, PATH, (":evil", "1")], GONE),
        head("one without a name", &[METHOD, SCHEME, AUTHORITY, PATH, (":", "1")], GONE),
        head(":status in a request", &[METHOD, SCHEME, AUTHORITY, PATH, (":status", "200")], WRONG),
        head("one behind a field", &[METHOD, SCHEME, AUTHORITY, ("x-a", "1"), PATH], WRONG),
        head("another one behind a field", &[METHOD, SCHEME, AUTHORITY, PATH, ("x-a", "1"), (":path", "/evil")], WRONG),
        head(":protocol without CONNECT", &[METHOD, SCHEME, AUTHORITY, PATH, (":protocol", "websocket")], WRONG),
        head("a space in :method", &[(":method", "GET /evil"), SCHEME, AUTHORITY, PATH], GONE),
        head("CRLF in :method", &[(":method", "GET / HTTP/1.1\r\nx: "), SCHEME, AUTHORITY, PATH], GONE),
        head("an empty :method", &[(":method", ""), SCHEME, AUTHORITY, PATH], GONE),
        head("NUL in :method", &[(":method", "GE\0T"), SCHEME, AUTHORITY, PATH], GONE),
        head("an empty :path", &[METHOD, SCHEME, AUTHORITY, (":path", "")], WRONG),
        head(":path without a slash", &[METHOD, SCHEME, AUTHORITY, (":path", "row")], WRONG),
        head(":path in absolute-form", &[METHOD, SCHEME, AUTHORITY, (":path", "https://b/row")], WRONG),
        head(":path of an asterisk", &[METHOD, SCHEME, AUTHORITY, (":path", "*")], REFUSED),
        head("a space in :path", &[METHOD, SCHEME, AUTHORITY, (":path", "/row HTTP/1.1")], WRONG),
        head("CRLF in :path", &[METHOD, SCHEME, AUTHORITY, (":path", evil)], WRONG),
        head("LF in :path", &[METHOD, SCHEME, AUTHORITY, (":path", "/row\n")], WRONG),
        head("NUL in :path", &[METHOD, SCHEME, AUTHORITY, (":path", "/row\0")], WRONG),
        head("a tab in :path", &[METHOD, SCHEME, AUTHORITY, (":path", "/row\t")], WRONG),
        head("userinfo in :authority", &[METHOD, SCHEME, (":authority", "root@eligibility.test"), PATH], REFUSED),
        head("a bad port in :authority", &[METHOD, SCHEME, (":authority", "eligibility.test:x"), PATH], REFUSED),
        head("a slash in :authority", &[METHOD, SCHEME, (":authority", "eligibility.test/evil"), PATH], WRONG),
        head("a space in :authority", &[METHOD, SCHEME, (":authority", "a b"), PATH], WRONG),
        head("CRLF in :authority", &[METHOD, SCHEME, (":authority", "a\r\nx-evil: 1"), PATH], WRONG),
        head("an empty :authority", &[METHOD, SCHEME, (":authority", ""), PATH], WRONG),
        head("no host at all", &[METHOD, SCHEME, PATH], REFUSED),
        head("another host", &[METHOD, SCHEME, AUTHORITY, PATH, ("host", "evil.test")], REFUSED),
        head("another port", &[METHOD, SCHEME, AUTHORITY, PATH, ("host", "eligibility.test:81")], REFUSED),
        head("two hosts", &[METHOD, SCHEME, AUTHORITY, PATH, ("host", HOST), ("host", HOST)], REFUSED),
        head("CRLF in :scheme", &[METHOD, (":scheme", "https\r\nx: 1"), AUTHORITY, PATH], WRONG),
        head("another :scheme", &[METHOD, (":scheme", "ftp"), AUTHORITY, PATH], REFUSED),
        head("an empty :scheme", &[METHOD, (":scheme", ""), AUTHORITY, PATH], REFUSED),
        head("a space in :scheme", &[METHOD, (":scheme", "ht tp"), AUTHORITY, PATH], WRONG),
    ]
}

/// RFC 9113 section 8.1.1, where it is known from the head alone.
fn lengths() -> Vec<Row> {
    let two = [("content-length", "2"), ("content-length", "3")];
    vec![
        fields("a length beside END_STREAM", &[("content-length", "5")], WRONG),
        Row { name: "two lengths", frames: uploads(&two, &["hi"]), told: WRONG },
        Row { name: "a length below zero", frames: uploads(&[("content-length", "-2")], &["hi"]), told: WRONG },
        Row { name: "a length with a sign", frames: uploads(&[("content-length", "+2")], &["hi"]), told: WRONG },
        Row { name: "a list of lengths", frames: uploads(&[("content-length", "2, 2")], &["hi"]), told: WRONG },
        Row { name: "a length in hex", frames: uploads(&[("content-length", "0x2")], &["hi"]), told: WRONG },
        Row { name: "an empty length", frames: uploads(&[("content-length", "")], &["hi"]), told: WRONG },
        Row {
            name: "a length too long",
            frames: uploads(&[("content-length", "18446744073709551618")], &["hi"]),
            told: WRONG,
        },
    ]
}

#[tokio::test]
async fn a_malformed_head_ends_its_stream_and_nothing_is_heard_of_it() {
    let rows = || [names_and_values(), of_one_connection(), pseudo(), lengths()].into_iter().flatten().collect();
    check(rows, |_, outcome| outcome.heard.is_empty()).await;
}

/// The bytes that the application heard of a request, without the fields that the sidecar adds.
fn without_ours(request: &str) -> String {
    const OURS: [&str; 3] = ["x-request-id: ", "traceparent: ", "x-forwarded-client-cert: "];
    request.split_inclusive("\r\n").filter(|line| !OURS.iter().any(|ours| line.starts_with(ours))).collect()
}

/// What may be cleaned, and the bytes that an HTTP/1.1 application gets of it behind `GET /row HTTP/1.1`.
#[tokio::test]
async fn what_is_cleaned_is_clean_for_http_1_1() {
    type Clean = (&'static str, Vec<(&'static str, &'static str)>, &'static str);
    let with = |more: &[(&'static str, &'static str)]| [&[METHOD, SCHEME, AUTHORITY, PATH], more].concat();
    let rows: Vec<Clean> = vec![
        ("nothing", with(&[]), ""),
        (
            "crumbs",
            with(&[("cookie", "a=1"), ("x-a", "1"), ("cookie", "b=2"), ("cookie", "c=3")]),
            "cookie: a=1; b=2; c=3\r\nx-a: 1\r\n",
        ),
        ("an empty crumb", with(&[("cookie", ""), ("cookie", "b=2")]), "cookie: ; b=2\r\n"),
        ("te: trailers", with(&[("te", "trailers")]), "te: trailers\r\n"),
        ("an empty value", with(&[("x-a", "")]), "x-a: \r\n"),
        ("a tab within a value", with(&[("x-a", "1\t2")]), "x-a: 1\t2\r\n"),
        ("a name that repeats", with(&[("x-a", "1"), ("x-b", "2"), ("x-a", "3")]), "x-a: 1\r\nx-a: 3\r\nx-b: 2\r\n"),
        ("a length of nothing", with(&[("content-length", "0")]), "content-length: 0\r\n"),
        ("the same host beside :authority", with(&[("host", HOST)]), ""),
        ("the same host in capitals", with(&[("host", "ELIGIBILITY.TEST")]), ""),
        ("an empty host beside :authority", with(&[("host", "")]), ""),
        ("a host without :authority", vec![METHOD, SCHEME, PATH, ("host", HOST)], ""),
        ("plaintext's scheme", vec![METHOD, (":scheme", "http"), AUTHORITY, PATH], ""),
        ("a fragment, which no target has", vec![METHOD, SCHEME, AUTHORITY, (":path", "/row#/evil")], ""),
    ];
    for way in BOTH {
        let stage = Stage::new(way).await;
        let mut wrong = Vec::new();
        for (name, head, fields) in &rows {
            let outcome = stage.http2(&ends(&block(head))).await;
            let heard: Vec<String> = outcome.heard.iter().map(|request| without_ours(request)).collect();
            let expected = [format!("GET /row HTTP/1.1\r\n{fields}host: {HOST}\r\n\r\n")];
            if heard != expected || !outcome.is_open || outcome.end != End::Answered(200) {
                wrong.push(format!("{name}: {:?} {heard:?}", outcome.end));
            }
        }
        assert!(wrong.is_empty(), "{way:?}:\n{}", wrong.join("\n"));
    }
}

/// RFC 9113 sections 8.1 and 8.1.1, where it is only known when the head has gone on.
fn bodies() -> Vec<Row> {
    let row = |name, frames, told| Row { name, frames, told };
    let length = |value| [("content-length", value)];
    let trailed = |fields: &[(&str, &str)], trailers: &[(&str, &str)], flags| {
        let mut frames = uploads(fields, &["hi", ""]);
        frames.pop();
        frames.push(frame(HEADERS, END_HEADERS | flags, 1, &block(trailers)));
        frames
    };
    let sum = [("x-sum", "7")];
    vec![
        row("more data than the length", uploads(&length("2"), &["hello"]), WRONG),
        row("data where the length is nothing", uploads(&length("0"), &["hi"]), WRONG),
        row("less data than the length", uploads(&length("5"), &["hi"]), WRONG),
        row("less data in two frames", uploads(&length("5"), &["hi", ""]), WRONG),
        row("less data, ended by trailers", trailed(&length("5"), &sum, END_STREAM), WRONG),
        row("trailers without END_STREAM", trailed(&[], &sum, 0), WRONG),
        row("trailers without END_STREAM behind a length", trailed(&length("2"), &sum, 0), WRONG),
        row("uppercase in trailers", trailed(&[], &[("X-Sum", "7")], END_STREAM), GONE),
        row("CRLF in trailers", trailed(&[], &[("x-sum", "7\r\nx-evil: 1")], END_STREAM), GONE),
        row("transfer-encoding in trailers", trailed(&[], &[("transfer-encoding", "chunked")], END_STREAM), WRONG),
    ]
}

#[tokio::test]
async fn a_malformed_body_ends_its_stream_and_no_whole_request_is_heard() {
    check(bodies, |_, outcome| outcome.heard.iter().all(|heard| heard.starts_with("unfinished: POST /row "))).await;
}

/// The library drops it and keeps the rest, so what goes on is clean.
#[tokio::test]
async fn a_pseudo_header_field_in_trailers_does_not_go_on() {
    for way in BOTH {
        let stage = Stage::new(way).await;
        let mut frames = uploads(&[("trailer", "x-sum")], &["hi", ""]);
        frames.pop();
        frames.push(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[(":path", "/evil"), ("x-sum", "7")])));
        let outcome = stage.http2(&frames).await;
        assert_eq!((outcome.end, outcome.heard.len(), outcome.is_open), (End::Answered(200), 1, true), "{outcome:?}");
        let heard = without_ours(&outcome.heard[0]);
        let head =
            format!("POST /row HTTP/1.1\r\ntrailer: x-sum\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n");
        assert_eq!(heard.strip_prefix(&head), Some("2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n"), "{heard:?}");
    }
}
