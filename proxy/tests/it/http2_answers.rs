//! Answers over HTTP/2 row by row: what an application or a peer sends frame by frame, and what the caller gets of it. A
//! malformed one is a 502 or breaks off (RFC 9113 section 8.1.1), and never another message.

use std::sync::{Arc, Mutex};

use portcullis::ca::Leaf;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::backend::Raw;
use crate::client::{Ask, Http};
use crate::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, PING, PREFACE, PUSH_PROMISE, RST_STREAM,
    SETTINGS, block, frame,
};
use crate::peer;
use crate::pki::{API, CALLER, Pki};
use crate::rows::{BOTH, Way};
use crate::sidecar::{Plan, Sidecar, answered};
use crate::wire::Answer;

/// A sidecar, and what answers each request with the frames of the row.
struct Stage {
    way: Way,
    sidecar: Sidecar,
    leaf: Leaf,
    script: Script,
}

/// Frames of stream 1, which are sent on the stream of the request.
type Script = Arc<Mutex<Vec<Vec<u8>>>>;

impl Stage {
    async fn new(way: Way) -> Self {
        let pki = Pki::new();
        let script = Script::default();
        let (playing, acceptor) = (Arc::clone(&script), peer::acceptor(&pki.leaf(API), &["h2"]));
        let raw = Raw::start(move |stream| {
            let (script, acceptor) = (Arc::clone(&playing), acceptor.clone());
            async move {
                match way {
                    Way::Inbound => play(stream, script).await,
                    Way::Outbound => play(acceptor.accept(stream).await.unwrap(), script).await,
                }
            }
        })
        .await;
        let plan = match way {
            Way::Inbound => Plan::new(&pki, API).inbound("http2", raw.address),
            Way::Outbound => Plan::new(&pki, CALLER).outbound("http", raw.address, &[API]),
        };
        Self { way, sidecar: plan.ready().await, leaf: pki.leaf(CALLER), script }
    }

    /// Callers of HTTP/1.1 and of HTTP/2.
    async fn callers(&self) -> [Http; 2] {
        match self.way {
            Way::Inbound => {
                let address = self.sidecar.inbound();
                [Http::one(address, &self.leaf).await, Http::two(address, &self.leaf).await]
            }
            Way::Outbound => {
                let address = self.sidecar.outbound();
                [Http::plain_one(address).await, Http::plain_two(address).await]
            }
        }
    }

    /// What both callers get when this is the answer, and that the next request is answered with its own.
    async fn asked(&self, method: &'static str, frames: &[Vec<u8>]) -> Vec<hyper::Result<Answer>> {
        let mut got = Vec::new();
        for mut http in self.callers().await {
            *self.script.lock().unwrap() = frames.to_vec();
            got.push(http.try_send(Ask::new(method, "/row")).await);
            *self.script.lock().unwrap() = good();
            let [one, two] = self.callers().await;
            for mut http in [one, two] {
                assert_eq!(http.get("/next").await.text(), "good", "{:?}: the answer to the next request", self.way);
            }
        }
        got
    }
}

/// Answers each request with the script, whatever it asks for.
async fn play(io: impl AsyncRead + AsyncWrite + Unpin, script: Script) {
    let mut far = Frames::over(io);
    let mut preface = [0; PREFACE.len()];
    if far.read.read_exact(&mut preface).await.is_err() {
        return;
    }
    let _ = far.write.write_all(&frame(SETTINGS, 0, 0, &[])).await;
    while let Ok(arrived) = far.next().await {
        let answer = match arrived.kind {
            SETTINGS if arrived.flags & ACK == 0 => frame(SETTINGS, ACK, 0, &[]),
            PING if arrived.flags & ACK == 0 => frame(PING, ACK, 0, &arrived.payload),
            HEADERS => {
                let mut frames = script.lock().unwrap().clone();
                for frame in frames.iter_mut().filter(|frame| frame[5..9] == [0, 0, 0, 1]) {
                    frame[5..9].copy_from_slice(&arrived.stream.to_be_bytes());
                }
                frames.concat()
            }
            _ => continue,
        };
        if far.write.write_all(&answer).await.is_err() || far.write.flush().await.is_err() {
            return;
        }
    }
}

