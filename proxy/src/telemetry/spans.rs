//! Trace spans over OTLP (HTTP, protobuf): a server span inbound, a client span outbound, for sampled requests only.
//!
//! A request whose caller sampled it is recorded; a request without trace context is sampled at the configured ratio.
//! The endpoint is on loopback, because spans name paths: a collector elsewhere is reached through an outbound listener
//! of this sidecar, that is over mTLS. The SDK batches and exports on a thread of its own; that thread's HTTP requests
//! run on the control runtime.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState,
    Tracer, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, Span};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::metrics::Direction;
use super::trace_context::TraceContext;
use crate::drain::Tasks;

/// Where spans go and how many.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpanExport {
    /// The OTLP/HTTP receiver, on loopback.
    pub endpoint: SocketAddr,
    /// Share of requests without trace context that are sampled, 0 to 1.
    pub sample_ratio: f64,
}

/// Begins spans. Without an endpoint it begins none.
pub struct Spans {
    exporting: Option<(SdkTracerProvider, SdkTracer)>,
}

/// A span under way.
pub struct OpenSpan {
    span: Span,
    /// What goes upstream in `traceparent`.
    pub context: TraceContext,
}

/// What is known of a request at its end.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// The response's status.
    pub status: u16,
    /// The caller's SPIFFE ID.
    pub caller: Option<&'a str>,
    /// The called workload's SPIFFE ID.
    pub workload: Option<&'a str>,
    /// The path without the query.
    pub path: &'a str,
    /// Why the sidecar answered itself, if it did.
    pub reason: Option<&'a str>,
}

impl Spans {
    /// Starts the exporter, or nothing when no endpoint is configured.
    ///
    /// # Errors
    /// When the exporter refuses its configuration.
    pub fn start(
        export: Option<SpanExport>,
        service: &str,
        tasks: &Tasks,
        control: &Handle,
    ) -> Result<Self, SpansError> {
        let Some(export) = export else { return Ok(Self { exporting: None }) };
        let client = Client { endpoint: export.endpoint, tasks: tasks.clone(), control: control.clone() };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(format!("http://{}/v1/traces", export.endpoint))
            .with_timeout(EXPORT_TIMEOUT)
            .build()?;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(export.sample_ratio))))
            .with_resource(Resource::builder().with_service_name(service.to_owned()).build())
            .build();
        let tracer = provider.tracer("portcullis");
        Ok(Self { exporting: Some((provider, tracer)) })
    }

    /// Begins the span of a request that arrived with `parent`; `None` when it is not sampled.
    pub fn begin(&self, direction: Direction, method: &str, parent: Option<TraceContext>) -> Option<OpenSpan> {
        let (_, tracer) = self.exporting.as_ref()?;
        let kind = match direction {
            Direction::Inbound => SpanKind::Server,
            Direction::Outbound => SpanKind::Client,
        };
        let builder = SpanBuilder::from_name(method.to_owned()).with_kind(kind).with_start_time(SystemTime::now());
        let span = tracer.build_with_context(builder, &parent_context(parent));
        let own = span.span_context();
        if !own.is_sampled() {
            return None;
        }
        let context = TraceContext {
            trace_id: u128::from_be_bytes(own.trace_id().to_bytes()),
            span_id: u64::from_be_bytes(own.span_id().to_bytes()),
            sampled: true,
        };
        Some(OpenSpan { span, context })
    }

    /// Exports what is left. Blocks for at most a few seconds: call it from a thread that may.
    pub fn finish(&self) {
        if let Some((provider, _)) = &self.exporting
            && let Err(error) = provider.shutdown_with_timeout(SHUTDOWN_TIMEOUT)
        {
            tracing::warn!(%error, "the last spans were not exported");
        }
    }
}

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spans").field("exporting", &self.exporting.is_some()).finish()
    }
}

impl OpenSpan {
    /// Ends the span. Attribute names are those of OpenTelemetry's HTTP semantic conventions.
    pub fn end(mut self, outcome: Outcome<'_>) {
        let span = &mut self.span;
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(outcome.status)));
        span.set_attribute(KeyValue::new("url.path", outcome.path.to_owned()));
        if let Some(caller) = outcome.caller {
            span.set_attribute(KeyValue::new("portcullis.caller", caller.to_owned()));
        }
        if let Some(workload) = outcome.workload {
            span.set_attribute(KeyValue::new("portcullis.workload", workload.to_owned()));
        }
        if let Some(reason) = outcome.reason {
            span.set_attribute(KeyValue::new("portcullis.reason", reason.to_owned()));
        }
        if outcome.status >= 500 {
            span.set_status(Status::error(outcome.reason.unwrap_or_default().to_owned()));
        }
        span.end();
    }
}

impl fmt::Debug for OpenSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenSpan").field("context", &self.context).finish_non_exhaustive()
    }
}

/// The exporter refused its configuration.
#[derive(Debug, thiserror::Error)]
#[error("the span exporter could not be built")]
pub struct SpansError(#[from] opentelemetry_otlp::ExporterBuildError);

fn parent_context(parent: Option<TraceContext>) -> Context {
    let Some(parent) = parent else { return Context::new() };
    let flags = if parent.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let trace = TraceId::from_bytes(parent.trace_id.to_be_bytes());
    let span = SpanId::from_bytes(parent.span_id.to_be_bytes());
    Context::new().with_remote_span_context(SpanContext::new(trace, span, flags, true, TraceState::default()))
}

/// One HTTP/1.1 connection for each export: an export every few seconds does not need a pool.
#[derive(Debug)]
struct Client {
    endpoint: SocketAddr,
    tasks: Tasks,
    control: Handle,
}

type Sent<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>;

impl HttpClient for Client {
    fn send_bytes<'a, 'b>(&'a self, request: Request<Bytes>) -> Sent<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        let (done, result) = oneshot::channel();
        let (endpoint, tasks) = (self.endpoint, self.tasks.clone());
        self.tasks.spawn_on(&self.control, async move {
            let sent = tokio::time::timeout(EXPORT_TIMEOUT, send(endpoint, request, &tasks)).await;
            let timed_out = || HttpError::from(io::Error::from(io::ErrorKind::TimedOut));
            let _ = done.send(sent.unwrap_or_else(|_| Err(timed_out())));
        });
        Box::pin(async move { result.await.map_err(HttpError::from)? })
    }
}

async fn send(endpoint: SocketAddr, request: Request<Bytes>, tasks: &Tasks) -> Result<Response<Bytes>, HttpError> {
    let stream = TcpStream::connect(endpoint).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tasks.spawn(async move {
        let _ = connection.await;
    });
    let (mut head, body) = request.into_parts();
    let host = endpoint.to_string().try_into()?;
    head.headers.insert(http::header::HOST, host);
    head.uri = head.uri.path().parse()?;
    let response = sender.send_request(Request::from_parts(head, Full::new(body))).await?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, ANSWER_LIMIT).collect().await?.to_bytes();
    Ok(Response::from_parts(head, body))
}

/// A local collector answers in milliseconds; after this one the batch is given up.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// What the end of the process may wait for the last spans.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);
/// An OTLP answer is a short status.
const ANSWER_LIMIT: usize = 64 << 10;
