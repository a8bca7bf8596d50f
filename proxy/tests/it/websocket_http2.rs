//! WebSockets as streams of HTTP/2 connections (RFC 8441): callers, applications, and the way between two sidecars.

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::backend::Backend;
use crate::client::{HOST, Http, plain};
use crate::eventually::{eventually, soon};
use crate::outbound::Pair;
use crate::peer;
use crate::pki::{API, CALLER, Pki};
use crate::sidecar::{Plan, answered, closed, requests};
use crate::websocket::{ACCEPT, UPGRADE};

/// Asks for a WebSocket over HTTP/2.
pub async fn ask(http: &Http, path: &str) -> Response<Incoming> {
    let Http::Two(sender) = http else { panic!("not HTTP/2") };
    let request = Request::builder()
        .method("CONNECT")
        .uri(format!("https://{HOST}{path}"))
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "chat")
        .extension(Protocol::from_static("websocket"));
    let request = request.body(Empty::<Bytes>::new().boxed_unsync()).unwrap();
    soon("the head of a response", sender.clone().send_request(request)).await.unwrap()
}

type Tunnel = TokioIo<Upgraded>;

/// The tunnel that an answer opens, after the application's word in it.
async fn tunnel(response: Response<Incoming>) -> Tunnel {
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers().get("sec-websocket-protocol").unwrap(), "chat");
    for hop in ["sec-websocket-accept", "connection", "upgrade", "content-length"] {
        assert_eq!(response.headers().get(hop), None);
    }
    let mut tunnel = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let mut welcome = [0; 7];
    soon("the welcome", tunnel.read_exact(&mut welcome)).await.unwrap();
    assert_eq!(&welcome, b"welcome");
    tunnel
}

async fn is_alive(tunnel: &mut Tunnel) {
    tunnel.write_all(b"hello").await.unwrap();
    tunnel.flush().await.unwrap();
    let mut echo = [0; 5];
    soon("the echo", tunnel.read_exact(&mut echo)).await.unwrap();
    assert_eq!(&echo, b"hello");
}

#[tokio::test]
async fn a_stream_becomes_a_tunnel_to_an_application_of_either_version() {
    let pki = Pki::new();
    for (protocol, version, method) in [("http", Version::HTTP_11, "GET"), ("http2", Version::HTTP_2, "CONNECT")] {
        let backend = Backend::taking_streams().await;
        let sidecar = Plan::new(&pki, API).inbound(protocol, backend.address).ready().await;
        let mut http = Http::two(sidecar.inbound(), &pki.leaf(CALLER)).await;
        let mut tunnel = tunnel(ask(&http, "/upgrade").await).await;
        is_alive(&mut tunnel).await;
        let seen = backend.last();
        assert_eq!((seen.version, seen.method.as_str(), seen.target.as_str()), (version, method, "/upgrade"));
        assert!(seen.header("x-forwarded-client-cert").unwrap().contains(CALLER));
        assert_eq!(sidecar.admin("/connections").await["open"], 2, "the connection, and the tunnel on it");
        assert_eq!(http.get("/").await.status, 200, "beside the tunnel");
        // Half-close: the application ends when the caller has.
        tunnel.shutdown().await.unwrap();
        let mut rest = Vec::new();
        soon("the end of the tunnel", tunnel.read_to_end(&mut rest)).await.unwrap();
        assert_eq!(rest, b"");
        eventually("the tunnel leaves the registry", async || {
            let open = sidecar.admin("/connections").await;
            if open["open"] == 1 { Ok(()) } else { Err(open) }
        })
        .await;
        assert_eq!(http.get("/").await.status, 200, "after the tunnel");
    }
}

#[tokio::test]
async fn an_http_2_application_that_takes_no_websockets_is_501() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let sidecar = Plan::new(&pki, API).inbound("http2", backend.address).ready().await;
    let mut http = Http::two(sidecar.inbound(), &pki.leaf(CALLER)).await;
    assert_eq!(ask(&http, "/upgrade").await.status(), 501);
    assert_eq!(http.get("/").await.status, 200);
    assert_eq!(backend.seen().len(), 1);
    assert_eq!(sidecar.count(&answered("inbound", "upstream_no_websocket")), 1);
}

#[tokio::test]
async fn tunnels_leave_streams_for_requests() {
    let pki = Pki::new();
    let backend = Backend::taking_streams().await;
    let plan = Plan::new(&pki, API).inbound("http2", backend.address);
    let sidecar = plan.limits("streamsPerConnection: 200").ready().await;
    // One connection of a caller is one worker's.
    let mut http = Http::two(sidecar.inbound(), &pki.leaf(CALLER)).await;
    let mut tunnels = Vec::new();
    for _ in 0..105 {
        tunnels.push(tunnel(ask(&http, "/upgrade").await).await);
    }
    // Two are shared, each by 50 at most.
    assert_eq!(backend.connections(), 2 + 5, "those beyond have connections for themselves");
    assert_eq!(http.get("/").await.status, 200);
    for tunnel in &mut tunnels {
        is_alive(tunnel).await;
    }
}

