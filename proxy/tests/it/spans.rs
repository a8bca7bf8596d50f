//! Trace spans, as a receiver of OTLP over HTTP gets them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use portcullis::app::Stop;
use prost::Message;
use tokio::net::TcpListener;

use crate::backend::Backend;
use crate::client::{Ask, Http};
use crate::eventually::eventually;
use crate::pki::{API, CALLER, Pki};
use crate::sidecar::Plan;

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A receiver that keeps what it gets.
#[derive(Clone, Default)]
struct Receiver {
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Receiver {
    async fn start(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let receiver = self.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let receiver = receiver.clone();
                let service = service_fn(move |request| {
                    let receiver = receiver.clone();
                    async move { Ok::<_, Infallible>(receiver.take(request).await) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        address
    }

    async fn take(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        assert_eq!(request.uri().path(), "/v1/traces");
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let export = ExportTraceServiceRequest::decode(body).unwrap();
        let scopes = export.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        self.spans.lock().unwrap().extend(scopes.flat_map(|scope| scope.spans));
        Response::new(Full::default())
    }

    async fn got(&self, count: usize) -> Vec<Span> {
        eventually("the spans arrive", async || {
            let spans = self.spans.lock().unwrap().clone();
            if spans.len() >= count { Ok(spans) } else { Err(spans) }
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sampled_request_leaves_a_client_span_and_a_server_span_below_it() {
    let pki = Pki::new();
    let receiver = Receiver::default();
    let endpoint = format!("tracing: {{endpoint: \"http://{}\", sampleRatio: 0}}", receiver.start().await);
    let backend = Backend::start().await;
    let far = Plan::new(&pki, API).inbound("http", backend.address).more(&endpoint).ready().await;
    let near = Plan::new(&pki, CALLER).outbound("http", far.inbound(), &[API]).more(&endpoint).ready().await;
    let mut http = Http::plain_one(near.outbound()).await;
    // Neither asked for nor, at a ratio of 0, chosen by us.
    assert_eq!(http.get("/unsampled").await.status, 200);
    let parent = format!("00-{TRACE_ID}-00f067aa0ba902b7-01");
    assert_eq!(http.send(Ask::get("/sampled?query=secret").header("traceparent", &parent)).await.status, 200);
    let at_the_application = backend.last().header("traceparent").unwrap().to_owned();
    drop(http);
    // The end of a sidecar exports what is left, without waiting for the next batch.
    near.stop(Stop::AtOnce);
    far.stop(Stop::AtOnce);
    let spans = receiver.got(2).await;
    assert_eq!(spans.len(), 2, "{spans:?}");
    let of = |kind: SpanKind| spans.iter().find(|span| span.kind == kind as i32).unwrap();
    let (client, server) = (of(SpanKind::Client), of(SpanKind::Server));
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!((hex(&client.trace_id), hex(&server.trace_id)), (TRACE_ID.to_owned(), TRACE_ID.to_owned()));
    assert_eq!(hex(&client.parent_span_id), "00f067aa0ba902b7");
    assert_eq!(server.parent_span_id, client.span_id);
    assert_eq!(at_the_application, format!("00-{TRACE_ID}-{}-01", hex(&server.span_id)));
    assert!(!format!("{spans:?}").contains("secret"), "no query in spans");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ratio_samples_requests_that_bring_no_trace() {
    let pki = Pki::new();
    let receiver = Receiver::default();
    let endpoint = format!("tracing: {{endpoint: \"http://{}\", sampleRatio: 1.0}}", receiver.start().await);
    let far = Plan::new(&pki, API).inbound("http", Backend::start().await.address).more(&endpoint).ready().await;
    let mut http = Http::two(far.inbound(), &pki.leaf(CALLER)).await;
    assert_eq!(http.get("/a").await.status, 200);
    far.stop(Stop::AtOnce);
    let spans = receiver.got(1).await;
    assert_eq!(spans[0].kind, SpanKind::Server as i32);
    assert!(spans[0].attributes.iter().any(|attribute| attribute.key == "portcullis.caller"));
}
