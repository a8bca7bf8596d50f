//! How the connections to an upstream end: with our credentials, with age, with a goodbye, after idling, at the end of the
//! process. None of it costs a request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body::Frame;
use http_body_util::BodyExt;

use portcullis::drain::{Drain, Phase};
use portcullis::http::upload::RequestBody;
use portcullis::telemetry::access_log::Destination;
use portcullis::telemetry::metrics::Metrics;
use portcullis::telemetry::repeated::Repeated;
use portcullis::telemetry::spans::Spans;
use portcullis::telemetry::{Telemetry, access_log};
use portcullis::upstream::dial::{Target, ToApplication};
use portcullis::upstream::lease::Lease;
use portcullis::upstream::open::Route;
use portcullis::upstream::pool::{Choice, Pool, Shape};
use portcullis::upstream::send::{self, Carriage, Outgoing};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::backend::{Backend, Raw};
use crate::client::{Ask, Hello, Http, flowing};
use crate::eventually::{PATIENCE, eventually, soon};
use crate::frames::{ACK, END_STREAM, Frames, GOAWAY, HEADERS, PREFACE, SETTINGS, frame, request, status};
use crate::pki::{API, CALLER, DOMAIN, Pki};
use crate::retries::{Far, OK, Speaks, Stage, http1_request};
use crate::rows::{BOTH, Way};
use crate::sidecar::{Plan, closed};

/// Answers everything, and counts the connections that have ended.
async fn counting_ends(speaks: Speaks) -> (Stage, Arc<AtomicUsize>) {
    let ended = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&ended);
    let stage = Stage::new(Way::Outbound, speaks, move |mut io, _| {
        let counted = Arc::clone(&counted);
        async move {
            match speaks {
                Speaks::Http1 => {
                    while http1_request(&mut io).await.is_some() {
                        let _ = io.write_all(OK).await;
                        let _ = io.flush().await;
                    }
                }
                Speaks::Http2 => {
                    let Some(mut far) = Far::over(io).await else { return };
                    while let Some(stream) = far.request().await {
                        let _ = far.answer(stream).await;
                    }
                }
            }
            counted.fetch_add(1, Ordering::Relaxed);
        }
    })
    .await;
    (stage, ended)
}

async fn eventually_ended(ended: &AtomicUsize, count: usize) {
    eventually("the connections that nobody may use any more end", async || match ended.load(Ordering::Relaxed) {
        seen if seen == count => Ok(()),
        seen => Err(seen),
    })
    .await;
}

#[tokio::test]
async fn a_pool_that_nobody_asks_lets_go_when_our_certificate_or_trust_changes() {
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let (stage, ended) = counting_ends(speaks).await;
        let mut http = stage.caller().await;
        assert_eq!(http.get("/").await.status, 200);
        let before = Instant::now();
        stage.sidecar.changing("identity", |near| near.write_leaf(&stage.pki.leaf(CALLER))).await;
        eventually_ended(&ended, 1).await;
        assert_eq!(http.get("/").await.status, 200);
        let other = Pki::new();
        let both = [stage.pki.bundle(), other.bundle()];
        stage.sidecar.changing("trust", |near| near.write_bundle(DOMAIN, &both)).await;
        eventually_ended(&ended, 2).await;
        assert_eq!(http.get("/").await.status, 200);
        assert_eq!(stage.upstream.accepted(), 3);
        assert!(before.elapsed() < Duration::from_secs(12), "{speaks:?}: it was the sweep, not the change");
    }
}

/// A pool of an application, the shape of which the test can say.
fn pool(route: fn(ToApplication) -> Route, address: SocketAddr, drain: &Drain, more: fn(&mut Shape)) -> Arc<Pool> {
    let (metrics, tasks) = (Arc::new(Metrics::new()), drain.tasks());
    let telemetry = Telemetry {
        access_log: access_log::open(&Destination::Off, Arc::clone(&metrics)).unwrap().0,
        spans: Spans::start(None, "test", &tasks, &tokio::runtime::Handle::current()).unwrap(),
        repeated: Repeated::default(),
        episodes: portcullis::telemetry::episode::Episodes::new(),
        metrics,
    };
    let to = ToApplication {
        target: Target(address.to_string().into()),
        connect: Duration::from_secs(5),
        telemetry: Arc::new(telemetry),
    };
    let mut shape = Shape {
        shared: 2,
        idle: Duration::from_secs(300),
        age: Duration::from_secs(300),
        head: Duration::from_secs(10),
        head_bytes: 64 << 10,
        head_fields: 100,
    };
    more(&mut shape);
    Pool::new(route(to), shape, tasks)
}

async fn ask(pool: &Arc<Pool>) {
    let (head, ()) = Request::post("/").body(()).unwrap().into_parts();
    let outgoing = Outgoing {
        head,
        body: RequestBody::empty(),
        host: "eligibility.test".into(),
        target: "/".parse().unwrap(),
        carriage: Carriage::Request,
    };
    let sent = soon("a response", send::send(pool, outgoing, Duration::ZERO)).await.unwrap();
    assert_eq!(sent.response.status(), 200);
    sent.response.into_body().collect().await.unwrap();
    sent.lease.give_back();
}

#[tokio::test]
async fn a_connection_is_retired_after_its_age_and_no_request_fails() {
    for route in [Route::ApplicationHttp1 as fn(_) -> _, Route::ApplicationHttp2] {
        let (backend, drain) = (Backend::start().await, Drain::new());
        let pool = pool(route, backend.address, &drain, |shape| shape.age = Duration::from_millis(30));
        let deadline = Instant::now() + PATIENCE;
        let mut asked = 0;
        while backend.connections() < 5 {
            assert!(Instant::now() < deadline, "{} connections", backend.connections());
            ask(&pool).await;
            asked += 1;
        }
        assert!(asked > backend.connections(), "{asked} requests: none used a connection again");
        drain.advance(Phase::Ended);
    }
}

