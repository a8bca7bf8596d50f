//! Handshakes under way while what they show, or what they are judged by, is exchanged.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::backend::{Backend, Raw};
use crate::client::{Hello, Http};
use crate::eventually::{eventually, soon};
use crate::pki::{API, CALLER, DOMAIN, Pki};
use crate::sidecar::Plan;
use crate::wire::Wire;

/// Holds back what comes until it is opened.
struct Gate {
    address: SocketAddr,
    held: Arc<AtomicUsize>,
    open: Arc<Semaphore>,
}

impl Gate {
    async fn before(behind: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (held, open) = (Arc::<AtomicUsize>::default(), Arc::new(Semaphore::new(0)));
        let gate = Self { address, held: Arc::clone(&held), open: Arc::clone(&open) };
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (held, open) = (Arc::clone(&held), Arc::clone(&open));
                tokio::spawn(async move {
                    // Whoever has begun to speak has chosen what to show.
                    stream.readable().await.unwrap();
                    held.fetch_add(1, Ordering::Relaxed);
                    let _open = open.acquire().await.unwrap();
                    let mut behind = TcpStream::connect(behind).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut behind).await;
                });
            }
        });
        gate
    }

    async fn holds(&self, count: usize) {
        eventually("a handshake is held back", async || match self.held.load(Ordering::Relaxed) {
            held if held == count => Ok(()),
            held => Err(held),
        })
        .await;
    }

    fn open(&self) {
        self.open.add_permits(Semaphore::MAX_PERMITS);
    }
}

#[tokio::test]
async fn a_handshake_that_began_under_an_older_leaf_is_made_again_before_a_request_leaves() {
    let (backend, old, new) = (Backend::start().await, Pki::new(), Pki::new());
    let far = Plan::new(&old, API).inbound("http", backend.address).ready().await;
    let gate = Gate::before(far.inbound()).await;
    let near = Plan::new(&old, CALLER).outbound("http", gate.address, &[API]).ready().await;
    let mut http = Http::plain_two(near.outbound()).await;
    let asking = tokio::spawn(async move { http.get("/").await });
    gate.holds(1).await;
    for sidecar in [&near, &far] {
        sidecar.changing("trust", |sidecar| sidecar.write_bundle(DOMAIN, &[old.bundle(), new.bundle()])).await;
    }
    for (sidecar, id) in [(&near, CALLER), (&far, API)] {
        sidecar.changing("identity", |sidecar| sidecar.write_leaf(&new.leaf(id))).await;
    }
    for sidecar in [&near, &far] {
        sidecar.changing("trust", |sidecar| sidecar.write_bundle(DOMAIN, &[new.bundle()])).await;
    }
    gate.open();
    let answer = soon("the answer", asking).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(backend.seen().len(), 1);
}

#[tokio::test]
async fn a_handshake_that_began_under_an_older_trust_is_made_again() {
    let (backend, old, new) = (Backend::start().await, Pki::new(), Pki::new());
    let far = Plan::new(&old, API).inbound("http", backend.address).ready().await;
    let gate = Gate::before(far.inbound()).await;
    let near = Plan::new(&old, CALLER).outbound("http", gate.address, &[API]).ready().await;
    let mut http = Http::plain_two(near.outbound()).await;
    let asking = tokio::spawn(async move { http.get("/").await });
    gate.holds(1).await;
    for sidecar in [&near, &far] {
        sidecar.changing("trust", |sidecar| sidecar.write_bundle(DOMAIN, &[old.bundle(), new.bundle()])).await;
    }
    far.changing("identity", |far| far.write_leaf(&new.leaf(API))).await;
    gate.open();
    let answer = soon("the answer", asking).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn a_caller_is_judged_by_the_trust_of_when_it_begins_to_speak() {
    let (backend, old, new) = (Backend::start().await, Pki::new(), Pki::new());
    let far = Plan::new(&old, API).inbound("http", backend.address).ready().await;
    let stream = TcpStream::connect(far.inbound()).await.unwrap();
    far.eventually_counts("portcullis_tls_handshakes_in_flight{direction=\"inbound\"}", 1).await;
    far.changing("trust", |far| far.write_bundle(DOMAIN, &[old.bundle(), new.bundle()])).await;
    let leaf = new.leaf(CALLER);
    let mut wire = Wire::new(Hello::new(&leaf, &["http/1.1"]).shake_on(stream).await.unwrap());
    assert_eq!(wire.get("/").await.status, 200);
}

#[tokio::test]
async fn a_peer_that_was_denied_during_its_handshake_gets_no_byte() {
    let raw = Raw::echo().await;
    let pki = Pki::new();
    let far = Plan::new(&pki, API).inbound("tcp", raw.address).ready().await;
    let gate = Gate::before(far.inbound()).await;
    let near = Plan::new(&pki, CALLER).denying("{}").outbound("tcp", gate.address, &[API]).ready().await;
    let mut stream = TcpStream::connect(near.outbound()).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    gate.holds(1).await;
    let denied = format!("identities: [{{spiffeId: \"{API}\", reason: key lost}}]");
    near.changing("deny_list", |near| near.write_deny_list(&denied)).await;
    gate.open();
    let mut got = Vec::new();
    let _ = soon("the end", stream.read_to_end(&mut got)).await;
    assert_eq!(got, b"", "nothing comes back from a peer that is denied");
}
