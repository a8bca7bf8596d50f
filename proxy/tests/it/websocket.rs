//! WebSocket inbound: a tunnel after the application's 101, and not a byte before it.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::backend::{Backend, Raw};
use crate::client::secured;
use crate::eventually::{eventually, soon};
use crate::pki::{API, CALLER, OTHER, Pki};
use crate::sidecar::{Plan, answered};
use crate::tcp::CALLER_ONLY;

/// What a browser would send.
pub const UPGRADE: &str = "GET /upgrade HTTP/1.1\r\nhost: eligibility.test\r\nconnection: keep-alive, Upgrade\r\n\
                           upgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";
/// What belongs to its key (RFC 6455 section 1.3).
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

#[tokio::test]
async fn bytes_pass_both_ways_after_the_101() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let sidecar = Plan::new(&pki, API).inbound("http", backend.address).ready().await;
    let mut wire = secured(sidecar.inbound(), &pki.leaf(CALLER)).await;
    let answer = wire.ask(UPGRADE).await;
    assert_eq!((answer.status, answer.header("upgrade")), (101, Some("websocket")));
    assert!(answer.header("connection").unwrap().eq_ignore_ascii_case("upgrade"));
    assert_eq!(answer.header("sec-websocket-accept"), Some(ACCEPT));
    assert_eq!(soon("the welcome", wire.exactly(7)).await.unwrap(), b"welcome");
    for text in ["one", "two", "three"] {
        wire.write(text).await;
        assert_eq!(soon("the echo", wire.exactly(text.len())).await.unwrap(), text.as_bytes());
    }
    let seen = backend.last();
    assert_eq!(seen.header("sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
    assert!(seen.header("x-forwarded-client-cert").unwrap().contains(CALLER));
    assert_eq!(sidecar.admin("/connections").await["connections"][0]["peer"], CALLER);
    // Half-close: the application ends when the caller has.
    wire.io.shutdown().await.unwrap();
    assert_eq!(wire.rest().await, b"");
    eventually("the tunnel leaves the registry", async || {
        let open = sidecar.admin("/connections").await;
        if open["open"] == 0 { Ok(()) } else { Err(open) }
    })
    .await;
}

#[tokio::test]
async fn nothing_is_forwarded_before_the_101() {
    let pki = Pki::new();
    let (heard, mut hearing) = tokio::sync::mpsc::channel(1);
    let application = Raw::start(move |mut stream| {
        let heard = heard.clone();
        async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            // What came right behind the head would be here by the time the caller has sent it and heard a refusal.
            stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
            let mut more = Vec::new();
            stream.read_to_end(&mut more).await.unwrap();
            heard.send((head, more)).await.unwrap();
        }
    })
    .await;
    let sidecar = Plan::new(&pki, API).inbound("http", application.address).ready().await;
    let mut wire = secured(sidecar.inbound(), &pki.leaf(CALLER)).await;
    wire.write(format!("{UPGRADE}early bytes of the tunnel")).await;
    assert_eq!(wire.answer(true).await.status, 403);
    drop(wire);
    let (head, more) = soon("the end of the connection", hearing.recv()).await.unwrap();
    assert!(String::from_utf8(head).unwrap().starts_with("GET /upgrade HTTP/1.1\r\n"));
    assert_eq!(String::from_utf8_lossy(&more), "");
}

#[tokio::test]
async fn a_refused_upgrade_is_an_ordinary_answer() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let sidecar = Plan::new(&pki, API).inbound("http", backend.address).ready().await;
    let mut wire = secured(sidecar.inbound(), &pki.leaf(CALLER)).await;
    let answer = wire.ask(&UPGRADE.replace("/upgrade", "/status/404")).await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn a_denied_upgrade_gets_403_and_the_application_never_hears_of_it() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let sidecar = Plan::new(&pki, API).policy(CALLER_ONLY).inbound("http", backend.address).ready().await;
    let mut wire = secured(sidecar.inbound(), &pki.leaf(OTHER)).await;
    assert_eq!(wire.ask(UPGRADE).await.status, 403);
    assert_eq!(backend.connections(), 0);
    assert_eq!(sidecar.count(&answered("inbound", "no_rule")), 1);
}

#[tokio::test]
async fn other_upgrades_are_declined_by_leaving_them_out() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let sidecar = Plan::new(&pki, API).inbound("http", backend.address).ready().await;
    let leaf = pki.leaf(CALLER);
    for other in ["h2c", "websocket, h2c", "TLS/1.0"] {
        let mut wire = secured(sidecar.inbound(), &leaf).await;
        let answer = wire.ask(&UPGRADE.replace("upgrade: websocket", &format!("upgrade: {other}"))).await;
        // The application sees no upgrade, and says that it wants one.
        assert_eq!(answer.status, 426, "{other}");
        assert_eq!(backend.last().header("upgrade"), None);
        assert_eq!(backend.last().header("connection"), None);
    }
}

#[tokio::test]
async fn a_101_that_nobody_asked_for_is_502() {
    let pki = Pki::new();
    let application = Raw::start(|mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let unasked = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nrest";
        stream.write_all(unasked).await.unwrap();
        // Open until the sidecar closes it.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let sidecar = Plan::new(&pki, API).inbound("http", application.address).ready().await;
    let leaf = pki.leaf(CALLER);
    for request in ["GET / HTTP/1.1\r\nhost: a\r\n\r\n", "GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\n\r\n"] {
        let mut wire = secured(sidecar.inbound(), &leaf).await;
        assert_eq!(wire.ask(request).await.status, 502, "{request}");
    }
    assert_eq!(sidecar.count(&answered("inbound", "unexpected_upgrade")), 2);
}
