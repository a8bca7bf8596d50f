//! Answers that the sidecar gives in the upstream's place.
//!
//! A mesh peer learns the status, the request's ID and, where a limit is reached, when to come again, nothing else. Our own application also gets a reason in
//! `x-portcullis-reason` and a line of text. A gRPC caller gets a gRPC status, since it does not read HTTP ones.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};

use super::connection::Answer;
use super::exchange::Exchange;
use super::response::ResponseBody;
use crate::connections::Full;
use crate::http::headers::{REASON, REQUEST_ID};
use crate::http::refusal::Refusal;
use crate::http::upload::{Upload, UploadFault};
use crate::limits::in_flight::TOO_MANY_IN_FLIGHT;
use crate::limits::memory::OUT_OF_MEMORY;
use crate::telemetry::metrics::Direction;
use crate::tls::handshake::Negotiated;
use crate::upstream::send::Failed;

/// What the caller is told of a request that did not get through. If its own body is what failed, that is said, not what
/// the upstream made of it.
pub fn of_failure(failed: Failed, upload: &Upload) -> Refusal {
    match upload.fault() {
        Some(UploadFault::Stalled) => {
            let text = "the request's body paused for longer than `timeouts.bodyStall`".to_owned();
            return Refusal { status: StatusCode::REQUEST_TIMEOUT, reason: "request_body_stalled", text };
        }
        Some(UploadFault::Broken) => {
            return Refusal::bad_request("request_body_broken", "the request's body broke off");
        }
        None => {}
    }
    match failed {
        Failed::Malformed(refusal) | Failed::Answer(refusal) => refusal,
        Failed::Upstream(error) => {
            tracing::debug!(error = error.chain(), "a request did not get through");
            Refusal { status: error.status(), reason: error.label(), text: error.chain() }
        }
    }
}

/// Answers with `refusal` and records it.
pub fn refuse(mut exchange: Box<Exchange>, refusal: &Refusal) -> Answer {
    let parties = Arc::clone(exchange.parties());
    let to_own_application = parties.direction == Direction::Outbound;
    parties.telemetry.metrics.request_refused(parties.direction, refusal.reason);
    exchange.reason = Some(refusal.reason);
    let mut headers = HeaderMap::new();
    headers.insert(REQUEST_ID, exchange.request_id.clone());
    let gives_way = GIVES_WAY.contains(&refusal.reason).then_some(1);
    if let Some(seconds) = exchange.retry_after.or(gives_way) {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    // Where a malformed request ends is in doubt: what comes behind it is not read as another one.
    let is_in_doubt = parties.protocol == Negotiated::Http1 && refusal.status == StatusCode::BAD_REQUEST;
    if exchange.is_last || is_in_doubt {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let mut text = Bytes::new();
    if to_own_application {
        headers.insert(REASON, HeaderValue::from_static(refusal.reason));
    }
    let status = if exchange.grpc {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(GRPC_STATUS, HeaderValue::from(grpc_status(refusal.status)));
        if to_own_application && let Ok(message) = HeaderValue::try_from(percent_encoded(&refusal.text)) {
            headers.insert(GRPC_MESSAGE, message);
        }
        // gRPC's trailers-only response: the gRPC status stands in the head of a 200.
        StatusCode::OK
    } else {
        if to_own_application {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
            text = Bytes::from(format!("portcullis: {}\n", refusal.text));
        }
        refusal.status
    };
    // Metrics and log show what was meant, also where gRPC hides it in a 200.
    exchange.status = Some(refusal.status.as_u16());
    let mut answer = Response::new(ResponseBody::own(text, exchange));
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
}

/// The gRPC status for an HTTP one, as gRPC's own mapping has it (grpc/doc/http-grpc-status-mapping.md), but for what the
/// sidecar says more exactly: resource exhausted and deadline exceeded.
fn grpc_status(status: StatusCode) -> u16 {
    match status {
        StatusCode::BAD_REQUEST => 13,
        StatusCode::UNAUTHORIZED => 16,
        StatusCode::FORBIDDEN => 7,
        StatusCode::NOT_FOUND => 12,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE | StatusCode::URI_TOO_LONG => 8,
        StatusCode::GATEWAY_TIMEOUT => 4,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => 14,
        _ => 2,
    }
}

/// `grpc-message` is percent-encoded but for printable ASCII (gRPC over HTTP/2, "Responses").
fn percent_encoded(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            // Writing to a string cannot fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
        encoded
    })
}

/// Refused for what may be otherwise in a moment: the caller is told to come again in a second.
const GIVES_WAY: [&str; 4] = [OUT_OF_MEMORY, TOO_MANY_IN_FLIGHT, Full::CONNECTIONS, Full::PER_IDENTITY];
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_callers_get_the_status_that_their_library_understands() {
        for (status, code) in [(400, 13), (403, 7), (429, 8), (502, 14), (503, 14), (504, 4), (418, 2)] {
            assert_eq!(grpc_status(StatusCode::from_u16(status).unwrap()), code, "{status}");
        }
    }

    #[test]
    fn grpc_messages_are_percent_encoded() {
        assert_eq!(percent_encoded("50% of ü\n"), "50%25 of %C3%BC%0A");
    }
}
