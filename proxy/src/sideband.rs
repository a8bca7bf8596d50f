//! The small HTTP/1.1 servers beside the data path: health, metrics, admin. Plaintext, GET only, bounded, on a thread that
//! carries no traffic.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::drain::{Phase, Tasks};
use crate::listen;
use crate::telemetry::metrics::Metrics;

/// One answer.
#[derive(Debug)]
pub struct Document {
    /// Its status.
    pub status: StatusCode,
    /// Its type.
    pub content_type: &'static str,
    /// Its text.
    pub text: String,
}

impl Document {
    /// JSON, ended with a line feed so that a terminal shows it well.
    pub fn json(value: &serde_json::Value) -> Self {
        Self { status: StatusCode::OK, content_type: "application/json", text: format!("{value:#}\n") }
    }

    /// Plain text.
    pub fn text(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", text: text.into() }
    }

    /// Nothing is there.
    pub fn not_found() -> Self {
        Self::text(StatusCode::NOT_FOUND, "not found\n")
    }
}

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Whoever can connect.
    Anyone,
    /// Requests addressed to loopback by name: a web page that had its own name resolved to loopback is turned away (DNS
    /// rebinding).
    Loopback,
}

/// Gives the document at a path.
pub type Pages = Arc<dyn Fn(&str) -> Document + Send + Sync>;

/// Accepts until this phase; what was accepted is served until the process ends.
pub async fn serve(
    listener: TcpListener,
    until: Phase,
    audience: Audience,
    pages: Pages,
    metrics: Arc<Metrics>,
    tasks: Tasks,
) {
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let (stream, _) = tokio::select! {
            // Nothing is lost: a connection is either accepted or still in the kernel's queue.
            accepted = listen::accept(&listener, &metrics) => accepted,
            () = tasks.reached(until) => return,
        };
        // Full: closing at once tells a probe to come again; waiting would fill the queue.
        let Ok(permit) = Arc::clone(&free).try_acquire_owned() else { continue };
        let pages = Arc::clone(&pages);
        let ended = tasks.clone();
        tasks.spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(&request, audience, &pages);
                async move { Ok::<_, Infallible>(answer) }
            });
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(BUFFER);
            tokio::select! {
                // A connection that breaks concerns nobody but its caller.
                _ = builder.serve_connection(TokioIo::new(stream), service) => {}
                () = tokio::time::sleep(LIFETIME) => {}
                () = ended.reached(Phase::Ended) => {}
            }
            drop(permit);
        });
    }
}

fn answer(request: &Request<Incoming>, audience: Audience, pages: &Pages) -> Response<Full<Bytes>> {
    let document = if audience == Audience::Loopback && !names_loopback(request) {
        Document::text(StatusCode::FORBIDDEN, "ask for 127.0.0.1, [::1] or localhost by name\n")
    } else if request.method() == Method::GET || request.method() == Method::HEAD {
        pages(request.uri().path())
    } else {
        Document::text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n")
    };
    let mut response = Response::new(Full::new(Bytes::from(document.text)));
    *response.status_mut() = document.status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(document.content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if document.status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

fn names_loopback(request: &Request<Incoming>) -> bool {
    let Some(host) = request.headers().get(HOST).and_then(|host| host.to_str().ok()) else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Scrapers and probes are a handful.
const CONNECTIONS: usize = 64;
/// Also ends kept-alive connections that ask for nothing more.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// However slowly somebody reads.
const LIFETIME: Duration = Duration::from_secs(300);
const BUFFER: usize = 16 << 10;
