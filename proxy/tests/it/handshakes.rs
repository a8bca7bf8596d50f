//! `limits.handshakes`: whoever stalls gives way to whoever does not, and nothing that came to nothing is left over.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use portcullis::ca::Leaf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::backend::Backend;
use crate::client::{Hello, is_closed, is_served};
use crate::eventually::{eventually, soon};
use crate::pki::{API, CALLER, OTHER, Pki};
use crate::process::{files, start_listening};
use crate::sidecar::{Plan, Sidecar, refused, shaken};

/// The beginning of a ClientHello.
const HALF: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc];
/// Long enough that nothing here ends by it.
const PATIENT: &str = "handshake: 30s, lameDuck: 0, drain: 1s";

async fn limited(pki: &Pki, limits: &str) -> (Sidecar, Backend) {
    let backend = Backend::start().await;
    let plan = Plan::new(pki, API).inbound("http", backend.address).limits(limits).timeouts(PATIENT);
    (plan.ready().await, backend)
}

/// Connects and sends nothing, or half of a ClientHello, by turns.
async fn stall(address: SocketAddr, number: usize) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    if number.is_multiple_of(2) {
        stream.write_all(HALF).await.unwrap();
    }
    stream
}

async fn under_way(sidecar: &Sidecar, count: u64) {
    let series = "portcullis_tls_handshakes_in_flight{direction=\"inbound\"}";
    eventually(series, async || match sidecar.count(series) {
        seen if seen == count => Ok(()),
        seen => Err(seen),
    })
    .await;
}

/// Whether a connection is still open: nothing comes, and it has not ended.
fn is_open(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

#[tokio::test]
async fn the_oldest_that_stall_give_way_and_good_callers_are_served() {
    let pki = Pki::new();
    let (sidecar, _backend) = limited(&pki, "handshakes: 50").await;
    let mut stalled = Vec::new();
    for number in 0..60 {
        stalled.push(stall(sidecar.inbound(), number).await);
        // In their order: which is the oldest is what this is about.
        under_way(&sidecar, (number as u64 + 1).min(50)).await;
        sidecar.eventually_counts(&refused("inbound", "displaced"), (number as u64).saturating_sub(49)).await;
    }
    for mut stream in stalled.drain(..10) {
        is_closed(&mut stream).await;
    }
    assert!(stalled.iter().all(is_open));
    for _ in 0..5 {
        is_served(sidecar.inbound(), &pki.leaf(CALLER)).await.unwrap();
    }
    // The first of them needed a place, and gave it back.
    assert_eq!(sidecar.count(&refused("inbound", "displaced")), 11);
    is_closed(&mut stalled[0]).await;
    assert!(stalled[1..].iter().all(is_open));
    assert_eq!(sidecar.count(&refused("inbound", "too_many_handshakes")), 0);
}

#[tokio::test]
async fn the_newest_is_refused_only_where_all_are_at_work() {
    let pki = Pki::new();
    let (sidecar, _backend) = limited(&pki, "handshakes: 2").await;
    // A whole ClientHello, and nothing after it.
    let mut hello = Vec::new();
    let leaf = pki.leaf(CALLER);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let shaking = Hello::new(&leaf, &["http/1.1"]);
    tokio::select! {
        _ = shaking.shake(listener.local_addr().unwrap()) => unreachable!("nobody answers"),
        () = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 5];
            stream.read_exact(&mut head).await.unwrap();
            hello = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
            stream.read_exact(&mut hello).await.unwrap();
            hello.splice(..0, head);
        } => {}
    }
    let mut at_work = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(sidecar.inbound()).await.unwrap();
        stream.write_all(&hello).await.unwrap();
        soon("a ServerHello", stream.read_exact(&mut [0; 5])).await.unwrap();
        at_work.push(stream);
    }
    is_closed(&mut TcpStream::connect(sidecar.inbound()).await.unwrap()).await;
    sidecar.eventually_counts(&refused("inbound", "too_many_handshakes"), 1).await;
    assert_eq!(sidecar.count(&refused("inbound", "displaced")), 0);
    drop(at_work.pop());
    eventually("room again", async || is_served(sidecar.inbound(), &leaf).await).await;
}

/// The median of the time that a handshake with a request takes.
async fn median(sidecar: &Sidecar, leaf: &Leaf) -> Duration {
    let mut took = Vec::new();
    for _ in 0..60 {
        let started = Instant::now();
        is_served(sidecar.inbound(), leaf).await.unwrap();
        took.push(started.elapsed());
    }
    took.sort_unstable();
    took[took.len() / 2]
}

#[tokio::test]
async fn eight_hundred_stalled_handshakes_do_not_delay_a_good_caller() {
    let pki = Pki::new();
    let (sidecar, _backend) = limited(&pki, "").await;
    let leaf = pki.leaf(OTHER);
    let alone = median(&sidecar, &leaf).await;
    let mut stalled = Vec::new();
    for number in 0..800 {
        stalled.push(stall(sidecar.inbound(), number).await);
    }
    under_way(&sidecar, 800).await;
    let beside = median(&sidecar, &leaf).await;
    // They cost nothing while they wait; five times is room for whatever else the machine does.
    assert!(beside < alone * 5, "{beside:?} beside 800 stalled ones, {alone:?} without");
    assert_eq!(sidecar.count(&shaken("inbound")), 120);
    assert!(stalled.iter().all(is_open));
    drop(stalled);
    under_way(&sidecar, 0).await;
}

#[tokio::test]
async fn refused_callers_that_stay_hold_no_more_than_the_limit() {
    const LIMIT: usize = 20;
    let pki = Pki::new();
    let backend = Backend::start().await;
    let (_folder, config) = files(&pki, "127.0.0.1:0".parse().unwrap(), backend.address);
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}workers: 1\nlimits: {{handshakes: {LIMIT}}}\n")).unwrap();
    let (running, inbound, said) = start_listening(&config);
    is_served(inbound, &pki.leaf(CALLER)).await.unwrap();
    let idle = running.descriptors();
    let mut kept = Vec::new();
    let mut most = 0;
    // A caller that is refused is waited for half a second: hundreds would be there at once.
    for number in 0..1_500 {
        if number % 20 == 0 {
            // Not faster than they are accepted: what waits for its turn is not what this is about.
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        let mut stream = TcpStream::connect(inbound).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        kept.push(stream);
        most = most.max(running.descriptors().saturating_sub(idle));
    }
    // Each place has one, and so has what was accepted in one turn of the listener and has not come to its turn yet.
    assert!(most <= LIMIT + 256, "{most} descriptors for {} refused callers", kept.len());
    soon("a good caller beside them", is_served(inbound, &pki.leaf(CALLER))).await.unwrap();
    eventually("the descriptors come back", async || match running.descriptors() {
        now if now <= idle + 2 => Ok(()),
        now => Err(now),
    })
    .await;
    drop((running, said));
}
