//! Open connections are judged again when what allowed them may have ceased to hold: whoever uses them, and whatever else
//! goes on.

use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use portcullis::app::Stop;
use portcullis::ca::Leaf;
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::backend::{Backend, Raw};
use crate::client::{Ask, Hello, Http, is_closed, opaque, plain, secured};
use crate::eventually::{eventually, soon};
use crate::expiry::{is_alive, stream};
use crate::frames::*;
use crate::peer;
use crate::pki::{API, CALLER, Pki};
use crate::revocation::{deny_identity, echo, list, revoke};
use crate::sidecar::{Plan, Sidecar, answered, closed};
use crate::websocket::UPGRADE;
use crate::wire::Wire;

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
    Io: AsyncRead + AsyncWrite + Unpin,
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

/// One connection of each kind to a sidecar, with something in use on those that can be.
struct Each {
    tcp: crate::client::Secured,
    one: Http,
    two: Http,
    websocket: Wire<crate::client::Secured>,
    /// Carries a stream for as long as nobody ends it.
    streaming: (Http, tokio::sync::mpsc::Sender<http_body::Frame<bytes::Bytes>>, hyper::body::Incoming),
}

impl Each {
    /// To a sidecar whose listeners are `tcp` and `auto`.
    async fn open(sidecar: &Sidecar, leaf: &Leaf) -> Self {
        let [tcp, http] = [0, 1].map(|number| sidecar.running().addresses().inbound[number]);
        let mut streaming = Http::two(http, leaf).await;
        let (sender, answers) = stream(&mut streaming, "gold").await;
        let mut each = Self {
            tcp: opaque(tcp, leaf).await,
            one: Http::one(http, leaf).await,
            two: Http::two(http, leaf).await,
            websocket: upgraded(secured(http, leaf).await).await,
            streaming: (streaming, sender, answers),
        };
        each.all_live().await;
        each
    }

    async fn all_live(&mut self) {
        echo(&mut self.tcp).await;
        for connection in [&mut self.one, &mut self.two] {
            assert_eq!(connection.get("/").await.status, 200);
        }
        echo(&mut self.websocket.io).await;
        is_alive(&self.streaming.1, &mut self.streaming.2).await;
    }

    async fn all_end(mut self) {
        for connection in [&self.one, &self.two] {
            eventually("the end of HTTP", async || if connection.is_over() { Ok(()) } else { Err("open") }).await;
        }
        is_closed(&mut self.tcp).await;
        assert_eq!(soon("the end of the tunnel", self.websocket.rest()).await, b"");
        assert!(
            soon("the end of the stream", self.streaming.2.frame()).await.expect("an error, no proper end").is_err()
        );
    }
}

/// How many connections that makes; the stream has one of its own, and the WebSocket's is a tunnel by then.
const EACH: u64 = 5;

async fn upgraded<Io: AsyncRead + AsyncWrite + Unpin>(mut wire: Wire<Io>) -> Wire<Io> {
    assert_eq!(wire.ask(UPGRADE).await.status, 101);
    assert_eq!(soon("the welcome", wire.exactly(7)).await.unwrap(), b"welcome");
    wire
}

async fn of_each_kind(plan: Plan) -> (Sidecar, Backend, Raw) {
    let (backend, raw) = (Backend::start().await, Raw::echo().await);
    let sidecar = plan.inbound("tcp", raw.address).inbound("auto", backend.address).ready().await;
    (sidecar, backend, raw)
}

/// Long enough for connections to be made before, and no longer.
const SHORT: i64 = 7;

/// One of each kind ends at `end` and not before, is counted once, and the others stay.
async fn ends_alone(sidecar: &Sidecar, expired: &str, end: OffsetDateTime, ending: Each, mut staying: Each) {
    let (counted, at) = (sidecar.count(expired), OffsetDateTime::now_utc());
    assert!(counted == 0 || at > end - FORETOLD, "{counted} closed at {at}, before {end}");
    sidecar.eventually_counts(expired, EACH).await;
    assert!(OffsetDateTime::now_utc() > end, "opaque bytes have all of the time");
    ending.all_end().await;
    staying.all_live().await;
    assert_eq!(sidecar.count(expired), EACH, "each is counted once");
}

