//! What asks to switch protocols: Connection, Upgrade and Sec-WebSocket-Key fields, one a line. Only one token in one field is a
//! WebSocket, whatever comes goes on as one handshake, and its answer is one.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use libfuzzer_sys::fuzz_target;
use portcullis::http::headers::strip_request;
use portcullis::http::target::NextHop;
use portcullis::http::upgrade::{Handshake, Wanted, accept_of, wanted};

fuzz_target!(|bytes: &[u8]| {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(16) {
        let Some((kind, value)) = line.split_first() else { continue };
        let name = match kind {
            b'c' => "connection",
            b'u' => "upgrade",
            b'k' => "sec-websocket-key",
            _ => continue,
        };
        let Ok(value) = HeaderValue::from_bytes(value) else { return };
        headers.append(HeaderName::from_static(name), value);
    }
    assert_eq!(wanted(Version::HTTP_10, &headers), None);
    let asked = wanted(Version::HTTP_11, &headers);
    if asked == Some(Wanted::WebSocket) {
        let upgrades: Vec<_> = headers.get_all("upgrade").iter().collect();
        assert!(matches!(&upgrades[..], [one] if one.as_bytes().eq_ignore_ascii_case(b"websocket")));
    }
    let key = headers.get("sec-websocket-key").cloned();
    if let Some(key) = &key {
        let accept = accept_of(key);
        assert_eq!(accept.len(), 28);
        assert_eq!(accept, accept_of(key));
    }
    strip_request(&mut headers);
    for handshake in [Handshake::Http1(key.clone()), Handshake::Http2(HeaderValue::from_static("ours"))] {
        for next in [NextHop::Http1, NextHop::Http2, NextHop::Http2Tls] {
            let (mut head, ()) = Request::new(()).into_parts();
            head.headers = headers.clone();
            handshake.put(&mut head, next);
            let over_http1 = next == NextHop::Http1;
            assert_eq!(head.method, if over_http1 { Method::GET } else { Method::CONNECT });
            assert_eq!(wanted(Version::HTTP_11, &head.headers) == Some(Wanted::WebSocket), over_http1);
            assert!(over_http1 || !head.headers.contains_key("sec-websocket-key"));
        }
        for as_stream in [false, true] {
            let (mut head, ()) = Response::new(()).into_parts();
            handshake.answer(&mut head, as_stream);
            let over_http1 = matches!(handshake, Handshake::Http1(_));
            assert_eq!(head.status == StatusCode::SWITCHING_PROTOCOLS, over_http1);
            assert_eq!(wanted(Version::HTTP_11, &head.headers).is_some(), over_http1);
        }
    }
});
