//! gRPC: HTTP/2 on both sides, trailers, streams both ways at once, and refusals that a gRPC library understands.

use bytes::Bytes;
use http::Version;
use http_body::Frame;
use http_body_util::BodyExt;

use crate::backend::{Backend, nobody};
use crate::client::{Ask, Http, flowing};
use crate::eventually::{eventually, soon};
use crate::pki::{API, CALLER, OTHER, Pki};
use crate::sidecar::{Plan, requests};

/// `Echo` for the caller, and nothing else.
pub const ECHO_ONLY: &str = r#"
apiVersion: policy.portcullis.dev/v1
kind: AuthorizationPolicy
metadata: {name: echo}
spec:
  allow:
    - name: echo-only
      from: {identities: ["spiffe://prod.test/ns/claims/sa/adjudicator"]}
      to: {grpc: {services: [test.Echo]}}
"#;

/// A gRPC call.
pub fn call(path: &str) -> Ask {
    Ask::new("POST", path).header("content-type", "application/grpc").header("te", "trailers")
}

/// A length-prefixed message.
pub fn message(text: &str) -> Bytes {
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    [&[0][..], &length, text.as_bytes()].concat().into()
}

/// Sends one message after the other, each only when the last has come back.
pub async fn converse(http: &mut Http, path: &str) {
    let (sender, body) = flowing();
    let response = http.open(call(path).body(body)).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers().get("content-type").unwrap(), "application/grpc");
    let mut answers = response.into_body();
    for text in ["one", "two", "three"] {
        sender.send(Frame::data(message(text))).await.unwrap();
        let frame = soon("the answer to a message", answers.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), message(text));
    }
    drop(sender);
    let last = soon("the trailers", answers.frame()).await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(last.get("grpc-status").unwrap(), "0");
    assert_eq!(last.get("grpc-message").unwrap(), "done");
    assert!(soon("the end", answers.frame()).await.is_none());
}

#[tokio::test]
async fn calls_pass_in_every_protocol_that_carries_them() {
    for protocol in ["grpc", "http2", "auto"] {
        let pki = Pki::new();
        let backend = Backend::start().await;
        let sidecar = Plan::new(&pki, API).policy(ECHO_ONLY).inbound(protocol, backend.address).ready().await;
        let mut http = Http::two(sidecar.inbound(), &pki.leaf(CALLER)).await;

        let answer = http.send(call("/test.Echo/Unary").text(message("hello"))).await;
        assert_eq!((answer.status, answer.body.as_slice()), (200, &message("hello")[..]), "{protocol}");
        assert_eq!(answer.trailer("grpc-status"), Some("0"), "{protocol}: {answer:?}");
        let seen = backend.last();
        assert_eq!((seen.version, seen.target.as_str()), (Version::HTTP_2, "/test.Echo/Unary"));
        assert_eq!(seen.header("te"), Some("trailers"));

        converse(&mut http, "/test.Echo/Stream").await;
    }
}

#[tokio::test]
async fn a_denied_call_gets_permission_denied_and_does_not_arrive() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let sidecar = Plan::new(&pki, API).policy(ECHO_ONLY).inbound("grpc", backend.address).ready().await;
    for (id, path) in [(CALLER, "/test.Admin/Drop"), (OTHER, "/test.Echo/Unary")] {
        let mut http = Http::two(sidecar.inbound(), &pki.leaf(id)).await;
        let answer = http.send(call(path).text(message("x"))).await;
        assert_eq!((answer.status, answer.header("grpc-status")), (200, Some("7")), "{path}");
        assert_eq!(answer.header("content-type"), Some("application/grpc"));
        // A peer learns that it may not, and nothing else.
        assert_eq!(answer.header("grpc-message"), None);
        assert_eq!(answer.header("x-portcullis-reason"), None);
    }
    assert_eq!(backend.connections(), 0);
    // Metrics say what was meant.
    sidecar.eventually_counts(&requests("inbound", 403), 2).await;
}

