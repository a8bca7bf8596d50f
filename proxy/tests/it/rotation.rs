//! Certificates and bundles that change while the sidecar runs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use portcullis::ca::{LeafOptions, Validity};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::backend::{Backend, Raw};
use crate::client::{Http, is_closed, is_served, opaque};
use crate::eventually::{eventually, soon};
use crate::outbound::Pair;
use crate::pki::{API, CALLER, DOMAIN, Pki};
use crate::sidecar::{Plan, Sidecar, closed};

/// Swaps of each sidecar's leaf.
const SWAPS: u64 = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_both_leaves_rotate() {
    let backend = Backend::start().await;
    let pair = Pair::new("http", "http", backend.address).await;
    let (stop, asked, failed) =
        (Arc::new(AtomicBool::new(false)), Arc::<AtomicU64>::default(), Arc::<Mutex<Vec<String>>>::default());
    let callers: Vec<_> = (0..8)
        .map(|number| {
            let (stop, asked, failed) = (Arc::clone(&stop), Arc::clone(&asked), Arc::clone(&failed));
            let address = pair.near.outbound();
            tokio::spawn(async move {
                // Half of them speak HTTP/2 to their sidecar.
                let mut http =
                    if number % 2 == 0 { Http::plain_one(address).await } else { Http::plain_two(address).await };
                while !stop.load(Ordering::Relaxed) {
                    let answer = http.get("/").await;
                    asked.fetch_add(1, Ordering::Relaxed);
                    if answer.status != 200 {
                        failed.lock().unwrap().push(format!("{} {}", answer.status, answer.text()));
                    }
                }
            })
        })
        .collect();
    for _ in 0..SWAPS {
        // Each swap is seen to be in force, and sees requests under way.
        let before = asked.load(Ordering::Relaxed);
        pair.near.changing("identity", |near| near.write_leaf(&pair.pki.leaf(CALLER))).await;
        pair.far.changing("identity", |far| far.write_leaf(&pair.pki.leaf(API))).await;
        eventually("requests go on", async || match asked.load(Ordering::Relaxed) {
            now if now >= before + 4 => Ok(()),
            now => Err(now),
        })
        .await;
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        soon("the end of a caller", caller).await.unwrap();
    }
    let failed = failed.lock().unwrap();
    assert!(failed.is_empty(), "{} of {} requests: {failed:#?}", failed.len(), asked.load(Ordering::Relaxed));
}

#[tokio::test]
async fn a_renewed_leaf_closes_nothing() {
    let pki = Pki::new();
    let raw = Raw::echo().await;
    let sidecar = Plan::new(&pki, API).inbound("tcp", raw.address).ready().await;
    let mut stream = opaque(sidecar.inbound(), &pki.leaf(CALLER)).await;
    echo(&mut stream).await;
    sidecar.changing("identity", |sidecar| sidecar.write_leaf(&pki.leaf(API))).await;
    echo(&mut stream).await;
    assert_eq!(raw.accepted(), 1);
}

async fn echo(stream: &mut crate::client::Secured) {
    stream.write_all(b"x").await.unwrap();
    soon("the echo", stream.read_exact(&mut [0])).await.unwrap();
}

#[tokio::test]
async fn a_root_that_is_added_counts_and_one_that_is_removed_takes_its_connections_with_it() {
    let (old, new) = (Pki::new(), Pki::new());
    let raw = Raw::echo().await;
    let backend = Backend::start().await;
    let sidecar = Plan::new(&new, API).inbound("tcp", raw.address).inbound("http", backend.address).ready().await;
    let http = sidecar.running().addresses().inbound[1];
    assert!(is_served(http, &old.leaf(CALLER)).await.is_err(), "the old root is not there yet");

    let overlap = |sidecar: &Sidecar| sidecar.write_bundle(DOMAIN, &[old.bundle(), new.bundle()]);
    sidecar.changing("trust", overlap).await;
    is_served(http, &old.leaf(CALLER)).await.unwrap();
    is_served(http, &new.leaf(CALLER)).await.unwrap();
    let mut of_old = opaque(sidecar.inbound(), &old.leaf(CALLER)).await;
    let mut of_new = opaque(sidecar.inbound(), &new.leaf(CALLER)).await;
    let mut over_old = Http::two(http, &old.leaf(CALLER)).await;
    assert_eq!(over_old.get("/").await.status, 200);
    echo(&mut of_old).await;
    echo(&mut of_new).await;

    sidecar.changing("trust", |sidecar| sidecar.write_bundle(DOMAIN, &[new.bundle()])).await;
    is_closed(&mut of_old).await;
    eventually("GOAWAY", async || if over_old.is_over() { Ok(()) } else { Err("open") }).await;
    assert!(is_served(http, &old.leaf(CALLER)).await.is_err());
    echo(&mut of_new).await;
    assert!(
        sidecar.count(&closed("inbound", "unknown_issuer")) + sidecar.count(&closed("inbound", "bad_signature")) >= 2
    );
}

