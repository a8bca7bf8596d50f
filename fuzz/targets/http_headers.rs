//! Header fields, one a line: what must not pass is gone, and to take it away twice takes away nothing more.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use portcullis::http::headers::{is_grpc, join_cookies, request_id, strip_request, trace_context};
use portcullis::telemetry::trace_context::TraceContext;

fuzz_target!(|bytes: &[u8]| {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(64) {
        let Some(at) = line.iter().position(|byte| *byte == b':') else { continue };
        let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&line[..at]), HeaderValue::from_bytes(&line[at + 1..]))
        else {
            continue;
        };
        headers.append(name, value);
    }
    let _ = is_grpc(&headers);
    if let Some(context) = trace_context(&headers) {
        assert_eq!(TraceContext::parse(context.header().as_bytes()), Some(context));
    }
    strip_request(&mut headers);
    join_cookies(&mut headers);
    let mut again = headers.clone();
    strip_request(&mut again);
    join_cookies(&mut again);
    assert_eq!(again, headers);
    for gone in
        ["connection", "keep-alive", "transfer-encoding", "upgrade", "x-forwarded-client-cert", "ssl_client_verify"]
    {
        assert!(!headers.contains_key(gone), "{gone}");
    }
    let id = request_id(&mut headers);
    assert!(!id.is_empty() && id.as_bytes().iter().all(u8::is_ascii_graphic));
});
