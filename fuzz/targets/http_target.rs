//! What a request asks for: method, target and Host fields, one a line.
#![no_main]

use http::header::HOST;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use libfuzzer_sys::fuzz_target;
use portcullis::http::target::{NextHop, host, path_and_query, put};

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let Ok(method) = Method::from_bytes(lines.next().unwrap_or_default()) else { return };
    let Ok(uri) = Uri::try_from(lines.next().unwrap_or_default()) else { return };
    let mut headers = HeaderMap::new();
    for value in lines.take(3) {
        let Ok(value) = HeaderValue::from_bytes(value) else { return };
        headers.append(HOST, value);
    }
    let Ok(target) = path_and_query(&method, &uri, 4096) else { return };
    assert!(target.as_str().len() <= 4096 && (target.as_str().starts_with('/') || target == "*"));
    assert!(
        uri.authority().is_none() || matches!(uri.scheme_str(), Some("http" | "https")),
        "authority-form, or no HTTP"
    );
    for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
        let Ok(host) = host(&uri, &headers, version) else { continue };
        assert!(host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:[]".contains(&byte)), "{host}");
        for next in [NextHop::Http1, NextHop::Http2, NextHop::Http2Tls] {
            let (mut head, ()) = Request::new(()).into_parts();
            if put(&mut head, &host, target.clone(), next).is_ok() {
                assert_eq!(head.uri.path_and_query(), Some(&target), "another target is forwarded");
            }
        }
    }
});