#[tokio::test]
async fn a_pool_that_is_closed_serves_and_keeps_nothing() {
    for route in [Route::ApplicationHttp1 as fn(_) -> _, Route::ApplicationHttp2] {
        let (backend, drain) = (Backend::start().await, Drain::new());
        let pool = pool(route, backend.address, &drain, |_| {});
        ask(&pool).await;
        ask(&pool).await;
        assert_eq!(backend.connections(), 1);
        let held = pool.take(Choice::Any).await.unwrap();
        pool.close();
        held.give_back();
        ask(&pool).await;
        ask(&pool).await;
        assert_eq!(backend.connections(), 3, "what comes back, and what is opened, is not kept");
        drain.advance(Phase::Ended);
    }
}

#[tokio::test]
async fn idle_connections_of_http1_are_bounded_in_number() {
    let ended = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&ended);
    let application = Raw::start(move |mut stream| {
        let counted = Arc::clone(&counted);
        async move {
            let _ = stream.read_u8().await;
            counted.fetch_add(1, Ordering::Relaxed);
        }
    })
    .await;
    let drain = Drain::new();
    let pool = pool(Route::ApplicationHttp1, application.address, &drain, |_| {});
    let mut leases = Vec::new();
    for _ in 0..80 {
        leases.push(pool.take(Choice::Any).await.unwrap());
    }
    leases.into_iter().for_each(Lease::give_back);
    eventually_ended(&ended, 80 - 64).await;
    assert_eq!(application.accepted(), 80);
    pool.close();
    eventually_ended(&ended, 80).await;
    drain.advance(Phase::Ended);
}

#[tokio::test]
async fn goodbyes_in_the_middle_of_many_requests_cost_none_of_them() {
    for way in BOTH {
        let stage = Stage::new(way, Speaks::Http2, |io, _| async move {
            let Some(mut far) = Far::over(io).await else { return };
            for _ in 0..80 {
                let Some(stream) = far.request().await else { return };
                let _ = far.answer(stream).await;
            }
            // The last one that is processed; whatever has come meanwhile is not.
            let Some(last) = far.request().await else { return };
            let _ = far.goodbye(last).await;
            let _ = far.answer(last).await;
            while far.request().await.is_some() {}
        })
        .await;
        let http = stage.caller_of_http2().await;
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let mut http = http.beside();
            asking.spawn(async move {
                for number in 0..60 {
                    let answer = http.send(Ask::new("POST", "/orders")).await;
                    assert_eq!((answer.status, answer.text()), (200, "ok"), "request {number}");
                }
            });
        }
        asking.join_all().await;
        assert!(stage.upstream.accepted() >= 6, "{way:?}: {} connections", stage.upstream.accepted());
    }
}

#[tokio::test]
async fn an_http2_caller_that_idles_is_told_before_it_is_closed() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let plan = Plan::new(&pki, API).inbound("http", backend.address);
    let sidecar = plan.timeouts("idle: 200ms, lameDuck: 0, drain: 5s").ready().await;
    let opening = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    let hello = async || {
        let stream = Hello::new(&pki.leaf(CALLER), &["h2"]).shake(sidecar.inbound()).await.unwrap();
        let mut frames = Frames::over(stream);
        frames.write.write_all(&opening).await.unwrap();
        frames.write.write_all(&frame(SETTINGS, ACK, 0, &[])).await.unwrap();
        frames.write.flush().await.unwrap();
        frames
    };

    // A request that crosses the goodbye is answered.
    let mut crossing = hello().await;
    let mut asked = false;
    let answered = soon("an answer", async {
        loop {
            let arrived = crossing.next().await.unwrap();
            if arrived.kind == GOAWAY && !std::mem::replace(&mut asked, true) {
                assert_eq!(arrived.payload[4..8], [0; 4], "without an error");
                crossing.write.write_all(&request(1, END_STREAM)).await.unwrap();
                crossing.write.flush().await.unwrap();
            }
            if arrived.kind == HEADERS {
                return status(&arrived.payload);
            }
        }
    })
    .await;
    assert_eq!(answered, 200);

    // One that does not answer to it is closed all the same.
    let mut silent = hello().await;
    assert_eq!(soon("the end", silent.goodbye()).await, Some(0));
    sidecar.eventually_counts(&closed("inbound", "idle_timeout"), 1).await;
}

#[tokio::test]
async fn an_upload_may_take_longer_than_a_response() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let plan = Plan::new(&pki, API).inbound("http", backend.address);
    let sidecar = plan.timeouts("responseHead: 250ms, lameDuck: 0, drain: 5s").ready().await;
    let mut http = Http::two(sidecar.inbound(), &pki.leaf(CALLER)).await;
    let (frames, body) = flowing();
    let uploading = async {
        // Four times as long as a response's head may take, and never a pause that is as long.
        let mut beat = tokio::time::interval(Duration::from_millis(50));
        for _ in 0..20 {
            beat.tick().await;
            frames.send(Frame::data(Bytes::from_static(b"x"))).await.unwrap();
        }
        drop(frames);
    };
    let mut ask = Ask::new("POST", "/orders");
    ask.body = body;
    let (answer, ()) = tokio::join!(http.send(ask), uploading);
    assert_eq!((answer.status, backend.last().body.len()), (200, 20));
    assert_eq!(http.get("/never").await.status, 504);
}
