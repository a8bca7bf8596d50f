//! Whoever does not take what is there: bounded in memory and in time, and nobody else is concerned.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::client::{Ask, Hello, Http};
use crate::eventually::{eventually, soon};
use crate::pki::{API, CALLER, Pki};
use crate::sidecar::{OPEN, Plan, Sidecar, answered, requests};
use crate::tireless::{Application, PIECE, narrow, settled};

/// The bound of the sidecar in most tests.
const STALL: Duration = Duration::from_secs(1);

/// One of the ways that a response takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    direction: &'static str,
    /// Of the caller.
    version: u8,
    /// Of the application.
    application: &'static str,
}

impl Way {
    /// What one response may take on its whole way. Over HTTP/2 the caller's window bounds it; over HTTP/1.1 most of it lies in
    /// the sockets of the sidecar, whose size the kernel chooses (4 MiB for sending).
    fn bound(self) -> usize {
        if self.version == 2 { 2 << 20 } else { 24 << 20 }
    }

    /// The same for an upload, where it is the windows of the application and ours.
    fn upload_bound(self) -> usize {
        if self.application == "http2" { self.bound() } else { 24 << 20 }
    }
}

fn ways() -> Vec<Way> {
    let mut ways = Vec::new();
    for direction in ["inbound", "outbound"] {
        for version in [1, 2] {
            for application in ["http", "http2"] {
                ways.push(Way { direction, version, application });
            }
        }
    }
    ways
}

/// Sidecars on a way, of which the one next to the caller has these timeouts.
struct Stage {
    way: Way,
    pki: Pki,
    application: Application,
    far: Sidecar,
    near: Option<Sidecar>,
}

impl Stage {
    async fn set(way: Way, timeouts: &str) -> Self {
        let pki = Pki::new();
        let application = Application::start(way.application);
        let timeouts = format!("lameDuck: 0, drain: 1s, {timeouts}");
        let plan = Plan::new(&pki, API).inbound(way.application, application.address);
        if way.direction == "inbound" {
            let far = plan.timeouts(&timeouts).ready().await;
            return Self { way, pki, application, far, near: None };
        }
        let far = plan.ready().await;
        let near = Plan::new(&pki, CALLER).outbound("http", far.inbound(), &[API]).timeouts(&timeouts).ready().await;
        Self { way, pki, application, far, near: Some(near) }
    }

    /// The sidecar next to the caller.
    fn next(&self) -> &Sidecar {
        self.near.as_ref().unwrap_or(&self.far)
    }

    /// A caller that takes little at once.
    async fn caller(&self) -> Http {
        if self.near.is_some() {
            return self.over(narrow(self.next().outbound()).await).await;
        }
        let alpn = if self.way.version == 2 { "h2" } else { "http/1.1" };
        let stream = narrow(self.next().inbound()).await;
        self.over(Hello::new(&self.pki.leaf(CALLER), &[alpn]).shake_on(stream).await.unwrap()).await
    }

    async fn over(&self, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Http {
        if self.way.version == 2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.initial_stream_window_size(64 << 10).initial_connection_window_size(16 << 20);
            let (sender, connection) = builder.handshake(TokioIo::new(io)).await.unwrap();
            tokio::spawn(connection);
            return Http::Two(sender);
        }
        let (sender, connection) =
            http1::Builder::new().max_buf_size(64 << 10).handshake(TokioIo::new(io)).await.unwrap();
        tokio::spawn(connection);
        Http::One(sender)
    }

    fn count(&self, reason: &str) -> u64 {
        self.next().count(&answered(self.way.direction, reason))
    }
}

#[tokio::test]
async fn a_response_that_nobody_reads_is_ended_alone() {
    // All at once: it is time that passes.
    join_all(ways().into_iter().map(async |way| {
        let stage = Stage::set(way, "bodyStall: 1s").await;
        let mut caller = stage.caller().await;
        let kept = caller.open(Ask::get("/endless")).await.unwrap();
        assert_eq!(kept.status(), 200, "{way:?}");
        stage.application.eventually_ended(1).await;
        eventually("it is counted", async || if stage.count("response_stalled") == 1 { Ok(()) } else { Err(way) })
            .await;
        assert!(stage.application.sent() < way.bound(), "{way:?}: {}", stage.application.sent());
        // The other streams of the connection go on; over HTTP/1.1 there are none.
        if way.version == 2 {
            assert_eq!(caller.get("/").await.status, 200, "{way:?}");
        }
        let broken = soon("the end of the response", async {
            let mut kept = kept;
            loop {
                match kept.body_mut().frame().await {
                    Some(Ok(_)) => {}
                    other => return matches!(other, Some(Err(_))),
                }
            }
        });
        assert!(broken.await, "{way:?}: it must not look whole");
    }))
    .await;
}

