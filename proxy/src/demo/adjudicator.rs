//! The service "claims adjudicator": asked about a claim, it calls eligibility through its own sidecar, in plain HTTP.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use super::client::{Ask, Caller};
use super::error::DemoError;
use super::room::Room;
use crate::drain::{Phase, Tasks};
use crate::http::headers::REQUEST_ID;

/// See the module.
pub(super) struct Adjudicator {
    pub address: SocketAddr,
    _room: Room,
}

/// What it heard from eligibility, or from its own sidecar in eligibility's place.
pub(super) struct Heard {
    pub called: String,
    pub status: u64,
    pub answer: String,
}

impl Adjudicator {
    /// Starts it beside the sidecar that listens at `outbound`.
    pub(super) fn start(outbound: SocketAddr) -> Result<Self, DemoError> {
        let room = Room::open("adjudicator")?;
        let tasks = room.tasks();
        let address = room.listen(move |stream| {
            let tasks = tasks.clone();
            async move {
                let callers = tasks.clone();
                let answer = service_fn(move |request| {
                    let tasks = callers.clone();
                    async move { Ok::<_, Infallible>(adjudicate(outbound, &request, &tasks).await) }
                });
                tokio::select! {
                    // Whoever asked sees how it ended.
                    _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer) => {}
                    () = tasks.reached(Phase::Ended) => {}
                }
            }
        })?;
        Ok(Self { address, _room: room })
    }
}

impl Heard {
    /// Reads the adjudicator's answer.
    pub(super) fn read(body: &[u8]) -> Result<Self, DemoError> {
        let body: Value = serde_json::from_slice(body)
            .map_err(|_| DemoError::Answer(format!("the answer `{}`", String::from_utf8_lossy(body))))?;
        let text = |name| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let status = body.get("status").and_then(Value::as_u64).unwrap_or_default();
        Ok(Self { called: text("called"), status, answer: text("answer") })
    }
}

async fn adjudicate(outbound: SocketAddr, request: &Request<Incoming>, tasks: &Tasks) -> Response<Full<Bytes>> {
    let Some((method, path)) = errand(request.method(), request.uri().path()) else {
        return reply(StatusCode::NOT_FOUND, "no such claim\n".to_owned());
    };
    let request_id = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or("none");
    let called = format!("{method} {path}");
    let asking = async {
        let ask = Ask { method, path: &path, request_id, body: Bytes::new() };
        Caller::connect(outbound, tasks).await?.call(ask).await
    };
    match asking.await {
        Ok(heard) => {
            let answer = String::from_utf8_lossy(&heard.body);
            reply(StatusCode::OK, json!({"called": called, "status": heard.status, "answer": answer}).to_string())
        }
        Err(error) => reply(StatusCode::BAD_GATEWAY, crate::error_chain(&error)),
    }
}

/// The call that a request about a claim leads to.
fn errand(method: &Method, path: &str) -> Option<(Method, String)> {
    let member = path.strip_prefix("/claims/")?;
    match *method {
        // To decide a claim it reads what the member is covered for.
        Method::GET => Some((Method::GET, format!("/v1/members/{member}/coverage"))),
        // And these are what it has no business to do.
        Method::POST => Some((Method::POST, format!("/v1/members/{member}/coverage"))),
        Method::DELETE => Some((Method::DELETE, format!("/admin/members/{member}"))),
        _ => None,
    }
}

fn reply(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_about_a_claim_leads_to_its_call() {
        for (method, path, expected) in [
            (Method::GET, "/claims/42", Some("GET /v1/members/42/coverage")),
            (Method::POST, "/claims/42", Some("POST /v1/members/42/coverage")),
            (Method::DELETE, "/claims/42", Some("DELETE /admin/members/42")),
            (Method::PUT, "/claims/42", None),
            (Method::GET, "/", None),
        ] {
            let errand = errand(&method, path).map(|(method, path)| format!("{method} {path}"));
            assert_eq!(errand.as_deref(), expected, "{method} {path}");
        }
    }
}
