//! What renewal must leave alone: requests while the root itself is exchanged, connections that are open, keys of RSA.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use portcullis::ca::{LeafOptions, Request};
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::backend::{Backend, Raw};
use crate::client::{Ask, Http, is_served};
use crate::eventually::{eventually, soon};
use crate::outbound::Pair;
use crate::pki::{API, CALLER, DOMAIN, Pki, write_volume};
use crate::sidecar::{Plan, shaken};
use crate::websocket::UPGRADE;

/// How often the root is exchanged, each time by six changes that are each seen to be in force: 300 in all.
const ROOTS: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_the_root_is_exchanged_with_an_overlap() {
    let backend = Backend::start().await;
    let pair = Pair::new("http", "http", backend.address).await;
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::<AtomicU64>::default());
    let mut callers = tokio::task::JoinSet::new();
    for number in 0..4 {
        let (stop, asked, address) = (Arc::clone(&stop), Arc::clone(&asked), pair.near.outbound());
        callers.spawn(async move {
            let mut failed = Vec::new();
            let mut http =
                if number % 2 == 0 { Http::plain_one(address).await } else { Http::plain_two(address).await };
            while !stop.load(Ordering::Relaxed) {
                match http.try_send(Ask::new("POST", "/orders").text("an order")).await {
                    Ok(answer) if answer.status == 200 => {}
                    Ok(answer) => failed.push(format!("{} {}", answer.status, answer.text())),
                    Err(error) => return vec![error.to_string()],
                }
                asked.fetch_add(1, Ordering::Relaxed);
            }
            failed
        });
    }
    let sidecars = [&pair.near, &pair.far];
    let mut old = pair.pki;
    for _ in 0..ROOTS {
        let new = Pki::new();
        // The order that makes it safe: everybody believes the new root before anybody shows it, and nobody shows the
        // old one any more when it goes.
        for sidecar in sidecars {
            sidecar.changing("trust", |sidecar| sidecar.write_bundle(DOMAIN, &[old.bundle(), new.bundle()])).await;
        }
        for (sidecar, id) in [(&pair.near, CALLER), (&pair.far, API)] {
            sidecar.changing("identity", |sidecar| sidecar.write_leaf(&new.leaf(id))).await;
        }
        // Requests on connections of the old leaves are under way still; those connections are the last to show it.
        let before = asked.load(Ordering::Relaxed);
        eventually("requests go on", async || match asked.load(Ordering::Relaxed) {
            now if now >= before + 20 => Ok(()),
            now => Err(now),
        })
        .await;
        for sidecar in sidecars {
            sidecar.changing("trust", |sidecar| sidecar.write_bundle(DOMAIN, &[new.bundle()])).await;
        }
        old = new;
    }
    stop.store(true, Ordering::Relaxed);
    let failed: Vec<String> = soon("the end of the callers", callers.join_all()).await.concat();
    let asked = asked.load(Ordering::Relaxed);
    assert!(failed.is_empty(), "{} of {asked} requests: {failed:#?}", failed.len());
    assert!(asked >= 20 * ROOTS as u64, "{asked} requests");
}

#[tokio::test]
async fn renewed_leaves_leave_every_kind_of_connection_open_on_both_sides() {
    let pki = Pki::new();
    let (backend, raw) = (Backend::start().await, Raw::echo().await);
    let far = Plan::new(&pki, API).inbound("http", backend.address).inbound("tcp", raw.address).ready().await;
    let [http, tcp] = [far.running().addresses().inbound[0], far.running().addresses().inbound[1]];
    let near = Plan::new(&pki, CALLER).outbound("http", http, &[API]).outbound("tcp", tcp, &[API]).ready().await;

    let mut inbound = Http::two(http, &pki.leaf(CALLER)).await;
    assert_eq!(inbound.get("/").await.status, 200);
    let mut tunnel = crate::client::plain(near.outbound()).await;
    assert_eq!(tunnel.ask(UPGRADE).await.status, 101);
    assert_eq!(soon("the welcome", tunnel.exactly(7)).await.unwrap(), b"welcome");
    let mut opaque = TcpStream::connect(near.running().addresses().outbound[1]).await.unwrap();
    echo(&mut opaque).await;

    for _ in 0..3 {
        near.changing("identity", |near| near.write_leaf(&pki.leaf(CALLER))).await;
        far.changing("identity", |far| far.write_leaf(&pki.leaf(API))).await;
        assert_eq!(inbound.get("/").await.status, 200);
        tunnel.write("still here").await;
        assert_eq!(soon("the echo", tunnel.exactly(10)).await.unwrap(), b"still here");
        echo(&mut opaque).await;
    }
    assert_eq!(raw.accepted(), 1);
    // New requests go out under the new leaf at once.
    let before = far.count(&shaken("inbound"));
    assert_eq!(Http::plain_one(near.outbound()).await.get("/").await.status, 200);
    assert_eq!(far.count(&shaken("inbound")), before + 1);
}

async fn echo(stream: &mut TcpStream) {
    stream.write_all(b"x").await.unwrap();
    soon("the echo", stream.read_exact(&mut [0])).await.unwrap();
}

#[tokio::test]
async fn an_rsa_key_in_pkcs1_serves() {
    let pem = include_str!("../../../certs-watcher/tests/data/throwaway-pkcs1.pem");
    assert!(pem.contains("BEGIN RSA PRIVATE KEY"));
    let key = KeyPair::try_from(&PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(API.try_into().unwrap())];
    let request = Request::from_pem(&params.serialize_request(&key).unwrap().pem().unwrap()).unwrap();
    let pki = Pki::new();
    let chain = pki.intermediate.sign(&request, &[API.parse().unwrap()], &LeafOptions::default()).unwrap();

    let backend = Backend::start().await;
    let plan = Plan::new(&pki, API).inbound("http", backend.address);
    write_volume(&plan.path("identity"), &[("tls.crt", &chain.pem()), ("tls.key", pem)]);
    let sidecar = plan.ready().await;
    is_served(sidecar.inbound(), &pki.leaf(CALLER)).await.unwrap();
    assert_eq!(sidecar.admin("/identity").await["certificate"]["serial"], chain.serial.to_string());
}
