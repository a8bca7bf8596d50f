//! Application → sidecar → mTLS → sidecar → application, in every protocol.

use std::net::SocketAddr;

use http::Version;
use portcullis::ca::LeafOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::backend::{Backend, Raw};
use crate::client::{Ask, Http, is_served, plain};
use crate::eventually::soon;
use crate::grpc::{call, converse, message};
use crate::peer;
use crate::pki::{API, CALLER, OTHER, Pki};
use crate::sidecar::{OPEN, Plan, Sidecar, refused, requests, shaken};
use crate::websocket::UPGRADE;

/// The caller's sidecar and that of the called workload.
pub struct Pair {
    pub pki: Pki,
    pub near: Sidecar,
    pub far: Sidecar,
}

impl Pair {
    pub async fn new(near: &str, far: &str, forward: SocketAddr) -> Self {
        let pki = Pki::new();
        let far = Plan::new(&pki, API).inbound(far, forward).ready().await;
        let near = Plan::new(&pki, CALLER).outbound(near, far.inbound(), &[API]).ready().await;
        Self { pki, near, far }
    }
}

#[tokio::test]
async fn the_callers_semantics_and_the_applications_protocol_are_kept() {
    use Version as V;
    for (near, far, speaks, gets) in [
        ("http", "http", V::HTTP_11, V::HTTP_11),
        ("http", "http2", V::HTTP_11, V::HTTP_2),
        ("http", "http", V::HTTP_2, V::HTTP_11),
        ("http2", "http2", V::HTTP_2, V::HTTP_2),
        ("http2", "http", V::HTTP_2, V::HTTP_11),
        ("auto", "auto", V::HTTP_11, V::HTTP_11),
        ("auto", "auto", V::HTTP_2, V::HTTP_11),
    ] {
        let row = format!("{near} to {far}, {speaks:?}");
        let backend = Backend::start().await;
        let pair = Pair::new(near, far, backend.address).await;
        let mut http = match speaks {
            V::HTTP_2 => Http::plain_two(pair.near.outbound()).await,
            _ => Http::plain_one(pair.near.outbound()).await,
        };
        let answer = http.send(Ask::new("POST", "/orders?a=%2f").text("an order")).await;
        assert_eq!((answer.status, answer.text()), (200, "ok"), "{row}");
        let seen = backend.last();
        assert_eq!(
            (seen.version, seen.target.as_str(), seen.body.as_slice()),
            (gets, "/orders?a=%2f", &b"an order"[..])
        );
        let host = if gets == V::HTTP_2 { seen.authority.clone() } else { seen.header("host").map(str::to_owned) };
        assert_eq!(host.as_deref(), Some("eligibility.test"), "{row}");
        for (path, status) in [("/status/204", 204), ("/status/304", 304), ("/status/503", 503)] {
            assert_eq!(http.get(path).await.status, status, "{row}");
        }
        assert_eq!(http.send(Ask::new("HEAD", "/x")).await.header("content-length"), Some("2"), "{row}");
        let trailers = http.send(Ask::get("/trailers").header("te", "trailers")).await;
        assert_eq!(trailers.trailer("x-sum"), Some("42"), "{row}");
        pair.near.eventually_counts(&requests("outbound", 204), 1).await;
        pair.far.eventually_counts(&requests("inbound", 204), 1).await;
    }
}

#[tokio::test]
async fn grpc_streams_through_both() {
    for (near, far) in [("grpc", "grpc"), ("http2", "grpc"), ("http", "auto"), ("auto", "auto")] {
        let backend = Backend::start().await;
        let pair = Pair::new(near, far, backend.address).await;
        let mut http = Http::plain_two(pair.near.outbound()).await;
        let answer = http.send(call("/test.Echo/Unary").text(message("hello"))).await;
        assert_eq!((answer.body.as_slice(), answer.trailer("grpc-status")), (&message("hello")[..], Some("0")));
        converse(&mut http, "/test.Echo/Stream").await;
        assert_eq!(backend.last().version, Version::HTTP_2, "{near} to {far}");
    }
}

#[tokio::test]
async fn a_websocket_goes_through_both() {
    let backend = Backend::start().await;
    let pair = Pair::new("http", "http", backend.address).await;
    let mut wire = plain(pair.near.outbound()).await;
    assert_eq!(wire.ask(UPGRADE).await.status, 101);
    assert_eq!(soon("the welcome", wire.exactly(7)).await.unwrap(), b"welcome");
    wire.write("hello").await;
    assert_eq!(soon("the echo", wire.exactly(5)).await.unwrap(), b"hello");
    wire.io.shutdown().await.unwrap();
    assert_eq!(wire.rest().await, b"");
    // Ordinary requests beside it.
    assert_eq!(plain(pair.near.outbound()).await.get("/").await.status, 200);
}

