//! What every HTTP request goes through beside TLS, parsing and the decision: its headers and its path.
//!
//! The order of the steps on headers stands in `inbound.rs` and `outbound.rs` of the sidecar; here they are called in that
//! order, without what stands between them there.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use portcullis::http::headers;
use portcullis::telemetry::trace_context::{TRACEPARENT, TraceContext};
use portcullis_policy::path::{EncodedSlash, Path};

use super::mesh::Mesh;
use super::{Failure, Work, counted};

/// What the application gets from a request of HTTP/2 that came over the mesh.
pub fn headers_inbound() -> Result<Work, Failure> {
    let mesh = Mesh::new()?;
    let fingerprint = mesh.caller.material()?.fingerprint().to_string();
    let forwarded = headers::forwarded_client_cert(&mesh.api.id, &mesh.caller.id, &fingerprint)
        .ok_or(Failure::Wrong("the forwarded identity is no header value"))?;
    let arriving = arriving(&[("cookie", "session=8f14e45fceea167a"), ("cookie", "region=eu-central-1")]);
    Ok(Work::part(move || {
        let mut map = arriving.clone();
        let (request_id, took) = counted(|| {
            let trace = headers::trace_context(&map);
            std::hint::black_box(headers::is_grpc(&map));
            let request_id = headers::request_id(&mut map);
            headers::strip_request(&mut map);
            headers::join_cookies(&mut map);
            map.insert(headers::FORWARDED_CLIENT_CERT, forwarded.clone());
            map.insert(TRACEPARENT, trace.unwrap_or_else(TraceContext::generate).header());
            request_id
        });
        if map.len() + 1 != arriving.len() || map.get(headers::FORWARDED_CLIENT_CERT) != Some(&forwarded) {
            return Err(Failure::Wrong("other headers than the application should get"));
        }
        Ok(((map, request_id), took))
    }))
}

/// What the peer gets from a request of HTTP/1.1 that our application made.
pub fn headers_outbound() -> Result<Work, Failure> {
    let arriving = arriving(&[("host", "eligibility.eligibility.svc.cluster.local"), ("connection", "keep-alive")]);
    Ok(Work::part(move || {
        let mut map = arriving.clone();
        let (request_id, took) = counted(|| {
            let trace = headers::trace_context(&map);
            std::hint::black_box(headers::is_grpc(&map));
            let request_id = headers::request_id(&mut map);
            headers::strip_request(&mut map);
            map.insert(TRACEPARENT, trace.unwrap_or_else(TraceContext::generate).header());
            request_id
        });
        if map.len() + 2 != arriving.len() || map.contains_key(headers::FORWARDED_CLIENT_CERT) {
            return Err(Failure::Wrong("other headers than the peer should get"));
        }
        Ok(((map, request_id), took))
    }))
}

/// A path that may be forwarded as it is, which nearly all are.
pub fn path_in_normal_form() -> Result<Work, Failure> {
    path("/v1/members/4711/coverage?from=2026-01-01&to=2026-12-31", "/v1/members/4711/coverage")
}

/// A path that has to be brought to its normal form, and that servers read differently.
pub fn path_with_escapes() -> Result<Work, Failure> {
    path("/v1//members/%34711/./plans/../coverage%3Afull?from=2026-01-01", "/v1/members/4711/coverage%3Afull")
}

fn path(target: &'static str, expected: &'static str) -> Result<Work, Failure> {
    Ok(Work::whole(move || {
        let path = Path::normalise(std::hint::black_box(target.as_bytes()), EncodedSlash::Refuse)?;
        let readings = path.readings().map_or(0, Iterator::count);
        if path.as_str() == expected && readings > 0 { Ok(readings) } else { Err(Failure::Wrong("another path")) }
    }))
}

/// A request as clients make them, with an identity header that no caller may set.
fn arriving(more: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in COMMON.iter().chain(more) {
        map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    map
}

const COMMON: &[(&str, &str)] = &[
    ("accept", "application/json"),
    ("accept-encoding", "gzip, deflate, br"),
    ("accept-language", "en-GB,en;q=0.9"),
    ("authorization", "Bearer 3q2-7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
    ("content-type", "application/json"),
    ("content-length", "348"),
    ("user-agent", "claims-adjudicator/2.14"),
    ("x-forwarded-client-cert", "URI=spiffe://prod.health.internal/ns/somebody/sa/else"),
    ("x-request-id", "7f3c0f7b9b164de1a5f7d9a3b0c2e4f6"),
    ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"),
];
