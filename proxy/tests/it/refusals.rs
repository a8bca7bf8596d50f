//! Who is refused, why, and that nobody else notices. Each row asserts the counter of its reason.

use std::sync::{Arc, Mutex};

use portcullis::ca::{Leaf, LeafOptions, Usage, Validity};
use rustls::HandshakeKind;
use rustls_pki_types::ServerName;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::backend::{Backend, Raw, nobody};
use crate::client::{Ask, HOST, Hello, Http, TLS13, connector, is_closed, is_served};
use crate::eventually::{eventually, soon};
use crate::peer;
use crate::pki::{API, CALLER, OTHER, Pki};
use crate::sidecar::{Plan, Sidecar, refused};
use crate::wire::Wire;

static TLS12: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];

/// A ready sidecar in front of a backend.
async fn strict(pki: &Pki) -> (Sidecar, Backend) {
    let backend = Backend::start().await;
    let plan =
        Plan::new(pki, API).inbound("http", backend.address).timeouts("handshake: 300ms, lameDuck: 0, drain: 1s");
    (plan.ready().await, backend)
}

fn between(from_hours: i64, to_hours: i64) -> LeafOptions {
    let now = OffsetDateTime::now_utc();
    let at = |hours| now + time::Duration::hours(hours);
    LeafOptions { validity: Validity::Between(at(from_hours), at(to_hours)), ..LeafOptions::default() }
}

/// Shows that `leaf` is refused for `reason`, and that a good caller is served before and after.
async fn check_refused(sidecar: &Sidecar, good: &Leaf, leaf: Option<&Leaf>, reason: &str) {
    is_served(sidecar.inbound(), good).await.unwrap();
    let hello = Hello { leaf, ..Hello::new(good, &["http/1.1"]) };
    if let Ok(mut stream) = hello.shake(sidecar.inbound()).await {
        // A TLS 1.3 client is done before it is judged; the alert comes instead of an answer.
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let mut got = Vec::new();
        let _ = soon("the alert", stream.read_to_end(&mut got)).await;
        assert_eq!(String::from_utf8_lossy(&got), "", "{reason}");
    }
    sidecar.eventually_counts(&refused("inbound", reason), 1).await;
    assert_eq!(sidecar.count(&refused("inbound", reason)), 1, "counted once");
    is_served(sidecar.inbound(), good).await.unwrap();
}

#[tokio::test]
async fn callers_that_prove_nothing_are_refused_each_for_its_reason() {
    let pki = Pki::new();
    let (sidecar, backend) = strict(&pki).await;
    let good = pki.leaf(CALLER);
    let usages = |usages: &[Usage]| LeafOptions { usages: usages.to_vec(), ..LeafOptions::default() };
    let foreign = Pki::of("dev.test");
    let impostor = Pki::new();
    let rows: Vec<(Option<Leaf>, &str)> = vec![
        (None, "no_certificate"),
        (Some(pki.odd_leaf(&[CALLER], &between(-48, -24))), "expired"),
        (Some(pki.odd_leaf(&[CALLER], &between(24, 48))), "not_yet_valid"),
        (Some(foreign.leaf("spiffe://dev.test/ns/claims/sa/adjudicator")), "foreign_trust_domain"),
        (Some(foreign.odd_leaf(&[CALLER], &LeafOptions::default())), "unknown_issuer"),
        (Some(pki.odd_leaf(&[], &LeafOptions::default())), "no_spiffe_id"),
        (Some(pki.odd_leaf(&[CALLER, OTHER], &LeafOptions::default())), "several_uris"),
        (Some(pki.odd_leaf(&["https://prod.test/ns/a"], &LeafOptions::default())), "not_spiffe"),
        (Some(pki.odd_leaf(&[CALLER], &usages(&[Usage::Server]))), "missing_client_auth"),
    ];
    for (leaf, reason) in rows {
        check_refused(&sidecar, &good, leaf.as_ref(), reason).await;
    }
    let seen = backend.seen().len();
    // The same names under another key: whatever it is called, it is refused.
    let before = refusals(&sidecar);
    assert!(is_served(sidecar.inbound(), &impostor.leaf(CALLER)).await.is_err());
    eventually("one more refusal", async || match refusals(&sidecar) {
        now if now == before + 1 => Ok(()),
        now => Err(now),
    })
    .await;
    assert_eq!(backend.seen().len(), seen, "the application heard nothing of it");
}