#[tokio::test]
async fn a_response_that_is_read_slowly_goes_on() {
    // All at once: it is time that passes.
    join_all(ways().into_iter().map(async |way| {
        let stage = Stage::set(way, "bodyStall: 1s").await;
        let mut caller = stage.caller().await;
        let mut response = caller.open(Ask::get("/endless")).await.unwrap();
        // What time does to it is the question, so time has to pass.
        let begun = Instant::now();
        let mut pace = tokio::time::interval(Duration::from_millis(50));
        while begun.elapsed() < 3 * STALL {
            pace.tick().await;
            let mut read = 0;
            while read < 16 * PIECE {
                let frame = soon("the next piece", response.body_mut().frame()).await.unwrap();
                read += frame.unwrap_or_else(|error| panic!("{way:?}: {error}")).into_data().unwrap().len();
            }
        }
        assert_eq!(stage.count("response_stalled"), 0, "{way:?}");
    }))
    .await;
}

#[tokio::test]
async fn a_response_that_waits_for_the_application_goes_on() {
    // All at once: it is time that passes.
    join_all(ways().into_iter().map(async |way| {
        let stage = Stage::set(way, "bodyStall: 200ms").await;
        let mut caller = stage.caller().await;
        let mut response = caller.open(Ask::get("/drip")).await.unwrap();
        for _ in 0..2 {
            let mut read = 0;
            while read < PIECE {
                let frame = soon("the next piece", response.body_mut().frame()).await.unwrap();
                read += frame.unwrap_or_else(|error| panic!("{way:?}: {error}")).into_data().unwrap().len();
            }
            // Three times the limit: nothing can be awaited that must not come.
            tokio::time::sleep(Duration::from_millis(600)).await;
            stage.application.release();
        }
        assert_eq!(stage.count("response_stalled"), 0, "{way:?}");
    }))
    .await;
}

#[tokio::test]
async fn many_slow_readers_hold_bounded_memory() {
    const MANY: usize = 20;
    for way in ways() {
        let stage = Stage::set(way, "bodyStall: 0").await;
        let mut kept = Vec::new();
        let mut shared = stage.caller().await;
        for _ in 0..MANY {
            let mut caller = if way.version == 2 { shared.beside() } else { stage.caller().await };
            kept.push((caller.open(Ask::get("/endless")).await.unwrap(), caller));
        }
        let sent = settled("the application is held up", || stage.application.sent()).await;
        assert!(sent < MANY * way.bound(), "{way:?}: {sent} for {MANY}");
        assert_eq!(shared.get("/").await.status, 200, "{way:?}: others are served");
    }
}

#[tokio::test]
async fn an_upload_that_nobody_reads_holds_bounded_memory() {
    for way in ways() {
        let stage = Stage::set(way, "bodyStall: 0").await;
        let mut caller = stage.caller().await;
        let taken = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&taken);
        let frames = futures_util::stream::repeat_with(move || {
            counted.fetch_add(PIECE, Ordering::Relaxed);
            Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[b'x'; PIECE])))
        });
        let ask = Ask::new("POST", "/never").body(StreamBody::new(frames).boxed_unsync());
        let sending = tokio::spawn(async move { caller.open(ask).await.map(drop) });
        let taken = settled("the caller is held up", || taken.load(Ordering::Relaxed)).await;
        assert!(taken < way.upload_bound(), "{way:?}: {taken}");
        sending.abort();
        // A caller that goes away in the middle of it takes its request along. Over HTTP/1.1 its goodbye stands behind the bytes
        // that nobody reads; `timeouts.responseHead` bounds that. For the same reason an application does not hear ours.
        if way.version == 2 {
            stage.next().eventually_counts(&requests(way.direction, 499), 1).await;
            if way.application == "http2" {
                stage.application.eventually_ended(1).await;
            }
        }
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_its_request_along() {
    for way in ways() {
        for path in ["/never", "/endless"] {
            let stage = Stage::set(way, "bodyStall: 0").await;
            let mut caller = stage.caller().await;
            let asking = tokio::spawn(async move {
                let response = caller.open(Ask::get(path)).await;
                std::future::pending::<()>().await;
                drop((response, caller));
            });
            stage.application.eventually_begun(1).await;
            asking.abort();
            stage.application.eventually_ended(1).await;
        }
    }
}

#[tokio::test]
async fn a_response_that_is_not_allowed_any_more_ends_also_unread() {
    for way in ways().into_iter().filter(|way| way.direction == "inbound") {
        let stage = Stage::set(way, "bodyStall: 0").await;
        let mut caller = stage.caller().await;
        let _kept = caller.open(Ask::get("/endless")).await.unwrap();
        settled("the application is held up", || stage.application.sent()).await;
        let less =
            OPEN.replace("[\"spiffe://prod.test/**\"]}", "[\"spiffe://prod.test/**\"]}\n      to: {paths: [\"/\"]}");
        assert_ne!(less, OPEN);
        stage.far.changing("policy", |far| far.write_policy(&less)).await;
        stage.application.eventually_ended(1).await;
        eventually("it is counted", async || match stage.count("no_longer_allowed") {
            1 => Ok(()),
            count => Err((way, count)),
        })
        .await;
        if way.version == 2 {
            assert_eq!(caller.get("/").await.status, 200, "{way:?}");
        }
    }
}
