//! Limits and timeouts, each with what the caller sees and what is counted.

use std::time::Duration;

use http_body::Frame;
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;

use crate::backend::{Backend, Raw};
use crate::client::{Ask, Http, flowing, is_closed, is_served, opaque, plain, secured};
use crate::eventually::soon;
use crate::grpc::{call, message};
use crate::pki::{API, CALLER, OTHER, Pki};
use crate::sidecar::{Plan, Sidecar, answered, closed};
use crate::websocket::UPGRADE;
use crate::websocket_http2;

async fn bounded(pki: &Pki, limits: &str, timeouts: &str) -> (Sidecar, Backend) {
    let backend = Backend::start().await;
    let timeouts = format!("lameDuck: 0, drain: 1s{}{timeouts}", if timeouts.is_empty() { "" } else { ", " });
    let plan = Plan::new(pki, API).inbound("http", backend.address).limits(limits).timeouts(&timeouts);
    (plan.ready().await, backend)
}

#[tokio::test]
async fn connections_are_limited_in_all_and_for_each_caller() {
    let pki = Pki::new();
    let (sidecar, _backend) = bounded(&pki, "connections: 3, connectionsPerIdentity: 2", "").await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut wire = secured(sidecar.inbound(), &pki.leaf(CALLER)).await;
        assert_eq!(wire.get("/").await.status, 200);
        kept.push(wire);
    }
    let mut third = secured(sidecar.inbound(), &pki.leaf(CALLER)).await;
    is_closed(&mut third.io).await;
    assert_eq!(sidecar.count(&closed("inbound", "too_many_connections_of_identity")), 1);
    let mut other = secured(sidecar.inbound(), &pki.leaf(OTHER)).await;
    assert_eq!(other.get("/").await.status, 200, "another caller is not concerned");
    let mut fourth = secured(sidecar.inbound(), &pki.leaf(OTHER)).await;
    is_closed(&mut fourth.io).await;
    assert_eq!(sidecar.count(&closed("inbound", "too_many_connections")), 1);
    drop(kept);
    crate::eventually::eventually("room again", async || match is_served(sidecar.inbound(), &pki.leaf(CALLER)).await {
        Ok(()) => Ok(()),
        Err(error) => Err(error),
    })
    .await;
}

#[tokio::test]
async fn a_tunnel_without_room_is_refused_before_the_application_hears_of_it() {
    let pki = Pki::new();
    let backend = Backend::taking_streams().await;
    for (limits, reason) in
        [("connections: 1", "too_many_connections"), ("connectionsPerIdentity: 1", "too_many_connections_of_identity")]
    {
        let before = upgrades(&backend);
        let sidecar = Plan::new(&pki, API).inbound("http2", backend.address).limits(limits).ready().await;
        // Over HTTP/2 it is one more.
        let http = Http::two(sidecar.inbound(), &pki.leaf(CALLER)).await;
        let response = websocket_http2::ask(&http, "/upgrade").await;
        assert_eq!((response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()), (503, "1"));
        assert_eq!(sidecar.count(&answered("inbound", reason)), 1);
        assert_eq!(upgrades(&backend), before, "{reason}");
        // Over HTTP/1.1 it takes the place of its connection.
        drop(http);
        let sidecar = Plan::new(&pki, API).inbound("http", backend.address).limits(limits).ready().await;
        let mut wire = secured(sidecar.inbound(), &pki.leaf(CALLER)).await;
        assert_eq!(wire.ask(UPGRADE).await.status, 101);
        assert_eq!(soon("the welcome", wire.exactly(7)).await.unwrap(), b"welcome");
        crate::eventually::eventually("the connection has left", async || {
            let open = sidecar.admin("/connections").await;
            if open["open"] == 1 { Ok(()) } else { Err(open) }
        })
        .await;
        let mut more = secured(sidecar.inbound(), &pki.leaf(CALLER)).await;
        is_closed(&mut more.io).await;
        assert_eq!(sidecar.count(&closed("inbound", reason)), 1, "the tunnel counts");
        drop(wire);
        assert_eq!(upgrades(&backend), before + 1);
        return_of_room(&sidecar, &pki).await;
    }
}