fn good() -> Vec<Vec<u8>> {
    with(&[("content-length", "4")], &["good"])
}

/// A head of these fields and no others, which ends the stream.
fn head(fields: &[(&str, &str)]) -> Vec<Vec<u8>> {
    vec![frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields))]
}

/// A 200 with these fields, which ends the stream.
fn fields(fields: &[(&str, &str)]) -> Vec<Vec<u8>> {
    head(&[&[(":status", "200")], fields].concat())
}

/// A 200 with these fields, then these DATA frames, the last of which ends the stream.
fn with(fields: &[(&str, &str)], data: &[&str]) -> Vec<Vec<u8>> {
    let head = frame(HEADERS, END_HEADERS, 1, &block(&[&[(":status", "200")], fields].concat()));
    let flags = |index| if index + 1 == data.len() { END_STREAM } else { 0 };
    let data = data.iter().enumerate().map(|(index, text)| frame(DATA, flags(index), 1, text.as_bytes()));
    [head].into_iter().chain(data).collect()
}

/// A 200 with these fields and a body of `hi`, then trailers.
fn trailed(fields: &[(&str, &str)], trailers: &[(&str, &str)], flags: u8) -> Vec<Vec<u8>> {
    let mut frames = with(fields, &["hi", ""]);
    frames.pop();
    frames.push(frame(HEADERS, END_HEADERS | flags, 1, &block(trailers)));
    frames
}

fn early(status: &str, flags: u8) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, 1, &block(&[(":status", status), ("x-early", "1")]))
}

type Row = (&'static str, Vec<Vec<u8>>);

fn malformed_heads() -> Vec<Row> {
    vec![
        ("CRLF in a value", fields(&[("x-a", "1\r\nset-cookie: evil=1")])),
        ("a whole answer in a value", fields(&[("x-a", "1\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")])),
        ("LF in a value", fields(&[("x-a", "1\n2")])),
        ("NUL in a value", fields(&[("x-a", "1\x002")])),
        ("CRLF in a name", fields(&[("x-a: 1\r\nx-evil", "1")])),
        ("a space in a name", fields(&[("x a", "1")])),
        ("a colon in a name", fields(&[("x-a:", "1")])),
        ("an empty name", fields(&[("", "1")])),
        ("uppercase", fields(&[("X-A", "1")])),
        ("connection", fields(&[("connection", "close")])),
        ("keep-alive", fields(&[("keep-alive", "timeout=5")])),
        ("proxy-connection", fields(&[("proxy-connection", "close")])),
        ("transfer-encoding", fields(&[("transfer-encoding", "chunked")])),
        ("upgrade", fields(&[("upgrade", "websocket")])),
        ("no :status", head(&[("x-a", "1")])),
        ("nothing at all", head(&[])),
        ("two :status", fields(&[(":status", "204")])),
        ("two :status, one behind a field", fields(&[("x-a", "1"), (":status", "204")])),
        (":status behind a field", head(&[("x-a", "1"), (":status", "200")])),
        ("a :status of two digits", head(&[(":status", "20")])),
        ("a :status of four digits", head(&[(":status", "2000")])),
        ("a :status in words", head(&[(":status", "200 OK")])),
        ("a :status of nothing", head(&[(":status", "")])),
        ("a :status below 100", head(&[(":status", "099")])),
        ("an unknown pseudo-header field", fields(&[(":evil", "1")])),
        ("101", head(&[(":status", "101")])),
        ("a length beside END_STREAM", fields(&[("content-length", "5")])),
        ("an early answer that ends the stream", vec![early("103", END_STREAM)]),
        ("an early answer and no other", vec![early("103", 0), frame(RST_STREAM, 0, 1, &[0, 0, 0, 2])]),
        ("data before the head", vec![frame(DATA, END_STREAM, 1, b"HTTP/1.1 200 OK\r\n\r\n")]),
        ("a push", vec![frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82])]),
        ("no answer", vec![frame(RST_STREAM, 0, 1, &[0, 0, 0, 2])]),
        ("more fields than are let through", fields(&[("x-a", "1"); 101])),
        ("a larger head than is let through", split(&[(":status", "200"), ("x-a", &"1".repeat(70_000))])),
    ]
}

