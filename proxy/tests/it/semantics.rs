//! What HTTP means stays what it means: each row runs for callers of HTTP/1.1 and HTTP/2, inbound and outbound, before an
//! application of HTTP/1.1 and one of HTTP/2 (RFC 9110, RFC 9112, RFC 9113).

use aws_lc_rs::digest::{Context, SHA256, digest};
use bytes::Bytes;
use http::{HeaderMap, Version};
use http_body::Frame;
use http_body_util::BodyExt;
use portcullis::ca::Leaf;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::backend::{Backend, Raw, nobody};
use crate::client::{Ask, Hello, Http, flowing};
use crate::eventually::{eventually, soon};
use crate::grpc::{call, message};
use crate::peer;
use crate::pki::{API, CALLER, Pki};
use crate::rows::{BOTH, Recorder, Stage, Way};
use crate::sidecar::{Plan, Sidecar, answered};
use crate::wire::{Answer, Wire};

/// One caller, a sidecar and an application that records.
struct World {
    name: String,
    place: Place,
    backend: Backend,
}

/// A sidecar and how it is called.
struct Place {
    way: Way,
    speaks: Version,
    sidecar: Sidecar,
    leaf: Leaf,
}

const VERSIONS: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];

/// Runs a row in every combination.
async fn everywhere(row: impl AsyncFn(World)) {
    for way in BOTH {
        for speaks in VERSIONS {
            for application in VERSIONS {
                row(World::new(way, speaks, application).await).await;
            }
        }
    }
}

impl World {
    async fn new(way: Way, speaks: Version, application: Version) -> Self {
        let (pki, backend) = (Pki::new(), Backend::start().await);
        let plan = match (way, application) {
            (Way::Inbound, Version::HTTP_2) => Plan::new(&pki, API).inbound("http2", backend.address),
            (Way::Inbound, _) => Plan::new(&pki, API).inbound("http", backend.address),
            (Way::Outbound, _) => {
                let alpn = if application == Version::HTTP_2 { "h2" } else { "http/1.1" };
                let address = peer::serve(&pki.leaf(API), &[alpn], &backend).await;
                Plan::new(&pki, CALLER).outbound("http", address, &[API])
            }
        };
        let place = Place { way, speaks, sidecar: plan.ready().await, leaf: pki.leaf(CALLER) };
        Self { name: format!("{way:?}, {speaks:?} to {application:?}"), place, backend }
    }

    async fn http(&self) -> Http {
        self.place.http().await
    }
}

impl Place {
    /// Before an application of HTTP/1.1 that answers each request with these bytes.
    async fn answering(way: Way, speaks: Version, answer: &'static [u8]) -> Self {
        let pki = Pki::new();
        let plan = match way {
            Way::Inbound => Plan::new(&pki, API).inbound("http", Recorder::start(answer, None).await.address),
            Way::Outbound => {
                let recorder = Recorder::start(answer, Some(&pki.leaf(API))).await;
                Plan::new(&pki, CALLER).outbound("http", recorder.address, &[API])
            }
        };
        Self { way, speaks, sidecar: plan.ready().await, leaf: pki.leaf(CALLER) }
    }

    async fn http(&self) -> Http {
        let (inbound, outbound) = (self.way == Way::Inbound, self.speaks);
        match (inbound, outbound) {
            (true, Version::HTTP_2) => Http::two(self.sidecar.inbound(), &self.leaf).await,
            (true, _) => Http::one(self.sidecar.inbound(), &self.leaf).await,
            (false, Version::HTTP_2) => Http::plain_two(self.sidecar.outbound()).await,
            (false, _) => Http::plain_one(self.sidecar.outbound()).await,
        }
    }

    /// HTTP/1.1 by hand.
    async fn wire(&self) -> Wire<Box<dyn Io>> {
        Wire::new(match self.way {
            Way::Inbound => {
                Box::new(Hello::new(&self.leaf, &["http/1.1"]).shake(self.sidecar.inbound()).await.unwrap())
                    as Box<dyn Io>
            }
            Way::Outbound => Box::new(TcpStream::connect(self.sidecar.outbound()).await.unwrap()),
        })
    }
}

/// Both kinds of connection.
trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