/// How often the application was asked for a WebSocket.
fn upgrades(backend: &Backend) -> usize {
    backend.seen().iter().filter(|seen| seen.target == "/upgrade").count()
}

/// Waits until a caller is served again.
async fn return_of_room(sidecar: &Sidecar, pki: &Pki) {
    let leaf = pki.leaf(CALLER);
    crate::eventually::eventually("room again", async || is_served(sidecar.inbound(), &leaf).await).await;
}

#[tokio::test]
async fn a_storm_of_connections_from_the_mesh_does_not_stop_our_own_calls() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let far = Plan::new(&pki, API).inbound("http", backend.address).ready().await;
    let plan = Plan::new(&pki, CALLER).inbound("http", backend.address).outbound("http", far.inbound(), &[API]);
    let near = plan.limits("connections: 32").more("workers: 1").ready().await;
    let leaf = pki.leaf(OTHER);
    let mut storm = Vec::new();
    for _ in 0..40 {
        storm.push(secured(near.inbound(), &leaf).await);
    }
    near.eventually_counts(&closed("inbound", "too_many_connections"), 40 - 28).await;
    assert_eq!(Http::plain_one(near.outbound()).await.get("/").await.status, 200);
    assert_eq!(near.count(&closed("inbound", "too_many_connections")), 40 - 28);
}

#[tokio::test]
async fn heads_are_limited_in_fields_bytes_and_target() {
    let pki = Pki::new();
    let (sidecar, backend) = bounded(&pki, "headFields: 20, headBytes: 8KiB, uriBytes: 100", "").await;
    let many = |count| (0..count).fold(Ask::get("/"), |ask, _| ask.header("x-field", "1"));
    for (ask, status) in [(many(10), 200), (many(40), 431), (Ask::get(format!("/{}", "x".repeat(200))), 414)] {
        let mut http = Http::two(sidecar.inbound(), &pki.leaf(CALLER)).await;
        assert_eq!(http.send(ask).await.status, status);
    }
    assert_eq!(sidecar.count(&answered("inbound", "too_many_fields")), 1);
    assert_eq!(sidecar.count(&answered("inbound", "uri_too_long")), 1);
    let mut wire = secured(sidecar.inbound(), &pki.leaf(CALLER)).await;
    wire.write(format!("GET / HTTP/1.1\r\nhost: a\r\nx-big: {}\r\n\r\n", "x".repeat(20_000))).await;
    assert_eq!(wire.answer(true).await.status, 431);
    assert_eq!(backend.seen().len(), 1);
}

#[tokio::test]
async fn a_head_that_never_ends_is_given_up() {
    let pki = Pki::new();
    let (sidecar, _backend) = bounded(&pki, "", "requestHead: 200ms").await;
    let mut wire = secured(sidecar.inbound(), &pki.leaf(CALLER)).await;
    assert_eq!(wire.get("/").await.status, 200);
    wire.write("GET / HTTP/1.1\r\nhost: a\r\nx-slow").await;
    is_closed(&mut wire.io).await;
    sidecar.eventually_counts(&closed("inbound", "request_head_timeout"), 1).await;
}

#[tokio::test]
async fn idle_connections_are_closed_and_busy_ones_are_not() {
    let pki = Pki::new();
    let (sidecar, backend) = bounded(&pki, "", "idle: 300ms, requestHead: 100ms").await;
    let leaf = pki.leaf(CALLER);
    let mut idle = secured(sidecar.inbound(), &leaf).await;
    let mut busy = Http::one(sidecar.inbound(), &leaf).await;
    assert_eq!(idle.get("/").await.status, 200);
    let holding = async { busy.get("/hold").await.status };
    let closing = async {
        assert_eq!(idle.rest().await, b"");
        sidecar.eventually_counts(&closed("inbound", "idle_timeout"), 1).await;
        backend.release();
    };
    assert_eq!(tokio::join!(holding, closing).0, 200, "a request under way is no idle connection");
}

