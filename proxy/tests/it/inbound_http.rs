//! Mesh to application: requests of every shape, over HTTP/1.1 and HTTP/2, to an application that speaks HTTP/1.1.

use bytes::Bytes;
use http::Version;
use http_body::Frame;
use http_body_util::BodyExt;
use portcullis::ca::Leaf;

use crate::backend::Backend;
use crate::client::{Ask, Hello, Http, flowing, secured};
use crate::eventually::{eventually, soon};
use crate::pki::{API, CALLER, Pki};
use crate::sidecar::{Plan, Sidecar, requests, shaken};
use crate::wire::Wire;

struct World {
    backend: Backend,
    sidecar: Sidecar,
    caller: Leaf,
}

impl World {
    async fn new(protocol: &str) -> Self {
        let pki = Pki::new();
        let backend = Backend::start().await;
        let sidecar = Plan::new(&pki, API).inbound(protocol, backend.address).ready().await;
        Self { backend, sidecar, caller: pki.leaf(CALLER) }
    }

    async fn both(&self) -> [Http; 2] {
        let address = self.sidecar.inbound();
        [Http::one(address, &self.caller).await, Http::two(address, &self.caller).await]
    }
}

#[tokio::test]
async fn requests_and_answers_pass_whole() {
    let world = World::new("http").await;
    for mut http in world.both().await {
        let rows = [
            ("GET", "/hello?a=1&b=%2f", "", 200, "ok"),
            ("POST", "/orders", "one order", 200, "ok"),
            ("PUT", "/orders/1", "another", 200, "ok"),
            ("DELETE", "/orders/1", "", 200, "ok"),
            ("PATCH", "/orders/1", "a bit", 200, "ok"),
            ("OPTIONS", "/orders", "", 200, "ok"),
            ("HEAD", "/hello", "", 200, ""),
            ("GET", "/status/204", "", 204, ""),
            ("GET", "/status/304", "", 304, ""),
            ("GET", "/status/404", "", 404, ""),
            ("POST", "/status/500", "x", 500, ""),
        ];
        for (method, path, body, status, answered) in rows {
            let answer = http.send(Ask::new(method, path).text(body)).await;
            assert_eq!((answer.status, answer.text()), (status, answered), "{method} {path} over {http:?}");
            assert_eq!(answer.header("etag"), Some("\"1\""), "{method} {path}");
            let seen = world.backend.last();
            assert_eq!((seen.method.as_str(), seen.target.as_str()), (method, path));
            assert_eq!(seen.body, body.as_bytes(), "{method} {path}");
            assert_eq!(seen.version, Version::HTTP_11);
        }
        // An answer without a body still tells how long it would be.
        let head = http.send(Ask::new("HEAD", "/hello")).await;
        assert_eq!(head.header("content-length"), Some("2"));
    }
    world.sidecar.eventually_counts(&requests("inbound", 304), 2).await;
    assert_eq!(world.sidecar.count(&shaken("inbound")), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_body_streams_both_ways_at_once() {
    const CHUNK: usize = 64 << 10;
    const CHUNKS: usize = (20 << 20) / CHUNK;
    let chunk = |number: usize| Bytes::from(vec![number as u8; CHUNK]);
    let world = World::new("http").await;
    for mut http in world.both().await {
        let (sender, body) = flowing();
        sender.send(Frame::data(chunk(0))).await.unwrap();
        let response = http.open(Ask::new("POST", "/echo").body(body)).await.unwrap();
        let mut echoed = response.into_body();
        // The first chunk comes back before the second is sent: nothing waits for the whole.
        let mut got = 0;
        while got < CHUNK {
            got += soon("the first chunk", echoed.frame()).await.unwrap().unwrap().into_data().unwrap().len();
        }
        let sending = tokio::spawn(async move {
            for number in 1..CHUNKS {
                sender.send(Frame::data(chunk(number))).await.unwrap();
            }
        });
        while let Some(frame) = soon("a chunk", echoed.frame()).await {
            for byte in frame.unwrap().into_data().unwrap() {
                assert_eq!(byte, (got / CHUNK) as u8, "at byte {got}");
                got += 1;
            }
        }
        sending.await.unwrap();
        assert_eq!(got, CHUNK * CHUNKS);
    }
}

#[tokio::test]
async fn a_chunked_body_and_its_trailers_arrive() {
    let world = World::new("http").await;
    let mut wire = secured(world.sidecar.inbound(), &world.caller).await;
    let head = "POST /sum HTTP/1.1\r\nhost: eligibility.test\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n";
    let answer = wire.ask(&format!("{head}3\r\none\r\n3\r\ntwo\r\n0\r\nx-sum: 7\r\n\r\n")).await;
    assert_eq!(answer.status, 200);
    let seen = world.backend.last();
    assert_eq!(seen.body, b"onetwo");
    assert_eq!(seen.trailers, [("x-sum".to_owned(), "7".to_owned())]);
}

#[tokio::test]
async fn a_body_of_unknown_length_arrives_with_a_method_that_rarely_has_one() {
    let world = World::new("http").await;
    for mut http in world.both().await {
        for method in ["GET", "HEAD", "DELETE"] {
            let (sender, body) = flowing();
            sender.send(Frame::data(Bytes::from_static(b"a query"))).await.unwrap();
            drop(sender);
            let answer = http.send(Ask::new(method, "/hello").body(body).header("transfer-encoding", "chunked")).await;
            assert_eq!(answer.status, 200, "{method} over {http:?}");
            assert_eq!(world.backend.last().body, b"a query", "{method} over {http:?}");
        }
    }
}

#[tokio::test]
async fn trailers_of_an_answer_arrive_at_callers_that_take_them() {
    let world = World::new("http").await;
    for mut http in world.both().await {
        let answer = http.send(Ask::get("/trailers").header("te", "trailers")).await;
        assert_eq!((answer.status, answer.text(), answer.trailer("x-sum")), (200, "summed", Some("42")), "{http:?}");
    }
}

#[tokio::test]
async fn a_kept_alive_connection_takes_one_request_after_another() {
    let world = World::new("http").await;
    let mut wire = secured(world.sidecar.inbound(), &world.caller).await;
    for number in 0..20 {
        assert_eq!(wire.get(&format!("/{number}")).await.status, 200);
    }
    assert_eq!(world.backend.seen().len(), 20);
    assert_eq!(world.backend.connections(), 1, "the connection to the application is kept too");
    // Two at once, answered in order.
    let request = |path| format!("GET {path} HTTP/1.1\r\nhost: eligibility.test\r\n\r\n");
    wire.write(request("/status/201") + &request("/status/202")).await;
    assert_eq!(wire.answer(true).await.status, 201);
    assert_eq!(wire.answer(true).await.status, 202);
    // And the caller may say that it was the last.
    let last = "GET /last HTTP/1.1\r\nhost: eligibility.test\r\nconnection: close\r\n\r\n";
    assert_eq!(wire.ask(last).await.header("connection"), Some("close"));
    assert_eq!(wire.rest().await, b"");
}

#[tokio::test]
async fn http_1_0_is_answered_and_closed() {
    let world = World::new("http").await;
    let mut wire = secured(world.sidecar.inbound(), &world.caller).await;
    let answer = wire.ask("GET /old HTTP/1.0\r\n\r\n").await;
    assert_eq!((answer.status, answer.text()), (200, "ok"));
    assert_eq!(wire.rest().await, b"");
    let seen = world.backend.last();
    assert_eq!(seen.version, Version::HTTP_11);
    let application = world.backend.address.to_string();
    assert_eq!(seen.header("host"), Some(application.as_str()), "it names no host: the application gets its own");

    let mut wire = secured(world.sidecar.inbound(), &world.caller).await;
    for _ in 0..2 {
        let kept = "GET /old HTTP/1.0\r\nhost: eligibility.test\r\nconnection: keep-alive\r\n\r\n";
        assert_eq!(wire.ask(kept).await.status, 200);
    }
}

#[tokio::test]
async fn a_caller_that_waits_for_100_continue_gets_it() {
    let world = World::new("http").await;
    let mut wire = secured(world.sidecar.inbound(), &world.caller).await;
    wire.write("POST /slow HTTP/1.1\r\nhost: eligibility.test\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!(wire.answer(false).await.status, 100);
    wire.write("heavy").await;
    assert_eq!(wire.answer(true).await.status, 200);
    assert_eq!(world.backend.last().body, b"heavy");
}

#[tokio::test]
async fn both_protocols_are_offered_and_a_caller_without_alpn_speaks_http_1_1() {
    let world = World::new("http").await;
    let address = world.sidecar.inbound();
    for (offered, agreed) in [
        (&["h2", "http/1.1"][..], Some(&b"h2"[..])),
        (&["http/1.1", "h2"], Some(b"h2")),
        (&["http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let stream = Hello::new(&world.caller, offered).shake(address).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), agreed, "{offered:?}");
        assert_eq!(stream.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        if offered.is_empty() {
            assert_eq!(Wire::new(stream).get("/").await.status, 200);
        }
    }
}

#[tokio::test]
async fn many_streams_of_one_connection_are_served_at_once() {
    let world = World::new("http").await;
    let Http::Two(sender) = Http::two(world.sidecar.inbound(), &world.caller).await else { unreachable!() };
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let mut http = Http::Two(sender.clone());
        asking.spawn(async move { http.get("/hold").await });
    }
    eventually("all are at the application", async || match world.backend.seen().len() {
        50 => Ok(()),
        count => Err(count),
    })
    .await;
    for _ in 0..50 {
        world.backend.release();
    }
    while let Some(answer) = asking.join_next().await {
        assert_eq!(answer.unwrap().text(), "held");
    }
}

#[tokio::test]
async fn what_is_no_request_gets_400_and_the_next_connection_is_served() {
    let world = World::new("http").await;
    for bad in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nbad field: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\n folded: 1\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n",
        "GET http://b/ HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET no-slash HTTP/1.1\r\nhost: a\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let mut wire = secured(world.sidecar.inbound(), &world.caller).await;
        assert_eq!(wire.ask(bad).await.status, 400, "{bad:?}");
    }
    assert_eq!(world.backend.seen().len(), 0, "{:?}", world.backend.seen());
    assert_eq!(secured(world.sidecar.inbound(), &world.caller).await.get("/").await.status, 200);
}

#[tokio::test]
async fn of_two_lengths_the_application_never_sees_two_requests() {
    let world = World::new("http").await;
    let smuggled = "0\r\n\r\nGET /admin HTTP/1.1\r\nhost: a\r\n\r\n";
    let head = "POST /first HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n";
    let mut wire = secured(world.sidecar.inbound(), &world.caller).await;
    wire.write(format!("{head}content-length: {}\r\n\r\n{smuggled}", smuggled.len())).await;
    let status = wire.answer(true).await.status;
    assert!(matches!(status, 200 | 400), "{status}");
    // Whoever reads both headers as RFC 9112 section 6.3 says closes after such a request, or refuses it.
    assert_eq!(String::from_utf8_lossy(&wire.rest().await), "");
    assert!(world.backend.seen().iter().all(|seen| seen.target == "/first"), "{:?}", world.backend.seen());
}

#[tokio::test]
async fn an_http_1_1_caller_that_goes_away_takes_its_request_with_it() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let sidecar = Plan::new(&pki, API).inbound("http", backend.address).ready().await;
    let mut wire = secured(sidecar.inbound(), &pki.leaf(CALLER)).await;
    wire.write("GET /never HTTP/1.1\r\nhost: eligibility.test\r\n\r\n").await;
    eventually("the application is asked", async || backend.seen().pop().map(drop).ok_or(())).await;
    drop(wire);
    sidecar.eventually_counts(&requests("inbound", 499), 1).await;
}
