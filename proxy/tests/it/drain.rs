//! The end of a sidecar: callers learn of it, what is in flight finishes, and what does not is cut.

use std::time::Duration;

use portcullis::app::Stop;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::backend::{Backend, Raw};
use crate::client::{Hello, Http, is_closed, opaque, secured};
use crate::eventually::{eventually, soon};
use crate::pki::{API, CALLER, Pki};
use crate::sidecar::Plan;
use crate::wire::Wire;

#[tokio::test]
async fn a_lame_duck_is_not_ready_still_serves_and_says_goodbye() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let plan = Plan::new(&pki, API).inbound("http", backend.address).timeouts("lameDuck: 6s, drain: 5s");
    let sidecar = plan.ready().await;
    let leaf = pki.leaf(CALLER);
    let mut one = secured(sidecar.inbound(), &leaf).await;
    let mut two = Http::two(sidecar.inbound(), &leaf).await;
    assert_eq!(one.get("/").await.header("connection"), None);
    assert_eq!(two.get("/").await.status, 200);
    sidecar.stop(Stop::Gracefully);
    eventually("not ready", async || match sidecar.health("/readyz").await.status {
        503 => Ok(()),
        status => Err(status),
    })
    .await;
    eventually("GOAWAY", async || if two.is_over() { Ok(()) } else { Err("open") }).await;
    let last = one.get("/").await;
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    assert_eq!(one.rest().await, b"");
    let mut late = secured(sidecar.inbound(), &leaf).await;
    assert_eq!(late.get("/").await.status, 200, "callers that learn late are still served");
    let inbound = sidecar.inbound();
    sidecar.ended(Duration::from_secs(20)).await;
    assert!(TcpStream::connect(inbound).await.is_err());
}

#[tokio::test]
async fn a_request_in_flight_finishes_and_may_call_out_meanwhile() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let far = Plan::new(&pki, API).inbound("http", backend.address).ready().await;
    let both = Plan::new(&pki, CALLER)
        .inbound("http", backend.address)
        .outbound("http", far.inbound(), &[API])
        .timeouts("lameDuck: 0, drain: 10s")
        .ready()
        .await;
    let mut http = Http::two(both.inbound(), &pki.leaf(API)).await;
    let (outbound, stopper) = (both.outbound(), both.running().stopper());
    let holding = async { http.get("/hold").await.status };
    let meanwhile = async {
        eventually("the request is held", async || {
            backend.seen().iter().any(|seen| seen.target == "/hold").then_some(()).ok_or(())
        })
        .await;
        stopper.stop(Stop::Gracefully);
        eventually("inbound is closed", async || {
            TcpStream::connect(both.inbound()).await.is_err().then_some(()).ok_or(())
        })
        .await;
        let status = Http::plain_one(outbound).await.get("/out").await.status;
        backend.release();
        status
    };
    assert_eq!(tokio::join!(holding, meanwhile), (200, 200));
    both.ended(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn what_outlives_the_drain_is_cut() {
    let pki = Pki::new();
    let raw = Raw::echo().await;
    let plan = Plan::new(&pki, API).inbound("tcp", raw.address).timeouts("lameDuck: 0, drain: 300ms");
    let sidecar = plan.ready().await;
    let mut stream = opaque(sidecar.inbound(), &pki.leaf(CALLER)).await;
    stream.write_all(b"x").await.unwrap();
    soon("the echo", stream.read_exact(&mut [0])).await.unwrap();
    sidecar.stop(Stop::Gracefully);
    is_closed(&mut stream).await;
    sidecar.ended(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let plan = Plan::new(&pki, API).inbound("http", backend.address).timeouts("lameDuck: 60s, drain: 60s");
    let sidecar = plan.ready().await;
    let mut http = Http::one(sidecar.inbound(), &pki.leaf(CALLER)).await;
    assert_eq!(http.get("/").await.status, 200);
    sidecar.stop(Stop::Gracefully);
    eventually("not ready", async || if sidecar.running().obstacles().is_empty() { Err(()) } else { Ok(()) }).await;
    sidecar.stop(Stop::AtOnce);
    sidecar.ended(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn an_idle_pair_ends_without_waiting_for_its_pools() {
    let backend = Backend::start().await;
    let pki = Pki::new();
    let far = Plan::new(&pki, API).inbound("http", backend.address).ready().await;
    let near = Plan::new(&pki, CALLER).outbound("http", far.inbound(), &[API]).timeouts("lameDuck: 0, drain: 60s");
    let near = near.ready().await;
    assert_eq!(Http::plain_one(near.outbound()).await.get("/").await.status, 200);
    near.stop(Stop::Gracefully);
    near.ended(Duration::from_secs(20)).await;
}

/// Whoever has connected has something to ask: the drain waits for its handshake, and answers once.
#[tokio::test]
async fn who_connected_before_the_end_is_still_served() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let plan = Plan::new(&pki, API).inbound("http", backend.address).timeouts("lameDuck: 0, drain: 60s");
    let sidecar = plan.ready().await;
    let leaf = pki.leaf(CALLER);
    let early = TcpStream::connect(sidecar.inbound()).await.unwrap();
    eventually("it is accepted", async || {
        // The handshake begins when it was accepted.
        let text = sidecar.running().metrics();
        text.contains("portcullis_tls_handshakes_in_flight{direction=\"inbound\"} 1").then_some(()).ok_or(text)
    })
    .await;
    sidecar.stop(Stop::Gracefully);
    eventually("the listener is closed", async || {
        TcpStream::connect(sidecar.inbound()).await.is_err().then_some(()).ok_or(())
    })
    .await;
    let mut late = Wire::new(Hello::new(&leaf, &["http/1.1"]).shake_on(early).await.unwrap());
    let answer = late.get("/").await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    sidecar.ended(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn an_application_that_says_nothing_does_not_hold_the_end_up() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let far = Plan::new(&pki, API).inbound("http", backend.address).ready().await;
    let near = Plan::new(&pki, CALLER).outbound("http", far.inbound(), &[API]).timeouts("lameDuck: 0, drain: 60s");
    let near = near.ready().await;
    let mut silent = TcpStream::connect(near.outbound()).await.unwrap();
    eventually("it is accepted", async || {
        let open = near.admin("/connections").await;
        if open["open"] == 1 { Ok(()) } else { Err(open) }
    })
    .await;
    near.stop(Stop::Gracefully);
    near.ended(Duration::from_secs(10)).await;
    is_closed(&mut silent).await;
}