/// A head in as many frames as it takes.
fn split(fields: &[(&str, &str)]) -> Vec<Vec<u8>> {
    let block = block(fields);
    let mut parts = block.chunks(16_384);
    let first = frame(HEADERS, END_STREAM, 1, parts.next().unwrap());
    let count = parts.len();
    let rest = parts
        .enumerate()
        .map(|(index, part)| frame(CONTINUATION, if index + 1 == count { END_HEADERS } else { 0 }, 1, part));
    [first].into_iter().chain(rest).collect()
}

#[tokio::test]
async fn a_malformed_head_is_a_502_of_ours() {
    for way in BOTH {
        let stage = Stage::new(way).await;
        let mut wrong = Vec::new();
        for (name, frames) in malformed_heads() {
            for (speaks, got) in stage.asked("GET", &frames).await.into_iter().enumerate() {
                let is_ours = got.as_ref().is_ok_and(|answer| {
                    let theirs = ["x-a", "x-evil", "x-early", "set-cookie"];
                    answer.status == 502 && answer.headers.iter().all(|(name, _)| !theirs.contains(&name.as_str()))
                });
                if !is_ours {
                    wrong.push(format!("{name}, HTTP/{}: {got:?}", speaks + 1));
                }
            }
        }
        assert!(wrong.is_empty(), "{way:?}:\n{}", wrong.join("\n"));
    }
}

fn malformed_bodies() -> Vec<Row> {
    let sum = [("x-sum", "7")];
    let two = [("content-length", "2"), ("content-length", "3")];
    vec![
        ("more data than the length", with(&[("content-length", "2")], &["hello"])),
        ("less data than the length", with(&[("content-length", "5")], &["hi"])),
        ("less data, ended by trailers", trailed(&[("content-length", "5")], &sum, END_STREAM)),
        ("two lengths", with(&two, &["hi"])),
        ("a length below zero", with(&[("content-length", "-2")], &["hi"])),
        ("a length with a sign", with(&[("content-length", "+2")], &["hi"])),
        ("a list of lengths", with(&[("content-length", "2, 2")], &["hi"])),
        ("an empty length", with(&[("content-length", "")], &["hi"])),
        ("a length that is a word", with(&[("content-length", "many")], &["hi"])),
        ("trailers without END_STREAM", trailed(&[], &sum, 0)),
        ("uppercase in trailers", trailed(&[], &[("X-Sum", "7")], END_STREAM)),
        ("CRLF in trailers", trailed(&[], &[("x-sum", "7\r\nx-evil: 1")], END_STREAM)),
        ("transfer-encoding in trailers", trailed(&[], &[("transfer-encoding", "chunked")], END_STREAM)),
        ("broken off", [with(&[], &["hi", ""])[..2].to_vec(), vec![frame(RST_STREAM, 0, 1, &[0, 0, 0, 2])]].concat()),
    ]
}