#[tokio::test]
async fn no_connection_of_any_kind_outlives_the_certificate_of_its_caller() {
    let pki = Pki::new();
    let (sidecar, ..) = of_each_kind(Plan::new(&pki, API).timeouts("recheckGrace: 100ms")).await;
    let (short, end) = pki.short_leaf(CALLER, SHORT);
    let (ending, staying) = (Each::open(&sidecar, &short).await, Each::open(&sidecar, &pki.leaf(CALLER)).await);
    let expired = closed("inbound", "certificate_expired");
    ends_alone(&sidecar, &expired, end, ending, staying).await;
}

/// How long before the end HTTP may be told.
const FORETOLD: time::Duration = time::Duration::seconds(2);

#[tokio::test]
async fn no_connection_of_any_kind_outlives_our_own_certificate_and_a_rotation_ends_none_before() {
    let pki = Pki::new();
    let (short, end) = pki.short_leaf(API, SHORT + 3);
    let (sidecar, ..) = of_each_kind(Plan::new(&pki, API).leaf(&short).timeouts("recheckGrace: 100ms")).await;
    let mut ending = Each::open(&sidecar, &pki.leaf(CALLER)).await;
    sidecar.changing("identity", |sidecar| sidecar.write_leaf(&pki.leaf(API))).await;
    let staying = Each::open(&sidecar, &pki.leaf(CALLER)).await;
    ending.all_live().await;
    let expired = closed("inbound", "own_certificate_expired");
    ends_alone(&sidecar, &expired, end, ending, staying).await;
}

#[tokio::test]
async fn no_call_outlives_the_certificate_of_either_side() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    for (ours, theirs, cause) in [(3600, SHORT, "certificate_expired"), (SHORT, 3600, "own_certificate_expired")] {
        let ((own, _), (served, _)) = (pki.short_leaf(CALLER, ours), pki.short_leaf(API, theirs));
        // A peer that asks nobody for a certificate and closes nothing by itself.
        let http = peer::serve(&served, &["http/1.1"], &backend).await;
        let acceptor = peer::acceptor(&served, &[]);
        let raw = Raw::start(move |stream| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let (mut read, mut write) = tokio::io::split(stream);
                let _ = tokio::io::copy(&mut read, &mut write).await;
            }
        })
        .await;
        let plan =
            Plan::new(&pki, CALLER).leaf(&own).outbound("http", http, &[API]).outbound("tcp", raw.address, &[API]);
        let sidecar = plan.timeouts("recheckGrace: 100ms").ready().await;
        let mut bytes = TcpStream::connect(sidecar.running().addresses().outbound[1]).await.unwrap();
        let mut tunnel = upgraded(plain(sidecar.outbound()).await).await;
        let mut waiting = Http::plain_one(sidecar.outbound()).await;
        echo(&mut bytes).await;
        echo(&mut tunnel.io).await;
        let waits = tokio::spawn(async move { waiting.get("/never").await });
        sidecar.eventually_counts(&closed("outbound", cause), 3).await;
        is_closed(&mut bytes).await;
        assert_eq!(soon("the end of the tunnel", tunnel.rest()).await, b"", "{cause}");
        let answer = soon("the end of the call", waits).await.unwrap();
        assert_eq!(answer.status, 503, "{cause}: {}", answer.text());
        assert_eq!(sidecar.count(&closed("outbound", cause)), 3, "{cause}: each is counted once");
    }
}

#[tokio::test]
async fn a_call_that_is_cut_says_what_became_of_its_peer() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let far = Plan::new(&pki, API).inbound("http", backend.address).ready().await;
    let plan = Plan::new(&pki, CALLER).outbound("http", far.inbound(), &[API]).denying("{}");
    let near = plan.timeouts("recheckGrace: 300ms").ready().await;
    let mut caller = Http::plain_one(near.outbound()).await;
    let waits = tokio::spawn(async move { caller.get("/never").await });
    eventually("it waits", async || backend.seen().first().map(drop).ok_or(())).await;
    near.changing("deny_list", |near| near.write_deny_list(&deny_identity(API))).await;
    let answer = soon("the end of the call", waits).await.unwrap();
    assert_eq!((answer.status, answer.header("x-portcullis-reason")), (503, Some("upstream_denied")));
    eventually("the far application hears of it", async || if backend.abandoned() == 1 { Ok(()) } else { Err(()) })
        .await;
}