#[tokio::test]
async fn opaque_bytes_go_through_both_with_half_close() {
    let application = Raw::start(|mut stream| async move {
        stream.write_all(b"I speak first. ").await.unwrap();
        let mut asked = String::new();
        stream.read_to_string(&mut asked).await.unwrap();
        stream.write_all(format!("answer to {asked}").as_bytes()).await.unwrap();
    })
    .await;
    let pair = Pair::new("tcp", "tcp", application.address).await;
    let mut stream = TcpStream::connect(pair.near.outbound()).await.unwrap();
    let mut first = [0; 15];
    soon("the application's word", stream.read_exact(&mut first)).await.unwrap();
    stream.write_all(b"question").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    soon("the answer", stream.read_to_string(&mut answer)).await.unwrap();
    assert_eq!((&first, answer.as_str()), (b"I speak first. ", "answer to question"));
}

#[tokio::test]
async fn a_peer_that_offers_only_http_1_1_is_spoken_to_in_it() {
    let pki = Pki::new();
    for (alpn, version) in [(&["http/1.1"][..], Version::HTTP_11), (&["h2", "http/1.1"], Version::HTTP_2)] {
        let backend = Backend::start().await;
        let address = peer::serve(&pki.leaf(API), alpn, &backend).await;
        let near = Plan::new(&pki, CALLER).outbound("http", address, &[API]).ready().await;
        let mut wire = plain(near.outbound()).await;
        for number in 0..10 {
            assert_eq!(wire.get(&format!("/{number}")).await.status, 200, "{alpn:?}");
        }
        assert_eq!(backend.last().version, version, "{alpn:?}");
        assert_eq!(backend.connections(), 1, "{alpn:?}: the connection is kept");
    }
}

#[tokio::test]
async fn many_requests_share_few_connections() {
    let backend = Backend::start().await;
    let pair = Pair::new("http", "http", backend.address).await;
    for _ in 0..5 {
        let mut wire = plain(pair.near.outbound()).await;
        for _ in 0..20 {
            assert_eq!(wire.get("/").await.status, 200);
        }
    }
    let (made, accepted) = (pair.near.count(&shaken("outbound")), pair.far.count(&shaken("inbound")));
    assert_eq!(made, accepted);
    // One for each worker at the most, since no two requests were under way at once.
    assert!((1..=2).contains(&made), "{made} connections for 100 requests one after the other");
    assert!(backend.connections() <= 2, "{} connections to the application", backend.connections());

    // Many at once open a few more, not one each.
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let address = pair.near.outbound();
        asking.spawn(async move { plain(address).await.get("/").await.status });
    }
    while let Some(status) = asking.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    assert!(pair.far.count(&shaken("inbound")) <= 4, "{} connections", pair.far.count(&shaken("inbound")));
}

#[tokio::test]
async fn two_destinations_at_one_address_never_share_a_connection() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let far = Plan::new(&pki, API).inbound("http", backend.address).ready().await;
    let near = Plan::new(&pki, CALLER)
        .outbound("http", far.inbound(), &[API])
        .outbound("http", far.inbound(), &[OTHER])
        .outbound("http", far.inbound(), &[OTHER, API])
        .ready()
        .await;
    let listeners = near.running().addresses().outbound.clone();
    for round in 0..3 {
        for (index, status) in [(0, 200), (1, 503), (2, 200)] {
            let answer = plain(listeners[index]).await.get("/").await;
            assert_eq!(answer.status, status, "listener {index} in round {round}: {}", answer.text());
            if status == 503 {
                assert_eq!(answer.header("x-portcullis-reason"), Some("upstream_wrong_identity"));
                assert!(answer.text().contains(API) && answer.text().contains(OTHER), "{}", answer.text());
            }
        }
    }
    assert_eq!(near.count(&refused("outbound", "wrong_identity")), 3, "each try is made anew");
    assert_eq!(backend.seen().len(), 6);
}

#[tokio::test]
async fn workloads_of_two_trust_domains_call_each_other_and_each_domain_vouches_for_its_own_only() {
    const STRANGER: &str = "spiffe://dev.test/ns/claims/sa/adjudicator";
    let (prod, dev) = (Pki::new(), Pki::of("dev.test"));
    let backend = Backend::start().await;
    let policy = OPEN.replace("prod.test", "dev.test");
    let far = Plan::new(&prod, API).trusting(&dev).policy(&policy).inbound("http", backend.address).ready().await;
    let near = Plan::new(&dev, STRANGER).trusting(&prod).outbound("http", far.inbound(), &[API]).ready().await;
    assert_eq!(plain(near.outbound()).await.get("/").await.status, 200);
    assert!(backend.last().header("x-forwarded-client-cert").unwrap().ends_with(&format!("URI={STRANGER}")));

    // A root of one domain does not make identities of another.
    let forged = prod.odd_leaf(&[STRANGER], &LeafOptions::default());
    is_served(far.inbound(), &forged).await.unwrap_err();
    far.eventually_counts(&refused("inbound", "unknown_issuer"), 1).await;
    assert_eq!(backend.seen().len(), 1);
}