#[tokio::test]
async fn a_malformed_body_breaks_off_and_is_never_a_whole_answer() {
    for way in BOTH {
        let stage = Stage::new(way).await;
        let mut wrong = Vec::new();
        for (name, frames) in malformed_bodies() {
            for (speaks, got) in stage.asked("GET", &frames).await.into_iter().enumerate() {
                // The head may have gone on before its body showed itself to be wrong.
                if got.as_ref().is_ok_and(|answer| answer.status != 502) {
                    wrong.push(format!("{name}, HTTP/{}: {got:?}", speaks + 1));
                }
            }
        }
        assert!(wrong.is_empty(), "{way:?}:\n{}", wrong.join("\n"));
    }
}

#[tokio::test]
async fn too_many_trailers_of_an_answer_break_it_off_and_are_counted() {
    let names: Vec<String> = (0..101).map(|number| format!("x-{number}")).collect();
    let trailers: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    for way in BOTH {
        let stage = Stage::new(way).await;
        for got in stage.asked("GET", &trailed(&[], &trailers, END_STREAM)).await {
            assert!(got.is_err(), "{way:?}: {got:?}");
        }
        stage.sidecar.eventually_counts(&answered(way.direction(), "too_many_trailers"), 2).await;
        for got in stage.asked("GET", &trailed(&[], &trailers[1..], END_STREAM)).await {
            assert_eq!(got.unwrap().text(), "hi", "{way:?}");
        }
    }
}

#[tokio::test]
async fn a_sound_answer_arrives_whole_whatever_came_before_it() {
    type Sound = (&'static str, &'static str, Vec<Vec<u8>>, u16, &'static str);
    let after = |early: Vec<Vec<u8>>| [early, with(&[("x-a", "1")], &["o", "k"])].concat();
    let rows: Vec<Sound> = vec![
        ("plain", "GET", after(vec![]), 200, "ok"),
        ("after a 100", "GET", after(vec![early("100", 0)]), 200, "ok"),
        ("after a 103", "GET", after(vec![early("103", 0)]), 200, "ok"),
        ("after three early answers", "GET", after(vec![early("102", 0), early("103", 0), early("103", 0)]), 200, "ok"),
        ("with a length", "GET", with(&[("x-a", "1"), ("content-length", "2")], &["ok"]), 200, "ok"),
        ("204", "GET", head(&[(":status", "204"), ("x-a", "1")]), 204, ""),
        ("304 with a length", "GET", head(&[(":status", "304"), ("x-a", "1"), ("content-length", "5")]), 304, ""),
        ("HEAD with a length", "HEAD", fields(&[("x-a", "1"), ("content-length", "5")]), 200, ""),
        // The library drops what follows and keeps the rest, so what arrives is clean.
        (":path in an answer", "GET", fields(&[(":path", "/evil"), ("x-a", "1")]), 200, ""),
        (":status in trailers", "GET", trailed(&[("x-a", "1")], &[(":status", "404")], END_STREAM), 200, "hi"),
        ("a status that nobody knows", "GET", head(&[(":status", "299"), ("x-a", "1")]), 299, ""),
    ];
    for way in BOTH {
        let stage = Stage::new(way).await;
        let mut wrong = Vec::new();
        for (name, method, frames, status, text) in &rows {
            for got in stage.asked(method, frames).await {
                let is_whole = got.as_ref().is_ok_and(|answer| {
                    (answer.status, answer.text(), answer.header("x-a"), answer.header("x-early"))
                        == (*status, *text, Some("1"), None)
                });
                if !is_whole {
                    wrong.push(format!("{name}: {got:?}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{way:?}:\n{}", wrong.join("\n"));
    }
}

#[tokio::test]
async fn data_behind_its_length_is_part_of_no_answer() {
    for way in BOTH {
        let stage = Stage::new(way).await;
        let frames = with(&[("content-length", "2")], &["hi", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"]);
        for got in stage.asked("GET", &frames).await {
            // Over HTTP/1.1 the answer is whole at its length, when it has left before the rest came.
            assert!(
                got.as_ref().is_err() || got.as_ref().is_ok_and(|a| a.status == 502 || a.text() == "hi"),
                "{got:?}"
            );
        }
    }
}
