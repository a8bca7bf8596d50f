//! `limits.inFlightPerDestination`: what is over it is refused, what ends makes room, whatever way it ends.

use http_body::Frame;
use http_body_util::BodyExt;

use crate::backend::{Backend, Raw};
use crate::client::{Ask, Http, flowing, is_closed, opaque, secured};
use crate::eventually::{eventually, soon};
use crate::pki::{API, CALLER, OTHER, Pki};
use crate::sidecar::{Plan, Sidecar, answered, closed};
use crate::websocket::UPGRADE;

async fn limited(pki: &Pki, most: usize) -> (Sidecar, Backend) {
    let backend = Backend::start().await;
    let plan = Plan::new(pki, API).inbound("http", backend.address).inbound("http", backend.address);
    let plan = plan.limits(&format!("inFlightPerDestination: {most}")).more("workers: 2");
    (plan.ready().await, backend)
}

async fn is_full(http: &mut Http) {
    let answer = http.get("/").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
}

async fn has_room(http: &mut Http) {
    eventually("room", async || match http.get("/").await.status {
        200 => Ok(()),
        status => Err(status),
    })
    .await;
}

/// Waits until the application has heard of so many requests for a path.
async fn heard(backend: &Backend, path: &str, count: usize) {
    eventually(path, async || match backend.seen().iter().filter(|seen| seen.target == path).count() {
        seen if seen == count => Ok(()),
        seen => Err(seen),
    })
    .await;
}

#[tokio::test]
async fn what_is_over_the_limit_is_503_whatever_it_comes_over() {
    let pki = Pki::new();
    let (sidecar, backend) = limited(&pki, 3).await;
    let leaf = pki.leaf(CALLER);
    let inbound = &sidecar.running().addresses().inbound;
    // Streams of one connection, a connection of HTTP/1.1, and another listener: all lead to one application.
    let mut two = Http::two(inbound[0], &leaf).await;
    let mut holding: Vec<_> = (0..2)
        .map(|_| {
            let mut held = two.beside();
            tokio::spawn(async move { held.get("/hold").await.status })
        })
        .collect();
    let mut one = Http::one(inbound[1], &leaf).await;
    holding.push(tokio::spawn(async move { one.get("/hold").await.status }));
    heard(&backend, "/hold", 3).await;
    is_full(&mut two).await;
    is_full(&mut Http::one(inbound[0], &pki.leaf(OTHER)).await).await;
    is_full(&mut Http::two(inbound[1], &leaf).await).await;
    assert_eq!(sidecar.count(&answered("inbound", "too_many_in_flight")), 3);
    assert_eq!(backend.seen().len(), 3);
    backend.release();
    has_room(&mut two).await;
    backend.release();
    backend.release();
    for held in holding {
        assert_eq!(soon("the held one", held).await.unwrap(), 200);
    }
}

#[tokio::test]
async fn a_request_counts_until_its_response_has_ended_or_was_given_up() {
    let pki = Pki::new();
    let (sidecar, _backend) = limited(&pki, 1).await;
    let leaf = pki.leaf(CALLER);
    let mut beside = Http::one(sidecar.inbound(), &leaf).await;
    let mut http = Http::two(sidecar.inbound(), &leaf).await;
    let (sender, body) = flowing();
    let mut response = http.open(Ask::new("POST", "/echo").body(body)).await.unwrap();
    sender.send(Frame::data("begun".into())).await.unwrap();
    soon("the echo", response.body_mut().frame()).await.unwrap().unwrap();
    is_full(&mut beside).await;
    drop(sender);
    soon("the end", response.into_body().collect()).await.unwrap();
    has_room(&mut beside).await;

    let mut wire = secured(sidecar.inbound(), &leaf).await;
    wire.write("POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nbegun\r\n").await;
    soon("the head of the echo", wire.head()).await.unwrap();
    is_full(&mut beside).await;
    drop(wire);
    has_room(&mut beside).await;
}

#[tokio::test]
async fn a_tunnel_counts_for_as_long_as_it_lasts() {
    let pki = Pki::new();
    let (sidecar, _backend) = limited(&pki, 1).await;
    let leaf = pki.leaf(CALLER);
    let mut wire = secured(sidecar.inbound(), &leaf).await;
    assert_eq!(wire.ask(UPGRADE).await.status, 101);
    let mut beside = Http::two(sidecar.inbound(), &leaf).await;
    is_full(&mut beside).await;
    assert_eq!(secured(sidecar.inbound(), &leaf).await.ask(UPGRADE).await.status, 503);
    drop(wire);
    has_room(&mut beside).await;
}

#[tokio::test]
async fn our_own_application_learns_which_limit_it_is() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let far = Plan::new(&pki, API).inbound("http", backend.address).ready().await;
    let near = Plan::new(&pki, CALLER).outbound("http", far.inbound(), &[API]).outbound("http", far.inbound(), &[API]);
    let near = near.limits("inFlightPerDestination: 1").ready().await;
    let mut held = Http::plain_one(near.outbound()).await;
    let holding = tokio::spawn(async move { held.get("/hold").await.status });
    heard(&backend, "/hold", 1).await;
    let answer = Http::plain_two(near.outbound()).await.get("/").await;
    assert_eq!((answer.status, answer.header("x-portcullis-reason")), (503, Some("too_many_in_flight")));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(answer.text().contains("limits.inFlightPerDestination"), "{}", answer.text());
    let other = near.running().addresses().outbound[1];
    assert_eq!(Http::plain_one(other).await.get("/").await.status, 200, "another listener has room of its own");
    backend.release();
    assert_eq!(soon("the held one", holding).await.unwrap(), 200);
}

#[tokio::test]
async fn connections_of_opaque_tcp_count_in_both_directions() {
    let pki = Pki::new();
    let application = Raw::echo().await;
    let far = Plan::new(&pki, API).inbound("tcp", application.address).limits("inFlightPerDestination: 1");
    let far = far.ready().await;
    let first = opaque(far.inbound(), &pki.leaf(CALLER)).await;
    eventually("it is carried", async || if application.accepted() == 1 { Ok(()) } else { Err(()) }).await;
    is_closed(&mut opaque(far.inbound(), &pki.leaf(OTHER)).await).await;
    assert_eq!(far.count(&closed("inbound", "too_many_in_flight")), 1);
    drop(first);

    let near = Plan::new(&pki, CALLER).outbound("tcp", nobody_answers().await, &[API]);
    let near = near.limits("inFlightPerDestination: 1").ready().await;
    let _dialling = crate::client::plain(near.outbound()).await;
    eventually("one more is closed", async || {
        let mut more = crate::client::plain(near.outbound()).await;
        is_closed(&mut more.io).await;
        match near.count(&closed("outbound", "too_many_in_flight")) {
            0 => Err("dialled"),
            _ => Ok(()),
        }
    })
    .await;
}

/// A peer that accepts and never shakes hands.
async fn nobody_answers() -> std::net::SocketAddr {
    Raw::start(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await
    .address
}