#[tokio::test]
async fn without_a_grace_everything_is_cut_at_once() {
    let pki = Pki::new();
    let plan = Plan::new(&pki, API).denying("{}").timeouts("recheckGrace: 0");
    let (sidecar, backend, _raw) = of_each_kind(plan).await;
    let each = Each::open(&sidecar, &pki.leaf(CALLER)).await;
    let mut waiting = each.two.beside();
    let waits = tokio::spawn(async move { waiting.try_send(Ask::get("/never")).await });
    eventually("it waits", async || if backend.last().target == "/never" { Ok(()) } else { Err(()) }).await;
    sidecar.changing("deny_list", |sidecar| sidecar.write_deny_list(&deny_identity(CALLER))).await;
    let changed = Instant::now();
    each.all_end().await;
    assert!(soon("the end of the request", waits).await.unwrap().is_err());
    assert!(changed.elapsed() < Duration::from_secs(4), "not after the grace that is the default");
}

#[tokio::test]
async fn what_is_in_flight_has_the_grace_and_no_more() {
    let pki = Pki::new();
    let grace = Duration::from_secs(3);
    let plan = Plan::new(&pki, API).denying("{}").timeouts("recheckGrace: 3s");
    let (sidecar, ..) = of_each_kind(plan).await;
    let mut each = Each::open(&sidecar, &pki.leaf(CALLER)).await;
    let before = Instant::now();
    sidecar.changing("deny_list", |sidecar| sidecar.write_deny_list(&deny_identity(CALLER))).await;
    sidecar.eventually_counts(&closed("inbound", "denied"), EACH).await;
    is_alive(&each.streaming.1, &mut each.streaming.2).await;
    echo(&mut each.tcp).await;
    echo(&mut each.websocket.io).await;
    each.all_end().await;
    assert!(before.elapsed() >= grace, "only after {:?}", before.elapsed());
}

#[tokio::test]
async fn over_http1_the_response_in_hand_is_the_last() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let plan = Plan::new(&pki, API).inbound("http", backend.address).denying("{}");
    let sidecar = plan.timeouts("recheckGrace: 10m").ready().await;
    let mut wire = secured(sidecar.inbound(), &pki.leaf(CALLER)).await;
    wire.write("GET /hold HTTP/1.1\r\nhost: a.test\r\n\r\n").await;
    eventually("it is held", async || backend.seen().first().map(drop).ok_or(())).await;
    sidecar.changing("deny_list", |sidecar| sidecar.write_deny_list(&deny_identity(CALLER))).await;
    sidecar.eventually_counts(&closed("inbound", "denied"), 1).await;
    backend.release();
    let answer = wire.answer(true).await;
    assert_eq!((answer.status, answer.text(), answer.header("connection")), (200, "held", Some("close")));
    assert_eq!(wire.rest().await, b"");
}

#[tokio::test]
async fn trust_in_another_domain_is_nobody_elses_concern() {
    let (pki, dev, renewed) = (Pki::new(), Pki::of("dev.test"), Pki::of("dev.test"));
    let plan = Plan::new(&pki, API).trusting(&dev);
    let (sidecar, ..) = of_each_kind(plan).await;
    let mut each = Each::open(&sidecar, &pki.leaf(CALLER)).await;
    sidecar.changing("trust", |sidecar| sidecar.write_bundle("dev.test", &[renewed.bundle()])).await;
    sidecar.changing("trust", |sidecar| sidecar.write_bundle("dev.test", &[dev.bundle()])).await;
    each.all_live().await;
    let metrics = sidecar.running().metrics();
    assert!(!metrics.contains("portcullis_connections_refused_total{"), "{metrics}");
}