#[tokio::test]
async fn trailers_pass_both_ways() {
    everywhere(async |world| {
        let mut http = world.http().await;
        let (sender, body) = flowing();
        let sending = async {
            sender.send(Frame::data("summed".into())).await.unwrap();
            let sum: HeaderMap = [("x-sum".parse().unwrap(), "7".parse().unwrap())].into_iter().collect();
            sender.send(Frame::trailers(sum)).await.unwrap();
            drop(sender);
        };
        let ask = Ask::new("POST", "/trailers").header("trailer", "x-sum").header("te", "trailers").body(body);
        let (answer, ()) = tokio::join!(http.send(ask), sending);
        assert_eq!((answer.text(), answer.trailer("x-sum")), ("summed", Some("42")), "{}", world.name);
        let seen = world.backend.last();
        assert_eq!(seen.body, b"summed", "{}", world.name);
        assert_eq!(seen.trailers, [("x-sum".to_owned(), "7".to_owned())], "{}", world.name);
    })
    .await;
}

#[tokio::test]
async fn each_side_sees_a_chunk_before_the_next_is_sent() {
    everywhere(async |world| {
        let mut http = world.http().await;
        let (sender, body) = flowing();
        sender.send(Frame::data("0".into())).await.unwrap();
        let mut echoed = http.open(Ask::new("POST", "/echo").body(body)).await.unwrap().into_body();
        for number in 0..5_u8 {
            let frame = soon("the echo of a chunk", echoed.frame()).await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), [b'0' + number][..], "{}", world.name);
            sender.send(Frame::data(Bytes::from(vec![b'1' + number]))).await.unwrap();
        }
        drop(sender);
        assert_eq!(soon("the rest", echoed.collect()).await.unwrap().to_bytes(), "5", "{}", world.name);
    })
    .await;
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_upload_arrives() {
    everywhere(async |world| {
        let mut http = world.http().await;
        let (sender, body) = flowing();
        sender.send(Frame::data("begun".into())).await.unwrap();
        // Answered without a look at the body, which does not end.
        let answer = http.send(Ask::new("POST", "/upgrade").body(body)).await;
        assert_eq!((answer.status, answer.header("etag")), (426, Some("\"1\"")), "{}", world.name);
        assert!(world.backend.last().body.is_empty(), "{}", world.name);
        drop(sender);
        let after = world.http().await.get("/after").await;
        assert_eq!(after.text(), "ok", "{}: the answer to another request", world.name);
    })
    .await;
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_its_request_with_it() {
    everywhere(async |world| {
        let mut http = world.http().await;
        let arrived = eventually("the request arrives", async || world.backend.seen().first().map(drop).ok_or(()));
        tokio::select! {
            () = arrived => {}
            answer = http.open(Ask::get("/never")) => panic!("{}: {answer:?}", world.name),
        }
        drop(http);
        eventually("the application hears of it", async || match world.backend.abandoned() {
            1 => Ok(()),
            count => Err((world.name.clone(), count)),
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_arrive_byte_by_byte_both_ways() {
    const CHUNK: usize = 64 << 10;
    const CHUNKS: usize = (32 << 20) / CHUNK;
    let data = Bytes::from((0..CHUNK + CHUNKS).map(|at| (at % 251) as u8).collect::<Vec<_>>());
    let sent = digest(&SHA256, &(0..CHUNKS).flat_map(|n| data[n..n + CHUNK].to_vec()).collect::<Vec<_>>());
    for (speaks, application) in [(Version::HTTP_11, Version::HTTP_2), (Version::HTTP_2, Version::HTTP_11)] {
        for way in BOTH {
            let world = World::new(way, speaks, application).await;
            let mut http = world.http().await;
            let ((sender, body), data) = (flowing(), data.clone());
            let sending = tokio::spawn(async move {
                for number in 0..CHUNKS {
                    sender.send(Frame::data(data.slice(number..number + CHUNK))).await.unwrap();
                }
            });
            let mut echoed = http.open(Ask::new("POST", "/echo").body(body)).await.unwrap().into_body();
            let (mut got, mut length) = (Context::new(&SHA256), 0);
            while let Some(frame) = soon("a chunk", echoed.frame()).await {
                let data = frame.unwrap().into_data().unwrap();
                length += data.len();
                got.update(&data);
            }
            sending.await.unwrap();
            assert_eq!(length, CHUNK * CHUNKS, "{}", world.name);
            assert_eq!(got.finish().as_ref(), sent.as_ref(), "{}", world.name);
        }
    }
}

#[tokio::test]
async fn an_answer_without_a_body_has_none_and_keeps_its_length() {
    let rows: [(&str, &'static [u8], u16, Option<&str>); 7] = [
        ("HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", 200, Some("5")),
        ("HEAD", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", 200, None),
        ("HEAD", b"HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\n", 404, Some("5")),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204, None),
        ("GET", b"HTTP/1.1 304 Not Modified\r\n\r\n", 304, None),
        ("GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", 304, Some("5")),
        ("GET", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", 204, None),
    ];
    for (method, answer, status, length) in rows {
        for way in BOTH {
            for speaks in VERSIONS {
                let place = Place::answering(way, speaks, answer).await;
                let row = format!("{method} {status} {length:?}, {way:?}, {speaks:?}");
                let mut http = place.http().await;
                // A 304 may leave its length out (RFC 9110 section 8.6), and over HTTP/1.1 the library does.
                let length = length.filter(|_| status != 304 || speaks == Version::HTTP_2);
                // Twice on one connection: what is taken for a body would be missing from the second.
                for _ in 0..2 {
                    let got = http.send(Ask::new(method, "/row")).await;
                    assert_eq!((got.status, got.text(), got.header("content-length")), (status, "", length), "{row}");
                    assert_eq!(got.header("link"), None, "{row}");
                }
            }
        }
    }
}

#[tokio::test]
async fn an_early_answer_does_not_stand_in_the_way_of_the_final_one() {
    const EARLY: &[u8] =
        b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    for way in BOTH {
        for speaks in VERSIONS {
            let place = Place::answering(way, speaks, EARLY).await;
            let got = place.http().await.get("/row").await;
            assert_eq!((got.status, got.text(), got.header("link")), (200, "ok", None), "{way:?}, {speaks:?}");
        }
    }
}

/// An application of HTTP/1.1 whose answer ends with its connection, with or without a goodbye.
async fn closing(way: Way, speaks: Version, says_goodbye: bool) -> Place {
    async fn answer(mut io: impl AsyncRead + AsyncWrite + Unpin, says_goodbye: bool) {
        let mut wire = Wire::new(&mut io);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = wire.exactly(1).await else { return };
            head.extend(byte);
        }
        let _ = wire.io.write_all(b"HTTP/1.1 200 OK\r\nx-a: 1\r\n\r\nuntil the end").await;
        let _ = wire.io.flush().await;
        if says_goodbye {
            let _ = wire.io.shutdown().await;
        }
    }
    let pki = Pki::new();
    let acceptor = peer::acceptor(&pki.leaf(API), &["http/1.1"]);
    let raw = Raw::start(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            match way {
                Way::Inbound => answer(stream, says_goodbye).await,
                Way::Outbound => answer(acceptor.accept(stream).await.unwrap(), says_goodbye).await,
            }
        }
    })
    .await;
    let plan = match way {
        Way::Inbound => Plan::new(&pki, API).inbound("http", raw.address),
        Way::Outbound => Plan::new(&pki, CALLER).outbound("http", raw.address, &[API]),
    };
    Place { way, speaks, sidecar: plan.ready().await, leaf: pki.leaf(CALLER) }
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_arrives_whole() {
    for way in BOTH {
        for speaks in VERSIONS {
            let place = closing(way, speaks, true).await;
            let mut http = place.http().await;
            for _ in 0..2 {
                let got = http.get("/row").await;
                assert_eq!((got.status, got.text(), got.header("x-a")), (200, "until the end", Some("1")));
            }
        }
        // Over HTTP/1.1 it is chunked, so that the caller's connection is kept.
        let mut wire = closing(way, Version::HTTP_11, true).await.kept().await;
        assert_eq!(wire.get("/row").await.header("transfer-encoding"), Some("chunked"), "{way:?}");
        assert_eq!(wire.get("/row").await.text(), "until the end", "{way:?}");
    }
}

/// Whoever cuts a peer's connection must not be able to shorten its answers: TLS ends with a goodbye (RFC 8446 section 6.1).
#[tokio::test]
async fn a_peers_answer_that_was_cut_is_not_taken_for_whole() {
    for speaks in VERSIONS {
        let place = closing(Way::Outbound, speaks, false).await;
        let got = place.http().await.try_send(Ask::get("/row")).await;
        assert!(got.is_err(), "{speaks:?}: {got:?}");
    }
}

#[tokio::test]
async fn http_1_0_gets_a_length_or_the_end_of_the_connection() {
    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    const LONG: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
    for way in BOTH {
        for (answer, keep, is_kept) in [
            (CHUNKED, "", false),
            (CHUNKED, "connection: keep-alive\r\n", false),
            (LONG, "", false),
            (LONG, "connection: keep-alive\r\n", true),
        ] {
            let place = Place::answering(way, Version::HTTP_11, answer).await;
            let mut wire = place.wire().await;
            let request = format!("GET /row HTTP/1.0\r\nhost: eligibility.test\r\n{keep}\r\n");
            let got = wire.ask(&request).await;
            let row = format!("{way:?}, {keep:?}: {got:?}");
            assert_eq!((got.status, got.text(), got.header("transfer-encoding")), (200, "hi", None), "{row}");
            if is_kept {
                assert_eq!(wire.ask(&request).await.text(), "hi", "{row}");
            } else {
                assert_eq!(wire.rest().await, b"", "{row}");
            }
        }
    }
}

/// Only `/open` may be called.
const OPEN_ONLY: &str = r#"
apiVersion: policy.portcullis.dev/v1
kind: AuthorizationPolicy
metadata: {name: some}
spec:
  allow:
    - name: open-only
      to: {paths: [/open]}
"#;

#[tokio::test]
async fn a_body_is_asked_for_when_its_request_is_allowed_and_never_served_as_a_request() {
    let smuggled = "POST /open HTTP/1.1\r\nhost: eligibility.test\r\ncontent-length: 0\r\n\r\n";
    let head = |path: &str| {
        let length = smuggled.len();
        format!(
            "POST {path} HTTP/1.1\r\nhost: eligibility.test\r\ncontent-length: {length}\r\nexpect: 100-continue\r\n\r\n"
        )
    };
    let (pki, backend) = (Pki::new(), Backend::start().await);
    let sidecar = Plan::new(&pki, API).policy(OPEN_ONLY).inbound("http", backend.address).ready().await;
    let place = Place { way: Way::Inbound, speaks: Version::HTTP_11, sidecar, leaf: pki.leaf(CALLER) };
    // Allowed: asked for its body, which arrives.
    let mut wire = place.wire().await;
    wire.write(head("/open")).await;
    assert_eq!(wire.answer(false).await.status, 100);
    wire.write(smuggled).await;
    assert_eq!(wire.answer(true).await.status, 200);
    assert_eq!(backend.last().body, smuggled.as_bytes());
    // Denied: refused at once. Whether it sends its body then or with its head, no byte of it is served.
    for early in ["", smuggled] {
        let mut wire = place.wire().await;
        wire.write(head("/closed") + early).await;
        assert_eq!(wire.answer(true).await.status, 403, "and no 100 before it");
        if early.is_empty() {
            let _ = wire.io.write_all(smuggled.as_bytes()).await;
        }
        // The body is read to its end, or the connection closes.
        let last = "GET /closed HTTP/1.1\r\nhost: eligibility.test\r\nconnection: close\r\n\r\n";
        let _ = wire.io.write_all(last.as_bytes()).await;
        let rest = wire.rest().await;
        let rest = String::from_utf8_lossy(&rest);
        assert!(
            rest.is_empty() || rest.starts_with("HTTP/1.1 403 ") && rest.matches("HTTP/1.1 ").count() == 1,
            "{rest}"
        );
    }
    assert_eq!(backend.seen().len(), 1, "{:?}", backend.seen());
}

/// RFC 9110 section 10.1.1: whoever does not know an expectation may ignore it, and the application is asked instead.
#[tokio::test]
async fn an_expectation_passes_on_to_the_application() {
    everywhere(async |world| {
        for expectation in ["100-continue", "200-maybe"] {
            let ask = Ask::new("POST", "/row").header("expect", expectation).text("heavy");
            assert_eq!(world.http().await.send(ask).await.text(), "ok", "{}", world.name);
            let seen = world.backend.last();
            assert_eq!((seen.header("expect"), &*seen.body), (Some(expectation), &b"heavy"[..]), "{}", world.name);
        }
    })
    .await;
}

/// A peer learns status and request ID, our application the reason as well; nobody is told what answers.
#[tokio::test]
async fn the_heads_of_our_own_answers_hold_nothing_else() {
    let (pki, backend) = (Pki::new(), Backend::start().await);
    let broken = Raw::start(|mut stream| async move {
        let _ = stream.write_all(b"no answer at all\r\n\r\n").await;
        let _ = stream.read(&mut [0; 1024]).await;
    })
    .await;
    let plan = Plan::new(&pki, API).policy(OPEN_ONLY).inbound("http", backend.address).inbound("http", broken.address);
    let far = plan.ready().await;
    let (inbound, leaf) = (far.running().addresses().inbound.clone(), pki.leaf(CALLER));
    let near = Plan::new(&pki, CALLER).outbound("http", nobody().await, &[API]).ready().await;
    let ask = |path: &str, more: &str| {
        format!("GET {path} HTTP/1.1\r\nhost: eligibility.test\r\nx-request-id: mine\r\n{more}\r\n")
    };
    // Behind what is malformed nothing is read.
    let refused = |line: &str| {
        let close = if line.starts_with("400") { "connection: close\r\n" } else { "" };
        format!("HTTP/1.1 {line}\r\nx-request-id: mine\r\n{close}content-length: 0\r\n\r\n")
    };
    for (listener, request, line) in [
        (0, ask("/closed", ""), "403 Forbidden"),
        (0, ask("/a%00", ""), "400 Bad Request"),
        (0, ask("/open", "host: b\r\n"), "400 Bad Request"),
        (1, ask("/open", ""), "502 Bad Gateway"),
    ] {
        let mut wire = Wire::new(Hello::new(&leaf, &["http/1.1"]).shake(inbound[listener]).await.unwrap());
        wire.ask(&request).await;
        assert_eq!(String::from_utf8_lossy(&wire.read), refused(line), "{request}");
    }
    // In either direction what is no request is answered by the library, which says no more than that.
    for way in BOTH {
        let outcome = Stage::new(way).await.http1("GET / HTTP/1.1\r\nhost: a\r\nbad field: 1\r\n\r\n").await;
        assert_eq!(outcome.answer.map(|answer| answer.status), Some(400));
        let read = String::from_utf8_lossy(&outcome.read);
        assert_eq!(read, "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", "{way:?}");
    }
    let mut http = Http::two(inbound[0], &leaf).await;
    let answer = http.send(Ask::get("/closed").header("x-request-id", "mine")).await;
    assert_eq!(
        answer.headers.iter().filter(|(name, _)| name != "content-length").collect::<Vec<_>>(),
        [&("x-request-id".to_owned(), "mine".to_owned())]
    );

    let mut wire = Wire::new(TcpStream::connect(near.outbound()).await.unwrap());
    let answer = wire.ask(&ask("/", "")).await;
    let names: Vec<&str> = answer.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["x-request-id", "x-portcullis-reason", "content-type", "content-length"]);
    assert_eq!(answer.header("x-portcullis-reason"), Some("upstream_unreachable"));
    // To a gRPC caller it is a gRPC status, with the reason in words.
    let mut http = Http::plain_two(near.outbound()).await;
    let answer = http.send(call("/test.Echo/Unary").text(message("x"))).await;
    assert_eq!((answer.status, answer.header("grpc-status")), (200, Some("14")));
    assert!(answer.header("grpc-message").is_some_and(|text| text.contains("could not be connected to")), "{answer:?}");
    assert_eq!(near.count(&answered("outbound", "upstream_unreachable")), 2);
}

impl Place {
    /// A connection that keeps its place alive.
    async fn kept(self) -> Kept {
        Kept { wire: self.wire().await, _place: self }
    }
}

struct Kept {
    wire: Wire<Box<dyn Io>>,
    _place: Place,
}

impl Kept {
    async fn get(&mut self, path: &str) -> Answer {
        self.wire.get(path).await
    }
}
