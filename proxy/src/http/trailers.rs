//! Which fields may stand behind a body (RFC 9110 section 6.5). They are passed on as trailers or not at all, never merged
//! into the head: nothing has been decided on them.

use http::header::{
    AGE, AUTHORIZATION, CACHE_CONTROL, CONNECTION, COOKIE, DATE, EXPECT, EXPIRES, FORWARDED, HOST, HeaderName,
    LOCATION, MAX_FORWARDS, PRAGMA, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, RANGE, RETRY_AFTER, SET_COOKIE, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE, VARY, WARNING, WWW_AUTHENTICATE,
};

use http_body::Frame;

use super::headers::{REQUEST_ID, is_identity};
use crate::telemetry::trace_context::TRACEPARENT;

/// Removes from a frame of trailers what must not stand in them: fields that frame, route, authenticate or change how the
/// message is taken (RFC 9110 section 6.5.1), fields of the connection, and fields by which somebody could pass as somebody
/// else. Returns whether there were no more than `most`, which is `limits.headFields`; any other frame is as it should be.
#[must_use]
pub fn clean<D>(frame: &mut Frame<D>, most: usize) -> bool {
    let Some(trailers) = frame.trailers_mut() else { return true };
    if trailers.len() > most {
        return false;
    }
    if trailers.keys().any(is_forbidden) {
        let forbidden: Vec<HeaderName> = trailers.keys().filter(|name| is_forbidden(name)).cloned().collect();
        for name in forbidden {
            trailers.remove(name);
        }
    }
    true
}

/// In any spelling that a CGI-style application would read as the same name (`_` for `-`).
fn is_forbidden(name: &HeaderName) -> bool {
    if is_identity(name) {
        return true;
    }
    if !name.as_str().contains('_') {
        return is_forbidden_text(name.as_str());
    }
    is_forbidden_text(&name.as_str().replace('_', "-"))
}

fn is_forbidden_text(name: &str) -> bool {
    let begins = FORBIDDEN_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning));
    begins || FORBIDDEN_TOO.contains(&name) || FORBIDDEN.iter().any(|forbidden| forbidden == name)
}

const FORBIDDEN: [HeaderName; 26] = [
    AGE,
    AUTHORIZATION,
    CACHE_CONTROL,
    CONNECTION,
    COOKIE,
    DATE,
    EXPECT,
    EXPIRES,
    FORWARDED,
    HOST,
    LOCATION,
    MAX_FORWARDS,
    PRAGMA,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    RANGE,
    RETRY_AFTER,
    SET_COOKIE,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    VARY,
    WARNING,
    WWW_AUTHENTICATE,
    REQUEST_ID,
];
const FORBIDDEN_TOO: [&str; 4] = [TRACEPARENT, "tracestate", "keep-alive", "proxy-connection"];
/// Representation and length, conditions, and what proxies say of a caller.
const FORBIDDEN_BEGINNINGS: [&str; 5] = ["content-", "if-", "x-forwarded-", "sec-", "x-portcullis-"];

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderMap;

    use super::*;

    #[test]
    fn trailers_neither_frame_nor_route_nor_say_who_calls() {
        let gone = [
            "content-length",
            "content-type",
            "transfer-encoding",
            "host",
            "authorization",
            "cookie",
            "set-cookie",
            "te",
            "trailer",
            "connection",
            "keep-alive",
            "if-match",
            "x-forwarded-client-cert",
            "x_forwarded_client_cert",
            "x-forwarded-for",
            "l5d-client-id",
            "x-request-id",
            "traceparent",
            "x-portcullis-reason",
            "content_length",
            "forwarded",
            "set_cookie",
            "x_forwarded_for",
            "x_request_id",
            "x_portcullis-else",
        ];
        let kept = ["grpc-message", "grpc-status", "grpc-status-details-bin", "server-timing", "x-sum"];
        let mut trailers = HeaderMap::new();
        for name in gone.iter().chain(&kept) {
            trailers.append(name.parse::<HeaderName>().unwrap(), "1".parse().unwrap());
        }
        let mut frame = Frame::<Bytes>::trailers(trailers);
        assert!(clean(&mut frame, gone.len() + kept.len()));
        let mut left: Vec<_> = frame.trailers_ref().unwrap().keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, kept);
    }

    #[test]
    fn too_many_trailers_are_not_cleaned_but_refused() {
        let mut trailers = HeaderMap::new();
        for _ in 0..3 {
            trailers.append("x-a", "1".parse().unwrap());
        }
        assert!(clean(&mut Frame::<Bytes>::trailers(trailers.clone()), 3));
        assert!(!clean(&mut Frame::<Bytes>::trailers(trailers), 2), "each value counts");
        assert!(clean(&mut Frame::data(Bytes::new()), 0));
    }
}