#[tokio::test]
async fn between_two_sidecars_it_is_a_stream_of_the_connection_that_is_there() {
    let backend = Backend::start().await;
    let pair = Pair::new("http", "http", backend.address).await;
    assert_eq!(plain(pair.near.outbound()).await.get("/").await.status, 200);
    let mut wire = plain(pair.near.outbound()).await;
    let upgrade = UPGRADE.replace("sec-websocket-version", "sec-websocket-protocol: chat\r\nsec-websocket-version");
    // What comes behind the handshake arrives once, in order, when the tunnel is open.
    let answer = wire.ask(&format!("{upgrade}early ")).await;
    assert_eq!((answer.status, answer.header("sec-websocket-accept")), (101, Some(ACCEPT)));
    assert_eq!((answer.header("upgrade"), answer.header("sec-websocket-protocol")), (Some("websocket"), Some("chat")));
    wire.write("and late").await;
    assert_eq!(soon("the echo", wire.exactly(21)).await.unwrap(), b"welcomeearly and late");
    // An HTTP/2 caller's goes the same way.
    let http = Http::plain_two(pair.near.outbound()).await;
    is_alive(&mut tunnel(ask(&http, "/upgrade").await).await).await;
    assert_eq!(backend.last().version, Version::HTTP_11);
    wire.io.shutdown().await.unwrap();
    assert_eq!(wire.rest().await, b"");
    // A tunnel is on record with what its caller was told: 101 over HTTP/1.1, 200 over HTTP/2.
    pair.far.eventually_counts(&requests("inbound", 200), 3).await;
    assert_eq!(pair.far.count(&requests("inbound", 101)), 0, "nothing came over HTTP/1.1");
    pair.near.eventually_counts(&requests("outbound", 101), 1).await;
}

#[tokio::test]
async fn a_peer_without_it_is_asked_over_http_1_1() {
    let pki = Pki::new();
    for alpn in [&["h2", "http/1.1"][..], &["http/1.1"]] {
        let backend = Backend::start().await;
        let address = peer::serve(&pki.leaf(API), alpn, &backend).await;
        let near = Plan::new(&pki, CALLER).outbound("http", address, &[API]).ready().await;
        assert_eq!(plain(near.outbound()).await.get("/").await.status, 200);
        let mut wire = plain(near.outbound()).await;
        let answer = wire.ask(UPGRADE).await;
        assert_eq!((answer.status, answer.header("sec-websocket-accept")), (101, Some(ACCEPT)), "{alpn:?}");
        assert_eq!(soon("the welcome", wire.exactly(7)).await.unwrap(), b"welcome");
        assert_eq!((backend.last().version, backend.last().method.as_str()), (Version::HTTP_11, "GET"), "{alpn:?}");
    }
}

#[tokio::test]
async fn a_policy_that_denies_it_ends_the_tunnel_and_not_the_connection() {
    let backend = Backend::start().await;
    let pki = Pki::new();
    let sidecar = Plan::new(&pki, API).inbound("http", backend.address).ready().await;
    let mut http = Http::two(sidecar.inbound(), &pki.leaf(CALLER)).await;
    let mut tunnel = tunnel(ask(&http, "/upgrade").await).await;
    is_alive(&mut tunnel).await;
    // The form is decided on as the GET that it stands for.
    let policy = |paths: &str| {
        format!(
            "
apiVersion: policy.portcullis.dev/v1
kind: AuthorizationPolicy
metadata: {{name: paths}}
spec:
  allow:
    - name: some
      from: {{identities: [\"{CALLER}\"]}}
      to: {{methods: [GET], paths: [{paths}]}}
"
        )
    };
    sidecar.changing("policy", |sidecar| sidecar.write_policy(&policy("/upgrade, /orders"))).await;
    is_alive(&mut tunnel).await;
    sidecar.changing("policy", |sidecar| sidecar.write_policy(&policy("/orders"))).await;
    let mut rest = Vec::new();
    // However it is told: the end of the stream, or its reset.
    let _ = soon("the end of the tunnel", tunnel.read_to_end(&mut rest)).await;
    assert_eq!(rest, b"");
    assert_eq!(sidecar.count(&closed("inbound", "policy")), 1);
    assert_eq!(ask(&http, "/upgrade").await.status(), 403);
    assert_eq!(http.get("/orders").await.status, 200, "on the same connection");
}