#[tokio::test]
async fn an_application_that_is_not_there_is_unavailable() {
    let pki = Pki::new();
    let sidecar = Plan::new(&pki, API).policy(ECHO_ONLY).inbound("grpc", nobody().await).ready().await;
    let mut http = Http::two(sidecar.inbound(), &pki.leaf(CALLER)).await;
    let answer = http.send(call("/test.Echo/Unary").text(message("x"))).await;
    assert_eq!((answer.status, answer.header("grpc-status")), (200, Some("14")));
}

#[tokio::test]
async fn auto_sends_grpc_as_http_2_and_the_rest_as_http_1_1() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let sidecar = Plan::new(&pki, API).inbound("auto", backend.address).ready().await;
    let leaf = pki.leaf(CALLER);
    let grpc = || call("/test.Echo/Unary").text(message("x"));
    let web = || Ask::new("POST", "/x").header("content-type", "application/grpc-web");
    let plain = || Ask::get("/x");
    let (two, one) = (Http::two(sidecar.inbound(), &leaf).await, Http::one(sidecar.inbound(), &leaf).await);
    let mut callers = [two, one];
    for (caller, ask, expected) in [
        (0, grpc(), Version::HTTP_2),
        (0, plain(), Version::HTTP_11),
        (0, web(), Version::HTTP_11),
        (1, plain(), Version::HTTP_11),
    ] {
        let path = ask.path.clone();
        assert_eq!(callers[caller].send(ask).await.status, 200);
        assert_eq!(backend.last().version, expected, "{path} by caller {caller}");
    }
}

#[tokio::test]
async fn an_http_2_application_gets_http_2_from_callers_of_http_1_1() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let sidecar = Plan::new(&pki, API).inbound("http2", backend.address).ready().await;
    let mut http = Http::one(sidecar.inbound(), &pki.leaf(CALLER)).await;
    assert_eq!(http.send(Ask::new("POST", "/x?y=1").text("body")).await.text(), "ok");
    let seen = backend.last();
    assert_eq!((seen.version, seen.target.as_str(), seen.body.as_slice()), (Version::HTTP_2, "/x?y=1", &b"body"[..]));
    assert_eq!(seen.authority.as_deref(), Some("eligibility.test"));
    assert_eq!(seen.header("host"), None);
}

#[tokio::test]
async fn a_caller_that_gives_up_takes_its_request_to_the_application_with_it() {
    for protocol in ["http", "http2"] {
        let pki = Pki::new();
        let backend = Backend::start().await;
        let sidecar = Plan::new(&pki, API).inbound(protocol, backend.address).ready().await;
        let mut http = Http::two(sidecar.inbound(), &pki.leaf(CALLER)).await;
        let arrived = eventually("the request arrives", async || backend.seen().first().map(|_| ()).ok_or(()));
        tokio::select! {
            () = arrived => {}
            answer = http.open(Ask::get("/never")) => panic!("{answer:?}"),
        }
        sidecar.eventually_counts(&requests("inbound", 499), 1).await;
        eventually("the application hears of it", async || match backend.abandoned() {
            1 => Ok(()),
            count => Err(count),
        })
        .await;
        assert_eq!(http.get("/next").await.status, 200, "the connection lives on");
    }
}

#[tokio::test]
async fn small_frames_that_wait_for_a_slow_reader_do_not_close_the_connection_for_the_streams_beside_it() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let sidecar = Plan::new(&pki, API).inbound("grpc", backend.address).ready().await;
    let mut http = Http::two(sidecar.inbound(), &pki.leaf(CALLER)).await;
    // `/never` reads nothing: its 64 KiB window takes the first of these, the others wait in the sidecar.
    let (sender, body) = flowing();
    let mut beside = http.beside();
    let stalled = async { http.open(Ask::new("POST", "/never").body(body)).await.map(drop) };
    let sending = async {
        for _ in 0..4_200 {
            sender.send(Frame::data(Bytes::from_static(&[b'x'; 60]))).await.unwrap();
        }
        // Answered after all of them, on the same connection.
        beside.send(call("/test.Echo/Unary").text(message("y"))).await
    };
    let answer = tokio::select! {
        ended = stalled => panic!("the stalled call ended: {ended:?}"),
        answer = sending => answer,
    };
    assert_eq!(answer.trailer("grpc-status"), Some("0"));
}