#[tokio::test]
async fn an_outbound_connection_ends_with_the_root_of_its_peer() {
    let (old, new) = (Pki::new(), Pki::new());
    let raw = Raw::echo().await;
    let far = Plan::new(&old, API).inbound("tcp", raw.address).ready().await;
    far.changing("trust", |far| far.write_bundle(DOMAIN, &[old.bundle(), new.bundle()])).await;
    let near = Plan::new(&new, CALLER).outbound("tcp", far.inbound(), &[API]).ready().await;
    near.changing("trust", |near| near.write_bundle(DOMAIN, &[old.bundle(), new.bundle()])).await;
    let mut stream = tokio::net::TcpStream::connect(near.outbound()).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    soon("the echo", stream.read_exact(&mut [0])).await.unwrap();
    near.changing("trust", |near| near.write_bundle(DOMAIN, &[new.bundle()])).await;
    is_closed(&mut stream).await;
}

#[tokio::test]
async fn material_that_cannot_be_proven_leaves_the_last_good_one() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let sidecar = Plan::new(&pki, API).inbound("http", backend.address).ready().await;
    let serial = sidecar.admin("/identity").await["certificate"]["serial"].clone();
    let (one, other) = (pki.leaf(API), pki.leaf(API));
    let half = one.chain.pem()[..300].to_owned();
    for (certificate, key, label) in [
        (one.chain.pem(), other.key_pem().to_owned(), "key_mismatch"),
        (half, one.key_pem().to_owned(), "truncated_pem"),
        (pki.leaf(CALLER).chain.pem(), one.key_pem().to_owned(), "key_mismatch"),
    ] {
        let series = format!("portcullis_reload_total{{kind=\"identity\",result=\"refused\",reason=\"{label}\"}}");
        let before = sidecar.count(&series);
        let files = [("tls.crt", certificate.as_str()), ("tls.key", key.as_str())];
        crate::pki::write_volume(&sidecar.path("identity"), &files);
        sidecar.eventually_counts(&series, before + 1).await;
        assert_eq!(sidecar.admin("/identity").await["certificate"]["serial"], serial, "{label}");
        is_served(sidecar.inbound(), &pki.leaf(CALLER)).await.unwrap();
        assert_eq!(sidecar.health("/readyz").await.status, 200, "{label}");
    }
    sidecar.changing("identity", |sidecar| sidecar.write_leaf(&pki.leaf(API))).await;
    assert_eq!(sidecar.admin("/identity").await["problems"], serde_json::json!([]));
}

#[tokio::test]
async fn a_connection_does_not_outlive_the_certificate_of_its_caller() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let sidecar = Plan::new(&pki, API).inbound("http", backend.address).ready().await;
    let now = OffsetDateTime::now_utc();
    let validity = Validity::Between(now - time::Duration::hours(1), now + time::Duration::seconds(3));
    let short = pki.odd_leaf(&[CALLER], &LeafOptions { validity, ..LeafOptions::default() });
    let mut ending = Http::two(sidecar.inbound(), &short).await;
    let mut staying = Http::two(sidecar.inbound(), &pki.leaf(CALLER)).await;
    assert_eq!((ending.get("/").await.status, staying.get("/").await.status), (200, 200));
    eventually("GOAWAY", async || if ending.is_over() { Ok(()) } else { Err("open") }).await;
    assert_eq!(sidecar.count(&closed("inbound", "certificate_expired")), 1);
    assert_eq!(staying.get("/").await.status, 200);
}
