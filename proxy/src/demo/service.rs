//! The service "eligibility": answers every request, tells who called, and counts. It knows nothing of TLS or policy.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Collected, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;

use super::error::DemoError;
use super::room::Room;
use crate::drain::Phase;

/// See the module.
pub(super) struct Service {
    pub address: SocketAddr,
    served: Arc<AtomicU64>,
    _room: Room,
}

impl Service {
    pub(super) fn start() -> Result<Self, DemoError> {
        let room = Room::open("eligibility")?;
        let served = Arc::new(AtomicU64::new(0));
        let (tasks, count) = (room.tasks(), Arc::clone(&served));
        let address = room.listen(move |stream| {
            let (tasks, count) = (tasks.clone(), Arc::clone(&count));
            async move {
                let answer = service_fn(move |request| {
                    count.fetch_add(1, Ordering::Relaxed);
                    let response = answer(request);
                    async move { Ok::<_, Infallible>(response.await) }
                });
                tokio::select! {
                    // The sidecar sees how it ended.
                    _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer) => {}
                    () = tasks.reached(Phase::Ended) => {}
                }
            }
        })?;
        Ok(Self { address, served, _room: room })
    }

    /// How many requests have reached it.
    pub(super) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }
}

async fn answer(request: Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() == Method::POST {
        let body = request.into_body().collect().await.map(Collected::to_bytes).unwrap_or_default();
        return Response::new(Full::new(body));
    }
    let told = request.headers().get("x-forwarded-client-cert").and_then(|value| value.to_str().ok());
    let caller = told.and_then(|told| told.split(';').find_map(|part| part.strip_prefix("URI=")));
    let body = json!({ "covered": true, "caller": caller });
    Response::new(Full::new(Bytes::from(body.to_string())))
}
