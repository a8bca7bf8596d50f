//! What connections and requests cost in memory: the figures of `docs/limits.md`, held against a process of its own.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body::Frame;
use portcullis::ca::Leaf;

use crate::backend::{Backend, Raw};
use crate::client::{Ask, Http, flowing, secured};
use crate::eventually::eventually;
use crate::pki::{CALLER, Pki};
use crate::process::{Running, files, start_listening};

/// The bound for a connection without requests, see `docs/limits.md`.
const IDLE: u64 = 80 * KIB;

/// Waits until what is resident has not grown for a while, and tells it.
async fn settled(running: &Running) -> u64 {
    let (mut still, mut last) = (0, 0);
    eventually("memory settles", async || {
        let now = running.resident();
        still = if now > last + 64 * 1024 { 0 } else { still + 1 };
        last = last.max(now);
        if still >= 50 { Ok(now) } else { Err(now) }
    })
    .await
}

const KIB: u64 = 1024;

/// What each of `count` callers, who are begun by `begin`, makes the process grow by. The first few are left out: what they
/// make it set up is there for all.
async fn growth<Caller>(forward: SocketAddr, begin: impl AsyncFn(SocketAddr, &Leaf) -> Caller, count: u64) -> u64 {
    let pki = Pki::new();
    let leaf = pki.leaf(CALLER);
    let (_folder, config) = files(&pki, "127.0.0.1:0".parse().unwrap(), forward);
    let (running, inbound, _said) = start_listening(&config);
    let mut kept = Vec::new();
    for _ in 0..count / 8 {
        kept.push(begin(inbound, &leaf).await);
    }
    let before = settled(&running).await;
    for _ in 0..count {
        kept.push(begin(inbound, &leaf).await);
    }
    (settled(&running).await - before) / count
}

#[tokio::test]
async fn an_idle_connection_costs_what_is_said() {
    let backend = Backend::start().await;
    let two = async |inbound, leaf: &Leaf| {
        let mut http = Http::two(inbound, leaf).await;
        assert_eq!(http.get("/").await.status, 200);
        http
    };
    let one = async |inbound, leaf: &Leaf| {
        let mut wire = secured(inbound, leaf).await;
        assert_eq!(wire.get("/").await.status, 200);
        wire
    };
    for (name, grown) in
        [("HTTP/2", growth(backend.address, two, 300).await), ("HTTP/1.1", growth(backend.address, one, 300).await)]
    {
        assert!((8 * KIB..IDLE).contains(&grown), "{name}: {} KiB", grown / KIB);
    }
}

/// An upload of which the application takes nothing, and the caller sends what it can.
fn upload(mut http: Http) -> impl Sized {
    let (sender, body) = flowing();
    let asking = tokio::spawn(async move { drop(http.open(Ask::new("POST", "/").body(body)).await) });
    let sending = tokio::spawn(async move {
        // More than everything on the way could take.
        let piece = Bytes::from(vec![0; 16 << 10]);
        while sender.send(Frame::data(piece.clone())).await.is_ok() {}
    });
    (asking, sending)
}

#[tokio::test]
async fn an_upload_that_nobody_reads_costs_what_is_said() {
    let stuck = Raw::start(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let two = async |inbound, leaf: &Leaf| upload(Http::two(inbound, leaf).await);
    let one = async |inbound, leaf: &Leaf| upload(Http::one(inbound, leaf).await);
    for (name, grown, most) in [
        ("HTTP/2", growth(stuck.address, two, 32).await, IDLE + 2 * 256 * KIB + 64 * KIB),
        ("HTTP/1.1", growth(stuck.address, one, 32).await, IDLE + 16 * 64 * KIB),
    ] {
        // Something must have waited, or this shows nothing.
        assert!((128 * KIB..most).contains(&grown), "{name}: {} of {} KiB", grown / KIB, most / KIB);
    }
}