/// All refused handshakes together.
fn refusals(sidecar: &Sidecar) -> u64 {
    let metrics = sidecar.running().metrics();
    let refused =
        metrics.lines().filter(|line| line.starts_with("portcullis_tls_handshakes_total") && line.contains("refused"));
    refused.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

#[tokio::test]
async fn plaintext_to_the_strict_port_gets_nothing() {
    let pki = Pki::new();
    let (sidecar, backend) = strict(&pki).await;
    let mut stream = TcpStream::connect(sidecar.inbound()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut got = Vec::new();
    let _ = soon("the end", stream.read_to_end(&mut got)).await;
    assert!(!String::from_utf8_lossy(&got).contains("HTTP"), "{got:?}");
    sidecar.eventually_counts(&refused("inbound", "plaintext"), 1).await;
    assert_eq!(backend.connections(), 0);
    is_served(sidecar.inbound(), &pki.leaf(CALLER)).await.unwrap();
}

#[tokio::test]
async fn tls_1_2_is_no_common_ground() {
    let pki = Pki::new();
    let (sidecar, _backend) = strict(&pki).await;
    let leaf = pki.leaf(CALLER);
    let hello = Hello { versions: TLS12, ..Hello::new(&leaf, &["http/1.1"]) };
    assert!(hello.shake(sidecar.inbound()).await.is_err());
    sidecar.eventually_counts(&refused("inbound", "tls"), 1).await;
}

#[tokio::test]
async fn stalled_handshakes_time_out_and_delay_nobody() {
    let pki = Pki::new();
    let (sidecar, _backend) = strict(&pki).await;
    let mut stalled = Vec::new();
    for number in 0..200 {
        let mut stream = TcpStream::connect(sidecar.inbound()).await.unwrap();
        if number % 2 == 0 {
            // The beginning of a ClientHello that never comes.
            stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc]).await.unwrap();
        }
        stalled.push(stream);
    }
    soon("a good caller beside them", is_served(sidecar.inbound(), &pki.leaf(CALLER))).await.unwrap();
    sidecar.eventually_counts(&refused("inbound", "timeout"), 200).await;
    for mut stream in stalled {
        let _ = soon("the end of a stalled one", stream.read_to_end(&mut Vec::new())).await;
    }
}

#[tokio::test]
async fn outbound_refuses_peers_that_are_not_who_they_should_be() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let wrong = pki.leaf(OTHER);
    let expired = pki.odd_leaf(&[API], &between(-48, -24));
    let foreign = Pki::of("dev.test").leaf("spiffe://dev.test/ns/eligibility/sa/api");
    let client_only = pki.odd_leaf(&[API], &LeafOptions { usages: vec![Usage::Client], ..LeafOptions::default() });
    for (leaf, answer, reason) in [
        (&wrong, "upstream_wrong_identity", "wrong_identity"),
        (&expired, "upstream_untrusted", "expired"),
        (&foreign, "upstream_untrusted", "foreign_trust_domain"),
        (&client_only, "upstream_untrusted", "missing_server_auth"),
    ] {
        let address = peer::serve(leaf, &["h2"], &backend).await;
        let near = Plan::new(&pki, CALLER).outbound("http", address, &[API]).ready().await;
        let got = Http::plain_one(near.outbound()).await.send(Ask::get("/secret")).await;
        assert_eq!((got.status, got.header("x-portcullis-reason")), (503, Some(answer)), "{reason}");
        near.eventually_counts(&refused("outbound", reason), 1).await;
    }
    assert_eq!(backend.seen().len(), 0, "no byte of a request left before the peer was known");
}

#[tokio::test]
async fn outbound_says_why_nobody_answers() {
    let pki = Pki::new();
    let plaintext = Backend::start().await;
    for (address, answer, reason) in [
        (nobody().await, "upstream_unreachable", None),
        (plaintext.address, "upstream_handshake_failed", Some("plaintext")),
    ] {
        let near = Plan::new(&pki, CALLER).outbound("http", address, &[API]).ready().await;
        let got = Http::plain_one(near.outbound()).await.send(Ask::get("/")).await;
        assert_eq!((got.status, got.header("x-portcullis-reason")), (503, Some(answer)));
        assert!(got.text().starts_with("portcullis: "), "{}", got.text());
        if let Some(reason) = reason {
            assert!(near.count(&refused("outbound", reason)) >= 1, "{reason}");
        }
    }
    assert_eq!(plaintext.seen().len(), 0);
}

