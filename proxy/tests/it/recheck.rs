//! Open connections are judged again when what allowed them may have ceased to hold: whoever uses them, and whatever else
//! goes on.

use portcullis::app::Stop;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::backend::{Backend, Raw};
use crate::client::{Ask, Hello, Http, is_closed, opaque};
use crate::eventually::{eventually, soon};
use crate::frames::*;
use crate::pki::{API, CALLER, Pki};
use crate::revocation::{deny_identity, echo, list, revoke};
use crate::sidecar::{Plan, answered, closed};

#[tokio::test]
async fn a_condemned_caller_that_ignores_goaway_is_not_served_any_more() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let sidecar = Plan::new(&pki, API).inbound("http2", backend.address).denying("{}").ready().await;
    let stream = Hello::new(&pki.leaf(CALLER), &["h2"]).shake(sidecar.inbound()).await.unwrap();
    let mut frames = Frames::over(stream);
    let upload = block(&[(":method", "POST"), (":scheme", "https"), (":authority", "a.test"), (":path", "/echo")]);
    let opening = [PREFACE, &frame(SETTINGS, 0, 0, &NO_TABLE), &frame(HEADERS, END_HEADERS, 1, &upload)].concat();
    frames.write.write_all(&opening).await.unwrap();
    assert_eq!(soon("the head of the stream in flight", next_status(&mut frames)).await, (1, 200));

    sidecar.changing("deny_list", |sidecar| sidecar.write_deny_list(&deny_identity(CALLER))).await;
    sidecar.eventually_counts(&closed("inbound", "denied"), 1).await;
    // Neither GOAWAY nor the PING that asks whether it has arrived is answered.
    for stream in [3, 5] {
        frames.write.write_all(&request(stream, END_STREAM)).await.unwrap();
        assert_eq!(soon("a refusal", next_status(&mut frames)).await, (stream, 403));
    }
    frames.write.write_all(&frame(DATA, 0, 1, b"still in flight")).await.unwrap();
    let echoed = soon("the stream in flight", async {
        loop {
            let arrived = frames.next().await.unwrap();
            if arrived.kind == DATA && arrived.stream == 1 {
                return arrived.payload;
            }
        }
    });
    assert_eq!(echoed.await, b"still in flight");
    assert_eq!(backend.seen().len(), 1, "the application has seen nothing else");
    assert_eq!(sidecar.count(&answered("inbound", "no_longer_allowed")), 2);
    soon("the cut", frames.goodbye()).await;
    assert_eq!(sidecar.count(&closed("inbound", "denied")), 1, "one connection is counted once");
}

/// The stream and the status of the next response.
async fn next_status<Io>(frames: &mut Frames<Io>) -> (u32, u16)
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    loop {
        let Arrived { kind, stream, payload, .. } = frames.next().await.unwrap();
        if kind == HEADERS {
            // The first block says that the table is gone (RFC 7541 section 6.3).
            return (stream, status(payload.strip_prefix(&[0x20]).unwrap_or(&payload)));
        }
    }
}

/// SETTINGS without a dynamic table, so that each status comes as it is.
const NO_TABLE: [u8; 6] = [0, 1, 0, 0, 0, 0];

#[tokio::test]
async fn a_drain_hides_no_revocation() {
    let pki = Pki::new();
    let (backend, raw) = (Backend::start().await, Raw::echo().await);
    let plan = Plan::new(&pki, API).inbound("http", backend.address).inbound("tcp", raw.address);
    let sidecar = plan.revoked(&[&list(&pki)]).timeouts("lameDuck: 0, drain: 10m").ready().await;
    let (http, tcp) = (sidecar.inbound(), sidecar.running().addresses().inbound[1]);
    let (stolen, good) = (pki.leaf(CALLER), pki.leaf(CALLER));
    let (mut lost, mut kept) = (opaque(tcp, &stolen).await, opaque(tcp, &good).await);
    echo(&mut lost).await;
    echo(&mut kept).await;
    let mut waiting = Http::two(http, &stolen).await;
    let waits = tokio::spawn(async move { waiting.try_send(Ask::get("/never")).await });
    eventually("it waits", async || backend.seen().first().map(drop).ok_or(())).await;

    sidecar.stop(Stop::Gracefully);
    eventually("inbound is closed", async || TcpStream::connect(http).await.is_err().then_some(()).ok_or(())).await;
    sidecar.changing("crl", |sidecar| sidecar.write_crls(&[&revoke(&pki, &stolen)])).await;
    sidecar.eventually_counts(&closed("inbound", "revoked"), 2).await;
    is_closed(&mut lost).await;
    assert!(soon("the end of the request", waits).await.unwrap().is_err());
    assert_eq!(sidecar.count(&closed("inbound", "revoked")), 2);
    echo(&mut kept).await;
}