#[tokio::test]
async fn an_application_that_does_not_answer_is_504() {
    let pki = Pki::new();
    let (sidecar, _backend) = bounded(&pki, "", "responseHead: 200ms").await;
    let mut http = Http::one(sidecar.inbound(), &pki.leaf(CALLER)).await;
    assert_eq!(http.get("/never").await.status, 504);
    assert_eq!(sidecar.count(&answered("inbound", "upstream_response_timeout")), 1);
}

#[tokio::test]
async fn a_body_that_stalls_is_408_but_not_for_grpc() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let plan = Plan::new(&pki, API).inbound("auto", backend.address);
    let sidecar = plan.timeouts("bodyStall: 200ms, lameDuck: 0, drain: 1s").ready().await;
    let mut http = Http::two(sidecar.inbound(), &pki.leaf(CALLER)).await;
    let (sender, body) = flowing();
    let stalling = async { http.send(Ask::new("POST", "/").body(body)).await.status };
    let starting = async {
        sender.send(Frame::data("begun".into())).await.unwrap();
        std::future::pending::<()>().await;
    };
    let status = tokio::select! { status = stalling => status, () = starting => unreachable!() };
    assert_eq!(status, 408);
    assert_eq!(sidecar.count(&answered("inbound", "request_body_stalled")), 1);

    // A gRPC stream may be silent for as long as it likes.
    let (sender, body) = flowing();
    let mut response = http.open(call("/test.Echo/Stream").body(body)).await.unwrap();
    // Twice the limit: nothing can be awaited that must not come.
    tokio::time::sleep(Duration::from_millis(400)).await;
    sender.send(Frame::data(message("late"))).await.unwrap();
    let frame = soon("the echo", response.body_mut().frame()).await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), message("late"));
}

#[tokio::test]
async fn opaque_bytes_that_stop_are_given_up() {
    let pki = Pki::new();
    let raw = Raw::echo().await;
    let plan = Plan::new(&pki, API).inbound("tcp", raw.address).timeouts("tcpIdle: 200ms, lameDuck: 0, drain: 1s");
    let sidecar = plan.ready().await;
    let mut stream = opaque(sidecar.inbound(), &pki.leaf(CALLER)).await;
    is_closed(&mut stream).await;
}

#[tokio::test]
async fn a_connection_that_has_lived_long_enough_says_goodbye() {
    let pki = Pki::new();
    let (sidecar, _backend) = bounded(&pki, "", "maxAge: 200ms").await;
    let mut http = Http::two(sidecar.inbound(), &pki.leaf(CALLER)).await;
    assert_eq!(http.get("/").await.status, 200);
    crate::eventually::eventually("GOAWAY", async || if http.is_over() { Ok(()) } else { Err("open") }).await;
}

#[tokio::test]
async fn an_application_that_says_nothing_to_its_own_sidecar_is_given_up() {
    let pki = Pki::new();
    let far = Plan::new(&pki, API).inbound("http", Backend::start().await.address).ready().await;
    let near = Plan::new(&pki, CALLER).outbound("http", far.inbound(), &[API]);
    let near = near.timeouts("idle: 200ms, lameDuck: 0, drain: 1s").ready().await;
    let mut silent = plain(near.outbound()).await;
    is_closed(&mut silent.io).await;
    near.eventually_counts(&closed("outbound", "idle_timeout"), 1).await;
    let mut broken = plain(near.outbound()).await;
    broken.io.write_all(b"\0\0\0\0\r\n\r\n").await.unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(5), broken.try_answer(true)).await.unwrap();
    assert_eq!(answer.unwrap().status, 400);
}