#[tokio::test]
async fn both_sides_tell_who_was_expected_and_who_came() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let far = Plan::new(&pki, OTHER).inbound("http", backend.address).ready().await;
    let near = Plan::new(&pki, CALLER).outbound("http", far.inbound(), &[API]).ready().await;
    let got = Http::plain_one(near.outbound()).await.send(Ask::get("/")).await;
    assert_eq!(got.status, 503);
    assert!(got.text().contains(OTHER) && got.text().contains(API), "{}", got.text());
    far.eventually_counts(&refused("inbound", "refused_by_peer"), 1).await;
}

#[tokio::test]
async fn a_caller_that_the_peer_refuses_is_told_so() {
    let (ours, theirs) = (Pki::new(), Pki::new());
    let backend = Backend::start().await;
    // They do not know our root; we know theirs.
    let far = Plan::new(&theirs, API).inbound("http", backend.address).inbound("tcp", backend.address).ready().await;
    let near = Plan::new(&ours, CALLER)
        .outbound("http", far.running().addresses().inbound[0], &[API])
        .outbound("tcp", far.running().addresses().inbound[1], &[API])
        .ready()
        .await;
    let overlap = |near: &Sidecar| near.write_bundle(&ours.domain, &[ours.bundle(), theirs.bundle()]);
    near.changing("trust", overlap).await;
    for _ in 0..3 {
        let mut http = Http::plain_one(near.outbound()).await;
        for method in ["GET", "POST"] {
            let got = http.send(Ask::new(method, "/").text("x")).await;
            assert_eq!((got.status, got.header("x-portcullis-reason")), (503, Some("upstream_refused_us")));
            assert!(got.text().contains("TLS alert"), "{}", got.text());
        }
    }
    let before = near.count(&refused("outbound", "refused_by_peer"));
    assert!(before >= 1);
    let mut raw = TcpStream::connect(near.running().addresses().outbound[1]).await.unwrap();
    raw.write_all(b"x").await.unwrap();
    is_closed(&mut raw).await;
    near.eventually_counts(&refused("outbound", "refused_by_peer"), before + 1).await;
    assert_eq!(backend.seen().len(), 0);
}

/// CVE-2025-23419, CVE-2022-21654: a session that is resumed is not verified again.
#[tokio::test]
async fn no_session_is_resumed_in_either_direction() {
    let pki = Pki::new();
    let (sidecar, _backend) = strict(&pki).await;
    let leaf = pki.leaf(CALLER);
    // One client, which would resume, and reads far enough to have been given the means.
    let client = connector(Some((leaf.chain.der(), leaf.key())), &["http/1.1"], TLS13);
    for _ in 0..3 {
        let stream = TcpStream::connect(sidecar.inbound()).await.unwrap();
        let name = ServerName::try_from(HOST).unwrap();
        let mut wire = Wire::new(client.connect(name, stream).await.unwrap());
        assert_eq!(wire.ask("GET / HTTP/1.1\r\nhost: eligibility.test\r\n\r\n").await.status, 200);
        let session = wire.io.get_ref().1;
        assert_eq!((session.handshake_kind(), session.tls13_tickets_received()), (Some(HandshakeKind::Full), 0));
    }

    // A peer that hands out tickets, and ends each connection before it answers.
    let kinds = Arc::new(Mutex::new(Vec::new()));
    let (seen, acceptor) = (Arc::clone(&kinds), peer::acceptor(&pki.leaf(API), &["http/1.1"]));
    let raw = Raw::start(move |stream| {
        let (seen, acceptor) = (Arc::clone(&seen), acceptor.clone());
        async move {
            let mut stream = acceptor.accept(stream).await.unwrap();
            seen.lock().unwrap().push(stream.get_ref().1.handshake_kind());
            let _ = stream.read(&mut [0; 1_000]).await;
            let _ = stream.shutdown().await;
        }
    })
    .await;
    let near = Plan::new(&pki, CALLER).outbound("http", raw.address, &[API]).more("workers: 1").ready().await;
    for _ in 0..3 {
        assert_eq!(Http::plain_one(near.outbound()).await.get("/").await.status, 502);
    }
    let kinds = kinds.lock().unwrap();
    assert!(kinds.len() >= 3 && kinds.iter().all(|kind| *kind == Some(HandshakeKind::Full)), "{kinds:?}");
}
